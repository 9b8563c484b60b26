"""An ONNX file, run by ONNX Runtime: written here from a scikit-learn model, then certified.

python examples/onnx_model.py [inputs] [copies]
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import cert_core as cc


def export(model: LogisticRegression) -> bytes:
    """A linear classifier as an ONNX model: batch (n, 64) -> scores (n, 10)."""
    weights = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["batch", "w", "b"], ["scores"])],
        "digits",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, "wb", strict=True)],
    )
    opset = [helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def main(inputs: int = 50, copies: int = 10_000) -> float:
    x, y = load_digits(return_X_y=True)
    x = x / 16
    trained = LogisticRegression(max_iter=2000).fit(x[:1000], y[:1000])
    session = onnxruntime.InferenceSession(export(trained))

    def predict(batch: np.ndarray) -> np.ndarray:
        return session.run(["scores"], {"batch": batch})[0].argmax(axis=1)

    noise = cc.L1Noise.with_rms(dim=64, rms=0.2, k=16)
    smoothed = cc.Smoothed(predict, noise, num_classes=10)
    test, labels = x[1000 : 1000 + inputs], y[1000 : 1000 + inputs]
    certificates = smoothed.certify(test, n0=100, n=copies, alpha=0.001, attack="l1", seed=0)
    accuracy = cc.certified_accuracy(certificates, labels, 0.25)
    print(f"{accuracy:.2f} right, and certified against l1 perturbations of 0.25")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

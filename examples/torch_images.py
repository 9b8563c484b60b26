"""A PyTorch network of CIFAR's shape, 3 x 32 x 32, trained under the noise that certifies it.

The images are made here, discs and stripes of random colours, so that nothing is downloaded; put
torchvision's CIFAR-10 in their place.

    python examples/torch_images.py [inputs] [copies] [steps]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_models.smooth import SmoothedClassifier

CLASSES = ("disc", "stripes across", "stripes down")


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3, 32, 32) float32 in [0, 1], and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=count)
    rows, columns = np.mgrid[:32, :32]
    shapes = np.empty((count, 32, 32))
    for shape, label in zip(shapes, labels, strict=True):
        at, width = rng.uniform(10, 22, size=2), rng.integers(3, 6)
        disc = np.hypot(rows - at[0], columns - at[1]) < rng.uniform(6, 10)
        shape[:] = (disc, rows // width % 2, columns // width % 2)[label]
    colours = rng.uniform(0.6, 1.0, size=(count, 3, 1, 1))
    return (colours * shapes[:, None] * 0.8 + 0.1).astype(np.float32), labels


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 64, len(CLASSES)),
    )  # fmt: skip


def main(inputs: int = 20, copies: int = 10_000, steps: int = 300) -> float:
    torch.manual_seed(0)
    noise = cc.Gaussian(dim=3 * 32 * 32, sigma=0.5)
    model, (x, y) = network(), images(1000, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(steps):
        rows = np.random.default_rng(step).integers(len(x), size=64)
        z = cc.draw(noise, len(rows), seed=step).reshape(-1, 3, 32, 32)
        loss = nn.functional.cross_entropy(model(torch.tensor(x[rows] + z)), torch.tensor(y[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    smoothed = SmoothedClassifier(model.eval(), noise, num_classes=len(CLASSES), batch_size=500)
    test, labels = images(inputs, seed=1)
    certificates = smoothed.certify(test, n0=100, n=copies, alpha=0.001, attack="l2", seed=0)
    accuracy = cc.certified_accuracy(certificates, labels, [0.0, 0.5, 1.0])
    for radius, share in zip((0.0, 0.5, 1.0), accuracy, strict=True):
        print(f"{share:.2f} right, and certified against l2 perturbations of {radius}")
    return float(accuracy[0])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

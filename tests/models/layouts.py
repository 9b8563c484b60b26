"""Small files in the published layouts, written byte by byte as the originals were."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np


def _string(value: bytes) -> bytes:
    short = len(value) < 256
    return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value


def _array(values: Any) -> bytes:
    """A uint8 array as cPickle of Python 2 and an old numpy wrote it."""
    sizes = b"".join(b"M" + struct.pack("<H", size) for size in values.shape)
    dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R"
    state = b"(K\x03" + _string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + _string(b"b")
        + b"\x87R(K\x01"
        + sizes
        + b"\x86"
        + dtype
        + state
        + b"\x89"
        + _string(values.tobytes())
        + b"tb"
    )


def python2_pickle(entries: dict[bytes, Any]) -> bytes:
    """A dict of byte strings, lists of small ints and uint8 arrays, in protocol 2."""
    body = b"\x80\x02}("
    for key, value in entries.items():
        body += _string(key)
        if isinstance(value, bytes):
            body += _string(value)
        elif isinstance(value, list):
            body += b"](" + b"".join(b"K" + bytes([v]) for v in value) + b"e"
        else:
            body += _array(value)
    return body + b"u."


def write_cifar10(folder: Path, x: Any, y: Any) -> Path:
    """CIFAR-10's six batches: the test batch has x (N, 3, 32, 32) and y, so has each other."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for i, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        entries = {
            b"data": np.roll(x.reshape(len(x), 3072), i, axis=0),
            b"labels": np.roll(y, i).tolist(),
            b"batch_label": name.encode(),
            b"filenames": [],
        }
        (batches / name).write_bytes(python2_pickle(entries))
    return folder


def write_cifar100(folder: Path, x: Any, coarse: Any, fine: Any) -> Path:
    """CIFAR-100's two files."""
    batches = folder / "cifar-100-python"
    batches.mkdir(parents=True)
    for name in ("train", "test"):
        entries = {
            b"data": x.reshape(len(x), 3072),
            b"coarse_labels": coarse.tolist(),
            b"fine_labels": fine.tolist(),
        }
        (batches / name).write_bytes(python2_pickle(entries))
    return folder


def idx_bytes(values: Any) -> bytes:
    """An idx file of unsigned bytes."""
    return (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.astype(np.uint8).tobytes()
    )


def write_mnist(folder: Path, x: Any, y: Any, *, zipped: bool) -> Path:
    """MNIST's four files, gzip-compressed as published or unpacked."""
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for name, values in (("images-idx3-ubyte", x), ("labels-idx1-ubyte", y)):
            content, path = idx_bytes(values), folder / f"{prefix}-{name}"
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder


def write_imagenet(folder: Path, images: dict[str, list[Any]], *, classes: int = 1000) -> Path:
    """ImageNet's validation folder: class folders n00000000 ..., images (rows, columns, 3).

    Parameters
    ----------
    images : by the names of class folders; every other folder stays empty
    """
    from PIL import Image

    for i in range(classes):
        (folder / "val" / f"n{i:08d}").mkdir(parents=True)
    for name, listed in images.items():
        for i, image in enumerate(listed):
            path = folder / "val" / name / f"ILSVRC2012_val_{i:08d}.JPEG"
            Image.fromarray(image).save(path, format="JPEG", quality=95)
    return folder

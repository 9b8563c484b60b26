"""Published files of images: CIFAR's pickled batches, MNIST's idx, ImageNet's folders.

Pixels stay bytes (or files) until an input is asked for; then value/255 in float32, the
arithmetic of torchvision's ToTensor.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.files.reading import reading

Array = np.ndarray[Any, np.dtype[Any]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
MOST_CLASSES = 2**24  # an input's counts must fit into memory
PARTS = {"train", "training", "val", "valid", "validation", "test", "images"}
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LONGEST = 100  # times its height that a picture may be wide, or high: all of it is resized
# What these endings stand for: Pillow goes by the content, and runs a program for PostScript.
DECODERS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")


class LazyArray:
    """An array whose rows are made when they are asked for.

    Parameters
    ----------
    shape : tuple
        Of the array it stands for; index it along the first axis, as that array.
    read : callable
        Maps an int64 array of m row numbers to those rows, (m, *shape[1:]), which are given
        as float32 where that holds them, else as float64.
    """

    def __init__(self, shape: tuple[int, ...], read: Callable[[Labels], Array]) -> None:
        self.shape = shape
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        rows = np.arange(len(self))[key]
        found = self._read(np.atleast_1d(rows)) if rows.size else np.zeros((0, *self.shape[1:]))
        return cc.errors.inputs("x", found if np.ndim(rows) else found[0])


def class_numbers(labels: Any, where: str) -> Labels:
    """Labels as (N,) class numbers: whole numbers >= 0 of one element each.

    Raises
    ------
    ValueError
        One is no such number; the message says which, and where it lies.
    """
    remedy = f"give one whole number an input (one-hot: its argmax; names: their places); {where}"
    rule = f"labels must be class numbers in [0, {MOST_CLASSES})"
    try:
        found = np.asarray(labels)
    except ValueError:  # of several lengths
        found = np.asarray(labels, dtype=object)
    if found.dtype.kind not in "iuf" or not found.ndim or found.size != len(found):
        raise ValueError(f"{rule}, got {' '.join(repr(labels).split())[:60]}: {remedy}")
    flat = found.reshape(-1)
    good = (flat >= 0) & (flat < MOST_CLASSES) & (flat == np.floor(flat))
    if not good.all():
        place = int(np.argmin(good))
        raise ValueError(f"{rule}, got {flat[place]} at {place}: {remedy}")
    return flat.astype(np.int64)


def warn_of_order(names: Sequence[str], where: str) -> None:
    """Say so where names are sorted as text that a reader would sort as numbers."""
    natural = sorted(names, key=_natural)
    if list(names) == sorted(names) != natural:
        first = [a == b for a, b in zip(names, natural, strict=True)].index(False)
        warnings.warn(
            f"class folders of {where} are numbered by their names as text: class {first} is "
            f"{names[first]!r}, not {natural[first]!r}; a model trained on another order gets "
            "them wrong",
            stacklevel=4,
        )


def _natural(name: str) -> list[Any]:
    """The parts of a name, those of digits as numbers: text and numbers take turns."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def lazy_pixels(pixels: Array) -> LazyArray:
    """uint8 pixels as float32 in [0, 1], made row by row."""
    return LazyArray(pixels.shape, lambda rows: pixels[rows].astype(np.float32) / np.float32(255))


def _unusable(kind: str, path: Path, reason: object, remedy: str) -> ValueError:
    return ValueError(f"data must be {kind}, got {str(path)!r} ({reason}): {remedy}")


def _folder(path: str | Path, subfolders: Sequence[str], first: str, kind: str) -> Path:
    """The first of path and its subfolders that holds the file called first (or first.gz)."""
    for folder in (Path(path), *(Path(path) / name for name in subfolders)):
        if (folder / first).exists() or (folder / f"{first}.gz").exists():
            return folder
    raise _unusable(kind, Path(path), f"no file {first}", "unpack the published archive there")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that makes numpy arrays and plain values, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        allowed = {
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return super().find_class(module, name)


def cifar(
    path: str | Path, batches: Sequence[str], label_key: bytes, subfolder: str, num_classes: int
) -> tuple[LazyArray, Labels]:
    """CIFAR's python batches: pixels (N, 3, 32, 32) and labels.

    Parameters
    ----------
    path : folder of the batches, or the one that holds subfolder
    batches : names of the files
    label_key : b"labels" of CIFAR-10, b"fine_labels" of CIFAR-100

    Raises
    ------
    ValueError
        A file is missing or is no batch, or its pickle asks for more than arrays.

    References
    ----------
    Krizhevsky 2009; layout: https://www.cs.toronto.edu/~kriz/cifar.html
    """
    kind = f"the python version of CIFAR-{num_classes}"
    folder = _folder(path, [subfolder], batches[0], kind)
    pixels, labels = [], []
    for name in batches:
        with reading("data", kind, folder / name, "fetch the file again"):
            raw = _ArraysOnly(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()
            data = np.asarray(raw[b"data"])
            if data.dtype != np.uint8:
                raise ValueError(f"pixels of type {data.dtype}, not bytes")
            pixels.append(data.reshape(-1, 3, 32, 32))
            labels.append(class_numbers(raw[label_key], name).reshape(len(data)))
    y = np.concatenate(labels)
    if len(y) and not 0 <= y.min() <= y.max() < num_classes:
        raise _unusable(kind, folder, f"labels up to {y.max()}", "check which of the two it is")
    return lazy_pixels(np.concatenate(pixels)), y


def idx(path: Path) -> Array:
    """An idx file of unsigned bytes, gzip-compressed or not.

    References
    ----------
    Magic number 0, 0, 8 (unsigned byte), number of axes; then each size as a big-endian
    uint32; then the values: LeCun, Cortes and Burges, the MNIST database.
    """
    with reading("data", "an idx file of bytes", path, "fetch the file again"):
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zeros, code, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
        if (zeros, code) != (0, 8) or values.size != math.prod(shape):
            raise ValueError(f"type {code:#x}, {values.size} values for the shape {shape}")
        return values.reshape(shape)


def mnist(path: str | Path, prefix: str) -> tuple[LazyArray, Labels]:
    """MNIST's idx files (or a data set in its layout): images (N, 1, rows, columns), labels.

    Parameters
    ----------
    path : folder of the files, or one above (raw, MNIST/raw)
    prefix : "train" or "t10k"
    """
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    folder = _folder(path, ["raw", "MNIST/raw"], names[0], "a folder of MNIST's idx files")
    files = [folder / name for name in names]
    images, labels = (idx(f if f.exists() else f.with_name(f.name + ".gz")) for f in files)
    if images.ndim != 3 or labels.ndim != 1:
        reason = f"{images.ndim} and {labels.ndim} axes"
        raise _unusable("idx files of images and labels", folder, reason, "fetch them again")
    return lazy_pixels(images[:, None]), labels.astype(np.int64)


def read_image(path: str | Path, resize: int = 256, crop: int = 224) -> Array:
    """An image file as bytes (3, crop, crop): the shorter side to resize, the middle cut out.

    Bilinear with antialiasing, sizes and offsets rounded as torchvision's Resize and
    CenterCrop do on PIL images, the preprocessing of published ImageNet models.
    """
    from PIL import Image

    remedy = "remove or replace the file"
    with reading("data", "an image", path, remedy), Image.open(path, formats=DECODERS) as file:
        if file.mode.startswith(("I", "F")):
            raise ValueError(f"mode {file.mode}: more than 8 bits a channel would be clipped")
        if max(file.size) > LONGEST * min(file.size):
            raise ValueError(f"{file.size[0]} x {file.size[1]} pixels: nothing is to be seen of it")
        image = file.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(resize * width / short), int(resize * height / short))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - crop) / 2.0) for side in size)
    image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)


def image_folder(path: str | Path, part: str) -> tuple[LazyArray, Labels, int]:
    """A folder with one subfolder of images a class, in ImageNet's preprocessing.

    Classes are numbered by their folders' sorted names, images by class and sorted path,
    as by torchvision's ImageFolder, so that indices agree with published logs; hidden files
    and folders are none.  Files are read when asked for, never all at once.

    Parameters
    ----------
    path : the folder of class folders, or the one that holds it under the name part
    part : "val" or "train"

    Returns
    -------
    images (N, 3, 224, 224), labels, number of classes

    Raises
    ------
    ValueError
        No class folders or one, parts of a data set in their place, or no images in them.
    """
    root = Path(path) / part if (Path(path) / part).is_dir() else Path(path)
    kind, remedy = "a folder of class folders of images", "move each image into its class's folder"
    try:
        entries = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise _unusable(kind, root, error.strerror, "pass the folder that holds val") from error
    classes = [name for name in entries if not name.startswith(".")]
    if classes and (len(classes) == 1 or PARTS.issuperset(classes)):
        found = f"{len(classes)} folder{'s' * (len(classes) > 1)}: {', '.join(classes)}"
        raise _unusable(kind, root, found, remedy + ", two of them at least")
    files = [(str(file), i) for i, name in enumerate(classes) for file in _images(root / name)]
    if not files:
        raise _unusable(kind, root, f"{len(classes)} class folders, no image", remedy)
    _warn_of_classes(root, classes, {label for _, label in files})
    paths = [file for file, _ in files]

    def read(rows: Labels) -> Array:
        with ThreadPoolExecutor() as threads:  # decoding releases the GIL
            pixels = np.stack(list(threads.map(read_image, [paths[i] for i in rows])))
        return pixels.astype(np.float32) / np.float32(255)

    labels = np.array([label for _, label in files], dtype=np.int64)
    return LazyArray((len(files), 3, 224, 224), read), labels, len(classes)


def _warn_of_classes(root: Path, classes: Sequence[str], seen: set[int]) -> None:
    """Say so where labels by the folders' order may not be those of a published model."""
    empty = [repr(name) for i, name in enumerate(classes) if i not in seen]
    if all(re.fullmatch(r"n\d{8}", name) for name in classes):
        if len(classes) != 1000:
            warnings.warn(
                f"{root} has {len(classes)} of ImageNet's 1000 class folders, and labels follow "
                "their order: a published model's differ; add the missing folders, empty ones "
                "will do",
                stacklevel=4,
            )
    elif empty:
        warnings.warn(
            f"{len(empty)} of the {len(classes)} class folders of {root} hold no image "
            f"({', '.join(empty[:5])}), and labels count them: remove those that are no class",
            stacklevel=4,
        )
    warn_of_order(classes, str(root))


def _images(folder: Path) -> list[Path]:
    """Image files below a folder, in the order of os.walk's sorted folders and names."""
    found = []
    for where, _, names in sorted(os.walk(folder, followlinks=True)):
        if not any(part.startswith(".") for part in Path(where).relative_to(folder).parts):
            found += [Path(where) / name for name in sorted(names) if _is_image(name)]
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not name.startswith(".")

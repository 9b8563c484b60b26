"""Labelled inputs: digits, CIFAR, MNIST, ImageNet, NumPy archives, torch data sets."""

from __future__ import annotations

import copy
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import nearest
from cert_models.data.formats import (
    Labels,
    LazyArray,
    cifar,
    class_numbers,
    image_folder,
    mnist,
    warn_of_order,
)
from cert_models.files.reading import first_line, reading
from cert_models.importing import import_object

BLOCK = 256  # inputs looked at at a time
DARK = 64  # uint8 images without this value may be bits, or of fewer grey levels than 256
SPOTS = 8  # items of a torch data set that are looked at when it is loaded


@dataclass(frozen=True)
class Dataset:
    """N labelled inputs.

    Attributes
    ----------
    name : str
    x : (N, *input_shape), in [0, 1] by convention
        float32, or float64 where float32 does not hold it.  An array, or a LazyArray that
        makes the rows that are asked for.  uint8 images (N, rows, columns, or more axes) that
        reach a quarter of 255 are taken as k / 255; with less they may be of another scale.
    y : (N,) int64, below num_classes
    num_classes : int
    categorical : bool
        Whether whole numbers are categories, and stay int64, for noises on these.
    pixels : bool
        Whether any uint8 are taken as k / 255: on the lattice of step 1/255 they are the
        integers themselves.

    Raises
    ------
    ValueError
        No inputs, inputs that are no finite numbers, or labels that are not one of the
        classes each.
    """

    name: str
    x: np.ndarray[Any, np.dtype[Any]] | LazyArray
    y: np.ndarray[Any, np.dtype[np.int64]]
    num_classes: int
    categorical: bool = False
    pixels: bool = False

    def __len__(self) -> int:
        return len(self.y)

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", class_numbers(self.y, f"check {self.name}"))
        if not isinstance(self.x, LazyArray):
            object.__setattr__(self, "x", _inputs(self))
        if len(self.x) != len(self.y):
            raise ValueError(
                f"labels must be one for each of the {len(self.x)} inputs, got {len(self.y)}: "
                f"check {self.name}"
            )
        if not len(self.y):
            raise ValueError(f"data must hold an input, got none: check {self.name}")
        self.check_classes(self.num_classes)
        seen = self.x if isinstance(self.x, np.ndarray) else self.x[:8]
        finite = np.isfinite(seen).reshape(len(seen), -1).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"inputs must be finite, got NaN or infinity in input {np.argmin(finite)} of "
                f"{self.name}: clean it"
            )
        if seen.dtype.kind == "f" and (seen.min() < 0 or seen.max() > 1):
            warnings.warn(
                f"inputs of {self.name} lie in [{nearest(seen.min())}, {nearest(seen.max())}], "
                "not [0, 1]: the noise's scale and every radius are in these units",
                stacklevel=3,
            )

    def of(self, places: Any) -> Dataset:
        """The inputs at these places, in that order, read when they are asked for."""
        x, places = self.x, np.asarray(places)
        found = copy.copy(self)  # whose inputs are checked
        shape = (len(places), *x.shape[1:])
        lazy = LazyArray(shape, lambda rows: x[places[rows]]) if isinstance(x, LazyArray) else None
        object.__setattr__(found, "x", x[places] if lazy is None else lazy)
        object.__setattr__(found, "y", self.y[places])
        return found

    def apart(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """Two parts without a common input, the second a share of all, drawn by the seed.

        Raises
        ------
        ValueError
            The share is not in (0, 1), or leaves one of them without an input.
        """
        rule = f"in (0, 1), of which each part of the {len(self)} inputs has one"
        count = round(share * len(self)) if 0 < share < 1 else 0
        if not 0 < count < len(self):
            raise cc.errors.fail("held_out", rule, share, "pass another share")
        order = np.random.default_rng([seed, 1]).permutation(len(self))
        return self.of(np.sort(order[count:])), self.of(np.sort(order[:count]))

    def quantised(self, lattice: cc.Lattice) -> Dataset:
        """The same with every input moved to the nearest point of a lattice, as it is read."""
        moved, x = copy.copy(self), self.x
        points = LazyArray(tuple(x.shape), lambda rows: lattice.quantised(x[rows]))
        object.__setattr__(moved, "x", points)
        return moved

    def check_on(self, lattice: cc.Lattice, indices: Sequence[int]) -> None:
        """Refuse inputs in memory that are off a lattice; those read on demand are, at their
        turn.

        Raises
        ------
        ValueError
            The first value that is off it, by its input and place.
        """
        for index in indices if isinstance(self.x, np.ndarray) else ():
            try:
                lattice.integers(self.x[index])
            except ValueError as error:
                rule = str(error).partition(": ")[0]
                raise ValueError(
                    f"input {index} of {self.name}: {rule}: pass --sound with the step that the "
                    "inputs are multiples of, or --quantize, which takes its cost off every radius"
                ) from None

    def check_known(self, noise: cc.Noise) -> None:
        """Refuse inputs in memory that a noise does not know; those read on demand are, at
        their turn.

        Raises
        ------
        ValueError
            A value is off its categories or levels, or its null.
        """
        if isinstance(noise, cc.channels.Channel) and isinstance(self.x, np.ndarray):
            for low in range(0, len(self), BLOCK):
                noise.checked(self.x[low : low + BLOCK])

    def check_classes(self, num_classes: int) -> None:
        """Refuse labels that are none of so many classes.

        Raises
        ------
        ValueError
            A label is not below num_classes.
        """
        if self.y.max() >= num_classes:
            raise ValueError(
                f"labels must be below the {num_classes} classes, got {self.y.max()} at "
                f"{int(np.argmax(self.y))}: check {self.name}, or pass more --classes"
            )


def _inputs(data: Dataset) -> np.ndarray[Any, np.dtype[Any]]:
    x, name = np.asarray(data.x), data.name
    if data.categorical and x.dtype.kind in "iu":
        return cc.errors.to_numpy("x", x, np.int64)
    if x.dtype == np.uint8 and (data.pixels or (x.ndim > 2 and x.max(initial=0) >= DARK)):
        return cc.errors.to_numpy("x", x, np.float32) / np.float32(255)
    if x.dtype.kind == "u":  # of no known scale, with a noise meant for [0, 1]
        raise ValueError(
            "inputs must be floats, in the units of the noise, or uint8 images of 0..255, got "
            f"{x.dtype} {x.shape} up to {x.max(initial=0)}: save x / 255 in {name}, or "
            "x.astype(float) where the noise's scale is in these units"
        )
    if x.dtype.kind not in "bif":
        raise ValueError(f"inputs must be numbers, got {x.dtype}: check {name}")
    return cc.errors.inputs("x", x.astype(np.float32) if x.dtype.kind == "b" else x)


def takes_pixels(sound: cc.Lattice | None) -> bool:
    """Whether uint8 images are the integers of this lattice."""
    return sound is not None and sound.step == Fraction(1, 255)


def digits(part: str = "test") -> Dataset:
    """scikit-learn's 8 x 8 digits in [0, 1]: 1297 to train, 500 to test, shuffled once.

    Parameters
    ----------
    part : "train" or "test"
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    chosen = order[:1297] if part == "train" else order[1297:]
    x = (raw.images[chosen] / 16.0).astype(np.float32)[:, None]
    return Dataset("digits", x, raw.target[chosen].astype(np.int64), 10)


def npz(path: str | Path, *, categorical: bool = False, pixels: bool = False) -> Dataset:
    """An .npz archive with arrays x (N, ...) and y (N,); categorical and pixels as in Dataset.

    Raises
    ------
    ValueError
        The file cannot be read or lacks an array, or what it holds is no data set.
    """
    kind, remedy = (
        "an .npz file with arrays x and y",
        "write it with numpy.savez(path, x=..., y=...)",
    )
    with reading("data", kind, path, remedy), open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("no archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    if y.ndim != 1 or y.dtype.kind not in "iu" or x.ndim < 2:
        raise ValueError(
            f"data must have x of shape (N, ...) and integer y of shape (N,), got x {x.shape} "
            f"and y {y.dtype} {y.shape}: check {str(path)!r}"
        )
    return Dataset(Path(path).name, x, y, max(int(y.max(initial=1)) + 1, 2), categorical, pixels)


def cifar10(path: str | Path, part: str = "test") -> Dataset:
    """CIFAR-10's python batches (10,000 test, 50,000 train inputs), (3, 32, 32) each."""
    names = ["test_batch"] if part == "test" else [f"data_batch_{i}" for i in range(1, 6)]
    return Dataset("cifar10", *cifar(path, names, b"labels", "cifar-10-batches-py", 10), 10)


def cifar100(path: str | Path, part: str = "test") -> Dataset:
    """CIFAR-100's python batches, fine labels."""
    return Dataset("cifar100", *cifar(path, [part], b"fine_labels", "cifar-100-python", 100), 100)


def mnist_digits(path: str | Path, part: str = "test") -> Dataset:
    """MNIST's idx files (gzip-compressed or not), (1, 28, 28) each."""
    x, y = mnist(path, "t10k" if part == "test" else "train")
    return Dataset("mnist", x, y, max(int(y.max(initial=0)) + 1, 10))


def imagenet(path: str | Path, part: str = "test") -> Dataset:
    """ImageNet's validation folder, one subfolder a class, (3, 224, 224) each.

    Training inputs are preprocessed alike (shorter side 256, centre 224).
    """
    return Dataset("imagenet", *image_folder(path, "val" if part == "test" else "train"))


@dataclass(frozen=True)
class _Items:
    """A torch data set, read item by item with errors that name --data and the item."""

    found: Any
    path: str

    def fail(self, rule: str, got: str, i: int, remedy: str) -> ValueError:
        return ValueError(f"--data {self.path!r} must {rule}, got {got} as item {i}: {remedy}")

    def pair(self, i: int) -> tuple[np.ndarray[Any, Any], Any]:
        """Input and label of an item, which may have more behind them."""
        rule, remedy = "give pairs (x, label)", "wrap it in a data set whose items are such"
        try:
            item = self.found[i]
        except Exception as error:  # the user's code
            raise self.fail(
                rule, f"{type(error).__name__} ({first_line(error)})", i, remedy
            ) from error
        if not isinstance(item, tuple | list) or len(item) < 2:
            got = f"a {type(item).__name__}"
            got += f" of {len(item)}" if hasattr(item, "__len__") else ""
            raise self.fail(rule, got, i, remedy)
        rule, remedy = (
            "give inputs that are floats in [0, 1]",
            "give it a transform to float tensors",
        )
        try:
            x = cc.errors.to_numpy("x", item[0])
        except ValueError:
            raise self.fail(rule, f"a {type(item[0]).__name__}", i, remedy) from None
        if x.dtype.kind != "f":
            raise self.fail(rule, f"{x.dtype} values", i, remedy)
        return x, item[1]

    def label(self, i: int) -> int:
        """The class of an item."""
        where = f"item {i} of --data {self.path!r}"
        return int(class_numbers([_plain(self.pair(i)[1])], where)[0])

    def labels(self, spots: Sequence[int]) -> Labels:
        """All labels: the targets that the data set lists, where its items agree with them."""
        targets, count = getattr(self.found, "targets", None), len(self.found)
        if targets is not None:
            y = class_numbers(_plain(targets), f"check targets of --data {self.path!r}")
            if len(y) == count and all(self.label(i) == y[i] for i in spots):
                return y
        return np.array([self.label(i) for i in range(count)], dtype=np.int64)

    def rows(self, shape: tuple[int, ...], rows: Iterable[int]) -> np.ndarray[Any, Any]:
        """Inputs of one shape."""
        read = []
        for i in map(int, rows):
            read.append(self.pair(i)[0])
            if read[-1].shape != shape:
                got, remedy = str(read[-1].shape), "give the data set a transform to one size"
                raise self.fail(f"give inputs of one shape, {shape}", got, i, remedy)
        return np.stack(read)


def _plain(value: Any) -> Any:
    """What NumPy makes of an array or tensor; anything else as it is."""
    return cc.errors.to_numpy("label", value) if hasattr(value, "__array__") else value


def torch_dataset(path: str, part: str = "test") -> Dataset:
    """A torch data set by the import path module:name of it, or of what makes it.

    It must have __len__ and give (x, label) pairs, x a tensor or array of floats, the label a
    whole number or an array of one; labels are its `targets` where its items agree with them,
    else every item is read once.

    Parameters
    ----------
    path : str
    part : "test", whose inputs must be the same whenever they are read, or "train"

    Raises
    ------
    ValueError
        It is no such object, or an item is not such a pair.
    """
    found = import_object(path, "data")
    try:
        if isinstance(found, type) or not hasattr(found, "__getitem__"):
            found = found()
        count = len(found) if hasattr(found, "__getitem__") else 0
    except Exception as error:  # the user's code, or no data set
        raise _no_data_set(path, f"{type(error).__name__} ({first_line(error)})") from error
    if not count:
        raise _no_data_set(path, f"a {type(found).__name__}")
    items = _Items(found, path)
    spots = sorted({int(i) for i in np.linspace(0, count - 1, SPOTS)})
    shape = items.pair(0)[0].shape
    if part == "test":
        for i in spots:
            if not np.array_equal(items.pair(i)[0], items.pair(i)[0], equal_nan=True):
                rule = "give the same input whenever it is read"
                raise items.fail(rule, "two", i, "drop its random transforms, those of training")
    y = items.labels(spots)
    names = getattr(found, "classes", ())
    names = names if isinstance(names, list | tuple) else ()
    if hasattr(found, "class_to_idx"):  # its classes are folders
        if hidden := [name for name in names if str(name).startswith(".")]:
            raise cc.errors.fail(
                f"classes of --data {path!r}",
                "no hidden folders",
                hidden[0],
                "remove it, labels count it",
            )
        warn_of_order(names, path)
    classes = max(int(y.max()) + 1, len(names), 2)
    return Dataset(path, LazyArray((count, *shape), partial(items.rows, shape)), y, classes)


def _no_data_set(path: str, got: str) -> ValueError:
    return ValueError(
        f"data must have __len__ and __getitem__ and an item, got {got} at {path!r}: "
        "name a torch data set, or a function that makes one"
    )


FOLDERS: dict[str, Callable[[str, str], Dataset]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
    "mnist": mnist_digits,
}
NAMES = "digits, " + ", ".join(f"{name}:DIR" for name in FOLDERS) + ", FILE.npz or module:name"


def load(
    name: str, part: str = "test", *, categorical: bool = False, pixels: bool = False
) -> Dataset:
    """Load a data set by its command-line name.

    Parameters
    ----------
    name : digits, cifar10:DIR, cifar100:DIR, imagenet:DIR, mnist:DIR, FILE.npz, or the
        import path module:name of a torch data set
    part : "test" or "train"; an archive and an import path have one part
    categorical : bool
        Whether whole numbers, of an archive, are categories: noise.categorical.
    pixels : bool
        Whether any uint8, of an archive, are taken as multiples of 1/255.

    Raises
    ------
    ValueError
        No such data set, or its files are not in the published layout.
    """
    kind, colon, where = name.partition(":")
    if name == "digits":
        return digits(part)
    if name.endswith(".npz"):
        return npz(name, categorical=categorical, pixels=pixels)
    if colon and kind in FOLDERS:
        return FOLDERS[kind](where, part)
    if colon and where:
        return torch_dataset(name, part)
    raise cc.errors.fail("data", f"{NAMES}", name, "choose one of these")

"""Votes of any classifier under noise: images -> counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cert_core import kernels
from cert_core.channels import Channel, Splitting
from cert_core.confidence import Counts
from cert_core.errors import EXACT, check_callable, fail, inputs, integer, integers, size, to_numpy
from cert_core.lattice import Lattice, checked_lattice
from cert_core.noises import Noise, checked_noise
from cert_core.provenance import CountedVotes, Drawn, counted
from cert_core.rounding import nearest

CLASSES = 1 << 24  # at most
AHEAD = {"gpu": 1 << 25}  # values on a lattice that are drawn at a time, at most, or one batch
Progress = Callable[[int, int], Any]  # (done, total)


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no one truth
class Votes:
    """What was counted for one input.

    Attributes
    ----------
    index : int
        Place of the input in its data set.
    label : int or None
        Its true class, where that is known.
    selection, estimation : (num_classes,) int64
        Votes of the two stages.
    failed : int
        Estimation copies that FAILed in sound mode: no votes, but among the samples.
    looks : tuple of int, or None
        Where a plan stopped the sampling: estimation votes for the selected class at every look.
    scores : tuple of int, or None
        Of soft votes: those of the selected class in the order drawn, in parts of a unit.
    shells : tuple of int, or None
        Of votes told apart by shells: those for the selected class, from the innermost shell on,
        then the samples of each shell.
    seconds : float
        Time taken.
    position : int
        Among the inputs of the call that counted it.
    plan : RadiiPlan, WidthPlan or None
        What stopped the sampling; None where its size was fixed.
    drawn : tuple of Drawn
        The samples of both stages; empty where they are not known.
    router : Votes, or None
        Of a routed input: those of the router that chose its branch, whose the others are; none
        at all where the router is not certified.

    Examples
    --------
    >>> votes = cc.Votes(index=7, selection=np.array([3, 47]), estimation=np.array([30, 970]))
    >>> votes.selected
    1
    """

    index: int
    label: int | None = None
    selection: Counts
    estimation: Counts
    failed: int = 0
    looks: tuple[int, ...] | None = None
    scores: tuple[int, ...] | None = None
    shells: tuple[int, ...] | None = None
    seconds: float = 0.0
    position: int = 0
    plan: object = None
    drawn: tuple[Drawn, ...] = field(default=(), repr=False)
    router: Votes | None = None

    @property
    def selected(self) -> int:
        """The class that the selection chose."""
        return int(self.selection.argmax())


def input_rows(
    x: Any, noise: Noise, sound: Lattice | None = None
) -> np.ndarray[Any, np.dtype[Any]]:
    """x of shape (N, *input_shape) with noise.dim values an input: as float32 where that holds
    all of them, else as float64; for a channel in the form that it copies; in sound mode as
    given, on the lattice."""
    checked_noise(noise)
    if sound is not None:
        checked_lattice("sound", sound).checked(noise)
        given = to_numpy("x", x)
        _check_shape(given, noise)
        sound.integers(given)
        return given
    given = noise.checked(x) if isinstance(noise, Channel) else _added_to(x)
    values = _check_shape(given, noise)
    if not np.isfinite(given).all():
        raise fail("x", "finite", "NaN or infinity", "clean the inputs first")
    if isinstance(noise, Channel):  # adds nothing that float32 could swallow
        return given
    largest = np.abs(given).reshape(len(given), values).max(axis=0, initial=0.0)
    spacing = np.spacing(np.minimum(largest, 1e38).astype(np.float32)).astype(np.float64)
    least = np.maximum(8.0 * spacing, 1e-30)
    rms = noise.rms * (np.ones(values) if noise.stretch is None else noise.stretch)
    if not ((least <= rms) & (rms <= 1e30)).all():
        i = int(np.where(rms <= 1e30, least / rms, np.inf).argmax())
        rule = f"between {nearest(least[i], 3)} and 1e30, so that float32 holds inputs up to "
        rule += f"{nearest(largest[i], 3)} + z"
        raise fail("noise.rms", rule, float(rms[i]), "scale inputs and noise alike")
    return given


def _check_shape(given: Any, noise: Noise) -> int:
    """The values of one input, of which there must be noise.dim."""
    values = int(np.prod(given.shape[1:])) if given.ndim else 0
    if given.ndim < 2 or values != noise.dim:
        rule = f"of shape (n_inputs, ...) with noise.dim = {noise.dim} values an input"
        raise fail("x", rule, given.shape, "add the axis of inputs, or use a noise of that dim")
    return values


def _added_to(x: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Inputs that noise is added to."""
    given = to_numpy("x", x)
    if given.dtype.kind == "u":  # images of 0..255, with a noise meant for [0, 1]
        remedy = "pass x / 255, or x.astype(float) where the noise's scale is in these units"
        raise fail("x", "floats, in the units of the noise", str(given.dtype), remedy)
    return inputs("x", given)


@dataclass
class Copies:
    """How noisy copies of inputs are made: in floats, or on a lattice."""

    noise: Noise
    backend: str
    sound: Lattice | None = None
    _ahead: tuple[Any, ...] = field(default=(), init=False, repr=False)

    def center(self, row: Any) -> Any:
        """One of the inputs as the center of its copies."""
        if self.sound is not None:
            return self.sound.integers(row).reshape(-1)
        return placed_input(row, self.noise, self.backend)

    def fill(
        self, out: Any, failed: Any, key: int, center: Any, *, start: int, stream: int,
        left: int = 0,
    ) -> None:  # fmt: skip
        """Write copies into rows of a float32 batch, and in sound mode which of them FAIL; `left`
        says how many more of this input are going to be asked for."""
        place: dict[str, Any] = {"start": start, "stream": stream}
        if self.sound is None:
            fill_copies(out, self.noise, key, center, backend=self.backend, **place)
            return
        whole, failed[...] = self._integers(self.sound, len(out), left, key, center, **place)
        kernels.backend(self.backend).write_values(self.sound, whole, out)

    def _integers(
        self, lattice: Lattice, n: int, left: int, key: int, center: Any, *, start: int, stream: int
    ) -> tuple[Any, Any]:
        """Copies on the lattice, and which FAIL: several batches of them at a time where a backend
        is waited for."""
        if self._ahead:
            whole, failed, first, *drawn, middle = self._ahead
            low, high = start - first, start - first + n
            if drawn == [key, stream] and middle is center and low >= 0 and high <= len(failed):
                return whole[low:high], failed[low:high]
        count = n + min(left, max(0, AHEAD.get(self.backend, 0) // self.noise.dim - n))
        whole, failed = kernels.backend(self.backend).draw_lattice(
            self.noise, count, key, lattice, center=center, start=start, stream=stream
        )
        self._ahead = (whole, failed, start, key, stream, center) if count > n else ()
        return whole[:n], failed[:n]


def placed_input(row: Any, noise: Noise, backend: str) -> Any:
    """One of the inputs as the center of its copies, where the backend reads it."""
    if isinstance(noise, Channel):  # its recipe is made on the host
        return row
    center = inputs("x", row)
    return kernels.placed(backend, center) if center.dtype == np.float32 else center


def fill_copies(
    out: Any, noise: Noise, key: int, center: Any, *, start: int, stream: int, backend: str
) -> None:
    """Write noisy copies of an input into rows of a float32 batch.

    What float32 does not hold is added in float64 to the same noise, and the sum rounded once: an
    input that was rounded first would be another one, as far off as |x - float32(x)|.
    """
    exact = isinstance(noise, Channel) or str(center.dtype) == "float32"
    kernels.backend(backend).draw(
        noise, len(out), key, start=start, center=center if exact else None, out=out,
        stream=stream,
    )  # fmt: skip
    if not exact:
        kernels.add(backend, out, center.reshape(-1))


def sample_count(name: str, n: Any, noise: Noise) -> int:
    """n as how many noisy copies to classify: rounds of them all where nothing is random."""
    count = size(name, n, 1, EXACT, remedy="pass how many noisy copies to classify")
    copies = noise.copies if isinstance(noise, Splitting) else None
    if copies is not None and count % copies:
        rule = f"a multiple of the {copies} copies that {noise!r} makes of an input"
        raise fail(name, rule, n, "count them all, nothing here is random")
    return count


def input_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    """The index of every input in its data set, which names its random stream."""
    remedy = "pass the inputs' places in the data"
    if indices is None:
        return list(range(count))
    chosen = integers("indices", indices, 0, remedy=remedy)
    if len(chosen) != count or len(set(chosen)) != count:
        rule = f"{count} distinct indices, one an input"
        raise fail("indices", rule, f"{len(chosen)} given", remedy)
    return chosen


def drawn_by(
    noise: Noise, count: int, n: int, seed: int, *, indices: Sequence[int] | None = None,
    stage: str = "estimation", start: int = 0, sound: Lattice | None = None, **_: Any,
) -> Drawn:  # fmt: skip
    """The samples that answers takes of `count` inputs with these options."""
    n, begin = kernels.span(n, start)
    return Drawn(
        noise=noise, seed=seed, stage=stage, start=begin, stop=begin + n,
        indices=tuple(input_indices(indices, count)), sound=sound,
    )  # fmt: skip


def class_count(value: Any) -> int:
    """value as a number of classes."""
    return size("num_classes", value, 2, CLASSES, remedy="pass the number of classes")


def labels_of(said: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """What predict returned, as numbers."""
    if isinstance(said, np.ndarray) and said.dtype.kind in "OSTU":
        remedy = "for classes with names return numpy.searchsorted(model.classes_, names)"
        raise fail(
            "predict(batch)", "class numbers", f"{said.dtype} such as {said.flat[:1]}", remedy
        )
    return to_numpy("predict(batch)", said)


def check_labels(labels: Any, count: int, num_classes: int) -> Counts:
    """What predict returned, as class numbers."""
    votes = labels_of(labels)
    if votes.shape != (count,) or not np.issubdtype(votes.dtype, np.integer):
        rule = f"an integer label for each of the {count} rows"
        got = f"{votes.dtype} of shape {votes.shape}"
        raise fail("predict(batch)", rule, got, "return the argmax over classes")
    if count and (votes.min() < 0 or votes.max() >= num_classes):
        rule = f"labels in [0, {num_classes})"
        worst = int(votes.min()) if votes.min() < 0 else int(votes.max())
        raise fail("predict(batch)", rule, worst, "pass the right num_classes")
    return votes.astype(np.int64)


def one_class_each(labels: Any, count: int, num_classes: int) -> Counts:
    """labels as (count,) int64 class numbers."""
    given = to_numpy("labels", labels)
    rule = f"a class in [0, {num_classes}) for each of the {count} inputs"
    good = given.shape == (count,) and np.issubdtype(given.dtype, np.integer)
    if not good or (count and (given.min() < 0 or given.max() >= num_classes)):
        got = f"{given.dtype} of shape {given.shape}"
        if given.size and given.dtype.kind in "iuf":
            got += f" from {given.min()} to {given.max()}"
        raise fail("labels", rule, got, "pass one class number an input")
    return given.astype(np.int64)


def batch_buffer(buffer: Any, rows: int, dim: int) -> Any:
    """`rows` rows of the buffer given, or a new one of NumPy."""
    if buffer is None:
        return np.empty((rows, dim), dtype=np.float32)
    shape = tuple(getattr(buffer, "shape", ()))
    if len(shape) != 2 or shape[0] < rows or shape[1] != dim:
        rule = f"of shape ({rows}, {dim}), or with more rows"
        raise fail("buffer", rule, shape, "make room for one batch")
    return buffer[:rows]


def fail_flags(failed: Any, rows: int, sound: Lattice | None) -> Any:
    """Room for the FAILs of `rows` rows of a batch, which sound mode must be given."""
    if failed is None and sound is None:
        return np.zeros(rows, dtype=bool)
    good = isinstance(failed, np.ndarray) and failed.ndim == 1 and failed.dtype == bool
    if not good or len(failed) < rows or not failed.flags.writeable:
        rule = f"a writeable NumPy array of {rows} or more bool, in sound mode"
        raise fail("failed", rule, failed, "pass numpy.zeros(batch_size, bool), and heed it")
    return failed[:rows]


def checked_progress(progress: Any) -> Progress | None:
    """progress if it is a function, or none is wanted."""
    if progress is not None:
        check_callable("progress", progress)
    return progress  # type: ignore[no-any-return]


def in_stages(progress: Progress | None, *copies: int) -> list[Progress | None]:
    """For stages of so many copies an input, one after the other, what tells of all together."""
    told = checked_progress(progress)
    if told is None:
        return [None] * len(copies)

    def stage(before: int, own: int) -> Progress:
        def tell(done: int, total: int) -> None:
            count = total // own
            told(count * before + done, count * sum(copies))

        return tell

    return [stage(sum(copies[:i]), own) for i, own in enumerate(copies)]


class DrawAgain(Exception):
    """Raised by predict where it could not answer: the batch, which it may have changed, is
    drawn anew from its counters and given once more."""


def answer(predict: Callable[[Any], Any], draws: Sequence[Callable[[], Any]], batch: Any) -> Any:
    """What predict says of the batch that the draws fill; no attempt sees an earlier one's rows."""
    while True:
        for draw in draws:
            draw()
        try:
            return predict(batch)
        except DrawAgain:
            continue


def answers(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    n: int,
    seed: int,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    stage: str = "estimation",
    backend: str = "cpu",
    buffer: Any = None,
    start: int = 0,
    sound: Lattice | None = None,
    failed: Any = None,
    progress: Progress | None = None,
) -> Iterator[tuple[list[tuple[int, int]], Any]]:
    """Yield what a classifier says of noisy copies of inputs, batch by batch.

    Parameters
    ----------
    predict : callable
        Maps a batch (m, *input_shape), which it may change, to anything.  It may raise
        DrawAgain, for want of memory say: then it gets the same rows anew.
    x, noise, n, seed, indices, batch_size, stage, backend, buffer, start, sound, failed, progress
        As in noisy_batches.

    Yields
    ------
    (segments, predict(batch))
        For each (i, count) of segments, in order, the batch held count copies of x[i].

    Raises
    ------
    ValueError, BackendMissing

    Examples
    --------
    >>> predict = lambda batch: batch.sum(axis=1)
    >>> x, noise = np.zeros((2, 4)), cc.Gaussian(4, 1.0)
    >>> for segments, said in cc.votes.answers(predict, x, noise, 3, 0):
    ...     print(segments, said.shape)
    [(0, 3), (1, 3)] (6,)
    """
    check_callable("predict", predict)
    rows = input_rows(x, noise, sound)
    chosen = input_indices(indices, len(rows))
    n = sample_count("n", n, noise)
    batch_rows = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    begin, stream = kernels.span(n, start)[1], kernels.stream_of(stage)
    keys = [kernels.input_seed(seed, index) for index in chosen]
    buffer = batch_buffer(buffer, min(batch_rows, n * len(rows)), noise.dim)
    flags, copies = fail_flags(failed, len(buffer), sound), Copies(noise, backend, sound)
    told, done = checked_progress(progress), 0
    segments: list[tuple[int, int]] = []
    draws: list[Callable[[], Any]] = []
    filled = 0
    for i, row in enumerate(rows):
        drawn, center = 0, copies.center(row)
        while drawn < n:
            part = slice(filled, filled + min(n - drawn, batch_rows - filled))
            out, place = buffer[part], {"start": begin + drawn, "stream": stream}
            place["left"] = n - drawn - len(out)
            draws.append(partial(copies.fill, out, flags[part], keys[i], center, **place))
            segments.append((i, len(out)))
            drawn, filled = drawn + len(out), filled + len(out)
            last = i == len(rows) - 1 and drawn == n
            if filled == batch_rows or last:
                batch = buffer[:filled].reshape(-1, *rows.shape[1:])
                said, done = answer(predict, draws, batch), done + filled
                if told is not None:
                    told(done, n * len(rows))
                yield segments, said
                segments, draws, filled = [], [], 0


def noisy_batches(
    x: Any, noise: Noise, n: int, seed: int, **options: Any
) -> Iterator[tuple[list[tuple[int, int]], Any]]:
    """Yield n noisy copies of every input, in batches that inputs may share.

    Parameters
    ----------
    As in count_votes; besides
    buffer : (batch_size, dim) float32 array, optional
        What is filled, of any framework whose memory the backend writes: a NumPy array
        (default), for "gpu" one on the device.
    failed : (batch_size,) bool array of NumPy, with `sound` only and then needed
        Which rows of the batch FAILed: what is said of them must count against whatever is
        certified.

    Yields
    ------
    (segments, batch)
        batch, (m, *input_shape) float32 with m <= batch_size, holds for each (i, count)
        of segments, in order, count copies of x[i].  Both arrays are reused: copy to keep.
        With `sound` each value is one function of an integer sum, lattice.values.

    Raises
    ------
    ValueError, BackendMissing

    Examples
    --------
    >>> x, noise = np.zeros((2, 4)), cc.Gaussian(4, 1.0)
    >>> for segments, batch in cc.noisy_batches(x, noise, 3, 0, batch_size=5):
    ...     print(segments, batch.shape)
    [(0, 3), (1, 2)] (5, 4)
    [(1, 1)] (1, 4)
    """
    return answers(lambda batch: batch, x, noise, n, seed, **options)


def count_votes(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    stage: str = "estimation",
    backend: str = "cpu",
    start: int = 0,
    sound: Lattice | None = None,
    progress: Progress | None = None,
) -> CountedVotes:
    """Count the classes a classifier gives to noisy copies of inputs.

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to m integer labels.  It must judge each
        row by itself (no batch statistics) and not know the random seed.
    x : (N, *input_shape) array
        Inputs that float32 does not hold exactly (images/255 in float64) are added to the
        noise in float64: the votes are for them as given.
    noise : Noise, with dim the number of values of one input
    num_classes : int >= 2
    n : int >= 1
        Noisy copies an input.
    seed : int in [0, 2^32)
        Of the run.
    indices : N distinct integers, optional
        Places of the inputs in their data set (default 0 .. N-1).  Input i has its own
        random stream, so any subset gives the counts of the whole.  Pass them wherever a
        data set is taken in parts: by default the first input of every call has index 0, and
        inputs of one index and seed get the same noise, so that what is said of each holds
        but nothing that is said of all together.
    batch_size : int
        Rows given to predict at a time; it changes no count.
    stage : "estimation" or "selection"
        The two stages of a certificate draw from disjoint streams.
    backend : "cpu", "reference" or "gpu"
    start : int
        Samples start, ..., start + n - 1 of each input: to count on from where other
        votes of the seed ended.
    sound : Lattice, optional
        Draw in sound mode: x lies on the lattice (images of uint8 on that of step 1/255 are
        their integers), noise is rounded to it, and predict sees a function of the integer sum
        alone, so that a certificate holds for what runs, between inputs on the lattice.  The
        first batch is given to predict again among other rows: it must not tell.
    progress : callable (done, total), optional
        Called after every batch with the copies classified so far and those of the whole call.
        What it raises ends the call.

    Returns
    -------
    (N, num_classes) int64
        Each row sums to n, less the copies that FAILed in sound mode, which the table remembers:
        they are votes for no class, and certify counts them for the runner-up.  The table
        remembers its samples: added to votes of the same ones
        it is refused, and so by certify as the other stage of them.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> x = np.array([[1.0, 0.0], [0.1, 0.0]])
    >>> cc.count_votes(predict, x, cc.Gaussian(2, 0.5), num_classes=2, n=1000, seed=0)
    CountedVotes([[ 23, 977],
                  [413, 587]])
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    given = input_rows(x, noise, sound)
    counts = np.zeros((len(given), classes), dtype=np.int64)
    chosen = input_indices(indices, len(given))
    which: dict[str, Any] = {"indices": chosen, "stage": stage, "start": start, "sound": sound}
    drawn = drawn_by(noise, len(given), n, seed, **which)
    how: dict[str, Any] = {"batch_size": batch_size, "backend": backend, "progress": progress}
    failed = new_flags(batch_size, len(given) * sample_count("n", n, noise))
    lost = np.zeros(len(given), dtype=np.int64)
    judge = predict if sound is None else Alone(predict)
    for segments, said in answers(
        judge, given, noise, n, seed, failed=failed if sound else None, **how, **which
    ):
        labels = check_labels(said, sum(count for _, count in segments), classes)
        rows, fails = rows_of(segments), failed[: len(labels)]
        np.add.at(counts, (rows[~fails], labels[~fails]), 1)
        np.add.at(lost, rows[fails], 1)
    return counted(counts, with_fails(drawn, lost))


SLACK = 0.05  # of the largest value, by which values of a row may differ: of few digits, say


class Alone:
    """A function of batches, refused once its labels or values of some rows hang on the rows
    beside them, or on chance: the first batch is given again, most of its rows changed.

    In sound mode a certificate is of what runs: of a function of one noisy copy.  In float mode
    a function may be random, row by row: one that answers the same batch in two ways is (chance).
    """

    def __init__(self, predict: Callable[[Any], Any], *, chance: bool = False) -> None:
        self._predict, self._looked, self._chance = predict, False, chance

    def __call__(self, batch: Any) -> Any:
        if self._looked or len(batch) < 3:
            return self._predict(batch)
        rows = batch.copy()  # predict may change what it is given
        said = self._predict(batch)
        labels, kept = labels_of(said), slice(1, None, 3)
        if labels.shape[:1] != (len(rows),):  # no labels, as whoever counts them will say
            return said
        if labels.dtype.kind not in "iuf" or (self._chance and self._random(rows, labels)):
            self._looked = True
            return said
        for shift in (-0.7, 0.7):  # the mean of all goes to either side, and the spread grows
            others = shift - 2 * rows
            others[kept] = rows[kept]
            again = to_numpy("predict(batch)", self._predict(others))
            if labels.shape == again.shape and not _same(labels[kept], again[kept]):
                what = "value" if labels.dtype.kind == "f" else "label"
                rule = f"the {what} of each row by itself, and the same one each time"
                got = f"other {what}s for rows of a batch among other rows"
                remedy = "take out what averages over the batch, and what is random"
                raise fail("predict(batch)", rule, got, remedy)
        self._looked = True
        return said

    def _random(self, rows: Any, labels: Any) -> bool:
        """Whether the same rows get other labels when they are given again."""
        again = to_numpy("predict(batch)", self._predict(rows.copy()))
        return labels.shape != again.shape or not _same(labels, again)


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are the same: labels to the last, values but for their last digits."""
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    finite = np.isfinite(one)
    slack = SLACK * np.abs(one[finite]).max(initial=0.0)
    near = np.abs(one[finite] - other[finite]) <= slack
    return np.array_equal(finite, np.isfinite(other)) and bool(near.all())


def new_flags(batch_size: Any, copies: int) -> Any:
    """Room for the FAILs of a batch, of which there are no more than these copies."""
    rows = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    return np.zeros(min(rows, copies), dtype=bool)


def rows_of(segments: Sequence[tuple[int, int]]) -> Counts:
    """Of which input each row of a batch is a copy."""
    return np.repeat([i for i, _ in segments], [size for _, size in segments])


def with_fails(drawn: Drawn, failed: Counts) -> Drawn:
    """The samples, in sound mode with how many of each input FAILed."""
    if drawn.sound is None:
        return drawn
    return replace(drawn, failed=tuple(int(count) for count in failed))

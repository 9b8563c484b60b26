"""What a run or a log says of its inputs: certified accuracy, average radius, with confidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import confidence, in_full, least_above, samples
from cert_models.logs import (
    BRANCH,
    COLUMNS,
    FAILED,
    QUANTIZED,
    SOUND,
    Row,
    lines_of,
    scales_column,
    scales_digest,
)  # fmt: skip
from cert_models.store.claims import Proved
from cert_models.store.runs import bound_column, columns_of

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
CHECK = "check the log or run"
BLOCK = 1000  # rows made at a time


def measure_of(attack: str, noise: cc.Noise | None) -> str:
    """What radii measure: a norm of delta, or the scaled norm."""
    digest = scales_digest(noise)
    return f"{attack} radius" + (f" of delta/scales, scales {digest}" if digest else "")


@dataclass(frozen=True, kw_only=True)
class Jointly:
    """How many inputs' labels are certified, and right, at one radius: all of them hold at once
    with probability 1 - alpha, where each certificate by itself misses with probability alpha."""

    radius: float
    alpha: float
    certified: int
    right: int

    def __str__(self) -> str:
        return (
            f"at radius {in_full(self.radius)}, fixed beforehand, {self.certified} labels are "
            f"certified, {self.right} of them right, that hold all at once with probability "
            f"{confidence(self.alpha)}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one run or log says of its inputs, and where it comes from.

    Attributes
    ----------
    name : str
    indices, labels, predict : (N,) int64
        Places in the data set, true classes, certified classes (cc.ABSTAIN: none).
    radius : (N,) float64, in the attack's norm and input units; under "l0" whole numbers
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    alpha : float or None
        Failure probability of each input; 0 where all copies are counted, None where a log does
        not say.
    noise : Noise or None
    note : str
        How the votes were drawn, e.g. "n 10000".
    model, data, data_fingerprint : str
        Of a run: names as given to it, and the digest of its inputs; "" where not known.
    tested : tuple of float, or None
        The radii that a run tested, where it tested no other; None where any may be asked for.
    seconds : (N,) float64, or None
        Time taken, of a run.
    certificates : Certificates, or None
        What predict, radius, attack, alpha and noise are of; None of a log, which has no more.
    proved : Proved, or None
        What a table of proofs says of its certificates.
    jointly : Jointly, or None
        What holds of all inputs at once.
    mode : str
        As Run.mode: the lattice of sound mode, "" for float mode.
    cost : float
        What was taken off each radius there, in the attack's norm.
    failed : (N,) int64, or None
        Copies of each input that FAILed there.
    seed : int or None
        Of a run; None of a log, which does not say.
    starts : tuple of dict
        When a run was begun and continued, and with what versions; as CountStore.starts.

    Raises
    ------
    ValueError
        No inputs, arrays of different lengths, an index twice, or values that are none.
    """

    name: str
    indices: Ints
    labels: Ints
    predict: Ints
    radius: Floats
    attack: str
    alpha: float | None = None
    noise: cc.Noise | None = None
    note: str = ""
    model: str = ""
    data: str = ""
    data_fingerprint: str = ""
    tested: tuple[float, ...] | None = None
    seconds: Floats | None = None
    certificates: cc.Certificates | None = None
    proved: Proved | None = None
    jointly: Jointly | None = None
    mode: str = ""
    cost: float = 0.0
    failed: Ints | None = None
    seed: int | None = None
    starts: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, certificates: cc.Certificates, **about: Any) -> Result:
        """What certificates say; about: the other fields."""
        c = certificates
        return cls(
            predict=c.label, radius=c.radius, attack=c.attack, alpha=c.alpha, noise=c.noise,
            note=_sampling(c), certificates=c, failed=c.failed,
            **{"tested": tested_by(getattr(c, "plan", None)), **about},
        )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("indices", "labels", "predict"):
            given = cc.errors.to_numpy(name, getattr(self, name))
            if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
                raise cc.errors.fail(name, "a vector of integers", getattr(self, name), CHECK)
            object.__setattr__(self, name, given)
        radius = cc.errors.array("radius", self.radius, ">= 0", lambda x: x >= 0, remedy=CHECK)
        object.__setattr__(self, "radius", np.atleast_1d(radius))
        cc.threats.attack_name(self.attack)
        if self.attack == "l0" and (self.radius != np.floor(self.radius)).any():
            wrong = float(self.radius[self.radius != np.floor(self.radius)][0])
            raise cc.errors.fail("radius", "whole numbers of entries under l0", wrong, CHECK)
        for name in ("name", "note", "model", "data", "data_fingerprint"):
            cc.errors.text(name, getattr(self, name))
        if self.alpha is not None and not cc.errors.estimates_nothing(self.alpha):
            cc.errors.alpha(self.alpha)
        sizes = {len(x) for x in (self.indices, self.labels, self.predict, self.radius)}
        none = sizes == {0} and self.certificates is None  # a run may have none yet
        ordered = np.sort(self.indices)  # faster than a set of them, in a tenth of its memory
        if len(sizes) != 1 or none or (ordered[1:] == ordered[:-1]).any():
            raise ValueError(
                f"result {self.name!r} must have one label, prediction and radius for each of its "
                f"inputs, and no input twice, got {sorted(sizes)} of them: check the log or run"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def certified_by(self) -> cc.Certificates:
        """The certificates, which only a log lacks."""
        if self.certificates is None:
            raise cc.errors.fail("result", "of a run", f"the log {self.name!r}", "pass a run")
        return self.certificates

    def rows(self) -> Iterator[Row]:
        """The same as rows of a log."""
        for columns, extras in self._blocks():
            for i, y, predict, radius, time, more in zip(*columns, extras, strict=True):
                yield Row(
                    index=i, label=y, predict=predict, radius=radius, seconds=time, extra=more
                )

    def lines(self) -> Iterator[str]:
        """The same as lines of a log, its names first."""
        yield "\t".join((*COLUMNS, *next((row.extra for row in self.rows()), ())))
        for columns, extras in self._blocks():
            lines = lines_of(*columns)
            yield from map(_with, lines, extras) if any(extras) else lines

    def _blocks(self) -> Iterator[tuple[list[list[Any]], list[dict[str, str]]]]:
        """Index, label, predict, radius and seconds of blocks of inputs, and further columns."""
        extra = columns_of(self.certified_by.bound, self.certified_by.alpha)
        extra |= scales_column(self.noise)
        seconds = np.zeros(len(self)) if self.seconds is None else self.seconds
        columns = (self.indices, self.labels, self.predict, self.radius, seconds)
        for low in range(0, len(self), BLOCK):
            block = [column[low : low + BLOCK].tolist() for column in columns]
            yield block, self._extras(extra, low)

    def _extras(self, extra: dict[str, str], low: int) -> list[dict[str, str]]:
        """The further columns of a block of rows."""
        count = min(BLOCK, len(self) - low)
        rows = [extra] * count
        if isinstance(self.certificates, cc.RoutedCertificates):
            sent = self.certificates.branch[low : low + BLOCK].tolist()
            rows = [row | {BRANCH: str(i)} for row, i in zip(rows, sent, strict=True)]
        if not self.mode:
            return rows
        fails = [0] * count if self.failed is None else self.failed[low : low + BLOCK].tolist()
        modes = [{SOUND: self.mode, FAILED: str(k)} for k in fails]
        return [row | more for row, more in zip(rows, modes, strict=True)]

    @cached_property
    def measure(self) -> str:
        """What its radii measure; those of another measure are not to be compared with them."""
        return measure_of(self.attack, self.noise)

    @cached_property
    def certified(self) -> Floats:
        """Radii certified with the right label, descending; every other input as -1."""
        right = (self.predict == self.labels) & (self.predict != cc.ABSTAIN)
        return -np.sort(-np.where(right, self.radius, -1.0))

    @property
    def abstained(self) -> int:
        return int((self.predict == cc.ABSTAIN).sum())

    def says(self, radius: float) -> bool:
        """Whether this radius was tested: between two that were, some inputs may hold that
        are certified at the smaller one alone."""
        return self.tested is None or radius in self.tested

    def count(self, radius: float, rho: float | None = None) -> int:
        """Inputs certified with the right label at this radius; abstentions count as wrong.
        With rho, as in accuracy."""
        remedy = "pass a radius in the attack's norm"
        level = cc.errors.array("radius", radius, ">= 0", lambda x: x >= 0, remedy=remedy)
        if level.ndim:
            raise cc.errors.fail("radius", "one number", level.shape, remedy)
        wrong = 0 if rho is None else self.wrong_at_most(rho)
        return max(int((self.certified >= level).sum()) - wrong, 0)

    def wrong_at_most(self, rho: float) -> int:
        """How many certificates are false at most, with probability 1 - rho.

        Each is false with probability alpha at most, by its own draws: their number is
        stochastically below Binomial(N, alpha), and its quantile serves all radii at once.

        Raises
        ------
        ValueError
            alpha is not known, or rho is not in (0, 1).
        """
        from scipy.stats import binom

        if self.alpha is None:
            raise ValueError(
                f"alpha must be known for a high-probability version, got none for {self.name!r}: "
                "pass --alpha, that of the log"
            )
        share = cc.errors.real("rho", rho, "in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.001")
        return int(binom.ppf(1 - share, len(self), self.alpha))

    def accuracy(self, radius: float, rho: float | None = None) -> float:
        """Certified accuracy at a radius.

        Parameters
        ----------
        radius : float >= 0
        rho : float in (0, 1), optional
            Bound from below, with probability 1 - rho and at all radii at once, the share of
            inputs on which the smoothed classifier is right and robust (Cohen et al. 2019,
            Appendix G, bound it by Bernstein's inequality; this is the exact quantile).
        """
        return self.count(radius, rho) / len(self)

    def average_radius(self, rho: float | None = None) -> float:
        """Average certified radius, zero where wrong or abstaining (Zhai et al. 2020).

        With rho, as in accuracy: the largest radii that may be false are left out.
        """
        wrong = 0 if rho is None else self.wrong_at_most(rho)
        return float(np.maximum(self.certified[wrong:], 0.0).sum()) / len(self)

    def restricted(self, indices: Sequence[int]) -> Result:
        """The same of some of its inputs."""
        keep = np.isin(self.indices, indices)
        arrays = {k: getattr(self, k)[keep] for k in ("indices", "labels", "predict", "radius")}
        failed = None if self.failed is None else self.failed[keep]
        return replace(self, **arrays, failed=failed, seconds=None, certificates=None)


def _with(line: str, more: Mapping[str, str]) -> str:
    """A line of a log with its further columns."""
    return "\t".join((line, *more.values()))


def tested_by(rule: object) -> tuple[float, ...] | None:
    """The radii that a plan of sampling tests, where it tests no other."""
    return tuple(rule.radii) if isinstance(rule, cc.sequential.RadiiPlan) else None


def _sampling(certificates: cc.Certificates) -> str:
    """How the votes behind certificates were drawn, and whether their bound is tight."""
    if certificates.alpha == 0:
        return f"all {certificates.n} copies counted, nothing estimated"
    text = f"n0 {certificates.n0}, n {certificates.n}"
    if isinstance(certificates, cc.sequential.SequentialCertificates) and len(certificates):
        mean = certificates.samples.mean()
        text += (
            f" at most, decided by a sequential test, {samples(mean)} samples an input on average"
        )
    text += "".join(f", bound {name}" for name in bound_column(certificates.bound).values())
    if isinstance(certificates, cc.RoutedCertificates):
        text += f", the router's noise; routed to {' | '.join(map(repr, certificates.noises))}"
        if len(certificates):
            text += f"; {samples(certificates.samples.mean())} samples an input on average"
    return text + ("" if certificates.tight else ", bound sound but not tight")


def named_mode(mode: str) -> str:
    """A mode in words."""
    step, quantized, _ = mode.partition(QUANTIZED)
    text = f"sound mode, step {step}" if step else "float mode"
    return text + (", inputs quantised" if quantized else "")


def told_mode(result: Result) -> str:
    """The mode of a result in words, with what is taken off its radii and how many copies FAILed
    at all."""
    text = named_mode(result.mode)
    if not result.mode:
        return text
    if result.mode.endswith(QUANTIZED):
        off = f": {least_above(result.cost)} taken off each radius" if result.cost else ""
        text += f", perturbed inputs too{off}"
    fails = 0 if result.failed is None else int(np.sum(result.failed))
    return f"{text}, {fails} copies FAILed and count against the class"


def subset(indices: Ints) -> str:
    """Which inputs these are, in few words."""
    ordered = np.sort(indices)
    count = f"{len(ordered)} input{'s' if len(ordered) > 1 else ''}"
    if len(ordered) == 1:
        return f"{count} ({ordered[0]})"
    steps = np.unique(np.diff(ordered))
    ends = f"{ordered[0]}..{ordered[-1]}"
    if len(steps) > 1:
        return f"{count} of {ends}"
    return f"{count} ({ends}{f' step {steps[0]}' if steps[0] > 1 else ''})"


def default_radii(results: Sequence[Result], most: int = 8) -> list[float]:
    """Round radii from 0 to the largest certified one, and those that alone were tested."""
    tested = sorted({radius for r in results for radius in r.tested or ()})
    free = [r.certified for r in results if r.tested is None]
    top = max((float(c[np.isfinite(c)].max(initial=0.0)) for c in free), default=0.0)
    if top < 1e-300:  # among the denormals no number is round
        return tested or [0.0]
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(x * power for x in (1, 2, 2.5, 5, 10, 20) if top / (x * power) <= most)
    round_ones = {float(f"{i * step:.6g}") for i in range(int(top / step + 1e-9) + 1)}
    if all(r.attack == "l0" for r in results):
        round_ones = {float(math.floor(x)) for x in round_ones}
    return sorted(round_ones.union(tested))

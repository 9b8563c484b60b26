"""Runs of the same inputs side by side, and the best of them at each radius."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full, percent
from cert_models.reports.tables import UNTESTED, Table, tables
from cert_models.store.results import Result, named_mode, subset

CHOSEN_HERE = (
    "The best at a radius was chosen on these very inputs.  Each certificate holds, for its own "
    "run's smoothed classifier; the best of several is no single classifier, and as an estimate "
    "for other inputs it is optimistic."
)


@dataclass(frozen=True)
class Best:
    """The most of total inputs certified at a radius (None: no result tested it), and the
    results that certify them."""

    radius: float
    count: int | None
    total: int
    results: tuple[Result, ...]

    @property
    def accuracy(self) -> float | None:
        return None if self.count is None else self.count / self.total

    @property
    def share(self) -> str:
        return UNTESTED if self.count is None else percent(self.count, self.total)


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse results that are not of the same inputs, or whose radii measure other things.

    Raises
    ------
    ValueError
        Other inputs, other labels, (where both runs say) other data, another attack, scales or
        mode.
    """
    first = results[0]
    order = np.argsort(first.indices)
    for other in results[1:]:
        place = np.argsort(other.indices)
        if not np.array_equal(first.indices[order], other.indices[place]):
            found = f"{subset(first.indices)} in {first.name!r}, {subset(other.indices)} in"
            rule, remedy = "of the same inputs", "pass --common, or certify the others"
        elif first.data_fingerprint and first.data_fingerprint != (
            other.data_fingerprint or first.data_fingerprint
        ):
            found = f"{first.data!r} in {first.name!r}, {other.data!r} of another digest in"
            rule, remedy = "of one data set", "compare runs of the same data"
        elif not np.array_equal(first.labels[order], other.labels[place]):
            found = f"labels of {first.name!r} that differ from those of"
            rule, remedy = "of one data set", "compare runs of the same data"
        elif first.measure != other.measure:
            found = f"{first.measure} in {first.name!r}, {other.measure} in"
            rule, remedy = "of one measure of the radius", "choose runs with --run"
        elif first.mode != other.mode:
            found = f"{named_mode(first.mode)} in {first.name!r}, {named_mode(other.mode)} in"
            rule, remedy = "of one mode", "choose runs with --run; cert report shows both apart"
        else:
            continue
        raise ValueError(f"runs must be {rule}, got {found} {other.name!r}: {remedy}")


def best_at(results: Sequence[Result], radii: Sequence[float]) -> list[Best]:
    """The best of the results at each radius; none where no input is certified, or none tested
    the radius.

    Parameters
    ----------
    results : of the same inputs and attack
    radii : in the attack's norm and input units
    """
    found = []
    for radius in radii:
        counts = [(r, r.count(radius)) for r in results if r.says(radius)]
        top = max((n for _, n in counts), default=None)
        winners = tuple(r for r, n in counts if n == top and n > 0)
        found.append(Best(radius, top, len(results[0]), winners))
    return found


def best_tables(results: Sequence[Result], radii: Sequence[float]) -> list[Table]:
    """Certified accuracy of each result, the best of them below; which is best, and its noise.

    Parameters
    ----------
    results : of the same inputs and attack
    radii : in the attack's norm and input units

    Returns
    -------
    two tables, in the layout of Zhang et al. 2020, Tables 1-3, and of Figure 4's envelope
    """
    (side,) = tables(results, radii)
    found = best_at(results, radii)
    blanks = [""] * (len(side.header) - 2 - len(found))
    last = ("best of these", side.rows[0][1], *blanks, *(b.share for b in found))
    side = dataclasses.replace(side, rows=(*side.rows, last))
    rows = [row for b in found for row in _named(b)]
    caption = f"The best at each {results[0].measure}"
    header = ("radius", "run", "noise", "model", "alpha", "accuracy")
    return [side, Table(caption, header, tuple(rows), (CHOSEN_HERE,))]


def _named(best: Best) -> list[tuple[str, ...]]:
    """A row for each result that is best at a radius."""
    radius = in_full(best.radius)
    if not best.results:
        return [(radius, "none", "", "", "", best.share)]
    return [
        (
            radius, r.name, parameters(r.noise) if r.noise else "", r.model,
            "" if r.alpha is None else in_full(r.alpha), best.share,
        )
        for r in best.results
    ]  # fmt: skip


def parameters(noise: cc.Noise) -> str:
    """A noise in few words: its family, scale and k."""
    if isinstance(noise, cc.noises.Scaled):
        return f"{parameters(noise.base)}, stretched"
    values = {f.name: getattr(noise, f.name) for f in dataclasses.fields(noise)}  # type: ignore[arg-type]
    shown = ", ".join(f"{name}={in_full(value)}" for name, value in values.items() if name != "dim")
    return f"{type(noise).__name__}({shown})"

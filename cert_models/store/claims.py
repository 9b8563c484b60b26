"""Certificates as claims to be proved, and tables of what was proved of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import le
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.files.reading import reading
from cert_models.store.counts import CountStore, parts_of
from cert_models.store.runs import FixedPlan, RoutedPlan, Run, ShellPlan, Votes, bound_for

COLUMNS = (
    "radius", "attack", "noise", "p", "votes", "n", "alpha",
    "required", "margin", "seconds", "proved",
)  # fmt: skip
HEAD = "\t".join(COLUMNS)
Key = tuple[str, ...]  # the first seven columns: what is claimed
CLAIMED = 7

ONE_CLASS = bound_for(FixedPlan(1, 1))  # of the votes of one class, which alone are proved


@dataclass(frozen=True, kw_only=True)
class Shells:
    """Votes told apart by shells, and the masses within each threshold that they bound."""

    thresholds: tuple[float, ...]
    masses: tuple[float, ...]
    votes: tuple[int, ...]
    samples: tuple[int, ...]

    def cells(self) -> tuple[str, str, str]:
        """The columns p, votes and n: masses with their thresholds, and p; votes; samples."""
        ends = *(f"@{edge!r}" for edge in self.thresholds), ""
        p = (f"{mass!r}{end}" for mass, end in zip(self.masses, ends, strict=True))
        return " ".join(p), " ".join(map(str, self.votes)), " ".join(map(str, self.samples))

    @classmethod
    def of_cells(cls, p: str, votes: str, n: str) -> Shells | None:
        """What cells wrote; None of p alone."""
        *inner, last = (each.split("@") for each in p.split(" "))
        if not inner:
            return None
        return cls(
            thresholds=tuple(float(edge) for _, edge in inner),
            masses=(*(float(mass) for mass, _ in inner), float(*last)),
            votes=tuple(map(int, votes.split(" "))), samples=tuple(map(int, n.split(" "))),
        )  # fmt: skip

    def bounded(self, noise: cc.Noise, alpha: float) -> bool:
        """Whether the votes bound the masses at alpha."""
        most = _masses(self.votes, self.samples, self.thresholds, noise, alpha)
        return len(self.masses) == len(most) and all(map(le, self.masses, most))


def _masses(
    votes: Sequence[int], samples: Sequence[int], edges: Sequence[float], noise: cc.Noise,
    alpha: float,
) -> tuple[float, ...]:  # fmt: skip
    cast, drawn = (np.array([each], dtype=np.int64) for each in (votes, samples))
    return tuple(cc.shell_votes.lower_masses(cast, drawn, edges, noise, alpha)[0].tolist())


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A certificate: p certifies the radius, and is what votes of n bound at alpha
    (None: p is given, and only the noise's side is to be proved), or what their shells do."""

    radius: float
    attack: str
    noise: cc.Noise
    p: float
    votes: int | None = None
    n: int | None = None
    alpha: float | None = None
    shells: Shells | None = None

    def key(self) -> Key:
        """The claim as the first columns of its row."""
        noise = json.dumps(self.noise.to_dict(), sort_keys=True)
        told = ("" if x is None else repr(x) for x in (self.p, self.votes, self.n))
        p, votes, n = told if self.shells is None else self.shells.cells()
        alpha = "" if self.alpha is None else repr(self.alpha)
        return (repr(self.radius), self.attack, noise, p, votes, n, alpha)


def claims_of(
    store: CountStore, name: str, found: cc.Certificates, indices: Iterable[int]
) -> Iterator[Claim]:
    """What the certificates of these inputs of a run of counts claim.

    Of votes of fixed n both sides are to be proved, where their bound is the first one, of one
    class's votes at alpha, or that of their shells.  Of a routed run the router and the branch are
    to certify the radius, each at half of alpha.
    """
    run = store.runs()[name]
    if isinstance(found, cc.RoutedCertificates):
        yield from _routed(store, name, found, list(indices))
        return
    cast = {}
    if isinstance(run.plan, FixedPlan | ShellPlan):
        cast = {v.index: _cast(run, v, found) for v in store.votes(name, type(run.plan))}
    for index, radius, p in zip(indices, found.radius, found.p_lower, strict=True):
        if radius > 0:
            yield Claim(
                radius=float(radius), attack=found.attack, noise=found.noise, p=float(p),
                **cast.get(int(index), {}),
            )  # fmt: skip


def _cast(run: Run, votes: Votes, found: cc.Certificates) -> dict[str, Any]:
    """The votes behind a bound, where they are to be proved as well."""
    plan = run.plan
    if isinstance(plan, FixedPlan | ShellPlan) and found.bound in (None, ONE_CLASS):
        return {"votes": int(votes.estimation[votes.selected]), "n": plan.n, "alpha": found.alpha}
    if not isinstance(plan, ShellPlan) or found.bound != cc.shell_votes.BOUND:
        return {}
    cast, drawn = plan.by_shell(votes)
    masses = _masses(cast, drawn, plan.thresholds, run.noise, found.alpha)
    shells = Shells(thresholds=plan.thresholds, masses=masses, votes=cast, samples=drawn)
    return {"votes": sum(cast), "n": plan.n, "alpha": found.alpha, "shells": shells}


def _routed(
    store: CountStore, name: str, found: cc.RoutedCertificates, indices: list[int]
) -> Iterator[Claim]:
    """The same of a routed run: two claims an input."""
    run, places = store.runs()[name], {index: place for place, index in enumerate(indices)}
    halves = replace(found, alpha=cc.routing.halves(found.alpha))
    sides = [replace(halves, bound=ONE_CLASS), halves]
    for votes in store.votes(name, RoutedPlan):
        row = places.get(votes.index)
        if row is None or not found.radius[row] > 0:
            continue
        of_each = (found.noise, found.p_router), (found.noises[found.branch[row]], found.p_lower)
        for (part, cast), (noise, p), by in zip(parts_of(run, votes), of_each, sides, strict=True):
            yield Claim(
                radius=float(found.radius[row]), attack=found.attack, noise=noise, p=float(p[row]),
                **_cast(part, cast, by),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Proved:
    """How many of the distinct certificates of a run or a log a table of proofs holds.

    Attributes
    ----------
    proved, certificates : int
    votes : bool
        The bounds on the votes are proved as well as the noise's side.
    n : int or None
        Of a log, which does not say: the votes an input that the proofs took.
    """

    proved: int
    certificates: int
    votes: bool = True
    n: int | None = None

    @property
    def whole(self) -> bool:
        """Whether every certificate is proved."""
        return self.proved == self.certificates > 0

    def __str__(self) -> str:
        every = f"{self.certificates} distinct certificates"
        if not self.whole:
            return f"not proved: {self.proved} of {every} are"
        side = "" if self.votes else " on the noise's side"
        taken = "" if self.n is None else f", taken for those of {self.n} votes an input"
        return f"proved{side}, each of {every}{taken}"


class Proofs:
    """A table of proofs, which lends its word to the very numbers in it alone.

    Parameters
    ----------
    path : as `cert prove --out` wrote it

    Raises
    ------
    ValueError
        No such file, no such table, or a row that contradicts itself.
    """

    def __init__(self, path: str | Path) -> None:
        self.rows = read_proofs(path)

    def of_claims(self, claims: Iterable[Claim]) -> Proved:
        """What the table says of these certificates."""
        distinct = {claim.key(): claim for claim in claims}
        return Proved(
            proved=sum(key in self.rows and self.rows[key][-1] == "yes" for key in distinct),
            certificates=len(distinct),
            votes=all(claim.votes is not None for claim in distinct.values()),
        )

    def of_radii(
        self, radii: Iterable[float], attack: str, noise: cc.Noise, alpha: float, n: int | None
    ) -> Proved:
        """What the table says of a log's radii, which are those of some votes of n (None: of
        whatever n proves the most of them)."""
        wanted = {repr(float(radius)) for radius in radii if radius > 0}
        own = Claim(radius=0.0, attack=attack, noise=noise, p=0.0, alpha=alpha).key()
        proved: dict[int, set[str]] = {}
        for key, row in self.rows.items():
            same = (key[1], key[2], key[6]) == (own[1], own[2], own[6])
            if same and key[5].isdigit() and n in (None, int(key[5])) and row[-1] == "yes":
                proved.setdefault(int(key[5]), set()).add(key[0])
        held = {votes: len(wanted & found) for votes, found in proved.items()}
        best = max(held, key=lambda votes: held[votes], default=n)
        count = held.get(best, 0) if best is not None else 0
        return Proved(proved=count, certificates=len(wanted), n=best)


def read_proofs(path: str | Path) -> dict[Key, tuple[str, ...]]:
    """The rows of a table of proofs, by what they claim; a last line that was cut short by a
    killed run is none.

    Raises
    ------
    ValueError
    """
    with reading("table", "a readable table of proofs", path, "pass what cert prove --out wrote"):
        text = Path(path).read_text(encoding="utf-8")
    head, *lines = text.rpartition("\n")[0].split("\n")
    rows = [tuple(line.split("\t")) for line in lines]
    if head != HEAD or any(len(row) != len(COLUMNS) for row in rows):
        rule = "a table of proofs, its columns " + " ".join(COLUMNS)
        raise cc.errors.fail("table", rule, str(path), "pass what cert prove --out wrote")
    for row in rows:
        _check(row, path)
    return {row[:CLAIMED]: row for row in rows}


def _check(row: tuple[str, ...], path: str | Path) -> None:
    """Refuse a row that cannot be what a proof wrote."""
    cells = dict(zip(COLUMNS, row, strict=True))
    try:
        proved = {"yes": True, "no": False}[cells["proved"]]
        shells = Shells.of_cells(cells["p"], cells["votes"], cells["n"])
        p = float(cells["p"]) if shells is None else shells.masses[-1]
        required = float(cells["required"])
        right = required <= p if proved else required == required  # rounded up, maybe to p
        if shells is not None:
            noise = cc.noise_from_dict(json.loads(cells["noise"]))
            right = right and (not proved or shells.bounded(noise, float(cells["alpha"])))
        elif cells["votes"]:
            given = int(cells["votes"]), int(cells["n"]), float(cells["alpha"])
            right = right and (not proved or p <= cc.binomial_lower(*given))
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        rule = "a table of proofs whose rows agree with themselves"
        got = f"{' '.join(row)[:80]} ({path})"
        raise cc.errors.fail("table", rule, got, "prove that certificate again")

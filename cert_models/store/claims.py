"""Certificates as claims to be proved, and tables of what was proved of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
class Claim:
    """A certificate: p certifies the radius, and is what votes of n bound at alpha
    (None: p is given, and only the noise's side is to be proved)."""

    radius: float
    attack: str
    noise: cc.Noise
    p: float
    votes: int | None = None
    n: int | None = None
    alpha: float | None = None

    def key(self) -> Key:
        """The claim as the first columns of its row."""
        noise = json.dumps(self.noise.to_dict(), sort_keys=True)
        rest = ("" if x is None else repr(x) for x in (self.votes, self.n, self.alpha))
        return (repr(self.radius), self.attack, noise, repr(self.p), *rest)


def claims_of(
    store: CountStore, name: str, found: cc.Certificates, indices: Iterable[int]
) -> Iterator[Claim]:
    """What the certificates of these inputs of a run of counts claim.

    Of votes of fixed n both sides are to be proved, where their bound is the first one: of one
    class's votes at alpha.  Of a routed run the router and the branch are to certify the radius,
    each at half of alpha.
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
    if not isinstance(plan, FixedPlan | ShellPlan) or found.bound not in (None, ONE_CLASS):
        return {}
    return {"votes": int(votes.estimation[votes.selected]), "n": plan.n, "alpha": found.alpha}


def _routed(
    store: CountStore, name: str, found: cc.RoutedCertificates, indices: list[int]
) -> Iterator[Claim]:
    """The same of a routed run: two claims an input."""
    run, places = store.runs()[name], {index: place for place, index in enumerate(indices)}
    halves = replace(found, alpha=cc.routing.halves(found.alpha))
    for votes in store.votes(name, RoutedPlan):
        row = places.get(votes.index)
        if row is None or not found.radius[row] > 0:
            continue
        sides = (found.noise, found.p_router), (found.noises[found.branch[row]], found.p_lower)
        for (part, cast), (noise, p) in zip(parts_of(run, votes), sides, strict=True):
            yield Claim(
                radius=float(found.radius[row]), attack=found.attack, noise=noise, p=float(p[row]),
                **_cast(part, cast, halves),
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
            if same and key[5] and n in (None, int(key[5])) and row[-1] == "yes":
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
        p, required = float(cells["p"]), float(cells["required"])
        right = required <= p if proved else required == required  # rounded up, maybe to p
        if cells["votes"]:
            given = int(cells["votes"]), int(cells["n"]), float(cells["alpha"])
            right = right and (not proved or p <= cc.binomial_lower(*given))
    except (KeyError, ValueError):
        right = False
    if not right:
        rule = "a table of proofs whose rows agree with themselves"
        got = f"{' '.join(row)[:80]} ({path})"
        raise cc.errors.fail("table", rule, got, "prove that certificate again")

"""Noises tuned on one part of a data set and certified on another, their counts in a store.

Every candidate is a run of its own, sampled by its plan; every winner another, of fixed n.  What
the store has is not counted again, so a search that was killed goes on to the same end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cert_core as cc
from cert_models.engines import Sampler
from cert_models.run import versions
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run, result_of
from cert_models.store.results import Result
from cert_models.store.runs import Run, SequentialPlan, Votes

TUNING, FRESH = "tuning", "fresh"
Parts = tuple[tuple[int, ...], tuple[int, ...]]
Shown = Callable[[Iterable[Votes], int], Iterable[Votes]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A noise, and the classifier that is smoothed by it.

    Attributes
    ----------
    name : str
    noise : Noise
    model : what a sampler takes: the classifier, or its name
    path, fingerprint : str, of the model, for the record
    """

    name: str
    noise: cc.Noise
    model: Any
    path: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTuning:
    """Candidates judged on the tuning part, and winners certified on the other.

    Attributes
    ----------
    candidates : sequence of Candidate
    plans : as of cc.tuning.plans_of
    parts : (tuning, fresh), of cc.tuning.split
    base : Run
        What all runs share; its plan is that of the winners.
    sampler : callable (candidate, run) -> Sampler
    store : CountStore, open, of which this is the only writer
    prefix : str, how the names of its runs begin
    """

    candidates: Sequence[Candidate]
    plans: Mapping[int, cc.sequential.RadiiPlan]
    parts: Parts
    base: Run
    sampler: Callable[[Candidate, Run], Sampler[Votes]]
    store: CountStore
    prefix: str = ""
    _samplers: dict[str, Sampler[Votes]] = field(default_factory=dict, init=False)
    _judged: dict[int, dict[int, tuple[float, int]]] = field(default_factory=dict, init=False)

    def _run(self, part: str, number: int) -> tuple[str, Run]:
        """The run of a candidate on a part, and its name."""
        candidate = self.candidates[number]
        plan = self.base.plan if part == FRESH else SequentialPlan(self.plans[number])
        run = replace(
            self.base, plan=plan, noise=candidate.noise, model=candidate.path,
            model_fingerprint=candidate.fingerprint,
        )  # fmt: skip
        return f"{self.prefix} {part} {candidate.name}".lstrip(), run

    def _counted(self, part: str, number: int, left: Sequence[int]) -> Iterator[Votes]:
        """Count inputs of a part by a candidate, each on the disk when it is passed on."""
        name, run = self._run(part, number)
        begun = name in self._samplers
        if not begun:
            self._samplers[name] = self.sampler(self.candidates[number], run)
        for block in self._samplers[name].blocks(left):
            if not begun:  # no run before there is a count for it
                about = told_part(part, self.parts[part == FRESH])
                self.store.begin(name, run, {**versions(), **about})
                begun = True
            with self.store.transaction():
                for votes in block:
                    self.store.add(name, votes)
            yield from block

    def done(self) -> int:
        """The passes of the search that the store has."""
        return sum(passes for i in self.plans for _, passes in self._known(i).values())

    def _known(self, number: int) -> dict[int, tuple[float, int]]:
        """What the store has of a candidate, by input: the radius and the passes."""
        if number not in self._judged:
            self._judged[number] = {}
            name, run = self._run(TUNING, number)
            if found := self.store.done(name, run) & set(self.parts[0]):
                self._learn(number, read_run(self.store, name, found))
        return self._judged[number]

    def _learn(self, number: int, result: Result) -> None:
        certificates: Any = result.certified_by
        radius, passes = cc.tuning.judged(certificates, result.labels)
        rows = zip(result.indices.tolist(), radius.tolist(), passes.tolist(), strict=True)
        self._judged[number].update({index: (r, n) for index, r, n in rows})

    def judge(
        self, told: Callable[[Votes], object], number: int, chosen: Sequence[int]
    ) -> tuple[list[float], list[int]]:
        """What a candidate certifies of inputs, and the passes, as cc.tuning.search asks; told is
        given the votes of each that was counted, when they are on the disk."""
        known, (_, run) = self._known(number), self._run(TUNING, number)
        if left := [index for index in chosen if index not in known]:
            for votes in self._counted(TUNING, number, left):
                self._learn(number, result_of([votes], run, attack=run.attack, alpha=run.alpha))
                told(votes)
        radii, passes = zip(*(known[index] for index in chosen), strict=True)
        return list(radii), list(passes)

    def certify(self, number: int, shown: Shown) -> Result:
        """Certify a winner on the fresh part; shown passes on what is counted, and is told how
        many inputs the store has."""
        (name, run), inputs = self._run(FRESH, number), self.parts[1]
        done = self.store.done(name, run)
        left = [index for index in inputs if index not in done]
        for _ in shown(self._counted(FRESH, number, left), len(inputs) - len(left)):
            pass
        return replace(read_run(self.store, name, inputs), name=self.candidates[number].name)


def check_parts(store: CountStore, parts: Parts, data_fingerprint: str) -> None:
    """Refuse a store in which inputs of one part have been used as the other.

    Raises
    ------
    ValueError
        Then a winner would be certified by inputs that chose it.
    """
    others = {TUNING: set(parts[1]), FRESH: set(parts[0])}
    for name, run in store.runs().items():
        used = {str(start.get("part")) for start in store.starts(name)} & others.keys()
        for part in used if run.data_fingerprint == data_fingerprint else ():
            if both := others[part] & set(store.indices(name)):
                rule = f"those of run {name!r} of {str(store.path)!r}, whose inputs stay in it"
                remedy = "pass the same parts, or another store"
                raise cc.errors.fail(f"{part} part", rule, f"others for {sorted(both)}", remedy)


def told_part(part: str, inputs: Sequence[int]) -> dict[str, Any]:
    """How a part is told in a record: its name, how many inputs, and a digest of which."""
    digest = hashlib.sha256(",".join(map(str, sorted(inputs))).encode()).hexdigest()[:16]
    return {"part": part, "inputs": len(inputs), "inputs_sha256": digest}

"""What a run of certification is: its sampling plan, and its parameters."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

import cert_core as cc
from cert_core import Votes as Votes
from cert_core.errors import integer
from cert_models.logs import mode_name

Counts = np.ndarray[Any, np.dtype[np.int64]]
STEPS = ("looks", "scores", "shells")  # fields of Votes that plans keep beside the two stages
SCORE_UNIT = 65535  # a score of 1; others are kept as whole parts of it, rounded down


def check_numbers(votes: Votes) -> None:
    """Refuse what a store could keep and not read again."""
    remedy = "pass what was counted"
    integer("index", votes.index, 0, 2**32 - 1)
    integer("label", votes.label, 0, cc.errors.EXACT)
    for name in ("selection", "estimation"):
        counts = cc.errors.to_numpy(name, getattr(votes, name))
        if counts.ndim != 1 or counts.dtype.kind not in "iu" or not counts.size:
            raise cc.errors.fail(name, "a vector of whole numbers", getattr(votes, name), remedy)
        if counts.max() > cc.errors.EXACT // len(counts):
            raise cc.errors.fail(name, "of 2^53 votes at most", int(counts.max()), remedy)
    cc.errors.real("seconds", votes.seconds, ">= 0", lambda x: x >= 0, remedy=remedy)
    for name in STEPS:
        if (listed := getattr(votes, name)) is not None:
            cc.errors.integers(name, listed, 0, remedy=remedy)


def _total(name: str, counts: Counts, expected: int, votes: Votes) -> None:
    total = int(np.sum(counts))
    if total != expected or np.min(counts) < 0:
        remedy = f"input {votes.index} was not counted by the run's plan"
        raise cc.errors.fail(name, f"votes that sum to {expected}", total, remedy)


def _absent(votes: Votes, *kept: str) -> None:
    """Refuse what is kept of plans that keep something else than this one."""
    for name in (*STEPS, "router"):
        if name not in kept and (given := getattr(votes, name)) is not None:
            raise cc.errors.fail(name, "absent from a run of this plan", given, "drop it")


def _samples(n0: int, n: int) -> None:
    for name, value in (("n0", n0), ("n", n)):
        integer(name, value, 1)


@dataclass(frozen=True)
class _Fields:
    """A plan whose fields are plain values."""

    kind: ClassVar[str]
    counts: ClassVar[tuple[str, ...]] = ()  # what of it bounds read
    steps: ClassVar[str] = "looks"  # the field of Votes that is kept beside the two stages

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; from_dict reads it."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The plan whose to_dict this was."""
        return cls(**{key: value for key, value in values.items() if key != "kind"})


@dataclass(frozen=True)
class FixedPlan(_Fields):
    """n0 selection and n estimation samples an input, whatever the votes.

    Such counts may be read at any alpha, attack and radius.
    """

    n0: int
    n: int
    kind: ClassVar[str] = "fixed"
    counts: ClassVar[tuple[str, ...]] = ("votes", "classes")

    def __post_init__(self) -> None:
        _samples(self.n0, self.n)

    def check(self, votes: Votes) -> None:
        """Refuse votes that this plan cannot have cast."""
        check_numbers(votes)
        _total("selection", votes.selection, self.n0, votes)
        _total("estimation", votes.estimation, self.n, votes)
        _absent(votes)


@dataclass(frozen=True)
class ScorePlan(_Fields):
    """n0 selection and n estimation samples an input, scored in [0, 1] instead of voted on.

    Counts hold sums of scores, those of the estimation for the selected class alone, whose
    scores are kept; they may be read at any alpha, attack and radius.
    """

    n0: int
    n: int
    kind: ClassVar[str] = "scores"
    counts: ClassVar[tuple[str, ...]] = ("scores",)
    steps: ClassVar[str] = "scores"

    def __post_init__(self) -> None:
        _samples(self.n0, self.n)

    def check(self, votes: Votes) -> None:
        """Refuse scores that this plan cannot have given."""
        check_numbers(votes)
        _absent(votes, "scores")
        scores = votes.scores or ()
        if len(scores) != self.n or min(scores) < 0 or max(scores) > SCORE_UNIT:
            rule = f"{self.n} numbers in 0 .. {SCORE_UNIT}"
            remedy = f"input {votes.index} was not scored by the run's plan"
            raise cc.errors.fail("scores", rule, f"{len(scores)} numbers", remedy)
        _total("estimation", votes.estimation, int(votes.estimation[votes.selected]), votes)
        _total("estimation", votes.estimation, sum(scores), votes)
        if votes.selection.min() < 0 or votes.selection.sum() > self.n0 * SCORE_UNIT:
            rule = f"sums of {self.n0} scores a class"
            raise cc.errors.fail(
                "selection", rule, votes.selection.tolist(), "sum the run's own scores"
            )


@dataclass(frozen=True)
class ShellPlan(_Fields):
    """n0 selection and n estimation samples an input, the latter told apart by |z|.

    Attributes
    ----------
    thresholds : tuple of float
        Norms between the shells, in input units, fixed before any vote.
    """

    n0: int
    n: int
    thresholds: tuple[float, ...]
    kind: ClassVar[str] = "shells"
    counts: ClassVar[tuple[str, ...]] = ("shells", "votes", "classes")
    steps: ClassVar[str] = "shells"

    def __post_init__(self) -> None:
        _samples(self.n0, self.n)
        rule, remedy = "rising numbers > 0", "pass what shell_thresholds returned"
        edges = cc.errors.array(
            "thresholds", self.thresholds, "> 0", lambda x: (x > 0) & np.isfinite(x), remedy=remedy
        )
        if edges.ndim != 1 or not edges.size or (np.diff(edges) <= 0).any():
            raise cc.errors.fail("thresholds", rule, self.thresholds, remedy)
        object.__setattr__(self, "thresholds", tuple(edges.tolist()))

    def check(self, votes: Votes) -> None:
        """Refuse votes that this plan cannot have cast."""
        check_numbers(votes)
        _total("selection", votes.selection, self.n0, votes)
        _total("estimation", votes.estimation, self.n, votes)
        _absent(votes, "shells")
        shells = len(self.thresholds) + 1
        cast, drawn = self.by_shell(votes)
        fits = len(cast) == len(drawn) == shells and all(
            k <= n for k, n in zip(cast, drawn, strict=True)
        )
        if not fits or sum(drawn) != self.n or sum(cast) != votes.estimation[votes.selected]:
            rule = f"votes for the selected class, then samples, of {shells} shells that sum alike"
            remedy = f"input {votes.index} was not counted by the run's plan"
            raise cc.errors.fail("shells", rule, votes.shells, remedy)

    def by_shell(self, votes: Votes) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(votes for the selected class, samples) of each shell."""
        listed, shells = votes.shells or (), len(self.thresholds) + 1
        return tuple(listed[:shells]), tuple(listed[shells:])


@dataclass(frozen=True)
class AllPlan(_Fields):
    """All copies that a noise makes of an input, counted: nothing is drawn, and alpha is 0.

    Such counts are certified as whole numbers (certify_deterministic), under "l1".

    Attributes
    ----------
    n : int
        How many copies there are.
    """

    n: int
    kind: ClassVar[str] = "all"
    n0: ClassVar[int] = 0

    def __post_init__(self) -> None:
        integer("n", self.n, 1)

    def check(self, votes: Votes) -> None:
        """Refuse votes that this plan cannot have cast."""
        check_numbers(votes)
        _total("selection", votes.selection, 0, votes)
        _total("estimation", votes.estimation, self.n, votes)
        _absent(votes)


@dataclass(frozen=True)
class SequentialPlan:
    """n0 selection samples, then estimation samples until a test at one of the looks stops.

    Its counts hold for its own decisions alone: stopped early, they are no sample of fixed
    size, and an interval for one would miss about twice as often as it says.

    Attributes
    ----------
    rule : cc.sequential.RadiiPlan or cc.sequential.WidthPlan
        Radii or width, thresholds, alpha, n0 and looks.
    """

    rule: cc.sequential.RadiiPlan | cc.sequential.WidthPlan
    kind: ClassVar[str] = "sequential"
    counts: ClassVar[tuple[str, ...]] = ()
    steps: ClassVar[str] = "looks"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; from_dict reads it."""
        values = self.rule.to_dict()
        return {**values, "test": values["kind"], "kind": self.kind}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The plan whose to_dict this was."""
        rest = {key: value for key, value in values.items() if key != "test"}
        return cls(cc.sequential.plan_from_dict({**rest, "kind": values.get("test")}))

    def check(self, votes: Votes) -> None:
        """Refuse votes that this plan cannot have cast."""
        check_numbers(votes)
        _absent(votes, "looks")
        sizes, looks = self.rule.looks, votes.looks
        _total("selection", votes.selection, self.rule.n0, votes)
        if looks is None or not 1 <= len(looks) <= len(sizes):
            remedy = "pass those of the looks taken"
            raise cc.errors.fail("looks", f"the votes at 1 to {len(sizes)} looks", looks, remedy)
        _total("estimation", votes.estimation, sizes[len(looks) - 1], votes)
        final = int(votes.estimation[votes.selected])
        if looks[-1] != final or list(looks) != sorted(looks) or looks[0] < 0:
            rule = f"non-decreasing and end at the {final} votes of the selected class"
            raise cc.errors.fail("looks", rule, looks, "pass the running votes")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The router of a routed run, or one of its branches.

    Attributes
    ----------
    plan : SampledPlan
    noise : Noise
    model, model_fingerprint : str, as of a Run
    labels : tuple of int
        Of a router: the branch of each label of its model; empty where the labels are branches.
    """

    plan: Plan
    noise: cc.Noise
    model: str
    model_fingerprint: str
    labels: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; from_dict reads it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"plan": self.plan.to_dict(), "noise": self.noise.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The part whose to_dict this was."""
        plan, noise = plan_from_dict(values["plan"]), cc.noise_from_dict(values["noise"])
        rest = {**values, "plan": plan, "noise": noise, "labels": tuple(values["labels"])}
        return cls(**rest)


@dataclass(frozen=True)
class RoutedPlan:
    """A router by its plan, then its branch by that one's, each at half of alpha.

    The branch is asked where the router is certified at the run's own alpha; read at a larger
    one, inputs without its votes abstain.

    Attributes
    ----------
    router : Part
    branches : tuple of Part
    """

    router: Part
    branches: tuple[Part, ...]
    kind: ClassVar[str] = "routed"
    steps: ClassVar[str] = "looks"  # of its parts: theirs

    def __post_init__(self) -> None:
        remedy = "give each a noise and as many samples as it needs"
        for part in (self.router, *self.branches):
            if not isinstance(part, Part) or not isinstance(part.plan, SampledPlan):
                raise cc.errors.fail("plan", "of parts that sample", part, remedy)
        if len(self.branches) < 2 or len({part.plan.kind for part in self.branches}) > 1:
            got = [part.plan.kind for part in self.branches]
            raise cc.errors.fail("branches", "two or more, of one kind of plan", got, remedy)
        count, labels = len(self.branches), self.router.labels
        if labels and set(_whole(labels, count)) != {*range(count)}:
            rule = f"the branch of each label, all of 0 to {count - 1} among them"
            raise cc.errors.fail("labels", rule, list(labels), "drop a branch that nothing gets")

    @property
    def counts(self) -> tuple[str, ...]:
        """What of the branches' votes bounds read."""
        return self.branches[0].plan.counts

    @property
    def n0(self) -> int:
        """Selection samples of an input, router and branch together, at most."""
        return _sizes(self.router)[0] + max(_sizes(part)[0] for part in self.branches)

    @property
    def n(self) -> int:
        """Estimation samples, the same."""
        return _sizes(self.router)[1] + max(_sizes(part)[1] for part in self.branches)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; from_dict reads it."""
        branches = [part.to_dict() for part in self.branches]
        return {"kind": self.kind, "router": self.router.to_dict(), "branches": branches}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The plan whose to_dict this was."""
        branches = tuple(map(Part.from_dict, values["branches"]))
        return cls(Part.from_dict(values["router"]), branches)

    def check(self, votes: Votes) -> None:
        """Refuse votes that this plan cannot have cast."""
        if not isinstance(votes.router, Votes):
            remedy = f"input {votes.index} was not counted by the run's plan"
            raise cc.errors.fail("router", "votes of the router", votes.router, remedy)
        if not was_sent(votes):
            check_numbers(votes)
            _absent(votes, "router")


def _whole(labels: tuple[int, ...], count: int) -> list[int]:
    """The labels as numbers of branches."""
    remedy = "list the branch of each label"
    return cc.errors.integers("labels", labels, 0, count - 1, remedy=remedy)


def was_sent(votes: Votes) -> bool:
    """Whether a branch was asked of a routed input."""
    return bool(np.any(votes.selection) or np.any(votes.estimation) or votes.failed)


def _sizes(part: Part) -> tuple[int, int]:
    plan = part.plan
    return (plan.rule.n0, plan.rule.looks[-1]) if isinstance(plan, SequentialPlan) else (
        plan.n0, plan.n
    )  # fmt: skip


@dataclass(frozen=True)
class LogPlan(_Fields):
    """A published log: certificates without counts, as somebody stated them.

    Attributes
    ----------
    n0, n : int
        Samples an input, as stated.
    attack : str
        Whose norm the radii are in.
    alpha : float
        Failure probability an input, as stated; no other can be read from a log.
    """

    n0: int
    n: int
    attack: str
    alpha: float
    kind: ClassVar[str] = "log"

    def __post_init__(self) -> None:
        if not cc.errors.estimates_nothing(self.alpha):
            # else of all copies; the run knows whether its noise has such
            _samples(self.n0, self.n)
            cc.errors.alpha(self.alpha)
        cc.threats.attack_name(self.attack)

    def check(self, votes: Votes) -> None:
        """Refuse all votes."""
        raise cc.errors.fail("run", "one of counts", "a published log", "name another run")


CODE = "-code-"  # in the fingerprint of a model, between the digests of its content and its code

SampledPlan = FixedPlan | ScorePlan | ShellPlan | SequentialPlan
Plan = SampledPlan | AllPlan | RoutedPlan | LogPlan
PLANS: dict[str, type[Plan]] = {
    "fixed": FixedPlan,
    "scores": ScorePlan,
    "shells": ShellPlan,
    "all": AllPlan,
    "sequential": SequentialPlan,
    "routed": RoutedPlan,
    "log": LogPlan,
}


def plan_from_dict(values: dict[str, Any]) -> Any:
    """The plan whose to_dict this was.

    Raises
    ------
    ValueError
        A kind of plan that this version does not know.
    """
    kind = values.get("kind")
    if kind not in PLANS:
        known = ", ".join(PLANS)
        raise cc.errors.fail(
            "plan", f"of kind {known}", kind, "read it with the version that wrote it"
        )
    return PLANS[kind].from_dict(values)


def all_copies(noise: cc.Noise) -> int | None:
    """How many copies of an input there are, where nothing is drawn; None where they are drawn."""
    return noise.copies if isinstance(noise, cc.Splitting) else None


def check_alpha(plan: Plan, noise: cc.Noise, attack: str, alpha: float) -> None:
    """Refuse a failure probability that is none, or 0 where something is estimated."""
    whole = isinstance(plan, AllPlan)
    if not whole and not (isinstance(plan, LogPlan) and alpha == 0):
        cc.errors.alpha(alpha)
        return
    if getattr(plan, "n", None) != all_copies(noise):
        rule = f"as many as {noise!r} makes of an input ({all_copies(noise)}) for alpha 0"
        raise cc.errors.fail("n", rule, getattr(plan, "n", None), "count all copies")
    if alpha != 0:
        raise cc.errors.fail("alpha", "0 where all copies are counted", alpha, "leave it out")
    if attack != "l1":
        raise cc.errors.fail("attack", "l1 where all copies are counted", attack, "choose that")


def bound_for(plan: Plan, name: str | None = None) -> str | None:
    """The name of the bound that reads what a plan counts: that given, or the first of its kind;
    None where no bound reads it, but the plan's own rule."""
    fitting = [key for read in plan.counts for key, how in cc.BOUNDS.items() if how.reads == read]
    if name is not None and name not in fitting:
        rule = f"one that reads counts of the plan {plan.kind!r} ({', '.join(fitting) or 'none'})"
        raise cc.errors.fail("bound", rule, name, "choose another bound, or other runs")
    return name or (fitting[0] if fitting else None)


def bound_column(name: str | None) -> dict[str, str]:
    """The column of a log that tells a bound, where it is no plan's first."""
    firsts = {bound_for(plan) for plan in (FixedPlan(1, 1), ScorePlan(1, 1))}
    return {} if name is None or name in firsts else {"bound": name}


def columns_of(bound: str | None, alpha: float) -> dict[str, str]:
    """The columns that a log has besides: its bound, and alpha where that is 0."""
    return bound_column(bound) | ({"alpha": "0"} if alpha == 0 else {})


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that decides the counts of a run, and how they are read by default.

    Attributes
    ----------
    plan : FixedPlan, ScorePlan, ShellPlan, AllPlan, SequentialPlan, RoutedPlan or LogPlan
    noise : Noise
        Of a routed run the router's.
    seed, batch_size, num_classes : int
        batch_size 0: found by trial (no vote depends on it).
    model, data : str
        Names as given.
    model_fingerprint, data_fingerprint : str
        Digests of what was behind those names.
    attack, alpha
        Defaults for reading; they decide no count of a run of fixed n.
    sound : Lattice, or None
        That of sound mode; None in float mode.
    quantized : bool
        In sound mode, whether inputs are moved to the lattice: then what `cost` says is taken off
        every radius.
    """

    plan: Plan
    noise: cc.Noise
    seed: int
    batch_size: int
    num_classes: int
    model: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    attack: str
    alpha: float
    sound: cc.Lattice | None = None
    quantized: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.plan, Plan):
            raise cc.errors.fail("plan", "a sampling plan", self.plan, "e.g. FixedPlan(100, 1000)")
        cc.noises.checked_noise(self.noise)
        for name in ("model", "model_fingerprint", "data", "data_fingerprint"):
            cc.errors.text(name, getattr(self, name))
        integer("seed", self.seed, 0, 2**32 - 1)
        for name, most in (("batch_size", None), ("num_classes", cc.votes.CLASSES)):
            integer(name, getattr(self, name), 0, most)
        cc.threats.attack_name(self.attack)
        check_alpha(self.plan, self.noise, self.attack, self.alpha)
        if self.sound is not None:
            cc.lattice.checked_lattice("sound", self.sound).checked(self.noise)
            if isinstance(self.plan, ShellPlan):
                remedy = "count votes, or drop the lattice"
                rule = "None where samples are told apart by |z|, which no copy of a lattice has"
                raise cc.errors.fail("sound", rule, self.sound, remedy)
        if isinstance(self.plan, RoutedPlan):
            if self.plan.router.noise != self.noise:
                rule = f"the router's, {self.plan.router.noise!r}"
                raise cc.errors.fail("noise", rule, self.noise, "pass that")
            cc.routing.check_one_measure(self.noise, [each.noise for each in self.plan.branches])
            len(self.parts)  # which are checked as they are made
        if cc.errors.flag("quantized", self.quantized) and self.sound is None:
            raise cc.errors.fail("quantized", "False in float mode", True, "name the lattice")

    @cached_property
    def parts(self) -> tuple[Run, ...]:
        """Of a routed run those of its router and of its branches, each at half of alpha."""
        plan = self.plan
        if not isinstance(plan, RoutedPlan):
            return ()
        router = dataclasses.replace(
            self._of(plan.router), num_classes=len(plan.branches),
            seed=cc.routing.router_seed(self.seed),
        )  # fmt: skip
        return router, *map(self._of, plan.branches)

    def _of(self, part: Part) -> Run:
        """The run of one part, as if it were alone."""
        return dataclasses.replace(
            self, plan=part.plan, noise=part.noise, model=part.model,
            model_fingerprint=part.model_fingerprint, alpha=cc.routing.halves(self.alpha),
        )  # fmt: skip

    @property
    def mode(self) -> str:
        """The mode in the words of logs, which lattice_of reads; "" for float mode."""
        return "" if self.sound is None else mode_name(self.sound, self.quantized)

    def cost(self, attack: str) -> float:
        """What is taken off every radius: inputs and perturbed inputs may both be off the lattice
        where they are quantised."""
        if self.sound is None or not self.quantized:
            return 0.0
        return self.sound.cost(attack, self.noise.dim, perturbed_off=True)

    def to_json(self) -> str:
        """What decides the counts, as canonical JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["attack"], values["alpha"]
        values["plan"] = self.plan.to_dict()
        values["noise"] = self.noise.to_dict()
        del values["sound"], values["quantized"]
        if self.sound is not None:  # records of float mode stay as they were before there was one
            values["sound"] = {**self.sound.to_dict(), "quantized": self.quantized}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, attack: str, alpha: float) -> Self:
        """The run whose to_json this was.

        Raises
        ------
        ValueError
            A kind of plan that this version does not know, or values that no run has.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or not isinstance(values.get("plan"), dict):
            raise cc.errors.fail("run", "a record of a plan", values, "restore it from a copy")
        plan = values.pop("plan")
        values["noise"] = cc.noise_from_dict(values.get("noise", {}))
        try:
            if "sound" in values:
                mode = dict(values.pop("sound"))
                values["quantized"] = mode.pop("quantized")
                values["sound"] = cc.Lattice(**mode)
            return cls(plan=plan_from_dict(plan), attack=attack, alpha=alpha, **values)
        except (TypeError, KeyError) as error:  # fields that are missing, or too many
            raise cc.errors.fail("run", "a record of a run", str(error), "restore it") from None

    def differences(self, other: Run) -> list[str]:
        """How another run differs in what decides the counts: "n 200 instead of 100".

        The names of data, and of a model that is a file, may change where the fingerprints
        agree: another machine has them elsewhere.  A record from before fingerprints told code
        is held to the content alone.
        """
        mine, theirs = (_flat(json.loads(run.to_json())) for run in (self, other))
        told = "model_fingerprint"
        if (CODE in mine[told]) != (CODE in theirs[told]):
            mine[told], theirs[told] = (
                re.sub(f"{CODE}[0-9a-f]+", "", values[told]) for values in (mine, theirs)
            )
        if self.plan.kind != other.plan.kind:
            return [f"plan.kind {other.plan.kind!r} instead of {self.plan.kind!r}"]
        for name in ("data", *(key for key in mine if key.rpartition(".")[2] == "model")):
            both = mine[name], theirs.get(name, "")
            if name != "data" and ":" in "".join(both):
                continue
            if mine[f"{name}_fingerprint"] == theirs.get(f"{name}_fingerprint") != "":
                del mine[name], theirs[name]
        return [
            f"{name} {theirs.get(name)!r} instead of {mine.get(name)!r}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested records as one, by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        records = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        within = dict(enumerate(value)) if records else value
        inner = _flat(within).items() if isinstance(within, dict) else ()
        flat.update({f"{name}.{key}": item for key, item in inner} or {name: value})
    return flat

"""A noise for each input, chosen by a router that is smoothed and certified itself.

Let G be a smoothed classifier of inputs into branches 0..m-1, and F_i one smoothed by the noise
of branch i.  The routed classifier is H(x) = F_G(x)(x).  Where G is certified to say i within
R_0, and F_i to say c within R_i, H says c within min(R_0, R_i): all over that ball it is F_i.
A false H needs a false certificate of G or of F_i, each at half of alpha.  Branch i is chosen by
the router's votes, so the branches' samples must be others: then what they bound is bounded
whatever was chosen.  What the router alone says at x certifies nothing: beside x it may say
another branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from cert_core import records
from cert_core.certificates import (
    ABSTAIN,
    Certificates,
    bound_named,
    certify,
    check_sampling,
    checked_certificates,
    two_samples,
)
from cert_core.channels import noise_from_dict
from cert_core.confidence import Counts, split_alpha
from cert_core.errors import Float, fail, integer, items, to_numpy
from cert_core.noises import Noise, checked_noise
from cert_core.provenance import Drawn, check_apart, rows_apart
from cert_core.smoothed import SAMPLES, Smoothed
from cert_core.threats import attack_name
from cert_core.votes import Progress, checked_progress, input_indices

APART = "of other samples than the router's"
ANEW = "count the router's votes by another seed: what chooses a noise may not certify under it"
VERBS = {
    "votes": "certify", "classes": "certify", "shells": "certify_shells",
    "scores": "certify_scores",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RoutedCertificates(Certificates):
    """Certificates of a routed classifier; noise is the router's, p_lower the branch's.

    Attributes
    ----------
    branch : (N,) int64
        Where the router is certified to send the input, or ABSTAIN.
    p_router : (N,) float64
        Lower confidence bound of the probability that it sends it there.
    noises : tuple of Noise
        Those of the branches.
    samples : (N,) int64
        Noisy copies classified of each input, by the router and by the branch that it got.

    Examples
    --------
    >>> votes = np.array([[10, 990], [520, 480]])
    >>> router = cc.certify(votes // 10, votes, cc.Gaussian(4, 0.5), "l2", alpha=0.0005)
    >>> branch = cc.certify(votes[:1] // 10, votes[:1], cc.Gaussian(4, 1.0), "l2", alpha=0.0005)
    >>> noises = [cc.Gaussian(4, 0.25), cc.Gaussian(4, 1.0)]
    >>> made = cc.routing.join_routed(router, [None, branch], noises)
    >>> made.branch.tolist(), made.label.tolist(), made.samples.tolist()
    ([1, -1], [1, -1], [2200, 1100])
    """

    branch: Counts
    p_router: Float
    noises: tuple[Noise, ...]
    samples: Counts

    @cached_property
    def _stretches(self) -> list[tuple[Drawn, ...]]:
        """The samples of each input: the router's, then those of its branch."""
        of_each: dict[int, list[Drawn]] = {}
        for part in self.drawn:
            for place, index in enumerate(part.indices):
                of_each.setdefault(index, []).append(part.of([place]))
        found = [tuple(same) for same in of_each.values()]
        return rows_apart(found, self.drawn, len(self)) if found else []

    _READ: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **records.READ, "noises": lambda listed: tuple(map(noise_from_dict, listed)),
    }  # fmt: skip


def halves(alpha: float) -> float:
    """What the router gets of alpha, and each branch."""
    return split_alpha(alpha, (1, 1))[0]


def router_seed(seed: int) -> int:
    """The seed of a router's samples, where `seed` is that of its branches'."""
    remedy = "pass any 32-bit unsigned integer"
    return integer("seed", seed, 0, 2**32 - 1, remedy=remedy) ^ 1 << 31


def check_one_measure(router: Noise, branches: Sequence[Noise]) -> None:
    """Refuse noises that are not of one input, or whose radii are norms of different things."""
    for noise in map(checked_noise, branches):
        if noise.dim != router.dim:
            remedy = "route inputs of one size"
            raise fail("noise.dim", f"{router.dim}, that of the router", noise.dim, remedy)
        mine, theirs = (np.ones(1) if n.stretch is None else n.stretch for n in (router, noise))
        if not np.array_equal(np.broadcast_to(mine, noise.dim), np.broadcast_to(theirs, noise.dim)):
            rule = "stretched alike, router and branches: the smaller of two norms is none of them"
            raise fail("noise", rule, noise, "give all the same scales")


def certify_routed(
    router_votes: Any,
    branch_votes: Any,
    router_noise: Noise,
    branch_noises: Sequence[Noise],
    attack: str,
    *,
    alpha: float = 0.001,
    bound: str = "clopper-pearson",
    router_bound: str = "clopper-pearson",
) -> RoutedCertificates:
    """Certify inputs whose noise a certified router chooses, from the votes of all.

    Parameters
    ----------
    router_votes : (selection, estimation), two (N, m) integer arrays
        Votes for the m branches, as certify takes those for classes.
    branch_votes : m pairs (selection, estimation) of (N, C) integer arrays
        Votes of the classifier of each branch under its noise, of samples that are independent
        of the router's: of all inputs, or of those alone that the router is certified to send
        there, in their order; None for a branch that gets none.
    router_noise : Noise
    branch_noises : m noises, of any families
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    alpha : float in (0, 1/2]
        Failure probability of each certificate: half for the router, half for the branch.
    bound, router_bound : str
        Names of BOUNDS that read votes, for the branches and for the router.

    Returns
    -------
    RoutedCertificates
        An input abstains where the router does, or its branch.  The radius is the smaller of the
        router's and the branch's, never above the truth with probability 1 - alpha.

    Raises
    ------
    ValueError
        Votes that certify refuses, of the router's samples or of other inputs, or an argument
        out of its domain.
    UnsupportedPair
        No exact law for the attack and one of the noises.

    References
    ----------
    The text of this module, and docs/guides/routing.md, which proves it.

    Examples
    --------
    >>> router = np.array([[9, 91], [60, 40]]), np.array([[90, 910], [500, 500]])
    >>> branch = np.array([[3, 97]]), np.array([[20, 980]])  # of the input that gets it
    >>> by, noises = cc.Gaussian(4, 0.5), [cc.Gaussian(4, 0.25), cc.Gaussian(4, 1.0)]
    >>> made = cc.certify_routed(router, [None, branch], by, noises, "l2")
    >>> made.branch.tolist(), made.label.tolist()
    ([1, -1], [1, -1])
    >>> round(float(made.radius[0]), 3)
    0.579
    """
    level, share = attack_name(attack), halves(alpha)
    noises = items("branch_noises", branch_noises, "a noise a branch", remedy="pass a list")
    check_one_measure(checked_noise(router_noise), noises)
    pairs = items("branch_votes", branch_votes, "a pair of tables a branch", remedy="pass a list")
    if len(pairs) != len(noises):
        rule = f"one pair for each of the {len(noises)} noises"
        raise fail("branch_votes", rule, len(pairs), "pass None for a branch without inputs")
    chosen = _pair("router_votes", router_votes)
    router = certify(*chosen, router_noise, level, alpha=share, bound=router_bound)
    if to_numpy("router_votes", chosen[0]).shape[1] != len(noises):
        rule = f"votes for the {len(noises)} branches"
        raise fail("router_votes", rule, chosen[0], "count one column a branch")
    given = [None if pair is None else _pair("branch_votes", pair) for pair in pairs]
    _check_memory([*chosen, *(table for pair in given for table in pair or ())])
    branches = [
        None if pair is None else _branch(i, pair, noise, router, share, bound)
        for i, (pair, noise) in enumerate(zip(given, noises, strict=True))
    ]
    return replace(join_routed(router, branches, noises), alpha=alpha)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    rule, remedy = "a pair of tables, selection and estimation", "pass both stages"
    found = items(name, value, rule, remedy=remedy)
    if len(found) != 2:
        raise fail(name, rule, len(found), remedy)
    return found[0], found[1]


def _check_memory(tables: Sequence[Any]) -> None:
    """Refuse a table that is used twice, where none says what samples it is of."""
    arrays = [to_numpy("counts", table) for table in tables]
    if any(np.shares_memory(one, other) for one, other in combinations(arrays, 2)):
        raise fail("branch_votes", APART, "the same array", ANEW)


def _branch(
    number: int, votes: tuple[Any, Any], noise: Noise, router: Certificates, alpha: float,
    bound: str,
) -> Certificates:  # fmt: skip
    """Certificates of the inputs of a branch; of none, what would have been drawn."""
    _, _, n0, n, _ = two_samples(*votes, noise)
    rows = _rows_of(number, len(votes[0]), router)
    bound_named(bound, "votes", "classes")
    if n:
        check_sampling(noise, router.attack, n, alpha, bound=bound)
    kept = rows if len(votes[0]) == len(router) else np.arange(len(rows))
    first, second = (
        table[kept] if isinstance(table, np.ndarray) else to_numpy("counts", table)[kept]
        for table in votes
    )
    made = certify(first, second, noise, router.attack, alpha=alpha, bound=bound)
    return replace(made, n0=n0, n=n)


def _rows_of(number: int, count: int, router: Certificates) -> Counts:
    """Which inputs the router sends to a branch, of which there must be so many or all."""
    rows = np.flatnonzero(router.label == number)
    if count not in (len(rows), len(router)):
        rule = f"of all {len(router)} inputs, or of the {len(rows)} sent to branch {number}"
        raise fail("branch_votes", rule, count, "count those, or pass None for none")
    return rows


def join_routed(
    router: Certificates, branches: Sequence[Certificates | None], noises: Sequence[Noise]
) -> RoutedCertificates:
    """Put the certificates of a router and of its branches together.

    Whatever certified them, at whatever alpha: bounds of one class, of the runner-up or by
    shells, soft votes, sequential tests.

    Parameters
    ----------
    router : Certificates
        Its labels are numbers of branches.
    branches : m Certificates, of all inputs or of those of the branch in their order
        None for a branch that gets none.
    noises : m noises, those of the branches

    Returns
    -------
    RoutedCertificates
        alpha: the router's and the branch's (the largest one) together; n0 and n likewise.

    Raises
    ------
    ValueError
        Another attack, mode or measure than the router's, branches for other inputs, or samples
        of the router that a branch was certified by.

    Examples
    --------
    >>> votes = np.array([[10, 990]])
    >>> noises = [cc.L2Noise(4, 0.25, 1.0), cc.L2Noise(4, 1.0, 1.0)]
    >>> router = cc.certify(votes // 10, votes, cc.Gaussian(4, 0.5), "l2", alpha=0.0005)
    >>> edges = cc.shell_thresholds(noises[1], [0.5])
    >>> told = np.array([[[0, 500], [30, 470]]])
    >>> branch = cc.certify_shells(votes // 10, told, edges, noises[1], "l2", alpha=0.0005)
    >>> made = cc.routing.join_routed(router, [None, branch], noises)
    >>> bool(made.radius[0] == min(router.radius[0], branch.radius[0]))
    True
    """
    checked_certificates("router", router)
    given = items("branches", branches, "certificates a branch", remedy="pass a list")
    listed = [checked_noise(n) for n in items("noises", noises, "a list", remedy="pass noises")]
    if len(given) != len(listed) or router.label.max(initial=0) >= len(given):
        rule = f"one for each of the {len(listed)} noises, and for each label of the router"
        raise fail("branches", rule, len(given), "pass None for one without inputs")
    check_one_measure(router.noise, listed)
    count = len(router)
    label = np.full(count, ABSTAIN, dtype=np.int64)
    radius, p_lower, p_other = np.zeros(count), np.zeros(count), np.ones(count)
    failed = np.zeros(count, dtype=np.int64) if router.failed is None else router.failed.copy()
    drawn, parts, spent = list(router.drawn), [], _samples(router)
    for number, whole in enumerate(given):
        size = 0 if whole is None else _checked(whole, router, listed[number])
        rows = _rows_of(number, size, router)
        if whole is None:
            continue
        branch = whole if size == len(rows) else whole[rows]
        _check_inputs(number, branch, router, rows)
        parts.append(branch)
        label[rows], p_lower[rows] = branch.label, branch.p_lower
        radius[rows] = np.minimum(router.radius[rows], branch.radius)
        p_other[rows] = 1.0 if branch.p_other is None else branch.p_other
        failed[rows] += 0 if branch.failed is None else branch.failed
        spent[rows] += _samples(branch)
        drawn += branch.drawn
    check_apart("branches", APART, drawn, ANEW)
    radius = np.where(label == ABSTAIN, 0.0, radius)
    bounds = {part.bound for part in parts}
    told = [part.p_other is not None for part in parts]
    return RoutedCertificates(
        label=label, radius=radius, p_lower=p_lower, branch=router.label, p_router=router.p_lower,
        noise=router.noise, noises=tuple(listed), attack=router.attack, tight=False,
        alpha=router.alpha + max((part.alpha for part in parts), default=0.0),
        n0=router.n0 + max((part.n0 for part in parts), default=0),
        n=router.n + max((part.n for part in parts), default=0),
        bound=bounds.pop() if len(bounds) == 1 else None,
        p_other=p_other if told and all(told) else None, samples=spent,
        drawn=tuple(drawn), sound=router.sound, failed=None if router.sound is None else failed,
    )  # fmt: skip


def _checked(branch: Any, router: Certificates, noise: Noise) -> int:
    """How many inputs a branch's certificates are of, if they can be joined with the router's."""
    checked_certificates("branches", branch)
    for name, wanted in (("attack", router.attack), ("sound", router.sound), ("noise", noise)):
        if getattr(branch, name) != wanted:
            rule = f"of {name} {wanted!r}, as router and noises say"
            raise fail("branches", rule, getattr(branch, name), "certify all of them alike")
    return len(branch)


def _samples(made: Certificates) -> Counts:
    """Copies classified of each input."""
    every: Counts = np.full(len(made), made.n0 + made.n, dtype=np.int64)
    return np.array(getattr(made, "samples", every))


def _check_inputs(number: int, branch: Certificates, router: Certificates, rows: Counts) -> None:
    """Refuse a branch of other inputs than the router's, where both say which."""
    if branch.drawn and router.drawn:
        mine, theirs = (records.places(each._stretches, len(each)) for each in (router, branch))
        if [mine[row] for row in rows] != theirs:
            rule = f"of the inputs that the router sent to branch {number}, in their order"
            raise fail("branches", rule, theirs[:5], "pass the same indices to both")


def _stage(progress: Progress | None, before: int, count: int, every: int) -> Progress | None:
    """What tells of `count` inputs after others, among all that router and branches are asked."""
    told = checked_progress(progress)
    if told is None:
        return None
    return lambda done, total: told(before + count * done // max(total, 1), every)


def _first(progress: Progress | None, x: Any) -> Progress | None:
    """The same of the router's."""
    count = len(x) if getattr(x, "ndim", hasattr(x, "__len__")) else 0
    return _stage(progress, 0, count, 2 * count)


class Routed:
    """Smoothed classifiers of which a smoothed router chooses one for each input.

    Parameters
    ----------
    router : Smoothed
        Its classes are the numbers of the branches.  What it smooths is any function of one
        noisy copy: a network of its own, or one of what the classifier says of that copy.
    branches : Smoothed classifiers, one or more, of the same classes
        Each under its own noise; the same classifier in all, or one for each noise.

    Raises
    ------
    ValueError
        Other classes than branches, or parts of different inputs, modes or measures.

    Notes
    -----
    x, indices, executor and progress as of Smoothed.  seed is that of the branches; the router's
    samples are drawn by another, router_seed(seed).  A branch is asked of the inputs that it gets
    alone.

    References
    ----------
    docs/guides/routing.md.

    Examples
    --------
    >>> left = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> low = lambda batch: (batch[:, 1] > 0).astype(int)
    >>> weak, strong = (cc.Smoothed(left, cc.Gaussian(2, sigma), 2) for sigma in (0.25, 1.0))
    >>> routed = cc.Routed(cc.Smoothed(low, cc.Gaussian(2, 0.5), 2), [weak, strong])
    >>> x = np.array([[0.5, -2.0], [0.5, 2.0], [0.5, 0.0]])
    >>> made = routed.certify(x, n0=100, n=1000, alpha=0.001, attack="l2", seed=0)
    >>> made.branch.tolist(), made.label.tolist()
    ([0, 1, -1], [1, 1, -1])
    """

    def __init__(self, router: Smoothed, branches: Sequence[Smoothed]) -> None:
        rule, remedy = "Smoothed classifiers, one a branch", "smooth each under its noise"
        parts = items("branches", branches, rule, remedy=remedy)
        for name, each in (("router", router), *(("branches", part) for part in parts)):
            if not isinstance(each, Smoothed):
                raise fail(name, "a Smoothed classifier", each, remedy)
        if router.num_classes != len(parts):
            rule = f"{router.num_classes}, the classes of the router"
            raise fail("branches", rule, len(parts), "make as many as it tells apart")
        for name in ("num_classes", "sound"):
            one = parts[0].num_classes if name == "num_classes" else router.sound
            for part in parts:
                if getattr(part, name) != one:
                    got = getattr(part, name)
                    raise fail("branches", f"of one {name}, {one}", got, "make them alike")
        check_one_measure(router.noise, [part.noise for part in parts])
        self.router, self.branches = router, tuple(parts)

    def predict(
        self,
        x: Any,
        n: int,
        alpha: float,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Counts:
        """Predict labels, abstaining where two branches or two classes are not told apart.

        Returns
        -------
        (N,) int64
            The routed classifier's label with probability 1 - alpha, or ABSTAIN; n copies for
            the router, and as many for the branch.
        """
        how = {"n": n, "alpha": halves(alpha), "executor": executor}
        tell = _first(progress, x)
        by = {"x": x, "seed": router_seed(seed), "indices": indices, "progress": tell, **how}
        sent = self.router.predict(**by)
        labels = np.full(len(sent), ABSTAIN, dtype=np.int64)
        for number, rows, part in self._sent(sent, x, seed, indices, progress):
            labels[rows] = self.branches[number].predict(**part, **how)
        return labels

    def certify(
        self,
        x: Any,
        n0: int,
        n: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
        bound: str = "clopper-pearson",
        router_bound: str = "clopper-pearson",
    ) -> RoutedCertificates:
        """Certify inputs: n0 copies select, n others bound, for the router and for its branch.

        Parameters
        ----------
        x, seed, indices : see above
        n0, n, alpha, attack
            As in certify; half of alpha each.
        bound, router_bound : str, of BOUNDS
            Of the branches any one, of the router one that reads votes.

        Returns
        -------
        RoutedCertificates
            See certify_routed.
        """
        n0, n = integer("n0", n0, 1, remedy=SAMPLES), integer("n", n, 1, remedy=SAMPLES)
        reads = bound_named(bound).reads
        how = {} if reads == "shells" else {"bound": bound}
        for part in self.branches:
            check_sampling(part.noise, attack, n, halves(alpha), bound=bound)
        sizes = {"n0": n0, "n": n, "attack": attack}
        first = {**sizes, "bound": router_bound}
        return self._joined(
            x, alpha, seed, indices, executor, progress, ("certify", first),
            (VERBS[reads], sizes | how),
        )  # fmt: skip

    def certify_at(
        self,
        x: Any,
        radii: Sequence[float] | float,
        n_max: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        n0: int = 100,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> RoutedCertificates:
        """Certify preset radii with as few copies as the router and the branch need.

        Returns
        -------
        RoutedCertificates
            See certify_at of Smoothed; n: the most copies of an input.
        """
        test = "certify_at", {"radii": radii, "n_max": n_max, "attack": attack, "n0": n0}
        return self._joined(x, alpha, seed, indices, executor, progress, test, test)

    def certify_until(
        self,
        x: Any,
        width: float,
        n_max: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        n0: int = 100,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> RoutedCertificates:
        """Certify full radii to a relative width with as few copies as both need.

        Returns
        -------
        RoutedCertificates
            See certify_until of Smoothed; n: the most copies of an input.
        """
        test = "certify_until", {"width": width, "n_max": n_max, "attack": attack, "n0": n0}
        return self._joined(x, alpha, seed, indices, executor, progress, test, test)

    def _joined(
        self,
        x: Any,
        alpha: float,
        seed: int,
        indices: Sequence[int] | None,
        executor: Executor | None,
        progress: Progress | None,
        first: tuple[str, dict[str, Any]],
        second: tuple[str, dict[str, Any]],
    ) -> RoutedCertificates:
        """What a verb of the router and one of the branches certify together."""
        by = {"alpha": halves(alpha), "executor": executor}
        verb, how = first
        tell = _first(progress, x)
        own = {"x": x, "seed": router_seed(seed), "indices": indices, "progress": tell}
        router = getattr(self.router, verb)(**own, **how, **by)
        verb, how = second
        made: list[Certificates | None] = [None] * len(self.branches)
        for number, _, part in self._sent(router.label, x, seed, indices, progress):
            made[number] = getattr(self.branches[number], verb)(**part, **how, **by)
        joined = join_routed(router, made, [part.noise for part in self.branches])
        return replace(joined, alpha=alpha)

    def _sent(
        self, sent: Counts, x: Any, seed: int, indices: Sequence[int] | None,
        progress: Progress | None,
    ) -> Iterator[tuple[int, Counts, dict[str, Any]]]:  # fmt: skip
        """The branches that get inputs; which rows of x, and what is asked of those."""
        places, before = input_indices(indices, len(sent)), len(sent)
        given = x if hasattr(x, "shape") else to_numpy("x", x)
        for number in range(len(self.branches)):
            rows = np.flatnonzero(sent == number)
            if len(rows):
                tell = _stage(progress, before, len(rows), 2 * len(sent))
                part = {"x": given[rows], "seed": seed, "indices": [places[i] for i in rows]}
                yield number, rows, {**part, "progress": tell}
                before += len(rows)
        if progress is not None and before < 2 * len(sent):
            progress(2 * len(sent), 2 * len(sent))

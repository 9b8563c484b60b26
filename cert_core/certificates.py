"""From votes to certificates: the two-stage procedure of Cohen et al. 2019 for any noise.

A first, small sample selects the class; a second, independent one bounds its
probability; the noise's exact law turns the bound into a radius.  All of alpha is
spent on the votes: exact laws spend nothing on the noise side.

certify bounds the class alone and lets all others together have the rest; certify_top_k
(k = 1: the runner-up) bounds the others as well, at half of alpha each; certify_scores
reads scores in [0, 1] where the others read votes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self, cast, overload

import numpy as np

from cert_core import records
from cert_core.bounds import complement_above, complement_below, required_probability
from cert_core.calibration import certified_radius
from cert_core.channels import Finite, check_independent
from cert_core.confidence import (
    Counts,
    betting_lower,
    binomial_lower,
    majority_p_value,
    votes_needed,
)
from cert_core.errors import (
    MOST_VOTES,
    Float,
    Number,
    array,
    check_callable,
    choice,
    fail,
    integer,
    items,
    real,
    scalar,
    size,
    to_numpy,
    vote_table,
    whole_numbers,
)
from cert_core.errors import alpha as alpha_value
from cert_core.lattice import Lattice
from cert_core.noises import Noise, checked_noise
from cert_core.provenance import (
    Drawn,
    check_apart,
    failed_copies,
    of_rows,
    one_mode,
    stretches,
)
from cert_core.rounding import in_full
from cert_core.separation import radii_apart
from cert_core.threats import COUNT, attack_name, is_tight
from cert_core.votes import CLASSES, one_class_each

ABSTAIN = -1


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no one truth
class Certificates:
    """What is certified of N inputs.

    Attributes
    ----------
    label : (N,) int64
        The certified class, or ABSTAIN.
    radius : (N,) float64
        No perturbation of this size, in the attack's norm and input units, changes the
        smoothed classifier's class; 0.0 for ABSTAIN, and for a class that is certified at the
        input alone (under "l0").  Never above the truth, with probability 1 - alpha for each
        input.
    p_lower : (N,) float64
        Lower confidence bound of the selected class's probability.
    alpha : float
        Failure probability of each input, all of it spent on the votes.
    n0, n : int
        Selection and estimation samples.
    noise, attack : the threat model
    tight : bool
        Whether the noise-side bound is the best possible one.
    bound : str or None
        Of BOUNDS, that p_lower is; None where something else gave it.
    p_other : (N,) float64, or None
        Upper confidence bound of the class that must stay below (the runner-up, or the
        k-th largest other one); None where 1 - p_lower stands for it.
    drawn : tuple of Drawn
        The samples behind the votes; empty where those do not say.
    sound : Lattice, or None
        The lattice of sound mode, between whose points the radius holds for what runs; None:
        float mode, whose radius is that of real-arithmetic semantics.
    failed : (N,) int64, or None
        Estimation copies that FAILed in sound mode, all counted against the class.

    Examples
    --------
    >>> counts = np.array([[90, 10], [20, 80], [50, 50]])
    >>> made = cc.certify(counts, 5 * counts, cc.Gaussian(4, 0.5), "l2", alpha=0.01)
    >>> made.label, made.radius.round(3)
    (array([ 0,  1, -1]), array([0.55 , 0.345, 0.   ]))
    >>> made[made.radius > 0.3].label
    array([0, 1])
    >>> made
    Certificates of 3 inputs, l2 attack, Gaussian(dim=4, sigma=0.5), alpha 0.01 each, n0 100, n 500
    input     label  radius   p_lower
        0         0  0.5504  0.864531
        1         1  0.3452  0.755056
        2  abstains  0.0000  0.447155
    1 abstain; radii are rounded down
    """

    label: Counts
    radius: Float
    p_lower: Float
    alpha: float
    n0: int
    n: int
    noise: Noise
    attack: str
    tight: bool
    bound: str | None = None
    p_other: Float | None = None
    drawn: tuple[Drawn, ...] = field(default=(), repr=False)
    sound: Lattice | None = None
    failed: Counts | None = None

    _READ: ClassVar[Mapping[str, Callable[[Any], Any]]] = records.READ

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: Any) -> Self:
        """The certificates of some inputs (a place, a slice, a mask, places), each once."""
        chosen = records.chosen_rows(rows, len(self))
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays = {name: v[chosen] for name, v in values.items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays, drawn=of_rows(self._stretches, chosen))

    def __iter__(self) -> Iterator[Self]:
        return (self[place] for place in range(len(self)))

    @cached_property
    def _stretches(self) -> list[tuple[Drawn, ...]]:
        return stretches(self.drawn, len(self))

    @property
    def _places(self) -> list[int]:
        """The inputs' places in their data set, where the samples tell them."""
        try:
            return records.places(self._stretches, len(self))
        except ValueError:
            return list(range(len(self)))

    def __array__(self, *_: Any, **__: Any) -> Any:
        """No one array: NumPy would ask for items of items of items."""
        remedy = "pass .label, .radius or .p_lower"
        raise TypeError(str(fail("the argument", "an array", type(self).__name__, remedy)))

    def __repr__(self) -> str:
        return records.as_text(self)

    def _repr_html_(self) -> str:
        return records.as_html(self)

    def to_pandas(self) -> Any:
        """Make a pandas.DataFrame of the certificates, a row an input.

        Returns
        -------
        pandas.DataFrame
            A column an array, the inputs' places in their data set as index where the votes
            tell them; what is said of all (noise, attack, alpha, ...) in its attrs, as plain
            values.  The samples drawn are not in it.

        Raises
        ------
        BackendMissing
            pandas is not installed.
        """
        return records.as_pandas(self, self._places)

    def save(self, path: Any) -> None:
        """Write the certificates to a new .npz file, with a digest.

        Parameters
        ----------
        path : path of a file that does not exist yet

        Raises
        ------
        ValueError
            There is such a file.
        """
        records.save(self, path)

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read certificates that save wrote.

        Parameters
        ----------
        path : path of the file

        Returns
        -------
        Certificates
            Equal to those saved, in every array and field.

        Raises
        ------
        ValueError
            Another file, or one that was changed since, or of another kind of certificates.
        """
        return cast(Self, records.load(cls, path, cls._READ))


def vote_counts(name: str, counts: Any) -> tuple[Counts, int]:
    """counts as (N, C) int64 whose rows, with their FAILs, have one sum, and that sum."""
    given = to_numpy(name, counts)
    rule = "an (n_inputs, n_classes) array of vote counts"
    remedy = "pass what count_votes returned"
    if given.ndim != 2 or given.shape[1] < 2 or not np.issubdtype(given.dtype, np.integer):
        raise fail(name, rule, f"{given.dtype} of shape {given.shape}", remedy)
    table = vote_table(name, given)
    if (table < 0).any():
        raise fail(name, "non-negative", int(table.min()), remedy)
    sums = table.sum(axis=1) + failed_copies(counts, len(table))
    if (table.sum(axis=1, dtype=np.float64) > MOST_VOTES).any():
        raise fail(name, "of fewer than 2^53 votes per input", "more", remedy)
    if len(sums) and (sums.min() != sums.max() or sums[0] == 0):
        rule = "of one positive number of votes per input"
        raise fail(name, rule, f"rows that sum to {int(sums.min())} and {int(sums.max())}", remedy)
    return table, int(sums[0]) if len(sums) else 0


def certify(
    counts_selection: Any,
    counts_estimation: Any,
    noise: Noise,
    attack: str,
    *,
    alpha: float = 0.001,
    bound: str = "clopper-pearson",
) -> Certificates:
    """Certify inputs from the votes of two independent samples.

    Parameters
    ----------
    counts_selection, counts_estimation : (N, C) integer arrays
        Votes of n0 selection and n estimation samples, drawn independently.
    noise : Noise
        The noise the votes were cast under.
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    alpha : float in (0, 1/2]
        Failure probability of each certificate.
    bound : str
        A name of BOUNDS that reads votes; one that reads those of all classes, "runner-up", is
        certify_top_k with k = 1.

    Returns
    -------
    Certificates
        An input abstains where the lower bound is not above 1/2.

    Raises
    ------
    ValueError
        Counts that are no votes or do not sum alike, or n too small to certify anything.
    UnsupportedPair
        No exact law for the pair.

    References
    ----------
    Cohen et al. 2019, CERTIFY; Zhang et al. 2020, Theorem 1.

    Examples
    --------
    >>> selection, estimation = np.array([[45, 5], [9, 41]]), np.array([[900, 100], [200, 800]])
    >>> made = cc.certify(selection, estimation, cc.Gaussian(4, 0.5), "l2", alpha=0.001)
    >>> made.label, made.radius.round(3)
    (array([0, 1]), array([0.557, 0.351]))
    """
    how = bound_named(bound, "votes", "classes")
    if how.reads == "classes":
        counts = counts_selection, counts_estimation
        return certify_top_k(*counts, noise, attack, alpha=alpha, bound=bound)
    level = alpha_value(alpha)
    selection, estimation, n0, n, drawn = two_samples(counts_selection, counts_estimation, noise)
    if len(estimation):
        check_sampling(noise, attack, n, level, bound=bound)
    top = selection.argmax(axis=1)
    p_lower = np.asarray(how.lower(_votes_of(estimation, top), n, how.share * level))
    radius = np.asarray(certified_radius(p_lower, noise, attack))
    return certified_record(
        top, p_lower > 0.5, radius, noise, attack,
        p_lower=p_lower, bound=bound, alpha=level, n0=n0, n=n, drawn=drawn,
        **mode_of(drawn, counts_estimation),
    )  # fmt: skip


def certified_record(
    top: Counts, ahead: Any, radius: Float, noise: Noise, attack: str, **values: Any
) -> Certificates:
    """The record of classes that are certified: within some radius; or at the input itself, where
    a radius counts entries and 0 is one."""
    label = np.where(ahead if attack == COUNT else radius > 0, top, ABSTAIN).astype(np.int64)
    tight = is_tight(noise, attack_name(attack))
    return Certificates(
        label=label, radius=radius, noise=noise, attack=attack, tight=tight, **values
    )


def mode_of(drawn: tuple[Drawn, ...], estimation: Any) -> dict[str, Any]:
    """What certificates say of the mode that these votes were drawn in."""
    sound = one_mode("votes", drawn)
    failed = None if sound is None else failed_copies(estimation, len(estimation))
    return {"sound": sound, "failed": failed}


def check_sampling(
    noise: Noise, attack: str, n: int, alpha: float, *, k: int | None = None,
    bound: str = "clopper-pearson",
) -> None:  # fmt: skip
    """Refuse, before any sampling, what could certify nothing.

    Parameters
    ----------
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    n : int, estimation samples an input
    alpha : float in (0, 1/2]
    k : int >= 1, optional
        Where certify_top_k will read the votes, by "runner-up".
    bound : str, of BOUNDS

    Raises
    ------
    ValueError
        n unanimous votes would not suffice, or an argument out of its domain.
    UnsupportedPair
        No exact law for the pair.

    Examples
    --------
    >>> cc.certificates.check_sampling(cc.Gaussian(4, 1.0), "l2", 100, 0.001)  # enough
    >>> cc.certificates.check_sampling(cc.Gaussian(4, 1.0), "l2", 5, 0.001)
    Traceback (most recent call last):
        ...
    ValueError: n must be at least 10 for alpha = 0.001, got 5: draw more samples
    """
    required_probability(noise, attack, 0.0)
    how = bound_named(bound if k is None else "runner-up")
    level = how.share * alpha_value(alpha)
    ahead = 1 if k is None else size("k", k, 1, CLASSES, remedy="pass a count")
    n = integer("n", n, 0, remedy="pass how many samples estimate")
    needed = how.needed(level, 1.0 / (ahead + 1))
    if n < needed:
        raise fail("n", f"at least {needed} for alpha = {in_full(level)}", n, "draw more samples")


def two_samples(
    selection: Any, estimation: Any, noise: Noise
) -> tuple[Counts, Counts, int, int, tuple[Drawn, ...]]:
    """Both tables of votes, of one shape, their votes an input, and their samples."""
    first, n0 = vote_counts("counts_selection", selection)
    second, n = vote_counts("counts_estimation", estimation)
    rule = "votes of other samples than counts_selection"
    remedy = "count both stages: a class chosen and bounded by the same votes is bounded too high"
    one, other = (to_numpy("counts", counts) for counts in (selection, estimation))
    if selection is estimation or np.shares_memory(one, other):
        raise fail("counts_estimation", rule, "the same array", remedy)
    drawn = drawn_under(noise, selection, estimation)
    check_apart("counts_estimation", rule, drawn, remedy)
    if first.shape != second.shape:
        rule = f"of the shape {first.shape} of counts_selection"
        raise fail("counts_estimation", rule, second.shape, "count both for the same inputs")
    return first, second, n0, n, drawn


def drawn_under(noise: Noise, *tables: Any) -> tuple[Drawn, ...]:
    """The samples that tables say they are of, all of which must be of this noise."""
    drawn = tuple(each for table in tables for each in getattr(table, "drawn", ()))
    one_mode("votes", drawn)
    strange = [each.noise for each in drawn if not same_law(each.noise, noise)]
    if strange:
        rule = f"that of the votes, {strange[0]!r}"
        raise fail("noise", rule, noise, "certify what was sampled")
    return drawn


def same_law(one: Noise, other: Noise) -> bool:
    """Whether two noises are one, be it of two families."""
    if checked_noise(one) == checked_noise(other):
        return True
    if one.dim != other.dim or isinstance(one, Finite) or isinstance(other, Finite):
        return False
    ones = np.ones(one.dim)
    mine, theirs = (ones if noise.stretch is None else noise.stretch for noise in (one, other))
    radial = one.radial is not None and one.radial == other.radial
    return np.array_equal(mine, theirs) and (one.record == other.record or radial)


def _votes_of(table: Counts, labels: Counts) -> Counts:
    return np.take_along_axis(table, labels[:, None], axis=1)[:, 0]


def certify_top_k(
    counts_selection: Any,
    counts_estimation: Any,
    noise: Noise,
    attack: str,
    *,
    k: int = 1,
    labels: Any = None,
    alpha: float = 0.001,
    bound: str = "runner-up",
) -> Certificates:
    """Certify that a class stays among the k likeliest, the others bounded by their votes.

    With k = 1 this is certify with a bound of the runner-up: the radius grows where the
    rest is spread over many classes, and a class below 1/2 can be certified.

    Parameters
    ----------
    counts_selection, counts_estimation : (N, C) integer arrays
        As in certify.
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    k : int in [1, C - 1]
    labels : (N,) integer array, optional
        The class to certify of each input, chosen without the estimation votes (default:
        the most voted of the selection).
    alpha : float in (0, 1/2]
        Failure probability of each certificate: half for the class, half for the others.
    bound : str
        A name of BOUNDS that reads the votes of all classes.

    Returns
    -------
    Certificates
        With p_other: the k-th largest upper bound among the other classes, or
        (1 - p_lower)/k where that is less.

    Raises
    ------
    ValueError, UnsupportedPair

    Notes
    -----
    The k likeliest other classes are fixed, though unknown.  The k-th largest of all upper
    bounds is below the k-th likeliest class's probability only if the bound of one of those
    k is, so alpha/(2k) for each bound suffices, for any number of classes.  At a perturbed
    input the classes beyond those k - 1 stay below that bound's worst case.

    References
    ----------
    Cohen et al. 2019, Theorem 1 (k = 1); Jia et al. 2020 (top-k, Gaussian).

    Examples
    --------
    >>> selection, estimation = np.array([[30, 10, 10]]), np.array([[480, 270, 250]])
    >>> made = cc.certificates.certify_top_k(selection, estimation, cc.Gaussian(4, 1.0), "l2")
    >>> made.label, made.radius.round(3)  # a class below 1/2
    (array([0]), array([0.145]))
    """
    how, level = bound_named(bound, "classes"), alpha_value(alpha)
    selection, estimation, n0, n, drawn = two_samples(counts_selection, counts_estimation, noise)
    classes = selection.shape[1]
    k = integer("k", k, 1, classes - 1, remedy="pass how many classes may be ahead, plus one")
    if len(estimation):
        check_sampling(noise, attack, n, level, k=k)
    top = selection.argmax(axis=1) if labels is None else one_class_each(labels, *estimation.shape)
    p_lower = np.asarray(how.lower(_votes_of(estimation, top), n, how.share * level))
    others = estimation.copy()
    np.put_along_axis(others, top[:, None], -1, axis=1)
    rival = np.sort(others, axis=1)[:, -k] + failed_copies(counts_estimation, len(others))
    by_votes = np.asarray(how.lower(n - rival, n, (1.0 - how.share) * level / k))
    share = np.nextafter(complement_above(p_lower) / k, 1.0)  # of the rest
    by_rest = complement_below(share) if k > 1 else p_lower
    complement = np.maximum(by_votes, by_rest)
    p_other = complement_above(complement)
    radius = radii_apart(p_lower, complement, noise, attack)
    return certified_record(
        top, p_lower > p_other, radius, noise, attack,
        p_lower=p_lower, p_other=p_other, bound=bound, alpha=level, n0=n0, n=n, drawn=drawn,
        **mode_of(drawn, counts_estimation),
    )  # fmt: skip


def certify_scores(
    labels: Any,
    scores: Any,
    noise: Noise,
    attack: str,
    *,
    n0: int,
    alpha: float = 0.001,
    bound: str = "betting",
) -> Certificates:
    """Certify classes by their mean scores under noise (soft votes).

    The smoothed classifier here is the mean of the base classifier's scores, such as
    softmax; where scores of one noisy copy sum to 1 at most, a mean above 1/2 is the
    largest.

    Parameters
    ----------
    labels : (N,) integer array
        The class of each input, chosen without these scores.
    scores : (N, n) array in [0, 1]
        Scores of that class on n noisy copies, in the order drawn, as of label_scores.
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    n0 : int
        Samples that chose the labels, for the record.
    alpha : float in (0, 1/2]
        Failure probability of each certificate.
    bound : str
        A name of BOUNDS that reads scores.

    Returns
    -------
    Certificates
        p_lower bounds the mean score.

    Raises
    ------
    ValueError, UnsupportedPair

    References
    ----------
    Zhang et al. 2020, Theorem 1, for f with values in [0, 1].

    Examples
    --------
    >>> scores = np.full((1, 500), 0.9)
    >>> made = cc.certificates.certify_scores([7], scores, cc.Gaussian(4, 1.0), "l2", n0=50)
    >>> made.label, made.radius.round(2)
    (array([7]), array([1.19]))
    """
    how, level = bound_named(bound, "scores"), alpha_value(alpha)
    check_independent(noise)
    rows = to_numpy("scores", scores)
    selected = integer("n0", n0, 1, remedy="pass how many samples chose the labels")
    if rows.ndim != 2 or to_numpy("labels", labels).shape != rows.shape[:1]:
        rule = "an (n_inputs, n) array, one row a label"
        raise fail("scores", rule, rows.shape, "pass what label_scores returned")
    chosen = whole_numbers("labels", labels, CLASSES, remedy="pass the class of each input")
    drawn = drawn_under(noise, scores)
    lower = how.lower(rows, how.share * level) if len(rows) else np.zeros(0)
    p_lower = np.asarray(lower)
    radius = np.asarray(certified_radius(p_lower, noise, attack))
    return certified_record(
        chosen, p_lower > 0.5, radius, noise, attack,
        p_lower=p_lower, bound=bound, alpha=level, n0=selected, n=rows.shape[1], drawn=drawn,
        **mode_of(drawn, scores),
    )  # fmt: skip


def predict_labels(counts: Any, alpha: float) -> Counts:
    """Predict from votes, abstaining where the top two classes are not told apart.

    Parameters
    ----------
    counts : (N, C) integer array of votes
    alpha : float in (0, 1/2]
        Probability of returning another class than the smoothed classifier's.

    Returns
    -------
    (N,) int64
        Labels, or ABSTAIN.  Copies that FAILed are votes for the second class: then the test
        holds for the ideal noise, whatever the chance of a FAIL.

    Raises
    ------
    ValueError
        Counts that are no votes, or alpha out of its domain.

    References
    ----------
    Cohen et al. 2019, PREDICT (two-sided exact binomial test).

    Examples
    --------
    >>> cc.certificates.predict_labels([[90, 10], [52, 48]], 0.01)
    array([ 0, -1])
    """
    table, _ = vote_counts("counts", counts)
    ordered = np.sort(table, axis=1)
    second = ordered[:, -2] + failed_copies(counts, len(table))
    p_value = majority_p_value(np.maximum(ordered[:, -1], second), second)
    return np.where(p_value <= alpha_value(alpha), table.argmax(axis=1), ABSTAIN).astype(np.int64)


def checked_certificates(name: str, value: Any) -> Certificates:
    """value if it is a record of certificates."""
    if not isinstance(value, Certificates):
        raise fail(name, "Certificates", value, "pass what certify returned")
    return value


def join_certificates(parts: Sequence[Certificates]) -> Certificates:
    """Put certificates of several calls together, as of one data set.

    What is said of all of them together, such as how many may be false, holds where each
    input has samples of its own.

    Parameters
    ----------
    parts : sequence of Certificates
        Of one noise, attack, alpha, n0 and n.

    Returns
    -------
    Certificates

    Raises
    ------
    ValueError
        No parts, parts that differ, or two inputs with the same samples: those of one seed
        that were given no indices, or the same ones.

    Examples
    --------
    >>> noise, counts = cc.Gaussian(4, 1.0), np.array([[9, 91]])
    >>> parts = [cc.certify(counts, 10 * counts, noise, "l2") for _ in range(2)]
    >>> len(cc.certificates.join_certificates(parts))
    2
    """
    given = items("parts", parts, "a sequence of Certificates", remedy="pass certificates")
    listed = [checked_certificates("parts", part) for part in given]
    if not listed or len({type(part) for part in listed}) > 1:
        raise fail("parts", "one or more, of one kind", listed, "pass certificates of certify")
    joined: dict[str, Any] = {}
    for each in fields(listed[0]):
        values = [getattr(part, each.name) for part in listed]
        arrays = [isinstance(value, np.ndarray) for value in values]
        if all(arrays):
            joined[each.name] = np.concatenate(values)
        elif each.name != "drawn" and (any(arrays) or any(v != values[0] for v in values)):
            rule = f"of one {each.name}, or all without"
            raise fail("parts", rule, values, "join those that are alike")
    joined["drawn"] = tuple(stretch for part in listed for stretch in part.drawn)
    check_apart(
        "parts", "of inputs with samples of their own", joined["drawn"],
        "pass each input's own place in the data as indices, or other seeds",
    )  # fmt: skip
    return replace(listed[0], **joined)


@overload
def certified_accuracy(certificates: Certificates, labels: Any, radii: Number) -> float: ...


@overload
def certified_accuracy(certificates: Certificates, labels: Any, radii: Any) -> Float: ...


def certified_accuracy(certificates: Certificates, labels: Any, radii: Any) -> Any:
    """Compute the share of inputs certified with the right label at given radii.

    Parameters
    ----------
    certificates : Certificates
    labels : (N,) whole numbers, the true classes
    radii : float or array >= 0, in the attack's norm

    Returns
    -------
    float or array of the shape of radii
        Abstentions count as wrong.

    Raises
    ------
    ValueError
        labels of another shape or no class numbers, negative or NaN radii, no certificates.

    Examples
    --------
    >>> counts = np.array([[90, 10], [20, 80], [50, 50]])
    >>> made = cc.certify(counts, 10 * counts, cc.Gaussian(4, 0.5), "l2")
    >>> cc.certified_accuracy(made, [0, 1, 1], [0.0, 0.25, 0.5]).round(2)
    array([0.67, 0.67, 0.33])
    """
    truth = to_numpy("labels", labels)
    checked_certificates("certificates", certificates)
    if truth.shape != certificates.label.shape:
        rule = f"of shape {certificates.label.shape}"
        raise fail("labels", rule, truth.shape, "pass one true label per certificate")
    if truth.dtype.kind not in "iuf" or not (truth == np.floor(truth)).all():
        rule, remedy = "class numbers, as the certificates' labels", "pass whole numbers"
        raise fail("labels", rule, f"{truth.dtype} such as {truth.flat[0]}", remedy)
    remedy = "pass radii in the attack's norm"
    levels = array("radii", radii, ">= 0", lambda x: x >= 0, remedy=remedy)
    if not len(truth):
        raise fail("certificates", "non-empty", 0, "certify at least one input")
    good = (certificates.label == truth) & (certificates.label != ABSTAIN)
    right = np.where(good, certificates.radius, -1.0)
    shares = np.mean(right[:, None] >= levels.reshape(1, -1), axis=0).reshape(levels.shape)
    return scalar(shares)


@dataclass(frozen=True)
class Bound:
    """How what was counted of an input bounds the probability of its class.

    Attributes
    ----------
    lower : callable
        (votes, n, alpha), or (scores, alpha), to a lower bound that is above the truth with
        probability alpha at most.
    reads : "votes", "classes", "shells" or "scores"
        The votes of the class, those of the others as well, those of the class by shell, or
        scores of the class.
    share : float in (0, 1]
        Of alpha, for the class; the rest is for the others.
    needed : callable
        (its share of alpha, threshold) to the samples without which no bound is above that.

    Examples
    --------
    >>> half = lambda votes, n, alpha: cc.binomial_lower(votes, n, alpha / 2)
    >>> bound = cc.certificates.Bound(half)
    >>> round(bound.lower(95, 100, 0.001), 4)
    0.8364
    """

    lower: Callable[..., Any]
    reads: str = "votes"
    share: float = 1.0
    needed: Callable[[float, float], int] = votes_needed

    def __post_init__(self) -> None:
        check_callable("lower", self.lower)
        choice("reads", self.reads, ("votes", "classes", "shells", "scores"))
        rule, remedy = "a number in (0, 1]", "no more of alpha can be spent than there is"
        real("share", self.share, rule, lambda x: 0 < x <= 1, remedy=remedy)


def bound_named(name: str, *reads: str) -> Bound:
    """The bound of this name, which reads one of these things."""
    fitting = [key for key, how in BOUNDS.items() if not reads or how.reads in reads]
    return BOUNDS[choice("bound", name, fitting)]


BOUNDS: dict[str, Bound] = {
    "clopper-pearson": Bound(binomial_lower),
    "runner-up": Bound(binomial_lower, reads="classes", share=0.5),
    "shells": Bound(binomial_lower, reads="shells"),
    "betting": Bound(betting_lower, reads="scores"),
}

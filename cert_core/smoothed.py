"""A classifier smoothed by noise, every verb, for any framework.

Two hooks are all that a framework has to bring: `labels` for votes, `scores` for soft votes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cert_core.certificates import (
    Certificates,
    certify,
    certify_scores,
    certify_top_k,
    check_sampling,
    predict_labels,
)
from cert_core.channels import Channel, check_independent
from cert_core.confidence import Counts, votes_needed
from cert_core.errors import Float, check_callable, fail, integer
from cert_core.errors import alpha as checked_alpha
from cert_core.executors import Crew
from cert_core.joint import label_votes, selected_labels
from cert_core.lattice import Lattice, checked_lattice
from cert_core.noises import Noise, checked_noise
from cert_core.provenance import CountedVotes
from cert_core.scores import (
    Scores,
    check_scores,
    label_scores,
    mean_scores,
    sampled_ranks,
    sampled_values,
)
from cert_core.sequential.certificates import SequentialCertificates, gather, outcomes
from cert_core.sequential.plans import checked_plan, plan_at, plan_until
from cert_core.shell_votes import BOUND, certify_shells, count_shell_votes
from cert_core.shells import MASSES, shell_thresholds
from cert_core.votes import (
    Alone,
    Progress,
    Votes,
    checked_progress,
    class_count,
    count_votes,
    drawn_by,
    in_stages,
    input_indices,
    input_rows,
    one_class_each,
)

SAMPLES = "pass how many noisy copies to classify"
OF_EACH = "indices", "labels"  # arguments of verbs with a value an input
PARTS = 8  # of the inputs of a call, for every worker of its executor


@dataclass(frozen=True)
class Part:
    """Some of the inputs of one call of a verb, from a place on."""

    verb: str
    low: int
    x: Any
    how: dict[str, Any]

    def __str__(self) -> str:
        found = self.how["indices"]
        return f"input {found[0]}" if len(found) == 1 else f"inputs {found[0]} to {found[-1]}"

    def apart(self) -> list[Part]:
        """Its inputs, each as a part of its own."""
        each = {name: values for name, values in self.how.items() if name in OF_EACH}
        return [
            Part(
                self.verb, self.low + i, self.x[i : i + 1],
                self.how | {name: values[i : i + 1] for name, values in each.items()},
            )
            for i in range(len(self.x))
        ]  # fmt: skip


def answer_part(smoothed: Smoothed, part: Part) -> Any:
    """What a verb says of a part of its inputs, which another process may read."""
    said = getattr(smoothed, part.verb)(x=part.x, **part.how)
    return list(said) if isinstance(said, Iterator) else said


def itself(smoothed: Smoothed) -> Smoothed:
    """A classifier as it was sent."""
    return smoothed


class Smoothed:
    """A base classifier smoothed by noise (Cohen et al. 2019's Smooth, for any noise).

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to m integer labels (for `values`: to any real
        numbers, for `selected_labels` to maps of labels), each row judged by itself: the first
        batch is given again among other rows, and must not tell.
    noise : Noise, with dim the number of values of one input
    num_classes : int >= 2
        Not needed for `values`.
    scores : callable, optional
        Maps such a batch to (m, num_classes) scores in [0, 1] that sum to 1 at most: for soft
        votes, and for votes too where predict is not given; of each row by itself, as predict.
    batch_size : int
        Rows given to them at a time; it changes no result.
    sound : Lattice, optional
        Draw in sound mode, as in count_votes: certificates then hold for what runs, between
        inputs on the lattice.

    Notes
    -----
    In every verb x is (N, *input_shape), seed an int in [0, 2^32) of the whole run, and indices
    are the inputs' places in their data set (default 0 .. N-1), which name their random streams.
    Without indices the inputs of every call are 0, 1, ...: called input by input with one seed,
    all get the same noise, and only what is said of each by itself holds (join_certificates
    refuses to join them).

    executor, of every verb, is any of concurrent.futures (processes, those of Dask, MPI, ...): its
    workers take the inputs part by part, the classifier travels to each of them once, and the
    results are those of this process alone, bit by bit.  Without cloudpickle, the classifier must
    be defined in a module that they find.

    progress, of every verb that returns all at once, is called with (done, total) after every
    batch, or every part of an executor's: noisy copies, of certify_at and certify_until
    inputs.  What it raises ends the call.

    Examples
    --------
    >>> predict = lambda batch: (batch.mean(axis=1) > 0.5).astype(int)
    >>> smoothed = cc.Smoothed(predict, cc.Gaussian(dim=4, sigma=0.5), num_classes=2)
    >>> x = np.array([[0.9, 0.9, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]])
    >>> smoothed.certify(x, n0=100, n=500, alpha=0.01, attack="l2", seed=0)
    Certificates of 2 inputs, l2 attack, Gaussian(dim=4, sigma=0.5), alpha 0.01 each, n0 100, n 500
    input     label  radius   p_lower
        0         1  0.7029  0.920112
        1  abstains  0.0000  0.482999
    1 abstain; radii are rounded down
    >>> smoothed.predict(x, n=1000, alpha=0.001, seed=0)
    array([ 1, -1])
    >>> smoothed.certify_at(x, [0.25], 1000, 0.001, "l2", seed=0).samples
    array([200, 200])
    """

    def __init__(
        self,
        predict: Callable[[Any], Any] | None = None,
        noise: Noise | None = None,
        num_classes: int | None = None,
        *,
        scores: Callable[[Any], Any] | None = None,
        batch_size: int = 1000,
        sound: Lattice | None = None,
    ) -> None:
        if hasattr(predict, "predict") and not callable(predict):
            raise fail("predict", "a function", predict, "pass its method: predict=model.predict")
        if type(self) is Smoothed and hasattr(predict, "state_dict"):
            rule, got = "a function from arrays to labels", type(predict).__name__
            remedy = "a module of PyTorch goes into cert_models.smooth.SmoothedClassifier"
            raise fail("predict", rule, got, remedy)
        for name, function in (("predict", predict), ("scores", scores)):
            if function is not None or (predict is None and scores is None):
                check_callable(name, function)
        self._scored = scores
        self.noise = checked_noise(noise)
        self._judge: Callable[[Any], Any] | None = predict
        if not isinstance(noise, Channel):
            if predict is not None and sound is None:
                self._judge = Alone(predict, chance=True)  # in sound mode whoever counts looks
            if scores is not None:
                self._scored = Alone(scores, chance=sound is None)
        self.sound = sound
        if sound is not None:
            checked_lattice("sound", sound).checked(self.noise)
        self._classes = None if num_classes is None else class_count(num_classes)
        self.batch_size: int | None = integer(
            "batch_size", batch_size, 1, remedy="pass the rows of a batch"
        )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        if self._classes is None:
            raise fail("num_classes", "given for votes", None, "pass it to Smoothed")
        return self._classes

    # ---- what a framework brings ----

    def labels(self, batch: Any) -> Any:
        """Labels of a batch, (m,) integers."""
        if self._judge is not None:
            return self._judge(batch)
        return check_scores(self.scores(batch), len(batch), self.num_classes).argmax(axis=1)

    def scores(self, batch: Any) -> Any:
        """Scores of a batch, (m, num_classes) in [0, 1], each row summing to 1 at most."""
        if self._scored is None:
            raise fail("scores", "a function, for soft votes", None, "pass it to Smoothed")
        return self._scored(batch)

    def inputs(self, x: Any) -> Any:
        """The inputs, as an array that CPUs read."""
        return input_rows(x, self.noise, self.sound)

    def filling(self, inputs: Any) -> dict[str, Any]:
        """How batches of such inputs are filled: options of count_votes and the like."""
        return {"batch_size": self.batch_size}

    def _options(self, inputs: Any) -> dict[str, Any]:
        """The same, with the mode."""
        return {**self.filling(inputs), "sound": self.sound}

    def drawing(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which they are filled."""
        return contextlib.nullcontext()

    # ---- what is counted ----

    def counts(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        stage: str = "estimation",
        start: int = 0,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> CountedVotes:
        """Count the votes of n noisy copies of every input.

        Parameters
        ----------
        x, seed, indices : see above
        n : int >= 1
        stage : "estimation" or "selection": disjoint random streams
        start : int, to count on from where other votes of this seed ended
        executor : see above

        Returns
        -------
        (N, num_classes) int64, rows summing to n, less what FAILed in sound mode; the same for
        any batch size.
        """
        if executor is not None:
            how: dict[str, Any] = {"n": n, "seed": seed, "stage": stage, "start": start}
            how["progress"] = progress
            joined: CountedVotes = self._joined(executor, "counts", x, indices, **how)
            return joined
        inputs = self.inputs(x)
        return count_votes(
            self.labels, inputs, self.noise, self.num_classes, n, seed,
            indices=indices, stage=stage, start=start, progress=progress,
            **self._options(inputs),
        )  # fmt: skip

    def _parts(
        self,
        executor: Executor,
        verb: str,
        x: Any,
        indices: Sequence[int] | None,
        labels: Any = None,
        progress: Progress | None = None,
        **how: Any,
    ) -> Iterator[tuple[int, Any]]:
        """What a verb says of parts of its inputs, and the place of each, as they come."""
        told, seen, copies = checked_progress(progress), 0, how.get("n", 1)
        inputs = self.inputs(x)
        chosen = input_indices(indices, len(inputs))
        crew = Crew(executor, partial(itself, self), answer_part, apart=Part.apart)
        rows = max(1, len(inputs) // (PARTS * max(1, crew.size())))

        def part(low: int) -> Part:
            of_each = {} if labels is None else {"labels": labels[low : low + rows]}
            more = {**how, **of_each, "indices": chosen[low : low + rows]}
            return Part(verb, low, inputs[low : low + rows], more)

        for done, answer in crew.results(part(low) for low in range(0, len(inputs), rows)):
            seen += len(done.x)
            if told is not None:
                told(seen * copies, len(inputs) * copies)
            yield done.low, answer.value

    def _joined(
        self,
        executor: Executor,
        verb: str,
        x: Any,
        indices: Sequence[int] | None,
        labels: Any = None,
        *,
        axis: int = 0,
        **how: Any,
    ) -> Any:
        """The rows of all parts, in order."""
        found = sorted(
            self._parts(executor, verb, x, indices, labels, **how), key=lambda each: each[0]
        )
        if not found:  # no inputs: no worker was asked
            of_each = {} if labels is None else {"labels": labels}
            found = [(0, getattr(self, verb)(x, indices=indices, **how, **of_each))]
        rows = [rows for _, rows in found]
        return np.concatenate(rows, axis=axis) if axis else np.concatenate(rows)

    def shell_counts(
        self,
        x: Any,
        n: int,
        seed: int,
        thresholds: Any,
        *,
        indices: Sequence[int] | None = None,
        stage: str = "estimation",
        start: int = 0,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> CountedVotes:
        """Count the votes of n noisy copies of every input by the norm of their noise.

        Parameters
        ----------
        x, n, seed, indices, stage, start
            As in counts.
        thresholds : (J-1,) array, as of shell_thresholds, fixed before these votes

        Returns
        -------
        (N, J, num_classes) int64
            See count_shell_votes.
        """
        if self.sound is not None:
            remedy = "count without sound, or certify all votes together"
            raise fail("sound", "None where votes are told apart by shells", self.sound, remedy)
        if executor is not None:
            how: dict[str, Any] = {"thresholds": thresholds, "stage": stage, "start": start}
            how["progress"] = progress
            joined: CountedVotes = self._joined(
                executor, "shell_counts", x, indices, n=n, seed=seed, **how
            )
            return joined
        inputs = self.inputs(x)
        with self.drawing():
            return count_shell_votes(
                self.labels, inputs, self.noise, self.num_classes, n, seed, thresholds,
                indices=indices, stage=stage, start=start, progress=progress,
                **self.filling(inputs),
            )  # fmt: skip

    def probabilities(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Float:
        """Shares of the votes, (N, num_classes) float64; arguments as in counts."""
        how: dict[str, Any] = {"indices": indices, "executor": executor, "progress": progress}
        return np.asarray(self.counts(x, n, seed, **how)) / n

    def mean_scores(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        stage: str = "estimation",
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Float:
        """Average the scores of n noisy copies of every input.

        Returns
        -------
        (N, num_classes) float64; arguments as in counts.
        """
        if executor is not None:
            how: dict[str, Any] = {"n": n, "seed": seed, "stage": stage, "progress": progress}
            joined: Float = self._joined(executor, "mean_scores", x, indices, **how)
            return joined
        inputs = self.inputs(x)
        with self.drawing():
            return mean_scores(
                self.scores, inputs, self.noise, self.num_classes, n, seed,
                indices=indices, stage=stage, progress=progress, **self._options(inputs),
            )  # fmt: skip

    def label_scores(
        self,
        x: Any,
        labels: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Keep the scores of one class of every input, in the order drawn.

        Returns
        -------
        (N, n) float32, rounded down, for certify_scores; arguments as in counts.
        """
        inputs = self.inputs(x)
        if executor is not None:
            chosen = one_class_each(labels, len(inputs), self.num_classes)
            joined: Scores = self._joined(
                executor, "label_scores", x, indices, chosen, n=n, seed=seed, progress=progress
            )
            return joined
        with self.drawing():
            return label_scores(
                self.scores, inputs, self.noise, self.num_classes, labels, n, seed,
                indices=indices, progress=progress, **self._options(inputs),
            )  # fmt: skip

    def values(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
        ranks: Sequence[int] | None = None,
    ) -> Float:
        """Keep what predict says of n noisy copies of every input, as real numbers.

        Parameters
        ----------
        x, n, seed, indices : as in counts
        ranks : as of percentile_ranks, to keep these alone: of each output of one input at a
            time about twice the values beyond them are held, however large n is

        Returns
        -------
        (N, *outputs, n) float64, for percentile_bounds and mean_bounds; with ranks the values of
        these, (len(ranks), N, *outputs): the bounds themselves.
        """
        if executor is not None:
            joined: Float = self._joined(
                executor, "values", x, indices, axis=0 if ranks is None else 1,
                n=n, seed=seed, ranks=ranks, progress=progress,
            )  # fmt: skip
            return joined
        inputs = self.inputs(x)
        options = {"indices": indices, "progress": progress, **self._options(inputs)}
        with self.drawing():
            if ranks is None:
                return sampled_values(self.labels, inputs, self.noise, n, seed, **options)
            return sampled_ranks(self.labels, inputs, self.noise, n, seed, ranks, **options)

    def selected_labels(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Counts:
        """Choose the class of every component of every input, by the selection stage.

        Returns
        -------
        (N, *outputs) int64; arguments as in counts, predict as in the module's selected_labels.
        """
        if executor is not None:
            how: dict[str, Any] = {"n": n, "seed": seed, "progress": progress}
            joined: Counts = self._joined(executor, "selected_labels", x, indices, **how)
            return joined
        inputs = self.inputs(x)
        with self.drawing():
            return selected_labels(
                self.labels, inputs, self.noise, self.num_classes, n, seed,
                indices=indices, progress=progress, **self._options(inputs),
            )  # fmt: skip

    def label_votes(
        self,
        x: Any,
        labels: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Counts:
        """Count the votes for one class of every component of every input.

        Returns
        -------
        (N, *outputs) int64 out of n, for certify_labels_jointly; arguments as in counts.
        """
        inputs = self.inputs(x)
        if executor is not None:
            given = np.asarray(labels)
            joined: Counts = self._joined(
                executor, "label_votes", x, indices, given, n=n, seed=seed, progress=progress
            )
            return joined
        with self.drawing():
            return label_votes(
                self.labels, inputs, self.noise, self.num_classes, labels, n, seed,
                indices=indices, progress=progress, **self._options(inputs),
            )  # fmt: skip

    def outcomes(
        self,
        plan: Any,
        x: Any,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
    ) -> Iterator[Votes]:
        """Count votes until a plan of plan_at or plan_until stops each input, as they are ready.

        Yields
        ------
        Votes
            Not always in the order of the inputs; gather makes certificates of them.
        """
        if checked_plan(plan).noise != self.noise:
            rule = f"for the classifier's noise {self.noise!r}"
            raise fail("plan", rule, plan.noise, "make it for this noise")
        if executor is not None:
            parts = self._parts(executor, "outcomes", x, indices, plan=plan, seed=seed)
            return (
                replace(votes, position=low + votes.position)
                for low, part in parts
                for votes in part
            )
        inputs = self.inputs(x)
        return self._drawn(
            outcomes(
                plan, self.labels, inputs, self.num_classes, seed,
                indices=indices, **self._options(inputs),
            )
        )  # fmt: skip

    def _gathered(
        self, plan: Any, x: Any, seed: int, progress: Progress | None, **which: Any
    ) -> SequentialCertificates:
        """Certificates by a plan, progress told input by input."""
        told = checked_progress(progress)
        inputs = self.inputs(x)
        results = []
        for votes in self.outcomes(plan, inputs, seed, **which):
            results.append(votes)
            if told is not None:
                told(len(results), len(inputs))
        return gather(plan, results)

    def _drawn(self, found: Iterator[Votes]) -> Iterator[Votes]:
        """What is found, each made in the context of drawing; between them the caller's holds."""
        while True:
            with self.drawing():
                votes = next(found, None)
            if votes is None:
                return
            yield votes

    # ---- what is certified ----

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
        """Predict labels, abstaining where two classes are not told apart; arguments as in counts.

        Returns
        -------
        (N,) int64
            The smoothed classifier's label with probability 1 - alpha, or ABSTAIN.

        References
        ----------
        Cohen et al. 2019, PREDICT.
        """
        votes_needed(alpha)  # refuse a bad alpha before drawing
        how: dict[str, Any] = {"indices": indices, "executor": executor, "progress": progress}
        return predict_labels(self.counts(x, n, seed, **how), alpha)

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
    ) -> Certificates:
        """Certify inputs: n0 copies select the class, n others bound its probability.

        Parameters
        ----------
        x, seed, indices : see above
        n0, n, alpha, attack, bound
            As in certify.

        Returns
        -------
        Certificates
            Radii in the attack's norm and input units, wrong with probability alpha at
            most for each input.

        References
        ----------
        Cohen et al. 2019, CERTIFY; Zhang et al. 2020, Theorem 1.
        """
        which: dict[str, Any] = {"indices": indices, "executor": executor, "progress": progress}
        stages = self._stages(x, n0, n, alpha, attack, seed, **which, bound=bound)
        return certify(*stages, alpha=alpha, bound=bound)

    def certify_top_k(
        self,
        x: Any,
        n0: int,
        n: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        k: int = 1,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Certificates:
        """Certify that the class stays among the k likeliest, the others bounded as well.

        With k = 1, the runner-up's bound instead of 1 - p_lower: for the same votes as
        certify, a radius up to several times larger.

        Returns
        -------
        Certificates
            See certify_top_k of the module.
        """
        k = integer("k", k, 1, self.num_classes - 1, remedy="pass how many may be ahead, plus one")
        which: dict[str, Any] = {"indices": indices, "executor": executor, "progress": progress}
        stages = self._stages(x, n0, n, alpha, attack, seed, **which, k=k)
        return certify_top_k(*stages, k=k, alpha=alpha)

    def certify_shells(
        self,
        x: Any,
        n0: int,
        n: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        masses: Any = MASSES,
        indices: Sequence[int] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> Certificates:
        """Certify inputs by votes told apart by the norm of their noise.

        With noises of k > 0, or in low dimension, larger radii from the same votes than
        certify; a Gaussian's in many dimensions are smaller by what the split of alpha costs.

        Parameters
        ----------
        x, n0, n, alpha, attack, seed, indices
            As in certify.
        masses : (J-1,) array in (0, 1), rising
            Shares of the noise inside each threshold, as shell_thresholds takes them.

        Returns
        -------
        Certificates
            See certify_shells of the module.
        """
        n0, n = integer("n0", n0, 1, remedy=SAMPLES), integer("n", n, 1, remedy=SAMPLES)
        edges = shell_thresholds(self.noise, masses)
        level = checked_alpha(alpha) / (len(edges) + 1)
        check_sampling(self.noise, attack, n, level, bound=BOUND)
        which: dict[str, Any] = {"indices": indices, "executor": executor}
        first, second = in_stages(progress, n0, n)
        selection = self.counts(x, n0, seed, stage="selection", progress=first, **which)
        by_shell = self.shell_counts(x, n, seed, edges, progress=second, **which)
        return certify_shells(selection, by_shell, edges, self.noise, attack, alpha=alpha)

    def certify_scores(
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
        bound: str = "betting",
    ) -> Certificates:
        """Certify the mean of the scores instead of the share of the votes.

        Returns
        -------
        Certificates
            As of certify; see certify_scores of the module.
        """
        n0, n = integer("n0", n0, 1, remedy=SAMPLES), integer("n", n, 1, remedy=SAMPLES)
        check_sampling(self.noise, attack, n, alpha, bound=bound)
        check_independent(self.noise)
        by: dict[str, Any] = {"indices": indices, "executor": executor}
        first, second = in_stages(progress, n0, n)
        means = self.mean_scores(x, n0, seed, stage="selection", progress=first, **by)
        labels = means.argmax(axis=1)
        scores = self.label_scores(x, labels, n, seed, progress=second, **by)
        made = certify_scores(labels, scores, self.noise, attack, n0=n0, alpha=alpha, bound=bound)
        which: dict[str, Any] = {"indices": indices, "stage": "selection", "sound": self.sound}
        chosen = drawn_by(self.noise, len(labels), n0, seed, **which)
        return replace(made, drawn=(chosen, *made.drawn))

    def _stages(
        self,
        x: Any,
        n0: int,
        n: int,
        alpha: float,
        attack: str,
        seed: int,
        *,
        indices: Sequence[int] | None,
        executor: Executor | None,
        progress: Progress | None,
        **bound: Any,
    ) -> tuple[CountedVotes, CountedVotes, Noise, str]:
        """Votes of both stages, drawn only where they could certify something."""
        n0, n = integer("n0", n0, 1, remedy=SAMPLES), integer("n", n, 1, remedy=SAMPLES)
        check_sampling(self.noise, attack, n, alpha, **bound)
        which: dict[str, Any] = {"indices": indices, "executor": executor}
        first, second = in_stages(progress, n0, n)
        selection = self.counts(x, n0, seed, stage="selection", progress=first, **which)
        estimation = self.counts(x, n, seed, stage="estimation", progress=second, **which)
        return selection, estimation, self.noise, attack

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
    ) -> SequentialCertificates:
        """Certify preset radii with as few copies as each input needs.

        Returns
        -------
        SequentialCertificates
            radius: the largest of the radii that passed, wrong with probability alpha at
            most for each input; samples: copies classified; decided: whether before n_max.

        References
        ----------
        plan_at, boundaries.
        """
        plan = plan_at(self.noise, attack, radii, n_max=n_max, alpha=alpha, n0=n0)
        return self._gathered(plan, x, seed, progress, indices=indices, executor=executor)

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
    ) -> SequentialCertificates:
        """Certify full radii to a relative width with as few copies as each input needs.

        Returns
        -------
        SequentialCertificates
            As of certify_at, with any radius; see plan_until.
        """
        plan = plan_until(self.noise, attack, width, n_max=n_max, alpha=alpha, n0=n0)
        return self._gathered(plan, x, seed, progress, indices=indices, executor=executor)

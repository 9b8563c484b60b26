"""Slips: one line each that would ship a wrong certificate, or break what a run promises.

By file: the tests nearest to it, and for each slip its old text, which stands there once, the new
one, and what it would break.  A slip that moves with its code stays here; one whose code is gone
goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Slip:
    """One change of one file, what it breaks, and the tests that are nearest to it."""

    file: str
    old: str
    new: str
    breaks: str
    nearest: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.breaks}"


CORE: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "cert_core/confidence.py": ("core/test_confidence.py", [
        ("np.maximum(np.nextafter(value, -1.0), 0.0)", "np.maximum(np.nextafter(value, 2.0), 0.0)",
         "lower bounds rounded up"),
        ("where_votes(log_lower, total - votes, total, level)", "where_votes(log_lower, votes, total, level)",
         "upper bounds of the other votes"),
        ("np.nextafter(-np.expm1(y) * (1.0 + 2.0 * EPS), 2.0)", "np.nextafter(-np.expm1(y), -2.0)",
         "upper bounds rounded down"),
        ("distinct[np.cumsum(new) - 1]", "distinct[np.cumsum(new) % len(distinct)]",
         "bounds given to the next pair of counts"),
        ("tail *= 1.0 + 4e-15 * np.sqrt(total)", "tail *= 1.0 - 4e-15 * np.sqrt(total)",
         "a p-value below the truth"),
        ("np.minimum(2.0 * tail, 1.0)", "np.minimum(tail, 1.0)", "the two-sided test at 2 alpha"),
        ("level * (w / total) * (1.0 - 4e-16)", "level * (w / max(weights))", "shares that add up to more than alpha"),
        ("level = math.log(2.0) - math.log(_alpha(alpha))", "level = -math.log(_alpha(alpha))",
         "empirical Bernstein at 2 alpha"),
        ("before = np.concatenate(([0.25], variance[:-1]))", "before = variance",
         "bets that know the score they are on"),
        ("0.75 / max(float(m), 1e-300)", "1.75 / max(float(m), 1e-300)", "capital that may turn negative"),
        (".max() >= level + 1e-9", ".max() >= level - 0.7", "a betting bound at 2 alpha"),
        ("np.sqrt(-math.log(level) / (2.0 * total))", "np.sqrt(-math.log(2.0 * level) / (2.0 * total))",
         "Hoeffding at 2 alpha"),
        ("(entropy - 1e-15) >= level", "(entropy - 1e-15) >= level - 0.7", "Chernoff at 2 alpha"),
        ("7.0 * level / (3.0 * (total - 1.0))", "level / (3.0 * (total - 1.0))", "Maurer and Pontil's second term"),
    ]),
    "cert_core/tails.py": ("core/test_tails.py core/test_confidence.py models/test_blocks.py", [
        ("y - (value - target + error) / first - 4.0", "y - (value - target - error) / first - 4.0",
         "the error of a tail on the unsafe side"),
        ("    return total + beyond, end", "    return total, end", "the rest of a tail not counted"),
        ("DROP = 33.0", "DROP = 3.0", "tails cut where they still weigh"),
        ("return (1.0 + 4.0 * EPS) * math.log(level) / n", "return (1.0 - 4.0 * EPS) * math.log(level) / n",
         "unanimous votes rounded up"),
        ("_stirling(n) - _stirling(k) - _stirling(rest)", "_stirling(n) - _stirling(k)", "the peak of a binomial law"),
        ("total[part] = _sum(k[part], rest[part],", "total[part] = _sum(k[part], rest[:COLUMNS][: len(u[part])],",
         "integrals of a block with the first ones' votes"),
    ]),
    "cert_core/certificates.py": (
        "core/test_certify.py models/test_independence.py hostile/test_hostile_statements.py", [
        ("    top = selection.argmax(axis=1)\n    p_lower",
         "    top = estimation.argmax(axis=1)\n    p_lower",
         "the class chosen by the votes that bound it"),
        ("    top = selection.argmax(axis=1) if labels is None", "    top = estimation.argmax(axis=1) if labels is None",
         "certify_top_k's class chosen by the votes that bound it"),
        ("    others = estimation.copy()", "    others = selection * (n // max(n0, 1))",
         "the rival taken from the selection votes"),
        ("rival = np.sort(others, axis=1)[:, -k]", "rival = np.sort(others, axis=1)[:, -min(k + 1, classes - 1)]",
         "the (k+1)-th rival bounded for the k-th"),
        ("n, how.share * level))\n    others", "n, level))\n    others",
         "the class bounded at alpha beside its rival"),
        ("(1.0 - how.share) * level / k))", "(1.0 - how.share) * level))",
         "k rivals bounded at alpha/2 each"),
        ("np.nextafter(complement_above(p_lower) / k, 1.0)", "np.nextafter(complement_above(p_lower) / (k + 1), 1.0)",
         "the rest shared among one class too many"),
        ("np.where(ahead if attack == COUNT else radius > 0, top, ABSTAIN)", "np.where(ahead, top, ABSTAIN)",
         "a label certified within radius 0"),
        ("np.where(p_value <= alpha_value(alpha), table.argmax(axis=1), ABSTAIN)",
         "np.where(p_value <= 2 * alpha_value(alpha), table.argmax(axis=1), ABSTAIN)", "predictions at 2 alpha"),
        ("good = (certificates.label == truth) & (certificates.label != ABSTAIN)", "good = certificates.label == truth",
         "abstentions counted as right"),
        ("right[:, None] >= levels.reshape(1, -1)", "right[:, None] > levels.reshape(1, -1)",
         "accuracy at a radius without those that have it"),
        ("    check_apart(\"counts_estimation\", rule, drawn, remedy)\n", "", "one sample for both stages taken"),
        ("lower = how.lower(rows, how.share * level)", "lower = how.lower(np.sort(rows), how.share * level)",
         "scores sorted before bets"),
    ]),
    "cert_core/provenance.py": ("core/test_records.py core/test_smoothed.py hostile/test_hostile_statements.py models/test_independence.py", [
        ("            low = ends[place[run[0]]] - len(same[0].indices)", "            low = 0",
         "rows of a later part with the samples of others"),
        ("groupby(drawn, lambda each: (each.seed, each.indices))", "groupby(drawn, lambda each: each.stage)",
         "stages of one input's samples apart"),
        ("            if start < stop:\n", "            if start + 1 < stop:\n", "one sample used twice unseen"),
        ("        if other != replace(self, start=self.stop, stop=other.stop, failed=other.failed):", "        if False:",
         "stretches joined that do not go on"),
        ("found.drawn = parts if all(len(part.indices) == len(found) for part in parts) else ()",
         "found.drawn = ()", "chosen rows forget their samples"),
    ]),
    "cert_core/records.py": ("core/test_records.py", [
        ("if found.ndim != 1 or len(np.unique(found)) < len(found):", "if found.ndim != 1:", "an input chosen twice"),
    ]),
    "cert_core/votes.py": ("core/test_votes.py models/test_independence.py core/test_smoothed.py core/test_attacks.py hostile/test_hostile_lattice.py", [
        ('place = buffer[part], {"start": begin + drawn, "stream"', 'place = buffer[part], {"start": begin, "stream"',
         "every batch of an input the same copies"),
        ("keys = [kernels.input_seed(seed, index) for index in chosen]\n    buffer = batch_buffer(buffer, min(batch_rows",
         "keys = [kernels.input_seed(seed, 0) for index in chosen]\n    buffer = batch_buffer(buffer, min(batch_rows",
         "all inputs with one stream"),
        ("draws.append(partial(copies.fill, out, flags[part], keys[i], center, **place))",
         "draws.append(partial(copies.fill, out, flags[part], keys[0], center, **place))",
         "inputs of a batch with the first one's stream"),
        ("    exact = isinstance(noise, Channel) or str(center.dtype) == \"float32\"", "    exact = True",
         "inputs rounded before the noise is added"),
        ("        for draw in draws:\n            draw()\n", "        for draw in draws[-1:]:\n            draw()\n",
         "a batch drawn in part"),
        ("np.add.at(counts, (rows[~fails], labels[~fails]), 1)", "counts[rows[~fails], labels[~fails]] += 1",
         "votes of one class counted once a batch"),
        ("least = np.maximum(8.0 * spacing, 1e-30)", "least = np.maximum(0.0 * spacing, 1e-30)",
         "noise that float32 swallows taken"),
    ]),
    "cert_core/kernels/integers.py": ("core/test_lattice.py", [
        ("CELL = 2.0**-53", "CELL = 2.0**-55", "cells of uniforms too narrow"),
        ("ROUNDING = 2.0**-47", "ROUNDING = 2.0**-54", "logarithms and sines without error"),
        ("slope * (SLACK * score_error + 1.26 * tails)", "0 * (SLACK * score_error + 1.26 * tails)",
         "radii without error"),
    ]),
    "cert_core/kernels/cpu/integers.py": ("core/test_lattice.py", [
        ("told = slack > fixed + share * abs(steps)", "told = slack > -1.0", "no margin"),
    ]),
    "cert_core/scores.py": ("core/test_adaptive.py models/test_independence.py core/test_percentiles.py", [
        ("own = np.where(failed, np.float32(0), scores[:, chosen[i]])",
         "own = np.where(failed, np.float32(0), scores.max(axis=1))", "the best score of each copy"),
        ("        low = 0\n        for i, copies in segments:\n            yield i, said[low : low + copies], failed[low : low + copies]\n            low += copies",
         "        low = 0\n        for i, copies in segments:\n            yield i, said[low : low + copies], failed[low : low + copies]",
         "later inputs of a batch with the first one's values"),
        ("self.below = _Smallest(max((low for low, high in ends if low < high), default=0))",
         "self.below = _Smallest(max((low for low, high in ends if low < high), default=0) - 1)",
         "a rank that was not kept"),
    ]),
    "cert_core/smoothed.py": ("core/test_smoothed.py models/test_independence.py", [
        ('estimation = self.counts(x, n, seed, stage="estimation", progress=second, **which)',
         'estimation = self.counts(x, n, seed, stage="selection", progress=second, **which)', "both stages from one stream"),
        ('means = self.mean_scores(x, n0, seed, stage="selection", progress=first, **by)',
         "means = self.mean_scores(x, n0, seed, progress=first, **by)",
         "the class of soft votes chosen by the scores that bound it"),
        ("return certify_top_k(*stages, k=k, alpha=alpha)", "return certify_top_k(*stages, k=k, alpha=2 * alpha)",
         "certify_top_k at 2 alpha"),
        ("told(seen * copies, len(inputs) * copies)", "told(seen, len(inputs))", "parts of executors told in inputs"),
        ("told(len(results), len(inputs))", "told(len(inputs), len(inputs))", "all of it told at once"),
    ]),
    "cert_core/monte_carlo.py": ("core/test_budgets.py core/test_monte_carlo.py", [
        ("half = self.alpha / 2", "half = self.alpha", "two counts at alpha each"),
        ("going &= points > needed", "going = points > needed", "a grid not stopped at its first failure"),
        ('return 2 if self.method == "hoeffding" else 1', "return 1", "Hoeffding's band one-sided"),
        ("kernels.hinge_width(self.n, self.alpha, self._sides)", "kernels.hinge_width(2 * self.n, self.alpha, self._sides)", "a band of twice the draws"),
        ("log_lam = quantile + 4 * blur", "log_lam = quantile", "lam on a smeared atom"),
        ("below = self._pi0.count_below(log_lam + blur)", "below = self._pi0.count_below(log_lam - blur)",
         "smeared draws counted on the good side"),
        ("self._pi_delta = Sample(source, self.n, key, kernels.PI_DELTA, shifted=True)",
         "self._pi_delta = Sample(source, self.n, key, kernels.PI0, shifted=True)", "both counts from one sample"),
        ("self._pilot_delta = Sample(source, pilot, key, kernels.PILOT, shifted=True)",
         "self._pilot_delta = Sample(source, self.n, key, kernels.PI_DELTA, shifted=True)",
         "lam chosen by the draws that are counted"),
        ("binomial_upper(below, self.n, half), binomial_lower(moved, self.n, half)",
         "below / self.n, binomial_lower(moved, self.n, half)", "an estimate for an upper bound"),
    ]),
    "cert_core/samples.py": ("core/test_monte_carlo.py models/test_independence.py", [
        ("words = [seed & 0xFFFFFFFF, stream, block, seed >> 32]", "words = [seed & 0xFFFFFFFF, stream, 0, seed >> 32]",
         "every block of one's own noise the same"),
        ("words = [seed & 0xFFFFFFFF, stream, block, seed >> 32]", "words = [seed & 0xFFFFFFFF, block, 0, seed >> 32]",
         "every stream of one's own noise the same"),
        ("self.noise, self.shift, size, seed, start=start, stream=stream", "self.noise, self.shift, size, seed, start=0, stream=stream",
         "every chunk of draws the same"),
        ("            yield -draws if shifted else draws", "            yield draws", "draws under pi0 for those under pi_delta"),
        ("own - self._log_density(z + self.shift)", "own - self._log_density(z - self.shift)", "a law that is not symmetric turned round"),
        ("mass += np.where(place > 0, sums[place - 1], 0.0)", "mass += sums[place - 1]", "sums below the first edge"),
        ("if not (1 - 1e-12) * radius <= size", "if not 0.5 * radius <= size", "a shift that is too small taken"),
    ]),
    "cert_core/sequential/tests.py": ("core/test_budgets.py core/test_sequential.py", [
        ("reach = int(12 * math.sqrt(n * p * (1 - p)) + 80)", "reach = int(6 * math.sqrt(n * p * (1 - p)))",
         "binomial tails cut at six deviations and not counted"),
        ("self.passed = (*self._crossed, False).index(False)", "self.passed = sum(self._crossed)",
         "a threshold counted although a lower one has not passed"),
        ("        state[1] = mass[:passed]\n", "", "paths that have stopped counted on"),
        ("* ((j + 1) / len(looks)) - spent", "* ((j + 2) / len(looks)) - spent", "a look's share of alpha spent ahead"),
        ("        spent += float(tails[passed]) if passed < len(mass) else 0.0\n", "", "what earlier looks spent forgotten"),
        ("self._crossed[level] |= k >= test.certify[self._look]", "self._crossed[level] |= k >= test.certify[self._look] - 1",
         "a threshold passed one vote too soon"),
        ("last - off / slope - 4.0 * EPS * np.abs(last)", "last + 1e-9 * np.abs(last)", "the sequence above its exact value"),
        ("goal, rest, middle = -math.log(level)", "goal, rest, middle = -math.log(2.0 * level)", "a confidence sequence at 2 alpha"),
        ("        terms += 8.0 * EPS * math.log2(length) * spread\n", "", "what transforms lose not counted"),
    ]),
    "cert_core/sequential/plans.py": ("core/test_adaptive.py core/test_budgets.py", [
        ("p_lower = max(before, mixture_lower(successes, n, plan.alpha))",
         "p_lower = max(before, successes / n)", "an estimate for a bound"),
        ("return self._plan.radii[passed - 1], self._plan.thresholds[passed - 1], decided",
         "return self._plan.radii[-1], self._plan.thresholds[-1], decided", "the largest radius for any that passed"),
        ("np.maximum.accumulate(required_probability(noise, attack, np.array(levels)))",
         "np.minimum.accumulate(required_probability(noise, attack, np.array(levels)))", "the first radius's threshold for all"),
        ("if stopped == 0 or stopped != len(looks):", "if stopped == 0:", "votes beyond where a test stops read"),
    ]),
    "cert_core/sequential/votes.py": ("core/test_adaptive.py models/test_independence.py hostile/test_hostile_lattice.py", [
        ("            self.stage, self.drawn = 1, 0\n", "            self.stage = 1\n", "estimation samples begun after those of the selection"),
        ("stream=kernels.stream_of(STAGES[self.stage])", "stream=kernels.stream_of(STAGES[0])",
         "both stages of a sequential run from one stream"),
        ("each.count(labels[low:high], failed[low:high])",
         "each.count(labels[: high - low], failed[low:high])",
         "votes of another input of the batch"),
    ]),
    "cert_core/bounds.py": (
        "core/test_oracle.py core/test_search.py hostile/test_intervals.py core/test_properties.py core/test_discrete.py", [
        ("return np.where(1.0 - value < p, np.nextafter(value, 0.0), value)", "return value", "a complement rounded up"),
        ("return min(math.nextafter(value, 2.0) if short else value, 1.0)", "return min(math.nextafter(value, 0.0), 1.0)",
         "the probability needed rounded down"),
        ("excess <= p - 0.5 if excess < 0.25 else deficit >= 1.0 - p\n        low, high", "excess <= p - 0.5 + 1e-9 if excess < 0.25 else deficit >= 1.0 - p\n        low, high",
         "a radius searched with slack"),
        ("if high - low < apart:\n            return math.exp(low)", "if high - low < apart:\n            return math.exp(high)", "the end that is not certified"),
        ("one(x) / unit * (1 - 1e-14)", "one(x) / unit * (1 + 1e-14)", "closed radii rounded up"),
        ("below = complement_below(probabilities(\"level\", level))", "below = complement_above(probabilities(\"level\", level))",
         "an upper bound from below"),
    ]),
    "cert_core/executors.py": ("models/test_engines.py", [
        ("    if version != package_version():\n", "    if False:\n", "workers of another version taken"),
        ('    if getattr(_here, "key", None) != key:\n', '    if getattr(_here, "key", None) is None:\n', "another classifier's answers"),
        ("        self._again.extend(self._pieces(call))\n", "", "work that failed once left out"),
    ]),
    "cert_core/calibration.py": ("core/test_calibration.py core/test_radii.py", [
        ("(1.0 - SHRINK * shared.resolution)", "(1.0 + SHRINK * shared.resolution)", "interpolated radii rounded up"),
        ("if worst <= self.resolution:", "if worst <= 1e-3:", "a curve that does not fit"),
        ("np.searchsorted(at_edges, log_normal_scores) - 1", "np.searchsorted(at_edges, log_normal_scores)", "the next piece of a curve"),
        ("radii * (noise.scale_unit * (1.0 - 1e-15))", "radii * (noise.scale_unit * (1.0 + 1e-6))", "radii in another unit"),
    ]),
    "cert_core/separation.py": ("core/test_certify.py core/test_discrete.py", [
        ("return bool(first > complement_above(second))", "return bool(first > 1.0 - second - 1e-6)", "classes apart that are not"),
        ("SHRINK = 3e-10", "SHRINK = -3e-10", "the far side of a root"),
    ]),
    "cert_core/laws/mixed.py": ("core/test_sides.py core/test_mixed.py", [
        ("        return self._interval(t)[1]\n", "        return self._interval(t)[0]\n",
         "the mixed law's lower and discrepancy with their errors on the unsafe side"),
        ("(back + back_error - 0.5) * share", "(back - back_error - 0.5) * share", "half of the error of p_min on the unsafe side"),
        ("total, error = self._beneath(t, floor), LEFT_OUT + ROUNDING * table.dim", "total, error = 0.0, LEFT_OUT + ROUNDING * table.dim",
         "the mass near zero left out"),
        ("                error += miss + inner\n", "                error += miss\n", "errors of the nodes not counted"),
        ("return max(value - error, 0.0), min(value + error, 1.0)", "return max(value, 0.0), min(value + error, 1.0)",
         "an enclosure without its lower end"),
    ]),
    "cert_core/laws/quadrature.py": ("core/test_sides.py core/test_oracle.py", [
        ("return excess + above, overlap", "return excess, overlap", "p_min without its error"),
        ("overlap - half - below, gap", "overlap - half + below, gap",
         "1 - p_min with its error on the unsafe side"),
        ("overlap = (values[1] - margin(values[1], errors[1])) * max(lam, 1.0)", "overlap = values[1] * max(lam, 1.0)",
         "a lower bound without its error"),
        ("direct -= values[3] - margin(values[3], errors[3])", "direct -= values[3] + margin(values[3], errors[3])",
         "a small discrepancy with its error on the unsafe side"),
        ("excess = values[0] + margin(values[0], errors[0])\n            value = lam", "excess = values[0]\n            value = lam",
         "a discrepancy without its error"),
        ("error + EPS * value * (16.0 + 3.0 * abs(math.log(value)))", "error", "rounding of a probability not counted"),
    ]),
    "cert_core/laws/closed.py": ("core/test_sides.py core/test_closed_forms.py", [
        ("return down(value, 8.0 + 4.0 * (abs(z) + self.mu) ** 2)", "return value", "the Gaussian bound as rounded"),
        ("            value = p * math.exp(-self.m)\n", "            value = 0.25 * math.exp(-self.m) / q\n",
         "the printed corollary below 1/2"),
        ("low, high = math.nextafter(value - slack, 0.0), math.nextafter(value + slack, 1.0)", "low, high = value - slack, value + slack",
         "an end of Laplace's enclosure as rounded"),
        ("share = -math.expm1(-0.5 * (tau + self.m))", "share = -math.expm1(-0.5 * (tau - self.m))", "Laplace's discrepancy at another threshold"),
    ]),
    "cert_core/laws/atomic.py": ("core/test_sides.py core/test_discrete.py", [
        ("return math.nextafter(value, -math.inf) if a * d > n * b else value", "return value", "fractions to nearest"),
        ("return mass * (1 + self.error) + TINY", "return mass * (1 - self.error)", "masses rounded down"),
        ("return min(law.lower(p) for law in self._laws)", "return max(law.lower(p) for law in self._laws)", "the best of all splits"),
        ("return max(excess for excess, _ in pairs), min(deficit for _, deficit in pairs)", "return pairs[0]", "one split for all"),
        ("order = 1 if step > 0 else -1  # ascending ratio", "order = 1", "atoms in descending ratio"),
        ("return _overlap(1 - kept)", "return _overlap(kept)", "what is lost for what is kept"),
    ]),
    "cert_core/laws/__init__.py": (
        "core/test_discrete.py core/test_threats.py core/test_closed_forms.py core/test_dominance.py", [
        ('size = shift.norm(2.0, record.dim) if geometry == "sphere" else shift.size', "size = shift.size",
         "the diagonal as short as an axis"),
        ("return GaussianLaw(_in_scales(shift.norm(2.0, dim), record.sigma))", "return GaussianLaw(_in_scales(shift.size, record.sigma))",
         "a Gaussian's corner taken for its edge"),
    ]),
    "cert_core/threats.py": ("core/test_threats.py core/test_properties.py", [
        ('(math.inf, "l1"): ("axis", "(b), contains Theorem 2")', '(math.inf, "l1"): ("diagonal", "(b), contains Theorem 2")',
         "another shift than the worst"),
        ("exponent = max(0.0, 1.0 / q - 1.0 / p)", "exponent = max(0.0, 1.0 / p - 1.0 / q)", "an inclusion that does not include"),
        ("return Shift(kind, math.nextafter(factor * radius, math.inf), False, reason)", "return Shift(kind, factor * radius, True, reason)",
         "an inclusion called tight"),
        ("        return self.size * math.pow(dim, 1.0 / order)", "        return self.size", "norms of the diagonal"),
    ]),
    "cert_core/noises.py": ("core/test_noises.py core/test_scaled.py", [
        ("unit = cls.unit(dim, k, norm, power)", "unit = cls.unit(dim, k)", "RadialNoise.with_rms without norm and power"),
    ]),
    "cert_core/densities.py": ("core/test_noises.py core/test_kernels.py core/test_oracle.py", [
        ("return (self.dim - self.k) / self.power", "return (self.dim - self.k + 1) / self.power", "a radius of another dimension"),
        ("power_term(self.k, s) - (s / self.scale) ** self.power", "-((s / self.scale) ** self.power)", "a density without its power term"),
        ("math.inf: (self.dim + 2) / 3", "math.inf: self.dim / 3", "the rms of cubes"),
        ("return self.scale / math.sqrt(2) if self.norm == 2.0 else self.scale", "return self.scale", "coordinates of another scale"),
    ]),
    "cert_core/quantiles.py": ("core/test_kernels.py core/test_moments.py", [
        ("np.where(small < -70.0, small, values) / power", "np.where(small < -70.0, small, values)", "radii to another power"),
        ("left = 0.5 * np.log(half / (1.0 - half))", "left = np.log(half / (1.0 - half))", "cosines too wide"),
    ]),
    "cert_core/moments.py": ("core/test_moments.py", [
        ("return mean * direction, spread + other + spread * other", "return mean * direction, spread + other", "variance of a product"),
    ]),
    "cert_core/joint.py": ("core/test_joint.py", [
        ("kept = ~(p[order] <= alpha / np.arange(len(p), 0, -1.0))", "kept = ~(p[order] <= alpha)", "many labels at alpha each"),
        ("rejected[order[: kept.argmax() if kept.any() else len(p)]] = True", "rejected[order] = ~kept", "labels beyond Holm's first failure"),
        ("np.where(distinct == 0, 1.0, tail * (1.0 + MARGIN))", "np.where(distinct == 0, 1.0, tail * (1.0 - 1e-3))", "p-values rounded down"),
    ]),
    "cert_core/routing.py": ("core/test_routing.py", [
        ("return split_alpha(alpha, (1, 1))[0]", "return alpha", "router and branch at alpha each"),
        ("radius[rows] = np.minimum(router.radius[rows], branch.radius)", "radius[rows] = branch.radius", "a branch beyond what its router is certified for"),
        ('    check_apart("branches", APART, drawn, ANEW)\n', "", "branches certified by the votes that chose them"),
        ("remedy=remedy) ^ 1 << 31", "remedy=remedy)", "a router's samples those of its branches"),
        ("    _check_memory([*chosen, *(table for pair in given for table in pair or ())])\n", "", "one table for router and branch"),
        ("        _check_inputs(number, branch, router, rows)\n", "", "a branch of other inputs"),
        ("        branch = whole if size == len(rows) else whole[rows]\n", "        branch = whole[: len(rows)]\n", "rows of a branch moved"),
        ('            raise fail("noise", rule, noise, "give all the same scales")', "            pass", "the smaller of radii of two measures"),
    ]),
    "cert_core/percentiles.py": ("core/test_percentiles.py", [
        ("    level, r = alpha_value(alpha) / 2, radius_value(radius)\n    above =", "    level, r = alpha_value(alpha), radius_value(radius)\n    above =",
         "both ends of a percentile at alpha each"),
        ("return n + 1 - _rank(n, below, level), _rank(n, above, level)", "return n + 2 - _rank(n, below, level), _rank(n, above, level)",
         "a rank too high"),
        ("betting_lower(complement_below(values), level)", "betting_lower(values, level)", "an upper mean from below"),
    ]),
    "cert_core/proof.py": ("core/test_shell_proofs.py core/test_proof.py", [
        ("        tail = count * worst\n", "        tail = worst\n", "each of the masses by shell at alpha"),
        ("share /= norms.between(", "share *= norms.between(", "masses of a class taken for its share of the noise"),
        ("sum(cast[:j]), sum(drawn[:j]), share", "cast[j - 1], drawn[j - 1], share", "votes of a shell for those within it"),
        ("if taus[0] == -math.inf or any(later > tau for tau, later in pairwise(taus)):", "if taus[0] == -math.inf:",
         "multipliers that rise outwards"),
        ("return mass >= 1 or mass >= _norms(noise)", "return mass >= 0 or mass >= _norms(noise)",
         "an endless multiplier where the class has not all of the noise"),
    ]),
    "cert_core/balls.py": ("core/test_shell_proofs.py core/test_proof.py", [
        ("curve = Integral(law, abs(cell.tau), -1 if cell.tau > 0 else 1)",
         "curve = Integral(law, abs(cell.tau), 1 if cell.tau > 0 else -1)", "l = tau for l = -tau"),
        ("curve.reaching(edge, True) for edge", "curve.reaching(edge, False) for edge", "|z| for |z - delta| at edges"),
        ("        left = beyond\n", "        left = right\n", "where a curve leaves an edge"),
        ("return total - Level(law, last).value(share, left) if last.is_finite() else total", "return total",
         "what lies within the last edge"),
        ("return self.value(tolerance, *middles) + slack(self.mass(spread))",
         "return self.value(tolerance, *middles) * 0.999999", "a little less of the noise within a norm"),
    ]),
    "cert_core/deterministic.py": ("core/test_discrete.py", [
        ("steps = margin.min(axis=1) // 2", "steps = (margin.min(axis=1) + 1) // 2", "a copy more than may change"),
        ("[:, None] - table - ~beaten", "[:, None] - table", "ties that the label loses"),
    ]),
    "cert_core/rounding.py": ("hostile/test_hostile_print.py models/test_report.py", [
        ("return _rounded(value, digits, ROUND_FLOOR)", "return _rounded(value, digits, ROUND_CEILING)", "radii printed rounded up"),
        ("// int(total))", "// int(total) + 1)", "shares printed rounded up"),
    ]),
    "cert_core/kernels/cpu/rows.py": ("core/test_kernels.py", [
        ("return philox(sample & mask, sample >> shift, block, stream + U64(1), key)", "return philox(sample & mask, sample >> shift, block, stream, key)",
         "row quantities in the stream of the coordinates"),
        ("words(lane_row, none, first + U64(low), U64(0), stream + U64(1), key, w)", "words(lane_row, none, first, U64(0), stream + U64(1), key, w)",
         "radii of every 256 rows the same"),
        ("words(lane_row, lane_block, first + U64(row), U64(base // slots), stream, key, w)", "words(lane_row, lane_block, first + U64(row), U64(0), stream, key, w)",
         "coordinates beyond a tile the same"),
        ("part, sample = out[low : low + chunk], first + U64(low)", "part, sample = out[low : low + chunk], first", "every chunk of rows the same"),
    ]),
    "cert_core/copies.py": ("core/test_copies.py", [
        ("        other += other >= self.codes\n", "", "flips that may stay"),
        ("            left -= seen\n", "", "coordinates shown that are not drawn"),
    ]),
    "cert_core/native/formulas.h": ("core/test_oracle.py core/test_sides.py", [
        ("return k > 0.0 ? k * u + tail : tail;", "return tail;", "a law without its power term"),
        ("if (t >= g) return -INFINITY;", "if (t > 2.0 * g) return -INFINITY;", "a threshold that is never reached"),
        ("*central = 0.5 * erf(zeta * 0.70710678118654752440) - correction;", "*central = 0.5 * erf(zeta * 0.70710678118654752440);",
         "caps as those of a normal"),
        ("CC_FN double cc_log_sum(double w) { return w < -30.0 ? -w : log1p(exp(-w)); }", "CC_FN double cc_log_sum(double w) { return w < -3.0 ? -w : log1p(exp(-w)); }",
         "sums cut off too soon"),
    ]),
    "cert_core/native/engine.pyx": ("core/test_oracle.py core/test_sides.py core/test_chance.py", [
        ("cdef double OMITTED = 85.0", "cdef double OMITTED = 12.0", "mass of the radius left out"),
        ("DEGREE = 29", "DEGREE = 34", "the error of a panel by fewer conditions"),
        ("2.0 * distance(POINTS", "0.0 * distance(POINTS", "panels without an error"),
        ("return (law.dim - 1.0) * cc_log_gap(w) if law.dim > 1.0 else 0.0", "return law.dim * cc_log_gap(w) if law.dim > 1.0 else 0.0",
         "a cone of another dimension"),
    ]),
    "cert_core/native/drawing.h": ("core/test_gpu.py core/test_kernels.py core/test_moments.py", [
        ("k1 += 0xBB67AE85u;", "k1 += 0xBB67AE84u;", "another generator than the contract's"),
    ]),
    "cert_core/kernels/reference.py": ("core/test_kernels.py models/test_blocks.py core/test_lattice.py", [
        ("_copies(noise, copied, high - low, seed, start + low, stream)", "_copies(noise, copied, high - low, seed, start, stream)", "every block of copies the same"),
        ("rows = _rows(noise, high - low, seed, start + low, stream", "rows = _rows(noise, high - low, seed, start, stream", "every block of rows the same"),
        ("bounded = _bounded_rows(noise, len(rows[part]), key, samples[part], stream)", "bounded = _bounded_rows(noise, len(rows[part]), key, samples[: len(rows[part])], stream)",
         "every block on a lattice the same"),
    ]),
    "cert_core/kernels/host.py": ("core/test_kernels.py core/test_shell_votes.py", [
        ("z = draw(noise, size, seed, start=start + low, dtype", "z = draw(noise, size, seed, start=start, dtype", "every block of norms the same"),
    ]),
    "cert_core/kernels/cpu/backend.py": ("core/test_kernels.py core/test_monte_carlo.py", [
        ("noise, len(part), seed, start=start + at, out=part", "noise, len(part), seed, start=start + low, out=part", "every block of log ratios the same"),
    ]),
    "cert_core/tuning/parts.py": ("core/test_tuning.py", [
        ("if both := sorted(set(first) & set(second)):", "if both := []:", "winners certified by inputs that chose them"),
    ]),
    "cert_core/tuning/halving.py": ("core/test_tuning.py", [
        ("block = min(BLOCK, rest, (self.left() - end) // worst if worst else rest)", "block = min(BLOCK, rest)", "a budget that does not hold"),
        ("self.enough = math.log(max(len(most) - 1, 1) / rho)", "self.enough = math.log(1.0 / 0.9)", "rivals told to be worse by chance"),
        ("- other[:both])", "- other[len(other) - both :])", "gaps between answers to other inputs"),
        ("- math.log(len(STAKES)), 0.0)", ", 0.0)", "players that begin with more than they have"),
        ("-self.scores(objective, c).mean()", "self.scores(objective, c).mean()", "the worse half kept"),
    ]),
    "cert_core/tuning/winners.py": ("core/test_tuning.py", [
        ("given[inputs], n0, n, alpha, attack, seed, indices=parts[1]", "given[np.array(parts[0])], n0, n, alpha, attack, seed, indices=parts[0]",
         "the numbers of the inputs that chose, as fresh ones"),
        ("    count, half = len(certificates), checked_rho(rho) / 2\n", "    count, half = len(certificates), min(5 * rho, 0.5)\n", "intervals at several times rho"),
        ("right = (certificates.label == np.asarray(labels)) & (", "right = (True) & (", "wrong labels counted as certified"),
    ]),
}  # fmt: skip

MODELS: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "cert_models/tuning.py": ("models/test_tune.py hostile/test_hostile_tune.py", [
        ("if both := others[part] & set(store.indices(name)):", "if both := set():", "parts that changed places in a store"),
        ("[index for index in chosen if index not in known]", "list(chosen)", "what a store has counted again"),
        ("(name, run), inputs = self._run(FRESH, number), self.parts[1]", "(name, run), inputs = self._run(FRESH, number), self.parts[0]",
         "the command's fresh numbers by the inputs that chose"),
    ]),
    "cert_models/estimators.py": ("models/test_estimators.py", [
        ("cc.draw(noise, copies, seed, start=i * copies, center=row", "cc.draw(noise, copies, seed, center=row",
         "every input fitted under the same noise"),
        ("places.get(label, len(places))", "places.get(label, 0)", "a class that fit did not see is the first"),
    ]),
    "cert_models/smooth/classifier.py": ("models/test_smooth.py models/test_independence.py", [
        ("part = votes[max(low - start, 0) : max(low + size - start, 0)]", "part = votes[: max(low + size - start, 0)]",
         "votes of other inputs of the batch"),
        ("                    done += len(votes)\n", "", "parts of a batch given to its first inputs"),
        ("return torch.where(told, scores.argmax(dim=1), self.num_classes)", "return scores.argmax(dim=1)", "NaN taken for a vote"),
        ("                raise cc.votes.DrawAgain from error\n", "                continue\n", "copies that were not classified left out"),
        ("        check_votes(int(table[:, -2].sum()))\n", "", "copies without a vote left out"),
        ("        self._modes.check()\n        rows, found", "        rows, found", "training mode taken"),
    ]),
    "cert_models/smooth/checks.py": ("models/test_smooth.py models/test_batches.py hostile/test_hostile_models.py", [
        ("    others[kept] = batch[kept]\n    if apart(others)", "    if apart(batch)", "rows that look at each other taken"),
        ("        if isinstance(part, BatchNorm) and part.running_mean is None:", "        if False:", "batch statistics without training mode taken"),
    ]),
    "cert_models/commands/routes.py": ("models/test_routed_runs.py", [
        ("level = cc.routing.halves(options.alpha)", "level = options.alpha", "tests of a router and of its branches at alpha each"),
    ]),
    "cert_models/commands/options.py": ("models/test_routed_runs.py models/test_command_line.py", [
        ("with_rms(rms=rms, **values)", "with_rms(rms=2 * rms, **values)", "a level that was not asked for"),
        ("if any(BRANCH in row.extra for row in rows):", "if False:", "a routed log taken for one of one noise"),
    ]),
    "cert_models/run.py": (
        "models/test_promises.py models/test_independence.py models/test_power_cut.py models/test_engines.py", [
        ("estimation = smoothed.counts(x, stop - start, run.seed, indices=[index], start=start)",
         'estimation = smoothed.counts(x, stop - start, run.seed, indices=[index], start=start, stage="selection")',
         "both stages of a run from one stream"),
        ('mean = smoothed.mean_scores(x, plan.n0, run.seed, indices=[index], stage="selection")[0]',
         "mean = smoothed.mean_scores(x, plan.n0, run.seed, indices=[index])[0]", "the class of a soft run chosen by the scores that bound it"),
        ("stretch.x, run.seed, indices=indices)", "stretch.x, run.seed)", "the index of the second block of inputs mixed up"),
        ("                        store.add(self.name, votes)\n                yield from block",
         "                        store.add(self.name, votes)\n                    yield from block",
         "an input reported before it is committed"),
        ("units = np.floor(scores[0].astype(np.float64) * SCORE_UNIT)", "units = np.ceil(scores[0].astype(np.float64) * SCORE_UNIT)", "scores kept rounded up"),
        ("run.seed, indices=[index], start=start)", "run.seed, indices=[index])", "all stretches of an input of the same samples"),
    ]),
    "cert_models/engines.py": ("models/test_engines.py", [
        ("estimation=np.sum([part.estimation for part in parts], axis=0)", "estimation=parts[0].estimation", "an input's votes those of one part"),
        ("if sum(samples for samples, _ in of_it) == self._samples:", "if sum(samples for samples, _ in of_it) >= self._samples // 2:", "an input told before all its parts are counted"),
        ("at, start = (at + 1, 0) if stop == each else (at, stop)", "at, start = (at + 1, 0) if stop == each else (at, stop - 1)", "a sample counted twice at a seam"),
    ]),
    "cert_models/store/storage.py": ("models/test_power_cut.py models/test_promises.py models/test_counts.py", [
        ('self._db.execute("PRAGMA synchronous = FULL")', 'self._db.execute("PRAGMA synchronous = NORMAL")', "the store's log not synced"),
        ('self._db.execute("BEGIN IMMEDIATE")', 'self._db.execute("BEGIN")', "the transaction's lock taken late"),
        ("                sync(new)\n", "", "a new store not synced"),
        ("                self.check_held()\n                yield", "                yield", "a transaction on a file that is gone"),
        ('        if damage != "ok":\n', "        if False:\n", "damage of pages unseen"),
    ]),
    "cert_models/store/counts.py": ("models/test_routed_runs.py models/test_promises.py models/test_counts.py models/test_sound_runs.py hostile/test_hostile_sound_runs.py", [
        ('TOLD = {"counts": 5', 'TOLD = {"counts": 4', "the conflict check blind to a sequential path"),
        ("        with as_store_errors():\n            _check(run, votes)\n", "", "votes that no plan can have cast kept"),
        ("        for part, cast in parts_of(run, votes):\n            _check(part, cast)\n", "        pass\n", "votes that no router can have cast kept"),
        ("if kept is not None and kept != now:", "if False:", "a row read with many others that is not as it was written"),
        ('head = f"({table!r}, {about[1:]!r}, "', 'head = f"({table!r}, "', "rows of one run read as another's"),
    ]),
    "cert_models/store/runs.py": ("models/test_routed_runs.py models/test_counts.py models/test_promises.py", [
        ('_total("selection", votes.selection, self.n0, votes)\n        _total("estimation", votes.estimation, self.n, votes)\n        _absent(votes)\n',
         '_total("selection", votes.selection, self.n0, votes)\n        _absent(votes)\n', "votes of another number of samples"),
        ("seed=cc.routing.router_seed(self.seed)", "seed=self.seed", "a router's samples those of its branches"),
        ('        if (CODE in mine[told]) != (CODE in theirs[told]):', "        if True:", "a model's code not told apart"),
    ]),
    "cert_models/store/readings.py": ("models/test_routed_runs.py models/test_promises.py models/test_counts.py models/test_blocks.py", [
        ("number.adjusted() - 2", "number.adjusted() - 3", "a published radius taken as exact to a digit too many"),
        ("p, step = exact - step * (1.0 - exact) - 2.0**-53, 4 * step", "break", "a probability above the radius it is read from"),
        ("        if given != own:\n", "        if False:\n", "a sequential run read at another alpha"),
        ("was_sent(each) for each in votes], sends.label", "was_sent(each) for each in votes], [each.router.selected for each in votes]", "a label whose router is not certified"),
        ("share, asked = cc.routing.halves(alpha),", "share, asked = alpha,", "a routed run read at alpha each"),
        ("part = distinct[low : low + MANY]", "part = distinct[:MANY][: len(distinct) - low]", "votes of the first block of inputs for all"),
    ]),
    "cert_models/store/results.py": ("models/test_report.py models/test_blocks.py", [
        ("right = (self.predict == self.labels) & (self.predict != cc.ABSTAIN)", "right = self.predict == self.labels", "abstentions right"),
        ("return int(binom.ppf(1 - share, len(self), self.alpha))", "return int(binom.ppf(share, len(self), self.alpha))", "the other quantile"),
        ("self.certified[wrong:]", "self.certified[: len(self) - wrong]", "the smallest radii left out"),
        ("wrong = 0 if rho is None else self.wrong_at_most(rho)\n        return max(", "wrong = 0\n        return max(", "a probable version that is the plain one"),
        ("self.failed[low : low + BLOCK].tolist()", "self.failed[:count].tolist()", "FAILs of the first block of rows for all"),
    ]),
    "cert_models/store/fingerprints.py": ("models/test_promises.py models/test_workers.py models/test_engines.py", [
        ("    if _told(code) not in _codes(", "    if False and _told(code) not in _codes(", "code that ran before its file changed taken for the file's"),
        ("sorted([*model.named_parameters(), *model.named_buffers()])", "sorted(model.state_dict().items())",
         "a fingerprint that misses non-persistent buffers"),
        ('head = f"{name} {tensor.dtype} {tuple(tensor.shape)}"', 'head = ""', "tensors of another shape or name"),
        ("np.ascontiguousarray(data.y).tobytes(), *inputs", "*inputs", "data with other labels"),
    ]),
    "cert_models/files/outputs.py": ("models/test_power_cut.py models/test_files.py", [
        ("            sync(new)\n", "", "a file that appears before its content"),
        ("            sync(target.parent)\n", "", "a name that a power cut takes back"),
        ("(os.replace if over else os.link)(new, target)", "os.replace(new, target)", "a file that was there replaced"),
    ]),
    "cert_models/logs.py": ("models/test_logs.py hostile/test_hostile_logs.py", [
        ("{radius!r}", "{radius:.3g}", "radii of a log to nearest"),
        ('radius = 0.0 if predict == cc.ABSTAIN else _number("radius", values["radius"])', 'radius = _number("radius", values["radius"])',
         "an abstention's radius"),
        ("        predict, radius, allowed = cc.ABSTAIN, 0.0, (0, 1)\n", "        radius, allowed = abs(radius), (0, 1)\n",
         "a negative radius turned round"),
        ('np.where(free, 0.0, whole["radius"])', 'np.abs(whole["radius"])', "negative radii of many rows turned round"),
        ("if (ordered[1:] == ordered[:-1]).any() or not _is_correct(whole)", "if not _is_correct(whole)", "an input twice in a log"),
    ]),
    "cert_models/audit.py": ("models/test_audit.py", [
        ("    least = math.comb(inputs, drawn) * _level(confidence)\n    low, high = wrong", "    least = 2 * math.comb(inputs, drawn) * _level(confidence)\n    low, high = wrong",
         "an audit at twice its level"),
        ("return max(int(more.clip(min=0).sum()), int(-more.clip(max=0).sum()))", "return abs(int(more.sum()))", "votes moved between classes unseen"),
        ("wrong = [each.index for each in differences if each.votes > allow]", "wrong = [each.index for each in differences if each.votes > allow + 1]",
         "a differing vote too many allowed"),
    ]),
    "cert_models/reports/page.py": ("models/test_promises.py models/test_report.py", [
        ("size = reach(r.attack, float(r.radius[at]), 3)", "size = f\"{float(r.radius[at]):.3f}\"", "the page's radius to nearest"),
        ("right = r.predict[at] == r.labels[at]", "right = r.predict[at] != cc.ABSTAIN", "a wrong class shown as right"),
    ]),
    "cert_models/reports/tables.py": ("models/test_promises.py models/test_report.py", [
        ('axis.step(*steps_of(result, reach, rho), where="pre", **steps)', 'axis.step(*steps_of(result, reach, rho), where="post", **steps)',
         "the curve to the wrong side"),
        ("percent(result.count(r, rho), len(result)) if result.says(r) else UNTESTED", "percent(result.count(r, rho), len(result))", "shares at radii that were not tested"),
        ("average = radius(result.average_radius(rho)) if result.tested is None else UNTESTED", "average = radius(result.average_radius()) if result.tested is None else UNTESTED",
         "the plain average beside a probable version"),
    ]),
    "cert_models/networks/checkpoints.py": ("models/test_models.py hostile/test_hostile_checkpoints.py", [
        ("torch.load(path, map_location=\"cpu\", weights_only=True)", "torch.load(path, map_location=\"cpu\", weights_only=False)", "code run from a checkpoint"),
        ("    if not all(same_normalization(layer, layers[0]) for layer in layers):", "    if False:", "two normalisations, the first taken"),
    ]),
    "cert_models/commands/config.py": ("models/test_command_line.py", [
        ("if _named(leaf)[name].dest not in taken}", "if True}", "an option of the file where the command line excludes it"),
        ("value = said.get(action.dest, action.default)", "value = action.default", "defaults saved in place of what was run"),
        ("action.default, action.required, action.type = before", "action.default, action.required = before[:2]",
         "options read as text from there on"),
    ]),
    "cert_models/networks/train.py": ("models/test_train.py", [
        ("start=recipe.epochs * len(data),", "start=0,", "trials under the noise that was trained on"),
        ("    module.train(training)\n    return clean", "    return clean", "a network that trains on as it is evaluated"),
        ('    if kept.get("fingerprint") != (None if', '    if kept.get("fingerprint") is None != (None if', "a history of other inputs held out"),
    ]),
    "cert_models/data/datasets.py": ("models/test_blocks.py models/test_train.py hostile/test_hostile_data.py", [
        ("self.of(np.sort(order[count:]))", "self.of(np.sort(order))", "inputs held out that are trained on"),
        ("x.max(initial=0) >= DARK", "x.max(initial=0) >= 1", "bits and few grey levels taken for 0..255"),
        ("(x.ndim > 2 and x.max", "(x.ndim > 1 and x.max", "features taken for pixels"),
        ("np.float32) / np.float32(255)", "np.float32)", "radii in grey levels"),
        ("noise.checked(self.x[low : low + BLOCK])", "noise.checked(self.x[:BLOCK])", "inputs beyond the first block not looked at"),
    ]),
    "cert_models/data/scales.py": ("models/test_blocks.py", [
        ("total = total + apart**2 * (low * len(rows) / new)", "total = total + apart**2 * (len(rows) / new)", "deviations between blocks"),
    ]),
}  # fmt: skip

# Why some change nothing that could be told.
EQUIVALENT = {
    "cert_core/tails.py: the rest of a tail not counted": "it is exp(-33) of the tail, whose stated "
    "error is 1e-12 of it",
}


def slips() -> Iterator[Slip]:
    """All of them, in the order of the tables."""
    for file, (nearest, rows) in (CORE | MODELS).items():
        for old, new, breaks in rows:
            yield Slip(file, old, new, breaks, tuple(nearest.split()))

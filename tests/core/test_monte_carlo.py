"""Monte-Carlo bounds: validity by simulation, agreement with exact laws.

Simulated coverage is at alpha = .05 with 2000 repetitions; more than 149 misses have
chance below 1e-6 for a valid bound, and catch a miss rate of .0944 with power .999.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import threats

import cert_core as cc
from cert_core import kernels, samples
from cert_core.kernels import PI0, reference
from cert_core.monte_carlo import METHODS, MonteCarlo

LAPLACE = (cc.Laplace(4, 1.0), "l1", 1.2)
GAUSSIAN = (cc.Gaussian(4, 1.0), "l2", 1.0)
CUBE = (cc.LinfNoise(4, 1.0, 1.0), "l1", 1.5)
REPETITIONS, ALLOWED = 2000, 149

DEFINITION = kernels.backend("reference")


def sampling(**changes: Any) -> dict[str, Any]:
    return {"n": 20_000, "alpha": 0.01, "seed": 1, "backend": "cpu", **changes}


# Two counts take ten seconds each; test_budgets.py holds their numbers to SciPy's.
@pytest.mark.parametrize("threat", [GAUSSIAN, LAPLACE, CUBE], ids=["l2", "l1", "edge"])
@pytest.mark.parametrize(
    "method", ["hoeffding", "dkw", pytest.param("clopper-pearson", marks=pytest.mark.slow)]
)
def test_coverage(threat: tuple[cc.Noise, str, float], method: str) -> None:
    """hoeffding and dkw: no p at all over-certified but in alpha of the runs."""
    p = np.array([0.3, 0.6, 0.8, 0.95, 0.999])
    exact, needed = cc.lower_bound(p, *threat), cc.required_probability(*threat)
    over = np.zeros(len(p), int)
    anywhere = short = 0
    for seed in range(REPETITIONS):
        bounds = MonteCarlo(*threat, n=300, alpha=0.05, seed=seed, method=method)
        above = bounds.lower_bound(p) > exact * (1 + 1e-9)
        over += above
        anywhere += above.any()
        short += bounds.required_probability() < needed * (1 - 1e-12)
    assert over.max() <= ALLOWED
    assert short <= ALLOWED
    if method != "clopper-pearson":
        assert anywhere <= ALLOWED


@given(threats(st.integers(1, 200)), st.sampled_from(METHODS))
@settings(max_examples=60)
def test_against_exact_laws(threat: tuple[cc.Noise, str, float], method: str) -> None:
    """Sound, and loose by no more than three Hoeffding widths, at alpha = 1e-9 (fixed seed)."""
    noise, attack, _ = threat
    bounds = MonteCarlo(*threat, method=method, **sampling(alpha=1e-9))
    p = np.array([0.2, 0.5, 0.7, 0.9, 0.99])
    lower, needed = bounds.lower_bound(p), bounds.required_probability()
    width = 3 * math.sqrt(math.log(2e9) / (2 * bounds.n))
    if cc.is_tight(noise, attack):
        assert (lower <= cc.lower_bound(p, *threat) * (1 + 1e-9) + 1e-12).all()
        assert needed >= cc.required_probability(*threat) * (1 - 1e-12)
    # exact laws of larger balls bound from one side only
    looser = cc.lower_bound(np.maximum(p - width, 0.0), *threat)
    assert (lower >= looser - width).all()
    assert needed <= cc.required_probability(*threat) + width


def test_methods_relate() -> None:
    """dkw's constant is smaller than the paper's; two counts are far tighter near p = 1."""
    needed = {
        (rho, m): cc.monte_carlo.monte_carlo_required(
            cc.Gaussian(5, 1.0), "l2", rho, n=100_000, alpha=0.001, seed=0, method=m
        ).required
        for rho in (0.5, 1.0, 2.0, 3.0)
        for m in METHODS
    }
    # SOUNDNESS 2b: means of 40 runs
    means = {
        (0.5, "hoeffding"): 0.69770, (1.0, "hoeffding"): 0.84718, (2.0, "hoeffding"): 0.98340,
        (0.5, "dkw"): 0.69741, (1.0, "dkw"): 0.84689, (2.0, "dkw"): 0.98311,
        (0.5, "clopper-pearson"): 0.70115, (1.0, "clopper-pearson"): 0.84789,
        (2.0, "clopper-pearson"): 0.97943, (3.0, "clopper-pearson"): 0.99905,
    }  # fmt: skip
    for key, value in means.items():
        assert needed[key] == pytest.approx(value, abs=0.004 if key[0] < 2 else 0.001)
    assert needed[3.0, "hoeffding"] == needed[3.0, "dkw"] == 1.0
    gap = needed[1.0, "hoeffding"] - needed[1.0, "dkw"]
    expected = (math.sqrt(math.log(2000)) - math.sqrt(math.log(1000))) / math.sqrt(200_000)
    assert gap == pytest.approx(expected, rel=1e-6)


def test_the_paper_s_bound_in_closed_form() -> None:
    """monte_carlo_bound is the hinge bound of the same draws."""
    noise, attack, radius = CUBE
    p = np.linspace(0.05, 1, 20)
    record = cc.monte_carlo_bound(p, noise, attack, radius, **sampling(backend="reference"))
    shift = cc.worst_shift(noise, attack, radius)
    draws = reference.draw_log_ratio(noise, shift, 20_000, 1, stream=PI0)
    np.testing.assert_allclose(record.lower, DEFINITION.hinge_bound(draws, p, 0.01), atol=1e-13)
    for method in ("hoeffding", "dkw"):  # one p is answered by a selection, many by a sort
        ask = sampling(method=method)
        many = cc.monte_carlo_bound(p, noise, attack, radius, **ask).lower
        one = [cc.monte_carlo_bound(q, noise, attack, radius, **ask).lower for q in p]
        np.testing.assert_allclose(one, many, atol=1e-13)
    assert (record.alpha, record.n, record.method) == (0.01, 20_000, "hoeffding")
    assert record.alpha_split == {"pi0": 0.01}
    assert "Theorem 2" in record.shift_reason


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threat", [GAUSSIAN, LAPLACE, CUBE], ids=["l2", "l1", "edge"])
def test_streaming_agrees_with_keeping(
    threat: tuple[cc.Noise, str, float], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples too long to keep: order statistics exactly, hinges to second order."""
    kept = MonteCarlo(*threat, method=method, **sampling())
    p = np.array([0.3, 0.7, 0.95])
    lower, needed = kept.lower_bound(p), kept.required_probability()
    monkeypatch.setattr(samples, "KEEP", 100)
    monkeypatch.setattr(samples, "CHUNK", 3000)
    streamed = MonteCarlo(*threat, method=method, **sampling())
    if method == "clopper-pearson":
        np.testing.assert_array_equal(streamed.lower_bound(p), lower)
        assert streamed.required_probability() == needed
    else:
        again = streamed.lower_bound(p)
        assert (again <= lower + 1e-12).all()
        np.testing.assert_allclose(again, lower, atol=2e-5)
        assert streamed.lower_bound(0.7) == again[1]
        assert needed <= streamed.required_probability() <= needed + 2e-5


@pytest.mark.parametrize("threat", [GAUSSIAN, LAPLACE], ids=["l2", "l1"])
def test_hinges_of_chunks_are_those_of_all_draws(
    threat: tuple[cc.Noise, str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the lowest lam, which other chunks than the first have no draw below."""
    monkeypatch.setattr(samples, "KEEP", 10)
    monkeypatch.setattr(samples, "CHUNK", 7)
    source, _ = samples.source_of(*threat, backend="reference")
    lam, hinges = samples.Sample(source, 60, 1, PI0).hinge()
    draws = np.concatenate(list(source.chunks(60, 1, PI0, False)))
    exact = np.maximum(lam[:, None] - np.exp(draws), 0.0).mean(axis=1)
    np.testing.assert_allclose(hinges, exact, rtol=1e-12, atol=1e-14)


def test_radius_on_a_grid() -> None:
    """The last grid point before the first failure; nested, so never above the truth."""
    noise = cc.Gaussian(5, 1.0)
    grid = np.linspace(0.05, 3, 60)
    p = [0.4, 0.6, 0.9, 0.99]
    radii = cc.monte_carlo.monte_carlo_radius(p, noise, "l2", grid, n=100_000, alpha=1e-6, seed=3)
    exact = cc.certified_radius(p, noise, "l2")
    assert radii[0] == 0.0
    assert (radii <= exact).all()
    assert (radii[1:] >= exact[1:] - 0.16).all()
    assert set(radii) <= {0.0, *grid}


def test_radius_zero() -> None:
    for method in METHODS:
        bounds = MonteCarlo(cc.Gaussian(3, 1.0), "l2", 0.0, **sampling(), method=method)
        assert bounds.lower_bound(0.7) == 0.7
        assert bounds.required_probability() == 0.5


# ---- a noise of one's own ----


def student_like(symmetric: bool = True) -> cc.CustomNoise:
    """The Gaussian again, by plain callables."""
    return cc.CustomNoise(
        dim=3,
        log_density=lambda z: -0.5 * (z**2).sum(axis=1),
        sampler=lambda n, rng: rng.standard_normal((n, 3)),
        worst_shift=lambda attack, radius: np.array([radius, 0.0, 0.0]),
        symmetric=symmetric,
        justification="rotations leave the density alone, so only the length counts",
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_custom_noise(method: str, symmetric: bool) -> None:
    custom, exact = student_like(symmetric), cc.Gaussian(3, 1.0)
    record = cc.monte_carlo_bound(
        [0.6, 0.9], custom, "l2", 0.8, n=50_000, alpha=1e-9, seed=0, method=method
    )
    truth = cc.lower_bound([0.6, 0.9], exact, "l2", 0.8)
    assert (record.lower <= truth).all()
    assert (record.lower >= truth - 0.06).all()
    assert record.shift_reason == custom.justification
    needed = cc.monte_carlo.monte_carlo_required(
        custom, "l2", 0.8, n=50_000, alpha=1e-9, seed=0, method=method
    ).required
    assert 0 <= needed - cc.required_probability(exact, "l2", 0.8) < 0.06


def test_compiled_callables() -> None:
    """Numba-compiled densities and samplers are callables like others."""
    from numba import njit

    @njit
    def density(z: Any) -> Any:
        out = np.empty(len(z))
        for i in range(len(z)):
            out[i] = -np.abs(z[i]).sum()
        return out

    custom = cc.CustomNoise(
        2, density, lambda n, rng: rng.laplace(size=(n, 2)),
        lambda attack, radius: np.array([radius, 0.0]), True, "Theorem 2 for the Laplace noise",
    )  # fmt: skip
    lower = cc.monte_carlo_bound(0.9, custom, "l1", 0.5, n=50_000, alpha=1e-6, seed=0).lower
    truth = cc.lower_bound(0.9, cc.Laplace(2, 1.0), "l1", 0.5)
    assert truth - 0.05 < lower <= truth


BAD = [
    (lambda: cc.monte_carlo_bound(0.5, *GAUSSIAN, **sampling(n=0)), "n must be an integer >= 1"),
    (lambda: cc.monte_carlo_bound(1.5, *GAUSSIAN, **sampling()), "p must be in [0, 1], got 1.5"),
    (lambda: cc.monte_carlo_bound(0.5, *GAUSSIAN, **sampling(alpha=1)), "alpha must be a number"),
    (lambda: cc.monte_carlo_bound(0.5, *GAUSSIAN, **sampling(method="exact")), "method must be"),
    (lambda: cc.monte_carlo_bound(0.5, "x", "l2", 1, **sampling()), "noise must be a noise or"),  # type: ignore[arg-type]
    (
        lambda: cc.monte_carlo.monte_carlo_radius(0.9, GAUSSIAN[0], "l2", [1, 0.5], **sampling()),
        "grid must be an ascending vector",
    ),
    (
        lambda: cc.CustomNoise(3, len, len, len, True, "because"),
        "justification must be a sentence, got 'because'",
    ),
    (lambda: cc.CustomNoise(3, 1, len, len, True, "a b c"), "log_density must be callable"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()
    assert message in str(caught.value)


def test_custom_functions_are_checked() -> None:
    good = student_like()
    for field, function, message in (
        ("sampler", lambda n, rng: np.zeros((n, 2)), "sampler must be rows of shape"),
        ("log_density", lambda z: np.zeros((len(z), 2)), "log_density must be of shape"),
        (
            "log_density",
            lambda z: np.full(len(z), np.nan),
            "log_density must be finite at every draw",
        ),
        ("worst_shift", lambda a, r: np.zeros(2), "worst_shift must be a vector of 3"),
    ):
        values = {f: getattr(good, f) for f in good.__dataclass_fields__}
        bad = cc.CustomNoise(**{**values, field: function})
        with pytest.raises(ValueError, match=message):
            cc.monte_carlo_bound(0.5, bad, "l2", 1.0, **sampling())


def test_the_law_of_given_draws() -> None:
    """EmpiricalLaw: the hinge mean without its epsilon, and a band around the exact law."""
    noise, attack, radius = cc.L2Noise(20, 1.0, 5), "l2", 0.4
    shift = cc.worst_shift(noise, attack, radius)
    sample = reference.draw_log_ratio(noise, shift, 20_000, 3, stream=PI0)
    law, exact = cc.laws.EmpiricalLaw(sample), cc.log_ratio_law(noise, attack, radius)
    t = np.linspace(-2, 2, 41)
    lower, upper = law.enclose(t)
    assert (lower <= exact.cdf(t)).all()
    assert (exact.cdf(t) <= upper).all()
    np.testing.assert_allclose(law.cdf(t) + law.sf(t), 1.0, rtol=0, atol=1e-15)
    assert law.ppf(0.25) == np.sort(sample)[4999]
    epsilon = math.sqrt(math.log(2 / 0.01) / 40_000)
    for p in (0.3, 0.7, 0.95):
        assert law.lower(p - epsilon) == pytest.approx(
            DEFINITION.hinge_bound(sample, p, 0.01), rel=1e-12
        )
        lam = math.exp(law.ppf(p))
        hinge = np.maximum(lam - np.exp(sample), 0).mean()
        assert law.discrepancy(lam) == pytest.approx(hinge, rel=1e-10)
        assert law.lower(p) == pytest.approx(lam * p - hinge, rel=1e-10)
    needed = 0.5 + law.required()[0]
    assert law.lower(needed) == pytest.approx(0.5, abs=1e-10)
    assert needed == pytest.approx(cc.required_probability(noise, attack, radius), abs=0.01)
    with pytest.raises(ValueError, match="log_ratio must be below 709"):
        cc.laws.EmpiricalLaw([0.0, math.inf])


def one_sided_exponential() -> cc.CustomNoise:
    return cc.CustomNoise(
        dim=1,
        log_density=lambda z: np.where(z[:, 0] > -1, -(z[:, 0] + 1), -np.inf),
        sampler=lambda n, rng: rng.exponential(size=(n, 1)) - 1,
        worst_shift=lambda attack, radius: np.array([radius]),
        symmetric=False,
        justification="one dimension, and the shift to the right",
    )


def laplace(symmetric: bool, dtype: Any = np.float64) -> cc.CustomNoise:
    return cc.CustomNoise(
        dim=1,
        log_density=lambda z: (-np.abs(z[:, 0]) / 0.5).astype(dtype),
        sampler=lambda n, rng: rng.laplace(scale=0.5, size=(n, 1)),
        worst_shift=lambda attack, radius: np.array([radius]),
        symmetric=symmetric,
        justification="Zhang et al. 2020, Theorem 2",
    )


@pytest.mark.parametrize("method", METHODS)
def test_atoms_that_rounding_smears(method: str) -> None:
    """A log density's rounding puts the draws of an atom on several floats, under pi_delta on
    others than under pi0: counts that disagree on which side they lie would certify too much."""
    options: dict[str, Any] = {"n": 100_000, "alpha": 1e-6, "seed": 0, "method": method}
    noise, r = one_sided_exponential(), 0.5
    p = np.array([0.6, 0.9])
    truth = (p - (1 - math.exp(-r))) * math.exp(r)
    lower = cc.monte_carlo_bound(p, noise, "l1", r, **options).lower
    assert ((truth - 0.03 < lower) & (lower <= truth)).all()
    needed = 1 - 0.5 * math.exp(-r)
    found = cc.monte_carlo.monte_carlo_required(noise, "l1", r, **options).required
    assert needed <= found < needed + 0.01
    radius = cc.monte_carlo.monte_carlo_radius(
        0.72, noise, "l1", np.linspace(0.04, 1, 25), **options
    )
    assert 0.5 < radius <= -math.log(2 * 0.28)


def test_what_rounding_may_have_moved_counts_against_us() -> None:
    """Below lam under pi0 whatever may be, under pi_delta what must be."""
    noise = dataclasses.replace(
        laplace(False), log_density=lambda z: 1e12 - np.abs(z[:, 0]) / 0.5
    )  # of so large numbers that draws lie within what their rounding may move
    n, alpha = 2000, 0.02
    bounds = MonteCarlo(noise, "l1", 0.5, n=n, alpha=alpha, seed=0, method="clopper-pearson")
    draws, moved = bounds._pi0.drawn, bounds._pi_delta.drawn
    assert draws is not None
    assert moved is not None
    log_lam, upper, lower = bounds._counts(0.0)
    blur = bounds._pi0.blur
    near = [np.count_nonzero(np.abs(each - log_lam) < 0.99 * blur) for each in (draws, moved)]
    assert min(near) > 5
    assert upper >= cc.binomial_upper(np.count_nonzero(draws < log_lam + 0.99 * blur), n, alpha / 2)
    assert lower <= cc.binomial_lower(np.count_nonzero(moved < log_lam - 0.99 * blur), n, alpha / 2)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_laplace_of_one_s_own(symmetric: bool, dtype: Any) -> None:
    options: dict[str, Any] = {"n": 100_000, "alpha": 1e-6, "seed": 0, "method": "clopper-pearson"}
    noise, exact = laplace(symmetric, dtype), cc.Laplace(1, 0.5)
    p = [0.6, 0.8, 0.95, 0.99]
    for r in (0.1, 0.5, 1.0, 1.5):
        truth = cc.lower_bound(p, exact, "l1", r)
        found = cc.monte_carlo_bound(p, noise, "l1", r, **options).lower
        assert (found <= truth).all()
        assert (found > truth - 0.02 * math.exp(r / 0.5)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worst_shift": lambda attack, radius: np.zeros(1)}, "worst_shift must be of l1 norm 0.5"),
        ({"worst_shift": lambda a, r: np.array([r - 1e-9])}, "worst_shift must be of l1 norm 0.5"),
        ({"sampler": lambda n, rng: rng.normal(size=(n, 1)) - 1}, "finite at every draw"),
    ],
)
def test_noises_that_contradict_themselves(change: dict[str, Any], message: str) -> None:
    noise = dataclasses.replace(one_sided_exponential(), **change)
    for method in METHODS:
        with pytest.raises(ValueError, match=message):
            cc.monte_carlo_bound(0.9, noise, "l1", 0.5, n=1000, alpha=0.01, seed=0, method=method)

"""cert radius, cert bound, cert verify: numbers from p, a noise and an attack."""

from __future__ import annotations

import argparse
import math
from typing import Any

import cert_core as cc
from cert_core.rounding import in_full, lower, nearest, radius, reach, upper
from cert_models.commands.options import (
    add_attack,
    add_noise,
    add_output,
    emit,
    listed,
    noise_of,
    rms_of,
)

MONTE_CARLO = ("hoeffding", "dkw", "clopper-pearson")


def add(commands: Any) -> None:
    """The parsers of this group."""
    radius = commands.add_parser(
        "radius", help="certified radius of a probability",
        example="cert radius --noise l2 --dim 3072 --rms 0.25 --k 1500 --attack l2 --p 0.99",
    )  # fmt: skip
    bound = commands.add_parser(
        "bound", help="lower bound at a radius, and the p it needs",
        example="cert bound --noise laplace --dim 3072 --b 0.2 --attack l1 --p 0.9 --radius 0.2",
    )  # fmt: skip
    for parser in (radius, bound):
        add_noise(parser)
        add_attack(parser)
        add_output(parser)
        parser.add_argument("--p", type=float, required=True, help="class probability under noise")
    radius.set_defaults(run=run_radius)
    bound.add_argument("--radius", type=float, required=True, help="radius of the attack")
    bound.add_argument(
        "--method", choices=("exact", *MONTE_CARLO), default="exact",
        help="the exact law, or a Monte-Carlo bound with confidence 1 - alpha",
    )  # fmt: skip
    add_sampling(bound)
    bound.set_defaults(run=run_bound)
    verify = commands.add_parser(
        "verify", help="closed forms, exact laws, Monte Carlo side by side",
        example="cert verify --dims 1,64 --n 20000",
    )  # fmt: skip
    add_output(verify)
    add_sampling(verify)
    verify.add_argument("--dims", default="1,2,5,64,784,3072", help="dimensions, comma-separated")
    verify.set_defaults(run=run_verify)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """What a Monte-Carlo method needs."""
    parser.add_argument("--n", type=int, default=100_000, help="draws of each Monte-Carlo sample")
    parser.add_argument("--alpha", type=float, default=0.001, help="failure probability")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument(
        "--backend", choices=("cpu", "reference", "gpu"), default="cpu", help="what draws"
    )


def run_radius(options: argparse.Namespace) -> int:
    """cert radius."""
    noise = noise_of(options)
    found = cc.certified_radius(options.p, noise, options.attack)
    tight = cc.is_tight(noise, options.attack)
    rms = rms_of(noise)
    values = {
        "radius": found, "p": options.p, "attack": options.attack, "tight": tight,
        "rms": rms, "noise": noise.to_dict(),
    }  # fmt: skip
    text = f"certified {options.attack} radius  {reach(options.attack, found, 10)}"
    if options.attack == "l0":
        what = f"entries of {noise.dim} may change" if options.p > 0.5 else "not even at 0 changes"
        text += f"  ({what})"
    if rms is not None:
        text += (
            f"\nin units of the noise's rms  {radius(found / rms, 6)}  "
            f"(rms {nearest(rms)} a coordinate)"
        )
    if not tight:
        text += "\nsound but not tight: " + cc.log_ratio_law(noise, options.attack, 1.0).reason
    emit(options, values, text)
    return 0


def run_bound(options: argparse.Namespace) -> int:
    """cert bound."""
    noise = noise_of(options)
    pair = (noise, options.attack, options.radius)
    values: dict[str, Any] = {"p": options.p, "radius": options.radius, "method": options.method}
    if options.method == "exact":
        least, needed = cc.lower_bound(options.p, *pair), cc.required_probability(*pair)
    else:
        sampling = {
            "n": options.n, "alpha": options.alpha, "seed": options.seed,
            "method": options.method, "backend": options.backend,
        }  # fmt: skip
        least = cc.monte_carlo_bound(options.p, *pair, **sampling).lower
        needed = cc.monte_carlo.monte_carlo_required(*pair, **sampling).required
        values.update(sampling)
    values.update(lower=least, required=needed, certified=options.p > needed)
    certified = "yes" if options.p > needed else "no"
    text = (
        f"lower bound at radius {in_full(options.radius)}  {lower(least, 12)}\n"
        f"p needed to certify it      {upper(needed, 12)}\n"
        f"certified at p = {in_full(options.p)}        {certified}"
    )
    emit(options, values, text)
    return 0


def verification_grid(dims: list[int]) -> list[tuple[cc.Noise, str, float]]:
    """(noise, attack, radius) over families, attacks and sizes."""
    grid: list[tuple[cc.Noise, str, float]] = []
    for dim in dims:
        noises: list[cc.Noise] = [cc.Gaussian(dim, 1.0), cc.Laplace(dim, 1.0)]
        for k in (0.0, 0.5 * dim):
            noises += [
                family.with_rms(dim, 1.0, k) for family in (cc.L1Noise, cc.L2Noise, cc.LinfNoise)
            ]
        for noise in noises:
            for attack in cc.ATTACKS:
                shift = cc.worst_shift(noise, attack, 1.0)
                size = noise.rms / shift.norm(2.0, dim)
                grid += [(noise, attack, z * size) for z in (0.3, 2.0)]
        grid += [
            (cc.Flips(dim, 2, 0.8), "l0", float(min(2, dim))),
            (cc.Splitting(dim, 0.5), "l1", 0.25),
        ]
    return grid


def closed_twin(noise: cc.Noise) -> cc.Noise | None:
    """A noise whose bounds are the same, by another law: the quadrature where the noise has a
    closed form, zeros and ones told apart, uniform noise for splits."""
    if isinstance(noise, cc.Gaussian):
        return cc.L2Noise(noise.dim, noise.sigma)
    if isinstance(noise, cc.Laplace):
        return cc.L1Noise(noise.dim, noise.b)
    if isinstance(noise, cc.Flips):
        return cc.SparseFlips(noise.dim, 1 - noise.keep, 1 - noise.keep)
    if isinstance(noise, cc.Splitting):
        return cc.Uniform(noise.dim, noise.scale)
    return None


def check(
    noise: cc.Noise, attack: str, radius: float, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the verification: exact against its twin, and against Monte Carlo where the
    noise has a density."""
    needed = cc.required_probability(noise, attack, radius)
    law = cc.log_ratio_law(noise, attack, radius)
    row: dict[str, Any] = {
        "noise": noise.to_dict(), "attack": attack, "radius": radius, "required": needed,
        "tight": law.tight, "ok": True,
    }  # fmt: skip
    twin = closed_twin(noise)
    if twin is not None:
        row["quadrature"] = cc.required_probability(twin, attack, radius)
        row["ok"] &= abs(row["quadrature"] - needed) <= 1e-11 * needed
    if not noise.dense:
        return row
    estimate = cc.monte_carlo.monte_carlo_required(
        noise, attack, radius, n=options.n, alpha=options.alpha, seed=options.seed,
        method="dkw", backend=options.backend,
    ).required  # fmt: skip
    row["monte_carlo"] = estimate
    # dkw's bound is p_min's estimate plus epsilon; the estimate is within band of p_min
    # but for a chance of 2e-9.  A loose exact bound may lie above it by any amount.
    epsilon, band = (math.sqrt(math.log(x) / (2 * options.n)) for x in (1 / options.alpha, 1e9))
    low, high = (min(needed + epsilon + sign * band, 1.0) for sign in (-1, 1))
    row["ok"] &= bool(estimate <= high and (estimate >= low or not law.tight))
    return row


def run_verify(options: argparse.Namespace) -> int:
    """cert verify: exit status 1 where two of them disagree."""
    dims = listed("--dims", options.dims, int)
    rows = [check(*place, options) for place in verification_grid(dims)]
    bad = [row for row in rows if not row["ok"]]
    lines = [
        f"{'noise':9}{'dim':>7}{'k':>8} {'attack':6}{'radius':>11}  "
        f"{'p_min':<15}{'quadrature':<15}{'monte carlo':<13}"
    ]
    for row in rows:
        noise = row["noise"]
        twin = upper(row["quadrature"], 11) if "quadrature" in row else "-"
        lines.append(
            f"{noise['noise']:9}{noise['dim']:>7}{in_full(noise.get('k', 0)):>8} {row['attack']:6}"
            f"{radius(row['radius'], 7):>11}  {upper(row['required'], 11):<15}{twin:<15}"
            f"{upper(row['monte_carlo']) if 'monte_carlo' in row else '-':<9}"
            f"{'' if row['ok'] else '  DISAGREES'}{'' if row['tight'] else '  (not tight)'}"
        )
    lines.append(f"{len(rows)} checked, {len(bad)} disagree (Monte Carlo with n = {options.n})")
    emit(options, {"rows": rows, "disagree": len(bad)}, "\n".join(lines))
    return 1 if bad else 0

"""Intervals of every noise family side by side: the levels between which a percentile of the
worst function lies at a perturbed input, and the samples without which nothing bounds it."""

import math

import cert_core as cc

DIM, RMS, ALPHA = 64, 1.0, 0.001
FAMILIES = {
    "Gaussian": (cc.Gaussian, 0),
    "L2Noise, k = d/2": (cc.L2Noise, 32),
    "Laplace": (cc.Laplace, 0),
    "L1Noise, k = d/2": (cc.L1Noise, 32),
    "LinfNoise, k = 0": (cc.LinfNoise, 0),
    "LinfNoise, k = d/2": (cc.LinfNoise, 32),
    "MixedNoise, k = d/10": (cc.MixedNoise, 6.4),
}
RADII = {"l1": (0.3, 1.0), "l2": (0.3, 1.0), "linf": (0.3 / 8, 1.0 / 8)}
MOST = 10**7


def samples(lower, upper):
    """The fewest n whose smallest and largest values lie beyond the levels, each with
    probability 1 - alpha/2."""
    reach = max(1.0 - lower, upper)
    n = math.log(ALPHA / 2) / math.log(reach) if reach < 1.0 else math.inf
    if n > MOST:
        return "none"
    unit = 10 ** max(len(str(math.ceil(n))) - 3, 0)  # three figures, rounded up
    return str(math.ceil(n / unit) * unit)


for share in (0.5, 0.99):
    heads = [f"{attack}, {radius:.4g} | n" for attack, radii in RADII.items() for radius in radii]
    print(f"| share {share:g} | {' | '.join(heads)} |\n| {'--- | ' * 13}".rstrip())
    for name, (family, k) in FAMILIES.items():
        noise = family.with_rms(DIM, RMS, k)
        cells = []
        for attack, radii in RADII.items():
            for radius in radii:
                lower = cc.lower_bound(share, noise, attack, radius)
                upper = cc.bounds.inverse_bound(share, noise, attack, radius)
                ends = math.floor(1e3 * lower) / 1e3, math.ceil(1e4 * upper) / 1e4
                cells += ["{:.3f} to {:.4f}".format(*ends), samples(lower, upper)]
        print(f"| {name} | {' | '.join(cells)} |")
    print()

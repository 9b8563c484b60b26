"""Pictures of the numbers of cert_models.reports.paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.reports.paper import FAMILIES, NORM, Numbers, rivals
from cert_models.reports.settings import settings

COLOUR = {"Eq. 11": "C0", "Eq. 12": "C1", "Eq. 13": "C2"}
STYLE = {"Eq. 11": "-", "Eq. 12": "-", "Eq. 13": "--"}


def draw(numbers: Numbers, name: str, path: str) -> None:
    """Write the picture of a figure's numbers.

    Parameters
    ----------
    numbers : from the function of cert_models.reports.paper called name
    name : "norms", "overlap", "frontier", "tradeoff" or "dimension"
    path : .png, .svg or .pdf file
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with settings():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        PICTURES[name](numbers, figure)
        figure.suptitle(numbers.title, fontsize="medium")
        figure.savefig(path, dpi=150)


def _norms(numbers: Numbers, figure: Any) -> None:
    figure.set_size_inches(6, 3.9)
    axis = figure.subplots()
    for moved, label in (("k", "k grows, sigma = 1"), ("sigma", "sigma falls, k = 0")):
        mean, variance = (numbers.column(c, moved=moved) for c in ("mean", "variance"))
        (line,) = axis.plot(mean, variance, label=label)
        drawn = [numbers.column(f"sampled {c}", moved=moved) for c in ("mean", "variance")]
        axis.plot(*drawn, "o", color=line.get_color(), fillstyle="none", markersize=7)
        if moved == "k":
            for x, y, k in zip(mean, variance, numbers.column("k", moved="k"), strict=True):
                axis.annotate(
                    f"k = {in_full(k)}", (x, y), (3, -14), textcoords="offset points", ha="left",
                    fontsize="small",
                )  # fmt: skip
    axis.plot([], [], "o", color="grey", fillstyle="none", markersize=7, label="sampled")
    axis.set(xlabel="mean of |z|_2", ylabel="variance of |z|_2", ylim=(0.0, 0.55))
    axis.margins(x=0.08)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")


def _overlap(numbers: Numbers, figure: Any) -> None:
    figure.set_size_inches(11, 3.9)
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    noises = rivals(2, 0.5)
    for axis, name in zip(axes, ("Eq. 12, k = 0.5 d", "Eq. 13, k = 0.5 d"), strict=False):
        _level_sets(axis, noises[name])
        axis.set_title(f"{name}, d = 2", fontsize="medium")
    axis = axes[2]
    for name in dict.fromkeys(numbers.column("noise")):
        x = numbers.column("d", noise=name)
        (line,) = axis.plot(
            x, numbers.column("at equal mean |z|_inf", noise=name), "o-", markersize=4, label=name
        )
        axis.plot(
            x, numbers.column("at equal rms", noise=name), "o:", markersize=4,
            color=line.get_color(),
        )  # fmt: skip
    axis.plot([], [], ":", color="grey", label="dotted: at equal rms")
    axis.set(xscale="log", xlabel="dimension d", ylabel="overlap", ylim=(0.0, 0.8))
    axis.set_title("solid: at equal mean |z|_inf", fontsize="medium")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="center right")


def _level_sets(axis: Any, noise: cc.Noise) -> None:
    """Three level sets of a noise of the plane and of its shifted copy, their overlap filled."""
    side = np.linspace(-2.6, 3.4, 301)
    z = np.stack(np.meshgrid(side, side), axis=-1)
    shift = np.full(2, 1 / np.sqrt(2))
    centred, moved = noise.log_density(z), noise.log_density(z - shift)
    drawn = cc.draw(noise, 20_000, 0, dtype="float64")
    levels = np.quantile(noise.log_density(drawn), [0.1, 0.4, 0.7])  # hold 90, 60, 30 %
    both = np.minimum(centred, moved)
    axis.contourf(side, side, both, [*levels, 1e9], colors=["0.9", "0.8", "0.7"])
    for values, colour in ((centred, "C0"), (moved, "C3")):
        axis.contour(side, side, values, levels, colors=colour, linestyles="-", linewidths=1.2)
    axis.set(xlabel="z_1; levels that hold 30, 60, 90 %", ylabel="z_2", aspect="equal")


def _frontier(numbers: Numbers, figure: Any) -> None:
    figure.set_size_inches(9, 6.4)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, ball in enumerate(NORM):
        for row, what in enumerate(("robustness", "bound")):
            axis = axes[row][column]
            for family in FAMILIES:
                where = {"ball": ball, "noise": family}
                axis.plot(
                    numbers.column("accuracy", **where), numbers.column(what, **where), marker="o",
                    markersize=4, label=family, color=COLOUR[family], linestyle=STYLE[family],
                )  # fmt: skip
            axis.grid(alpha=0.3)
        axes[0][column].set_title(f"{ball} ball", fontsize="medium")
        axes[1][column].set_xlabel("accuracy p")
    axes[0][0].set_ylabel("robustness, -D at one lambda")
    axes[1][0].set_ylabel("bound L(p), best lambda")
    axes[0][0].legend()


def _tradeoff(numbers: Numbers, figure: Any) -> None:
    figure.set_size_inches(6, 4.2)
    axis = figure.subplots()
    sigma = numbers.column("sigma")
    axis.plot(sigma, numbers.column("accuracy"), "k:", label="accuracy p")
    axis.plot(sigma, numbers.column("bound"), "k", linewidth=2.5, alpha=0.5, label="bound L(p)")
    for name in numbers.header[2:-2]:
        axis.plot(sigma, numbers.column(name), label=f"lambda p - D, {name}")
    axis.set(xlabel="sigma", ylabel="value", ylim=(-0.2, 1.05), xlim=(sigma[0], sigma[-1]))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _dimension(numbers: Numbers, figure: Any) -> None:
    figure.set_size_inches(8.5, 3.9)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, level in zip(axes, numbers.header[2:], strict=True):
        for name in dict.fromkeys(numbers.column("noise")):
            radii = numbers.column(level, noise=name)
            axis.loglog(numbers.column("d", noise=name), radii, "o-", markersize=4, label=name)
        axis.set(xlabel="dimension d")
        axis.set_title(level, fontsize="medium")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("certified linf radius")
    axes[0].legend(fontsize="small", loc="lower left")


PICTURES: dict[str, Callable[[Numbers, Any], None]] = {
    "norms": _norms,
    "overlap": _overlap,
    "frontier": _frontier,
    "tradeoff": _tradeoff,
    "dimension": _dimension,
}

"""The question of Zhang et al. 2020 on real digits: which noise certifies most?

    OMP_NUM_THREADS=1 python bench/study.py mnist10k.npz --folder study
    python bench/study.py mnist10k.npz --folder study --write docs

The first trains a network under every noise of a grid (`cert train`) and counts its votes on
the test and the tuning inputs (`cert certify`), in a folder; run again, it goes on from what
the folder has.  The second reads the votes once more, as certificates against every attack for
which the noise is exact, by p alone and by shells, and writes the tables into study.md there,
with its pictures.  The archive holds uint8 images x (N, 28, 28) and labels y (N,), in random
order: the first --train rows are trained on, the next --test are tested, and the next --tune
choose among models.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_core.rounding import in_full, nearest, rounded_down
from cert_models.cli import main as cert
from cert_models.commands.options import FAMILIES, listed
from cert_models.data.datasets import Dataset, load
from cert_models.logs import read_log, write_log
from cert_models.networks.models import load_model
from cert_models.networks.train import one_copy_each
from cert_models.reports.settings import settings
from cert_models.smooth import SmoothedClassifier
from cert_models.store.counts import CountStore
from cert_models.store.results import Result

Bools = np.ndarray[Any, np.dtype[np.bool_]]
NOISES = "gaussian,l2:392,l2:760,laplace,l1:392,l1:760,linf,linf:392,mixed:40,mixed:392"
PARTS = {"test": 0, "tune": 1}  # the seed of each, so that the draws of one are not the other's
ROUTER, COPIES = 2, 30  # the seed of what routes; votes an image that its network learns from
SENT_BELOW = [0.2, 0.4]  # quantiles of sureness, of training images, below which levels are lower
RADII = {
    "l1": [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0],
    "l2": [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0],
    "linf": [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07],
}
BASELINE = {"l1": "Laplace", "l2": "Gaussian", "linf": "Gaussian"}  # of the paper
ALONE, SHELLS = "clopper-pearson", "shells"
BLOCK = re.compile(r"(?<=<!-- numbers -->\n).*?(?=<!-- end of numbers -->)", re.DOTALL)


@dataclass(frozen=True)
class Model:
    """A network, by the noise that it is trained and smoothed under, and the training's seed."""

    family: str
    noise: cc.Noise
    level: float
    seed: int

    @property
    def kind(self) -> str:
        """Its noise but for the level."""
        k = getattr(self.noise, "k", 0.0)
        return self.family + (f"-{in_full(k)}" if k else "")

    @property
    def name(self) -> str:
        return f"{self.kind}-{in_full(self.level)}" + (f"-s{self.seed}" if self.seed else "")

    @property
    def options(self) -> list[str]:
        """Of the command line."""
        fields = dataclasses.fields(self.noise)  # type: ignore[arg-type]
        values = {f.name: getattr(self.noise, f.name) for f in fields if f.name != "dim"}
        pairs = [(f"--{key}", repr(value)) for key, value in values.items()]
        return ["--noise", self.family, *(word for pair in pairs for word in pair)]

    @property
    def row(self) -> str:
        """Of the tables."""
        name, k = type(self.noise).__name__, getattr(self.noise, "k", 0.0)
        return name if name in BASELINE.values() else f"{name}, k {'>' if k else '='} 0"

    @property
    def shells(self) -> bool:
        """Whether its votes are told apart by the size of their noise."""
        return not isinstance(self.noise, cc.MixedNoise)

    @cached_property
    def attacks(self) -> list[str]:
        """Those that it is exact for."""
        return [attack for attack in cc.ATTACKS if cc.is_tight(self.noise, attack)]

    def bounds(self, attack: str) -> list[str]:
        """What reads its votes: shells against the attack that the noise is made for alone."""
        own = {"L2Noise": "l2", "Gaussian": "l2"}.get(type(self.noise).__name__, "l1")
        return [ALONE, SHELLS] if self.shells and attack == own else [ALONE]


def models(noises: str, levels: list[float], seeds: int, dim: int) -> list[Model]:
    """A network for each noise NAME or NAME:K, each level, the root mean square a coordinate, and
    each seed."""
    found = []
    for seed, level, text in itertools.product(range(seeds), levels, noises.split(",")):
        family, _, k = text.partition(":")
        if family not in cc.NOISES:
            raise SystemExit(f"--noises must be of {', '.join(cc.NOISES)}, got {family}: choose")
        noise = FAMILIES[family].with_rms(dim, level, *([float(k)] if k else []))
        found.append(Model(family, noise, level, seed))
    return found


def kept(file: Path) -> Any:
    """The images of a part."""
    with np.load(file) as archive:
        return archive["x"]


def split(options: argparse.Namespace) -> int:
    """Write the parts of the data that the folder lacks; returns the pixels of an image."""
    try:
        with np.load(options.data) as archive:
            x, y = archive["x"], archive["y"]
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(
            f"data must be an .npz file of x and y, got {options.data} ({error})"
        ) from None
    low = 0
    for part in ("train", *PARTS):
        rows = slice(low, low + getattr(options, part))
        low = rows.stop
        if low > len(y):
            raise SystemExit(f"{options.data} must hold {low} images, got {len(y)}: lower --{part}")
        if not (file := options.folder / f"{part}.npz").exists():
            np.savez(file, x=x[rows], y=y[rows])
        elif rows.start < rows.stop and not np.array_equal(kept(file), x[rows]):
            raise SystemExit(f"--{part} must be as in {options.folder}: use another --folder")
    return int(np.prod(x.shape[1:]))


def run(*words: object) -> None:
    """A command of `cert`, which tells its errors itself."""
    if code := cert([str(word) for word in words]):
        raise SystemExit(code)


def counted(options: argparse.Namespace) -> dict[str, int]:
    """Inputs of each run that the folder has."""
    if not (path := options.folder / "votes.db").exists():
        return {}
    with CountStore(path, readonly=True) as store:
        return {name: len(store.indices(name)) for name in store.runs()}


def count(options: argparse.Namespace, grid: list[Model]) -> None:
    """Train and count what the folder lacks, the test inputs first."""
    for part, seed in PARTS.items():
        for model in grid if getattr(options, part) else ():
            name = f"{model.name} {part}"
            if counted(options).get(name) == getattr(options, part):
                continue
            print(f"==== {name}", flush=True)
            network = options.folder / f"{model.name}.pt"
            run(
                "train", "--data", options.folder / "train.npz", *model.options, "--arch", "mnist",
                "--epochs", options.epochs, "--batch-size", 64, "--seed", model.seed, "--out",
                network, "--resume", "--quiet",
            )  # fmt: skip
            run(
                "certify", "--data", options.folder / f"{part}.npz", *model.options, "--model",
                network, "--attack", model.attacks[0], "--n0", options.n0, "--n", options.n,
                "--alpha", options.alpha, "--seed", seed, "--classes", 10, "--quiet",
                *(["--shells", "--bound", "clopper-pearson"] if model.shells else []),
                "--store", options.folder / "votes.db", "--run", name,
            )  # fmt: skip


# ---- routing ----


class Sure(nn.Module):
    """Which branch a noisy copy is sent to: the higher, the surer the network is of its class."""

    def __init__(self, network: nn.Module, limits: torch.Tensor) -> None:
        super().__init__()
        self.network, self.limits = network, limits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = torch.bucketize(sureness(self.network, x), self.limits)
        return nn.functional.one_hot(branch, len(self.limits) + 1).float()


def sureness(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The largest probability that a network gives each of the rows."""
    found: torch.Tensor = network(x).softmax(dim=1).amax(dim=1)
    return found


@dataclass(frozen=True)
class Route:
    """Branches, from the lowest level to the highest, under whose noise the router is smoothed:
    a network trained for it, or what the highest's says of each copy."""

    branches: tuple[Model, ...]
    attack: str
    trained: bool = False

    @property
    def name(self) -> str:
        levels = "/".join(in_full(model.level) for model in self.branches)
        return f"{self.branches[0].kind}, {levels} by {'a network' if self.trained else 'sureness'}"

    @property
    def file(self) -> str:
        """The beginning of the names of its files."""
        names = "-".join(model.name for model in self.branches)
        return f"{'trained' if self.trained else 'routed'}-{names}-{self.attack}"

    def log(self, options: argparse.Namespace) -> Path:
        folder: Path = options.folder
        return folder / f"{self.file}.tsv"


def routes(grid: Sequence[Model]) -> list[Route]:
    """Neighbouring levels, and all of them, of the paper's baselines under l1 and l2."""
    found = []
    for attack, family in (("l1", "laplace"), ("l2", "gaussian")):
        mine = tuple(m for m in grid if m.family == family and not m.seed)
        parts = [*itertools.pairwise(mine), *([mine] if len(mine) > 2 else [])]
        found += [Route(part, attack) for part in parts]
        found += [Route(mine[-2:], attack, trained=True)] if len(mine) > 1 else []
    return found


def route(options: argparse.Namespace, route: Route) -> None:
    """Certify the test inputs by a route, into a log."""
    branches = [
        SmoothedClassifier(load_model(str(options.folder / f"{m.name}.pt"), 10), m.noise, 10)
        for m in route.branches
    ]
    train, test = (load(str(options.folder / f"{part}.npz")) for part in ("train", "test"))
    if route.trained:
        network = trained(options, route, branches, train)
    else:
        network = by_sureness(branches[-1], train, len(branches))
    router = SmoothedClassifier(network, branches[-1].noise, len(branches))
    made = cc.Routed(router, branches).certify(
        test.x, options.n0, options.n, options.alpha, route.attack, ROUTER
    )
    about = {"name": route.name, "indices": np.arange(len(test)), "labels": test.y}
    write_log(route.log(options), Result.of(made, **about).rows())


def by_sureness(strongest: SmoothedClassifier, train: Dataset, count: int) -> nn.Module:
    """The limits are quantiles over a copy of each image trained on."""
    copies = one_copy_each(strongest.noise, train.x, ROUTER, 0).reshape(train.x.shape)
    with torch.inference_mode():
        sure = sureness(strongest.base_classifier, torch.from_numpy(copies))
    limits = sure.quantile(torch.tensor(SENT_BELOW[: count - 1]))
    return Sure(strongest.base_classifier, limits)


def trained(
    options: argparse.Namespace,
    route: Route,
    branches: Sequence[SmoothedClassifier],
    train: Dataset,
) -> nn.Module:
    """A network that tells which branch certified most of an image, trained on those that the
    branches were trained on."""
    radii = []
    for part in branches:
        shares = part.probabilities(train.x, COPIES, ROUTER)[np.arange(len(train)), train.y]
        p = COPIES / (COPIES + 1) * shares  # short of 1: so few votes bound no radius
        radii.append(cc.certified_radius(p, part.noise, route.attack))
    best = np.argmax(radii, axis=0)
    data, network = (options.folder / f"{route.file}{end}" for end in (".npz", ".pt"))
    np.savez(data, x=train.x, y=best)
    run(
        "train", "--data", data, *route.branches[-1].options, "--arch", "mnist", "--classes",
        len(branches), "--epochs", options.epochs, "--batch-size", 64, "--seed", ROUTER, "--out",
        network, "--resume", "--quiet",
    )  # fmt: skip
    return load_model(str(network), len(branches))


# ---- what the votes certify ----


@dataclass(frozen=True)
class Reading:
    """A model's votes as certificates against one attack, by one bound."""

    model: Model
    attack: str
    bound: str
    test: Result
    tune: Result | None

    @property
    def family(self) -> str:
        return self.model.row + (", shells" if self.bound == SHELLS else "")


def result_of(options: argparse.Namespace, model: Model, part: str, *how: str) -> Result:
    """The certificates of a run, kept in a log."""
    attack, bound = how
    log: Path = options.folder / f"{model.name}-{part}-{attack}-{bound}.tsv"
    if not log.exists():
        run(
            "export", "--store", options.folder / "votes.db", "--run", f"{model.name} {part}",
            "--attack", attack, "--bound", bound, "--out", log,
        )  # fmt: skip
    return logged(log, attack)


def logged(log: Path, attack: str) -> Result:
    """What a log holds."""
    rows = sorted(read_log(log), key=lambda row: row.index)
    columns = [[getattr(row, name) for row in rows] for name in ("index", "label", "predict")]
    indices, labels, predict = map(np.array, columns)
    radius = np.array([row.radius for row in rows])
    return Result(
        name=log.stem, indices=indices, labels=labels, predict=predict, radius=radius, attack=attack
    )


def readings(options: argparse.Namespace, grid: Iterable[Model]) -> list[Reading]:
    """All that the folder has votes of."""
    done = counted(options)

    def has(model: Model, part: str) -> bool:
        return bool(done.get(f"{model.name} {part}") == getattr(options, part))

    return [
        Reading(
            model, attack, bound, result_of(options, model, "test", attack, bound),
            result_of(options, model, "tune", attack, bound)
            if bound == ALONE and has(model, "tune") else None,
        )
        for model in grid if has(model, "test")
        for attack in model.attacks
        for bound in model.bounds(attack)
    ]  # fmt: skip


def right_at(result: Result, radius: float) -> Bools:
    """Whether each input is certified at a radius with its own label."""
    held: Bools = (result.predict == result.labels) & (result.radius >= radius)
    return held


def mean(values: Any) -> tuple[float, float]:
    """In percent: the mean, and its standard error."""
    return 100 * float(np.mean(values)), 100 * float(np.std(values) / math.sqrt(len(values)))


def families(found: Sequence[Reading], attack: str) -> dict[str, list[Reading]]:
    """The readings by row of the tables, the paper's baseline first."""
    mine = [r for r in found if r.attack == attack]
    mine.sort(key=lambda r: (r.model.row != BASELINE[attack], r.family))
    return {name: [r for r in mine if r.family == name] for name in (r.family for r in mine)}


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join([f"**{caption}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def best(group: Sequence[Reading], radius: float, part: str) -> Reading:
    """The reading that certifies most of a part of the data."""
    return max(group, key=lambda r: right_at(getattr(r, part), radius).sum())


def best_here(groups: dict[str, list[Reading]], attack: str) -> str:
    """As in the paper: at each radius the best of a family's models on the test inputs."""

    def cell(group: list[Reading], radius: float) -> str:
        share, error = mean(right_at(best(group, radius, "test").test, radius))
        return f"{share:.1f} ± {error:.1f}" if share else "0"

    rows = [[name, *(cell(g, r) for r in RADII[attack])] for name, g in groups.items()]
    caption = f"{attack}: certified accuracy (%), best over models, chosen on the test inputs"
    return table(caption, [f"{attack} radius", *map(in_full, RADII[attack])], rows)


def best_elsewhere(groups: dict[str, list[Reading]], attack: str) -> str:
    """At each radius the model that is best on the tuning inputs, on the test inputs; and how
    much it certifies more there than the baseline's so chosen, input by input."""
    groups = {n: g for n, g in groups.items() if all(r.tune is not None for r in g)}
    if BASELINE[attack] not in groups:
        return ""

    def chosen(name: str, radius: float) -> tuple[Model, Bools]:
        found = best(groups[name], radius, "tune")
        return found.model, right_at(found.test, radius)

    def cell(name: str, radius: float) -> str:
        (model, held), (_, base) = chosen(name, radius), chosen(BASELINE[attack], radius)
        if not (held.any() or base.any()):
            return "0"
        text = f"{mean(held)[0]:.1f} [{model.name.removeprefix(model.family)[1:]}]"
        more, error = mean(held.astype(float) - base)
        return text if name == BASELINE[attack] else f"{text} ({more:+.1f} ± {error:.1f})"

    rows = [[name, *(cell(name, r) for r in RADII[attack])] for name in groups]
    caption = (
        f"{attack}: certified accuracy (%) of the model chosen on the tuning inputs [k, level], "
        f"and how it differs from {BASELINE[attack]}'s"
    )
    return table(caption, [f"{attack} radius", *map(in_full, RADII[attack])], rows)


def routing(options: argparse.Namespace, found: Sequence[Reading], grid: Sequence[Model]) -> str:
    """One classifier for all radii: single levels, and those that a router chooses among."""
    made = []
    for attack, group in itertools.groupby(routes(grid), key=lambda r: r.attack):
        done = [r for r in group if r.log(options).exists()]
        named = {
            f"{r.model.kind}, {in_full(r.model.level)}": r.test
            for r in found
            if (r.attack, r.bound) == (attack, ALONE)
            and r.model in [model for route in done for model in route.branches]
        } | {route.name: logged(route.log(options), attack) for route in done}
        rows = []
        for name, result in named.items():
            cells = [f"{mean(right_at(result, r))[0]:.1f}" for r in RADII[attack]]
            abstained = f"{100 * result.abstained / len(result):.1f}"
            rows.append([name, *cells, nearest(result.average_radius(), 3), abstained])
        head = [f"{attack} radius", *map(in_full, RADII[attack]), "average", "abstained"]
        made.append(table(f"{attack}: one classifier, certified accuracy (%)", head, rows))
    return "\n".join(made)


def all_models(found: Sequence[Reading], n: int, alpha: float) -> str:
    """A row a noise and level: what Figure 3 of the paper draws, and how far n votes reach."""
    top = alpha ** (1 / n)
    rows = []
    for kind, level in dict.fromkeys((r.model.kind, r.model.level) for r in found):
        mine = [r for r in found if (r.model.kind, r.model.level) == (kind, level)]
        noise, attacks = mine[0].model.noise, mine[0].model.attacks
        first = [r for r in mine if (r.attack, r.bound) == (attacks[0], ALONE)]
        cells = [" ".join(f"{mean(right_at(r.test, 0.0))[0]:.1f}" for r in first)]
        for attack, bound in itertools.product(cc.ATTACKS, (ALONE, SHELLS)):
            radii = [
                r.test.average_radius() for r in mine if (r.attack, r.bound) == (attack, bound)
            ]
            cells.append(" ".join(nearest(radius, 3) for radius in radii))
        for attack in cc.ATTACKS:
            reach = cc.certified_radius(top, noise, attack) if attack in attacks else None
            cells.append("" if reach is None else rounded_down(reach, 3))
        rows.append([f"{kind}, {in_full(level)}", *cells])
    head = ["noise, level", "accuracy"]
    head += [f"{attack}{by}" for attack in cc.ATTACKS for by in ("", ", shells")]
    head += [f"{attack} at most" for attack in cc.ATTACKS]
    empty = [i for i in range(len(head)) if not any(row[i] for row in rows)]
    caption = (
        "All models on the test inputs, a number a training: accuracy (%) of the smoothed "
        "classifier, average certified radii, and the largest radius that these votes can certify"
    )
    kept = [[c for i, c in enumerate(row) if i not in empty] for row in (head, *rows)]
    return table(caption, kept[0], kept[1:])


# ---- pictures ----


def drawn(path: Path, draw: Callable[[Any, str], None]) -> None:
    """A picture of three panels, one an attack."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with settings({"svg.hashsalt": "study", "svg.fonttype": "none"}):
        figure = Figure(figsize=(12.5, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        for axis, attack in zip(figure.subplots(1, 3), cc.ATTACKS, strict=True):
            draw(axis, attack)
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
        figure.savefig(path, format="svg", metadata={"Date": None})


def curves(found: Sequence[Reading]) -> Callable[[Any, str], None]:
    """Certified accuracy by radius, best over a family's models (Figure 4)."""
    names = list(dict.fromkeys(r.model.row for r in found))

    def draw(axis: Any, attack: str) -> None:
        radii = np.linspace(0, RADII[attack][-1], 61)
        alone = [r for r in found if r.bound == ALONE]  # shells would hide behind them
        for name, group in families(alone, attack).items():
            y = [right_at(best(group, r, "test").test, r).mean() for r in radii]
            axis.plot(radii, y, color=f"C{names.index(name)}", linewidth=1.4, label=name)
        axis.set(xlabel=f"{attack} radius", ylabel="certified accuracy", ylim=(0, 1))

    return draw


def tradeoffs(found: Sequence[Reading]) -> Callable[[Any, str], None]:
    """Accuracy against average radius, a point a model, a line a noise (Figure 3)."""

    def draw(axis: Any, attack: str) -> None:
        mine = [r for r in found if r.attack == attack and r.bound == ALONE]
        for kind in dict.fromkeys(r.model.kind for r in mine):
            levels: dict[float, list[tuple[float, float]]] = {}
            for r in (r for r in mine if r.model.kind == kind):
                point = right_at(r.test, 0.0).mean(), r.test.average_radius()
                levels.setdefault(r.model.level, []).append(point)
            x, y = np.transpose([np.mean(points, axis=0) for points in levels.values()])
            axis.plot(x, y, "o-", markersize=4, linewidth=1.0, label=kind.replace("-", ", k = "))
        axis.set(xlabel="accuracy of the smoothed classifier", ylabel=f"average {attack} radius")

    return draw


def write(options: argparse.Namespace, found: Sequence[Reading], grid: Sequence[Model]) -> None:
    """The tables into study.md, and the pictures beside it."""
    made = []
    for attack in cc.ATTACKS:
        if groups := families(found, attack):
            made += [best_here(groups, attack), best_elsewhere(groups, attack)]
    made.append(routing(options, found, grid))
    made.append(all_models(found, options.n, options.alpha))
    text = "\n" + "\n".join(filter(None, made)) + "\n"
    page = options.write / "study.md"
    old = (
        page.read_text("utf-8") if page.exists() else "<!-- numbers -->\n<!-- end of numbers -->\n"
    )
    page.write_text(BLOCK.sub(lambda _: text, old), "utf-8")
    drawn(options.write / "study-curves.svg", curves(found))
    drawn(options.write / "study-tradeoff.svg", tradeoffs(found))


def parser() -> argparse.ArgumentParser:
    """The grid, the sizes, and where things are."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("data", help="an archive .npz")
    made.add_argument("--folder", type=Path, default=Path("study"), help="what is kept")
    made.add_argument("--write", type=Path, help="a folder for tables and pictures; no counting")
    made.add_argument("--noises", default=NOISES, help="NAME or NAME:K, comma-separated")
    made.add_argument("--levels", default="0.25,0.5,1", help="rms a pixel")
    made.add_argument("--seeds", type=int, default=1, help="trainings of each")
    made.add_argument("--train", type=int, default=8000)
    made.add_argument("--test", type=int, default=500)
    made.add_argument("--tune", type=int, default=250)
    made.add_argument("--epochs", type=int, default=15)
    made.add_argument("--n0", type=int, default=100)
    made.add_argument("--n", type=int, default=2000)
    made.add_argument("--alpha", type=float, default=0.001)
    return made


def grid_of(options: argparse.Namespace) -> list[Model]:
    """The models that the options ask for, of the data's size; the parts of the data as files."""
    options.folder.mkdir(parents=True, exist_ok=True)
    return models(options.noises, listed("--levels", options.levels), options.seeds, split(options))


def main(words: list[str] | None = None) -> None:
    options = parser().parse_args(words)
    grid = grid_of(options)
    if options.write is None:
        count(options, grid)
        for each in routes(grid):
            if not each.log(options).exists():
                route(options, each)
    else:
        write(options, readings(options, grid), grid)


if __name__ == "__main__":
    main()

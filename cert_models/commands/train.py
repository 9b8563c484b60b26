"""cert train: a classifier trained under noise, in a checkpoint."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from cert_core.rounding import nearest, percent, rounded_down
from cert_models.commands.options import FAMILIES, add_data, add_noise, add_output, emit, noise_of
from cert_models.commands.progress import resumable

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset
    from cert_models.networks.train import Recipe

# How inputs of these data are normalised, where nobody says.
NORMALIZED = {"cifar10": "cifar10", "cifar100": "cifar10", "imagenet": "imagenet"}


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "train", help="train a classifier under noise",
        example="cert train --data digits --arch digits --noise gaussian --sigma 0.25 --epochs 5 "
        "--held-out 0.1 --out net.pth.tar",
    )  # fmt: skip
    add_noise(parser)
    add_output(parser)
    add_data(parser)
    parser.add_argument(
        "--arch", required=True,
        help="cifar_resnet20, cifar_resnet110, resnet50, digits, mnist, timm:NAME, "
        "torchvision:NAME, or module:function",
    )  # fmt: skip
    parser.add_argument(
        "--normalize",
        help="imagenet, cifar10, none, m,s, or mask: hidden entries as 0, and a "
        "channel more for each that says what is seen (default: that of the data, else none)",
    )  # fmt: skip
    parser.add_argument("--classes", type=int, help="number of classes (default: from the data)")
    parser.add_argument("--epochs", type=int, default=90, help="passes over the data")
    parser.add_argument("--batch-size", type=int, default=256, help="inputs a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, one cycle")
    parser.add_argument("--augment", action="store_true", help="shift and mirror images")
    parser.add_argument(
        "--held-out", metavar="SHARE|DATA", help="inputs that are not trained on but tried: a "
        "share of --data, or other data, named as these are",
    )  # fmt: skip
    parser.add_argument(
        "--check-every", type=int, default=5, metavar="EPOCHS", help="between trials of --held-out"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    parser.add_argument("--device", help="torch device")
    parser.add_argument("--out", required=True, help="checkpoint to write, after every epoch")
    parser.add_argument("--resume", action="store_true", help="go on from --out if it exists")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_train)


class TrainingBar:
    """A bar on stderr, and the means of every epoch."""

    def __init__(self, steps: int, quiet: bool, label: str = "train") -> None:
        from tqdm import tqdm

        pause = 0.1 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(
            total=steps, desc=label, unit="batch", disable=quiet, file=sys.stderr,
            mininterval=pause,
        )  # fmt: skip
        self.epoch = -1
        self.seen: list[tuple[float, float]] = []

    def __call__(self, epoch: int, loss: float, right: float) -> None:
        if epoch != self.epoch:
            self.epoch, self.seen = epoch, []
        self.seen.append((loss, right))
        self.bar.set_postfix(epoch=epoch + 1, loss=nearest(loss, 4), refresh=False)
        self.bar.update()

    def means(self) -> tuple[float | None, float | None]:
        """Mean loss and share of right labels of the last epoch."""
        if not self.seen:
            return None, None
        loss, right = np.mean(self.seen, axis=0)
        return float(loss), float(right)


def run_train(options: argparse.Namespace) -> int:
    """cert train."""
    from cert_models.networks.train import Recipe, train_checkpoint

    data, held_out = _parts(options)
    recipe = Recipe(
        arch=options.arch,
        normalize=options.normalize or NORMALIZED.get(data.name, "none"),
        noise=noise_of(options, int(np.prod(data.x.shape[1:]))),
        num_classes=options.classes if options.classes is not None else data.num_classes,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        augment=options.augment,
    )
    progress = TrainingBar(recipe.epochs * -(-len(data) // recipe.batch_size), options.quiet)
    trials: list[dict[str, int]] = []

    def tell(found: dict[str, int]) -> None:
        trials.append(found)
        if not options.quiet:
            progress.bar.write(_trial(found, held_out), file=sys.stderr)

    with progress.bar, resumable(f"the same command with --resume goes on from {options.out}"):
        train_checkpoint(
            options.out, data, recipe, resume=options.resume, device=options.device,
            progress=progress, held_out=held_out, check_every=options.check_every, tried=tell,
        )  # fmt: skip
    loss, right = progress.means()
    values = {**recipe.to_dict(), "data": data.name, "inputs": len(data), "loss": loss,
              "right": right, "out": options.out}  # fmt: skip
    if held_out is not None:
        values["held_out"] = {"data": held_out.name, "inputs": len(held_out), "tried": trials}
    emit(options, values, _told(options, recipe, data, held_out, trials, (loss, right)))
    return 0


def _parts(options: argparse.Namespace) -> tuple[Dataset, Dataset | None]:
    """What is trained on, and what is held out of it."""
    from cert_models.data.datasets import load

    categorical = FAMILIES[options.noise].categorical
    data, given = load(options.data, "train", categorical=categorical), options.held_out
    if given is None:
        return data, None
    try:
        share = float(given)
    except ValueError:
        return data, load(given, categorical=categorical)
    return data.apart(share, options.seed)


def _trial(found: dict[str, int], held_out: Dataset | None) -> str:
    """What a trial found, shares rounded down."""
    total = 0 if held_out is None else len(held_out)
    clean, noisy = (percent(found[key], total) for key in ("clean", "noisy"))
    return f"epoch {found['epoch']}, {total} inputs held out: {clean} right, {noisy} under noise"


def _told(
    options: argparse.Namespace, recipe: Recipe, data: Dataset, held_out: Dataset | None,
    trials: list[dict[str, int]], means: tuple[float | None, float | None],
) -> str:  # fmt: skip
    loss, right = means
    if loss is None or right is None:
        return f"nothing left to do: {options.out} has all {recipe.epochs} epochs"
    lines = [
        f"{recipe.arch} trained on {len(data)} inputs of {data.name}, {recipe.epochs} epochs "
        f"under {recipe.noise}",
        f"last epoch, under noise, on the inputs trained on: loss {nearest(loss, 5)}, "
        f"{rounded_down(100 * right, 1)}% right",
        *(_trial(found, held_out) for found in trials[-1:]),
        f"written to {options.out}",
    ]
    if ":" in recipe.arch:
        lines[-1] += f"; no file may name its code: load it with --arch {recipe.arch}"
    return "\n".join(lines)

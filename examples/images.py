"""Images certified by the number of changed pixels, and in l1: five noises, a small network each.

    python examples/images.py mnist.npz   # arrays x (N, 28, 28) of bytes, y (N,)
    python examples/images.py digits      # scikit-learn's, 8 x 8 at 17 levels

Under l0 the images are black and white; under l1 they keep their levels, and all noises have the
same root mean square a pixel.  A fifth of the images is kept apart from training; the certified
share of some of these is printed, by radius.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.networks.train import train_under_noise
from cert_models.smooth import SmoothedClassifier


@dataclass(frozen=True)
class Images:
    """Images (N, 1, side, side) at the levels j/steps, to train on and to certify."""

    steps: int
    train: Dataset
    test: Dataset

    @classmethod
    def load(cls, path: str) -> Images:
        if path == "digits":
            from sklearn.datasets import load_digits

            x, y = load_digits(return_X_y=True)
            x, steps = x.reshape(-1, 8, 8), 16
        else:
            with np.load(path) as file:
                x, y, steps = file["x"], file["y"], 255
        order = np.random.default_rng(0).permutation(len(y))
        x = (x[order, None] / np.float32(steps)).astype(np.float32)
        cut = len(y) * 4 // 5
        train, test = (
            Dataset("images", x[part], y[order[part]].astype(np.int64), 10)
            for part in (slice(cut), slice(cut, None))
        )
        return cls(steps, train, test)

    def black_and_white(self) -> Images:
        train, test = (
            Dataset(data.name, np.round(data.x).astype(np.float32), data.y, 10)
            for data in (self.train, self.test)
        )
        return Images(1, train, test)

    @property
    def pixels(self) -> int:
        return math.prod(self.test.x.shape[1:])


def network(side: int) -> nn.Module:
    """Two convolutions, two linear layers."""
    torch.manual_seed(0)
    after = -(-side // 4)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * after * after, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def certificates(
    images: Images, noise: cc.Noise, attack: str, *, count: int, n: int, epochs: int
) -> cc.Certificates:
    """Train a network under the noise, and certify the first images kept apart."""
    module = train_under_noise(
        network(images.test.x.shape[-1]), images.train, noise, epochs=epochs, seed=0
    )
    smoothed = SmoothedClassifier(module, noise, 10)
    x = images.test.x[:count]
    if isinstance(noise, cc.Splitting):
        return cc.certify_deterministic(smoothed.counts(x, noise.copies, seed=0), noise)
    return smoothed.certify(x, 100, n, 0.001, attack, seed=0)


def rows(
    images: Images, noises: dict[str, cc.Noise], attack: str, radii: Sequence[float], **options: Any
) -> list[str]:
    """A table of certified shares, in Markdown."""
    lines = [
        f"| {attack} radius | {' | '.join(f'{r:g}' for r in radii)} | seconds |",
        "| --- " * (len(radii) + 2) + "|",
    ]
    for name, noise in noises.items():
        begun = time.monotonic()
        found = certificates(images, noise, attack, **options)
        shares = cc.certified_accuracy(found, images.test.y[: len(found.label)], radii)
        cells = " | ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {name} | {cells} | {time.monotonic() - begun:.0f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", help="digits, or an .npz file")
    parser.add_argument("--count", type=int, default=200, help="images to certify")
    parser.add_argument("--n", type=int, default=5000, help="noisy copies of each")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scale", type=float, default=2.0, help="half width of uniform noise")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images = Images.load(options.images)
    d, how = images.pixels, {"count": options.count, "n": options.n, "epochs": options.epochs}
    hiding = {f"Ablation, {k} seen": cc.Ablation(d, k) for k in (d // 8, d // 16)}
    flipping = {f"Flips, {a:g} stay": cc.Flips(d, 2, a) for a in (0.9, 0.8, 0.7)}
    pixels = [0, 1, 2, 3, 4, 6, 8, 12]
    print("\n".join(rows(images.black_and_white(), flipping | hiding, "l0", pixels, **how)))
    uniform = cc.Uniform(d, options.scale)
    additive = {
        "Laplace": cc.Laplace.with_rms(d, uniform.rms),
        "Uniform": uniform,
        "Splitting, no alpha": cc.Splitting(d, options.scale, images.steps),
    }
    radii = [options.scale * share for share in (0, 0.125, 0.25, 0.5, 0.75, 0.9)]
    print("\n" + "\n".join(rows(images, additive, "l1", radii, **how)))


if __name__ == "__main__":
    main()

"""Discs and bars on a noisy ground, and a small network that tells them apart, pixel by pixel."""

import numpy as np
import torch
from torch import nn

SIDE, SIGMA = 32, 0.25


def drawn(count, seed):
    """Images (count, 1, 32, 32) in [0, 1] and their maps: 0 ground, 1 disc, 2 bar."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.1, 0.3, size=(count, SIDE, SIDE))
    maps = np.zeros(images.shape, dtype=np.int64)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for image, labels in zip(images, maps, strict=True):
        row, column = rng.integers(8, 24, size=2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < rng.integers(25, 50)
        top, width = rng.integers(2, 26), rng.integers(3, 5)
        bar = (abs(rows - top) < width) & ~disc
        image[disc], image[bar] = 0.9, 0.6
        labels[disc], labels[bar] = 1, 2
    return images[:, None].astype(np.float32), maps


def trained():
    """The network, trained under the noise that it is smoothed by (seconds)."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(),
        nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(),
        nn.Conv2d(12, 3, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for step in range(80):
        images, maps = map(torch.from_numpy, drawn(16, 1000 + step))
        scores = network(images + SIGMA * torch.randn_like(images))
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores, maps).backward()
        optimizer.step()
    return network.eval()


if __name__ == "__main__":
    images, maps = drawn(6, 0)
    np.savez("shapes.npz", x=images, y=maps)
else:  # a model of `cert`
    network = trained()

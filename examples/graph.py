"""The nodes of a graph, classified by a graph network and certified against edges that are added
and deleted.

    python examples/graph.py

A random graph of three blocks, whose nodes are told apart by their edges: each node's feature is
a noisy hint at its block.  A graph convolution network of two layers learns the blocks from a
third of the nodes, on graphs with random edges missing and a few added; smoothed by the same
noise (the input is the list of all pairs of nodes, 1 where there is an edge), it is certified at
every other node.  How many edges may be added and deleted together is the frontier.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc

BLOCKS, WITHIN, ACROSS, HINT = 3, 0.4, 0.02, 0.5


def block_graph(nodes: int) -> tuple[Any, Any, Any]:
    """(edges: 0 or 1 for each pair of nodes, features, blocks)."""
    rng = np.random.default_rng(0)
    blocks = np.arange(nodes) % BLOCKS
    first, second = np.triu_indices(nodes, 1)
    chance = np.where(blocks[first] == blocks[second], WITHIN, ACROSS)
    edges = (rng.random(len(chance)) < chance).astype(np.int64)
    features = np.eye(BLOCKS)[blocks] * HINT + rng.normal(size=(nodes, BLOCKS)) * 0.5
    return edges, features.astype(np.float32), blocks


class GraphNetwork(nn.Module):
    """Two graph convolutions (Kipf and Welling 2017) over graphs of the same nodes."""

    def __init__(self, features: Any, hidden: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.from_numpy(features)
        self.nodes = len(features)
        self.first, self.second = nn.Linear(BLOCKS, hidden), nn.Linear(hidden, BLOCKS)

    def forward(self, edges: torch.Tensor) -> torch.Tensor:
        """Scores (m, nodes, BLOCKS) for graphs (m, pairs)."""
        graph = torch.eye(self.nodes).repeat(len(edges), 1, 1)
        i, j = np.triu_indices(self.nodes, 1)
        graph[:, i, j] = graph[:, j, i] = edges
        scale = graph.sum(dim=2).rsqrt()
        graph = scale[:, :, None] * graph * scale[:, None, :]
        return self.second(graph @ torch.relu(self.first(graph @ self.features)))


def trained(edges: Any, features: Any, blocks: Any, known: Any, noise: cc.Noise) -> GraphNetwork:
    """On fresh noisy graphs, from the blocks of the known nodes."""
    network = GraphNetwork(features)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    truth = torch.from_numpy(blocks[known])
    for step in range(200):
        graphs = torch.from_numpy(cc.draw(noise, 8, seed=0, start=8 * step, center=edges))
        scores = network(graphs)[:, known].reshape(-1, BLOCKS)
        loss = nn.functional.cross_entropy(scores, truth.repeat(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def certified(nodes: int, p_plus: float, p_minus: float, n: int) -> tuple[cc.Certificates, Any]:
    """(certificates of the nodes that were not learnt from, whether their labels are right)."""
    edges, features, blocks = block_graph(nodes)
    noise = cc.SparseFlips(len(edges), p_plus, p_minus)
    asked = np.arange(nodes) % 9 >= 3
    network = trained(edges, features, blocks, np.flatnonzero(~asked), noise)

    def labels(batch: Any) -> Any:
        """Those of all nodes, of each graph of the batch."""
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).argmax(dim=2).numpy()

    def counts(samples: int, stage: str) -> Any:
        batches = cc.noisy_batches(edges[None], noise, samples, seed=0, stage=stage)
        said = np.concatenate([labels(batch) for _, batch in batches])[:, asked]
        return (said[:, :, None] == np.arange(BLOCKS)).sum(axis=0)

    found = cc.certify(counts(100, "selection"), counts(n, "estimation"), noise, "l0", alpha=0.001)
    return found, found.label == blocks[asked]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=90)
    parser.add_argument("--n", type=int, default=10_000, help="noisy graphs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    radii = [0, 1, 2, 3, 4]
    print(f"| changed edges | {' | '.join(map(str, radii))} | added, deleted at the median p |")
    print("| --- " * (len(radii) + 2) + "|")
    for plus, minus in ((0.002, 0.4), (0.01, 0.4), (0.03, 0.4)):
        found, right = certified(options.nodes, plus, minus, options.n)
        shares = [float(np.mean(right & (found.radius >= r))) for r in radii]
        middle = float(np.median(found.p_lower))
        frontier = cc.sparse.sparse_frontier(middle, found.noise)
        pairs = "; ".join(f"{added}, {deleted}" for added, deleted in frontier.tolist())
        cells = " | ".join(f"{share:.3f}" for share in shares)
        print(f"| p_plus {plus:g}, p_minus {minus:g} | {cells} | {pairs} |")


if __name__ == "__main__":
    main()

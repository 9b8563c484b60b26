"""A model that takes keywords and answers with a record, as Hugging Face's image classifiers do:
`model(pixel_values=batch).logits`, its normalisation in a processor of its own.

The model is written out here, so nothing is downloaded; an `AutoModelForImageClassification` and
the mean and deviation of its image processor take its place.

    python examples/dict_model.py [inputs] [copies]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn

import cert_core as cc
from cert_models.smooth import SmoothedClassifier


@dataclass
class ModelOutput:
    """What such a model returns."""

    logits: torch.Tensor


class ImageClassifier(nn.Module):
    """Stands for the pretrained model: keywords in, a record out, inputs already normalised."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(64, classes)

    def forward(self, *, pixel_values: torch.Tensor) -> ModelOutput:
        return ModelOutput(self.classifier(pixel_values.flatten(1)))


class Pixels(nn.Module):
    """What is certified: images in [0, 1] to scores, the normalisation inside, so that noise and
    radii are in the units of the images."""

    def __init__(self, model: nn.Module, mean: float, deviation: float) -> None:
        super().__init__()
        self.model, self.mean, self.deviation = model, mean, deviation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=(images - self.mean) / self.deviation).logits


def main(inputs: int = 50, copies: int = 10_000) -> float:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(y)
    model = Pixels(ImageClassifier(10), mean=0.3, deviation=0.4)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        noisy = images[:1000] + 0.2 * torch.randn(1000, 1, 8, 8)
        loss = nn.functional.cross_entropy(model(noisy), labels[:1000])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    noise = cc.Gaussian(dim=64, sigma=0.2)
    smoothed = SmoothedClassifier(model.eval(), noise, num_classes=10)
    test, truth = images[1000 : 1000 + inputs], y[1000 : 1000 + inputs]
    certificates = smoothed.certify(test, n0=100, n=copies, alpha=0.001, attack="l2", seed=0)
    accuracy = cc.certified_accuracy(certificates, truth, 0.2)
    print(f"{accuracy:.2f} right, and certified against l2 perturbations of 0.2")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

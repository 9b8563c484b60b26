"""The PyTorch adapter."""

from cert_models.smooth.classifier import SmoothedClassifier

__all__ = ["SmoothedClassifier"]

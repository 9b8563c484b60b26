"""The PyTorch adapter."""

from cert_models.smooth.classifier import SmoothedClassifier
from cert_models.smooth.functions import SmoothedFunction, SmoothedMaps

__all__ = ["SmoothedClassifier", "SmoothedFunction", "SmoothedMaps"]

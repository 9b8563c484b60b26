"""The count store, under its public name."""

from cert_models.store.counts import CountStore

__all__ = ["CountStore"]

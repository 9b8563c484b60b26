"""Architectures, checkpoints, and training under noise."""

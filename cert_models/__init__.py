"""Adapters of cert_core: PyTorch classifiers, data sets, logs, reports, the command `cert`."""

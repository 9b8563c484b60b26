"""The compiled core: laws of the log-likelihood ratio by quadrature (engine.pyx, and
mixed.pyx for the mixed family)."""

from __future__ import annotations

from cert_core.errors import BackendMissing

try:
    from cert_core.native.engine import RadialLaw
    from cert_core.native.mixed import NODES, NODES_FEW, MixedNode, conditionals, panel_integral
except ImportError as error:
    raise BackendMissing(
        "the compiled core cert_core.native is missing: build it with "
        "`pip install .` (needs a C compiler) in the project's folder, then import again"
    ) from error

__all__ = ["NODES", "NODES_FEW", "MixedNode", "RadialLaw", "conditionals", "panel_integral"]

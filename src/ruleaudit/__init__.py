"""Compare what kube-proxy has programmed on a node with what the Kubernetes objects ask for."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"

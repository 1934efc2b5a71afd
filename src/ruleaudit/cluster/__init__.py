"""Kubernetes objects: their types, how they are read, and the index over them."""

from __future__ import annotations

from ruleaudit.cluster.load import Cluster, ObjectProblem, load

__all__ = ["Cluster", "ObjectProblem", "load"]

"""What the objects contradict among themselves, whatever the rules are: RA701, RA702 and RA704."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.catalogue import CATALOGUE
from ruleaudit.checks import objects, objects_oddities
from ruleaudit.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.cluster import Cluster

__all__ = ["objects_alone"]


def objects_alone(cluster: Cluster) -> Iterator[Finding]:
    """RA701, RA702 and RA704: what the objects contradict among themselves."""
    entry = CATALOGUE["RA702"]
    for service, message, reference, address in objects.slice_disagreements(cluster):
        yield Finding(
            "RA702",
            entry.name,
            Severity.INFO,
            message,
            service=service,
            endpoint=None,
            hint=entry.action,
            objects=(reference,),
            subject=address,
        )
    for oddity in (*objects_oddities.services_without_pods(cluster), *objects_oddities.broken_ingress_backends(cluster)):
        yield oddity.finding()

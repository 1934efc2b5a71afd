"""What the objects say of themselves (RA702, RA703). Their own oddities are no fault of the node: RA702 is information here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.checks.context import FamilyAudit, service_port_of
from ruleaudit.findings import Finding, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.cluster import Cluster
    from ruleaudit.forwarding import Frontend
    from ruleaudit.kubeproxy.expect import Expectation

__all__ = ["duplicate_frontends", "slice_disagreements"]


def duplicate_frontends(audit: FamilyAudit) -> Iterator[Finding]:
    """RA703: two service ports claim one address, port and protocol; which one wins is random (T-13)."""
    for (_address, _port, _protocol), claims in audit.expectation.by_frontend.items():
        if len(claims) < 2:
            continue
        first = claims[0]
        frontend = _frontend_of(audit.expectation, first.frontends, _address, _port, _protocol)
        names = ", ".join(service_port_of(one) for one in claims)
        yield audit.finding(
            "RA703",
            f"{frontend} is claimed by {names}: which of them gets its connections is left to chance",
            of=first,
            frontend=frontend,
            expected="one service port for each address, port and protocol",
            observed=names,
            objects=[ObjectReference("Service", one.name.namespace, one.name.name) for one in claims],
        )


def _frontend_of(
    expectation: Expectation, frontends: tuple[Frontend, ...], address: str | None, port: int, protocol: str
) -> Frontend:
    del expectation
    return next(one for one in frontends if (one.address, one.port, one.protocol) == (address, port, protocol))


def slice_disagreements(cluster: Cluster) -> Iterator[tuple[str, str, ObjectReference, str]]:
    """RA702, as (service, message, object, endpoint address): a ready endpoint of a Service with a selector names a pod that is not there
    or has another address. Only where pods were given at all.
    """
    if not cluster.has_kind("Pod"):
        return
    for entry in cluster.slices.values():
        name = entry.metadata.label("kubernetes.io/service-name")
        service = cluster.services.get((entry.metadata.namespace, name or ""))
        if service is None or not service.spec.selector:
            continue
        for endpoint in entry.endpoints:
            target = endpoint.target_ref
            conditions = endpoint.conditions
            if (
                target is None
                or target.kind != "Pod"
                or not endpoint.addresses
                or (conditions is not None and conditions.ready is False)
            ):
                continue
            namespace = target.namespace or entry.metadata.namespace
            named = target.name or ""
            pod = cluster.pods.get((namespace, named))
            address = endpoint.addresses[0]
            reference = ObjectReference("EndpointSlice", entry.metadata.namespace, entry.metadata.name)
            where = f"{entry.metadata.namespace}/{name}"
            if pod is None:
                yield (
                    where,
                    f"EndpointSlice {entry.metadata.name} names pod {namespace}/{named} at {address}, which does not exist",
                    reference,
                    address,
                )
                continue
            addresses = {one.ip for one in pod.status.pod_ips} | {pod.status.pod_ip}
            addresses.discard(None)
            if addresses and address not in addresses:
                yield (
                    where,
                    (
                        f"EndpointSlice {entry.metadata.name} gives {address} for pod {namespace}/{named}, which has "
                        f"{', '.join(sorted(str(a) for a in addresses))}"
                    ),
                    reference,
                    address,
                )

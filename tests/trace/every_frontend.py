"""Every frontend of a node from every vantage point, as a question for `trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.forwarding import Vantage, Verdict, endpoint_text
from ruleaudit.trace import trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.forwarding import Frontend
    from ruleaudit.trace import Nodes, Trace

__all__ = ["Asked", "ask_everything", "ends_of", "local_pod"]

Asked = tuple["Frontend", Vantage, "Trace"]
OUTSIDE = {4: "198.51.100.7", 6: "2001:db8:ffff::7"}


def local_pod(nodes: Nodes) -> str | None:
    """A pod of the node that is on the pod network."""
    for key, pod in sorted(nodes.cluster.pods.items()):
        if pod.spec.node_name == nodes.first.name and not pod.spec.host_network and not pod.finished and len(pod.addresses) > 1:
            return f"pod/{'/'.join(key)}"
    return None


def ask_everything(nodes: Nodes) -> Iterator[Asked]:
    """Each frontend from a pod, from the node, and from outside."""
    pod = local_pod(nodes)
    model = nodes.first
    for family in model.families:
        found = model.family(family)
        assert found is not None
        for expected in found.audit.expectation.service_ports:
            for frontend in expected.frontends:
                places = [frontend.address] if frontend.address else list(found.audit.node_port_addresses)
                for address in places:
                    text = f"{endpoint_text(address, frontend.port)}/{frontend.protocol.lower()}"
                    for vantage, client in ((Vantage.POD, pod), (Vantage.NODE, "node"), (Vantage.OUTSIDE, OUTSIDE[family])):
                        if client is None or (address.startswith("127.") and vantage is not Vantage.NODE):
                            continue
                        yield frontend, vantage, trace(nodes, client, text)


def ends_of(found: Trace) -> dict[str, float]:
    """Endpoint -> share of the connections that come there."""
    ends: dict[str, float] = {}
    for one in found.outcomes:
        if one.verdict is Verdict.FORWARD and one.destination is not None:
            name = endpoint_text(one.destination[0], one.destination[1])
            ends[name] = ends.get(name, 0.0) + one.share
    return ends

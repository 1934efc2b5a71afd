"""Which addresses a connection has behind a node, and so whom the pod sees as its client: masquerade, hairpin, the client's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.dataplane.ruleset import destination_of
from ruleaudit.forwarding import Vantage, Verdict, split_endpoint
from ruleaudit.trace.values import Connection

if TYPE_CHECKING:
    from ruleaudit.audit import FamilyModel, NodeModel
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome as Walked
    from ruleaudit.trace.values import Endpoint

__all__ = ["after", "client_as_seen", "node_text"]


def node_text(model: NodeModel) -> str:
    """A node, as texts name it."""
    return model.name or "(name not known)"


def after(
    model: NodeModel, found: FamilyModel, came: Connection, walked: Walked, packet: Packet, target: tuple[str, int, str]
) -> Connection:
    """The addresses with which a packet that came with those of `came` goes on to `target` (address, port, protocol)."""
    kept = Connection(came.source, *target, came.source_text)
    if walked.masquerade is False or walked.verdict in (Verdict.DROP, Verdict.REJECT):
        return kept
    if walked.masquerade is None:
        return Connection(None, *target, f"{kept.source or kept.source_text}, or an address of the node (which is not decided),")
    if walked.snat_rule is not None and walked.snat_rule[2]:
        table, chain, line = walked.snat_rule
        given = found.audit.rules.dump_of(table, chain).rule(line).option("--to-source")
        if given is not None:
            return Connection(destination_of(given.values[0], packet.source, 0)[0] or packet.source, *target)
    return Connection(None, *target, f"an address of node {node_text(model)}")


def client_as_seen(
    model: NodeModel, vantage: Vantage, packet: Packet, walked: Walked, gone: Connection, who: Endpoint
) -> tuple[list[str], bool]:
    """What the endpoint sees as its client, in words, and whether answers cannot find back. `gone`: the addresses behind the node."""
    hairpin = walked.endpoint is not None and split_endpoint(walked.endpoint)[0] == packet.source
    if hairpin and walked.masquerade is False:
        return [
            "hairpin: the pod is its own backend and sees its own address as the client: its answers do not go back",
        ], True
    lead = "hairpin: the pod is its own backend; it" if hairpin else "the pod" if who.pod is not None else "the endpoint"
    if walked.masquerade and gone.source is None:
        own = _primary(model, packet.family)
        leads = "that of the interface that leads there"
        kind = "that of the interface that leads to the pod" if who.local else f"{own}, or {leads}" if own else leads
        return [f"{lead} sees {gone.source_text} as the client ({kind})"], False
    notes = [f"{lead} sees {gone.source or gone.source_text} as the client"]
    kept = walked.masquerade is False and walked.endpoint is not None
    if kept and vantage is Vantage.OUTSIDE and who.node not in (None, model.name):
        # What was translated here is only known here: answers that go another way keep the pod's address, and nobody takes them. Routes are
        # not looked at, so it is not certain, also where kube-proxy itself leaves it so, as in IPVS mode from 1.24 on (T-20).
        notes.append("unless its answers come back by this node, the client sees them come from an address that it has not asked")
    return notes, False


def _primary(model: NodeModel, family: int) -> str:
    """The node's primary address; empty where nothing tells it."""
    found = model.family(family)
    return found.audit.clients.node_address if found is not None and found.audit.clients.node_known else ""

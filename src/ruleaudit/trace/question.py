"""What is asked: who connects (--from), and to what (--to)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical_address, family_of
from ruleaudit.errors import RuleauditError
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches, unknown
from ruleaudit.trace.holders import addresses_of, endpoint_client, node_with
from ruleaudit.trace.values import Party
from ruleaudit.ways.ingress import URL, parse_url
from ruleaudit.ways.names import pod_named

if TYPE_CHECKING:
    from ruleaudit.audit import NodeModel
    from ruleaudit.cluster.objects import Pod
    from ruleaudit.trace.nodes import Nodes

__all__ = ["Client", "QuestionError", "Target", "client_of", "node_addresses", "parse_target"]

_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_SERVICE_KEY: Final = re.compile(
    r"^(?:(?:svc|services?)/)?(?!(?:svc|services?|pods?|nodes?)/)([a-z0-9-]+)/([a-z0-9-]+)(|:[a-z0-9-]+)$"
)
"""NAMESPACE/NAME[:PORT], as other commands name a Service."""
_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_PORT_NAME: Final = re.compile(r"^(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?$")


class QuestionError(RuleauditError):
    """What --from or --to says cannot be followed; the message says why and what to give."""


class Target(NamedTuple):
    """What --to says. `kind`: "url", "address" (canonical in `host`) or "name". `port`: a number, a port's name, None without one."""

    text: str
    kind: str
    host: str
    port: int | str | None = None
    protocol: str | None = None
    url: URL | None = None


def parse_target(text: str) -> Target:
    """Read (NAME | ADDRESS | URL)[:PORT][/PROTOCOL]. Raises QuestionError, URLError."""
    if _URL.match(text):
        url = parse_url(text)
        return Target(text, "url", url.host, url.port, "TCP", url)
    rest, slash, protocol = text.partition("/")
    if slash and protocol.upper() not in _PROTOCOLS:
        named = _SERVICE_KEY.match(text)
        if named is not None:
            namespace, name, rest = named.groups()
            raise QuestionError(f"--to {text}: a Service is asked by its DNS name: give {name}.{namespace}{rest}")
        raise QuestionError(
            f"--to {text}: {protocol!r} is no protocol that Services have ({', '.join(one.lower() for one in _PROTOCOLS)}); "
            "a URL begins with http:// or https://"
        )
    host, port = _split(rest, text)
    family = family_of(host)
    address = canonical_address(host, family) if family is not None else None
    if address is None and (not host or not re.fullmatch(r"[A-Za-z0-9_.-]+", host)):
        raise QuestionError(f"--to {text}: {host!r} is neither a name nor an address; give NAME:PORT, ADDRESS:PORT or a URL")
    return Target(text, "name" if address is None else "address", address or host, port, protocol.upper() or None)


def _split(rest: str, text: str) -> tuple[str, int | str | None]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise QuestionError(f"--to {text}: an IPv6 address with a port is written [ADDRESS]:PORT")
        port = tail[1:]
        if tail and not port:
            raise QuestionError(f"--to {text}: there is no port behind the colon")
    elif family_of(rest) is not None:
        return rest, None
    else:
        host, colon, port = rest.rpartition(":")
        if not colon:
            return rest, None
        if not port:
            raise QuestionError(f"--to {text}: there is no port behind the colon")
    if not port:
        return host, None
    if port.isascii() and port.isdigit():
        if not 0 < int(port) < 65536:
            raise QuestionError(f"--to {text}: {port} is no port (1 to 65535)")
        return host, int(port)
    if not _PORT_NAME.match(port.lower()):
        raise QuestionError(f"--to {text}: {port!r} is neither a port's number nor its name")
    return host, port.lower()


@dataclass(frozen=True, slots=True)
class Client:
    """Who connects. `model`: the node whose rules the connection meets first, None for somebody outside. `pod`: where it is one.

    `on_node`: its packets begin at the node itself: a process of it, or a pod on the host network. `addresses`: by family; None for a family
    in which it is not known which (a representative is taken).
    """

    party: Party
    model: NodeModel | None
    pod: Pod | None
    on_node: bool
    addresses: dict[int, str | None]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As steps name it."""
        return self.party.text


def node_addresses(model: NodeModel, family: int) -> tuple[str, ...]:
    """The addresses of a family that a node has of its own, the primary one first; empty where kube-proxy does not serve the family."""
    found = model.family(family)
    if found is None:
        return ()
    audit = found.audit
    own = [audit.clients.node_address]
    own += sorted(one for one in found.evaluator.host.addresses if one not in own and audit.virtual is None)
    own += [one for one in audit.node_port_addresses if one not in own]
    return tuple(own)


def client_of(nodes: Nodes, text: str) -> Client:
    """Who `text` (pod/NAMESPACE/NAME, node, node/NAME, ADDRESS) is. Raises QuestionError, UnknownNameError."""
    if text.startswith(("pod/", "pods/")):
        return _pod_client(nodes, pod_named(nodes.cluster, text), text)
    if text == "node" or text.startswith("node/"):
        wanted = text.removeprefix("node").removeprefix("/") or None
        model = nodes.first if wanted is None else nodes.named(wanted)
        if model is None:
            cluster = nodes.cluster
            if wanted in cluster.nodes or not cluster.nodes:
                raise QuestionError(_lacks(str(wanted), f"--from {text}"))
            raise UnknownNameError(unknown("node", str(wanted), cluster.nodes))
        return _node_client(model, text)
    family = family_of(text.strip("[]"))
    address = canonical_address(text.strip("[]"), family) if family is not None else None
    if family is None or address is None:
        near = did_you_mean(near_matches(text, (f"pod/{one[0]}/{one[1]}" for one in nodes.cluster.pods)))
        raise QuestionError(f"--from {text}: give pod/NAMESPACE/NAME, node, or an address{near}")
    parsed = ip_address(address)
    if parsed.is_unspecified or parsed.is_multicast or address == "255.255.255.255":
        raise QuestionError(f"--from {text}: no connection comes from that address")
    if parsed.is_loopback:
        raise QuestionError(f"--from {text}: a loopback address is the node's own affair: give node, or node/NAME")
    for model in nodes.models:
        if address in node_addresses(model, family):
            client = _node_client(model, text)  # with which of its addresses it asks is the kernel's affair
            return Client(client.party, model, None, True, {family: None})
    pods = [one for one in nodes.cluster.pods_at(address) if not one.finished and not one.spec.host_network]
    if pods:
        client = _pod_client(nodes, pods[0], text)
        note = f"{address} is pod {'/'.join(pods[0].metadata.key)}'s"
        return Client(client.party, client.model, client.pod, client.on_node, {family: address}, (note, *client.notes))
    named = endpoint_client(nodes.cluster, address) if node_with(nodes.cluster, address) is None else None
    if named is not None and (model := nodes.named(named[1])) is not None:
        whose = f"pod {'/'.join(named[0])}" if named[0] is not None else "an endpoint"
        party = Party(text, "address", (address,), named[0], named[1])
        return Client(party, model, None, False, {family: address}, (f"{address} is {whose} on node {named[1]}, by its slice",))
    notes: tuple[str, ...] = ()
    owner = node_with(nodes.cluster, address)
    served = next((one for one in nodes.cluster.services.values() if address in addresses_of(one)), None)
    if served is not None and owner is None:
        name = "/".join(served.metadata.key)
        raise QuestionError(
            f"--from {text}: is an address of Service {name}, from which no connection comes; give that of a client"
        )
    if owner is not None:
        notes = (f"{address} is node {owner}, whose own rules were not given: what they do to its packets is not known",)
    return Client(Party(text, "address", (address,), node=owner), None, None, False, {family: address}, notes)


def _lacks(node: str, whose: str) -> str:
    return (
        f"{whose}: its connections meet the rules of node {node} first, whose dumps were not given; give the folder of its capture, or its "
        "dumps with --node"
    )


def _node_client(model: NodeModel, text: str) -> Client:
    addresses: dict[int, str | None] = dict.fromkeys(model.families)
    shown = tuple(
        one
        for family in model.families
        if (found := model.family(family)) is not None and found.audit.clients.node_known
        for one in node_addresses(model, family)[:1]
    )
    return Client(Party(text, "node", shown, node=model.name), model, None, True, addresses)


def _pod_client(nodes: Nodes, pod: Pod, text: str) -> Client:
    key, node = pod.metadata.key, pod.spec.node_name
    name = f"pod {'/'.join(key)}"
    if pod.finished:
        raise QuestionError(f"--from {text}: {name} has run to its end ({pod.status.phase}) and connects to nobody")
    model = nodes.named(node)
    notes: tuple[str, ...] = ()
    if model is None:
        if node is None:
            raise QuestionError(f"--from {text}: {name} is on no node yet")
        if nodes.first.name is not None or len(nodes.models) > 1:
            raise QuestionError(_lacks(node, f"--from {text}: it runs on node {node}"))
        model = nodes.first
        notes = (f"which node the dump is of is not known; it is taken to be {node}, on which {name} runs (--node names it)",)
    addresses: dict[int, str | None] = {}
    for given in pod.addresses:
        family = family_of(given)
        address = canonical_address(given, family) if family is not None else None
        if family is not None and address is not None:
            addresses.setdefault(family, address)
    if not addresses:
        raise QuestionError(f"--from {text}: {name} has no address yet")
    party = Party(text, "pod", tuple(one for one in addresses.values() if one), key, node)
    return Client(party, model, pod, bool(pod.spec.host_network), addresses, notes)

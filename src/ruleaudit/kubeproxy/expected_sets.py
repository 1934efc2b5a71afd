"""What the objects ask of the ipsets and of the dummy interface of a node in IPVS mode (KPR 9, 11.6; pkg/proxy/ipvs/proxier.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical_address, parse_network
from ruleaudit.forwarding import FrontendKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ruleaudit.kubeproxy.endpoints import Candidates
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort

__all__ = [
    "SET_KINDS",
    "Asked",
    "SetExpectation",
    "SetKind",
    "common_asked",
    "common_sets",
    "expected_dummy_addresses",
    "expected_sets",
    "set_name",
]


class SetKind(NamedTuple):
    """A set that kube-proxy keeps: its name in IPv4, its type as ipset has it, the first release (minor) with it."""

    name: str
    type: str
    since: int = 16


# KPR 9.1; pkg/proxy/ipvs/ipset.go.
SET_KINDS: Final = (
    SetKind("KUBE-LOOP-BACK", "hash:ip,port,ip"),
    SetKind("KUBE-CLUSTER-IP", "hash:ip,port"),
    SetKind("KUBE-EXTERNAL-IP", "hash:ip,port"),
    SetKind("KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port", 18),
    SetKind("KUBE-LOAD-BALANCER", "hash:ip,port"),
    SetKind("KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port"),
    SetKind("KUBE-LOAD-BALANCER-FW", "hash:ip,port"),
    SetKind("KUBE-LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net"),
    SetKind("KUBE-LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip"),
    SetKind("KUBE-NODE-PORT-TCP", "bitmap:port"),
    SetKind("KUBE-NODE-PORT-LOCAL-TCP", "bitmap:port"),
    SetKind("KUBE-NODE-PORT-UDP", "bitmap:port"),
    SetKind("KUBE-NODE-PORT-LOCAL-UDP", "bitmap:port"),
    SetKind("KUBE-NODE-PORT-SCTP-HASH", "hash:ip,port"),
    SetKind("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port"),
    SetKind("KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port", 21),
    SetKind("KUBE-IPVS-IPS", "hash:ip", 26),
)

# What the kernel takes for a set's name, without its closing zero (IPSET_MAXNAMELEN in linux/netfilter/ipset/ip_set.h).
_LONGEST_NAME: Final = 31


def set_name(name: str, family: int) -> str:
    """The name that a set of this IPv4 name has in `family` (4 or 6): in IPv6 cut to what the kernel takes (KPR 9.1)."""
    return name if family == 4 else ("KUBE-6-" + name.removeprefix("KUBE-"))[:_LONGEST_NAME]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for an entry of a set or an address of the dummy interface.

    `optional`: what the inputs leave open decides whether kube-proxy put it there, so that neither its presence nor its absence
    is a fault.
    """

    service_ports: tuple[ExpectedServicePort, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SetExpectation:
    """One set of one family.

    `name` is the family's, `kind` tells which set it is. `entries`: who asks for each, by its text as `ipset save` prints it. `known` is
    False where the inputs say nothing of the entries at all. `at_any_address`: of sets of SCTP node ports, who asks for "sctp:30080": it
    is there once for every address of the node, of which only some are known (KPR 11.2).
    """

    name: str
    kind: SetKind
    entries: Mapping[str, Asked]
    known: bool = True
    at_any_address: Mapping[str, Asked] = field(default_factory=lambda: MappingProxyType({}))

    def asked(self, entry: str) -> Asked | None:
        """Who asks for an entry, None when nobody does and it should not be there."""
        found = self.entries.get(entry)
        if found is None and self.at_any_address:
            found = self.at_any_address.get(entry.partition(",")[2])
        return found

    @property
    def required(self) -> Iterator[tuple[str, Asked]]:
        """The entries that must be there."""
        return ((text, asked) for text, asked in self.entries.items() if not asked.optional)

    @property
    def empty(self) -> bool | None:
        """Whether the set is to be empty; None where that is open."""
        if not self.known:
            return None
        if any(not asked.optional for asked in self.entries.values()):
            return False
        return None if self.entries or self.at_any_address else True


class _Collected:
    """Entries of one set while they are collected."""

    def __init__(self) -> None:
        self.entries: dict[str, list[ExpectedServicePort]] = {}
        self.certain: set[str] = set()

    def add(self, text: str, port: ExpectedServicePort, *, optional: bool = False) -> None:
        self.entries.setdefault(text, []).append(port)
        if not optional:
            self.certain.add(text)

    def frozen(self) -> Mapping[str, Asked]:
        certain = self.certain
        return MappingProxyType(
            {text: Asked(tuple(dict.fromkeys(ports)), text not in certain) for text, ports in self.entries.items()}
        )


def expected_sets(expectation: Expectation, node_addresses: Sequence[str]) -> Mapping[str, SetExpectation]:
    """The sets that the release of `expectation` keeps for its family, by their names in that family, empty ones too.

    `node_addresses`: those of the node's own addresses at which node ports answer, canonical, as far as they are known; addresses of
    the other family are passed over.
    """
    family, minor = expectation.family, expectation.release.minor
    own = [address for address in node_addresses if (":" in address) == (family == 6)]
    collected = {kind.name: _Collected() for kind in SET_KINDS}
    sctp, sctp_local = _Collected(), _Collected()
    # No node ports, and after them no health check, where no address is among those that the settings name (KPR 9.4).
    without_node_ports = not own and _restricted(expectation)
    for port in expectation.service_ports:
        protocol = port.protocol.lower()
        _loop_back(collected["KUBE-LOOP-BACK"], port, protocol, family)
        for frontend in port.frontends:
            text = f"{frontend.address},{protocol}:{frontend.port}"
            if frontend.kind is FrontendKind.CLUSTER_IP:
                collected["KUBE-CLUSTER-IP"].add(text, port)
            elif frontend.kind is FrontendKind.EXTERNAL_IP:
                collected["KUBE-EXTERNAL-IP-LOCAL" if port.keeps_source(frontend) else "KUBE-EXTERNAL-IP"].add(text, port)
            elif frontend.kind is FrontendKind.LOAD_BALANCER_IP:
                _load_balancer(collected, port, text, frontend.address or "")
            elif port.protocol in ("TCP", "UDP"):
                collected[f"KUBE-NODE-PORT-{port.protocol}"].add(str(frontend.port), port, optional=without_node_ports)
                if port.external_local:
                    collected[f"KUBE-NODE-PORT-LOCAL-{port.protocol}"].add(str(frontend.port), port, optional=without_node_ports)
            else:
                tail = f"{protocol}:{frontend.port}"
                sctp.add(tail, port, optional=True)
                if port.external_local:
                    sctp_local.add(tail, port, optional=True)
                for address in own:
                    collected["KUBE-NODE-PORT-SCTP-HASH"].add(f"{address},{tail}", port)
                    if port.external_local:
                        collected["KUBE-NODE-PORT-LOCAL-SCTP-HASH"].add(f"{address},{tail}", port)
        if port.health_check_node_port:
            collected["KUBE-HEALTH-CHECK-NODE-PORT"].add(
                str(port.health_check_node_port), port, optional=without_node_ports and bool(port.node_port)
            )
    elsewhere = {"KUBE-NODE-PORT-SCTP-HASH": sctp.frozen(), "KUBE-NODE-PORT-LOCAL-SCTP-HASH": sctp_local.frozen()}
    found: dict[str, SetExpectation] = {}
    for kind in SET_KINDS:
        if minor < kind.since:
            continue
        name = set_name(kind.name, family)
        entries = (
            expected_dummy_addresses(expectation, node_addresses)
            if kind.name == "KUBE-IPVS-IPS"
            else collected[kind.name].frozen()
        )
        known = bool(expectation.endpoint_sources) or kind.name != "KUBE-LOOP-BACK"
        found[name] = SetExpectation(name, kind, entries, known, elsewhere.get(kind.name, MappingProxyType({})))
    return MappingProxyType(found)


def expected_dummy_addresses(expectation: Expectation, node_addresses: Sequence[str]) -> Mapping[str, Asked]:
    """The addresses of the family that kube-ipvs0 is to hold, canonical, and who asks for each (KPR 11.6).

    `node_addresses`: the node's own, canonical, as far as they are known. An external IP or load-balancer IP among them is optional from
    1.28 on: kube-proxy leaves it out where another interface holds it, which an address in the Node's status alone does not prove.
    """
    own = set(node_addresses) if expectation.release.minor >= 28 else set[str]()
    collected = _Collected()
    for port in expectation.service_ports:
        for frontend in port.frontends:
            if frontend.address is not None:
                on_node = frontend.kind is not FrontendKind.CLUSTER_IP and frontend.address in own
                collected.add(frontend.address, port, optional=on_node)
    return collected.frozen()


def common_asked(every: Sequence[Mapping[str, Asked]]) -> Mapping[str, Asked]:
    """What one of several releases asks for, where it is not known which one runs: optional where not all of them do."""
    if len(every) == 1:
        return every[0]
    found: dict[str, Asked] = {}
    for wanted in every:
        for text, asked in wanted.items():
            if text not in found:
                needed = all((other := each.get(text)) is not None and not other.optional for each in every)
                found[text] = Asked(asked.service_ports, not needed)
    return MappingProxyType(found)


def common_sets(every: Sequence[Mapping[str, SetExpectation]]) -> Mapping[str, SetExpectation]:
    """The sets of several releases, where it is not known which one runs. In a set that not all of them have nothing is missed."""
    if len(every) == 1:
        return every[0]
    found: dict[str, SetExpectation] = {}
    for name, first in {name: one for wanted in reversed(every) for name, one in wanted.items()}.items():
        those = [wanted[name] for wanted in every if name in wanted]
        entries = [one.entries for one in those] + [MappingProxyType({})] * (len(every) - len(those))
        found[name] = SetExpectation(
            name,
            first.kind,
            common_asked(entries),
            all(one.known for one in those),
            common_asked([one.at_any_address for one in those]),
        )
    return MappingProxyType(found)


def _loop_back(collected: _Collected, port: ExpectedServicePort, protocol: str, family: int) -> None:
    """All local endpoints, ready or not, as far as the release takes them up (KPR 9.3)."""
    certain: set[tuple[str, int]] | None = None
    possible: dict[tuple[str, int], None] = {}
    for candidates in (port.candidates, *port.other_candidates):
        sure, maybe = _local_endpoints(candidates)
        certain = sure if certain is None else certain & sure
        possible.update(dict.fromkeys([*sure, *maybe]))
    for key in possible:
        address = canonical_address(key[0], family) or key[0]
        collected.add(f"{address},{protocol}:{key[1]},{address}", port, optional=certain is not None and key not in certain)


def _local_endpoints(candidates: Candidates) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """(address, port) of the local endpoints, and of those that are so only where one of several differing entries counts."""
    maybe: set[tuple[str, int]] = set()
    disputed: set[str] = set()
    for group in candidates.duplicates:
        texts = {entry.text for entry in group}
        if len(texts) > 1 or len({entry.is_local for entry in group}) > 1:
            disputed |= texts
            maybe.update((entry.address, entry.port) for entry in group if entry.is_local)
    sure = {(entry.address, entry.port) for entry in candidates.endpoints if entry.is_local and entry.text not in disputed}
    return sure, maybe - sure


def _load_balancer(collected: Mapping[str, _Collected], port: ExpectedServicePort, text: str, address: str) -> None:
    """The sets about load-balancer IPs (KPR 9.1, 9.2)."""
    collected["KUBE-LOAD-BALANCER"].add(text, port)
    if port.external_local:
        collected["KUBE-LOAD-BALANCER-LOCAL"].add(text, port)
    if not port.source_ranges:
        return
    collected["KUBE-LOAD-BALANCER-FW"].add(text, port)
    for source in _storable(port.source_ranges, port.family):
        collected["KUBE-LOAD-BALANCER-SOURCE-CIDR"].add(f"{text},{source}", port)
    if port.node_allowed is not False:
        collected["KUBE-LOAD-BALANCER-SOURCE-IP"].add(f"{text},{address}", port, optional=port.node_allowed is None)


def _storable(ranges: Iterable[str], family: int) -> Iterator[str]:
    """Networks as ipset prints them; one of length zero it does not take (KPR 9.2)."""
    for text in ranges:
        network = parse_network(text, family)
        if network is not None and network.prefixlen:
            whole = network.prefixlen == network.max_prefixlen
            yield str(network.network_address) if whole else str(network)


def _restricted(expectation: Expectation) -> bool:
    """Whether the settings name addresses for node ports in this family; a network of length zero names all (KPR 1.5)."""
    given = expectation.settings.nodeport_addresses or ()
    networks = [network for text in given if (network := parse_network(text, expectation.family)) is not None]
    return "primary" in given or (bool(networks) and all(network.prefixlen for network in networks))

"""IPVS mode: what the node holds and no object asks for, and entries of sets and addresses that are lacking (RA110, RA111, RA201 to RA205, RA210).

Virtual servers have no names. A Service is named only where one Service alone owns the address; what is stale besides is told by itself,
grouped by the endpoints that it leads to.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ruleaudit.addresses import parse_network
from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of
from ruleaudit.checks.judgement import listed
from ruleaudit.dataplane.ipvs import TABLE, VirtualTable
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.forwarding import Frontend, FrontendKind, endpoint_text
from ruleaudit.kubeproxy.expected_sets import Asked, common_asked, expected_dummy_addresses

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ruleaudit.dumps.ip_sets import IpSet
    from ruleaudit.dumps.virtual_servers import VirtualServer
    from ruleaudit.kubeproxy.expect import ExpectedServicePort
    from ruleaudit.kubeproxy.expected_sets import SetExpectation, SetKind

__all__ = ["dummy_addresses", "empty_sets", "set_entries", "stale_servers"]

_STALE_CODE = {
    FrontendKind.CLUSTER_IP: "RA202",
    FrontendKind.EXTERNAL_IP: "RA204",
    FrontendKind.LOAD_BALANCER_IP: "RA205",
}
_MANY = 25
"""From how many entries of one set on one finding is written for all of them."""


def stale_servers(audit: FamilyAudit, virtual: VirtualTable, exclude: Sequence[str]) -> Iterator[Finding]:
    """RA201 to RA205: virtual servers that no frontend claims (KPR 11.5); `exclude`: the networks of --ipvs-exclude-cidrs."""
    claims = audit.expectation.by_frontend
    owners: dict[str, dict[tuple[str, str], list[tuple[ExpectedServicePort, FrontendKind]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for expected in audit.expectation.service_ports:
        for frontend in expected.frontends:
            if frontend.address is not None:
                key = (expected.name.namespace, expected.name.name)
                owners[frontend.address][key].append((expected, frontend.kind))
    spared = [parsed for text in exclude if (parsed := parse_network(text, audit.family)) is not None]
    node = _node_addresses(audit, virtual, owners)
    left: list[VirtualServer] = []
    for server in virtual.servers():
        address, port, protocol = server.address, server.port, server.protocol
        if address is None or port is None or protocol is None:
            continue
        if protocol == "UDP" and virtual.hides_sctp and ({(address, port, "SCTP"), (None, port, "SCTP")} & claims.keys()):
            continue
        if (address, port, protocol) in claims or any(_within(address, one) for one in spared):
            continue
        if (None, port, protocol) in claims and address not in owners:
            continue  # a node port answers on every address of the node, which the objects do not know all (T-20)
        if _foreign(server):
            continue
        owner = owners.get(address, {})
        if len(owner) == 1:
            yield _other_port(audit, server, next(iter(owner.values())))
            continue
        left.append(server)
    # A node port answers on all of the node's addresses: those of which only some are known are told by the port.
    node_ports = {(one.port, one.protocol) for one in left if one.address in node}
    node |= {one.address or "" for one in left if (one.port, one.protocol) in node_ports and one.address not in owners}
    groups: dict[object, list[VirtualServer]] = defaultdict(list)
    for server in left:
        endpoints = frozenset(one.address for one in server.real_servers)
        nameless = (server.port, server.protocol) if server.address in node else server.address
        groups[endpoints or nameless].append(server)
    for servers in groups.values():
        yield _stale(audit, servers, node)


def _foreign(server: VirtualServer) -> bool:
    """Whether kube-proxy never makes such a virtual server (KPR 11.3)."""
    methods = {one.forwarding for one in server.real_servers}
    return server.one_packet or server.engine is not None or bool(methods and not methods & {None, "Masq"})


def _within(address: str, network: object) -> bool:
    from ipaddress import IPv4Network, IPv6Network, ip_address

    assert isinstance(network, IPv4Network | IPv6Network)
    return ip_address(address) in network


def _node_addresses(audit: FamilyAudit, virtual: VirtualTable, owners: Collection[str]) -> set[str]:
    """The addresses of the node: known ones, and those at which some node port has a virtual server."""
    claims = audit.expectation.by_frontend
    found = set(audit.node_port_addresses)
    for server in virtual.servers():
        if server.address is not None and server.address not in owners and (None, server.port, server.protocol) in claims:
            found.add(server.address)
    return found


def _other_port(audit: FamilyAudit, server: VirtualServer, owner: Sequence[tuple[ExpectedServicePort, FrontendKind]]) -> Finding:
    """A virtual server at an address that one Service has, on a port that it has not there."""
    expected, kind = owner[0]
    known = sorted({f"{one.port}/{one.protocol}" for one, _kind in owner})
    assert server.address is not None
    assert server.port is not None
    assert server.protocol is not None
    return audit.finding(
        _STALE_CODE[kind],
        f"{expected.name.namespace}/{expected.name.name} has a virtual server {server.name}, but no such port",
        service=f"{expected.name.namespace}/{expected.name.name}",
        frontend=Frontend(kind, server.address, server.port, server.protocol, audit.family),
        expected=f"at {server.address} only port {', '.join(known)}",
        observed=f"virtual server {server.name}, to {_leads(server)}",
        places=[(TABLE, server.name, server.line)],
        objects=[ObjectReference("Service", expected.name.namespace, expected.name.name)],
    )


def _stale(audit: FamilyAudit, servers: Sequence[VirtualServer], node: Collection[str]) -> Finding:
    """Virtual servers at addresses that no Service has, or for node ports that none has; all lead to the same endpoints."""
    only_node_ports = all(server.address in node for server in servers)
    names = [server.name for server in servers]
    ports = sorted({f"{server.port}/{server.protocol}" for server in servers})
    what = (
        f"node port {', '.join(ports)}"
        if only_node_ports
        else f"virtual server{'' if len(servers) == 1 else 's'} {listed(names, 8)}"
    )
    single = only_node_ports or len(servers) == 1
    first = servers[0]
    frontend = None
    if len(servers) == 1 and first.address is not None and first.port is not None and first.protocol is not None:
        kind = FrontendKind.NODE_PORT if only_node_ports else FrontendKind.CLUSTER_IP
        frontend = Frontend(kind, None if only_node_ports else first.address, first.port, first.protocol, audit.family)
    return audit.finding(
        "RA203" if only_node_ports else "RA201",
        f"{what} belong{'s' if single else ''} to no Service, and lead{'s' if single else ''} to {_leads(first)}"
        + (f" at {listed(sorted({server.address or '' for server in servers}))}" if only_node_ports else ""),
        frontend=frontend,
        expected="no such virtual server",
        observed=", ".join(names) + f", to {_leads(first)}",
        places=[(TABLE, server.name, server.line) for server in servers],
        subject=f"{' '.join(sorted(names))} IPv{audit.family}",
    )


def _leads(server: VirtualServer) -> str:
    endpoints = [endpoint_text(one.address, one.port) for one in server.real_servers]
    return listed(endpoints) or "no endpoint"


# --- sets ------------------------------------------------------------------------------------------------------------------------------


def set_entries(audit: FamilyAudit, findings: Iterable[Finding], *, whole: bool) -> Iterator[Finding]:
    """RA110 for entries that sets lack, RA210 for entries that nobody asks for (KPR 9).

    What `findings` already say of the traffic is the cause where they name the same service port, or the same address. `whole`: the
    listing is known to hold every set, so that one which it lacks is not there.
    """
    sets = audit.rules.sets
    if sets is None:
        return
    causes, stale = _causes(findings)
    for name, wanted in audit.sets_wanted.items():
        known = sets.get(name)
        if known is None:
            if whole and any(any(map(audit.judges, asked.service_ports)) for _entry, asked in wanted.required):
                yield audit.finding(
                    "RA110",
                    f"the set {name} is not there, and {sum(1 for _ in wanted.required)} entries of it are needed",
                    expected=f"a set {name} of type {wanted.kind.type}",
                    observed="no such set",
                    places=[("ipset", "", 1)],
                    subject=f"{name} IPv{audit.family}",
                )
            continue
        if known.entries is None or not wanted.known:
            continue
        lacking: dict[int, tuple[ExpectedServicePort, list[str]]] = {}
        if not known.whole:
            pass  # what it lacks may only be cut off
        elif wanted.kind.name == "KUBE-LOOP-BACK":
            yield from _unused_loops(audit, wanted, known, causes)
        else:
            for entry, asked in wanted.required:
                if entry not in known.entries:
                    for expected in filter(audit.judges, asked.service_ports):
                        lacking.setdefault(id(expected), (expected, []))[1].append(entry)
        for expected, entries in lacking.values():
            yield audit.finding(
                "RA110",
                f"{service_port_of(expected)}: set {name} lacks {listed(entries)}",
                of=expected,
                expected=f"{listed(entries)} in set {name}",
                observed="no such entry",
                places=[("ipset", name, known.line)],
                cause=causes.get((f"{expected.name.namespace}/{expected.name.name}", expected.name.port or None)),
                subject=f"{name} {' '.join(entries)} IPv{audit.family}",
            )
        extra = [entry for entry, line in known.entries.items() if wanted.asked(entry) is None and not known.may_be_cut(line)]
        if audit.only is not None and not any(_is_of(entry, wanted.kind, audit.only) for entry in extra):
            continue
        if extra:
            owned = {entry: _owner(audit, entry, causes) for entry in extra}
            yield _superfluous(
                audit, name, extra, known.entries, {entry: cause for entry, cause in owned.items() if cause}, stale
            )


def _unused_loops(
    audit: FamilyAudit, wanted: SetExpectation, known: IpSet, causes: Mapping[tuple[str | None, str | None], str]
) -> Iterator[Finding]:
    """RA110 for the hairpin entries of local endpoints that get no traffic now; RA403 tells of the others, and whose traffic it is."""
    for entry, asked in wanted.required:
        if entry in known:
            continue
        address, number = entry.rpartition(",")[2], int(entry.split(",")[1].partition(":")[2])
        reached = (one for expected in asked.service_ports for one in expected.selection.reachable)
        if any((one.address, one.port) == (address, number) for one in reached):
            continue
        expected = asked.service_ports[0]
        if not audit.judges(expected):
            continue
        yield audit.finding(
            "RA110",
            f"{service_port_of(expected)}: set {wanted.name} lacks {entry}; nothing is sent to this endpoint now",
            severity=Severity.WARNING,
            of=expected,
            expected=f"{entry} in set {wanted.name}",
            observed="no such entry",
            places=[("ipset", wanted.name, known.line)],
            cause=causes.get((f"{expected.name.namespace}/{expected.name.name}", expected.name.port or None)),
            subject=f"{wanted.name} {entry} IPv{audit.family}",
        )


def empty_sets(audit: FamilyAudit) -> Mapping[str, bool | None]:
    """Whether each of the node's sets was empty when kube-proxy wrote its rules: None where that is not known.

    A set that lacks what is asked for, or holds only what nobody asks for, is not as kube-proxy left it (RA110, RA210 tell), so that its rules
    may be those of either.
    """
    sets = audit.rules.sets
    if sets is None:
        return {}
    wanted = audit.sets_wanted
    found: dict[str, bool | None] = {}
    for name in sets.names():
        known = sets.get(name)
        if known is None or known.entries is None:
            continue
        asks = wanted.get(name)
        if asks is None or not asks.known or not audit.cluster.services:
            found[name] = False if known.entries else True if known.whole else None
        elif known.entries:
            found[name] = False if any(asks.asked(entry) is not None for entry in known.entries) else None
        else:
            found[name] = (asks.empty and known.whole) or None
    return found


def _causes(findings: Iterable[Finding]) -> tuple[dict[tuple[str | None, str | None], str], dict[str, str]]:
    """The fingerprint of the first error per service port, and per address that a finding about something stale observes."""
    causes: dict[tuple[str | None, str | None], str] = {}
    stale: dict[str, str] = {}
    for one in findings:
        if one.severity is not Severity.ERROR:
            continue
        if one.service is not None and one.code != "RA403":
            causes.setdefault((one.service, one.port), one.cause or one.fingerprint)
        if one.cause is not None:
            continue
        if one.code in ("RA201", "RA202", "RA203", "RA204", "RA205"):
            for word in one.observed.replace(",", " ").split():
                stale.setdefault(word, one.fingerprint)
        elif one.code in ("RA206", "RA207", "RA302") and one.endpoint is not None:
            stale.setdefault(one.endpoint, one.fingerprint)
    return causes, stale


def _owner(audit: FamilyAudit, entry: str, causes: Mapping[tuple[str | None, str | None], str]) -> str | None:
    """The finding about the one service port whose frontend an entry names: then it asks for less than it did."""
    address, _, rest = entry.partition(",")
    protocol, _, port = rest.partition(",")[0].partition(":")
    claims = audit.expectation.by_frontend
    found = (
        [one for kind in ("TCP", "UDP") for one in claims.get((None, int(entry), kind), ())]
        if entry.isdecimal()
        else claims.get((address, int(port), protocol.upper()), ())
        if port.isdecimal()
        else ()
    )
    owners = {(f"{one.name.namespace}/{one.name.name}", one.name.port or None) for one in found}
    return causes.get(owners.pop()) if len(owners) == 1 else None


def _is_of(entry: str, kind: SetKind, expected: ExpectedServicePort) -> bool:
    """Whether an entry of a set of some kind names a frontend of a service port, or one of its endpoints."""
    if entry.isdecimal():
        of_protocol = kind.name.endswith(f"-{expected.protocol}")
        return int(entry) == (expected.node_port if of_protocol else expected.health_check_node_port)
    address, _, rest = entry.partition(",")
    protocol, _, port = rest.partition(",")[0].partition(":")
    if not port:
        return any(one.address == address for one in expected.frontends)
    if protocol.upper() != expected.protocol:
        return False
    if kind.name == "KUBE-LOOP-BACK":
        return any((one.address, str(one.port)) == (address, port) for one in expected.candidates.endpoints)
    # Node ports of SCTP stand there once for every address of the node.
    places = (None,) if kind.name.endswith("-SCTP-HASH") else (address,)
    return any(one.address in places and str(one.port) == port for one in expected.frontends)


def _superfluous(
    audit: FamilyAudit,
    name: str,
    extra: Sequence[str],
    lines: Mapping[str, int],
    owned: Mapping[str, str],
    stale: Mapping[str, str],
) -> Finding:
    cause = {owned.get(entry) or _cause_of(entry, stale) for entry in extra}
    only = cause.pop() if len(cause) == 1 else None
    return audit.finding(
        "RA210",
        f"set {name} holds {len(extra)} {'entry' if len(extra) == 1 else 'entries'} that no Service asks for: {listed(extra)}",
        expected="only what Services ask for",
        observed=listed(extra, _MANY),
        places=[("ipset", name, lines[entry]) for entry in extra[:_MANY]],
        cause=only,
        subject=f"{name} {' '.join(sorted(extra)[:_MANY])} IPv{audit.family}",
    )


def _cause_of(entry: str, stale: Mapping[str, str]) -> str | None:
    """The finding about a stale virtual server that a set's entry goes with."""
    address, _, rest = entry.partition(",")
    protocol, _, port = rest.partition(",")[0].partition(":")
    host = f"[{address}]" if ":" in address else address
    if port:
        return stale.get(f"{host}:{port}") if protocol else None
    return next(
        (fingerprint for text, fingerprint in stale.items() if text.startswith(host + ":") or text.endswith(":" + entry)), None
    )


# --- addresses -------------------------------------------------------------------------------------------------------------------------


def dummy_addresses(
    audit: FamilyAudit,
    held: Mapping[str, RulePlace],
    own: Sequence[str],
    elsewhere: Collection[str],
    where: RulePlace,
    stale: Iterable[Finding],
    *,
    whole: bool,
) -> Iterator[Finding]:
    """RA111 and RA210 for kube-ipvs0 (KPR 11.6).

    `held`: its addresses with their places; `elsewhere`: those of other interfaces; `own`: the node's as its Node object has them. `whole`: all of
    its addresses are known, so that one which is not among them is missing.
    """
    every = (audit.expectation, *audit.other_expectations)
    wanted: Mapping[str, Asked] = common_asked([expected_dummy_addresses(one, [*own, *elsewhere]) for one in every])
    lacking: dict[int, tuple[ExpectedServicePort, list[str]]] = {}
    for address, asked in wanted.items() if whole else ():
        if address not in held and address not in elsewhere and not asked.optional:
            for expected in filter(audit.judges, asked.service_ports):
                lacking.setdefault(id(expected), (expected, []))[1].append(address)
    for expected, addresses in lacking.values():
        yield audit.finding(
            "RA111",
            f"{service_port_of(expected)}: kube-ipvs0 does not hold {listed(addresses)}, so packets from pods and from outside never come to IPVS",
            of=expected,
            frontend=next((one for one in expected.frontends if one.address in addresses), None),
            expected=f"{listed(addresses)} on kube-ipvs0",
            observed="no such address",
            places=[where],
            subject=f"{' '.join(addresses)} IPv{audit.family}",
        )
    extra = [address for address in held if address not in wanted] if audit.only is None else []
    if extra:
        _, known = _causes(stale)
        cause = {_cause_of(address, known) for address in extra}
        yield audit.finding(
            "RA210",
            f"kube-ipvs0 holds {len(extra)} {'address' if len(extra) == 1 else 'addresses'} of no Service: {listed(extra)}",
            expected="only addresses of Services",
            observed=listed(extra, _MANY),
            places=[held[address] for address in extra[:_MANY]],
            cause=cause.pop() if len(cause) == 1 else None,
            subject=f"kube-ipvs0 {' '.join(sorted(extra)[:_MANY])} IPv{audit.family}",
        )

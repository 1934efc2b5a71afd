"""What the model of a node holds: a Service, a chain, an endpoint, a virtual server, a set, or all of it in short.

Everything is a tree of sections, of which text and JSON are made. Judged is a Service alone, as `check` does it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical, known_family
from ruleaudit.audit import open_node
from ruleaudit.checks.context import service_port_of
from ruleaudit.checks.judgement import bare, percent
from ruleaudit.checks.observer import address_inside
from ruleaudit.cluster.objects import Conditions, EndpointPort
from ruleaudit.errors import RuleauditError
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, endpoint_text, split_endpoint
from ruleaudit.kubeproxy.chains import chain_hash
from ruleaudit.near import UnknownNameError, did_you_mean, near_matches, unknown
from ruleaudit.reports.printable import shortened
from ruleaudit.reports.structured import dumps
from ruleaudit.reports.text import Line, Piece
from ruleaudit.signs import dispatches, is_kube_proxy_chain
from ruleaudit.trace.holders import node_with, state_of
from ruleaudit.trace.hops import Follower, Sender
from ruleaudit.trace.nodes import Nodes
from ruleaudit.trace.rules import Book
from ruleaudit.trace.values import RuleUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.audit import FamilyModel, NodeModel
    from ruleaudit.cluster import Cluster
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dumps.virtual_servers import VirtualServer
    from ruleaudit.findings import Finding
    from ruleaudit.forwarding import Frontend
    from ruleaudit.kubeproxy.expect import ExpectedServicePort
    from ruleaudit.signs import Dispatch
    from ruleaudit.trace.values import Outcome

__all__ = ["SCHEMA", "Section", "json_sections", "open_node", "section_lines", "show"]

SCHEMA: Final = "ruleaudit/show/v1"
_MANY: Final = 50
_WIDTH: Final = 170
_WHENCE: Final = {Vantage.POD: "from pods", Vantage.NODE: "from the node", Vantage.OUTSIDE: "from outside"}

_ENDPOINT_CHAIN: Final = "KUBE-SEP-"
_MEANINGS: Final = {
    "KUBE-SVC-": "spreads the connections of a service port over its endpoints (traffic policy Cluster)",
    "KUBE-SVL-": "spreads the connections of a service port over its endpoints on this node (traffic policy Local)",
    "KUBE-EXT-": "takes the connections that come to a service port's external addresses and node port, by its external traffic policy",
    "KUBE-XLB-": "takes the connections to external addresses of a service port with external traffic policy Local (before 1.24)",
    "KUBE-FW-": "lets the clients in that a load balancer's source ranges admit",
    _ENDPOINT_CHAIN: "sends connections to one endpoint of a service port",
}
_FIXED: Final = {
    "KUBE-SERVICES": "dispatches connections by the address and port of a service port; in filter it refuses those without endpoints",
    "KUBE-NODEPORTS": "dispatches connections to node ports; in filter it lets health checks in",
    "KUBE-EXTERNAL-SERVICES": "refuses connections to external addresses and node ports of service ports without (local) endpoints",
    "KUBE-POSTROUTING": "replaces the source of packets that carry the masquerade mark",
    "KUBE-MARK-MASQ": "sets the masquerade mark: the packet leaves the node with another source",
    "KUBE-MARK-DROP": "sets the mark by which kubelet's rules drop a packet",
    "KUBE-FORWARD": "lets service traffic through the node, and drops what connection tracking calls invalid",
    "KUBE-FIREWALL": "kubelet's and kube-proxy's guard of loopback addresses, and of what is marked to be dropped",
    "KUBE-PROXY-FIREWALL": "drops what came to a load balancer's address from outside of its source ranges",
    "KUBE-LOAD-BALANCER": "in IPVS mode: masquerade for load balancers' addresses",
    "KUBE-NODE-PORT": "in IPVS mode: masquerade for node ports; in filter it lets health checks in",
    "KUBE-SOURCE-RANGES-FIREWALL": "in IPVS mode: drops what source ranges do not admit",
    "KUBE-IPVS-FILTER": "in IPVS mode: refuses what goes to a VIP but to no service port",
    "KUBE-IPVS-OUT-FILTER": "in IPVS mode: holds the node's own packets to source ranges",
    "KUBE-PROXY-CANARY": "kube-proxy looks whether it is still there: a flush of the tables takes it along",
    "KUBE-KUBELET-CANARY": "kubelet looks whether it is still there: a flush of the tables takes it along",
    "KUBE-IPTABLES-HINT": "tells other software which iptables backend the node uses",
}


class ShowError(RuleauditError):
    """What `show` was asked for cannot be shown; the message says why."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, facts in words, lines of inputs, and sections below."""

    title: str
    facts: tuple[str, ...] = ()
    rules: tuple[RuleUse, ...] = ()
    sections: tuple[Section, ...] = ()


def show(node: NodeModel, kind: str, name: str = "") -> Section:
    """What the model holds of a "service", a "chain", an "endpoint", a "virtual-server", a "set", or the "summary".

    Raises UnknownNameError, with near matches, for what is not there, ShowError for a name that cannot be read.
    """
    return _SHOWN[kind](_Shown(node), name)


class _Shown:
    """One node, read."""

    def __init__(self, node: NodeModel) -> None:
        self.node = node
        self.families = [(family, found) for family in node.families if (found := node.family(family)) is not None]
        self.books = {family: Book(found.audit) for family, found in self.families}
        self._known: dict[int, list[Dispatch]] = {}

    # --- a Service ---

    def service(self, name: str) -> Section:
        namespace, slash, own = name.partition("/")
        service = self.node.cluster.services.get((namespace, own))
        if not slash or service is None:
            known = ["/".join(key) for key in self.node.cluster.services]
            raise UnknownNameError(unknown("Service", name, known))
        sections = [
            self._service_port(family, found, expected)
            for family, found in self.families
            for expected in found.audit.expectation.service_ports
            if (expected.name.namespace, expected.name.name) == (namespace, own)
        ]
        facts = [f"type {service.spec.type or 'ClusterIP'}"]
        if service.spec.type == "ExternalName":
            facts.append(
                f"external name {service.spec.external_name or '(none)'}: cluster DNS answers with it, and no rule is about it"
            )
        for family, found in self.families:
            reason = found.audit.expectation.ignored.get((namespace, own))
            if reason:
                facts.append(f"IPv{family}: kube-proxy passes it over: {reason}")
        if not sections and service.spec.type != "ExternalName":  # what cluster DNS gives out, or another proxy serves
            listed = _listed_endpoints(self.node.cluster, (namespace, own))
            sections.append(Section("endpoints", tuple(str(one) for one in listed[:_MANY]) or (self._without_endpoints("none"),)))
        return Section(f"Service {name}", tuple(facts), (), tuple(sections))

    def _service_port(self, family: int, found: FamilyModel, expected: ExpectedServicePort) -> Section:
        facts = []
        if expected.affinity is not None:
            facts.append(f"session affinity: {expected.affinity} s")
        policies = [
            f"{what} traffic policy Local"
            for what, on in (("internal", expected.internal_local), ("external", expected.external_local))
            if on
        ]
        facts += policies
        if expected.source_ranges:
            facts.append(f"source ranges: {', '.join(expected.source_ranges)}")
        if expected.health_check_node_port:
            facts.append(f"health check node port {expected.health_check_node_port}")
        follower = Follower(Nodes(self.node, (self.node,)))
        said = tuple(_said(one) for one in found.findings_of(expected))
        sections = [Section("findings", said)] if said else []
        sections.append(self._endpoints_of(expected))
        sections += [self._frontend(follower, family, found, expected, one) for one in expected.frontends]
        sections += self._chains_of(family, found, expected)
        return Section(
            f"port {service_port_of(expected)}, {expected.port}/{expected.protocol}, IPv{family}",
            tuple(facts),
            (),
            tuple(sections),
        )

    def _endpoints_of(self, expected: ExpectedServicePort) -> Section:
        chosen = {one.text for one in (*expected.selection.cluster, *expected.selection.local)}
        facts = []
        for one in (*expected.candidates.endpoints, *expected.candidates.unready)[:_MANY]:
            pod = f", pod {one.target[0] or expected.name.namespace}/{one.target[1]}" if one.target is not None else ""
            node = f" on node {one.node_name}" if one.node_name else ""
            unused = "" if one.text in chosen else ", not used from this node"
            facts.append(f"{one.text}{pod}{node}, {state_of(one.ready, terminating=one.terminating)}{unused}")
        return Section("endpoints", tuple(facts) or (self._without_endpoints("none"),))

    def _without_endpoints(self, none: str) -> str:
        """What is said where the objects list no endpoints: `none`, where they could list some."""
        cluster = self.node.cluster
        given = cluster.has_kind("EndpointSlice") or cluster.has_kind("Endpoints")
        return none if given else "not known: no EndpointSlices and no Endpoints were given"

    def _frontend(
        self, follower: Follower, family: int, found: FamilyModel, expected: ExpectedServicePort, frontend: Frontend
    ) -> Section:
        facts = []
        places = [frontend.address] if frontend.address is not None else list(found.audit.node_port_addresses[:1])
        asking = [(Sender(vantage), whence) for vantage, whence in _WHENCE.items()]
        if frontend.kind is FrontendKind.LOAD_BALANCER_IP and expected.source_ranges:
            asking[-1] = (asking[-1][0], "from outside of the source ranges")
            admitted = address_inside(expected.source_ranges[0])
            asking.append((Sender(Vantage.OUTSIDE, admitted), f"from within, as {admitted}"))
        for address in places:
            for sender, whence in asking:
                branch = follower.at_node(self.node, sender, address, frontend.port, frontend.protocol)
                facts.append(f"{whence}: {_ends(branch.outcomes)}")
        rules = self._rules_for(family, found, frontend)
        return Section(f"{frontend.kind.value} {bare(frontend)}", tuple(facts), tuple(rules))

    def _rules_for(self, family: int, found: FamilyModel, frontend: Frontend) -> Iterator[RuleUse]:
        """The lines that name a frontend."""
        book = self.books[family]
        if found.audit.virtual is not None:
            addresses = [frontend.address] if frontend.address is not None else list(found.audit.node_port_addresses)
            for address in addresses:
                server = found.audit.virtual.listing.server(address, frontend.port, frontend.protocol)
                lines = (server.line, *server.lines)[:_MANY] if server is not None else ()
                held = (book.use(("ipvs", server.name, line)) for line in lines) if server is not None else ()
                yield from (one for one in held if one is not None)
            return
        for one in self._dispatches(family):
            same = (one.address, one.port, one.protocol) == (frontend.address, frontend.port, frontend.protocol)
            if same and (use := book.use((one.table, one.chain, one.line))) is not None:
                yield use

    def _dispatches(self, family: int) -> list[Dispatch]:
        known = self._known.get(family)
        if known is None:
            known = self._known[family] = list(dispatches(dict(self.families)[family].audit.rules))
        return known

    def _chains_of(self, family: int, found: FamilyModel, expected: ExpectedServicePort) -> Iterator[Section]:
        """The chains of a service port, with how many rules they hold, and the rules of the endpoint chains that they jump to."""
        rules = found.audit.rules
        chains = rules.chains("nat")
        ends = {chain_hash(text, expected.protocol) for text in expected.name.texts(found.audit.expectation.release)}
        names = [
            name for end in ends for prefix in _MEANINGS if prefix != _ENDPOINT_CHAIN and (name := f"{prefix}{end}") in chains
        ]
        if names:
            yield Section("chains", tuple(f"nat {one}: {_count(len(chains[one].lines), 'rule')}" for one in names))
        targets = (entry.target for name in names for entry in rules.entries("nat", name))
        reached = [one for one in dict.fromkeys(targets) if one.startswith(_ENDPOINT_CHAIN) and one in chains]
        uses = (self.books[family].use(("nat", one, line)) for one in reached[:_MANY] for line in chains[one].lines)
        if reached:
            more = (f"{len(reached)} chains, of which the first {_MANY} are shown",) if len(reached) > _MANY else ()
            yield Section("endpoint chains", more, tuple(one for one in uses if one is not None))

    # --- a chain ---

    def chain(self, name: str) -> Section:
        sections = [
            self._chain(family, table, name)
            for family, rules in self.families_of_rules()
            for table in rules.tables
            if name in rules.chains(table)
        ]
        if not sections:
            names = {one for _, rules in self.families_of_rules() for table in rules.tables for one in rules.chains(table)}
            near = did_you_mean(near_matches(name, names))
            raise UnknownNameError(f"no table of the node has a chain {name!r}{near}")
        return Section(f"chain {name}", (self._meaning(name),), (), tuple(sections))

    def families_of_rules(self) -> list[tuple[int, Ruleset]]:
        """The rules of each family, whether or not kube-proxy serves it."""
        return [(family, found.audit.rules) for family, found in self.families] or list(self.node.rulesets.items())

    def _chain(self, family: int, table: str, name: str) -> Section:
        rules = dict(self.families_of_rules())[family]
        book = self.books.get(family)
        chain = rules.chains(table)[name]
        dump = rules.dump_of(table, name)
        facts = [f"policy {chain.policy}"] if chain.policy else []
        owner = self._owner_of(family, name)
        if owner:
            facts.append(f"of {owner}")
        jumps = list(self._jumps_to(family, table, name))
        here = [_use(book, dump.path, line, table, name, dump.text(line)) for line in (chain.line, *chain.lines) if line > 0]
        shown = here[:_MANY]
        if len(here) > _MANY:
            facts.append(f"{len(here) - 1} rules, of which the first {_MANY - 1} are shown")
        sections = [
            Section("jumps here", () if jumps else ("none: no packet comes here",), tuple(jumps[:_MANY]))
            if chain.policy is None
            else None,
        ]
        return Section(
            f"table {table}, IPv{family}", tuple(facts), tuple(shown), tuple(one for one in sections if one is not None)
        )

    def _jumps_to(self, family: int, table: str, name: str) -> Iterator[RuleUse]:
        rules = dict(self.families_of_rules())[family]
        for other, chain in rules.chains(table).items():
            dump = rules.dump_of(table, other)
            values = dump.values
            for line in chain.lines:
                if name in values[line] and dump.rule(line).target_name == name:
                    yield _use(self.books.get(family), dump.path, line, table, other, dump.text(line))

    def _meaning(self, name: str) -> str:
        known = _FIXED.get(name) or next((text for prefix, text in _MEANINGS.items() if name.startswith(prefix)), None)
        if known is not None:
            return known
        if any(
            name in rules.chains(table) and rules.chains(table)[name].policy
            for _, rules in self.families_of_rules()
            for table in rules.tables
        ):
            return "a built-in chain: the kernel sends packets here"
        return "a chain of other software"

    def _owner_of(self, family: int, name: str) -> str:
        """The service port that a chain belongs to: by the hash in its name, that of an endpoint by who jumps there."""
        found = self.node.family(family)
        if found is None:
            return ""
        prefix = next((one for one in _MEANINGS if name.startswith(one)), None)
        if prefix is None:
            return ""
        if prefix == _ENDPOINT_CHAIN:
            owners = dict.fromkeys(
                self._owner_of(family, one.chain) for one in self._jumps_to(family, "nat", name) if one.chain != name
            )
            return ", ".join(one for one in owners if one)
        end = name.removeprefix(prefix)
        for expected in found.audit.expectation.service_ports:
            if any(chain_hash(text, expected.protocol) == end for text in expected.name.texts(found.audit.expectation.release)):
                return f"service port {service_port_of(expected)}"
        return "no service port of the objects"

    # --- an endpoint ---

    def endpoint(self, name: str) -> Section:
        address, port = _endpoint_name(name)
        family = known_family(address)
        found = self.node.family(family)
        pods, others = tuple(self._pods_at(address)), tuple(self._other_holders(address))
        claims = tuple(self._claims(found, address, port))
        senders = tuple(self._senders(family, found, address, port)) if found is not None else ()
        if not (pods or others or claims or senders):
            known = {*self.node.cluster.pods_by_address}
            raise UnknownNameError(
                f"no pod, no Service, no node and no rule has {address}{did_you_mean(near_matches(address, known))}"
            )
        # What no endpoint is, a Service's address, has nobody who translates to it either.
        sections = (
            (
                Section("an endpoint of, by the objects", claims or (self._without_endpoints("no Service"),)),
                Section("who sends traffic here, by the rules", () if senders else ("nobody",), (), senders),
            )
            if pods or claims or senders
            else ()
        )
        return Section(f"endpoint {name}", (*pods, *others), (), sections)

    def _pods_at(self, address: str) -> Iterator[str]:
        for pod in self.node.cluster.pods_at(address):
            state = "finished" if pod.finished else "ready" if pod.ready else "not ready"
            yield f"pod {'/'.join(pod.metadata.key)} on node {pod.spec.node_name}, {state}"

    def _other_holders(self, address: str) -> Iterator[str]:
        """What else an address is: a Service's or a node's."""
        cluster = self.node.cluster
        for key, service in cluster.services.items():
            spec = service.spec
            kinds = (
                ("the cluster IP", (*spec.cluster_ips, spec.cluster_ip)),
                ("an external IP", spec.external_ips),
                ("the load balancer's address", [one.ip for one in service.status.load_balancer.ingress]),
            )
            for what, texts in kinds:
                if any(canonical(one) == address for one in texts):
                    name = "/".join(key)
                    yield f"{what} of Service {name}, no endpoint: `ruleaudit show service {name}` tells who gets its connections"
        owner = node_with(cluster, address)
        if owner is not None:
            yield f"an address of node {owner}"

    def _claims(self, found: FamilyModel | None, address: str, port: int | None) -> Iterator[str]:
        """The Services of which an address is an endpoint; those that kube-proxy passes over, as headless ones, as the objects list it."""
        ports = found.audit.expectation.service_ports if found is not None else ()
        for expected in ports:
            for one in (*expected.candidates.endpoints, *expected.candidates.unready):
                if one.address == address and port in (None, one.port):
                    state = state_of(one.ready, terminating=one.terminating)
                    yield f"{service_port_of(expected)}: {one.text}, {state}"
        served = {(one.name.namespace, one.name.name) for one in ports}
        why = "which kube-proxy passes over" if found is not None else "of a family that kube-proxy does not serve here"
        for key, service in self.node.cluster.services.items():
            if key in served or service.spec.type == "ExternalName":
                continue
            for listed in _listed_endpoints(self.node.cluster, key):
                if listed.address == address and port in (None, listed.port):
                    yield f"{'/'.join(key)}, {why}: {listed.place}, {listed.state}"

    def _senders(self, family: int, found: FamilyModel, address: str, port: int | None) -> Iterator[Section]:
        """The rules that translate to an address, and what leads to them; in IPVS mode its real servers."""
        audit, book = found.audit, self.books[family]
        if audit.virtual is not None:
            for server in audit.virtual.servers():
                lines = [one.line for one in server.real_servers if one.address == address and port in (None, one.port)]
                if lines:
                    held = (book.use(("ipvs", server.name, line)) for line in (server.line, *lines))
                    yield Section(
                        f"virtual server {server.name}",
                        (self._claim_of(found, server),),
                        tuple(one for one in held if one is not None),
                    )
        rules = audit.rules
        for name, chain in rules.chains("nat").items():
            dump = rules.dump_of("nat", name)
            for line in chain.lines:
                if not any(value.startswith((f"{address}:", f"[{address}]:")) or value == address for value in dump.values[line]):
                    continue
                given = dump.rule(line).option("--to-destination")
                if given is None or not _is_at(given.values[0], address, port):
                    continue
                use = book.use(("nat", name, line))
                uses = [use] if use is not None else []
                uses += list(self._jumps_to(family, "nat", name))[:_MANY]
                owner = self._owner_of(family, name) or ("" if is_kube_proxy_chain(name) else "other software")
                yield Section(f"nat {name}", (f"of {owner}",) if owner else (), tuple(uses))

    def _claim_of(self, found: FamilyModel, server: VirtualServer) -> str:
        by = found.audit.expectation.by_frontend
        key = (server.address, server.port or 0, server.protocol or "")
        claims = by.get(key) or (by.get((None, *key[1:])) if server.address in found.audit.node_port_addresses else None)
        return f"of service port {', '.join(service_port_of(one) for one in claims)}" if claims else "of no Service"

    # --- virtual servers and sets ---

    def virtual_server(self, name: str) -> Section:
        address, port, protocol = _server_name(name)
        known: dict[str, str] = {}
        for family, found in self.families:
            virtual = found.audit.virtual
            for server in virtual.servers() if virtual is not None else ():
                place = endpoint_text(server.address or "", server.port or 0)
                known.setdefault(place, f"{place}/{(server.protocol or '').lower()}")
                if (server.address, server.port) != (address, port) or protocol not in (None, server.protocol):
                    continue
                book = self.books[family]
                facts = [self._claim_of(found, server)]
                facts += [f"scheduler {server.scheduler}"] if server.scheduler else []
                facts += [f"persistent for {server.persistence} s"] if server.persistence else []
                uses = (book.use(("ipvs", server.name, line)) for line in (server.line, *server.lines))
                return Section(f"virtual server {server.name}", tuple(facts), tuple(one for one in uses if one is not None))
        if not known:
            raise ShowError("no virtual servers were given: add the output of `ipvsadm -Sn`")
        near = [known[one] for one in near_matches(endpoint_text(address, port), known)]
        raise UnknownNameError(f"there is no virtual server {name!r}{did_you_mean(near)}")

    def set(self, name: str) -> Section:
        sets = self.node.ipvs.sets
        if sets is None:
            raise ShowError("no sets were given: add the output of `ipset save`")
        one = sets.get(name)
        if one is None:
            raise UnknownNameError(f"there is no set {name!r}{did_you_mean(near_matches(name, sets))}")
        dump = one.dump
        entries = one.entries
        lines = [one.line, *(entries or {}).values()]
        uses = tuple(_use(None, dump.path, line, "ipset", name, dump.text(line)) for line in lines[:_MANY])
        facts = [f"type {one.type}" if one.type else "its type is not known"]
        facts.append("its entries were not listed" if entries is None else f"{_count(len(entries), 'entry', 'entries')}")
        asking = [
            _use(
                self.books.get(family),
                rules.dump_of(table, chain).path,
                line,
                table,
                chain,
                rules.dump_of(table, chain).text(line),
            )
            for family, rules in self.families_of_rules()
            for table in rules.tables
            for chain, known in rules.chains(table).items()
            for line in known.lines
            if name in rules.dump_of(table, chain).values[line]
        ]
        return Section(
            f"set {name}", tuple(facts), uses, (Section("rules that ask it", () if asking else ("none",), tuple(asking)),)
        )

    # --- all of it ---

    def summary(self, name: str) -> Section:
        del name
        node = self.node
        facts = [f"mode {node.mode.value}"]
        facts += [f"{one.path}: {one.kind}, {_count(one.lines, 'line')}" for one in node.inputs.summaries if one.used]
        cluster = node.cluster
        counts = (
            (cluster.services, "Service"), (cluster.slices, "EndpointSlice"), (cluster.endpoints, "Endpoints", "Endpoints"),
            (cluster.pods, "Pod"), (cluster.nodes, "Node"), (cluster.ingresses, "Ingress", "Ingresses"),
        )  # fmt: skip
        facts.append(", ".join(_count(len(held), *words) for held, *words in counts))
        return Section(f"node {node.name or '(name not known)'}", tuple(facts), (), tuple(self._summaries()))

    def _summaries(self) -> Iterator[Section]:
        for family, found in self.families:
            audit = found.audit
            expectation = audit.expectation
            ports = expectation.service_ports
            detection = expectation.local_detection
            how = (
                "not known"
                if detection == "unset"
                else "none"
                if detection is None
                else f"{detection.mode} {detection.value}".rstrip()
            )
            facts = [
                f"kube-proxy {' or '.join(dict.fromkeys(str(one) for one in found.releases))}",
                f"local pods by {how}; masquerade mark {audit.mark:#x}; node ports at {', '.join(audit.node_port_addresses) or 'no known address'}",
                f"{_count(len(ports), 'service port')}, {_count(sum(len(one.frontends) for one in ports), 'frontend')}, "
                f"{_count(sum(len(one.candidates.endpoints) for one in ports), 'endpoint')}",
            ]
            sections = []
            for table in audit.rules.tables:
                chains = audit.rules.chains(table)
                own = [one for one in chains if is_kube_proxy_chain(one)]
                kinds = Counter(next((prefix for prefix in _MEANINGS if one.startswith(prefix)), "") for one in own)
                kinds.pop("", None)
                foreign = sorted(one for one, chain in chains.items() if not is_kube_proxy_chain(one) and chain.policy is None)
                text = [f"{_count(len(chains), 'chain')}, {_count(sum(len(one.lines) for one in chains.values()), 'rule')}"]
                text += [f"{count} {prefix}*" for prefix, count in sorted(kinds.items())]
                text += (
                    [
                        f"chains of other software: {', '.join(foreign[:8])}{f' and {len(foreign) - 8} more' if len(foreign) > 8 else ''}"
                    ]
                    if foreign
                    else []
                )
                sections.append(Section(f"table {table}", tuple(text)))
            if audit.virtual is not None:
                servers = list(audit.virtual.servers())
                reals = sum(len(one.lines) for one in servers)
                sections.append(Section("virtual servers", (f"{len(servers)}, with {_count(reals, 'real server')}",)))
            yield Section(f"IPv{family}", tuple(facts), (), tuple(sections))
        sets = self.node.ipvs.sets
        if sets is not None:
            facts = [f"{one.name}: {'not listed' if one.entries is None else len(one.entries)}" for one in sets.values()]
            yield Section("sets, and how many entries they hold", tuple(facts))


_SHOWN: Final = {
    "service": _Shown.service,
    "chain": _Shown.chain,
    "endpoint": _Shown.endpoint,
    "virtual-server": _Shown.virtual_server,
    "set": _Shown.set,
    "summary": _Shown.summary,
}


def _use(book: Book | None, path: str, line: int, table: str, chain: str, text: str) -> RuleUse:
    if book is not None and (found := book.use((table, chain, line))) is not None:
        return found
    return RuleUse(path, line, table, chain, text)


def _said(finding: Finding) -> str:
    """A finding in one line, as `check` heads it."""
    doubt = " [possible]" if finding.certainty is Certainty.POSSIBLE else ""
    return f"{finding.code} {finding.severity.value}: {finding.message}{doubt}"


class _Listed(NamedTuple):
    """An endpoint as the objects list it. `port` None: a Service without ports. `held_by`: pod and node in words, "" where neither is named."""

    address: str
    port: int | None
    held_by: str
    state: str

    @property
    def place(self) -> str:
        return self.address if self.port is None else endpoint_text(self.address, self.port)

    def __str__(self) -> str:
        return f"{self.place}{self.held_by}, {self.state}"


def _listed_endpoints(cluster: Cluster, key: tuple[str, str]) -> list[_Listed]:
    """The endpoints of a Service, of either family, each once, by its EndpointSlices, else by its Endpoints."""
    slices = cluster.slices_of(*key)
    found = (
        (text, port.port, one.target_ref, one.node_name, conditions.ready is not False, bool(conditions.terminating))
        for piece in slices
        for port in piece.ports or (EndpointPort(),)
        for one in piece.endpoints
        for conditions in (one.conditions or Conditions(),)
        for text in one.addresses
    )
    endpoints = None if slices else cluster.endpoints.get(key)
    old = (
        (held.ip, port.port, held.target_ref, held.node_name, ready, False)
        for subset in (endpoints.subsets if endpoints is not None else ())
        for port in subset.ports or (EndpointPort(),)
        for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False))
        for held in addresses
    )
    listed = []
    for text, number, target, node, ready, terminating in (*found, *old):
        pod = f", pod {target.namespace or key[0]}/{target.name}" if target is not None and target.kind == "Pod" else ""
        where = f"{pod} on node {node}" if node else pod
        listed.append(_Listed(canonical(text) or text, number, where, state_of(ready, terminating=terminating)))
    return list(dict.fromkeys(listed))


def _is_at(destination: str, address: str, port: int | None) -> bool:
    try:
        host, number = split_endpoint(destination)
    except ValueError:
        return destination == address
    return host == address and port in (None, number)


def _endpoint_name(name: str) -> tuple[str, int | None]:
    """Read ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT."""
    host, port = name, ""
    if canonical(name.strip("[]")) is None:
        host, _, port = name.rpartition(":")
    host = host.strip("[]")
    address = canonical(host)
    if address is None or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ShowError(f"{name!r} is no endpoint: give ADDRESS or ADDRESS:PORT")
    return address, int(port) if port else None


def _server_name(name: str) -> tuple[str, int, str | None]:
    """Read ADDRESS:PORT[/PROTOCOL], or as ipvsadm calls it, "TCP ADDRESS:PORT"."""
    found = re.fullmatch(r"(?:(TCP|UDP|SCTP) )?(.+?)(?:/(tcp|udp|sctp))?", name, re.IGNORECASE)
    assert found is not None or not name
    protocol = (found[1] or found[3]) if found is not None else None
    address, port = _endpoint_name(found[2] if found is not None else name)
    if port is None:
        raise ShowError(f"{name!r} is no virtual server: give ADDRESS:PORT or ADDRESS:PORT/PROTOCOL")
    return address, port, protocol.upper() if protocol else None


def _ends(outcomes: Sequence[Outcome]) -> str:
    parts: dict[str, float] = {}
    for one in outcomes:
        if one.verdict is Verdict.FORWARD and one.destination is not None:
            source = {True: "masqueraded", False: "with the client's address", None: "masquerade not decided"}[one.masquerade]
            text = f"to {endpoint_text(one.destination[0], one.destination[1])} {source}"
        else:
            ended = {Verdict.DROP: "dropped", Verdict.REJECT: "rejected", Verdict.LOCAL: "left to the node itself"}
            text = ended.get(one.verdict or Verdict.PASS, "routed on, untranslated")
        parts[text] = parts.get(text, 0.0) + one.share
    if len(parts) == 1:
        return next(iter(parts))
    shown = [f"{percent(share)} {text}" for text, share in list(parts.items())[:6]]
    return ", ".join(shown) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")


def _count(number: int, word: str, words: str = "") -> str:
    return f"{number:,} {word if number == 1 else words or f'{word}s'}"


# --- rendering ---


def section_lines(section: Section, depth: int = 0) -> Iterator[Line]:
    """A section for people."""
    indent = 2 * depth
    yield Line(indent, "", (Piece(section.title, "bold"),))
    for fact in section.facts:
        yield Line(indent + 2, "", (Piece(fact),))
    for rule in section.rules:
        where = Piece(f"{rule.file}:{rule.line}: ", "cyan")
        yield Line(indent + 2, "", (where, Piece(shortened(rule.text, _WIDTH))))
    for one in section.sections:
        yield from section_lines(one, depth + 1)


def json_sections(node: str | None, section: Section) -> str:
    """A section as JSON, schema ruleaudit/show/v1."""
    return dumps({"schema": SCHEMA, "node": node, **_fields(section)}, indent=2) + "\n"


def _fields(section: Section) -> dict[str, object]:
    return {
        "title": section.title,
        "facts": list(section.facts),
        "rules": [
            {"file": one.file, "line": one.line, "table": one.table, "chain": one.chain, "text": one.text}
            for one in section.rules
        ],
        "sections": [_fields(one) for one in section.sections],
    }

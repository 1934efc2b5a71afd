"""The audit of a node in IPVS mode: virtual servers, sets, the dummy interface, and the rules beside them (KPR 9 to 12).

What was given decides what is asked. Virtual servers alone say which endpoints a Service has; with sets and rules masquerade, source
ranges and drops are judged, too; `ip addr` says whether packets come to IPVS at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from ruleaudit.addresses import parse_network
from ruleaudit.audit.coverage import is_cut, unsettled
from ruleaudit.audit.inputs import note
from ruleaudit.audit.iptables import DEFAULT_MARK, Summary, collapsed, releases_of, settled
from ruleaudit.audit.ipvs_node import is_set_of
from ruleaudit.audit.node import clients_of, own_addresses
from ruleaudit.checks import nodewide, objects, virtual_form, virtual_leftovers
from ruleaudit.checks.context import FamilyAudit
from ruleaudit.checks.judgement import listed
from ruleaudit.checks.mixed_modes import other_modes_rules
from ruleaudit.checks.other_node import Trace, other_node, traced, traces
from ruleaudit.checks.virtual_causes import effects_of_lost_rules, with_causes
from ruleaudit.checks.virtual_repair import Apart, apart, leading_addresses, leading_entries
from ruleaudit.checks.virtual_servers import VirtualServerJudge, loop_back
from ruleaudit.checks.written_ipvs import written_ipvs
from ruleaudit.dataplane.ipvs import VirtualTable
from ruleaudit.dataplane.packet import Host
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.dataplane.sets import Sets
from ruleaudit.findings import Finding, Severity
from ruleaudit.forwarding import FrontendKind, Vantage, split_endpoint
from ruleaudit.kubeproxy.expect import Expectation, expect
from ruleaudit.kubeproxy.expected_sets import SET_KINDS, set_name
from ruleaudit.kubeproxy.release import NEWEST, OLDEST, ProxyMode
from ruleaudit.signs import IPVS_HOOKS, Signs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from ruleaudit.audit.inputs import Inputs
    from ruleaudit.audit.ipvs_node import IpvsNode
    from ruleaudit.audit.opened import OpenNode
    from ruleaudit.cluster import Cluster
    from ruleaudit.dumps.rules import Table
    from ruleaudit.kubeproxy.release import Release
    from ruleaudit.kubeproxy.settings import ProxySettings

__all__ = ["IpvsCase", "audit_ipvs_family", "open_ipvs_family"]

# --- one family ------------------------------------------------------------------------------------------------------------------------


def open_ipvs_family(family: int, node: OpenNode) -> tuple[IpvsCase, list[Release], list[str]]:
    """One family of a node made ready, the releases that can have programmed it, and the settings that were read off the rules."""
    given, ipvs, cluster, name = node.proxy, node.ipvs, node.cluster, node.name
    sets = Sets(ipvs.sets) if ipvs.sets is not None else None
    rules = Ruleset(family, node.tables, sets=sets)
    sign = node.signs[family]
    with_rules = sign.served and rules.has_table("filter")
    unlisted = _unlisted(rules) if sets is not None else ()
    if not with_rules:
        sign = replace(sign, oldest=OLDEST, newest=NEWEST) if not sign.served else sign
    settings, inferred = settled(family, given, sign, cluster, name)
    mark = (1 << given.masquerade_bit) if "masquerade_bit" in given.given else sign.mark or DEFAULT_MARK
    if "masquerade_bit" not in given.given:
        inferred.append("masquerade_mark")
    releases = releases_of(given, {family: replace(sign, served=True)})
    if given.minor is None:
        inferred.append("layout")
    case = IpvsCase(family, cluster, node.inputs, ipvs, node.tables, rules, sign, settings, name, mark, with_rules, unlisted)
    return case, releases, inferred


def audit_ipvs_family(family: int, node: OpenNode, summary: Summary) -> Iterator[Finding]:
    """Every finding of one family of a node in IPVS mode; `summary` counts what was looked at."""
    case, releases, inferred = open_ipvs_family(family, node)
    ipvs, name, sign, with_rules = node.ipvs, node.name, case.sign, case.with_rules
    if ipvs.listing is None:
        yield note(
            f"virtual servers {family}",
            f"the virtual servers of IPv{family} were not given: which endpoints Services have is not checked",
            "add the output of `ipvsadm -Sn` (or `ipvsadm -Ln`)",
        )
    audit, judge, told = _told(case, releases, node)
    yield from _of_other_node(case, releases, node, audit, judge, told, summary)
    yield from objects.duplicate_frontends(audit)
    whole = {one.name for one in node.tables if one.family == family and not is_cut(one)}
    empty = not with_rules and whole >= {"nat", "filter"}
    yield from _coverage(audit, ipvs, judge, with_rules=with_rules, empty=empty, unlisted=case.unlisted, node=name)
    asked = 0 if judge is None else sum(len(one.frontends) for one in audit.expectation.service_ports)
    summary.count(audit, sign, inferred, asked, endpoints=judge is not None)


def _told(
    case: IpvsCase, releases: Sequence[Release], node: OpenNode
) -> tuple[FamilyAudit, VirtualServerJudge | None, list[Finding]]:
    """What is said of a family under the release that fits best; with the audit under it, and its judge."""
    best: tuple[FamilyAudit, VirtualServerJudge | None, list[Finding], list[Finding]] | None = None
    for release in releases:
        found = case.judged(release)
        if best is None or _weight(found) < _weight(best):
            best = found
        if not _weight(best):
            break
    assert best is not None
    audit, judge, findings, stale = best
    empty = _nothing_programmed(audit, case.ipvs)
    if empty is not None:
        findings = [replace(one, cause=empty.fingerprint) if one.cause is None else one for one in findings]
    unknown: list[Finding] = []
    first = [*findings, *case.parts(audit, findings)] if len(releases) > 1 else []
    if any(one.code in _OF_SETS and one.severity is not Severity.INFO for one in first):
        audit.other_expectations = tuple(case.as_likely(releases, audit.expectation.release, _weight(best)))
    if audit.other_expectations:
        audit.__dict__.pop("sets_wanted", None)
        findings = [one for one in findings if not _only_of_some(audit, one)]
        minors = [one.release.minor for one in (audit.expectation, *audit.other_expectations)]
        unknown.append(
            note(
                f"release {case.family}",
                f"which release of kube-proxy programmed IPv{case.family} is not known (1.{min(minors)} to 1.{max(minors)}): entries of "
                "sets and addresses of kube-ipvs0 that only some of these ask for are neither missed nor taken for stale",
                "give kube-proxy's version, as meta.json of a capture has it",
            )
        )
    wide = list(case.wide(audit, judge)) if case.with_rules else []
    taken = Apart(findings)
    if judge is not None and empty is None:
        differ = node.contradicted(case.family)
        taken = apart(judge, findings, wide, rules=not any(other_modes_rules(audit)) and differ is None)
    told = [*(collapsed(audit, taken.own) if empty is None else taken.own), *stale]
    parts = leading_entries(audit, list(case.parts(audit, told)), taken.of_entries)
    every = leading_addresses(audit, with_causes([*told, *parts]), len(case.ipvs.dummy(case.family) or ()))
    return audit, judge, [*([] if empty is None else [empty]), *every, *taken.leaders, *taken.effects, *wide, *unknown]


_OF_SETS = frozenset({"RA110", "RA111", "RA210", "RA403"})
"""What is said of sets and of kube-ipvs0, by which no release is chosen."""


def _only_of_some(audit: FamilyAudit, one: Finding) -> bool:
    """Whether a hairpin entry is lacking for which only some of the possible releases ask."""
    if one.code != "RA403" or one.endpoint is None:
        return False
    address, port = split_endpoint(one.endpoint)
    wanted = audit.sets_wanted[set_name("KUBE-LOOP-BACK", audit.family)].entries
    found = [wanted.get(f"{address},{protocol}:{port},{address}") for protocol in ("tcp", "udp", "sctp")]
    return not any(asked is not None and not asked.optional for asked in found)


def _of_other_node(
    case: IpvsCase,
    releases: Sequence[Release],
    model: OpenNode,
    audit: FamilyAudit,
    judge: VirtualServerJudge | None,
    told: list[Finding],
    summary: Summary,
) -> list[Finding]:
    """What was told, with RA007 before it where the dumps are another node's: what would not be told of that one follows from it."""
    if audit.node is None or not case.cluster.services:
        return told
    possible = list(traces(audit, case.ipvs.elsewhere(case.family)))
    found: Finding | None = None
    if summary.other_node is not None:
        node = summary.other_node
        if any(one.node != node for one in possible):
            return told
    elif possible:
        node = possible[0].node
        if any(one.node != node for one in possible):
            return told  # they contradict each other
    else:
        elsewhere = other_node(audit, judge, None) if judge is not None and judge.judged else None
        if elsewhere is None:
            return told
        node, found = elsewhere.node, elsewhere.finding
    there = {one.fingerprint for one in _told(replace(case, name=node, faults=[]), releases, model)[2]}
    loud = [one for one in told if one.severity is not Severity.INFO]
    differing = [one for one in loud if one.fingerprint not in there]
    if not possible and not differing:
        return told
    if found is None:
        trace = possible[0] if possible else Trace(node, "what only its virtual servers and sets have")
        found = traced(audit, trace, len(differing))
    summary.other_node = node
    cause = found.fingerprint
    return [found, *(one if one.fingerprint in there else replace(one, cause=cause) for one in told)]


def _weight(found: tuple[FamilyAudit, VirtualServerJudge | None, list[Finding], list[Finding]]) -> int:
    """How much a release is at fault: the newest of those with the least counts."""
    services = {one.service for one in found[2] if one.severity is not Severity.INFO and not one.code.startswith("RA6")}
    return len(services) + sum(1 for one in found[3] if one.severity is Severity.ERROR)


@dataclass
class IpvsCase:
    """One family of one node with everything that was given; judged under each release that can have programmed it."""

    family: int
    cluster: Cluster
    inputs: Inputs
    ipvs: IpvsNode
    tables: Sequence[Table]
    rules: Ruleset
    sign: Signs
    settings: ProxySettings
    name: str | None
    mark: int
    with_rules: bool
    unlisted: tuple[str, ...]
    faults: list[str] = field(default_factory=list)

    @property
    def sets_known(self) -> bool:
        """Whether all that rules ask of sets was given."""
        return self.rules.sets is not None and not self.unlisted

    def audit_under(self, release: Release) -> FamilyAudit:
        """The node under a release."""
        expectation = expect(
            self.cluster,
            node=self.name or "",
            family=self.family,
            settings=self.settings,
            release=release,
            mode=ProxyMode.IPVS,
            known=self.inputs.expectations,
        )
        virtual = VirtualTable(self.ipvs.listing, self.family) if self.ipvs.listing is not None else None
        return self.audit(expectation, virtual)

    def real_host(self, audit: FamilyAudit) -> Host:
        """The node's addresses as they are: what kube-ipvs0 lacks, where it was given, is not the node's."""
        held = self.ipvs.dummy(self.family)
        if held is None:
            return audit.host
        lacking = self._wanted(audit.expectation) - held.keys()
        own = own_addresses(self.family, audit.node_object, self.inputs.given)
        kept = {*own, *self.ipvs.elsewhere(self.family), audit.clients.node_address}
        return Host(frozenset((audit.host.addresses - lacking) | kept))

    def _wanted(self, expectation: Expectation) -> set[str]:
        """The addresses that kube-ipvs0 is to hold, as far as frontends name them."""
        return {one.address for port in expectation.service_ports for one in port.frontends if one.address is not None}

    def wide(self, audit: FamilyAudit, judge: VirtualServerJudge | None) -> Iterator[Finding]:
        """What is said of the node as a whole."""
        yield from nodewide.hooks(audit)
        if judge is not None:
            yield from nodewide.masquerade(audit, judge, self.faults)
        if self.sets_known and not self.faults:
            yield from loop_back(audit)
        yield from nodewide.local_detection(audit)

    def judged(self, release: Release) -> tuple[FamilyAudit, VirtualServerJudge | None, list[Finding], list[Finding]]:
        """The audit under a release, its judge, the findings about services, and those about what is stale."""
        audit = self.audit_under(release)
        virtual = audit.virtual
        if virtual is None:
            return audit, None, [], []
        judge = VirtualServerJudge(audit, virtual, rules_known=self.with_rules and self.sets_known)
        findings = judge.run() if self.cluster.services else []
        stale: list[Finding] = []
        if (virtual.listing.whole or virtual.listing.cut) and self.cluster.services:
            stale = list(virtual_leftovers.stale_servers(audit, virtual, self.settings.ipvs_exclude_cidrs))
        if self.cluster.services:
            stale += virtual_form.odd_servers(audit, virtual, self.settings.ipvs_scheduler)
        return audit, judge, findings, stale

    def as_likely(self, releases: Sequence[Release], best: Release, weight: int) -> Iterator[Expectation]:
        """What the other releases ask for that are as likely as the best one: no more is at fault, and they know the sets that are there."""
        oldest = self._oldest_with_sets()
        for release in releases:
            if release is not best and release.minor >= oldest:
                found = self.judged(release)
                if _weight(found) <= weight:
                    yield found[0].expectation

    def audit(self, expectation: Expectation, virtual: VirtualTable | None) -> FamilyAudit:
        """The node under one expectation. Rules are only asked when the sets that they ask are there, too."""
        given = self.inputs.given
        node = self.cluster.nodes.get(self.name or "")
        own = own_addresses(self.family, node, given)
        held = self.ipvs.dummy(self.family)
        wanted = self._wanted(expectation)
        others = [one for one in self.ipvs.elsewhere(self.family) if one not in own]
        others += self.answering(expectation, virtual, {*own, *others, *wanted})
        clients = clients_of(self.family, self.rules, self.cluster, node, expectation, [*own, *others])
        clients = replace(clients, asks_from_vip=True)
        # What kube-ipvs0 lacks is told by itself (RA111); services are judged as if it held everything.
        local = {*own, *others, clients.node_address, *wanted, *(held or ())}
        host = Host(frozenset(local), frozenset([*own, *others]) or frozenset([clients.node_address]))
        asked = self.rules if self.with_rules and self.sets_known else Ruleset(self.family, ())
        oldest = expectation.release.minor if "minor" in self.settings.given else self.sign.oldest
        lost = nodewide.missing_hooks(self.rules, self.sign, oldest, IPVS_HOOKS) if self.with_rules else ()
        repaired = asked
        if asked is self.rules:
            packet = clients.packet(Vantage.OUTSIDE, "TCP", "192.0.2.254" if self.family == 4 else "2001:db8:ff::fe", 9)
            repaired, self.faults = nodewide.repair(self.family, self.tables, self.rules, lost, self.mark, packet)
        return FamilyAudit(
            family=self.family,
            cluster=self.cluster,
            tables=self.tables,
            rules=self.rules,
            repaired=repaired,
            host=host,
            signs=self.sign,
            settings=self.settings,
            expectation=expectation,
            clients=clients,
            mark=self.mark,
            node=self.name,
            node_object=node,
            node_port_addresses=self.node_ports(expectation, own, others, virtual),
            missing_hooks=lost,
            virtual=virtual,
            listings=self.ipvs.dumps,
        )

    def answering(self, expectation: Expectation, virtual: VirtualTable | None, known: Collection[str]) -> list[str]:
        """Addresses that no input knows, at which most node ports have virtual servers: the node has them, too (KPR 11.2, T-20)."""
        if virtual is None:
            return []
        ports, answers = _node_port_answers(expectation, virtual)
        return [
            one
            for one, count in answers.items()
            if one not in known and count * 2 > len(ports) and not ip_address(one).is_loopback
        ]

    def node_ports(
        self, expectation: Expectation, own: Sequence[str], others: Sequence[str], virtual: VirtualTable | None
    ) -> tuple[str, ...]:
        """The node's addresses at which node ports must answer: those that the settings name, else those at which some do.

        Without any node port among the virtual servers, all of `own` (KPR 11.2); `others`: those that no object knows.
        """
        every = list(dict.fromkeys([*own, *(one for one in others if not ip_address(one).is_loopback)]))
        if "nodeport_addresses" in self.settings.given and self.settings.nodeport_addresses:
            chosen = [
                one
                for text in self.settings.nodeport_addresses
                for one in (own[:1] if text == "primary" else every)
                if text == "primary" or ((where := parse_network(text, self.family)) is not None and _within(one, where))
            ]
            return tuple(dict.fromkeys(chosen))
        if virtual is None:
            return tuple(own)
        ports, answers = _node_port_answers(expectation, virtual)
        if "nodeport_addresses" in self.settings.given:  # all of them
            return tuple(one for one in every if one in own or answers[one])
        answering = tuple(one for one in every if answers[one])
        if answering or not own:
            return answering
        # At none of the known addresses: other addresses may be set for node ports, or all of them are gone.
        return () if any(count * 2 > len(ports) for count in answers.values()) else tuple(own)

    def parts(self, audit: FamilyAudit, told: Sequence[Finding]) -> Iterator[Finding]:
        """What is said of sets and of kube-ipvs0."""
        if not self.cluster.services:
            return
        if self.rules.sets is not None and any(is_set_of(name, self.family) for name in self.rules.sets.names()):
            yield from virtual_leftovers.set_entries(
                audit, told, whole=self.with_rules and self.sets_known and not self.ipvs.sets_cut
            )
        held = self.ipvs.dummy(self.family)
        if held is not None:
            where = self.ipvs.dummy_place()
            own = own_addresses(self.family, audit.node_object, self.inputs.given)
            yield from virtual_leftovers.dummy_addresses(
                audit, held, own, self.ipvs.elsewhere(self.family), where, told, whole=self.ipvs.dummy_whole
            )

    def told_of(self, audit: FamilyAudit, others: Iterable[Expectation], *, doubted: bool) -> list[Finding]:
        """What is said of the one service port that an audit judges, and of the node where that concerns it; causes before what follows.

        `others`: what the other releases ask for that may have programmed the node. `doubted`: the rules show other settings than were given.
        """
        virtual = audit.virtual
        judge = (
            VirtualServerJudge(audit, virtual, rules_known=self.with_rules and self.sets_known) if virtual is not None else None
        )
        findings = judge.run() if judge is not None else []
        empty = _nothing_programmed(audit, self.ipvs)
        if empty is not None:
            findings = [replace(one, cause=empty.fingerprint) if one.cause is None else one for one in findings]
        known = "minor" in self.settings.given
        if not known and any(one.code in _OF_SETS for one in (*findings, *self.parts(audit, findings))):
            audit, findings = self._by_all_releases(audit, findings, others)
        wide = [one for one in self.wide(audit, judge) if one.severity is Severity.ERROR] if self.with_rules else []
        taken = Apart(findings)
        if judge is not None and empty is None:
            taken = apart(judge, findings, wide, rules=not any(other_modes_rules(audit)) and not doubted)
        parts = leading_entries(audit, list(self.parts(audit, taken.own)), taken.of_entries)
        every = [*([] if empty is None else [empty]), *with_causes([*taken.own, *parts]), *taken.leaders, *taken.effects, *wide]
        written = effects_of_lost_rules(written_ipvs(audit, every, empty=virtual_leftovers.empty_sets(audit)), every)
        assert audit.only is not None
        name = audit.only.name
        every += [one for one in written if (one.service, one.port) == (f"{name.namespace}/{name.name}", name.port or None)]
        return sorted(every, key=lambda one: one.cause is not None)

    def _by_all_releases(
        self, audit: FamilyAudit, findings: list[Finding], others: Iterable[Expectation]
    ) -> tuple[FamilyAudit, list[Finding]]:
        """The audit and what it says where entries of sets and addresses are only missed when every possible release asks for them."""
        oldest = self._oldest_with_sets()
        likely = tuple(one for one in others if one is not audit.expectation and one.release.minor >= oldest)
        if not likely:
            return audit, findings
        assert audit.whole is not None
        assert audit.only is not None
        doubtful = replace(audit.whole, other_expectations=likely).of_one(audit.only)
        return doubtful, [one for one in findings if not _only_of_some(doubtful, one)]

    def _oldest_with_sets(self) -> int:
        """The oldest release (minor) that knows all sets that are there."""
        held = self.rules.sets.names() if self.rules.sets is not None else ()
        return max((kind.since for kind in SET_KINDS if set_name(kind.name, self.family) in held), default=OLDEST)


def _node_port_answers(expectation: Expectation, virtual: VirtualTable) -> tuple[set[tuple[int, str]], Counter[str]]:
    """The node ports that are asked for, and at each address how many virtual servers have the port and protocol of one."""
    ports = {
        (frontend.port, frontend.protocol)
        for expected in expectation.service_ports
        for frontend in expected.frontends
        if frontend.kind is FrontendKind.NODE_PORT
    }
    answers: Counter[str] = Counter()
    for server in virtual.servers():
        if server.address is not None and (server.port, server.protocol) in ports:
            answers[server.address] += 1
    return ports, answers


def _unlisted(rules: Ruleset) -> tuple[str, ...]:
    """The sets that kube-proxy's rules ask and whose entries were not given.

    The kernel takes no rule that asks a set which is not there, and keeps a set as long as a rule asks it (net/netfilter/xt_set.c): the listing
    is a part of one then (`ipset save NAME`), or one without entries (`ipset list -t`).
    """
    assert rules.sets is not None
    found: dict[str, None] = {}
    for table in rules.tables:
        for chain in rules.chains(table):
            for entry in rules.entries(table, chain):
                for match in entry.plan.shape.matches:
                    for option in match.options if match.module == "set" else ():
                        name = entry.values[option.slots[0]] if option.flag == "--match-set" and option.slots else ""
                        known = rules.sets.get(name)
                        if name.startswith("KUBE-") and (known is None or known.entries is None or not known.whole):
                            found[name] = None
    return tuple(found)


def _within(address: str, network: object) -> bool:
    assert isinstance(network, IPv4Network | IPv6Network)
    return ip_address(address) in network


def _nothing_programmed(audit: FamilyAudit, ipvs: IpvsNode) -> Finding | None:
    """RA005 for a table of virtual servers that holds none, where the objects ask for some."""
    if audit.virtual is None or not audit.virtual.listing.whole or not audit.expectation.service_ports:
        return None
    if any(True for _ in audit.virtual.servers()):
        return None
    assert ipvs.listing is not None
    count = len(audit.expectation.service_ports)
    return audit.finding(
        "RA005",
        f"IPVS has no virtual server of IPv{audit.family}, and {count} service ports need theirs",
        expected=f"virtual servers for {count} service ports",
        observed="none",
        places=[("ipvs", "", ipvs.listing.line)],
        subject=f"ipvs IPv{audit.family}",
    )


def _coverage(
    audit: FamilyAudit,
    ipvs: IpvsNode,
    judge: VirtualServerJudge | None,
    *,
    with_rules: bool,
    empty: bool,
    unlisted: Sequence[str],
    node: str | None,
) -> Iterator[Finding]:
    """RA004: what could not be checked without inputs that were not given. `empty`: tables are there, and no rules of kube-proxy in them."""
    family = audit.family
    tool = "iptables-save" if family == 4 else "ip6tables-save"
    lacking = []
    if not with_rules and not empty:
        lacking.append(tool)
    if audit.rules.sets is None:
        lacking.append("ipset save")
    if empty:
        yield note(
            f"no rules {family}",
            f"no rules of kube-proxy are in the tables of IPv{family}: masquerade, source ranges, drops and what other software does with its "
            "service traffic are not checked",
            "if kube-proxy is to serve this family, look at its log",
        )
    elif lacking:
        yield note(
            f"rules {family}",
            f"masquerade, source ranges, drops and what other software does with service traffic of IPv{family} are not checked: rules and "
            "sets decide them together, and both are needed",
            f"add the output of {' and of '.join(lacking)}",
        )
    if unlisted:
        yield note(
            f"part of the sets {family}",
            f"rules ask sets whose entries were not given ({listed(unlisted)}): masquerade, source ranges, drops and what other software does "
            f"with service traffic of IPv{family} are not checked",
            "give the whole output of `ipset save`",
        )
    if ipvs.dummy(family) is None:
        yield note(
            f"kube-ipvs0 {family}",
            f"which addresses of IPv{family} kube-ipvs0 holds is not known: they are taken to be there",
            "add the output of `ip addr show dev kube-ipvs0`",
        )
    if not ipvs.dummy_whole:
        yield note(
            "part of kube-ipvs0",
            "the listing of interfaces was cut: addresses that kube-ipvs0 lacks are not missed",
            "take it again: the whole output of `ip addr show dev kube-ipvs0`",
        )
    if ipvs.sets_cut:
        yield note(
            "cut sets",
            "the listing of sets was cut, or its last line has no end: sets that it lacks, and entries that its last set lacks, are not missed",
            "take it again: the whole output of `ipset save`",
        )
    listing = ipvs.listing
    if listing is not None:
        if listing.cut:
            yield note(
                "part of the virtual servers",
                "the listing of virtual servers was cut: virtual servers and real servers that it lacks are not missed",
                "take it again: the whole output of `ipvsadm -Sn`",
            )
        elif not listing.whole:
            yield note(
                "part of the virtual servers",
                "the listing of virtual servers is a part of one: what it lacks is not missed",
                "give the whole output of `ipvsadm -Sn`",
            )
        if not listing.has_weights or not listing.has_schedulers:
            what = [] if listing.has_weights else ["weights"]
            what += [] if listing.has_schedulers else ["schedulers and session affinity"]
            yield note(
                "columns of the virtual servers",
                f"the listing of virtual servers does not print {' and '.join(what)}: they are not checked",
                "give the output of `ipvsadm -Sn` or `ipvsadm -Ln`",
            )
    yield from unsettled(audit.expectation, 0 if judge is None else judge.passed_over, named=node is not None)

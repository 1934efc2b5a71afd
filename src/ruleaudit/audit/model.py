"""A node made ready: what was read, sorted and settled, before anything is judged. `check` judges it, `trace` and `show` ask it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ruleaudit.audit.coverage import is_cut, mode_of, node_name, serving
from ruleaudit.audit.families import is_to_serve
from ruleaudit.audit.inputs import FAMILIES, Progress, chosen_tables, note, partial_dumps, read_inputs
from ruleaudit.audit.iptables import open_family
from ruleaudit.audit.ipvs import IpvsCase, open_ipvs_family
from ruleaudit.audit.ipvs_node import ipvs_node
from ruleaudit.audit.opened import OpenNode
from ruleaudit.checks import leftovers, nodewide, virtual_leftovers
from ruleaudit.checks.other_node import other_node, traced, traces
from ruleaudit.checks.services import ServiceJudge
from ruleaudit.checks.virtual_servers import VirtualServerJudge
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.findings import Finding, Severity
from ruleaudit.kubeproxy.expect import expect
from ruleaudit.kubeproxy.release import ProxyMode
from ruleaudit.kubeproxy.settings import resolve
from ruleaudit.signs import read_ipvs_signs, read_signs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ruleaudit.audit.ipvs_node import IpvsNode
    from ruleaudit.audit.shared import Shared
    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.checks.observer import Observer
    from ruleaudit.dataplane.evaluator import Evaluator
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort
    from ruleaudit.kubeproxy.release import Release
    from ruleaudit.kubeproxy.settings import GivenSettings
    from ruleaudit.sources import Source

__all__ = ["FamilyModel", "NodeModel", "open_node"]


@dataclass
class FamilyModel:
    """One family of a node: its rules as they are, what the objects ask of it, and what it says of itself.

    `evaluator` answers for the rules as they are, `audit.evaluator` for those with node-wide faults put right. `releases`: those that may
    have written the rules, the one of `audit` first. `rules_known`: the rules that decide beside virtual servers were given. `case`: in IPVS
    mode, what was given beside rules. `doubted`: the rules show other settings than were given.
    """

    audit: FamilyAudit
    evaluator: Evaluator
    releases: tuple[Release, ...]
    faults: tuple[str, ...] = ()
    rules_known: bool = True
    case: IpvsCase | None = None
    doubted: bool = False
    _others: dict[int, Expectation] = field(default_factory=dict, repr=False)

    @property
    def ipvs(self) -> IpvsNode | None:
        """In IPVS mode: the node's virtual servers, sets and kube-ipvs0."""
        return None if self.case is None else self.case.ipvs

    def expectations(self) -> Iterator[Expectation]:
        """What the objects ask for, by each release that may have written the rules, the likeliest first."""
        first = self.audit.expectation
        yield first
        for release in self.releases:
            if release is first.release:
                continue
            known = self._others.get(id(release))
            if known is None:
                known = self._others[id(release)] = expect(
                    self.audit.cluster,
                    node=first.node,
                    family=first.family,
                    settings=first.settings,
                    release=release,
                    mode=first.mode,
                )
            yield known

    @cached_property
    def observer(self) -> Observer:
        """What asks the rules about every frontend; here for what a healthy node may do (`accepted`)."""
        return self._judge(self.audit).observer

    def _judge(self, audit: FamilyAudit) -> ServiceJudge:
        if audit.virtual is None:
            return ServiceJudge(audit)
        return VirtualServerJudge(audit, audit.virtual, rules_known=self.rules_known)

    def stale_at(self, lines: Collection[tuple[str, int]]) -> list[Finding]:
        """What `check` says of frontends that no Service has, of which one of these lines (file, number) is a proof."""
        audit = self.audit
        if not audit.cluster.services:
            return []
        found = (
            leftovers.stale_frontends(audit, self._judge(audit))
            if audit.virtual is None
            else virtual_leftovers.stale_servers(audit, audit.virtual, audit.settings.ipvs_exclude_cidrs)
        )
        return [one for one in found if any((each.file, each.line) in lines for each in one.locations)]

    @cached_property
    def of_other_node(self) -> Finding | None:
        """RA007: the rules are another node's. Asks every service port that depends on the node: worth it only where something is wrong."""
        audit = self.audit
        if self.ipvs is not None:
            possible = list(traces(audit, self.ipvs.elsewhere(audit.family)))
            if possible:
                alike = all(one.node == possible[0].node for one in possible)
                return traced(audit, possible[0], 0) if alike else None
        judge = self._judge(audit)
        judge.run()
        found = other_node(audit, judge, None) if judge.judged else None
        return None if found is None else found.finding

    def findings_of(self, expected: ExpectedServicePort) -> list[Finding]:
        """What `check` says of one service port, and of the node where that concerns it: lost hooks with their effect on it alone.

        Causes come before what follows from them. What is only information is left out, but for what other software's rules do.
        """
        one = self.audit.of_one(expected)
        found = self._told_of(one) if self.case is None else self.case.told_of(one, self.expectations(), doubted=self.doubted)
        return [each for each in found if each.severity is not Severity.INFO or each.code.startswith("RA6")]

    def _told_of(self, one: FamilyAudit) -> list[Finding]:
        """In iptables mode."""
        judge = self._judge(one)
        found = judge.run()
        leader = nodewide.empty_dispatch(one)
        if leader is not None:  # see audit_family
            found = [leader, *(each for each in found if each.code.startswith("RA6"))]
        found += [each for each in nodewide.hooks(one) if each.severity is Severity.ERROR]
        found += nodewide.masquerade(one, judge, self.faults)
        found += nodewide.dispatching(one)
        return sorted(found, key=lambda each: each.cause is not None)


@dataclass
class NodeModel(OpenNode):
    """An open node whose families are made ready when they are asked for."""

    _families: dict[int, FamilyModel] = field(default_factory=dict, repr=False)

    @property
    def families(self) -> tuple[int, ...]:
        """The families that kube-proxy serves here, as far as the inputs show it."""
        if self.mode is ProxyMode.IPVS:
            return tuple(one for one in FAMILIES if self.ipvs.serves(one, served=self.signs[one].served))
        return tuple(one for one in FAMILIES if self.signs[one].served)

    def family(self, family: int) -> FamilyModel | None:
        """One of `families`, made ready; None for another."""
        if family not in self.families:
            return None
        known = self._families.get(family)
        if known is None:
            known = self._families[family] = self._opened(family)
        return known

    def _opened(self, family: int) -> FamilyModel:
        if self.mode is ProxyMode.IPVS:
            case, releases, _ = open_ipvs_family(family, self)
            audit = case.audit_under(releases[0])
            known = case.with_rules and case.sets_known
            rules = case.rules if known else Ruleset(family, ())
            return FamilyModel(
                audit,
                replace(audit, host=case.real_host(audit)).evaluator_of(rules),
                tuple(releases),
                tuple(case.faults),
                known,
                case,
                self.contradicted(family) is not None,
            )
        opened = open_family(family, self)
        audit = opened.audit
        return FamilyModel(audit, audit.evaluator_of(audit.rules), tuple(opened.releases), tuple(opened.faults))


def open_node(
    sources: Sequence[Source],
    *,
    node: str | None = None,
    settings: GivenSettings | None = None,
    progress: Progress | None = None,
    limit_factor: int = 1,
    shared: Shared | None = None,
    place: str | None = None,
) -> NodeModel:
    """Read what `sources` hold of one node, choose what counts, and find out how kube-proxy runs there. Arguments and exceptions are those
    of `audit_inputs`.
    """
    inputs = read_inputs(sources, settings, progress or (lambda _step, _part: None), limit_factor, shared)
    cluster = inputs.cluster
    proxy = resolve(inputs.given)
    name = node_name(cluster, node, inputs.given, inputs.interfaces)
    if name is None and place in cluster.nodes:
        name = place
    findings = list(inputs.findings)
    tables, table_findings = chosen_tables(inputs.dumps)
    findings.extend(table_findings)
    findings.extend(partial_dumps(inputs.gaps, tables))
    if not inputs.has_objects:
        findings.append(
            note(
                "objects",
                "no objects were given: rules are only checked against themselves",
                "give Services, EndpointSlices, Nodes and Pods with --objects (kubectl get services,endpointslices,endpoints,nodes,pods -A -o json),"
                " or --cluster",
            )
        )
    elif not cluster.services:
        findings.append(
            note(
                "services",
                "the objects hold no Service, so nothing is expected of the rules",
                "add Services to the objects (kubectl get services -A -o json)",
            )
        )
    if name is None and inputs.has_objects:
        findings.append(
            note(
                "node",
                "the node's name is not known: local endpoints, node ports and hints are not checked for it",
                "name it with --node",
            )
        )
    rulesets = {family: Ruleset(family, tables) for family in FAMILIES}
    left_out = [one for one in tables if is_cut(one) and one.name != "nat"]
    for table in left_out:
        tables.remove(table)
        rulesets[table.family] = Ruleset(table.family, tables)
        findings.append(
            note(
                f"cut {table.name} {table.family}",
                f"table {table.name} of IPv{table.family} is not there as a whole and therefore left out",
                "take the dump again",
            )
        )
    ipvs = ipvs_node(inputs)
    mode = mode_of(inputs, rulesets, ipvs_in_use=ipvs.in_use, ipvs_given=ipvs.given)
    read = read_ipvs_signs if mode is ProxyMode.IPVS else read_signs
    signs = {family: read(rulesets[family]) for family in FAMILIES}
    if not inputs.dumps and not any(one.kind in ("ipvsadm", "ipset", "nft") for one in inputs.summaries):
        findings.append(
            note("dump", "no dump of the node's rules was given", "add the output of iptables-save and ip6tables-save")
        )
    shown = [one for one in FAMILIES if mode is ProxyMode.IPVS and ipvs.shows(one)]
    to_serve = {one: is_to_serve(one, cluster, cluster.nodes.get(name or ""), inputs.given, proxy) for one in FAMILIES}
    findings.extend(serving(inputs, tables, left_out, rulesets, signs, cluster, shown, to_serve, mode))
    return NodeModel(name, inputs, proxy, tables, rulesets, signs, mode, ipvs, findings)

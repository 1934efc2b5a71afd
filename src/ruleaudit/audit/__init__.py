"""One audit from inputs to report: the only place where reading, expecting, observing, comparing and checking meet."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

from ruleaudit.audit.coverage import (
    UnknownNodeError,
    follow_settings,
    is_cut,
    mode_of,
    node_name,
    objects_alone,
    serving,
    settings_differ,
    time_skew,
)
from ruleaudit.audit.inputs import FAMILIES, Progress, chosen_tables, note, partial_dumps, read_inputs
from ruleaudit.audit.iptables import Summary, audit_family
from ruleaudit.audit.ipvs import audit_ipvs_family, ipvs_node
from ruleaudit.checks import stopped, takeover, virtual_leftovers, written, written_ipvs
from ruleaudit.checks.mixed_modes import other_modes_rules, other_modes_virtual_servers
from ruleaudit.checks.virtual_causes import effects_of_lost_rules
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.findings import Finding, Report
from ruleaudit.kubeproxy import read_ipvs_signs, read_signs
from ruleaudit.release import ProxyMode
from ruleaudit.settings import GivenSettings, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.audit.shared import Shared
    from ruleaudit.sources import Source

__all__ = ["UnknownNodeError", "audit_inputs"]


def audit_inputs(
    sources: Sequence[Source],
    *,
    node: str | None = None,
    settings: GivenSettings | None = None,
    progress: Progress | None = None,
    limit_factor: int = 1,
    shared: Shared | None = None,
    place: str | None = None,
) -> Report:
    """Audit one node.

    `sources` are its dumps, the cluster's objects and what is known of kube-proxy, as `sources.read` gives them; `node` is the node's
    name (None: taken from the objects or the capture's description); `settings` wins over what the sources say; `progress` is called
    with a step's name and the part done (0 to 1); `limit_factor` times as large inputs are read;
    `shared` keeps what the audits of several nodes have in common; `place` is the name of the folder that a capture lies in, which is
    the node's where nothing else names it and a Node is called so.
    Raises InputError when an input is unusable, UnknownNodeError for a node that is not
    among the objects.
    """
    enabled = gc.isenabled()
    gc.disable()  # hundreds of thousands of values that all live to the end: collecting them again and again doubles the time
    try:
        return _audit(sources, node, settings, progress or (lambda _step, _part: None), limit_factor, shared, place)
    finally:
        if enabled:
            gc.enable()


def _audit(
    sources: Sequence[Source],
    node: str | None,
    settings: GivenSettings | None,
    progress: Progress,
    limit_factor: int,
    shared: Shared | None,
    place: str | None,
) -> Report:
    inputs = read_inputs(sources, settings, progress, limit_factor, shared)
    cluster = inputs.cluster
    proxy = resolve(inputs.given)
    name = node_name(cluster, node, inputs.given, inputs.interfaces)
    if name is None and place in cluster.nodes:
        name = place
    findings = list(inputs.findings)
    tables, table_findings = chosen_tables(inputs.dumps)
    findings.extend(table_findings)
    findings.extend(partial_dumps(inputs.gaps, tables))
    summary = Summary()
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
    findings.extend(serving(inputs, tables, left_out, rulesets, signs, cluster, mode))
    shares = 0.0
    for family in FAMILIES if mode is ProxyMode.IPTABLES else ():
        if not signs[family].served:
            continue
        progress(f"IPv{family}", 0.4 + shares)
        shares += 0.3
        findings.extend(audit_family(family, cluster, inputs, tables, rulesets[family], signs, proxy, name, summary))
    if mode is ProxyMode.IPVS:
        findings.extend(ipvs.findings)
        for family in FAMILIES:
            if ipvs.serves(family, served=signs[family].served):
                progress(f"IPv{family}", 0.4 + shares)
                shares += 0.3
                findings.extend(audit_ipvs_family(family, cluster, inputs, ipvs, tables, signs, proxy, name, summary))
    for one in summary.audits:
        findings.extend(other_modes_rules(one))
        if mode is ProxyMode.IPTABLES:
            one.listings = ipvs.dumps
            findings.extend(other_modes_virtual_servers(one, ipvs.listing, ipvs.dummy(one.family)))
    for one in summary.audits:  # what other findings show already is known by now
        if mode is ProxyMode.IPVS:
            said = written_ipvs.written_ipvs(one, findings, empty=virtual_leftovers.empty_sets(one))
            findings.extend(effects_of_lost_rules(said, findings))
        else:
            findings.extend(list(written.written_rules(one, findings)))
    for family in FAMILIES:
        differs = settings_differ(family, proxy, signs[family], mode) if signs[family].served else None
        if differs is not None:
            findings = [differs, *follow_settings(findings, differs)]
    findings.extend(objects_alone(cluster) if shared is None else shared.alone(cluster))
    if not summary.releases or any(release.external_ips for release in summary.releases):
        findings.extend(list(takeover.takeovers(cluster, findings)))
    findings.extend(time_skew(inputs, cluster, tables))
    leader, findings = stopped.stopped(findings, cluster)
    if leader is not None:
        findings.insert(0, leader)
    named = [replace(one, node=name) if one.node is None else one for one in findings]
    progress("done", 1.0)
    return Report(
        node=name,
        inputs=tuple(inputs.summaries),
        proxy=summary.proxy(proxy),
        services=len(summary.services) if summary.services else len(cluster.services),
        frontends=summary.frontends,
        endpoints=summary.endpoints,
        findings=tuple(sorted(_once(named), key=_order)),
        service_names=tuple(sorted("/".join(key) for key in cluster.services)),
    )


def _order(one: Finding) -> tuple[object, ...]:
    return (
        one.code != "RA505",
        one.severity.rank,
        one.cause is not None,
        one.service is not None,
        one.code,
        one.service or "",
        one.port or "",
        one.endpoint or "",
        one.message,
    )


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once: both families may show the same fault of one service port."""
    kept: dict[tuple[str, str], Finding] = {}
    for one in findings:
        kept.setdefault((one.fingerprint, one.message), one)
    return list(kept.values())

"""One audit from inputs to report: the only place where reading, expecting, observing, comparing and checking meet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ruleaudit.audit.coverage import UnknownNodeError, follow_settings, time_skew
from ruleaudit.audit.inputs import FAMILIES, require_usable_dumps
from ruleaudit.audit.iptables import Summary, audit_family
from ruleaudit.audit.ipvs import audit_ipvs_family
from ruleaudit.audit.model import FamilyModel, NodeModel, open_node
from ruleaudit.audit.traits import traits_of
from ruleaudit.checks import stopped, takeover, virtual_leftovers, written, written_ipvs
from ruleaudit.checks.mixed_modes import other_modes_chains, other_modes_rules, other_modes_virtual_servers
from ruleaudit.checks.objects_alone import objects_alone
from ruleaudit.checks.virtual_causes import effects_of_lost_rules
from ruleaudit.collector import without_collection
from ruleaudit.findings import Finding, Report
from ruleaudit.kubeproxy.release import ProxyMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.audit.inputs import Progress
    from ruleaudit.audit.shared import Shared
    from ruleaudit.kubeproxy.settings import GivenSettings
    from ruleaudit.sources import Source

__all__ = ["FamilyModel", "NodeModel", "UnknownNodeError", "audit_inputs", "open_node"]


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
    if shared is None:  # else some of `sources` are no part of this node's capture
        require_usable_dumps(sources)
    with without_collection():
        return _audit(sources, node, settings, progress or (lambda _step, _part: None), limit_factor, shared, place)


def _audit(
    sources: Sequence[Source],
    node: str | None,
    settings: GivenSettings | None,
    progress: Progress,
    limit_factor: int,
    shared: Shared | None,
    place: str | None,
) -> Report:
    model = open_node(
        sources, node=node, settings=settings, progress=progress, limit_factor=limit_factor, shared=shared, place=place
    )
    inputs, cluster, name, mode = model.inputs, model.cluster, model.name, model.mode
    findings = list(model.findings)
    summary = Summary()
    families = model.families
    shares = 0.0
    if mode is ProxyMode.IPVS:
        findings.extend(model.ipvs.findings)
    for family in families:
        progress(f"IPv{family}", 0.4 + shares)
        shares += 0.3
        judged = audit_ipvs_family if mode is ProxyMode.IPVS else audit_family
        findings.extend(judged(family, model, summary))
    for one in summary.audits:
        findings.extend(other_modes_rules(one))
        if mode is ProxyMode.IPVS:
            findings.extend(other_modes_chains(one))
        if mode is ProxyMode.IPTABLES:
            one.listings = model.ipvs.dumps
            findings.extend(other_modes_virtual_servers(one, model.ipvs.listing, model.ipvs.dummy(one.family)))
    for one in summary.audits:  # what other findings show already is known by now
        if mode is ProxyMode.IPVS:
            said = written_ipvs.written_ipvs(one, findings, empty=virtual_leftovers.empty_sets(one))
            findings.extend(effects_of_lost_rules(said, findings))
        else:
            findings.extend(list(written.written_rules(one, findings)))
    for family in FAMILIES:
        differs = model.contradicted(family)
        if differs is not None:
            findings = [differs, *follow_settings(findings, differs, family)]
    findings.extend(objects_alone(cluster) if shared is None else shared.alone(cluster))
    if not summary.releases or any(release.external_ips for release in summary.releases):
        findings.extend(list(takeover.takeovers(cluster, findings)))
    findings.extend(time_skew(inputs, cluster, model.tables))
    leader, findings = stopped.stopped(findings, cluster)
    if leader is not None:
        findings.insert(0, leader)
    named = [replace(one, node=name) if one.node is None else one for one in findings]
    progress("done", 1.0)
    return Report(
        node=name,
        inputs=tuple(inputs.summaries),
        proxy=summary.proxy(model.proxy),
        services=len(summary.services) if summary.services else len(cluster.services),
        frontends=summary.frontends,
        endpoints=summary.endpoints,
        findings=tuple(sorted(_once(named), key=_order)),
        service_names=tuple(sorted("/".join(key) for key in cluster.services)),
        traits=None if shared is None else traits_of(model),
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

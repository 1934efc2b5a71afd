"""A dump without objects, checked for what it says by itself (KPR 17.1): RA206, RA208, RA303, RA309.

With objects the same faults are found by their effect on a service; without them the rules can still contradict themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.compare import SHARE_TOLERANCE
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP
from ruleaudit.findings import Finding, Severity
from ruleaudit.kubeproxy.chains import endpoint_chain_hash
from ruleaudit.signs import SERVICE_CHAIN, Dispatch, dispatches, entry_comment, entry_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.checks.services import ServiceJudge

__all__ = ["self_contradictions"]


def self_contradictions(audit: FamilyAudit, judge: ServiceJudge) -> Iterator[Finding]:
    """Everything in which the rules of one family contradict themselves."""
    yield from _chains(audit, judge)
    yield from _refused_and_served(audit)


def _chains(audit: FamilyAudit, judge: ServiceJudge) -> Iterator[Finding]:
    rules = audit.rules
    nat = rules.chains("nat")
    for name in nat:
        if not SERVICE_CHAIN.match(name):
            continue
        entries = rules.entries("nat", name)
        label = judge.chains.comment_name(name)
        for entry in entries:
            if entry.action in (A_JUMP, A_GOTO) and SERVICE_CHAIN.match(entry.target) and not rules.entries("nat", entry.target):
                yield audit.finding(
                    "RA309",
                    f"{name}{_named(label)} leads to {entry.target}, which is {'empty' if entry.target in nat else 'not declared'}",
                    places=[("nat", name, entry.line), ("nat", entry.target, 0)],
                    subject=f"{name} {entry.target} IPv{audit.family}",
                )
        ready = rules.prepared("nat", name)
        balance = ready.balance if ready is not None and name.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-")) else None
        if balance is not None:
            even = 1 / len({leaf.endpoint for leaf in balance.leaves})
            if balance.rest > SHARE_TOLERANCE or any(
                abs(balance.backends.get(leaf.endpoint, 0.0) - even) > SHARE_TOLERANCE for leaf in balance.leaves
            ):
                shares = ", ".join(f"{endpoint} {share:.1%}" for endpoint, share in list(balance.backends.items())[:6])
                yield audit.finding(
                    "RA303",
                    f"{name}{_named(label)} does not share connections evenly: {shares}"
                    + (f", {balance.rest:.1%} to nobody" if balance.rest > SHARE_TOLERANCE else ""),
                    expected=f"{even:.1%} for each of {len(balance.leaves)} endpoints",
                    observed=shares,
                    places=[("nat", name, entry.line) for entry in entries],
                    subject=f"{name} IPv{audit.family}",
                )
        if name.startswith("KUBE-SEP-") and entries:
            yield from _hash(audit, judge, name, label)


def _hash(audit: FamilyAudit, judge: ServiceJudge, name: str, label: str | None) -> Iterator[Finding]:
    """I-S8: an endpoint chain's name is a hash of the endpoint it leads to."""
    endpoint = judge.chains.destination(name)
    last = audit.rules.entries("nat", name)[-1]
    protocol = entry_value(last, "-p")
    comment = entry_comment(last)
    if endpoint is None or protocol is None or not comment or "/" not in comment:
        return
    if any("KUBE-SEP-" + endpoint_chain_hash(text, protocol, endpoint) == name for text in (comment, comment + ":")):
        return
    yield audit.finding(
        "RA206",
        f"{name} of {comment} leads to {endpoint}, for which its name is not the hash: it was changed, or is not kube-proxy's",
        severity=Severity.WARNING,
        endpoint=endpoint,
        observed=endpoint,
        expected=f"the endpoint whose hash is {name[9:]}",
        places=[("nat", name, entry.line) for entry in audit.rules.entries("nat", name)],
        subject=f"{name} IPv{audit.family}",
    )
    del label


def _refused_and_served(audit: FamilyAudit) -> Iterator[Finding]:
    """I-S15: an address is dispatched in nat and refused as having no endpoints in filter."""
    served: dict[tuple[str | None, int, str], Dispatch] = {}
    refused: list[Dispatch] = []
    for one in dispatches(audit.rules):
        if one.table == "nat":
            served.setdefault((one.address, one.port, one.protocol), one)
        elif one.target == "REJECT":
            refused.append(one)
    for one in refused:
        other = served.get((one.address, one.port, one.protocol))
        if other is not None:
            where = one.address or "node port"
            yield audit.finding(
                "RA208",
                f"{where} {one.port}/{one.protocol} ({one.name}) is refused as having no endpoints and yet sent to {other.target}",
                severity=Severity.WARNING,
                places=[(one.table, one.chain, one.line), (other.table, other.chain, other.line)],
                subject=f"{where} {one.port} {one.protocol} IPv{audit.family}",
            )


def _named(label: str | None) -> str:
    return f" ({label})" if label else ""

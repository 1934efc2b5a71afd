"""A trace as JSON, schema ruleaudit/trace/v1. Fields are added, never renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ruleaudit.forwarding import endpoint_text
from ruleaudit.reports.structured import dumps, finding_fields

if TYPE_CHECKING:
    from ruleaudit.trace.values import Connection, Endpoint, Expected, Outcome, Party, Remark, RuleUse, Step, Trace

__all__ = ["SCHEMA", "json_trace"]

SCHEMA: Final = "ruleaudit/trace/v1"


def json_trace(trace: Trace) -> str:
    """The trace as one object, ended by a line feed."""
    fields = {
        "schema": SCHEMA,
        "node": trace.node,
        "from": _party(trace.client),
        "to": _party(trace.target),
        "answer": trace.answer,
        "reached": trace.reached,
        "outcomes": [_outcome(one) for one in trace.outcomes],
        "expected": [_expected(one) for one in trace.expected],
        "steps": [_step(one) for one in trace.steps],
        "findings": [finding_fields(one) for one in trace.findings],
        "notes": list(trace.notes),
        "nodes_not_given": list(trace.not_given),
        "conditions": list(trace.conditions),
    }
    return dumps(fields, indent=2) + "\n"


def _name(key: tuple[str, str] | None) -> str | None:
    return None if key is None else "/".join(key)


def _party(one: Party) -> dict[str, object]:
    return {
        "text": one.text,
        "kind": one.kind,
        "addresses": list(one.addresses),
        "pod": _name(one.pod),
        "node": one.node,
        "service": _name(one.service),
        "port": one.port,
        "protocol": one.protocol,
    }


def _rule(one: RuleUse) -> dict[str, object]:
    return {
        "file": one.file,
        "line": one.line,
        "table": one.table,
        "chain": one.chain,
        "text": one.text,
        "foreign": one.foreign,
        "policy": one.policy,
    }


def _endpoint(one: Endpoint | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "address": one.address,
        "port": one.port,
        "pod": _name(one.pod),
        "node": one.node,
        "ready": one.ready,
        "terminating": one.terminating,
        "local": one.local,
    }


def _destination(one: tuple[str, int, str] | None) -> dict[str, object] | None:
    return None if one is None else {"address": one[0], "port": one[1], "protocol": one[2]}


def _outcome(one: Outcome) -> dict[str, object]:
    return {
        "verdict": one.verdict.value if one.verdict is not None else None,
        "ending": one.ending or None,
        "destination": _destination(one.destination),
        "endpoint": _endpoint(one.endpoint),
        "share": round(one.share, 9),
        "masquerade": one.masquerade,
        "certainty": one.certainty.value,
        "reached": one.reached,
        "node": one.node,
        "way": [each.label for each in one.way],
        "rules": [_rule(each) for each in one.rules],
    }


def _expected(one: Expected) -> dict[str, object]:
    forwarding = one.forwarding
    frontend = one.frontend
    return {
        "node": one.node,
        "vantage": one.vantage.value,
        "service": one.service,
        "port": one.port,
        "frontend": {
            "kind": frontend.kind.value,
            "address": frontend.address,
            "port": frontend.port,
            "protocol": frontend.protocol,
            "family": frontend.family,
        },
        "verdict": None if forwarding is None else forwarding.verdict.value,
        "endpoints": None
        if forwarding is None
        else [{"endpoint": name, "share": round(share, 9)} for name, share in sorted(forwarding.backends.items())],
        "masquerade": None if forwarding is None else forwarding.masquerade,
        "affinity": None if forwarding is None else forwarding.affinity,
        "same": one.same,
    }


def _connection(one: Connection | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "source": one.source,
        "source_text": one.source_text or None,
        "destination": endpoint_text(one.destination, one.port),
        "protocol": one.protocol,
    }


def _remark(one: Remark) -> dict[str, object]:
    places = [{"file": each.file, "line": each.line, "text": each.text} for each in one.places]
    return {"code": one.code, "text": one.text, "locations": places}


def _step(one: Step) -> dict[str, object]:
    return {
        "kind": one.kind.value,
        "text": one.text,
        "node": one.node,
        "share": round(one.share, 9),
        "certainty": one.certainty.value,
        "before": _connection(one.before),
        "after": _connection(one.after),
        "endpoint": _endpoint(one.endpoint),
        "reached": one.reached,
        "rules": [_rule(each) for each in one.rules],
        "notes": list(one.notes),
        "remarks": [_remark(each) for each in one.remarks],
        "steps": [_step(each) for each in one.steps],
    }

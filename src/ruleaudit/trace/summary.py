"""The answer in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.checks.judgement import percent
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.trace.values import Outcome, Trace

__all__ = ["answer_of"]

_MANY = 3


def answer_of(trace: Trace) -> str:
    """What becomes of the connection."""
    groups: dict[str, list[Outcome]] = {}
    for one in trace.outcomes:
        groups.setdefault(_kind(one), []).append(one)
    unsure = any(one.certainty is Certainty.POSSIBLE for one in trace.outcomes)
    parts = []
    for kind, members in groups.items():
        share = sum(one.share for one in members)
        text = kind.replace("*", _ends(members)) if "*" in kind else kind
        parts.append(text if len(groups) == 1 or unsure else f"{percent(share)} {text}")
    codes = list(dict.fromkeys(one.code for one in trace.findings))
    told = (
        f"; the objects ask for something else ({', '.join(codes)})"
        if codes and _differs(trace)
        else f" ({', '.join(codes)})"
        if codes
        else ""
    )
    if not codes and _differs(trace):
        told = "; the objects ask for something else"
    lead = (
        "reached"
        if trace.reached
        else "may be reached"
        if unsure and any(one.reached for one in trace.outcomes)
        else "not reached"
    )
    if lead == "not reached" and any(one.reached for one in trace.outcomes):
        lead = "partly reached"
    if lead == "not reached" and unsure:
        lead = "not known to be reached"
    return f"{lead}: {', '.join(parts)}{told}"


def _differs(trace: Trace) -> bool:
    return any(one.same is False for one in trace.expected)


def _kind(one: Outcome) -> str:
    if one.verdict is Verdict.DROP:
        return "dropped"
    if one.verdict is Verdict.REJECT:
        return "rejected"
    if one.endpoint is None:
        return "delivered to the node itself" if one.verdict is Verdict.LOCAL else "routed on, untranslated"
    if one.reached:
        return "to *"
    if one.endpoint.ready is None:
        return "to *, of which nothing says that it is ready"
    if one.endpoint.terminating:
        return "to *, terminating"
    return "to *, not ready" if one.endpoint.ready is False else "to *, in vain"


def _ends(members: Sequence[Outcome]) -> str:
    ends = list(
        dict.fromkeys(
            f"pod {'/'.join(one.endpoint.pod)}"
            if one.endpoint.pod is not None
            else endpoint_text(one.endpoint.address, one.endpoint.port)
            for one in members
            if one.endpoint is not None
        )
    )
    if len(ends) <= _MANY:
        return " and ".join(ends) if len(ends) < 3 else f"{', '.join(ends[:-1])} and {ends[-1]}"
    return f"{len(ends)} endpoints ({ends[0]}, ...)"

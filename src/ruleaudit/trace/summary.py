"""The answer in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ruleaudit.checks.judgement import percent
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.trace.values import Outcome, Trace

__all__ = ["answer_of"]

_MANY: Final = 3


def answer_of(trace: Trace) -> str:
    """What becomes of the connection."""
    unsure = any(one.certainty is Certainty.POSSIBLE for one in trace.outcomes)
    told = {way: _told(outcomes, unsure=unsure) for way, outcomes in _ways(trace.outcomes).items()}
    alike = len(set(told.values())) == 1
    text = "; ".join(one if alike else f"{_WAYS[way]} {one}" for way, one in list(told.items())[: 1 if alike else None])
    return f"{_lead(trace, unsure=unsure)}: {text}{_parting(trace)}{_unknown(trace.not_given)}"


_WAYS: Final = {"service": "by the Service", "endpoints": "straight to its endpoints"}


def _ways(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes by way: what ends before the ways part belongs to each. Of the whole connection each way has its part of the share."""
    names = list(dict.fromkeys(one.way for one in outcomes if one.way)) or [""]
    return {
        way: [replace(one, share=one.share * (len(names) if one.way else 1)) for one in outcomes if one.way in ("", way)]
        for way in names
    }


def _told(outcomes: Sequence[Outcome], *, unsure: bool) -> str:
    """How a connection ends, with shares where it can end in several ways and they are known."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(_kind(one), []).append(one)
    parts = []
    for kind, members in groups.items():
        text = kind.replace("*", _ends(members)) if "*" in kind else kind
        parts.append(text if len(groups) == 1 or unsure else f"{percent(sum(one.share for one in members))} {text}")
    return ", ".join(parts)


def _lead(trace: Trace, *, unsure: bool) -> str:
    if trace.reached:
        return "reached"
    if any(one.reached for one in trace.outcomes):
        return "may be reached" if unsure else "partly reached"
    return "not known to be reached" if unsure else "not reached"


def _parting(trace: Trace) -> str:
    """Where rules and objects part, and the findings that say so."""
    codes = ", ".join(dict.fromkeys(one.code for one in trace.findings))
    if _differs(trace):
        return f"; the objects ask for something else{f' ({codes})' if codes else ''}"
    return f" ({codes})" if codes else ""


def _unknown(names: Sequence[str]) -> str:
    """The nodes of which the answer knows nothing."""
    if not names:
        return ""
    shown = [*names[:_MANY], *([f"{len(names) - _MANY} more"] if len(names) > _MANY else [])]
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    return f"; nothing is known of {listed}, whose dump{'s were' if len(names) > 1 else ' was'} not given"


def _differs(trace: Trace) -> bool:
    return any(one.same is False for one in trace.expected)


def _kind(one: Outcome) -> str:
    if one.ending:
        return one.ending
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

"""The answer in one line."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ruleaudit.checks.judgement import percent
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.trace.values import Outcome, Trace

__all__ = ["answer_of"]

_MANY: Final = 3


def answer_of(trace: Trace) -> str:
    """What becomes of the connection."""
    unsure = any(one.certainty is Certainty.POSSIBLE for one in trace.outcomes)
    told: dict[str, list[str]] = {}
    for way, outcomes in _ways(trace.outcomes):
        told.setdefault(_told(outcomes, unsure=unsure), []).append(way)
    text = "; ".join(one if len(told) == 1 else f"{_several(ways)}: {one}" for one, ways in told.items())
    provided = f", provided that {' and '.join(trace.conditions)}" if trace.conditions else ""
    return f"{_lead(trace, unsure=unsure)}: {text}{provided}{_parting(trace)}{_unknown(trace.not_given)}"


def _ways(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    """Each way that somebody may choose, in words, and its outcomes with their shares of it: what ends before a choice belongs to all."""
    paths = dict.fromkeys(one.way for one in outcomes)
    for path in paths:
        if any(other[: len(path)] == path and other != path for other in paths):
            continue
        yield (
            ", ".join(one.label for one in path),
            [
                replace(one, share=one.share * prod(each.of for each in one.way))
                for one in outcomes
                if path[: len(one.way)] == one.way
            ],
        )


def _several(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown = [*names[:_MANY], *([f"{len(names) - _MANY} more"] if len(names) > _MANY else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


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
    whose = "whose dumps were not given" if len(names) > 1 else "whose dump was not given"
    return f"; nothing is known of {_several(names)}, {whose}" if names else ""


def _differs(trace: Trace) -> bool:
    return any(one.same is False for one in trace.expected)


def _kind(one: Outcome) -> str:
    if one.ending:
        return one.ending
    if one.verdict is Verdict.DROP:
        return f"dropped{_by(one)}"
    if one.verdict is Verdict.REJECT:
        return f"rejected{_by(one)}"
    if one.endpoint is None:
        return "delivered to the node itself" if one.verdict is Verdict.LOCAL else "routed on, untranslated"
    if one.reached:
        return "to *"
    if one.endpoint.ready is None:
        return "to *, of which nothing says that it is ready"
    if one.endpoint.terminating:
        return "to *, terminating"
    return "to *, not ready" if one.endpoint.ready is False else "to *, in vain"


def _by(one: Outcome) -> str:
    """The rule that ended it, and the node."""
    if not one.rules:
        return ""
    rule = one.rules[-1]
    whose = " of other software" if rule.foreign else " (policy)" if rule.policy else ""
    return f" by {PurePath(rule.file).name}:{rule.line}{whose}{f' on {one.node}' if one.node else ''}"


def _ends(members: Sequence[Outcome]) -> str:
    ends = sorted(
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

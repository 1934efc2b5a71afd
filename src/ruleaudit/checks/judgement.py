"""Judgements, and the words in which findings tell them: one place, so that every finding says the same thing the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruleaudit.checks.context import RulePlace, trail_places
from ruleaudit.compare import Difference, DifferenceKind
from ruleaudit.findings import ObjectReference
from ruleaudit.forwarding import Forwarding, Frontend, Vantage, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.dataplane.observe import Observation
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.kubeproxy.endpoints import Endpoint
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["WHENCE", "Judgement"]

WHENCE = {Vantage.POD: "pods", Vantage.NODE: "the node itself", Vantage.OUTSIDE: "outside clients"}


@dataclass(slots=True)
class Judgement:
    """One frontend seen from one vantage point where rules and objects part."""

    frontend: Frontend
    vantage: Vantage
    destination: str
    expected: Forwarding
    observed: Observation
    differences: list[Difference]
    outcomes: Sequence[Outcome] = ()

    def has(self, *kinds: DifferenceKind) -> bool:
        """Whether a difference of one of these kinds is among them."""
        return any(one.kind in kinds for one in self.differences)

    @property
    def untranslated_share(self) -> float:
        """How much passes untranslated."""
        return sum(one.share for one in self.differences if one.kind is DifferenceKind.UNTRANSLATED)


def endpoint_objects(expected: ExpectedServicePort, endpoint: str | None) -> list[ObjectReference]:
    """The EndpointSlices' pods behind an endpoint."""
    if endpoint is None:
        return []
    for one in (*expected.candidates.endpoints, *expected.candidates.unready):
        if one.text == endpoint and one.target is not None:
            return [ObjectReference("Pod", one.target[0] or expected.name.namespace, one.target[1])]
    return []


def falls_through(judgements: Iterable[Judgement]) -> str:
    share = max((one.untranslated_share for one in judgements), default=0.0)
    return f"; {percent(share)} of new connections pass untranslated" if share > 0 else ""


def condition(endpoint: Endpoint) -> str:
    if endpoint.ready:
        return "ready" + (" and terminating" if endpoint.terminating else "")
    if endpoint.terminating:
        return "terminating" + ("" if endpoint.serving else " and not serving")
    return "not ready"


def frontends_of(judgements: Iterable[Judgement]) -> list[Frontend]:
    return list(dict.fromkeys(one.frontend for one in judgements))


def places_of(judgements: Iterable[Judgement]) -> list[RulePlace]:
    return list(dict.fromkeys(place for one in judgements for place in trail_places(one.outcomes)))


def listed(texts: Iterable[str], most: int = 5) -> str:
    every = list(texts)
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def bare(frontend: Frontend) -> str:
    return str(frontend).removeprefix("node port ")


def percent(share: float) -> str:
    if share >= 0.9995:
        return "all"
    return f"{share:.1%}".replace(".0%", "%")


def backends_text(backends: Iterable[str]) -> str:
    return listed(sorted(backends), 8) or "no endpoint"


def wanted_text(one: Judgement) -> str:
    verdict = one.expected.verdict
    if verdict is Verdict.FORWARD:
        return "to " + backends_text(one.expected.backends)
    return {Verdict.REJECT: "rejected", Verdict.DROP: "dropped"}.get(verdict, "untranslated")


def seen_text(one: Judgement) -> str:
    seen = one.observed
    parts = []
    if seen.backends:
        expected = 1 / len(seen.backends)
        shares = [
            f"{name} ({percent(share)})" if abs(share - expected) > 1e-3 else name
            for name, share in sorted(seen.backends.items())
        ]
        parts.append("to " + listed(shares, 8))
    for outcomes, text in (
        (seen.untranslated, "untranslated"),
        (seen.refused, "refused"),
        (seen.lost, "refused after translation"),
    ):
        if outcomes:
            share = sum(outcome.share for outcome in outcomes)
            parts.append(text if share > 0.9995 else f"{percent(share)} {text}")
    return ", ".join(parts) or "nothing"


def affinity_wanted(expected: Forwarding) -> str:
    return "no session affinity" if expected.affinity is None else f"ClientIP affinity for {expected.affinity} s"


def affinity_seen(seen: Observation) -> str:
    if seen.affinity_fault:
        return f"incomplete ({seen.affinity_fault})"
    return "none" if seen.affinity is None else f"ClientIP for {seen.affinity} s"

"""Observed forwarding: what the rules make of a connection to one frontend from one vantage point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ruleaudit.forwarding import Verdict, split_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ruleaudit.dataplane.evaluator import Evaluator
    from ruleaudit.dataplane.matches import Affinity
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome

__all__ = ["Observation", "observe"]


@dataclass(slots=True)
class Observation:
    """The outcomes of one packet, sorted by what they mean for a service.

    `backends`: endpoint text -> share of what arrives there. `lost`: translated, then refused. `refused`: refused without translation.
    `untranslated`: routed on or delivered to the node itself as it came. `marked`/`unmarked`: shares of the forwarded part that carry
    the masquerade mark, or do not. `affinity`: seconds when every backend keeps its clients, else None; `affinity_fault`: what is wrong
    with it otherwise ("" when there is none at all). `possible`: some outcome rests on an undecided match.
    """

    packet: Packet
    backends: dict[str, float] = field(default_factory=dict)
    lost: list[Outcome] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    untranslated: list[Outcome] = field(default_factory=list)
    marked: float = 0.0
    unmarked: float = 0.0
    not_masqueraded: list[Outcome] = field(default_factory=list)
    affinity: int | None = None
    affinity_fault: str = ""
    possible: bool = False

    @property
    def verdict(self) -> Verdict | None:
        """The one verdict of every outcome, None when they differ."""
        kinds = {one.verdict for one in (*self.lost, *self.refused, *self.untranslated)}
        if self.backends:
            kinds.add(Verdict.FORWARD)
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def unknown_rules(self) -> set[tuple[str, str, int]]:
        """The undecided rules that outcomes rest on."""
        return {one.unknown_rule for one in (*self.lost, *self.refused, *self.untranslated) if one.unknown_rule is not None}


def observe(evaluator: Evaluator, packet: Packet, mark: int) -> Observation:
    """Follow a packet and sort its outcomes. `mark` is the masquerade mark."""
    run, outcomes, flows = evaluator.pursue(packet)
    seen = Observation(packet)
    remembered: dict[str, tuple[str, ...]] = {}
    for flow in flows:
        if flow.bundle is None or flow.possible or run.affinity:
            outcomes.extend(evaluator.deliver(run, flow))
            continue
        groups = evaluator.deliver_bundle(run, flow)
        if any(
            outcome.verdict is not Verdict.FORWARD or outcome.possible or (outcome.mark & mark and not outcome.masquerade)
            for _backends, known in groups
            for _share, outcome in known
        ):
            outcomes.extend(evaluator.deliver(run, flow))
            continue
        for backends, known in groups:
            for share, outcome in known:
                part = flow.share * share
                if part == 1.0 and not seen.backends:
                    seen.backends = (
                        backends  # shared, never changed: one mapping serves all questions that lead to these endpoints
                    )
                    total = 1.0 if backends is flow.bundle.backends else sum(backends.values())
                else:
                    merged = dict(seen.backends)
                    for endpoint, one in backends.items():
                        merged[endpoint] = merged.get(endpoint, 0.0) + one * part
                    seen.backends = merged
                    total = sum(backends.values()) * part
                if outcome.mark & mark:
                    seen.marked += total
                else:
                    seen.unmarked += total
    if outcomes:
        seen.backends = dict(seen.backends)
    backends_now, affinity = seen.backends, run.affinity
    for outcome in outcomes:
        if outcome.possible:
            seen.possible = True
        verdict = outcome.verdict
        if verdict is Verdict.FORWARD and outcome.endpoint is not None:
            endpoint = outcome.endpoint
            backends_now[endpoint] = backends_now.get(endpoint, 0.0) + outcome.share
            if outcome.remembered or affinity:
                remembered[endpoint] = outcome.remembered
            if split_endpoint(endpoint)[0] == packet.source:
                continue  # the client is its own backend: kube-proxy masquerades that wherever it comes from (KPR 5.7)
            if outcome.mark & mark:
                seen.marked += outcome.share
                if outcome.masquerade is False:
                    seen.not_masqueraded.append(outcome)
            else:
                seen.unmarked += outcome.share
        elif verdict in (Verdict.REJECT, Verdict.DROP):
            if outcome.endpoint is not None and (outcome.remembered or affinity):
                remembered[outcome.endpoint] = outcome.remembered
            (seen.lost if outcome.endpoint is not None else seen.refused).append(outcome)
        else:
            seen.untranslated.append(outcome)
    kept = {outcome.scheduled for outcome in outcomes if outcome.scheduled is not None}
    if kept:
        # IPVS keeps clients by virtual server, whichever real server they got (S14).
        times = {one.persistence for one in kept}
        masked = next((one.mask for one in kept if one.mask is not None and one.persistence is not None), None)
        if len(times) > 1:
            seen.affinity_fault = "timeouts differ: " + ", ".join(sorted(str(one) for one in times))
        elif any(one.one_packet for one in kept):
            seen.affinity_fault = "each datagram is sent to a real server of its own"
        elif masked is not None:
            seen.affinity_fault = f"clients are told apart by {masked} only"
        else:
            seen.affinity = times.pop()
    elif affinity or any(remembered.values()):
        seen.affinity, seen.affinity_fault = _judge_affinity(
            remembered, affinity, {**dict.fromkeys(remembered, 0.0), **backends_now}
        )
    return seen


def _judge_affinity(
    remembered: Mapping[str, tuple[str, ...]],
    affinity: Mapping[str, tuple[Affinity, frozenset[str]]],
    backends: Mapping[str, float],
) -> tuple[int | None, str]:
    """Whether every backend remembers its client in a list that leads back to it (S12), and for how many seconds."""
    seconds: set[int | None] = set()
    faults: list[str] = []
    used: set[str] = set()
    for endpoint in backends:
        lists = remembered.get(endpoint, ())
        asked = [affinity[name] for name in lists if name in affinity]
        if not lists:
            faults.append(f"{endpoint} does not remember its clients")
        elif not asked:
            faults.append(f"clients of {endpoint} are remembered but not sent back to it")
        for question, reached in asked:
            used.add(question.name)
            if reached != {endpoint}:
                faults.append(f"clients remembered for {endpoint} are sent to {', '.join(sorted(reached)) or 'nowhere'}")
            if question.oddity:
                faults.append(f"list {question.name}: {question.oddity}")
            seconds.add(question.seconds)
    faults.extend(f"list {name} is asked but no backend writes it" for name in affinity if name not in used)
    if len(seconds) > 1:
        faults.append("timeouts differ: " + ", ".join(sorted(str(one) for one in seconds)))
    if faults:
        return None, "; ".join(faults[:4])
    only = seconds.pop() if seconds else None
    return (only, "") if only is not None else (None, "no timeout")

"""The words of findings: what is wanted and what is seen, how much of it, and of which endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.test_compare import DELIVERED, DROPPED, LOST, PASSED, REJECTED, forward, seen

from ruleaudit.checks.judgement import (
    Judgement,
    affinity_seen,
    affinity_wanted,
    backends_text,
    condition,
    listed,
    percent,
    seen_text,
    wanted_text,
)
from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict
from ruleaudit.kubeproxy.endpoints import Endpoint

if TYPE_CHECKING:
    from ruleaudit.dataplane.observe import Observation

FRONTEND = Frontend(FrontendKind.CLUSTER_IP, "10.96.0.1", 80, "TCP", 4)
MANY = {f"10.0.0.{number}:1": 0.1 for number in range(10)}


def judgement(expected: Forwarding, observed: Observation) -> Judgement:
    return Judgement(FRONTEND, Vantage.POD, "10.96.0.1", expected, observed, [])


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (forward({"b": 0.5, "a": 0.5}), "to a, b"),
        (forward({}), "to no endpoint"),
        (
            forward(MANY),
            "to 10.0.0.0:1, 10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1, 10.0.0.4:1, 10.0.0.5:1, 10.0.0.6:1, 10.0.0.7:1 and 2 more",
        ),
        (Forwarding(Verdict.REJECT), "rejected"),
        (Forwarding(Verdict.DROP), "dropped"),
        (Forwarding(Verdict.PASS), "untranslated"),
        (Forwarding(Verdict.LOCAL), "untranslated"),
    ],
)
def test_what_is_wanted(expected: Forwarding, text: str) -> None:
    assert wanted_text(judgement(expected, seen())) == text


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        (seen(), "nothing"),
        (seen({"b": 0.5, "a": 0.5}), "to a, b"),
        (seen({"b": 0.75, "a": 0.25}), "to a (25%), b (75%)"),
        (seen({"b": 0.5009, "a": 0.4991}), "to a, b"),
        (seen({"b": 0.502, "a": 0.498}), "to a (49.8%), b (50.2%)"),
        (
            seen(MANY),
            "to 10.0.0.0:1, 10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1, 10.0.0.4:1, 10.0.0.5:1, 10.0.0.6:1, 10.0.0.7:1 and 2 more",
        ),
        (seen(untranslated=[PASSED, DELIVERED]), "75% untranslated"),
        (seen(untranslated=[PASSED, DELIVERED], refused=[REJECTED]), "75% untranslated, 25% refused"),
        (seen(refused=[REJECTED, DROPPED]), "refused"),
        (seen({"a": 0.5}, lost=[LOST]), "to a (50%), 50% refused after translation"),
    ],
)
def test_what_is_seen(observed: Observation, text: str) -> None:
    assert seen_text(judgement(forward(), observed)) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "all"), (0.9995, "all"), (0.9994, "99.9%"), (0.5, "50%"), (1 / 3, "33.3%"), (0.004, "0.4%"), (0.1004, "10%")],
)
def test_shares(share: float, text: str) -> None:
    assert percent(share) == text


def test_lists() -> None:
    assert [listed("abcdef"[:number]) for number in (0, 1, 5, 6)] == ["", "a", "a, b, c, d, e", "a, b, c, d, e and 1 more"]
    assert listed("abc", 2) == "a, b and 1 more"
    assert backends_text([]) == "no endpoint"


@pytest.mark.parametrize(
    ("ready", "serving", "terminating", "text"),
    [
        (True, True, False, "ready"),
        (True, True, True, "ready and terminating"),
        (False, True, True, "terminating"),
        (False, False, True, "terminating and not serving"),
        (False, True, False, "not ready"),
        (False, False, False, "not ready"),
    ],
)
def test_conditions(ready: bool, serving: bool, terminating: bool, text: str) -> None:
    assert condition(Endpoint("10.0.0.1", 80, "10.0.0.1:80", ready, serving, terminating)) == text


def test_affinity() -> None:
    assert [affinity_wanted(forward(affinity=one)) for one in (None, 60)] == ["no session affinity", "ClientIP affinity for 60 s"]
    observed = [seen(affinity_fault="why"), seen(), seen(affinity=60)]
    assert [affinity_seen(one) for one in observed] == ["incomplete (why)", "none", "ClientIP for 60 s"]

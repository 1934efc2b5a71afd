"""Expected against observed forwarding: every difference by its name, and the quick answer the same as the long one."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING

import pytest

from ruleaudit.compare import SHARE_TOLERANCE, Difference, DifferenceKind, compare, equal
from ruleaudit.dataplane.observe import Observation
from ruleaudit.dataplane.packet import Packet
from ruleaudit.dataplane.walk import Outcome
from ruleaudit.forwarding import Forwarding, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKET = Packet(4, "tcp", "198.51.100.7", "10.96.0.1", 80)
ONE, TWO = "10.244.1.5:80", "10.244.1.6:80"
HALVES = {ONE: 0.5, TWO: 0.5}
KIND = DifferenceKind


def outcome(verdict: Verdict, share: float = 1.0, endpoint: str | None = None) -> Outcome:
    values = {one.name: None for one in fields(Outcome)} | {"verdict": verdict, "share": share, "endpoint": endpoint}
    return Outcome(**values)  # type: ignore[arg-type]  # what is not named is not looked at


REJECTED, DROPPED = outcome(Verdict.REJECT, 0.25), outcome(Verdict.DROP, 0.75)
PASSED, DELIVERED = outcome(Verdict.PASS, 0.25), outcome(Verdict.LOCAL, 0.5)
LOST = outcome(Verdict.DROP, 0.5, TWO)
LOST_ELSEWHERE = outcome(Verdict.REJECT, 0.5, "10.244.1.9:80")


def seen(backends: Mapping[str, float] | None = None, **values: object) -> Observation:
    return Observation(PACKET, dict(backends or {}), **values)  # type: ignore[arg-type]  # by name


def forward(backends: Mapping[str, float] = HALVES, masquerade: bool | None = None, affinity: int | None = None) -> Forwarding:
    return Forwarding(Verdict.FORWARD, backends, masquerade, affinity)


REJECT, DROP, PASS = Forwarding(Verdict.REJECT), Forwarding(Verdict.DROP), Forwarding(Verdict.PASS)


@pytest.mark.parametrize(
    ("expected", "observed", "differences"),
    [
        pytest.param(forward(), seen(HALVES), [], id="equal"),
        pytest.param(
            forward(),
            seen({ONE: 0.25}, untranslated=[PASSED, DELIVERED]),
            [Difference(KIND.UNTRANSLATED, None, 0.75, (PASSED, DELIVERED)), Difference(KIND.MISSING_BACKEND, TWO)],
            id="a-part-passes-and-a-backend-is-missing",
        ),
        pytest.param(
            forward(),
            seen(HALVES, untranslated=[PASSED]),
            [Difference(KIND.UNTRANSLATED, None, 0.25, (PASSED,))],
            id="a-part-passes",
        ),
        pytest.param(
            forward(),
            seen({ONE: 0.4, TWO: 0.35}, untranslated=[PASSED]),
            [Difference(KIND.UNTRANSLATED, None, 0.25, (PASSED,))],
            id="shares-are-no-matter-where-a-part-passes",
        ),
        pytest.param(
            forward(),
            seen({ONE: 0.4, TWO: 0.35}, refused=[REJECTED]),
            [Difference(KIND.REFUSED, None, 0.25, (REJECTED,))],
            id="shares-are-no-matter-where-a-part-is-refused",
        ),
        pytest.param(
            forward(), seen(HALVES, refused=[REJECTED, DROPPED]), [Difference(KIND.REFUSED, None, 1.0, (REJECTED, DROPPED))], id="refused"
        ),
        pytest.param(
            forward(), seen({ONE: 0.5}, lost=[LOST]), [Difference(KIND.LOST, None, 0.5, (LOST,))], id="what-is-lost-was-chosen"
        ),
        pytest.param(
            forward(),
            seen({ONE: 0.5, TWO: 0.25}, lost=[outcome(Verdict.DROP, 0.25, TWO)]),
            [Difference(KIND.LOST, None, 0.25, (outcome(Verdict.DROP, 0.25, TWO),))],
            id="what-is-lost-counts-with-what-arrives",
        ),
        pytest.param(
            forward(),
            seen({ONE: 0.5}, lost=[LOST_ELSEWHERE]),
            [
                Difference(KIND.LOST, None, 0.5, (LOST_ELSEWHERE,)),
                Difference(KIND.MISSING_BACKEND, TWO),
                Difference(KIND.EXTRA_BACKEND, "10.244.1.9:80", 0.5),
            ],
            id="what-is-lost-is-of-another-backend",
        ),
        pytest.param(forward(), seen({ONE: 1.0, TWO: 0.0}), [Difference(KIND.MISSING_BACKEND, TWO), Difference(KIND.UNEVEN)], id="no-share"),
        pytest.param(
            forward({ONE: 1.0}), seen(HALVES), [Difference(KIND.EXTRA_BACKEND, TWO, 0.5)], id="a-backend-more-is-not-uneven-as-well"
        ),
        pytest.param(forward(), seen({ONE: 0.6, TWO: 0.4}), [Difference(KIND.UNEVEN)], id="uneven"),
        pytest.param(
            forward({ONE: 0.4, TWO: 0.3, "c": 0.3}), seen({ONE: 0.4, TWO: 0.4, "c": 0.2}), [Difference(KIND.UNEVEN)], id="one-of-three-is-even"
        ),
        pytest.param(forward(), seen({ONE: 0.50009, TWO: 0.49991}), [], id="printed-probabilities-are-rounded"),
        pytest.param(
            forward(masquerade=True), seen(HALVES, unmarked=0.25), [Difference(KIND.MISSING_MASQUERADE, None, 0.25)], id="not-masqueraded"
        ),
        pytest.param(
            forward(masquerade=False), seen(HALVES, marked=0.25), [Difference(KIND.EXTRA_MASQUERADE, None, 0.25)], id="masqueraded"
        ),
        pytest.param(forward(masquerade=True), seen(HALVES, marked=1.0), [], id="as-it-should-be-masqueraded"),
        pytest.param(forward(masquerade=False), seen(HALVES, unmarked=1.0), [], id="as-it-should-not-be-masqueraded"),
        pytest.param(forward(masquerade=None), seen(HALVES, marked=0.5, unmarked=0.5), [], id="masquerade-is-not-judged"),
        pytest.param(forward(affinity=60), seen(HALVES), [Difference(KIND.AFFINITY)], id="affinity-is-missing"),
        pytest.param(forward(), seen(HALVES, affinity=60), [Difference(KIND.AFFINITY)], id="affinity-is-not-asked-for"),
        pytest.param(forward(affinity=60), seen(HALVES, affinity=9), [Difference(KIND.AFFINITY)], id="another-timeout"),
        pytest.param(forward(), seen(HALVES, affinity_fault="no"), [Difference(KIND.AFFINITY)], id="affinity-is-broken"),
        pytest.param(
            forward(affinity=60),
            seen(refused=[DROPPED]),
            [
                Difference(KIND.REFUSED, None, 0.75, (DROPPED,)),
                Difference(KIND.MISSING_BACKEND, ONE),
                Difference(KIND.MISSING_BACKEND, TWO),
            ],
            id="what-reaches-nobody-needs-no-affinity",
        ),
        pytest.param(
            forward(),
            seen(HALVES, lost=[DROPPED]),
            [Difference(KIND.LOST, None, 0.75, (DROPPED,))],
            id="lost-and-nobody-knows-whose",
        ),
        pytest.param(
            REJECT,
            seen({ONE: 0.5}, lost=[LOST]),
            [Difference(KIND.FORWARDED, ONE, 0.5), Difference(KIND.FORWARDED, TWO, 0.5)],
            id="lost-and-not-refused",
        ),
        pytest.param(REJECT, seen(refused=[REJECTED]), [], id="rejected"),
        pytest.param(DROP, seen(refused=[DROPPED]), [], id="dropped"),
        pytest.param(
            REJECT,
            seen(refused=[REJECTED, DROPPED, DROPPED]),
            [Difference(KIND.WRONG_REFUSAL, None, 1.5, (DROPPED, DROPPED))],
            id="dropped-not-rejected",
        ),
        pytest.param(DROP, seen(refused=[REJECTED]), [Difference(KIND.WRONG_REFUSAL, None, 0.25, (REJECTED,))], id="rejected-not-dropped"),
        pytest.param(
            REJECT,
            seen({ONE: 0.25}, untranslated=[PASSED, DELIVERED]),
            [Difference(KIND.FORWARDED, ONE, 0.25), Difference(KIND.NOT_REFUSED, None, 0.75, (PASSED, DELIVERED))],
            id="nobody-refuses",
        ),
        pytest.param(PASS, seen(untranslated=[PASSED], refused=[DROPPED]), [], id="left-alone"),
        pytest.param(PASS, seen({ONE: 0.5}), [Difference(KIND.FORWARDED, ONE, 0.5)], id="forwarded-although-left-alone"),
    ],
)  # fmt: skip
def test_differences(expected: Forwarding, observed: Observation, differences: list[Difference]) -> None:
    assert compare(expected, observed) == differences
    assert equal(expected, observed) is (not differences)


def test_the_quick_answer_is_the_long_one() -> None:
    """`equal` decides of every service port whether anything more is asked: it must never overlook what `compare` would say."""
    wanted = [
        REJECT,
        DROP,
        PASS,
        *(forward(b, m, a) for b in (HALVES, {ONE: 1.0}) for m in (None, True, False) for a in (None, 60)),
    ]
    backends = [{}, HALVES, {ONE: 1.0}, {ONE: 0.5, "c": 0.5}, {ONE: 0.6, TWO: 0.4}, {ONE: 1.0, TWO: 0.0}]
    parts = [[], [REJECTED]], [[], [PASSED]], [[], [LOST]]
    tried = 0
    for expected, reached, refused, passed, lost in product(wanted, backends, *parts):
        for marked, affinity, fault in product((0.0, SHARE_TOLERANCE, 0.5, 1.0), (None, 60), ("", "no")):
            observed = seen(
                reached, refused=refused, untranslated=passed, lost=lost, marked=marked, unmarked=1.0 - marked, affinity=affinity,
                affinity_fault=fault if reached or lost else "",
            )  # fmt: skip
            assert equal(expected, observed) is (not compare(expected, observed)), (expected, observed)
            tried += 1
    assert tried > 9000

"""Expected against observed forwarding: in what they differ, without a word on why.

Pure: two values in, differences out. What a difference means for a service is decided by `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ruleaudit.forwarding import SHARE_TOLERANCE, Forwarding, Verdict, equal_shares

if TYPE_CHECKING:
    from ruleaudit.dataplane.observe import Observation
    from ruleaudit.dataplane.ruleset import Balance
    from ruleaudit.dataplane.walk import Outcome

__all__ = ["SHARE_TOLERANCE", "Difference", "DifferenceKind", "compare", "equal", "spreads_alike"]


class DifferenceKind(Enum):
    """The ways in which forwarding can differ."""

    UNTRANSLATED = "a part passes untranslated that should reach a backend"
    REFUSED = "a part is refused untranslated that should reach a backend"
    LOST = "a part is translated and then refused"
    MISSING_BACKEND = "a backend gets no share"
    EXTRA_BACKEND = "a backend gets a share that should get none"
    UNEVEN = "the backends are right, their shares are not"
    NOT_REFUSED = "what should be refused is not"
    FORWARDED = "what should be refused reaches a backend"
    WRONG_REFUSAL = "refused in another way: rejected instead of dropped or the reverse"
    MISSING_MASQUERADE = "the source address is not replaced"
    EXTRA_MASQUERADE = "the source address is replaced"
    AFFINITY = "session affinity differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `endpoint` and `share` (observed) where a backend is concerned; `outcomes` that show it."""

    kind: DifferenceKind
    endpoint: str | None = None
    share: float = 0.0
    outcomes: tuple[Outcome, ...] = ()


def equal(expected: Forwarding, observed: Observation) -> bool:
    """Whether there is no difference; the quick form of `not compare(...)`."""
    if observed.lost or observed.untranslated:
        return expected.verdict is not Verdict.FORWARD and not compare(expected, observed)
    if expected.verdict is not Verdict.FORWARD:
        return not compare(expected, observed)
    if observed.refused or not equal_shares(expected.backends, observed.backends):
        return False
    if expected.masquerade is not None and (observed.unmarked if expected.masquerade else observed.marked) > SHARE_TOLERANCE:
        return False
    return expected.affinity == observed.affinity and not observed.affinity_fault


def spreads_alike(expected: Forwarding, balance: Balance, masquerade: bool) -> bool:
    """Whether connections that are all spread over one balance, and marked to be masqueraded or not, are as expected."""
    return (
        expected.verdict is Verdict.FORWARD
        and expected.affinity == balance.affinity
        and expected.masquerade in (None, masquerade)
        and equal_shares(expected.backends, balance.backends)
    )


def compare(expected: Forwarding, observed: Observation) -> list[Difference]:
    """Every difference between what the objects ask for and what the rules do, for one frontend and vantage point."""
    kind = DifferenceKind
    found: list[Difference] = []
    # What was translated and then lost was chosen; what befell it afterwards is another matter.
    reached = dict(observed.backends)
    for one in observed.lost:
        # IPVS chooses first, and kube-proxy refuses some of what it chose for behind it (KPR 10.4, KUBE-IPVS-OUT-FILTER).
        refused_behind = one.scheduled is not None and one.verdict is expected.verdict
        if one.endpoint is not None and not refused_behind:
            reached[one.endpoint] = reached.get(one.endpoint, 0.0) + one.share
    if expected.verdict in (Verdict.REJECT, Verdict.DROP):
        for endpoint, share in reached.items():
            found.append(Difference(kind.FORWARDED, endpoint, share))
        passed = tuple(observed.untranslated)
        if passed:
            found.append(Difference(kind.NOT_REFUSED, None, sum(one.share for one in passed), passed))
        wrong = tuple(one for one in observed.refused if one.verdict is not expected.verdict)
        if wrong:
            found.append(Difference(kind.WRONG_REFUSAL, None, sum(one.share for one in wrong), wrong))
        return found
    if expected.verdict is not Verdict.FORWARD:
        # What kube-proxy leaves alone may be routed on or refused by others, but no rule of its own leads it to a backend.
        return [Difference(kind.FORWARDED, endpoint, share) for endpoint, share in observed.backends.items()]
    if observed.untranslated:
        found.append(
            Difference(kind.UNTRANSLATED, None, sum(one.share for one in observed.untranslated), tuple(observed.untranslated))
        )
    if observed.refused:
        found.append(Difference(kind.REFUSED, None, sum(one.share for one in observed.refused), tuple(observed.refused)))
    if observed.lost:
        found.append(Difference(kind.LOST, None, sum(one.share for one in observed.lost), tuple(observed.lost)))
    found.extend(Difference(kind.MISSING_BACKEND, endpoint) for endpoint in expected.backends if reached.get(endpoint, 0.0) <= 0)
    found.extend(
        Difference(kind.EXTRA_BACKEND, endpoint, share)
        for endpoint, share in reached.items()
        if endpoint not in expected.backends
    )
    whole = reached.keys() == expected.backends.keys() and not observed.untranslated and not observed.refused
    if whole and any(abs(reached[endpoint] - share) > SHARE_TOLERANCE for endpoint, share in expected.backends.items()):
        found.append(Difference(kind.UNEVEN))
    if expected.masquerade is True and observed.unmarked > SHARE_TOLERANCE:
        found.append(Difference(kind.MISSING_MASQUERADE, None, observed.unmarked))
    if expected.masquerade is False and observed.marked > SHARE_TOLERANCE:
        found.append(Difference(kind.EXTRA_MASQUERADE, None, observed.marked))
    if reached and (expected.affinity != observed.affinity or observed.affinity_fault):
        found.append(Difference(kind.AFFINITY))
    return found

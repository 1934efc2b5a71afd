"""IPVS mode: which findings follow from which. One fault shows in virtual servers, sets, kube-ipvs0 and rules at once, and stays one fault."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ruleaudit.findings import Finding

__all__ = ["effects_of_lost_rules", "with_causes"]

_MISSING = frozenset({"RA101", "RA102", "RA103", "RA104", "RA105"})
# What a rule that is not there as kube-proxy writes it can do to a service: then the service's own finding says it.
_EFFECTS_OF_RULES = frozenset({"RA306", "RA401", "RA403", "RA405", "RA208"})


def with_causes(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of one family, in their order, each with its cause where another one of them says why.

    A service port that is not programmed lacks its entries and addresses, too; an endpoint that gets nothing is no hairpin yet; what refuses
    the connections of some clients because a set lacks an entry also leaves those of others unmasqueraded.
    """
    leaders: dict[tuple[str | None, str | None], dict[str, Finding]] = defaultdict(dict)
    unreached: dict[tuple[str | None, str | None, str | None], Finding] = {}
    lacking: set[tuple[str | None, str | None]] = set()
    for one in findings:
        key = (one.service, one.port)
        if one.service is None:
            continue
        leaders[key].setdefault(one.code, one)
        if one.code == "RA106":
            unreached[(*key, one.endpoint)] = one
        elif one.code == "RA110":
            lacking.add(key)
    return [_with_cause(one, leaders.get((one.service, one.port), {}), unreached, lacking) for one in findings]


def _with_cause(
    one: Finding,
    leaders: Mapping[str, Finding],
    unreached: Mapping[tuple[str | None, str | None, str | None], Finding],
    lacking: set[tuple[str | None, str | None]],
) -> Finding:
    key = (one.service, one.port)
    if one.cause is not None or one.service is None:
        return one
    cause: Finding | None = None
    if one.code == "RA403":
        cause = leaders.get("RA101") or unreached.get((*key, one.endpoint))
    elif one.code == "RA111":
        missing = (leaders.get(code) for code in sorted(_MISSING))
        cause = next(
            (other for other in missing if other is not None and (other.code == "RA101" or other.frontend == one.frontend)), None
        )
    elif one.code == "RA401" and key in lacking:
        cause = leaders.get("RA208")
    elif one.code == "RA110":
        cause = leaders.get("RA109")
    if cause is None or cause.cause == one.fingerprint:
        return one
    return replace(one, cause=cause.cause or cause.fingerprint)


def effects_of_lost_rules(written: Iterable[Finding], findings: Sequence[Finding]) -> list[Finding]:
    """What is said of kube-proxy's own rules (RA308, RA310), with the finding about a service's traffic that says their effect as the cause.

    They belong together when they name the same Service or address, or when that finding cites rules of the same chain, or a jump to it: there its
    packets were not treated as they should be.
    """
    effects: dict[tuple[str, str], Finding] = {}
    for one in findings:
        if one.code in _EFFECTS_OF_RULES and one.cause is None:
            for where in one.locations:
                for chain in _chains_of(where.text):
                    effects.setdefault((where.file, chain), one)
            if one.service is not None:
                effects.setdefault(("", one.service), one)
            if one.frontend is not None and one.frontend.address is not None:
                effects.setdefault(("", one.frontend.address), one)
    found = []
    for one in written:
        cause = None
        if one.code == "RA310" and one.cause is None:
            named = [(where.file, chain) for where in one.locations for chain in _chains_of(where.text)[:1]]
            named += [("", word.partition("/")[0]) for where in one.locations for word in where.text.split()]
            cause = next((effects[place] for place in [("", one.service or ""), *named] if place in effects), None)
        found.append(one if cause is None else replace(one, cause=cause.fingerprint))
    return found


def _chains_of(text: str) -> list[str]:
    """kube-proxy's chains that a line of iptables-save is about: that which it declares, or that of a rule, and then the one it leads to."""
    words = text.split()
    named = (
        [words[0][1:]]
        if text.startswith(":")
        else [words[at + 1] for at in range(len(words) - 1) if words[at] in ("-A", "-j", "-g")]
    )
    return [one for one in named if one.startswith("KUBE-")]

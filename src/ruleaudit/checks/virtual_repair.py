"""IPVS mode: which findings about services follow from one rule of kube-proxy, or from what its sets lack (RA110, RA308, RA310).

Services are judged again with the rule, or the entries, as they should be (decision 5): what is gone then follows from it, what stays is
their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ruleaudit.checks import virtual_leftovers
from ruleaudit.checks.context import service_port_of
from ruleaudit.checks.virtual_servers import VirtualServerJudge
from ruleaudit.checks.written_ipvs import MendedChain, mended_chains
from ruleaudit.dataplane.sets import Sets
from ruleaudit.findings import Finding, Severity
from ruleaudit.formats.iptables_save import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ruleaudit.checks.context import FamilyAudit
    from ruleaudit.dumps.rules import Chain, Dump

    _Chains = Mapping[tuple[str, str], tuple[Chain, Dump]]

__all__ = ["Apart", "apart", "leading_addresses", "leading_entries"]

_MANY = 10
_ALL = 3
_TRIED = 24
"""So many rules are tried one by one."""


def _most(number: int, total: int) -> bool:
    """Whether so many service ports are most of them, so that they have one cause."""
    return (number >= _MANY and number * 10 >= total * 6) or (number >= _ALL and number >= total)


@dataclass
class Apart:
    """The findings about services, taken apart.

    `own`: what stays of them with all rules and sets as they should be, or shows only then. `effects`: what follows from rules, with its
    cause. `leaders`: the findings of those rules. `of_entries`: what is gone with the sets alone as they should be.
    """

    own: list[Finding]
    effects: list[Finding] = field(default_factory=list)
    leaders: list[Finding] = field(default_factory=list)
    of_entries: list[Finding] = field(default_factory=list)


def apart(judge: VirtualServerJudge, findings: Sequence[Finding], told: Iterable[Finding], *, rules: bool) -> Apart:
    """`findings` are those of `judge`; `told`: what is said of the node as a whole; `rules`: whether kube-proxy's rules are looked at."""
    found = Apart(list(findings))
    if not judge.rules_known or not any(one.severity is not Severity.INFO for one in findings):
        return found
    audit = judge.audit
    mended = list(mended_chains(audit, told, empty=virtual_leftovers.empty_sets(audit))) if rules else []
    if mended:
        _set_effects_apart(judge, found, mended)
    sets = _whole_sets(audit)
    if sets is not None and any(one.severity is not Severity.INFO for one in found.own):
        every = {(one.table, one.name): _chain(one, one.text) for one in mended} if found.leaders else {}
        again = _again(judge, every, sets)
        left = {one.fingerprint for one in again}
        found.of_entries = [
            each
            for one in found.own
            if one.fingerprint not in left
            for each in _without_policy(judge, one)
            if each.fingerprint not in left
        ]
        gone = {_port(one) for one in found.of_entries}
        before = {one.fingerprint for one in found.own}
        found.own = [one for one in again if one.fingerprint in before or _port(one) in gone]
    return found


def _port(one: Finding) -> tuple[str | None, str | None]:
    return one.service, one.port


def _chain(chain: MendedChain, text: str) -> tuple[Chain, Dump]:
    """A chain with other rules."""
    dump = parse(f"*{chain.table}\n:{chain.name} - [0:0]\n{text}COMMIT\n", "as it should be")
    return dump.tables[0].chains[chain.name], dump


def _set_effects_apart(judge: VirtualServerJudge, found: Apart, mended: Sequence[MendedChain]) -> None:
    every = {(one.table, one.name): _chain(one, one.text) for one in mended}
    again = _again(judge, every, None)
    left = {one.fingerprint for one in again}
    gone = [one for one in found.own if one.fingerprint not in left]
    if not gone:
        return
    before = {one.fingerprint for one in found.own}
    ports = {_port(one) for one in gone}
    found.own = [one for one in again if one.fingerprint in before or _port(one) in ports]
    # What is there with all other rules as they should be follows from this one.
    rules = [(one, leader, text) for one in mended for leader, text in one.without]
    follow: list[list[Finding]] = [gone] if len(rules) == 1 else []
    for chain, _leader, text in rules[:_TRIED] if len(rules) > 1 else ():
        others = _again(judge, {**every, (chain.table, chain.name): _chain(chain, text)}, None)
        follow.append([one for one in others if one.fingerprint not in left and _port(one) in ports])
    owner: dict[object, int] = {}
    for number, findings in enumerate(follow):
        for one in findings:
            owner.setdefault(one.fingerprint, number)
            owner.setdefault(_port(one), number)
    wrong = [list(one) for one in follow]
    for one in gone:
        # What it takes several rules for follows from the first that does the service port harm by itself, or from the first of all.
        number = owner.get(one.fingerprint, owner.get(_port(one), 0))
        wrong[number].append(one)
        cause = rules[number][1].fingerprint
        found.effects += [replace(each, cause=cause) for each in _without_policy(judge, one) if each.fingerprint not in left]
    for (_chain_of, leader, _text), findings in zip(rules, wrong, strict=False):
        if findings:
            found.leaders.append(_leading(judge.audit, leader, findings))


def _leading(audit: FamilyAudit, leader: Finding, effects: Sequence[Finding]) -> Finding:
    """What is said of a rule, as bad as what follows from it. Where a single service port is looked at, nothing is said of others."""
    worst = min((one.severity for one in effects), key=lambda one: one.rank)
    services = len({one.service for one in effects if one.service is not None})
    whose = f"{services} service{'' if services == 1 else 's'}" if audit.only is None else service_port_of(audit.only)
    return replace(
        leader,
        severity=worst if worst.rank < leader.severity.rank else leader.severity,
        message=f"{leader.message}: traffic of {whose} is wrong because of it",
    )


def _without_policy(judge: VirtualServerJudge, one: Finding) -> Iterator[Finding]:
    """The finding itself, or what is wrong with the traffic where it says that the rules are right for another traffic policy."""
    if one.code != "RA305":
        yield one
        return
    audit = judge.audit
    for expected in audit.service_ports:
        name = f"{expected.name.namespace}/{expected.name.name}", expected.name.port or None
        if name == _port(one) and id(expected) in judge.judged:
            judge.names_policies = False
            yield from judge.interpret(expected, judge.judged[id(expected)])
            judge.names_policies = True


def _again(judge: VirtualServerJudge, chains: _Chains, sets: Sets | None) -> list[Finding]:
    """What is said of services with chains, and sets where they are given, as they should be."""
    audit = judge.audit
    other = replace(audit, repaired=audit.repaired.mended(chains, sets))
    other.__dict__["sets_wanted"] = audit.sets_wanted
    return VirtualServerJudge(other, judge.virtual, rules_known=judge.rules_known).run()


def _whole_sets(audit: FamilyAudit) -> Sets | None:
    """The sets with every entry that is asked for; None where they lack none."""
    sets = audit.repaired.sets
    if sets is None:
        return None
    held = {name: known for name in sets.names() if (known := sets.get(name)) is not None}
    lacking = False
    for name, wanted in audit.sets_wanted.items():
        known = held.get(name)
        if known is None or known.entries is None or not wanted.known:
            continue
        more = {entry: 0 for entry, _asked in wanted.required if entry not in known.entries}
        if more:
            lacking = True
            held[name] = replace(known, entries={**known.entries, **more}, _networks=None)
    return Sets(held) if lacking else None


def leading_entries(audit: FamilyAudit, parts: Sequence[Finding], of_entries: Sequence[Finding]) -> list[Finding]:
    """`parts` and `of_entries` with their causes: one finding for all entries where most are lacking (RA110), else the entry that a refusal
    follows from (RA208).
    """
    lacking = [one for one in parts if one.code == "RA110" and one.cause is None]
    ports = {_port(one) for one in lacking if one.service is not None}
    total = len({(f"{one.name.namespace}/{one.name.name}", one.name.port or None) for one in audit.expectation.service_ports})
    if _most(len(ports), total):
        those = {id(one) for one in lacking}
        leader = audit.finding(
            "RA110",
            f"kube-proxy's sets of IPv{audit.family} lack entries of {len(ports)} of {total} service ports: most likely one cause",
            expected="the entries that the objects ask for",
            observed=f"the entries of {len(ports)} of {total} service ports are not there",
            places=[
                ("ipset", name, known.line)
                for name in audit.sets_wanted
                if audit.rules.sets is not None and (known := audit.rules.sets.get(name)) is not None
            ],
            subject=f"most entries IPv{audit.family}",
        )
        return [leader, *(_following(one, leader) if id(one) in those else one for one in parts), *(_caused(of_entries, leader))]
    first: dict[tuple[str | None, str | None], Finding] = {}
    for one in lacking:
        first.setdefault(_port(one), one)
    return [*parts, *(replace(one, cause=first[_port(one)].fingerprint) if _port(one) in first else one for one in of_entries)]


def leading_addresses(audit: FamilyAudit, findings: Sequence[Finding], held: int) -> list[Finding]:
    """One finding for all addresses where kube-ipvs0 lacks most of them (RA111), and the others as its effects."""
    lacking = [one for one in findings if one.code == "RA111" and one.cause is None]
    total = len(audit.expectation.service_ports)
    if not _most(len(lacking), total):
        return list(findings)
    leader = audit.finding(
        "RA111",
        f"kube-ipvs0 lacks the addresses of {len(lacking)} of {total} service ports in IPv{audit.family}: most likely one cause, "
        f"first {lacking[0].service}",
        expected="an address on kube-ipvs0 for every virtual server that is no node port's",
        observed=f"{held} address{'' if held == 1 else 'es'} of IPv{audit.family} on kube-ipvs0",
        places=[("ip", where.text, where.line) for where in lacking[0].locations],
        subject=f"most addresses IPv{audit.family}",
    )
    those = {id(one) for one in lacking}
    return [leader, *(_following(one, leader) if id(one) in those else one for one in findings)]


def _following(one: Finding, leader: Finding) -> Finding:
    return replace(one, cause=leader.fingerprint)


def _caused(findings: Iterable[Finding], leader: Finding) -> list[Finding]:
    return [_following(one, leader) for one in findings]

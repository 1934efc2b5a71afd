"""From every rule that a packet matched to those that decided: what leads to nothing is left out, what wrote it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.checks.context import is_own
from ruleaudit.dataplane.ipvs import TABLE
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP, A_NONE, A_RETURN, BUILT_IN
from ruleaudit.trace.values import RuleUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.checks.context import FamilyAudit, RulePlace
    from ruleaudit.dataplane.ruleset import Entry, Ruleset
    from ruleaudit.dataplane.walk import Outcome

__all__ = ["Book", "deciding"]


class Book:
    """The lines of one family of a node, by place."""

    def __init__(self, audit: FamilyAudit) -> None:
        self.audit = audit
        self.rules: Ruleset = audit.rules
        self._entries: dict[tuple[str, str], dict[int, Entry]] = {}

    def entry(self, place: RulePlace) -> Entry | None:
        """The rule at a place, None where none stands there."""
        table, chain, line = place
        known = self._entries.get((table, chain))
        if known is None:
            known = self._entries[table, chain] = {one.line: one for one in self.rules.entries(table, chain)}
        return known.get(line)

    def use(self, place: RulePlace) -> RuleUse | None:
        """The line at a place; of line 0, the chain's declaration with its policy. None where no input holds it."""
        table, chain, line = place
        listing = self.audit.listings.get(table)
        if listing is not None:
            if not 0 < line < len(listing.shapes):
                return None
            return RuleUse(listing.path, line, table, chain, listing.text(line))
        known = self.rules.chains(table).get(chain)
        if known is None or not self.rules.has_table(table):
            return None
        dump = self.rules.dump_of(table, chain)
        number = line or known.line
        if number <= 0:
            return None
        return RuleUse(
            dump.path, number, table, chain, dump.text(number), foreign=self._foreign(place) and line > 0, policy=line == 0
        )

    def _foreign(self, place: RulePlace) -> bool:
        """Whether other software wrote a rule: it neither stands in a chain of kube-proxy's nor jumps to one."""
        if is_own(place) or place[0] == TABLE:
            return False
        entry = self.entry(place)
        return entry is None or not is_own((place[0], entry.target, 0))


def deciding(book: Book, outcome: Outcome) -> tuple[RuleUse, ...]:
    """The rules that decided an outcome, in order.

    Of all that matched: targets that change the packet or end its way, the jumps that lead there, and returns that kept it from what stands
    behind them. Jumps that came back without effect are left out, as is kube-proxy's own return for what it does not masquerade.
    """
    places = _effective(book, outcome.trail)
    if outcome.final_rule is not None and outcome.final_rule not in places:
        places.append(outcome.final_rule)
    uses = (book.use(place) for place in places)
    return tuple(one for one in uses if one is not None)


def _effective(book: Book, trail: Sequence[RulePlace]) -> list[RulePlace]:
    kept: list[RulePlace] = []
    open_jumps: list[tuple[RulePlace, str, bool]] = []  # (jump, the chain that it leads to, whether it is kept already)

    def keep(place: RulePlace) -> None:
        for number, (jump, chain, done) in enumerate(open_jumps):
            if not done:
                kept.append(jump)
                open_jumps[number] = (jump, chain, True)
        kept.append(place)

    for place in trail:
        table, chain, _ = place
        if chain in BUILT_IN.get(table, ()) or table == TABLE:
            open_jumps.clear()
        while open_jumps and open_jumps[-1][1] != chain:
            open_jumps.pop()
        entry = book.entry(place)
        if entry is None:
            keep(place)
        elif entry.action in (A_JUMP, A_GOTO):
            open_jumps.append((place, entry.target, False))
        elif entry.action == A_RETURN:
            if chain != "KUBE-POSTROUTING":
                keep(place)
        elif entry.action != A_NONE or entry.plan.tests.remember is not None:
            keep(place)
    return kept

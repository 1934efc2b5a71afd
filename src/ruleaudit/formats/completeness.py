"""Whether a table is there as a whole, or only what grep, sed, tail, sort or `iptables -S CHAIN` left of it.

The parser takes lines as they come; here is asked whether iptables-save can have printed them. It prints for every table `*table`,
then all its chains, then their rules, then COMMIT (iptables/iptables-save.c, do_output; iptables/nft-cmd.c, nft_cmd_save). A chain
that holds rules is therefore always declared, and no declaration follows a rule. `iptables -S` prints a line for each built-in
chain of the table (iptables/iptables.c, list_rules; since nft creates these when they are first used, xtables-nft.c prints the
missing ones as well).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.dumps.rules import LineKind

if TYPE_CHECKING:
    from ruleaudit.dumps.rules import Table

__all__ = ["BUILT_IN", "Gap", "gap_of"]

BUILT_IN: Final[dict[str, frozenset[str]]] = {
    "raw": frozenset(("PREROUTING", "OUTPUT")),
    "mangle": frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
    "nat": frozenset(("PREROUTING", "OUTPUT", "POSTROUTING")),  # INPUT came with Linux 2.6.36
    "filter": frozenset(("INPUT", "FORWARD", "OUTPUT")),
    "security": frozenset(("INPUT", "FORWARD", "OUTPUT")),
}
"""The chains that every listing of a table shows."""
_WHOLE: Final = "give the whole output of `iptables-save` as it is"


class Gap(NamedTuple):
    """What shows that lines of a table are missing or were moved: the line that shows it, and a message for the reader."""

    line: int
    message: str


def gap_of(table: Table) -> Gap | None:
    """Why a table cannot be what iptables-save or `iptables -S` printed; None where nothing speaks against it.

    A table that only lacks its end (its COMMIT) is none of these: the parser reports it itself.
    """
    first_rule = min((chain.lines[0] for chain in table.chains.values() if chain.lines), default=None)
    undeclared = min(
        ((chain.lines[0], chain.name) for chain in table.chains.values() if chain.lines and chain.line == 0), default=None
    )
    if not table.inferred:
        late = min(
            ((chain.line, chain.name) for chain in table.chains.values() if first_rule is not None and chain.line > first_rule),
            default=None,
        )
        if late is not None:
            line, name = late
            return Gap(
                line,
                f"chain {name} is declared behind the rules of table {table.name}, where `iptables-save` never declares one: the"
                f" lines were sorted or moved, and it is their order that decides; {_WHOLE}",
            )
        return None if undeclared is None else _undeclared(*undeclared)
    listed = {chain.name for chain in table.chains.values() if chain.policy is not None}
    missing = BUILT_IN.get(table.name, frozenset()) - listed
    if not missing:
        return None
    if undeclared is not None:
        return _undeclared(*undeclared)
    names = ", ".join(sorted(missing))
    if table.dump.shapes[table.line].kind is LineKind.CHAIN:
        return Gap(
            table.line,
            f"these lines have no `*table` before them and declare none of the chains that every table has ({names}): they are a"
            f" part of a dump, as grep, sed or tail leave it; {_WHOLE}",
        )
    return Gap(
        table.line,
        f"these lines do not list the built-in chains {names}, as `iptables -S` of a whole table does: they are a listing of"
        f" single chains or a part of a dump; {_WHOLE}",
    )


def _undeclared(line: int, name: str) -> Gap:
    return Gap(
        line,
        f"chain {name} holds this rule, and no line before it declares the chain, as `iptables-save` always does: lines are missing"
        f" or were moved, as by grep, sed, tail or sort; {_WHOLE}",
    )

"""The faithful model of an iptables dump: every line, its fields and its position; rendering it gives the input back.

A line is a *shape* (its flags, module names, blanks and quotes, shared by every line that looks alike) and the line's own
*values*. What is asked of a shape is worked out once however many lines have it, and text is always rendered from shape and
values, never from a kept copy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Argument",
    "Backend",
    "Chain",
    "ChainText",
    "Dump",
    "Family",
    "LineKind",
    "MatchShape",
    "Option",
    "Problem",
    "Rule",
    "Shape",
    "Table",
    "TargetShape",
    "unescape",
]

Family: TypeAlias = Literal[4, 6]
Backend: TypeAlias = Literal["legacy", "nf_tables"]

_ESCAPED = re.compile(r"\\([\s\S])")


def unescape(text: str) -> str:
    r"""The meaning of the inside of a quoted value: `\x` stands for `x` (libxtables, xtables_save_string)."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


class LineKind(Enum):
    """What a line of a dump is."""

    TABLE = "table"
    CHAIN = "chain"
    RULE = "rule"
    COMMIT = "commit"
    COMMENT = "comment"
    BLANK = "blank"
    POLICY = "policy"
    """`-P CHAIN POLICY`, as `iptables -S` prints it."""
    NEW_CHAIN = "new chain"
    """`-N CHAIN`, as `iptables -S` prints it."""
    FOREIGN = "foreign"
    """The message of a tool that got into the dump."""
    CONTINUATION = "continuation"
    """The rest of a quoted value that holds newlines: its text belongs to the line above."""
    UNPARSED = "unparsed"
    """A line that the format does not allow: its only value is its text."""


class Option(NamedTuple):
    """One option as printed: `flag` with its dashes, whether `!` stands before or after it, the slots of its values."""

    flag: str
    negated: bool
    slots: tuple[int, ...]


class MatchShape(NamedTuple):
    """One match with its options. Without `-m` (`-p tcp --dport 80`) it is that of the rule's protocol."""

    module: str
    options: tuple[Option, ...]


class TargetShape(NamedTuple):
    """`-j` or, with `goto`, `-g`. With options the target's `name` is part of the shape, else it is the value in `name_slot`."""

    name: str | None
    name_slot: int | None
    goto: bool
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A line without its values. There is one object per distinct shape, so shapes are compared by identity.

    `pieces` is the literal text around the slots, one more than there are slots (quotes belong to the pieces); `quoted` tells for
    each slot whether it stands in quotes. `chain_slot` holds the chain's name (of a table line: the table's), `policy_slot` a
    chain's policy, `counter_slots` packets and bytes. `options` are the rule's own (`-s -d -i -o -p -f -c`), in order. `pattern`
    matches a whole line of this shape, one group per slot.
    """

    kind: LineKind
    pieces: tuple[str, ...]
    quoted: tuple[bool, ...]
    chain_slot: int | None
    policy_slot: int | None
    counter_slots: tuple[int, int] | None
    options: tuple[Option, ...]
    matches: tuple[MatchShape, ...]
    target: TargetShape | None
    pattern: re.Pattern[str]
    template: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", "%s".join(piece.replace("%", "%%") for piece in self.pieces))

    def render(self, values: tuple[str, ...]) -> str:
        """The line with these values: one for each slot, as it stands in a dump (escaped where the slot is quoted)."""
        return self.template % values


class Argument(NamedTuple):
    """What a rule gives to one option: whether it is negated, and its values, unescaped."""

    negated: bool
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule line of a dump. `values` are the raw texts of the shape's slots: inside of the quotes, still escaped."""

    dump: Dump = field(repr=False, compare=False)
    line: int
    shape: Shape
    values: tuple[str, ...]

    @property
    def chain(self) -> str:
        """The chain that the rule belongs to."""
        slot = self.shape.chain_slot
        return "" if slot is None else self.values[slot]

    @property
    def matches(self) -> tuple[MatchShape, ...]:
        """The rule's matches, in the order in which the kernel asks them."""
        return self.shape.matches

    @property
    def target_name(self) -> str | None:
        """What follows `-j` or `-g`: a target, a verdict or a chain; None for a rule that only counts."""
        target = self.shape.target
        if target is None or target.name_slot is None:
            return None if target is None else target.name
        return self.values[target.name_slot]

    @property
    def goto(self) -> bool:
        """Whether the target is entered by `-g`: it then returns to the caller of this chain."""
        return self.shape.target is not None and self.shape.target.goto

    @property
    def comment(self) -> str | None:
        """The rule's comment, unescaped; the first one where there are several, None where there is none."""
        found = self.option("--comment", "comment")
        return found.values[0] if found is not None and found.values else None

    @property
    def counters(self) -> tuple[int, int] | None:
        """Packets and bytes, where the dump was made with `-c` or `-v`."""
        slots = self.shape.counter_slots
        return None if slots is None else (int(self.values[slots[0]]), int(self.values[slots[1]]))

    @property
    def text(self) -> str:
        """The rule as the dump prints it, rendered from its fields."""
        return self.shape.render(self.values).rstrip("\r")

    def option(self, flag: str, module: str | None = None) -> Argument | None:
        """What the rule gives to `flag`: in the matches of `module`, or, without one, itself, in its matches or its target."""
        shape = self.shape
        groups = [match.options for match in shape.matches if module is None or match.module == module]
        if module is None:
            groups.insert(0, shape.options)
            if shape.target is not None:
                groups.append(shape.target.options)
        for options in groups:
            for option in options:
                if option.flag == flag:
                    return Argument(option.negated, tuple(self._meaning(slot) for slot in option.slots))
        return None

    def _meaning(self, slot: int) -> str:
        return unescape(self.values[slot]) if self.shape.quoted[slot] else self.values[slot]

    def replace(self, slot: int, text: str) -> Rule:
        """The same rule with another raw value in one slot. ValueError where the line would then no longer be of this shape."""
        values = (*self.values[:slot], text, *self.values[slot + 1 :])
        found = self.shape.pattern.fullmatch(self.shape.render(values))
        if found is None or found.groups() != values:
            raise ValueError(f"{text!r} cannot stand in slot {slot} of {self.text!r}")
        return Rule(self.dump, self.line, self.shape, values)


class Problem(NamedTuple):
    """Something about a dump that its reader must know: the 1-based line, a kind and a message.

    Kinds of problems: "unparsable", "stray" (outside of any table), "truncated", "redeclared". Kinds of
    notes: "inferred-table", "message" (of a tool).
    """

    line: int
    kind: str
    message: str


class ChainText(msgspec.Struct, eq=False, gc=False):
    """All rules of one chain, as dumps of several nodes have them in the same words: one object for them all.

    `shapes` and `values` are those of its lines. `facts`: what was worked out of the text alone, by what it is; whoever keeps something
    there may look at nothing else, neither at other chains nor at where the text stands.
    """

    name: str
    shapes: tuple[Shape, ...]
    values: tuple[tuple[str, ...], ...]
    facts: dict[str, Any] = {}


class Chain(msgspec.Struct, eq=False, gc=False):
    """One chain of a table. `policy` is None for user chains and where it is not known; `line` is 0 when it was never declared.

    `lines` are the line numbers of its rules in order. `text`: these rules as other nodes have them, too; None where that is not known.
    """

    name: str
    policy: str | None
    line: int
    lines: list[int] | range = []
    text: ChainText | None = None
    again: list[int] | None = None  # rare, and there are 100,000 chains

    def further(self) -> list[int]:
        """`lines`, to have those of further rules added: what is known of them together does not hold then."""
        self.text = None
        if isinstance(self.lines, range):
            self.lines = list(self.lines)
        return self.lines

    @property
    def redeclared(self) -> list[int]:
        """The line numbers of further declarations."""
        return self.again or []

    def redeclare(self, line: int) -> None:
        """Note a further declaration."""
        if self.again is None:
            self.again = []
        self.again.append(line)

    def __repr__(self) -> str:
        return f"Chain({self.name!r}, policy={self.policy!r}, line={self.line}, rules={len(self.lines)})"


@dataclass(slots=True, eq=False)
class Table:
    """One table of a dump.

    `backend` is None where the header does not tell; `tool` is the tool and its version as the header names them; `generated` the
    header's date, local time without a zone; `line` that of `*name`, or of the first line where the table had to be inferred
    (`iptables -S` names none), which `inferred` says; `commit_line` is None without a COMMIT. `partial` is for who finds that lines
    are missing or were moved (`formats.completeness`); the parser leaves it False.
    """

    name: str
    family: Family
    backend: Backend | None
    tool: str | None
    generated: str | None
    line: int
    commit_line: int | None
    chains: dict[str, Chain]
    dump: Dump = field(repr=False)
    inferred: bool = False
    partial: bool = False


@dataclass(slots=True, eq=False)
class Dump:
    """A dump as it was read. `shapes` and `values` are indexed by line number: index 0 is a dummy, line numbers are 1-based."""

    path: str
    shapes: list[Shape] = field(repr=False)
    values: list[tuple[str, ...]] = field(repr=False)
    tables: list[Table]
    problems: list[Problem]
    notes: list[Problem]
    final_newline: bool

    @property
    def line_count(self) -> int:
        """How many lines the input has."""
        return len(self.shapes) - 1

    def text(self, line: int) -> str:
        """A line as the input has it, without its line end. A value that holds newlines is given whole, on its first line."""
        return self.shapes[line].render(self.values[line]).rstrip("\r")

    def rule(self, line: int) -> Rule:
        """The rule of a line. ValueError when the line is none."""
        shape = self.shapes[line]
        if shape.kind is not LineKind.RULE:
            raise ValueError(f"{self.path}:{line} is no rule but a {shape.kind.value} line")
        return Rule(self, line, shape, self.values[line])

    def rules(self) -> Iterator[Rule]:
        """Every rule of the dump in the order of its lines, those outside of any table too."""
        for line, shape in enumerate(self.shapes):
            if shape.kind is LineKind.RULE:
                yield Rule(self, line, shape, self.values[line])

    def render(self) -> str:
        """The whole input, byte for byte."""
        lines = [
            shape.template % values
            for shape, values in zip(self.shapes, self.values, strict=True)
            if shape.kind is not LineKind.CONTINUATION
        ]
        return "\n".join(lines[1:]) + ("\n" if self.final_newline else "")

"""Text read line by line without loss: each line is a shape, shared by every line that looks alike, and its own values.

What `ruleaudit.dumps.rules` is for iptables dumps, this is for the other dumps of a node: `ruleaudit.dumps.virtual_servers`,
`ruleaudit.dumps.ip_sets` and `ruleaudit.dumps.interfaces` say what such lines mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import re

    from ruleaudit.dumps.rules import Problem

__all__ = ["BLANK", "UNPARSED", "LineShape", "Lines", "Part"]

BLANK = "blank"
"""The kind of a line without anything."""
UNPARSED = "unparsed"
"""The kind of a line that the format does not allow: its only value is its text."""


class Part(NamedTuple):
    """One token of a line: the grammar's terminal, and either its text (it is the same in all lines of the shape) or its slot."""

    name: str
    text: str | None
    slot: int | None


@dataclass(frozen=True, slots=True, eq=False)
class LineShape:
    """A line without its values. There is one object per distinct shape, so shapes are compared by identity.

    `kind` is the name of the grammar's rule, or one of BLANK and UNPARSED. `pieces` is the literal text around the slots, one more
    than there are slots; `parts` are the tokens in order. `pattern` matches a whole line of this shape, one group per slot.
    """

    kind: str
    pieces: tuple[str, ...]
    parts: tuple[Part, ...]
    pattern: re.Pattern[str]
    template: str = field(init=False, repr=False)
    slots: dict[str, int] = field(init=False, repr=False)
    """The first slot of each terminal that has one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", "%s".join(piece.replace("%", "%%") for piece in self.pieces))
        slots: dict[str, int] = {}
        for part in self.parts:
            if part.slot is not None:
                slots.setdefault(part.name, part.slot)
        object.__setattr__(self, "slots", slots)

    def render(self, values: tuple[str, ...]) -> str:
        """The line with these values, one for each slot."""
        return self.template % values

    def literal(self, name: str) -> str | None:
        """The text of the first token of a terminal whose text belongs to the shape; None where the line has none."""
        return next((part.text for part in self.parts if part.name == name), None)


@dataclass(slots=True, eq=False)
class Lines:
    """A text as it was read. `shapes` and `values` are indexed by line number: index 0 is a dummy, line numbers are 1-based.

    `problems` are lines that the format does not allow and parts that are missing; `notes` are messages of tools.
    """

    path: str
    shapes: list[LineShape] = field(repr=False)
    values: list[tuple[str, ...]] = field(repr=False)
    problems: list[Problem]
    notes: list[Problem]
    final_newline: bool

    @property
    def line_count(self) -> int:
        """How many lines the input has."""
        return len(self.shapes) - 1

    def value(self, line: int, name: str) -> str | None:
        """The value of a line for a terminal of the grammar, without blanks around it; None where the line has none."""
        slot = self.shapes[line].slots.get(name)
        return None if slot is None else self.values[line][slot].strip()

    def text(self, line: int) -> str:
        """A line as the input has it, without its line end."""
        return self.shapes[line].render(self.values[line]).rstrip("\r")

    def render(self) -> str:
        """The whole input, byte for byte."""
        lines = [shape.template % values for shape, values in zip(self.shapes, self.values, strict=True)]
        return "\n".join(lines[1:]) + ("\n" if self.final_newline else "")

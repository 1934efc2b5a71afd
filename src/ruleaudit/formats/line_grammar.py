"""Lines of a dump to shapes and values, by a grammar of single lines and, for the many that look alike, by patterns made from it.

The same way as `iptables_save` goes, for formats in which a line stands for itself. The grammar reads the first line of each shape;
from that parse comes a pattern with one group per value, and every further line of the shape only has its values picked out by it.
What no pattern places goes to the grammar. A value of a padded column has the blanks before it, so that padding makes no shapes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dumps.lines import BLANK, UNPARSED, Lines, LineShape, Part
from ruleaudit.dumps.rules import Problem
from ruleaudit.errors import InputError
from ruleaudit.grammar_files import grammar_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lark import Lark, Token

__all__ = ["MAX_GRAMMAR_CHARACTERS", "MAX_LINES", "MAX_LINE_LENGTH", "LineGrammar", "mark_unparsed"]

MAX_LINES = 3_000_000
"""More lines than this are refused."""
MAX_LINE_LENGTH = 16_384
"""A longer line is not read."""
MAX_GRAMMAR_CHARACTERS = 5_000_000
"""How much text the grammar reads before the input is refused: a dump has some dozens of line shapes, so this is no dump."""
_MAX_SUCCESSORS = 6
_MAX_CANDIDATES = 64
_MAX_SHAPES_KEPT = 5_000
_KEY = 4
"""How many first characters of a line tell which known shapes are tried."""

_NEVER = re.compile("(?!)")
_FILLER = LineShape(BLANK, ("",), (), _NEVER)
_EMPTY = LineShape(BLANK, ("",), (), re.compile(""))
_UNPARSED = LineShape(UNPARSED, ("", ""), (Part("TEXT", None, 0),), re.compile(r"([^\n]*)"))


class _RefusedError(Exception):
    """The grammar does not allow a line: the message says where."""


class _Known:
    """A shape with what followed it: `likely` last time, `successors` lately."""

    __slots__ = ("likely", "match", "shape", "successors")

    def __init__(self, shape: LineShape) -> None:
        self.shape = shape
        self.match = shape.pattern.fullmatch
        self.likely = self
        self.successors: list[_Known] = []

    def remember(self, successor: _Known) -> None:
        self.likely = successor
        successors = self.successors
        if successor in successors:
            successors.remove(successor)
        successors.insert(0, successor)
        del successors[_MAX_SUCCESSORS:]


class _Compiled(NamedTuple):
    parser: Lark
    patterns: dict[str, str]
    """Terminal to the regular expression of its value."""


class LineGrammar:
    """A grammar of single lines, and every shape that was met so far.

    `file` is its name in `grammars`; terminals in `literals` belong to a line's shape, all others that the grammar keeps are values;
    `advice` is the command that messages name where an input is not what was expected.
    """

    def __init__(self, file: str, literals: frozenset[str], advice: str) -> None:
        self._file = file
        self._literals = literals
        self._advice = advice
        self._compiled: _Compiled | None = None
        self._by_structure: dict[tuple[str, tuple[str, ...], str], _Known] = {}
        self._by_start: dict[str, list[_Known]] = {}

    @property
    def origin(self) -> object:
        """Where shapes come from now: those of another origin are not the same objects for the same shapes."""
        return self._by_structure

    def place(self, text: str, path: str, *, by_grammar: bool = False) -> Lines:
        """Every line of a text. Lines that the format does not allow are problems, of kind "truncated" where the input ends in one.

        `by_grammar` sends every line through the grammar: the reference in the tests. Raises InputError for more than MAX_LINES
        lines, and for text of which the grammar would have to read too much.
        """
        count = text.count("\n") + 1
        if count > MAX_LINES:
            raise InputError(f"{count:,} lines are more than a dump can have ({MAX_LINES:,})", path)
        if len(self._by_structure) > _MAX_SHAPES_KEPT:
            self._by_structure, self._by_start = {}, {}
        rows = text.split("\n")
        final_newline = rows[-1] == ""
        if final_newline:
            rows.pop()
        lines = Lines(path, [_FILLER], [()], [], [], final_newline and bool(rows))
        before = 0 if by_grammar else len(text) - len(text.lstrip("\n"))
        before = min(before, len(rows))
        if before:  # a part of a stream has as many of these as lines stand before it
            empty = self._intern(_EMPTY)
            lines.shapes.extend([empty.shape] * before)
            lines.values.extend([()] * before)
        self._place(lines, rows[before:] if before else rows, by_grammar=by_grammar)
        if lines.problems and not lines.final_newline and lines.problems[-1].line == lines.line_count:
            last = lines.problems[-1]
            message = f"the input ends within a line ({last.message}): it was cut here; take it again"
            lines.problems[-1] = Problem(last.line, "truncated", message)
        return lines

    def _place(self, lines: Lines, rows: list[str], *, by_grammar: bool) -> None:
        add_shape, add_values = lines.shapes.append, lines.values.append
        if max(map(len, rows), default=0) > MAX_LINE_LENGTH:
            rows = [row if len(row) <= MAX_LINE_LENGTH else f"\n{row}" for row in rows]  # which no pattern matches
        shared: dict[str, str] = {}
        share = shared.setdefault
        read = 0
        known = _Known(_FILLER)
        for row in rows:
            previous = known
            known = known.likely
            found = None if by_grammar else known.match(row)
            if found is None:
                placed = None if by_grammar else self._find(row, previous)
                if placed is None:
                    read += min(len(row), MAX_LINE_LENGTH) + 100
                    number = len(lines.shapes)
                    if read > MAX_GRAMMAR_CHARACTERS and not by_grammar:
                        raise InputError(
                            f"too many lines are alike to no other or cannot be read ({len(lines.problems):,} unreadable ones so"
                            f" far): this is not the output of {self._advice}; take it again",
                            lines.path,
                            number,
                        )
                    known = self._place_by_grammar(lines, row.removeprefix("\n"), number) or previous
                    if known is not previous:
                        previous.remember(known)
                    continue
                known, found = placed
                previous.remember(known)
            add_shape(known.shape)
            groups = found.groups()
            add_values(tuple(map(share, groups, groups)))  # most values of a dump are in it many times

    def _find(self, row: str, previous: _Known) -> tuple[_Known, re.Match[str]] | None:
        for successor in previous.successors:
            found = successor.match(row)
            if found is not None:
                return successor, found
        for candidate in self._by_start.get(row[:_KEY], ()):
            found = candidate.match(row)
            if found is not None:
                return candidate, found
        return None

    def _place_by_grammar(self, lines: Lines, row: str, number: int) -> _Known | None:
        try:
            if len(row) > MAX_LINE_LENGTH:
                raise _RefusedError(f"the line has {len(row):,} characters: longer ones than {MAX_LINE_LENGTH:,} are not read")
            shape, values = self._read(row)
        except _RefusedError as error:
            lines.problems.append(Problem(number, "unparsable", str(error)))
            lines.shapes.append(_UNPARSED)
            lines.values.append((row,))
            return None
        known = self._intern(shape)
        candidates = self._by_start.setdefault(row[:_KEY], [])
        if known not in candidates and len(candidates) < _MAX_CANDIDATES:
            candidates.insert(0, known)
        lines.shapes.append(known.shape)
        lines.values.append(values)
        return known

    def _intern(self, shape: LineShape) -> _Known:
        """The one object for this shape."""
        return self._by_structure.setdefault((shape.kind, shape.pieces, shape.pattern.pattern), _Known(shape))

    def _grammar(self) -> _Compiled:
        if self._compiled is None:
            from lark import Lark  # where a line needs it: it takes 60 ms

            parser = Lark(grammar_text(self._file), parser="lalr", lexer="contextual", maybe_placeholders=False)
            patterns = {terminal.name: terminal.pattern.to_regexp() for terminal in parser.terminals}
            self._compiled = _Compiled(parser, patterns)
        return self._compiled

    def _read(self, row: str) -> tuple[LineShape, tuple[str, ...]]:
        """One line through the grammar. Raises _RefusedError."""
        from lark.exceptions import UnexpectedInput, UnexpectedToken

        grammar = self._grammar()
        try:
            tree = grammar.parser.parse(row)
        except UnexpectedInput as error:
            if isinstance(error, UnexpectedToken) and error.token.type == "$END":
                raise _RefusedError("the line ends too early: a value is missing") from error
            at = error.pos_in_stream or 0  # type: ignore[redundant-expr]  # lark leaves it None at the end of the line
            shown = row[at : at + 30] + ("…" if len(row) > at + 30 else "")
            raise _RefusedError(f"the format does not allow {shown!r} at column {at + 1}") from error
        child = tree.children[0] if tree.children else None
        kind = BLANK if child is None or isinstance(child, str) else str(child.data)
        return self._shape(kind, row, tree.scan_values(lambda token: isinstance(token, str)))

    def _shape(self, kind: str, row: str, tokens: Iterable[Token]) -> tuple[LineShape, tuple[str, ...]]:
        parts: list[Part] = []
        spans: list[tuple[int, int]] = []
        patterns: list[str] = []
        for token in sorted(tokens, key=lambda token: token.start_pos or 0):
            start, end = token.start_pos, token.end_pos
            if start is None or end is None:
                raise AssertionError("a token without its position")
            if token.type in self._literals:
                parts.append(Part(token.type, str(token), None))
                continue
            parts.append(Part(token.type, None, len(spans)))
            spans.append((start, end))
            patterns.append(self._grammar().patterns[token.type])
        edges = [0, *(edge for span in spans for edge in span), len(row)]
        pieces = tuple(row[edges[at] : edges[at + 1]] for at in range(0, len(edges), 2))
        regex = re.escape(pieces[0]) + "".join(
            f"({pattern}){re.escape(piece)}" for pattern, piece in zip(patterns, pieces[1:], strict=True)
        )
        return LineShape(kind, pieces, tuple(parts), re.compile(regex)), tuple(row[start:end] for start, end in spans)


def mark_unparsed(lines: Lines, line: int, message: str, kind: str = "unparsable") -> None:
    """Take a line for one that the format does not allow: for values that the grammar cannot judge. In a line without end it was cut."""
    if kind == "unparsable" and line == lines.line_count and not lines.final_newline:
        kind, message = "truncated", f"the input ends within a line ({message}): it was cut here; take it again"
    text = lines.shapes[line].render(lines.values[line])
    lines.problems.append(Problem(line, kind, message))
    lines.shapes[line] = _UNPARSED
    lines.values[line] = (text,)

"""iptables-save and `iptables -S` text to the faithful model (`ruleaudit.dumps.rules`), at the speed of a few regular expressions.

The grammar (`iptables_save.lark`) is the authority. It reads the first line of each shape; from that parse comes a pattern with
one group per value, and every further line of the shape only has its values picked out by it. Which shape to try comes from the
line before: what followed a line of its shape last time most likely follows again. Whatever no pattern places goes to the
grammar: there is no third way.

The pattern of a shape matches exactly the lines that the grammar gives this shape: literal text is literal, a bare value never
begins with `-` or `!`, a quoted value ends at its quote, and both are the very terminals of the grammar. So no line fits two
shapes, and the order in which shapes are tried has no meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from itertools import chain as chained
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ruleaudit.collector import without_collection
from ruleaudit.dumps.rules import (
    Backend,
    Chain,
    ChainText,
    Dump,
    Family,
    LineKind,
    MatchShape,
    Option,
    Problem,
    Shape,
    Table,
    TargetShape,
)
from ruleaudit.errors import RAISE_LIMIT, InputError
from ruleaudit.formats.iptables_values import damaged_values, kinds_of, option_without_value
from ruleaudit.formats.known_texts import Run
from ruleaudit.grammar_files import grammar_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lark import Lark, Token, Tree

    from ruleaudit.formats.known_texts import KnownChains

__all__ = ["MAX_GRAMMAR_CHARACTERS", "MAX_LINES", "MAX_LINE_LENGTH", "parse", "parse_with_grammar"]

MAX_LINES = 1_000_000
"""More lines than this are refused: when no two are alike they take 1.8 GB. The largest node seen has 470,000."""
MAX_LINE_LENGTH = 16_384
"""A longer line is not read. iptables-restore itself takes 10,240 characters (iptables-restore.c, `buffer`)."""
MAX_GRAMMAR_CHARACTERS = 5_000_000
"""How much text the grammar reads before the input is refused: a dump has some dozens of line shapes, so this is no dump."""

_MAX_JOINED = 512
"""The longest quoted value that may span lines: 255 characters of a comment, each escaped (xt_comment.h)."""
_MAX_SUCCESSORS = 6
_MAX_CANDIDATES = 16
_MAX_SHAPES_KEPT = 5_000

Values: TypeAlias = tuple[str, ...]


# --- One line through the grammar ---


class _RefusedError(Exception):
    """The grammar does not allow a line; the message says where."""


class _Grammar(NamedTuple):
    parser: Lark
    slots: dict[str, str]
    """Terminal name to the regular expression of the value that it holds."""


_QUOTED_END = '"(?![^ \t\r])'


@cache
def _grammar() -> _Grammar:
    from lark import Lark  # where a line needs it: it takes 60 ms

    parser = Lark(grammar_text("iptables_save.lark"), parser="lalr", lexer="contextual", maybe_placeholders=False)
    slots = {
        name: parser.get_terminal(name).pattern.to_regexp()
        for name in ("WORD", "TEXT", "NAME", "TABLE", "POLICY", "DIGITS", "QUOTED", "COMMENT", "MESSAGE")
    }
    quoted = slots["QUOTED"]
    if not (quoted.startswith('"') and quoted.endswith(_QUOTED_END)):
        raise AssertionError("the terminal QUOTED no longer begins and ends with its quotes")
    slots["QUOTED"] = quoted[1 : -len(_QUOTED_END)]
    return _Grammar(parser, slots)


def _tree_of(line: str) -> Tree[Token]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    try:
        return _grammar().parser.parse(line)
    except UnexpectedInput as error:
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            raise _RefusedError("the line ends too early: a value is missing") from error
        at = error.pos_in_stream or 0  # type: ignore[redundant-expr]  # lark leaves it None at the end of the line
        if isinstance(error, UnexpectedCharacters | UnexpectedToken):
            shown = line[at : at + 30] + ("…" if len(line) > at + 30 else "")
            raise _RefusedError(f"the format does not allow {shown!r} at column {at + 1}") from error
        raise _RefusedError("the format does not allow this line") from error


_IMPLIED_MODULES = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "33": "dccp",
    "58": "icmp6",
    "132": "sctp",
    "136": "udplite",
    "icmpv6": "icmp6",
    "ipv6-icmp": "icmp6",
}
"""The match that `-p PROTOCOL` loads, where it is not named like the protocol (iptables/xshared.c, load_proto)."""


class _Builder:
    """One parse tree to a shape: collects slots from left to right, then the text between them is the rest."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.spans: list[tuple[int, int]] = []
        self.patterns: list[str] = []
        self.quoted: list[bool] = []
        self.chain_slot: int | None = None
        self.policy_slot: int | None = None
        self.counter_slots: tuple[int, int] | None = None
        self.options: list[Option] = []
        self.matches: list[tuple[str, list[Option]]] = []
        self.target: TargetShape | None = None
        self._protocol: tuple[str, int] | None = None

    def slot(self, token: Token) -> int:
        """A new slot for the value of a token."""
        start, end = token.start_pos, token.end_pos
        if start is None or end is None:
            raise AssertionError("a token without its position")
        quoted = token.type == "QUOTED"
        self.spans.append((start + 1, end - 1) if quoted else (start, end))
        self.patterns.append(_grammar().slots[token.type])
        self.quoted.append(quoted)
        return len(self.spans) - 1

    def counters(self, tokens: Iterable[Token | Tree[Token]]) -> None:
        packets, octets = (self.slot(token) for token in _tokens(tokens) if token.type == "DIGITS")
        self.counter_slots = (packets, octets)

    def rule(self, parts: list[Token | Tree[Token]]) -> None:
        for part in parts:
            if isinstance(part, str):
                self.chain_slot = self.slot(part)
            elif part.data == "counters":
                self.counters(part.children)
            elif part.data == "own":
                self._own(part.children)
            elif part.data == "match":
                module, *options = part.children
                self.matches.append((str(module), []))
                self.matches[-1][1].extend(self._option(option) for option in options)
            else:
                self._target(part.children)

    def _own(self, children: list[Token | Tree[Token]]) -> None:
        tokens = list(_tokens(children))
        negated, flag = _flag(tokens[0])
        values = [token for token in tokens[1:] if token.type != "NOT"]
        slots = tuple(self.slot(token) for token in values)
        self.options.append(Option(flag, negated or len(values) < len(tokens) - 1, slots))
        if tokens[0].type == "COUNTERS":
            self.counter_slots = (slots[0], slots[1])
        if flag in ("-p", "--protocol", "--proto"):
            self._protocol = (str(values[0]), slots[0])
        implied = [child for child in children if not isinstance(child, str)]
        if implied:
            options = self._implied(implied[0].children[0])
            options.extend(self._option(option) for option in implied)

    def _implied(self, flag: object) -> list[Option]:
        """Where a long option after one of the rule's own belongs. That depends on the protocol: it joins the shape."""
        if self._protocol is None:
            if not self.matches:
                raise _RefusedError(f"{flag} belongs to no match: neither -m nor -p stands before it")
            return self.matches[-1][1]
        name, slot = self._protocol
        self.patterns[slot] = re.escape(name)
        module = _IMPLIED_MODULES.get(name.lower(), name.lower())
        for known, options in self.matches:
            if known == module:
                return options
        self.matches.append((module, []))
        return self.matches[-1][1]

    def _option(self, part: Token | Tree[Token]) -> Option:
        if isinstance(part, str):
            raise AssertionError("an option is a subtree")
        tokens = list(_tokens(part.children))
        negated, flag = _flag(tokens[0])
        values = [token for token in tokens[1:] if token.type != "NOT"]
        return Option(flag, negated or len(values) < len(tokens) - 1, tuple(self.slot(token) for token in values))

    def _target(self, children: list[Token | Tree[Token]]) -> None:
        if self.target is not None:
            raise _RefusedError("the rule has two targets")
        jump, name = _tokens(children)
        options = [child for child in children if not isinstance(child, str)]
        name_slot = None if options else self.slot(name)
        self.target = TargetShape(
            str(name) if options else None, name_slot, jump.type == "GOTO", tuple(self._option(option) for option in options)
        )

    def shape(self, kind: LineKind) -> tuple[Shape, Values]:
        """The shape of the line, and the line's values."""
        edges = [0, *(edge for span in self.spans for edge in span), len(self.line)]
        pieces = tuple(self.line[edges[at] : edges[at + 1]] for at in range(0, len(edges), 2))
        regex = re.escape(pieces[0]) + "".join(
            f"({pattern}){re.escape(piece)}" for pattern, piece in zip(self.patterns, pieces[1:], strict=True)
        )
        shape = Shape(
            kind=kind,
            pieces=pieces,
            quoted=tuple(self.quoted),
            chain_slot=self.chain_slot,
            policy_slot=self.policy_slot,
            counter_slots=self.counter_slots,
            options=tuple(self.options),
            matches=tuple(MatchShape(module, tuple(options)) for module, options in self.matches),
            target=self.target,
            pattern=re.compile(regex),
        )
        return shape, tuple(self.line[start:end] for start, end in self.spans)


def _tokens(children: Iterable[Token | Tree[Token]]) -> Iterator[Token]:
    return (child for child in children if isinstance(child, str))


def _flag(token: Token) -> tuple[bool, str]:
    text = str(token)
    return (True, text[1:].lstrip(" \t")) if text.startswith("!") else (False, text)


_LINE_KINDS = {
    "table": LineKind.TABLE,
    "chain": LineKind.CHAIN,
    "policy": LineKind.POLICY,
    "new_chain": LineKind.NEW_CHAIN,
    "rule": LineKind.RULE,
    "commit": LineKind.COMMIT,
    "comment": LineKind.COMMENT,
    "message": LineKind.FOREIGN,
}


def _read_line(line: str) -> tuple[Shape, Values]:
    """One line through the grammar. Raises _RefusedError."""
    tree = _tree_of(line)
    builder = _Builder(line)
    if not tree.children:
        return builder.shape(LineKind.BLANK)
    child = tree.children[0]
    if isinstance(child, str):
        raise AssertionError("every line is a rule of the grammar")
    kind = _LINE_KINDS[str(child.data)]
    if kind is LineKind.RULE:
        builder.rule(child.children)
        placed = builder.shape(kind)
        lacking = option_without_value(placed[0])
        if lacking is not None:
            raise _RefusedError(f"{lacking} has no value")
        return placed
    digits = []
    for part in child.children:
        if not isinstance(part, str):
            builder.counters(part.children)
        elif part.type in ("NAME", "TABLE"):
            builder.chain_slot = builder.slot(part)
        elif part.type == "POLICY":
            builder.policy_slot = builder.slot(part)
        else:
            slot = builder.slot(part)
            if part.type == "DIGITS":
                digits.append(slot)
    if digits:
        builder.counter_slots = (digits[0], digits[1])
    return builder.shape(kind)


# --- Shapes that are known ---


class _Known:
    """A shape with what followed it: `likely` last time, `successors` lately."""

    __slots__ = ("likely", "match", "shape", "successors")

    def __init__(self, shape: Shape, *, plain: bool = False) -> None:
        self.shape = shape
        self.match = _plainer(shape.pattern).fullmatch if plain else shape.pattern.fullmatch
        self.likely = self
        self.successors: list[_Known] = []


_SKELETON = re.compile(r'"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"|(?<![^ \t\r])(?<!-m )[^ \t\r"!-][^ \t\r]*+|[0-9]++')


def _plainer(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """The same pattern for texts without tabs and carriage returns: a class of one character less is matched by a third faster."""
    return re.compile(pattern.pattern.replace("[^ \t\r", "[^ "))


class _Shapes:
    """Every shape that was met, by its structure (one object each) and by its skeleton: the line without its values.

    `plain`: those of texts that hold no tab and no carriage return.
    """

    def __init__(self, *, plain: bool) -> None:
        self.plain = plain
        self._by_structure: dict[tuple[LineKind, tuple[str, ...], str], _Known] = {}
        self._by_skeleton: dict[str, list[_Known]] = {}

    def __len__(self) -> int:
        return len(self._by_structure)

    def candidates(self, line: str) -> list[_Known]:
        """The shapes that the line may have, the newest first. To be extended by `add`."""
        return self._by_skeleton.setdefault(_SKELETON.sub("", line), [])

    def intern(self, shape: Shape) -> _Known:
        """The one object for this shape."""
        key = (shape.kind, shape.pieces, shape.pattern.pattern)
        known = self._by_structure.get(key)
        if known is None:
            known = self._by_structure[key] = _Known(shape, plain=self.plain)
        return known


_shapes = {plain: _Shapes(plain=plain) for plain in (True, False)}
_NEVER = re.compile("(?!)")
_FILLER = Shape(LineKind.BLANK, ("",), (), None, None, None, (), (), None, _NEVER)
_CONTINUATION = Shape(LineKind.CONTINUATION, ("",), (), None, None, None, (), (), None, _NEVER)
_UNPARSED = Shape(LineKind.UNPARSED, ("", ""), (False,), None, None, None, (), (), None, re.compile(r"([^\n]*)"))


# --- Every line to its shape and values ---

_RULE_START = re.compile(r"[ \t]*+(?:\[[0-9]++:[0-9]++\][ \t]++)?-A[ \t]")
_TOKENS = re.compile(r'(?:[^ \t\r"][^ \t\r]*+|"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"(?![^ \t\r])|[ \t\r]++)*+')
_CLOSED = re.compile(r'"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"')
_SPLICED = re.compile(r"# Warning: ip|# Table [`'][a-z]++' is incompatible")


def _join(lines: list[str], at: int) -> tuple[str, int] | None:
    """A rule whose quoted value goes on in the next lines, as one text, and how many lines that takes; None when it does not."""
    text = lines[at]
    if not _RULE_START.match(text):
        return None
    start = _end_of_tokens(text, 0)
    end = at + 1
    while start < len(text) and text[start] == '"' and not _CLOSED.match(text, start):
        if end == len(lines) or len(text) - start > _MAX_JOINED or _SPLICED.search(text):
            return None
        text = f"{text}\n{lines[end]}"
        end += 1
        start = _end_of_tokens(text, start)
    return (text, end - at) if end > at + 1 and start == len(text) else None


def _end_of_tokens(text: str, start: int) -> int:
    found = _TOKENS.match(text, start)
    return start if found is None else found.end()


@dataclass(slots=True)
class _Lines:
    """Places the lines of one dump: what comes out are their shapes and values, and the problems of the lines that have none."""

    path: str
    lines: list[str]
    max_line_length: int
    known: _Shapes
    shapes: list[Shape] = field(default_factory=lambda: [_FILLER])
    values: list[Values] = field(default_factory=lambda: [()])
    problems: list[Problem] = field(default_factory=list)
    grammar_characters: int = 0

    def place_all(self) -> None:
        """The fast way."""
        add_shape, add_values = self.shapes.append, self.values.append
        lines = self.lines
        if max(map(len, lines), default=0) > self.max_line_length:
            lines = [line if len(line) <= self.max_line_length else "\n" for line in lines]  # which no pattern matches
        known = _Known(_FILLER)
        rest = iter(lines)
        for line in rest:
            previous = known
            known = known.likely
            found = known.match(line)
            if found is None:
                placed = self._find(line, previous)
                if placed is None:
                    at = len(self.shapes) - 1
                    known = self._place_by_grammar(at, self._try_candidates) or previous
                    if known is not previous:
                        _remember(previous, known)
                    for _ in range(at + 2, len(self.shapes)):
                        next(rest)  # lines that this one goes on in
                    continue
                known, found = placed
            add_shape(known.shape)
            add_values(found.groups())

    def place_all_by_grammar(self) -> None:
        """The reference way: every line through the grammar."""
        done = 0
        while done < len(self.lines):
            self._place_by_grammar(done, None)
            done = len(self.shapes) - 1

    def refuse_damaged(self) -> None:
        """Take every line whose values are no ports, addresses or other numbers for one that the format does not allow."""
        kinds = {shape: found for shape in set(self.shapes) if (found := kinds_of(shape))}
        rows: dict[Shape, list[Values]] = {shape: [] for shape in kinds}
        rows_of = rows.get
        for shape, values in zip(self.shapes, self.values, strict=True):
            known = rows_of(shape)
            if known is not None:
                known.append(values)
        damaged = {
            shape: [
                (slot, flag, kind.meaning, texts)
                for slot, flag, kind in found
                if (texts := damaged_values(rows[shape], slot, kind))
            ]
            for shape, found in kinds.items()
        }
        if not any(damaged.values()):
            return
        for line, (shape, values) in enumerate(zip(self.shapes, self.values, strict=True)):
            for slot, flag, meaning, texts in damaged.get(shape, ()):
                if values[slot] in texts:
                    self.problems.append(Problem(line, "unparsable", f"{flag} has {values[slot][:60]!r} where {meaning} belongs"))
                    self.shapes[line] = _UNPARSED
                    self.values[line] = (shape.render(values),)
                    break

    def _find(self, line: str, previous: _Known) -> tuple[_Known, re.Match[str]] | None:
        """The known shape of a line that is not what followed last time."""
        for successor in previous.successors:
            found = successor.match(line)
            if found is not None:
                _remember(previous, successor)
                return successor, found
        for candidate in self.known.candidates(line):
            found = candidate.match(line)
            if found is not None:
                _remember(previous, candidate)
                return candidate, found
        return None

    def _try_candidates(self, text: str) -> tuple[_Known, Values] | None:
        for candidate in self.known.candidates(text):
            found = candidate.match(text)
            if found is not None:
                return candidate, found.groups()
        return None

    def _place_by_grammar(self, at: int, shortcut: Callable[[str], tuple[_Known, Values] | None] | None) -> _Known | None:
        """Place the line with index `at`, with those that it goes on in. None for a line that the format does not allow."""
        text, count = _join(self.lines, at) or (self.lines[at], 1)
        placed = shortcut(text) if shortcut is not None and count > 1 else None
        if placed is None:
            placed = self._read(text, at)
        if placed is None:
            self.shapes.append(_UNPARSED)
            self.values.append((self.lines[at],))
            return None
        known, values = placed
        self.shapes.append(known.shape)
        self.values.append(values)
        self.shapes.extend([_CONTINUATION] * (count - 1))
        self.values.extend([()] * (count - 1))
        return known

    def _read(self, text: str, at: int) -> tuple[_Known, Values] | None:
        if len(text) > self.max_line_length:
            message = (
                f"the line has {len(text):,} characters: longer ones than {self.max_line_length:,} are not read; {RAISE_LIMIT}"
            )
            self.problems.append(Problem(at + 1, "unparsable", message))
            return None
        self.grammar_characters += len(text) + 100
        if self.grammar_characters > MAX_GRAMMAR_CHARACTERS:
            raise InputError(
                f"too many lines are alike to no other or cannot be read ({len(self.problems):,} unreadable ones so far): this is"
                " not the output of iptables-save; take the dump again with `iptables-save`",
                self.path,
                at + 1,
            )
        try:
            shape, values = _read_line(text)
        except _RefusedError as error:
            self.problems.append(Problem(at + 1, "unparsable", str(error)))
            return None
        known = self.known.intern(shape)
        candidates = self.known.candidates(text)
        if known not in candidates and len(candidates) < _MAX_CANDIDATES:
            candidates.insert(0, known)
        return known, values


def _remember(previous: _Known, successor: _Known) -> None:
    previous.likely = successor
    successors = previous.successors
    if successor in successors:
        successors.remove(successor)
    successors.insert(0, successor)
    del successors[_MAX_SUCCESSORS:]


def parse(
    text: str,
    path: str,
    *,
    max_line_length: int = MAX_LINE_LENGTH,
    max_lines: int = MAX_LINES,
    known: KnownChains | None = None,
) -> Dump:
    """Read a dump: one or several tables, of one or both families, from iptables-save or `iptables -S`, with or without counters.

    `text` is the whole input, `path` its name in messages. A line that the format does not allow is a problem of the dump, and
    the rest is read. `known`: what dumps of other nodes have in the same words; while it learns, it takes in what this one has.
    Raises InputError for an input of more than `max_lines` lines or with too many lines that are alike to none.
    """
    if known is None or "\t" in text or "\r" in text or not text.endswith("\n"):
        return _parse(text, path, max_line_length, max_lines, _Lines.place_all)
    found = _parse_known(text, path, max_line_length, max_lines, known)
    if found is None:
        found = _parse(text, path, max_line_length, max_lines, _Lines.place_all)
        known.learn(text, found, _shapes[True])
    return found


def parse_with_grammar(text: str, path: str, *, max_line_length: int = MAX_LINE_LENGTH, max_lines: int = MAX_LINES) -> Dump:
    """The same as `parse`, a hundred times slower: every line goes through the grammar. The reference in the tests."""
    return _parse(text, path, max_line_length, max_lines, _Lines.place_all_by_grammar)


def _refuse_too_many(text: str, path: str, max_lines: int) -> None:
    count = text.count("\n") + 1
    if count > max_lines:
        raise InputError(f"{count:,} lines are more than a dump can have ({max_lines:,}); {RAISE_LIMIT}", path)


def _parse(text: str, path: str, max_line_length: int, max_lines: int, place: Callable[[_Lines], None]) -> Dump:
    _refuse_too_many(text, path, max_lines)
    plain = "\t" not in text and "\r" not in text
    known = _shapes[plain]  # known shapes outlive a dump: the next one of the node has the same
    if len(known) > _MAX_SHAPES_KEPT:
        known = _shapes[plain] = _Shapes(plain=plain)
    with without_collection():
        lines = text.split("\n")
        final_newline = lines[-1] == ""
        if final_newline:
            lines.pop()
        placed = _Lines(path, lines, max_line_length, known)
        place(placed)
        placed.refuse_damaged()
        dump = Dump(path, placed.shapes, placed.values, [], placed.problems, [], final_newline and bool(lines))
        _Framer(dump).frame()
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


def _parse_known(text: str, path: str, max_line_length: int, max_lines: int, known: KnownChains) -> Dump | None:
    """Read a dump most of which is known from others. None where some line of it has to be seen among its neighbours, or is none that the
    format allows: that is for the way of one line after the other.
    """
    _refuse_too_many(text, path, max_lines)
    if known.origin is not _shapes[True]:  # a dump has one object for each shape
        return None
    with without_collection():
        layout = known.layout(text)
        placed = _Lines(path, layout.unknown, max_line_length, _shapes[True])
        try:
            placed.place_all()
        except InputError:  # which names a line by its number
            return None
        placed.refuse_damaged()
        if placed.problems or _CONTINUATION in placed.shapes:
            return None
        shapes: list[Shape] = [_FILLER]
        values: list[Values] = [()]
        known_parts: list[tuple[int, ChainText | Run]] = []
        rest = zip(placed.shapes[1:], placed.values[1:], strict=True)
        for part in layout.parts:
            if isinstance(part, ChainText | Run):
                if isinstance(part, ChainText) or part.texts:
                    known_parts.append((len(shapes), part))
                shapes.extend(part.shapes)
                values.extend(part.values)
            else:
                shape, row = next(rest) if part is None else part
                shapes.append(shape)
                values.append(row)
        dump = Dump(path, shapes, values, [], [], [], final_newline=True)
        _Framer(dump).frame(known_parts)
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


# --- Lines to tables and chains ---

_HEADER = re.compile(r"#[ \t]*Generated by[ \t]+(?P<tool>\S.*?)(?:[ \t]+on[ \t]+(?P<date>\S.*?))?[ \t\r]*")
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")
_ADDRESS_FLAGS = frozenset(("-s", "-d", "--to-destination", "--to-source"))
_NAT_TARGETS = frozenset(("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"))
_RAW_TARGETS = frozenset(("NOTRACK", "CT"))
_IPV6_MODULES = frozenset(("icmp6", "ipv6header", "frag", "rt", "hbh", "dst", "mh", "eui64"))


class _Header(NamedTuple):
    line: int
    tool: str | None
    generated: str | None


class _Framer:
    """Puts placed lines into tables and chains, and says what is missing between them."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.table: Table | None = None
        self.header: _Header | None = None
        self.body_begun = False
        self.stray: tuple[int, int] | None = None
        self._chains: dict[str, Chain] | None = None
        """Of the open table, where nothing has to be inferred: most lines end there."""
        self.has_table_lines = any(shape.kind is LineKind.TABLE for shape in dump.shapes)

    def frame(self, known: Sequence[tuple[int, ChainText | Run]] = ()) -> None:
        """Frame the dump. `known`: chains whose rules are known, by their first lines, in order."""
        at = 1
        for start, part in known:
            if at < start:
                self._frame_lines(at, start)
            at = start + len(part.shapes)
            if isinstance(part, ChainText):
                self._frame_known(part, start, at)
                continue
            ends = iter(part.bounds)
            end = start + next(ends)
            for text, bound in zip(part.texts, ends, strict=True):
                first, end = end, start + bound
                self._frame_known(text, first, end)
        self._frame_lines(at, len(self.dump.shapes))
        self._end(len(self.dump.shapes) - 1)

    def _frame_known(self, text: ChainText, start: int, end: int) -> None:
        chain = self._chains.get(text.name) if self._chains is not None else None
        if chain is None or chain.lines:  # rules of a chain may stand apart
            self._frame_lines(start, end)
        else:
            chain.text = text
            chain.lines = range(start, end)

    def _frame_lines(self, start: int, end: int) -> None:
        dump = self.dump
        rule_kind, chain_kind, ignored = LineKind.RULE, LineKind.CHAIN, (LineKind.BLANK, LineKind.CONTINUATION, LineKind.UNPARSED)
        chains = self._chains
        current = ""
        lines: list[int] | None = None
        for number, (shape, values) in enumerate(zip(dump.shapes[start:end], dump.values[start:end], strict=True), start):
            kind = shape.kind
            if kind is rule_kind:
                name = values[shape.chain_slot]  # type: ignore[index]  # a rule always has its chain
                if lines is None or name != current:
                    chain = None if chains is None else chains.get(name)
                    if chain is None:
                        lines = self._lines_of(name, number)
                    elif isinstance(chain.lines, list):
                        lines = chain.lines
                    else:
                        lines = chain.further()
                    current = name
                    if lines is None:
                        continue
                lines.append(number)
            elif kind is chain_kind:
                name = values[0]
                if chains is None or name in chains:
                    self._declare_in_save(name, values[1], number)
                else:
                    policy = values[1]
                    chains[name] = Chain(name, None if policy == "-" else policy, number)
            elif kind not in ignored:
                lines = None
                self._other(kind, values, number)
                table = self.table
                chains = self._chains = None if table is None or table.inferred else table.chains

    def _other(self, kind: LineKind, values: Values, number: int) -> None:
        if kind is LineKind.TABLE:
            self._close(number - 1)
            self._open(values[0], number, inferred=False)
        elif kind is LineKind.COMMIT:
            if self.table is None:
                self._outside(number)
            else:
                self.table.commit_line = number
                self._close(number)
        elif kind is LineKind.POLICY:
            self._begin_next(number)
            self._declare(values[0], values[1], number)
        elif kind is LineKind.NEW_CHAIN:
            self._declare(values[0], "-", number)
            self.body_begun = True
        elif kind is LineKind.FOREIGN:
            self.dump.notes.append(Problem(number, "message", values[0].strip()))
        else:
            self._comment(values[0], number)

    def _declare_in_save(self, name: str, policy: str, number: int) -> None:
        self._begin_next(number)
        self._declare(name, policy, number)

    def _begin_next(self, number: int) -> None:
        """Declarations after rules begin the next table, where no line says so."""
        if self.body_begun and self.table is not None and self.table.inferred:
            self._close(number - 1)

    def _comment(self, text: str, number: int) -> None:
        found = _HEADER.fullmatch(text)
        if found is not None:
            self._bodiless_header()
            self.header = _Header(number, found["tool"], found["date"])

    def _bodiless_header(self) -> None:
        if self.header is not None:
            message = f"the header of {self.header.tool} has no table after it: the dump was cut here; take it again"
            self.dump.problems.append(Problem(self.header.line, "truncated", message))
            self.header = None

    def _open(self, name: str, number: int, *, inferred: bool) -> Table:
        header = self.header or _Header(0, None, None)
        self.header = None
        self.body_begun = False
        tool = header.tool
        self.table = Table(
            name=name,
            family=6 if tool is not None and tool.startswith("ip6") else 4,
            backend=None if tool is None else _backend(tool),
            tool=tool,
            generated=header.generated,
            line=number,
            commit_line=None,
            chains={},
            dump=self.dump,
            inferred=inferred,
        )
        self.dump.tables.append(self.table)
        return self.table

    def _ready(self, number: int, *, begins: bool) -> Table | None:
        """The open table; an inferred one where lines without a table can only be `iptables -S` output; None for a stray line."""
        if self.table is not None:
            return self.table
        if self.has_table_lines and not begins:
            self._outside(number)
            return None
        return self._open("", number, inferred=True)

    def _declare(self, name: str, policy: str, number: int) -> None:
        table = self._ready(number, begins=self.dump.shapes[number].kind is not LineKind.CHAIN)
        if table is None:
            return
        chain = table.chains.get(name)
        if chain is None:
            table.chains[name] = Chain(name, None if policy == "-" else policy, number)
        elif chain.line == 0:
            chain.line = number
            chain.policy = None if policy == "-" else policy
        else:
            chain.redeclare(number)
            message = f"chain {name} of table {table.name or 'without a name'} was already declared in line {chain.line}"
            self.dump.problems.append(Problem(number, "redeclared", message))

    def _lines_of(self, name: str, number: int) -> list[int] | None:
        table = self._ready(number, begins=False)
        if table is None:
            return None
        self.body_begun = True
        chain = table.chains.get(name)
        if chain is None:
            chain = table.chains[name] = Chain(name, None, 0)
        return chain.further()

    def _outside(self, number: int) -> None:
        first, last = self.stray or (number, number)
        if number > last + 1:
            self._report_stray()
            first = number
        self.stray = (first, number)

    def _report_stray(self) -> None:
        if self.stray is not None:
            first, last = self.stray
            which = "this line stands" if first == last else f"lines {first} to {last} stand"
            message = f"{which} outside of any table (between `*table` and COMMIT) and cannot be placed; take the dump again"
            self.dump.problems.append(Problem(first, "stray", message))
            self.stray = None

    def _close(self, last: int) -> None:
        table, self.table = self.table, None
        if table is None:
            return
        if table.inferred:
            table.name, why = _infer_name(table)
            message = f"no line names the table of lines {table.line} to {last}: taken for {table.name}, {why}"
            self.dump.notes.append(Problem(table.line, "inferred-table", message))
        elif table.commit_line is None:
            message = f"table {table.name} (line {table.line}) has no COMMIT: the dump was cut here; take it again"
            self.dump.problems.append(Problem(last, "truncated", message))

    def _end(self, last: int) -> None:
        self._close(last)
        self._bodiless_header()
        self._report_stray()
        _set_families(self.dump.tables)


def _backend(tool: str) -> Backend | None:
    """Since 1.8 there are two backends; nft's tools name theirs since 1.8.8 or when called by their own name."""
    if "nf_tables" in tool or "-nft-" in tool:
        return "nf_tables"
    version = _VERSION.search(tool)
    if "legacy" in tool or (version is not None and (int(version[1]), int(version[2])) < (1, 8)):
        return "legacy"
    if version is not None and int(version[3] or 0) >= 9:
        return "legacy"
    return None


def _infer_name(table: Table) -> tuple[str, str]:
    """Which table these lines belong to, and why it is thought so."""
    builtin = {name for name, chain in table.chains.items() if chain.policy is not None}
    why = "by its built-in chains"
    if builtin >= {"PREROUTING", "FORWARD"}:
        return "mangle", why
    if "POSTROUTING" in builtin:
        return "nat", why
    if "FORWARD" in builtin:
        return "filter", why
    if builtin == {"PREROUTING", "OUTPUT"}:
        return "raw", why
    for chain in table.chains.values():
        for line in chain.lines:
            name = table.dump.rule(line).target_name
            if name in _NAT_TARGETS:
                return "nat", f"which alone has the target {name}"
            if name in _RAW_TARGETS:
                return "raw", f"which alone has the target {name}"
    if table.chains.keys() & {"PREROUTING", "POSTROUTING"}:
        return "nat", "as it has rules in PREROUTING or POSTROUTING"
    return "filter", "which is the default of iptables"


def _set_families(tables: list[Table]) -> None:
    """Families of the tables whose header does not tell: by what they hold, else like their neighbour, else IPv4."""
    undecided = []
    decided: Family | None = None
    for table in tables:
        if table.tool is None or not table.tool.startswith("ip"):
            found = _family_of(table)
            if found is None:
                undecided.append((table, decided))
                continue
            table.family = found
        decided = table.family
        for other, before in undecided:
            other.family = before or decided
        undecided = []
    for other, before in undecided:
        other.family = before or 4


def _family_of(table: Table) -> Family | None:
    """By the first address, IPv6-only match or kind of reject; else by the ICMP that is spoken of; None where nothing tells."""
    guess: Family | None = None
    for chain in table.chains.values():
        for line in chain.lines:
            shape, values = table.dump.shapes[line], table.dump.values[line]
            if any(match.module in _IPV6_MODULES for match in shape.matches):
                return 6
            options = [*shape.options, *chained.from_iterable(match.options for match in shape.matches)]
            if shape.target is not None:
                options.extend(shape.target.options)
            for option in options:
                value = values[option.slots[0]] if option.slots else ""
                if option.flag in _ADDRESS_FLAGS:
                    return 6 if value.count(":") > 1 else 4
                if option.flag == "--reject-with" and value.startswith("icmp"):
                    return 6 if value.startswith("icmp6") else 4
                if option.flag == "-p" and "icmp" in value:
                    guess = 4 if value == "icmp" else 6
    return guess

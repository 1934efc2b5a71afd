"""What dumps of several nodes have in the same words: the rules of a chain and the line that declares it, a virtual server with its real ones.

Of kube-proxy's chains and virtual servers nearly all are the same on every node of a cluster, in whatever order the dumps hold them. What was
read of the first node's is looked up by its text. A text is only looked up as a whole: all neighbouring rules of one chain, a virtual server
and all that stands with it.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeAlias, TypeVar

from ruleaudit.dumps.rules import ChainText, LineKind
from ruleaudit.dumps.virtual_servers import ServerText

if TYPE_CHECKING:
    from collections.abc import Callable

    from ruleaudit.dumps.rules import Dump, Shape
    from ruleaudit.dumps.virtual_servers import IpvsDump

__all__ = ["KnownChains", "KnownServers", "Layout", "Run"]

Values: TypeAlias = tuple[str, ...]
Part = TypeVar("Part")
Whole = TypeVar("Whole")
Single = TypeVar("Single")

_RULES = re.compile(r"^(-A [^ \n]++ )[^\n]*+\n(?:\1[^\n]*+\n)*+", re.MULTILINE)
"""Neighbouring rules of one chain, without counters: those are never the same on two nodes."""
_RUNS = re.compile(r"^((?:-A |:)KUBE-S(?:EP-[A-Z2-7]{2}|VC-[A-Z2-7]))[^\n]*+\n(?:\1[^\n]*+\n)*+", re.MULTILINE)
"""Neighbouring rules, or declarations, of chains whose names begin alike: both backends list chains by their names. No rules of one of these
chains stand just before or behind them.
"""
_UNREAD = (LineKind.CONTINUATION, LineKind.UNPARSED)
_SERVER = re.compile(r"^-A (-[tu] [^ \n]++)[^\n]*+\n(?:-a \1 [^\n]*+\n)*+", re.MULTILINE)
"""A virtual server and its real servers, as `ipvsadm -Sn` prints them; `ipvsadm -Ln` prints connections with them, which are each node's own."""


class Layout(NamedTuple, Generic[Part]):
    """A text taken apart. `parts`, in order: what is known, or None for a line that is not; `unknown`: those lines."""

    parts: list[Part | None]
    unknown: list[str]


class Run(NamedTuple):
    """Lines that are known together. `texts`: the chains whose rules they are, none for declarations; `bounds`: how many lines stand before each,
    and how many they are in all.
    """

    texts: tuple[ChainText, ...]
    bounds: array[int]
    shapes: tuple[Shape, ...]
    values: tuple[Values, ...]


class _Known:
    """What is known of the dumps of one node.

    `origin`: where the shapes come from: only what comes from there too may stand beside them. `learning`: whether `learn` takes in more.
    """

    def __init__(self) -> None:
        self.learning = False
        self.origin: object = None


class KnownChains(_Known):
    """The rules and declarations of the chains of one node's dumps, by their texts."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[str, ChainText] = {}
        self._declarations: dict[str, tuple[Shape, Values]] = {}
        self._runs: dict[str, Run] = {}

    def learn(self, text: str, dump: Dump, origin: object) -> None:
        """Take in what a dump holds, which was read from `text`."""
        if not self.learning:
            return
        if origin is not self.origin:
            self.origin = origin
            self._texts, self._declarations, self._runs = {}, {}, {}
        shapes, values = dump.shapes, dump.values
        by_line: dict[int, ChainText] = {}
        number = 1
        end = 0
        for found in _RULES.finditer(text):
            number = self._learn_declarations(text[end : found.start()], number, dump)
            end = found.end()
            whole = found.group()
            after = number + whole.count("\n")
            # A comment may hold line ends, and what stands in it looks like rules: only what was read line by line is known.
            kinds = {shape.kind for shape in shapes[number:after]}
            if kinds == {LineKind.RULE} and (after == len(shapes) or shapes[after].kind not in _UNREAD):
                name = found[1][3:-1]
                if all(values[line][shapes[line].chain_slot or 0] == name for line in range(number, after)):
                    by_line[number] = self._texts.setdefault(
                        whole, ChainText(name, tuple(shapes[number:after]), tuple(values[number:after]), {})
                    )
            number = after
        for table in dump.tables:
            for chain in table.chains.values():
                known = by_line.get(chain.lines[0]) if chain.lines else None
                if known is not None and len(chain.lines) == len(known.shapes):
                    chain.text = known  # so that it is there when something is worked out of it
        for found in _RUNS.finditer(text):
            run = self._run(found.group())
            if run is not None:
                self._runs[found.group()] = run

    def _run(self, text: str) -> Run | None:
        """What is known of neighbouring chains together; None where something of them is not."""
        texts: list[ChainText] = []
        bounds = array("L")
        shapes: list[Shape] = []
        values: list[Values] = []
        for part in _taken_apart(text, _RULES, self._texts, self._declarations.get).parts:
            if part is None:
                return None
            if isinstance(part, ChainText):
                texts.append(part)
                bounds.append(len(shapes))
                shapes.extend(part.shapes)
                values.extend(part.values)
            else:
                shapes.append(part[0])
                values.append(part[1])
        bounds.append(len(shapes))
        return Run(tuple(texts), bounds, tuple(shapes), tuple(values))

    def _learn_declarations(self, text: str, number: int, dump: Dump) -> int:
        """Take in the declarations among lines that begin with `number`; the number of the line behind them."""
        if not text:
            return number
        for line in text.split("\n")[:-1]:
            if dump.shapes[number].kind is LineKind.CHAIN and line.startswith(":"):
                self._declarations[line] = dump.shapes[number], dump.values[number]
            number += 1
        return number

    def layout(self, text: str) -> Layout[Run | ChainText | tuple[Shape, Values]]:
        """A text that ends with a line end, taken apart."""
        whole = _taken_apart(text, _RUNS, self._runs, None)
        parts: list[Run | ChainText | tuple[Shape, Values] | None] = []
        unknown: list[str] = []
        rest = iter(whole.unknown)
        for part in whole.parts:
            if part is not None:
                parts.append(part)
                continue
            found = _taken_apart(next(rest), _RULES, self._texts, self._declarations.get)
            parts += found.parts
            unknown += found.unknown
        return Layout(parts, unknown)


class KnownServers(_Known):
    """The virtual servers of one node's dumps, with their real servers, by their texts.

    `endpoints`: the addresses and ports that are known, by their texts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, tuple[str, int]] = {}
        self._texts: dict[str, ServerText] = {}

    def learn(self, text: str, dump: IpvsDump, origin: object) -> None:
        """Take in what a dump holds, which was read from `text`."""
        if not self.learning:
            return
        if origin is not self.origin:
            self.origin = origin
            self.endpoints, self._texts = {}, {}
        self.endpoints.update(dump.endpoints)
        servers = {one.line: one for one in dump.servers()}
        number = 1
        end = 0
        for found in _SERVER.finditer(text):
            number += text.count("\n", end, found.start())
            end = found.end()
            after = number + found.group().count("\n")
            server = servers.get(number)
            # Where real servers stand elsewhere or twice, or in lines that cannot be read, the text is not all of it.
            if server is not None and server.declared and server.lines == list(range(number + 1, after)):
                server.known = self._texts.setdefault(
                    found.group(),
                    ServerText(
                        tuple(dump.shapes[number:after]),
                        tuple(dump.values[number:after]),
                        server.protocol,
                        server.address,
                        server.port,
                        server.family,
                        server.scheduler,
                        server.flags,
                        server.persistence,
                        server.mask,
                        server.one_packet,
                        server.engine,
                        {},
                    ),
                )
            number = after

    def layout(self, text: str) -> Layout[ServerText]:
        """A text that ends with a line end, taken apart."""
        return _taken_apart(text, _SERVER, self._texts, lambda _line: None)


def _taken_apart(
    text: str, pattern: re.Pattern[str], whole: dict[str, Whole], of_line: Callable[[str], Single | None] | None
) -> Layout[Whole | Single]:
    """A text by what `pattern` finds in it and `whole` knows; what stands between is looked up line by line, or, without `of_line`, is one
    unknown part, with its line ends.
    """
    parts: list[Whole | Single | None] = []
    unknown: list[str] = []

    def between(start: int, end: int) -> None:
        if of_line is None:
            parts.append(None)
            unknown.append(text[start:end])
            return
        for line in text[start : end - 1].split("\n"):
            part = of_line(line)
            parts.append(part)
            if part is None:
                unknown.append(line)

    known_of = whole.get
    end = 0
    for found in pattern.finditer(text):
        known = known_of(found.group())
        if known is None:
            continue
        start = found.start()
        if end < start:
            between(end, start)
        parts.append(known)
        end = found.end()
    if end < len(text):
        between(end, len(text))
    return Layout(parts, unknown)

"""What dumps of several nodes have in the same words: the rules of a chain, and the line that declares it.

Of kube-proxy's chains nearly all are the same on every node of a cluster, in whatever order the dumps hold them. What was read of the first
node's is looked up by its text. A text is only looked up as a whole: all neighbouring rules of one chain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ruleaudit.rules import ChainText, LineKind

if TYPE_CHECKING:
    from ruleaudit.rules import Dump, Shape

__all__ = ["KnownChains", "Layout"]

Values: TypeAlias = tuple[str, ...]

_RULES = re.compile(r"^(-A [^ \n]++ )[^\n]*+\n(?:\1[^\n]*+\n)*+", re.MULTILINE)
"""Neighbouring rules of one chain, without counters: those are never the same on two nodes."""
_UNREAD = (LineKind.CONTINUATION, LineKind.UNPARSED)


class Layout(NamedTuple):
    """A text taken apart. `parts`, in order: the rules of a chain that are known, a line that is known, or None for a line that is not;
    `unknown`: those lines.
    """

    parts: list[ChainText | tuple[Shape, Values] | None]
    unknown: list[str]


class KnownChains:
    """The rules and declarations of the chains of one node's dumps, by their texts.

    `origin`: where the shapes come from: only what comes from there too may stand beside them. `learning`: whether `learn` takes in more.
    """

    def __init__(self) -> None:
        self.learning = False
        self.origin: object = None
        self._texts: dict[str, ChainText] = {}
        self._declarations: dict[str, tuple[Shape, Values]] = {}

    def __reduce__(self) -> tuple[type[KnownChains], tuple[()]]:
        return type(self), ()  # shapes are compared by identity, which a copy for another process does not keep

    def learn(self, text: str, dump: Dump, origin: object) -> None:
        """Take in what a dump holds, which was read from `text`."""
        if not self.learning:
            return
        if origin is not self.origin:
            self.origin = origin
            self._texts, self._declarations = {}, {}
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

    def _learn_declarations(self, text: str, number: int, dump: Dump) -> int:
        """Take in the declarations among lines that begin with `number`; the number of the line behind them."""
        if not text:
            return number
        for line in text.split("\n")[:-1]:
            if dump.shapes[number].kind is LineKind.CHAIN and line.startswith(":"):
                self._declarations[line] = dump.shapes[number], dump.values[number]
            number += 1
        return number

    def layout(self, text: str) -> Layout:
        """A text that ends with a line end, taken apart."""
        parts: list[ChainText | tuple[Shape, Values] | None] = []
        unknown: list[str] = []
        declaration, rules = self._declarations.get, self._texts.get
        end = 0
        for found in _RULES.finditer(text):
            start = found.start()
            whole = found.group()
            known = rules(whole)
            if known is None:
                continue
            if end < start:
                for line in text[end : start - 1].split("\n"):
                    part = declaration(line)
                    parts.append(part)
                    if part is None:
                        unknown.append(line)
            parts.append(known)
            end = found.end()
        if end < len(text):
            for line in text[end:-1].split("\n"):
                part = declaration(line)
                parts.append(part)
                if part is None:
                    unknown.append(line)
        return Layout(parts, unknown)

"""`ipset save`, `ipset list` and their XML to the faithful model (`ruleaudit.dumps.ip_sets`).

XML is read line by line like the rest: ipset prints each element in a line of its own, and neither escapes nor declares anything,
so that nothing is ever expanded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from ruleaudit.addresses import host_address
from ruleaudit.collector import without_collection
from ruleaudit.dumps.ip_sets import IpSet, IpSetDump
from ruleaudit.dumps.lines import BLANK, UNPARSED
from ruleaudit.dumps.rules import Problem
from ruleaudit.errors import InputError
from ruleaudit.formats.line_grammar import LineGrammar, mark_unparsed

if TYPE_CHECKING:
    from ruleaudit.dumps.ip_sets import Form
    from ruleaudit.dumps.lines import LineShape

__all__ = ["MAX_SETS", "canonical_entry", "parse", "parse_with_grammar"]

_LITERALS = frozenset(
    ("LABEL", "FLAG", "ENTRY_FLAG", "KEY", "XML_SETS", "XML_END", "XML_MEMBERS", "XML_FLAG", "XML_OPEN", "XML_CLOSE")
)
_grammar = LineGrammar("ipset.lark", _LITERALS, "`ipset save` or `ipset list`")

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
_GROUP = "[1-9a-f][0-9a-f]{0,3}"
_IPV6 = f"(?:{_GROUP}(?::{_GROUP})*+::{_GROUP}(?::{_GROUP})*+|{_GROUP}(?::{_GROUP}){{7}})"
_AT_MOST_SIX_GROUPS = "(?=(?:[0-9a-f]*+:){2,6}[0-9a-f]++[,/\n]|(?:[0-9a-f]++:){7}[0-9a-f]++[,/\n])"
_USUAL_PORT = f"(?:tcp|udp|sctp|udplite):{_PORT}"
_USUAL = {
    4: {"ip": _IPV4, "port": _USUAL_PORT, "net": f"{_IPV4}(?:/(?:3[01]|[12][0-9]|[1-9]))?"},
    6: {
        "ip": _AT_MOST_SIX_GROUPS + _IPV6,
        "port": _USUAL_PORT,
        "net": f"{_AT_MOST_SIX_GROUPS}{_IPV6}(?:/(?:12[0-7]|1[01][0-9]|[1-9][0-9]|[1-9]))?",
    },
}
"""How nearly all entries look whose text is canonical already, so that all of a set are passed at once: of IPv6 addresses those
without a zero but in the middle, where `::` stands for two groups at least."""
_PORTED = frozenset(("tcp", "udp", "sctp", "udplite"))
"""Protocols whose ports are numbers; of the others ipset prints types of ICMP by name, or nothing that is looked at here."""
_PROTOCOL_NUMBERS = {"6": "tcp", "17": "udp", "132": "sctp", "136": "udplite"}
"""ipset prints numbers where /etc/protocols is missing, as in small images."""
_BITMAP_PORT = re.compile(_PORT)
_NUMBERS = {
    "Revision:": "revision",
    "<revision>": "revision",
    "Size in memory:": "memory",
    "<memsize>": "memory",
    "References:": "references",
    "<references>": "references",
    "Number of entries:": "size",
    "<numentries>": "size",
}
_LETTER = re.compile("[a-zA-Z]")
_HOST_NAME = re.compile("[^g-zG-Z]*[g-zG-Z]|[^:]*[a-zA-Z][^:]*\\Z")
"""A host that is a name: with a letter that no address has, or with any where there is no colon."""
MAX_SETS = 65_535
"""More sets are refused: the kernel has no more (IPSET_INVALID_ID)."""
_MAX_NAME = 31
"""IPSET_MAXNAMELEN of the kernel is 32, with the zero at the end."""


def parse(text: str, path: str) -> IpSetDump:
    """Read what `ipset save` or `ipset list` printed, of all sets or one, with or without entries (-t, -n), or its XML.

    `text` is the whole input, `path` its name in messages. A line that the format does not allow is a problem of the dump, and the
    rest is read. Raises InputError for a listing with names instead of addresses and ports (made with -r), for more than 3,000,000
    lines or MAX_SETS sets and for what is no such listing at all.
    """
    return _parse(text, path, by_grammar=False)


def parse_with_grammar(text: str, path: str) -> IpSetDump:
    """The same as `parse`, a hundred times slower: every line goes through the grammar. The reference in the tests."""
    return _parse(text, path, by_grammar=True)


def _parse(text: str, path: str, *, by_grammar: bool) -> IpSetDump:
    with without_collection():
        lines = _grammar.place(text, path, by_grammar=by_grammar)
        dump = IpSetDump(path, lines.shapes, lines.values, lines.problems, lines.notes, lines.final_newline)
        _Framer(dump).frame()
        for one in dump.sets.values():
            _make_canonical(one)
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


# --- Lines to sets ---


class _Option(NamedTuple):
    """An option as a shape has it: its name, and the slot of its value; None for a flag."""

    name: str
    slot: int | None


def _options_of(shape: LineShape) -> tuple[_Option, ...]:
    found: list[_Option] = []
    key: str | None = None
    for part in shape.parts:
        if part.name in ("FLAG", "ENTRY_FLAG", "XML_FLAG"):
            found.append(_Option((part.text or "").strip("</>"), None))
        elif part.name in ("KEY", "XML_OPEN"):
            key = (part.text or "").strip("<>")
        elif part.name in ("COMMENT", "XML_COMMENT"):
            found.append(_Option("comment", part.slot))
        elif key is not None and part.name in ("VALUE", "XML_TEXT"):
            found.append(_Option(key, part.slot))
            key = None
    return tuple(found)


class _Framer:
    """Lines to sets and entries."""

    def __init__(self, dump: IpSetDump) -> None:
        self.dump = dump
        self.current: IpSet | None = None
        self.listed: list[IpSet] = []
        """The sets of `ipset list` or XML, in order: the last one may be cut."""
        self.open_xml = 0
        self.options: dict[LineShape, tuple[_Option, ...]] = {}
        self.lost = False
        """Whether the set of the next entries stands in a line that could not be read."""

    def frame(self) -> None:
        dump = self.dump
        handlers = {
            "create": self._create,
            "name": self._name,
            "type": self._type,
            "header": self._header,
            "number": self._number,
            "members": self._members,
            "message": self._message,
            "xml_sets": self._xml_sets,
            "xml_end": self._xml_end,
            "xml_set": self._name,
            "xml_name": self._name_only,
            "xml_type": self._type,
            "xml_number": self._number,
            "xml_header": self._header,
            "xml_members": self._members,
        }
        current: IpSet | None = None
        entries: dict[str, int] | None = None
        name: str | None = None
        options = self.options
        for number, (shape, values) in enumerate(zip(dump.shapes, dump.values, strict=True)):
            kind = shape.kind
            if kind == "add":
                if values[0] != name or current is None:
                    name = values[0]
                    current = self._named(name, number)
                    entries = current.entries
                entry = values[1]
            elif kind in ("bare", "xml_member"):
                if current is not self.current or entries is None:
                    current, name = self.current, None
                    entries = None if current is None else current.entries
                    if current is None or entries is None:
                        self._name_alone(number, shape, values)
                        continue
                entry = values[0]
            else:
                current = entries = name = None
                if kind == UNPARSED:
                    text = values[0].lstrip()
                    if text.startswith(("create", "Name:", "<ipset")):
                        self.current = None
                        self.lost = True
                elif kind == BLANK:
                    if self.listed and self.listed[-1] is self.current and self.current is not None:
                        self.current = None
                else:
                    handlers[kind](number, shape, values)
                continue
            if current is None:
                raise AssertionError("an entry belongs to a set")
            if entries is None:  # of a set that a listing without entries named before
                entries = current.entries = {}
            if entry in entries:
                message = f"{entry[:60]} is listed twice in set {current.name}"
                dump.problems.append(Problem(number, "redeclared", message))
                continue
            entries[entry] = number
            found = options.get(shape)
            if found is None:
                found = options[shape] = _options_of(shape)
            if found:
                current.entry_options[entry] = {key: "" if slot is None else values[slot] for key, slot in found}
        self._end()

    # --- sets ---

    def _new(self, name: str, number: int, kind: str | None, form: Form) -> IpSet:
        dump = self.dump
        dump.form = form
        self.lost = False
        made = IpSet(name, kind, None, {}, number, None, dump)
        known = dump.sets.setdefault(name, made)
        self._count(number)
        if known is not made:
            if not known.declared:
                message = f"set {name} is created here, after entries were added to it in line {known.line}"
            else:
                message = f"set {name} was already listed in line {known.line}"
            dump.problems.append(Problem(number, "redeclared", message))
        self.current = known
        return known

    def _count(self, number: int) -> None:
        if len(self.dump.sets) > MAX_SETS:
            message = f"there are more sets than a kernel can have ({MAX_SETS:,}); give the output of `ipset save`"
            raise InputError(message, self.dump.path, number)

    def _create(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        found = self._new(values[0], number, values[1], "save")
        if found.line != number:
            return
        found.entries = {}
        self._describe(found, shape, values)

    def _describe(self, found: IpSet, shape: LineShape, values: tuple[str, ...]) -> None:
        found.options.update((key, "" if slot is None else values[slot]) for key, slot in _options_of(shape))
        found.family = _family(found)

    def _named(self, name: str, number: int) -> IpSet:
        """The set that an `add` names."""
        found = self.dump.sets.get(name)
        if found is None:
            found = IpSet(name, None, None, {}, number, {}, self.dump, declared=False)
            self.dump.sets[name] = found
            self._count(number)
            if not self.lost:
                message = f"no line before this one creates the set {name}: the beginning was cut; take the dump again"
                self.dump.problems.append(Problem(number, "truncated", message))
        if found.entries is None:
            found.entries = {}
        self.current = found
        return found

    def _name(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        made = self._new(values[0], number, None, "xml" if shape.kind == "xml_set" else "list")
        if made.line == number:
            self.listed.append(made)

    def _name_only(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        self._new(values[0], number, None, "xml")
        self.current = None

    def _name_alone(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        """A bare line outside of entries: `ipset list -n` prints the name of a set so."""
        if self.lost:
            return
        forms = self.dump.sets and self.dump.form != "names"
        if forms or len(values) > 1 or len(values[0]) > _MAX_NAME or shape.kind != "bare" or _options_of(shape):
            mark_unparsed(self.dump, number, "no line before this one says which set it belongs to")
            return
        self._new(values[0], number, None, "names")
        self.current = None

    def _in_block(self, number: int) -> IpSet | None:
        current = self.current
        if current is None or not self.listed or self.listed[-1] is not current:
            if not self.lost:
                mark_unparsed(self.dump, number, "no line before this one names the set that it describes")
            return None
        return current

    def _type(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        current = self._in_block(number)
        if current is not None:
            current.type = values[0]
            current.family = _family(current)

    def _header(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        current = self._in_block(number)
        if current is not None:
            self._describe(current, shape, values)

    def _number(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        current = self._in_block(number)
        name = _NUMBERS.get(shape.literal("LABEL") or shape.literal("XML_OPEN") or "")
        if current is None or name is None:
            return
        digits = values[0].strip()
        if digits.isascii() and digits.isdigit() and len(digits) <= 20:
            setattr(current, name, int(digits))
        else:
            mark_unparsed(self.dump, number, f"{digits[:60]!r} stands where a number belongs")

    def _members(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        current = self._in_block(number)
        if current is not None and current.entries is None:
            current.entries = {}

    def _message(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        self.dump.notes.append(Problem(number, "message", values[0].strip()))

    def _xml_sets(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        text = shape.literal("XML_SETS")
        if text == "<ipsets>":
            self.open_xml = number
            self.dump.form = "xml"
        elif text == "</ipsets>":
            self.open_xml = 0
        self.current = None

    def _xml_end(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        if shape.literal("XML_END") == "</ipset>":
            self.current = None

    # --- what is missing ---

    def _end(self) -> None:
        """Whether the last set of a listing is whole."""
        dump = self.dump
        last = dump.line_count
        cut = None
        if self.open_xml:
            cut = "the XML ends before </ipsets>"
        elif self.listed:
            one = self.listed[-1]
            missing = (one.size or 0) - len(one.entries or ())
            if one.type is None:
                cut = f"the description of set {one.name} is not whole"
            elif one.entries is None and any(other.entries is not None for other in self.listed):
                cut = f"the entries of set {one.name} are missing"
            elif one.entries is not None and missing > 0 and "timeout" not in one.options and not self._unparsed_after(one.line):
                cut = f"{missing:,} of the {one.size:,} entries of set {one.name} are missing"
        if cut is not None and not any(problem.kind == "truncated" and problem.line == last for problem in dump.problems):
            dump.problems.append(Problem(last, "truncated", f"{cut}: the listing was cut here; take it again"))
        self._mark_cut()

    def _mark_cut(self) -> None:
        """The sets that may have lost entries: those whose beginning was cut off, and the last one of a listing without its end."""
        dump = self.dump
        for one in dump.sets.values():
            if not one.declared and any(problem.kind == "truncated" and problem.line == one.line for problem in dump.problems):
                one.whole = False
                dump.cut = True
        open_end = not dump.final_newline and dump.form != "xml"
        if dump.sets and (
            open_end or any(problem.kind == "truncated" and problem.line == dump.line_count for problem in dump.problems)
        ):
            dump.cut = True
            last = max(dump.sets.values(), key=lambda one: max(one.line, *(one.entries or {}).values(), 0))
            last.whole = False

    def _unparsed_after(self, line: int) -> bool:
        return any(problem.line > line for problem in self.dump.problems)


def _family(one: IpSet) -> Literal[4, 6] | None:
    if not {"ip", "net"} & set(one.dimensions):
        return None
    return 6 if one.options.get("family") == "inet6" else 4


# --- Entries ---


def _make_canonical(one: IpSet) -> None:
    """Bring the entries of a set to their canonical text, and take those that its type does not allow out."""
    entries = one.entries
    dimensions = one.dimensions
    if not entries or not dimensions or one.type is None:
        return
    if dimensions == ("port",):
        usual = _PORT
    else:
        known = _USUAL.get(one.family or 0, {})
        usual = ",".join(known.get(dimension, "(?!)") for dimension in dimensions)
    if re.fullmatch(f"(?:(?:{usual})\n)*+", "\n".join(entries) + "\n"):
        return
    found: dict[str, int] = {}
    for text, line in entries.items():
        canonical = canonical_entry(text, one)
        if canonical is None:
            _refuse_names(text, one, line)
            message = f"{text[:60]!r} is no entry of set {one.name}, which has type {one.type}" + (
                f" for IPv{one.family}" if one.family else ""
            )
            mark_unparsed(one.dump, line, message)
            one.entry_options.pop(text, None)
        elif canonical in found:
            message = f"{text[:60]} is listed twice in set {one.name}"
            one.dump.problems.append(Problem(line, "redeclared", message))
        else:
            found[canonical] = line
            if canonical != text and text in one.entry_options:
                one.entry_options[canonical] = one.entry_options.pop(text)
    one.entries = found


def canonical_entry(text: str, one: IpSet) -> str | None:
    """The canonical text of an entry of a set (see `ruleaudit.dumps.ip_sets`); None where the set's type allows no such entry."""
    dimensions = one.dimensions
    if one.type == "list:set":
        return text
    if dimensions == ("port",):
        return text if _BITMAP_PORT.fullmatch(text) else None
    parts = text.split(",")
    if len(parts) != len(dimensions):
        return None
    made: list[str] = []
    for dimension, part in zip(dimensions, parts, strict=True):
        canonical = _canonical_part(dimension, part, 6 if one.family == 6 else 4)
        if canonical is None:
            return None
        made.append(canonical)
    return ",".join(made)


def _canonical_part(dimension: str, text: str, family: int) -> str | None:
    if dimension in ("ip", "net"):
        address, slash, length = text.partition("/")
        canonical = host_address(address, family)
        if canonical is None or not slash:
            return canonical
        most = 32 if family == 4 else 128
        if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= most):
            return None
        return canonical if int(length) == most else f"{canonical}/{int(length)}"
    if dimension == "port":
        protocol, colon, port = text.partition(":")
        if not colon:
            protocol, port = "tcp", text
        protocol = _PROTOCOL_NUMBERS.get(protocol, protocol.lower())
        if protocol in _PORTED and not _BITMAP_PORT.fullmatch(port):
            return None
        return f"{protocol}:{port}"
    return text


def _refuse_names(text: str, one: IpSet, line: int) -> None:
    """InputError where an entry has names instead of numbers, as `ipset list -r` prints them."""
    parts = text.split(",")
    if len(parts) != len(one.dimensions):
        return
    for dimension, part in zip(one.dimensions, parts, strict=True):
        host = part.partition("/")[0]
        if (dimension in ("ip", "net") and _HOST_NAME.match(host)) or (
            dimension == "port" and part.partition(":")[0] in _PORTED and _LETTER.match(part.partition(":")[2])
        ):
            raise InputError(
                f"this listing has names instead of numbers ({text[:60]!r}); give the output of `ipset save`", one.dump.path, line
            )

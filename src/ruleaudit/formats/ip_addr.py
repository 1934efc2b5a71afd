"""`ip addr` as text and as JSON (`ip -j addr`) to the faithful model (`ruleaudit.dumps.interfaces`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from ruleaudit.addresses import host_address
from ruleaudit.collector import without_collection
from ruleaudit.dumps.interfaces import Interface, InterfaceAddress, InterfaceDump
from ruleaudit.dumps.lines import BLANK, UNPARSED
from ruleaudit.dumps.rules import Problem
from ruleaudit.errors import InputError
from ruleaudit.formats.line_grammar import LineGrammar, mark_unparsed

if TYPE_CHECKING:
    from ruleaudit.dumps.lines import LineShape

__all__ = ["parse", "parse_with_grammar"]

_grammar = LineGrammar("ip_addr.lark", frozenset(("FAMILY", "HARDWARE", "STATE", "SCOPE", "FLAGS")), "`ip addr`")


def parse(text: str, path: str) -> InterfaceDump:
    """Read what `ip addr` or `ip -j addr` printed, of all devices or one.

    `text` is the whole input, `path` its name in messages. A line that the format does not allow is a problem of the dump, and the
    rest is read. Raises InputError for JSON that is malformed or none of `ip addr`, and for more than 3,000,000 lines.
    """
    stripped = text.lstrip()
    if stripped.startswith("["):
        return _parse_json(text, path, text.count("\n", 0, len(text) - len(stripped)) + 1)
    return _parse(text, path, by_grammar=False)


def parse_with_grammar(text: str, path: str) -> InterfaceDump:
    """The same as `parse` for text, a hundred times slower: every line goes through the grammar. The reference in the tests."""
    return _parse(text, path, by_grammar=True)


# --- Text ---


def _parse(text: str, path: str, *, by_grammar: bool) -> InterfaceDump:
    with without_collection():
        lines = _grammar.place(text, path, by_grammar=by_grammar)
        dump = InterfaceDump(path, lines.shapes, lines.values, lines.problems, lines.notes, lines.final_newline)
        _frame(dump)
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


def _frame(dump: InterfaceDump) -> None:
    current: Interface | None = None
    lost = hardware = False
    for number, (shape, values) in enumerate(zip(dump.shapes, dump.values, strict=True)):
        kind = shape.kind
        if kind == "link":
            current = _interface(number, shape, values)
            dump.interfaces.append(current)
            lost = False
        elif kind == "address":
            if current is not None:
                _add_address(dump, current, number, shape, values)
            elif not lost:
                mark_unparsed(dump, number, "no line before this one names the interface of this address")
        elif kind == "hardware":
            hardware = True
        elif kind == UNPARSED and not values[0].startswith((" ", "\t")):
            current = None  # perhaps an interface, and what follows would belong to it
            lost = True
        elif kind not in (BLANK, "lifetime", "other", UNPARSED):
            raise AssertionError(kind)
    if not hardware and dump.interfaces:  # `ip -4 addr` and `ip -6 addr` leave them out
        families = {address.family for _, address in dump.addresses()}
        dump.only_family = families.pop() if len(families) == 1 else None
    if dump.interfaces and dump.shapes[-1].kind in ("link", "address") and (hardware or dump.shapes[-1].kind == "address"):
        message = "the listing ends within an interface or an address: it was cut here; take it again"
        dump.problems.append(Problem(dump.line_count, "truncated", message))


def _interface(number: int, shape: LineShape, values: tuple[str, ...]) -> Interface:
    slots = shape.slots
    flags = shape.literal("FLAGS")
    return Interface(
        name=values[slots["DEVICE"]].partition("@")[0],
        index=int(values[slots["INDEX"]][:18]),
        flags=frozenset(flags.split(",")) if flags else frozenset(),
        state=shape.literal("STATE"),
        mtu=int(values[slots["MTU"]][:18]) if "MTU" in slots else None,
        line=number,
    )


def _add_address(dump: InterfaceDump, interface: Interface, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
    slots = shape.slots
    family: Literal[4, 6] = 6 if shape.literal("FAMILY") == "inet6" else 4
    own, slash, length = values[slots["ADDRESS"]].partition("/")
    peer = None
    if "PEER" in slots:  # the prefix length is the peer's then
        peer, slash, length = values[slots["PEER"]].partition("/")
        peer = host_address(peer, family)
    address = host_address(own, family)
    most = 32 if family == 4 else 128
    if address is None or ("PEER" in slots and peer is None) or (slash and int(length[:4]) > most):
        mark_unparsed(dump, number, f"{values[slots['ADDRESS']][:60]!r} stands where an IPv{family} address belongs")
        return
    prefix_length = int(length) if slash else most
    interface.addresses.append(InterfaceAddress(family, address, prefix_length, peer, shape.literal("SCOPE"), number))


# --- JSON ---


class _Address(msgspec.Struct, frozen=True):
    """One element of addr_info."""

    family: str = ""
    local: str = ""
    prefixlen: int | None = None
    address: str | None = None
    scope: str | None = None


class _Link(msgspec.Struct, frozen=True):
    """One element of `ip -j addr`. Elements that a filter empties are printed as {}."""

    ifindex: int = 0
    ifname: str | None = None
    flags: tuple[str, ...] = ()
    mtu: int | None = None
    operstate: str | None = None
    link_type: str | None = None
    addr_info: tuple[_Address, ...] = ()


_LOCAL = re.compile(r'\n|"local"\s*:\s*"([^"]*)"')


def _lines_of(text: str) -> dict[str, list[int]]:
    """The lines at which an address is the "local" of an element, in their order; nothing for JSON in one line."""
    found: dict[str, list[int]] = {}
    if "\n" not in text.strip():
        return found
    number = 1
    for match in _LOCAL.finditer(text):
        if match[1] is None:
            number += 1
        else:
            found.setdefault(match[1], []).append(number)
    return found


def _parse_json(text: str, path: str, line: int) -> InterfaceDump:
    try:
        links = msgspec.json.decode(text.encode("utf-8", "surrogateescape"), type=tuple[_Link, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        cut = not text.rstrip().endswith("]")
        what = "was cut short" if cut else f"is no output of `ip -j addr` ({error})"
        raise InputError(f"this JSON {what}; take it again with `ip -j addr`", path, line) from error
    dump = InterfaceDump(path, [], [], [], [], text.endswith("\n"), json=text)
    places = _lines_of(text)
    for link in links:
        if link.ifname is None:
            continue
        interface = Interface(link.ifname, link.ifindex, frozenset(link.flags), link.operstate, link.mtu, line)
        for one in link.addr_info:
            family: Literal[4, 6] = 6 if one.family == "inet6" else 4
            if one.family not in ("inet", "inet6"):
                continue
            most = 32 if family == 4 else 128
            where = places[one.local].pop(0) if places.get(one.local) else line
            address = host_address(one.local, family)
            peer = None if one.address is None else host_address(one.address, family)
            length = most if one.prefixlen is None else one.prefixlen
            if address is None or not 0 <= length <= most:
                message = f"{one.local[:60]!r} of interface {link.ifname} is no IPv{family} address with its prefix length"
                dump.problems.append(Problem(where, "unparsable", message))
                continue
            interface.addresses.append(InterfaceAddress(family, address, length, peer, one.scope, where))
        dump.interfaces.append(interface)
    if dump.interfaces and all(link.link_type is None for link in links):
        families = {address.family for _, address in dump.addresses()}
        dump.only_family = families.pop() if len(families) == 1 else None
    return dump

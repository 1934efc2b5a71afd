"""The values of rules that are read as numbers: which texts may stand there.

The grammar knows words; whether a word is a port or an address is said here, once for everything that reads rules. iptables-save
prints addresses and numbers, never names, and no tool accepts what is refused here, so a rule with such a value is damaged.
"""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dumps.rules import LineKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ruleaudit.dumps.rules import Option, Shape

__all__ = ["ValueKind", "damaged_values", "kinds_of", "option_without_value"]

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
_U32 = re.compile("0[xX][0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}")
_RANGE = re.compile(f"{_PORT}|{_PORT}?:{_PORT}?")


def _is_address(text: str) -> bool:
    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):  # ValueError: a character that no address has
        return False
    return True


def _is_prefix(text: str) -> bool:
    address, slash, mask = text.partition("/")
    if not _is_address(address):
        return False
    if not slash or (_is_address(mask) and (":" in mask) == (":" in address)):
        return True
    return _is_count(mask) and int(mask) <= (128 if ":" in address else 32)


def _is_address_range(text: str) -> bool:
    return all(_is_address(part) for part in text.split("-", 1))


def _is_ports(text: str) -> bool:
    return all(_RANGE.fullmatch(part) for part in text.split(","))


def _is_port_range(text: str) -> bool:
    return re.fullmatch(f"{_PORT}(?:-{_PORT}(?:/{_PORT})?)?", text) is not None


def _is_destination(text: str) -> bool:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, ports = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":") or ":" not in host:
            return False
    elif text.count(":") > 1:
        host, colon, ports = text, "", ""
    else:
        host, colon, ports = text.partition(":")
    return ((not host and bool(colon)) or _is_address_range(host)) and (not colon or _is_port_range(ports))


def _is_mark(text: str) -> bool:
    return all(_U32.fullmatch(part) and int(part, 0) <= 0xFFFFFFFF for part in text.split("/", 1))


def _is_share(text: str) -> bool:
    try:
        return text.isascii() and 0 <= float(text) <= 1
    except ValueError:
        return False


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _is_every(text: str) -> bool:
    return _is_count(text) and int(text) > 0


class ValueKind(NamedTuple):
    """One kind of value. `usual`: the form that nearly all have, so that a whole column of them is passed at once; `allowed`
    decides about the others; `meaning`: what a message says was expected.
    """

    usual: re.Pattern[str]
    allowed: Callable[[str], bool]
    meaning: str


def _kind(usual: str, allowed: Callable[[str], bool], meaning: str) -> ValueKind:
    return ValueKind(re.compile(f"(?:(?:{usual})\n)*+"), allowed, meaning)


_NETWORK = _kind(rf"{_IPV4}(?:/(?:3[0-2]|[12]?[0-9]))?", _is_prefix, "an address, or an address with its prefix length or mask")
_ADDRESSES = _kind(_IPV4, _is_address_range, "an address or a range of addresses")
_PORTS = _kind(_PORT, _is_ports, "a port from 0 to 65535, a range or a list of them")
_PORT_RANGE = _kind(_PORT, _is_port_range, "a port from 0 to 65535 or a range of them")
_DESTINATION = _kind(f"{_IPV4}:{_PORT}", _is_destination, "an address and port")
_MARK = _kind("0x[0-9a-fA-F]{1,8}(?:/0x[0-9a-fA-F]{1,8})?", _is_mark, "a number of 32 bits, or two with a slash between them")
_SHARE = _kind(r"0\.[0-9]{1,15}", _is_share, "a probability from 0 to 1")
_COUNT = _kind("[0-9]{1,20}", _is_count, "a number of 64 bits")
_EVERY = _kind("[1-9][0-9]{0,8}", _is_every, "a number above 0")

_OWN = {"-s": _NETWORK, "-d": _NETWORK}
_PORT_FLAGS = dict.fromkeys(
    ("--dport", "--destination-port", "--sport", "--source-port", "--dports", "--destination-ports", "--sports", "--source-ports",
     "--ports"),
    _PORTS,
)  # fmt: skip
_MATCHES = {
    **dict.fromkeys(("tcp", "udp", "sctp", "dccp", "udplite", "multiport"), _PORT_FLAGS),
    "mark": {"--mark": _MARK},
    "connmark": {"--mark": _MARK},
    "iprange": {"--src-range": _ADDRESSES, "--dst-range": _ADDRESSES},
    "conntrack": {"--ctorigdst": _NETWORK, "--ctorigdstport": _PORTS},
    "statistic": {"--probability": _SHARE, "--every": _EVERY},
    "recent": {"--seconds": _COUNT, "--mask": _ADDRESSES},
}
_MARK_FLAGS = dict.fromkeys(
    ("--set-xmark", "--set-mark", "--or-mark", "--and-mark", "--xor-mark", "--nfmask", "--ctmask", "--mask"), _MARK
)
_TARGETS = {
    "MARK": _MARK_FLAGS,
    "CONNMARK": _MARK_FLAGS,
    "DNAT": {"--to-destination": _DESTINATION},
    "SNAT": {"--to-source": _DESTINATION},
    "REDIRECT": {"--to-ports": _PORT_RANGE},
    "MASQUERADE": {"--to-ports": _PORT_RANGE},
}


def kinds_of(shape: Shape) -> tuple[tuple[int, str, ValueKind], ...]:
    """The slots of a rule's shape whose values must be of a kind: (slot, option, kind). None for what is no rule."""
    if shape.kind is not LineKind.RULE:
        return ()
    found = [(slot, option.flag, kind) for option, kind in _options(shape) for slot in option.slots]
    found.extend((slot, "counter", _COUNT) for slot in shape.counter_slots or ())
    return tuple(found)


def option_without_value(shape: Shape) -> str | None:
    """The first option of a rule that needs a value of some kind and has none."""
    return next((option.flag for option, _kind in _options(shape) if not option.slots), None)


def _options(shape: Shape) -> Iterator[tuple[Option, ValueKind]]:
    groups = [(_OWN, shape.options)]
    groups.extend((_MATCHES.get(match.module, {}), match.options) for match in shape.matches)
    if shape.target is not None and shape.target.name is not None:
        groups.append((_TARGETS.get(shape.target.name, {}), shape.target.options))
    return ((option, kinds[option.flag]) for kinds, options in groups for option in options if option.flag in kinds)


def damaged_values(rows: Sequence[Sequence[str]], slot: int, kind: ValueKind) -> frozenset[str]:
    """Those values of one slot that are not of its kind. `rows`: the values of all lines of one shape."""
    column = [row[slot] for row in rows]
    if kind.usual.fullmatch("\n".join(column) + "\n"):
        return frozenset()
    return frozenset(text for text in set(column) if not kind.allowed(text))

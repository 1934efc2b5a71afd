"""The faithful model of what ipvsadm prints: virtual servers, their real servers, and which of their properties the listing has.

A listing is lines (`ruleaudit.dumps.lines`); what is asked of a line is worked out when it is asked, so that several 100,000 real servers
cost little more than their text. KPR 11 says what kube-proxy writes, KPR 12.3 and 12.4 how it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from ruleaudit.dumps.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.dumps.lines import LineShape

__all__ = ["FORWARDING_FLAGS", "Form", "Frontend", "IpvsDump", "Listing", "Protocol", "RealServer", "ServerText", "VirtualServer"]

Protocol: TypeAlias = Literal["TCP", "UDP", "SCTP"]
Form: TypeAlias = Literal["listing", "commands"]
Frontend: TypeAlias = tuple[str, int, Protocol]
"""Canonical address without brackets, port, protocol: what a virtual server is found by."""

FORWARDING_FLAGS = {
    "-m": "Masq",
    "--masquerading": "Masq",
    "-g": "Route",
    "--gatewaying": "Route",
    "-i": "Tunnel",
    "--ipip": "Tunnel",
}
"""How `ipvsadm -Sn` writes the forwarding method. It has no flag for Local, which it prints as -g, too."""
_SUFFIXES = {"K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


class RealServer(NamedTuple):
    """One real server of a virtual server. What the listing does not print is None.

    `address` is canonical, without brackets; `forwarding` is "Masq", "Route", "Tunnel", "Local" or "FullNat"; `weight` is that in
    the kernel; `active` and `inactive` are connections; `line` is 1-based.
    """

    address: str
    port: int
    forwarding: str | None
    weight: int | None
    active: int | None
    inactive: int | None
    line: int


class ServerText(msgspec.Struct, eq=False, gc=False):
    """A virtual server that is told by its address, and all its real servers, as dumps of several nodes have them in the same words: one
    object for them all.

    `shapes` and `values` are those of its lines, the others what a `VirtualServer` has. `facts`: what was worked out of the text alone, by
    what it is; whoever keeps something there may look at nothing else, nor at where the text stands.
    """

    shapes: tuple[LineShape, ...]
    values: tuple[tuple[str, ...], ...]
    protocol: Protocol | None
    address: str | None
    port: int | None
    family: Literal[4, 6]
    scheduler: str | None
    flags: tuple[str, ...]
    persistence: int | None
    mask: str | None
    one_packet: bool
    engine: str | None
    facts: dict[str, Any]

    def server(self, line: int, listing: Listing) -> VirtualServer:
        """The virtual server of a listing that stands at a line."""
        return VirtualServer(
            self.protocol,
            self.address,
            self.port,
            None,
            self.family,
            self.scheduler,
            self.flags,
            self.persistence,
            self.mask,
            self.one_packet,
            self.engine,
            line,
            listing,
            list(range(line + 1, line + len(self.shapes))),
            known=self,
        )


@dataclass(slots=True, eq=False)
class VirtualServer:
    """One virtual server: of `protocol`, `address` (canonical, without brackets) and `port`, or of a firewall `mark` (32 bits).

    Of those, the others are None. `family` is 4 or 6; `scheduler` is None where the listing does not print it, and then the
    properties below it are not known either; `flags` are the scheduler's; `persistence` is its timeout in seconds, None without;
    `mask` is the persistence mask as printed, None for the whole address; `one_packet` is --ops; `engine` the persistence engine.
    `lines` are the line numbers of its real servers; `line` is its own, or that of its first real server where the listing
    never declared it, which `declared` says. `whole`: the listing was not cut where it stands, so that all its real servers are known.
    `known`: these lines as other nodes have them, too; None where that is not known.
    """

    protocol: Protocol | None
    address: str | None
    port: int | None
    mark: int | None
    family: Literal[4, 6]
    scheduler: str | None
    flags: tuple[str, ...]
    persistence: int | None
    mask: str | None
    one_packet: bool
    engine: str | None
    line: int
    listing: Listing = field(repr=False)
    lines: list[int] = field(default_factory=list, repr=False)
    declared: bool = True
    whole: bool = True
    known: ServerText | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The line of the virtual server, as the input has it."""
        return self.listing.dump.text(self.line)

    @property
    def real_servers(self) -> tuple[RealServer, ...]:
        """Its real servers, in the order of their lines."""
        return tuple(self.listing.real_server(line) for line in self.lines)

    @property
    def name(self) -> str:
        """How ipvsadm calls it: "TCP 10.96.0.1:443", "UDP [fd00::a]:53", "FWM 1" or "FWM 2 IPv6"."""
        if self.mark is not None:
            return f"FWM {self.mark}{' IPv6' if self.family == 6 else ''}"
        host = f"[{self.address}]" if self.family == 6 else self.address
        return f"{self.protocol} {host}:{self.port}"


class _Plan(NamedTuple):
    """Where the lines of one shape have what a real server is made of; -1 where they do not have it."""

    endpoint: int
    forwarding: int
    method: str | None
    weight: int
    active: int
    inactive: int


@dataclass(slots=True, eq=False)
class Listing:
    """One listing within an input: what one run of ipvsadm printed.

    `form` is "commands" for `ipvsadm -Sn`. `columns` are the columns of its real servers as the header names them ("Forward",
    "Weight", "ActiveConn", "InActConn", "Uthreshold", "Conns", ...), without the address; for commands, those that they have.
    `whole`: it lists every virtual server, as far as can be told: a listing without its first line ("IP Virtual Server version") is
    one of a single service (`ipvsadm -Ln -t ...`), or was cut. Of commands this cannot be told: they are taken for whole. `cut`: its
    beginning or its end is seen to be missing; then it is not whole.
    """

    form: Form
    line: int
    columns: tuple[str, ...]
    whole: bool
    dump: IpvsDump = field(repr=False)
    has_schedulers: bool
    """Whether schedulers, persistence and flags of virtual servers are printed: --stats and --rate leave them out."""
    cut: bool = False
    servers: list[VirtualServer] = field(default_factory=list, repr=False)
    by_frontend: dict[Frontend, VirtualServer] = field(default_factory=dict, repr=False)
    by_mark: dict[tuple[int, int], VirtualServer] = field(default_factory=dict, repr=False)
    """By firewall mark and family."""
    _plans: dict[LineShape, _Plan] = field(default_factory=dict, repr=False)

    @property
    def has_weights(self) -> bool:
        """Whether weights are printed: --stats, --rate and --thresholds leave them out."""
        return "Weight" in self.columns

    @property
    def has_forwarding(self) -> bool:
        """Whether forwarding methods are printed."""
        return "Forward" in self.columns

    @property
    def has_connections(self) -> bool:
        """Whether active and inactive connections are printed: commands, --stats and --rate leave them out."""
        return "ActiveConn" in self.columns

    def server(self, address: str, port: int, protocol: str) -> VirtualServer | None:
        """The virtual server of a canonical address, a port and a protocol ("TCP", "UDP", "SCTP"); None where there is none."""
        return self.by_frontend.get((address, port, protocol))  # type: ignore[arg-type]  # any other protocol has none

    def real_server(self, line: int) -> RealServer:
        """The real server of one of the listing's lines."""
        dump = self.dump
        shape = dump.shapes[line]
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plans[shape] = self._plan(shape)
        values = dump.values[line]
        endpoint, forwarding, method, weight, active, inactive = plan
        address, port = dump.endpoints[values[endpoint]]
        return RealServer(
            address,
            port,
            values[forwarding].strip() if forwarding >= 0 else method,
            int(values[weight]) if weight >= 0 else None,
            int(values[active]) if active >= 0 else None,
            int(values[inactive]) if inactive >= 0 else None,
            line,
        )

    def counters(self, line: int) -> dict[str, int]:
        """The numbers of a line of --stats or --rate by the names of their columns. K, M, G and T are powers of 1000."""
        shape, values = self.dump.shapes[line], self.dump.values[line]
        texts = [values[part.slot].strip() for part in shape.parts if part.name == "COUNT" and part.slot is not None]
        if len(texts) != len(self.columns):
            return {}
        return {
            name: int(text[:-1]) * _SUFFIXES[text[-1]] if text[-1] in _SUFFIXES else int(text)
            for name, text in zip(self.columns, texts, strict=True)
        }

    def _plan(self, shape: LineShape) -> _Plan:
        slots = shape.slots
        if self.form == "commands":
            flag = shape.literal("FORWARD_FLAG")
            method = None if flag is None else FORWARDING_FLAGS[flag]
            return _Plan(slots["ENDPOINT"], -1, method, slots.get("WEIGHT", -1), -1, -1)
        places = dict.fromkeys(self.columns, -1)
        places.update(zip(self.columns, _column_slots(shape), strict=False))
        return _Plan(
            slots["ENDPOINT"],
            places.get("Forward", -1),
            None,
            places.get("Weight", -1),
            places.get("ActiveConn", -1),
            places.get("InActConn", -1),
        )


def _column_slots(shape: LineShape) -> Iterator[int]:
    return (part.slot for part in shape.parts if part.slot is not None and part.name in ("FORWARD", "TUNNEL", "COUNT"))


@dataclass(slots=True, eq=False)
class IpvsDump(Lines):
    """One input of ipvsadm: its lines and the listings in it, mostly one.

    `problems`: "unparsable" lines, "truncated" inputs, "redeclared" virtual and real servers. `notes`: messages of tools.
    `endpoints` are the addresses and ports of the input by their text.
    """

    listings: list[Listing] = field(default_factory=list)
    endpoints: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False)

    def servers(self) -> Iterator[VirtualServer]:
        """Every virtual server of every listing, in the order of their lines."""
        for listing in self.listings:
            yield from listing.servers

"""`ipvsadm -Ln` in all its variants and `ipvsadm -Sn` to the faithful model (`ruleaudit.dumps.virtual_servers`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from ruleaudit.addresses import host_address
from ruleaudit.collector import without_collection
from ruleaudit.dumps.lines import BLANK, UNPARSED
from ruleaudit.dumps.rules import Problem
from ruleaudit.dumps.virtual_servers import IpvsDump, Listing, VirtualServer
from ruleaudit.errors import InputError
from ruleaudit.formats.line_grammar import LineGrammar, mark_unparsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ruleaudit.dumps.lines import LineShape
    from ruleaudit.dumps.virtual_servers import Protocol, ServerText
    from ruleaudit.formats.known_texts import KnownServers

__all__ = ["MAX_SERVERS", "parse", "parse_with_grammar"]

MAX_SERVERS = 1_000_000
"""More virtual servers are refused: 10,000 services on 100 addresses have so many."""
_LITERALS = frozenset(
    ("COLUMN", "PROTOCOL", "IPV6", "ONE_PACKET", "PROTOCOL_FLAG", "IPV6_FLAG", "ONE_PACKET_FLAG", "FORWARD_FLAG", "OTHER_FLAG")
)
_grammar = LineGrammar("ipvsadm.lark", _LITERALS, "`ipvsadm -Ln` or `ipvsadm -Sn`")
_DEFAULT_COLUMNS = ("Forward", "Weight", "ActiveConn", "InActConn")
_COUNTED = frozenset(("Conns", "CPS"))
"""The first columns of --stats and --rate, which print no scheduler."""
_PROTOCOLS: dict[str, Protocol] = {
    "-t": "TCP",
    "-u": "UDP",
    "--tcp-service": "TCP",
    "--udp-service": "UDP",
    "--sctp-service": "SCTP",
}
_PADDED = re.compile(r"[0-9]+ +\Z")
_WIDTH = 10
"""How wide `ipvsadm -Ln` prints the last column, with blanks behind the number (ipvsadm.c, print_service_entry)."""
_NAMES = re.compile(r"(?:\[[^\]]*[g-zG-Z_-][^\]]*\]|[^\[:]*[a-zA-Z][^:]*):|.*:[^:\]]*[a-zA-Z][^:\]]*\Z")
"""A host or a port that is a name: with a letter that no number has there."""


def parse(text: str, path: str, *, known: KnownServers | None = None) -> IpvsDump:
    """Read what `ipvsadm -Ln`, with or without --stats, --rate, --thresholds, --persistent-conn, --tun-info, or `ipvsadm -Sn` printed.

    `text` is the whole input, `path` its name in messages. A line that the format does not allow is a problem of the dump, and the
    rest is read. `known`: what dumps of other nodes have in the same words; while it learns, it takes in what this one has.
    Raises InputError for a listing with names instead of numbers (made without -n), for more than 3,000,000 lines or
    MAX_SERVERS virtual servers, and for what is no such listing at all.
    """
    dump = None if known is None else _parse_known(text, path, known)
    if dump is None:
        dump = _parse(text, path, by_grammar=False)
        if known is not None and dump.final_newline:
            known.learn(text, dump, _grammar.origin)
    return dump


def parse_with_grammar(text: str, path: str) -> IpvsDump:
    """The same as `parse`, a hundred times slower: every line goes through the grammar. The reference in the tests."""
    return _parse(text, path, by_grammar=True)


def _parse(text: str, path: str, *, by_grammar: bool) -> IpvsDump:
    with without_collection():
        lines = _grammar.place(text, path, by_grammar=by_grammar)
        dump = IpvsDump(path, lines.shapes, lines.values, lines.problems, lines.notes, lines.final_newline)
        _mark_cut_line(dump)
        _Framer(dump).frame()
        _mark_cut(dump)
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


def _parse_known(text: str, path: str, known: KnownServers) -> IpvsDump | None:
    """Read a dump most of which is known from others. None where that is not possible: for the way of one line after the other."""
    if known.origin is not _grammar.origin or not text.endswith("\n"):
        return None
    with without_collection():
        layout = known.layout(text)
        if len(layout.unknown) == len(layout.parts) or "" in layout.unknown:
            return None
        placed = _grammar.place("\n".join([*layout.unknown, ""]), path)
        if placed.problems or known.origin is not _grammar.origin:  # problems name lines by their numbers
            return None
        shapes, values = placed.shapes[:1], placed.values[:1]
        texts: list[tuple[int, ServerText]] = []
        rest = zip(placed.shapes[1:], placed.values[1:], strict=True)
        for part in layout.parts:
            if part is not None:
                texts.append((len(shapes), part))
                shapes.extend(part.shapes)
                values.extend(part.values)
            else:
                shape, row = next(rest)
                shapes.append(shape)
                values.append(row)
        dump = IpvsDump(path, shapes, values, [], [], final_newline=True)
        dump.endpoints.update(known.endpoints)
        _Framer(dump).frame(texts)
        _mark_cut(dump)
        dump.problems.sort(key=lambda problem: problem.line)
        return dump


def _mark_cut_line(dump: IpvsDump) -> None:
    """A last line that nothing ends: without the weight that `ipvsadm -Sn` always prints, or a virtual server, whose own end is not known."""
    if dump.final_newline:
        return
    last = dump.shapes[-1]
    padded = _PADDED.search(dump.text(dump.line_count)) if last.kind == "server" else None
    without_end = (
        last.kind in ("service", "mark", "add_service")
        or (last.kind == "add_server" and "WEIGHT" not in last.slots)
        or (padded is not None and len(padded[0]) < _WIDTH)
    )
    if without_end:
        mark_unparsed(dump, dump.line_count, "the input ends within a line: it was cut here; take it again", "truncated")


def _mark_cut(dump: IpvsDump) -> None:
    """The listings of which a part is seen to be missing, and their virtual servers that may have lost real servers with it."""
    for listing in dump.listings:
        for server in listing.servers:
            if not server.declared:
                server.whole = False
                listing.cut = True
    last = dump.listings[-1] if dump.listings else None
    within_blanks = not dump.final_newline and dump.shapes[-1].kind == BLANK
    if last is not None and (
        within_blanks or any(one.kind == "truncated" and one.line == dump.line_count for one in dump.problems)
    ):
        last.cut = True
        if last.servers:
            last.servers[-1].whole = False
    for listing in dump.listings:
        listing.whole = listing.whole and not listing.cut


class _Service(NamedTuple):
    """What the lines of one shape say about a virtual server besides its values."""

    protocol: Protocol | None
    ipv6: bool
    one_packet: bool


class _Framer:
    """Lines to listings, virtual servers and real servers."""

    def __init__(self, dump: IpvsDump) -> None:
        self.dump = dump
        self.listing: Listing | None = None
        self.current: VirtualServer | None = None
        self.banner = 0
        self.head: tuple[int, tuple[str, ...]] | None = None
        self.counts: dict[LineShape, int] = {}
        self.seen: dict[int, set[str]] = {}
        """Texts of real servers, by the line of their virtual server."""
        self.lost = False
        """Whether the virtual server of the next real servers stands in a line that could not be read."""

    def frame(self, texts: Sequence[tuple[int, ServerText]] = ()) -> None:
        """Frame the dump. `texts`: virtual servers that are known, by their first lines, in order."""
        dump = self.dump
        at = 1
        for start, text in texts:
            if at < start:
                self._frame_lines(at, start)
            at = start + len(text.shapes)
            if not self._add_known(start, text):
                self._frame_lines(start, at)
        self._frame_lines(at, len(dump.shapes))
        self._cut_header(dump.line_count)

    def _add_known(self, number: int, text: ServerText) -> bool:
        """Add a virtual server that is known. False where the listing has one of this address already."""
        listing = self.listing
        if listing is None or listing.form != "commands":
            return False  # the first one opens it
        if (text.address, text.port, text.protocol) in listing.by_frontend:
            return False
        self.lost = False
        self._add(text.server(number, listing))
        return True

    def _frame_lines(self, start: int, end: int) -> None:
        dump = self.dump
        handlers = {
            "banner": self._banner,
            "head": self._head,
            "server_head": self._server_head,
            "service": self._service,
            "mark": self._service,
            "add_service": self._service,
            "message": self._message,
        }
        endpoints = dump.endpoints
        current: VirtualServer | None = None
        usual: LineShape | None = None
        add: Callable[[int], None] | None = None
        seen: set[str] = set()
        frontend, endpoint_slot = "", 0
        for number, (shape, values) in enumerate(zip(dump.shapes[start:end], dump.values[start:end], strict=True), start):
            kind = shape.kind
            if kind == "server":
                if current is not self.current:
                    current, usual = self.current, None
                    if current is not None:
                        add, seen = current.lines.append, self._texts_of(current)
                if current is None or add is None:
                    if not self.lost:
                        self._stray(number)
                    continue
                endpoint = values[0]
                if endpoint not in endpoints and not self._endpoint(endpoint, number):
                    continue
                if shape is not usual:
                    if self.counts.get(shape) != len(current.listing.columns) and not self._counted(shape, number):
                        continue
                    usual = shape
                if endpoint in seen:
                    self._again(endpoint, number)
                    continue
                seen.add(endpoint)
                add(number)
            elif kind == "add_server":
                # All commands that add to one virtual server stand together: it is looked for once.
                if shape is not usual or values[0] != frontend:
                    current, usual, frontend = self._named(number, shape, values), shape, values[0]
                    if current is None:
                        usual = None
                        continue
                    add, seen = current.lines.append, self._texts_of(current)
                    endpoint_slot = shape.slots["ENDPOINT"]
                endpoint = values[endpoint_slot]
                if endpoint not in endpoints and not self._endpoint(endpoint, number):
                    continue
                if endpoint in seen:
                    self._again(endpoint, number)
                    continue
                seen.add(endpoint)
                if add is not None:
                    add(number)
            elif kind == UNPARSED:
                if not values[0].lstrip().startswith("->"):
                    self.current = None  # perhaps a virtual server, and what follows would belong to it: said once
                    self.lost = True
            elif kind != BLANK:
                current = usual = None
                handlers[kind](number, shape, values)

    def _texts_of(self, server: VirtualServer) -> set[str]:
        """The texts of the real servers of a virtual server that gets further ones."""
        seen = self.seen.get(server.line)
        if seen is None:
            known = server.known
            seen = self.seen[server.line] = (
                set()
                if known is None
                else {row[shape.slots["ENDPOINT"]] for shape, row in zip(known.shapes[1:], known.values[1:], strict=True)}
            )
            server.known = None
        return seen

    # --- headers ---

    def _banner(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        self._cut_header(number - 1)
        self.banner = number
        self.listing = self.current = None

    def _head(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        if self.head is not None:
            self._cut_header(number - 1)
        self.head = (number, tuple(part.text or "" for part in shape.parts if part.name == "COLUMN"))
        self.listing = self.current = None

    def _server_head(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        own = tuple(part.text or "" for part in shape.parts if part.name == "COLUMN")
        if self.head is None:
            self._open("listing", number, own or _DEFAULT_COLUMNS, has_schedulers=bool(own))
            return
        line, columns = self.head
        self.head = None
        has_schedulers = not columns or columns[0] not in _COUNTED
        self._open("listing", self.banner or line, own or columns, has_schedulers=has_schedulers)

    def _open(
        self, form: Literal["listing", "commands"], number: int, columns: tuple[str, ...], *, has_schedulers: bool
    ) -> Listing:
        whole = form == "commands" or self.banner > 0
        self.banner = 0
        self.counts = {}
        self.seen.clear()
        listing = Listing(form, number, columns, whole, self.dump, has_schedulers)
        self.dump.listings.append(listing)
        self.listing = listing
        return listing

    def _cut_header(self, last: int) -> None:
        line = self.banner or (self.head[0] if self.head is not None else 0)
        self.banner = 0
        self.head = None
        if line:
            message = "the header of ipvsadm is not whole: the listing was cut here; take it again"
            self.dump.problems.append(Problem(max(line, last), "truncated", message))

    def _message(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:  # noqa: ARG002
        self.dump.notes.append(Problem(number, "message", values[0].strip()))

    # --- virtual servers ---

    def _service(self, number: int, shape: LineShape, values: tuple[str, ...]) -> None:
        commands = shape.kind == "add_service"
        self.current = None
        self.lost = False
        if self.listing is None or (self.listing.form == "commands") != commands:
            self._cut_header(number - 1)
            if commands:
                self._open("commands", number, ("Forward", "Weight"), has_schedulers=True)
            else:  # without any header: by what this line has
                counted = "COUNT" in shape.slots
                self._open("listing", number, (), has_schedulers=not counted)
        server = self._made(number, shape, values)
        if server is None:
            self.lost = True
        else:
            self._add(server)

    def _made(self, number: int, shape: LineShape, values: tuple[str, ...]) -> VirtualServer | None:
        """The virtual server of a line; None where its values are none."""
        listing = self.listing
        if listing is None:
            raise AssertionError("a listing is open")
        slots = shape.slots
        address: str | None = None
        port: int | None = None
        mark: int | None = None
        protocol: Protocol | None = None
        if "FRONTEND" in slots:
            text = values[slots["FRONTEND"]]
            if not self._endpoint(text, number):
                return None
            address, port = self.dump.endpoints[text]
            flag = shape.literal("PROTOCOL_FLAG")
            protocol = _PROTOCOLS[flag] if flag is not None else cast("Protocol", shape.literal("PROTOCOL"))
            family: Literal[4, 6] = 6 if ":" in address else 4
        else:
            mark = int(values[slots["MARK"]]) & 0xFFFFFFFF  # printed as a signed number
            family = 6 if (shape.literal("IPV6") or shape.literal("IPV6_FLAG")) is not None else 4
        if listing.columns and "COUNT" in slots and not self._counted(shape, number):
            return None
        flags = values[slots["FLAGS"]].strip("()") if "FLAGS" in slots else ""
        if "SCHEDULER_FLAGS" in slots:
            flags = values[slots["SCHEDULER_FLAGS"]]
        one_packet = shape.literal("ONE_PACKET") or shape.literal("ONE_PACKET_FLAG")
        return VirtualServer(
            protocol=protocol,
            address=address,
            port=port,
            mark=mark,
            family=family,
            scheduler=values[slots["SCHEDULER"]] if "SCHEDULER" in slots else None,
            flags=tuple(flags.split(",")) if flags else (),
            persistence=int(values[slots["SECONDS"]]) if "SECONDS" in slots else None,
            mask=values[slots["MASK"]] if "MASK" in slots else None,
            one_packet=one_packet is not None,
            engine=values[slots["ENGINE"]] if "ENGINE" in slots else None,
            line=number,
            listing=listing,
        )

    def _add(self, server: VirtualServer) -> None:
        listing = server.listing
        if server.mark is not None:
            first = listing.by_mark.setdefault((server.mark, server.family), server)
        else:
            key = (server.address or "", server.port or 0, cast("Protocol", server.protocol))
            first = listing.by_frontend.setdefault(key, server)
        if first is server:
            listing.servers.append(server)
            if len(listing.servers) > MAX_SERVERS:
                message = f"there are more virtual servers than are read ({MAX_SERVERS:,})"
                raise InputError(message, self.dump.path, server.line)
        elif first.declared:
            message = f"virtual server {server.name} is listed again: line {first.line} has it already"
            self.dump.problems.append(Problem(server.line, "redeclared", message))
        self.current = first

    # --- real servers ---

    def _named(self, number: int, shape: LineShape, values: tuple[str, ...]) -> VirtualServer | None:
        """The virtual server that an `-a` names; None where its values are none."""
        listing = self.listing
        if listing is None or listing.form != "commands":
            self._cut_header(number - 1)
            listing = self._open("commands", number, ("Forward", "Weight"), has_schedulers=True)
        slots = shape.slots
        found: VirtualServer | None
        if "FRONTEND" in slots:
            text = values[slots["FRONTEND"]]
            if text not in self.dump.endpoints and not self._endpoint(text, number):
                return None
            address, port = self.dump.endpoints[text]
            found = listing.by_frontend.get((address, port, _PROTOCOLS[shape.literal("PROTOCOL_FLAG") or ""]))
        else:
            family = 6 if shape.literal("IPV6_FLAG") is not None else 4
            found = listing.by_mark.get((int(values[slots["MARK"]]) & 0xFFFFFFFF, family))
        if found is None:
            found = self._made(number, shape, values)
            if found is not None:
                found.declared = False
                message = (
                    f"no line before this one adds the virtual server {found.name}: the beginning was cut; take the dump again"
                )
                self.dump.problems.append(Problem(number, "truncated", message))
                self._add(found)
        return found

    def _counted(self, shape: LineShape, number: int) -> bool:
        """Whether a line has as many columns as the header names."""
        listing = self.listing
        if listing is None:
            raise AssertionError("a listing is open")
        count = sum(part.name in ("FORWARD", "TUNNEL", "COUNT") for part in shape.parts)
        if not listing.columns and "FORWARD" in shape.slots:
            columns = _DEFAULT_COLUMNS if "TUNNEL" not in shape.slots else ("Forward", "TunnelInfo", *_DEFAULT_COLUMNS[1:])
            listing.columns = columns
        elif not listing.columns:
            return True  # which numbers these are is not known
        known = listing.columns
        fits = count == len(known) and ("FORWARD" in shape.slots) == ("Forward" in known)
        fits = fits and ("TUNNEL" in shape.slots) == ("TunnelInfo" in known)
        if fits:
            self.counts[shape] = count
            return True
        expected = f"the header names {len(known)}: {', '.join(known)}"
        last = number == self.dump.line_count and not self.dump.final_newline
        kind, end = ("truncated", ": the listing was cut here; take it again") if last else ("unparsable", "")
        mark_unparsed(self.dump, number, f"the line has {count} columns where {expected}{end}", kind)
        return False

    def _stray(self, number: int) -> None:
        message = "no line before this real server names its virtual server"
        mark_unparsed(self.dump, number, message)

    def _again(self, endpoint: str, number: int) -> None:
        message = f"real server {endpoint} is listed twice for one virtual server"
        self.dump.problems.append(Problem(number, "redeclared", message))

    # --- values ---

    def _endpoint(self, text: str, number: int) -> bool:
        """Whether a text is an address and a port: they are then known by it. Raises InputError for names."""
        if text in self.dump.endpoints:
            return True
        host, _, digits = text.rpartition(":")
        address = host_address(host[1:-1], 6) if host.startswith("[") else host_address(host, 4)
        if address is not None and digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535:
            self.dump.endpoints[text] = (address, int(digits))
            return True
        if _NAMES.match(text):
            commands = self.dump.shapes[number].kind.startswith("add_")
            command = "ipvsadm -Sn" if commands else "ipvsadm -Ln"
            message = f"this listing has names instead of numbers ({text[:60]!r}); give the output of `{command}`"
            raise InputError(message, self.dump.path, number)
        mark_unparsed(self.dump, number, f"{text[:60]!r} stands where an address and a port from 0 to 65535 belong")
        return False

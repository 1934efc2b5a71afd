"""IPVS beside the rules: which virtual server takes a connection, and what becomes of it then (docs/semantics.md, S14).

A packet that is delivered to the node, or sent by it, and is for a virtual server, gets the address of one of its real servers, and
leaves through OUTPUT and POSTROUTING (net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.classes import Classes, Place
from ruleaudit.dataplane.evaluator import Evaluator, outcome_of
from ruleaudit.dataplane.matches import inside
from ruleaudit.dataplane.packet import NO_INTERFACE, Host, Packet, address_number
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP, BUILT_IN, Balance, Leaf, Ruleset
from ruleaudit.dataplane.sets import BITMAP_PROTOCOLS
from ruleaudit.dataplane.walk import Flow, Outcome, Run, Scheduled
from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ruleaudit.dumps.virtual_servers import Listing, RealServer, VirtualServer

__all__ = ["TABLE", "IpvsEvaluator", "Service", "VirtualTable", "usable"]

TABLE = "ipvs"
"""The table in the place of a virtual or real server: ("ipvs", name of the virtual server, line)."""
_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}


class Service(NamedTuple):
    """A virtual server made ready: what it says of itself, its real servers as a balance, and the lines of these; None and none when no
    connection can go to any.
    """

    server: VirtualServer
    scheduled: Scheduled
    balance: Balance | None
    lines: tuple[int, ...] = ()


class VirtualTable:
    """The virtual servers of one family."""

    def __init__(self, listing: Listing, family: int) -> None:
        self.listing, self.family = listing, family
        self._ready: dict[tuple[int, str], Service] = {}
        self._found: dict[tuple[str, int, str], Service | None] = {}
        self.hides_sctp = all(one.protocol != "SCTP" for one in listing.servers)
        """Whether SCTP may be printed as UDP, as ipvsadm before its release 1.31 does (KPR 12.3)."""

    def servers(self) -> Iterable[VirtualServer]:
        """The virtual servers of this family, in the order of their lines."""
        return (one for one in self.listing.servers if one.family == self.family)

    def find(self, address: str, port: int, protocol: str, mark: int = 0) -> Service | None:
        """The virtual server that takes a packet: that of its mark, of its address and port, or of its address and any port (ip_vs_ctl.c,
        ip_vs_service_find). `protocol` in lower case, as rules have it.
        """
        listing = self.listing
        server = listing.by_mark.get((mark, self.family)) if mark and listing.by_mark else None
        if server is not None:
            return self._service(server, protocol)
        key = (address, port, protocol)
        try:
            return self._found[key]
        except KeyError:
            name = _PROTOCOLS.get(protocol, "")
            server = listing.server(address, port, name) or listing.server(address, 0, name)
            if server is None and name == "SCTP" and self.hides_sctp:
                server = listing.server(address, port, "UDP")
            found = None if server is None or server.family != self.family else self._service(server, protocol)
            self._found[key] = found
            return found

    def _service(self, server: VirtualServer, protocol: str) -> Service:
        key = (id(server), protocol)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = _made_ready(server, protocol)
        return ready


def usable(one: RealServer) -> bool:
    """Whether new connections can go to a real server: it has weight, and its address is put into the packet."""
    return one.weight != 0 and one.forwarding in (None, "Masq")


def _made_ready(server: VirtualServer, protocol: str) -> Service:
    name = server.name
    scheduled = Scheduled(
        server.address or "",
        server.port or 0,
        protocol,
        server.persistence,
        server.mask,
        (TABLE, name, server.line),
        server.one_packet
        and protocol == "udp",  # of other protocols the kernel does not look at it (ip_vs_core.c, ip_vs_schedule)
    )
    known = server.known
    fact = f"balance of {protocol}"
    if known is None:
        balance, places = _balance(server, protocol)
    elif fact in known.facts:
        balance, places = known.facts[fact]
    else:
        balance, places = known.facts[fact] = _balance(server, protocol)
    return Service(server, scheduled, balance, tuple([server.lines[place] for place in places]))


def _balance(server: VirtualServer, protocol: str) -> tuple[Balance | None, tuple[int, ...]]:
    """The usable real servers of a virtual server as a balance, and which of its real servers these are."""
    suffix = "/128" if server.family == 6 else "/32"
    name = server.name
    chosen = [(place, one) for place, one in enumerate(server.real_servers) if usable(one)]
    if not chosen:
        return None, ()
    total = sum(one.weight or 1 for _, one in chosen)
    leaves = tuple(
        [
            Leaf(
                name,
                endpoint_text(one.address, one.port),
                one.address,
                one.address + suffix,
                one.port,
                protocol,
                (),
                False,
            )
            for _, one in chosen
        ]
    )
    shares = [(one.weight or 1) / total for _, one in chosen]
    return Balance(0, leaves, shares, 0.0, server.persistence), tuple([place for place, _ in chosen])


class _VirtualPlaces:
    """Sorts destinations by everything that a packet to them may meet: rules that name addresses, sets that hold them, virtual servers."""

    def __init__(self, evaluator: IpvsEvaluator) -> None:
        rules = self.rules = evaluator.rules
        self.evaluator = evaluator
        chains = [(table, chain) for table in BUILT_IN for chain in BUILT_IN[table] if rules.prepared(table, chain) is not None]
        self.classes = Classes(rules, chains)
        self.sources: set[str] = set()
        self.asked: set[tuple[str, str]] = set()
        self.comparable = True
        self._by_destination: dict[tuple[str, int, str], tuple[bool | None, ...]] = {}
        seen: set[tuple[str, str]] = set()
        while chains:
            place = chains.pop()
            if place in seen:
                continue
            seen.add(place)
            for entry in rules.entries(*place):
                if entry.action in (A_JUMP, A_GOTO):
                    chains.append((place[0], entry.target))
                for option in entry.plan.shape.options:
                    if option.flag == "-s" and option.slots:
                        self.sources.add(entry.values[option.slots[0]])
                for match in entry.plan.shape.matches:
                    if match.module == "set":
                        for option in match.options:
                            if option.flag == "--match-set" and len(option.slots) == 2:
                                self.asked.add((entry.values[option.slots[0]], entry.values[option.slots[1]]))
                            else:
                                self.comparable = False
        self._sources: dict[str, tuple[object, ...]] = {}
        # Sets that are asked for the destination alone are most of them, and asked for every frontend: their answers are looked up.
        self.of_destination = sorted(asked for asked in self.asked if "src" not in asked[1].split(","))
        self.of_both = sorted(self.asked.difference(self.of_destination))

    def held(self, protocol: str, destination: str, port: int) -> tuple[bool | None, ...]:
        """Which of the sets `of_destination` hold a destination."""
        key = (destination, port, protocol)
        known = self._by_destination.get(key)
        if known is None:
            sets = self.rules.sets
            assert sets is not None
            number, both = str(port), f"{destination},{protocol}:{port}"
            known = self._by_destination[key] = tuple(
                [
                    both in plain[1]
                    if (plain := sets.plain(name, flags)) is not None and plain[0] == "ip,port"
                    else protocol in BITMAP_PROTOCOLS and number in plain[1]
                    if plain is not None and plain[0] == "port"
                    else destination in plain[1]
                    if plain is not None
                    else sets.holds(name, flags, protocol, destination, port, "", None)
                    for name, flags in self.of_destination
                ]
            )
        return known

    def source_class(self, run: Run) -> tuple[object, ...]:
        """Which of the rules' `-s` a source meets."""
        known = self._sources.get(run.packet.source)
        if known is None:
            number, family = address_number(run.packet.source), run.packet.family
            known = self._sources[run.packet.source] = tuple([inside(text, family, number) for text in sorted(self.sources)])
        return known

    def find(self, client: Packet, destination: str, port: int) -> Place | None:
        """The place of a destination; None when it has to be asked for itself."""
        service = self.evaluator.virtual.find(destination, port, client.protocol)
        if service is None or service.balance is None or not self.comparable:
            return None
        sets = self.rules.sets
        held: list[object] = []
        if sets is not None:
            held.append(self.held(client.protocol, destination, port))
            for name, flags in self.of_both:
                named = sets.sources(name, flags)
                if named is not None and client.source not in named:
                    held.append(False)
                elif named is not None and client.source == destination and flags == "src,dst":
                    held.append(sets.holds(name, flags, client.protocol, destination, port, client.source, None))
                elif flags.startswith("dst,dst,") and not sets.begins(name, destination, client.protocol, port):
                    held.append(False)
                else:
                    return None
        balance = service.balance
        if client.source in balance.addresses.texts:
            return None
        classes = self.classes
        key = (
            classes.of_address(destination),
            classes.of_port(port),
            self.evaluator.host.is_local(destination),
            tuple(held),
            service.scheduled.mask,
            service.scheduled.one_packet,
            self.evaluator.groups_of(balance)[0],
        )
        return Place(key, (balance,))


class IpvsEvaluator(Evaluator):
    """Answers for a node whose connections IPVS balances: its rules, its sets, its virtual servers."""

    answers_together = False

    def __init__(self, rules: Ruleset, host: Host, virtual: VirtualTable) -> None:
        super().__init__(rules, host)
        self.virtual = virtual
        self._virtual_places: _VirtualPlaces | None = None

    def place(self, client: Packet, destination: str, port: int) -> Place | None:
        """See `Evaluator.place`."""
        if self._virtual_places is None:
            self._virtual_places = _VirtualPlaces(self)
        return self._virtual_places.find(client, destination, port)

    def bundled(self, client: Packet, destination: str, port: int, place: Place, mark: int) -> tuple[Balance, bool] | None:
        """See `Evaluator.bundled`. The node's packets to its own addresses come from there: their source is then of a class, too."""
        places = self._virtual_places
        assert places is not None
        packet = client
        own = client.source == destination
        sender = (*client.key[:2], places.source_class(self.run(client)), *client.key[3:]) if own else client.key
        key = (sender, own, place.key, mark)
        try:
            known = self._bundled[key]
        except KeyError:
            found = self._ask_bundled(packet.to(destination, port), place.balances, mark)
            known = self._bundled[key] = found[0] if found else None
        return None if known is None else (place.balances[0], known[1])

    def deliver(self, run: Run, flow: Flow) -> Iterable[Outcome]:
        """See `Evaluator.deliver`: what a virtual server does with a flow is not remembered by classes of addresses."""
        if flow.bundle is not None:  # rules of the iptables mode have sent it to its endpoint before IPVS sees it
            return super().deliver(run, flow)
        flow.nat_mark = flow.mark
        return self._deliver_now(run, flow)

    def _deliver_now(self, run: Run, flow: Flow) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if run.packet.from_node:
            for one in self._schedule(run, flow, outcomes):
                if one.scheduled is not None and not run.host.is_local(one.address):
                    self._send(run, one, outcomes)
                else:
                    outcomes += super()._deliver_now(run, one)
            return outcomes
        if not run.host.is_local(flow.address):
            return super()._deliver_now(run, flow)
        run.out_interface = NO_INTERFACE
        flows = [flow]
        for table in ("mangle", "filter", "security"):
            flows = self._stage(run, table, "INPUT", flows, outcomes)
        for arrived in flows:
            for one in self._schedule(run, arrived, outcomes):
                if one.scheduled is not None and not run.host.is_local(one.address):
                    self._send(run, one, outcomes)
                else:
                    outcomes.append(outcome_of(one, Verdict.FORWARD if one.translated else Verdict.LOCAL, None))
        return outcomes

    def _schedule(self, run: Run, flow: Flow, outcomes: list[Outcome]) -> list[Flow]:
        """A flow as its virtual server sends it on, one part for each real server; as it is where there is no virtual server.

        Without a usable real server the client is told that its destination is unreachable (ip_vs_core.c, ip_vs_leave).
        """
        service = None if flow.scheduled is not None else self.virtual.find(flow.address, flow.port, run.protocol, flow.mark)
        if service is None:
            return [flow]
        flow.scheduled = service.scheduled
        balance = service.balance
        if balance is None:
            flow.translated = False
            if run.tracing:
                flow.trail = (flow.trail, *service.scheduled.place)
            outcomes.append(outcome_of(flow, Verdict.REJECT, service.scheduled.place))
            return []
        parts = []
        for leaf, line in zip(balance.leaves, service.lines, strict=True):
            one = flow.clone(flow.share * balance.backends[leaf.endpoint])
            one.address, one.key, one.number, one.port = leaf.address, leaf.key, address_number(leaf.address), leaf.port
            one.translated = True
            one.nat_rule = (TABLE, leaf.name, line)
            if run.tracing:
                one.trail = ((one.trail, *service.scheduled.place), TABLE, leaf.name, line)
            parts.append(one)
        return parts

    def _send(self, run: Run, flow: Flow, outcomes: list[Outcome]) -> None:
        """What is sent to a real server elsewhere: OUTPUT from its beginning, but nat, which the connection has behind it; POSTROUTING."""
        before = run.in_interface, run.out_interface
        run.in_interface, run.out_interface = NO_INTERFACE, run.packet.out_interface
        flows = [flow]
        for table in ("raw", "mangle", "filter", "security"):
            flows = self._stage(run, table, "OUTPUT", flows, outcomes)
        flows = self._postrouting(run, flows, outcomes)
        run.in_interface, run.out_interface = before
        outcomes.extend(outcome_of(one, Verdict.FORWARD, None) for one in flows)

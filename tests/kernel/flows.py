"""Which packets to ask about on a captured node, and whether the kernel does with them what the evaluator says."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.laboratory import MASQUERADES, OUTSIDE, Fate, Node, Sent, network_namespace

from ruleaudit.cluster import load
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.ipvs import IpvsEvaluator, VirtualTable
from ruleaudit.dataplane.packet import Host, Interface, Packet
from ruleaudit.dataplane.ruleset import Ruleset, destination_of
from ruleaudit.dataplane.sets import Sets
from ruleaudit.formats import ip_addr, ipset, ipvsadm
from ruleaudit.formats.iptables_save import parse
from ruleaudit.forwarding import Verdict, endpoint_text, split_endpoint
from ruleaudit.kubeproxy.settings import LocalDetection, combine, read_settings, resolve
from ruleaudit.sources import InputKind, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ruleaudit.cluster import Cluster
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.dumps.ip_sets import IpSet
    from ruleaudit.dumps.rules import Dump

__all__ = ["Captured", "Tally", "compare", "compare_loaded", "without_accounting"]

PROTOCOLS = ("tcp", "udp", "sctp")
REPEATS = 4
"""How often a packet is sent that the rules may send to several places."""
_SCHEDULED = re.compile(r"^(?:\[\d+:\d+\] )?-A .* -m ipvs .*\n", re.MULTILINE)
NO_VIRTUAL_SERVERS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
"""
_NFACCT = re.compile(r"-m nfacct --nfacct-name +(\S+) ?")


@dataclass(frozen=True)
class Captured:
    """A captured node: its rules by family, and what of its objects says where packets go.

    `sets`: of a node in IPVS mode, as `ipset save` prints them. There is no IPVS in this kernel: such a node is tried without virtual servers,
    its node addresses being those of kube-ipvs0, too.
    """

    name: str
    dumps: Mapping[int, Dump]
    cluster: Cluster
    node_addresses: tuple[str, ...]
    pod_networks: tuple[str, ...]
    pod_interface: str
    sets: str = ""

    @classmethod
    def read(cls, folder: Path) -> Captured:
        """The capture in a folder."""
        sources = read([str(folder)])
        given = combine(
            [read_settings(one.data, one.path) for one in sources if one.kind in (InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)]
        )
        settings = resolve(given)
        cluster = load([(one.path, one.data) for one in sources if one.kind is InputKind.OBJECTS])
        dumps: dict[int, Dump] = {}
        for one in sources:
            if one.kind is InputKind.IPTABLES_SAVE:
                dump = parse(one.text, one.path)
                for family in {table.family for table in dump.tables}:
                    dumps.setdefault(family, dump)
        sets = "".join(one.text for one in sources if one.kind is InputKind.IPSET)
        name = (given.node if given is not None else None) or next(iter(cluster.nodes), "")
        node = cluster.nodes.get(name)
        addresses = list(settings.node_addresses)
        for one in sources if sets else ():
            if one.kind is InputKind.IP_ADDR:
                addresses += [held.address for _, held in ip_addr.parse(one.text, one.path).addresses() if held.scope != "link"]
        networks: list[str] = []
        if node is not None:
            addresses += [one.address for one in node.status.addresses if one.type in ("InternalIP", "ExternalIP")]
            networks += [one for one in (*node.spec.pod_cidrs, node.spec.pod_cidr) if one]
        networks += [
            address
            for pod in cluster.pods.values()
            if pod.spec.node_name == name and not pod.spec.host_network
            for address in pod.addresses
            if address not in addresses
        ]
        interface = "cni0"
        for detection in settings.local_detection.values():
            if isinstance(detection, LocalDetection) and detection.mode == "BridgeInterface":
                interface = detection.value
            elif isinstance(detection, LocalDetection) and detection.mode == "InterfaceNamePrefix":
                interface = f"{detection.value}0"
        plain = tuple(dict.fromkeys(str(ip_address(one)) for one in addresses))
        return cls(folder.name, dumps, cluster, plain, tuple(dict.fromkeys(networks)), interface, sets)

    def uses(self, match: str) -> bool:
        """Whether a rule uses a match."""
        return any(one.module == match for dump in self.dumps.values() for shape in set(dump.shapes) for one in shape.matches)


@dataclass
class Tally:
    """What a comparison found. `disagreements` are empty where the evaluator is right."""

    flows: int = 0
    packets: int = 0
    possible: int = 0
    spread: int = 0
    affinity: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.verdicts.items()))
        return f"{self.flows} flows ({kinds}), {self.packets} packets, {self.possible} possible, {self.spread} spread, {self.affinity} kept"


class _Question(NamedTuple):
    """A packet, and what the evaluator says of it: fates with their shares, whether one is only possible, where affinity leads."""

    sent: Sent
    fates: Mapping[Fate, float]
    possible: bool
    kept: Mapping[Fate, frozenset[str]]


class _Names:
    """What the rules of one family name: hosts and ports to ask for, prefixes that clients may lie in."""

    def __init__(self, dump: Dump, family: int) -> None:
        self.destinations: dict[tuple[str | None, str | None, str | None], None] = {}
        self.sources: dict[str, None] = {}
        self.endpoints: dict[tuple[str, int, str], None] = {}
        own = {line for table in dump.tables if table.family == family for chain in table.chains.values() for line in chain.lines}
        for rule in dump.rules():
            if rule.line not in own:
                continue
            protocol, where, source = rule.option("-p"), rule.option("-d"), rule.option("-s")
            port = rule.option("--dport") or rule.option("--dports")
            if where is not None or port is not None:
                named = (
                    where.values[0] if where is not None else None,
                    protocol.values[0] if protocol is not None else None,
                    port.values[0] if port is not None else None,
                )
                self.destinations[named] = None
            if source is not None:
                self.sources[source.values[0]] = None
            to = rule.option("--to-destination")
            if to is not None and protocol is not None and protocol.values[0] in PROTOCOLS:
                address, given, certain = destination_of(to.values[0], "", 1)
                if certain and address:
                    self.endpoints[address, given, protocol.values[0]] = None

    def add_sets(self, sets: Mapping[str, IpSet], family: int) -> None:
        """What the sets of one family name besides: source networks, node ports, endpoints that reach themselves, anything else."""
        for name, one in sets.items():
            if name.startswith("KUBE-6-") != (family == 6):
                continue
            for entry in one.entries or ():
                address, _, rest = entry.partition(",")
                kind, _, port = rest.partition(",")[0].partition(":")
                if entry.isdecimal():
                    self.destinations[None, "udp" if "UDP" in name else "tcp", entry] = None
                elif "LOOP-BACK" in name:
                    self.endpoints[address, int(port), kind] = None
                else:
                    self.destinations[address, kind or None, port or None] = None
                if "SOURCE" in name:
                    self.sources[rest.rpartition(",")[2]] = None


class _Comparison:
    """One family of one captured node, asked and tried."""

    def __init__(self, captured: Captured, family: int, node: Node, seed: str, tally: Tally) -> None:
        self.captured, self.family, self.node, self.tally = captured, family, node, tally
        self.dice = random.Random(f"{captured.name} {family} {seed}")
        dump = captured.dumps[family]
        self.names = _Names(dump, family)
        if captured.sets:
            sets = ipset.parse(captured.sets, "ipset.txt").sets
            virtual = VirtualTable(ipvsadm.parse(NO_VIRTUAL_SERVERS, "ipvsadm.txt").listings[0], family)
            self.evaluator: Evaluator = IpvsEvaluator(
                Ruleset(family, dump.tables, sets=Sets(sets)), Host(node.addresses), virtual
            )
            self.names.add_sets(sets, family)
        else:
            self.evaluator = Evaluator(Ruleset(family, dump.tables), Host(node.addresses))
        self.own = [one for one in captured.node_addresses if (":" in one) == (family == 6)] or [MASQUERADES[family][OUTSIDE]]
        flags = {
            option.flag
            for shape in set(dump.shapes)
            for options in (shape.options, *(one.options for one in shape.matches))
            for option in options
        }
        self.asks_out = "-o" in flags
        self.asks_source_port = not flags.isdisjoint({"--sport", "--sports", "--ports"})
        self._port = 20_000

    # --- what is asked ---------------------------------------------------------------------------------------------------------------

    def destinations(self) -> list[tuple[str, str, int]]:
        """(address, protocol, port) of what the rules and the objects name, and of near misses."""
        found: dict[tuple[str, str, int], None] = {}
        for where, protocol, ports in self.names.destinations:
            kinds = [protocol] if protocol in PROTOCOLS else [self.dice.choice(PROTOCOLS)]
            for kind in kinds:
                for address in self._inside(where) if where is not None else self._node_addresses():
                    found[address, kind, self._port_in(ports)] = None
        for service in self.captured.cluster.services.values():
            spec = service.spec
            published = [one.ip for one in service.status.load_balancer.ingress]
            for port in spec.ports:
                kind = (port.protocol or "TCP").lower()
                for text in (*spec.cluster_ips, spec.cluster_ip, *spec.external_ips, *published):
                    if text and text != "None" and (":" in text) == (self.family == 6):
                        found[str(ip_address(text)), kind, port.port] = None
                if port.node_port:
                    found.update(((address, kind, port.node_port), None) for address in self._node_addresses())
        named = list(found)
        for address, port_number, kind in self.names.endpoints:
            found[address, kind, port_number] = None
        for address, kind, port_number in self.dice.sample(named, len(named) // 4):
            found[address, kind, port_number % 65_535 + 1] = None
            found[address, self.dice.choice(PROTOCOLS), port_number] = None
            found[str(ip_address(address) + 1), kind, port_number] = None
        return [one for one in found if not _is_special(one[0])]

    def _node_addresses(self) -> list[str]:
        return [*self.own, MASQUERADES[self.family][OUTSIDE], *(["127.0.0.1"] if self.family == 4 else [])]

    def _inside(self, prefix: str) -> list[str]:
        base, _, mask = prefix.partition("/")
        if "." in mask or ":" in mask:  # may be any bits
            free = ~int(ip_address(mask)) & (2**32 - 1 if self.family == 4 else 2**128 - 1)
            return [str(ip_address(base) + (self.dice.getrandbits(128) & free)) for _ in range(3)]
        where = ip_network(prefix, strict=False)
        if where.num_addresses == 1:
            return [str(where.network_address)]
        return [str(where[self.dice.randrange(min(where.num_addresses, 1 << 32))]) for _ in range(3)]

    def _port_in(self, ports: str | None) -> int:
        if ports is None:
            return self.dice.randrange(1, 65_536)
        low, colon, high = self.dice.choice(ports.split(",")).partition(":")
        return self.dice.randrange(max(1, int(low or 0)), int(high or 65_535) + 1) if colon else int(low)

    def clients(self, destination: str) -> list[Sent]:
        """Who asks: a pod, the node, the outside, and one that a rule names; their packets lack all but the source."""
        sources = [self._pod(), self.dice.choice(self.own), self._outsider()]
        if self.names.sources:
            sources += self._inside(self.dice.choice(list(self.names.sources)))[:1]
        if _is_loopback(destination):
            sources.append("127.0.0.1" if self.family == 4 else "::1")
        clients = []
        for source in sources:
            if _is_special(source) or (_is_loopback(source) and not _is_loopback(destination)):
                continue  # the kernel takes such packets for martians wherever they come from
            clients.append(Sent(self.node.way_to(source), "", source, destination, 0, 0))
        return clients

    def _pod(self) -> str:
        networks = [one for one in self.node.pod_networks if one.version == self.family and one.num_addresses > 2] or [
            one for one in self.node.pod_networks if one.version == self.family
        ]
        if not networks:
            return self._outsider()
        where = self.dice.choice(networks)
        return str(where[self.dice.randrange(min(where.num_addresses, 1 << 32))])

    def _outsider(self) -> str:
        return self._inside("203.0.113.0/24" if self.family == 4 else "2001:db8:ffff::/64")[0]

    def questions(self, limit: int) -> Iterator[_Question]:
        """At most `limit` packets with the evaluator's answers."""
        packets = [
            client._replace(protocol=protocol, port=port)
            for address, protocol, port in self.destinations()
            for client in self.clients(address)
        ]
        # The client that is its own backend.
        packets += [
            Sent(self.node.way_to(address), protocol, address, destination, port, 0)
            for destination, protocol, port in self.destinations()
            for address, _port, kind in self.dice.sample(list(self.names.endpoints), min(2, len(self.names.endpoints)))
            if kind == protocol
        ]
        if self.captured.sets:  # nothing is translated here, so that it must ask for itself
            packets += [
                Sent(self.node.way_to(address), kind, address, address, port, 0)
                for address, port, kind in self.names.endpoints
                if not self.node.is_local(address)
            ]
        if len(packets) > limit:
            packets = self.dice.sample(packets, limit)
        for packet in packets:
            self._port = self._port + 1 if self._port < 60_000 else 20_000
            yield self.ask(packet._replace(source_port=self._port))

    # --- what is said ----------------------------------------------------------------------------------------------------------------

    def ask(self, sent: Sent) -> _Question:
        """The evaluator's answer for a packet with all of its interfaces."""
        packet = Packet(
            self.family, sent.protocol, sent.source, sent.destination, sent.port, from_node=sent.interface is None,
            in_interface=Interface(sent.interface or ""), source_port=sent.source_port, bridged=False,
        )  # fmt: skip
        fates: dict[Fate, float] = {}
        kept: dict[Fate, frozenset[str]] = {}
        possible = False
        # By which interface a packet leaves is known when its destination is: of each answer, what leaves by that one counts.
        for way in (OUTSIDE, self.node.pod_interface) if self.asks_out else (OUTSIDE,):
            outcomes, affinity = self.evaluator.evaluate(replace(packet, out_interface=Interface(way)))
            for outcome in outcomes:
                fate = self.fate(sent, outcome)
                address = split_endpoint(outcome.endpoint)[0] if outcome.endpoint is not None else sent.destination
                if self.asks_out and (self.node.way_to(address) or OUTSIDE) != way:
                    continue
                fates[fate] = fates.get(fate, 0.0) + outcome.share
                possible = possible or outcome.possible
                lists = [affinity[name][1] for name in outcome.remembered if name in affinity]
                if lists:
                    kept[fate] = frozenset().union(*lists)
                elif affinity:
                    kept.setdefault(fate, frozenset())
        return _Question(sent, fates, possible, kept)

    def fate(self, sent: Sent, outcome: Outcome) -> Fate:
        """An outcome as it will be seen."""
        if outcome.verdict in (Verdict.REJECT, Verdict.DROP):
            return Fate(outcome.verdict)
        asked = endpoint_text(sent.destination, sent.port)
        endpoint = outcome.endpoint or asked
        by = self.node.way_to(split_endpoint(endpoint)[0])
        verdict = Verdict.FORWARD if endpoint != asked else Verdict.LOCAL if by is None else Verdict.PASS
        return self.visible(sent, Fate(verdict, endpoint, by, outcome.masquerade))

    def visible(self, sent: Sent, fate: Fate) -> Fate:
        """Without what cannot be seen: over lo, IPv6 masquerades with the destination's own address, which may be the source's."""
        hidden = self.family == 6 and sent.interface is None and fate.by is None
        return fate._replace(masqueraded=None) if hidden else fate

    # --- what is so ------------------------------------------------------------------------------------------------------------------

    def compare(self, questions: Sequence[_Question]) -> None:
        """Send every packet and hold its fate against the answer."""
        tally = self.tally
        plain = [one for one in questions if not one.kept]
        # Round by round, because within a batch the same packet again would belong to the connection of the first.
        for number in range(REPEATS):
            asked = [one for one in plain if number == 0 or len(one.fates) > 1]
            for question, seen in zip(asked, self.node.send([one.sent for one in asked]), strict=True):
                self._judge(question, self.visible(question.sent, seen))
            tally.packets += len(asked)
        for question in questions:
            if question.kept:
                self._compare_kept(question)
        tally.flows += len(questions)
        tally.possible += sum(one.possible for one in questions)

    def _judge(self, question: _Question, seen: Fate) -> None:
        self.tally.verdicts[seen.verdict.value] += 1
        if question.fates.get(seen, 0.0) <= 0:
            said = ", ".join(f"{_told(fate)} ({share:.3g})" for fate, share in list(question.fates.items())[:6])
            self.tally.disagreements.append(f"{_asked(question.sent)}: the kernel {_told(seen)}, the evaluator {said}")

    def _compare_kept(self, question: _Question) -> None:
        """A client that a list remembers goes where it went before."""
        self.node.forget_clients()
        first = self.visible(question.sent, self.node.send([question.sent])[0])
        self._judge(question, first)
        self.tally.packets += 1
        reached = question.kept.get(first)
        if not reached:
            return
        self.tally.affinity += 1
        for seen in self.node.send([question.sent._replace(source_port=question.sent.source_port + more) for more in (1, 2, 3)]):
            self.tally.packets += 1
            if (seen.arrived_at or "") not in reached and seen.verdict is Verdict.FORWARD:
                self.tally.disagreements.append(
                    f"{_asked(question.sent)}: remembered at {first.arrived_at}, the kernel {_told(seen)}, "
                    f"the evaluator sends it to {sorted(reached)}"
                )

    def weigh(self, questions: Sequence[_Question], limit: int) -> None:
        """Send packets that have several fates so often that their shares show."""
        several = [one for one in questions if len(one.fates) > 1 and not one.possible]
        for question in self.dice.sample(several, min(limit, len(several))):
            times = 150 * min(len(question.fates), 6)
            if question.kept or self.asks_source_port:
                seen = []
                for _ in range(times):
                    self.node.forget_clients()
                    seen += self.node.send([question.sent], patience=0.002)
            else:
                seen = self.node.send([question.sent._replace(source_port=1_024 + number) for number in range(times)])
            counts = Counter(self.visible(question.sent, one) for one in seen)
            self.tally.packets += times
            self.tally.spread += 1
            for fate in {*counts, *question.fates}:
                share = question.fates.get(fate, 0.0)
                # Six standard deviations: one run in hundreds of millions strays so far.
                if abs(counts[fate] - times * share) > 6 * (times * share * (1 - share)) ** 0.5 + 1e-6:
                    self.tally.disagreements.append(
                        f"{_asked(question.sent)}: of {times} packets the kernel {_told(fate)} {counts[fate]}, the evaluator a share of {share:.4f}"
                    )


def _is_special(address: str) -> bool:
    parsed = ip_address(address)
    return (
        parsed.is_multicast or parsed.is_unspecified or address == "255.255.255.255" or parsed.is_link_local or address == "::1"
    )


def _is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def _asked(sent: Sent) -> str:
    return f"{sent.protocol} {sent.source}:{sent.source_port} ({sent.interface or 'the node'}) to {endpoint_text(sent.destination, sent.port)}"


def _told(fate: Fate) -> str:
    masquerade = {None: "", True: ", masqueraded", False: ", not masqueraded"}[fate.masqueraded]
    return f"{fate.verdict.value} {fate.arrived_at or ''}{masquerade}".strip()


def compare(captured: Captured, backend: str, *, flows: int, spread: int, seed: str = "") -> Tally:
    """Load a captured node's rules into a node of its own and compare.

    `backend`: "legacy" or "nft"; `flows`: how many packets at most per family; `spread`: of how many of them the shares are weighed.
    Raises LoadError where the kernel refuses the rules.
    """
    total = Tally()
    with network_namespace():
        node = Node(captured.node_addresses, captured.pod_networks, captured.pod_interface)
        try:
            if captured.sets:
                node.load_sets(captured.sets)
            for family, dump in captured.dumps.items():
                node.load(family, without_accounting(dump.render()), backend)
            for family in captured.dumps:
                compare_loaded(captured, family, node, total, flows=flows, spread=spread, seed=seed)
        finally:
            node.close()
    return total


def compare_loaded(captured: Captured, family: int, node: Node, tally: Tally, *, flows: int, spread: int, seed: str = "") -> None:
    """Compare one family of a node whose rules are loaded already; what is found goes to `tally`."""
    comparison = _Comparison(captured, family, node, seed, tally)
    questions = list(comparison.questions(flows))
    comparison.compare(questions)
    comparison.weigh(questions, spread)


def without_accounting(text: str) -> str:
    """Without what this kernel lacks: `ipvs` holds for no packet here, since none has been scheduled.

    A dump that loads: accounting objects are made where there is a tool for it, else the match, which always says yes, is left out.
    """
    text = _SCHEDULED.sub("", text)
    names = sorted({one.group(1) for one in _NFACCT.finditer(text)})
    if not names:
        return text
    if shutil.which("nfacct") is None:
        return _NFACCT.sub("", text)
    for name in names:
        subprocess.run(["nfacct", "add", name], capture_output=True)  # the other family may have made it: then it is there
    return text

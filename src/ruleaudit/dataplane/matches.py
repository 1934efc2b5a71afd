"""What each match of a rule says of a packet: yes, no, or undecided (docs/semantics.md, S4 to S12).

`plan_tests` turns one rule *shape* into tests once; every rule of that shape then only hands its values in.
A test takes (values of the rule, the run, the flow) and answers True, False or None (undecided).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.packet import PROTOCOL_NUMBERS, network

if TYPE_CHECKING:
    from ruleaudit.dataplane.walk import Flow, Run
    from ruleaudit.dumps.rules import MatchShape, Option, Shape

__all__ = ["MODELLED_MATCHES", "Affinity", "Test", "TestPlan", "plan_tests"]

Test = Callable[[Sequence[str], "Run", "Flow"], "bool | None"]


class Affinity(NamedTuple):
    """A `recent` match that asks whether the client is remembered: list name, seconds (None: for ever), and why it is not kube-proxy's form."""

    name: str
    seconds: int | None
    oddity: str


class TestPlan(NamedTuple):
    """The tests of one shape. `share`: probability of a statistic match; `recall`/`remember`: the `recent` lists asked and written."""

    tests: tuple[tuple[Test, bool], ...]
    share: Callable[[Sequence[str]], float] | None
    recall: Callable[[Sequence[str]], Affinity] | None
    remember: Callable[[Sequence[str]], str] | None
    unmodelled: tuple[str, ...]


# --- the rule's own options (S4) -------------------------------------------------------------------------------------------------------


def _source(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        text = values[slot]
        if text == run.source_key:
            return True
        if run.packet.family == 4 and text.endswith("/32"):
            return False  # the tools print one IPv4 address in one way only, so other text is another address
        answer = run.source_answers.get(text)
        if answer is None:
            answer = run.source_answers[text] = inside(text, run.packet.family, run.source)
        return answer

    return test


def _destination(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        text = values[slot]
        if text == flow.key:
            return True
        if run.packet.family == 4 and text.endswith("/32"):
            return False  # the tools print one IPv4 address in one way only, so other text is another address
        return inside(text, run.packet.family, flow.number)

    return test


def inside(text: str, family: int, number: int) -> bool:
    """Whether an address (its number) lies in a printed address, prefix or address/mask."""
    try:
        version, base, mask = network(text)
    except ValueError:
        return _masked(text, number)
    return version == family and number & mask == base


@lru_cache(maxsize=1024)
def mask_of(text: str) -> tuple[int, int]:
    """(base, mask) of an `address/mask` whose mask is not a prefix (`10.0.0.1/255.0.255.0`), which ipaddress refuses."""
    from ipaddress import ip_address

    address, _, mask = text.partition("/")
    bits = int(ip_address(mask))
    return int(ip_address(address)) & bits, bits


def _masked(text: str, number: int) -> bool:
    base, mask = mask_of(text)
    return number & mask == base


def _in_interface(slot: int) -> Test:
    return lambda values, run, flow: run.in_interface.matches(values[slot].strip('"'))


def _out_interface(slot: int) -> Test:
    return lambda values, run, flow: run.out_interface.matches(values[slot].strip('"'))


def _protocol(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        text = values[slot]
        return text == run.protocol or text == "all" or (run.protocol_number is not None and _number(text) == run.protocol_number)

    return test


@lru_cache(maxsize=256)
def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 4 else PROTOCOL_NUMBERS.get(text)


def _never(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
    return False


def _always(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
    return True


def _undecided(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
    return None


# --- ports (S4) ------------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def port_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """The ranges of a printed port list (`80`, `1024:`, `80,443,8000:8100`)."""
    out = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        out.append((int(low or 0), int(high or 65535) if colon else int(low)))
    return tuple(out)


def _port_in(text: str, port: int | None) -> bool | None:
    ranges = port_ranges(text)
    if port is None:
        return True if any(low <= 0 and high >= 65535 for low, high in ranges) else None
    return any(low <= port <= high for low, high in ranges)


def _dport(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        text = values[slot]
        return flow.port == int(text) if text.isdigit() else _port_in(text, flow.port)

    return test


def _sport(slot: int) -> Test:
    return lambda values, run, flow: _port_in(values[slot], run.packet.source_port)


def _either_port(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        return _or(_port_in(values[slot], flow.port), _port_in(values[slot], run.packet.source_port))

    return test


def _or(one: bool | None, other: bool | None) -> bool | None:
    if one or other:
        return True
    return None if one is None or other is None else False


def _tcp_flags(slots: tuple[int, ...]) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        every = {"FIN", "SYN", "RST", "PSH", "ACK", "URG"}
        mask, want = (set(values[slot].split(",")) for slot in slots)
        looked_at = every if "ALL" in mask else mask
        return ({"SYN"} & looked_at) == (every if "ALL" in want else want - {"NONE"})

    return test


# --- states, marks, types (S6, S7, S8) -------------------------------------------------------------------------------------------------


def _ctstate(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        tracked = run.tracks(flow)
        state = "NEW" if tracked else "UNTRACKED" if flow.untracked is not None else "INVALID"
        names = values[slot].split(",")
        return (
            state in names
            or ("DNAT" in names and tracked and flow.translated and flow.scheduled is None)
            or ("SNAT" in names and tracked and flow.snat_rule is not None)
        )

    return test


def _ctstatus(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        names = set(values[slot].split(","))
        if "DNAT" in names and flow.translated and flow.scheduled is None:
            return True  # IPVS alters a connection without saying so in its status (net/netfilter/ipvs/ip_vs_nfct.c)
        return False if names <= {"DNAT", "SNAT", "SEEN_REPLY", "ASSURED", "EXPECTED", "NONE"} else None

    return test


def _original_destination(slot: int) -> Test:
    return lambda values, run, flow: inside(values[slot], run.packet.family, run.destination)


def _original_port(slot: int) -> Test:
    return lambda values, run, flow: _port_in(values[slot], run.packet.port)


def _ctdir(slot: int) -> Test:
    return lambda values, run, flow: values[slot] == "ORIGINAL"


@lru_cache(maxsize=4096)
def mark_and_mask(text: str) -> tuple[int, int]:
    """(value, mask) of a printed mark (`0x4000/0x4000`, `0x1`)."""
    value, slash, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF


def _mark(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        value, mask = mark_and_mask(values[slot])
        known = mask & ~flow.mark_unknown
        if (flow.mark ^ value) & known:
            return False
        return None if mask & flow.mark_unknown else value & ~mask == 0

    return test


def _connmark(slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        value, mask = mark_and_mask(values[slot])
        if flow.connmark is None:
            return None
        return flow.connmark & mask == value

    return test


def _address_type(of_source: bool, slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        kinds = values[slot].split(",")
        kind = run.source_type if of_source else run.address_type(flow.address)
        if run.packet.family == 4:
            return kind in kinds
        # IPv6 asks for all of the types, and an address of the node is UNICAST too (match_type6 in net/netfilter/xt_addrtype.c).
        return all(one == kind or (one == "UNICAST" and kind == "LOCAL") for one in kinds)

    return test


def _ip_range(of_source: bool, slot: int) -> Test:
    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        low, _, high = values[slot].partition("-")
        number = run.source if of_source else flow.number
        return network(low)[1] <= number <= network(high or low)[1]

    return test


def _icmp_type(slot: int) -> Test:
    return _undecided


# --- modules ---------------------------------------------------------------------------------------------------------------------------

_OPTIONS: dict[str, Callable[[int], Test]] = {
    "-s": _source, "-d": _destination, "-i": _in_interface, "-o": _out_interface, "-p": _protocol,
}  # fmt: skip

_PORT_OPTIONS: dict[str, Callable[[int], Test]] = {
    "--dport": _dport, "--destination-port": _dport, "--sport": _sport, "--source-port": _sport,
    "--dports": _dport, "--destination-ports": _dport, "--sports": _sport, "--source-ports": _sport, "--ports": _either_port,
}  # fmt: skip

_PLAIN: dict[str, dict[str, Callable[[int], Test]]] = {
    "udp": _PORT_OPTIONS, "sctp": _PORT_OPTIONS, "dccp": _PORT_OPTIONS, "udplite": _PORT_OPTIONS, "multiport": _PORT_OPTIONS, "tcp": _PORT_OPTIONS,
    "comment": {"--comment": lambda slot: _always},
    "conntrack": {"--ctstate": _ctstate, "--ctstatus": _ctstatus, "--ctorigdst": _original_destination,
                  "--ctorigdstport": _original_port, "--ctdir": _ctdir},
    "state": {"--state": _ctstate},
    "mark": {"--mark": _mark},
    "connmark": {"--mark": _connmark},
    "addrtype": {"--src-type": lambda slot: _address_type(True, slot), "--dst-type": lambda slot: _address_type(False, slot)},
    "iprange": {"--src-range": lambda slot: _ip_range(True, slot), "--dst-range": lambda slot: _ip_range(False, slot)},
    "pkttype": {"--pkt-type": lambda slot: lambda values, run, flow: values[slot] in ("unicast", "host")},
    "nfacct": {"--nfacct-name": lambda slot: _always},
}  # fmt: skip

MODELLED_MATCHES = frozenset(_PLAIN) | {
    "statistic",
    "recent",
    "set",
    "ipvs",
    "physdev",
    "rpfilter",
    "policy",
    "owner",
    "socket",
    "icmp",
    "icmp6",
}


def _physdev(option: Option) -> Test:
    if option.flag == "--physdev-is-in":
        return lambda values, run, flow: run.packet.bridged if not run.packet.from_node else False
    if option.flag in ("--physdev-in", "--physdev-is-bridged", "--physdev-is-out", "--physdev-out"):
        return lambda values, run, flow: False if run.packet.from_node or run.packet.bridged is False else None
    return _undecided


def _module_tests(match: MatchShape) -> tuple[list[tuple[Test, bool]], bool]:
    """The tests of one match and whether all of it is modelled."""
    tests: list[tuple[Test, bool]] = []
    plain = _PLAIN.get(match.module)
    modelled = True
    for option in match.options:
        test: Test | None = None
        if plain is not None and (build := plain.get(option.flag)) is not None and option.slots:
            test = build(option.slots[0])
        elif match.module == "tcp" and option.flag == "--tcp-flags" and len(option.slots) == 2:
            test = _tcp_flags(option.slots)
        elif match.module == "tcp" and option.flag == "--syn":
            test = _always
        elif match.module == "physdev":
            test = _physdev(option)
        elif match.module in ("icmp", "icmp6"):
            test = _icmp_type(option.slots[0]) if option.slots else _undecided
        elif match.module == "connmark" and option.flag == "--mask":
            test = _undecided
        if test is None:
            modelled, test = False, _undecided
        tests.append((test, option.negated))
    if match.module == "rpfilter":
        # The client's packet arrives by the interface that leads back to it (S9); --invert asks for the others.
        inverted = any(option.flag == "--invert" for option in match.options)
        return [(_never if inverted else _always, False)], True
    if match.module == "policy":
        # No IPsec policy is assumed to apply (S10).
        none = any(option.flag == "--pol" for option in match.options)
        return [(_policy(match), False)], none
    if match.module == "owner":
        # Only the node's own packets have an owning socket, and whose it is, is not known; without one a match holds when all that it
        # asks is negated (net/netfilter/xt_owner.c; S9).
        negated = all(option.negated for option in match.options)
        return [(lambda values, run, flow: None if run.packet.from_node else negated, False)], True
    if match.module == "set":
        return [(_set(match), False)], True
    if match.module == "ipvs":
        return [(_ipvs(match), False)], True
    if plain is None and match.module not in MODELLED_MATCHES:
        return [(_undecided, False)], False
    if match.module in ("conntrack", "connmark"):
        states = [
            (test, option.negated) for (test, _), option in zip(tests, match.options, strict=True) if option.flag == "--ctstate"
        ]
        return [(_of_connection(tests, states), False)], modelled
    return tests, modelled


def _of_connection(tests: Sequence[tuple[Test, bool]], states: Sequence[tuple[Test, bool]]) -> Test:
    """What a match says that looks at the packet's connection (S6; net/netfilter/xt_conntrack.c, xt_connmark.c).

    Where there is none, it says what `--ctstate` says, if that is asked, whatever else is; otherwise no, negated or not.
    """

    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        asked = tests if run.tracks(flow) else states
        answer: bool | None = bool(asked)
        for one, negated in asked:
            found = one(values, run, flow)
            if found is None:
                answer = None
            elif found is negated:
                return False
        return answer

    return test


def _set(match: MatchShape) -> Test:
    """`--match-set NAME FLAGS` (S14); what else may be asked of an entry is undecided."""
    asked = next((option for option in match.options if option.flag == "--match-set" and len(option.slots) == 2), None)
    if asked is None or any(option.flag not in ("--match-set", "--return-nomatch") for option in match.options):
        return _undecided
    name, flags = asked.slots
    negated = asked.negated

    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        sets = run.rules.sets
        if sets is None:
            return None
        packet = run.packet
        source = run.source_key[: -len(run.host_suffix)]  # as POSTROUTING may have left it, of what comes back by lo
        found = sets.holds(values[name], values[flags], run.protocol, flow.address, flow.port, source, packet.source_port)
        return found if found is None else found is not negated

    return test


def _ipvs(match: MatchShape) -> Test:
    """Whether IPVS has scheduled the connection, and by which virtual server (xt_ipvs; S14)."""
    slots = {option.flag: (option.slots[0] if option.slots else None, option.negated) for option in match.options}
    if not set(slots) <= {"--ipvs", "--vaddr", "--vport", "--vproto"}:
        return _undecided

    def test(values: Sequence[str], run: Run, flow: Flow) -> bool | None:
        server = flow.scheduled
        if server is None:
            return slots.get("--ipvs", (None, False))[1]
        for flag, (slot, negated) in slots.items():
            if flag == "--ipvs" or slot is None:
                holds = True
            elif flag == "--vaddr":
                holds = inside(values[slot], run.packet.family, network(server.address)[1])
            elif flag == "--vport":
                holds = values[slot] == str(server.port)
            else:
                holds = _number(values[slot]) == PROTOCOL_NUMBERS[server.protocol]
            if holds is negated:
                return False
        return True

    return test


def _policy(match: MatchShape) -> Test:
    for option in match.options:
        if option.flag == "--pol" and option.slots:
            slot = option.slots[0]
            return lambda values, run, flow: values[slot] == "none"
    return _undecided


def _statistic(match: MatchShape) -> Callable[[Sequence[str]], float] | None:
    """The probability with which a statistic match says yes (S11)."""
    for option in match.options:
        if option.flag == "--probability" and option.slots:
            slot, negated = option.slots[0], option.negated
            return lambda values: 1 - float(values[slot]) if negated else float(values[slot])
        if option.flag == "--every" and option.slots:
            slot, negated = option.slots[0], option.negated
            return lambda values: 1 - 1 / int(values[slot]) if negated else 1 / int(values[slot])
    return None


def _recent(match: MatchShape) -> tuple[Callable[[Sequence[str]], Affinity] | None, Callable[[Sequence[str]], str] | None, bool]:
    """(recall, remember, negated) of a `recent` match (S12)."""
    flags = {option.flag: option for option in match.options}
    name_slot = flags["--name"].slots[0] if "--name" in flags and flags["--name"].slots else None
    if "--set" in flags:
        negated = flags["--set"].negated
        return None, (lambda values: values[name_slot] if name_slot is not None else "DEFAULT"), negated
    asked = flags.get("--rcheck") or flags.get("--update")
    if asked is None:
        return None, None, False
    seconds_slot = flags["--seconds"].slots[0] if "--seconds" in flags else None
    mask_slot = flags["--mask"].slots[0] if "--mask" in flags else None
    oddities = [f"{flag} is there" for flag in ("--update", "--hitcount", "--rdest", "--rttl") if flag in flags]
    if "--reap" not in flags:
        oddities.append("--reap is missing")

    def recall(values: Sequence[str]) -> Affinity:
        odd = list(oddities)
        if mask_slot is not None and values[mask_slot] not in ("255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"):
            odd.append(f"--mask {values[mask_slot]}")
        return Affinity(
            values[name_slot] if name_slot is not None else "DEFAULT",
            int(values[seconds_slot]) if seconds_slot is not None else None,
            ", ".join(odd),
        )

    return recall, None, asked.negated


def plan_tests(shape: Shape) -> TestPlan:
    """The tests of a rule shape. Cheap to call once per shape; raises nothing: what is unknown is undecided and named."""
    tests: list[tuple[Test, bool]] = []
    unmodelled: list[str] = []
    share = recall = remember = None
    for option in shape.options:
        build = _OPTIONS.get(option.flag)
        if build is not None and option.slots:
            tests.append((build(option.slots[0]), option.negated))
        elif option.flag == "-f":
            tests.append((_never, option.negated))  # the first packet of a connection is no later fragment
        elif option.flag != "-c":
            tests.append((_undecided, False))
            unmodelled.append(option.flag)
    for match in shape.matches:
        if match.module == "statistic":
            share = _statistic(match)
            if share is None:
                tests.append((_undecided, False))
                unmodelled.append(match.module)
        elif match.module == "recent":
            recall, remember, negated = _recent(match)
            if negated or (recall is None and remember is None):
                tests.append((_undecided, False))
                recall = remember = None
                unmodelled.append(match.module)
        else:
            more, modelled = _module_tests(match)
            tests.extend(more)
            if not modelled:
                unmodelled.append(match.module)
    # Cheap and selective tests first: the order of tests cannot change their conjunction.
    return TestPlan(tuple(tests), share, recall, remember, tuple(unmodelled))

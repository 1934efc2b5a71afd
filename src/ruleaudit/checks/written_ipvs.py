"""Whether the fixed chains of a kube-proxy in IPVS mode hold what it writes there, rule by rule and in its order (RA308, RA310).

What a virtual server's traffic meets is judged by evaluation, with a few clients. What those do not meet shows here. The rules are KPR
10.2 to 10.4 with 4.5 and 4.6 (kubernetes, pkg/proxy/ipvs/proxier.go, writeIptablesRules), for all releases together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ruleaudit.addresses import parse_network
from ruleaudit.findings import Finding, Severity
from ruleaudit.forwarding import FrontendKind
from ruleaudit.kubeproxy.expected_sets import set_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ruleaudit.checks.context import FamilyAudit, RulePlace
    from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort
    from ruleaudit.kubeproxy.settings import Detection

__all__ = [
    "Conditions",
    "MendedChain",
    "WrittenChain",
    "WrittenRule",
    "conditions_of",
    "mended_chains",
    "node_refusals",
    "written_chains",
    "written_ipvs",
]

_Key: TypeAlias = tuple[tuple[str, str], ...]
_TOKEN: Final = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_SET: Final = re.compile(r"--match-set (\S+)")
_MODULES: Final = {
    "--match-set": "set", "--mark": "mark", "--ctstate": "conntrack", "--dst-type": "addrtype", "--src-type": "addrtype",
    "--physdev-is-in": "physdev", "--vproto": "ipvs",
}  # fmt: skip
_OPTION: Final = re.compile(rf"(! )?({'|'.join(_MODULES)})\b")
_PROTOCOL_NAMES: Final = {"6": "tcp", "17": "udp", "132": "sctp"}
_PROTOCOL_NUMBERS: Final = {name: number for number, name in _PROTOCOL_NAMES.items()}
_SILENT: Final = frozenset({"--comment", "--nfacct-name", "-c"})
"""What chooses no packets and changes nothing."""
_NEVER: Final = 99
# From how many rules on one finding is written for all of them.
_MANY: Final = 25
# With how many lacking rules one that does not belong there is compared.
_COMPARED: Final = 200


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """One rule of one chain.

    `texts`: the forms in which it may stand there, after `-A CHAIN`, without its comment and `-m`; "*" is any value. `rank`: its place
    among the rules of its `lane`; rules of one rank, and rules of different lanes, may change places without any effect; None: anywhere.
    `since`, `until`: the releases (minors) that may write it; `always_from`, `always_until`: those that do, for sure. `leaves_out`: the
    set without entries of which it is left out, "" when it is not. `once`: a second one undoes what the first did. `of`: whose it is.
    """

    texts: tuple[str, ...]
    rank: int | None = None
    lane: str = ""
    since: int = 16
    until: int = _NEVER
    always_from: int = 16
    always_until: int = _NEVER
    leaves_out: str = ""
    once: bool = False
    of: ExpectedServicePort | None = None


@dataclass(frozen=True, slots=True)
class WrittenChain:
    """The rules of one chain in their order, and what their absence leads to."""

    table: str
    name: str
    rules: tuple[WrittenRule, ...]
    effect: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What kube-proxy's rules depend on.

    `oldest`, `newest`: the releases (minors) that may have written them. `mark`: the masquerade mark. `masquerade_all` None: not known.
    `empty`: whether sets, by their names in the family, are empty; None or not in it: not known. `refused`: the load-balancer IPs from
    which the node itself is kept, by (address, port, "TCP"), and whether that is sure; None: not known, so that any may be there.
    """

    family: int
    oldest: int
    newest: int
    mark: int
    masquerade_all: bool | None = None
    detection: Detection = "unset"
    empty: Mapping[str, bool | None] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[tuple[str, int, str], tuple[ExpectedServicePort, bool]] | None = None


def conditions_of(audit: FamilyAudit, empty: Mapping[str, bool | None]) -> Conditions:
    """The conditions of one family of a node: the release as its settings or else its rules tell."""
    minor, settings = audit.settings.minor, audit.settings
    return Conditions(
        family=audit.family,
        oldest=audit.signs.oldest if minor is None else minor,
        newest=audit.signs.newest if minor is None else minor,
        mark=audit.mark,
        masquerade_all=settings.masquerade_all if "masquerade_all" in settings.given else None,
        detection=audit.expectation.local_detection,
        empty=empty,
        refused=node_refusals(audit.expectation) if audit.cluster.services else None,
    )


def node_refusals(expectation: Expectation) -> Mapping[tuple[str, int, str], tuple[ExpectedServicePort, bool]]:
    """The load-balancer IPs from which source ranges keep the node itself, and whether that is sure (KPR 10.4)."""
    found: dict[tuple[str, int, str], tuple[ExpectedServicePort, bool]] = {}
    for port in expectation.service_ports:
        if not port.source_ranges or port.node_allowed:
            continue
        for frontend in port.frontends:
            if frontend.kind is FrontendKind.LOAD_BALANCER_IP and frontend.address is not None:
                key = (frontend.address, frontend.port, frontend.protocol)
                sure = port.node_allowed is False or (key in found and found[key][1])
                found[key] = (port, sure)
    return found


def written_ipvs(
    audit: FamilyAudit, findings: Iterable[Finding] = (), *, empty: Mapping[str, bool | None] | None = None
) -> Iterator[Finding]:
    """Everything in the fixed chains that a kube-proxy in IPVS mode does not write so.

    Rules that one of `findings` shows already are left out, and so is what a chain lacks that one cites as a whole, and chains
    that do not exist: what leads there is missing then. Of a table that is not there as a whole nothing is missed. `empty`:
    whether sets are empty, by their names in the family; None: as the sets of the node are.
    """
    told = {(where.file, where.line) for one in findings if one.severity is not Severity.INFO for where in one.locations}
    conditions = conditions_of(audit, _empty(audit) if empty is None else empty)
    for chain in written_chains(conditions).values():
        if chain.name in audit.rules.chains(chain.table):
            yield from _Reading(audit, chain, conditions, told).findings()


class MendedChain(NamedTuple):
    """A chain that is not as kube-proxy writes it: its rules as they should be, and each finding with those rules but for what it names."""

    table: str
    name: str
    text: str
    without: tuple[tuple[Finding, str], ...]


def mended_chains(audit: FamilyAudit, findings: Iterable[Finding], *, empty: Mapping[str, bool | None]) -> Iterator[MendedChain]:
    """The chains that are not as kube-proxy writes them. What is of one service alone is left out. Arguments as of `written_ipvs`."""
    told = {(where.file, where.line) for one in findings if one.severity is not Severity.INFO for where in one.locations}
    conditions = conditions_of(audit, empty)
    for chain in written_chains(conditions).values():
        if chain.name not in audit.rules.chains(chain.table) or chain.name == "KUBE-IPVS-OUT-FILTER":
            continue
        reading = _Reading(audit, chain, conditions, told)
        parts = list(reading.parts())
        if parts:
            without = tuple((one.finding, reading.mended([other for other in parts if other is not one])) for one in parts)
            yield MendedChain(chain.table, chain.name, reading.mended(parts), without)


def _empty(audit: FamilyAudit) -> Mapping[str, bool | None]:
    """Which of the node's sets are empty, as far as they are known."""
    sets = audit.rules.sets
    if sets is None:
        return {}
    held = {name: sets.get(name) for name in sets.names()}
    return {name: not one.entries for name, one in held.items() if one is not None and one.entries is not None}


# --- what is written -------------------------------------------------------------------------------------------------------------------


def _pods(conditions: Conditions) -> tuple[str, ...]:
    """How a rule asks for what does not come from local pods; several where that is not known, none without local detection."""
    detection = conditions.detection
    if detection == "unset":
        return ("! -s *", "! -i *")
    if detection is None:
        return ()
    if detection.mode == "BridgeInterface":
        return (f"! -i {detection.value}",)
    if detection.mode == "InterfaceNamePrefix":
        return (f"! -i {detection.value}+",)
    network = parse_network(detection.value, conditions.family)
    return ("! -s *",) if network is None else (f"! -s {network}",)


def _cluster_ip_masquerade(conditions: Conditions) -> tuple[str, ...]:
    """The forms of the rule that masquerades traffic to cluster IPs (KPR 10.2, row 3)."""
    asked = "--match-set KUBE-CLUSTER-IP"
    everything = f"{asked} dst,dst -j KUBE-MARK-MASQ"
    if conditions.masquerade_all:
        return (everything,)
    found = [f"{pods} {asked} dst,dst -j KUBE-MARK-MASQ" for pods in _pods(conditions)]
    if conditions.detection in (None, "unset"):
        found.append(f"{asked} src,dst -j KUBE-MARK-MASQ")
    if conditions.masquerade_all is None:
        found.append(everything)
    return tuple(found)


def _on_set(name: str, rest: str, rank: int | None, **more: int | str) -> WrittenRule:
    """A rule about a set that is left out while the set is empty."""
    return WrittenRule((rest.format(set=f"--match-set {name}"),), rank, leaves_out=name, **more)  # type: ignore[arg-type]


def _services(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.2. Rules of one rank only mark, or only accept."""
    loopback = "127.0.0.0/8" if conditions.family == 4 else "::1/128"
    others = "{set} dst,dst ! --physdev-is-in ! --src-type LOCAL -j ACCEPT"
    local = "{set} dst,dst --dst-type LOCAL -j ACCEPT"
    return (
        WrittenRule((f"-s {loopback} -j RETURN",), 0, since=26, always_from=26),
        _on_set("KUBE-LOAD-BALANCER", "{set} dst,dst -j KUBE-LOAD-BALANCER", 1),
        WrittenRule(_cluster_ip_masquerade(conditions), 1, leaves_out="KUBE-CLUSTER-IP"),
        _on_set("KUBE-EXTERNAL-IP", "{set} dst,dst -j KUBE-MARK-MASQ", 1),
        _on_set("KUBE-EXTERNAL-IP", others, 2),
        _on_set("KUBE-EXTERNAL-IP", local, 2),
        _on_set("KUBE-EXTERNAL-IP-LOCAL", others, 2, since=18, always_from=18),
        _on_set("KUBE-EXTERNAL-IP-LOCAL", local, 2, since=18, always_from=18),
        WrittenRule(("--dst-type LOCAL -j KUBE-NODE-PORT",), 3),
        _on_set("KUBE-CLUSTER-IP", "{set} dst,dst -j ACCEPT", 4),
        _on_set("KUBE-LOAD-BALANCER", "{set} dst,dst -j ACCEPT", 4),
    )


def _node_ports(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.3. Up to 1.22 the rule that masquerades SCTP stands before the one that keeps it from that."""
    found: list[WrittenRule] = []
    for protocol, suffix in (("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP-HASH")):
        flags = "dst,dst" if protocol == "sctp" else "dst"
        keeps, marks = 0, 1
        if protocol == "sctp" and conditions.oldest <= 22:
            keeps, marks = (1, 0) if conditions.newest <= 22 else (0, 0)
        pair = [
            _on_set(f"KUBE-NODE-PORT-LOCAL-{suffix}", f"-p {protocol} {{set}} {flags} -j RETURN", keeps, lane=protocol),
            _on_set(f"KUBE-NODE-PORT-{suffix}", f"-p {protocol} {{set}} {flags} -j KUBE-MARK-MASQ", marks, lane=protocol),
        ]
        found += pair if keeps <= marks else reversed(pair)
    return tuple(found)


def _postrouting(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.3, 4.5."""
    mark = f"{conditions.mark:#x}"
    plain = ("-j MASQUERADE --random-fully", "-j MASQUERADE")
    one = tuple(f"--mark {mark}/{mark} {text}" for text in plain)
    first = _on_set("KUBE-LOOP-BACK", "{set} dst,dst,src -j MASQUERADE", 0)
    three = (
        WrittenRule((f"! --mark {mark}/{mark} -j RETURN",), 1, always_from=20),
        WrittenRule((f"-j MARK --set-xmark {mark}/0x0",), 2, always_from=20, once=True),
    )
    if conditions.oldest < 20:
        return (first, *three, WrittenRule((*plain, *one), 3))
    # kubelets of another form leave theirs beside it (T-25).
    return (first, *three, WrittenRule(plain, 3), WrittenRule(one, always_from=_NEVER))


def _forward(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.4, 4.6: rules that all accept."""
    answers = "--ctstate RELATED,ESTABLISHED -j ACCEPT"
    mark = f"{conditions.mark:#x}"
    return (
        WrittenRule((f"--mark {mark}/{mark} -j ACCEPT",)),
        WrittenRule((answers,), since=18, always_from=18),
        WrittenRule((f"-s * {answers}",), until=17, always_from=_NEVER),
        WrittenRule((f"-d * {answers}",), until=17, always_from=_NEVER),
    )


def _ipvs_filter(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.4; two of the rules may have come to late patches of older releases (KPR 20)."""
    unreachable = "icmp-port-unreachable" if conditions.family == 4 else "icmp6-port-unreachable"
    return (
        *(
            WrittenRule((f"--match-set {name} {flags} -j RETURN",), 0, since=26, always_from=always)
            for name, flags, always in (
                ("KUBE-LOAD-BALANCER", "dst,dst", 26),
                ("KUBE-CLUSTER-IP", "dst,dst", 26),
                ("KUBE-EXTERNAL-IP", "dst,dst", 26),
                ("KUBE-EXTERNAL-IP-LOCAL", "dst,dst", 30),
                ("KUBE-HEALTH-CHECK-NODE-PORT", "dst", 28),
            )
        ),
        WrittenRule(
            (f"--ctstate NEW --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with {unreachable}",), 1, since=26, always_from=26
        ),
    )


def _ipvs_out_filter(conditions: Conditions) -> tuple[WrittenRule, ...]:
    """KPR 10.4; the chain may have come to late patches of older releases (KPR 20)."""
    if conditions.refused is None:
        return (WrittenRule(("-s * --vproto * --vaddr * --vport * -j DROP",), since=26, always_from=_NEVER),)
    bits = 32 if conditions.family == 4 else 128
    return tuple(
        WrittenRule(
            (f"-s {address}/{bits} --vproto {_PROTOCOL_NUMBERS[protocol.lower()]} --vaddr {address} --vport {port} -j DROP",),
            since=26,
            always_from=29 if sure else _NEVER,
            of=owner,
        )
        for (address, port, protocol), (owner, sure) in conditions.refused.items()
        if protocol.lower() in _PROTOCOL_NUMBERS
    )


def _admitting(last: WrittenRule, **more: int) -> tuple[WrittenRule, ...]:
    """Who is admitted by source ranges returns before the last rule (KPR 10.3, 10.4)."""
    return (
        _on_set("KUBE-LOAD-BALANCER-SOURCE-CIDR", "{set} dst,dst,src -j RETURN", 0, **more),
        _on_set("KUBE-LOAD-BALANCER-SOURCE-IP", "{set} dst,dst,src -j RETURN", 0, **more),
        last,
    )


def written_chains(conditions: Conditions) -> Mapping[tuple[str, str], WrittenChain]:
    """The chains, by (table, name), that a kube-proxy in IPVS mode of these releases may keep, with their rules."""
    mark = f"{conditions.mark:#x}"
    to_firewall = "{set} dst,dst -j KUBE-FIREWALL"
    to_ranges = "{set} dst,dst -j KUBE-SOURCE-RANGES-FIREWALL"
    old, new = {"until": 24, "always_until": 24}, {"since": 25, "always_from": 25}
    chains: tuple[tuple[str, str, tuple[WrittenRule, ...], str], ...] = (
        ("nat", "KUBE-SERVICES", _services(conditions), "traffic to services is not masqueraded, restricted or accepted as it should be"),
        (
            "nat",
            "KUBE-LOAD-BALANCER",
            (
                _on_set("KUBE-LOAD-BALANCER-FW", to_firewall, 0, **old),
                _on_set("KUBE-LOAD-BALANCER-LOCAL", "{set} dst,dst -j RETURN", 1),
                WrittenRule(("-j KUBE-MARK-MASQ",), 2),
            ),
            "traffic to load-balancer IPs is not masqueraded or restricted as it should be",
        ),
        ("nat", "KUBE-NODE-PORT", _node_ports(conditions), "traffic to node ports is not masqueraded, or loses its source, against its policy"),
        ("nat", "KUBE-POSTROUTING", _postrouting(conditions), "marked traffic, or what endpoints send to themselves, is not masqueraded once"),
        (
            "nat",
            "KUBE-MARK-MASQ",
            (WrittenRule((f"-j MARK --set-xmark {mark}/{mark}",)),),
            "nothing is marked for masquerading",
        ),
        ("nat", "KUBE-MARK-DROP", (WrittenRule(("-j MARK --set-xmark *",), always_from=_NEVER),), ""),
        (
            "nat",
            "KUBE-FIREWALL",
            _admitting(WrittenRule(("-j KUBE-MARK-DROP",), 1, until=24, always_until=24), **old),
            "source ranges are not enforced, or shut out whom they admit",
        ),
        ("filter", "KUBE-FORWARD", _forward(conditions), "forwarded service traffic depends on what else the node accepts"),
        (
            "filter",
            "KUBE-NODE-PORT",
            (WrittenRule(("--match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT",), since=21, always_from=21),),
            "health checks of load balancers depend on what else the node accepts",
        ),
        (
            "filter",
            "KUBE-PROXY-FIREWALL",
            (_on_set("KUBE-LOAD-BALANCER-FW", to_ranges, 0, **new),),
            "source ranges are not enforced",
        ),
        (
            "filter",
            "KUBE-SOURCE-RANGES-FIREWALL",
            _admitting(WrittenRule(("-j DROP",), 1, since=25, always_from=25), **new),
            "source ranges are not enforced, or shut out whom they admit",
        ),
        (
            "filter",
            "KUBE-IPVS-FILTER",
            _ipvs_filter(conditions),
            "service addresses answer on the node's other ports, or services are refused",
        ),
        ("filter", "KUBE-IPVS-OUT-FILTER", _ipvs_out_filter(conditions), "the node reaches load-balancer IPs against their source ranges"),
    )  # fmt: skip
    found: dict[tuple[str, str], WrittenChain] = {}
    for table, name, rules, effect in chains:
        held = tuple(one for one in rules if one.since <= conditions.newest and one.until >= conditions.oldest)
        if held or name == "KUBE-IPVS-OUT-FILTER":
            found[table, name] = WrittenChain(table, name, held, effect)
    if conditions.newest < 26:
        found.pop(("filter", "KUBE-IPVS-OUT-FILTER"), None)
    return MappingProxyType(found)


# --- what is there ---------------------------------------------------------------------------------------------------------------------


def _key(text: str) -> _Key:
    """What a rule asks and does, whatever the order in which it is printed: (flag, value), with "!" before negated flags."""
    found: list[tuple[str, str]] = []
    words = _TOKEN.findall(text)
    if "-A" in words:
        words = words[words.index("-A") + 2 :]
    negated = ""
    module = ""  # one that has not been followed by an option yet
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "!":
            negated = "!"
            continue
        start = at
        while at < len(words) and words[at] != "!" and not (words[at].startswith("-") and len(words[at]) > 1):
            at += 1
        value = " ".join(words[start:at])
        if word in ("-m", "-j", "-g") and module:
            found.append(("-m", module))
            module = ""
        if word == "-m":
            module = "" if value in _PROTOCOL_NUMBERS else value
            continue
        if word.startswith("--"):
            module = ""
        if word in _SILENT:
            continue
        if word == "-p":
            value = _PROTOCOL_NAMES.get(value, value)
        elif word == "--vproto":
            value = _PROTOCOL_NUMBERS.get(value, value)
        elif word == "--match-set":
            name, _blank, flags = value.partition(" ")
            value = f"{name} {flags}"
        found.append((negated + word, value))
        negated = ""
    return tuple(sorted(found))


@lru_cache(maxsize=1024)
def _form_key(text: str, family: int) -> _Key:
    """The key of a form, with the names that its sets have in the family."""
    return _key(_SET.sub(lambda found: f"--match-set {set_name(found[1], family)}", text))


def _is_of(key: _Key, form: _Key) -> bool:
    """Whether a rule is of a form that holds "*"."""
    return len(key) == len(form) and all(
        flag == asked and wanted in ("*", value) for (flag, value), (asked, wanted) in zip(key, form, strict=True)
    )


def _in_order(ranked: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most that can stay, in their order, for ranks never to fall: what is left out has been moved."""
    best: list[list[tuple[int, int]]] = []
    for at, one in enumerate(ranked):
        before = max((best[other] for other in range(at) if ranked[other][0] <= one[0]), key=len, default=[])
        best.append([*before, one])
    return max(best, key=len, default=[])


class _Part(NamedTuple):
    """A finding with what it names: rules that do not belong where they stand, and rules that are lacking."""

    finding: Finding
    lines: tuple[int, ...] = ()
    lacking: tuple[WrittenRule, ...] = ()


class _Reading:
    """One chain as it is, held against what is written there."""

    def __init__(self, audit: FamilyAudit, chain: WrittenChain, conditions: Conditions, told: set[tuple[str, int]]) -> None:
        self.audit, self.chain, self.conditions, self.told = audit, chain, conditions, told
        self.exact: dict[_Key, WrittenRule] = {}
        self.open: list[tuple[_Key, WrittenRule]] = []
        for rule in chain.rules:
            for text in rule.texts:
                key = _form_key(text, audit.family)
                if any(value == "*" for _flag, value in key):
                    self.open.append((key, rule))
                else:
                    self.exact.setdefault(key, rule)
        self.present: dict[WrittenRule, list[int]] = defaultdict(list)
        self.strange: list[int] = []
        self.keys: dict[int, _Key] = {}
        self.misplaced: list[tuple[int, int]] = []
        self.moved: list[int] = []
        self._read()

    def _read(self) -> None:
        rules = self.audit.rules
        dump = rules.dump_of(self.chain.table, self.chain.name)
        lanes: dict[str, list[tuple[int, int]]] = defaultdict(list)
        of_line: dict[int, WrittenRule] = {}
        for line in rules.chains(self.chain.table)[self.chain.name].lines:
            key = self.keys[line] = _key(dump.text(line))
            rule = self.exact.get(key) or next((rule for form, rule in self.open if _is_of(key, form)), None)
            if rule is None or (rule.once and rule in self.present):
                self.strange.append(line)
                continue
            of_line[line] = rule
            self.present[rule].append(line)
            if rule.rank is not None:
                lanes[rule.lane].append((rule.rank, line))
        for ranked in lanes.values():
            kept = _in_order(ranked)
            for rank, line in ranked:
                if (rank, line) in kept:
                    continue
                if any(other != line and (rank, other) in kept for other in self.present[of_line[line]]):
                    self.strange.append(line)  # the rule itself is in its place: this was another one
                    continue
                before = [other for higher, other in kept if other < line and higher > rank]
                after = [other for lower, other in kept if other > line and lower < rank]
                self.misplaced.append((before[-1], line) if before else (line, after[0]))
                self.moved.append(line)

    def _lacking(self) -> list[WrittenRule]:
        oldest, newest, empty = self.conditions.oldest, self.conditions.newest, self.conditions.empty
        return [
            rule
            for rule in self.chain.rules
            if rule not in self.present
            and rule.always_from <= oldest
            and newest <= rule.always_until
            and (not rule.leaves_out or empty.get(set_name(rule.leaves_out, self.audit.family)) is False)
        ]

    def mended(self, parts: Iterable[_Part]) -> str:
        """The chain's rules with these parts of what is wrong put right."""
        dump = self.audit.rules.dump_of(self.chain.table, self.chain.name)
        rule_of = {line: rule for rule, lines in self.present.items() for line in lines}
        wrong = {line for one in parts for line in one.lines}
        kept: list[tuple[WrittenRule | None, str]] = [
            (rule_of.get(line), dump.text(line)) for line in self.keys if line not in wrong
        ]
        back = [(rule_of[line], dump.text(line)) for line in self.moved if line in wrong]
        # Of a form that leaves a value open it is not known how it would be written.
        lacking = [rule for one in parts for rule in one.lacking]
        whole = [(rule, form) for rule in lacking for form in [one for one in rule.texts if "*" not in one][:1]]
        for rule, text in [*back, *((rule, self._text(rule, form)) for rule, form in whole)]:
            before = [
                at
                for at, (other, _text) in enumerate(kept)
                if other is not None
                and other.lane == rule.lane
                and other.rank is not None
                and rule.rank is not None
                and other.rank > rule.rank
            ]
            kept.insert(before[0] if before else len(kept), (rule, text))
        return "".join(text + "\n" for _rule, text in kept)

    def findings(self) -> Iterator[Finding]:
        """What is not as it is written: what stands wrong, what is lacking, what does not belong there."""
        return (one.finding for one in self.parts())

    def parts(self) -> Iterator[_Part]:
        """The findings, each with what it names."""
        dump = self.audit.rules.dump_of(self.chain.table, self.chain.name)
        whole = not self.audit.rules.tables[self.chain.table].partial
        for (before, line), moved in zip(self.misplaced, self.moved, strict=True) if whole else ():
            if (dump.path, before) not in self.told and (dump.path, line) not in self.told:
                yield _Part(self._misplaced(before, line), (moved,))
        # What a finding cites as a chain, and not as one of its rules, it tells of as a whole: that it is empty, say.
        declared = (dump.path, self.audit.rules.chains(self.chain.table)[self.chain.name].line)
        lacking = self._lacking() if whole and declared not in self.told else []
        strange = [line for line in self.strange if (dump.path, line) not in self.told]
        if len(strange) > _MANY:
            yield _Part(self._many(strange), tuple(strange))
            strange = []
        for line in strange:
            # An altered rule is one finding, not one for what it was and one for what it is.
            instead = self._instead(line, lacking)
            if instead is not None:
                lacking.remove(instead)
            yield _Part(self._strange(line, instead), (line,), (instead,) if instead is not None else ())
        if lacking:
            yield _Part(self._absent(lacking), (), tuple(lacking))

    def _instead(self, line: int, lacking: Sequence[WrittenRule]) -> WrittenRule | None:
        """Of what is lacking, what a rule that does not belong there was most likely before: by equal options, then by the same ones."""
        key, flags = set(self.keys[line]), {flag for flag, _value in self.keys[line]}
        best, most = None, 0
        for rule in lacking[:_COMPARED]:
            for text in rule.texts:
                form = _form_key(text, self.audit.family)
                common = 2 * len(key & set(form)) + len(flags & {flag for flag, _value in form})
                if common > most:
                    best, most = rule, common
        return best

    def _text(self, rule: WrittenRule, form: str = "") -> str:
        """A rule as it would be printed, without its comment; in its first form, or the one that is given."""
        text = _SET.sub(lambda found: f"--match-set {set_name(found[1], self.audit.family)}", form or rule.texts[0])
        return f"-A {self.chain.name} " + _OPTION.sub(lambda found: f"-m {_MODULES[found[2]]} {found[0]}", text)

    def _places(self, lines: Sequence[int]) -> list[RulePlace]:
        return [(self.chain.table, self.chain.name, line) for line in lines]

    def _printed(self, line: int) -> str:
        return self.audit.rules.reference(self.chain.table, self.chain.name, line).text

    def _where(self) -> str:
        return f"{self.chain.table} {self.chain.name}"

    def _misplaced(self, before: int, line: int) -> Finding:
        first, second = self._printed(line), self._printed(before)
        return self.audit.finding(
            "RA308",
            f"a rule of {self._where()} stands behind one that kube-proxy writes after it: {_short(first)}",
            expected=f"{first}, then {second}",
            observed=f"{second}, then {first}",
            places=self._places([before, line]),
            subject=f"{self._where()} {first} IPv{self.audit.family}",
        )

    def _strange(self, line: int, instead: WrittenRule | None) -> Finding:
        text = self._printed(line)
        return self.audit.finding(
            "RA310",
            f"a rule of {self._where()} is not as kube-proxy writes it: {_short(text)}",
            of=instead.of if instead is not None else None,
            expected=self._text(instead) if instead is not None else "a rule of a form that kube-proxy writes there",
            observed=text,
            places=self._places([line]),
            subject=f"{self._where()} {text} IPv{self.audit.family}",
        )

    def _many(self, lines: Sequence[int]) -> Finding:
        text = self._printed(lines[0])
        return self.audit.finding(
            "RA310",
            f"{len(lines)} rules of {self._where()} are not as kube-proxy writes them, first {_short(text)}",
            expected="rules of the forms that kube-proxy writes",
            observed=text,
            places=self._places(lines),
            subject=f"many of {self._where()} IPv{self.audit.family}",
        )

    def _absent(self, lacking: Sequence[WrittenRule]) -> Finding:
        texts = [self._text(rule) for rule in lacking]
        some = "; ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
        owners = {rule.of for rule in lacking}
        return self.audit.finding(
            "RA310",
            f"{self._where()} lacks what kube-proxy always writes there: {some}; {self.chain.effect}",
            of=owners.pop() if len(owners) == 1 else None,
            expected="\n".join(texts),
            observed="none",
            places=self._places([0]),
            subject=f"{self._where()} lacks {some} IPv{self.audit.family}",
        )


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."

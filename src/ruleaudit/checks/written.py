"""Whether kube-proxy's own chains hold what kube-proxy writes there, rule by rule and in its order (RA108, RA308, RA310, RA802).

Services are judged by evaluation, with a few clients per frontend. What those do not meet (another port of the address, another client,
an answer, the kind of a refusal) shows here: a rule of a form that no kube-proxy writes, one that it always writes and that is gone, and
one that stands where it does something else. The forms are KPR 4, 5 and 6, all releases together (kubernetes,
pkg/proxy/iptables/proxier.go).
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ruleaudit.dataplane.ruleset import keys_of
from ruleaudit.findings import Finding, Severity
from ruleaudit.kubeproxy.chains import chain_hash
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.signs import SERVICE_CHAIN, Hook, entry_comment, entry_value, hook_present, tail_rules

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from ruleaudit.checks.context import FamilyAudit, RulePlace
    from ruleaudit.dumps.rules import Shape
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["written_rules"]


class _Value(Enum):
    """What a value must be."""

    HOST = "one address"
    LOOPBACK = "the loopback network"
    LOCAL_PODS = "what the node takes for local pods"
    LOCAL = "LOCAL"
    PORT_UNREACHABLE = "port unreachable"
    MASQUERADE_MARK = "the masquerade mark under its own mask"
    CLEARED_MARK = "the masquerade mark, inverted"
    WHOLE_ADDRESS = "the mask of one address"


class _Form(NamedTuple):
    """One form of rule.

    `asks`: the flags by which it chooses packets, "!" before negated ones; `targets`: a prefix where they end in "-"; `rank`: its place
    among the chain's rules (None: anywhere); `until`: the last release that writes it; `own`: its target is a chain of the same service
    port; `values`: what its values must be.
    """

    asks: frozenset[str]
    targets: tuple[str, ...]
    rank: int | None
    until: int
    own: bool
    values: tuple[tuple[str, _Value | frozenset[str]], ...]


def _form(
    asks: str, targets: str, rank: int | None = None, *, until: int = 99, own: bool = False, **values: _Value | frozenset[str]
) -> _Form:
    named = tuple((_FLAG[name], value) for name, value in values.items())
    return _Form(frozenset(asks.split()), tuple(targets.split(" ")), rank, until, own, named)


_FLAG = {
    "s": "-s", "d": "-d", "i": "-i", "src": "--src-type", "dst": "--dst-type", "reject": "--reject-with", "mark": "--mark",
    "xmark": "--set-xmark", "state": "--ctstate", "mask": "--mask",
}  # fmt: skip
_V = _Value
_INVALID, _ANSWERS = frozenset({"INVALID"}), frozenset({"RELATED,ESTABLISHED"})
_TRACKED = frozenset({"RELATED,ESTABLISHED,DNAT"})
_NOT_LOCAL = ("!-s -d -p --dport", "!-i -d -p --dport")
_RECALL = "--rcheck --seconds --reap --name --rsource"
_REFUSALS = (
    _form("-d -p --dport", "REJECT", d=_V.HOST, reject=_V.PORT_UNREACHABLE),
    _form("-d -p --dport", "DROP", d=_V.HOST),
)


def _balancing(*first: _Form) -> tuple[_Form, ...]:
    """The forms of a chain that spreads connections over endpoints (KPR 5.3, 6.2)."""
    return (
        *first,
        _form(_RECALL, "KUBE-SEP-", 4, mask=_V.WHOLE_ADDRESS),
        _form("--mode --probability", "KUBE-SEP-", 5),
        _form("", "KUBE-SEP-", 6),
        _form("", "KUBE-MARK-DROP", 6),  # no local endpoints, up to 1.24
    )


# KPR 5.3 (1.22 and newer) and 6.3 (older, in KUBE-SERVICES).
_MASQUERADE = (
    *(_form(asks, "KUBE-MARK-MASQ", 0, d=_V.HOST, s=_V.LOCAL_PODS, i=_V.LOCAL_PODS) for asks in _NOT_LOCAL),
    _form("-d -p --dport", "KUBE-MARK-MASQ", 0, d=_V.HOST),
    _form("-p --dport", "KUBE-MARK-MASQ", 0, until=23),  # node ports in 1.22 and 1.23
)
_FORMS: Mapping[tuple[str, str], tuple[_Form, ...]] = {
    ("filter", "KUBE-SERVICES"): _REFUSALS,
    ("filter", "KUBE-EXTERNAL-SERVICES"): (
        *_REFUSALS,
        _form("-p --dport --dst-type", "REJECT", dst=_V.LOCAL, reject=_V.PORT_UNREACHABLE),
        _form("-p --dport --dst-type", "DROP", dst=_V.LOCAL),
    ),
    ("filter", "KUBE-NODEPORTS"): (_form("-p --dport", "ACCEPT"),),
    ("filter", "KUBE-PROXY-FIREWALL"): (_form("-d -p --dport", "DROP", d=_V.HOST),),
    ("filter", "KUBE-FORWARD"): (
        _form("--ctstate", "DROP", 0, state=_INVALID),
        _form("--mark", "ACCEPT", 1, mark=_V.MASQUERADE_MARK),
        _form("--ctstate", "ACCEPT", 1, state=_ANSWERS),
        _form("-s --ctstate", "ACCEPT", 1, until=17, state=_ANSWERS),  # with a cluster CIDR
        _form("-d --ctstate", "ACCEPT", 1, until=17, state=_ANSWERS),
    ),
    ("filter", "KUBE-FIREWALL"): (
        _form("!-s -d !--ctstate", "DROP", s=_V.LOOPBACK, d=_V.LOOPBACK, state=_TRACKED),
        _form("--mark", "DROP"),
    ),
    ("nat", "KUBE-SERVICES"): (
        _form("-d -p --dport", "KUBE-SVC- KUBE-SVL- KUBE-EXT- KUBE-FW- KUBE-XLB- KUBE-MARK-MASQ", d=_V.HOST),
        *(_form(asks, "KUBE-MARK-MASQ", d=_V.HOST, s=_V.LOCAL_PODS, i=_V.LOCAL_PODS) for asks in _NOT_LOCAL),
        _form("-d -p --dport !--physdev-is-in !--src-type", "KUBE-SVC- KUBE-XLB-", d=_V.HOST, src=_V.LOCAL),
        _form("-d -p --dport --dst-type", "KUBE-SVC- KUBE-XLB-", d=_V.HOST, dst=_V.LOCAL),
        _form("--dst-type", "KUBE-NODEPORTS", dst=_V.LOCAL),
        _form("!-d --dst-type", "KUBE-NODEPORTS", d=_V.LOOPBACK, dst=_V.LOCAL),
        _form("-d", "KUBE-NODEPORTS", d=_V.HOST),
    ),
    ("nat", "KUBE-NODEPORTS"): (
        _form("-p --dport", "KUBE-EXT- KUBE-SVC- KUBE-XLB- KUBE-MARK-MASQ"),
        _form("-d -p --dport", "KUBE-EXT-", d=_V.LOOPBACK),  # 1.31 and newer: counts
        _form("-s -p --dport", "KUBE-MARK-MASQ", s=_V.LOOPBACK),
    ),
    ("nat", "KUBE-MARK-MASQ"): (_form("", "MARK", xmark=_V.MASQUERADE_MARK),),
    ("nat", "KUBE-MARK-DROP"): (_form("", "MARK"),),
    ("nat", "KUBE-POSTROUTING"): (
        _form("!--mark", "RETURN", 0, mark=_V.MASQUERADE_MARK),
        _form("", "MARK", 1, xmark=_V.CLEARED_MARK),
        _form("", "MASQUERADE", 2),
        _form("--mark", "MASQUERADE", 2, mark=_V.MASQUERADE_MARK),
    ),
    ("nat", "KUBE-SVC-"): _balancing(*_MASQUERADE),
    ("nat", "KUBE-SVL-"): _balancing(*_MASQUERADE),
    ("nat", "KUBE-XLB-"): _balancing(
        _form("-s", "KUBE-SVC-", 0, own=True, s=_V.LOCAL_PODS),
        _form("-i", "KUBE-SVC-", 0, own=True, i=_V.LOCAL_PODS),
        _form("--src-type", "KUBE-MARK-MASQ", 1, src=_V.LOCAL),
        _form("--src-type", "KUBE-SVC-", 2, own=True, src=_V.LOCAL),
    ),
    ("nat", "KUBE-EXT-"): (
        _form("-s", "KUBE-SVC-", 0, own=True, s=_V.LOCAL_PODS),
        _form("-i", "KUBE-SVC-", 0, own=True, i=_V.LOCAL_PODS),
        _form("", "KUBE-MARK-MASQ", 1),
        _form("--src-type", "KUBE-MARK-MASQ", 1, src=_V.LOCAL),
        _form("--src-type", "KUBE-SVC-", 2, own=True, src=_V.LOCAL),
        _form("", "KUBE-SVC- KUBE-SVL-", 3, own=True),
    ),
    ("nat", "KUBE-FW-"): (
        _form("-s", "KUBE-EXT- KUBE-SVC- KUBE-XLB-", own=True),
        _form("", "KUBE-MARK-MASQ"),  # up to 1.24, in groups, one per address, of which it is the first
        _form("", "KUBE-MARK-DROP "),  # up to 1.24, the last of a group; a comment alone from 1.27
        _form("", "KUBE-EXT- KUBE-SVC- KUBE-XLB-", own=True),
    ),
    ("nat", "KUBE-SEP-"): (
        _form("-s", "KUBE-MARK-MASQ", 0, s=_V.HOST),
        _form("-s", "MARK", 0, until=23, s=_V.HOST),  # long before 1.16
        _form("-p", "DNAT", 1),
        _form("-p --set --name --rsource", "DNAT", 1, mask=_V.WHOLE_ADDRESS),
    ),
}  # fmt: skip
# The characters of a chain name that stand for its service port (KPR 3.1).
_HASH = 16
# From how many rules on one finding is written for all of them.
_MANY = 25
# From this release on the sources promise that certain rules of load balancers and of kubelet are there.
_READ_FROM = 20
# From how many rules on a chain's alike rules are looked at once.
_LONG = 4
# Matches that choose no packets.
_SILENT = frozenset({"comment", "nfacct"})


# A form made ready for one shape: itself; the target's slot (None: the target has a name of its own), the names and the prefixes that may
# stand there; the slots of other values with what may stand there (a text: how it must end).
_Ready: TypeAlias = "tuple[_Form, int | None, frozenset[str], tuple[str, ...], tuple[tuple[int, frozenset[str] | str], ...]]"


class _Writing:
    """The forms of one kind of chain, by shape."""

    def __init__(self, audit: FamilyAudit, forms: Sequence[_Form]) -> None:
        self.forms = [one for one in forms if _oldest(audit) <= one.until]
        self.known: dict[Shape, tuple[_Ready, ...]] = {}
        self.targets: dict[Shape, int | None] = {}
        mark, four = f"{audit.mark:#x}", audit.family == 4
        detection = audit.expectation.local_detection
        pods = _pods(audit, detection) if isinstance(detection, LocalDetection) else None
        self.allowed: dict[_Value, frozenset[str] | str] = {
            _V.HOST: "/32" if four else "/128",
            _V.LOOPBACK: frozenset({"127.0.0.0/8", "127.0.0.1/32"} if four else {"::1/128"}),
            _V.LOCAL_PODS: frozenset({pods}) if pods else "",
            _V.LOCAL: frozenset({"LOCAL"}),
            _V.PORT_UNREACHABLE: frozenset({"icmp-port-unreachable" if four else "icmp6-port-unreachable"}),
            _V.MASQUERADE_MARK: frozenset({f"{mark}/{mark}"}),
            _V.CLEARED_MARK: frozenset({f"{mark}/0x0"}),
            _V.WHOLE_ADDRESS: frozenset({"255.255.255.255" if four else ":".join(["ffff"] * 8)}),
        }

    def form(self, name: str, shape: Shape, values: tuple[str, ...]) -> _Form | None:
        """The form of a rule of a chain, None when no kube-proxy writes it there."""
        ready = self.known.get(shape)
        if ready is None:
            ready = self.known[shape] = self.prepare(shape)
        for form, name_slot, names, prefixes, checks in ready:
            if name_slot is not None:
                target = values[name_slot]
                if target not in names and not target.startswith(prefixes):
                    continue
                if form.own and target[-_HASH:] != name[-_HASH:]:
                    continue
            for slot, allowed in checks:
                if not values[slot].endswith(allowed) if isinstance(allowed, str) else values[slot] not in allowed:
                    break
            else:
                return form
        return None

    def only_target(self, shape: Shape) -> int | None:
        """The slot of the target, when that is all that the forms look at in rules of this shape; else None."""
        known = self.targets.get(shape, -1)
        if known == -1:
            ready = self.known.get(shape)
            if ready is None:
                ready = self.known[shape] = self.prepare(shape)
            plain = bool(ready) and all(not checks and not form.own for form, _slot, _names, _prefixes, checks in ready)
            known = self.targets[shape] = ready[0][1] if plain else None
        return known

    def prepare(self, shape: Shape) -> tuple[_Ready, ...]:
        """The forms that a shape may be of, as far as flags and fixed targets tell."""
        slots: dict[str, int] = {}
        asks = set()
        options = [option for option in shape.options if option.flag != "-c"]
        for match in shape.matches:
            if match.module not in _SILENT:
                options += match.options
        for option in options:
            if option.flag != "--mask":
                asks.add(("!" if option.negated else "") + option.flag)
            if option.slots:
                slots[option.flag] = option.slots[0]
        target = shape.target
        if target is not None:
            if target.goto:
                return ()
            slots.update({option.flag: option.slots[0] for option in target.options if option.slots})
        found: list[_Ready] = []
        for form in self.forms:
            if form.asks != asks:
                continue
            name_slot = None if target is None else target.name_slot
            if name_slot is None and (target.name if target is not None else "") not in form.targets:
                continue
            checks = tuple(
                (slots[flag], wanted if isinstance(wanted, frozenset) else self.allowed[wanted])
                for flag, wanted in form.values
                if flag in slots
            )
            prefixes = tuple(one for one in form.targets if one.endswith("-"))
            found.append((form, name_slot, frozenset(form.targets), prefixes, checks))
        return tuple(found)


def _oldest(audit: FamilyAudit) -> int:
    """The oldest release that may have written the rules; what only newer ones write is not asked for."""
    return audit.settings.minor or audit.signs.oldest


def _pods(audit: FamilyAudit, detection: LocalDetection) -> str | None:
    """How rules name local pods: a network as iptables prints it, or an interface."""
    from ruleaudit.addresses import parse_network

    if detection.mode == "BridgeInterface":
        return detection.value
    if detection.mode == "InterfaceNamePrefix":
        return detection.value + "+"
    where = parse_network(detection.value, audit.family)
    return str(where) if where is not None else None


def written_rules(audit: FamilyAudit, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Everything in kube-proxy's chains that kube-proxy does not write so; rules that one of `findings` shows already are left out."""
    rules = audit.rules
    told = {(where.file, where.line) for one in findings if one.severity is not Severity.INFO for where in one.locations}
    strange: list[RulePlace] = []
    present: dict[RulePlace, list[_Form]] = defaultdict(list)
    for table in ("filter", "nat"):
        writings = {kind: _Writing(audit, forms) for (where, kind), forms in _FORMS.items() if where == table}
        chains = rules.chains(table)
        for name in rules.other_chains(
            table
        ):  # but for those that hold exactly the two forms of an endpoint chain, in their order
            chain = chains[name]
            found = SERVICE_CHAIN.match(name) if table == "nat" else None
            writing = writings.get(found.group(0) if found else name)
            if writing is None:
                continue
            dump = rules.dump_of(table, name)
            shapes, values = dump.shapes, dump.values
            highest, before = -1, 0
            lines: Sequence[int] = chain.lines
            if found is not None and len(lines) > _LONG:
                lines = _told_apart(lines, shapes, values, writing)
            kept = found is None or found.group(1) in ("EXT", "XLB", "FW")
            first: int | None = None  # the first rule of a firewall that leads on, while none has marked what it leads on
            for line in lines:
                form = writing.form(name, shapes[line], values[line])
                if form is None:
                    strange.append((table, name, line))
                    continue
                if kept:
                    present[table, name, 0].append(form)
                if found is not None and found.group(1) == "FW":
                    if form.targets == ("KUBE-MARK-MASQ",):
                        if first and (dump.path, line) not in told and (dump.path, first) not in told:
                            yield _misplaced(audit, table, name, first, line)
                        first = 0
                    elif first is None:
                        first = line
                if form.rank is not None:
                    if form.rank >= highest:
                        highest, before = form.rank, line
                    elif (dump.path, line) not in told and (dump.path, before) not in told:
                        yield _misplaced(audit, table, name, before, line)
    strange += [*_unpaired(audit), *_wrong_health_ports(audit)]
    absent = [*_absent(audit, present, strange), *_exposed(audit, present, strange)]
    halved = _halved(audit, present, told)
    if len(halved) > _MANY:
        # Not one after the other, but all: the settings that were found do not fit these rules, or somebody edits them by program.
        yield audit.finding(
            "RA310",
            f"{len(halved)} chains lack rules that kube-proxy writes there, first {halved[0].message}",
            expected=halved[0].expected,
            observed="none",
            places=[place for place in present if place[1].startswith(_LOCAL_CHAINS)],
            subject=f"many lack rules IPv{audit.family}",
        )
    else:
        absent += halved
    yield from absent
    yield from _unhooked(audit)
    told.update((where.file, where.line) for one in absent for where in one.locations)
    left = [place for place in strange if (rules.dump_of(place[0], place[1]).path, place[2]) not in told]
    if len(left) > _MANY:
        yield audit.finding(
            "RA310",
            f"{len(left)} rules of kube-proxy's chains are not as kube-proxy writes them, first {_short(rules.reference(*left[0]).text)}",
            expected="rules of the forms that kube-proxy writes",
            observed=rules.reference(*left[0]).text,
            places=left,
            subject=f"many IPv{audit.family}",
        )
        return
    yield from (_strange(audit, place) for place in left)


def _told_apart(
    lines: Sequence[int], shapes: Sequence[Shape], values: Sequence[tuple[str, ...]], writing: _Writing
) -> Sequence[int]:
    """Of neighbouring rules of one shape that differ in nothing that forms look at, the first only: there may be many thousands."""
    kept = []
    last: tuple[Shape, bool] | None = None
    for line in lines:
        shape = shapes[line]
        slot = writing.only_target(shape)
        seen = (shape, slot is not None and values[line][slot].startswith("KUBE-SEP-"))
        if seen != last or not seen[1]:
            kept.append(line)
        last = seen
    return kept


def _misplaced(audit: FamilyAudit, table: str, name: str, before: int, line: int) -> Finding:
    owner = _owner(audit, name)
    first, second = audit.rules.reference(table, name, line).text, audit.rules.reference(table, name, before).text
    return audit.finding(
        "RA308",
        f"a rule of {table} {name}{_named(owner)} stands behind one that kube-proxy writes after it: {_short(first)}",
        of=owner,
        expected=f"{first}, then {second}",
        observed=f"{second}, then {first}",
        places=[(table, name, before), (table, name, line)],
        subject=f"{table} {name} {first} IPv{audit.family}",
    )


def _strange(audit: FamilyAudit, place: RulePlace) -> Finding:
    owner = _owner(audit, place[1])
    text = audit.rules.reference(*place).text
    return audit.finding(
        "RA310",
        f"a rule of {place[0]} {place[1]}{_named(owner)} is not as kube-proxy writes it: {_short(text)}",
        of=owner,
        expected="a rule of a form that kube-proxy writes there",
        observed=text,
        places=[place],
        subject=f"{place[0]} {place[1]} {text} IPv{audit.family}",
    )


def _absent(audit: FamilyAudit, present: Mapping[RulePlace, Sequence[_Form]], strange: Sequence[RulePlace]) -> Iterator[Finding]:
    """RA310 for rules that kube-proxy always writes (KPR 4.5, 4.6) and that are gone, or no longer what they were."""
    minor, oldest = audit.expectation.release.minor, _oldest(audit)
    mark = f"{audit.mark:#x}/{audit.mark:#x}"
    for place, effect in (
        (("filter", "KUBE-FORWARD", 0), "forwarded service traffic depends on what else the node accepts"),
        (
            ("nat", "KUBE-POSTROUTING", 0),
            "packets keep the mark after they are masqueraded, and what sees them again masquerades them twice",
        ),
    ):
        table, name, _line = place
        if name not in audit.rules.chains(table):
            continue
        forms = present.get(place, ())
        lacking = []
        if name == "KUBE-FORWARD":
            if not any("--mark" in form.asks for form in forms):
                lacking.append(f"accept what carries the mark {mark}")
            # 1.16 and 1.17 write it only with a cluster CIDR, older ones not at all. KPR 4.6.
            if oldest >= 18 and not any("--ctstate" in form.asks and form.targets == ("ACCEPT",) for form in forms):
                lacking.append("accept RELATED,ESTABLISHED")
            # From 1.29 on it depends on a sysctl at kube-proxy's start. KPR 4.6.
            if oldest >= 18 and minor <= 28 and not any(form.targets == ("DROP",) for form in forms):
                lacking.append("drop INVALID")
        elif any(form.targets == ("RETURN",) for form in forms) and not any(form.targets == ("MARK",) for form in forms):
            lacking.append(f"clear the mark {mark}")
        if lacking:
            others = [one for one in strange if one[:2] == place[:2]]
            yield audit.finding(
                "RA310",
                f"{table} {name} lacks what kube-proxy always writes there ({', '.join(lacking)}): {effect}",
                expected=f"rules that {', '.join(lacking)}",
                observed=", ".join(audit.rules.reference(*one).text for one in others) or "none",
                places=[place, *others],
                subject=f"{table} {name} lacks {', '.join(lacking)} IPv{audit.family}",
            )


_LOCAL_CHAINS = ("KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-")


def _halved(audit: FamilyAudit, present: Mapping[RulePlace, Sequence[_Form]], told: Container[tuple[str, int]]) -> list[Finding]:
    """RA310 for chains of load balancers and of traffic policy Local that lack a part (KPR 5.5, 6.1 to 6.3).

    What they lack may decide nothing now: as long as every endpoint is on this node, or no kubelet drops what carries its mark.
    """
    findings: list[Finding] = []
    for place, forms in present.items():
        table, name, _line = place
        if not name.startswith(_LOCAL_CHAINS):
            continue
        lacking = (
            _lacking_of_balancer(audit, name, forms) if name.startswith("KUBE-FW-") else _lacking_of_local(audit, name, forms)
        )
        dump = audit.rules.dump_of(table, name)
        chain = audit.rules.chains(table)[name]
        if not lacking or any((dump.path, line) in told for line in (chain.line, *chain.lines)):
            continue
        owner = _owner(audit, name)
        findings.append(
            audit.finding(
                "RA310",
                f"{name}{_named(owner)} lacks rules that kube-proxy writes there: {', '.join(lacking)}",
                of=owner,
                expected=", ".join(lacking),
                observed="none",
                places=[place, *((table, name, line) for line in chain.lines)],
                subject=f"{name} lacks {', '.join(lacking)} IPv{audit.family}",
            )
        )
    return findings


def _lacking_of_local(audit: FamilyAudit, name: str, forms: Sequence[_Form]) -> list[str]:
    """KPR 5.5, 6.2: pods and the node itself take the short cut to all endpoints."""
    cuts = [form for form in forms if form.own and form.rank != 3]
    marks = any(form.targets == ("KUBE-MARK-MASQ",) and form.asks for form in forms)
    if not cuts and not marks:
        return []
    pods, node = any("--src-type" not in form.asks for form in cuts), any("--src-type" in form.asks for form in cuts)
    ends = not name.startswith("KUBE-XLB-") or any(form.targets in (("KUBE-SEP-",), ("KUBE-MARK-DROP",)) for form in forms)
    detects = isinstance(audit.expectation.local_detection, LocalDetection)
    return [
        text
        for text, there in (
            ("pods' traffic to all endpoints", pods or not detects),
            ("a mark for the node's own traffic", marks),
            ("the node's own traffic to all endpoints", node),
            ("local endpoints, or the mark of what is dropped without any", ends),
        )
        if not there
    ]


def _lacking_of_balancer(audit: FamilyAudit, name: str, forms: Sequence[_Form]) -> list[str]:
    """KPR 6.1, 6.2: up to 1.24 the rules of a load balancer are repeated for each address, and end in the mark of what is dropped."""
    if audit.expectation.release.minor > 24 or _oldest(audit) < _READ_FROM:
        return []
    groups: list[list[object]] = [[]]
    lines = audit.rules.chains("nat")[name].lines
    dump = audit.rules.dump_of("nat", name)
    dropped = False
    for line in lines:
        shape = dump.shapes[line]
        slots = shape.counter_slots or ()
        values = tuple(value for slot, value in enumerate(dump.values[line]) if slot not in slots)
        groups[-1].append((shape, values))
        dropped = dump.rule(line).target_name == "KUBE-MARK-DROP"
        if dropped:
            groups.append([])
    lacking = [] if dropped or not forms else ["the mark of what is dropped, at the end"]
    if any(group and group != groups[0] for group in groups):
        lacking.append("the same rules for each address")
    return lacking


def _unpaired(audit: FamilyAudit) -> list[RulePlace]:
    """Rules that are of no use without another one that is not there, or that are open to more than this release lets them.

    In nat KUBE-NODEPORTS: counting and masquerading packets of localhost whose port no rule serves (KPR 5.1, 6.2). In nat
    KUBE-SERVICES: one of two jumps for an external IP, up to 1.20 (KPR 6.3), and a jump to KUBE-NODEPORTS for ::1 (KPR 4.4).
    """
    rules = audit.rules
    asking: list[tuple[tuple[object, ...], int]] = []
    serving: set[tuple[object, ...]] = set()
    for entry in rules.entries("nat", "KUBE-NODEPORTS"):
        key = (entry_value(entry, "-p"), keys_of(entry.plan, entry.values)[1])
        if entry_value(entry, "-d") is not None:
            asking.append(((*key, entry.target), entry.line))
        elif entry_value(entry, "-s") is not None:
            asking.append((key, entry.line))
        else:
            serving.add((*key, entry.target))
            if entry.target.startswith("KUBE-XLB-"):
                serving.add(key)
    found: list[RulePlace] = [("nat", "KUBE-NODEPORTS", line) for key, line in asking if key not in serving]
    if audit.family == 6 and _oldest(audit) >= 26:
        found += [
            ("nat", "KUBE-SERVICES", entry.line) for entry in tail_rules(rules) if entry_value(entry, "-d", negated=None) is None
        ]
    if audit.expectation.release.minor <= 20:
        found += _unpaired_external(audit)
    return found


def _wrong_health_ports(audit: FamilyAudit) -> Iterator[RulePlace]:
    """Rules of filter KUBE-NODEPORTS that accept another port than the Service they name has for health checks (KPR 2.10, 4.1).

    Each port of a Service has such a rule, so that one of them can be wrong while the health check is still answered. What stands there
    for a Service that is gone belongs to its own finding.
    """
    if not audit.cluster.services:
        return
    for entry in audit.rules.entries("filter", "KUBE-NODEPORTS"):
        key = tuple((entry_comment(entry) or "").partition(":")[0].partition(" ")[0].split("/"))
        service = audit.cluster.services.get((key[0], key[1])) if len(key) == 2 else None
        wanted = str(service.spec.health_check_node_port) if service is not None else None
        if service is not None and (keys_of(entry.plan, entry.values)[1] != wanted or entry_value(entry, "-p") != "tcp"):
            yield "filter", "KUBE-NODEPORTS", entry.line


def _unpaired_external(audit: FamilyAudit) -> Iterator[RulePlace]:
    """Up to 1.20: an external IP has a jump for what comes from elsewhere, then one for what is for the node (KPR 6.3)."""
    groups: dict[tuple[object, ...], list[tuple[str, str, int]]] = defaultdict(list)
    for entry in audit.rules.entries("nat", "KUBE-SERVICES"):
        address, port = keys_of(entry.plan, entry.values)
        if address is None or port is None:
            continue
        modules = {match.module for match in entry.plan.shape.matches}
        kind = "from elsewhere" if "physdev" in modules else "for the node" if "addrtype" in modules else "all"
        groups[address, port, entry_value(entry, "-p")].append((kind, entry.target, entry.line))
    for group in groups.values():
        pairs = [one for one in group if one[0] != "all"]
        jumps = [one for one in group if one[0] == "all" and one[1] != "KUBE-MARK-MASQ"]
        if not pairs:
            continue
        kinds = [kind for kind, _target, _line in pairs]
        marks_first = all(line < pairs[0][2] for kind, target, line in group if target == "KUBE-MARK-MASQ")
        if (
            kinds != ["from elsewhere", "for the node"] * (len(kinds) // 2)
            or len({one[1] for one in pairs}) > 1
            or jumps
            or not marks_first
        ):
            yield from (("nat", "KUBE-SERVICES", line) for _kind, _target, line in group)


def _exposed(audit: FamilyAudit, present: Mapping[RulePlace, Sequence[_Form]], strange: Sequence[RulePlace]) -> Iterator[Finding]:
    """RA802: route_localnet is on, which kube-proxy sets for node ports on localhost, and nothing drops martian packets (KPR 4.4, 4.8).

    Up to 1.26 the rule is kubelet's, so it is asked for where its chain is.
    """
    place: RulePlace = ("filter", "KUBE-FIREWALL", 0)
    if audit.family != 4 or "KUBE-FIREWALL" not in audit.rules.chains("filter"):
        return
    if _oldest(audit) < _READ_FROM:
        return  # Kubelets of that time may not know the rule.
    if audit.expectation.release.minor >= 27 and not (audit.signs.localhost_nodeports and audit.settings.localhost_nodeports):
        return
    if any("!--ctstate" in form.asks for form in present.get(place, ())):
        return
    others = [one for one in strange if one[:2] == place[:2]]
    yield audit.finding(
        "RA802",
        "filter KUBE-FIREWALL does not drop packets from elsewhere to 127.0.0.0/8: neighbours of the node reach what listens on its localhost",
        expected="a rule that drops ! -s 127.0.0.0/8 -d 127.0.0.0/8 unless RELATED,ESTABLISHED,DNAT",
        observed=", ".join(audit.rules.reference(*one).text for one in others) or "none",
        places=[place, *others],
        subject="KUBE-FIREWALL",
    )


# kubelet's, and from 1.27 on kube-proxy's too (KPR 4.2, 4.8).
_FIREWALL_HOOKS = (Hook("filter", "INPUT", "KUBE-FIREWALL", since=27), Hook("filter", "OUTPUT", "KUBE-FIREWALL", since=27))


def _unhooked(audit: FamilyAudit) -> Iterator[Finding]:
    """RA108 as a warning: KUBE-FIREWALL decides nothing about services."""
    rules = audit.rules
    if "KUBE-FIREWALL" not in rules.chains("filter") or audit.expectation.release.minor < 27:
        return
    for hook in _FIREWALL_HOOKS:
        if hook.chain in rules.chains("filter") and not hook_present(rules, hook):
            yield audit.finding(
                "RA108",
                f"{hook} is missing in IPv{audit.family}: no service's traffic changes by it, but the packets that KUBE-FIREWALL drops pass",
                severity=Severity.WARNING,
                expected=f"a rule of filter {hook.chain} that sends every packet to KUBE-FIREWALL",
                observed="none",
                places=[("filter", hook.chain, 0), ("filter", "KUBE-FIREWALL", 0)],
                subject=f"{hook} IPv{audit.family}",
            )


def _owner(audit: FamilyAudit, name: str) -> ExpectedServicePort | None:
    """The service port whose chain this is; None for endpoint chains, whose hash is of the endpoint as well."""
    found = SERVICE_CHAIN.match(name)
    if found is None or found.group(1) == "SEP":
        return None
    suffix = name[found.end() :]
    release = audit.expectation.release
    for expected in audit.expectation.service_ports:
        if any(chain_hash(text, expected.protocol.lower()) == suffix for text in expected.name.texts(release)):
            return expected
    return None


def _named(owner: ExpectedServicePort | None) -> str:
    return f" ({owner.name})" if owner is not None else ""


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."

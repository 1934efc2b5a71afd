"""kube-proxy's own rules in a ruleset: which chains and jumps are its, and what they say of its release and settings.

Recognising them explains and attributes; it never decides whether traffic works (that is evaluation). KPR 3, 4, 19.1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.matches import mark_and_mask
from ruleaudit.dataplane.ruleset import A_JUMP, Entry, Ruleset, keys_of
from ruleaudit.dumps.rules import unescape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "HOOKS",
    "IPVS_CHAINS",
    "IPVS_HOOKS",
    "LEFTOVER_PREFIXES",
    "SERVICE_CHAIN",
    "Dispatch",
    "Hook",
    "Signs",
    "dispatches",
    "hook_present",
    "ipvs_release_bounds",
    "is_kube_proxy_chain",
    "other_proxy",
    "read_ipvs_signs",
    "read_signs",
    "tail_rules",
]

SERVICE_CHAIN = re.compile(r"^KUBE-(SVC|SVL|EXT|FW|SEP|XLB)-")
_FIXED = frozenset(
    {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-EXTERNAL-SERVICES",
     "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL", "KUBE-LOAD-BALANCER", "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL",
     "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"}
)  # fmt: skip
LEFTOVER_PREFIXES = ("KUBE-XLB-", "KUBE-EXT-", "KUBE-SVL-")


def is_kube_proxy_chain(name: str) -> bool:
    """Whether a chain name is one that kube-proxy in iptables or IPVS mode (or kubelet beside it) uses (KPR 4.1, 4.8, 10)."""
    return name in _FIXED or SERVICE_CHAIN.match(name) is not None


class Hook(NamedTuple):
    """A jump that kube-proxy keeps from a built-in chain (or KUBE-SERVICES) to one of its own, for releases 1.`since` to 1.`until`."""

    table: str
    chain: str
    target: str
    since: int = 16
    until: int = 99

    def __str__(self) -> str:
        return f"{self.table} {self.chain} -> {self.target}"


# KPR 4.2. The jumps of KUBE-FIREWALL are kubelet's, or kube-proxy's from 1.27.
HOOKS = (
    Hook("nat", "PREROUTING", "KUBE-SERVICES"),
    Hook("nat", "OUTPUT", "KUBE-SERVICES"),
    Hook("nat", "POSTROUTING", "KUBE-POSTROUTING"),
    Hook("filter", "FORWARD", "KUBE-FORWARD"),
    Hook("filter", "FORWARD", "KUBE-SERVICES"),
    Hook("filter", "OUTPUT", "KUBE-SERVICES"),
    Hook("filter", "INPUT", "KUBE-EXTERNAL-SERVICES"),
    Hook("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", since=20),
    Hook("filter", "INPUT", "KUBE-NODEPORTS", since=21),
    Hook("filter", "INPUT", "KUBE-PROXY-FIREWALL", since=25),
    Hook("filter", "FORWARD", "KUBE-PROXY-FIREWALL", since=25),
    Hook("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", since=25),
)

# KPR 10.1; pkg/proxy/ipvs/proxier.go, iptablesJumpChain.
IPVS_HOOKS = (
    Hook("nat", "OUTPUT", "KUBE-SERVICES"),
    Hook("nat", "PREROUTING", "KUBE-SERVICES"),
    Hook("nat", "POSTROUTING", "KUBE-POSTROUTING"),
    Hook("filter", "FORWARD", "KUBE-FORWARD"),
    Hook("filter", "INPUT", "KUBE-NODE-PORT", since=21),
    Hook("filter", "INPUT", "KUBE-PROXY-FIREWALL", since=25),
    Hook("filter", "FORWARD", "KUBE-PROXY-FIREWALL", since=25),
    Hook("filter", "INPUT", "KUBE-IPVS-FILTER", since=26),
    Hook("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", since=29),
)
# KPR 10.2 to 10.4; pkg/proxy/ipvs/proxier.go, iptablesChains.
IPVS_CHAINS = frozenset(
    {
        ("nat", "KUBE-SERVICES"), ("nat", "KUBE-POSTROUTING"), ("nat", "KUBE-FIREWALL"), ("nat", "KUBE-NODE-PORT"),
        ("nat", "KUBE-LOAD-BALANCER"), ("nat", "KUBE-MARK-MASQ"), ("nat", "KUBE-MARK-DROP"), ("filter", "KUBE-FORWARD"),
        ("filter", "KUBE-NODE-PORT"), ("filter", "KUBE-PROXY-FIREWALL"), ("filter", "KUBE-SOURCE-RANGES-FIREWALL"),
        ("filter", "KUBE-IPVS-FILTER"), ("filter", "KUBE-IPVS-OUT-FILTER"),
    }
)  # fmt: skip


def hook_present(rules: Ruleset, hook: Hook) -> bool:
    """Whether some rule of the chain jumps to the target for every new packet (a narrower match does not count)."""
    return any(
        entry.target == hook.target and entry.action == A_JUMP and _matches_every_new_packet(entry)
        for entry in rules.entries(hook.table, hook.chain)
    )


def _matches_every_new_packet(entry: Entry) -> bool:
    shape = entry.plan.shape
    if shape.options:
        return False
    for match in shape.matches:
        if match.module == "comment":
            continue
        if match.module in ("conntrack", "state"):
            for option in match.options:
                states = entry.values[option.slots[0]].split(",") if option.slots else []
                if option.flag not in ("--ctstate", "--state") or option.negated or "NEW" not in states:
                    return False
            continue
        return False
    return True


class Dispatch(NamedTuple):
    """A rule that sends a frontend's packets to a service chain or refuses them.

    `kind`: "ClusterIP", "ExternalIP", "LoadBalancerIP", "NodePort" or None when the comment does not tell; `address` None for node ports;
    `name`: the service port name in the comment; `target`: chain or verdict.
    """

    table: str
    chain: str
    line: int
    kind: str | None
    address: str | None
    protocol: str
    port: int
    name: str | None
    target: str


_COMMENT_KINDS = (
    (" cluster IP", "ClusterIP"),
    (" external IP", "ExternalIP"),
    (" loadbalancer IP", "LoadBalancerIP"),
    (" has no endpoints", None),
    (" has no local endpoints", None),
)
DISPATCH_CHAINS = (
    ("nat", "KUBE-SERVICES"),
    ("nat", "KUBE-NODEPORTS"),
    ("filter", "KUBE-SERVICES"),
    ("filter", "KUBE-EXTERNAL-SERVICES"),
)


def dispatches(rules: Ruleset) -> Iterator[Dispatch]:
    """Every rule of kube-proxy's dispatching chains that names one frontend and decides about it (KPR 5.1, 5.2, 6.3).

    Rules that only mark (KUBE-MARK-MASQ) or only count are left out.
    """
    for table, chain in DISPATCH_CHAINS:
        for entry in rules.entries(table, chain):
            if entry.target in ("KUBE-MARK-MASQ", "KUBE-NODEPORTS") or entry.target == "":
                continue
            address, port = keys_of(entry.plan, entry.values)
            if port is None:
                continue
            protocol = entry_value(entry, "-p")
            if protocol is None:
                continue
            comment = entry_comment(entry) or ""
            name, kind = comment or None, None
            for suffix, suffix_kind in _COMMENT_KINDS:
                if comment.endswith(suffix):
                    name, kind = comment.removesuffix(suffix), suffix_kind
                    break
            if address is None:
                if not (chain == "KUBE-NODEPORTS" or _destination_local(entry)):
                    continue
                kind = "NodePort"
            elif chain == "KUBE-NODEPORTS" and entry_value(entry, "-d", negated=False) is not None:
                kind, address = "NodePort", None
            host = None if address is None else address.rpartition("/")[0]
            yield Dispatch(table, chain, entry.line, kind, host, protocol.upper(), int(port), name, entry.target)


def _destination_local(entry: Entry) -> bool:
    for match in entry.plan.shape.matches:
        if match.module == "addrtype":
            for option in match.options:
                if (
                    option.flag == "--dst-type"
                    and not option.negated
                    and option.slots
                    and entry.values[option.slots[0]] == "LOCAL"
                ):
                    return True
    return False


def entry_value(entry: Entry, flag: str, *, negated: bool | None = False) -> str | None:
    """The value of one of a rule's own options, None when it has not that option (or has it with the other sign)."""
    for option in entry.plan.shape.options:
        if option.flag == flag and option.slots and (negated is None or option.negated == negated):
            return entry.values[option.slots[0]]
    return None


def entry_comment(entry: Entry) -> str | None:
    """A rule's comment, unescaped."""
    for match in entry.plan.shape.matches:
        if match.module == "comment":
            for option in match.options:
                if option.slots:
                    return unescape(entry.values[option.slots[0]])
    return None


def tail_rules(rules: Ruleset) -> list[Entry]:
    """The rules of nat KUBE-SERVICES that jump to KUBE-NODEPORTS (KPR 4.4)."""
    return [entry for entry in rules.entries("nat", "KUBE-SERVICES") if entry.target == "KUBE-NODEPORTS"]


@dataclass(frozen=True, slots=True)
class Signs:
    """What the rules of one family say of the kube-proxy that wrote them. None: they do not tell.

    `oldest`/`newest`: the releases (minor numbers) whose rules can look so; `local_match`: the option and value by which traffic of local
    pods is told ("-s", "10.0.0.0/8"), ("-i", "cni0"); `masquerade_all`; `detects`: whether any local detection is at work;
    `mark`: the masquerade mark; `nodeport_addresses`: those the tail rules name (empty: all local ones); `localhost_nodeports`.
    """

    served: bool
    oldest: int = 16
    newest: int = 36
    local_match: tuple[str, str] | None = None
    detects: bool | None = None
    masquerade_all: bool = False
    mark: int | None = None
    nodeport_addresses: tuple[str, ...] | None = None
    localhost_nodeports: bool | None = None
    reasons: tuple[str, ...] = ()


def read_signs(rules: Ruleset) -> Signs:
    """Read the signs of one family. `served` is False when kube-proxy in iptables mode wrote nothing here."""
    nat = rules.chains("nat")
    if "KUBE-SERVICES" not in nat:
        return Signs(served=False)
    oldest, newest, reasons = _release_bounds(rules)
    local_match, detects, everything = _local_detection(rules, newest)
    addresses, localhost = _node_ports(rules)
    return Signs(True, oldest, newest, local_match, detects, everything, _mark(rules), addresses, localhost, tuple(reasons))


@dataclass(slots=True)
class _Bounds:
    """The releases (minors) that can have written some rules, as far as the signs asked so far tell; the signs asked first count more."""

    low: int = 16
    high: int = 36
    reasons: list[str] = field(default_factory=list)

    def at_least(self, minor: int, why: str) -> None:
        """A sign of a release or a newer one; passed over where it contradicts what is known."""
        if self.low < minor <= self.high:
            self.low = minor
            self.reasons.append(f">= 1.{minor}: {why}")

    def at_most(self, minor: int, why: str) -> None:
        """A sign of a release or an older one; passed over where it contradicts what is known."""
        if self.low <= minor < self.high:
            self.high = minor
            self.reasons.append(f"<= 1.{minor}: {why}")


def _release_bounds(rules: Ruleset) -> tuple[int, int, list[str]]:
    """KPR 19.1, what is certain first; a sign that contradicts the live nat layout is a leftover and not counted."""
    bounds = _Bounds()

    services = rules.entries("nat", "KUBE-SERVICES")
    node_ports = rules.entries("nat", "KUBE-NODEPORTS")
    targets = Counter(_prefix(entry.target) for entry in chained_entries(services, node_ports))
    old = targets["KUBE-XLB-"] + sum(
        1 for entry in node_ports if entry.target == "KUBE-MARK-MASQ" or entry.target.startswith("KUBE-SVC-")
    )
    new = targets["KUBE-EXT-"] + targets["KUBE-SVL-"]
    arrow, plain = 0, 0
    names = rules.other_chains("nat")  # but for endpoint chains
    for name in names[:20000]:
        if arrow + plain >= 50:
            break
        if name.startswith("KUBE-SVC-") and _names_endpoints(rules, name):
            for entry in rules.entries("nat", name):
                if entry.target.startswith("KUBE-SEP-") and (comment := entry_comment(entry)) is not None:
                    arrow, plain = arrow + (" -> " in comment), plain + (" -> " not in comment)
    masq_in_services = sum(1 for entry in services if entry.target == "KUBE-MARK-MASQ")
    if new > old:
        bounds.at_least(24, "KUBE-EXT-/KUBE-SVL- chains are in use")
    elif old > new:
        bounds.at_most(23, "node ports lead to KUBE-XLB-/KUBE-SVC- chains")
    if arrow > plain:
        bounds.at_least(24, "balancing comments name the endpoint")
    elif plain > arrow:
        bounds.at_most(23, "balancing comments do not name the endpoint")
    if masq_in_services:
        bounds.at_most(21, "the masquerade rules of cluster IPs stand in KUBE-SERVICES")
    elif bounds.high < 24 and any(
        entry.target == "KUBE-MARK-MASQ" for name in names if name.startswith("KUBE-SVC-") for entry in rules.entries("nat", name)
    ):
        bounds.at_least(22, "the masquerade rules of cluster IPs stand in KUBE-SVC-")
    external = [
        entry for entry in services if (entry_comment(entry) or "").endswith(" external IP") and entry.target != "KUBE-MARK-MASQ"
    ]
    if bounds.high <= 23 and external:
        if any(_has_match(entry, "physdev") for entry in external):
            bounds.at_most(20, "external IPs are told from bridged traffic by physdev")
        else:
            bounds.at_least(21, "external IPs have one jump each")
        if any(entry.target.startswith("KUBE-XLB-") for entry in external):
            bounds.at_least(20, "external IPs lead to KUBE-XLB- chains")
    filter_chains = rules.chains("filter")
    if rules.has_table("filter"):
        if "KUBE-PROXY-FIREWALL" in filter_chains:
            bounds.at_least(25, "chain KUBE-PROXY-FIREWALL")
        if "KUBE-NODEPORTS" in filter_chains:
            bounds.at_least(21, "filter chain KUBE-NODEPORTS")
        elif "KUBE-FORWARD" in filter_chains:
            bounds.at_most(20, "no filter chain KUBE-NODEPORTS")
        forward = [entry_comment(entry) or "" for entry in rules.entries("filter", "KUBE-FORWARD")]
        if "kubernetes forwarding conntrack rule" in forward:
            bounds.at_least(23, "one conntrack rule in KUBE-FORWARD")
        elif "kubernetes forwarding conntrack pod source rule" in forward:
            bounds.at_most(22, "two conntrack rules in KUBE-FORWARD")
        if any(entry.target == "KUBE-SERVICES" for entry in rules.entries("filter", "INPUT")):
            bounds.at_most(19, "INPUT jumps to KUBE-SERVICES")
        elif bounds.high <= 22 and hook_present(rules, Hook("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES")):
            bounds.at_least(20, "FORWARD jumps to KUBE-EXTERNAL-SERVICES, INPUT not to KUBE-SERVICES")
        if any(_has_match(entry, "nfacct") for entry in rules.entries("filter", "KUBE-FORWARD")):
            bounds.at_least(31, "nfacct counters")
        if "KUBE-PROXY-FIREWALL" in filter_chains and any(
            entry.target == "KUBE-MARK-DROP"
            for name in names
            if name.startswith(("KUBE-FW-", "KUBE-SVL-"))
            for entry in rules.entries("nat", name)
        ):
            bounds.reasons.append("KUBE-MARK-DROP is in use beside KUBE-PROXY-FIREWALL")
    if any(_has_match(entry, "nfacct") for entry in node_ports):
        bounds.at_least(31, "nfacct counters")
    if any(entry_value(entry, "-d", negated=True) is not None for entry in tail_rules(rules)):
        bounds.at_least(26, "the node port rule excludes loopback addresses")
    for name in names:
        if name.startswith("KUBE-FW-") and any(
            (entry_comment(entry) or "").endswith("will be dropped by KUBE-PROXY-FIREWALL")
            for entry in rules.entries("nat", name)
        ):
            bounds.at_least(27, "KUBE-FW- chains end in a rule without target")
            break
    if (
        bounds.low < 25 <= bounds.high
        and rules.has_table("filter")
        and "KUBE-PROXY-FIREWALL" not in filter_chains
        and "KUBE-FORWARD" in filter_chains
    ):
        bounds.at_most(24, "no chain KUBE-PROXY-FIREWALL")
    return bounds.low, bounds.high, bounds.reasons


def read_ipvs_signs(rules: Ruleset) -> Signs:
    """Read the signs of one family whose kube-proxy is in IPVS mode. `served` is False when none wrote anything here.

    What the rules of that mode do not tell (node port addresses, localhost node ports) is None.
    """
    nat = rules.chains("nat")
    if "KUBE-SERVICES" not in nat or "KUBE-LOAD-BALANCER" not in nat:
        return Signs(served=False)
    oldest, newest, reasons = ipvs_release_bounds(rules)
    local_match: tuple[str, str] | None = None
    detects: bool | None = None
    everything = False
    for entry in rules.entries("nat", "KUBE-SERVICES"):
        asked = _set_match(entry)
        if entry.target != "KUBE-MARK-MASQ" or asked is None or not asked[0].endswith("-CLUSTER-IP"):
            continue
        found = [(flag, value) for flag in ("-s", "-i") if (value := entry_value(entry, flag, negated=True)) is not None]
        local_match, detects = (found[0], True) if found else (None, False if asked[1] == "src,dst" else None)
        everything = not found and asked[1] == "dst,dst"
        break
    return Signs(True, oldest, newest, local_match, detects, everything, _mark(rules), None, None, reasons)


def _set_match(entry: Entry) -> tuple[str, str] | None:
    """The set and the flags of a rule's first `--match-set`, None without one."""
    for match in entry.plan.shape.matches:
        for option in match.options:
            if option.flag == "--match-set" and len(option.slots) == 2:
                return entry.values[option.slots[0]], entry.values[option.slots[1]]
    return None


def ipvs_release_bounds(rules: Ruleset) -> tuple[int, int, tuple[str, ...]]:
    """The oldest and the newest release (minors) whose IPVS mode can have written the rules of one family, and why (KPR 10, 19).

    What every sync writes anew is asked first; a sign that contradicts it is left from another release and not counted. What only a full
    filter table tells is not asked without one.
    """
    bounds = _Bounds()

    services = rules.entries("nat", "KUBE-SERVICES")
    filter_chains = rules.chains("filter")
    forward = [entry_comment(entry) or "" for entry in rules.entries("filter", "KUBE-FORWARD")]
    if "kubernetes forwarding conntrack rule" in forward:
        bounds.at_least(23, "one conntrack rule in KUBE-FORWARD")
    elif "kubernetes forwarding conntrack pod source rule" in forward:
        bounds.at_most(22, "two conntrack rules in KUBE-FORWARD")
    if any(
        entry.target == "RETURN" and entry_value(entry, "-s") in ("127.0.0.0/8", "127.0.0.1/32", "::1/128") for entry in services
    ):
        bounds.at_least(26, "KUBE-SERVICES passes over what comes from the loopback network")
    if any(entry.target == "KUBE-FIREWALL" for entry in rules.entries("nat", "KUBE-LOAD-BALANCER")):
        bounds.at_most(24, "KUBE-LOAD-BALANCER leads to KUBE-FIREWALL")
    if any(entry.target == "KUBE-MARK-DROP" for entry in rules.entries("nat", "KUBE-FIREWALL")) and (
        rules.has_table("filter") and "KUBE-PROXY-FIREWALL" not in filter_chains
    ):
        bounds.at_most(24, "chain KUBE-FIREWALL in nat")
    came = (("KUBE-IPVS-OUT-FILTER", 29), ("KUBE-IPVS-FILTER", 26), ("KUBE-PROXY-FIREWALL", 25), ("KUBE-NODE-PORT", 21))
    left = any(chain in filter_chains and since > bounds.high for chain, since in came)  # of a newer release: all of them may be
    for chain, since in came:
        if chain in filter_chains:
            bounds.at_least(16 if left else since, f"filter chain {chain}")
        elif "KUBE-FORWARD" in filter_chains:
            bounds.at_most(since - 1, f"no filter chain {chain}")
    returns = {
        asked[0]
        for entry in rules.entries("filter", "KUBE-IPVS-FILTER")
        if entry.target == "RETURN" and (asked := _set_match(entry)) is not None
    }
    for suffix, since in (("-EXTERNAL-IP-LOCAL", 30), ("-HEALTH-CHECK-NODE-PORT", 28)):
        if any(name.endswith(suffix) for name in returns):
            bounds.at_least(since, f"KUBE-IPVS-FILTER lets set KUBE{suffix} pass")
        elif returns:
            bounds.at_most(since - 1, f"KUBE-IPVS-FILTER does not let set KUBE{suffix} pass")
    return bounds.low, bounds.high, tuple(bounds.reasons)


def _names_endpoints(rules: Ruleset, name: str) -> bool:
    """Whether rules of a nat chain that jump to endpoint chains have comments; in large clusters those of thousands of chains have none."""
    dump = rules.dump_of("nat", name)
    shapes, lines = dump.shapes, rules.chains("nat")[name].lines
    slots = {
        shape: shape.target.name_slot
        for shape in {shapes[line] for line in lines}
        if shape.target is not None
        and shape.target.name_slot is not None
        and any(one.module == "comment" for one in shape.matches)
    }
    return bool(slots) and any(
        shapes[line] in slots and dump.values[line][slots[shapes[line]]].startswith("KUBE-SEP-") for line in lines
    )


def chained_entries(*groups: Sequence[Entry]) -> Iterable[Entry]:
    """The entries of several chains in turn."""
    for group in groups:
        yield from group


def _prefix(name: str) -> str:
    found = SERVICE_CHAIN.match(name)
    return found.group(0) if found else name


def _has_match(entry: Entry, module: str) -> bool:
    return any(match.module == module for match in entry.plan.shape.matches)


def _local_detection(rules: Ruleset, newest: int) -> tuple[tuple[str, str] | None, bool | None, bool]:
    """What most cluster-IP masquerade rules take for traffic that is not local (KPR 4.7, 5.3, 6.3), and the pod rules of KUBE-EXT (5.5)."""
    votes: Counter[tuple[str, str] | str] = Counter()
    short_cuts: Counter[tuple[str, str]] = Counter()
    balanced = 0
    for name in rules.other_chains("nat"):
        if name.startswith(("KUBE-SVC-", "KUBE-SVL-")):
            first = rules.first_entry("nat", name)
            if first is None:
                continue
            if first.target == "KUBE-MARK-MASQ":
                _vote(first, votes)
            else:
                balanced += 1
        elif name.startswith(("KUBE-EXT-", "KUBE-XLB-")):
            first = rules.first_entry("nat", name)
            if first is not None and first.target.startswith("KUBE-SVC-"):
                for flag in ("-s", "-i"):
                    value = entry_value(first, flag)
                    if value is not None:
                        short_cuts[flag, value] += 1
    if newest <= 21:
        votes.clear()
        entries = rules.entries("nat", "KUBE-SERVICES")
        jumps = sum(
            1
            for entry in entries
            if entry.target.startswith("KUBE-SVC-") and (entry_comment(entry) or "").endswith(" cluster IP")
        )
        for entry in entries:
            if entry.target == "KUBE-MARK-MASQ" and (entry_comment(entry) or "").endswith(" cluster IP"):
                _vote(entry, votes)
        balanced = max(0, jumps - sum(votes.values()))
    else:
        # Chains that only external traffic uses carry no masquerade rule: they say nothing where another chain of the same port does.
        targeted = {
            entry.target
            for entry in rules.entries("nat", "KUBE-SERVICES")
            if (entry_comment(entry) or "").endswith(" cluster IP")
        }
        balanced = sum(
            1 for name in targeted if (first := rules.first_entry("nat", name)) is not None and first.target != "KUBE-MARK-MASQ"
        )
    if not votes and not balanced:
        return (short_cuts.most_common(1)[0][0], True, False) if short_cuts else (None, None, False)
    if sum(votes.values()) < balanced:
        return None, bool(short_cuts) or False, False
    best, _count = votes.most_common(1)[0]
    if isinstance(best, str):
        return (short_cuts.most_common(1)[0][0] if short_cuts else None), bool(short_cuts), True
    return best, True, False


def _vote(entry: Entry, votes: Counter[tuple[str, str] | str]) -> None:
    for flag in ("-s", "-i"):
        value = entry_value(entry, flag, negated=True)
        if value is not None:
            votes[flag, value] += 1
            return
    votes["all"] += 1


def _mark(rules: Ruleset) -> int | None:
    """The mark that most of the three places agree on: KUBE-MARK-MASQ sets it, KUBE-POSTROUTING and KUBE-FORWARD test it (KPR 4.5)."""
    votes: Counter[int] = Counter()
    for entry in rules.entries("nat", "KUBE-MARK-MASQ"):
        for flag in ("--set-xmark", "--set-mark", "--or-mark"):
            slots = entry.plan.argument_slots.get(flag)
            if slots:
                votes[mark_and_mask(entry.values[slots[0]])[0]] += 1
    for table, chain in (("nat", "KUBE-POSTROUTING"), ("filter", "KUBE-FORWARD")):
        seen: set[int] = set()
        for entry in rules.entries(table, chain):
            for match in entry.plan.shape.matches:
                if match.module == "mark":
                    seen.update(mark_and_mask(entry.values[option.slots[0]])[0] for option in match.options if option.slots)
        votes.update(seen)
    return votes.most_common(1)[0][0] if votes else None


def _node_ports(rules: Ruleset) -> tuple[tuple[str, ...] | None, bool | None]:
    tails = tail_rules(rules)
    if not tails:
        return None, None
    named = tuple(sorted(value.rpartition("/")[0] for entry in tails if (value := entry_value(entry, "-d")) is not None))
    if named:
        return named, any(address.startswith("127.") for address in named)
    return (), not any(entry_value(entry, "-d", negated=True) is not None for entry in tails)


_OTHER_PROXIES = (
    ("Cilium", re.compile(r"^(OLD_)?CILIUM_")),
    ("kube-router", re.compile(r"^KUBE-ROUTER-")),
    ("Antrea", re.compile(r"^ANTREA-")),
    ("OVN-Kubernetes", re.compile(r"^OVN-KUBE-")),
)


def other_proxy(chains: Mapping[str, object] | Iterable[str]) -> str | None:
    """The name of another service proxy whose chains are there, None when none is recognised."""
    for name, pattern in _OTHER_PROXIES:
        if any(pattern.match(chain) for chain in chains):
            return name
    return None

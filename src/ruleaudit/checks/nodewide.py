"""Faults of the node as a whole: lost hooks, a broken masquerade path, dispatching chains out of order (RA108, RA308, RA309, RA402, RA404).

`repair` also says how the ruleset would look without them, so that services are judged on what is their own.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from ruleaudit.addresses import parse_network, within
from ruleaudit.checks.context import service_port_of
from ruleaudit.compare import equal
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.observe import Observation, observe
from ruleaudit.dataplane.packet import Host, Packet
from ruleaudit.dataplane.ruleset import A_SNAT, Ruleset
from ruleaudit.dataplane.walk import Flow
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.formats.iptables_save import parse
from ruleaudit.forwarding import FrontendKind, Vantage, split_endpoint
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.signs import HOOKS, Hook, Signs, dispatches, hook_present, tail_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ruleaudit.checks.context import FamilyAudit, RulePlace
    from ruleaudit.checks.services import ServiceJudge
    from ruleaudit.dumps.rules import Chain, Dump, Table

__all__ = ["dispatching", "hooks", "local_detection", "masquerade", "missing_hooks", "repair"]


def missing_hooks(rules: Ruleset, signs: Signs, oldest: int, hooks: Iterable[Hook] = HOOKS) -> tuple[Hook, ...]:
    """The jumps that kube-proxy of this release keeps and that are not there; tables that the dump lacks are not judged."""
    return tuple(
        hook
        for hook in hooks
        if hook.since <= oldest and hook.until >= signs.newest and rules.has_table(hook.table) and hook.chain in rules.chains(hook.table)
        and not hook_present(rules, hook)
    )  # fmt: skip


def node_ports_reached(rules: Ruleset) -> bool:
    """Whether nat KUBE-SERVICES jumps to KUBE-NODEPORTS for some destination."""
    return bool(tail_rules(rules))


def _marks(rules: Ruleset, packet: Packet, mark: int) -> bool:
    """Whether KUBE-MARK-MASQ sets the masquerade mark."""
    back, _ = Evaluator(rules, Host()).through("nat", "KUBE-MARK-MASQ", packet)
    return bool(back) and all(flow.mark & mask == mark for flow in back for mask in (mark,))


def _masquerades(rules: Ruleset, packet: Packet, mark: int) -> bool | None:
    """Whether KUBE-POSTROUTING replaces the source of what carries `mark`; None when that is not decided."""
    evaluator = Evaluator(rules, Host())
    run = evaluator.run(packet)
    flow = Flow(1.0, packet.destination, packet.destination + run.host_suffix, run.destination, packet.port)
    flow.mark = mark
    back = run.walk("nat", "KUBE-POSTROUTING", flow)
    done = [end for end in run.ends if end.verdict == A_SNAT]
    if done and not back and len(done) == len(run.ends):
        return True
    return None if done else False


def repair(
    family: int, tables: Iterable[Table], rules: Ruleset, hooks_missing: Iterable[Hook], mark: int, packet: Packet
) -> tuple[Ruleset, list[str]]:
    """The ruleset with its node-wide faults put right, and what was wrong with the masquerade path.

    Returns `rules` itself when nothing was.
    """
    overlay: dict[tuple[str, str], tuple[Chain, Dump]] = {}
    first: dict[tuple[str, str], tuple[Chain, Dump]] = {}
    faults: list[str] = []
    nat = rules.chains("nat")
    host = f"{mark:#x}/{mark:#x}"
    if not _marks(rules, packet, mark):
        faults.append(
            "KUBE-MARK-MASQ does not set the mark " + host
            if rules.entries("nat", "KUBE-MARK-MASQ")
            else "KUBE-MARK-MASQ is empty"
            if "KUBE-MARK-MASQ" in nat
            else "KUBE-MARK-MASQ is not declared"
        )
        overlay.update(_written("nat", "KUBE-MARK-MASQ", f"-A KUBE-MARK-MASQ -j MARK --set-xmark {host}\n"))
    if _masquerades(rules, packet, mark) is False:
        faults.append(
            "KUBE-POSTROUTING does not masquerade what carries the mark " + host
            if rules.entries("nat", "KUBE-POSTROUTING")
            else "KUBE-POSTROUTING is empty"
            if "KUBE-POSTROUTING" in nat
            else "KUBE-POSTROUTING is not declared"
        )
        overlay.update(
            _written(
                "nat",
                "KUBE-POSTROUTING",
                f"-A KUBE-POSTROUTING -m mark ! --mark {host} -j RETURN\n-A KUBE-POSTROUTING -j MASQUERADE\n",
            )
        )
    elif _masquerades(rules, packet, 0) is not False:
        faults.append("KUBE-POSTROUTING masquerades what does not carry the mark " + host)
        overlay.update(
            _written(
                "nat",
                "KUBE-POSTROUTING",
                f"-A KUBE-POSTROUTING -m mark ! --mark {host} -j RETURN\n-A KUBE-POSTROUTING -j MASQUERADE\n",
            )
        )
    for hook in hooks_missing:
        if hook.target not in rules.chains(hook.table):
            continue
        text = first.get((hook.table, hook.chain))
        lines = [text[1].text(line) for line in text[0].lines] if text else []
        first.update(_written(hook.table, hook.chain, "\n".join([f"-A {hook.chain} -j {hook.target}", *lines]) + "\n"))
    last: dict[tuple[str, str], tuple[Chain, Dump]] = {}
    if "KUBE-NODEPORTS" in nat and not node_ports_reached(rules):
        # Behind all other rules, as kube-proxy has it.
        last = _written("nat", "KUBE-SERVICES", "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n")
    if not overlay and not first and not last:
        return rules, faults
    return Ruleset(family, tables, overlay, first, rules.sets, last), faults


def _written(table: str, chain: str, rules: str) -> dict[tuple[str, str], tuple[Chain, Dump]]:
    dump = parse(f"*{table}\n:{chain} - [0:0]\n{rules}COMMIT\n", "as it should be")
    return {(table, chain): (dump.tables[0].chains[chain], dump)}


def hooks(audit: FamilyAudit) -> Iterator[Finding]:
    """RA108: one finding per lost hook, with how many frontends it changes; a warning when it changes none (KPR 4.2)."""
    lost = list(audit.missing_hooks)
    nat_services = "KUBE-SERVICES" in audit.rules.chains("nat")
    if nat_services and "KUBE-NODEPORTS" in audit.rules.chains("nat") and not node_ports_reached(audit.rules):
        node_ports = sum(
            1 for expected in audit.service_ports for frontend in expected.frontends if frontend.kind is FrontendKind.NODE_PORT
        )
        if audit.rules.entries("nat", "KUBE-SERVICES") or not node_ports or empty_dispatch(audit) is None:
            message = "nat KUBE-SERVICES does not jump to KUBE-NODEPORTS"
            yield audit.finding(
                "RA108",
                f"{message}: {_node_ports(audit, node_ports)} cannot be reached"
                if node_ports
                else f"{message}; no Service has a node port",
                severity=None if node_ports else Severity.WARNING,
                expected="nat KUBE-SERVICES -> KUBE-NODEPORTS as its last rule",
                observed="no such jump",
                places=[("nat", "KUBE-SERVICES", 0), ("nat", "KUBE-NODEPORTS", 0)],
                subject=f"KUBE-SERVICES -> KUBE-NODEPORTS IPv{audit.family}",
            )
    if not lost:
        return
    for hook in lost:
        affected = _affected(audit, hook)
        traffic = affected[0] > 0
        # Without its nat hooks kube-proxy does nothing at all for those clients, whether or not it has anything to do now.
        severity = None if traffic or hook.table == "nat" else Severity.WARNING
        effect = (
            f"{_frontends(audit, affected[0], affected[1])} otherwise for {_and(affected[2])}"
            if traffic
            else "no service's traffic changes by it now"
        )
        yield audit.finding(
            "RA108",
            f"{hook} is missing in IPv{audit.family}: {effect}",
            severity=severity,
            expected=f"a rule of {hook.table} {hook.chain} that sends every new packet to {hook.target}",
            observed="none" + ("" if hook.target in audit.rules.chains(hook.table) else f", and no chain {hook.target}"),
            places=[
                (hook.table, hook.chain, 0),
                *((hook.table, hook.chain, entry.line) for entry in audit.rules.entries(hook.table, hook.chain)[:4]),
            ],
            subject=f"{hook} IPv{audit.family}",
        )


def _frontends(audit: FamilyAudit, changed: int, total: int) -> str:
    """How many frontends behave, with the verb. Where a single service port is looked at, they are called its own: nothing is said of others."""
    behave = "behaves" if changed == 1 else "behave"
    ports = audit.service_ports
    if len(ports) != 1:
        return f"{_count(changed, 'frontend')} of {total} {behave}"
    whose = service_port_of(ports[0])
    return f"{whose} behaves" if total == 1 else f"{changed} of the {total} frontends of {whose} {behave}"


def _node_ports(audit: FamilyAudit, count: int) -> str:
    """How many node ports of the family, in the same way."""
    ports = audit.service_ports
    if len(ports) != 1:
        return f"{_count(count, 'node port')} of IPv{audit.family}"
    return f"the IPv{audit.family} node port of {service_port_of(ports[0])}"


def _affected(audit: FamilyAudit, hook: Hook) -> tuple[int, int, list[str]]:
    """(frontends whose forwarding the loss of this hook alone changes, all frontends, the clients concerned)."""
    others = [one for one in audit.missing_hooks if one != hook]
    first: dict[tuple[str, str], tuple[Chain, Dump]] = {}
    for other in others:
        if other.target in audit.rules.chains(other.table):
            known = first.get((other.table, other.chain))
            lines = [known[1].text(line) for line in known[0].lines] if known else []
            first.update(_written(other.table, other.chain, "\n".join([f"-A {other.chain} -j {other.target}", *lines]) + "\n"))
    alone = audit.evaluator_of(Ruleset(audit.family, audit.tables, None, first, audit.rules.sets))
    changed, total, who = 0, 0, set()
    for expected in audit.service_ports:
        for frontend in expected.frontends:
            total += 1
            addresses = (
                [frontend.address]
                if frontend.address is not None
                else [one for one in audit.node_port_addresses if not one.startswith("127.")][:1]
            )
            # Whom source ranges keep out is part of what a hook does: then it counts who asks.
            guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and bool(expected.source_ranges)
            hit = False
            for address in addresses:
                for vantage in Vantage:
                    packet = audit.clients.packet(vantage, frontend.protocol, address, frontend.port)
                    with_it = observe(audit.evaluator, packet, audit.mark)
                    without = observe(alone, packet, audit.mark)
                    if _told_apart(with_it) != _told_apart(without):
                        source = packet.source if guarded and vantage is not Vantage.NODE else None
                        accepted = expected.accepted(frontend, vantage, source)
                        same = bool(without.not_masqueraded) == bool(with_it.not_masqueraded)
                        if accepted and not (same and any(equal(one, without) for one in accepted)):
                            hit = True
                            who.add(vantage)
            changed += hit
    names = {Vantage.POD: "pods", Vantage.NODE: "the node itself", Vantage.OUTSIDE: "outside clients"}
    return changed, total, [names[one] for one in Vantage if one in who]


def _told_apart(seen: Observation) -> tuple[object, ...]:
    return seen.backends.keys(), seen.verdict, bool(seen.not_masqueraded), seen.marked > 0.0


def masquerade(audit: FamilyAudit, judge: ServiceJudge, faults: Iterable[str]) -> Iterator[Finding]:
    """RA402: marked packets must leave with a new source address (KPR 4.5)."""
    every = list(faults)
    services = sum(1 for expected in audit.service_ports if expected.selection.any)
    for fault in every:
        chain = fault.split()[0]
        yield audit.finding(
            "RA402",
            f"{fault}: service traffic that needs a new source address keeps its own in IPv{audit.family} ({_count(services, 'service port')})"
            if "what does not" not in fault
            else f"{fault}: connections that should keep their source address lose it in IPv{audit.family}",
            expected=f"KUBE-MARK-MASQ sets {audit.mark:#x}, KUBE-POSTROUTING masquerades exactly what carries it",
            observed=fault,
            places=[*(("nat", chain, entry.line) for entry in audit.rules.entries("nat", chain)), ("nat", chain, 0)],
            subject=f"{fault} IPv{audit.family}",
        )
    if every or any(hook.chain == "POSTROUTING" for hook in audit.missing_hooks) or not judge.observer.unmasqueraded:
        return
    expected, judgement, outcome = judge.observer.unmasqueraded[0]
    names = list(dict.fromkeys(str(item[0].name) for item in judge.observer.unmasqueraded))
    packet = judgement.observed.packet
    traced = audit.evaluator.evaluate(packet, tracing=True)[0]
    places: list[RulePlace] = [
        place for one in traced if one.endpoint == outcome.endpoint for place in one.trail if place[1].endswith("POSTROUTING")
    ]
    address = split_endpoint(outcome.endpoint or "0.0.0.0:0")[0]
    yield audit.finding(
        "RA402",
        f"packets marked for masquerade leave POSTROUTING before KUBE-POSTROUTING: {_count(len(names), 'service port')} in "
        f"IPv{audit.family}, first {expected.name}",
        possible=outcome.possible,
        expected=f"packets to {address} that carry {audit.mark:#x} are masqueraded",
        observed="another rule ends their way through nat POSTROUTING before",
        places=places or [("nat", "POSTROUTING", entry.line) for entry in audit.rules.entries("nat", "POSTROUTING")],
        subject=f"POSTROUTING IPv{audit.family}",
    )


def dispatching(audit: FamilyAudit) -> Iterator[Finding]:
    """RA308 for KUBE-NODEPORTS not being the last rule; RA309 for dispatching chains that hold nothing although Services need them."""
    entries = audit.rules.entries("nat", "KUBE-SERVICES")
    last_tail = max((position for position, entry in enumerate(entries) if entry.target == "KUBE-NODEPORTS"), default=None)
    first_tail = next((position for position, entry in enumerate(entries) if entry.target == "KUBE-NODEPORTS"), None)
    if first_tail is not None and last_tail is not None:
        before = {(entry.plan, entry.values) for entry in entries[:first_tail]}
        behind = [
            entry
            for entry in entries[first_tail:]
            if entry.target != "KUBE-NODEPORTS" and (entry.plan, entry.values) not in before
        ]
        if behind:
            yield audit.finding(
                "RA308",
                f"the jump to KUBE-NODEPORTS is not the last rule of nat KUBE-SERVICES: {_count(len(behind), 'rule')} "
                f"{'stands' if len(behind) == 1 else 'stand'} behind it",
                expected="the jump to KUBE-NODEPORTS as the last rule (kube-proxy's own comment says so)",
                observed=f"it is rule {first_tail + 1} of {len(entries)}",
                places=[
                    ("nat", "KUBE-SERVICES", entries[first_tail].line),
                    *(("nat", "KUBE-SERVICES", entry.line) for entry in behind[:3]),
                ],
                subject=f"KUBE-NODEPORTS IPv{audit.family}",
            )


def local_detection(audit: FamilyAudit) -> Iterator[Finding]:
    """RA404: what the rules take for local pods, against the node's pod CIDRs and its pods' addresses (KPR 4.7)."""
    detection = audit.expectation.local_detection
    if not isinstance(detection, LocalDetection) or detection.mode not in ("ClusterCIDR", "NodeCIDR") or not detection.value:
        return
    where = parse_network(detection.value, audit.family)
    if where is None:
        return
    outside: list[str] = []
    references: list[ObjectReference] = []
    node = audit.node_object
    if node is not None:
        for text in node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ()):
            parsed = parse_network(text, audit.family)
            if parsed is not None and not within(parsed, where):
                outside.append(f"pod CIDR {text}")
                references.append(ObjectReference("Node", "", node.metadata.name))
    if node is not None and not outside:
        for pod in audit.cluster.pods.values():
            if pod.spec.node_name != node.metadata.name or pod.spec.host_network or pod.metadata.deletion_timestamp:
                continue
            if pod.status.phase not in ("Running", "Pending"):
                continue
            for address in [one.ip for one in pod.status.pod_ips if one.ip] or ([pod.status.pod_ip] if pod.status.pod_ip else []):
                try:
                    parsed_address = ip_address(address)
                except ValueError:
                    continue
                if parsed_address.version == audit.family and parsed_address not in where:
                    outside.append(f"pod {pod.metadata.namespace}/{pod.metadata.name} at {address}")
                    references.append(ObjectReference("Pod", pod.metadata.namespace, pod.metadata.name))
    if not outside:
        return
    places = [("nat", name, entry.line) for name in list(audit.rules.chains("nat"))[:4000] if name.startswith(("KUBE-SVC-", "KUBE-SERVICES"))
              for entry in audit.rules.entries("nat", name)[:1] if entry.target == "KUBE-MARK-MASQ"][:2]  # fmt: skip
    yield audit.finding(
        "RA404",
        f"the rules take {detection.value} for local pods' addresses, but {outside[0]}"
        + (f" and {len(outside) - 1} more lie" if len(outside) > 1 else " lies")
        + " outside of it",
        expected="a CIDR that holds " + ", ".join(outside[:5]),
        observed=detection.value,
        places=places,
        objects=references[:10],
        subject=f"local detection IPv{audit.family}",
    )


def empty_dispatch(audit: FamilyAudit) -> Finding | None:
    """RA309 for nat KUBE-SERVICES without a single service, where the objects ask for some: one finding for all of them."""
    wanted = sum(1 for expected in audit.expectation.service_ports if expected.selection.any)
    reached = {"KUBE-SERVICES", "KUBE-NODEPORTS"} if node_ports_reached(audit.rules) else {"KUBE-SERVICES"}
    if wanted < 2 or any(one.table == "nat" and one.chain in reached for one in dispatches(audit.rules)):
        return None
    return audit.finding(
        "RA309",
        f"nat KUBE-SERVICES dispatches to no service in IPv{audit.family}: {_count(wanted, 'service port')} with endpoints cannot be reached",
        expected=f"rules for {_count(wanted, 'service port')}",
        observed="none",
        places=[("nat", "KUBE-SERVICES", 0), ("nat", "KUBE-NODEPORTS", 0)],
        subject=f"KUBE-SERVICES IPv{audit.family}",
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _and(names: list[str]) -> str:
    return " and ".join(names)

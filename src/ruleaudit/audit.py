"""One audit from inputs to report: the only place where reading, expecting, observing, comparing and checking meet."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical_address, parse_network, within
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.checks import alone, leftovers, nodewide, objects, objects_oddities, stopped, written
from ruleaudit.checks.context import FamilyAudit
from ruleaudit.checks.services import ServiceJudge
from ruleaudit.cluster import Cluster, load
from ruleaudit.dataplane.packet import Host
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.errors import InputError, RuleauditError
from ruleaudit.expect import Expectation, expect
from ruleaudit.findings import Certainty, Finding, InputSummary, Location, ObjectReference, ProxySummary, Report, Severity
from ruleaudit.formats.completeness import Gap, gap_of
from ruleaudit.formats.iptables_save import MAX_LINE_LENGTH, MAX_LINES, parse
from ruleaudit.forwarding import Vantage
from ruleaudit.kubeproxy import Signs, entry_value, is_kube_proxy_chain, other_proxy, read_signs
from ruleaudit.release import NEWEST, Release
from ruleaudit.settings import Detection, GivenSettings, LocalDetection, ProxySettings, combine, read_settings, resolve
from ruleaudit.sources import InputKind, Source
from ruleaudit.vantage import choose_clients

if TYPE_CHECKING:
    from ruleaudit.rules import Dump, Table

__all__ = ["UnknownNodeError", "audit_inputs"]

Progress = Callable[[str, float], None]
FAMILIES = (4, 6)
DEFAULT_MARK = 0x4000
_OTHER_MODE = "audit it with a release of ruleaudit that knows this mode"


class UnknownNodeError(RuleauditError):
    """The node that was asked for is not among the objects; the message names near matches."""


@dataclass
class _Inputs:
    """What the sources hold, sorted."""

    dumps: list[Dump] = field(default_factory=list)
    cluster: Cluster = field(default_factory=Cluster)
    has_objects: bool = False
    given: GivenSettings | None = None
    summaries: list[InputSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    gaps: list[tuple[Dump, Gap]] = field(default_factory=list)
    """What shows that a dump is a part of one, once for each dump."""


def audit_inputs(
    sources: Sequence[Source],
    *,
    node: str | None = None,
    settings: GivenSettings | None = None,
    progress: Progress | None = None,
    limit_factor: int = 1,
) -> Report:
    """Audit one node.

    `sources` are its dumps, the cluster's objects and what is known of kube-proxy, as `sources.read` gives them; `node` is the node's
    name (None: taken from the objects or the capture's description); `settings` wins over what the sources say; `progress` is called
    with a step's name and the part done (0 to 1); `limit_factor` times as large inputs are read.
    Raises InputError when an input is unusable, UnknownNodeError for a node that is not
    among the objects.
    """
    enabled = gc.isenabled()
    gc.disable()  # hundreds of thousands of values that all live to the end: collecting them again and again doubles the time
    try:
        return _audit(sources, node, settings, progress or (lambda _step, _part: None), limit_factor)
    finally:
        if enabled:
            gc.enable()


def _audit(
    sources: Sequence[Source], node: str | None, settings: GivenSettings | None, progress: Progress, limit_factor: int
) -> Report:
    inputs = _read(sources, settings, progress, limit_factor)
    cluster = inputs.cluster
    proxy = resolve(inputs.given)
    name = _node_name(cluster, node, inputs.given)
    findings = list(inputs.findings)
    tables, table_findings = _tables(inputs.dumps)
    findings.extend(table_findings)
    findings.extend(_partial_dumps(inputs.gaps, tables))
    summary = _Summary()
    if not inputs.has_objects:
        findings.append(
            _note(
                "objects",
                "no objects were given: rules are only checked against themselves",
                "give Services, EndpointSlices, Nodes and Pods with --objects (kubectl get services,endpointslices,endpoints,nodes,pods -A -o json)",
            )
        )
    elif not cluster.services:
        findings.append(
            _note(
                "services",
                "the objects hold no Service, so nothing is expected of the rules",
                "add Services to the objects (kubectl get services -A -o json)",
            )
        )
    if name is None and inputs.has_objects:
        findings.append(
            _note(
                "node",
                "the node's name is not known: local endpoints, node ports and hints are not checked for it",
                "name it with --node",
            )
        )
    rulesets = {family: Ruleset(family, tables) for family in FAMILIES}
    left_out = [one for one in tables if _is_cut(one) and one.name != "nat"]
    for table in left_out:
        tables.remove(table)
        rulesets[table.family] = Ruleset(table.family, tables)
        findings.append(
            _note(
                f"cut {table.name} {table.family}",
                f"table {table.name} of IPv{table.family} is not there as a whole and therefore left out",
                "take the dump again",
            )
        )
    signs = {family: read_signs(rulesets[family]) for family in FAMILIES}
    if not inputs.dumps and not any(one.kind in ("ipvsadm", "ipset", "nft") for one in inputs.summaries):
        findings.append(
            _note("dump", "no dump of the node's rules was given", "add the output of iptables-save and ip6tables-save")
        )
    findings.extend(_serving(inputs, tables, left_out, rulesets, signs, cluster))
    shares = 0.0
    for family in FAMILIES:
        if not signs[family].served:
            continue
        progress(f"IPv{family}", 0.4 + shares)
        shares += 0.3
        findings.extend(_audit_family(family, cluster, inputs, tables, rulesets[family], signs, proxy, name, summary))
    for one in summary.audits:
        findings.extend(list(written.written_rules(one, findings)))  # what other findings show already is known by now
    findings.extend(_objects_alone(cluster))
    findings.extend(_time_skew(inputs, cluster, tables))
    leader, findings = stopped.stopped(findings, cluster)
    if leader is not None:
        findings.insert(0, leader)
    named = [replace(one, node=name) if one.node is None else one for one in findings]
    progress("done", 1.0)
    return Report(
        node=name,
        inputs=tuple(inputs.summaries),
        proxy=summary.proxy(proxy, signs),
        services=len(summary.services) if summary.services else len(cluster.services),
        frontends=summary.frontends,
        endpoints=summary.endpoints,
        findings=tuple(sorted(_once(named), key=_order)),
        service_names=tuple(sorted("/".join(key) for key in cluster.services)),
    )


def _order(one: Finding) -> tuple[object, ...]:
    return (
        one.code != "RA505",
        one.severity.rank,
        one.cause is not None,
        one.service is not None,
        one.code,
        one.service or "",
        one.port or "",
        one.endpoint or "",
        one.message,
    )


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once: both families may show the same fault of one service port."""
    kept: dict[tuple[str, str], Finding] = {}
    for one in findings:
        kept.setdefault((one.fingerprint, one.message), one)
    return list(kept.values())


def _note(subject: str, message: str, hint: str, *, locations: tuple[Location, ...] = ()) -> Finding:
    """RA004: what was not checked, and which input would change that."""
    return Finding("RA004", CATALOGUE["RA004"].name, Severity.INFO, message, hint=hint, subject=subject, locations=locations)


# --- reading ---------------------------------------------------------------------------------------------------------------------------


def _read(sources: Sequence[Source], settings: GivenSettings | None, progress: Progress, limit_factor: int) -> _Inputs:
    inputs = _Inputs()
    parts: list[tuple[str, bytes]] = []
    given: list[GivenSettings] = [] if settings is None else [settings]
    ours = 0
    for number, source in enumerate(sources):
        progress(source.path, 0.4 * number / max(1, len(sources)))
        kind = source.kind
        used = kind in (InputKind.IPTABLES_SAVE, InputKind.OBJECTS, InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)
        family: int | None = None
        lines = source.text.count("\n") if kind.is_text else source.data.count(b"\n")
        if kind is InputKind.IPTABLES_SAVE:
            dump = parse(
                source.text, source.path, max_lines=MAX_LINES * limit_factor, max_line_length=MAX_LINE_LENGTH * limit_factor
            )
            lines = dump.line_count
            families = {table.family for table in dump.tables}
            family = families.pop() if len(families) == 1 else None
            inputs.dumps.append(dump)
            gap = _mark_partial(dump)
            if gap is not None:
                inputs.gaps.append((dump, gap))
            inputs.findings.extend(_dump_problems(dump))
        elif kind is InputKind.OBJECTS:
            parts.append((source.path, source.data))
        elif kind in (InputKind.PROXY_CONFIG, InputKind.CAPTURE_META):
            given.append(read_settings(source.data, source.path))
        elif kind is InputKind.EMPTY:
            inputs.findings.append(
                _note(
                    f"empty {source.path}",
                    f"{source.path} is empty",
                    "if it should hold a dump, take it again; an empty ip6tables-save means that no IPv6 table exists",
                )
            )
        elif kind in (InputKind.IPVSADM, InputKind.IPSET, InputKind.NFT, InputKind.IP_ADDR, InputKind.CONNTRACK):
            inputs.findings.append(
                _note(
                    f"{kind.value} {source.path}",
                    f"{source.path} ({kind.value}) is not looked at: only the iptables mode is audited yet",
                    _OTHER_MODE,
                )
            )
        ours += used
        inputs.summaries.append(InputSummary(source.path, kind.value, family, lines, used))
    if not ours:
        empty = [source for source in sources if source.kind is InputKind.EMPTY]
        if empty:
            raise InputError("is empty: there is nothing to audit; give the output of iptables-save", empty[0].path)
        if not any(
            source.kind in (InputKind.IPVSADM, InputKind.IPSET, InputKind.NFT, InputKind.IP_ADDR, InputKind.CONNTRACK)
            for source in sources
        ):
            raise InputError(
                "holds nothing that can be audited; give the output of iptables-save, and objects",
                sources[0].path if sources else "input",
            )
    if parts:
        inputs.cluster = load(parts, limit_factor=limit_factor)
        inputs.has_objects = True
        for problem in inputs.cluster.problems:
            inputs.findings.append(
                Finding(
                    "RA001",
                    CATALOGUE["RA001"].name,
                    Severity.ERROR,
                    str(problem),
                    hint="correct the object, or take it again from the API server; it is left out of the audit",
                    objects=(ObjectReference(problem.kind, problem.namespace, problem.name),),
                    locations=(Location(problem.path, 0, problem.where),),
                    subject=str(problem),
                )
            )
    inputs.given = combine(given)
    return inputs


def _dump_problems(dump: Dump) -> Iterator[Finding]:
    """RA001 and RA002 for what the parser could not place; repeated lines of one kind beyond twenty are counted, not listed."""
    counts: Counter[str] = Counter()
    codes = {"unparsable": "RA001", "stray": "RA001", "truncated": "RA002", "redeclared": "RA307"}
    for problem in dump.problems:
        code = codes.get(problem.kind, "RA001")
        counts[code] += 1
        if counts[code] > 20:
            continue
        entry = CATALOGUE[code]
        text = dump.text(problem.line) if 0 < problem.line < len(dump.shapes) else ""
        yield Finding(
            code,
            entry.name,
            entry.severity,
            f"{dump.path}:{problem.line}: {problem.message}",
            hint=entry.action,
            locations=(Location(dump.path, problem.line, text),),
            subject=f"{text} {problem.message}",
        )
    for code, count in counts.items():
        if count > 20:
            entry = CATALOGUE[code]
            yield Finding(
                code,
                entry.name,
                entry.severity,
                f"{dump.path}: {count - 20} more such lines",
                hint=entry.action,
                locations=(Location(dump.path, 0, ""),),
                subject=f"more {dump.path}",
            )


def _mark_partial(dump: Dump) -> Gap | None:
    """Mark the tables of which lines are missing or were moved, and give the first sign of it.

    What was filtered was filtered as a whole: a table without any built-in chain beside such a table, or beside lines that belong to
    none, is a part, too.
    """
    gaps = [(table, gap) for table in dump.tables if (gap := gap_of(table)) is not None]
    if not gaps and not any(one.kind == "stray" for one in dump.problems):
        return None
    for table, _ in gaps:
        table.partial = True
    for table in dump.tables:
        if not any(chain.policy is not None for chain in table.chains.values()):
            table.partial = True
    moved = {line for table in dump.tables if table.partial for chain in table.chains.values() for line in chain.redeclared}
    dump.problems[:] = [one for one in dump.problems if one.kind != "redeclared" or one.line not in moved]
    return min((gap for _, gap in gaps), key=lambda gap: gap.line, default=None)


def _partial_dumps(gaps: Iterable[tuple[Dump, Gap]], tables: Sequence[Table]) -> Iterator[Finding]:
    """RA002 for every dump of which a part is all that is there of some table; nothing where another dump has it whole."""
    entry = CATALOGUE["RA002"]
    for dump, gap in gaps:
        names = [f"{table.name} of IPv{table.family}" for table in tables if table.partial and table.dump is dump]
        if names:
            yield Finding(
                "RA002",
                entry.name,
                entry.severity,
                f"{dump.path}:{gap.line}: {gap.message} (table {', '.join(names)})",
                hint="Take the dump again, without a command behind it that leaves lines out or sorts them.",
                locations=(Location(dump.path, gap.line, dump.text(gap.line)),),
                subject=f"partial {', '.join(names)}",
            )


def _tables(dumps: Sequence[Dump]) -> tuple[list[Table], list[Finding]]:
    """The tables to evaluate, one per family and name; what is said of tables that are given twice (architecture section 9)."""
    chosen: dict[tuple[int, str], Table] = {}
    findings: list[Finding] = []
    for dump in dumps:
        for table in dump.tables:
            key = (table.family, table.name)
            before = chosen.get(key)
            if before is None:
                chosen[key] = table
                continue
            if before.partial != table.partial:
                chosen[key] = table if before.partial else before
                continue
            if _content(before) == _content(table):
                continue
            if before.backend and table.backend and before.backend != table.backend:
                kube = [one for one in (before, table) if any(is_kube_proxy_chain(name) for name in one.chains)]
                if len(kube) == 2:
                    findings.append(_split(before, table))
                chosen[key] = kube[0] if len(kube) == 1 else before
                continue
            newer = _newer(before, table)
            chosen[key] = newer
            findings.append(
                _note(
                    f"twice {table.name} {table.family}",
                    f"table {table.name} of IPv{table.family} is given twice and differs; the one in {newer.dump.path}:{newer.line} counts",
                    "give each table once, from one moment",
                    locations=tuple(Location(one.dump.path, one.line, one.dump.text(one.line)) for one in (before, table)),
                )
            )
    return list(chosen.values()), findings


def _content(table: Table) -> list[tuple[str, list[str]]]:
    shapes, values = table.dump.shapes, table.dump.values
    out = []
    for name in sorted(table.chains):
        rules = []
        for line in table.chains[name].lines:
            shape = shapes[line]
            slots = shape.counter_slots or ()
            rules.append(
                shape.render(tuple("" if slot in slots else value for slot, value in enumerate(values[line]))).replace("[:] ", "")
            )
        out.append((name, rules))
    return out


def _newer(one: Table, other: Table) -> Table:
    first, second = _header_time(one), _header_time(other)
    return one if first is not None and second is not None and first > second else other


def _header_time(table: Table) -> datetime | None:
    if table.generated is None:
        return None
    try:
        return datetime.strptime(" ".join(table.generated.split()), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None


def _split(one: Table, other: Table) -> Finding:
    entry = CATALOGUE["RA502"]
    return Finding(
        "RA502",
        entry.name,
        entry.severity,
        f"table {one.name} of IPv{one.family} holds kube-proxy's or kubelet's chains in both iptables backends: {one.backend} "
        f"({one.dump.path}) and {other.backend} ({other.dump.path})",
        expected="kube-proxy's and kubelet's rules in one backend",
        observed=f"{one.backend} and {other.backend}",
        hint=entry.action,
        locations=tuple(Location(table.dump.path, table.line, table.dump.text(table.line)) for table in (one, other)),
        subject=f"{one.name} IPv{one.family}",
    )


# --- node and coverage -----------------------------------------------------------------------------------------------------------------


def _node_name(cluster: Cluster, asked: str | None, given: GivenSettings | None) -> str | None:
    """The node's name: asked for, given by an input, or the only Node's."""
    if asked is not None:
        if cluster.nodes and asked not in cluster.nodes:
            near = get_close_matches(asked, cluster.nodes, 3, 0.4)
            known = ", ".join(near) if near else ", ".join(sorted(cluster.nodes)[:5])
            raise UnknownNodeError(f"no Node {asked!r} among the objects; {'near matches' if near else 'there are'}: {known}")
        return asked
    if given is not None and given.node:
        return given.node
    if len(cluster.nodes) == 1:
        return next(iter(cluster.nodes))
    return None


def _serving(
    inputs: _Inputs,
    tables: Sequence[Table],
    left_out: Sequence[Table],
    rulesets: dict[int, Ruleset],
    signs: dict[int, Signs],
    cluster: Cluster,
) -> Iterator[Finding]:
    """RA004 and RA005: which families and tables are there, and whether kube-proxy serves them.

    `left_out`: tables that are given and not evaluated, as said already.
    """
    present = {family: {table.name for table in tables if table.family == family} for family in FAMILIES}
    given = {(table.family, table.name) for table in (*tables, *left_out)}
    ipvs = False
    for family in FAMILIES:
        if _uses_sets(rulesets[family], "nat", "KUBE-SERVICES"):
            ipvs = True
    if ipvs:
        for family in FAMILIES:
            signs[family] = Signs(served=False)
        yield _note(
            "ipvs",
            "the rules are those of kube-proxy in IPVS mode, which is not audited yet",
            _OTHER_MODE,
        )
        return
    served = [family for family in FAMILIES if signs[family].served]
    seen = bool(served)
    services = {4: False, 6: False}
    for service in cluster.services.values():
        spec = service.spec
        if spec.type == "ExternalName":
            continue
        for address in (*spec.cluster_ips, spec.cluster_ip or ""):
            if address and address != "None":
                services[6 if ":" in address else 4] = True
    cut = set()
    for table in tables:
        if _is_cut(table) and table.name == "nat":
            cut.add(table.family)
            signs[table.family] = Signs(served=False)
            yield _note(
                f"cut nat {table.family}",
                f"the nat table of IPv{table.family} is not there as a whole: what is missing may only be cut off, so its services are not checked",
                "take the dump again",
            )
    for family in FAMILIES:
        names = present[family]
        tool = "iptables-save" if family == 4 else "ip6tables-save"
        if not names:
            if inputs.dumps and services[family]:
                yield _note(
                    f"family {family}", f"no IPv{family} table was given: IPv{family} is not checked", f"add the output of {tool}"
                )
            continue
        if "nat" not in names:
            yield _note(
                f"nat {family}",
                f"the nat table of IPv{family} is not in the dump: its services are not checked",
                f"take the whole of {tool}, without -t",
            )
            continue
        if (family, "filter") not in given and family in served and family not in cut:
            yield _note(
                f"filter {family}",
                f"the filter table of IPv{family} is not in the dump: refusals and forwarding are not checked",
                f"take the whole of {tool}, without -t",
            )
    if seen or cut or not any("nat" in present[family] for family in FAMILIES):
        return
    if not any(services.values()):
        return
    mode = next((one for one in ("nftables", "ipvs") if inputs.given is not None and inputs.given.mode == one), None)
    if mode is None and any(one.kind == InputKind.NFT.value for one in inputs.summaries):
        mode = "nftables"
    if mode is not None:
        yield _note("mode", f"kube-proxy runs in {mode} mode here, which is not audited yet", _OTHER_MODE)
        return
    chains = [name for family in FAMILIES for table in present[family] for name in rulesets[family].chains(table)]
    other = other_proxy(chains)
    traces = [name for name in chains if is_kube_proxy_chain(name) or name.startswith("KUBE-")]
    entry = CATALOGUE["RA005"]
    backends = {table.backend for table in tables}
    hint = (
        f"{other} serves the Services of this node; ruleaudit audits kube-proxy only"
        if other
        else "the dump may come from the other iptables backend: compare `iptables-legacy-save` and `iptables-nft-save`"
        if traces or len(backends) == 1
        else entry.action
    )
    yield Finding(
        "RA005",
        entry.name,
        Severity.INFO if other else Severity.ERROR,
        f"{sum(1 for one in cluster.services.values() if one.spec.type != 'ExternalName')} Services exist, but the nat table "
        f"holds no rules of kube-proxy" + (f": {other} is at work" if other else ""),
        expected="chain KUBE-SERVICES in the nat table",
        observed=f"{len(chains)} chains, none of kube-proxy's" if not traces else "only " + ", ".join(sorted(set(traces))[:5]),
        hint=hint,
        locations=tuple(
            Location(table.dump.path, table.line, table.dump.text(table.line)) for table in tables if table.name == "nat"
        ),
        subject="node",
    )


def _is_cut(table: Table) -> bool:
    """Whether lines of a table are missing: its COMMIT (the output of `iptables -S` has none), or others."""
    return table.partial or (table.commit_line is None and not table.inferred)


def _uses_sets(rules: Ruleset, table: str, chain: str) -> bool:
    return any(match.module == "set" for entry in rules.entries(table, chain) for match in entry.plan.shape.matches)


# --- one family ------------------------------------------------------------------------------------------------------------------------


@dataclass
class _Summary:
    services: set[tuple[str, str]] = field(default_factory=set)
    frontends: int = 0
    endpoints: int = 0
    releases: list[Release] = field(default_factory=list)
    detections: dict[int, Detection] = field(default_factory=dict)
    mark: int | None = None
    node_ports: tuple[str, ...] = ()
    inferred: list[str] = field(default_factory=list)
    audits: list[FamilyAudit] = field(default_factory=list)

    def note(self, audit: FamilyAudit, sign: Signs, inferred: list[str], judge: ServiceJudge) -> None:
        """Count one family in."""
        expectation = audit.expectation
        self.services.update((one.name.namespace, one.name.name) for one in expectation.service_ports)
        self.frontends += judge.frontends
        self.endpoints += sum(len(one.candidates.endpoints) for one in expectation.service_ports)
        self.releases.append(expectation.release)
        self.detections[audit.family] = expectation.local_detection
        self.mark = audit.mark
        self.node_ports = tuple(dict.fromkeys((*self.node_ports, *(sign.nodeport_addresses or ()))))
        self.inferred.extend(inferred)
        self.audits.append(audit)

    def proxy(self, settings: ProxySettings, signs: dict[int, Signs]) -> ProxySummary:
        if not any(one.served for one in signs.values()):
            return ProxySummary(mode=settings.mode)
        known = [one for one in self.detections.values() if isinstance(one, LocalDetection)]
        return ProxySummary(
            mode=settings.mode or "iptables",
            layout=self.releases[0].layout.value if self.releases else None,
            cluster_cidr=tuple(one.value for one in known if one.mode in ("ClusterCIDR", "NodeCIDR")),
            local_detection=known[0].mode if known else None,
            masquerade_mark=f"{self.mark:#x}" if self.mark is not None else None,
            nodeport_addresses=self.node_ports,
            inferred=tuple(dict.fromkeys(self.inferred)),
        )


def _audit_family(
    family: int,
    cluster: Cluster,
    inputs: _Inputs,
    tables: Sequence[Table],
    rules: Ruleset,
    signs: dict[int, Signs],
    given: ProxySettings,
    name: str | None,
    summary: _Summary,
) -> Iterator[Finding]:
    sign = signs[family]
    settings, inferred = _settled(family, given, sign, cluster, name)
    mark = (1 << given.masquerade_bit) if "masquerade_bit" in given.given else sign.mark or DEFAULT_MARK
    if "masquerade_bit" not in given.given:
        inferred.append("masquerade_mark")
    releases = _releases(given, signs)
    if given.minor is None:
        inferred.append("layout")
    expectation = expect(cluster, node=name or "", family=family, settings=settings, release=releases[0])
    family_audit, faults = _family_audit(family, cluster, tables, rules, sign, settings, expectation, name, mark, inputs.given)
    judge = ServiceJudge(family_audit)
    if not cluster.services:
        yield from nodewide.hooks(family_audit)
        yield from nodewide.masquerade(family_audit, judge, faults)
        yield from nodewide.dispatching(family_audit)
        yield from alone.self_contradictions(family_audit, judge)
        yield from leftovers.chains(family_audit, judge)
        summary.note(family_audit, sign, inferred, judge)
        return
    findings = judge.run()
    if len(releases) > 1 and judge.judged:
        family_audit, judge, findings = _best_release(family_audit, judge, findings, releases, name, settings)
    expectation = family_audit.expectation
    leader = nodewide.empty_dispatch(family_audit)
    if leader is not None:
        yield leader
        # Nothing is dispatched, so no finding about one service says anything more; what other software's rules do still stands.
        findings = [one for one in findings if one.code.startswith("RA6")]
    yield from nodewide.hooks(family_audit)
    yield from nodewide.masquerade(family_audit, judge, faults)
    yield from nodewide.dispatching(family_audit)
    yield from nodewide.local_detection(family_audit)
    yield from _collapsed(family_audit, findings)
    yield from leftovers.stale_frontends(family_audit, judge)
    yield from leftovers.chains(family_audit, judge)
    yield from objects.duplicate_frontends(family_audit)
    if judge.passed_over:
        yield _note(
            f"local {family}",
            f"{judge.passed_over} service ports of IPv{family} depend on which node this is (traffic policy Local, topology "
            f"hints): they are not checked",
            "name the node with --node",
        )
    for note in expectation.notes if name is not None else ():
        yield _note(f"{note} {family}", note, "give the objects or settings that it names")
    if not expectation.endpoint_sources and expectation.service_ports:
        yield _note(
            "endpoints",
            "neither EndpointSlices nor Endpoints were given: endpoints are not checked",
            "add them to the objects (kubectl get endpointslices -A -o json)",
        )
    if "local_detection" in inferred:
        detection = settings.local_detection[family]
        if detection == "unset":
            yield _note(
                f"detection {family}",
                f"how kube-proxy tells local pods in IPv{family} cannot be seen: masquerade is not checked where it matters",
                "give --kube-proxy-config",
            )
    summary.note(family_audit, sign, inferred, judge)


def _collapsed(audit: FamilyAudit, findings: list[Finding]) -> Iterator[Finding]:
    """When most service ports are missing in the same way, one finding leads and the others follow it (incidents 7)."""
    total = sum(1 for expected in audit.expectation.service_ports if expected.selection.any)
    for code in ("RA101", "RA103"):
        group = [one for one in findings if one.code == code]
        wanted = total if code == "RA101" else sum(1 for e in audit.expectation.service_ports if e.node_port and e.selection.any)
        if len(group) >= 10 and len(group) * 10 >= wanted * 6:
            leader = audit.finding(
                code,
                f"{len(group)} of {wanted} service ports {'are not programmed' if code == 'RA101' else 'lack their node port'} "
                f"in IPv{audit.family}: most likely one cause, first {group[0].service}",
                places=[("nat", "KUBE-SERVICES" if code == "RA101" else "KUBE-NODEPORTS", 0)],
                subject=f"most IPv{audit.family}",
            )
            yield leader
            findings = [
                replace(one, cause=leader.fingerprint) if one.code == code and one.cause is None else one for one in findings
            ]
    yield from findings


def _settled(
    family: int, given: ProxySettings, sign: Signs, cluster: Cluster, name: str | None
) -> tuple[ProxySettings, list[str]]:
    """The settings of one family: given ones, else what the rules show, else unset; and which were inferred."""
    inferred: list[str] = []
    settings = given
    detection: Detection = given.local_detection[family]
    if "local_detection" not in given.given or detection == "unset":
        inferred += ["local_detection", "cluster_cidr"]
        detection = "unset" if sign.detects is None and sign.local_match is None else None
        if sign.local_match is not None:
            flag, value = sign.local_match
            if flag == "-i":
                detection = (
                    LocalDetection("InterfaceNamePrefix", value.removesuffix("+"))
                    if value.endswith("+")
                    else LocalDetection("BridgeInterface", value)
                )
            else:
                node = cluster.nodes.get(name or "")
                own = node is not None and any(
                    (parsed := parse_network(text, family)) is not None and str(parsed) == value
                    for text in (*node.spec.pod_cidrs, node.spec.pod_cidr or "")
                )
                detection = LocalDetection("NodeCIDR" if own else "ClusterCIDR", value)
        elif sign.masquerade_all and sign.detects is not True:
            detection = None
        settings = settings.with_detection(family, detection)
    if "masquerade_all" not in given.given and sign.masquerade_all:
        inferred.append("masquerade_all")
        settings = replace(settings, masquerade_all=True)
    if "nodeport_addresses" not in given.given:
        inferred.append("nodeport_addresses")
    return settings, inferred


def _releases(given: ProxySettings, signs: dict[int, Signs]) -> list[Release]:
    """The releases that may have written the rules, the newest first, one for each behaviour that differs."""
    if given.minor is not None:
        return [given.release(min(given.minor, NEWEST))]
    served = [sign for sign in signs.values() if sign.served]
    oldest = max(sign.oldest for sign in served)
    newest = min(sign.newest for sign in served)
    if oldest > newest:
        # The families disagree (one was written by another release): each is judged by its own layout's newest release.
        oldest, newest = served[0].oldest, served[0].newest
    found: dict[tuple[object, ...], Release] = {}
    for minor in range(newest, oldest - 1, -1):
        release = given.release(minor)
        found.setdefault(_behaviour(release), release)
    return list(found.values())


def _behaviour(release: Release) -> tuple[object, ...]:
    properties = sorted(name for name, value in vars(Release).items() if isinstance(value, property))
    return tuple(str(getattr(release, name)) for name in properties)


def _best_release(
    audit: FamilyAudit,
    judge: ServiceJudge,
    findings: list[Finding],
    releases: Sequence[Release],
    name: str | None,
    settings: ProxySettings,
) -> tuple[FamilyAudit, ServiceJudge, list[Finding]]:
    """Of the releases that can have written the rules, the one under which the fewest services are at fault; the newest of equals.

    Stale rules count as well, or a release that passes Services over would win by looking at less.
    """
    best = (_at_fault(audit, judge, findings), audit, judge, findings)
    for release in releases[1:]:
        other = expect(audit.cluster, node=name or "", family=audit.family, settings=settings, release=release)
        if not _disagree(audit.expectation, other, judge):
            continue
        candidate = replace(audit, expectation=other)
        candidate.__dict__["evaluator"] = audit.evaluator
        again = ServiceJudge(candidate)
        result = again.run()
        count = _at_fault(candidate, again, result)
        if count < best[0]:
            best = (count, candidate, again, result)
    return best[1:]


def _at_fault(audit: FamilyAudit, judge: ServiceJudge, findings: Iterable[Finding]) -> int:
    """How many services and stale frontends the rules are wrong about; what other software's rules do is not held against a release."""
    services = {one.service for one in findings if one.severity is not Severity.INFO and not one.code.startswith("RA6")}
    return len(services) + sum(1 for one in leftovers.stale_frontends(audit, judge) if one.severity is Severity.ERROR)


def _disagree(one: Expectation, other: Expectation, judge: ServiceJudge) -> bool:
    """Whether another release asks something else of a service port that differs now."""
    ports = {(p.name, p.protocol): p for p in other.service_ports}
    if len(ports) != len(one.service_ports):
        return True
    for port in one.service_ports:
        if id(port) not in judge.judged:
            continue
        same = ports.get((port.name, port.protocol))
        if same is None or same.frontends != port.frontends or same.source_ranges != port.source_ranges:
            return True
        if [tuple(e.text for e in s.cluster + s.local) for s in same.selections] != [
            tuple(e.text for e in s.cluster + s.local) for s in port.selections
        ]:
            return True
        if (same.internal_local, same.external_local, same.selection.any) != (
            port.internal_local,
            port.external_local,
            port.selection.any,
        ):
            return True
        if one.release.layout is not other.release.layout:
            return True
    return False


def _family_audit(
    family: int,
    cluster: Cluster,
    tables: Sequence[Table],
    rules: Ruleset,
    sign: Signs,
    settings: ProxySettings,
    expectation: Expectation,
    name: str | None,
    mark: int,
    given: GivenSettings | None,
) -> tuple[FamilyAudit, list[str]]:
    node_object = cluster.nodes.get(name or "")
    own: list[str] = []
    if node_object is not None:
        for kind in ("InternalIP", "ExternalIP"):
            own += [
                address
                for one in node_object.status.addresses
                if one.type == kind and (address := canonical_address(one.address or "", family))
            ]
    for text in (given.node_addresses or ()) if given is not None else ():
        address = canonical_address(text, family)
        if address and address not in own:
            own.append(address)
    tails = [text for text in sign.nodeport_addresses or () if canonical_address(text, family)]
    everywhere = [*own, *(text for text in tails if text not in own and not text.startswith("127."))]
    avoid: set[str] = set(everywhere)
    prefixes: set[str] = set()
    for table in rules.tables:
        for chain_name, chain in rules.chains(table).items():
            if chain_name.startswith("KUBE-SEP-") or len(chain.lines) > 5000:
                continue
            for entry in (
                rules.entries(table, chain_name)
                if not is_kube_proxy_chain(chain_name) or chain_name.startswith("KUBE-FW-")
                else ()
            ):
                value = entry_value(entry, "-s", negated=None)
                if value is not None:
                    prefixes.add(value)
    for expected in expectation.service_ports:
        prefixes.update(expected.source_ranges)
        avoid.update(endpoint.address for endpoint in expected.candidates.endpoints)
    avoid.update(cluster.pods_by_address)
    detection = expectation.local_detection
    networks: list[str] = []
    interface: str | None = None
    if node_object is not None:
        networks += [text for text in (*node_object.spec.pod_cidrs, node_object.spec.pod_cidr or "") if text]
    if isinstance(detection, LocalDetection):
        if detection.mode in ("BridgeInterface", "InterfaceNamePrefix"):
            interface = detection.value + ("+" if detection.mode == "InterfaceNamePrefix" else "")
        else:
            where = parse_network(detection.value, family)
            if where is not None:
                inside = [
                    text for text in networks if (parsed := parse_network(text, family)) is not None and within(parsed, where)
                ]
                networks = inside or [detection.value]
    clients = choose_clients(
        family, pod_networks=networks, node_addresses=everywhere, pod_interface=interface, avoid=avoid, avoid_networks=prefixes
    )
    host = Host(frozenset({*everywhere, clients.node_address}))
    oldest = expectation.release.minor if given is not None and given.minor is not None else sign.oldest
    lost = nodewide.missing_hooks(rules, sign, oldest)
    packet = clients.packet(Vantage.OUTSIDE, "TCP", clients.node_address, 9)
    repaired, faults = nodewide.repair(family, tables, rules, lost, mark, packet)
    audit = FamilyAudit(
        family=family,
        cluster=cluster,
        tables=tables,
        rules=rules,
        repaired=repaired,
        host=host,
        signs=sign,
        settings=settings,
        expectation=expectation,
        clients=clients,
        mark=mark,
        node=name,
        node_object=node_object,
        node_port_addresses=_node_port_addresses(family, settings, sign, everywhere, tails, clients.node_address, expectation),
        missing_hooks=lost,
    )
    return audit, faults


def _node_port_addresses(
    family: int,
    settings: ProxySettings,
    sign: Signs,
    own: Sequence[str],
    tails: Sequence[str],
    fallback: str,
    expectation: Expectation,
) -> tuple[str, ...]:
    """The addresses at which node ports are judged: those that the settings, or else the rules, serve (KPR 1.5, 4.4)."""
    wanted: list[str] = []
    cidrs = settings.nodeport_addresses if "nodeport_addresses" in settings.given else None
    if cidrs:
        for text in cidrs:
            if text == "primary":
                wanted += list(own[:1])
            elif (where := parse_network(text, family)) is not None:
                wanted += [one for one in own if ip_address(one) in where]
        if not any(text == "primary" or parse_network(text, family) is not None for text in cidrs):
            wanted = list(own)
    elif tails and sign.nodeport_addresses:
        wanted = [one for one in tails if not one.startswith("127.")]
    else:
        wanted = list(own) or [fallback]
    every_local = not tails
    if (
        family == 4
        and every_local
        and sign.localhost_nodeports
        and settings.localhost_nodeports
        and expectation.release.minor >= 20
        and wanted
    ):
        wanted.append("127.0.0.1")
    return tuple(dict.fromkeys(wanted))


# --- across families -------------------------------------------------------------------------------------------------------------------


def _objects_alone(cluster: Cluster) -> Iterator[Finding]:
    entry = CATALOGUE["RA702"]
    for service, message, reference, address in objects.slice_disagreements(cluster):
        yield Finding(
            "RA702",
            entry.name,
            Severity.INFO,
            message,
            service=service,
            endpoint=None,
            hint=entry.action,
            objects=(reference,),
            subject=address,
        )
    for oddity in (*objects_oddities.services_without_pods(cluster), *objects_oddities.broken_ingress_backends(cluster)):
        yield oddity.finding()


_GRACE = timedelta(minutes=15)


def _time_skew(inputs: _Inputs, cluster: Cluster, tables: Sequence[Table]) -> Iterator[Finding]:
    """RA006, as information: the header's time has no zone, so only a distance that no zone explains is spoken of (incidents 1.6)."""
    times = [time for table in tables if (time := _header_time(table)) is not None]
    newest = max(
        (
            time
            for key, service in cluster.services.items()
            for time in _object_times(cluster, key, service.metadata.creation_timestamp)
        ),
        default=None,
    )
    if not times or newest is None:
        return
    dump = min(times).replace(tzinfo=UTC)
    # Zones reach from UTC-12 to UTC+14: the dump's time in UTC lies between these.
    if newest - (dump + timedelta(hours=12)) > _GRACE:
        entry = CATALOGUE["RA006"]
        yield Finding(
            "RA006",
            entry.name,
            Severity.INFO,
            f"the objects hold a change of {newest:%Y-%m-%dT%H:%M:%SZ}, the dump was taken at {dump:%Y-%m-%d %H:%M:%S} local "
            f"time: differences may only be time passing",
            certainty=Certainty.POSSIBLE,
            hint=entry.action,
            locations=tuple(Location(t.dump.path, t.line, t.dump.text(t.line)) for t in tables[:1]),
            subject="time",
        )
    del inputs


def _object_times(cluster: Cluster, key: tuple[str, str], created: str | None) -> Iterator[datetime]:
    texts = [created]
    for one in cluster.slices_of(*key):
        texts += [one.metadata.creation_timestamp, one.metadata.annotation("endpoints.kubernetes.io/last-change-trigger-time")]
    for text in texts:
        if text:
            try:
                found = datetime.fromisoformat(text)
            except ValueError:
                continue
            if found.tzinfo is not None:
                yield found

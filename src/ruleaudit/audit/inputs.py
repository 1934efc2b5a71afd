"""What was given, read and sorted: dumps, objects, settings; and what is said of inputs that cannot be used whole (RA001, RA002, RA004, RA502)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ruleaudit.capture_description import not_collected
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.cluster import Cluster, load
from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, InputSummary, Location, ObjectReference, Severity
from ruleaudit.formats.completeness import Gap, gap_of
from ruleaudit.formats.iptables_save import MAX_LINE_LENGTH, MAX_LINES, parse
from ruleaudit.kubeproxy.settings import GivenSettings, combine, find_settings
from ruleaudit.signs import is_kube_proxy_chain
from ruleaudit.sources import UNKNOWN, InputKind, Source, is_failed_dump

if TYPE_CHECKING:
    from ruleaudit.audit.shared import Shared
    from ruleaudit.dumps.interfaces import InterfaceDump
    from ruleaudit.dumps.ip_sets import IpSetDump
    from ruleaudit.dumps.lines import Lines
    from ruleaudit.dumps.rules import Dump, Table
    from ruleaudit.dumps.virtual_servers import IpvsDump
    from ruleaudit.kubeproxy.expect import Expectations

__all__ = [
    "FAMILIES",
    "OTHER_MODE",
    "Inputs",
    "Progress",
    "chosen_tables",
    "header_time",
    "note",
    "partial_dumps",
    "read_inputs",
    "require_usable_dumps",
]


Progress = Callable[[str, float], None]
FAMILIES = (4, 6)
OTHER_MODE = "audit it with a release of ruleaudit that knows this mode"


_OF_IPVS = (InputKind.IPVSADM, InputKind.IPSET, InputKind.IP_ADDR)
_RULES_PROGRAM = re.compile(r"ip(6?)tables(?:-legacy|-nft)?-save")
_BESIDE = frozenset({"ConfigMap"})
"""Kinds that say something beside the objects, and are none of those that are audited."""
_USED = frozenset({InputKind.IPTABLES_SAVE, InputKind.OBJECTS, InputKind.PROXY_CONFIG, InputKind.CAPTURE_META, *_OF_IPVS})


@dataclass
class Inputs:
    """What the sources hold, sorted."""

    dumps: list[Dump] = field(default_factory=list)
    cluster: Cluster = field(default_factory=Cluster)
    has_objects: bool = False
    given: GivenSettings | None = None
    summaries: list[InputSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    gaps: list[tuple[Dump, Gap]] = field(default_factory=list)
    """What shows that a dump is a part of one, once for each dump."""
    virtual_servers: list[IpvsDump] = field(default_factory=list)
    set_dumps: list[IpSetDump] = field(default_factory=list)
    interfaces: list[InterfaceDump] = field(default_factory=list)
    expectations: Expectations | None = None
    """What was asked of the same objects for other nodes, None where no other node is audited."""
    unread: set[int] = field(default_factory=set)
    """The families of which rules are known to be there, or may be, that could not be read."""

    @property
    def in_nftables_mode(self) -> bool:
        """Whether kube-proxy is set to its nftables mode, or an nftables ruleset was given."""
        mode = None if self.given is None else self.given.mode
        return mode == "nftables" or any(one.kind == InputKind.NFT.value for one in self.summaries)

    def lacks(self, what: str, why: str, hint: str) -> None:
        """Note something of the node, or of its cluster, that could not be read: `what` names it, mostly a program."""
        self.findings.append(note(f"absent {what}", why, hint))
        found = _RULES_PROGRAM.fullmatch(what)
        if found is not None:
            self.unread.add(6 if found[1] else 4)


def note(subject: str, message: str, hint: str, *, locations: tuple[Location, ...] = ()) -> Finding:
    """RA004: what was not checked, and which input would change that."""
    return Finding("RA004", CATALOGUE["RA004"].name, Severity.INFO, message, hint=hint, subject=subject, locations=locations)


def read_inputs(
    sources: Sequence[Source], settings: GivenSettings | None, progress: Progress, limit_factor: int, shared: Shared | None = None
) -> Inputs:
    """Read every input and sort what it holds. Raises InputError when there is nothing to audit.

    `shared` has the objects of the audit before; which node a source is about that is held there says nothing of this one.
    """
    inputs = Inputs()
    parts: list[tuple[str, bytes]] = []
    given: list[GivenSettings] = []
    ours = 0
    for number, source in enumerate(sources):
        progress(source.path, 0.4 * number / max(1, len(sources)))
        kind = source.kind
        used = kind in _USED
        family: int | None = None
        lines = 0 if kind is InputKind.IPTABLES_SAVE else source.line_count if shared is None else shared.line_count(source)
        if kind is InputKind.IPTABLES_SAVE:
            dump = parse(
                source.text,
                source.path,
                max_lines=MAX_LINES * limit_factor,
                max_line_length=MAX_LINE_LENGTH * limit_factor,
                known=None if shared is None else shared.chains,
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
            held = find_settings(source.data, source.path)
            common = shared is not None and shared.holds(source)
            if held is not None:
                given.append(replace(held, node=None, node_addresses=None) if common else held)
            elif kinds := _kinds_beside(source):
                parts.append((source.path, source.data))
                ours -= kinds <= _BESIDE  # nothing can be audited by it alone
            else:
                used = False
                if source.given:
                    inputs.findings.append(
                        note(
                            f"other {source.path}",
                            f"{source.path} is left out: it holds neither kube-proxy's settings nor objects that are audited",
                            "leave it away, or give what holds kube-proxy's own settings",
                        )
                    )
            if kind is InputKind.CAPTURE_META:
                for one in not_collected(source.data, source.path):
                    inputs.lacks(one.what, one.why, one.hint)
        elif kind is InputKind.EMPTY:
            inputs.findings.append(
                note(
                    f"empty {source.path}",
                    f"{source.path} is empty: whether there are rules is not known",
                    "take it again, as root; an empty ip6tables-save may mean that no IPv6 table exists, which `ruleaudit collect` and --live tell",
                )
            )
        elif kind is InputKind.OTHER and (source.given or source.reason not in ("", UNKNOWN) or is_failed_dump(source)):
            inputs.findings.append(
                note(
                    f"other {source.path}",
                    f"{source.path} is left out: {source.reason}",
                    "take it again as the message says, or remove it",
                    locations=(Location(source.path, source.lines_before + 1 if source.lines_before else 0, ""),),
                )
            )
        elif kind is InputKind.ABSENT:
            inputs.lacks(source.path, source.reason, source.hint)
        elif kind in _OF_IPVS:
            used = _read_of_ipvs(inputs, source, shared)
        elif kind is InputKind.NFT:
            what = f"{source.path} (nft) is not looked at: only kube-proxy's iptables and IPVS modes are audited so far"
            inputs.findings.append(note(f"nft {source.path}", what, OTHER_MODE))
        elif kind is InputKind.CONNTRACK:
            what = f"{source.path} (conntrack) is not looked at: rules are audited, not the connections that are open"
            inputs.findings.append(note(f"conntrack {source.path}", what, "leave it out"))
        ours += used
        inputs.summaries.append(InputSummary(source.path, kind.value, family, lines - source.lines_before, used))
    if not ours:
        empty = [source for source in sources if source.kind is InputKind.EMPTY]
        if empty:
            raise InputError("is empty: there is nothing to audit; give the output of iptables-save", empty[0].path)
        if not any(source.kind in (InputKind.NFT, InputKind.CONNTRACK) for source in sources):
            raise InputError(
                "holds nothing that can be audited; give the output of iptables-save, and objects",
                sources[0].path if sources else "input",
            )
    if parts:
        if shared is None:
            inputs.cluster = load(parts, limit_factor=limit_factor)
        else:
            inputs.cluster = shared.cluster(parts, limit_factor)
            inputs.expectations = shared.expectations(inputs.cluster)
        inputs.has_objects = bool(inputs.cluster.kinds - _BESIDE)
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
    found = combine(given)
    # What the caller gives wins over what lies beside the dumps.
    inputs.given = found if settings is None else settings if found is None else settings.over(found)
    return inputs


def _kinds_beside(source: Source) -> frozenset[str]:
    """Of which kinds objects that are read stand in a text that begins with another program's ConfigMap or DaemonSet: CoreDNS' ConfigMap itself,
    Services behind it.
    """
    cluster = load([(source.path, source.data)])
    return cluster.kinds if cluster.config_maps else cluster.kinds - _BESIDE


def require_usable_dumps(sources: Sequence[Source]) -> None:
    """Raise InputError for a captured node of which nothing can be checked, because what lies where its dumps should be is none.

    What is no dump is known by its name, or lies beside the description of a capture. A capture that has no dump at all is not refused: it says
    itself why it has none, or is of the objects' sake.
    """
    kinds = {source.kind for source in sources}
    if kinds & {InputKind.IPTABLES_SAVE, InputKind.IPVSADM, InputKind.NFT}:
        return
    described = InputKind.CAPTURE_META in kinds
    unusable = [one for one in sources if (one.kind in (InputKind.EMPTY, InputKind.OTHER) if described else is_failed_dump(one))]
    if unusable:
        # A file of which nothing is known may belong where it is; the others should be dumps.
        first = min(unusable, key=lambda one: one.reason == UNKNOWN)
        raise InputError(f"{first.reason or 'is empty'}; no other file of this capture holds the rules of its node", first.path)


def _read_of_ipvs(inputs: Inputs, source: Source, shared: Shared | None) -> bool:
    """Read a dump of ipvsadm, ipset or ip; their parsers are only there for nodes that have such dumps.

    False for one that cannot be used: found in a folder or an archive it costs no more than itself (RA001). One that was named raises
    InputError.
    """
    try:
        dump = _parsed(inputs, source, shared)
    except InputError as error:
        if source.given:
            raise
        inputs.findings.append(
            Finding(
                "RA001",
                CATALOGUE["RA001"].name,
                Severity.ERROR,
                str(error),
                hint="Take the dump again as the message says, or remove it: it is left out of the audit.",
                locations=(Location(error.path, error.line or 0, ""),),
                subject=str(error),
            )
        )
        return False
    inputs.findings.extend(_dump_problems(dump))
    return True


def _parsed(inputs: Inputs, source: Source, shared: Shared | None) -> IpvsDump | IpSetDump | InterfaceDump:
    from ruleaudit.formats import ip_addr, ipset, ipvsadm

    dump: IpvsDump | IpSetDump | InterfaceDump
    if source.kind is InputKind.IPVSADM:
        dump = ipvsadm.parse(source.text, source.path, known=None if shared is None else shared.servers)
        inputs.virtual_servers.append(dump)
    elif source.kind is InputKind.IPSET:
        dump = ipset.parse(source.text, source.path)
        inputs.set_dumps.append(dump)
    else:
        dump = ip_addr.parse(source.text, source.path)
        inputs.interfaces.append(dump)
    return dump


def _dump_problems(dump: Dump | Lines) -> Iterator[Finding]:
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


def partial_dumps(gaps: Iterable[tuple[Dump, Gap]], tables: Sequence[Table]) -> Iterator[Finding]:
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


def chosen_tables(dumps: Sequence[Dump]) -> tuple[list[Table], list[Finding]]:
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
                note(
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
    first, second = header_time(one), header_time(other)
    return one if first is not None and second is not None and first > second else other


def header_time(table: Table) -> datetime | None:
    """When a table was dumped, by its header: local time without a zone; None where it does not say."""
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

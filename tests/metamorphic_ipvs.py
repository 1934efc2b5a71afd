"""Does every damage to virtual servers, sets and kube-ipvs0 show? Damages a healthy node in IPVS mode line by line and audits it each time.

    python tests/metamorphic_ipvs.py [--jobs N] [--sample N] FOLDER...

Each virtual server, real server, entry of a set and address of kube-ipvs0 is removed and altered in each of its parts, and one more is added
beside it. Each change must give a finding that the healthy node does not give, or belong to one of `HARMLESS`: the classes of changes that
decide nothing, each with its reason. What is left has slipped through; it is listed, and the exit status is 1. The rules of such a
node are damaged by tests/checks/test_written_ipvs.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import ruleaudit.audit.inputs as audits
from ruleaudit.audit import audit_inputs
from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Severity
from ruleaudit.sources import InputKind, Source, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["HARMLESS", "Change", "Node", "Result", "changes", "examine", "main"]

_SERVICE = re.compile(r"-A (-t|-u|--sctp-service) (\S+):(\d+) -s (\S+)(?: -p (\d+))?")
_REAL = re.compile(r"(-a \S+ \S+ -r )(\S+):(\d+) -m -w (\d+)")


@dataclass(frozen=True)
class Change:
    """One change of one dump: `lines`, by their indices, are replaced by `text`; of kube-ipvs0 `lines` are the addresses' indices.

    `what` is the kind of thing changed ("virtual server", an "empty" one without real servers, a "lone node port" with an address for itself,
    "real server", a set's name, "address"), `kind` what is done to it.
    """

    dump: InputKind
    what: str
    kind: str
    line: str
    lines: tuple[int, ...]
    text: tuple[str, ...]


class Result(NamedTuple):
    """What became of one change: `shown` by findings (their codes), or `harmless` (the class), or neither."""

    node: str
    change: Change
    shown: tuple[str, ...]
    harmless: str | None


# --- changing --------------------------------------------------------------------------------------------------------------------------


def _other(text: str) -> str:
    """Another address of the same family, with brackets where it has them, that nothing of the node has."""
    bare = ip_address(text.strip("[]"))
    return "203.0.113.249" if bare.version == 4 else text.replace(str(bare), "2001:db8:ffff::f9")


def _virtual_servers(lines: Sequence[str]) -> Iterator[Change]:
    kind = InputKind.IPVSADM
    at_address = Counter(found[2] for line in lines if (found := _SERVICE.fullmatch(line)) is not None)
    for number, line in enumerate(lines):
        service, real = _SERVICE.fullmatch(line), _REAL.fullmatch(line)
        if service is not None:
            flag, host, port, scheduler, persistence = service.groups()
            end = number + 1
            while end < len(lines) and lines[end].startswith("-a "):
                end += 1
            whole = tuple(range(number, end))
            head = f"-A {flag} {host}:{port} -s {scheduler}"
            what = "virtual server" if len(whole) > 1 else "empty virtual server"
            if at_address[host] == 1 and int(port) >= 30_000:
                what = "lone node port"

            def moved(to: str, whole: tuple[int, ...] = whole, at: str = f"{host}:{port} ") -> tuple[str, ...]:
                return tuple(lines[one].replace(at, to + " ") for one in whole)

            def made(
                how: str, text: Sequence[str], which: tuple[int, ...] = whole[:1], line: str = line, what: str = what
            ) -> Change:
                return Change(kind, what, how, line, which, tuple(text))

            yield made("removed", (), whole)
            yield made("address altered", moved(f"{_other(host)}:{port}"), whole)
            yield made("port altered", moved(f"{host}:{int(port) + 7}"), whole)
            yield made("one more", (*(lines[one] for one in whole), *moved(f"{_other(host)}:{port}")), whole)
            yield made("scheduler altered", [line.replace(f"-s {scheduler}", "-s lc")])
            if len(whole) > 1:
                yield made("one packet", [line + " -o"])
            if persistence is None:
                yield made("persistence added", [f"{head} -p 300"])
            else:
                yield made("persistence removed", [head])
                yield made("persistence altered", [f"{head} -p {int(persistence) + 60}"])
                yield made("persistence mask", [f"{line} -M {'64' if '[' in host else '255.255.0.0'}"])
        elif real is not None:
            before, host, port, weight = real.groups()

            def altered(how: str, *text: str, number: int = number, line: str = line) -> Change:
                return Change(kind, "real server", how, line, (number,), text)

            yield altered("removed")
            yield altered("address altered", f"{before}{_other(host)}:{port} -m -w {weight}")
            yield altered("port altered", f"{before}{host}:{int(port) + 1} -m -w {weight}")
            yield altered("weight 0", f"{before}{host}:{port} -m -w 0")
            if any(near.startswith(before) for near in lines[max(0, number - 1) : number + 2] if near != line):
                yield altered("weight doubled", f"{before}{host}:{port} -m -w {2 * int(weight)}")
            yield altered("routed", f"{before}{host}:{port} -g -w {weight}")
            yield altered("one more", line, f"{before}{_other(host)}:{port} -m -w {weight}")
            yield altered("one more that drains", line, f"{before}{_other(host)}:{port} -m -w 0")


def _entries(lines: Sequence[str]) -> Iterator[Change]:
    for number, line in enumerate(lines):
        words = line.split()
        if words[0] != "add":
            continue
        name, entry = words[1], words[2]

        def made(how: str, *text: str, number: int = number, line: str = line, name: str = name) -> Change:
            return Change(InputKind.IPSET, name, how, line, (number,), text)

        other = _other_entry(entry)
        yield made("removed")
        yield made("altered", f"add {name} {other}")
        yield made("one more", line, f"add {name} {other}")
        if ":" in entry and "," in entry:
            port = re.sub(r"((?:tcp|udp|sctp):)(\d+)", lambda found: f"{found[1]}{int(found[2]) + 7}", entry)
            yield made("port altered", f"add {name} {port}")


def _other_entry(entry: str) -> str:
    if entry.isdecimal():
        return str(int(entry) + 20_000)
    first, comma, rest = entry.partition(",")
    other = _other(first)
    return other + comma + rest.replace(first, other)


def _addresses(text: str) -> Iterator[Change]:
    (dummy,) = json.loads(text)
    for number, one in enumerate(dummy["addr_info"]):
        local = one["local"]
        if one.get("scope") == "link":
            continue
        for how, new in (("removed", ()), ("altered", (_other(local),)), ("one more", (local, _other(local)))):
            yield Change(InputKind.IP_ADDR, "address", how, local, (number,), tuple(new))


def changes(dump: Source) -> Iterator[Change]:
    """Every change of one dump."""
    if dump.kind is InputKind.IP_ADDR:
        return _addresses(dump.text)
    lines = dump.text.rstrip("\n").split("\n")
    return _virtual_servers(lines) if dump.kind is InputKind.IPVSADM else _entries(lines)


def changed(dump: Source, change: Change) -> str:
    """The text of a dump after a change."""
    if change.dump is InputKind.IP_ADDR:
        (dummy,) = json.loads(dump.text)
        (at,) = change.lines
        entries = dummy["addr_info"]
        entries[at : at + 1] = [{**entries[at], "local": one} for one in change.text]
        return json.dumps([dummy]) + "\n"
    lines = dump.text.rstrip("\n").split("\n")
    lines[change.lines[0] : change.lines[-1] + 1] = change.text
    return "\n".join(lines) + "\n"


class Harmless(NamedTuple):
    """A class of changes that decide nothing, the reason, and whether a change belongs to it."""

    name: str
    reason: str
    what: str
    kinds: tuple[str, ...]
    line: str = ""

    def holds(self, change: Change) -> bool:
        """Whether a change belongs here."""
        return bool(re.fullmatch(self.what, change.what) and change.kind in self.kinds and re.search(self.line, change.line))


_ALL = ("removed", "altered", "port altered", "one more")
HARMLESS = (
    Harmless(
        "session affinity of a virtual server without real servers",
        "there is nothing that a client could be kept at",
        "empty virtual server",
        ("persistence added", "persistence removed", "persistence altered", "persistence mask"),
    ),
    Harmless(
        "the only virtual server of an address that no object knows",
        "without it nothing says that the node has the address (KPR 11.2, T-20)",
        "lone node port",
        ("removed", "address altered"),
    ),
    Harmless(
        "a real server that drains and is not wanted",
        "kube-proxy leaves it with weight 0 until its connections have ended (KPR 11.4)",
        "real server",
        ("one more that drains",),
    ),
    Harmless(
        "a node port at one address more",
        "node ports answer at all addresses of the node, of which the objects know some (KPR 11.2, T-20)",
        ".*virtual server|lone node port",
        ("one more",),
        r":3\d{4} -s",
    ),
    Harmless(
        "a node port of SCTP at one address more",
        "its set has an entry for each address of the node, of which the objects know some (KPR 11.2)",
        "KUBE-(6-)?NODE-PORT-(LOCAL-)?SCTP-HAS.*",
        ("one more",),
    ),
    Harmless(
        "node ports at loopback",
        "kube-proxy up to 1.21 binds them there, but the kernel does not route what loopback sends (KPR 16)",
        ".*virtual server|real server|lone node port",
        (
            "removed",
            "address altered",
            "port altered",
            "one more",
            "persistence added",
            "persistence removed",
            "persistence altered",
            "persistence mask",
            "weight 0",
            "weight doubled",
            "routed",
        ),
        r"-[Aa] \S+ (127\.|\[::1\])",
    ),
    Harmless(
        "node ports of SCTP at loopback",
        "likewise",
        "KUBE-(6-)?NODE-PORT-(LOCAL-)?SCTP-HAS.*",
        _ALL,
        r"127\.|::1,",
    ),
)


# --- auditing --------------------------------------------------------------------------------------------------------------------------


class Node:
    """A node whose dumps are changed and audited; its objects are loaded once."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        self.name = name
        self.cluster: Cluster | None = None
        used = (InputKind.IPTABLES_SAVE, InputKind.OBJECTS, InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)
        self.dumps = [one for one in sources if one.kind in (InputKind.IPVSADM, InputKind.IPSET, InputKind.IP_ADDR)]
        self.rest = [one for one in sources if one.kind in used]
        self.healthy = self.findings(None, "")
        assert not any(severity is Severity.ERROR for _code, severity in self.healthy.values()), name

    @classmethod
    def read(cls, folder: Path) -> Node:
        """A captured node: its virtual servers are those of `ipvsadm -Sn`."""
        left_out = ("-c.txt", "ipvsadm.txt", "-stats.txt", "ip-rule-local.txt")
        return cls(folder.name, [one for one in read([str(folder)]) if not one.path.endswith(left_out)])

    def findings(self, changed_dump: Source | None, text: str) -> dict[tuple[str, str], tuple[str, Severity]]:
        """(fingerprint, message) -> (code, severity) of an audit with another text of one dump."""
        dumps = [Source(one.path, one.kind, text if one is changed_dump else one.text, b"", True) for one in self.dumps]
        with patch.object(audits, "load", self.loaded):
            report = audit_inputs([*dumps, *self.rest])
        return {(one.fingerprint, one.message): (one.code, one.severity) for one in report.findings}

    def loaded(self, parts: Sequence[tuple[str, bytes]], limit_factor: int = 1) -> Cluster:
        """The node's objects, which stay the same however often it is audited."""
        if self.cluster is None:
            self.cluster = load(parts, limit_factor=limit_factor)
        return self.cluster

    def shown(self, dump: Source, change: Change) -> tuple[str, ...]:
        """The codes of the errors and warnings that a change brings."""
        found = self.findings(dump, changed(dump, change))
        return tuple(
            sorted({code for key, (code, severity) in found.items() if key not in self.healthy and severity is not Severity.INFO})
        )

    def changes(self, sample: int) -> Iterator[tuple[Source, Change]]:
        """Every change; of each kind (of what, and what is done) no more than `sample`, spread over the dump (0: all)."""
        for dump in self.dumps:
            every = list(changes(dump))
            if not sample:
                yield from ((dump, one) for one in every)
                continue
            counts = Counter((one.what, one.kind, ":" in one.line and "[" in one.line) for one in every)
            seen: Counter[tuple[str, str, bool]] = Counter()
            for one in every:
                kind = (one.what, one.kind, ":" in one.line and "[" in one.line)
                step = max(1, counts[kind] // sample)
                if seen[kind] % step == step // 2:
                    yield dump, one
                seen[kind] += 1


def _part(folder: Path, part: int, parts: int, sample: int) -> list[Result]:
    node = Node.read(folder)
    return examine(node, [one for number, one in enumerate(node.changes(sample)) if number % parts == part])


def examine(node: Node, tried: Iterable[tuple[Source, Change]]) -> list[Result]:
    """Audit these changes of a node."""
    results = []
    for dump, change in tried:
        shown = node.shown(dump, change)
        harmless = None if shown else next((one.name for one in HARMLESS if one.holds(change)), None)
        results.append(Result(node.name, change, shown, harmless))
    return results


def main() -> int:
    """The command; 0 when nothing slipped through, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, default=0, help="only so many changes of each kind (0: all)")
    given = parser.parse_args()
    work = [(folder, part, given.jobs, given.sample) for folder in given.folders for part in range(given.jobs)]
    with ProcessPoolExecutor(given.jobs) as pool:
        results = [one for group in pool.map(_part, *zip(*work, strict=True)) for one in group]
    slipped = [one for one in results if not one.shown and one.harmless is None]
    for (what, kind), number in Counter((one.change.what, one.change.kind) for one in slipped).most_common():
        first = next(one for one in slipped if (one.change.what, one.change.kind) == (what, kind))
        print(f"{number:5}  {what} {kind}: {first.change.line}  [{first.node}]")
    counted = Counter(one.harmless for one in results if one.harmless)
    shown = sum(1 for one in results if one.shown)
    print(f"{len(results)} changes: {shown} shown, {sum(counted.values())} harmless, {len(slipped)} slipped through")
    for name, number in counted.most_common():
        print(f"{number:6}  {name}")
    return 1 if slipped else 0


if __name__ == "__main__":
    sys.exit(main())

"""Does every damage to kube-proxy's rules show? Damages a healthy node rule by rule and audits it again each time.

    python tests/metamorphic.py [--jobs N] [--sample N] FOLDER...

Each rule of kube-proxy's own chains, and each jump into them, is removed, altered in each of its parts, narrowed, widened and moved.
Each change must give a finding that the healthy node does not give, or belong to one of `HARMLESS`: the classes of changes that decide
nothing, each with its reason. What is left has slipped through; it is listed, and the exit status is 1. So is a change of which an audit
that shares no answers among destinations finds anything else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import ruleaudit.audit.inputs as audits
from ruleaudit.audit import audit_inputs
from ruleaudit.cluster import Cluster, load
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.findings import Severity
from ruleaudit.formats.iptables_save import parse
from ruleaudit.signs import is_kube_proxy_chain
from ruleaudit.sources import InputKind, Source, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ruleaudit.dataplane.packet import Packet

__all__ = ["HARMLESS", "Change", "Result", "Rule", "changes", "examine", "main"]

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_SERVICE = re.compile(r"KUBE-(SVC|SVL|EXT|FW|SEP|XLB)-")
_SHOWS = (Severity.ERROR, Severity.WARNING)
# Information that is a sign of the change, too: a duplicate, a chain that nothing jumps to any more (docs/findings.md).
_SHOWING_INFO = frozenset({"RA209", "RA307"})


@dataclass(frozen=True)
class Rule:
    """One rule line of a dump, cut into words. `line` is 1-based; `table` its table."""

    line: int
    table: str
    words: tuple[str, ...]

    @property
    def chain(self) -> str:
        """The chain it stands in."""
        return self.words[1]

    @property
    def text(self) -> str:
        """The rule as the dump prints it, with single blanks."""
        return " ".join(self.words)

    @property
    def target(self) -> str:
        """What it jumps to, "" for a rule that only counts."""
        return self.value("-j") or self.value("-g") or ""

    def value(self, flag: str) -> str | None:
        """The word that follows a flag, None without that flag."""
        return self.words[self.words.index(flag) + 1] if flag in self.words[:-1] else None

    def negated(self, flag: str) -> bool:
        """Whether `!` stands before the flag."""
        return flag in self.words and self.words[self.words.index(flag) - 1] == "!"

    @property
    def essence(self) -> tuple[str, ...]:
        """Its words without its comment: rules of one essence do the same."""
        return _without_match(self.words, "comment") if "comment" in self.words else self.words


@dataclass(frozen=True)
class Change:
    """One change of one rule: `kind` says which, `words` is the rule afterwards, None where it is gone.

    `to_chain`: where it moves to; `passed`: the rules of its chain that it moves past; `others`: all other rules of its chain.
    """

    rule: Rule
    kind: str
    words: tuple[str, ...] | None
    to_chain: str | None = None
    passed: tuple[Rule, ...] = ()
    others: tuple[Rule, ...] = ()


class Result(NamedTuple):
    """What became of one change: `shown` by findings (their codes), or `harmless` (the class), or neither; and `unlike`, the codes of the
    findings that an audit without shared answers (S13) gives and this one does not, or the reverse.
    """

    node: str
    change: Change
    shown: tuple[str, ...]
    harmless: str | None
    unlike: tuple[str, ...]


# --- changing --------------------------------------------------------------------------------------------------------------------------


def _other_address(text: str) -> str:
    address, slash, length = text.partition("/")
    if ":" in address:
        return "fd99:9:9::9" + slash + length if slash else "fd99:9:9::9"
    first, _, rest = address.partition(".")
    return f"{(int(first) + 1) % 224 or 1}.{rest}{slash}{length}"


def _narrower(text: str) -> str:
    address, _, length = text.partition("/")
    return f"{address}/{int(length) + 2}"


def _other_destination(text: str) -> str:
    host, _, port = text.rpartition(":")
    inner = host.strip("[]")
    return (f"[{_other_address(inner)}]" if host.startswith("[") else _other_address(inner)) + ":" + port


def _other_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    return f"{host}:{int(port) + 1}" if host else str(int(port) + 1)


def _other_mark(text: str) -> str:
    value, slash, mask = text.partition("/")
    return f"{int(value, 16) << 1:#x}{slash}{int(mask or value, 16) << 1:#x}" if slash else f"{int(value, 16) << 1:#x}"


def _other_mask(text: str) -> str:
    value, _, mask = text.partition("/")
    return f"{value}/{'0x0' if mask != '0x0' else value}"


_SHORTER_MASK = {"255.255.255.255": "255.255.255.0"}

# flag -> ways to alter its value
_ALTERED: dict[str, tuple[tuple[str, Callable[[str], str | None]], ...]] = {
    "-s": (("altered", _other_address), ("narrowed", lambda t: _narrower(t) if not t.endswith(("/32", "/128")) else None)),
    "-d": (("altered", _other_address), ("widened", lambda t: t.rpartition("/")[0].rpartition(".")[0] + ".0/24" if t.endswith("/32") else None)),
    "-i": (("altered", lambda _t: "other0"),),
    "--dport": (("altered", _other_port),),
    "--to-destination": (("address altered", _other_destination), ("port altered", _other_port)),
    "--mark": (("altered", _other_mark), ("mask altered", _other_mask)),
    "--set-xmark": (("altered", _other_mark), ("mask altered", _other_mask)),
    "--probability": (("altered", lambda t: f"{float(t) / 2:.11f}"), ("made certain", lambda _t: "1.00000000000")),
    "--ctstate": (("altered", lambda t: "ESTABLISHED" if t == "NEW" else "NEW"), ("narrowed", lambda t: t.partition(",")[0] if "," in t else None)),
    "--dst-type": (("altered", lambda _t: "UNICAST"),),
    "--src-type": (("altered", lambda _t: "UNICAST"),),
    "--seconds": (("altered", lambda t: str(int(t) + 60)),),
    "--name": (("altered", lambda t: t[:-1] + ("A" if t[-1] != "A" else "B")),),
    "--mask": (("altered", lambda t: _SHORTER_MASK.get(t, "ffff:ffff:ffff:ffff::")),),
    "--reject-with": (("altered", lambda t: "icmp6-adm-prohibited" if t.startswith("icmp6") else "icmp-host-prohibited"),),
}  # fmt: skip
_VERDICTS = {
    "ACCEPT": ("DROP", "RETURN"),
    "DROP": ("ACCEPT", "RETURN"),
    "REJECT": ("ACCEPT", "DROP"),
    "RETURN": ("ACCEPT",),
    "MASQUERADE": ("ACCEPT", "RETURN"),
    "DNAT": ("ACCEPT", "RETURN"),
    "MARK": ("ACCEPT", "RETURN"),
}
_NEGATABLE = ("-s", "-d", "-i", "-p", "--dport", "--mark", "--ctstate", "--dst-type", "--src-type")
# Flags whose removal leaves a valid rule, with the match that goes with the last of them.
_DROPPABLE = ("-s", "-d", "-i", "--dport", "--reap")
_MATCHES = ("statistic", "recent", "conntrack", "addrtype", "mark", "nfacct", "physdev")
_NARROWING = ("-s", "-p", "-i")


def _with_value(words: Sequence[str], flag: str, value: str) -> tuple[str, ...]:
    at = words.index(flag) + 1
    return (*words[:at], value, *words[at + 1 :])


def _without(words: Sequence[str], flag: str, values: int = 1) -> tuple[str, ...]:
    at = words.index(flag)
    start = at - 1 if words[at - 1] == "!" else at
    return (*words[:start], *words[at + 1 + values :])


def _without_match(words: Sequence[str], module: str) -> tuple[str, ...]:
    start = next(at for at, word in enumerate(words) if word == "-m" and words[at + 1] == module)
    end = next((at for at in range(start + 2, len(words)) if words[at] in ("-m", "-j", "-g")), len(words))
    return (*words[:start], *words[end:])


def _inserted(words: Sequence[str], extra: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    at = next((at for at, word in enumerate(words) if word in before), len(words))
    if words[at - 1] == "!":
        at -= 1
    return (*words[:at], *extra, *words[at:])


def _of_prefix(name: str) -> str:
    found = _SERVICE.match(name)
    return found.group(0) if found else name


def _sibling(name: str, chains: Sequence[str]) -> str | None:
    """Another chain of the same kind, the next by name; for a chain that is one of its kind, another of kube-proxy's."""
    kind = _of_prefix(name)
    same = [one for one in chains if _of_prefix(one) == kind]
    if len(same) > 1:
        return same[(same.index(name) + 1) % len(same)] if name in same else same[0]
    return next((one for one in chains if one != name and one.startswith("KUBE-") and "CANARY" not in one), None)


def _jump_sibling(rule: Rule, chains: Sequence[str]) -> str | None:
    return _sibling(rule.target, chains) if rule.target in chains else None


def changes(rule: Rule, chain: Sequence[Rule], chains: Sequence[str], family: int) -> Iterator[Change]:
    """Every change of one rule. `chain`: the rules of its chain, in order; `chains`: the chains that its table declares."""
    others = tuple(one for one in chain if one is not rule)
    return (replace(one, others=others) for one in _changes(rule, chain, chains, family))


def _changes(rule: Rule, chain: Sequence[Rule], chains: Sequence[str], family: int) -> Iterator[Change]:
    words = rule.words
    place = chain.index(rule)
    yield Change(rule, "removed", None)
    if place > 0:
        yield Change(rule, "moved to the start", words, passed=tuple(chain[:place]))
    if place < len(chain) - 1:
        yield Change(rule, "moved to the end", words, passed=tuple(chain[place + 1 :]))
    other = _sibling(rule.chain, chains) if is_kube_proxy_chain(rule.chain) else next(one for one in chains if one != rule.chain)
    if other is not None:
        yield Change(rule, "moved to another chain", ("-A", other, *words[2:]), to_chain=other)
    for flag, ways in _ALTERED.items():
        value = rule.value(flag)
        if value is None:
            continue
        for how, way in ways:
            altered = way(value)
            if altered is not None and altered != value:
                yield Change(rule, f"{flag} {how}", _with_value(words, flag, altered))
    protocol = rule.value("-p")
    if protocol is not None:
        new = "udp" if protocol == "tcp" else "tcp"
        at = words.index("-p") + 1
        altered_words = [
            new if word == protocol and (number == at or words[number - 1] == "-m") else word for number, word in enumerate(words)
        ]
        yield Change(rule, "-p altered", tuple(altered_words))
    for flag in _NEGATABLE:
        if flag in words:
            at = words.index(flag)
            if rule.negated(flag):
                yield Change(rule, f"{flag} no longer negated", (*words[: at - 1], *words[at:]))
            else:
                yield Change(rule, f"{flag} negated", (*words[:at], "!", *words[at:]))
    for flag in _DROPPABLE:
        if flag in words:
            yield Change(rule, f"{flag} dropped", _without(words, flag, 0 if flag == "--reap" else 1))
    for module in _MATCHES:
        if any(word == "-m" and words[at + 1] == module for at, word in enumerate(words[:-1])):
            yield Change(rule, f"-m {module} dropped", _without_match(words, module))
    if "--rcheck" in words:
        yield Change(rule, "--rcheck made --update", tuple("--update" if word == "--rcheck" else word for word in words))
    if "--rsource" in words:
        yield Change(rule, "--rsource made --rdest", tuple("--rdest" if word == "--rsource" else word for word in words))
    if "-s" not in words:
        some = "192.0.2.0/24" if family == 4 else "2001:db8:7::/64"
        yield Change(rule, "narrowed by -s", _inserted(words, ("-s", some), ("-d", "-i", "-p", "-m", "-j")))
    if "-i" not in words and rule.chain not in ("OUTPUT", "POSTROUTING", "KUBE-POSTROUTING"):
        yield Change(rule, "narrowed by -i", _inserted(words, ("-i", "other0"), ("-p", "-m", "-j")))
    if "-p" not in words:
        yield Change(rule, "narrowed by -p", _inserted(words, ("-p", "icmp"), ("-m", "-j")))
    if rule.target:
        at = words.index("-j" if "-j" in words else "-g") + 1
        if rule.target in chains:
            sibling = _jump_sibling(rule, chains)
            if sibling is not None:
                yield Change(rule, "target chain altered", (*words[:at], sibling, *words[at + 1 :]))
            yield Change(rule, "target made ACCEPT", (*words[:at], "ACCEPT"))
            yield Change(rule, "target made RETURN", (*words[:at], "RETURN"))
            yield Change(rule, "jump made goto", (*words[: at - 1], "-g", *words[at:]))
        else:
            for verdict in _VERDICTS.get(rule.target, ()):
                yield Change(rule, f"target made {verdict}", (*words[:at], verdict))
        yield Change(rule, "target dropped", words[: at - 1])


# --- what decides nothing --------------------------------------------------------------------------------------------------------------


class Harmless(NamedTuple):
    """A class of changes that decide nothing: its name, its reason, and how to tell."""

    name: str
    reason: str
    holds: Callable[[Change], bool]


_MOVES = frozenset({"moved to the start", "moved to the end"})


def _apart(one: Rule, other: Rule) -> bool:
    """Whether no packet is of both rules: they ask for different protocols, ports, addresses."""
    for flag in ("-p", "--dport", "-d", "-s", "--ctstate", "--mark"):
        first, second = one.value(flag), other.value(flag)
        if first is None or second is None or one.negated(flag) or other.negated(flag):
            continue
        if flag in ("-d", "-s"):
            if not ip_network(first).overlaps(ip_network(second)):
                return True
        elif first != second and flag != "--mark":
            return True
    return False


def _exchangeable(one: Rule, other: Rule) -> bool:
    """Whether two neighbours may change places: no packet is of both, one only counts, or both do the same with what they choose."""
    if _apart(one, other) or not one.target or not other.target:
        return True
    if "--rcheck" in one.words and "--rcheck" in other.words:
        return True  # a client is remembered for one endpoint
    if _marks_localhost(one) or _marks_localhost(other):
        return True
    if "--probability" in one.words or "--probability" in other.words:
        return False
    return one.target == other.target


def _built_in(rule: Rule) -> bool:
    return not rule.chain.startswith("KUBE-")


def _counts(rule: Rule) -> bool:
    return "--nfacct-name" in rule.words and rule.value("-d") is not None


def _marks_localhost(rule: Rule) -> bool:
    return rule.chain == "KUBE-NODEPORTS" and rule.target == "KUBE-MARK-MASQ" and rule.value("-s") in ("127.0.0.0/8", "::1/128")


def _serves_alike(change: Change) -> bool:
    """Whether a counting rule for localhost is altered only so that it asks for nothing any more, or for what its neighbour serves."""
    return _counts(change.rule) and change.kind in ("removed", "-d dropped", "target dropped")


HARMLESS: tuple[Harmless, ...] = (
    Harmless(
        "the order of jumps from built-in chains",
        "each inserts itself at the front whenever it is missing, so their order is free; which packets they take is the same (KPR 4.2.1)",
        lambda change: change.kind in _MOVES and _built_in(change.rule),
    ),
    Harmless(
        "exchanged with rules that ask for other packets, or do the same",
        "kube-proxy writes services in random order; what no packet meets twice has no order (KPR 5.1, 18 T-2)",
        lambda change: change.kind in _MOVES and all(_exchangeable(change.rule, other) for other in change.passed),
    ),
    Harmless(
        "a hook that asks established connections, too",
        "those were translated when they were new, so they carry no service's address in the filter table; older releases ask them as well",
        lambda change: change.kind == "-m conntrack dropped" and _built_in(change.rule),
    ),
    Harmless(
        "a rule without a target",
        "it only counts: kube-proxy uses it as a comment (KPR 5.6)",
        lambda change: not change.rule.target,
    ),
    Harmless(
        "counting packets",
        "nfacct is there where the kernel has the counter, and chooses nothing (KPR 18 T-19)",
        lambda change: change.kind == "-m nfacct dropped",
    ),
    Harmless(
        "the counting twin of a node port",
        "the general rule behind it serves the same packets; the twin is absent where the counter is (KPR 5.1, 18 T-19)",
        _serves_alike,
    ),
    Harmless(
        "one of two rules that say the same",
        "up to 1.22 kube-proxy writes the conntrack rule of KUBE-FORWARD twice with two comments (KPR 4.6)",
        lambda change: change.kind == "removed" and any(one.essence == change.rule.essence for one in change.others),
    ),
    Harmless(
        "masquerade of localhost at node ports of traffic policy Local",
        "up to 1.23 the KUBE-XLB chain that follows marks what comes from the node itself once more (KPR 6.2)",
        lambda change: change.kind == "removed" and _marks_localhost(change.rule),
    ),
    Harmless(
        "the drop of INVALID packets, from 1.29 on",
        "absent where nf_conntrack_tcp_be_liberal was set when kube-proxy started (KPR 4.6); recognised by its nfacct counter or the release",
        lambda change: (
            change.kind == "removed" and change.rule.chain == "KUBE-FORWARD" and change.rule.value("--ctstate") == "INVALID"
        ),
    ),
)


# --- auditing --------------------------------------------------------------------------------------------------------------------------


class Node:
    """A captured node whose dumps are changed and audited one family at a time; its objects are loaded once."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.cluster: Cluster | None = None
        sources = [one for one in read([str(folder)]) if not one.path.endswith("-c.txt")]
        self.dumps = [one for one in sources if one.kind is InputKind.IPTABLES_SAVE]
        self.rest = [one for one in sources if one.kind in (InputKind.OBJECTS, InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)]
        self.families = [6 if any(table.family == 6 for table in parse(one.text, one.path).tables) else 4 for one in self.dumps]
        self.healthy = [self.findings(dump, dump.text) for dump in self.dumps]

    def findings(self, dump: Source, text: str) -> dict[tuple[str, str], tuple[str, Severity]]:
        """(fingerprint, message) -> (code, severity) of an audit of one family's dump with this text."""
        with patch.object(audits, "load", self.loaded):
            report = audit_inputs([Source(dump.path, dump.kind, text, b"", True), *self.rest])
        return {(one.fingerprint, one.message): (one.code, one.severity) for one in report.findings}

    def loaded(self, parts: Sequence[tuple[str, bytes]], *, limit_factor: int = 1) -> Cluster:
        """The node's objects, which stay the same however often it is audited."""
        if self.cluster is None:
            self.cluster = load(parts, limit_factor=limit_factor)
        return self.cluster

    def examine(self, number: int, change: Change, lines: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The codes of the findings that a change of dump `number` brings, and `Result.unlike`; `lines` are the dump's."""
        text = "\n".join(changed(change, lines)) + "\n"
        found = self.findings(self.dumps[number], text)
        new = [value for key, value in found.items() if key not in self.healthy[number]]
        with patch.object(Evaluator, "place", _no_place), patch.object(Evaluator, "bundled_for_all", _nothing_for_all):
            in_full = self.findings(self.dumps[number], text)
        unlike = {(found.get(key) or in_full[key])[0] for key in found.keys() ^ in_full.keys()}
        return tuple(sorted({code for code, severity in new if severity in _SHOWS or code in _SHOWING_INFO})), tuple(
            sorted(unlike)
        )


def _no_place(_self: Evaluator, _client: Packet, _destination: str, _port: int) -> None:
    """For `Evaluator.place`: whatever is asked, is asked in full."""


def _nothing_for_all(_self: Evaluator, _clients: tuple[Packet, ...], _destination: str, _port: int, _mark: int) -> None:
    """For `Evaluator.bundled_for_all`: every client is asked for itself."""


def changed(change: Change, lines: Sequence[str]) -> list[str]:
    """The lines of a dump after a change of one of its rules."""
    at = change.rule.line - 1
    if change.words is None:
        return [*lines[:at], *lines[at + 1 :]]
    text = " ".join(change.words)
    if change.kind in ("moved to the start", "moved to the end", "moved to another chain"):
        left = [*lines[:at], *lines[at + 1 :]]
        if change.kind == "moved to another chain":
            # Behind the rules of that chain; before the COMMIT of the same table where it has none.
            start = max((number for number in range(at) if lines[number].startswith("*")), default=0)
            end = next(number for number in range(at, len(left)) if left[number] == "COMMIT")
            where = (
                max(
                    (number for number in range(start, end) if left[number].startswith(f"-A {change.to_chain} ")), default=end - 1
                )
                + 1
            )
        else:
            numbers = [one.line - 1 for one in change.passed]
            where = numbers[0] if change.kind == "moved to the start" else numbers[-1]
        return [*left[:where], text, *left[where:]]
    return [*lines[:at], text, *lines[at + 1 :]]


def rules_of(text: str) -> tuple[list[Rule], dict[str, list[str]]]:
    """Every rule of a dump, and the chains that each table declares, built-in ones first as printed."""
    rules, chains, table = [], defaultdict[str, list[str]](list), ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains[table].append(line[1:].split(" ", 1)[0])
        elif line.startswith("-A "):
            rules.append(Rule(number, table, tuple(_TOKEN.findall(line))))
    return rules, dict(chains)


def _all_changes(text: str, family: int) -> Iterator[Change]:
    rules, chains = rules_of(text)
    by_chain: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        by_chain[rule.table, rule.chain].append(rule)
    for rule in rules:
        if is_kube_proxy_chain(rule.chain) or is_kube_proxy_chain(rule.target):
            yield from changes(rule, by_chain[rule.table, rule.chain], chains[rule.table], family)


def kind_of(change: Change) -> tuple[str, ...]:
    """What changes are alike: the same change of rules of the same form in chains of the same kind."""
    rule = change.rule
    form = [
        _of_prefix(word) if word.startswith("KUBE-") else word
        for word in rule.words
        if word.startswith(("-", "!", "KUBE-")) or word.isupper()
    ]
    place = "last" if not change.passed else ""
    return (change.kind, rule.table, _of_prefix(rule.chain), " ".join(form), rule.value("-p") or "", place)


def _slice(folder: Path, part: int, parts: int, sample: int) -> list[Result]:
    node = Node(folder)
    results = []
    chosen = 0
    for number, dump in enumerate(node.dumps):
        lines = dump.text.rstrip("\n").split("\n")
        family = node.families[number]
        seen: Counter[tuple[str, ...]] = Counter()
        for change in _all_changes(dump.text, family):
            kind = kind_of(change)
            seen[kind] += 1
            if sample and seen[kind] > sample:
                continue
            chosen += 1
            if chosen % parts != part:
                continue
            shown, unlike = node.examine(number, change, lines)
            harmless = None if shown else next((one.name for one in HARMLESS if one.holds(change)), None)
            results.append(Result(f"{node.name} IPv{family}", change, shown, harmless, unlike))
    return results


def examine(folders: Iterable[Path], *, jobs: int = 1, sample: int = 0, every: int = 1, first: int = 0) -> list[Result]:
    """Audit changes of the nodes in these folders: all of them, or of each kind as many as `sample` says, and of those each `every`-th
    from `first` on, in `jobs` processes.
    """
    work = [(folder, part, every * jobs) for folder in folders for part in range(first, every * jobs, every)]
    if jobs == 1:
        return [result for one in work for result in _slice(*one, sample)]
    with ProcessPoolExecutor(jobs) as pool:
        groups = pool.map(_slice_of, work, [sample] * len(work))
        return [result for group in groups for result in group]


def _slice_of(work: tuple[Path, int, int], sample: int) -> list[Result]:
    return _slice(*work, sample)


def main() -> int:
    """The command; 0 when nothing slipped through and no shared answer was wrong, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, default=0, help="only so many changes of each kind (0: all)")
    given = parser.parse_args()
    results = examine(given.folders, jobs=given.jobs, sample=given.sample)
    slipped = [one for one in results if not one.shown and one.harmless is None]
    unlike = [one for one in results if one.unlike]
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for one in slipped:
        groups[kind_of(one.change)[:4]].append(one)
    for kind, group in sorted(groups.items(), key=lambda item: (item[0][1:], item[0][0])):
        first = group[0]
        print(f"{len(group):5}  {kind[0]}: {first.change.rule.table} {first.change.rule.text}  [{first.node}]")
    for one in unlike:
        print(f"unlike without shared answers ({', '.join(one.unlike)}): {one.change.kind}: {one.change.rule.text}  [{one.node}]")
    shown = sum(1 for one in results if one.shown)
    counted = Counter(one.harmless for one in results if one.harmless)
    print(f"{len(results)} changes: {shown} shown, {sum(counted.values())} harmless, {len(slipped)} slipped through")
    print(f"{len(unlike)} of which an audit without shared answers finds anything else")
    for name, number in counted.most_common():
        print(f"{number:6}  {name}")
    return 1 if slipped or unlike else 0


if __name__ == "__main__":
    sys.exit(main())

"""Nodes that differ in little: what is kept of the first one's dumps serves only what is the same, so each report is that of an audit alone."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.audit import audit_inputs
from ruleaudit.audit.nodes import audit_nodes
from ruleaudit.formats import ipvsadm
from ruleaudit.formats.iptables_save import parse
from ruleaudit.formats.known_texts import KnownChains, KnownServers
from ruleaudit.sources import Captures, gather, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ruleaudit.dumps.rules import Dump
    from ruleaudit.dumps.virtual_servers import IpvsDump, VirtualServer
    from ruleaudit.findings import Report

ROOT = Path(__file__).resolve().parents[1]
DUMPS = {
    "iptables": ("iptables-save.txt",),
    "ipvs": ("ipvsadm-save.txt", "ipset.txt", "ip-addr-kube-ipvs0.json", "iptables-save.txt"),
}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes, a and b, of a cluster in each mode, with its objects."""
    folder = tmp_path_factory.mktemp("clusters")
    for mode in DUMPS:
        for which, name in enumerate("ab"):
            words = ["--services", "34", "--endpoints", "5", "--nodes", "12", "--which", str(which), "--mode", mode]
            made = folder / mode / name
            subprocess.run([sys.executable, ROOT / "benchmarks" / "node.py", *words, made], check=True, timeout=60)
            (made / "objects.json").rename(folder / mode / "objects.json")
    return folder


def alone(node: Path, objects: Path) -> Report:
    return audit_inputs([*read([str(objects)]), *read([str(node)])])


# --- ways in which a dump may differ ---


def in_lines(change: Callable[[list[str]], object]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        lines = text.split("\n")
        change(lines)
        return "\n".join(lines)

    return changed


def first(lines: Sequence[str], *words: str) -> int:
    return next(at for at, line in enumerate(lines) if all(word in line for word in words))


def swapped(*words: str) -> Callable[[str], str]:
    """The first two neighbouring rules of a chain that hold these words, the other way round."""

    def change(lines: list[str]) -> None:
        at = next(
            at
            for at, line in enumerate(lines)
            if all(word in line for word in words) and lines[at + 1].split()[:2] == line.split()[:2]
        )
        lines[at : at + 2] = lines[at + 1], lines[at]

    return in_lines(change)


def without(*words: str) -> Callable[[str], str]:
    return in_lines(lambda lines: lines.pop(first(lines, *words)))


def twice(*words: str) -> Callable[[str], str]:
    return in_lines(lambda lines: lines.insert(at := first(lines, *words), lines[at]))


def apart(*words: str) -> Callable[[str], str]:
    """The last rule of a chain behind the rules of the next one."""

    def change(lines: list[str]) -> None:
        at = next(
            at
            for at, line in enumerate(lines)
            if all(word in line for word in words) and lines[at + 1].split()[:2] != line.split()[:2]
        )
        lines[at : at + 2] = lines[at + 1], lines[at]

    return in_lines(change)


def instead(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return changed


def with_line(line: str, *before: str) -> Callable[[str], str]:
    return in_lines(lambda lines: lines.insert(first(lines, *before), line))


def in_other_order(text: str) -> str:
    """Chains and declarations of each table the other way round, as nf_tables may list them; rules of a chain in their order."""
    found: list[str] = []
    declared: list[str] = []
    rules: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if line.startswith(":"):
            declared.insert(0, line)
        elif line.startswith("-A "):
            rules.setdefault(line.split()[1], []).append(line)
        else:
            if line == "COMMIT":
                found += [*declared, *(one for chain in reversed(rules.values()) for one in chain)]
                declared, rules = [], {}
            found.append(line)
    return "\n".join(found)


def rules_of(text: str, chain: str) -> list[str]:
    """The rules of the first chain whose name begins so."""
    lines = text.split("\n")
    name = lines[first(lines, f"-A {chain}")].split()[1]
    return [line for line in lines if line.startswith(f"-A {name} ")]


def rules_again(chain: str, *before: str, count: int | None = None) -> Callable[[str], str]:
    """The rules of a chain, all or the first `count`, once more before another line."""

    def changed(text: str) -> str:
        lines = text.split("\n")
        at = first(lines, *before)
        lines[at:at] = rules_of(text, chain)[:count]
        return "\n".join(lines)

    return changed


def with_counters(text: str) -> str:
    return "\n".join(f"[{at}:{7 * at}] {line}" if line.startswith("-A ") else line for at, line in enumerate(text.split("\n")))


QUOTED = '-A KUBE-FORWARD -m comment --comment "one\n-A KUBE-FORWARD -j DROP\n:KUBE-FORWARD - [0:0]\nend" -j RETURN'

IPTABLES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "other order": in_other_order,
    "counters": with_counters,
    "line ends of another system": lambda text: text.replace("\n", "\r\n"),
    "a tab": instead(" -j KUBE-MARK-MASQ\n", "\t-j KUBE-MARK-MASQ\n"),
    "no line end": lambda text: text.rstrip("\n"),
    "cut within a rule": lambda text: text[: len(text) // 2],
    "cut at a line": lambda text: text[: text.index("\n", len(text) // 2) + 1],
    "without COMMIT": without("COMMIT"),
    "another share": instead("--probability 0.2", "--probability 0.3"),
    "another endpoint": instead("--to-destination 10.", "--to-destination 11."),
    "another mark": instead("--set-xmark 0x4000/0x4000", "--set-xmark 0x8000/0x8000"),
    "another comment": instead("cluster IP", "cluster ip"),
    "another source": instead("-A KUBE-SEP-", "-A KUBE-SEP-0"),
    "not translated": instead("-j DNAT", "-j ACCEPT #"),
    "a rule that cannot be read": with_line("-A KUBE-SERVICES --no such", "-A KUBE-SERVICES"),
    "a port that is none": instead("--dport 80 ", "--dport 80000 "),
    "a comment of several lines": with_line(QUOTED, "-A KUBE-FORWARD"),
    "an open quote": with_line('-A KUBE-FORWARD -m comment --comment "one', "-A KUBE-FORWARD"),
    "a rule outside": with_line("-A KUBE-SERVICES -j RETURN", "*filter"),
    "an undeclared chain": without(":KUBE-SVC-"),
    "an endpoint's undeclared chain": without(":KUBE-SEP-"),
    "a chain declared twice": twice(":KUBE-SVC-"),
    "a lost hook": without("-A PREROUTING", "KUBE-SERVICES"),
    "no masquerade": without("-A KUBE-POSTROUTING", "MASQUERADE"),
    **{
        f"rules of {chain} again, {where}": rules_again(chain, *before, count=count)
        for chain in ("KUBE-SVC-", "KUBE-SEP-")
        for where, before, count in (
            ("behind", ("-A KUBE-SERVICES",), None),
            ("before", ("-A POSTROUTING",), None),
            ("one before", ("-A POSTROUTING",), 1),
        )
    },
    "a foreign rule before": with_line("-A PREROUTING -p tcp -m tcp --dport 80 -j ACCEPT", "-A PREROUTING"),
    "a foreign refusal": with_line("-A FORWARD -d 10.128.0.0/9 -j DROP", "-A FORWARD"),
    "an address that is told apart": with_line("-A FORWARD -d 10.128.1.7/32 -j DROP", "-A FORWARD"),
    "an emptied chain": in_lines(
        lambda lines: lines.__setitem__(slice(None), [one for one in lines if not one.startswith("-A KUBE-SERVICES")])
    ),
    **{
        f"{how.__name__} {' '.join(words)}": how(*words)
        for how in (without, twice, apart)
        for words in (
            ("-A KUBE-SVC-",),
            ("-A KUBE-SVC-", "-j KUBE-SEP-"),
            ("-A KUBE-SVC-", "--rcheck"),
            ("-A KUBE-SVL-",),
            ("-A KUBE-EXT-",),
            ("-A KUBE-SEP-", "-j KUBE-MARK-MASQ"),
            ("-A KUBE-SEP-", "-j DNAT"),
            ("-A KUBE-SEP-", "--set"),
            ("-A KUBE-SERVICES", "cluster IP"),
            ("-A KUBE-SERVICES", "loadbalancer IP"),
            ("-A KUBE-NODEPORTS",),
            ("-A KUBE-MARK-MASQ",),
        )
        if not (
            how is apart
            and ("cluster" in words[-1] or "--rcheck" in words or words[-1] in {"loadbalancer IP", "-j KUBE-MARK-MASQ"})
        )
    },
    "swapped shares": swapped("-A KUBE-SVC-", "--probability"),
    "swapped leaf": swapped("-A KUBE-SEP-"),
    "swapped EXT": swapped("-A KUBE-EXT-"),
    "swapped dispatch": swapped("-A KUBE-SERVICES", "cluster IP"),
}


def at_random(text: str, seed: int) -> str:
    """One line gone, doubled, moved, or with another digit; of JSON another digit."""
    chosen = random.Random(seed)
    lines = text.split("\n")
    json = text.startswith(("[", "{"))
    at = chosen.choice([at for at, line in enumerate(lines) if line[:1] in ("-", ":", "a", "[", "{")])
    match 3 if json else chosen.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            other = chosen.randrange(len(lines) - 1)
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            digits = [place for place, one in enumerate(lines[at]) if one.isdigit()]
            if digits:
                place = chosen.choice(digits)
                lines[at] = lines[at][:place] + str(chosen.randrange(10)) + lines[at][place + 1 :]
    return "\n".join(lines)


def cases(texts: dict[str, Callable[[str], str]], random_ones: int) -> Iterator[tuple[str, Callable[[str], str]]]:
    yield from texts.items()
    for seed in range(random_ones):
        yield f"seed {seed}", lambda text, seed=seed: at_random(text, seed)  # type: ignore[misc]  # a lambda for each seed


# --- the reader ---


def content(dump: Dump) -> object:
    tables = [
        (
            *(one.name, one.family, one.backend, one.tool, one.generated, one.line, one.commit_line, one.inferred, one.partial),
            [(chain.name, chain.policy, chain.line, list(chain.lines), chain.redeclared) for chain in one.chains.values()],
        )
        for one in dump.tables
    ]
    return dump.shapes, dump.values, tables, dump.problems, dump.notes, dump.final_newline


def test_a_dump_is_read_alike_with_what_is_known_of_another(clusters: Path) -> None:
    texts = [(clusters / "iptables" / name / "iptables-save.txt").read_text() for name in "ab"]
    used = 0
    for learned in (texts[0], IPTABLES["a comment of several lines"](texts[0]), IPTABLES["a port that is none"](texts[0])):
        known = KnownChains()
        known.learning = True
        assert content(parse(learned, "dump", known=known)) == content(parse(learned, "dump"))
        known.learning = False
        for _, change in cases(IPTABLES, 200):
            text = change(texts[1])
            read = parse(text, "dump", known=known)
            assert content(read) == content(parse(text, "dump"))
            for table in read.tables:
                for chain in table.chains.values():
                    if chain.text is not None:
                        used += 1
                        assert chain.text.name == chain.name
                        assert list(chain.text.shapes) == [read.shapes[line] for line in chain.lines]
                        assert list(chain.text.values) == [read.values[line] for line in chain.lines]
    assert used > 20_000


def listing_content(dump: IpvsDump) -> object:
    def of(server: VirtualServer) -> object:
        return *(getattr(server, one.name) for one in fields(server) if one.name not in {"listing", "known"}), server.real_servers

    listings = [
        (
            *(getattr(one, name) for name in ("form", "line", "columns", "whole", "has_schedulers", "cut")),
            [of(each) for each in one.servers],
        )
        for one in dump.listings
    ]
    found = [
        ({key: server.line for key, server in one.by_frontend.items()}, {key: server.line for key, server in one.by_mark.items()})
        for one in dump.listings
    ]
    return dump.shapes, dump.values, dump.problems, dump.notes, dump.final_newline, listings, found


IPVSADM: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "without the line before": without("-A -t 10.96.10.1:80"),
    "a virtual server twice": lambda text: text + text,
    "its real servers apart": in_lines(
        lambda lines: lines.insert(len(lines) - 1, lines.pop(first(lines, "-a -t 10.96.10.1:80")))
    ),
    "one more real server at the end": lambda text: text + "-a -t 10.96.10.1:80 -r 10.128.9.9:8080 -m -w 1\n",
    "one again at the end": lambda text: (
        text + next(one for one in text.split("\n") if one.startswith("-a -t 10.96.10.1:80")) + "\n"
    ),
    "weight 0": instead("-w 1", "-w 0"),
    "another method": instead("-m -w 1", "-g -w 1"),
    "another scheduler": instead("-s rr", "-s wrr"),
    "no port": instead("10.96.10.1:80 ", "10.96.10.1:99999 "),
    "a real server that is none": instead("8080 -m", "80800 -m"),
    "a mark": with_line("-A -f 1 -s rr", "-A -t 10.96.10.1:80"),
    "words": with_line("what is this", "-A -t 10.96.10.1:80"),
    "words in it": with_line("what is this", "-a -t 10.96.10.1:80"),
    "an empty line": with_line("", "-A -t 10.96.10.1:80"),
    "an empty line in it": with_line("", "-a -t 10.96.10.1:80"),
    "empty lines before": lambda text: "\n\n" + text,
    "no line end": lambda text: text.rstrip("\n"),
    "cut": lambda text: text[: len(text) // 2],
    "a listing behind it": lambda text: (
        text
        + "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
        + "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\nTCP  10.96.0.1:443 rr\n"
        + "  -> 10.0.0.1:6443                Masq    1      0          0         \n"
    ),
    "a real server of a listing before": lambda text: (
        "  -> 10.0.0.1:6443                Masq    1      0          0         \n" + text
    ),
}


def test_virtual_servers_are_read_alike_with_what_is_known_of_others(clusters: Path) -> None:
    texts = [(clusters / "ipvs" / name / "ipvsadm-save.txt").read_text() for name in "ab"]
    used = 0
    for learned in (
        texts[0],
        *(IPVSADM[name](texts[0]) for name in ("one again at the end", "a real server that is none", "words")),
    ):
        known = KnownServers()
        known.learning = True
        assert listing_content(ipvsadm.parse(learned, "dump", known=known)) == listing_content(ipvsadm.parse(learned, "dump"))
        known.learning = False
        for _, change in cases(IPVSADM, 200):
            text = change(texts[1])
            read = ipvsadm.parse(text, "dump", known=known)
            assert listing_content(read) == listing_content(ipvsadm.parse(text, "dump"))
            for server in read.servers():
                if server.known is not None:
                    used += 1
                    lines = [server.line, *server.lines]
                    assert list(server.known.shapes) == [read.shapes[line] for line in lines]
                    assert list(server.known.values) == [read.values[line] for line in lines]
    assert used > 20_000


def test_what_is_known_of_other_shapes_is_not_used(clusters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump has one object for each shape, also where the reader has begun anew with its shapes."""
    text = (clusters / "iptables" / "a" / "iptables-save.txt").read_text()
    known = KnownChains()
    known.learning = True
    parse(text, "dump", known=known)
    monkeypatch.setattr("ruleaudit.formats.iptables_save._MAX_SHAPES_KEPT", 0)
    parse("*nat\nCOMMIT\n", "dump")
    monkeypatch.undo()
    again = parse(text, "dump", known=known)
    assert len(set(again.shapes)) == len({shape.pattern.pattern for shape in again.shapes})
    assert parse(text, "dump", known=known).shapes == again.shapes


# --- audits ---


@pytest.mark.parametrize("learned", ["as it is", "counters", "another share", "without -A KUBE-SEP- -j DNAT", "other order"])
def test_nodes_in_iptables_mode_are_audited_as_if_alone(clusters: Path, tmp_path: Path, learned: str) -> None:
    """`learned`: what the first node is like, from which the others' reports may take something over."""
    source = clusters / "iptables"
    dump = "iptables-save.txt"
    nodes = [tmp_path / "first"]
    shutil.copytree(source / "a", nodes[0])
    (nodes[0] / dump).write_text(IPTABLES[learned]((source / "a" / dump).read_text()))
    for number, (_, change) in enumerate(cases(IPTABLES, 20)):
        nodes.append(tmp_path / f"{number:03}")
        shutil.copytree(source / "b", nodes[-1])
        (nodes[-1] / dump).write_bytes(change((source / "b" / dump).read_text()).encode())
    compared(nodes, source / "objects.json")


@pytest.mark.parametrize("learned", ["", "ipvsadm-save.txt", "ipset.txt"])
def test_nodes_in_ipvs_mode_are_audited_as_if_alone(clusters: Path, tmp_path: Path, learned: str) -> None:
    """`learned`: the dump in which the first node is damaged."""
    source = clusters / "ipvs"
    nodes = [tmp_path / "first"]
    shutil.copytree(source / "a", nodes[0])
    if learned:
        (nodes[0] / learned).write_text(at_random((source / "a" / learned).read_text(), 1))
    damages = [("ipvsadm-save.txt", change) for change in IPVSADM.values()]
    damages += [(DUMPS["ipvs"][seed % 3 if seed < 42 else 3], change) for seed, (_, change) in enumerate(cases({}, 50))]
    for number, (dump, change) in enumerate(damages):
        nodes.append(tmp_path / f"{number:03}")
        shutil.copytree(source / "b", nodes[-1])
        (nodes[-1] / dump).write_text(change((source / "b" / dump).read_text()))
    compared(nodes, source / "objects.json")


SETTINGS: dict[str, tuple[str, str]] = {
    "everything masqueraded": ("kube-proxy.args", "--masquerade-all=true"),
    "another network of pods": ("kube-proxy.args", "--cluster-cidr=10.0.0.0/8"),
    "the node's own network": ("kube-proxy.args", "--detect-local-mode=NodeCIDR"),
    "another mark": ("kube-proxy.args", "--iptables-masquerade-bit=15"),
    "node ports elsewhere": ("kube-proxy.args", "--nodeport-addresses=127.0.0.0/8"),
    "another node": ("kube-proxy.args", "--hostname-override=node-c"),
    "an unknown node": ("kube-proxy.args", "--hostname-override=node-z"),
    "an older release": ("meta.json", '{"kube_proxy_version": "v1.23.4", "node": "node-b"}'),
    "without a description": ("meta.json", ""),
}


@pytest.mark.parametrize("mode", DUMPS)
def test_nodes_of_other_settings_are_audited_as_if_alone(clusters: Path, tmp_path: Path, mode: str) -> None:
    """What was expected of the first node, and what agreed with it, is only taken over where settings, release and place are the same."""
    source = clusters / mode
    nodes = [source / "a", source / "b"]
    for number, (file, text) in enumerate(SETTINGS.values()):
        nodes.append(tmp_path / f"{number:03}")
        shutil.copytree(source / "b", nodes[-1])
        path = nodes[-1] / file
        path.write_text(f"{path.read_text().rstrip()} {text}\n" if file.endswith(".args") else text)
    compared(nodes, source / "objects.json")
    compared(nodes[::-1], source / "objects.json")


def compared(nodes: Sequence[Path], objects: Path) -> None:
    found = gather([str(one) for one in nodes], shared=[str(objects)])
    assert isinstance(found, Captures)
    outcomes = audit_nodes(found, jobs=2)
    loud = 0
    for node, outcome in zip(nodes, outcomes, strict=True):
        assert outcome.report is not None, outcome.error
        assert outcome.report == alone(node, objects)
        loud += bool(outcome.report.findings)
    assert loud * 2 > len(nodes)

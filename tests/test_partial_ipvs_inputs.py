"""A node in IPVS mode is silent while it is healthy, whatever part of its inputs is given; and of a broken one each part tells what it shows."""

from __future__ import annotations

import io
import lzma
from typing import TYPE_CHECKING

import pytest
from tests.kubeproxy.test_expect_ipvs import healthy
from tests.small_ipvs_node import SmallIpvsNode, kind_of
from tests.small_node import BASE, REMOTE, Edit, as_list, changed, endpoint, service, without
from tests.test_small_node import LOADED

from ruleaudit.audit import audit_inputs
from ruleaudit.findings import Severity
from ruleaudit.reports.text import plain, summary_line
from ruleaudit.sources import InputKind, Source, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ruleaudit.findings import Report

COMMANDS, LISTING, COUNTERS, SETS = "ipvsadm-save.txt", "ipvsadm.txt", "ipvsadm-stats.txt", "ipset.txt"
RULES, RULES6, ADDRESSES = "iptables-save.txt", "ip6tables-save.txt", "ip-addr.json"
EVERYTHING = (RULES, RULES6, COMMANDS, SETS, ADDRESSES)
PARTS = {
    "everything": EVERYTHING,
    "-Ln": (LISTING,),
    "-Sn": (COMMANDS,),
    "--stats": (COUNTERS,),
    "-Ln beside -Sn": (LISTING, COMMANDS),
    "-Sn beside --stats": (COMMANDS, COUNTERS),
    "-Ln, rules": (LISTING, RULES, RULES6),
    "-Ln, sets": (LISTING, SETS),
    "-Sn, addresses": (COMMANDS, ADDRESSES),
    "--stats, rules and sets": (COUNTERS, RULES, RULES6, SETS),
    "sets": (SETS,),
    "sets, rules": (SETS, RULES, RULES6),
    "sets, addresses": (SETS, ADDRESSES),
    "rules": (RULES, RULES6),
    "rules of IPv4, and the rest": (RULES, COMMANDS, SETS, ADDRESSES),
    "rules of IPv6, and the rest": (RULES6, COMMANDS, SETS, ADDRESSES),
    "no addresses": (RULES, RULES6, COMMANDS, SETS),
    "no sets": (RULES, RULES6, COMMANDS, ADDRESSES),
    "no virtual servers": (RULES, RULES6, SETS, ADDRESSES),
}
NODE_OF_BOTH = SmallIpvsNode(LOADED, families=(4, 6))


def loud(report: Report) -> list[tuple[str, str | None, str]]:
    return [(one.code, one.service, one.message) for one in report.findings if one.severity is not Severity.INFO]


def notes(report: Report) -> str:
    return "\n".join(one.message for one in report.findings if one.code == "RA004")


@pytest.mark.parametrize("told", [True, False], ids=["told", "inferred"])
@pytest.mark.parametrize("given", PARTS.values(), ids=PARTS)
def test_a_healthy_node_is_silent_in_parts(given: Sequence[str], told: bool) -> None:
    assert loud(NODE_OF_BOTH.report(given=given, told=told)) == []
    assert loud(SmallIpvsNode(LOADED, 20).report(given=given, told=told)) == []


@pytest.mark.parametrize("given", PARTS.values(), ids=PARTS)
def test_a_healthy_node_is_silent_without_objects(given: Sequence[str]) -> None:
    report = NODE_OF_BOTH.report(given=given, objects=())
    assert loud(report) == []
    assert "no objects were given" in notes(report)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((LISTING,), ["masquerade, source ranges, drops", "which addresses of IPv4 kube-ipvs0 holds is not known"]),
        ((COUNTERS,), ["does not print weights and schedulers and session affinity"]),
        ((COMMANDS, RULES), ["rules and sets decide them together"]),
        ((SETS, RULES), ["virtual servers of IPv4 were not given"]),
        ((COMMANDS, SETS, RULES), ["kube-ipvs0 holds is not known"]),
        (EVERYTHING, []),
    ],
)
def test_what_is_not_checked_is_said(given: Sequence[str], said: Sequence[str]) -> None:
    report = SmallIpvsNode(LOADED).report(given=given)
    assert loud(report) == []
    for part in said:
        assert part in notes(report)
    assert bool(notes(report)) == bool(said)


def stream_of(node: SmallIpvsNode, names: Sequence[str]) -> bytes:
    """These dumps one after the other, the objects behind them, as a pipe has them."""
    parts = node.parts()
    return "".join(parts[name] for name in names if name in parts).encode() + as_list(node.objects) + b"\n"


@pytest.mark.parametrize(
    "names", [EVERYTHING, (LISTING, SETS, RULES), (COMMANDS,), (COUNTERS, SETS), (SETS, COMMANDS, ADDRESSES, RULES)]
)
def test_one_stream_holds_everything(names: Sequence[str]) -> None:
    node = SmallIpvsNode(LOADED)
    report = audit_inputs(read(["-"], io.BytesIO(stream_of(node, names))), node="node-a")
    assert loud(report) == []
    assert {one.path for one in report.inputs} == {"<stdin>"}
    assert report.services == 9
    given = [one.lines for one in report.inputs]
    assert sum(given) == stream_of(node, names).count(b"\n"), "each line belongs to one input"


# --- two listings ----------------------------------------------------------------------------------------------------------------------


def test_two_listings_of_one_state_are_one() -> None:
    report = SmallIpvsNode(LOADED).report(given=(LISTING, COMMANDS, COUNTERS, SETS, RULES, ADDRESSES))
    assert notes(report) == ""


@pytest.mark.parametrize(
    ("names", "change", "counts"),
    [
        ((COMMANDS, LISTING), without("^-a -t 10.96.0.20:80 -r 10.244.2.5"), LISTING),
        ((COMMANDS, LISTING), changed("^(-A -t 10.96.0.20:80 -s) rr", r"\1 lc"), LISTING),
        ((COMMANDS, LISTING), changed("^(-A -t 10.96.0.24:80 -s rr -p) 600", r"\1 60"), LISTING),
        ((COMMANDS, COUNTERS), without("^-[aA] -t 10.96.0.20:80 "), COMMANDS),
    ],
    ids=["a-real-server", "a-scheduler", "persistence", "a-virtual-server"],
)
def test_of_two_listings_that_differ_the_one_that_says_most_counts(names: Sequence[str], change: Edit, counts: str) -> None:
    report = SmallIpvsNode(LOADED).report({COMMANDS: change}, given=(*names, SETS, RULES, ADDRESSES))
    assert f"those in {counts}:1 count" in notes(report)
    assert bool(loud(report)) == (counts == COMMANDS)


def test_a_listing_of_one_virtual_server_is_no_whole_one() -> None:
    """`ipvsadm -Ln -t 10.96.0.20:80` prints no first line; what it lacks is not missed, what it shows is judged."""
    head, found = NODE_OF_BOTH.parts()[LISTING].split("\n", 1)
    one = found[: found.index("TCP")] + found[found.index("TCP  10.96.0.20:80") :].split("\nTCP", 1)[0] + "\n"
    assert head.startswith("IP Virtual Server")
    report = NODE_OF_BOTH.report(given=(), more={LISTING: one})
    assert loud(report) == []
    assert "is a part of one" in notes(report)
    stale = one.replace("10.244.2.5:8080 ", "10.244.2.6:8080 ")
    assert {(code, service) for code, service, _ in loud(NODE_OF_BOTH.report(given=(), more={LISTING: stale}))} == {
        ("RA106", "shop/web"),
        ("RA206", "shop/web"),
    }


# --- a broken node, from its virtual servers and the objects alone -----------------------------------------------------------------------

WEB = r"10\.96\.0\.20:80 "
STALE = r"\g<0>\n  -> 10.244.2.99:8080             Masq    1      0          0         "


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (LISTING, changed(f"^TCP  {WEB}.*", STALE), {("RA206", "shop/web", "10.244.2.99:8080")}),
        (LISTING, without(r"^TCP  10\.96\.0\.25:80 "), {("RA101", "shop/empty", None)}),
        (LISTING, changed(f"(^TCP  {WEB}.*\n  -> 10.244.1.5:8080 .*Masq    )1", r"\g<1>0"), {("RA303", "shop/web", "10.244.1.5:8080")}),
        (COMMANDS, without(f"^-[aA] -t {WEB}"), {("RA101", "shop/web", None)}),
        (COMMANDS, without(f"^-a -t {WEB}-r 10.244.1.5"), {("RA106", "shop/web", "10.244.1.5:8080")}),
        (COMMANDS, changed(" -p 600", "", 0), {("RA304", "shop/sticky", None)}),
        (COMMANDS, lambda text: text + "-A -t 10.96.9.9:80 -s rr\n-a -t 10.96.9.9:80 -r 10.244.2.9:80 -m -w 1\n", {("RA201", None, None)}),
        (COUNTERS, without(r"^TCP  10\.96\.0\.25:80 "), {("RA101", "shop/empty", None)}),
        (COUNTERS, changed(f"^TCP  {WEB}.*\n  -> 10.244.1.5:8080 ", f"TCP  10.96.0.20:80 {5 * '        0'}\n  -> 10.244.1.7:8080 "),
         {("RA106", "shop/web", "10.244.1.5:8080")}),  # the other one may drain: weights are not printed
    ],
)  # fmt: skip
def test_virtual_servers_alone_tell_what_they_show(
    name: str, change: Edit, expected: set[tuple[str, str | None, str | None]]
) -> None:
    report = SmallIpvsNode(LOADED).report({name: change}, given=(name,))
    found = {(one.code, one.service, one.endpoint) for one in report.findings if one.severity is not Severity.INFO}
    assert found == expected


def test_sets_and_addresses_alone_tell_what_they_lack() -> None:
    node = SmallIpvsNode(BASE)
    report = node.report({SETS: without("^add KUBE-CLUSTER-IP 10.96.0.20,tcp:80$")}, given=(SETS,))
    assert {(code, service) for code, service, _ in loud(report)} == {("RA110", "shop/web")}
    report = node.report({ADDRESSES: lambda text: text.replace("10.96.0.20", "10.96.0.77")}, given=(SETS, ADDRESSES))
    assert {(code, service) for code, service, _ in loud(report)} == {("RA111", "shop/web"), ("RA210", None)}


def test_a_dump_without_objects_is_checked_by_itself() -> None:
    report = SmallIpvsNode(BASE).report({RULES: without("-A KUBE-POSTROUTING.*MASQUERADE --random")}, objects=())
    assert {code for code, _, _ in loud(report)} == {"RA402"}


# --- a release that is not known ---------------------------------------------------------------------------------------------------------

OF_SOME_RELEASES = [
    *LOADED,
    *service("shop/labelled", "10.96.0.70", labels={"service.kubernetes.io/headless": ""}),
    *service("shop/starting", "10.96.0.71", [endpoint("10.244.1.71", ready=False, serving=False), REMOTE]),
]
"""Up to 1.35 no kube-proxy programs the first; from 1.21 on KUBE-LOOP-BACK holds endpoints that are not ready."""


@pytest.mark.parametrize("minor", [20, 23, 25, 30, 36])
@pytest.mark.parametrize("given", PARTS.values(), ids=PARTS)
def test_what_only_some_releases_ask_for_is_not_missed(given: Sequence[str], minor: int) -> None:
    assert loud(SmallIpvsNode(OF_SOME_RELEASES, minor).report(given=given, told=False)) == []


def test_a_release_that_is_not_known_is_said() -> None:
    report = SmallIpvsNode(OF_SOME_RELEASES, 30).report(given=(SETS,), told=False)
    assert "which release of kube-proxy programmed IPv4 is not known (1.26 to 1.36)" in notes(report)
    assert "which release" not in notes(SmallIpvsNode(OF_SOME_RELEASES, 30).report(given=(SETS,)))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({SETS: without("^add KUBE-CLUSTER-IP 10.96.0.20,tcp:80$")}, {("RA110", "shop/web")}),
        ({SETS: without("^add KUBE-LOOP-BACK 10.244.1.5,tcp:8080")}, {("RA403", None)}),
        ({SETS: lambda text: text + "add KUBE-CLUSTER-IP 10.96.0.99,tcp:80\n"}, {("RA210", None)}),
        ({ADDRESSES: lambda text: text.replace("10.96.0.20", "10.96.0.99")}, {("RA111", "shop/web"), ("RA210", None)}),
    ],
)
@pytest.mark.parametrize("minor", [20, 30, 36])
def test_what_every_release_asks_for_is_missed(
    minor: int, edits: Mapping[str, Edit], expected: set[tuple[str, str | None]]
) -> None:
    """Without virtual servers, so that nothing tells the release; a hairpin is told of the services that use it, with them."""
    given = (SETS, RULES, RULES6, ADDRESSES) if expected != {("RA403", None)} else EVERYTHING
    found = {
        (code, service)
        for code, service, _ in loud(SmallIpvsNode(OF_SOME_RELEASES, minor).report(edits, given=given, told=False))
    }
    if expected == {("RA403", None)}:
        assert ("RA403", "shop/web") in found
    else:
        assert found == expected


# --- another node's dumps ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told", "inferred"])
@pytest.mark.parametrize("given", [one for name, one in PARTS.items() if name not in ("rules", "sets, addresses")], ids=" ".join)
def test_the_dumps_of_another_node_are_told(given: Sequence[str], told: bool) -> None:
    """RA007 leads wherever something shows whose dumps these are; all else that is loud follows from it."""
    node = SmallIpvsNode(
        LOADED, families=(4, 6), arguments=("--proxy-mode=ipvs", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56")
    )
    report = node.report(given=given, told=told, node="node-b")
    leaders = [one for one in report.findings if one.severity is not Severity.INFO and one.cause is None]
    if any(one.startswith("ipvsadm") for one in given):
        assert {one.code for one in leaders} == {"RA007"}
        assert all("look like those of node-a, not of node-b" in one.message for one in leaders)
        assert {one.cause for one in report.findings if one.severity is not Severity.INFO and one.cause} <= {
            one.fingerprint for one in leaders
        }
    else:
        assert {one.code for one in leaders} <= {"RA007", "RA110", "RA111", "RA210"}


def test_a_fault_of_the_other_node_stands_beside_it() -> None:
    edits = {COMMANDS: without(f"^-[aA] -t {WEB}")}
    report = SmallIpvsNode(LOADED).report(edits, told=False, node="node-b")
    leaders = {(one.code, one.service) for one in report.findings if one.severity is not Severity.INFO and one.cause is None}
    assert leaders == {("RA007", None), ("RA101", "shop/web")}


# --- captured nodes ----------------------------------------------------------------------------------------------------------------------

FILES = {
    "-Ln": (LISTING,),
    "-Sn": (COMMANDS,),
    "--stats": (COUNTERS,),
    "-Ln beside -Sn": (LISTING, COMMANDS),
    "-Sn, rules": (COMMANDS, RULES, RULES6),
    "sets": (SETS,),
    "rules and sets": (RULES, RULES6, SETS),
    "IPv4 alone": (RULES, COMMANDS, SETS, "ip-addr-kube-ipvs0.json"),
    "no addresses": (RULES, RULES6, COMMANDS, SETS),
    "routes beside": (*EVERYTHING, "ip-rule-local.txt"),
}
SETTINGS = {"kube-proxy.args": InputKind.PROXY_CONFIG, "meta.json": InputKind.CAPTURE_META}


def audited(folder: Path, names: Sequence[str], *, objects: bool = True, told: bool = True) -> Report:
    """The audit of these files of a captured node."""
    found: dict[str, bytes] = {}
    for name in (*names, *(["objects.json"] if objects else []), *(SETTINGS if told else ())):
        for path in (folder / name, folder / f"{name}.xz"):
            if path.is_file():
                found[name] = path.read_bytes() if path.suffix != ".xz" else lzma.decompress(path.read_bytes())
    sources = []
    for name, data in found.items():
        kind = InputKind.OBJECTS if name == "objects.json" else SETTINGS.get(name) or kind_of(name)
        sources.append(Source(name, kind, data.decode() if kind.is_text else "", b"" if kind.is_text else data, given=True))
    return audit_inputs(sources)


def test_captured_nodes_are_silent_in_parts(capture_folders: Sequence[Path]) -> None:
    for folder in healthy(list(capture_folders)):
        for form, names in FILES.items():
            if not any((folder / name).exists() for name in names):
                continue
            assert loud(audited(folder, names)) == [], (folder.name, form)
            assert loud(audited(folder, names, objects=False)) == [], (folder.name, form, "without objects")


# What virtual servers and objects alone show of captured damage: the findings that follow from no other.
SHOWN: Mapping[str, set[tuple[str, str | None, str | None]]] = {
    "tamper-1.36-ipvs-real-server-deleted": {("RA106", "demo/web", "10.244.2.12:8080")},
    "tamper-1.36-ipvs-stale-real-server": {("RA206", "demo/web", "10.244.99.99:8080")},
    "tamper-1.36-ipvs-virtual-server-deleted": {("RA101", "demo/web", None)},
    "tamper-1.36-ipvs-ipvs-cleared": {("RA005", None, None)},
    "tamper-1.36-ipvs-dummy-address-deleted": set(),
    "tamper-1.36-ipvs-foreign-drop-input": set(),
    "tamper-1.36-ipvs-ipset-clusterip-deleted": set(),
    "tamper-1.36-ipvs-ipset-loopback-deleted": set(),
    "tamper-1.36-ipvs-postrouting-emptied": set(),
    "tamper-1.36-ipvs-services-jump-removed": set(),
}


# Without any virtual server `ipvsadm -Sn` prints nothing, and nothing says what an empty file was to be.
@pytest.mark.parametrize(
    ("name", "listing"),
    [(name, listing) for name in SHOWN for listing in (LISTING, COMMANDS) if "cleared" not in name or listing == LISTING],
)
def test_captured_damage_shows_in_virtual_servers_alone(name: str, listing: str, capture_folders: Sequence[Path]) -> None:
    folder = next((one for one in capture_folders if one.name == name), None)
    if folder is None:
        pytest.skip(f"no capture {name}")
    report = audited(folder, (listing,))
    found = {
        (one.code, one.service, one.endpoint) for one in report.findings if one.severity is not Severity.INFO and not one.cause
    }
    assert found == SHOWN[name]


NO_RULES = """\
# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
"""


def test_a_node_set_to_ipvs_that_has_nothing_of_it(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(NO_RULES)
    paths = [tmp_path / "rules", nodes / "ipvs-healthy" / "kube-proxy.args", nodes / "ipvs-healthy" / "objects.json.xz"]
    report = audit_inputs(read(list(map(str, paths))))
    assert [one.code for one in report.findings if one.severity is Severity.ERROR] == ["RA005"]
    (tmp_path / "rules").write_text(NO_RULES.replace("COMMIT\n", ""))
    report = audit_inputs(read(list(map(str, paths))))
    assert "RA005" not in {one.code for one in report.findings}, "what is missing may be cut off"


def test_virtual_servers_without_any_rule(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(NO_RULES)
    names = ["ipset.txt", "ipvsadm.txt", "kube-proxy.args", "objects.json.xz", "ip-addr-kube-ipvs0.json"]
    paths = [tmp_path / "rules", *(nodes / "ipvs-healthy" / one for one in names)]
    report = audit_inputs(read(list(map(str, paths))))
    (finding,) = [one for one in report.findings if one.severity is Severity.ERROR]
    assert (finding.code, finding.message) == ("RA005", "73 Services exist, but the nat table holds no rules of kube-proxy")


def test_virtual_servers_without_the_rules_of_their_family(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(NO_RULES.replace("COMMIT", "COMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT"))
    names = ["ip6tables-save.txt", "ipset.txt", "ipvsadm.txt", "kube-proxy.args", "objects.json.xz"]
    paths = [tmp_path / "rules", *(nodes / "ipvs-healthy" / one for one in names)]
    report = audit_inputs(read(list(map(str, paths))))
    (finding,) = [one for one in report.findings if one.severity is Severity.ERROR]
    assert finding.code == "RA005"
    assert "Services of IPv4 need rules, but the nat table of IPv4 holds no rules of kube-proxy" in finding.message
    assert "no rules of kube-proxy are in the tables of IPv4: masquerade" in notes(report)
    assert not any("iptables-save" in one.hint for one in report.findings if one.code == "RA004"), "it was given"


def test_a_node_without_its_virtual_servers_is_not_called_right(nodes: Path) -> None:
    names = ["iptables-save.txt", "ip6tables-save.txt", "ipset.txt", "kube-proxy.args", "objects.json.xz"]
    report = audit_inputs(read([str(nodes / "ipvs-healthy" / one) for one in names]))
    assert (report.frontends, report.endpoints) == (0, 0)
    assert "the virtual servers of IPv4 were not given: which endpoints Services have is not checked" in notes(report)
    said = plain([summary_line(report)])
    assert "no Service was checked" in said
    assert "parts not checked" in said
    assert "what the objects ask for" not in said

"""A healthy node is silent whatever part of its inputs is given: what is absent is not checked, never reported as missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import ruleaudit
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SLICES, ENDPOINTS, NODES, PODS = "EndpointSlice", "Endpoints", "Node", "Pod"


def _only(text: str, table: str) -> str:
    """One table of a dump."""
    begin = text.index(f"*{table}\n")
    return text[begin : text.index("COMMIT\n", begin) + len("COMMIT\n")]


def _same(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("families", "without", "named", "cut"),
    [
        pytest.param((4, 6), (), True, _same, id="everything"),
        pytest.param((4,), (), True, _same, id="no IPv6 dump"),
        pytest.param((6,), (), True, _same, id="no IPv4 dump"),
        pytest.param((4, 6), (), False, _same, id="the node is not named"),
        pytest.param((4, 6), (NODES,), True, _same, id="no Nodes"),
        pytest.param((4, 6), (NODES,), False, _same, id="no Nodes, and not named"),
        pytest.param((4, 6), (PODS,), True, _same, id="no Pods"),
        pytest.param((4, 6), (ENDPOINTS,), True, _same, id="no Endpoints"),
        pytest.param((4, 6), (SLICES,), True, _same, id="Endpoints stand in for EndpointSlices"),
        pytest.param((4, 6), (SLICES, ENDPOINTS), True, _same, id="no endpoints of any kind"),
        pytest.param((4, 6), (SLICES, ENDPOINTS, NODES, PODS), True, _same, id="Services alone"),
        pytest.param((4,), (), True, lambda text: _only(text, "nat"), id="the nat table alone"),
        pytest.param((4,), (), True, lambda text: _only(text, "filter"), id="the filter table alone"),
    ],
)
def test_a_healthy_node_is_silent_in_parts(
    nodes: Path, families: tuple[int, ...], without: tuple[str, ...], *, named: bool, cut: Callable[[str], str]
) -> None:
    report = _audited(nodes / "healthy", families, without, named=named, cut=cut)
    assert [f"{one.code} {one.message}" for one in report.findings if one.severity is not ruleaudit.Severity.INFO] == []


def test_a_dump_without_objects_is_checked_by_itself(nodes: Path) -> None:
    sources = [one for one in ruleaudit.read([str(nodes / "changed-destination")]) if one.kind is InputKind.IPTABLES_SAVE]
    report = ruleaudit.audit_inputs(sources)
    loud = [one for one in report.findings if one.severity is not ruleaudit.Severity.INFO]
    assert [one.code for one in loud] == ["RA206"]
    healthy = [one for one in ruleaudit.read([str(nodes / "healthy")]) if one.kind is InputKind.IPTABLES_SAVE]
    assert {one.code for one in ruleaudit.audit_inputs(healthy).findings} == {"RA004"}


def test_what_is_recognised_and_not_audited_is_said(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "nft.txt").write_text("table ip kube-proxy {\n\tchain services {\n\t}\n}\n")
    (tmp_path / "conntrack.txt").write_text("tcp 6 86 ESTABLISHED src=10.244.1.12 dst=10.96.1.1 sport=4711 dport=80\n")
    findings = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / "healthy"), str(tmp_path)])).findings
    said = " ".join(one.message for one in findings if one.code == "RA004")
    assert "nft.txt (nft) is not looked at: only kube-proxy's iptables and IPVS modes are audited so far" in said
    assert "conntrack.txt (conntrack) is not looked at: rules are audited, not the connections that are open" in said


def _audited(
    folder: Path, families: tuple[int, ...], without: tuple[str, ...], *, named: bool, cut: Callable[[str], str]
) -> ruleaudit.Report:
    sources = []
    name = None
    for source in ruleaudit.read([str(folder)]):
        if source.kind is InputKind.IPTABLES_SAVE:
            family = 6 if "ip6tables" in source.path else 4
            if family in families:
                sources.append(ruleaudit.Source(source.path, source.kind, cut(source.text), b"", given=True))
        elif source.kind is InputKind.OBJECTS:
            objects: Mapping[str, list[Mapping[str, object]]] = json.loads(source.data)
            items = [item for item in objects["items"] if item["kind"] not in without]
            data = json.dumps({**objects, "items": items}).encode()
            sources.append(ruleaudit.Source(source.path, source.kind, "", data, given=True))
        elif source.kind is InputKind.CAPTURE_META:
            name = json.loads(source.data)["node"]
    assert sources
    return ruleaudit.audit_inputs(sources, node=name if named else None)


def test_objects_of_some_namespaces_only_are_no_stopped_kube_proxy(nodes: Path) -> None:
    sources = []
    for source in ruleaudit.read([str(nodes / "healthy")]):
        data = source.data
        if source.kind is InputKind.OBJECTS:
            objects = json.loads(data)
            kept = [item for item in objects["items"] if item["metadata"].get("namespace") not in ("default", "kube-system")]
            data = json.dumps({**objects, "items": kept}).encode()
        sources.append(ruleaudit.Source(source.path, source.kind, source.text, data, given=True))
    findings = ruleaudit.audit_inputs(sources).findings
    assert {one.code for one in findings if not one.code.startswith("RA7")} == {"RA004"}
    assert any("default, kube-system" in one.message for one in findings)


def _args(tmp_path: Path, text: str) -> ruleaudit.Source:
    (tmp_path / "kube-proxy.args").write_text(text)
    return ruleaudit.read([str(tmp_path / "kube-proxy.args")])[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("kube-proxy --proxy-mode=ipvs", "mode ipvs"),
        ("kube-proxy --cluster-cidr=10.99.0.0/16", "local pods by CIDR 10.99.0.0/16"),
        ("kube-proxy --iptables-masquerade-bit=15 --cluster-cidr=10.244.0.0/16,fd00:10:244::/56", "masquerade mark 0x8000"),
        (
            "kube-proxy --detect-local-mode=BridgeInterface --pod-bridge-interface=br0 --cluster-cidr=10.244.0.0/16",
            "local pods by interface br0",
        ),
    ],
)
def test_settings_that_the_rules_contradict_lead_what_follows_from_them(
    nodes: Path, tmp_path: Path, arguments: str, said: str
) -> None:
    settings = ruleaudit.read_settings(_args(tmp_path, arguments).data, "kube-proxy.args")
    report = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / "healthy")]), settings=settings)
    leader = next(one for one in report.findings if one.code == "RA008")
    assert said in leader.expected
    loud = [one for one in report.findings if one.severity is not ruleaudit.Severity.INFO and one.code != "RA008"]
    assert {one.cause is None for one in loud} <= {False}, [one.message for one in loud if one.cause is None][:3]


def test_settings_of_one_family_do_not_explain_what_is_wrong_in_the_other(nodes: Path, tmp_path: Path) -> None:
    """Nor does an endpoint that no Service has follow from which pods are local."""
    settings = ruleaudit.read_settings(_args(tmp_path, "kube-proxy --cluster-cidr=10.244.0.0/16").data, "kube-proxy.args")
    report = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / "changed-destination")]), settings=settings)
    assert "IPv6" in next(one.message for one in report.findings if one.code == "RA008")
    wrong = [one for one in report.findings if one.code == "RA206"]
    assert [one.cause for one in wrong] == [None]
    both = ruleaudit.read_settings(_args(tmp_path, "kube-proxy --cluster-cidr=10.99.0.0/16,fd00:99::/56").data, "kube-proxy.args")
    report = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / "changed-destination")]), settings=both)
    assert [one.cause for one in report.findings if one.code == "RA206"] == [None]


def test_the_settings_of_a_healthy_node_say_what_its_rules_say(nodes: Path) -> None:
    for name in ("healthy", "changed-destination", "stopped-kube-proxy"):
        report = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / name)]))
        assert "RA008" not in {one.code for one in report.findings}


def test_the_rules_of_another_node_are_told(nodes: Path) -> None:
    sources = ruleaudit.read([str(nodes / "healthy")])
    own = ruleaudit.audit_inputs(sources).node
    others = {
        one["metadata"]["name"]
        for source in sources
        if source.kind is InputKind.OBJECTS
        for one in json.loads(source.data)["items"]
        if one["kind"] == "Node"
    } - {own}
    assert others
    for other in others:
        report = ruleaudit.audit_inputs(sources, node=other)
        leaders = [one for one in report.findings if one.code == "RA007"]
        assert leaders
        assert all(str(own) in one.message for one in leaders)
        loud = [one for one in report.findings if one.severity is ruleaudit.Severity.ERROR]
        assert all(one.cause is not None for one in loud), [one.message for one in loud if one.cause is None][:3]


_BARE = (
    "# Generated by {tool}\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
    "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n"
)


def _of_one_family(kind: str, item: dict[str, Any]) -> None:
    """Make a Node or a Service one of IPv4 alone."""
    spec = item["spec"]
    if kind == "Node":
        item["status"]["addresses"] = [one for one in item["status"]["addresses"] if ":" not in one["address"]]
        spec["podCIDRs"] = [one for one in spec.get("podCIDRs", []) if ":" not in one]
    else:
        at = [number for number, one in enumerate(spec.get("clusterIPs", [])) if ":" not in one]
        for name in ("clusterIPs", "ipFamilies"):
            spec[name] = [spec[name][number] for number in at] if name in spec else []
        if ":" in spec.get("clusterIP", ""):
            spec["clusterIP"] = "None"


@pytest.mark.parametrize(
    ("family", "single", "without", "arguments", "code"),
    [
        pytest.param(6, (), (), "", "RA005", id="IPv6 is lost"),
        pytest.param(4, (), (), "", "RA005", id="IPv4 is lost"),
        pytest.param(4, (), (NODES,), "", "RA005", id="IPv4 is lost, of which the cluster is"),
        pytest.param(6, (), (NODES,), "", "RA004", id="no Node tells whether IPv6 is served"),
        pytest.param(6, (NODES,), (), "", "RA004", id="the Node has no address of IPv6"),
        pytest.param(6, (NODES, "Service"), (), "", None, id="no Service has an address of IPv6"),
        pytest.param(6, (), (), "kube-proxy --cluster-cidr=10.244.0.0/16", "RA004", id="the settings are of IPv4"),
        pytest.param(6, (), (), "kube-proxy --feature-gates=IPv6DualStack=false", "RA004", id="one family alone"),
        pytest.param(6, (), (), "kube-proxy --proxy-mode=nftables", "RA004", id="another mode"),
    ],
)
def test_a_family_without_rules_beside_one_that_has_them(
    nodes: Path,
    tmp_path: Path,
    family: int,
    single: tuple[str, ...],
    without: tuple[str, ...],
    arguments: str,
    code: str | None,
) -> None:
    dump = f"ip{'6' if family == 6 else ''}tables-save"
    (tmp_path / dump).write_text(_BARE.format(tool=dump))
    other = "ip6tables-save.txt" if family == 4 else "iptables-save.txt"
    objects = next(one for one in ruleaudit.read([str(nodes / "healthy")]) if one.kind is InputKind.OBJECTS)
    items = [one for one in json.loads(objects.data)["items"] if one["kind"] not in without]
    for item in items:
        if item["kind"] in single:
            _of_one_family(item["kind"], item)
    (tmp_path / "objects.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    sources = ruleaudit.read([str(tmp_path / dump), str(tmp_path / "objects.json"), str(nodes / "healthy" / other)])
    if arguments:
        sources.append(_args(tmp_path, arguments))
    found = [
        one
        for one in ruleaudit.audit_inputs(sources, node="node-a").findings
        if "holds no rules" in one.message or "are in the nat table" in one.message
    ]
    assert [one.code for one in found] == ([] if code is None else [code])
    if code == "RA005":
        assert f"Services of IPv{family} need rules" in found[0].message
        assert [one.file for one in found[0].locations] == [str(tmp_path / dump)]


def test_a_dump_of_a_family_that_no_service_has_is_no_lost_kube_proxy(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "ip6tables-save").write_text(_BARE.format(tool="ip6tables-save"))
    objects = next(one for one in ruleaudit.read([str(nodes / "healthy")]) if one.kind is InputKind.OBJECTS)
    document = json.loads(objects.data)
    for item in document["items"]:
        if item["kind"] in ("Node", "Service"):
            _of_one_family(item["kind"], item)
    (tmp_path / "objects.json").write_text(json.dumps(document))
    report = ruleaudit.audit_inputs(ruleaudit.read([str(tmp_path)]), node="node-a")
    assert "RA005" not in {one.code for one in report.findings}
    assert "no IPv4 table was given: IPv4 is not checked" in {one.message for one in report.findings}


@pytest.mark.parametrize("program", ["iptables-legacy-save", "iptables-save", "ip6tables-nft-save"])
def test_rules_that_were_not_read_are_not_missed(nodes: Path, tmp_path: Path, program: str) -> None:
    for tool in ("iptables-save", "ip6tables-save"):
        (tmp_path / tool).write_text(_BARE.format(tool=tool))
    lacking = [{"what": program, "why": f"there is no {program}", "hint": "install it"}]
    (tmp_path / "meta.json").write_text(json.dumps({"node": "node-a", "kube_proxy_version": None, "not_collected": lacking}))
    report = ruleaudit.audit_inputs(ruleaudit.read([str(tmp_path), str(nodes / "healthy" / "objects.json.xz")]))
    unread, other = (6, 4) if "6" in program else (4, 6)
    said = {one.message for one in report.findings}
    assert f"no rules of kube-proxy are in what was read of IPv{unread}, and not all was: its services are not checked" in said
    assert f"no rules of kube-proxy are in what was read of IPv{other}, and not all was: its services are not checked" not in said

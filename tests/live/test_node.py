"""The node that ruleaudit runs on, in a network namespace: --live reads what the tools' files hold, and leaves everything as it was."""

from __future__ import annotations

import importlib.util
import json
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.laboratory import network_namespace, why_not

import ruleaudit
from ruleaudit import cli
from ruleaudit.live import node
from ruleaudit.live.errors import LiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NFACCT = re.compile(r"-m nfacct --nfacct-name +\S+ ?")  # counts in an object that must exist before
_REASON = why_not()
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]


@pytest.fixture
def namespace() -> Iterator[None]:
    with network_namespace():
        yield


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, errors="surrogateescape")
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def load(folder: Path, backend: str) -> None:
    for tool, name in (("iptables", "iptables-save.txt"), ("ip6tables", "ip6tables-save.txt")):
        run(f"{tool}-{backend}-restore", stdin=_NFACCT.sub("", (folder / name).read_text()))


def state() -> dict[str, str]:
    """All that reading could change: rules without counters and times, tables of the kernel, modules, sets, links."""
    net = Path("/proc/thread-self/net")
    found = {name: (net / name).read_text() for name in ("ip_tables_names", "ip6_tables_names")}
    found["modules"] = Path("/proc/modules").read_text() if Path("/proc/modules").exists() else ""
    found["nft"] = run("nft", "list", "ruleset") if shutil.which("nft") else ""
    for tool, names in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        for table in found[names].split():
            saved = run(f"{tool}-legacy-save", "-t", table)
            found[f"{tool} {table}"] = "\n".join(line for line in saved.splitlines() if not line.startswith("#"))
    found["sets"] = run("ipset", "save") if shutil.which("ipset") else ""
    found["links"] = run("ip", "addr")
    return found


def findings(report: ruleaudit.Report) -> list[tuple[str, str, str | None]]:
    """Findings without what only tells where they were read, and whether a listing says its time."""
    return [(one.code, one.message, one.service) for one in report.findings if one.code not in ("RA004", "RA006")]


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize("name", ["changed-destination", "stopped-kube-proxy"])
@pytest.mark.usefixtures("namespace")
def test_the_report_is_that_of_the_files_and_nothing_changes(nodes: Path, tmp_path: Path, backend: str, name: str) -> None:
    folder = nodes / name
    load(folder, backend)
    before = state()
    live = node.read_node()
    assert state() == before
    assert [one.name for one in live.dumps.dumps] == [f"iptables-{backend}-save", f"ip6tables-{backend}-save", "ip-addr"]
    assert not live.dumps.missing
    for tool in ("iptables", "ip6tables"):
        (tmp_path / tool).write_text(run(f"{tool}-{backend}-save"))
    (tmp_path / "ip-addr.json").write_text(run("ip", "-j", "addr"))
    rest = [str(folder / one) for one in ("objects.json.xz", "kube-proxy.args", "meta.json")]
    by_files = ruleaudit.audit_inputs(ruleaudit.read([str(tmp_path), *rest]))
    by_reading = ruleaudit.audit_inputs([*ruleaudit.read(rest), *live.sources()])
    assert findings(by_reading) == findings(by_files)
    assert findings(by_reading)
    assert by_reading.node == by_files.node


@pytest.mark.usefixtures("namespace")
def test_a_node_without_any_rule_gets_no_table(nodes: Path) -> None:
    before = state()
    assert before["ip_tables_names"] == ""
    live = node.read_node()
    assert state() == before
    assert [one.name for one in live.dumps.dumps] == ["iptables-save", "ip6tables-save", "ip-addr"]
    assert all(b"-A " not in one.data for one in live.dumps.dumps)
    objects = str(nodes / "healthy" / "objects.json.xz")
    report = ruleaudit.audit_inputs([*ruleaudit.read([objects]), *live.sources()], node="node-a")
    assert not [one for one in report.findings if one.service and not one.code.startswith("RA7")], (
        "what was not there is no fault of a Service"
    )
    assert [one.code for one in report.findings if one.severity.value == "error"] == ["RA005"]
    assert not [one for one in report.findings if one.code == "RA004"]


@pytest.mark.parametrize("flushed", [["nft", "flush", "ruleset"], None])
@pytest.mark.usefixtures("namespace")
def test_a_node_whose_rules_are_gone_is_broken(
    nodes: Path, flushed: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if flushed is not None:
        load(nodes / "healthy", "nft")
        run(*flushed)
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a", "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in report["findings"] if one["severity"] == "error"] == ["RA005"]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.usefixtures("namespace")
def test_a_node_with_a_firewall_alone_is_broken(nodes: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"iptables-{backend}", "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP")
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a", "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in report["findings"] if one["severity"] == "error"] == ["RA005"]
    assert not [one["message"] for one in report["findings"] if one["code"] == "RA004"]


@pytest.mark.parametrize("tool", ["iptables", "ip6tables"])
@pytest.mark.usefixtures("namespace")
def test_a_node_whose_rules_of_one_family_are_gone_is_broken(nodes: Path, tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    load(nodes / "healthy", "nft")
    for table in ("nat", "filter"):
        run(f"{tool}-nft", "-t", table, "-F")
        run(f"{tool}-nft", "-t", table, "-X")
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a", "--format", "json"]) == 1
    errors = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["severity"] == "error"]
    assert [one["code"] for one in errors] == ["RA005"]
    assert f"the nat table of IPv{'4' if tool == 'iptables' else '6'} holds no rules of kube-proxy" in errors[0]["message"]


@pytest.mark.usefixtures("namespace")
def test_rules_of_others_beside_legacy_tables_that_nothing_reads_are_not_known(
    nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(nodes / "healthy", "legacy")
    run("iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE")
    for name in ("iptables-nft-save", "ip6tables-nft-save", "nft"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_SBIN", ())
    monkeypatch.setattr(node, "_READER", "ruleaudit.live.no_such_module")
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a"]) == 2
    assert "the legacy tables of IPv4" in capsys.readouterr().err


@pytest.mark.usefixtures("namespace")
def test_a_node_in_nftables_mode_is_not_called_broken(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("nft", "add", "table", "ip", "kube-proxy")
    run("nft", "add", "chain", "ip", "kube-proxy", "services")
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a"]) == 0
    assert "kube-proxy runs in nftables mode here" in capsys.readouterr().out


@pytest.mark.usefixtures("namespace")
def test_rules_in_both_backends_are_both_read(nodes: Path) -> None:
    load(nodes / "healthy", "nft")
    run("iptables-legacy-restore", stdin="*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
    before = state()
    live = node.read_node()
    assert state() == before
    assert [one.name for one in live.dumps.dumps][:3] == ["iptables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"]
    rest = [str(nodes / "healthy" / one) for one in ("objects.json.xz", "meta.json")]
    report = ruleaudit.audit_inputs([*ruleaudit.read(rest), *live.sources()])
    assert "RA502" in {one.code for one in report.findings}


@pytest.mark.usefixtures("namespace")
def test_sets_that_rules_ask_for_are_read() -> None:
    run("ipset", "create", "allowed", "hash:ip")
    try:
        run("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port")
        run("iptables-nft-restore", stdin="*nat\n-A OUTPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n")
        before = state()
        dumps = {one.name: one for one in node.read_node().dumps.dumps}
        assert state() == before
        assert b"create KUBE-CLUSTER-IP" in dumps["ipset"].data
    finally:
        run("iptables-nft", "-t", "nat", "-F")
        run("ipset", "destroy")


@pytest.mark.usefixtures("namespace")
def test_the_command(nodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(nodes / "changed-destination", "legacy")
    objects = str(nodes / "changed-destination" / "objects.json.xz")
    assert cli.main(["check", "--live", "--objects", objects, "--node", "node-a", "--format", "json", "--select", "RA2"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in report["findings"]] == ["RA206"]
    assert {one["file"] for one in report["findings"][0]["locations"]} == {"iptables-legacy-save"}


@pytest.mark.usefixtures("namespace")
def test_a_trace_follows_the_rules_of_the_node(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(nodes / "healthy", "legacy")
    objects = ["--objects", str(nodes / "healthy" / "objects.json.xz"), "--node", "node-a"]
    assert cli.main(["trace", "--live", *objects, "--from", "pod/demo/web-0", "--to", "np:80"]) == 0
    shown = capsys.readouterr()
    assert "lines of iptables-legacy-save" in shown.out
    assert shown.out.endswith("reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2\n")
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["service", "demo/np"], "port demo/np:http"),
        (["chain", "KUBE-SVC-4IIC76BHGSQBKXMN"], "iptables-legacy-save:"),
        (["endpoint", "10.244.1.23"], "pod demo/np-0"),
        (["summary"], "iptables-legacy-save"),
    ],
)
@pytest.mark.usefixtures("namespace")
def test_show_reads_the_node(nodes: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    load(nodes / "healthy", "legacy")
    objects = ["--objects", str(nodes / "healthy" / "objects.json.xz"), "--node", "node-a"]
    assert cli.main(["show", *words, "--live", *objects]) == 0
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["check"], ["trace", "--from", "node", "--to", "np:80"], ["show", "summary"]],
    ids=["check", "trace", "show"],
)
@pytest.mark.usefixtures("namespace")
def test_the_node_is_none_of_several(nodes: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    load(nodes / "healthy", "legacy")
    for name in ("node-a", "node-b"):
        shutil.copytree(nodes / "healthy", tmp_path / name)
        meta = tmp_path / name / "meta.json"
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "node": name}))
        with (tmp_path / name / "iptables-save.txt").open("a") as dump:
            dump.write(f"# {name}\n")
    assert cli.main([*words, "--live", str(tmp_path / "node-a"), str(tmp_path / "node-b")]) == 2
    assert "--live reads the rules of this node, and the inputs are about 2 others" in capsys.readouterr().err


@pytest.mark.usefixtures("namespace")
def test_the_node_is_the_one_whose_address_an_interface_has(nodes: Path) -> None:
    run("ip", "tuntap", "add", "mode", "tun", "uplink")
    with lzma.open(nodes / "healthy" / "objects.json.xz") as stream:
        items = json.load(stream)["items"]
    of_nodes = {one["metadata"]["name"]: one["status"]["addresses"] for one in items if one["kind"] == "Node"}
    name, addresses = max(of_nodes.items())
    internal = next(one["address"] for one in addresses if one["type"] == "InternalIP")
    run("ip", "addr", "add", internal, "dev", "uplink")
    load(nodes / "healthy", "legacy")
    report = ruleaudit.audit_inputs([*ruleaudit.read([str(nodes / "healthy" / "objects.json.xz")]), *node.read_node().sources()])
    assert report.node == name


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.usefixtures("namespace")
def test_python_iptables_reads_what_the_tool_prints(
    nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: int
) -> None:
    if importlib.util.find_spec("iptc") is None:
        pytest.skip("needs python-iptables")
    load(nodes / "healthy", "legacy")
    tool = "iptables" if family == 4 else "ip6tables"
    saved = run(f"{tool}-legacy-save")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_SBIN", ())
    monkeypatch.setattr(node, "_has", lambda _module, _symbol: False)
    dumps = {one.name: one for one in node.read_node().dumps.dumps}
    read = dumps[f"{tool}-legacy-save"]
    assert read.command == "python-iptables"

    def chains(text: str) -> dict[tuple[str, str], list[str]]:
        dump = ruleaudit.parse(text, "dump")
        assert not dump.problems
        return {
            (table.name, name): [" ".join(dump.text(line).split()) for line in chain.lines]
            for table in dump.tables
            for name, chain in table.chains.items()
        }

    assert chains(read.data.decode()) == chains(saved)
    assert {table.backend for table in ruleaudit.parse(read.data.decode(), "dump").tables} == {"legacy"}


@pytest.mark.usefixtures("namespace")
def test_without_any_tool_it_is_said(nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(nodes / "healthy", "legacy")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_SBIN", ())
    monkeypatch.setattr(node, "_READER", "ruleaudit.live.no_such_module")
    with pytest.raises(LiveError, match=r"the legacy tables of IPv4 \(.*nat.*ruleaudit\[live\].*iptables-nft-save"):
        node.read_node()


@pytest.mark.usefixtures("namespace")
def test_without_any_tool_nothing_is_called_healthy(
    nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(nodes / "healthy", "nft")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_SBIN", ())
    assert cli.main(["check", "--live", "--objects", str(nodes / "healthy" / "objects.json.xz"), "--node", "node-a"]) == 2
    assert "there is no iptables-nft-save here" in capsys.readouterr().err


@pytest.mark.usefixtures("namespace")
def test_a_tool_that_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "iptables-nft-save"
    script.write_text("#!/bin/sh\necho 'iptables-nft-save: no luck' >&2\nexit 4\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LiveError, match="iptables-nft-save failed with status 4: iptables-nft-save: no luck"):
        node.read_node()
    script.write_text("#!/bin/sh\nexec sleep 20\n")
    with pytest.raises(LiveError, match=r"did not end within 0\.2 seconds"):
        node.read_node(0.2)


def test_without_the_rights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(node, "_CAPABILITIES", 1 << 62)
    assert cli.main(["check", "--live"]) == 2
    assert "rules can only be read as root" in capsys.readouterr().err

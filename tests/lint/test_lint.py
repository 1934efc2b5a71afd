"""`ruleaudit lint`: what is a fixture, what must be there, what the description may not contradict, and the command."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from tests.small_node import ARGUMENTS, BASE, SmallNode, service, without

from ruleaudit import cli
from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, Severity
from ruleaudit.lint import fixture_folders, lint_folder

if TYPE_CHECKING:
    from collections.abc import Callable

META = {
    "kube_proxy_version": "Kubernetes v1.36.0",
    "mode": "iptables",
    "node": "node-a",
    "node_ips": ["192.0.2.10"],
    "iptables_version": "iptables v1.8.9 (nf_tables)",
    "cluster_cidr": "10.244.0.0/16",
    "detect_local": "ClusterCIDR",
    "captured_at": "2026-11-23T12:00:00+00:00",
}


NODE = SmallNode(BASE, arguments=[one.partition(",")[0] if "cidr" in one else one for one in ARGUMENTS])


def objects(*more: object) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*BASE, POD, *more]})


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "shop", "name": "web-0", "creationTimestamp": "2026-11-23T11:00:00Z"},
    "spec": {"containers": [{"name": "c"}]},
    "status": {"phase": "Running"},
}
BROKEN = without("shop/web:http cluster IP", 1)


@pytest.fixture
def fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole and healthy fixture, which lint is silent about."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "node"
    folder.mkdir()
    node = NODE
    (folder / "iptables-save.txt").write_text(node.text())
    (folder / "kube-proxy.args").write_bytes(node.command_line)
    (folder / "meta.json").write_text(json.dumps(META, indent=1))
    (folder / "objects.json").write_text(objects())
    (folder / "expected.json").write_text('{"schema": "ruleaudit/expected/v1", "found": []}')
    return folder


def linted(folder: Path) -> list[Finding]:
    """What lint finds but for notes."""
    assert folder.is_dir()
    report = lint_folder(folder.name).report
    assert report.node == "node"
    assert all(one.node == "node" for one in report.findings)
    return [one for one in report.findings if one.severity is not Severity.INFO]


def described(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        known = {**META, **values}
        (folder / "meta.json").write_text(json.dumps({key: value for key, value in known.items() if value != ""}, indent=1))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def file(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return write


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


SIX = service("shop/six", "fd00:10:96::5", [], family=6)
TAKER = service("shop/taker", "10.96.0.77", [], externalIPs=["192.0.2.10"])


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("expected.json", b'{"schema": "ruleaudit/expected/v1", "fonud": []}', "correct expected.json as the message says"),
        ("expected.json", b"{", "correct expected.json as the message says"),
        ("objects.json", objects()[:200].encode(), "correct the file that the message names"),
        ("old.tar.gz", gzip.compress(b"old/" + bytes(253) + b"ustar\x0000" + bytes(760)), "unpack it into a fixture of its own"),
        ("more.txt", b"Chain INPUT (policy ACCEPT)\n", "take the file again as the message says"),
    ],
)
def test_what_is_to_be_done_fits_the_file(fixture: Path, name: str, content: bytes, hint: str) -> None:
    (fixture / name).write_bytes(content)
    (found,) = [one for one in lint_folder("node").report.findings if one.code == "RA001"]
    assert found.hint.startswith(hint)


def test_a_good_fixture_is_silent(fixture: Path) -> None:
    assert linted(fixture) == []
    assert lint_folder("node").report.findings == ()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        # RA001, RA002: everything is readable.
        (edited("iptables-save.txt", "COMMIT", "COMIT"), "RA001", ""),
        (file("objects.json", objects()[:200]), "RA001", "the fixture cannot be audited: "),
        (
            file("more.txt", "Chain INPUT (policy ACCEPT)\n"),
            "RA001",
            "node/more.txt cannot be used: this is the output of `iptables -L`",
        ),
        (file("expected.json", "{"), "RA001", "node/expected.json:1: is no JSON"),
        (file("meta.json", '{"node": "node-a"}'), "RA012", "meta.json is no description"),
        # RA011: everything is there.
        (both(removed("meta.json"), removed("kube-proxy.args")), "RA011", "no meta.json says which node this is"),
        (both(described(node=""), removed("kube-proxy.args")), "RA011", "nothing says which node this is"),
        (removed("objects.json"), "RA011", "no objects of the cluster are there"),
        (edited("objects.json", '"kind": "Pod"', '"kind": "PodMetrics"'), "RA011", "no Pod is among the objects"),
        (edited("objects.json", "EndpointSlice", "EndpointSlic"), "RA011", "no EndpointSlice or Endpoints is among the objects"),
        (
            edited("iptables-save.txt", "*filter", "*mangle"),
            "RA011",
            "no table filter of IPv4 is there, as of a node in iptables mode",
        ),
        (
            both(described(node_ips=["192.0.2.10", "2001:db8::10"]), removed("kube-proxy.args")),
            "RA011",
            "no table nat of IPv6 is there",
        ),
        (both(file("objects.json", objects(*SIX)), removed("kube-proxy.args")), "RA011", "no table filter of IPv6 is there"),
        (described(mode="ipvs"), "RA011", "no output of ipvsadm -Sn is there, as of a node in ipvs mode"),
        (described(mode="ipvs"), "RA011", "no output of ipset save is there"),
        (described(mode="ipvs"), "RA011", "no output of ip addr is there"),
        (described(mode="nftables"), "RA011", "no output of nft list ruleset is there"),
        # RA012: everything is as it is said to be.
        (described(node="node-x"), "RA012", "meta.json: there is no Node node-x among the objects; did you mean node-"),
        (described(node_ips=["192.0.2.99"]), "RA012", "meta.json: 192.0.2.99 is no address of node node-a"),
        (described(mode="ipvs"), "RA012", "meta.json: the rules are those of kube-proxy in iptables mode, not ipvs"),
        (described(mode="nftables"), "RA012", "meta.json: the rules are those of kube-proxy in iptables mode, not nftables"),
        (described(mode="ipvs"), "RA012", "meta.json: kube-proxy's own settings say mode iptables"),
        (described(node="node-b", node_ips=[]), "RA012", "meta.json: kube-proxy's own settings say node node-a"),
        (described(kube_proxy_version="v1.30.1"), "RA012", "meta.json: kube-proxy's own settings say release 1.36"),
        (described(cluster_cidr="10.0.0.0/16"), "RA012", "meta.json: kube-proxy's own settings say cluster CIDR 10.244.0.0/16"),
        (
            both(described(detect_local="NodeCIDR"), file("kube-proxy.args", "kube-proxy --detect-local-mode=ClusterCIDR")),
            "RA012",
            "meta.json: kube-proxy's own settings say detect-local mode ClusterCIDR",
        ),
        (
            both(described(kube_proxy_version="v1.20.1"), removed("kube-proxy.args")),
            "RA012",
            "meta.json: the rules of IPv4 are those of kube-proxy 1.",
        ),
        (described(iptables_version="iptables v1.8.9 (legacy)"), "RA012", "meta.json: the dumps are of the backend nf_tables"),
        (
            described(captured_at="2025-01-01T00:00:00+00:00"),
            "RA012",
            "meta.json: node/iptables-save.txt was dumped at 2026-11-23 05:00:00 local time",
        ),
        (
            described(captured_at="2026-11-23T10:00:00+00:00"),
            "RA012",
            "meta.json: Pod shop/web-0 is younger: 2026-11-23T11:00:00Z",
        ),
        (described(captured_at="yesterday"), "RA012", "meta.json: captured_at 'yesterday' is no time with a zone"),
        (
            described(captured_at="2026-11-23T12:00:00"),
            "RA012",
            "meta.json: captured_at '2026-11-23T12:00:00' is no time with a zone",
        ),
        (described(captured_at=3), "RA012", "meta.json: captured_at is no text"),
        (described(node_ips="192.0.2.10"), "RA012", "meta.json: node_ips is no list of addresses"),
        # RA013: what is expected.
        (
            file("expected.json", '{"schema": "ruleaudit/expected/v1", "found": [{"code": "RA101"}]}'),
            "RA013",
            "RA101 (missing-service)",
        ),
        # RA803: nothing secret, in whatever file.
        (file(".env", "K=AKIA" + "ABCDEFGHIJKLMNOP"), "RA803", "node/.env holds a key of AWS"),
        (file("logs/proxy.log", "--token=s3cr3tvalue"), "RA803", "node/logs/proxy.log holds a secret on a command line"),
        # The objects' own oddities and risks, and the audit itself.
        (
            file("objects.json", objects(*service("shop/odd", "10.96.0.66", [], selector={"app": "x"}))),
            "RA701",
            "the selector of",
        ),
        (
            file("objects.json", objects(*TAKER)),
            "RA801",
            "external IP 192.0.2.10:80/TCP of shop/taker is an address of node node-a",
        ),
        (lambda folder: (folder / "iptables-save.txt").write_text(BROKEN(NODE.text())) and None, "RA101", ""),
    ],
)
def test_what_is_wrong_with_a_fixture(fixture: Path, change: Callable[[Path], None], code: str, message: str) -> None:
    change(fixture)
    found = linted(fixture)
    assert any(one.code == code and one.message.startswith(message) for one in found), [(one.code, one.message) for one in found]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(file("README.md", "# A node"), id="a text beside it"),
        pytest.param(file("kube-proxy.log", "I0131 12:00:00.1 server.go:1] started"), id="a log"),
        pytest.param(described(cluster_cidr="10.244.0.0/16,fd00:10:244::/56"), id="a cluster CIDR of both families"),
        pytest.param(described(captured_at="", iptables_version="", node_ips=None, detect_local=None), id="what is not said"),
        pytest.param(described(node_ips=["192.0.2.10", "2001:db8::10"]), id="a family that kube-proxy does not serve"),
        pytest.param(described(captured_at="2026-11-23T10:56:00+00:00"), id="a pod that is a little younger"),
    ],
)
def test_what_is_not_wrong(fixture: Path, change: Callable[[Path], None]) -> None:
    change(fixture)
    found = [one for one in linted(fixture) if not one.message.startswith("meta.json: 2001:db8::10 is no address")]
    assert found == []


def test_compressed_files_are_looked_into(fixture: Path) -> None:
    (fixture / "objects.json").unlink()
    (fixture / "objects.json.xz").write_bytes(
        lzma.compress((objects()[:-2] + ', {"kind": "Secret", "data": {"a": "b"}}]}').encode())
    )
    assert [(one.code, one.message) for one in linted(fixture)] == [
        ("RA803", "node/objects.json.xz holds a Secret object with its data")
    ]


def test_files_that_are_no_text_are_looked_into(fixture: Path) -> None:
    key = b"AKIA" + b"ABCDEFGHIJKLMNOP"
    (fixture / "core").write_bytes(b"\x00\xff\xfe" + key)
    (fixture / "cut.gz").write_bytes(gzip.compress(b"x" * 100)[:20] + b" " + key)
    (fixture / "gone").symlink_to("nowhere")
    found = [one for one in linted(fixture) if one.code == "RA803"]
    assert [one.message for one in found] == ["node/core holds a key of AWS", "node/cut.gz holds a key of AWS"]


def test_without_an_expectation_everything_counts_and_it_is_said(fixture: Path) -> None:
    (fixture / "expected.json").unlink()
    (fixture / "iptables-save.txt").write_text(BROKEN(NODE.text()))
    report = lint_folder("node").report
    assert {"RA101", "RA004"} <= {one.code for one in report.findings}
    assert any("no expected.json says" in one.message for one in report.findings)


# --- which folders ---


def test_folders_and_files_mean_fixtures(fixture: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture, tmp_path / "all" / "deep" / "one")
    shutil.copytree(fixture, tmp_path / "all" / "two")
    shutil.copytree(fixture, tmp_path / "all" / ".hidden")
    bare = tmp_path / "all" / "bare"
    shutil.copytree(fixture, bare)
    (bare / "meta.json").unlink()
    (bare / "expected.json").unlink()
    (tmp_path / "all" / "samples").mkdir()
    (tmp_path / "all" / "samples" / "dump.txt").write_text("*nat\nCOMMIT\n")
    (tmp_path / "all" / "README.md").write_text("fixtures")
    assert fixture_folders(["all"]) == (["all/bare", "all/deep/one", "all/two"], [])
    assert fixture_folders(["all/two", "all/two/", "all/two/meta.json"]) == (["all/two"], [])
    assert fixture_folders(["all/two/", "./all", str(tmp_path / "all")]) == (["all/two/", "./all/bare", "./all/deep/one"], [])
    assert fixture_folders(["all/two/iptables-save.txt", "all/README.md"]) == (["all/two"], ["all/README.md"])
    assert fixture_folders(["all/bare/objects.json"]) == (["all/bare"], [])
    assert fixture_folders(["all/samples"]) == (["all/samples"], [])
    assert fixture_folders(["all/samples/dump.txt"]) == ([], ["all/samples/dump.txt"])
    for path, message in (("absent", "there is no such"), ("all/.hidden/x", "there is no such")):
        with pytest.raises(InputError, match=message):
            fixture_folders([path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no fixture"):
        fixture_folders(["empty"])


# --- the command ---


def test_exit_statuses(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lint", "node"]) == 0
    assert capsys.readouterr().out == "node: nothing found\n1 fixture: no faults found\n"
    (fixture / "meta.json").write_text(json.dumps({**META, "node_ips": ["192.0.2.99"]}))
    assert cli.main(["lint", "node"]) == 1
    assert "RA012 wrong-description" in capsys.readouterr().out
    assert cli.main(["lint", "node", "--exit-zero"]) == 0
    assert cli.main(["lint", "node", "--ignore", "RA012"]) == 0
    assert cli.main(["lint", "node", "--select", "RA7"]) == 0
    assert "1 finding not shown (--select)" in capsys.readouterr().out
    assert cli.main(["lint", "absent"]) == 2
    assert cli.main(["lint"]) == 2
    assert cli.main(["lint", "node", "--frobnicate"]) == 2
    Path("stray.txt").write_text("x")
    capsys.readouterr()
    assert cli.main(["lint", "stray.txt"]) == 0
    assert "stray.txt: in no fixture, not looked at" in capsys.readouterr().err


def test_write_expected(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fixture / "iptables-save.txt").write_text(BROKEN(NODE.text()))
    assert cli.main(["lint", "node"]) == 1
    assert cli.main(["lint", "node", "--write-expected"]) == 0
    assert [one["code"] for one in json.loads((fixture / "expected.json").read_text())["found"]] == ["RA101"]
    capsys.readouterr()
    assert cli.main(["lint", "node"]) == 0
    assert "1 finding as expected" in capsys.readouterr().out
    assert cli.main(["lint", "node", "--format", "github"]) == 0
    assert "no faults found" not in capsys.readouterr().out  # there is one, as expected
    (fixture / "iptables-save.txt").write_text(NODE.text())
    assert cli.main(["lint", "node"]) == 1
    assert "must be found, and is not" in capsys.readouterr().out


def test_a_fault_of_the_fixture_itself_is_not_expected(fixture: Path) -> None:
    (fixture / ".env").write_text("--token=s3cr3tvalue")
    described(node="node-x")(fixture)
    assert cli.main(["lint", "node", "--write-expected"]) == 1
    assert json.loads((fixture / "expected.json").read_text())["found"] == []


def test_the_last_line_sums_up(fixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def last(*folders: str) -> str:
        cli.main(["lint", *folders])
        return capsys.readouterr().out.splitlines()[-1]

    shutil.copytree(fixture, tmp_path / "other")
    assert last("node", "other") == "2 fixtures: no faults found"
    (fixture / ".env").write_text("--token=s3cr3tvalue")
    assert last("node") == "1 fixture: faults found"
    assert last("node", "other") == "2 fixtures: faults found in 1"


def test_the_configuration_counts(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fixture / ".env").write_text("--token=s3cr3tvalue")
    Path("ruleaudit.toml").write_text('[[ignores]]\ncodes = ["RA803"]\nnode = "no*"\nreason = "made up"\n')
    assert cli.main(["lint", "node"]) == 0
    assert "1 finding ignored by ruleaudit.toml:1: made up" in capsys.readouterr().out
    assert cli.main(["lint", "node", "--no-config"]) == 1


@pytest.mark.parametrize(
    ("below", "spelt"),
    [(".", "nodes"), (".", "./nodes"), (".", "nodes/node/"), ("nodes", "node"), ("nodes/node", "."), ("nodes/node", "../node/")],
)
def test_a_fixture_is_known_however_it_is_spelt(
    fixture: Path, tmp_path: Path, below: str, spelt: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ignores, and by fingerprints: everything in it that is about a file."""
    (fixture / ".env").write_text("--token=s3cr3tvalue")
    (fixture / "empty.txt").write_text("")
    (fixture / "notes.txt").write_text("words")
    (tmp_path / "nodes").mkdir()
    fixture.rename(tmp_path / "nodes" / "node")
    (tmp_path / "ruleaudit.toml").write_text("")

    def lint(path: str) -> dict[str, set[str]]:
        cli.main(["lint", path, "--format", "json"])
        fixtures = json.loads(capsys.readouterr().out)["fixtures"]
        return {one["folder"]: {found["fingerprint"] for found in one["report"]["findings"]} for one in fixtures}

    wanted = lint("nodes")
    assert list(wanted) == ["nodes/node"]
    assert len(wanted["nodes/node"]) == 3
    monkeypatch.chdir(tmp_path / below)
    assert lint(spelt) == wanted
    assert cli.main(["lint", spelt]) == 1
    (tmp_path / "ruleaudit.toml").write_text('[[ignores]]\ncodes = ["RA803"]\nnode = "nodes/node"\nreason = "made up"\n')
    assert cli.main(["lint", spelt]) == 0


def test_without_a_configuration_a_fixture_is_named_as_seen_from_here(fixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fixture)
    assert lint_folder("../node/").report.node == "."
    assert lint_folder("../node", base="..").report.node == "node"


def test_every_format(fixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(fixture, tmp_path / "other")
    (fixture / "iptables-save.txt").write_text(BROKEN(NODE.text()))
    names = ["r.json", "r.html", "r.md", "r.sarif", "r.xml", "r.gitlab.json"]
    options = [word for name in names for word in ("--output", name)]
    assert cli.main(["lint", "node", "other", *options, "--format", "github"]) == 1
    assert "RA101" in capsys.readouterr().out
    report = json.loads(Path("r.json").read_text())
    assert report["schema"] == "ruleaudit/lint/v1"
    assert [
        (one["folder"], one["report"]["schema"], one["report"]["summary"]["findings"]["error"]) for one in report["fixtures"]
    ] == [
        ("node", "ruleaudit/report/v1", 1),
        ("other", "ruleaudit/report/v1", 0),
    ]
    assert [one["ruleId"] for one in json.loads(Path("r.sarif").read_text())["runs"][0]["results"]] == ["RA101", "RA209"]
    assert ElementTree.parse("r.xml").getroot().get("failures") == "1"
    assert len(json.loads(Path("r.gitlab.json").read_text())) == 2
    for name in ("r.html", "r.md"):
        assert "RA101" in Path(name).read_text()
    assert "<h1>ruleaudit: 2 fixtures</h1>" in Path("r.html").read_text()


def test_the_bundled_nodes_are_good_fixtures(nodes: Path) -> None:
    for folder in sorted(one for one in nodes.iterdir() if one.is_dir()):
        report = lint_folder(str(folder)).report
        assert report.findings == (), folder.name


OTHER_SETTINGS = {
    "coredns.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\n"
    "data: {Corefile: '.:53 { kubernetes cluster.local }'}\n",
    "calico.yaml": "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: calico-node, namespace: kube-system}\n"
    "spec: {template: {spec: {containers: [{name: calico-node, image: 'calico/node:v3'}]}}}\n",
    "limits.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "limits"}, "data": {"a": "1"}}',
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_settings_of_other_programs_are_passed_over(fixture: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (fixture / name).write_text(OTHER_SETTINGS[name])
    assert cli.main(["lint", "node"]) == 0
    assert cli.main(["check", "node", "--strict-coverage"]) == 0
    assert cli.main(["anonymize", "node", "--output", "anonymous"]) == 0
    assert cli.main(["check", f"node/{name}"]) == 2
    assert "nothing that can be audited" in capsys.readouterr().err
    assert cli.main(["check", "node", "--kube-proxy-config", f"node/{name}"]) == 2
    assert "holds no kube-proxy settings" in capsys.readouterr().err


def test_services_behind_the_settings_of_another_program_are_read(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = json.loads((fixture / "objects.json").read_text())["items"]
    other = json.loads(OTHER_SETTINGS["limits.json"])
    (fixture / "objects.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [other, *items]}))
    (fixture / "iptables-save.txt").write_text(BROKEN(NODE.text()))
    assert cli.main(["check", "node"]) == 1
    assert "RA101" in capsys.readouterr().out

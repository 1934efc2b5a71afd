"""Captures: of this node, of a cluster's nodes through exec, by the script; what is in them, and that `check` reads them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.kernel.laboratory import network_namespace, why_not
from tests.live.api_server import ApiServer, Printed, objects_of, waited
from tests.live.test_cluster import findings
from tests.live.test_node import load, run, state

import ruleaudit
from ruleaudit import cli
from ruleaudit.live import cluster, execute, node
from ruleaudit.live.capture import write_capture
from ruleaudit.live.errors import LiveError
from ruleaudit.live.objects import reduced

if TYPE_CHECKING:
    from collections.abc import Iterator

_REASON = why_not()
in_namespace = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]
SCRIPT = Path(__file__).parents[2] / "src" / "ruleaudit" / "live" / "collect.sh"
CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"
SECRET = "not-to-be-written-down"
CONFIGURATION = (
    'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ""\nclusterCIDR: 10.244.0.0/16\n'
)


# --- clusters ---


@pytest.fixture(scope="session")
def objects(nodes: Path) -> dict[str, list[dict[str, Any]]]:
    """The objects of a bundled node, with a kube-proxy pod on each Node, and secrets where they can be."""
    found = objects_of(nodes / "changed-destination")
    for place in found.values():
        for one in place:
            one["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = SECRET
            one["metadata"]["managedFields"] = [{"manager": SECRET}]
    for number, one in enumerate(found["/api/v1/nodes"]):
        pod = kube_proxy(f"kube-proxy-{number}", one["metadata"]["name"])
        flags = shlex.split((nodes / "changed-destination" / "kube-proxy.args").read_text())[1:]
        pod["spec"]["containers"][0]["args"] = [one for one in flags if not one.startswith("--hostname-override")]
        found["/api/v1/pods"].append(pod)
    return found


def kube_proxy(name: str, on: str) -> dict[str, Any]:
    command = ["/usr/local/bin/kube-proxy", "--hostname-override=$(NODE_NAME)"]
    image = "registry.k8s.io/kube-proxy:v1.36.2"
    environment = [{"name": "NODE_NAME", "value": SECRET}]
    return {
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-proxy"},
            "creationTimestamp": "2026-11-23T04:54:09Z",
        },
        "spec": {
            "nodeName": on,
            "hostNetwork": True,
            "containers": [{"name": "kube-proxy", "image": image, "command": command, "env": environment}],
            "volumes": [{"name": "kube-proxy", "configMap": {"name": "kube-proxy"}}],
        },
        "status": {"phase": "Running"},
    }


@pytest.fixture(scope="session")
def programs(nodes: Path) -> dict[str, Printed]:
    """What a kube-proxy image has, on the bundled node."""
    folder = nodes / "changed-destination"
    return {
        "iptables-legacy-save": "",
        "ip6tables-legacy-save": "",
        "iptables-nft-save": (folder / "iptables-save.txt").read_text(),
        "ip6tables-nft-save": (folder / "ip6tables-save.txt").read_text(),
        "iptables-nft-save --version": "iptables-nft-save v1.8.9 (nf_tables)\n",
        "/usr/local/bin/kube-proxy --version": "Kubernetes v1.36.2\n",
    }


@pytest.fixture
def single() -> dict[str, dict[str, Any]]:
    data = {"config.conf": CONFIGURATION, "kubeconfig.conf": f"apiVersion: v1\nkind: Config\nusers: [{{token: {SECRET}}}]\n"}
    return {CONFIG_MAP: {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "kube-proxy"}, "data": data}}


def collect(server: ApiServer, folder: Path, *arguments: str, timeout: float = 10) -> int:
    where = ["--cluster", "--kubeconfig", server.kubeconfig(folder), "--request-timeout", str(timeout)]
    return cli.main(["collect", *where, *arguments])


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
@pytest.mark.parametrize("output", ["capture", "capture.tar.gz"])
def test_all_nodes_of_a_cluster(
    nodes: Path,
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    protocol: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [one["metadata"]["name"] for one in objects["/api/v1/nodes"]]
    on_all = {f"kube-proxy-{number}": programs for number in range(len(names))}
    with ApiServer(objects, single=single, programs=on_all, protocol=protocol) as server:
        assert collect(server, tmp_path, "--output", str(tmp_path / output)) == 0
    assert server.protocols == {protocol}
    assert capsys.readouterr().err == f"wrote {tmp_path / output}: {len(names)} nodes, objects\n"
    written = tmp_path / "capture"
    if output != "capture":
        with tarfile.open(tmp_path / output) as archive:
            archive.extractall(tmp_path, filter="data")
    expected = {"ip6tables-nft-save.txt", "iptables-nft-save.txt", "kube-proxy-config.yaml", "kube-proxy.args", "meta.json"}
    assert {one.relative_to(written).as_posix() for one in written.rglob("*") if one.is_file()} == {
        "objects.json",
        *(f"{name}/{file}" for name in names for file in expected),
    }
    described = json.loads((written / "node-a" / "meta.json").read_text())
    assert (described["node"], described["kube_proxy_version"]) == ("node-a", "Kubernetes v1.36.2")
    assert described["not_collected"] == []
    assert described["tools"] == {"iptables-nft-save": "iptables-nft-save v1.8.9 (nf_tables)"}
    assert SECRET not in "".join(one.read_text() for one in written.rglob("*") if one.is_file())
    report = ruleaudit.audit_inputs(ruleaudit.read([str(written / "node-a"), str(written / "objects.json")]))
    by_files = ruleaudit.audit_inputs(ruleaudit.read([str(nodes / "changed-destination")]))
    assert report.node == "node-a"
    assert findings(report) == findings(by_files)


def test_a_node_may_be_called_like_the_objects(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], single: dict[str, Any]
) -> None:
    name = "objects.json"
    pods = [*objects["/api/v1/pods"], kube_proxy("kube-proxy-x", name)]
    there = {**objects, "/api/v1/pods": pods, "/api/v1/nodes": [*objects["/api/v1/nodes"], {"metadata": {"name": name}}]}
    on_all = {one["metadata"]["name"]: programs for one in pods}
    with ApiServer(there, single=single, programs=on_all) as server:
        assert collect(server, tmp_path, "--output", str(tmp_path / "out")) == 0
    assert json.loads((tmp_path / "out" / "Node-objects.json" / "meta.json").read_text())["node"] == name
    assert json.loads((tmp_path / "out" / "objects.json").read_text())["kind"] == "List"


@pytest.mark.parametrize("output", ["capture", "capture.tar.gz"])
def test_what_is_written_of_a_cluster_is_taken_as_it_is(
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    output: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [one["metadata"]["name"] for one in objects["/api/v1/nodes"]]
    on_all = {f"kube-proxy-{number}": programs for number in range(len(names))}
    capture = str(tmp_path / output)
    with ApiServer(objects, single=single, programs=on_all) as server:
        assert collect(server, tmp_path, "--output", capture) == 0
    capsys.readouterr()
    assert cli.main(["check", capture, "--format", "json", "--exit-zero"]) == 0
    assert json.loads(capsys.readouterr().out)["names"] == names
    assert cli.main(["trace", capture, "--from", "pod/demo/web-0", "--to", "web:80", "--quiet"]) == 0
    assert cli.main(["show", "summary", capture, "--node", names[1]]) == 0
    assert cli.main(["anonymize", capture, "--output", str(tmp_path / "anonymous")]) == 0
    assert len([one for one in (tmp_path / "anonymous").iterdir() if one.is_dir()]) == len(names)


def test_only_what_the_roles_allow_is_asked_for(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], single: dict[str, Any]
) -> None:
    with ApiServer(objects, single=single, programs={"kube-proxy-0": programs}) as server:
        name = objects["/api/v1/nodes"][0]["metadata"]["name"]
        assert collect(server, tmp_path, "--node", name, "--output", str(tmp_path / "out")) == 0
    roles = list(yaml.safe_load_all((Path(__file__).parents[2] / "docs" / "rbac.yaml").read_text()))
    role = next(one for one in roles if one["metadata"]["name"] == "ruleaudit-collect")
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["pods/exec"], ["get", "create"]),  # of a WebSocket, whose request is a GET; create as well from 1.35 on
        (["configmaps"], ["get"]),
    ]
    others = {one.path for one in server.asked if one.path not in objects and "exec" not in one.path}
    assert others == {CONFIG_MAP}
    assert CONFIG_MAP.rpartition("/")[2] in role["rules"][1]["resourceNames"]
    run_there = {one.query["command"] for one in server.asked if one.path.startswith("exec ")}
    assert {one.partition(" ")[0].rpartition("/")[2] for one in run_there} <= {
        *(f"{tool}{backend}-save" for tool in ("iptables", "ip6tables") for backend in ("", "-legacy", "-nft")),
        *("ipset", "ipvsadm", "ip", "nft", "kube-proxy"),
    }


@pytest.mark.parametrize("printed", ["", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 9999 -j DROP\nCOMMIT\n"])
def test_a_node_whose_pod_shows_no_rules_is_broken(
    printed: str,
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = {**programs, "iptables-nft-save": printed, "ip6tables-nft-save": ""}
    with ApiServer(objects, single=single, programs={"kube-proxy-0": image}) as server:
        assert collect(server, tmp_path, "--node", "node-a", "--output", str(tmp_path / "out")) == 0
    capsys.readouterr()
    assert cli.main(["check", str(tmp_path / "out"), "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in report["findings"] if one["severity"] == "error"] == ["RA005"]


def test_one_node_lies_at_the_top(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], single: dict[str, Any]
) -> None:
    with ApiServer(objects, single=single, programs={"kube-proxy-0": programs}) as server:
        name = objects["/api/v1/nodes"][0]["metadata"]["name"]
        assert collect(server, tmp_path, "--node", name, "--output", str(tmp_path / "one.tgz")) == 0
    with tarfile.open(tmp_path / "one.tgz") as archive:
        assert {"one/objects.json", "one/meta.json", "one/iptables-nft-save.txt"} <= set(archive.getnames())
        assert {member.mode for member in archive} == {0o600}
    assert cli.main(["check", str(tmp_path / "one.tgz"), "--exit-zero"]) == 0


def test_only_the_objects(tmp_path: Path, objects: dict[str, Any]) -> None:
    with ApiServer(objects) as server:
        assert collect(server, tmp_path, "--objects-only", "--output", str(tmp_path / "objects")) == 0
    assert [one.name for one in (tmp_path / "objects").iterdir()] == ["objects.json"]
    assert not [one for one in server.asked if one.path.startswith("exec")]


def test_the_youngest_running_pod_of_a_node_is_asked(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed]
) -> None:
    pods = [one for one in objects["/api/v1/pods"] if not one["metadata"]["name"].startswith("kube-proxy")]
    older, younger, done = (kube_proxy(name, "node-a") for name in ("older", "younger", "done"))
    younger["metadata"]["creationTimestamp"] = "2026-11-23T05:00:00Z"
    done["metadata"]["creationTimestamp"] = "2026-11-23T06:00:00Z"
    done["status"]["phase"] = "Failed"
    with ApiServer({**objects, "/api/v1/pods": [*pods, younger, older, done]}, programs={"younger": programs}) as server:
        assert collect(server, tmp_path, "--node", "node-a", "--output", str(tmp_path / "out")) == 0
    assert {one.path for one in server.asked if one.path.startswith("exec")} == {"exec younger"}
    described = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert "configmaps/kube-proxy" not in described["commands"].values()
    assert "kube-proxy's configuration" in [one["what"] for one in described["not_collected"]]


def test_ipvs_without_its_tool_in_the_image(
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = "*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n"
    sets = "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n"
    image: dict[str, Printed] = {**programs, "iptables-nft-save": rules, "ip6tables-nft-save": "", "ipset save": sets}
    with ApiServer(objects, single=single, programs={"kube-proxy-0": image}) as server:
        name = objects["/api/v1/nodes"][0]["metadata"]["name"]
        assert collect(server, tmp_path, "--node", name, "--output", str(tmp_path / "out")) == 0
    described = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert [one["what"] for one in described["not_collected"]] == ["ipvsadm", "ip"]
    assert all("collect --script" in one["hint"] for one in described["not_collected"])
    capsys.readouterr()
    cli.main(["check", str(tmp_path / "out"), "--exit-zero"])
    assert (
        "the virtual servers of IPVS were not read: there is no ipvsadm here (use `ruleaudit collect --script`"
        in capsys.readouterr().out
    )


# --- what goes wrong on the way to a node ---


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("403", "it is not allowed (403: a message for 403): docs/live.md"),
        ("401", "it is not allowed (401: a message for 401)"),
        ("404", "refused with status 404: a message for 404"),
        ("500", "refused with status 500: a message for 500"),
        ("no handshake", "the API server does not answer; --request-timeout"),
        ("silent", "nothing came for 0.5 seconds; --request-timeout"),
        ("stalls", "nothing came for 0.5 seconds; --request-timeout"),
        ("slow", "its output comes too slowly"),
        ("cut", "the connection was cut"),
        ("cut in a frame", "the connection was cut"),
        ("no status", "the connection was cut before the program's end"),
        ("garbage", "the connection was cut before the program's end"),
        ("not running", "container kube-proxy is not running"),
    ],
)
def test_a_bad_connection_writes_nothing(
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    fault: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = {**programs, "iptables-nft-save": str(programs["iptables-nft-save"]) * (10 if fault == "slow" else 1)}
    since = time.monotonic()
    with ApiServer(objects, programs={"kube-proxy-0": image}, faults={"iptables-nft-save": fault}) as server:
        name = objects["/api/v1/nodes"][0]["metadata"]["name"]
        assert collect(server, tmp_path, "--node", name, "--output", str(tmp_path / "out"), timeout=0.5) == 2
    said = capsys.readouterr().err
    assert words in said
    assert f"`iptables-nft-save` in pod kube-system/kube-proxy-0 on {name}" in said
    assert waited(since) < 12
    assert [one.name for one in tmp_path.iterdir() if "out" in one.name] == []


@pytest.mark.parametrize("absent", [(127, "sh: not found"), (126, ""), None])
def test_an_image_with_one_tool_alone(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], single: dict[str, Any], absent: Printed | None
) -> None:
    image: dict[str, Printed] = {
        "iptables-save": programs["iptables-nft-save"],
        "ip6tables-save": programs["ip6tables-nft-save"],
        "iptables-save --version": "iptables-save v1.8.9 (nf_tables)",
        "ip6tables-save --version": "ip6tables-save v1.8.9 (nf_tables)",
    }
    if absent is not None:
        image |= {f"{tool}-{backend}-save": absent for tool in ("iptables", "ip6tables") for backend in ("legacy", "nft")}
    with ApiServer(objects, single=single, programs={"kube-proxy-0": image}) as server:
        assert collect(server, tmp_path, "--node", "node-a", "--output", str(tmp_path / "out")) == 0
    described = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert described["tools"] == {"iptables-save": "iptables-save v1.8.9 (nf_tables)"}
    assert described["kube_proxy_version"] == "kube-proxy:v1.36.2", "of the image, where the program does not say it"
    assert {"iptables-save.txt", "ip6tables-save.txt"} <= {one.name for one in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["kube-proxy", "--v=2"], ["kube-proxy", "--v=2"]),
        (
            ["/bin/sh", "-c", "exec kube-proxy --cluster-cidr=10.0.0.0/8 --v=2"],
            ["kube-proxy", "--cluster-cidr=10.0.0.0/8", "--v=2"],
        ),
        (["/hyperkube", "/usr/bin/kube-proxy", "--config=/a b"], ["/usr/bin/kube-proxy", "--config=/a b"]),
        (["/bin/sh", "-c", "it's"], []),
        (["/server"], []),
        ([], []),
    ],
)
def test_the_command_line_of_a_pod(words: list[str], found: list[str]) -> None:
    connection = cluster.Connection(None, "https://127.0.0.1", 1)
    dumps, missing = execute.pod_settings(connection, execute.ProxyPod("n", "kube-system", "p", "c", tuple(words)))
    assert not missing
    assert [shlex.split(one.data.decode()) for one in dumps] == ([found] if found else [])


def test_an_image_without_the_tools(tmp_path: Path, objects: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with ApiServer(objects) as server:
        assert collect(server, tmp_path, "--node", "node-a", "--output", str(tmp_path / "out")) == 2
    assert "its image has no iptables-save: use `ruleaudit collect --script` on the node" in capsys.readouterr().err


def test_the_nodes_that_can_be_read_are_written(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [one["metadata"]["name"] for one in objects["/api/v1/nodes"]]
    pods = [one for one in objects["/api/v1/pods"] if one["metadata"]["name"] != "kube-proxy-1"]
    with ApiServer({**objects, "/api/v1/pods": pods}, programs={"kube-proxy-0": programs}) as server:
        assert collect(server, tmp_path, "--output", str(tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert f"{names[1]} is not in it: no running pod with the label k8s-app=kube-proxy is on it" in said
    assert f"{names[2]} is not in it: pod kube-system/kube-proxy-2" in said
    assert {one.name for one in (tmp_path / "out").iterdir()} == {names[0], "objects.json"}


def test_a_node_whose_rules_can_be_read_in_part_is_named(
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    image: dict[str, Printed] = {**programs, "iptables-nft-save": (4, "Could not fetch rule set generation id")}
    pods = {f"kube-proxy-{number}": image if number == 1 else programs for number in range(len(objects["/api/v1/nodes"]))}
    with ApiServer(objects, single=single, programs=pods) as server:
        name = objects["/api/v1/nodes"][1]["metadata"]["name"]
        assert collect(server, tmp_path, "--output", str(tmp_path / "out")) == 1
        why = "iptables-nft-save failed with status 4: Could not fetch rule set generation id"
        assert capsys.readouterr().err.splitlines()[0] == f"ruleaudit: {name} is in it without some of its rules: {why}"
        assert collect(server, tmp_path, "--node", name, "--quiet", "--output", str(tmp_path / "one")) == 1
        assert why in capsys.readouterr().err
    assert (tmp_path / "out" / name / "ip6tables-nft-save.txt").exists()


def test_a_node_that_is_none_is_named(
    tmp_path: Path,
    objects: dict[str, Any],
    programs: dict[str, Printed],
    single: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ApiServer(objects, single=single, programs={"kube-proxy-0": programs}) as server:
        assert collect(server, tmp_path, "--node", "node-aa", "--output", str(tmp_path / "out")) == 2
        assert "node 'node-aa'" in (said := capsys.readouterr().err)
        assert "did you mean node-a" in said
        assert collect(server, tmp_path, "--node", "node-a", "--node", "node-aa", "--output", str(tmp_path / "out")) == 1
        assert "ruleaudit: node-aa is not in it: " in capsys.readouterr().err
    pods = [one for one in objects["/api/v1/pods"] if not one["metadata"]["name"].startswith("kube-proxy-0")]
    with ApiServer({**objects, "/api/v1/pods": pods}, single=single, programs={}) as server:
        assert collect(server, tmp_path, "--node", "node-a", "--output", str(tmp_path / "none")) == 2
        assert "node-a: no running pod with the label k8s-app=kube-proxy is on it" in capsys.readouterr().err


def test_a_name_that_no_folder_can_have(
    tmp_path: Path, objects: dict[str, Any], programs: dict[str, Printed], capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "../\x1b[31mout"
    pods = [kube_proxy("kube-proxy-0", "node-a"), kube_proxy("hostile", hostile)]
    with ApiServer({**objects, "/api/v1/pods": pods}, programs={"kube-proxy-0": programs, "hostile": programs}) as server:
        assert collect(server, tmp_path, "--output", str(tmp_path / "capture")) == 1
        said = capsys.readouterr().err
        assert "its name is none that a folder can have" in said
        assert "\x1b" not in said
        assert collect(server, tmp_path, "--node", hostile, "--output", str(tmp_path / "one")) == 2
    assert {one.name for one in (tmp_path / "capture").iterdir()} == {"node-a", "objects.json"}
    assert not [one for one in tmp_path.iterdir() if "out" in one.name]


def test_no_pod_has_the_label(tmp_path: Path, objects: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with ApiServer(objects) as server:
        assert collect(server, tmp_path, "--selector", "component=kube-proxy", "--output", str(tmp_path / "out")) == 2
    assert "no running pod has the label component=kube-proxy; name another with --selector" in capsys.readouterr().err


# --- what is kept of an object ---


@pytest.mark.parametrize(
    ("kind", "item", "kept"),
    [
        (
            "Pod",
            {
                "metadata": {"name": "a", "uid": "1", "labels": {"x": "y"}, "annotations": {"token": SECRET}},
                "spec": {
                    "nodeName": "n",
                    "containers": [{"name": "c", "env": [{"value": SECRET}], "args": [SECRET], "ports": []}],
                },
                "status": {"podIP": "10.0.0.1", "message": SECRET},
            },
            {
                "metadata": {"name": "a", "labels": {"x": "y"}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": []}]},
                "status": {"podIP": "10.0.0.1"},
            },
        ),
        (
            "Ingress",
            {
                "metadata": {
                    "name": "a",
                    "annotations": {
                        "kubernetes.io/ingress.class": "nginx",
                        "nginx.ingress.kubernetes.io/configuration-snippet": SECRET,
                        "nginx.ingress.kubernetes.io/canary": "true",
                    },
                }
            },
            {
                "metadata": {
                    "name": "a",
                    "annotations": {
                        "kubernetes.io/ingress.class": "nginx",
                        "nginx.ingress.kubernetes.io/configuration-snippet": "",
                        "nginx.ingress.kubernetes.io/canary": "true",
                    },
                }
            },
        ),
        (
            "Service",
            {"metadata": {"name": "a"}, "spec": {"ports": "none"}},
            {"metadata": {"name": "a"}, "spec": {"ports": "none"}},
        ),
        ("Node", {"metadata": None, "status": {"images": [SECRET]}}, {"metadata": None, "status": {}}),
    ],
)
def test_only_what_is_read_is_kept(kind: str, item: dict[str, Any], kept: dict[str, Any]) -> None:
    assert reduced(kind, item) == kept


# --- writing ---


def test_a_capture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    for output, words in (
        ("there", "is there already"),
        ("there.tar.gz/x", "no such folder"),
        ("no/such/place", "no such folder"),
        ("x.zip", r"name one that ends in \.tar\.gz or \.tgz, or a folder"),
    ):
        with pytest.raises(LiveError, match=words):
            write_capture({"a": b"b"}, str(tmp_path / output))
    (tmp_path / "x.tgz").mkdir()
    with pytest.raises(LiveError, match="is a folder"):
        write_capture({"a": b"b"}, str(tmp_path / "x.tgz"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        patched.setattr(Path, "replace", full)
        for output in ("new", "new.tar.gz"):
            with pytest.raises(LiveError, match="No space left"):
                write_capture({"a/b": b"c"}, str(tmp_path / output))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["there", "x.tgz"]
    write_capture({"a/b": b"c"}, str(tmp_path / "new"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "a" / "b").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--output", "x", "--selector", "a=b"],
        ["--output", "x", "--objects-only"],
        ["--output", "x", "--context", "c"],
        ["--output", "x", "--live", "--cluster", "--selector", "a=b"],
        ["--output", "x", "--node", "a", "--node", "b"],
    ],
)
def test_options_that_say_nothing_together(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["collect", *arguments]) == 2
    assert "Usage: ruleaudit collect" in capsys.readouterr().err


# --- this node, and the script ---


@pytest.fixture
def namespace() -> Iterator[None]:
    with network_namespace():
        yield


def shells() -> list[list[str]]:
    candidates = (["dash"], ["busybox", "sh"], ["bash", "--posix"])
    return [shell for shell in candidates if shutil.which(shell[0])]


def script(tmp_path: Path, shell: list[str], *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "ruleaudit", "collect", "--script"], capture_output=True, text=True)
    assert done.returncode == 0
    (tmp_path / "collect.sh").write_text(done.stdout)
    command = [*shell, str(tmp_path / "collect.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=tmp_path)


def comparable(folder: Path) -> dict[str, str]:
    """The files of a capture, without the times in them."""
    return {
        one.name: "\n".join(line for line in one.read_text().splitlines() if not line.startswith("#"))
        for one in folder.iterdir()
        if one.name != "meta.json"
    }


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_the_script_writes_what_collect_writes(nodes: Path, tmp_path: Path, shell: list[str], backend: str) -> None:
    load(nodes / "changed-destination", backend)
    before = state()
    done = script(tmp_path, shell, "out.tar.gz", NODE_NAME="node-a")
    assert (done.returncode, done.stderr) == (0, "collect.sh: wrote out.tar.gz\n")
    assert cli.main(["collect", "--output", str(tmp_path / "by-collect"), "--node", "node-a"]) == 0
    assert state() == before
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert comparable(tmp_path / "out") == comparable(tmp_path / "by-collect")
    assert (tmp_path / "out" / f"iptables-{backend}-save.txt").is_file()
    described = [json.loads((tmp_path / one / "meta.json").read_text()) for one in ("out", "by-collect")]
    for name in ("node", "hostname", "kernel", "kube_proxy_version", "not_collected"):
        assert described[0][name] == described[1][name]
    objects = str(nodes / "changed-destination" / "objects.json.xz")
    reports = [
        ruleaudit.audit_inputs(ruleaudit.read([str(tmp_path / one), objects])) for one in ("out.tar.gz", "out", "by-collect")
    ]
    assert findings(reports[0]) == findings(reports[1]) == findings(reports[2])
    assert "RA206" in {one.code for one in reports[0].findings}
    assert reports[0].node == "node-a"


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_that_a_node_has_no_rules_is_in_its_capture(nodes: Path, tmp_path: Path, shell: list[str]) -> None:
    done = script(tmp_path, shell, "out")
    assert (done.returncode, done.stderr) == (0, "collect.sh: wrote out\n")
    assert cli.main(["collect", "--output", str(tmp_path / "by-collect")]) == 0
    files = [{one.name: one.read_text() for one in (tmp_path / name).iterdir()} for name in ("out", "by-collect")]
    assert files[0]["iptables-save.txt"] == files[1]["iptables-save.txt"]
    assert files[0]["ip6tables-save.txt"] == files[1]["ip6tables-save.txt"]
    assert cli.main(["anonymize", str(tmp_path / "by-collect"), "--output", str(tmp_path / "anonymous")]) == 0
    objects = str(nodes / "changed-destination" / "objects.json.xz")
    for name in ("out", "by-collect", "anonymous"):
        report = ruleaudit.audit_inputs(ruleaudit.read([str(tmp_path / name), objects]), node="node-a")
        assert [one.code for one in report.findings if one.severity.value == "error"] == ["RA005"]
        assert "RA004" not in {one.code for one in report.findings}


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_that_a_node_has_a_firewall_alone_is_in_its_capture(nodes: Path, tmp_path: Path, shell: list[str], backend: str) -> None:
    run(f"iptables-{backend}", "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP")
    done = script(tmp_path, shell, "out")
    assert (done.returncode, done.stderr) == (0, "collect.sh: wrote out\n")
    assert cli.main(["collect", "--output", str(tmp_path / "by-collect")]) == 0
    assert comparable(tmp_path / "out") == comparable(tmp_path / "by-collect")
    files = [{one.name: one.read_text() for one in (tmp_path / name).iterdir()} for name in ("out", "by-collect")]
    assert files[0]["iptables-no-nat.txt"] == files[1]["iptables-no-nat.txt"]
    for name in ("out", "by-collect"):
        report = ruleaudit.audit_inputs(
            ruleaudit.read([str(tmp_path / name), str(nodes / "healthy" / "objects.json.xz")]), node="node-a"
        )
        assert [one.code for one in report.findings if one.severity.value == "error"] == ["RA005"]
        assert "RA004" not in {one.code for one in report.findings}


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize("output", ["-x", "-x.tar.gz", "--help", "--.tgz"])
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_the_script_writes_what_begins_with_a_dash(tmp_path: Path, shell: list[str], output: str) -> None:
    done = script(tmp_path, shell, output)
    assert (done.returncode, done.stderr) == (0, f"collect.sh: wrote ./{output}\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([output, "collect.sh"])
    assert {one.kind.value for one in ruleaudit.read([str(tmp_path / output)])} >= {"iptables-save", "capture-description"}


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize(
    ("backend", "programs", "words"),
    [
        pytest.param("nft", (), "whether iptables-nft holds rules", id="no tool"),
        pytest.param(
            "legacy",
            ("iptables-nft-save", "ip6tables-nft-save", "nft"),
            "the legacy tables",
            id="rules of others in the other backend",
        ),
    ],
)
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_the_script_refuses_where_nothing_can_be_seen(
    nodes: Path, tmp_path: Path, shell: list[str], backend: str, programs: tuple[str, ...], words: str
) -> None:
    load(nodes / "changed-destination", backend)
    run("iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in (
        "id",
        "uname",
        "date",
        "dirname",
        "basename",
        "mkdir",
        "rm",
        "cat",
        "grep",
        "sed",
        "tr",
        "wc",
        "head",
        "readlink",
        "ip",
        *programs,
    ):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    path = "/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
    text = SCRIPT.read_text()
    assert path in text
    (tmp_path / "collect.sh").write_text(text.replace(path, str(tools) + "}"))
    found = shutil.which(shell[0]) or ""
    command = [found, *shell[1:], str(tmp_path / "collect.sh"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode == 2, done.stderr
    assert f"nothing tells whether kube-proxy has rules here: {words}" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_the_script_says_what_it_could_not_take(tmp_path: Path, shell: list[str]) -> None:
    run("iptables-legacy-restore", stdin="*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m mark --mark 0x1 -j RETURN\nCOMMIT\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "iptables-nft-save").write_text("#!/bin/sh\necho 'no \"luck\" \\ here' >&2\nexit 1\n")
    (tools / "iptables-nft-save").chmod(0o755)
    done = script(tmp_path, shell, "out", PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert [(one["what"], one["why"]) for one in described["not_collected"]] == [
        ("iptables-nft-save", 'iptables-nft-save failed: no "luck" \\ here')
    ]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "ip-addr.json",
        "ip6tables-save.txt",
        "iptables-legacy-save.txt",
        "meta.json",
    ]


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize("printed", ["-A -t 10.96.0.1:443 -s rr", "", None])
@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_the_script_takes_what_ipvs_has(tmp_path: Path, shell: list[str], printed: str | None) -> None:
    """IPVS is played: /proc/net/ip_vs by another file, ipvsadm by a script."""
    (tmp_path / "ip_vs").write_text("IP Virtual Server version 1.2.1 (size=4096)\nTCP  0A600001:01BB rr\n")
    (tmp_path / "collect.sh").write_text(SCRIPT.read_text().replace("/proc/net/ip_vs", str(tmp_path / "ip_vs")))
    tools = tmp_path / "tools"
    tools.mkdir()
    if printed is not None:
        says = f'[ "$1" = -Sn ] && printf "%s" "{printed}" || echo "IP Virtual Server version 1.2.1 (size=4096)"'
        (tools / "ipvsadm").write_text(f"#!/bin/sh\n{says}\n")
    else:
        (tools / "ipvsadm").write_text("#!/bin/sh\nexit 2\n")
    (tools / "ipvsadm").chmod(0o755)
    run("ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port")
    try:
        run("iptables-nft-restore", stdin="*nat\n-A OUTPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n")
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        command = [*shell, str(tmp_path / "collect.sh"), str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    finally:
        run("iptables-nft", "-t", "nat", "-F")
        run("ipset", "destroy")
    assert done.returncode == 0, done.stderr
    written = {one.name: one.read_text() for one in (tmp_path / "out").iterdir()}
    assert written["ipset.txt"].startswith("create KUBE-CLUSTER-IP hash:ip,port")
    lacking = [one["what"] for one in json.loads(written["meta.json"])["not_collected"]]
    if printed is None:
        assert lacking == ["ipvsadm"]
        assert "ipvsadm.txt" not in written
    else:
        assert lacking == []
        assert written["ipvsadm.txt"].strip() == (printed or "IP Virtual Server version 1.2.1 (size=4096)")
    kinds = {one.kind.value for one in ruleaudit.read([str(tmp_path / "out")])}
    assert kinds >= {"iptables-save", "ipset", "ip-addr", "capture-description"}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("there", "is there already"),
        ("no/where", "no such folder"),
        ("there.tar.gz", "is a folder"),
        ("new.zip", "ends in .tar.gz or .tgz, or a folder"),
    ],
)
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="the script wants root")
def test_the_script_refuses_what_it_cannot_write(tmp_path: Path, output: str, words: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.tar.gz").mkdir()
    done = script(tmp_path, ["sh"], output)
    assert done.returncode == 2
    assert words in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["collect.sh", "there", "there.tar.gz"]


def test_the_script_passes_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run(["shellcheck", "--shell=sh", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class Metrics(BaseHTTPRequestHandler):
    """What kube-proxy says of itself."""

    def do_GET(self) -> None:
        text = {"/metrics": 'go_threads 8\nkubernetes_build_info{build_date="x",git_version="v1.36.2"} 1\n', "/proxyMode": "ipvs"}
        body = text[self.path].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing."""


@pytest.mark.kernel
@pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
@pytest.mark.usefixtures("namespace")
def test_a_running_kube_proxy_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "config.conf"
    configuration.write_text(CONFIGURATION)
    run("iptables-nft-restore", stdin="*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n")
    playing = "import os, sys; os.execv(sys.executable, ['/opt/kube-proxy', '-c', 'import time; time.sleep(20)', *sys.argv[1:]])"
    words = [f"--config={configuration}", "--hostname-override=node-a", "--v=2", "--master=it's a name", "a b"]
    process = subprocess.Popen([sys.executable, "-c", playing, *words])
    run("ip", "link", "set", "lo", "up")
    server = HTTPServer(("127.0.0.1", 10249), Metrics)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        time.sleep(0.3)
        found = {one.name: one.data for one in node.read_node().settings()}
        assert "--hostname-override=node-a" in found["kube-proxy.args"].decode()
        assert shlex.split(found["kube-proxy.args"].decode())[-5:] == words
        assert found["kube-proxy-config.yaml"] == CONFIGURATION.encode()
        for shell in shells():
            done = script(tmp_path, shell, f"by-{shell[0]}")
            assert done.returncode == 0
            written = tmp_path / f"by-{shell[0]}"
            assert (written / "kube-proxy-config.yaml").read_bytes() == found["kube-proxy-config.yaml"]
            assert shlex.split((written / "kube-proxy.args").read_text())[-5:] == words
            assert "--master='it" in (written / "kube-proxy.args").read_text()
            if shutil.which("curl") or shutil.which("wget"):
                described = json.loads((written / "meta.json").read_text())
                assert (described["kube_proxy_version"], described["mode"]) == ("v1.36.2", "ipvs")
        about = json.loads(found["this node"])
        assert (about["kube_proxy_version"], about["mode"]) == ("v1.36.2", "ipvs")
        for content in (
            CONFIGURATION + "---\nkind: Secret\n",
            CONFIGURATION + "users: []\n",
            "{",
            "kind: KubeProxyConfiguration\nmode: x\n",
        ):
            configuration.write_text(content)
            assert "kube-proxy-config.yaml" not in {one.name for one in node.read_node().settings()}
        configuration.unlink()
        os.mkfifo(configuration)
        assert "kube-proxy-config.yaml" not in {one.name for one in node.read_node().settings()}
        configuration.unlink()
        configuration.symlink_to("/etc/shadow")
        assert "kube-proxy-config.yaml" not in {one.name for one in node.read_node().settings()}
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()

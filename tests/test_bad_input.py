"""Bad input, as users give it: a clear message or a finding, the documented exit status, never a traceback, within stated limits."""

from __future__ import annotations

import io
import json
import lzma
import os
import random
import re
import resource
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruleaudit import InputError, RuleauditError, Source, audit_inputs, cli, load, read
from ruleaudit.reports.structured import json_report
from ruleaudit.reports.text import Layout, plain, report_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ruleaudit.findings import Report

NODE = Path(__file__).resolve().parents[1] / "fixtures" / "nodes" / "healthy"
DUMP = (NODE / "iptables-save.txt").read_text()
OBJECTS = lzma.decompress((NODE / "objects.json.xz").read_bytes())
SECONDS, BYTES = 60, 2 << 30
"""What any input may cost, unless it is refused at a stated limit."""


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `ruleaudit check` on files with these contents."""

    def run(*contents: str | bytes, options: Iterable[str] = ()) -> Outcome:
        paths = []
        for number, content in enumerate(contents):
            path = tmp_path / f"input-{number}"
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
            paths.append(str(path))
        status = cli.main(["check", *paths, *options])
        outcome = Outcome(status, *capsys.readouterr())
        assert status in (0, 1, 2)
        assert "Traceback" not in outcome.text
        assert "internal error" not in outcome.text
        assert outcome.out if status < 2 else outcome.err and not outcome.out
        return outcome

    return run


def small_nat(*rules: str, chains: Iterable[str] = ()) -> str:
    """A nat table with some rules behind the jumps to KUBE-SERVICES."""
    built_in = [f":{name} ACCEPT [0:0]" for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")]
    own = [f":{name} - [0:0]" for name in ("KUBE-SERVICES", *chains)]
    hooks = [f"-A {name} -j KUBE-SERVICES" for name in ("PREROUTING", "OUTPUT")]
    return "\n".join(("*nat", *built_in, *own, *hooks, *rules, "COMMIT", ""))


def dispatch(target: str, comment: str = "demo/web:http cluster IP") -> str:
    return f'-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "{comment}" -m tcp --dport 80 -j {target}'


def objects(service: dict[str, object] | None = None, **metadata: object) -> str:
    """A node, Service demo/web with the given fields of its spec, and its one endpoint."""
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    spec = {"type": "ClusterIP", "clusterIP": "10.96.0.10", "ports": [port], "selector": {"app": "web"}, **(service or {})}
    node = {"metadata": {"name": "node-a"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]}}
    endpoint = {"addresses": ["10.244.1.5"], "conditions": {"ready": True}, "nodeName": "node-a"}
    names = {"name": "web-1", "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}}
    items = [
        {"apiVersion": "v1", "kind": "Node", **node},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "demo", **metadata}, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": names,
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _ports(**fields: object) -> dict[str, object]:
    return {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, **fields}]}


def _zip(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


# --- files that are no dump, or half of one ---


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        pytest.param(b"", 2, "is empty", id="empty"),
        pytest.param(b"\n" * 100_000, 2, "is empty", id="nothing but lines"),
        pytest.param(random.Random(1).randbytes(100_000), 2, "binary file", id="binary"),
        pytest.param(b"\x7fELF" + DUMP.encode() + b"\0", 2, "binary file", id="dump within a binary"),
        pytest.param(DUMP[: len(DUMP) // 2], 1, "RA002", id="truncated dump"),
        pytest.param(DUMP + "# caf\udce9\n", 0, "lines of rules", id="latin-1 in a remark"),
        pytest.param(DUMP.encode("utf-16"), 0, "lines of rules", id="UTF-16"),
        pytest.param(DUMP.encode("utf-16")[2:], 2, "binary file", id="UTF-16 without its mark"),
        pytest.param(DUMP.replace("\n", "\r\n"), 0, "lines of rules", id="CRLF"),
        pytest.param(DUMP.replace("\n", "\r"), 2, "lines were joined", id="CR alone"),
        pytest.param("*nat\n" + "x" * 20_000 + "\nCOMMIT\n", 1, "longer ones than 16,384 are not read", id="a long line"),
        pytest.param(
            "*nat\n" + "-A X\n" * 1_000_000 + "COMMIT\n", 2, "more than a dump can have (1,000,000)", id="a million lines"
        ),
        pytest.param(
            "*nat\n" + "".join(f"-A X -j\u00a0{n}\n" for n in range(60_000)), 2, "take the dump again", id="lines that are none"
        ),
    ],
)
def test_a_dump_that_is_none_or_half_of_one(
    check: Callable[..., Outcome], content: str | bytes, status: int, message: str
) -> None:
    outcome = check(content)
    assert (outcome.status, message in outcome.text) == (status, True), outcome


def kept(pattern: str, text: str = DUMP) -> str:
    """What `grep -E` leaves of a text."""
    return "".join(line for line in text.splitlines(keepends=True) if re.search(pattern, line))


def shuffled(text: str) -> str:
    lines = text.splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    return "".join(lines)


NAT = re.search(r"^\*nat\n.*?^COMMIT\n", DUMP, re.DOTALL | re.MULTILINE)[0]  # type: ignore[index]  # the fixture has one
BODY = NAT[len("*nat\n") : -len("COMMIT\n")]
LISTED = re.sub(
    r"^:(\S+) - .*", r"-N \1", re.sub(r"^:(\S+) ([A-Z]+) .*", r"-P \1 \2", BODY, flags=re.MULTILINE), flags=re.MULTILINE
)
"""The nat table as `iptables -t nat -S` prints it."""


@pytest.mark.parametrize(
    ("dump", "sign"),
    [
        pytest.param(kept("KUBE"), "chain INPUT holds this rule", id="grep KUBE"),
        pytest.param(kept(r"KUBE|^\*|^COMMIT"), "chain INPUT holds this rule", id="grep KUBE and the tables' own lines"),
        pytest.param(kept("^-A"), "chain INPUT holds this rule", id="grep -A"),
        pytest.param(kept("demo/np"), "chain KUBE-EXTERNAL-SERVICES holds this rule", id="grep a Service"),
        pytest.param(kept("^:KUBE"), "declare none of the chains", id="grep chains"),
        pytest.param(kept("^[^:]"), "chain INPUT holds this rule", id="without declarations"),
        pytest.param(DUMP[: DUMP.rindex("-A KUBE-SERVICES")], "has no COMMIT", id="head"),
        pytest.param(DUMP[DUMP.rindex("-A KUBE-SERVICES") :], "chain KUBE-SERVICES holds this rule", id="tail"),
        pytest.param("".join(sorted(DUMP.splitlines(keepends=True))), "sorted or moved", id="sort"),
        pytest.param(
            "*nat\n" + "".join(sorted(BODY.splitlines(keepends=True))) + "COMMIT\n", "sorted or moved", id="sorted table"
        ),
        pytest.param("".join(reversed(DUMP.splitlines(keepends=True))), "outside of any table", id="tac"),
        pytest.param(shuffled(DUMP), "sorted or moved", id="shuf"),
        pytest.param(kept("KUBE", LISTED), "chain PREROUTING holds this rule", id="grep KUBE in iptables -S"),
        pytest.param(
            kept("KUBE-SERVICES( |$)", kept("^-[NA] KUBE-SERVICES", LISTED)), "single chains", id="iptables -S of one chain"
        ),
    ],
)
def test_a_part_of_a_dump_is_told_and_nothing_is_concluded_from_it(check: Callable[..., Outcome], dump: str, sign: str) -> None:
    outcome = check(dump, OBJECTS, options=["--node", "node-a"])
    assert outcome.status == 1
    assert sign in outcome.out
    codes = set(re.findall(r"^ +(?:error|warning) (RA\d+)", outcome.out, re.MULTILINE))
    assert codes <= {"RA001", "RA002"}, outcome.out


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param(kept("^[^#]"), id="without remarks"),
        pytest.param(NAT, id="nat alone"),
        pytest.param(BODY, id="the lines of nat alone"),
        pytest.param(LISTED, id="iptables -S"),
        pytest.param(DUMP + kept("^-[NA] KUBE-SERVICES", LISTED), id="a whole dump and a part of it"),
    ],
)
def test_a_whole_table_is_no_part_of_one(check: Callable[..., Outcome], dump: str) -> None:
    outcome = check(dump, OBJECTS, options=["--node", "node-a"])
    assert outcome.status == 0, outcome
    assert "RA002" not in outcome.out


@pytest.mark.parametrize(
    "rule",
    [
        "-d 10.96.0.300/32 -j ACCEPT",
        "-d 10.96.0.10/33 -j ACCEPT",
        "-p tcp -m tcp --dport 70000 -j ACCEPT",
        "-p tcp -m multiport --dports 80,99999 -j ACCEPT",
        "-m statistic --mode random --probability 1.5 -j ACCEPT",
        "-m mark --mark 0x1ffffffff -j ACCEPT",
        "-j MARK --set-xmark 0x4000/0xfffffffff",
        "-p tcp -j DNAT --to-destination 10.244.1.5:80800",
        "-c 99999999999999999999999 1 -j ACCEPT",
    ],
)
def test_a_number_out_of_range_names_its_line(check: Callable[..., Outcome], rule: str) -> None:
    outcome = check(small_nat(f"-A KUBE-SERVICES {rule}"), objects())
    assert outcome.status == 1
    assert "RA001" in outcome.out
    assert "input-0:9: " in outcome.out


def test_a_comment_that_looks_like_the_end_of_a_table_ends_nothing(check: Callable[..., Outcome]) -> None:
    rules = (dispatch("KUBE-SVC-A", "COMMIT"), '-A KUBE-SVC-A -m comment --comment "\nCOMMIT\n*filter" -j ACCEPT')
    outcome = check(small_nat(*rules, chains=["KUBE-SVC-A"]), objects())
    assert "RA002" not in outcome.out
    assert "RA001" not in outcome.out


def test_nothing_of_an_input_steers_the_terminal(check: Callable[..., Outcome]) -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"
    dump = small_nat(dispatch(f"KUBE-{hostile}", hostile), hostile, f"-A KUBE-{hostile} -j X")
    outcome = check(dump, objects(name=f"web{hostile}\nnode-a: no faults"), options=["--fail-on", "info"])
    assert outcome.status == 1
    assert all(line.isprintable() for line in outcome.out.splitlines())
    assert not any(line.startswith("node-a: no faults") for line in outcome.out.splitlines())
    assert "\\x1b]0;title" in outcome.out


# --- chains that are traps ---

TRAPS = {
    "a chain that jumps to itself": small_nat(dispatch("KUBE-SVC-A"), "-A KUBE-SVC-A -j KUBE-SVC-A", chains=["KUBE-SVC-A"]),
    "a chain that goes to itself": small_nat(dispatch("KUBE-SVC-A"), "-A KUBE-SVC-A -g KUBE-SVC-A", chains=["KUBE-SVC-A"]),
    "KUBE-SERVICES in itself": small_nat(*["-A KUBE-SERVICES -j KUBE-SERVICES"] * 3, dispatch("KUBE-SERVICES")),
    "chains nested 1,000 deep": small_nat(
        dispatch("C0"),
        *(f"-A C{n} -j C{n + 1}" for n in range(1000)),
        "-A C1000 -p tcp -j DNAT --to-destination 10.244.1.5:8080",
        chains=[f"C{n}" for n in range(1001)],
    ),
    "chains that double 40 times": small_nat(
        dispatch("C0"),
        *(f"-A C{n} -m statistic --mode random --probability 0.5 -j C{n + 1}\n-A C{n} -j C{n + 1}" for n in range(40)),
        chains=[f"C{n}" for n in range(41)],
    ),
    "a nest of 20,000 chains": small_nat(
        dispatch("C0"), *(f"-A C{n} -j C{n + 1}" for n in range(20_000)), chains=[f"C{n}" for n in range(20_001)]
    ),
    "chains that double before 60 endpoints": small_nat(
        dispatch("C0"),
        *(f"-A C{n} -m statistic --mode random --probability 0.5 -j C{n + 1}\n-A C{n} -j C{n + 1}" for n in range(30)),
        *(
            f"-A C30 -p tcp -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.244.1.{n}:8080"
            for n in range(1, 61)
        ),
        chains=[f"C{n}" for n in range(31)],
    ),
    "31 undecided marks": small_nat(
        dispatch("C0"),
        *(f"-A C0 -m string --string {n} --algo bm -j MARK --set-xmark {1 << n:#x}/{1 << n:#x}" for n in range(31)),
        "-A C0 -p tcp -j DNAT --to-destination 10.244.1.5:8080",
        chains=["C0"],
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_of_chains_costs_little(check: Callable[..., Outcome], trap: str) -> None:
    before = time.process_time()
    outcome = check(TRAPS[trap], objects())
    assert outcome.status == 1
    assert time.process_time() - before < 10


# --- objects ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(OBJECTS[: len(OBJECTS) // 2], "was cut short", id="list cut in the middle"),
        pytest.param(OBJECTS.rstrip()[:-1], "was cut short", id="list without its last brace"),
        pytest.param(OBJECTS[:-2] + b"]" * 9, "malformed JSON", id="too many brackets"),
        pytest.param(b'{"apiVersion":"v1","kind":"List","items":' + b"[" * 100_000, "nested too deeply", id="deep JSON"),
        pytest.param(
            b'{"apiVersion":"v1","kind":"Status","message":"no"}', "API server's answer 'no'", id="an error of the API server"
        ),
        pytest.param(b"apiVersion: v1\nkind: Service\nmetadata: {name: [", "malformed YAML", id="cut YAML"),
        pytest.param(b"apiVersion: v1\nkind: List\nitems:\n" + b"- " * 5000, "nested too deeply", id="deep YAML"),
        pytest.param(
            b"apiVersion: v1\nkind: List\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 10)) for n in range(97, 110)),
            "aliases stand for more",
            id="a billion laughs",
        ),
        pytest.param(b"apiVersion: v1\nkind: List\nitems: &a [*a]\n", "alias *a without its anchor", id="an alias within itself"),
        pytest.param(b"apiVersion: v1\nkind: List\nitems: *b\n", "alias *b without its anchor", id="an alias to nothing"),
        pytest.param(b"apiVersion: v1\nkind: List\n#" + b"x" * (32 << 20), "more than 32 MiB", id="much YAML"),
        pytest.param(
            b'{"apiVersion":"v1","kind":"List","items":[' + b"{}," * 20_000 + b"{}]}",
            "more than 10,000 objects",
            id="objects of no kind",
        ),
    ],
)
def test_objects_that_cannot_be_read_are_refused(check: Callable[..., Outcome], content: bytes, message: str) -> None:
    outcome = check(DUMP, content)
    assert outcome.status == 2
    assert message in outcome.err
    assert "input-1" in outcome.err


@pytest.mark.parametrize(
    ("limit", "value", "content"),
    [
        pytest.param("formats.iptables_save.MAX_LINES", 8, small_nat(), id="lines"),
        pytest.param("formats.iptables_save.MAX_LINE_LENGTH", 50, small_nat(dispatch("ACCEPT", "x" * 60)), id="a line"),
        pytest.param("cluster.load.MAX_VALUES", 20, objects(), id="values"),
        pytest.param("cluster.load.MAX_PROBLEMS", 0, objects(_ports(port=0)), id="problems"),
        pytest.param("documents.MAX_YAML_BYTES", 80, "apiVersion: v1\nkind: List\nitems: []\n" + "#" * 80, id="YAML"),
        pytest.param("sources.reader.MAX_FILES", 1, _zip(("a", DUMP.encode()), ("b", OBJECTS)), id="members of an archive"),
    ],
)
def test_every_refusal_for_size_names_the_option_that_raises_the_limit(
    check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, limit: str, value: int, content: str | bytes
) -> None:
    module, _, name = limit.rpartition(".")
    monkeypatch.setattr(import_module(f"ruleaudit.{module}"), name, value)
    if limit.startswith("formats"):
        monkeypatch.setattr(import_module("ruleaudit.audit.inputs"), name, value)
    option = "--limit-factor raises this limit"
    assert option in check(content).text
    assert (option in check(content, options=["--limit-factor", "9"]).text) == (value == 0)


def test_more_values_than_stated_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("ruleaudit.cluster.load"), "MAX_VALUES", 100)  # the package has a function of its name
    with pytest.raises(InputError, match="more values than are read"):
        load([("objects", OBJECTS)])


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param(_ports(port=0), "$.spec.ports[0].port", id="port 0"),
        pytest.param(_ports(port=70000), "$.spec.ports[0].port", id="port 70000"),
        pytest.param(_ports(port=-1), "$.spec.ports[0].port", id="port -1"),
        pytest.param(_ports(port=2**70), "$.spec.ports[0].port", id="port of 70 bits"),
        pytest.param(_ports(port="80"), "$.spec.ports[0].port", id="port as text"),
        pytest.param(_ports(nodePort=70000), "$.spec.ports[0].nodePort", id="node port 70000"),
        pytest.param(_ports(protocol="QUIC"), "$.spec.ports[0].protocol", id="unknown protocol"),
        pytest.param({"clusterIP": "10.96.0"}, "$.spec.clusterIP", id="cluster IP that is none"),
        pytest.param({"clusterIPs": ["10.96.0.10", "x"]}, "$.spec.clusterIP", id="second cluster IP that is none"),
        pytest.param({"ports": {}}, "$.spec.ports", id="ports that are no list"),
        pytest.param({"healthCheckNodePort": 99999}, "$.spec.healthCheckNodePort", id="health check port 99999"),
    ],
)
def test_a_service_with_impossible_fields_is_left_out_and_reported(
    check: Callable[..., Outcome], spec: dict[str, object], where: str
) -> None:
    outcome = check(small_nat(), objects(spec))
    assert outcome.status == 1
    assert "RA001" in outcome.out
    assert f"Service demo/web at {where}" in outcome.out


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(_ports(nodePort=0), id="node port 0"),
        pytest.param({"ports": [*_ports()["ports"], *_ports()["ports"]]}, id="duplicate ports"),  # type: ignore[misc]  # a list
        pytest.param({"ports": []}, id="no ports"),
        pytest.param(_ports(targetPort=70000), id="target port 70000"),
        pytest.param(
            {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv4"]}, id="cluster IP of the wrong family"
        ),
        pytest.param({"clusterIPs": ["10.96.0.10", "fd00::1"], "ipFamilies": ["IPv4"]}, id="more cluster IPs than families"),
        pytest.param({"clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4", "IPv6"]}, id="more families than cluster IPs"),
        pytest.param({"clusterIPs": ["10.96.0.11"]}, id="clusterIP not the first of clusterIPs"),
        pytest.param({"ipFamilies": ["IPv5"]}, id="unknown family"),
        pytest.param({"externalTrafficPolicy": "Local"}, id="external traffic policy of a ClusterIP"),
        pytest.param({"internalTrafficPolicy": "Near"}, id="unknown traffic policy"),
        pytest.param({"type": "Balancer"}, id="unknown type"),
        pytest.param(
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/33", "x", "", " 10.0.0.0/8 "]}, id="source ranges"
        ),
        pytest.param({"externalIPs": ["1.2.3", "", "::1", "10.96.0.10"]}, id="external IPs"),
        pytest.param(
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": -5}}}, id="affinity"
        ),
    ],
)
def test_a_service_that_contradicts_itself_is_audited_or_passed_over(
    check: Callable[..., Outcome], spec: dict[str, object]
) -> None:
    outcome = check(small_nat(), objects(spec))
    assert outcome.status == 1  # the rules of this dump serve nothing
    assert "RA001" not in outcome.out


def test_an_object_without_metadata_costs_no_other(check: Callable[..., Outcome]) -> None:
    lists = json.loads(objects())
    lists["items"].append({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "10.96.0.11"}})
    outcome = check(small_nat(), json.dumps(lists))
    assert "Service without a name: Object missing required field `metadata`" in outcome.out
    assert "demo/web:http is not programmed" in outcome.out


# --- paths and streams ---


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (("absent", "no such file"), ("empty", "holds nothing"), ("loop", "cannot be read")):
        assert cli.main(["check", str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert str(tmp_path / name) in err
        assert message in err


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/mem").exists(), reason="root may read every file")
def test_a_file_that_fails_when_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        path = Path("/proc/self/mem")  # may be opened, but reading its beginning fails
    else:
        path = tmp_path / "secret"
        path.write_text(DUMP)
        path.chmod(0)
    assert cli.main(["check", str(path)]) == 2
    assert f"{path}: cannot be read" in capsys.readouterr().err


def test_standard_input_that_is_closed_is_no_internal_error() -> None:
    done = subprocess.run(["/bin/sh", "-c", 'exec "$0" -m ruleaudit check - <&-', sys.executable], capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"there is no standard input to read" in done.stderr


def _tar(*members: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(DUMP.encode()) if member.isfile() else None)
    return packed.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.size = len(DUMP.encode()) if kind == tarfile.REGTYPE else 0
    return member


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        pytest.param(_tar(_member("../../escape")), 0, "lines of rules", id="tar that climbs out"),
        pytest.param(_zip(("../../escape", DUMP.encode())), 0, "lines of rules", id="zip that climbs out"),
        pytest.param(_tar(_member("link", tarfile.SYMTYPE, "/etc/passwd")), 2, "holds no file", id="link in a tar"),
        pytest.param(_tar(_member("hard", tarfile.LNKTYPE, "/etc/passwd")), 2, "holds no file", id="hard link in a tar"),
        pytest.param(_tar(_member("device", tarfile.CHRTYPE)), 2, "holds nothing", id="device in a tar"),
        pytest.param(_zip(("bomb", b"\0" * (64 << 20))), 2, "holds no file", id="zeros in a zip"),
        pytest.param(_zip(("inner.zip", _zip(("dump", DUMP.encode())))), 2, "holds no file", id="zip in a zip"),
    ],
)
def test_an_archive_that_is_a_trap(
    check: Callable[..., Outcome], tmp_path: Path, content: bytes, status: int, message: str
) -> None:
    outcome = check(content)
    assert outcome.status == status
    assert message in outcome.text
    assert [path.name for path in tmp_path.rglob("*")] == ["input-0"]
    assert not (tmp_path.parent / "escape").exists()


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(DUMP)
    process = subprocess.Popen(
        [sys.executable, "-m", "ruleaudit", "check", str(dump)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(SECONDS) in (0, 1)
    assert not errors


# --- whatever the input: nothing but RuleauditError ---

ODD_WORDS = (
    *(
        "-1",
        "0",
        "65536",
        "4294967296",
        "9" * 5000,
        "0x",
        "0xffffffffffff",
        "1.5",
        "1e309",
        "nan",
        "33",
        "1:",
        ":",
        "\u0661",
        "²",
    ),
    *(
        "",
        '"',
        "!",
        "--",
        "-",
        "1,2,,3",
        "10.0.0.0/33",
        "0/0",
        "::ffff:1.2.3.4/97",
        "fe80::1%eth0",
        "10.0.0.1-",
        "[::1]:",
        "\x1b[2J",
    ),
    *("\udc80", "\r", "COMMIT", "*nat", "-j", "-g", "-m", "--to-destination", "KUBE-SERVICES", "KUBE-MARK-MASQ", "RETURN"),
)
ODD_VALUES: tuple[object, ...] = (
    *(None, 0, -1, 70000, 2**64, 10**30, 1.5, True, "", [], {}, [None], [[]], {"": None}, "x", "\x1b[31m", "a\nb", "²"),
    *(
        "10.0.0.0/8",
        "::1",
        "fd00::1",
        "1.2.3.4",
        "999.1.1.1",
        "10.0.0.1/33",
        "10.96.0.1",
        "IPv6",
        "SCTP",
        "Local",
        "ClientIP",
        "None",
    ),
    *("LoadBalancer", "NodePort", "ExternalName", "2026-99-99T00:00:00Z", "0001-01-01T00:00:00Z"),
)
LINES = DUMP.split("\n")


def judged(tmp: Path, dump: str, data: bytes) -> Report | None:
    """Audits and prints; None where the input is refused. What else is raised gets out."""
    (tmp / "dump").write_bytes(dump.encode("utf-8", "surrogateescape"))
    (tmp / "objects").write_bytes(data)
    try:
        sources: list[Source] = read([str(tmp / "dump"), str(tmp / "objects")])
        report = audit_inputs(sources)
    except RuleauditError:
        return None
    json_report(report)
    plain(list(report_lines(report, Layout("service", notes=True, quiet=False, statistics=True))))
    return report


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations")


@st.composite
def damaged_dumps(draw: st.DrawFn) -> str:
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(lines) - 1))
        words = lines[at].split(" ")
        place = draw(st.integers(0, len(words) - 1))
        way = draw(st.integers(0, 5))
        if way == 0:
            words[place] = draw(st.sampled_from(ODD_WORDS))
        elif way == 1:
            words.insert(place, draw(st.sampled_from(ODD_WORDS)))
        elif way == 2:
            del words[place]
        elif way == 3:
            words[place] = words[place][: draw(st.integers(0, len(words[place])))]
        elif way == 4:
            words = draw(st.sampled_from(LINES)).split(" ")
        else:
            words[place] = words[place] + draw(st.sampled_from(ODD_WORDS))
        lines[at] = " ".join(words)
    return "\n".join(lines)


def _places(value: object) -> Iterator[tuple[dict[str, object] | list[object], str | int]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield value, key
            yield from _places(entry)
    elif isinstance(value, list):
        for at, entry in enumerate(value):
            yield value, at
            yield from _places(entry)


@given(dump=damaged_dumps())
@settings(max_examples=25)
def test_a_damaged_dump_is_judged_or_refused(scratch: Path, dump: str) -> None:
    judged(scratch, dump, OBJECTS)


@given(seed=st.integers(0, 2**32), count=st.sampled_from((1, 3, 20)))
@settings(max_examples=25)
def test_damaged_objects_are_judged_or_refused(scratch: Path, seed: int, count: int) -> None:
    chance = random.Random(seed)
    value = json.loads(OBJECTS)
    # What is audited most is what a random place seldom hits: half of the changes go into a Service or a slice.
    audited = [item for item in value["items"] if item["kind"] in ("Service", "EndpointSlice")]
    for _ in range(count):
        places = list(_places(chance.choice((chance.choice(audited), value))))
        holder, key = chance.choice(places)
        holder[key] = chance.choice(ODD_VALUES)  # type: ignore[index]  # a key of a dict or an index of a list
    judged(scratch, DUMP, json.dumps(value).encode())


# --- large inputs, within 60 s and 2 GB ---


@pytest.mark.benchmark
@pytest.mark.skipif(not os.environ.get("RULEAUDIT_LARGE"), reason="takes minutes: set RULEAUDIT_LARGE=1")
@pytest.mark.parametrize(
    ("parts", "status"),
    [
        pytest.param((b'*nat\n-A X -m comment --comment "', b"a" * 100_000_000, b'"\nCOMMIT\n'), 1, id="a line of 100 MB"),
        pytest.param((b"a" * 100_000_000,), 2, id="100 MB without a line"),
        pytest.param((b"*nat\n", b"-A X\n" * 10_000_000, b"COMMIT\n"), 2, id="10 million short lines"),
        pytest.param((b"*nat\n:PREROUTING ACCEPT [0:0]\n", b"-A PREROUTING\n" * 999_000, b"COMMIT\n"), 0, id="a million lines"),
        pytest.param((b'{"apiVersion":"v1","kind":"List","items":[', b"{}," * 10_000_000, b"{}]}"), 2, id="10 million objects"),
        pytest.param((b'{"apiVersion":"v1","kind":"List","items":[', b"{}," * 30_000_000, b"{}]}"), 2, id="30 million objects"),
        pytest.param((b"apiVersion: v1\nkind: List\nitems:\n", b"- {}\n" * 6_000_000), 2, id="30 MB of YAML"),
        pytest.param((TRAPS["chains nested 1,000 deep"].replace("C1000 ", "C9 ").encode(),), 1, id="a nest with a loop"),
    ],
)
def test_what_a_large_input_costs(parts: tuple[bytes, ...], status: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.writelines(parts)
    limits: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))  # noqa: E731  one use
    done = subprocess.run(
        [sys.executable, "-m", "ruleaudit", "check", str(path)], capture_output=True, timeout=2 * SECONDS, preexec_fn=limits
    )
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr

"""Dumps of a node in IPVS mode that are cut, damaged, written twice or none at all: a finding or a refusal with file and line, never more."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.small_ipvs_node import SmallIpvsNode, kind_of
from tests.small_node import as_list
from tests.test_small_node import LOADED

from ruleaudit import cli
from ruleaudit.audit import audit_inputs
from ruleaudit.errors import InputError
from ruleaudit.findings import Severity
from ruleaudit.reports.structured import json_report
from ruleaudit.reports.text import Layout, plain, report_lines
from ruleaudit.sources import InputKind, Source, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ruleaudit.findings import Report

NODE = SmallIpvsNode(LOADED, families=(4, 6))
PARTS = NODE.parts()
COMMANDS, LISTING, COUNTERS, SETS, ADDRESSES = "ipvsadm-save.txt", "ipvsadm.txt", "ipvsadm-stats.txt", "ipset.txt", "ip-addr.json"
OBJECTS = as_list(NODE.objects)
TEXT_ADDRESSES = (
    "5: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group default \n    link/ether 22:ea:c6:37:c4:3e brd ff:ff:ff:ff:ff:ff\n"
    + "".join(
        f"    inet{'6' * (':' in one['local'])} {one['local']}/{one['prefixlen']} scope global kube-ipvs0\n"
        "       valid_lft forever preferred_lft forever\n"
        for one in json.loads(PARTS[ADDRESSES])[0]["addr_info"]
    )
)
EVERY = {**PARTS, "ip-addr.txt": TEXT_ADDRESSES}
DUMPS = (COMMANDS, LISTING, COUNTERS, SETS, ADDRESSES, "ip-addr.txt")


def audited(**texts: str) -> Report:
    """The audit of the node with these dumps instead of its own; file names with _ for - and without their endings."""
    return report_of({**{name: PARTS[name] for name in ("iptables-save.txt", COMMANDS, SETS, ADDRESSES)}, **texts})


def report_of(texts: dict[str, str]) -> Report:
    sources = [Source(name, kind_of(name), text, b"", True) for name, text in texts.items()]
    return audit_inputs([*sources, Source("objects.json", InputKind.OBJECTS, "", OBJECTS, True)], node="node-a")


def loud(report: Report) -> set[str]:
    return {one.code for one in report.findings if one.severity is not Severity.INFO}


# --- one fault of the text, and what is said ---------------------------------------------------------------------------------------------

WEB = "-A -t 10.96.0.20:80 -s rr\n"
REAL = "-a -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 1\n"


@pytest.mark.parametrize(
    ("name", "old", "new", "code", "said"),
    [
        (COMMANDS, REAL, REAL + "garbage here\n", "RA001", "garbage here"),
        (COMMANDS, REAL, REAL.replace("-w 1", "-w 99999999999"), "RA001", "-w 99999999999"),
        (COMMANDS, REAL, REAL.replace("-w 1", "-w -1"), "RA001", "-w -1"),
        (COMMANDS, REAL, REAL.replace("-w 1", "-w x"), "RA001", "-w x"),
        (COMMANDS, REAL, REAL.replace(":8080", ":80800"), "RA001", "80800"),
        (COMMANDS, REAL, REAL.replace("10.244.1.5", "10.244.1.500"), "RA001", "10.244.1.500"),
        (COMMANDS, REAL, "", None, ""),
        (COMMANDS, WEB, WEB + WEB, "RA307", "listed again"),
        (COMMANDS, REAL, REAL + REAL, "RA307", "twice"),
        (COMMANDS, WEB, "", "RA002", "no line before this one adds"),
        (LISTING, "TCP  10.96.0.20:80 rr\n", "TCP  10.96.0.20:80 rr\nTCP  10.96.0.20:80 rr\n", "RA307", "listed again"),
        (LISTING, "TCP  10.96.0.20:80 rr\n", "TCP  10.96.0.20:80 rr\n  -> nonsense\n", "RA001", "nonsense"),
        (LISTING, "10.244.1.5:8080              Masq    1 ", "10.244.1.5:8080              Masq    " + 21 * "9" + " ", "RA001", 21 * "9"),
        (SETS, "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", 2 * "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", "RA307", "listed twice"),
        (SETS, "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80000\n", "RA001", "tcp:80000"),
        (SETS, "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", "add KUBE-CLUSTER-IP 10.96.0.20\n", "RA001", "10.96.0.20"),
        (SETS, "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n", "", "RA002", "KUBE-CLUSTER-IP"),
        (SETS, "add KUBE-NODE-PORT-TCP 30080\n", "add KUBE-NODE-PORT-TCP http\n", "RA001", "http"),
        (ADDRESSES, '"10.96.0.20"', '"10.96.0.200.1"', "RA001", "10.96.0.200.1"),
        ("ip-addr.txt", "inet 10.96.0.20/32", "inet 10.96.0.20/33", "RA001", "10.96.0.20/33"),
    ],
)  # fmt: skip
def test_a_fault_of_the_text_names_its_line(name: str, old: str, new: str, code: str | None, said: str) -> None:
    assert old in EVERY[name], old
    changed = EVERY[name].replace(old, new, 1)
    report = report_of({name: changed})
    found = [one for one in report.findings if one.code in ("RA001", "RA002", "RA307")]
    assert [one.code for one in found][:1] == ([code] if code else [])
    for one in found[:1]:
        assert said in one.message + "".join(where.text for where in one.locations)
        (where,) = one.locations
        assert where.file == name
        assert 0 < where.line <= changed.count("\n") + 1
        if name != ADDRESSES:
            assert where.text.rstrip() == changed.split("\n")[where.line - 1].rstrip()


@pytest.mark.parametrize("name", DUMPS)
def test_other_line_ends_change_nothing(name: str) -> None:
    report = report_of({name: EVERY[name].replace("\n", "\r\n")})
    assert loud(report) == set()
    assert report.frontends == report_of({name: EVERY[name]}).frontends


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (COMMANDS, "10.244.1.5:8080", "web-1.example.com:http-alt", "give the output of `ipvsadm -Sn`"),
        (SETS, "10.96.0.26,tcp:80\n", "web.example.com,tcp:http\n", "give the output of `ipset save`"),
    ],
)
def test_names_found_late_end_a_named_input_and_not_a_folder(
    name: str, old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _, behind = EVERY[name].rpartition(old)  # beyond what is looked at to recognise an input
    text = before + new + behind
    line = text[: text.index(new)].count("\n") + 1
    for file in ("iptables-save.txt", SETS, COMMANDS):
        (tmp_path / file).write_text(EVERY[file])
    (tmp_path / name).write_text(text)
    (tmp_path / "objects.json").write_bytes(OBJECTS)
    status = cli.main(["check", str(tmp_path / name), "--objects", str(tmp_path / "objects.json"), "--node", "node-a"])
    captured = capsys.readouterr()
    assert status == 2
    assert f"{name}:{line}: " in captured.err
    assert said in captured.err
    assert not captured.out
    status = cli.main(["check", str(tmp_path), "--node", "node-a", "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    assert status == 1
    unread = [one for one in report["findings"] if one["code"] == "RA001"]
    assert len(unread) == 1
    assert said in unread[0]["message"]
    assert unread[0]["locations"][0]["line"] == line
    assert {one["code"] for one in report["findings"] if one["severity"] != "info"} == {"RA001"}


def test_a_listing_with_names_in_a_folder_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("iptables-save.txt", SETS, COMMANDS):
        (tmp_path / file).write_text(EVERY[file])
    (tmp_path / LISTING).write_text(EVERY[LISTING].replace("10.244.1.5:8080 ", "web-1.example.com:http-alt ", 1))
    (tmp_path / "objects.json").write_bytes(OBJECTS)
    assert cli.main(["check", str(tmp_path / LISTING), "--objects", str(tmp_path / "objects.json"), "--node", "node-a"]) == 2
    assert "give the output of `ipvsadm -Ln`" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path), "--node", "node-a", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (said,) = [one["message"] for one in report["findings"] if LISTING in one["message"]]
    assert "names instead of numbers" in said


# --- parts of a dump ---------------------------------------------------------------------------------------------------------------------


def held_to(name: str, text: str) -> Report | None:
    """The audit of one dump, printed in every format; None where it is refused with a message that names the file."""
    try:
        report = report_of({name: text})
    except InputError as error:
        refused = error
    else:
        json_report(report)
        plain(list(report_lines(report, Layout("service", notes=True, quiet=False, statistics=True))))
        return report
    assert refused.path == name
    return None


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_that_is_cut_anywhere(name: str) -> None:
    text = EVERY[name]
    for offset in [*range(0, 400, 7), *random.Random(name).sample(range(400, len(text)), 40)]:
        held_to(name, text[:offset])


@pytest.mark.parametrize("name", [COMMANDS, LISTING, COUNTERS, SETS, "ip-addr.txt"])
def test_a_dump_that_is_cut_within_a_line_says_so(name: str) -> None:
    text = EVERY[name]
    at = (text.rindex("inet") if name == "ip-addr.txt" else text.rindex("\n", 0, -1)) + 6
    report = report_of({name: text[:at]})
    assert loud(report) == {"RA002"}


@pytest.mark.parametrize(
    "others", [(), ("iptables-save.txt", "ip6tables-save.txt", COMMANDS, SETS, ADDRESSES)], ids=["alone", "beside"]
)
@pytest.mark.parametrize("name", [COMMANDS, LISTING, COUNTERS, SETS, "ip-addr.txt"])
def test_what_was_cut_off_is_not_missed(name: str, others: Sequence[str]) -> None:
    """Cut at any byte of any line but its end, which nothing tells from an end."""
    text = EVERY[name]
    kind = kind_of(name)
    beside = {one: PARTS[one] for one in others if kind_of(one) is not kind}
    tries = random.Random(name).sample(range(400, len(text)), 60)
    first = tries[0] - len(text[: tries[0]].rpartition("\n")[2])
    tries += range(first, text.index("\n", first) + 1)  # a whole line
    for at in tries:
        cut = text[:at]
        rest = text[at : text.index("\n", at)]
        if cut.endswith("\n") or not rest or (not rest.strip() and not cut.endswith(" ")):
            continue
        report = report_of({**beside, name: cut})
        assert loud(report) <= {"RA001", "RA002"}, (at, cut[-60:])
        if "RA002" in loud(report) and (others or name != "ip-addr.txt"):
            assert any("cut" in one.message for one in report.findings if one.code == "RA004"), cut[-60:]


@pytest.mark.parametrize("name", [COMMANDS, SETS])
def test_what_lost_its_beginning_is_not_missed(name: str) -> None:
    lines = EVERY[name].splitlines(keepends=True)
    tails = [at for at, line in enumerate(lines) if line.startswith(("-a", "add"))]
    for at in random.Random(name).sample(tails, 20):
        assert loud(report_of({name: "".join(lines[at:])})) == {"RA002"}


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        (COMMANDS, REAL, REAL + REAL.replace("1.5", "1.77"), "RA206"),
        (COMMANDS, WEB, "-A -t 10.96.0.99:80 -s rr\n" + WEB, "RA201"),
        (COMMANDS, REAL, "", "RA106"),
        (LISTING, "TCP  10.96.0.20:80 rr\n", "TCP  10.96.0.20:80 rr persistent 60\n", "RA304"),
        (SETS, "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", "add KUBE-CLUSTER-IP 10.96.0.99,tcp:80\n", "RA210"),
        (SETS, "add KUBE-CLUSTER-IP 10.96.0.20,tcp:80\n", "", "RA110"),
        ("ip-addr.txt", "inet 10.96.0.20/32", "inet 10.96.0.99/32", "RA210"),
    ],
)  # fmt: skip
def test_what_is_wrong_before_the_cut_is_told(name: str, old: str, new: str, expected: str) -> None:
    text = EVERY[name].replace(old, new, 1)
    cut = text[: text.rindex("inet") + 6] if name == "ip-addr.txt" else text[: text.rindex(" ")][:-3]
    others = ("iptables-save.txt", COMMANDS, SETS)
    beside = {one: PARTS[one] for one in others if kind_of(one) is not kind_of(name)}
    found = loud(report_of({**beside, name: cut}))
    assert expected in found
    assert "RA505" not in found


@given(data=st.data())
def test_damaged_dumps_are_judged_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(DUMPS))
    lines = EVERY[name].split("\n")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        words = re.split(r"( )", lines[at])
        where = data.draw(st.integers(0, len(words) - 1))
        odd = data.draw(
            st.sampled_from(
                [
                    "",
                    "0",
                    "-1",
                    "99999999999999999999",
                    "::",
                    "10.0.0.0/0",
                    "[::1]:80",
                    "x" * 300,
                    "\x1b[31m",
                    "\udcff",
                    "²",
                    ":",
                    ",",
                ]
            )
        )
        match data.draw(st.integers(0, 3)):
            case 0:
                words[where] = odd
            case 1:
                words = words[:where]
            case 2:
                words = [*words, odd]
            case _:
                words = [*words, "\n", *words]
        lines[at] = "".join(words)
    held_to(name, "\n".join(lines))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\x00\x01\x02\xff" * 50, b"\xff\xfe" + "Name: X\n".encode("utf-16-le"), b"IP Virtual Server"]
)
@pytest.mark.parametrize("name", [COMMANDS, SETS, ADDRESSES])
def test_a_file_of_a_folder_that_is_none(content: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("iptables-save.txt", SETS, COMMANDS, ADDRESSES):
        (tmp_path / file).write_text(PARTS[file])
    (tmp_path / "objects.json").write_bytes(OBJECTS)
    (tmp_path / name).write_bytes(content)
    status = cli.main(["check", str(tmp_path), "--node", "node-a"])
    out, err = capsys.readouterr()
    assert status in (0, 1)
    assert "Traceback" not in out + err
    if not content.strip():
        assert status == 0


# --- large inputs ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (COMMANDS, "-A -t {} -s rr"),
        (LISTING, "TCP  {} rr"),
        (SETS, "add KUBE-CLUSTER-IP {}"),
        ("ip-addr.txt", "    inet {} scope global kube-ipvs0"),
    ],
)
def test_a_line_that_is_too_long_costs_itself(name: str, line: str) -> None:
    lines = EVERY[name].split("\n")
    lines.insert(3, line.format("1" * 2_000_000))
    report = report_of({name: "\n".join(lines)})
    (found,) = [one for one in report.findings if one.code == "RA001"]
    assert [where.line for where in found.locations] == [4]
    assert len(found.message) < 1000


@pytest.mark.benchmark
@pytest.mark.skipif(not os.environ.get("RULEAUDIT_LARGE"), reason="takes minutes: set RULEAUDIT_LARGE=1")
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((b"-A -t 10.0.0.1:80 -s ", b"a" * 100_000_000, b"\n"), id="a line of 100 MB"),
        pytest.param((b"create A hash:ip family inet\n", b"add A 10.0.0.1\n" * 5_000_000), id="5 million entries"),
        pytest.param(
            (b"-A -t 10.0.0.1:80 -s rr\n", b"-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n" * 1_000_000), id="a million real servers"
        ),
        pytest.param(
            (
                b'[{"ifindex":1,"ifname":"kube-ipvs0","addr_info":[',
                b'{"family":"inet","local":"10.0.0.1"},' * 2_000_000,
                b"{}]}]",
            ),
            id="2 million addresses",
        ),
    ],
)
def test_what_a_large_input_costs(parts: tuple[bytes, ...], tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.writelines(parts)
    limits: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # noqa: E731  one use
    done = subprocess.run(
        [sys.executable, "-m", "ruleaudit", "check", str(path)], capture_output=True, timeout=120, preexec_fn=limits
    )
    assert done.returncode in (0, 1, 2), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr


def test_an_archive_and_a_folder_name_their_files(tmp_path: Path) -> None:
    for file in (COMMANDS, SETS):
        (tmp_path / file).write_text(PARTS[file])
    assert {one.kind for one in read([str(tmp_path)])} == {InputKind.IPVSADM, InputKind.IPSET}

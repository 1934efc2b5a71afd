"""What `trace` and `show` say of one service port is what `check` says of it: the same codes, texts and causes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ruleaudit.audit import audit_inputs, open_node
from ruleaudit.findings import Finding, Severity
from ruleaudit.sources import read

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nodes"


def changed(folder: Path, of: str, name: str, old: str, new: str) -> Path:
    """A copy of a fixture in which one text of one file is another."""
    copy = folder / of
    shutil.copytree(FIXTURES / of, copy)
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return copy


def said_by_check(folder: Path, service: str) -> list[Finding]:
    """What `check` says of a Service, but for information."""
    report = audit_inputs(read([str(folder)]))
    return [one for one in report.findings if one.service == service and one.severity is not Severity.INFO]


def said_of_one(folder: Path, service: str) -> list[Finding]:
    """What is said of each port of a Service alone."""
    model = open_node(read([str(folder)]))
    return [
        one
        for family in model.families
        if (found := model.family(family)) is not None
        for port in found.audit.expectation.service_ports
        if f"{port.name.namespace}/{port.name.name}" == service
        for one in found.findings_of(port)
    ]


def alike(findings: list[Finding]) -> set[tuple[str, str, str | None]]:
    """What has to be the same."""
    return {(one.code, one.message, one.cause) for one in findings if one.service is not None}


@pytest.mark.parametrize(
    ("of", "name", "old", "new", "service", "says"),
    [
        pytest.param(
            "healthy",
            "iptables-save.txt",
            '"demo/np:http" -m tcp -j DNAT --to-destination 10.244.1.23:8080',
            '"demo/np:http" -m tcp -j DNAT --to-destination 10.244.1.12:8080',
            "demo/np",
            [
                (
                    "RA206",
                    "demo/np:http sends 33.3% of new connections to 10.244.1.12:8080, an endpoint of demo/web, demo/web-alias",
                )
            ],
            id="another Service's endpoint",
        ),
        pytest.param(
            "ipvs-healthy",
            "ipset.txt",
            "add KUBE-CLUSTER-IP 10.96.1.1,tcp:80\n",
            "",
            "demo/web",
            [
                ("RA110", "demo/web:http: set KUBE-CLUSTER-IP lacks 10.96.1.1,tcp:80"),
                ("RA106", "demo/web:http sends nothing to 10.244.1.12:8080, which is ready"),
            ],
            id="no entry of its cluster IP",
        ),
        pytest.param(
            "ipvs-healthy",
            "ipset.txt",
            "add KUBE-LOOP-BACK 10.244.1.12,tcp:8080,10.244.1.12\n",
            "",
            "demo/web",
            [("RA403", "demo/web:http: 10.244.1.12:8080 is not masqueraded when it reaches itself through the Service")],
            id="no hairpin entry",
        ),
        pytest.param(
            "ipvs-healthy",
            "iptables-save.txt",
            "-A KUBE-IPVS-OUT-FILTER -s 203.0.113.11/32 -m ipvs --vproto 6 --vaddr 203.0.113.11 --vport 80 -j DROP\n",
            "",
            "demo/lb-src",
            [
                (
                    "RA306",
                    "demo/lb-src:http lets in clients on the node itself at 203.0.113.11:80/TCP, against its loadBalancerSourceRanges",
                )
            ],
            id="no rule that keeps the node itself out",
        ),
    ],
)
def test_what_check_says(
    tmp_path: Path, of: str, name: str, old: str, new: str, service: str, says: list[tuple[str, str]]
) -> None:
    folder = changed(tmp_path, of, name, old, new)
    found = said_of_one(folder, service)
    assert [(one.code, one.message) for one in found][: len(says)] == says
    assert alike(found) == alike(said_by_check(folder, service))


def test_an_entry_too_many_is_said_of_those_that_it_names(tmp_path: Path) -> None:
    """Node port 30080 is demo/np's: with the entry its clients would keep their address, against its policy."""
    line = "add KUBE-NODE-PORT-TCP 30080\n"
    folder = changed(tmp_path, "ipvs-healthy", "ipset.txt", line, line + "add KUBE-NODE-PORT-LOCAL-TCP 30080\n")
    superfluous = "set KUBE-NODE-PORT-LOCAL-TCP holds 1 entry that no Service asks for: 30080"
    assert superfluous in [one.message for one in said_of_one(folder, "demo/np")]
    assert superfluous in [one.message for one in audit_inputs(read([str(folder)])).findings]
    assert said_of_one(folder, "demo/np-multi") == []


def test_a_rule_that_harms_several_services_is_said_with_its_effect_on_one(tmp_path: Path) -> None:
    folder = changed(
        tmp_path,
        "ipvs-healthy",
        "iptables-save.txt",
        "-A KUBE-NODE-PORT -p tcp -m comment",
        "-A KUBE-NODE-PORT -p udp -m comment",
    )
    found = said_of_one(folder, "demo/np")
    assert [(one.code, one.message.rpartition(": ")[2]) for one in found if one.cause is None] == [
        ("RA310", "traffic of demo/np:http is wrong because of it")
    ]
    assert alike(found) == alike(said_by_check(folder, "demo/np"))

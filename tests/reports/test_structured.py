"""The JSON report: its fields, their order and their values are what programs rely on."""

from __future__ import annotations

import json
from dataclasses import replace

from ruleaudit.findings import (
    Certainty,
    Finding,
    InputSummary,
    Location,
    ObjectReference,
    ProxySummary,
    Report,
    Severity,
    Suppressed,
)
from ruleaudit.forwarding import Frontend, FrontendKind
from ruleaudit.reports.structured import json_report

FULL = Finding(
    "RA206",
    "stale-endpoint",
    Severity.ERROR,
    "demo/web:http sends 50% to 10.0.0.9:80",
    certainty=Certainty.POSSIBLE,
    node="node-a",
    service="demo/web",
    port="http",
    frontend=Frontend(FrontendKind.NODE_PORT, None, 30080, "TCP", 4),
    endpoint="10.0.0.9:80",
    expected="10.0.0.1:80",
    observed="10.0.0.9:80",
    hint="restart kube-proxy",
    cause="0123456789abcdef",
    locations=(Location("dump", 7, "-A KUBE-SEP-A -j DNAT"),),
    objects=(ObjectReference("Service", "demo", "web"),),
)
BARE = Finding("RA004", "not-checked", Severity.INFO, "no IPv6 dump")
REPORT = Report(
    node="node-a",
    inputs=(InputSummary("dump", "iptables-save", 4, 12, True), InputSummary("notes.txt", "other", None, 3, False)),
    proxy=ProxySummary("iptables", "1.25+", ("10.244.0.0/16",), "ClusterCIDR", "0x4000", (), ("masquerade_mark",)),
    services=1,
    frontends=2,
    endpoints=3,
    findings=(FULL, BARE),
)


def test_every_field_has_its_place_and_value() -> None:
    assert json.loads(json_report(REPORT), object_pairs_hook=lambda pairs: [list(pair) for pair in pairs]) == [
        ["schema", "ruleaudit/report/v1"],
        ["node", "node-a"],
        [
            "inputs",
            [
                [["path", "dump"], ["kind", "iptables-save"], ["family", 4], ["lines", 12], ["used", True]],
                [["path", "notes.txt"], ["kind", "other"], ["family", None], ["lines", 3], ["used", False]],
            ],
        ],
        [
            "proxy",
            [
                ["mode", "iptables"],
                ["layout", "1.25+"],
                ["cluster_cidr", ["10.244.0.0/16"]],
                ["local_detection", "ClusterCIDR"],
                ["masquerade_mark", "0x4000"],
                ["nodeport_addresses", []],
                ["inferred", ["masquerade_mark"]],
            ],
        ],
        [
            "summary",
            [
                ["services", 1],
                ["frontends", 2],
                ["endpoints", 3],
                ["findings", [["error", 1], ["warning", 0], ["info", 1]]],
                ["codes", [["RA004", 1], ["RA206", 1]]],
            ],
        ],
        [
            "findings",
            [
                [
                    ["code", "RA206"],
                    ["name", "stale-endpoint"],
                    ["severity", "error"],
                    ["certainty", "possible"],
                    ["node", "node-a"],
                    ["service", "demo/web"],
                    ["port", "http"],
                    ["frontend", [["kind", "NodePort"], ["address", None], ["port", 30080], ["protocol", "TCP"], ["family", 4]]],
                    ["endpoint", "10.0.0.9:80"],
                    ["message", "demo/web:http sends 50% to 10.0.0.9:80"],
                    ["expected", "10.0.0.1:80"],
                    ["observed", "10.0.0.9:80"],
                    ["hint", "restart kube-proxy"],
                    ["cause", "0123456789abcdef"],
                    ["locations", [[["file", "dump"], ["line", 7], ["text", "-A KUBE-SEP-A -j DNAT"]]]],
                    ["objects", [[["kind", "Service"], ["namespace", "demo"], ["name", "web"]]]],
                    ["fingerprint", FULL.fingerprint],
                ],
                [
                    ["code", "RA004"],
                    ["name", "not-checked"],
                    ["severity", "info"],
                    ["certainty", "definite"],
                    ["node", None],
                    ["service", None],
                    ["port", None],
                    ["frontend", None],
                    ["endpoint", None],
                    ["message", "no IPv6 dump"],
                    ["expected", ""],
                    ["observed", ""],
                    ["hint", ""],
                    ["cause", None],
                    ["locations", []],
                    ["objects", []],
                    ["fingerprint", BARE.fingerprint],
                ],
            ],
        ],
        ["suppressed", []],
        ["notices", []],
    ]


def test_what_is_said_of_the_report_as_a_whole() -> None:
    assert json.loads(json_report(REPORT, ("an ignore has ended",)))["notices"] == ["an ignore has ended"]


def test_what_is_suppressed_stands_apart() -> None:
    report = replace(REPORT, findings=(), suppressed=(Suppressed(FULL, "ignore", "by design", "ruleaudit.toml:3"),))
    found = json.loads(json_report(report))
    assert found["findings"] == []
    (one,) = found["suppressed"]
    assert (one["code"], one["fingerprint"]) == ("RA206", FULL.fingerprint)
    assert (one["suppressed_by"], one["reason"], one["place"]) == ("ignore", "by design", "ruleaudit.toml:3")


def test_a_report_without_findings_is_json_too() -> None:
    report = Report(None, (), ProxySummary(), 0, 0, 0)
    assert json.loads(json_report(report))["findings"] == []


def test_bytes_that_are_no_utf8_and_control_characters_stay_readable() -> None:
    finding = Finding("RA001", "unparsable-line", Severity.ERROR, "-A \udcff\x1b[31m 💀 \\udc80")
    text = json_report(Report(None, (), ProxySummary(), 0, 0, 0, (finding,)))
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text)["findings"][0]["message"] == "-A \\xff\x1b[31m 💀 \\udc80"

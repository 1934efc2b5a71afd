"""What is shown of a report, and that what is not shown is counted."""

from __future__ import annotations

import pytest

from ruleaudit.findings import Finding, ProxySummary, Report, Severity
from ruleaudit.reports.selection import Selection, UnknownNameError, code_prefix

HOOK = Finding("RA108", "missing-hook", Severity.ERROR, "PREROUTING", subject="nat PREROUTING")
WEB = Finding("RA206", "stale-endpoint", Severity.ERROR, "web", service="demo/web", endpoint="10.0.0.9:80")
DNS = Finding("RA106", "missing-endpoint", Severity.ERROR, "dns", service="kube-system/dns", cause=WEB.fingerprint)
NOTE = Finding("RA701", "no-matching-pod", Severity.INFO, "web2", service="demo/web2")
REPORT = Report(
    "node-a", (), ProxySummary(), 4, 4, 4, (HOOK, WEB, DNS, NOTE), ("demo/quiet", "demo/web", "demo/web2", "kube-system/dns")
)


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        pytest.param(Selection(), [HOOK, WEB, DNS, NOTE], id="everything"),
        pytest.param(Selection(select=("RA1",)), [HOOK, DNS], id="a group"),
        pytest.param(Selection(select=("RA1", "RA206")), [HOOK, WEB, DNS], id="a group and a code"),
        pytest.param(Selection(ignore=("RA1",)), [WEB, NOTE], id="without a group"),
        pytest.param(Selection(select=("RA1",), ignore=("RA108",)), [DNS], id="ignored although selected"),
        pytest.param(Selection(services=("demo/web",)), [HOOK, WEB], id="a Service, and what concerns the node"),
        pytest.param(Selection(services=("demo/quiet",)), [HOOK], id="a Service without findings"),
        pytest.param(Selection(namespaces=("demo",)), [HOOK, WEB, NOTE], id="a namespace"),
        pytest.param(Selection(services=("kube-system/dns",)), [HOOK, WEB, DNS], id="with what it follows from"),
        pytest.param(Selection(select=("RA106",), services=("kube-system/dns",)), [DNS], id="codes hide a cause"),
        pytest.param(
            Selection(services=("demo/web2",), namespaces=("kube-system",)), [HOOK, WEB, DNS, NOTE], id="either of them"
        ),
    ],
)
def test_apply(selection: Selection, shown: list[Finding]) -> None:
    report, hidden = selection.apply(REPORT)
    assert list(report.findings) == shown
    left = [finding for finding in REPORT.findings if finding not in shown]
    assert hidden.count == len(left)
    assert sorted(hidden.codes) == sorted({finding.code for finding in left})


def test_what_is_hidden_names_its_options_and_severities() -> None:
    _, hidden = Selection(select=("RA206",), namespaces=("demo",)).apply(REPORT)
    assert hidden.options == ("--select", "--namespace")
    assert hidden.codes == {"RA106": 1, "RA108": 1, "RA701": 1}
    assert hidden.severities == {Severity.ERROR: 2, Severity.INFO: 1}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(services=("demo/wbe",)), "no Service 'demo/wbe' in the inputs; did you mean demo/web"),
        (Selection(services=("other/dns",)), "did you mean kube-system/dns?"),
        (Selection(namespaces=("kube-sytem",)), "in a namespace 'kube-sytem'; did you mean kube-system?"),
        (Selection(namespaces=("zzz",)), "no Service of the inputs is in a namespace 'zzz'"),
    ],
)
def test_an_unknown_service_or_namespace_is_refused(selection: Selection, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        selection.apply(REPORT)
    assert message in str(caught.value)


def test_a_service_that_only_the_rules_hold_is_known() -> None:
    stale = Finding("RA201", "stale-service", Severity.ERROR, "gone", service="old/gone")
    report = Report("node-a", (), ProxySummary(), 1, 1, 1, (stale,), ("demo/web",))
    assert Selection(services=("old/gone",)).apply(report)[0].findings == (stale,)
    assert Selection(namespaces=("old",)).apply(report)[0].findings == (stale,)


def test_without_objects_any_service_may_be_named() -> None:
    report = Report("node-a", (), ProxySummary(), 0, 0, 0, (WEB,))
    assert Selection(services=("demo/other",)).apply(report)[0].findings == ()


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("RA206", "RA206"), ("ra206", "RA206"), (" RA2 ", "RA2"), ("RA20", "RA20"), ("RA", "RA"), ("stale-endpoint", "RA206")],
)
def test_code_prefix(text: str, prefix: str) -> None:
    assert code_prefix(text) == prefix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RA299", "there is no code 'RA299'; did you mean RA2"),
        ("stale-endpiont", "did you mean RA206 stale-endpoint"),
        ("RA9", "RA9 is reserved"),
        ("RA901", "RA901 is reserved"),
        ("R", "there is no code 'R'"),
        ("", "there is no code ''"),
        ("E501", "there is no code 'E501'"),
    ],
)
def test_an_unknown_code_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        code_prefix(text)
    assert message in str(caught.value)

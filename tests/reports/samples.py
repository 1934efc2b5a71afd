"""Reports for the tests of formats: a usual one, a hostile one, and a large one."""

from __future__ import annotations

from ruleaudit.findings import Certainty, Finding, InputSummary, Location, ObjectReference, ProxySummary, Report, Severity
from ruleaudit.forwarding import Frontend, FrontendKind

__all__ = ["FOLDER", "HOSTILE_TEXTS", "USUAL", "hostile", "large"]

FOLDER = "/work space/run"
"""The working directory that the reports are made in."""

_DUMP = "node-a/iptables-save.txt"
_PROXY = ProxySummary("iptables", "1.25+", ("10.244.0.0/16",), "ClusterCIDR", "0x4000", (), ("masquerade_mark",))
_WAY = (
    Location(_DUMP, 354, '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Location(
        _DUMP,
        894,
        '-A KUBE-SERVICES -d 10.96.1.8/32 -p tcp -m comment --comment "demo/np:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-4IIC',
    ),
    Location(_DUMP, 937, "-A KUBE-SVC-4IIC -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-J3QW"),
    Location(_DUMP, 689, "-A KUBE-SEP-J3QW -p tcp -m tcp -j DNAT --to-destination 10.244.99.99:8080"),
)
STALE = Finding(
    "RA206",
    "stale-endpoint",
    Severity.ERROR,
    "demo/np:http sends 33.3% of new connections to 10.244.99.99:8080, no endpoint of any Service",
    node="node-a",
    service="demo/np",
    port="http",
    endpoint="10.244.99.99:8080",
    expected="to 10.244.1.23:8080, 10.244.2.25:8080",
    observed="to 10.244.2.25:8080, 10.244.99.99:8080",
    hint="Look who has the address now (`kubectl get pods -A -o wide`).",
    cause=Finding("RA505", "stopped-kube-proxy", Severity.ERROR, "kube-proxy stopped").fingerprint,
    locations=_WAY,
    objects=(ObjectReference("Service", "demo", "np"), ObjectReference("Pod", "demo", "np-0")),
)
MISSING = Finding(
    "RA102",
    "missing-cluster-ip",
    Severity.ERROR,
    "demo/six:http: cluster IP [fd00:10:96::5]:80/TCP is not programmed",
    certainty=Certainty.POSSIBLE,
    node="node-a",
    service="demo/six",
    port="http",
    frontend=Frontend(FrontendKind.CLUSTER_IP, "fd00:10:96::5", 80, "TCP", 6),
    expected="to [fd00:10:244:1::38]:8080",
    observed="untranslated",
)
USUAL = Report(
    node="node-a",
    inputs=(
        InputSummary(_DUMP, "iptables-save", 4, 1171, True),
        InputSummary("node-a/ip6tables-save.txt", "iptables-save", 6, 166, True),
        InputSummary("/elsewhere/objects.json", "objects", None, 900, True),
        InputSummary("node-a/notes.txt", "other", None, 3, False),
    ),
    proxy=_PROXY,
    services=4,
    frontends=9,
    endpoints=12,
    findings=(
        Finding("RA505", "stopped-kube-proxy", Severity.ERROR, "kube-proxy stopped", node="node-a"),
        STALE,
        MISSING,
        Finding(
            "RA503",
            "leftover-chains",
            Severity.WARNING,
            "4 KUBE-EXT- chains are left",
            node="node-a",
            locations=(Location(_DUMP, 47, ":KUBE-EXT-7WKK - [0:0]"),),
            subject="KUBE-EXT-",
        ),
        Finding("RA004", "not-checked", Severity.INFO, "no nft dump", hint="Give `nft list ruleset`.", subject="nft"),
        Finding("RA701", "no-matching-pod", Severity.INFO, "its selector matches no pod", node="node-a", service="demo/none"),
    ),
    service_names=("demo/none", "demo/np", "demo/six", "demo/well"),
)

HOSTILE_TEXTS = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b>",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x9b5n",
    "lines": "one\ntwo\r\nthree\u2028four\x0bfive\x85six",
    "xml": "]]><!-- --> &amp; <?x?> <![CDATA[ \x00\x01\ufffe\uffff",
    "github": "::error file=x,line=1::boo%0A::stop-commands::x,y=z",
    "github, new line": "\n::set-env name=PATH::/evil\n##[add-mask]x",
    "markdown": "`` ``` ```` [a](javascript:alert(1)) ![b](http://evil/x.png) **x** | @team #1 <details> ~~~",
    "direction": "\u202egnp.exe\u2066\u200f\u200b",
    "template": "${{ github.token }} {{7*7}} $(id) {0} %s",
    "bytes": "\udcff\udc80",
    "long": "a" * 5000,
}
"""What names and lines of an input could hold to steer whoever reads the report."""


def hostile(text: str) -> Report:
    """A report in which everything that comes from an input holds `text`."""
    finding = Finding(
        "RA206",
        "stale-endpoint",
        Severity.ERROR,
        text,
        node=text,
        service=f"{text}/{text}",
        port=text,
        frontend=Frontend(FrontendKind.EXTERNAL_IP, text, 80, "TCP", 4),
        endpoint=text,
        expected=f"to 10.0.0.1:80, {text}",
        observed=f"to 10.0.0.2:80, {text}",
        hint=text,
        locations=(
            Location(text, 3, text),
            Location("dump", 4, f"-A {text} -j {text}"),
            Location("dump", 5, f"-A KUBE-SEP-A {text}"),
        ),
        objects=(ObjectReference(text, text, text),),
    )
    return Report(
        node=text,
        inputs=(InputSummary(text, "iptables-save", 4, 9, True), InputSummary(f"{text}.json", text, None, 1, False)),
        proxy=ProxySummary(text, text, (text,), text, text, (text,), (text,)),
        services=1,
        frontends=1,
        endpoints=1,
        findings=(
            finding,
            Finding("RA503", "leftover-chains", Severity.WARNING, text, node=text, cause=finding.fingerprint, subject=text),
            Finding("RA004", "not-checked", Severity.INFO, text, node=text, hint=text, subject=text),
            Finding("RA701", "no-matching-pod", Severity.INFO, text, node=text, service=f"demo/{text}"),
        ),
        service_names=(f"{text}/{text}", f"clean/{text}"),
    )


def large(services: int, node: str = "node-a") -> Report:
    """A node on which every Service has a finding, with the way there and three endpoints."""
    findings = tuple(_stale(number, node) for number in range(services))
    names = tuple(finding.service or "" for finding in findings)
    return Report(
        node,
        (InputSummary(_DUMP, "iptables-save", 4, 14 * services, True),),
        _PROXY,
        services,
        services,
        3 * services,
        findings,
        names,
    )


def _stale(number: int, node: str) -> Finding:
    service, line = f"ns-{number % 20:02}/svc-{number:05}", 14 * number
    cluster_ip = f"10.96.{number // 250}.{number % 250 + 1}"
    first, second, stale = (f"10.{244 + third}.{number // 250}.{number % 250 + 1}:8080" for third in range(3))
    code, severity = (("RA206", Severity.ERROR), ("RA310", Severity.WARNING))[number % 10 == 9]
    lines = [
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
        f'-A KUBE-SERVICES -d {cluster_ip}/32 -p tcp -m comment --comment "{service}:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-{number:016}',
        f'-A KUBE-SVC-{number:016} ! -s 10.244.0.0/16 -d {cluster_ip}/32 -p tcp -m comment --comment "{service}:http cluster IP" -j KUBE-MARK-MASQ',
    ]  # fmt: skip
    for position, endpoint in enumerate((first, second, stale)):
        chain = f"KUBE-SEP-{number:05}{position:011}"
        lines.append(
            f'-A KUBE-SVC-{number:016} -m comment --comment "{service}:http -> {endpoint}" -m statistic --mode random -j {chain}'
        )
        lines.append(f'-A {chain} -s {endpoint.partition(":")[0]}/32 -m comment --comment "{service}:http" -j KUBE-MARK-MASQ')
        lines.append(f'-A {chain} -p tcp -m comment --comment "{service}:http" -m tcp -j DNAT --to-destination {endpoint}')
    return Finding(
        code,
        "stale-endpoint" if code == "RA206" else "altered-rule",
        severity,
        f"{service}:http sends 33.3% of new connections to {stale}, no endpoint of any Service",
        node=node,
        service=service,
        port="http",
        endpoint=stale,
        expected=f"to {first}, {second}",
        observed=f"to {first}, {second}, {stale}",
        hint="Look who has the address now (`kubectl get pods -A -o wide`).",
        locations=tuple(Location(_DUMP, line + offset, text) for offset, text in enumerate(lines)),
        objects=(ObjectReference("Service", *service.split("/")),),
    )

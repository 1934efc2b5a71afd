"""Names, clients, nodes and Ingresses: what a trace makes of them, and what it answers."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.errors import InputError, RuleauditError
from ruleaudit.findings import Certainty
from ruleaudit.forwarding import Verdict
from ruleaudit.kubeproxy.settings import read_settings
from ruleaudit.reports.text import plain
from ruleaudit.sources import InputKind, read
from ruleaudit.trace import Nodes, SeveralNodesError, read_nodes, trace
from ruleaudit.trace.picture import dot_trace, mermaid_trace
from ruleaudit.trace.question import parse_target
from ruleaudit.trace.structured import json_trace
from ruleaudit.trace.text import trace_lines
from ruleaudit.trace.values import StepKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ruleaudit.trace import Trace

FIXTURES = Path(__file__).parents[2] / "fixtures" / "nodes"


@pytest.fixture(scope="module")
def healthy() -> Nodes:
    return read_nodes([str(FIXTURES / "healthy")])


def text_of(found: Trace) -> str:
    return plain(trace_lines(found))


# --- what is asked ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web.demo:80", ("name", "web.demo", 80, None)),
        ("web:http/tcp", ("name", "web", "http", "TCP")),
        ("web", ("name", "web", None, None)),
        ("_http._tcp.web.demo.svc.cluster.local", ("name", "_http._tcp.web.demo.svc.cluster.local", None, None)),
        ("10.96.1.1:80/UDP", ("address", "10.96.1.1", 80, "UDP")),
        ("10.96.1.1", ("address", "10.96.1.1", None, None)),
        ("fd00:0:0::1", ("address", "fd00::1", None, None)),
        ("[fd00::1]", ("address", "fd00::1", None, None)),
        ("[fd00::1]:443/sctp", ("address", "fd00::1", 443, "SCTP")),
        ("https://Shop.Example.com/cart?x=1", ("url", "shop.example.com", 443, "TCP")),
        ("http://[fd00::1]:8080/", ("url", "fd00::1", 8080, "TCP")),
    ],
)
def test_targets(text: str, wanted: tuple[str, str, int | str | None, str | None]) -> None:
    found = parse_target(text)
    assert (found.kind, found.host, found.port, found.protocol) == wanted


@pytest.mark.parametrize(
    ("client", "target", "message"),
    [
        ("pod/demo/web-0", "web:0", "0 is no port"),
        ("pod/demo/web-0", "web:70000", "70000 is no port"),
        ("pod/demo/web-0", "web:", "no port behind the colon"),
        ("pod/demo/web-0", "web:80/icmp", "'icmp' is no protocol"),
        ("pod/demo/web-0", "demo/web:80", "a Service is asked by its DNS name: give web.demo:80"),
        ("pod/demo/web-0", "svc/demo/web", "give web.demo"),
        ("pod/demo/web-0", "shop.example.com/cart", "a URL begins with http:// or https://"),
        ("pod/demo/web-0", "[fd00::1", r"written \[ADDRESS\]:PORT"),
        ("pod/demo/web-0", "ftp://web/", "no http:// or https:// URL"),
        ("pod/demo/web-0", "we b:80", "neither a name nor an address"),
        ("pod/demo/web-0", "multi", r"which port is not said; demo/multi has 80/TCP \(http\), 443/TCP \(https\)"),
        ("pod/demo/web-0", "multi:htp", "there is no port 'htp'"),
        ("pod/demo/web-0", "10.96.1.5", "which port is not said"),
        ("pod/demo/web-0", "192.168.100.11", "is a node's address; give a port"),
        ("pod/demo/web-0", "127.0.0.1:30080", "is pod/demo/web-0 itself: a loopback address leads nobody to a node"),
        ("198.51.100.7", "127.0.0.1:30080", "is 198.51.100.7 itself"),
        ("2001:db8::7", "[::1]:30080", "is 2001:db8::7 itself"),
        ("pod/demo/web-0", "node-a", "is a node; give a port"),
        ("pod/demo/web-0", "wbe:80", "did you mean .*web"),
        ("pod/demo/web-0", "10.96.1.199:80", "no Service, endpoint, pod or node has 10.96.1.199.*did you mean 10.96.1.19"),
        ("pod/demo/web-9", "web:80", "no pod 'demo/web-9'.*did you mean demo/web-2"),
        ("pod/web-0", "web:80", "give NAMESPACE/NAME"),
        ("pod/demo/client", "web:80", "no pod 'demo/client' among the objects; in namespace demo there are .* and [0-9]+ more"),
        ("pod/shop/client", "web:80", "no pod 'shop/client' among the objects; no pod is in namespace 'shop'"),
        ("pod/demo/web-1", "web:80", "runs on node node-b.*whose dumps were not given"),
        ("pod/demo/completed-1", "web:80", r"has run to its end \(Succeeded\)"),
        ("demo/web-0", "web:80", "give pod/NAMESPACE/NAME, node, or an address"),
        ("node/node-b", "10.96.1.1:80", "rules of node node-b first, whose dumps were not given"),
        ("node/node-x", "10.96.1.1:80", "no node 'node-x'.*did you mean"),
        ("198.51.100.7", "[fd00:10:96::136]:80", "198.51.100.7 has no IPv6 address"),
        ("2001:db8::7", "np.demo.svc.cluster.local", "its addresses are 10.96.1.8, and 2001:db8::7 has none of IPv4"),
        ("198.51.100.7", "192.168.100.12:30080", "is node node-b, whose dumps were not given"),
        ("0.0.0.0", "10.96.1.1:80", "no connection comes from that address"),
        ("ff02::1", "10.96.1.1:80", "no connection comes from that address"),
        ("127.0.0.1", "10.96.1.1:80", "give node, or node/NAME"),
        ("10.96.1.1", "10.96.1.8:80", "is an address of Service demo/web, from which no connection comes"),
        ("node", "localhost", "give a port, as localhost:30080"),
        ("pod/demo/web-0", "localhost:30080", "is pod/demo/web-0 itself"),
        (
            "pod/demo/web-0",
            "_htp._tcp.web",
            "Service demo/web: it has no port 'htp' of protocol 'tcp'; .*did you mean _http._tcp.web.demo.svc",
        ),
        (
            "pod/demo/web-0",
            "gone-0.headless:80",
            "Service demo/headless: no endpoint has the name gone-0; .*did you mean 10-244-1-43.headless.demo.svc",
        ),
        ("2001:db8::7", "http://shop.example.com/", "NodePort 192.168.100.11, .* no address that 2001:db8::7 could ask"),
        ("2001:db8::7", "2001:db8::50:80", r"where 80 is the port, write \[2001:db8::50\]:80"),
        ("pod/demo/web-0", "web.svc:80", r"did you mean web\.demo"),
        ("198.51.100.7", "https://shpo.example.com/", "no Ingress serves it.*did you mean shop.example.com"),
        ("198.51.100.7", "shop.example.com:80", "an Ingress serves that host: give https://shop.example.com/"),
    ],
)
def test_what_cannot_be_followed_is_said(healthy: Nodes, client: str, target: str, message: str) -> None:
    with pytest.raises(RuleauditError, match=message):
        trace(healthy, client, target)


def test_a_controller_that_is_not_there(healthy: Nodes) -> None:
    with pytest.raises(RuleauditError, match="did you mean"):
        trace(healthy, "198.51.100.7", "https://shop.example.com/", controller="demo/wbe")


# --- what is answered ---


Verdicts = frozenset[Verdict | None]


class Case(NamedTuple):
    client: str
    target: str
    reached: bool
    verdicts: Verdicts
    says: tuple[str, ...]
    codes: frozenset[str] = frozenset()


FORWARD: Verdicts = frozenset({Verdict.FORWARD})
DROP: Verdicts = frozenset({Verdict.DROP})
REJECT: Verdicts = frozenset({Verdict.REJECT})
PASS: Verdicts = frozenset({Verdict.PASS})
LOCAL: Verdicts = frozenset({Verdict.LOCAL})
NO_RULES: Verdicts = frozenset({None})
CASES = {
    "a short name, and the client that is its own backend": Case(
        "pod/demo/web-0", "web:80", True, FORWARD,
        ("name web: Service demo/web, cluster IP 10.96.1.1", "hairpin: the pod is its own backend", "on this node", "on node node-b", "the pod sees 10.244.1.12 as the client"),
    ),
    "a port's name": Case("pod/demo/web-0", "multi:metrics", True, FORWARD, ("10.96.1.5:9090/TCP",)),
    "SRV": Case("pod/demo/web-0", "_https._tcp.multi.demo.svc.cluster.local", True, FORWARD, ("10.96.1.5:443/TCP",)),
    "both families": Case("pod/demo/web-0", "dual:80", True, FORWARD, ("packets for 10.96.1.54:80", "packets for [fd00:10:96::136]:80", "its own affair")),
    "one family is enough": Case("198.51.100.7", "10.96.1.54:80", True, FORWARD, ("outside of the cluster a cluster IP is led to no node", "provided that the network leads 10.96.1.54 to node-a")),
    "a headless Service": Case("pod/demo/web-0", "headless", True, PASS, ("headless Service demo/headless", "routed, untranslated")),
    "the Service's port instead of the pods'": Case("pod/demo/web-0", "headless:80", False, PASS, ("no rule translates the port of a headless Service",)),
    "an alias that leads outside": Case("pod/demo/web-0", "extname:80", False, NO_RULES, ("an alias of db.example.com", "cannot be known from the objects")),
    "UDP": Case("pod/demo/web-0", "10.96.1.10:53/udp", True, FORWARD, ("10.96.1.10:53/UDP",)),
    "UDP where only that is there": Case("pod/demo/web-0", "udp", True, FORWARD, ("/UDP",)),
    "no endpoints": Case("node", "10.96.1.43:80", False, REJECT, ("rejected: the client is told at once", "has no endpoints"), frozenset({"RA701"})),
    "a port that the Service has not": Case("pod/demo/web-0", "10.96.1.1:81", False, PASS, ("which has no port 81/TCP: it has 80/TCP (http)",)),
    "a node port": Case("198.51.100.7", "192.168.100.11:30080", True, FORWARD, ("KUBE-NODEPORTS", "the pod sees an address of node node-a as the client")),
    "by the node's name": Case("198.51.100.7", "node-a:30080", True, FORWARD, ("node-a is a node",)),
    "loopback by its name": Case("node", "localhost:30080", False, FORWARD | LOCAL, ("may be reached: by 127.0.0.1: to pod demo/np-0", "localhost: 127.0.0.1, ::1", "packets for 127.0.0.1:30080/TCP")),
    "another port of the node": Case("node", "192.168.100.11:10250", False, LOCAL, ("whether anybody listens is not known",)),
    "a node port that the rules lack": Case("node", "192.168.100.11:30999", False, LOCAL, ()),
    "a pod of a StatefulSet without its name": Case("pod/demo/web-0", "headless-0.headless:80", False, NO_RULES, ("no ready endpoint has that name",)),
    "loopback": Case("node", "127.0.0.1:30080", True, FORWARD, ()),
    "a node port of UDP": Case("198.51.100.7", "192.168.100.11:30053/udp", True, FORWARD, ()),
    "nobody listens": Case("198.51.100.7", "192.168.100.11:31999", False, LOCAL, ("whether anybody listens is not known",)),
    "policy Local keeps the client's address": Case("198.51.100.7", "192.168.100.11:30120", True, FORWARD, ("the pod sees 198.51.100.7 as the client",)),
    "policy Local without a local endpoint": Case("198.51.100.7", "192.168.100.11:30121", False, DROP, ("no local endpoints", "dropped")),
    "a load balancer": Case("198.51.100.7", "203.0.113.10:80", True, FORWARD, ("load balancer of Service demo/lb", "addresses unchanged", "every node")),
    "a load balancer that connects itself": Case("198.51.100.7", "203.0.113.14:80", True, FORWARD, ("node port 30103 of a node itself", "192.168.100.11:30103")),
    "the same from a pod": Case("pod/demo/web-0", "203.0.113.14:80", True, FORWARD, ("routed on, untranslated", "node port 30103")),
    "a load balancer that asks for health": Case("198.51.100.7", "203.0.113.18:80", True, FORWARD, ("their health check on port",)),
    "a load balancer that does not use the node": Case("198.51.100.7", "203.0.113.19:80", False, DROP, ("it does not use node-a", "as the objects ask: demo/lb-local-remote has no ready endpoint on this node",)),
    "a load balancer with a name": Case("198.51.100.7", "lb.example.com:80", False, FORWARD, ("it has a name only",)),
    "source ranges admit": Case("198.51.100.7", "203.0.113.11:80", True, FORWARD, ("-s 198.51.100.0/24",)),
    "source ranges refuse": Case("192.0.2.77", "203.0.113.11:80", False, DROP, ("KUBE-PROXY-FIREWALL", "as the objects ask: 192.0.2.77 is in none of loadBalancerSourceRanges, 198.51.100.0/24")),
    "endpoints that are not ready": Case("pod/demo/web-0", "notready:80", False, REJECT, ("as the objects ask: demo/notready has", "none of them ready")),
    "an endpoint without a pod": Case("pod/demo/web-0", "172.16.5.5:8080", True, PASS, ("routed, untranslated, to 172.16.5.5:8080, an endpoint without a pod, ready",)),
    "the health check of a load balancer": Case("198.51.100.7", "192.168.100.11:32009", True, LOCAL, ("503, no ready endpoint on this node",)),
    "an external IP": Case("198.51.100.7", "198.51.100.77:80", True, FORWARD, ("which the objects do not show",)),
    "session affinity": Case("pod/demo/web-0", "aff:80", True, FORWARD, ("session affinity: a client comes back",)),
    "only terminating endpoints": Case("pod/demo/web-0", "term-only:80", False, FORWARD, ("terminating",)),
    "a pod's own address": Case("pod/demo/web-0", "10.244.1.23:8080", True, PASS, ("routed, untranslated, to 10.244.1.23:8080, pod demo/np-0",)),
    "by the pod's address": Case("10.244.1.12", "10.96.1.8:80", True, FORWARD, ("10.244.1.12 is pod demo/web-0's",)),
    "from the node's address": Case("192.168.100.11", "10.96.1.8:80", True, FORWARD, ()),
    "a pod on the host network": Case("pod/demo/hostnet-0", "10.96.1.8:80", True, FORWARD, ("-A OUTPUT",)),
    "a name that only cluster DNS knows": Case("node", "np.demo.svc.cluster.local", False, FORWARD, ("its own resolver is asked",)),
    "an Ingress behind a node port": Case(
        "198.51.100.7", "https://shop.example.com/cart", True, FORWARD | PASS,
        ("Ingress controller (ingress-nginx)", "node port 30443", "Ingress demo/shop, shop.example.com/ (Prefix)", "by Service demo/web", "straight to its endpoints"),
    ),
    "another path": Case("198.51.100.7", "http://shop.example.com/api/x", True, FORWARD | PASS, ("shop.example.com/api (Prefix): to Service port demo/multi:http",)),
    "an Ingress on the host network": Case("198.51.100.7", "http://tools.example.com/", True, FORWARD | PASS, ("host network", "pod traefik/traefik-0 on its host network declares the port")),
    "an Ingress without endpoints": Case("198.51.100.7", "http://tools.example.com/empty", False, NO_RULES | REJECT, ("no pod has app=empty",), frozenset({"RA701"})),
    "an Ingress for a Service that is not there": Case("198.51.100.7", "http://tools.example.com/gone", False, NO_RULES, ("the controller answers itself",), frozenset({"RA704"})),
    "an Ingress for a port that is not there": Case("198.51.100.7", "http://bad.example.com/", False, NO_RULES, ("has no port 'nosuch'",), frozenset({"RA704"})),
    "a controller that is named": Case("198.51.100.7", "http://tools.example.com/", True, FORWARD | PASS, ()),
    "a URL within the cluster": Case("pod/demo/web-0", "http://np.demo/", True, FORWARD, ("10.96.1.8:80/TCP",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_answers(healthy: Nodes, name: str) -> None:
    case = CASES[name]
    controller = "traefik/traefik" if "named" in name else None
    found = trace(healthy, case.client, case.target, controller=controller)
    text = text_of(found)
    assert {one.verdict for one in found.outcomes} <= case.verdicts, text
    assert found.reached is case.reached, text
    assert sum(one.share for one in found.outcomes) == pytest.approx(1)
    assert {one.code for one in found.findings} == case.codes
    for words in case.says:
        assert words in text, text
    assert text.splitlines()[-1] == found.answer
    assert found.answer.startswith("reached: ") is case.reached


def test_what_rests_on_a_resolver_is_possible(healthy: Nodes) -> None:
    found = trace(healthy, "node", "np.demo.svc.cluster.local")
    assert {one.certainty for one in found.outcomes} == {Certainty.POSSIBLE}
    assert found.answer.startswith("may be reached")


def test_where_rules_and_objects_part() -> None:
    found = trace(read_nodes([str(FIXTURES / "changed-destination")]), "198.51.100.7", "192.168.100.11:30080")
    (step,) = (one for one in found.all_steps() if one.kind is StepKind.NODE_RULES)
    assert {one.code for one in step.remarks} == {"RA206"}
    wrong = next(one for one in found.outcomes if not one.reached)
    assert wrong.destination == ("10.244.99.99", 8080, "TCP")
    assert wrong.rules[-1].text.endswith("-j MASQUERADE --random-fully")
    assert any(one.text.endswith("--to-destination 10.244.99.99:8080") for one in wrong.rules)
    assert found.answer.startswith("partly reached: 33.3% to 10.244.99.99:8080")
    assert found.answer.endswith("the objects ask for something else (RA206)")


# --- changed nodes ---


def changed(folder: Path, name: str, change: Callable[[str], str], node: str | None = None) -> str:
    """A copy of the healthy node with its IPv4 rules changed; `node`: as another node."""
    copy = folder / name
    shutil.copytree(FIXTURES / "healthy", copy)
    dump = copy / "iptables-save.txt"
    dump.write_text(change(dump.read_text()))
    if node is not None:
        meta = copy / "meta.json"
        described = json.loads(meta.read_text())
        described.update(node=node, node_ips=["192.168.100.12", "fd00:192:168:100::12"])
        meta.write_text(json.dumps(described))
        args = copy / "kube-proxy.args"
        args.write_text(args.read_text().replace("--hostname-override=node-a", f"--hostname-override={node}"))
    return str(copy)


def before(chain: str, rule: str) -> Callable[[str], str]:
    """Put a rule before the first of a chain of filter."""
    return lambda text: re.sub(rf"^-A {chain} ", f"{rule}\n\\g<0>", text, count=1, flags=re.MULTILINE)


class Change(NamedTuple):
    change: Callable[[str], str]
    client: str
    target: str
    verdicts: Verdicts
    answer: str
    shown: str
    code: str


CHANGES = {
    "other software drops it": Change(
        before("FORWARD", "-A FORWARD -d 10.244.2.25/32 -j DROP"), "pod/demo/web-0", "np:80", FORWARD | DROP, "partly reached", "filter 27 (other software's): -A FORWARD -d 10.244.2.25/32 -j DROP", "RA602",
    ),
    "a policy drops it": Change(
        lambda text: re.sub(r"^-A FORWARD .*KUBE-FORWARD\n", "", text.replace(":FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE", ":FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE"), flags=re.MULTILINE),
        "198.51.100.7", "192.168.100.11:30080", DROP, "not reached", "(policy): :FORWARD DROP", "RA108",
    ),
    "nothing is masqueraded": Change(
        lambda text: re.sub(r"^-A POSTROUTING .*KUBE-POSTROUTING\n", "", text, flags=re.MULTILINE),
        "198.51.100.7", "192.168.100.11:30080", FORWARD, "may be reached", "an address that it has not asked", "RA108",
    ),
    "the client is its own backend, without masquerade": Change(
        lambda text: text.replace('-A KUBE-SEP-RG4IJX7XPUXV7D7S -s 10.244.1.12/32 -m comment --comment "demo/web:http" -j KUBE-MARK-MASQ\n', ""),
        "pod/demo/web-0", "web:80", FORWARD, "partly reached", "its answers do not go back", "RA403",
    ),
    "what is not decided": Change(
        before("FORWARD", "-A FORWARD -d 10.244.1.23/32 -m limit --limit 1/sec -j DROP"), "pod/demo/web-0", "np:80", FORWARD | DROP, "may be reached", "not decided by what is known, so both ways are followed", "",
    ),
    "rules of a Service that is not there": Change(
        lambda text: text.replace("-A KUBE-SERVICES -d 10.96.1.8/32 ", "-A KUBE-SERVICES -d 10.96.9.9/32 ", 1),
        "pod/demo/web-0", "10.96.9.9:80", FORWARD, "reached", "-d 10.96.9.9/32", "RA202",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changed_rules_are_shown(tmp_path: Path, name: str) -> None:
    case = CHANGES[name]
    found = trace(read_nodes([changed(tmp_path, "node", case.change)]), case.client, case.target)
    text = text_of(found)
    assert {one.verdict for one in found.outcomes} == case.verdicts, text
    assert found.answer.startswith(case.answer), text
    assert case.shown in text, text
    assert (case.code in {one.code for one in found.findings}) is bool(case.code), text


def test_without_the_filter_table_nothing_is_certain(tmp_path: Path) -> None:
    nodes = read_nodes(
        [changed(tmp_path, "node", lambda text: re.sub(r"^\*filter\n.*?^COMMIT\n", "", text, flags=re.MULTILINE | re.DOTALL))]
    )
    found = trace(nodes, "pod/demo/web-0", "np:80")
    assert found.answer.startswith("may be reached")
    assert "the dump has no filter table" in text_of(found)


def test_rules_of_another_node_and_settings_that_they_contradict_are_said(tmp_path: Path) -> None:
    """Where the answer rests on a wrong assumption, it says so at the node's step."""
    other = trace(
        read_nodes([changed(tmp_path, "other", lambda text: text, node="node-b")]), "198.51.100.7", "192.168.100.12:30120"
    )
    assert next(one.code for one in other.findings) == "RA007"
    assert "look like those of node-a, not of node-b" in text_of(other)
    differing = changed(tmp_path, "differing", lambda text: text.replace("0x4000", "0x8000"))
    args = Path(differing) / "kube-proxy.args"
    args.write_text(args.read_text().rstrip() + "\n--iptables-masquerade-bit=14\n")
    found = trace(read_nodes([differing]), "pod/demo/web-0", "web:80")
    assert {one.code for one in found.findings} == {"RA008"}
    assert found.answer.startswith("reached: ")
    assert found.answer.endswith(" (RA008)")


# --- IPVS mode ---


def test_a_real_server_that_takes_nothing() -> None:
    found = trace(read_nodes([str(FIXTURES / "ipvs-drained-endpoint")]), "pod/demo/web-0", "web:80")
    assert {one.code for one in found.findings} == {"RA303"}
    assert {rule.table for one in found.outcomes for rule in one.rules} >= {"nat", "ipvs"}
    assert "ipvs " in text_of(found)


def test_an_address_that_kube_ipvs0_lacks(tmp_path: Path) -> None:
    copy = tmp_path / "node"
    shutil.copytree(FIXTURES / "ipvs-healthy", copy)
    listing = copy / "ip-addr-kube-ipvs0.json"
    text = listing.read_text()
    (entry,) = re.findall(r'\{[^{}]*"local":\s*"10\.96\.1\.1"[^{}]*\},?', text)
    listing.write_text(text.replace(entry, ""))
    nodes = read_nodes([str(copy)])
    found = trace(nodes, "pod/demo/web-0", "web:80")
    assert {one.verdict for one in found.outcomes} == {Verdict.PASS}
    assert {one.code for one in found.findings} == {"RA111"}
    assert trace(nodes, "node", "10.96.1.1:80").reached


def test_virtual_servers_alone(tmp_path: Path) -> None:
    paths = [str(FIXTURES / "ipvs-healthy" / name) for name in ("ipvsadm.txt", "objects.json.xz")]
    found = trace(read_nodes(paths, node="node-a"), "pod/demo/web-0", "web:80")
    assert found.answer == "may be reached: to pod demo/web-0, pod demo/web-1 and pod demo/web-2"
    assert {one.masquerade for one in found.outcomes} == {None}
    assert "only its virtual servers are known" in text_of(found)


# --- Ingress controllers ---


def with_objects(folder: Path, change: Callable[[dict[tuple[str, str], dict[str, Any]]], None]) -> Nodes:
    """The healthy node with its objects changed; `change` is given them by kind and name."""
    copy = folder / "node"
    shutil.copytree(FIXTURES / "healthy", copy)
    packed = copy / "objects.json.xz"
    listed = json.loads(lzma.decompress(packed.read_bytes()))
    change({(one["kind"], one["metadata"]["name"]): one for one in listed["items"]})
    packed.unlink()
    (copy / "objects.json").write_text(json.dumps(listed))
    return read_nodes([str(copy)])


Objects = dict[tuple[str, str], dict[str, Any]]


def balanced(objects: Objects) -> None:
    service = objects["Service", "ingress-nginx-controller"]
    service["spec"]["type"] = "LoadBalancer"
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.99", "ipMode": "Proxy"}]}}


def balanced_by_name(objects: Objects) -> None:
    service = objects["Service", "ingress-nginx-controller"]
    service["spec"]["type"] = "LoadBalancer"
    service["status"] = {"loadBalancer": {"ingress": [{"hostname": "ingress.example.net"}]}}


def nowhere(objects: Objects) -> None:
    for (kind, name), one in objects.items():
        if kind == "Pod" and name.startswith("ingress-nginx-controller"):
            one["metadata"]["labels"] = {}


def in_the_cloud(objects: Objects) -> None:
    objects["IngressClass", "nginx"]["spec"]["controller"] = "ingress.k8s.aws/alb"


def elsewhere(objects: Objects) -> None:
    for (kind, name), one in objects.items():
        if kind == "Pod" and name.startswith("traefik"):
            one["spec"]["nodeName"] = "node-c"


CONTROLLERS: dict[str, tuple[Callable[[Objects], None], str, str, tuple[str, ...]]] = {
    "a load balancer": (balanced, "https://shop.example.com/", "reached: ", ("the load balancer of Service ingress-nginx/ingress-nginx-controller at 203.0.113.99, port 443", "node port 30443 of a node itself")),
    "a load balancer with a name": (balanced_by_name, "https://shop.example.com/", "may be reached: ", ("ingress.example.net", "it has a name only")),
    "not found": (nowhere, "https://shop.example.com/", "may be reached: ", ("Ingress controller: not found; --controller NAMESPACE/NAME names it", "looked at: pods with the labels")),
    "outside of the cluster": (in_the_cloud, "https://shop.example.com/", "may be reached: ", ("the cloud's load balancer serves it",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROLLERS)
def test_ingress_controllers(tmp_path: Path, name: str) -> None:
    change, url, answer, says = CONTROLLERS[name]
    found = trace(with_objects(tmp_path, change), "198.51.100.7", url)
    text = text_of(found)
    assert found.answer.startswith(answer), text
    assert sum(one.share for one in found.outcomes) == pytest.approx(1)
    for words in says:
        assert words in text, text


def test_a_controller_on_other_nodes(tmp_path: Path) -> None:
    nodes = with_objects(tmp_path, elsewhere)
    with pytest.raises(
        RuleauditError, match="no way to the Ingress controller can be followed: the controller listens on node-c"
    ):
        trace(nodes, "198.51.100.7", "http://tools.example.com/")


def test_a_node_port_that_is_not_served_here(tmp_path: Path) -> None:
    def labelled(objects: Objects) -> None:
        objects["Service", "np"]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}

    found = trace(with_objects(tmp_path, labelled), "198.51.100.7", "192.168.100.11:30080")
    assert "30080 is a node port of Service demo/np, which kube-proxy passes over here" in text_of(found)


# --- several nodes ---


def test_the_second_nodes_rules_are_followed(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", before("FORWARD", "-A FORWARD -d 10.244.2.25/32 -j DROP"), node="node-b")
    nodes = read_nodes([str(FIXTURES / "healthy"), second])
    found = trace(nodes, "pod/demo/web-0", "np:80")
    text = text_of(found)
    lost = [one for one in found.outcomes if one.verdict is Verdict.DROP]
    assert [one.destination for one in lost] == [("10.244.2.25", 8080, "TCP")]
    assert lost[0].share == pytest.approx(1 / 3)
    assert {one.file for one in lost[0].rules} == {f"{FIXTURES / 'healthy'}/iptables-save.txt", f"{second}/iptables-save.txt"}
    assert "node node-b: brought from another node: 10.244.2.25:8080/TCP" in text
    assert "not followed on node-c, whose dumps" in text
    assert found.answer.startswith("partly reached")


def test_pods_of_every_given_node_can_ask(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", lambda text: text, node="node-b")
    nodes = read_nodes([str(FIXTURES / "healthy"), second])
    found = trace(nodes, "pod/demo/web-1", "np:80")
    assert found.reached
    assert {one.node for one in found.all_steps() if one.kind is StepKind.NODE_RULES} == {"node-b", "node-a"}
    assert trace(nodes, "198.51.100.7", "192.168.100.12:30080").reached
    assert trace(nodes, "pod/demo/web-0", "192.168.100.12:30080").reached


def test_one_folder_may_hold_several_nodes(tmp_path: Path) -> None:
    changed(tmp_path, "a", lambda text: text)
    second = changed(tmp_path, "b", lambda text: text, node="node-b")
    (tmp_path / "objects.json.xz").write_bytes(Path(second, "objects.json.xz").read_bytes())
    for name in ("a", "b"):
        (tmp_path / name / "objects.json.xz").unlink()
    nodes = read_nodes([str(tmp_path)])
    assert [one.name for one in nodes.models] == ["node-a", "node-b"]
    assert trace(nodes, "pod/demo/web-1", "np:80").reached


def test_what_no_file_holds_is_of_all_nodes_or_of_the_only_one(tmp_path: Path) -> None:
    healthy = read([str(FIXTURES / "healthy")])
    objects = [one for one in healthy if one.kind is InputKind.OBJECTS]
    paths = [changed(tmp_path, "a", lambda text: text), changed(tmp_path, "b", lambda text: text, node="node-b")]
    for path in paths:
        Path(path, "objects.json.xz").unlink()
    assert trace(read_nodes(paths, outside=objects), "pod/demo/web-1", "np:80").reached
    assert trace(read_nodes([], outside=healthy), "pod/demo/web-0", "np:80").reached
    with pytest.raises(SeveralNodesError, match="about one node, and the inputs are about 2 others"):
        read_nodes(paths, outside=healthy)


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    """A folder as `collect` writes it for a cluster: node-a and node-b in it, and the objects."""
    folder = tmp_path / "captures"
    for name in ("node-a", "node-b"):
        changed(
            folder, name, before("FORWARD", f'-A FORWARD -s 192.0.2.1/32 -m comment --comment "on {name}" -j DROP'), node=name
        )
        (folder / name / "objects.json.xz").replace(folder / "objects.json.xz")
    return folder


def unnamed(folder: Path, *, settings: bool) -> None:
    """Without the description of the capture; with `settings`, kube-proxy's say which node it is, else only the folder does."""
    (folder / "meta.json").unlink()
    if settings:
        folder.rename(folder.parent / f"x-{folder.name}")
    else:
        (folder / "kube-proxy.args").unlink()


@pytest.mark.parametrize("form", ["described", "named by settings", "named by folders", "archives", "one archive"])
def test_what_are_several_nodes_for_check_are_for_trace(form: str, two_nodes: Path) -> None:
    names = ("node-a", "node-b")
    objects = str(two_nodes / "objects.json.xz")
    paths, more = [str(two_nodes)], []
    if form.startswith("named"):
        unnamed(two_nodes / "node-b", settings=form == "named by settings")
    elif form == "archives":
        paths, more = [packed(two_nodes / name) for name in names], [objects]
    elif form == "one archive":
        paths = [packed(two_nodes)]
    nodes = read_nodes(paths, shared=more)
    assert [one.name for one in nodes.models] == list(names)
    assert trace(nodes, "pod/demo/web-1", "np:80").reached


def packed(folder: Path) -> str:
    name = f"{folder}.tar.gz"
    with tarfile.open(name, "w:gz", compresslevel=1) as archive:
        archive.add(folder, folder.name)
    return name


def test_objects_of_several_nodes_are_read_once(two_nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(parts: Sequence[tuple[str, bytes]], *, limit_factor: int) -> Cluster:
        reads.append([path for path, _ in parts])
        return load(parts, limit_factor=limit_factor)

    monkeypatch.setattr("ruleaudit.audit.shared.load", counted)
    nodes = read_nodes([str(two_nodes)])
    assert reads == [[str(two_nodes / "objects.json.xz")]]
    assert nodes.models[0].cluster is nodes.models[1].cluster


def test_a_node_among_several_that_cannot_be_followed_is_named(two_nodes: Path) -> None:
    unnamed(two_nodes / "node-b", settings=False)
    (two_nodes / "node-b").rename(two_nodes / "elsewhere")
    with pytest.raises(InputError, match=r"captures/elsewhere: which node it is, is not known"):
        read_nodes([str(two_nodes)])
    for file in (two_nodes / "elsewhere").iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"captures/elsewhere: the folder holds no file that ruleaudit reads"):
        read_nodes([str(two_nodes / "node-a"), str(two_nodes / "elsewhere")])


def test_settings_beside_several_nodes_name_none(two_nodes: Path) -> None:
    settings = read_settings(b"kube-proxy --hostname-override=node-a --cluster-cidr=10.244.0.0/16\n", "args")
    assert [one.name for one in read_nodes([str(two_nodes)], settings=settings).models] == ["node-a", "node-b"]


def test_load_balancers_use_every_given_node(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", lambda text: text, node="node-b")
    paths = [str(FIXTURES / "healthy"), second]
    balanced = trace(read_nodes(paths), "198.51.100.7", "203.0.113.10:80")
    assert {one.node for one in balanced.all_steps() if one.kind is StepKind.NODE_RULES} >= {"node-a", "node-b"}
    named = trace(read_nodes(paths, node="node-b"), "198.51.100.7", "203.0.113.10:80")
    assert named.node == "node-b"
    first = next(one for one in named.all_steps() if one.kind is StepKind.NODE_RULES)
    assert first.node == "node-b"


def test_nodes_that_are_given_twice_or_not_at_all(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", lambda text: text.replace("0x4000", "0x8000"), node="node-b")
    third = changed(tmp_path, "c", lambda text: text, node="node-b")
    Path(third, "meta.json").write_text(Path(third, "meta.json").read_text() + "\n")
    with pytest.raises(RuleauditError, match="node node-b is given twice"):
        read_nodes([second, third])
    with pytest.raises(RuleauditError, match="no dumps of node 'node-c' were given, but of node-a, node-b"):
        read_nodes([str(FIXTURES / "healthy"), second], node="node-c")


def test_objects_that_differ_are_said_and_those_of_the_first_count(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", lambda text: text, node="node-b")
    objects = Path(second, "objects.json.xz")
    listed = json.loads(lzma.decompress(objects.read_bytes()))
    nodes = [str(FIXTURES / "healthy"), second]
    assert read_nodes(nodes).notes == ()
    objects.write_bytes(lzma.compress(json.dumps(listed).encode() + b"\n"))
    found = read_nodes(nodes)
    assert found.notes == ("the objects beside node-b differ from those beside node-a, which count",)
    assert trace(found, "pod/demo/web-0", "web:80").notes[0] == found.notes[0]
    assert read_nodes(nodes, node="node-b").notes == ("the objects beside node-a differ from those beside node-b, which count",)
    listed["items"] = [one for one in listed["items"] if (one["kind"], one["metadata"]["name"]) != ("Node", "node-a")]
    objects.write_bytes(lzma.compress(json.dumps(listed).encode()))
    assert read_nodes(nodes[::-1]).notes == (
        "the objects beside node-a differ from those beside node-b, which count",
        "the objects that count have no Node node-a: they are of another cluster, or of another time",
    )
    listed["items"] = [one for one in listed["items"] if (one["kind"], one["metadata"]["name"]) != ("Node", "node-b")]
    listed["items"].append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}})
    objects.write_bytes(lzma.compress(json.dumps(listed).encode()))
    with pytest.raises(RuleauditError, match="the objects that are given with node node-b have no such Node"):
        read_nodes(nodes, node="node-b")


def test_objects_are_shared(tmp_path: Path) -> None:
    second = changed(tmp_path, "b", lambda text: text, node="node-b")
    Path(second, "objects.json.xz").unlink()
    assert trace(read_nodes([str(FIXTURES / "healthy"), second]), "pod/demo/web-1", "np:80").reached


# --- formats ---


def test_json(healthy: Nodes) -> None:
    found = json.loads(json_trace(trace(healthy, "pod/demo/web-0", "web:80")))
    assert list(found)[:4] == ["schema", "node", "from", "to"]
    assert {"schema", "node", "from", "to", "outcomes", "expected", "steps", "findings"} <= found.keys()
    assert found["schema"] == "ruleaudit/trace/v1"
    assert found["from"] == {
        "text": "pod/demo/web-0", "kind": "pod", "addresses": ["10.244.1.12", "fd00:10:244:1::c"], "pod": "demo/web-0",
        "node": "node-a", "service": None, "port": None, "protocol": None,
    }  # fmt: skip
    assert found["to"]["service"] == "demo/web"
    outcome = next(one for one in found["outcomes"] if one["endpoint"]["pod"] == "demo/web-1")
    assert outcome["destination"] == {"address": "10.244.2.12", "port": 8080, "protocol": "TCP"}
    assert (outcome["verdict"], outcome["masquerade"], outcome["certainty"], outcome["endpoint"]["ready"]) == (
        "forward", False, "definite", True,
    )  # fmt: skip
    assert [one["chain"] for one in outcome["rules"]] == [
        "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-XRY76EGRC3BSCIIJ", "KUBE-SEP-UZD5V5ZXLABHQ6GD",
    ]  # fmt: skip
    assert {"file", "line", "table", "chain", "text"} <= outcome["rules"][0].keys()
    assert found["expected"][0]["same"] is True
    assert found["steps"][0]["kind"] == "dns"


def test_pictures(healthy: Nodes) -> None:
    found = trace(healthy, "198.51.100.7", "192.168.100.11:30080")
    dot = dot_trace(found)
    assert dot.startswith("digraph trace {\n")
    assert dot.endswith("}\n")
    assert 'n1 -> n2 [label="33.3%"];' in dot
    assert len(re.findall(r"^  n\d+ \[", dot, re.MULTILINE)) == 1 + sum(1 for _ in found.all_steps())
    mermaid = mermaid_trace(found)
    assert mermaid.startswith("flowchart LR\n")
    assert '  n1 -->|"33.3%"| n2' in mermaid


def test_pictures_name_the_file_once_and_say_what_the_tree_says(tmp_path: Path) -> None:
    rule = "-A FORWARD -d 10.244.2.25/32 -m time --timestart 08:00 -j DROP"
    folder = changed(tmp_path, "possible", before("FORWARD", rule))
    found = trace(read_nodes([folder]), "198.51.100.7", "192.168.100.11:30080")
    for picture in (dot_trace(found), mermaid_trace(found)):
        assert picture.count("/iptables-save.txt") == 1
        assert "nat KUBE-NODEPORTS " in picture
        assert picture.count("masqueraded: sees an address of node node-a as the") == 3
    dot, mermaid = dot_trace(found), mermaid_trace(found)
    dropped = next(line for line in dot.splitlines() if "filter FORWARD" in line and "dropped" in line)
    assert "(other software's)" in dropped
    assert "[possible]" in dropped
    assert "style=dashed" in dropped
    assert "#91;possible#93;" in mermaid
    assert "stroke-dasharray:5" in mermaid
    elsewhere = trace(read_nodes([folder]), "pod/demo/web-0", "192.168.100.12:30081")
    assert re.search(r"routed on.*shape=cds", dot_trace(elsewhere))
    assert 'n2>"routed on' in mermaid_trace(elsewhere)
    kept = dot_trace(trace(read_nodes([folder]), "pod/demo/web-0", "10.96.1.8:80"))
    assert "sees 10.244.1.12 as the client" in kept
    assert "masqueraded" not in kept
    folder = changed(
        tmp_path, "undecided", lambda text: re.sub(r"(-A KUBE-POSTROUTING .*)-j MASQ", r"\1-m limit --limit 1/sec -j MASQ", text)
    )
    both = dot_trace(trace(read_nodes([folder]), "198.51.100.7", "192.168.100.11:30080"))
    assert both.count("masqueraded: sees an address of node node-a") == both.count("lsees 198.51.100.7 as the client") == 3


def test_texts_of_inputs_cannot_break_a_picture(tmp_path: Path) -> None:
    rule = '-A FORWARD -d 10.244.2.25/32 -m comment --comment "a\\"b] ; <script>" -j DROP'
    found = trace(
        read_nodes([changed(tmp_path, 'no"de', before("FORWARD", rule.replace("\\", "\\\\")))]), "pod/demo/web-0", "np:80"
    )
    for line in dot_trace(found).splitlines():
        assert len(re.findall(r'(?<!\\)"', line)) % 2 == 0
    assert all(line.count('"') in (0, 2, 4) for line in mermaid_trace(found).splitlines())


def test_addresses_that_stand_for_others_are_not_shown() -> None:
    """Where nothing gives a node's or a load balancer's address, another stands for it in the evaluation, and only there."""
    healthy = FIXTURES / "healthy"
    bare = read_nodes([str(healthy / "iptables-save.txt"), str(healthy / "objects.json.xz")])
    told = text_of(trace(bare, "node", "10.96.1.6:80"))
    assert "198.18." not in told
    assert "an address of node (name not known) as the client (that of the interface that leads there)" in told
    assert "node (name not known): packets for 10.96.1.6:80/TCP" in told
    whole = read_nodes([str(healthy)])
    found = trace(whole, "198.51.100.7", "203.0.113.14:80")  # ipMode Proxy
    before = next(one.before for one in found.all_steps() if one.kind is StepKind.NODE_RULES)
    assert before is not None
    assert (before.source, before.source_text) == (None, "an address of the load balancer")


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("http://192.168.100.11:30080/x", "reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2"),
        ("http://node-a:30080/", "reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2"),
        (
            "http://lb.example.com/",
            "may be reached: to pod demo/lb-hostname-0; nothing is known of node-b and node-c, whose dumps were not given",
        ),
        (
            "http://192.168.100.11/",
            "not known to be reached: delivered to the node itself, of which nothing says whether anybody listens",
        ),
    ],
)
def test_a_url_that_no_ingress_serves_is_a_connection(healthy: Nodes, target: str, answer: str) -> None:
    found = trace(healthy, "198.51.100.7", target)
    assert found.answer == answer
    assert "no Ingress serves that URL there: it is followed as any connection to its address and port" in found.notes


@pytest.mark.parametrize("target", ["np-tcp-udp:53", "10.96.1.10:53", "192.168.100.11:30053"])
def test_tcp_where_a_port_has_both_protocols(healthy: Nodes, target: str) -> None:
    assert trace(healthy, "pod/demo/web-0", target).target.protocol == "TCP"


def test_a_pod_asked_at_a_port_that_nothing_declares(healthy: Nodes) -> None:
    assert trace(healthy, "pod/demo/web-0", "10.244.2.12:8080").reached
    found = trace(healthy, "pod/demo/web-0", "10.244.2.12:9999")
    assert (found.reached, found.answer) == (False, "may be reached: to pod demo/web-1")
    assert "no container of the pod declares port 9999/TCP, no Service names it" in text_of(found)
    assert not trace(healthy, "pod/demo/web-0", "10.244.2.12:8080/udp").reached


def test_a_family_that_kube_proxy_does_not_serve_on_a_node() -> None:
    healthy = FIXTURES / "healthy"
    only = read_nodes([str(healthy / "iptables-save.txt"), str(healthy / "objects.json.xz")], node="node-a")
    for client, target in (("node", "[fd00:10:96::136]:80"), ("2001:db8::7", "[fd00:192:168:100::11]:30150")):
        with pytest.raises(RuleauditError, match="no IPv6 rules of kube-proxy are known of node node-a"):
            trace(only, client, target)


def test_answers_that_may_go_past_the_node_are_not_certain() -> None:
    """In IPVS mode a Local node port without a local endpoint leads to other nodes, with the client's own address."""
    nodes = read_nodes([str(FIXTURES / "ipvs-healthy")])
    found = trace(nodes, "198.51.100.7", "192.168.100.11:30121")
    assert found.answer == "may be reached: to pod demo/etp-local-remote-0 and pod demo/etp-local-remote-1"
    assert not found.reached
    assert "unless its answers come back by this node" in text_of(found)


def test_a_node_as_client_whose_rules_were_not_given(healthy: Nodes) -> None:
    found = trace(healthy, "192.168.100.12", "10.96.1.1:80")
    assert not found.reached
    assert found.answer.startswith("may be reached")


def test_a_service_that_kube_proxy_passes_over(healthy: Nodes) -> None:
    told = text_of(trace(healthy, "pod/demo/web-0", "foreign-proxy:80"))
    assert "10.96.1.37 is an address of Service demo/foreign-proxy, which kube-proxy passes over: " in told


def test_a_url_of_another_service_does_not_go_through_a_default_backend(tmp_path: Path) -> None:
    """A default backend takes every host, but only what comes to its controller."""
    copy = tmp_path / "node"
    shutil.copytree(FIXTURES / "healthy", copy)
    given = json.loads(lzma.decompress((copy / "objects.json.xz").read_bytes()))
    shop = next(one for one in given["items"] if one["kind"] == "Ingress" and one["metadata"]["name"] == "shop")
    shop["spec"]["defaultBackend"] = {"service": {"name": "single", "port": {"number": 80}}}
    (copy / "objects.json.xz").unlink()
    (copy / "objects.json").write_text(json.dumps(given))
    nodes = read_nodes([str(copy)])
    other = trace(nodes, "198.51.100.7", "http://192.168.100.11:30080/")
    assert other.answer == "reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2"
    controllers = trace(nodes, "198.51.100.7", "http://192.168.100.11:30800/")
    assert controllers.answer == (
        "may be reached: to pod demo/single-0; nothing is known of node-b and node-c, whose dumps were not given"
    )


def test_a_load_balancer_that_is_to_use_other_nodes_only(healthy: Nodes) -> None:
    """What a node does that it does not use is no answer for the connection."""
    assert trace(healthy, "198.51.100.7", "203.0.113.19:80").answer == (
        "not known to be reached: dropped by iptables-save.txt:39 on node-a; nothing is known of node-b and node-c, whose dumps were not given"
    )


# --- what is said of what is not known, and of what is not alike ---


def test_each_address_of_a_name_has_an_answer_of_its_own(tmp_path: Path) -> None:
    """Which of them a client takes is its own affair: no share of one is a share of the whole."""
    half = changed(tmp_path, "half", before("FORWARD", "-A FORWARD -d 10.244.2.0/24 -j DROP"))
    found = trace(read_nodes([half]), "pod/demo/web-0", "dual:80")
    assert re.search(r"partly reached: by 10\.96\.1\.54: .*% dropped by .*; by fd00:10:96::136: to pod", found.answer), (
        found.answer
    )
    assert sum(one.share for one in found.outcomes) == pytest.approx(1)
    ways = [one["way"] for one in json.loads(json_trace(found))["outcomes"]]
    assert {tuple(one) for one in ways} == {("by 10.96.1.54",), ("by fd00:10:96::136",)}


def test_what_differs_from_its_neighbours_is_never_left_out(tmp_path: Path) -> None:
    """Of 23 endpoints, one is another's and one is dropped: both are shown, the rest are counted."""
    rules = (FIXTURES / "healthy" / "iptables-save.txt").read_text()
    ends = re.findall(r'"demo/many:http -> ([0-9.]+):', rules)
    wrong, lost = ends[17], ends[18]
    change = before("FORWARD", f"-A FORWARD -d {lost}/32 -j DROP")
    node = changed(
        tmp_path, "node", lambda text: change(text.replace(f"--to-destination {wrong}:", "--to-destination 10.9.9.9:"))
    )
    text = text_of(trace(read_nodes([node]), "pod/demo/web-0", "many:80"))
    assert "--to-destination 10.9.9.9:" in text
    assert f"on its way to {lost}:" in text
    assert "more to ready endpoints; --format json gives them all" in text


def test_without_objects_nothing_is_said_of_who_is_where() -> None:
    rules = read_nodes([str(FIXTURES / "healthy" / "iptables-save.txt")])
    found = trace(rules, "node", "10.96.1.1:80")
    assert found.answer.startswith("not known to be reached: to 10.244.1.12:8080")
    assert "of which nothing is known: no endpoints and pods were given" in text_of(found)
    assert not trace(rules, "198.51.100.7", "192.168.100.11:30080").reached


def test_a_source_that_is_guessed_is_no_proof(tmp_path: Path) -> None:
    """With an overlay network masqueraded packets leave with the address of its interface: a rule of the next node for the primary one may not
    match.
    """
    drop = before("FORWARD", "-A FORWARD -s 192.168.100.11/32 -d 10.244.2.0/24 -j DROP")
    nodes = read_nodes([str(FIXTURES / "healthy"), changed(tmp_path, "b", drop, node="node-b")])
    found = trace(nodes, "198.51.100.7", "192.168.100.11:30080")
    text = text_of(found)
    assert {one.certainty for one in found.outcomes if one.verdict is Verdict.DROP} == {Certainty.POSSIBLE}
    assert "hangs on which address of node node-a it comes from" in text
    assert "an address of node node-a" in text
    always = before("FORWARD", "-A FORWARD -d 10.244.2.0/24 -j DROP")
    nodes = read_nodes([str(FIXTURES / "healthy"), changed(tmp_path, "c", always, node="node-b")])
    dropped = [one for one in trace(nodes, "198.51.100.7", "192.168.100.11:30080").outcomes if one.verdict is Verdict.DROP]
    assert {one.certainty for one in dropped} == {Certainty.DEFINITE}


def test_each_node_is_given_its_own_file(tmp_path: Path) -> None:
    """Also where no rule of the first decides."""
    nodes = read_nodes([str(FIXTURES / "healthy"), changed(tmp_path, "b", lambda text: text, node="node-b")])
    lines = text_of(trace(nodes, "pod/demo/web-0", "192.168.100.12:30080")).splitlines()
    first = next(line for line in lines if "node node-a: packets for" in line)
    assert "node-b" not in first.partition("packets for")[2]
    assert "/b/iptables-save.txt" not in first


@pytest.mark.parametrize(("target", "source"), [("10.244.1.12:8080", "192.168.100.11"), ("10.96.1.1:80", "10.96.1.1")])
def test_with_which_address_a_node_asks_in_ipvs_mode(target: str, source: str) -> None:
    """Its own for a pod; for what kube-ipvs0 has the very address that is asked (KPR 9.3)."""
    found = trace(read_nodes([str(FIXTURES / "ipvs-healthy")]), "node", target)
    step = next(one for one in found.all_steps() if one.kind is StepKind.NODE_RULES)
    assert step.before is not None
    assert step.before.source == source
    loops = [rule.text for one in found.outcomes for rule in one.rules if "KUBE-LOOP-BACK" in rule.text]
    assert not loops


def test_the_lines_that_prove_a_finding_are_shown() -> None:
    """Also those by which no packet came: a real server of weight 0."""
    found = trace(read_nodes([str(FIXTURES / "ipvs-drained-endpoint")]), "pod/demo/web-0", "web:80")
    (remark,) = {one for step in found.all_steps() for one in step.remarks if one.places}
    shown = text_of(found)
    assert all(place.text.strip() in shown for place in remark.places)
    assert any(" -w 0" in place.text or re.search(r"Masq +0 ", place.text) for place in remark.places)


@pytest.mark.parametrize(
    ("lacks", "code"),
    [
        pytest.param(r"^-A KUBE-SERVICES .*-j KUBE-NODEPORTS$", "RA108", id="the jump to the node ports"),
        pytest.param(r"^-A KUBE-(SERVICES|NODEPORTS|SVC-\w+|EXT-\w+|SEP-\w+) .*--?.*$", "RA309", id="all rules of the nat table"),
    ],
)
def test_node_ports_on_localhost_without_the_rule_that_would_tell(tmp_path: Path, lacks: str, code: str) -> None:
    """No setting keeps node ports from localhost, so that they are to be served there."""
    folder = changed(tmp_path, "a", lambda rules: re.sub(lacks, "", rules, flags=re.MULTILINE))
    found = trace(read_nodes([folder]), "node", "127.0.0.1:30080")
    assert "but kube-proxy serves node ports at" not in text_of(found)
    assert found.findings[0].code == code
    settings = Path(folder) / "kube-proxy.args"
    settings.write_text(settings.read_text() + "--nodeport-addresses=192.168.100.0/24\n")
    found = trace(read_nodes([folder]), "node", "127.0.0.1:30080")
    assert "but kube-proxy serves node ports at 192.168.100.11, not at 127.0.0.1" in text_of(found)


def objects_of(folder: Path, kinds: set[str]) -> str:
    """The healthy node's objects of some kinds, as a file."""
    given = json.loads(lzma.decompress((FIXTURES / "healthy" / "objects.json.xz").read_bytes()))
    given["items"] = [one for one in given["items"] if one["kind"] in kinds]
    path = folder / "some-objects.json"
    path.write_text(json.dumps(given))
    return str(path)


def test_in_ipvs_mode_a_service_address_as_source_leads_no_answer_back() -> None:
    """Every node has it on its kube-ipvs0, so that of a pod's answer is taken by the pod's own node."""
    found = trace(read_nodes([str(FIXTURES / "ipvs-healthy")]), "node", "203.0.113.19:80")
    assert found.answer.startswith("may be reached"), found.answer
    assert "has 203.0.113.19 itself, on kube-ipvs0 as every node" in text_of(found)


def test_without_slices_it_is_not_known_whose_the_endpoints_are(tmp_path: Path) -> None:
    objects = objects_of(tmp_path, {"Service", "Node", "Pod"})
    healthy = FIXTURES / "healthy"
    nodes = read_nodes([str(healthy / "iptables-save.txt"), objects], node="node-a")
    found = trace(nodes, "198.51.100.7", "192.168.100.11:30080")
    assert found.answer.startswith("may be reached: to pod demo/np-0"), found.answer
    assert "no EndpointSlices and Endpoints were given: which endpoints np has is not known" in text_of(found)
    assert not found.findings


def test_a_pod_that_only_slices_name_is_a_client_of_its_node(tmp_path: Path) -> None:
    objects = objects_of(tmp_path, {"Service", "Node", "EndpointSlice"})
    nodes = read_nodes([str(FIXTURES / "healthy" / "iptables-save.txt"), objects], node="node-a")
    found = trace(nodes, "10.244.1.12", "10.96.1.8:80")
    assert found.answer.startswith("reached: "), found.answer
    assert "10.244.1.12 is pod demo/web-0 on node node-a, by its slice" in found.notes


def test_packets_of_other_nodes_do_not_come_by_the_bridge_of_the_pods(tmp_path: Path) -> None:
    """Where kube-proxy tells local pods by their interface, what another node sends is none of theirs for certain."""
    by_bridge = changed(
        tmp_path, "node", lambda text: text.replace("! -s 10.244.0.0/16 ", "! -i cni0 ").replace("-s 10.244.0.0/16 ", "-i cni0 ")
    )
    args = Path(by_bridge) / "kube-proxy.args"
    args.write_text(
        re.sub(r"--(?:detect-local-mode|cluster-cidr)=.*\n", "", args.read_text())
        + "--detect-local-mode=BridgeInterface\n--pod-bridge-interface=cni0\n"
    )
    nodes = read_nodes([by_bridge])
    found = trace(nodes, "192.168.100.12", "192.168.100.11:30120")
    assert "something else" not in found.answer, found.answer
    assert "not decided" not in text_of(found)


def test_a_remark_below_is_never_left_out(tmp_path: Path) -> None:
    """Also that of the next node, at which every connection arrives all the same."""
    second = changed(tmp_path, "b", lambda text: text.replace("0x4000", "0x8000"), node="node-b")
    args = Path(second) / "kube-proxy.args"
    args.write_text(args.read_text().rstrip() + "\n--iptables-masquerade-bit=14\n")
    found = trace(read_nodes([str(FIXTURES / "healthy"), second]), "pod/demo/web-0", "many:80")
    assert "RA008" in found.answer
    assert "! RA008" in text_of(found)


def test_the_order_of_outcomes_makes_no_second_answer(healthy: Nodes) -> None:
    """Ways that end at the same pods have one answer."""
    assert "; straight" not in trace(healthy, "198.51.100.7", "http://shop.example.com/api/x").answer

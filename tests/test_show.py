"""`show`: what the model of a node holds, and near matches for what it does not."""

from __future__ import annotations

import json
import lzma
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.audit import NodeModel, UnknownNodeError, open_node
from ruleaudit.errors import RuleauditError
from ruleaudit.reports.text import plain
from ruleaudit.show import Section, json_sections, section_lines, show
from ruleaudit.sources import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.trace.values import RuleUse

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nodes"


@pytest.fixture(scope="module")
def node() -> NodeModel:
    return open_node(read([str(FIXTURES / "changed-destination")]))


def all_sections(section: Section) -> Iterator[Section]:
    yield section
    for one in section.sections:
        yield from all_sections(one)


def all_rules(section: Section) -> Iterator[RuleUse]:
    yield from section.rules
    for one in section.sections:
        yield from all_rules(one)


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("service", "demo/np", ["type NodePort", "port demo/np:http, 80/TCP, IPv4", "10.244.1.23:8080, pod demo/np-0 on node node-a, ready",
                                "RA206 error: demo/np:http sends 33.3% of new connections to 10.244.99.99:8080",
                                "endpoint chains", "-A KUBE-SEP-J3QWHDYB7J55BSYQ -p tcp", "--to-destination 10.244.99.99:8080",
                                "ClusterIP 10.96.1.8:80/TCP", "from outside: 33.3% to 10.244.99.99:8080 masqueraded", "NodePort 30080/TCP",
                                "iptables-save.txt:498: -A KUBE-NODEPORTS", "nat KUBE-SVC-4IIC76BHGSQBKXMN: 4 rules"]),
        ("service", "demo/dual", ["IPv4", "IPv6", "[fd00:10:244:1::38]:8080"]),
        ("service", "demo/headless", ["it is headless", "10.244.1.43:8080, pod demo/headless-0 on node node-a, ready"]),
        ("service", "demo/extname", ["type ExternalName", "external name db.example.com", "IPv4: kube-proxy passes it over: it is of type ExternalName"]),
        ("service", "demo/etp-local", ["external traffic policy Local"]),
        ("service", "demo/lb-src", ["source ranges: ", "from outside of the source ranges: dropped", "from within, as 198.51.100.1: 50% to"]),
        ("service", "demo/aff", ["session affinity: 600 s"]),
        ("chain", "KUBE-SVC-4IIC76BHGSQBKXMN", ["spreads the connections", "of service port demo/np:http", "jumps here", "-j KUBE-SVC-4IIC76BHGSQBKXMN"]),
        ("chain", "KUBE-SEP-J3QWHDYB7J55BSYQ", ["sends connections to one endpoint", "of service port demo/np:http", "--to-destination 10.244.99.99:8080"]),
        ("chain", "KUBE-MARK-MASQ", ["sets the masquerade mark"]),
        ("chain", "FORWARD", ["a built-in chain", "policy ACCEPT", "table mangle, IPv6"]),
        ("endpoint", "10.244.99.99", ["no Service", "nat KUBE-SEP-J3QWHDYB7J55BSYQ", "of service port demo/np:http"]),
        ("endpoint", "10.244.1.12:8080", ["pod demo/web-0 on node node-a, ready", "demo/web:http: 10.244.1.12:8080, ready"]),
        ("endpoint", "[fd00:10:244:1::38]:8080", ["demo/dual:http: [fd00:10:244:1::38]:8080, ready"]),
        ("endpoint", "10.244.1.43", ["demo/headless, which kube-proxy passes over: 10.244.1.43:8080, ready"]),
        ("endpoint", "10.96.1.1", ["the cluster IP of Service demo/web, no endpoint"]),
        ("endpoint", "192.168.100.11", ["an address of node node-a", "pod demo/hostnet-0"]),
        ("endpoint", "10.244.1.12:9999", ["no Service", "nobody"]),
        ("summary", "", ["node node-a", "mode iptables", "74 Services", "kube-proxy 1.36", "local pods by ClusterCIDR 10.244.0.0/16", "66 KUBE-SVC-*"]),
    ],
)  # fmt: skip
def test_what_is_there(node: NodeModel, kind: str, name: str, says: list[str]) -> None:
    section = show(node, kind, name)
    text = plain(section_lines(section))
    for words in says:
        assert words in text, text
    for rule in all_rules(section):
        assert Path(rule.file).read_text().splitlines()[rule.line - 1] == rule.text
    found = json.loads(json_sections(node.name, section))
    assert (found["schema"], found["node"], found["title"]) == ("ruleaudit/show/v1", "node-a", section.title)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("service", "demo/npp", "no Service 'demo/npp'.*did you mean demo/np"),
        ("service", "np", "no Service 'np'"),
        ("chain", "KUBE-SVC-4IIC76BHGSQBKXMX", "did you mean KUBE-SVC-4IIC76BHGSQBKXMN"),
        ("endpoint", "10.244.1.999", "is no endpoint: give ADDRESS"),
        ("endpoint", "10.244.1.12:99999", "is no endpoint"),
        ("endpoint", "10.244.77.7", "no pod, no Service, no node and no rule has 10.244.77.7"),
        ("virtual-server", "10.96.1.1:80", "no virtual servers were given"),
        ("virtual-server", "10.96.1.1", "give ADDRESS:PORT"),
        ("set", "KUBE-CLUSTER-IP", "no sets were given"),
    ],
)
def test_what_is_not_there(node: NodeModel, kind: str, name: str, message: str) -> None:
    with pytest.raises(RuleauditError, match=message):
        show(node, kind, name)


def test_an_unknown_node_is_said_as_other_unknown_names_are() -> None:
    with pytest.raises(UnknownNodeError, match="there is no node 'node-x' among the objects; did you mean node-"):
        open_node(read([str(FIXTURES / "healthy")]), node="node-x")


def test_a_node_in_ipvs_mode() -> None:
    found = open_node(read([str(FIXTURES / "ipvs-healthy")]))

    def text(kind: str, name: str = "") -> str:
        return plain(section_lines(show(found, kind, name)))

    web = text("service", "demo/web")
    assert "TCP  10.96.1.1:80 rr" in web
    assert "  -> 10.244.1.12:8080" in web
    assert "findings" not in web
    assert "of service port demo/web:http" in text("virtual-server", "10.96.1.1:80/tcp")
    assert text("virtual-server", "TCP 10.96.1.1:80") == text("virtual-server", "10.96.1.1:80")
    assert "virtual server TCP 10.96.1.1:80" in text("endpoint", "10.244.1.12")
    assert "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT" in text("set", "KUBE-CLUSTER-IP")
    assert "mode ipvs" in text("summary")
    for kind, name, near in (
        ("set", "KUBE-CLUSTER-IPP", "KUBE-CLUSTER-IP"),
        ("virtual-server", "10.96.1.1:81", "10.96.1.1:80/tcp"),
    ):
        with pytest.raises(RuleauditError, match=f"did you mean {near}"):
            show(found, kind, name)


def test_endpoints_that_only_the_objects_know(tmp_path: Path) -> None:
    """A headless Service without ports, a Service of another proxy with the old Endpoints alone."""
    objects = """\
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: demo}
spec: {clusterIP: None, ports: []}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bare-1, namespace: demo, labels: {kubernetes.io/service-name: bare}}
addressType: IPv4
ports: []
endpoints: [{addresses: [10.244.1.9], conditions: {ready: false, terminating: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bare-2, namespace: demo, labels: {kubernetes.io/service-name: bare}}
addressType: IPv6
ports: []
endpoints: [{addresses: ["FD00::9"]}]
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: demo, labels: {service.kubernetes.io/service-proxy-name: other}}
spec: {clusterIP: 10.96.7.7, ports: [{port: 80}], externalIPs: [192.0.2.7]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old, namespace: demo}
subsets:
- notReadyAddresses: [{ip: 10.244.1.8, nodeName: node-b, targetRef: {kind: Pod, name: old-0}}]
  ports: [{port: 8080}]
"""
    given = tmp_path / "objects.yaml"
    given.write_text(objects)
    found = open_node(read([str(FIXTURES / "changed-destination" / "iptables-save.txt"), str(given)]))

    def text(kind: str, name: str) -> str:
        return plain(section_lines(show(found, kind, name)))

    assert "    10.244.1.9, terminating" in text("service", "demo/bare")
    assert "    10.244.1.8:8080, pod demo/old-0 on node node-b, not ready" in text("service", "demo/old")
    assert "an external IP of Service demo/old" in text("endpoint", "192.0.2.7")
    assert "an endpoint of" not in text("endpoint", "192.0.2.7")
    assert "demo/bare, of a family that kube-proxy does not serve here: fd00::9, ready" in text("endpoint", "fd00::9")
    assert "demo/bare, which kube-proxy passes over: 10.244.1.9, terminating" in text("endpoint", "10.244.1.9")


@pytest.mark.parametrize(
    ("lost", "service", "says"),
    [
        (r"-A PREROUTING .*KUBE-SERVICES", "demo/web", "nat PREROUTING -> KUBE-SERVICES is missing in IPv4: demo/web:http behaves otherwise for"),
        (r"-A PREROUTING .*KUBE-SERVICES", "demo/np", "missing in IPv4: 2 of the 2 frontends of demo/np:http behave otherwise for"),
        (r"-A KUBE-SERVICES .*KUBE-NODEPORTS", "demo/np", "the IPv4 node port of demo/np:http cannot be reached"),
    ],
)  # fmt: skip
def test_faults_of_the_node_are_said_of_the_service_alone(tmp_path: Path, lost: str, service: str, says: str) -> None:
    folder = shutil.copytree(FIXTURES / "healthy", tmp_path / "node")
    rules = folder / "iptables-save.txt"
    rules.write_text(re.sub(rf"^{lost}\n", "", rules.read_text(), flags=re.MULTILINE))
    text = plain(section_lines(show(open_node(read([str(folder)])), "service", service)))
    assert "RA108 error: " in text
    assert says in text


def test_without_endpoints_nothing_is_said_of_them(tmp_path: Path) -> None:
    """Of objects that hold neither EndpointSlices nor Endpoints: the rules still tell where traffic goes."""
    objects = json.loads(lzma.decompress((FIXTURES / "healthy" / "objects.json.xz").read_bytes()))
    objects["items"] = [one for one in objects["items"] if one["kind"] not in ("EndpointSlice", "Endpoints")]
    copy = tmp_path / "node"
    shutil.copytree(FIXTURES / "healthy", copy)
    (copy / "objects.json.xz").write_bytes(lzma.compress(json.dumps(objects).encode()))
    found = open_node(read([str(copy)]))
    unknown = "not known: no EndpointSlices and no Endpoints were given"
    for name in ("demo/np", "demo/headless"):
        section = next(one for one in all_sections(show(found, "service", name)) if one.title == "endpoints")
        assert section.facts == (unknown,)
    claims, senders = show(found, "endpoint", "10.244.1.23").sections
    assert claims.facts == (unknown,)
    assert [one.title for one in senders.sections] == ["nat KUBE-SEP-J3QWHDYB7J55BSYQ"]

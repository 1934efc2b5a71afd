"""Anonymised captures: an audit finds the same, no name and no address of the original is in them, and what belonged together still does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruleaudit import cli
from ruleaudit.anonymize import KEPT_NAMES, KEPT_PORT_NAMES, Mapping, anonymized
from ruleaudit.anonymize.settings import REWRITTEN, settings_without_names
from ruleaudit.audit import audit_inputs
from ruleaudit.errors import InputError
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash
from ruleaudit.kubeproxy.settings import Form, GivenSettings, read_settings
from ruleaudit.live.capture import About, capture_files
from ruleaudit.live.dumps import Dump
from ruleaudit.live.errors import Missing
from ruleaudit.sources import InputKind, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ruleaudit.findings import Finding, Report
    from ruleaudit.sources import Source

BUNDLED = ("healthy", "changed-destination", "stopped-kube-proxy", "ipvs-healthy", "ipvs-drained-endpoint")
SAMPLE = (
    "features-1.16-iptables",
    "features-1.20-iptables",
    "features-1.22-iptables",
    "features-1.25-iptables",
    "features-1.30-iptables",
    "features-1.36-iptables",
    "features-1.36-iptables-bridge",
    "features-1.36-iptables-legacy",
    "features-1.20-ipvs",
    "features-1.30-ipvs",
    "features-1.36-ipvs",
    "fault-1.36-iptables-pod-deleted",
    "fault-1.36-iptables-svc-deleted",
    "fault-1.36-ipvs-pod-deleted",
    "tamper-1.36-iptables-svc-chain",
    "tamper-1.36-iptables-sep-jump",
    "tamper-1.36-iptables-probability",
    "tamper-1.36-ipvs-ipset-loopback",
    "tamper-1.36-ipvs-stale-real",
    "tamper-1.36-ipvs-dummy-address",
)
"""Captured nodes of both modes: healthy, behind their objects, changed by hand."""
KEY = Mapping(b"of the tests")


def rewritten(sources: Sequence[Source], folder: Path, mapping: Mapping = KEY) -> list[Source]:
    """The anonymised capture, as it is read again from a folder."""
    folder.mkdir()
    for name, text in anonymized(sources, mapping).files.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return read([str(folder)])


# --- the same is found ---


def about(report: Report, mapping: Mapping | None) -> Counter[object]:
    """What the findings say: with `mapping`, as they must say it of the anonymised capture."""
    by_fingerprint = {one.fingerprint: one for one in report.findings}

    def service(finding: Finding) -> str | None:
        return finding.service if mapping is None or finding.service is None else mapping.service_port(finding.service)

    def of(finding: Finding) -> object:
        cause = by_fingerprint.get(finding.cause or "")
        frontend, port, endpoint = finding.frontend, finding.port, finding.endpoint
        address = None if frontend is None else frontend.address
        if mapping is not None:
            port = port and mapping.port_name(port)
            endpoint = endpoint and mapping.endpoint(endpoint)
            address = address and mapping.address(address)
        return (
            finding.code,
            finding.severity,
            finding.certainty,
            service(finding),
            port,
            frontend and (frontend.kind, address, frontend.port, frontend.protocol),
            endpoint,
            finding.cause is not None,
            cause and (cause.code, service(cause)),
            sorted(one.kind for one in finding.objects),
        )

    return Counter(map(str, map(of, report.findings)))


def same_is_found(folder: Path, tmp_path: Path) -> None:
    sources = read([str(folder)])
    before, after = audit_inputs(sources), audit_inputs(rewritten(sources, tmp_path / "anonymous"))
    assert about(after, None) == about(before, KEY)
    assert after.node == (before.node and KEY.name(before.node))
    assert (after.services, after.frontends, after.endpoints) == (before.services, before.frontends, before.endpoints)
    assert (after.proxy.mode, after.proxy.layout, after.proxy.masquerade_mark, after.proxy.inferred) == (
        before.proxy.mode,
        before.proxy.layout,
        before.proxy.masquerade_mark,
        before.proxy.inferred,
    )


@pytest.mark.parametrize("name", BUNDLED)
def test_the_same_is_found_on_bundled_nodes(nodes: Path, name: str, tmp_path: Path) -> None:
    same_is_found(nodes / name, tmp_path)


def captured(folders: Sequence[Path]) -> list[Path]:
    by_name = {one.name: one for one in folders}
    found = [by_name[name] for name in SAMPLE if name in by_name]
    if not found:
        pytest.skip("none of the captures that are sampled is there")
    return found


def test_the_same_is_found_on_captured_nodes(capture_folders: list[Path], tmp_path: Path) -> None:
    for number, folder in enumerate(captured(capture_folders)):
        (tmp_path / str(number)).mkdir()
        same_is_found(folder, tmp_path / str(number))


# --- nothing of the original is left ---

_NAME_FIELDS = frozenset(
    {"name", "namespace", "nodeName", "zone", "host", "hosts", "hostname", "externalName", "generateName", "image", "uid", "secretName",
     "ingressClassName", "path", "serviceName", "subdomain", "message", "address"}
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_V4 = re.compile(r"(?<![0-9.])[0-9]+(?:\.[0-9]+){3}(?![0-9.])")
_V6 = re.compile(r"(?<![0-9A-Za-z:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![0-9A-Za-z:])")
_CHAIN = re.compile(r"KUBE-(?:SVC|SEP|EXT|FW|SVL|XLB)-[A-Z2-7]{16}")
VOCABULARY = frozenset({"udp", "tcp", "sctp", "hints", "headless", "other", "none", "d", "controller", "lb"})
"""Names of objects in the tests' captures that are words of the formats, too."""
_OF_EVERY_CLUSTER = (
    "default/kubernetes:https",
    "kube-system/kube-dns:dns",
    "kube-system/kube-dns:dns-tcp",
    "kube-system/kube-dns:metrics",
)


def names(value: object, field: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        labels = field in ("labels", "selector", "topology", "deprecatedTopology")
        for key, member in value.items():
            yield from [str(member)] if labels else names(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from names(member, field)
    elif isinstance(value, str) and field in _NAME_FIELDS:
        yield value


def special(text: str) -> bool:
    """Whether an address is one that stays (or no address at all, but a time)."""
    try:
        address = ip_address(text)
    except ValueError:
        return True
    held = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "ff00::/8", "fe80::/128", "ffff::/16")
    return any(address in ip_network(one) for one in held) or text in ("10.0.0.0", "172.16.0.0", "192.168.0.0", "100.64.0.0")


def nothing_is_left(folder: Path) -> None:
    sources = read([str(folder)])
    text = "\n".join(anonymized(sources, KEY).files.values())
    known: set[str] = set()
    addresses: set[str] = set()
    chains: set[str] = set()
    for source in sources:
        given = source.text or source.data.decode()
        if source.kind is InputKind.OBJECTS:
            found = (word for name in names(json.loads(given)) for word in _WORD.findall(name))
            known.update(word for word in found if not re.fullmatch("[0-9]+", word))
        elif source.kind is InputKind.CAPTURE_META:
            known.add(json.loads(given)["node"])
        addresses.update((*_V4.findall(given), *_V6.findall(given)))
        chains.update(_CHAIN.findall(given))
    assert len(known) > 50
    assert len(addresses) > 50
    kept = KEPT_NAMES | KEPT_PORT_NAMES | VOCABULARY
    labels = {
        "endpointslice-controller",
        "endpoint-controller",
        "endpointslicemirroring-controller",
        "k8s",
        "io",
        "ingress-nginx",
        "traefik",
    }
    assert known & set(_WORD.findall(text)) - kept - labels == set()
    assert {one for one in addresses & {*_V4.findall(text), *_V6.findall(text)} if not special(one)} == set()
    allowed = {chain_hash(one, protocol) for one in _OF_EVERY_CLUSTER for protocol in ("tcp", "udp")}
    assert {one for one in chains & set(_CHAIN.findall(text)) if one[9:] not in allowed} == set()


@pytest.mark.parametrize("name", BUNDLED)
def test_nothing_of_bundled_nodes_is_left(nodes: Path, name: str) -> None:
    nothing_is_left(nodes / name)


def test_nothing_of_captured_nodes_is_left(capture_folders: list[Path]) -> None:
    for folder in captured(capture_folders):
        nothing_is_left(folder)


RULES = """\
# Generated by iptables-save v1.8.9 (nf_tables) on Mon Nov 23 05:28:05 2026
# taken by secret-person
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-{svc} - [0:0]
:KUBE-SEP-{sep} - [0:0]
:SECRET-chain - [0:0]
:cali-fw-cali0secret0 - [0:0]
:KUBE-POD-FW-SECRETSECRETSECR - [0:0]
-A PREROUTING -i bond0.17 -o secret0 -m comment --comment "allow \\"secret corp\\" only" -j SECRET-chain
-A PREROUTING -i secret+ -m set --match-set secret-set src,dst -m physdev --physdev-in vethsecret1 -j KUBE-SERVICES
-A PREROUTING -m iprange --src-range 198.51.100.7-198.51.100.20 -m mac --mac-source aa:bb:cc:00:11:22 -j LOG --log-prefix "secret: "
-A PREROUTING -m string --string "secret" --algo bm -m owner --uid-owner secret -m recent --set --name SECRET --rsource -j RETURN
-A SECRET-chain -s 198.51.100.0/255.255.255.0 -m hashlimit --hashlimit-name secret -j DNAT --to-destination 198.51.100.9-198.51.100.12:80
-A KUBE-SERVICES -d 198.51.100.5/32 -p tcp -m comment --comment "secret-ns/secret:secret-port cluster IP" -m tcp --dport 80 -j KUBE-SVC-{svc}
-A KUBE-SVC-{svc} -m comment --comment "secret-ns/secret:secret-port -> 198.51.100.6:8080" -j KUBE-SEP-{sep}
-A KUBE-SEP-{sep} -p tcp -m comment --comment "secret-ns/secret:secret-port" -m tcp -j DNAT --to-destination 198.51.100.6:8080
-A SECRET-chain -m nosuch --flag secret corp is here
what secret line is this
COMMIT
""".format(
    svc=chain_hash("secret-ns/secret:secret-port", "tcp"),
    sep=endpoint_chain_hash("secret-ns/secret:secret-port", "tcp", "198.51.100.6:8080"),
)
SETS = """\
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536
create secret-set hash:net,iface family inet hashsize 1024 maxelem 65536 comment
create secret-list list:set size 8
create secret-map bitmap:ip range 198.51.100.0-198.51.100.255
add KUBE-CLUSTER-IP 198.51.100.5,tcp:80
add secret-set 198.51.100.0/24,secret0 comment "secret"
add secret-list secret-set
"""
SERVERS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.5:80 rr persistent 10800
  -> 198.51.100.6:8080            Masq    1      0          0
"""
INTERFACES = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
7: secret0@if3: <BROADCAST,UP> mtu 1500 qdisc noqueue master secret1 state UP group default
    link/ether aa:bb:cc:00:11:22 brd ff:ff:ff:ff:ff:ff link-netns secret-netns
    inet 198.51.100.5/24 brd 198.51.100.255 scope global secret0
       valid_lft forever preferred_lft forever
"""


def written(text: str, tmp_path: Path, name: str = "dump") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_free_text_and_names_in_dumps_are_replaced(tmp_path: Path) -> None:
    paths = [
        written(text, tmp_path, name)
        for name, text in (("rules", RULES), ("sets", SETS), ("ipvs", SERVERS), ("links", INTERFACES))
    ]
    files = anonymized(read(paths), KEY).files
    assert list(files) == ["iptables-save.txt", "ipset.txt", "ipvsadm.txt", "ip-addr.json"]
    whole = "\n".join(files.values())
    assert "secret" not in whole.lower()
    assert "198.51.100" not in whole
    assert "aa:bb:cc" not in whole
    rules = files["iptables-save.txt"]
    service = KEY.service_port("secret-ns/secret:secret-port")
    endpoint = KEY.endpoint("198.51.100.6:8080")
    svc = f"KUBE-SVC-{chain_hash(service, 'tcp')}"
    sep = f"KUBE-SEP-{endpoint_chain_hash(service, 'tcp', endpoint)}"
    assert f'-A {svc} -m comment --comment "{service} -> {endpoint}" -j {sep}' in rules
    assert f"-j DNAT --to-destination {endpoint}" in rules
    assert "-i bond0.17" in rules
    assert re.search(r"^:cali-fw-[A-Z2-7]+ - ", rules, re.MULTILINE)
    assert re.search(r"^:KUBE-POD-FW-[A-Z2-7]{16} - ", rules, re.MULTILINE)
    set_name = re.search(r"--match-set (\S+) src,dst", rules)
    assert set_name is not None
    assert f"create {set_name[1]} hash:net,iface" in files["ipset.txt"]
    assert f"add KUBE-CLUSTER-IP {KEY.address('198.51.100.5')},tcp:80" in files["ipset.txt"]
    assert f"TCP  {KEY.address('198.51.100.5')}:80 rr persistent 10800" in files["ipvsadm.txt"]
    assert {one["ifname"] for one in json.loads(files["ip-addr.json"])} == {"lo", KEY.interface("secret0")}
    again = audit_inputs(rewritten(read(paths), tmp_path / "again"))
    before = audit_inputs(read(paths))
    assert Counter(one.code for one in again.findings) == Counter(one.code for one in before.findings)


def test_objects_keep_only_what_an_audit_reads(tmp_path: Path) -> None:
    items = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "secret",
                "namespace": "secret-ns",
                "annotations": {"secret.corp/x": "secret", "service.kubernetes.io/topology-mode": "Auto"},
                "labels": {"secret.corp/team": "secret", "app": "secret"},
                "managedFields": [{"manager": "secret"}],
            },
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.9",
                "selector": {"app": "secret"},
                "ports": [{"name": "secret", "port": 80, "targetPort": "secret"}],
                "loadBalancerSourceRanges": ["198.51.100.0/24"],
            },
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.secret.corp"}]}},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "data": {"password": "c2VjcmV0"}},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "secret", "namespace": "secret-ns"},
            "spec": {
                "rules": [
                    {
                        "host": "*.secret.corp",
                        "http": {"paths": [{"path": "/secret/(.*)", "backend": {"service": {"name": "secret"}}}]},
                    }
                ]
            },
        },
    ]
    path = written(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), tmp_path)
    files = anonymized(read([path]), KEY).files
    assert list(files) == ["services.json", "ingresses.json"]
    assert not re.search("secret|corp|c2VjcmV0|198.51.100", "\n".join(files.values()))
    (service,) = json.loads(files["services.json"])["items"]
    name = KEY.name("secret")
    assert service["metadata"]["name"] == service["metadata"]["labels"]["app"] == service["spec"]["selector"]["app"] == name
    assert service["metadata"]["annotations"] == {"service.kubernetes.io/topology-mode": "Auto"}
    assert service["spec"]["ports"] == [{"port": 80, "name": KEY.port_name("secret"), "targetPort": KEY.port_name("secret")}]
    (ingress,) = json.loads(files["ingresses.json"])["items"]
    assert ingress["spec"]["rules"][0]["host"] == f"*.{KEY.name('secret')}.{KEY.name('corp')}"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] == name


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("topology.kubernetes.io/zone", True),
        ("app.kubernetes.io/name", True),
        ("app", True),
        ("pod-template-hash", True),
        ("acmecorp-k8s.io/secretkey", False),
        ("team.acmecorp.k8s.io/x", False),
        ("node-role.kubernetes.io/acmerole", False),
        ("acmerole", False),
    ],
)
def test_only_well_known_keys_stay(key: str, kept: bool) -> None:
    assert (KEY.label_key(key) == key) == kept
    assert "acme" not in KEY.label_key(key)


def test_of_values_only_known_words_stay(tmp_path: Path) -> None:
    def item(kind: str, version: str, annotations: dict[str, str], **parts: object) -> dict[str, object]:
        metadata = {"name": "x", "namespace": "y", "annotations": annotations, "creationTimestamp": "Acme"}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}

    hints = {
        "service.kubernetes.io/topology-aware-hints": "Acme",
        "service.kubernetes.io/topology-mode": "AcmeMode",
        "endpoints.kubernetes.io/last-change-trigger-time": "Acme:2026",
    }
    statuses = {"conditions": [{"type": "AcmeReady", "status": "Acme"}, {"type": "Ready", "status": "True"}], "phase": "Acme"}
    backend = {"resource": {"apiGroup": "acme.example", "kind": "AcmeBucket", "name": "acme"}}
    default = {"ingressclass.kubernetes.io/is-default-class": "Acme"}
    items = [
        item("Service", "v1", hints, spec={"type": "AcmeType", "trafficDistribution": "Acme"}),
        item("Pod", "v1", {}, spec={"dnsPolicy": "Acme"}, status=statuses),
        item("Ingress", "networking.k8s.io/v1", {}, spec={"defaultBackend": backend}),
        *(
            item("IngressClass", "networking.k8s.io/v1", default, spec={"controller": text})
            for text in ("k8s.io/acme-internal", "k8s.io/ingress-nginx-acme", "acme.example/x", "nginx.org/ingress-controller")
        ),
    ]
    for number, one in enumerate(items):
        one["metadata"] = {**one["metadata"], "name": f"x{number}"}  # type: ignore[dict-item]
    path = written(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), tmp_path)
    files = anonymized(read([path]), KEY).files
    assert "acme" not in "".join(files.values()).lower()
    controllers = [one["spec"]["controller"] for one in json.loads(files["ingressclasses.json"])["items"]]
    assert controllers[1].startswith("k8s.io/ingress-nginx")
    assert controllers[3] == "nginx.org/ingress-controller"
    (pod,) = json.loads(files["pods.json"])["items"]
    assert pod["status"]["conditions"][1] == {"type": "Ready", "status": "True"}


def test_a_node_in_nftables_mode_stays_one(nodes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    shutil.copy(nodes / "healthy" / "objects.json.xz", folder)
    written("# Generated by iptables-save\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", folder, "iptables-save.txt")
    written('{"nftables": [{"table": {"family": "ip", "name": "secret"}}]}', folder, "nft.json")
    same_is_found(folder, tmp_path)
    assert "secret" not in (tmp_path / "anonymous" / "nft.json").read_text()


def test_words_that_iptables_has_not_are_replaced(tmp_path: Path) -> None:
    rules = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m acmemod --acmeopt 3 -j ACMETARGET --acme-more 100%
-A PREROUTING -p tcp -m comment --comment "--acme" -m tcp --dport 80 --acmeopt -j KUBE-SERVICES
-A PREROUTING -m physdev ! --physdev-is-bridged -j LOG --log-prefix "-m acme" --log-level 7
COMMIT
"""
    path = written(rules, tmp_path)
    (text,) = anonymized(read([path]), KEY).files.values()
    assert "acme" not in text.lower()
    assert "-m physdev ! --physdev-is-bridged -j LOG --log-prefix" in text
    before, after = audit_inputs(read([path])), audit_inputs(rewritten(read([path]), tmp_path / "again"))
    assert about(after, None) == about(before, KEY)


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    bad = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "y"}, "spec": {"ports": 7}}
    paths = [written(RULES, tmp_path, "rules"), written(json.dumps(bad), tmp_path, "bad.json")]
    (tmp_path / "folder").mkdir()
    written("hello", tmp_path / "folder", "notes")
    written(RULES, tmp_path / "folder", "rules")
    left_out = anonymized(read([*paths, str(tmp_path / "folder")]), KEY).left_out
    assert len(left_out) == 2
    assert "Service y/x" in left_out[0]
    assert "notes: this is neither a dump" in left_out[1]
    with pytest.raises(InputError, match="nothing that can be anonymised"):
        anonymized([], KEY)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            '{"kube_proxy_version": "Kubernetes v1.30.2", "node": "secret", "node_ips": ["198.51.100.1"], "mode": "ipvs"}',
            id="meta.json",
        ),
        pytest.param('{"kube_proxy_version": "1.30", "detect_local": "none"}', id="meta.json without detection"),
        pytest.param('{"kube_proxy_version": "1.30", "detect_local": "BridgeInterface:secret0"}', id="meta.json with a bridge"),
        pytest.param(
            '{"kube_proxy_version": "1.30", "detect_local": "InterfaceNamePrefix:secret"}', id="meta.json with a prefix"
        ),
        pytest.param(
            "kube-proxy-1.36 --hostname-override=secret --cluster-cidr=198.51.100.0/24,2001:db8::/56 --master=https://secret:6443 --v=2",
            id="command line",
        ),
        pytest.param("kube-proxy --config=/etc/secret.conf --masquerade-all", id="command line with a file"),
        pytest.param("kube-proxy --v=4", id="nothing of interest"),
        pytest.param(
            "kube-proxy --nodeport-addresses=primary,198.51.100.0/24 --feature-gates=TopologyAwareHints=true --iptables-masquerade-bit=9"
            " --proxy-mode=ipvs --ipvs-exclude-cidrs=198.51.100.0/24 --iptables-localhost-nodeports=false",
            id="many flags",
        ),
        pytest.param(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: 198.51.100.0/24\n"
            "hostnameOverride: secret\nclientConnection: {kubeconfig: /secret}\niptables: {masqueradeBit: 3, localhostNodePorts: false}\n"
            "detectLocal: {bridgeInterface: secret0}\ndetectLocalMode: BridgeInterface\nnodePortAddresses: []\nfeatureGates: {}\n",
            id="configuration",
        ),
        pytest.param(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nnftables: {masqueradeAll: true}\n",
            id="configuration for nftables",
        ),
        pytest.param('{"kube_proxy_version": null, "hostname": "secret"}', id="meta.json of a capture"),
        pytest.param("kube-proxy --proxy-mode=ipvs --ipvs-scheduler=lc", id="scheduler in a command line"),
        pytest.param("kube-proxy --proxy-mode=ipvs --ipvs-scheduler=secret", id="scheduler that Linux has not"),
        pytest.param(
            "kube-proxy --feature-gates=SecretGate=true,TopologyAwareHints=true --secret=3", id="unknown gate and option"
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata:\n  config: |\n    apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
            "    kind: KubeProxyConfiguration\n    ipvs: {scheduler: rr}\n---\napiVersion: apps/v1\nkind: DaemonSet\n"
            "spec: {template: {spec: {containers: [{name: kube-proxy, image: 'secret:v1.33.1', command: [kube-proxy, --config=/x]}]}}}\n"
            "---\nkube_proxy_version: null\nhostname: secret\nnode_ips: [198.51.100.1]\n",
            id="a ConfigMap, a DaemonSet and a description in one",
        ),
    ],
)
def test_settings_are_read_again_as_they_were(text: str, tmp_path: Path) -> None:
    before = read_settings(text.encode(), "x")
    name, new = settings_without_names(before, KEY)  # which itself refuses what would be read otherwise
    assert not re.search("secret|198.51.100|2001:db8", new)
    (tmp_path / name).write_text(new)
    (source,) = read([str(tmp_path / name)])
    assert source.kind in (InputKind.PROXY_CONFIG, InputKind.CAPTURE_META)
    after = read_settings(source.data, name)
    assert (after.mode, after.minor, after.form, after.complete) == (before.mode, before.minor, before.form, before.complete)
    assert after.node == (before.node and KEY.name("secret"))
    assert after.hostname == (before.hostname and KEY.name("secret"))


GIVEN_VALUES: dict[str, object] = {
    "mode": "ipvs",
    "minor": 30,
    "node": "secret",
    "hostname": "Secret",
    "node_addresses": ("198.51.100.1",),
    "cluster_cidrs": ("198.51.100.0/24",),
    "detect_local_mode": "NodeCIDR",
    "bridge_interface": "secret0",
    "interface_prefix": "secret",
    "masquerade_all": True,
    "masquerade_bit": 7,
    "nodeport_addresses": ("primary", "198.51.100.0/24"),
    "localhost_nodeports": False,
    "feature_gates": {"TopologyAwareHints": True, "SecretGate": True},
    "ipvs_exclude_cidrs": ("198.51.100.0/24",),
    "ipvs_scheduler": "secret",
    "config_file": "/secret",
}
"""A value for each of kube-proxy's settings."""
FORMS = {
    Form.CONFIGURATION: GivenSettings(form=Form.CONFIGURATION, complete=True, cluster_cidrs=()),
    Form.COMMAND_LINE: GivenSettings(form=Form.COMMAND_LINE, complete=True),
    Form.DESCRIPTION: GivenSettings(),
}


def test_every_setting_is_rewritten_or_kept_on_purpose() -> None:
    names = {one.name for one in fields(GivenSettings)}
    assert set(REWRITTEN) == names
    assert set(GIVEN_VALUES) == names - {"complete", "form", "paths"}


@pytest.mark.parametrize("form", [Form.CONFIGURATION, Form.COMMAND_LINE])
@pytest.mark.parametrize("name", list(GIVEN_VALUES))
def test_each_setting_is_read_again(form: Form, name: str) -> None:
    complete = name != "config_file" or form is Form.CONFIGURATION
    given_settings = replace(FORMS[form], complete=complete, **{name: GIVEN_VALUES[name]})  # type: ignore[arg-type]
    file, text = settings_without_names(given_settings, KEY)
    assert not re.search("secret|198.51.100", text, re.IGNORECASE)
    found = getattr(read_settings(text.encode(), file), name)
    assert found == REWRITTEN[name](GIVEN_VALUES[name], KEY)


def test_settings_that_no_text_holds_are_an_input_error() -> None:
    with pytest.raises(InputError, match=r"x: its settings \(masquerade_bit\) cannot be written without names"):
        settings_without_names(replace(FORMS[Form.DESCRIPTION], masquerade_bit=7, paths=("x",)), KEY)


def collected(folder: Path) -> None:
    """A capture as `collect` writes it on the node of a bundled one."""
    (folder / "iptables-save.txt").rename(folder / "iptables-nft-save.txt")
    missing = Missing("ipvsadm", "not read on secret", "ask secret"), Missing("secret", "secret", "secret")
    for name, data in capture_files([], missing, About(0, hostname="NODE-A", mode="iptables", tools={"x": "secret"})).items():
        (folder / name).write_bytes(data)


def test_a_collected_capture_is_audited_as_before(nodes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "collected"
    shutil.copytree(nodes / "changed-destination", folder)
    (folder / "kube-proxy.args").unlink()  # which names the node
    collected(folder)
    same_is_found(folder, tmp_path)
    assert "secret" not in "".join(one.read_text() for one in (tmp_path / "anonymous").iterdir())


def test_a_capture_of_this_machine_is_rewritten(tmp_path: Path) -> None:
    files = capture_files([Dump("iptables-save", "iptables-save", b"", InputKind.EMPTY)], [], About(0, hostname="secret"))
    (tmp_path / "capture").mkdir()
    for name, data in files.items():
        (tmp_path / "capture" / name).write_bytes(data)
    done = run("anonymize", str(tmp_path / "capture"), "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "secret" not in (tmp_path / "out" / "meta.json").read_text()


# --- what stands for what ---

_V4_TEXTS = st.ip_addresses(v=4).map(str)
_TEXTS = st.ip_addresses().map(str).filter(lambda text: "." not in text or ":" not in text)


def shared(one: str, other: str) -> int:
    """How many bits two addresses of a family have in common at their beginning."""
    first, second = ip_address(one), ip_address(other)
    return first.max_prefixlen - (int(first) ^ int(second)).bit_length()


@given(_V4_TEXTS, _V4_TEXTS)
def test_what_addresses_share_they_share_afterwards(one: str, other: str) -> None:
    assert shared(KEY.address(one), KEY.address(other)) == shared(one, other)


@given(st.ip_addresses(v=6), st.integers(0, 127))
def test_ipv6_addresses_as_well(address: object, bit: int) -> None:
    one = str(address)
    other = str(ip_address(int(ip_address(one)) ^ (1 << bit)))
    if all(ip_address(text) not in ip_network("::ffff:0:0/96") for text in (one, other)):
        assert shared(KEY.address(one), KEY.address(other)) == shared(one, other)


@given(_TEXTS, st.integers(0, 32))
def test_an_address_is_in_a_network_if_it_was(text: str, length: int) -> None:
    network = ip_network(f"{text}/{length}", strict=False)
    mapped = ip_network(KEY.network(str(network)))
    assert mapped.prefixlen == length
    assert ip_address(KEY.address(text)) in mapped


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("0.0.0.0", "0.0.0.0/32"),
        ("255.255.255.255", "255.255.255.255/32"),
        ("169.254.20.10", "169.254.20.10/32"),
        ("224.0.0.251", "224.0.0.251/32"),
        ("::1", "::1/128"),
        ("::", "::/128"),
        ("ff02::1", "ff02::1/128"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("100.64.1.1", "100.64.0.0/10"),
        ("172.20.1.1", "172.16.0.0/12"),
        ("192.168.1.1", "192.168.0.0/16"),
        ("fd00::1", "fd00::/8"),
        ("fe80::1", "fe80::/64"),
    ],
)
def test_special_addresses_stay_what_they_are(text: str, network: str) -> None:
    for key in range(20):
        assert ip_address(Mapping(bytes([key])).address(text)) in ip_network(network)


@given(_TEXTS.filter(lambda text: not special(text)))
def test_no_other_address_becomes_a_special_one(text: str) -> None:
    assert not special(KEY.address(text)) or text in ("10.0.0.0", "172.16.0.0", "192.168.0.0", "100.64.0.0")


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("eth0", True),
        ("bond0.100", True),
        ("veth+", True),
        ("kube-ipvs0", True),
        ("lo", True),
        ("cali12ab34cd56e", False),
        ("acme0", False),
        ("br-0123456789ab", False),
    ],
)
def test_interfaces(given_text: str, kept: bool) -> None:
    found = KEY.interface(given_text)
    assert (found == given_text) == kept
    assert len(found) <= 15


def test_names_are_the_same_everywhere_and_keys_differ() -> None:
    assert KEY.name("node-a.example.com") == f"{KEY.name('node-a')}.{KEY.name('example')}.{KEY.name('com')}"
    assert KEY.service_port("demo/web:http") == f"{KEY.name('demo')}/{KEY.name('web')}:http"
    assert KEY.service_port("demo/web:") == f"{KEY.name('demo')}/{KEY.name('web')}:"
    assert KEY.service_port("default/kubernetes:https") == "default/kubernetes:https"
    assert Mapping(b"another").name("web") != KEY.name("web")
    assert Mapping(b"another").address("203.0.113.7") != KEY.address("203.0.113.7")


# --- the command ---


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ruleaudit", *words], capture_output=True, text=True, timeout=60)


def test_an_archive_is_audited_as_the_node_was(nodes: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar.gz"
    done = run("anonymize", str(nodes / "changed-destination"), "--output", str(archive), "--key", "k")
    assert done.returncode == 0, done.stderr
    assert "11 files; names that every cluster has" in done.stderr
    with tarfile.open(archive) as packed:
        assert "out/iptables-save.txt" in packed.getnames()
        assert all(member.mtime == 0 and not member.uname for member in packed)
    report = json.loads(run("check", str(archive), "--format", "json").stdout)
    assert [one["code"] for one in report["findings"] if one["severity"] == "error"] == ["RA206"]
    again = tmp_path / "again.tar.gz"
    run("anonymize", str(nodes / "changed-destination"), "--output", str(again), "--key", "k")
    with tarfile.open(archive) as one, tarfile.open(again) as other:
        for name in one.getnames():
            held, same = one.extractfile(name), other.extractfile(name.replace("out/", "again/"))
            assert held is not None
            assert same is not None
            assert held.read() == same.read()


def test_standard_input_is_read(nodes: Path, tmp_path: Path) -> None:
    dump = (nodes / "healthy" / "iptables-save.txt").read_bytes()
    words = [sys.executable, "-m", "ruleaudit", "anonymize", "-", "--output", str(tmp_path / "out")]
    done = subprocess.run(words, input=dump, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["iptables-save.txt"]


@pytest.mark.parametrize("own", [False, True], ids=["objects beside them", "and one node's own"])
@pytest.mark.parametrize("output", ["out", "out.tar.gz"])
def test_several_nodes_are_audited_as_they_were(nodes: Path, tmp_path: Path, output: str, own: bool) -> None:
    captures = tmp_path / "captures"
    for name in ("healthy", "changed-destination"):
        shutil.copytree(nodes / name, captures / name)
        (captures / name / "objects.json.xz").replace(captures / "objects.json.xz")
    if own:
        (captures / "healthy" / "more.json").write_text(
            '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "more", "namespace": "demo"}}'
        )
    done = run("anonymize", str(captures), "--output", str(tmp_path / output), "--key", "of the tests")
    assert done.returncode == 0, done.stderr
    before, after = (json.loads(run("check", str(one), "--format", "json").stdout) for one in (captures, tmp_path / output))
    assert before["names"] == [f"node-a ({captures / name})" for name in ("changed-destination", "healthy")]
    assert {name.partition(" ")[0] for name in after["names"]} == {KEY.name("node-a")}

    def found(reports: dict[str, Any]) -> list[tuple[int, Counter[str]]]:
        counts = [
            (one["summary"]["services"], Counter(finding["code"] for finding in one["findings"])) for one in reports["nodes"]
        ]
        return sorted(counts, key=str)

    assert found(after) == found(before)
    if output == "out":
        files = {one.relative_to(tmp_path / output).as_posix() for one in (tmp_path / output).rglob("*.json")}
        folders = [KEY.name(name) for name in ("healthy", "changed-destination")]
        assert {f"{folder}/meta.json" for folder in folders} <= files
        assert [name for name in sorted(files) if name.endswith("services.json")] == sorted(
            ["services.json", *([f"{folders[0]}/services.json"] if own else [])]
        )


def test_without_a_key_every_run_differs_and_no_key_is_written(nodes: Path, tmp_path: Path) -> None:
    texts = []
    for name in "ab":
        done = run("anonymize", str(nodes / "healthy"), "--output", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        texts.append((tmp_path / name / "iptables-save.txt").read_text())
    assert texts[0] != texts[1]
    run("anonymize", str(nodes / "healthy"), "--output", str(tmp_path / "keyed"), "--key", "very-secret-key")
    assert all("very-secret-key" not in one.read_text() for one in (tmp_path / "keyed").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["NODE"], "--output", id="without --output"),
        pytest.param(
            ["NODE", "--output", "FULL"], "is there already; name a new or an empty folder", id="a folder that holds something"
        ),
        pytest.param(["ABSENT", "--output", "NEW"], "no such file or folder", id="a capture that is not there"),
        pytest.param(["NODE", "--output", "FILE/below"], "no such folder to write to", id="a folder that cannot be made"),
        pytest.param(["NODE", "--output", "NEW/x.tar.gz"], "no such folder to write to", id="an archive in no folder"),
        *(
            pytest.param(
                ["NODE", "--output", f"NEW.{ending}"], "ends in .tar.gz or .tgz, or a folder", id=f"another file, .{ending}"
            )
            for ending in ("zip", "tar", "tar.xz", "json", "tbz2")
        ),
        pytest.param(["NODE", "--output", "NEW", "--key", ""], "an empty key is known to everybody", id="an empty key"),
        pytest.param(["NODE", "EMPTY", "--output", "NEW"], "holds nothing", id="one of two nodes of which nothing can be read"),
    ],
)
def test_refusals(nodes: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    shutil.copytree(nodes / "healthy", tmp_path / "full")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {
        "NODE": nodes / "healthy",
        "EMPTY": tmp_path / "empty",
        "FULL": tmp_path / "full",
        "NEW": tmp_path / "new",
        "ABSENT": tmp_path / "x",
        "FILE/below": tmp_path / "file" / "below",
        "NEW/x.tar.gz": tmp_path / "new" / "x.tar.gz",
        **{f"NEW.{ending}": tmp_path / f"new.{ending}" for ending in ("zip", "tar", "tar.xz", "json", "tbz2")},
    }
    done = run("anonymize", *(str(places.get(word, word)) for word in arguments))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_an_empty_folder_is_filled_whole_or_not_at_all(
    nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["anonymize", str(nodes / "healthy"), "--output", str(tmp_path / "empty")]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "rename", full)
        assert cli.main(words) == 2
    assert "No space left" in capsys.readouterr().err
    assert [one.name for one in tmp_path.rglob("*")] == ["empty"]
    assert cli.main(words) == 0
    assert (tmp_path / "empty" / "iptables-save.txt").is_file()

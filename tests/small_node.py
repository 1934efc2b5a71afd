"""A small node for tests: a few objects, and the dump that kube-proxy writes for them.

The rules come from the miniature kube-proxy of test_written_rules.py, which is held against real ones; here stands what it leaves out:
the fixed chains, hooks and tail rules (KPR 4) of 1.20 to 1.22, and of 1.25 and later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.test_written_rules import Writer

from ruleaudit.audit import audit_inputs
from ruleaudit.cluster import load
from ruleaudit.kubeproxy.expect import expect
from ruleaudit.kubeproxy.settings import combine, read_settings, resolve
from ruleaudit.sources import InputKind, Source

if TYPE_CHECKING:
    from ruleaudit.findings import Report

Object: TypeAlias = dict[str, object]
Edit: TypeAlias = Callable[[str], str]

NODE, OTHER_NODE = "node-a", "node-b"
ARGUMENTS = ("--hostname-override=node-a", "--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56")

_SERVICES = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
_EXTERNAL = (
    '-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES'
)
_FIREWALL = '-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL'
_FORWARD = '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'
_TAIL = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
_NAT = [
    f"-A PREROUTING {_SERVICES}",
    f"-A OUTPUT {_SERVICES}",
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
]
_MARK_ACCEPT = '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT'
_RELATED = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_HEALTH = '-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS'
_MARTIANS = (
    '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" '
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)


def _filter(minor: int, family: int) -> list[str]:
    new = "-m conntrack --ctstate NEW "
    if minor < 25:
        pods = ("pod source rule", "pod destination rule")
        return [
            *([_HEALTH] if minor >= 21 else []),
            f"-A INPUT {_EXTERNAL}",
            _FORWARD,
            f"-A FORWARD {new}{_SERVICES}",
            f"-A FORWARD {_EXTERNAL}",
            f"-A OUTPUT {new}{_SERVICES}",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
            _MARK_ACCEPT,
            *(f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack {pod}" {_RELATED}' for pod in pods),
        ]
    nfacct = "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts " if minor >= 31 else ""
    return [
        "-A INPUT -j KUBE-FIREWALL",
        f"-A INPUT {_FIREWALL}",
        _HEALTH,
        f"-A INPUT {_EXTERNAL}",
        f"-A FORWARD {_FIREWALL}",
        _FORWARD,
        f"-A FORWARD {new}{_SERVICES}",
        f"-A FORWARD {_EXTERNAL}",
        "-A OUTPUT -j KUBE-FIREWALL",
        f"-A OUTPUT {_FIREWALL}",
        f"-A OUTPUT {new}{_SERVICES}",
        *([_MARTIANS] if family == 4 else []),
        f"-A KUBE-FORWARD -m conntrack --ctstate INVALID {nfacct}-j DROP",
        _MARK_ACCEPT,
        f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" {_RELATED}',
    ]


def _moved_masquerade(nat: Sequence[str]) -> list[str]:
    """Each masquerade rule of a cluster IP in the chain that the rule after it leads to."""
    return [
        line.replace("-A KUBE-SERVICES", f"-A {after.split()[-1]}", 1) if _MASQUERADES.match(line) else line
        for line, after in zip(nat, [*nat[1:], ""], strict=True)
    ]


_MASQUERADES = re.compile(r'-A KUBE-SERVICES .* cluster IP" .*-j KUBE-MARK-MASQ$')
_FIXED = {
    "filter": ("KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-SERVICES", "KUBE-PROXY-CANARY"),
    "nat": ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-PROXY-CANARY"),
}
_BUILT_IN = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}


def table(name: str, rules: Iterable[str], tool: str, fixed: Sequence[str], empty: Sequence[str] = ()) -> list[str]:
    lines = list(rules)
    chains = dict.fromkeys((*fixed, *(line.split()[1] for line in lines if line.split()[1] not in _BUILT_IN[name]), *empty))
    return [
        f"# Generated by {tool} v1.8.9 (nf_tables) on Mon Nov 23 05:00:00 2026",
        f"*{name}",
        *(f":{chain} ACCEPT [0:0]" for chain in _BUILT_IN[name]),
        *(f":{chain} - [0:0]" for chain in chains),
        *lines,
        "COMMIT",
        "# Completed on Mon Nov 23 05:00:00 2026",
    ]


@dataclass(frozen=True)
class SmallNode:
    """A node of kube-proxy 1.`minor`. `objects` are the cluster's; `arguments` kube-proxy's command line."""

    objects: Sequence[Object]
    minor: int = 36
    arguments: Sequence[str] = ARGUMENTS
    families: Sequence[int] = (4,)
    empty_chains: Sequence[str] = field(default=())

    @property
    def description(self) -> bytes:
        """What a capture says of the node."""
        return json.dumps({"kube_proxy_version": f"Kubernetes v1.{self.minor}.0", "mode": "iptables", "node": NODE}).encode()

    @property
    def command_line(self) -> bytes:
        """kube-proxy's command line."""
        return "\n".join([f"kube-proxy-1.{self.minor}", *self.arguments]).encode()

    def text(self, family: int = 4) -> str:
        """The dump that kube-proxy leaves on a node that holds nothing else."""
        given = combine([read_settings(self.command_line, "kube-proxy.args"), read_settings(self.description, "meta.json")])
        settings = resolve(given)
        cluster = load([("objects.json", as_list(self.objects))])
        expectation = expect(cluster, node=NODE, family=family, settings=settings, release=settings.release(self.minor))
        written = Writer(expectation)
        if self.minor == 22:  # the masquerade rules of cluster IPs moved into KUBE-SVC (KPR 19)
            written.nat = _moved_masquerade(written.nat)
        tool = "iptables-save" if family == 4 else "ip6tables-save"
        if settings.nodeport_addresses:
            tail = f"-d {'192.0.2.10/32' if family == 4 else '2001:db8::10/128'} {_TAIL}"
        else:
            tail = f"{'! -d ::1/128 ' if family == 6 and self.minor >= 26 else ''}{_TAIL}-m addrtype --dst-type LOCAL "
        fixed = list(_FIXED["filter"])
        if self.minor >= 21:
            fixed.append("KUBE-NODEPORTS")
        if self.minor >= 25:
            fixed += ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL"]
        nat_fixed = [*_FIXED["nat"], *(["KUBE-MARK-DROP"] if self.minor < 25 else [])]
        drop = ["-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000"] if self.minor < 25 else []
        lines = table("filter", [*_filter(self.minor, family), *written.filter], tool, fixed)
        lines += table(
            "nat", [*_NAT, *drop, *written.nat, f"-A KUBE-SERVICES {tail}-j KUBE-NODEPORTS"], tool, nat_fixed, self.empty_chains
        )
        return "\n".join(lines) + "\n"

    def report(
        self,
        edit: Edit = str,
        *,
        objects: Sequence[Object] | None = None,
        dumps: Mapping[str, str] | None = None,
        told: bool = True,
        node: str | None = None,
    ) -> Report:
        """The audit of this node's dump, edited, against its objects or others. `told`: kube-proxy's release and settings are given."""
        given = (
            {f"ip{'6' * (one == 6)}tables-save.txt": edit(self.text(one)) for one in self.families} if dumps is None else dumps
        )
        sources = [Source(name, InputKind.IPTABLES_SAVE, text, b"", given=True) for name, text in given.items()]
        wanted = self.objects if objects is None else objects
        if wanted:
            sources.append(Source("objects.json", InputKind.OBJECTS, "", as_list(wanted), given=True))
        if told:
            sources.append(Source("kube-proxy.args", InputKind.PROXY_CONFIG, "", self.command_line, given=True))
            sources.append(Source("meta.json", InputKind.CAPTURE_META, "", self.description, given=True))
        return audit_inputs(sources, node=node or (None if told else NODE))


def as_list(objects: Sequence[Object]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}).encode()


# --- objects -----------------------------------------------------------------------------------------------------------------------------


def node_object(name: str, address: str, pod_cidr: str, zone: str = "zone-a") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]},
    }


NODES: list[Object] = [
    node_object(NODE, "192.0.2.10", "10.244.1.0/24"),
    node_object(OTHER_NODE, "192.0.2.11", "10.244.2.0/24", "zone-b"),
]


def endpoint(address: str, node: str | None = None, **conditions: bool) -> Object:
    """An endpoint of a slice; on this node where its address is of this node's pod CIDR and no node is named."""
    where = node if node is not None else NODE if address.startswith("10.244.1.") else OTHER_NODE
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False, **conditions},
        **({"nodeName": where} if where else {}),
    }


LOCAL, REMOTE = endpoint("10.244.1.5"), endpoint("10.244.2.5")


def service(
    name: str,
    cluster_ip: str,
    endpoints: Sequence[Object] | None = (LOCAL, REMOTE),
    *,
    ports: Sequence[Object] = ({"name": "http", "port": 80, "targetPort": 8080},),
    ingress: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    family: int = 4,
    **spec: object,
) -> list[Object]:
    """A Service `namespace/name` with one EndpointSlice (`endpoints` None: without)."""
    namespace, _, short = name.partition("/")
    families = ["IPv6" if family == 6 else "IPv4"]
    every: list[Object] = [{"protocol": "TCP", **port} for port in ports]
    found: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": short, "labels": dict(labels or {})},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": cluster_ip,
                "clusterIPs": [cluster_ip],
                "ipFamilies": families,
                "ports": every,
                **spec,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": one} for one in ingress]}},
        }
    ]
    if endpoints is not None:
        found.append(slice_of(name, endpoints, ports=ports, labels=labels, family=family))
    return found


def slice_of(
    name: str,
    endpoints: Sequence[Object],
    *,
    suffix: str = "1",
    ports: Sequence[Object] = ({"name": "http", "port": 80, "targetPort": 8080},),
    labels: Mapping[str, str] | None = None,
    family: int = 4,
    **values: object,
) -> Object:
    """An EndpointSlice of a Service."""
    namespace, _, short = name.partition("/")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": f"{short}-{suffix}",
            "labels": {**(labels or {}), "kubernetes.io/service-name": short},
        },
        "addressType": "IPv6" if family == 6 else "IPv4",
        "endpoints": list(endpoints),
        "ports": [
            {"name": one.get("name", ""), "protocol": one.get("protocol", "TCP"), "port": one.get("targetPort", one["port"])}
            for one in ports
        ],
        **values,
    }


KUBERNETES = service(
    "default/kubernetes",
    "10.96.0.1",
    [endpoint("192.0.2.10", node="")],
    ports=[{"name": "https", "port": 443, "targetPort": 6443}],
)
WEB = service("shop/web", "10.96.0.20")
BASE: list[Object] = [*NODES, *KUBERNETES, *WEB]


# --- edits -------------------------------------------------------------------------------------------------------------------------------


def without(pattern: str, count: int = 0) -> Edit:
    """Take out the lines that match; the first `count` of them, or all."""

    def edit(text: str) -> str:
        changed, number = re.subn(rf"^.*{pattern}.*\n", "", text, count=count, flags=re.MULTILINE)
        assert number, pattern
        return changed

    return edit


def changed(pattern: str, replacement: str, count: int = 1) -> Edit:
    """Replace what matches."""

    def edit(text: str) -> str:
        result, number = re.subn(pattern, replacement, text, count=count, flags=re.MULTILINE)
        assert number, pattern
        return result

    return edit


def added(table: str, *rules: str, first: bool = False) -> Edit:
    """Add rules to a table, their chains declared: at its end, or before its first rule."""

    def edit(text: str) -> str:
        lines = text.split("\n")
        start = lines.index(f"*{table}")
        end = lines.index("COMMIT", start)
        known = {line[1:].split()[0] for line in lines[start:end] if line.startswith(":")}
        chains = [name for name in dict.fromkeys(rule.split()[1] for rule in rules) if name not in known]
        at = next(number for number in range(start + 1, end + 1) if not lines[number].startswith(":"))
        body = lines[at:end]
        lines[at:end] = [*(f":{name} - [0:0]" for name in chains), *(rules if first else ()), *body, *(() if first else rules)]
        return "\n".join(lines)

    return edit


def moved(pattern: str, behind: str) -> Edit:
    """Move the first line that matches behind the last one that matches another pattern."""

    def edit(text: str) -> str:
        lines = text.split("\n")
        line = next(one for one in lines if re.search(pattern, one))
        lines.remove(line)
        at = max(number for number, one in enumerate(lines) if re.search(behind, one))
        return "\n".join([*lines[: at + 1], line, *lines[at + 1 :]])

    return edit


def twice(pattern: str, change: Callable[[str], str] = str) -> Edit:
    """Write the lines that match once more behind the last of them, changed."""

    def edit(text: str) -> str:
        lines = text.split("\n")
        found = [number for number, one in enumerate(lines) if re.search(pattern, one)]
        again = [change(lines[number]) for number in found]
        return "\n".join([*lines[: found[-1] + 1], *again, *lines[found[-1] + 1 :]])

    return edit


def both(*edits: Edit) -> Edit:
    """One edit after the other."""

    def edit(text: str) -> str:
        for one in edits:
            text = one(text)
        return text

    return edit


def serious(report: Report) -> list[tuple[str, str | None]]:
    """The errors and warnings: code and service."""
    return [(one.code, one.service) for one in report.findings if one.severity.value != "info"]

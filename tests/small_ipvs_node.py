"""A small node in IPVS mode for tests: a few objects, and everything that kube-proxy leaves on the node for them.

`Written` is a miniature of kube-proxy's IPVS mode after KPR 9 to 11: it takes endpoints, names and values from the expectation, and decides about
virtual servers, sets, addresses and rules by the reference alone, never by what `expect` says of the IPVS mode. test_small_ipvs_node.py
holds it against real nodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from tests.small_node import NODE, Edit, Object, as_list, table

from ruleaudit.audit import audit_inputs
from ruleaudit.cluster import load
from ruleaudit.forwarding import Frontend, FrontendKind
from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort, expect
from ruleaudit.kubeproxy.release import ProxyMode
from ruleaudit.kubeproxy.settings import LocalDetection, combine, read_settings, resolve
from ruleaudit.sources import InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ruleaudit.findings import Report
    from ruleaudit.kubeproxy.settings import ProxySettings

IPVS_ARGUMENTS = ("--hostname-override=node-a", "--proxy-mode=ipvs", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56")
OWN = ("192.0.2.10", "10.244.1.1", "172.17.0.1", "2001:db8::10", "fd00:10:244:1::1")
"""The node's own addresses: that of its Node object, of its pods' bridge, of a bridge that no object knows; and two of IPv6."""

_FLAGS = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}
_HASHES = {
    "KUBE-LOOP-BACK": "ip,port,ip",
    "KUBE-CLUSTER-IP": "ip,port",
    "KUBE-EXTERNAL-IP": "ip,port",
    "KUBE-EXTERNAL-IP-LOCAL": "ip,port",
    "KUBE-LOAD-BALANCER": "ip,port",
    "KUBE-LOAD-BALANCER-LOCAL": "ip,port",
    "KUBE-LOAD-BALANCER-FW": "ip,port",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "ip,port,net",
    "KUBE-LOAD-BALANCER-SOURCE-IP": "ip,port,ip",
    "KUBE-NODE-PORT-SCTP-HASH": "ip,port",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "ip,port",
}
_BITMAPS = ("KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP")
_SERVICE = "Kubernetes service "
_SAID = {
    "KUBE-CLUSTER-IP": f"{_SERVICE}cluster ip + port for masquerade purpose",
    "KUBE-EXTERNAL-IP": f"{_SERVICE}external ip + port for masquerade and filter purpose",
    "KUBE-EXTERNAL-IP-LOCAL": f"{_SERVICE}external ip + port with externalTrafficPolicy=local",
    "KUBE-LOAD-BALANCER": f"{_SERVICE}lb portal",
    "KUBE-LOAD-BALANCER-LOCAL": f"{_SERVICE}load balancer ip + port with externalTrafficPolicy=local",
    "KUBE-LOAD-BALANCER-FW": f"{_SERVICE}load balancer ip + port for load balancer with sourceRange",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": f"{_SERVICE}load balancer ip + port + source cidr for packet filter purpose",
    "KUBE-LOAD-BALANCER-SOURCE-IP": f"{_SERVICE}load balancer ip + port + source IP for packet filter purpose",
    "KUBE-NODE-PORT-TCP": "Kubernetes nodeport TCP port for masquerade purpose",
    "KUBE-NODE-PORT-UDP": "Kubernetes nodeport UDP port for masquerade purpose",
    "KUBE-NODE-PORT-SCTP-HASH": "Kubernetes nodeport SCTP port for masquerade purpose with type \\'hash ip:port\\'",
    "KUBE-NODE-PORT-LOCAL-TCP": "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    "KUBE-NODE-PORT-LOCAL-UDP": "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type \\'hash ip:port\\'",
    "KUBE-LOOP-BACK": "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    "KUBE-HEALTH-CHECK-NODE-PORT": "Kubernetes health check node port",
}


class Server(NamedTuple):
    """A virtual server: its persistence timeout in seconds, and its real servers ("ip:port") with their weights."""

    persistence: int | None
    real: Mapping[str, int]


class Written:
    """What kube-proxy's IPVS mode writes for one family.

    `own`: the addresses of the node's interfaces but loopback and kube-ipvs0. `servers`: by protocol, address and port; `sets`: their entries by
    the sets' names in IPv4; `dummy`: the addresses of kube-ipvs0; `nat`, `filter`: rules; `chains`: those that hold none, too.
    """

    def __init__(self, expectation: Expectation, own: Sequence[str]) -> None:
        self.expectation = expectation
        self.minor = expectation.release.minor
        self.six = expectation.family == 6
        self.own = [one for one in own if (":" in one) == self.six]
        self.node_ports = self._node_ports()
        self.servers: dict[tuple[str, str, int], Server] = {}
        names = [*_HASHES, *_BITMAPS]
        names += ["KUBE-HEALTH-CHECK-NODE-PORT"] if self.minor >= 21 else []
        names += ["KUBE-IPVS-IPS"] if self.minor >= 26 else []
        self.sets: dict[str, dict[str, None]] = {
            name: {} for name in names if name != "KUBE-EXTERNAL-IP-LOCAL" or self.minor >= 18
        }
        self.dummy: dict[str, None] = {}
        self.out_filter: list[str] = []
        for port in expectation.service_ports:
            self._port(port)
        if self.minor >= 26:
            self.sets["KUBE-IPVS-IPS"].update(self.dummy)
        self.nat: list[str] = []
        self.filter: list[str] = []
        self._rules()

    def name(self, name: str) -> str:
        """The name of a set in the family (KPR 9.1)."""
        return ("KUBE-6-" + name.removeprefix("KUBE-"))[:31] if self.six else name

    # --- virtual servers, sets and addresses -------------------------------------------------------------------------------------------

    def _node_ports(self) -> list[str]:
        """The addresses at which node ports answer (KPR 11.2)."""
        given = self.expectation.settings.nodeport_addresses
        if not given:
            # Every address that a local route names as its source, loopback's up to 1.21 (pkg/proxy/ipvs/netlink_linux.go).
            return [*self.own, *([] if self.minor >= 22 else ["::1"] if self.six else ["127.0.0.1"])]
        networks = [ip_network(one) for one in given if one != "primary" and (":" in one) == self.six]
        chosen = [one for one in self.own if any(ip_address(one) in network for network in networks)]
        return [*(self.own[:1] if "primary" in given else []), *chosen]

    def _port(self, port: ExpectedServicePort) -> None:
        protocol = port.protocol.lower()
        for endpoint in port.candidates.endpoints:
            if endpoint.is_local and (endpoint.ready or self.minor >= 21):
                self.sets["KUBE-LOOP-BACK"][f"{endpoint.address},{protocol}:{endpoint.port},{endpoint.address}"] = None
        for frontend in port.frontends:
            entry = f"{frontend.address},{protocol}:{frontend.port}"
            local = port.external_local
            match frontend.kind:
                case FrontendKind.CLUSTER_IP:
                    self.sets["KUBE-CLUSTER-IP"][entry] = None
                    local = port.internal_local and self.minor >= 24
                case FrontendKind.EXTERNAL_IP:
                    self.sets[f"KUBE-EXTERNAL-IP{'-LOCAL' * local}"][entry] = None
                case FrontendKind.LOAD_BALANCER_IP:
                    self._load_balancer(port, frontend, entry)
                case FrontendKind.NODE_PORT:
                    self._node_port(port, frontend)
            endpoints = port.selection.cluster
            if local:
                endpoints = port.selection.local or (endpoints if self.minor >= 24 else ())
            server = Server(port.affinity, dict.fromkeys([one.text for one in endpoints], 1))
            addresses = [frontend.address] if frontend.address is not None else self.node_ports
            for address in addresses:
                self.servers[port.protocol, address, frontend.port] = server
            if frontend.address is not None and not (
                self.minor >= 28 and frontend.address in self.own and frontend.kind is not FrontendKind.CLUSTER_IP
            ):
                self.dummy[frontend.address] = None
        if port.health_check_node_port and self.minor >= 21 and (self.node_ports or not port.node_port):
            self.sets["KUBE-HEALTH-CHECK-NODE-PORT"][str(port.health_check_node_port)] = None

    def _load_balancer(self, port: ExpectedServicePort, frontend: Frontend, entry: str) -> None:
        self.sets["KUBE-LOAD-BALANCER"][entry] = None
        if port.external_local:
            self.sets["KUBE-LOAD-BALANCER-LOCAL"][entry] = None
        if not port.source_ranges:
            return
        self.sets["KUBE-LOAD-BALANCER-FW"][entry] = None
        for text in port.source_ranges:
            network = ip_network(text)
            if network.prefixlen:  # one of length zero cannot be stored (KPR 9.2)
                shown = str(network.network_address) if network.num_addresses == 1 else str(network)
                self.sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"][f"{entry},{shown}"] = None
        if port.node_allowed:
            self.sets["KUBE-LOAD-BALANCER-SOURCE-IP"][f"{entry},{frontend.address}"] = None
        elif self.minor >= 29:
            vip, number = frontend.address, {"TCP": 6, "UDP": 17, "SCTP": 132}[port.protocol]
            bits = 128 if self.six else 32
            self.out_filter.append(
                f"-A KUBE-IPVS-OUT-FILTER -s {vip}/{bits} -m ipvs --vproto {number} --vaddr {vip} --vport {frontend.port} -j DROP"
            )

    def _node_port(self, port: ExpectedServicePort, frontend: Frontend) -> None:
        kinds = ["", *(["LOCAL-"] if port.external_local else [])]
        for address in self.node_ports:
            for kind in kinds:
                if port.protocol == "SCTP":
                    self.sets[f"KUBE-NODE-PORT-{kind}SCTP-HASH"][f"{address},sctp:{frontend.port}"] = None
                else:
                    self.sets[f"KUBE-NODE-PORT-{kind}{port.protocol}"][str(frontend.port)] = None

    # --- rules -----------------------------------------------------------------------------------------------------------------------

    def _rule(self, chain: str, name: str, ends: str, target: str, *, said: str = "", before: str = "", after: str = "") -> str:
        comment = f'-m comment --comment "{said}" ' if said else ""
        return f"-A {chain} {before}{comment}-m set --match-set {self.name(name)} {ends} {after}-j {target}"

    def _rules(self) -> None:
        """KPR 10.1 to 10.4."""
        minor, nat, filtered = self.minor, self.nat, self.filter
        services = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
        nat += [f"-A PREROUTING {services}", f"-A OUTPUT {services}"]
        nat.append('-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING')
        if minor >= 26:
            filtered.append('-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER')
        if minor >= 25:
            filtered.append('-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL')
        if minor >= 21:
            filtered.append('-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT')
        if minor >= 25:
            filtered.append('-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL')
        filtered.append('-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD')
        if minor >= 29:
            filtered.append('-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER')
        self._services()
        self._other_nat()
        self._filter()

    def _services(self) -> None:
        nat, sets, chain = self.nat, self.sets, "KUBE-SERVICES"
        if self.minor >= 26:
            nat.append(f"-A {chain} -s {'::1/128' if self.six else '127.0.0.0/8'} -j RETURN")
        if sets["KUBE-LOAD-BALANCER"]:
            nat.append(self._rule(chain, "KUBE-LOAD-BALANCER", "dst,dst", "KUBE-LOAD-BALANCER", said=_SAID["KUBE-LOAD-BALANCER"]))
        if sets["KUBE-CLUSTER-IP"]:
            nat.append(self._cluster_ip())
        for name in ("KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"):
            if not sets.get(name):
                continue
            said = _SAID[name]
            if name == "KUBE-EXTERNAL-IP":
                nat.append(self._rule(chain, name, "dst,dst", "KUBE-MARK-MASQ", said=said))
            away = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL "
            nat.append(self._rule(chain, name, "dst,dst", "ACCEPT", said=said, after=away))
            nat.append(self._rule(chain, name, "dst,dst", "ACCEPT", said=said, after="-m addrtype --dst-type LOCAL "))
        nat.append(f"-A {chain} -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
        nat += [self._rule(chain, name, "dst,dst", "ACCEPT") for name in ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER") if sets[name]]

    def _cluster_ip(self) -> str:
        detection, ends, before = self.expectation.local_detection, "dst,dst", ""
        if not self.expectation.settings.masquerade_all:
            if isinstance(detection, LocalDetection):
                prefix = "+" if detection.mode == "InterfaceNamePrefix" else ""
                flag = "-s" if detection.mode in ("ClusterCIDR", "NodeCIDR") else "-i"
                before = f"! {flag} {detection.value}{prefix} "
            else:
                ends = "src,dst"
        return self._rule(
            "KUBE-SERVICES", "KUBE-CLUSTER-IP", ends, "KUBE-MARK-MASQ", said=_SAID["KUBE-CLUSTER-IP"], before=before
        )

    def _other_nat(self) -> None:
        nat, sets, minor = self.nat, self.sets, self.minor
        if minor <= 24:
            for name in ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-LOAD-BALANCER-SOURCE-IP"):
                if sets[name]:
                    nat.append(self._rule("KUBE-FIREWALL", name, "dst,dst,src", "RETURN", said=_SAID[name]))
            nat.append("-A KUBE-FIREWALL -j KUBE-MARK-DROP")
        for name, target in (("KUBE-LOAD-BALANCER-FW", "KUBE-FIREWALL"), ("KUBE-LOAD-BALANCER-LOCAL", "RETURN")):
            if sets[name] and (minor <= 24 or target == "RETURN"):
                nat.append(self._rule("KUBE-LOAD-BALANCER", name, "dst,dst", target, said=_SAID[name]))
        nat.append("-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ")
        mark = f"{1 << self.expectation.settings.masquerade_bit:#x}"
        nat.append(f"-A KUBE-MARK-MASQ -j MARK --set-xmark {mark}/{mark}")
        kinds = [(f"{local}{protocol}", protocol.lower(), "dst") for protocol in ("TCP", "UDP") for local in ("LOCAL-", "")]
        sctp = [(f"{local}SCTP-HASH", "sctp", "dst,dst") for local in ("LOCAL-", "")]
        for kind, protocol, ends in [*kinds, *(sctp if minor >= 23 else sctp[::-1])]:
            name = f"KUBE-NODE-PORT-{kind}"
            if sets[name]:
                target = "RETURN" if "LOCAL" in kind else "KUBE-MARK-MASQ"
                nat.append(self._rule("KUBE-NODE-PORT", name, ends, target, said=_SAID[name], before=f"-p {protocol} "))
        if sets["KUBE-LOOP-BACK"]:
            said = _SAID["KUBE-LOOP-BACK"]
            nat.append(self._rule("KUBE-POSTROUTING", "KUBE-LOOP-BACK", "dst,dst,src", "MASQUERADE", said=said))
        nat.append(f"-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN")
        nat.append(f"-A KUBE-POSTROUTING -j MARK --set-xmark {mark}/0x0")
        said = "kubernetes service traffic requiring SNAT"
        nat.append(f'-A KUBE-POSTROUTING -m comment --comment "{said}" -j MASQUERADE --random-fully')

    def _filter(self) -> None:
        filtered, sets, minor = self.filter, self.sets, self.minor
        mark = f"{1 << self.expectation.settings.masquerade_bit:#x}"
        chain = "KUBE-FORWARD"
        filtered.append(f'-A {chain} -m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT')
        for part in ("conntrack rule",) if minor >= 23 else ("conntrack pod source rule", "conntrack pod destination rule"):
            said = f'-m comment --comment "kubernetes forwarding {part}"'
            filtered.append(f"-A {chain} {said} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        health = "KUBE-HEALTH-CHECK-NODE-PORT"
        if minor >= 21:
            filtered.append(self._rule("KUBE-NODE-PORT", health, "dst", "ACCEPT", said=_SAID[health]))
        if minor >= 25:
            guarded, chain = "KUBE-LOAD-BALANCER-FW", "KUBE-SOURCE-RANGES-FIREWALL"
            if sets[guarded]:
                filtered.append(self._rule("KUBE-PROXY-FIREWALL", guarded, "dst,dst", chain, said=_SAID[guarded]))
            for name in ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-LOAD-BALANCER-SOURCE-IP"):
                if sets[name]:
                    filtered.append(self._rule(chain, name, "dst,dst,src", "RETURN", said=_SAID[name]))
            filtered.append(f"-A {chain} -j DROP")
        if minor >= 26:
            names = [
                "KUBE-LOAD-BALANCER",
                "KUBE-CLUSTER-IP",
                "KUBE-EXTERNAL-IP",
                *(["KUBE-EXTERNAL-IP-LOCAL"] if minor >= 30 else []),
            ]
            filtered += [self._rule("KUBE-IPVS-FILTER", name, "dst,dst", "RETURN") for name in names]
            if minor >= 28:
                filtered.append(self._rule("KUBE-IPVS-FILTER", health, "dst", "RETURN"))
            refusal = f"REJECT --reject-with icmp{'6' * self.six}-port-unreachable"
            new = "-m conntrack --ctstate NEW "
            filtered.append(self._rule("KUBE-IPVS-FILTER", "KUBE-IPVS-IPS", "dst", refusal, before=new))
        filtered += self.out_filter

    # --- as the tools print it ---------------------------------------------------------------------------------------------------------

    def iptables(self) -> str:
        """As iptables-save or ip6tables-save prints it."""
        tool = "ip6tables-save" if self.six else "iptables-save"
        filter_chains = ["KUBE-FORWARD", *(["KUBE-NODE-PORT"] if self.minor >= 21 else [])]
        filter_chains += ["KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL"] if self.minor >= 25 else []
        filter_chains += ["KUBE-IPVS-FILTER"] if self.minor >= 26 else []
        filter_chains += ["KUBE-IPVS-OUT-FILTER"] if self.minor >= 29 else []
        nat_chains = ["KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-SERVICES"]
        nat_chains += ["KUBE-FIREWALL", "KUBE-MARK-DROP"] if self.minor <= 24 else []
        lines = table("filter", self.filter, tool, filter_chains) + table("nat", self.nat, tool, nat_chains)
        return "\n".join(lines) + "\n"

    def commands(self) -> str:
        """As `ipvsadm -Sn` prints it."""
        lines = []
        for (protocol, address, port), server in self.servers.items():
            where = f"{_FLAGS[protocol]} {self._at(address, port)}"
            persistent = f" -p {server.persistence}" if server.persistence is not None else ""
            lines.append(f"-A {where} -s rr{persistent}")
            lines += [f"-a {where} -r {text} -m -w {weight}" for text, weight in server.real.items()]
        return "".join(line + "\n" for line in lines)

    def listing(self, *, head: bool = True) -> str:
        """As `ipvsadm -Ln` prints it."""
        lines = [
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
        ]
        for (protocol, address, port), server in self.servers.items():
            persistent = f" persistent {server.persistence}" if server.persistence is not None else ""
            lines.append(f"{protocol:4} {self._at(address, port)} rr{persistent}")
            lines += [f"  -> {text:28} {'Masq':7} {weight:<6} {0:<10} {0:<10}" for text, weight in server.real.items()]
        return "".join(line + "\n" for line in (lines if head else lines[3:]))

    def counters(self, *, head: bool = True) -> str:
        """As `ipvsadm -Ln --stats` prints it."""
        lines = [
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
            "  -> RemoteAddress:Port",
        ]
        numbers = 5 * f"{0:9}"
        for (protocol, address, port), server in self.servers.items():
            lines.append(f"{protocol:4} {self._at(address, port):27}" + numbers)
            lines += [f"  -> {text:27}" + numbers for text in server.real]
        return "".join(line + "\n" for line in (lines if head else lines[3:]))

    def ipset(self) -> str:
        """As `ipset save` prints it."""
        lines = []
        family = "inet6" if self.six else "inet"
        for name, entries in self.sets.items():
            parts = _HASHES.get(name) or ("ip" if name == "KUBE-IPVS-IPS" else None)
            kind = f"hash:{parts} family {family} hashsize 1024 maxelem 65536" if parts else "bitmap:port range 0-65535"
            lines.append(f"create {self.name(name)} {kind}")
            lines += [f"add {self.name(name)} {entry}" for entry in entries]
        return "".join(line + "\n" for line in lines)

    def _at(self, address: str, port: int) -> str:
        return f"[{address}]:{port}" if self.six else f"{address}:{port}"


def ip_addr(interfaces: Mapping[str, Sequence[str]]) -> str:
    """As `ip -json addr` prints interfaces with these addresses."""
    found = []
    for number, (name, addresses) in enumerate(interfaces.items(), 1):
        entries = [
            {
                "family": "inet6" if ":" in one else "inet",
                "local": one,
                "prefixlen": 128 if ":" in one else 32,
                "scope": "global",
                "label": name,
            }
            for one in addresses
        ]
        flags = ["LOOPBACK", "UP"] if name == "lo" else ["BROADCAST", "NOARP"]
        found.append({"ifindex": number, "ifname": name, "flags": flags, "link_type": "ether", "addr_info": entries})
    return json.dumps(found, indent=1) + "\n"


@dataclass(frozen=True)
class SmallIpvsNode:
    """A node of kube-proxy 1.`minor` in IPVS mode. `own`: the addresses of its interfaces; `arguments`: kube-proxy's command line."""

    objects: Sequence[Object]
    minor: int = 36
    arguments: Sequence[str] = IPVS_ARGUMENTS
    families: Sequence[int] = (4,)
    own: Sequence[str] = OWN

    @property
    def description(self) -> bytes:
        """What a capture says of the node."""
        return json.dumps({"kube_proxy_version": f"Kubernetes v1.{self.minor}.0", "mode": "ipvs", "node": NODE}).encode()

    @property
    def command_line(self) -> bytes:
        """kube-proxy's command line."""
        return "\n".join([f"kube-proxy-1.{self.minor}", *self.arguments]).encode()

    @property
    def settings(self) -> ProxySettings:
        """kube-proxy's settings."""
        given = [read_settings(self.command_line, "kube-proxy.args"), read_settings(self.description, "meta.json")]
        return resolve(combine(given))

    def written(self, family: int) -> Written:
        """What kube-proxy writes for one family."""
        settings = self.settings
        cluster = load([("objects.json", as_list(self.objects))])
        release = settings.release(self.minor)
        expectation = expect(cluster, node=NODE, family=family, settings=settings, release=release, mode=ProxyMode.IPVS)
        return Written(expectation, self.own)

    def parts(self) -> dict[str, str]:
        """Each dump of the node by the name of its file."""
        written = {family: self.written(family) for family in self.families}
        first, *rest = written.values()
        found = {f"ip{'6' * (family == 6)}tables-save.txt": one.iptables() for family, one in written.items()}
        found["ipvsadm-save.txt"] = "".join(one.commands() for one in written.values())
        found["ipvsadm.txt"] = first.listing() + "".join(one.listing(head=False) for one in rest)
        found["ipvsadm-stats.txt"] = first.counters() + "".join(one.counters(head=False) for one in rest)
        found["ipset.txt"] = "".join(one.ipset() for one in written.values())
        found["ip-addr.json"] = ip_addr({"kube-ipvs0": [address for one in written.values() for address in one.dummy]})
        found["ip-addr-all.json"] = ip_addr(
            {
                "lo": ["127.0.0.1", *(["::1"] if 6 in self.families else [])],
                "eth0": [one for family in written for one in self.own if (":" in one) == (family == 6)],
                "kube-ipvs0": [address for one in written.values() for address in one.dummy],
            }
        )
        return found

    def report(
        self,
        edits: Mapping[str, Edit] | None = None,
        *,
        given: Sequence[str] = ("iptables-save.txt", "ip6tables-save.txt", "ipvsadm-save.txt", "ipset.txt", "ip-addr.json"),
        more: Mapping[str, str] | None = None,
        objects: Sequence[Object] | None = None,
        told: bool = True,
        node: str | None = None,
    ) -> Report:
        """The audit of this node.

        `edits`: changes of dumps, by file; `given`: the files that are given, as far as the node has them; `more`: other files. `objects`: others
        than its own; none at all with (). `told`: kube-proxy's release and settings are given.
        """
        edits = edits or {}
        parts = self.parts()
        texts = {name: edits.get(name, str)(parts[name]) for name in given if name in parts}
        texts.update(more or {})
        sources = [Source(name, kind_of(name), text, b"", given=True) for name, text in texts.items()]
        wanted = self.objects if objects is None else objects
        if wanted:
            sources.append(Source("objects.json", InputKind.OBJECTS, "", as_list(wanted), given=True))
        if told:
            sources.append(Source("kube-proxy.args", InputKind.PROXY_CONFIG, "", self.command_line, given=True))
            sources.append(Source("meta.json", InputKind.CAPTURE_META, "", self.description, given=True))
        return audit_inputs(sources, node=node or (None if told or not wanted else NODE))


def kind_of(name: str) -> InputKind:
    """What a file of the node holds, by its name."""
    for part, kind in (
        ("tables", InputKind.IPTABLES_SAVE),
        ("ipvsadm", InputKind.IPVSADM),
        ("ipset", InputKind.IPSET),
        ("ip-addr", InputKind.IP_ADDR),
        ("ip-rule", InputKind.IP_RULE),
    ):
        if part in name:
            return kind
    raise ValueError(name)

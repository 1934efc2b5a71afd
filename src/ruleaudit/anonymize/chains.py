"""Names of chains and sets, and comments, without the names that are in them: hashes of kube-proxy's chains are made anew (KPR 3)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from ruleaudit.addresses import canonical_address, family_of
from ruleaudit.dumps.rules import LineKind
from ruleaudit.forwarding import endpoint_text
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash
from ruleaudit.signs import SERVICE_CHAIN, is_kube_proxy_chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.anonymize.mapping import Mapping
    from ruleaudit.cluster import Cluster
    from ruleaudit.dumps.rules import Dump

__all__ = ["Chains"]

_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_SERVICE_PORT: Final = r"(?P<service>[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*(?::[a-z0-9-]*)?)"
_ENDPOINT: Final = r"(?P<endpoint>\[[0-9a-f:.]+\]:[0-9]+|[0-9.]+:[0-9]+)"
# Comments that kube-proxy and kubelet write (KPR 4, 5, 6, 8, 10): about one service port, and those that are always the same.
_ABOUT: Final = tuple(
    re.compile(form.replace("SERVICE", _SERVICE_PORT).replace("ENDPOINT", _ENDPOINT).replace("CHAIN", "(?P<chain>KUBE-[A-Z]+-[A-Z2-7]{16})"))
    for form in (
        r"SERVICE",
        r"SERVICE (?:cluster IP|external IP|loadbalancer IP|has no endpoints|has no local endpoints|health check node port)",
        r"SERVICE -> ENDPOINT",
        r"SERVICE traffic not accepted by CHAIN",
        r"(?:masquerade(?: LOCAL)? traffic|pod traffic|route LOCAL traffic) for SERVICE (?:external destinations|LB IP|LB IP to service chain)",
        r"other traffic to SERVICE will be dropped by KUBE-PROXY-FIREWALL",
        r"Balancing rule [0-9]+ for SERVICE",
    )
)  # fmt: skip
_ALWAYS: Final = re.compile(
    r"(?:kubernetes|Kubernetes) (?:service portals|externally-visible service portals|forwarding rules|postrouting rules|load balancer firewall"
    r"|service traffic requiring SNAT|forwarding conntrack(?: pod source| pod destination)? rule|health check (?:service ports|rules|node port)"
    r"|service nodeports; NOTE: this must be the last rule in this chain|ipvs access filter|service lb portal"
    r"|firewall for dropping marked packets|endpoints dst ip:port, source ip for solving hairpin purpose"
    r"|service (?:external ip|load balancer ip|cluster ip) \+ port(?: \+ source (?:cidr|IP))?(?: for [a-zA-Z ]+| with [a-zA-Z=]+)?"
    r"|nodeport (?:TCP|UDP|SCTP) port (?:for masquerade purpose|with externalTrafficPolicy=local)(?: with type \\?'hash ip:port\\?')?)"
    r"|kube-proxy firewall rules|block incoming localnet connections"
    r"|Redirect pods trying to reach external loadbalancer VIP to clusterIP"
)
_BUILT_IN: Final = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_TARGETS: Final = frozenset(
    {"ACCEPT", "DROP", "RETURN", "QUEUE", "REJECT", "MASQUERADE", "DNAT", "SNAT", "REDIRECT", "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK",
     "TPROXY", "TRACE", "NOTRACK", "CT", "TCPMSS", "TTL", "HL", "DSCP", "TOS", "NETMAP", "NFQUEUE", "SET", "CHECKSUM", "CLASSIFY", "TEE",
     "AUDIT", "SECMARK", "CONNSECMARK", "IDLETIMER", "LED", "RATEEST", "SYNPROXY", "DNPT", "SNPT", "ECN", "HMARK", "CLUSTERIP", "MIRROR",
     "TCPOPTSTRIP"}
)  # fmt: skip
# Chains and sets of known software: their own fixed names, and the beginnings of those that end in a hash or a name.
_FIXED: Final = re.compile(
    r"KUBE-(?:6-)?(?:CLUSTER-IP|LOOP-BACK|EXTERNAL-IP(?:-LOCAL)?|LOAD-BALANCER(?:-FW|-LOCAL|-SOURCE-(?:IP|CIDR|CID))?|IPVS-IPS|HEALTH-CHECK-NODE-PORT"
    r"|NODE-PORT(?:-LOCAL)?-(?:TCP|UDP|SCTP(?:-HASH?)?|SCTP-HAS))|KUBE-(?:NODEPORT|PORTALS)-(?:CONTAINER|HOST)"
    r"|KUBE-NWPLCY-DEFAULT|KUBE-ROUTER-(?:FORWARD|INPUT|OUTPUT|SERVICES)|CNI-(?:ADMIN|FORWARD|HOSTPORT-(?:DNAT|MASQ|SETMARK))"
    r"|DOCKER(?:-USER|-BRIDGE|-CT|-FORWARD|-INTERNAL|-ISOLATION-STAGE-[12])?|DOCKER_(?:OUTPUT|POSTROUTING)|FLANNEL-(?:FWD|POSTRTG)"
    r"|(?:IP|KIND)-MASQ-AGENT|WEAVE(?:-NPC(?:-DEFAULT|-INGRESS|-EGRESS(?:-ACCEPT|-CUSTOM|-DEFAULT)?)?|-IPSEC-IN|-CANARY|-EXPOSE)?"
    r"|(?:OLD_)?CILIUM_(?:PRE_mangle|PRE_raw|OUTPUT(?:_raw|_nat)?|POST(?:_mangle|_nat)?|PRE_nat|INPUT|FORWARD)"
    r"|cali-(?:FORWARD|INPUT|OUTPUT|PREROUTING|POSTROUTING|cidr-block|fip-dnat|fip-snat|from-hep-forward|to-hep-forward|from-host-endpoint|to-host-endpoint"
    r"|from-wl-dispatch|to-wl-dispatch|nat-outgoing|rpf-skip|wl-to-host)|AZURE-NPM(?:-ACCEPT|-EGRESS|-INGRESS|-INGRESS-ALLOW-MARK)?"
    r"|ANTREA-(?:FORWARD|PREROUTING|OUTPUT|POSTROUTING|INPUT|MANGLE|RAW)|ISTIO_(?:INBOUND|OUTPUT|REDIRECT|IN_REDIRECT)"
)
_BEGINNINGS: Final = re.compile(
    r"KUBE-(?:NWPLCY|POD-FW|SRC|DST|ROUTER|HP)-|CNI-(?:DN|SN|HOSTPORT)-|CNI-|cali-(?:fw|tw|pi|po|pri|pro|fh|th)-|cali-|cali[46]0[a-z]+:?|felix-"
    r"|WEAVE-NPC-|weave-|(?:OLD_)?CILIUM_|AZURE-NPM-|azure-npm-|ANTREA-|ROMANA-|OVN-KUBE-|DOCKER-|LIBVIRT_|ufw-|f2b-"
)
_MAX_CHAIN: Final = 28
_NFACCT: Final = frozenset({"ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"})


class Chains:
    """What stands for names of chains and sets and for comments, in the dumps of one node.

    Service ports are known from the objects and from comments in the dumps; by their hash, chains that no comment names are known, too.
    """

    def __init__(self, mapping: Mapping, cluster: Cluster, dumps: Sequence[Dump]) -> None:
        self.mapping = mapping
        self._names: dict[str, str] = {}
        self._endpoints = _endpoints(cluster)
        self._of_hash: dict[str, tuple[str, str]] = {}
        texts = {text for key, ports in _ports(cluster).items() for text in _service_texts(key, ports)}
        for dump in dumps:
            texts.update(_commented(dump))
        for text in texts:
            for protocol in _PROTOCOLS:
                self._of_hash[chain_hash(text, protocol)] = text, protocol
        for dump in dumps:
            self._learn_endpoint_chains(dump)

    def _learn_endpoint_chains(self, dump: Dump) -> None:
        """The names of endpoint chains: their hash is of a service port and an endpoint, which are tried."""
        found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))  # texts of service ports, endpoints
        for rule in dump.rules():
            for name in (rule.chain, rule.target_name or ""):
                if not name.startswith("KUBE-SEP-"):
                    continue
                texts, endpoints = found[name]
                about = _parsed(rule.comment or "")
                if about is not None and about["service"]:
                    texts.update(_variants(about["service"]))
                owner = self._of_hash.get(rule.chain[-16:])
                if owner is not None:
                    texts.add(owner[0])
                given = about.groupdict().get("endpoint") if about is not None else None
                destination = rule.option("--to-destination")
                endpoints.update(
                    one for one in (given, destination.values[0] if destination and destination.values else None) if one
                )
        for name, (texts, endpoints) in found.items():
            for text in texts:
                namespace, _, rest = text.partition("/")
                known = endpoints | self._endpoints.get((namespace, rest.partition(":")[0]), set())
                for endpoint in known:
                    for protocol in _PROTOCOLS:
                        if endpoint_chain_hash(text, protocol, endpoint) == name[9:]:
                            mapped = self.mapping.service_port(text), protocol, self.mapping.endpoint(endpoint)
                            self._names[name] = "KUBE-SEP-" + endpoint_chain_hash(*mapped)

    # --- names ---

    def chain(self, name: str) -> str:
        """A chain, or a target that may be one."""
        if name in _BUILT_IN or name in _TARGETS:
            return name
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = self._chain(name)
        return found

    def _chain(self, name: str) -> str:
        kept = SERVICE_CHAIN.match(name)
        if kept is not None:
            owner = self._of_hash.get(name[kept.end() :])
            if owner is not None:
                text, protocol = owner
                return kept[0] + chain_hash(self.mapping.service_port(text), protocol)
            return kept[0] + self.mapping.upper(name[kept.end() :])
        if is_kube_proxy_chain(name) or _FIXED.fullmatch(name):
            return name
        return self._other(name, "CHAIN-", _MAX_CHAIN)

    def set(self, name: str) -> str:
        """A set."""
        return name if _FIXED.fullmatch(name) else self._other(name, "SET-", 31)

    def _other(self, name: str, otherwise: str, most: int) -> str:
        beginning = _BEGINNINGS.match(name)
        first = otherwise if beginning is None else beginning[0]
        return first + self.mapping.upper(name, min(16, most - len(first)))

    def recent(self, name: str) -> str:
        """A list of the match `recent`: kube-proxy calls it like the chain."""
        return self.chain(name) if SERVICE_CHAIN.match(name) else name if name == "DEFAULT" else self.mapping.name(name)

    def nfacct(self, name: str) -> str:
        """A counter of the match `nfacct`."""
        return name if name in _NFACCT else self.mapping.name(name)

    # --- comments ---

    def comment(self, text: str) -> str:
        """A comment of kube-proxy with other names; another one is replaced by a word."""
        if not text or _ALWAYS.fullmatch(text):
            return text
        about = _parsed(text)
        if about is None:
            return "comment-" + self.mapping.token(text, 9, "comment")
        found = text
        rewriters = {"service": self.mapping.service_port, "endpoint": self.mapping.endpoint, "chain": self.chain}
        for group, value in about.groupdict().items():
            if value is not None:
                start, end = about.span(group)
                at = start - len(text)  # from the end, as what stands before may have another length by now
                found = found[:at] + rewriters[group](value) + (found[end - len(text) :] if end < len(text) else "")
        return found


def _parsed(comment: str) -> re.Match[str] | None:
    return next((found for form in _ABOUT if (found := form.fullmatch(comment)) is not None), None)


def _variants(text: str) -> tuple[str, ...]:
    """A service port without a name is written with a colon behind it, or without, by release (KPR 1.1)."""
    return (text,) if ":" in text and not text.endswith(":") else (text.rstrip(":"), text.rstrip(":") + ":")


def _ports(cluster: Cluster) -> dict[tuple[str, str], list[str]]:
    return {key: [port.name or "" for port in service.spec.ports] for key, service in cluster.services.items()}


def _service_texts(key: tuple[str, str], ports: Iterable[str]) -> Iterator[str]:
    for port in ports:
        yield from _variants(f"{key[0]}/{key[1]}:{port}" if port else f"{key[0]}/{key[1]}")


def _commented(dump: Dump) -> set[str]:
    """The service ports that comments of a dump name."""
    found: set[str] = set()
    asked: set[str] = set()
    for line, shape in enumerate(dump.shapes):
        if shape.kind is not LineKind.RULE:
            continue
        comment = dump.rule(line).comment
        if comment and comment not in asked:
            asked.add(comment)
            about = _parsed(comment)
            if about is not None and about["service"]:
                found.update(_variants(about["service"]))
    return found


def _endpoints(cluster: Cluster) -> dict[tuple[str, str], set[str]]:
    """The endpoints of each Service as chains' hashes may have them, by all its objects."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)

    def add(key: tuple[str, str], addresses: Iterable[str], ports: Iterable[int | None]) -> None:
        for port in ports:
            for text in addresses:
                family = family_of(text)
                if family is not None and port:
                    found[key].add(endpoint_text(canonical_address(text, family) or text, port))

    for key in cluster.services:
        for one in cluster.slices_of(*key):
            add(key, [text for endpoint in one.endpoints for text in endpoint.addresses], [port.port for port in one.ports])
        given = cluster.endpoints.get(key)
        for subset in given.subsets if given is not None else ():
            entries = (*subset.addresses, *subset.not_ready_addresses)
            add(key, [entry.ip for entry in entries], [port.port for port in subset.ports])
    return found

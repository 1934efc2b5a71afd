"""What looks like a fault and is none: the false-positive traps T-1 to T-36 of KPR 18, each by its number.

Small nodes, audited from end to end. Each case gives its errors and warnings: nearly always none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.small_node import (
    ARGUMENTS,
    BASE,
    KUBERNETES,
    LOCAL,
    NODES,
    REMOTE,
    Object,
    SmallNode,
    added,
    both,
    changed,
    endpoint,
    serious,
    service,
    slice_of,
    without,
)

from ruleaudit.findings import Severity
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

    from ruleaudit.findings import Report

Run: TypeAlias = Callable[[], "Report"]
Serious: TypeAlias = "Sequence[tuple[str, str | None]]"

NOT_FOR_THIS_MODE = {
    8: "empty chains of nftables",
    20: "virtual servers and real servers of IPVS",
    35: "variants of nft listings",
    36: "partial syncs of nftables",
}


def node_port(number: int) -> list[Object]:
    return [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": number}]


def trap(number: int, what: str, run: Run, expected: Serious = ()) -> ParameterSet:
    return pytest.param(run, expected, id=f"T-{number}-{what}")


PORT = service("shop/port", "10.96.0.21", type="NodePort", ports=node_port(30080))
GUARDED = service(
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5"],
    loadBalancerSourceRanges=["198.51.100.0/24"],
    ports=node_port(30082),
)
TWO_VIPS = service(
    "shop/balanced",
    "10.96.0.23",
    type="LoadBalancer",
    ingress=["203.0.113.5", "203.0.113.6"],
    loadBalancerSourceRanges=["198.51.100.0/24"],
    ports=node_port(30082),
)
LOCAL_ONLY = service("shop/local", "10.96.0.22", type="NodePort", externalTrafficPolicy="Local", ports=node_port(30081))
REMOTE_ONLY = service(
    "shop/local", "10.96.0.22", [REMOTE], type="NodePort", externalTrafficPolicy="Local", ports=node_port(30081)
)
BOTH_LOCAL = service(
    "shop/local",
    "10.96.0.22",
    type="NodePort",
    externalTrafficPolicy="Local",
    internalTrafficPolicy="Local",
    ports=node_port(30081),
)
HEALTH = service(
    "shop/two",
    "10.96.0.29",
    type="LoadBalancer",
    ingress=["203.0.113.9"],
    externalTrafficPolicy="Local",
    healthCheckNodePort=32000,
    ports=[
        {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30083},
        {"name": "https", "port": 443, "targetPort": 8443, "nodePort": 30084},
    ],
)
ORPHANS = added(
    "nat",
    "-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA",
    "-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.2.9:8080",
)
NO_DETECTION = ("--hostname-override=node-a", "--proxy-mode=iptables")
BY_INTERFACE = (*NO_DETECTION, "--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth")
MANY = [
    one
    for number in range(21)
    for one in service(f"many/s{number}", f"10.96.1.{number}", [endpoint(f"10.244.2.{n}") for n in range(10, 60)])
]


def shuffled(text: str) -> str:
    """The rules of the dispatching chains in another order."""
    lines = text.split("\n")
    for chain in ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"):
        for start in (0, lines.index("*nat")):
            end = lines.index("COMMIT", start)
            at = [n for n in range(start, end) if lines[n].startswith(f"-A {chain} ") and "must be the last rule" not in lines[n]]
            for n, line in zip(at, [lines[n] for n in reversed(at)], strict=True):
                lines[n] = line
    return "\n".join(lines)


def counted(text: str) -> str:
    """The dump of iptables-save -c after a while."""
    text = re.sub(r"\[0:0\]", "[81237:99123312]", text)
    return re.sub(r"^(-A KUBE-S\w+)", r"[123:45678] \1", text, flags=re.MULTILINE)


def foreign(raw: str = "", **rules: str) -> Callable[[str], str]:
    """The rules of other software, before kube-proxy's."""

    def edit(text: str) -> str:
        for table, lines in rules.items():
            text = added(table, *lines.strip().splitlines(), first=True)(text)
        if raw:
            chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in ("PREROUTING", "OUTPUT"))
            text = f"*raw\n{chains}{raw.strip()}\nCOMMIT\n{text}"
        return text

    return edit


DOCKER = foreign(
    nat="""
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:80
""",
    filter="""
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
""",
)
FLANNEL = both(
    changed(":FORWARD ACCEPT", ":FORWARD DROP"),
    foreign(
        nat="""
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.1.0/24 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
""",
        filter="""
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 192.0.2.10/32 -m comment --comment "the API server is on the node" -j ACCEPT
""",
    ),
)
CALICO = foreign(
    nat="""
-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
-A OUTPUT -m comment --comment "cali:tVnHkvAo15HuiPy0" -j cali-OUTPUT
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A cali-PREROUTING -m comment --comment "cali:r6XmIziWUJsdOK6Z" -j cali-fip-dnat
-A cali-OUTPUT -m comment --comment "cali:GBTAv2p5CwevEyJm" -j cali-fip-dnat
-A cali-POSTROUTING -m comment --comment "cali:Z-c7XtVd2Bq7s_hA" -j cali-nat-outgoing
-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE
-A cali-fip-dnat -m comment --comment "cali:none"
""",
    filter="""
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A OUTPUT -m comment --comment "cali:tVnHkvAo15HuiPy1" -j cali-OUTPUT
-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -m comment --comment "cali:A_sPAO0mcxbT9mOV" -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -m comment --comment "cali:jdEuaPBe14V2hutn" -j cali-to-wl-dispatch
-A cali-FORWARD -m comment --comment "cali:MH9kMp5aNICL-Olv" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -m comment --comment "cali:none"
-A cali-OUTPUT -m comment --comment "cali:none"
-A cali-from-hep-forward -m comment --comment "cali:none"
-A cali-from-wl-dispatch -m comment --comment "cali:zTj6P0TIgYvgz-md" -m comment --comment "Unknown interface" -m set --match-set x src -j DROP
-A cali-to-wl-dispatch -m comment --comment "cali:7KNphB1nNHw80nIO" -m comment --comment "Unknown interface" -m set --match-set x dst -j DROP
""",
)
NODE_LOCAL_DNS = foreign(
    raw="""
-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
-A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
-A OUTPUT -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
-A OUTPUT -s 10.96.0.10/32 -p udp -m udp --sport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
""",
    filter="""
-A INPUT -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: allow DNS traffic" -j ACCEPT
-A OUTPUT -s 10.96.0.10/32 -p udp -m udp --sport 53 -m comment --comment "NodeLocal DNS Cache: allow DNS traffic" -j ACCEPT
""",
)
DNS = service("kube-system/kube-dns", "10.96.0.10", ports=[{"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"}])
HOST_PORTS = foreign(
    nat="""
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"cbr0\\" id: \\"abc\\"" -m multiport --dports 8080 -j CNI-DN-0123456789abcdef01234
-A CNI-DN-0123456789abcdef01234 -s 10.244.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.7:80
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
"""
)
MASQUERADE_AGENT = added(
    "nat",
    "-A POSTROUTING -m addrtype ! --dst-type LOCAL -j IP-MASQ",
    '-A IP-MASQ -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN',
    '-A IP-MASQ -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE" -j MASQUERADE',
)


def other_backend() -> Report:
    """The legacy tables of a node whose kube-proxy writes nf_tables."""
    tables = "".join(f"*{name}\n:{chain} ACCEPT [0:0]\nCOMMIT\n" for name, chain in (("nat", "PREROUTING"), ("filter", "INPUT")))
    return SmallNode([*BASE, *PORT]).report(dumps={"iptables-save.txt": tables})


def duplicates(*conditions: dict[str, bool]) -> list[Object]:
    """One address in several slices, in different conditions."""
    more = [slice_of("shop/web", [endpoint("10.244.2.5", None, **one)], suffix=f"copy{n}") for n, one in enumerate(conditions)]
    return [*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20", [LOCAL, REMOTE]), *more]


def written_for(*objects: Object, minor: int = 36) -> SmallNode:
    return SmallNode([*BASE, *objects], minor)


def unnamed(number: int) -> list[Object]:
    return service(f"shop/unnamed{number}", f"10.96.0.4{number}", ports=[{"port": 80, "targetPort": 8080}])


def with_colon(text: str) -> str:
    """The hashes and comments of an unnamed port as releases up to 1.18 write them."""
    name = "shop/unnamed1"
    for old, new in [
        (chain_hash(name, "tcp"), chain_hash(name + ":", "tcp")),
        *(
            (endpoint_chain_hash(name, "tcp", one), endpoint_chain_hash(name + ":", "tcp", one))
            for one in ("10.244.1.5:8080", "10.244.2.5:8080")
        ),
    ]:
        assert old in text
        text = text.replace(old, new)
    return re.sub(rf'"{name}( |")', rf'"{name}:\1', text)


def five_digits(text: str) -> str:
    return text.replace("0.33333333349", "0.33332999982")


def two_moments(filter_from: str, nat_from: str) -> dict[str, str]:
    """`iptables-save -t filter` and `-t nat`, with a sync between them."""
    return {"filter.txt": filter_from.partition("COMMIT\n")[0] + "COMMIT\n", "nat.txt": "*nat" + nat_from.partition("*nat")[2]}


def hash_of(name: str) -> str:
    """The hash of a TCP service port."""
    return chain_hash(name, "tcp")


def half_served() -> list[Object]:
    """A Service with two ports of which its slice knows one."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81, "targetPort": 8081}]
    return [*service("shop/half", "10.96.0.38", None, ports=ports), slice_of("shop/half", [LOCAL], ports=ports[:1])]


UNREADY = endpoint("10.244.2.9", ready=False, serving=False)


def unready_chain(text: str) -> str:
    """1.22 keeps the chain of an endpoint that is not ready (KPR 2.5)."""
    chain = "KUBE-SEP-" + endpoint_chain_hash("shop/web:http", "tcp", "10.244.2.9:8080")
    return added(
        "nat",
        f'-A {chain} -s 10.244.2.9/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ',
        f'-A {chain} -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.2.9:8080',
    )(text)


def localhost_rule(text: str) -> str:
    """The rule for 127.0.0.0/8 that 1.31 and later count by (KPR 5.1)."""
    return re.sub(
        r'^-A KUBE-NODEPORTS -p tcp (-m comment --comment "[^"]*" -m tcp --dport \d+) (-j KUBE-EXT-\w+)$',
        r"-A KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp \1 -m nfacct --nfacct-name  localhost_nps_accepted_pkts \2\n\g<0>",
        text,
        flags=re.MULTILINE,
    )


TRAPS = [
    trap(1, "the-other-backend-is-one-finding", other_backend, [("RA005", None)]),
    trap(
        2,
        "another-order",
        lambda: written_for(*PORT, *LOCAL_ONLY, *GUARDED, *service("shop/none", "10.96.0.30", [])).report(shuffled),
    ),
    trap(
        3,
        "younger-objects-are-uncertain-and-few",
        lambda: SmallNode(BASE).report(
            objects=[*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20", [LOCAL, REMOTE, endpoint("10.244.2.6")])]
        ),
        [("RA106", "shop/web")],
    ),
    trap(
        4,
        "tables-of-two-moments-are-told-by-their-effect-only",
        lambda: SmallNode(BASE).report(
            dumps=two_moments(SmallNode(BASE).text(), SmallNode([*BASE, *PORT]).text()),
            objects=[*BASE, *PORT],
        ),
    ),
    trap(5, "a-large-cluster-has-no-comments-and-orphans", lambda: SmallNode([*BASE, *MANY]).report(ORPHANS)),
    trap(
        6,
        "an-empty-xlb-chain-of-a-service-without-endpoints",
        lambda: SmallNode(
            [
                *BASE,
                *service("shop/none", "10.96.0.30", [], type="NodePort", externalTrafficPolicy="Local", ports=node_port(30090)),
            ],
            20,
            empty_chains=["KUBE-XLB-" + hash_of("shop/none:http")],
        ).report(),
    ),
    trap(
        6,
        "leftover-xlb-chains-are-no-error",
        lambda: SmallNode(BASE, empty_chains=["KUBE-XLB-AAAAAAAAAAAAAAAA"]).report(),
        [("RA503", None)],
    ),
    trap(
        7,
        "an-external-chain-that-nothing-needs",
        lambda: SmallNode(
            BASE,
            36,
            [*ARGUMENTS, "--feature-gates=AllowServiceExternalIPs=false"],
            empty_chains=["KUBE-EXT-" + hash_of("shop/web:http")],
        ).report(),
    ),
    trap(
        9,
        "kubelets-chains-remain",
        lambda: SmallNode(BASE).report(added("nat", "-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000")),
    ),
    trap(10, "canaries-and-hints", lambda: SmallNode(BASE, empty_chains=["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"]).report()),
    trap(10, "no-canary", lambda: SmallNode(BASE).report(without(":KUBE-PROXY-CANARY"))),
    trap(
        11,
        "printed-probabilities",
        lambda: written_for(*service("shop/seven", "10.96.0.31", [endpoint(f"10.244.2.{n}") for n in range(10, 17)])).report(),
    ),
    trap(
        11,
        "five-digits",
        lambda: written_for(
            *service("shop/three", "10.96.0.31", [endpoint(f"10.244.2.{n}") for n in range(10, 13)]), minor=20
        ).report(five_digits),
    ),
    trap(
        12, "duplicates-the-ready-one-won", lambda: SmallNode(BASE).report(objects=duplicates({"ready": False, "serving": False}))
    ),
    trap(
        12,
        "duplicates-the-other-one-won",
        lambda: SmallNode([*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20", [LOCAL])]).report(
            objects=duplicates({"ready": False, "serving": False})
        ),
    ),
    trap(
        13,
        "an-external-ip-that-is-the-nodes",
        lambda: written_for(*service("shop/external", "10.96.0.26", externalIPs=["192.0.2.10"])).report(),
    ),
    trap(
        13,
        "one-load-balancer-ip-for-two-services-on-two-ports",
        lambda: written_for(
            *service("shop/one", "10.96.0.32", type="LoadBalancer", ingress=["203.0.113.7"], ports=node_port(30091)),
            *service(
                "shop/other",
                "10.96.0.33",
                type="LoadBalancer",
                ingress=["203.0.113.7"],
                ports=[{"name": "http", "port": 81, "targetPort": 8080, "nodePort": 30092}],
            ),
        ).report(),
    ),
    trap(
        13,
        "on-one-port-it-is-the-objects-fault",
        lambda: written_for(
            *service("shop/one", "10.96.0.32", type="LoadBalancer", ingress=["203.0.113.7"], ports=node_port(30091)),
            *service(
                "shop/other",
                "10.96.0.33",
                [endpoint("10.244.2.9")],
                type="LoadBalancer",
                ingress=["203.0.113.7"],
                ports=node_port(30092),
            ),
        ).report(),
        [("RA703", "shop/one")],
    ),
    trap(
        14,
        "chains-of-unready-endpoints",
        lambda: SmallNode(BASE, 22).report(unready_chain, objects=[*BASE, slice_of("shop/web", [UNREADY], suffix="2")]),
    ),
    trap(
        14,
        "an-empty-chain-where-nothing-is-ready",
        lambda: SmallNode([*BASE, *service("shop/late", "10.96.0.39", [REMOTE])], 22).report(
            without('-A KUBE-SVC-.*shop/late:http" -j KUBE-SEP'),
            objects=[*BASE, *service("shop/late", "10.96.0.39", [endpoint("10.244.2.5", ready=False, serving=False)])],
        ),
    ),
    trap(15, "no-local-endpoint", lambda: written_for(*REMOTE_ONLY).report()),
    trap(16, "remote-endpoints-although-both-policies-are-local", lambda: written_for(*BOTH_LOCAL).report()),
    trap(17, "one-health-check-rule-for-each-port", lambda: written_for(*HEALTH).report()),
    trap(18, "repeated-firewall-rules-and-conntrack-rules", lambda: written_for(*TWO_VIPS, minor=20).report()),
    trap(19, "no-invalid-drop", lambda: SmallNode(BASE).report(without("--ctstate INVALID"))),
    trap(19, "no-nfacct", lambda: SmallNode(BASE).report(changed("-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts ", ""))),
    trap(19, "the-counted-localhost-rule", lambda: written_for(*PORT).report(localhost_rule)),
    trap(19, "no-random-fully", lambda: SmallNode(BASE).report(changed(" --random-fully", "", 0))),
    trap(21, "no-local-detection", lambda: SmallNode(BASE, 36, NO_DETECTION).report()),
    trap(21, "no-local-detection-inferred", lambda: SmallNode(BASE, 36, NO_DETECTION).report(told=False)),
    trap(21, "by-interface", lambda: SmallNode([*BASE, *LOCAL_ONLY], 36, BY_INTERFACE).report()),
    trap(
        22,
        "node-ports-on-some-addresses",
        lambda: SmallNode([*BASE, *PORT], 36, [*ARGUMENTS, "--nodeport-addresses=192.0.2.0/24"]).report(),
    ),
    trap(
        22,
        "node-ports-on-some-addresses-inferred",
        lambda: SmallNode([*BASE, *PORT], 36, [*ARGUMENTS, "--nodeport-addresses=192.0.2.0/24"]).report(told=False),
    ),
    trap(23, "docker", lambda: written_for(*PORT).report(DOCKER)),
    trap(23, "flannel", lambda: written_for(*PORT).report(FLANNEL)),
    trap(23, "calico", lambda: written_for(*PORT).report(CALICO)),
    trap(23, "host-ports", lambda: written_for(*PORT).report(HOST_PORTS)),
    trap(23, "ip-masq-agent", lambda: written_for(*PORT).report(MASQUERADE_AGENT)),
    trap(24, "nodelocal-dns", lambda: written_for(*DNS).report(NODE_LOCAL_DNS)),
    trap(
        25,
        "kubelets-masquerade-rules-beside-kube-proxys",
        lambda: SmallNode(BASE).report(
            both(
                added(
                    "nat",
                    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -m mark --mark 0x4000/0x4000 -j MASQUERADE',
                ),
                changed("^(-A POSTROUTING .*KUBE-POSTROUTING)$", r"\1" + "\n-A POSTROUTING -j KUBE-POSTROUTING"),
            )
        ),
    ),
    trap(26, "an-older-kube-proxy-than-the-cluster", lambda: written_for(*PORT, *LOCAL_ONLY, minor=20).report(told=False)),
    trap(26, "a-newer-kube-proxy-than-the-cluster", lambda: written_for(*PORT, *LOCAL_ONLY, minor=36).report(told=False)),
    trap(
        27,
        "a-vendors-local-dns-is-no-other-fault-than-its-policy",
        lambda: SmallNode([*BASE, *service("openshift-dns/dns-default", "10.96.0.10", [LOCAL])]).report(
            objects=[*BASE, *service("openshift-dns/dns-default", "10.96.0.10", [LOCAL, REMOTE])]
        ),
        [("RA305", "openshift-dns/dns-default")],
    ),
    trap(
        28,
        "services-that-kube-proxy-passes-over",
        lambda: SmallNode(BASE).report(
            objects=[
                *BASE,
                *service("shop/proxied", "10.96.0.34", labels={"service.kubernetes.io/service-proxy-name": ""}),
                *service("shop/headless", "None"),
                *service("shop/name", "10.96.0.35", type="ExternalName", externalName="example.org"),
                *service("shop/six", "fd00:10:96::6", [endpoint("fd00:10:244:1::5", "node-a")], family=6),
            ]
        ),
    ),
    trap(
        29,
        "endpoints-outside-of-the-cluster",
        lambda: written_for(
            *service("shop/legacy", "10.96.0.36", [endpoint("172.30.0.9", node=""), endpoint("172.30.0.10", node="")])
        ).report(),
    ),
    trap(
        30,
        "slices-that-kube-proxy-passes-over",
        lambda: SmallNode(BASE).report(
            objects=[
                *BASE,
                {**slice_of("shop/web", [endpoint("10.244.2.70")], suffix="2"), "ports": []},
                {**slice_of("shop/web", [endpoint("10.244.2.71")], suffix="3"), "ports": None},
                {
                    **slice_of("shop/web", [endpoint("10.244.2.72")], suffix="4"),
                    "ports": [{"name": "http", "protocol": "TCP", "port": None}],
                },
                slice_of("shop/web", [{**endpoint("10.244.2.73"), "addresses": ["example.org"]}], suffix="5", addressType="FQDN"),
                slice_of("shop/web", [endpoint("10.244.2.74")], suffix="6", ports=[{"name": "admin", "port": 81}]),
            ]
        ),
    ),
    trap(30, "a-port-without-any-slice-port", lambda: SmallNode([*BASE, *half_served()]).report()),
    trap(31, "counters", lambda: written_for(*PORT).report(counted)),
    trap(
        32,
        "sctp",
        lambda: written_for(
            *service("shop/signal", "10.96.0.37", ports=[{"name": "s", "port": 9, "targetPort": 9, "protocol": "SCTP"}])
        ).report(),
    ),
    trap(
        32,
        "ipv6-written-at-length",
        lambda: SmallNode(
            [*NODES, *KUBERNETES, *service("shop/six", "fd00:10:96::6", [endpoint("fd00:10:244:1::5", "node-a")], family=6)],
            families=(4, 6),
        ).report(
            objects=[
                *NODES,
                *KUBERNETES,
                *service("shop/six", "fd00:10:96:0:0:0:0:6", [endpoint("fd00:10:244:1::5", "node-a")], family=6),
            ]
        ),
    ),
    trap(33, "unnamed-ports", lambda: written_for(*unnamed(1)).report()),
    trap(33, "unnamed-ports-with-a-colon", lambda: written_for(*unnamed(1), minor=20).report(with_colon, told=False)),
    trap(
        34,
        "comments-with-escapes",
        lambda: SmallNode(BASE).report(
            foreign(filter='-A FORWARD -p udp -m comment --comment "say \\"no\\" to -j DROP \\\\" -j DROP')
        ),
    ),
]


@pytest.mark.parametrize(("run", "expected"), TRAPS)
def test_a_trap_is_not_fallen_into(run: Run, expected: Serious) -> None:
    report = run()
    assert serious(report) == list(expected), [one.message for one in report.findings if one.severity is not Severity.INFO]


def test_every_trap_is_tried_or_not_for_this_mode() -> None:
    tried = {int(str(one.id).split("-")[1]) for one in TRAPS}
    assert tried | set(NOT_FOR_THIS_MODE) == set(range(1, 37))
    assert not tried & set(NOT_FOR_THIS_MODE)

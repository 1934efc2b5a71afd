"""The catalogue of finding codes: what each means, why it matters, what to do, and what looks like it but is right.

A code is stable for ever: never renumbered, never reused. `ruleaudit explain` and `ruleaudit codes` print this catalogue, and
docs/codes.md is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ruleaudit.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CATALOGUE", "GROUPS", "RESERVED", "Entry"]

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "RA0": "input and coverage",
        "RA1": "missing: the objects ask for it, the rules lack it",
        "RA2": "stale: the rules have it, the objects do not",
        "RA3": "wrong: both have it, differently",
        "RA4": "masquerade",
        "RA5": "modes and leftovers",
        "RA6": "other software's rules",
        "RA7": "the objects alone",
        "RA8": "security",
    }
)
"""The first three characters of a code -> what its group is about."""

RESERVED: Mapping[str, str] = MappingProxyType(
    {"RA9": "upgrades: blockers, changed behaviour and clean-ups for a target version and mode; no command gives them yet"}
)
"""Groups whose codes no release gives yet."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalogue.

    `severity` is the usual one; `varies` says when another is given ("" when never). `meaning` is one paragraph; `example` a message that it
    gave; `why` says what becomes of traffic; `action` how to look and what to repair; `exceptions` what looks like it and is not reported.
    """

    code: str
    name: str
    severity: Severity
    meaning: str
    example: str
    why: str
    action: str
    exceptions: str = ""
    varies: str = ""

    @property
    def group(self) -> str:
        """The first three characters of the code."""
        return self.code[:3]


RESTART = (
    "Look at kube-proxy's log on the node for failing syncs; when it runs without errors, restart it: a start "
    "writes all rules anew."
)
LATER = "A change that is younger than the dump, or that kube-proxy cannot have seen yet, is not held against it (RA006)."

ENTRIES = (
    Entry(
        "RA001",
        "unparsable-line",
        ERROR,
        meaning="A line of a dump that its format does not allow. The rest of the dump is analysed all the same.",
        example="iptables-save.txt:67: the format does not allow '--no-such-option 1 -j ACCEPT' at column 18",
        why=("What the line says about traffic is unknown; a dump that its own tool would not read back is damaged or edited."),
        action=(
            "Look at the line. Take the dump again with the tool's own save command, standard error kept apart "
            "(`iptables-save > FILE`); compare the tool's version with the kernel's when the line comes back."
        ),
        exceptions="Options, matches and targets that the format allows but nobody models are RA003 at most, never RA001.",
    ),
    Entry(
        "RA002",
        "truncated-dump",
        ERROR,
        meaning=(
            "A table without its COMMIT, a brace that is never closed, or a header without a body: the dump ends too early. Or rules "
            "of a chain that no line declares, or declarations behind rules: the dump went through grep, sed, tail or sort."
        ),
        example="iptables-save.txt:66: table nat (line 31) has no COMMIT: the dump was cut here; take it again",
        why=(
            "What was cut off is unseen. Missing rules are not reported from it, because nobody knows whether they are missing."
        ),
        action=(
            "Take the dump again and check the exit status of the command that takes it, and the free space where it is written."
        ),
    ),
    Entry(
        "RA003",
        "unmodelled-rule",
        WARNING,
        varies="info when the rule is off every service path",
        meaning=(
            "A match or a target that ruleaudit does not model stands where service traffic passes, so whether the rule "
            "applies is unknown. Both outcomes are followed, and every finding that rests on it is marked possible."
        ),
        example="whether a rule of filter FORWARD applies cannot be decided, and traffic of shop/web:http hangs on it",
        why="The rule may refuse, redirect or accept service traffic; neither can be said from the dump.",
        action="Read the rule that is named and judge it by hand; then see whether the findings marked possible hold.",
        exceptions="Rules that no service traffic meets are not reported as warnings.",
    ),
    Entry(
        "RA004",
        "not-checked",
        INFO,
        meaning=(
            "Something could not be checked, with the input that would make it checkable: a table, a family, the objects, "
            "the node's name, kube-proxy's settings. What was not checked is never reported as missing."
        ),
        example=(
            "the listing of virtual servers does not print weights and schedulers and session affinity: they are not checked"
        ),
        why="Silence about it is not health.",
        action="Give the input that the message names, or leave it when that part does not matter to you.",
    ),
    Entry(
        "RA005",
        "no-kube-proxy-rules",
        ERROR,
        varies="info when another service proxy is recognised",
        meaning="Services exist, but the dump holds no rules of kube-proxy at all, or none of a family that it is to serve.",
        example="3 Services exist, but the nat table holds no rules of kube-proxy",
        why=(
            "No Service works on this node, unless another service proxy does the work, or the rules are in another backend "
            "than the one that was dumped."
        ),
        action=(
            "Is kube-proxy running on the node? Dump both backends (`iptables-legacy-save` and `iptables-nft-save`), or "
            "`nft list ruleset` in nftables mode. Then look at kube-proxy's log."
        ),
        exceptions=(
            "A family without any kube-proxy rules is not served and no fault where the Node has no address of it, or the settings leave it "
            "out. Tables that were not read as a whole say nothing."
        ),
    ),
    Entry(
        "RA006",
        "time-skew",
        WARNING,
        varies="info when the times are not certain: the header of iptables-save is local time without a zone",
        meaning="The dump and the objects were taken too far apart for their differences to mean anything.",
        example=(
            "the objects hold a change of 2026-11-25T05:00:00Z, the dump was taken at 2026-11-23 05:00:00 local time: "
            "differences may only be time passing"
        ),
        why="What looks missing or stale may only have changed in between.",
        action="Take both again within a few seconds: the objects first, then the dump.",
    ),
    Entry(
        "RA007",
        "other-node",
        WARNING,
        meaning="The rules fit another node of the cluster, not the one that they are audited for.",
        example=(
            "the rules of IPv4 look like those of node-a, not of node-c: 19 service ports that depend on the node "
            "differ for node-c, 3 for node-a"
        ),
        why="Local endpoints and topology hints differ from node to node: held against the wrong one, right rules look wrong.",
        action="Audit the dump with --node and the name of the node on which it was taken, or take it again.",
        exceptions="Only said where at least three service ports depend on the node, and nearly all of them fit the other one; in IPVS mode"
        " also where node ports or interfaces have the other node's addresses and none of this one's, or KUBE-LOOP-BACK only the other's endpoints.",
    ),
    Entry(
        "RA008",
        "other-settings",
        WARNING,
        meaning="The rules were written under other settings of kube-proxy than those that were given.",
        example=(
            "the rules of IPv4 were written for masquerade mark 0x4000; the settings that were given say masquerade mark 0x8000"
        ),
        why=(
            "Either the settings belong to another kube-proxy, or this one has not been restarted since they were changed; what follows from "
            "them then differs, too."
        ),
        action=(
            "Compare the settings with those of the running kube-proxy (its log names them at the start, /configz gives them). When these are "
            "right, restart kube-proxy: it reads them at its start only."
        ),
        exceptions="What the rules do not show, or what was not given, is not compared.",
    ),
    Entry(
        "RA011",
        "incomplete-capture",
        WARNING,
        meaning=(
            "A captured node lacks a dump that a node of its mode has, the objects of its cluster, or its description (meta.json). "
            "`ruleaudit lint` says so."
        ),
        example="no table filter of IPv4 is there, as of a node in iptables mode",
        why="A fixture that lacks something tests less than it seems to: what is not there is not checked.",
        action="Capture the node again, with every dump of its mode, Services, EndpointSlices, Nodes and Pods, and a meta.json.",
        exceptions="A dump of IPv6 is asked for only where the node or a Service has an IPv6 address.",
    ),
    Entry(
        "RA012",
        "wrong-description",
        ERROR,
        varies="warning for times",
        meaning=(
            "The description of a captured node (meta.json) contradicts what was captured: its name, addresses, kube-proxy's mode, release or "
            "settings, the tool's backend, or the time. `ruleaudit lint` says so."
        ),
        example="meta.json: captured_at '2026-11-23T12:00:00' is no time with a zone, such as 2026-01-31T12:00:00+00:00",
        why="The fixture is judged as what it is not: another release's rules, another node's endpoints.",
        action="Correct the description, or capture the node again, everything at once.",
        exceptions=(
            "What only one of both says; the dump's time within the hours by which zones differ, as iptables-save writes local time without a zone."
        ),
    ),
    Entry(
        "RA013",
        "unmet-expectation",
        ERROR,
        meaning=(
            "What a fixture's expected.json says must be found was not found, or what must not be found was. `ruleaudit lint` says so."
        ),
        example="RA101 of shop/web with port http (missing-service) must be found, and is not",
        why="The fixture, the objects beside it, or ruleaudit has changed since the expectation was written.",
        action="Look which of them is right; `ruleaudit lint --write-expected` writes the expectation anew.",
    ),
    Entry(
        "RA101",
        "missing-service",
        ERROR,
        meaning=(
            "No frontend of a service port is programmed: neither its cluster IP nor its node port, external IPs or "
            "load-balancer IPs."
        ),
        example=(
            "shop/front:http is not programmed: none of 10.96.1.12:80/TCP, 203.0.113.10:80/TCP, node port 30100/TCP is translated"
        ),
        why=("Connections from this node to the Service, on whatever address, are not translated: they time out or are refused."),
        action=RESTART,
        exceptions="Headless and ExternalName Services, Services labelled service.kubernetes.io/service-proxy-name and Services "
        "without an address of the family have no rules by design. A service port without usable endpoints is asked for "
        "its reject (RA107). " + LATER,
    ),
    Entry(
        "RA102",
        "missing-cluster-ip",
        ERROR,
        meaning="The cluster IP of a service port is not programmed, though other frontends of it are.",
        example="shop/web:http: cluster IP 10.96.1.14:80/TCP is not programmed",
        why="Pods and the node itself cannot reach the Service at its cluster IP; DNS names lead there.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA103",
        "missing-node-port",
        ERROR,
        meaning="The node port of a service port is not programmed.",
        example="shop/port:http: node port 30080/TCP is not programmed for the node itself at 127.0.0.1",
        why="Clients and load balancers that use the node port find it closed on this node.",
        action="Look whether KUBE-NODEPORTS is reached at all (RA108) and whether --nodeport-addresses excludes the node. "
        + RESTART,
        exceptions="Node ports on addresses that --nodeport-addresses leaves out are not asked for. " + LATER,
    ),
    Entry(
        "RA104",
        "missing-external-ip",
        ERROR,
        meaning="One of a service port's external IPs is not programmed.",
        example="shop/external:http: external IP 203.0.113.6:80/TCP is not programmed for outside clients",
        why="Traffic routed to the node for that address is not translated.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA105",
        "missing-load-balancer-ip",
        ERROR,
        meaning="One of a service port's load-balancer ingress IPs is not programmed.",
        example="shop/front:http: load-balancer IP 203.0.113.14:80/TCP is not programmed",
        why="Traffic that the load balancer sends to the node with that address, and pods that use it, are not served.",
        action=RESTART,
        exceptions="Ingress IPs with ipMode Proxy have no rules by design (1.30 and newer). " + LATER,
    ),
    Entry(
        "RA106",
        "missing-endpoint",
        ERROR,
        meaning="A usable endpoint of a service port receives no share of its traffic.",
        example="shop/web:http sends nothing to 10.244.2.5:8080, which is ready; 50% of new connections pass untranslated",
        why="The remaining endpoints carry its load; when it is the only one, the Service does not work from this node.",
        action="Compare with another node: when that one has the endpoint, this node's kube-proxy is behind. " + RESTART,
        exceptions="Endpoints that traffic policies or topology hints keep from this node are not asked for. " + LATER,
    ),
    Entry(
        "RA107",
        "missing-reject",
        ERROR,
        meaning="A frontend without usable endpoints is neither rejected nor dropped, as kube-proxy would do it.",
        example=(
            "shop/front:http has no usable endpoint, but traffic to 203.0.113.10:80/TCP is forwarded instead of being rejected"
        ),
        why="Clients wait for a time-out instead of an error, or the packet leaves the node by the default route.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA108",
        "missing-hook",
        ERROR,
        varies="warning when no traffic changes, as with a lost KUBE-FORWARD jump under policy ACCEPT",
        meaning=(
            "A top-level chain of kube-proxy is not reached from its built-in chain or hook, or KUBE-NODEPORTS not from "
            "KUBE-SERVICES."
        ),
        example=(
            "nat PREROUTING -> KUBE-SERVICES is missing in IPv4: 4 frontends of 5 behave otherwise for pods and outside clients"
        ),
        why=(
            "All the rules behind it are dead: Services fail from pods (PREROUTING), from the node (OUTPUT) or on node "
            "ports, all at once."
        ),
        action=(
            "Somebody flushed or rewrote the built-in chain: look for a firewall's reload (firewalld, ufw, a script with "
            "iptables-restore). kube-proxy restores its jumps at its next full sync; a restart makes that now."
        ),
        exceptions="One finding stands for all the services behind the hook.",
    ),
    Entry(
        "RA109",
        "missing-health-check-port",
        WARNING,
        meaning="The rule that accepts traffic to a Service's healthCheckNodePort is absent.",
        example="shop/balanced:http: no rule accepts its health check node port 32000",
        why="A load balancer may take this node for unhealthy, as soon as another rule or policy drops the probe.",
        action=RESTART,
    ),
    Entry(
        "RA110",
        "missing-set-entry",
        ERROR,
        meaning="An ipset or nft set lacks an entry that a live frontend or endpoint needs.",
        example="shop/web:http: set KUBE-LOOP-BACK lacks 10.244.1.6,tcp:8080,10.244.1.6; nothing is sent to this endpoint now",
        why="The rules that match the set pass that frontend or endpoint by: no masquerade, no accept, no source range.",
        action="Look at the set with `ipset list NAME` or `nft list set`. " + RESTART,
        exceptions="It leads what its absence does to traffic. Where that is wrong with the entry, too, this one follows from what is said "
        "of it; entries for hairpin traffic are told by RA403.",
    ),
    Entry(
        "RA111",
        "missing-address",
        ERROR,
        meaning="The device kube-ipvs0 lacks a virtual IP of a Service.",
        example="shop/web:http: kube-ipvs0 does not hold 10.96.0.20, so packets from pods and from outside never come to IPVS",
        why="Packets for that address are routed on instead of being delivered to IPVS: the Service does not answer there.",
        action="Compare `ip addr show kube-ipvs0` with the Service. " + RESTART,
    ),
    Entry(
        "RA201",
        "stale-service",
        ERROR,
        meaning="The rules hold frontends of a service port that does not exist, or no longer.",
        example=("shop/dual:http: rules still forward 10.96.1.58:80/TCP, node port 30152/TCP, but there is no such Service"),
        why=(
            "Connections to the old address go to pods that may belong to somebody else by now; a new Service that gets the "
            "address or node port collides."
        ),
        action="Make sure that the objects are of this cluster and complete. " + RESTART,
        exceptions=(
            "Chains that nothing reaches are no traffic fault (RA209). IPVS dumps hold no names: there the finding names "
            "the address only."
        ),
    ),
    Entry(
        "RA202",
        "stale-cluster-ip",
        ERROR,
        meaning="A live service port is programmed on a cluster IP or port that it does not have.",
        example="shop/web:http: rules still forward cluster IP 10.96.0.20:80/TCP, which the Service does not have",
        why="Clients of the old address still arrive, and whoever gets that address next is hijacked.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA203",
        "stale-node-port",
        ERROR,
        meaning="A live service port is programmed on a node port that it does not have.",
        example="shop/port:http: rules still forward node port 30080/TCP, which the Service does not have",
        why="The node forwards a port that should be closed, and collides with the next Service that gets it.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA204",
        "stale-external-ip",
        ERROR,
        meaning="A live service port is programmed on an external IP that it does not have.",
        example="shop/external:http: rules still forward external IP 203.0.113.6:80/TCP, which the Service does not have",
        why="The node captures traffic for an address that is none of the Service's any more.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA205",
        "stale-load-balancer-ip",
        ERROR,
        meaning="A live service port is programmed on a load-balancer ingress IP that it does not have.",
        example="shop/balanced:http: rules still forward load-balancer IP 203.0.113.5:80/TCP, which the Service does not have",
        why="Pods and nodes that use the address are led to this Service, whoever owns it now.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA206",
        "stale-endpoint",
        ERROR,
        meaning="Traffic of a service port is sent to an address and port that is no endpoint of it.",
        example="shop/multi:metrics sends 33.3% of new connections to 10.244.1.14:9090, no endpoint of any Service",
        why="That share of the connections fails, or reaches a pod of somebody else that got the address.",
        action="Look who has the address now (`kubectl get pods -A -o wide`). When the rule was changed by hand, a restart of "
        "kube-proxy writes it anew; when many are stale, kube-proxy is behind. " + RESTART,
        exceptions="IPVS real servers of weight 0 are being drained and get no new connections. " + LATER,
    ),
    Entry(
        "RA207",
        "not-ready-endpoint",
        ERROR,
        meaning=(
            "Traffic is sent to an endpoint that exists but must not be used: it is not ready, or it is terminating while "
            "others are ready."
        ),
        example="kube-system/kube-dns:dns sends 50% of new connections to [2001:db8:42:30::1007]:53, which is terminating",
        why="That share of the connections meets a pod that does not answer, or that is about to go.",
        action=RESTART,
        exceptions="Without any ready endpoint, those that are terminating but still serving are right (1.26 and newer; 1.22 to "
        "1.25 with a feature gate). With publishNotReadyAddresses endpoints count as ready. " + LATER,
    ),
    Entry(
        "RA208",
        "stale-reject",
        ERROR,
        varies="warning when the refusing rule is there but never reached",
        meaning="A frontend is refused or dropped although there is a usable endpoint for it.",
        example=("10.96.0.20 80/TCP (shop/web:http) is refused as having no endpoints and yet sent to KUBE-SVC-67NZLRHBNDSAWJRO"),
        why="Clients get errors for a Service that works elsewhere.",
        action="After a change of mode, an old reject rule in the filter table may have stayed: `kube-proxy --cleanup`, then "
        "start it again. " + RESTART,
        exceptions="With a traffic policy Local and no endpoint on this node, dropping is right.",
    ),
    Entry(
        "RA209",
        "orphan-chain",
        INFO,
        meaning="A chain of kube-proxy to which nothing jumps.",
        example="26 service chains are not referenced by any rule, first KUBE-SVC-AAAAAAAAAAAAAAAA",
        why="None for traffic: no packet gets there.",
        action=(
            "Nothing, as a rule: kube-proxy deletes such chains at a later sync. RA503 and RA504 say when they are left for good."
        ),
        exceptions="The canary and hint chains, which are empty by design. Above 1,000 endpoints chains wait for their deletion.",
    ),
    Entry(
        "RA210",
        "stale-set-entry",
        WARNING,
        meaning="An entry of an ipset or nft set, or an address of kube-ipvs0, belongs to no Service.",
        example=("set KUBE-LOAD-BALANCER-SOURCE-CIDR holds 1 entry that no Service asks for: 203.0.113.5,tcp:80,198.51.100.0/24"),
        why="An address on kube-ipvs0 makes the node answer for it, so that its real owner cannot be reached from here.",
        action="Look whether the address is in use elsewhere. " + RESTART,
        exceptions="It leads what its absence does to traffic. Where that is wrong with the entry, too, this one follows from what is said "
        "of it; entries for hairpin traffic are told by RA403.",
    ),
    Entry(
        "RA301",
        "wrong-service",
        ERROR,
        meaning="A frontend leads to the endpoints of another service port.",
        example="shop/web:http at 10.96.0.20:80/TCP leads into KUBE-SVC-B62DEERMBJOTSXEQ, the chain of shop/elsewhere:http",
        why=(
            "Clients of one Service reach another: wrong answers instead of errors, and a breach where the two are not to "
            "be mixed."
        ),
        action="Look at the rule that is named: kube-proxy does not write such a jump, so it was changed by hand, or the "
        "address was taken over by another Service. " + RESTART,
        exceptions="Services that share their endpoints are not told apart by them.",
    ),
    Entry(
        "RA302",
        "wrong-target-port",
        ERROR,
        meaning="The right endpoint addresses receive the traffic on a port that they do not serve.",
        example="shop/web:http sends 50% of new connections to 10.244.1.5:8081: this endpoint serves port 8080, not 8081",
        why="Connections are refused by the pods, or answered by another process of theirs.",
        action="Compare targetPort, the container's ports and the slice's ports. " + RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA303",
        "uneven-shares",
        ERROR,
        meaning=(
            "The endpoints of a service port do not get equal shares of its new connections (in IPVS: their weights "
            "differ), or one can never be reached."
        ),
        example=(
            "KUBE-SVC-67NZLRHBNDSAWJRO (shop/web:http) does not share connections evenly: 10.244.1.5:8080 50.0%, 50.0% to nobody"
        ),
        why="Some pods are overloaded while others idle.",
        action="The finding gives the share of each endpoint, with the probabilities multiplied out. A rule is missing, "
        "repeated or out of order. " + RESTART,
        exceptions="1/3, 1/2, 1 in consecutive rules are equal shares; so are the rounded numbers that the kernel prints.",
    ),
    Entry(
        "RA304",
        "wrong-session-affinity",
        ERROR,
        meaning="Session affinity is absent, unasked for, incomplete, or has another timeout than the Service asks for.",
        example="shop/sticky:http: session affinity is ClientIP for 60 s, the Service asks for ClientIP affinity for 600 s",
        why="Clients lose their session, or stick to one pod that they should not stick to.",
        action=RESTART,
        exceptions=LATER,
    ),
    Entry(
        "RA305",
        "wrong-traffic-policy",
        ERROR,
        meaning=(
            "The rules follow another internal or external traffic policy, other topology hints or another traffic "
            "distribution than the objects ask for."
        ),
        example="openshift-dns/dns-default:http is programmed for internalTrafficPolicy Local, the Service asks for Cluster",
        why=(
            "Source addresses are lost, nodes without endpoints swallow traffic, or traffic crosses zones that it should "
            "not cross."
        ),
        action="The finding says which policy the rules follow. " + RESTART,
        exceptions=(
            "Releases before 1.21 know neither hints nor internalTrafficPolicy; hints count only when every ready endpoint "
            "has them and one fits this node."
        ),
    ),
    Entry(
        "RA306",
        "wrong-source-ranges",
        ERROR,
        meaning="loadBalancerSourceRanges are not enforced as the Service asks.",
        example=(
            "shop/balanced:http lets in clients in 198.51.0.0/16 at 203.0.113.5:80/TCP, against its loadBalancerSourceRanges"
        ),
        why="Clients that must be kept out get in, or clients that are allowed are dropped.",
        action="Compare spec.loadBalancerSourceRanges with the rules that are named. " + RESTART,
        exceptions=(
            "They hold for load-balancer IPs only, not for node ports or external IPs. In iptables mode a Service without "
            "endpoints rejects everybody. From 1.34 on a range of length zero (0.0.0.0/0) stands for no ranges at all."
        ),
    ),
    Entry(
        "RA307",
        "duplicate-rule",
        INFO,
        meaning="The same rule stands twice in one chain.",
        example="nat KUBE-SERVICES holds the same rule twice",
        why=(
            "None in most cases: the first decides. Hundreds of them slow every packet, and show a program that adds "
            "without looking."
        ),
        action="Find who adds it: its comment and its neighbours often tell.",
        exceptions="Health-check accepts, once for each port of a Service; the repeated groups that releases up to 1.24 write.",
    ),
    Entry(
        "RA308",
        "rule-order",
        WARNING,
        meaning="A rule stands where an earlier or later rule changes, or may change, its effect.",
        example="the jump to KUBE-NODEPORTS is not the last rule of nat KUBE-SERVICES: 1 rule stands behind it",
        why="It works now or seems to, and fails for some clients or after the next change.",
        action="Look at both rules that are named. " + RESTART,
        exceptions="The order of services in KUBE-SERVICES and KUBE-NODEPORTS is random by design.",
    ),
    Entry(
        "RA309",
        "broken-chain",
        ERROR,
        meaning="A chain on the path of a service is empty, undeclared, or part of a loop.",
        example="nat KUBE-SERVICES dispatches to no service in IPv4: 69 service ports with endpoints cannot be reached",
        why="Packets fall through without being translated; a dump with an undeclared chain cannot be restored.",
        action=(
            "When the dump was cut or edited, take it again. An update lost by kube-proxy 1.27 to 1.29 looks like this: "
            "restart it."
        ),
        exceptions="Empty chains that nothing reaches; a Local chain that is absent because the node has no endpoint.",
    ),
    Entry(
        "RA310",
        "altered-rule",
        WARNING,
        varies="error in IPVS mode when traffic is wrong because of it",
        meaning=(
            "A rule in one of kube-proxy's own chains is of a form that no kube-proxy writes there, or one that it always writes "
            "is gone, or a virtual server is not as kube-proxy makes it, and no other finding tells the effect. In IPVS mode, where "
            "one rule serves all services, it leads the findings of the services that it makes wrong."
        ),
        example="a rule of nat KUBE-MARK-MASQ is not as kube-proxy writes it: -A KUBE-MARK-MASQ -j MARK --set-xmark 0x1/0x1",
        why=(
            "Somebody or something edits the rules. The clients that were tried are served, others may not be; kube-proxy leaves "
            "such a rule alone until it writes that chain again."
        ),
        action="Compare the rule with its neighbours, and find out who changed it. " + RESTART,
        exceptions="The forms of all releases are known, and matches that only count (nfacct, comment) are passed over.",
    ),
    Entry(
        "RA401",
        "missing-masquerade",
        ERROR,
        meaning="Traffic to a frontend that kube-proxy masquerades is not marked for it.",
        example=(
            "shop/web:http does not masquerade connections from outside clients, so replies do not come back through this node"
        ),
        why="The reply takes another way than the request and is dropped: connections from outside or from the node hang.",
        action="Look for the KUBE-MARK-MASQ jump of the chains that are named, and at --cluster-cidr and --detect-local-mode. "
        + RESTART,
        exceptions="Without a configured way to tell local traffic, kube-proxy writes no such rule for cluster IPs.",
    ),
    Entry(
        "RA402",
        "broken-masquerade",
        ERROR,
        meaning=(
            "Packets are marked for masquerade but not masqueraded: the mark, its mask, or the path to KUBE-POSTROUTING is wrong."
        ),
        example=(
            "KUBE-MARK-MASQ is empty: service traffic that needs a new source address keeps its own in IPv4 (4 service ports)"
        ),
        why="Everything that needs masquerade fails at once: node ports, external addresses, hairpin.",
        action="Compare the mark of KUBE-MARK-MASQ with that of KUBE-POSTROUTING; see that POSTROUTING jumps there before "
        "other rules accept. kubelet and kube-proxy must use the same bit. " + RESTART,
    ),
    Entry(
        "RA403",
        "missing-hairpin",
        ERROR,
        meaning="A pod that reaches itself through its Service is not masqueraded.",
        example="shop/web:http: 10.244.1.5:8080 is not masqueraded when it reaches itself through the Service",
        why="Such connections hang, one time in as many as there are endpoints.",
        action="Look for the rule of the endpoint's own source address (in IPVS: the set KUBE-LOOP-BACK). " + RESTART,
        exceptions="The bridge's or CNI's own hairpin mode is in no dump.",
    ),
    Entry(
        "RA404",
        "wrong-local-detection",
        WARNING,
        meaning="The rules take other traffic for local than the nodes' pod CIDRs and the pods' addresses say.",
        example="the rules take 10.244.0.0/16 for local pods' addresses, but pod CIDR 10.200.1.0/24 lies outside of it",
        why=(
            "Pod traffic is masqueraded needlessly, so that network policies and logs see the node; or traffic from outside "
            "is not."
        ),
        action="Compare --cluster-cidr and --detect-local-mode with Node.spec.podCIDRs and the pods' addresses.",
        exceptions="Host-network pods have the node's address and are not counted.",
    ),
    Entry(
        "RA405",
        "unexpected-masquerade",
        ERROR,
        meaning="Traffic to a frontend that kube-proxy leaves its source address is masqueraded.",
        example=(
            "shop/dual:http masquerades connections from the node itself and outside clients that keep their source address"
        ),
        why=(
            "The endpoint sees the node's address instead of the client's: network policies and allow lists that look at "
            "the client refuse it or let it in wrongly, and logs name the node."
        ),
        action="Look at the rule that is named: a KUBE-MARK-MASQ jump that kube-proxy does not write there, or another "
        "program's MASQUERADE or SNAT. See also whether --masquerade-all and --cluster-cidr are those that kube-proxy "
        "runs with. " + RESTART,
        exceptions=(
            "With --masquerade-all every cluster IP is masqueraded. Traffic that only another program masquerades when it "
            "leaves the cluster, as a pod's traffic to the world, is no service traffic."
        ),
    ),
    Entry(
        "RA501",
        "mixed-modes",
        ERROR,
        meaning="Rules of two proxy modes are live at once.",
        example="rules of the iptables mode are at work in IPv4 beside those of the ipvs mode: nat KUBE-SVC-XPGD46QRK7WJZT7O",
        why=(
            "Whichever comes first decides, and only one of them is kept up to date: Services change and traffic does not follow."
        ),
        action=(
            "Clean up the mode that is no longer used (`kube-proxy --cleanup`, or reboot the node), then start kube-proxy. "
            "Between iptables and IPVS no release removes the leftovers by itself."
        ),
        exceptions="kubelet's own chains stay in every mode.",
    ),
    Entry(
        "RA502",
        "split-backends",
        ERROR,
        meaning="Rules of kube-proxy or kubelet are in iptables-legacy and in iptables-nft at once.",
        example=(
            "table nat of IPv4 holds kube-proxy's or kubelet's chains in both iptables backends: nf_tables (nft.txt) "
            "and legacy (legacy.txt)"
        ),
        why="Both see every packet, only one is kept up to date, and stale rules of the other win or refuse.",
        action=(
            "Find which backend kube-proxy uses today, flush the KUBE- chains of the other, and make every tool on the node "
            "use one backend (`update-alternatives --display iptables`)."
        ),
    ),
    Entry(
        "RA503",
        "leftover-chains",
        WARNING,
        meaning="Chains of an older kube-proxy release are there that today's release will not clean up.",
        example="1 KUBE-XLB- chains of a kube-proxy 1.23 or older are left in IPv4",
        why="None today, as nothing reaches them; but a sync that deletes a chain they jump to fails as a whole (RA504).",
        action="Delete them, or reboot the node after the upgrade.",
        exceptions="kubelet's chains, and chains that wait for their deletion.",
    ),
    Entry(
        "RA504",
        "blocked-sync",
        ERROR,
        meaning=(
            "A chain or an object makes every further sync of kube-proxy fail: leftover chains that still jump into those "
            "it deletes, or addresses of the wrong family."
        ),
        example=(
            "every sync of kube-proxy fails in IPv4: chains that it must delete (1) are still jumped to by leftover "
            "KUBE-XLB- chains, first KUBE-SEP-AAAAAAAAAAAAAAAA by KUBE-XLB-AAAAAAAAAAAAAAAA"
        ),
        why="kube-proxy runs and looks healthy, but the rules no longer change: every Service goes stale from now on.",
        action=(
            "Remove what is named (`iptables -t nat -F CHAIN` and `-X CHAIN`, or correct the object), then restart "
            "kube-proxy and look in its log for iptables-restore errors."
        ),
    ),
    Entry(
        "RA505",
        "stopped-kube-proxy",
        ERROR,
        meaning=(
            "The differences together say that kube-proxy stopped applying changes on this node; the time is given where "
            "the objects tell it. It leads the report, and the services' own findings follow as its consequences."
        ),
        example=(
            "kube-proxy seems to have stopped applying changes: 5 services are behind their objects "
            "(argocd/argocd-server-metrics, default/placeholder-821, kube-system/kube-dns, monitoring/grafana, voip/diameter)"
        ),
        why="The node serves the cluster of that time: deleted pods get traffic, new ones none.",
        action=(
            "Is the kube-proxy pod of this node running, can it reach the API server, do its syncs fail? Read its log, then "
            "restart it; drain the node when it does not recover."
        ),
    ),
    Entry(
        "RA601",
        "shadowed-service",
        ERROR,
        meaning=(
            "A rule of other software decides about service traffic before kube-proxy's rules do, or after their translation."
        ),
        example=(
            "a rule of mangle PREROUTING that is not kube-proxy's decides about traffic of shop/web:http from pods "
            "and outside clients"
        ),
        why="The Service behaves as that rule says, whatever its objects say: other destinations, drops, refusals.",
        action=(
            "Look at the rule that is named and at its owner: its chain, its comment. Narrow it, or move it behind kube-proxy's."
        ),
        exceptions=(
            "Rules that accept, count or mark without deciding. NodeLocal DNSCache takes the DNS Service's address on purpose."
        ),
    ),
    Entry(
        "RA602",
        "forward-drop",
        ERROR,
        meaning="Forwarded service traffic meets a drop policy or rule, and nothing before it accepts it.",
        example=(
            "a rule of filter FORWARD that is not kube-proxy's drops forwarded traffic of shop/balanced:http from outside clients"
        ),
        why="Pods on this node cannot be reached through Services from elsewhere, or cannot reach them.",
        action=(
            "Docker, firewalld and ufw set such policies: accept the pod CIDR in FORWARD (for Docker in DOCKER-USER), and "
            "see that KUBE-FORWARD comes first."
        ),
        exceptions="Traffic that carries the masquerade mark is accepted by KUBE-FORWARD.",
    ),
    Entry(
        "RA603",
        "host-port-conflict",
        ERROR,
        meaning="A hostPort or another DNAT that is not kube-proxy's takes the traffic of a frontend.",
        example="a rule of nat PREROUTING that is not kube-proxy's takes traffic of shop/web:http from pods to 10.244.7.7:80",
        why="Clients of the Service reach that pod or process instead.",
        action="Compare the port with the hostPort of the pods on this node, and move one of the two.",
    ),
    Entry(
        "RA604",
        "untracked-service",
        WARNING,
        meaning="A NOTRACK rule keeps a frontend's packets out of the nat table.",
        example=(
            "a rule of raw PREROUTING that is not kube-proxy's keeps out of connection tracking and so out of the nat "
            "table traffic of shop/web:http from outside clients"
        ),
        why=("kube-proxy's translation never sees them: the address works only when something on the node itself answers there."),
        action="Look who wrote the rule in the raw table, and whether that software serves the address.",
        exceptions="NodeLocal DNSCache does this for the DNS Service on purpose.",
    ),
    Entry(
        "RA701",
        "no-matching-pod",
        INFO,
        meaning="A Service's selector matches no pod, or its targetPort resolves on none.",
        example="the selector of Service shop/empty (app=empty) matches no pod that runs: no pod has app=empty",
        why="The Service has no endpoints; the node refuses it, rightly.",
        action="Compare the selector with the pods' labels, and a named targetPort with the containers' port names.",
        exceptions=(
            "Services without a selector, ExternalNames, Services that have endpoints after all, pods that are not ready yet; the ports "
            "of headless Services. Without pods among the objects nothing is said; pods that ran to their end do not count."
        ),
    ),
    Entry(
        "RA702",
        "slice-disagrees",
        WARNING,
        meaning=(
            "A ready endpoint of the slices of a Service with a selector names a pod that does not exist or has another "
            "address, or the Service's Endpoints differ from its slices."
        ),
        example="EndpointSlice web-xd62j names pod shop/web-1 at 10.244.3.29, which does not exist",
        why="kube-proxy programs what the slices say: it is right, and the traffic is wrong.",
        action=(
            "Look at the EndpointSlice controller, and for slices that something else left behind "
            "(endpointslice.kubernetes.io/managed-by)."
        ),
        exceptions="Services without a selector, terminating endpoints, and the second family, which Endpoints do not hold.",
    ),
    Entry(
        "RA703",
        "duplicate-frontend",
        ERROR,
        meaning="Two service ports claim the same frontend: address, port and protocol.",
        example=(
            "10.96.0.20:80/TCP is claimed by shop/web:http, shop/twin:http: which of them gets its connections is left to chance"
        ),
        why="One of them gets the traffic, and which one may change with every sync.",
        action="Give one of them another address or port.",
        exceptions="Services that share endpoints; a load-balancer IP that is shared on different ports.",
    ),
    Entry(
        "RA704",
        "broken-ingress-backend",
        WARNING,
        varies="info in `check`",
        meaning="An Ingress names a Service or a port that does not exist or cannot serve.",
        example=(
            "Ingress shop/tools leads tools.example.com/gone to shop/no-such-service:80: Service shop/no-such-service "
            "does not exist"
        ),
        why="The Ingress answers with an error for that path; the node is not at fault.",
        action="Correct the Ingress, or create the Service.",
        exceptions="Backends that are no Service (resource). An ExternalName, which only some controllers follow, is a possible fault.",
    ),
    Entry(
        "RA801",
        "external-ip-takeover",
        WARNING,
        varies="info in `check` where it is a node's address and no other Service's traffic changes",
        meaning=(
            "An external IP of a Service is the address of a node, or the address and port of another Service: its cluster IP, its "
            "load-balancer IP, or its node port at a node's address."
        ),
        example=(
            "external IP 10.96.0.20:80/TCP of shop/x is the cluster IP of shop/web: on every node it takes "
            "connections that are meant for shop/web"
        ),
        why=(
            "Every node leads traffic for that address to this Service: whoever may set externalIPs may intercept it "
            "(CVE-2020-8554)."
        ),
        action="Ask who set it; forbid external IPs by admission control when nobody needs them.",
        exceptions=(
            "Load-balancer IPs, which may well be nodes' addresses (k3s, MetalLB); Services that kube-proxy passes over; two Services with "
            "the same external IP and port, which is RA703 alone."
        ),
    ),
    Entry(
        "RA802",
        "exposed-localhost",
        WARNING,
        meaning=(
            "route_localnet is on without the rule that blocks martian packets, or a node port on localhost is open to others."
        ),
        example=(
            "filter KUBE-FIREWALL does not drop packets from elsewhere to 127.0.0.0/8: neighbours of the node reach "
            "what listens on its localhost"
        ),
        why="Neighbours of the node can reach what listens on its 127.0.0.1 only (CVE-2020-8558).",
        action="Let kubelet write its KUBE-FIREWALL rule, or set --iptables-localhost-nodeports=false.",
        exceptions=(
            "Where kube-proxy does not set route_localnet (--iptables-localhost-nodeports=false, --nodeport-addresses without loopback), and "
            "where the node has no chain KUBE-FIREWALL, which up to 1.26 is kubelet's alone."
        ),
    ),
    Entry(
        "RA803",
        "exposed-secret",
        ERROR,
        varies="warning for values of environment variables whose names say nothing of a secret",
        meaning=(
            "A file of a captured node holds what is secret: a Secret object with its data, a private key, a token, a password, a kubeconfig with "
            "credentials, the value of an environment variable, what stands under a name such as password or apiToken; also in a document within "
            "the file, such as the kubeconfig in a ConfigMap. `ruleaudit lint` says so, and never prints it."
        ),
        example="node/objects.json.xz holds a Secret object with its data",
        why="Whoever can read the repository, now or later, can use it; a later commit that deletes it does not take it out of the history.",
        action=(
            "Take it out of the file, and make it worthless: revoke the token, renew the key. Capture only Services, EndpointSlices, Endpoints, "
            "Nodes, Pods and Ingresses, and of Pods no environment."
        ),
        exceptions=(
            "Certificates, names of Secrets, references to them (secretKeyRef), tokens' file names, placeholders (***, <password>, $(VAR), REDACTED)."
        ),
    ),
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.code: entry for entry in ENTRIES})
"""Code -> entry, in the order of the codes."""

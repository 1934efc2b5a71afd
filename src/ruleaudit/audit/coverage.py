"""What the inputs cover: the node, its families and tables, their time; and what the objects say by themselves (RA004, RA005, RA006, RA7)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical, family_of
from ruleaudit.audit.families import families_of_services
from ruleaudit.audit.inputs import FAMILIES, OTHER_MODE, Inputs, header_time, note
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.errors import RuleauditError
from ruleaudit.findings import Certainty, Finding, Location, Severity
from ruleaudit.forwarding import split_endpoint
from ruleaudit.kubeproxy.release import ProxyMode
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.near import unknown
from ruleaudit.signs import SERVICE_CHAIN, Signs, is_kube_proxy_chain, other_proxy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dumps.interfaces import InterfaceDump
    from ruleaudit.dumps.rules import Table
    from ruleaudit.kubeproxy.expect import Expectation
    from ruleaudit.kubeproxy.settings import GivenSettings, ProxySettings

__all__ = [
    "UnknownNodeError",
    "follow_settings",
    "is_cut",
    "mode_of",
    "node_name",
    "serving",
    "settings_differ",
    "time_skew",
    "unsettled",
]

_GRACE = timedelta(minutes=15)


class UnknownNodeError(RuleauditError):
    """The node that was asked for is not among the objects; the message names near matches."""


def node_name(
    cluster: Cluster, asked: str | None, given: GivenSettings | None, interfaces: Sequence[InterfaceDump] = ()
) -> str | None:
    """The node's name: asked for, given by an input, or the only Node's; else that of the Node that has the hostname, or whose internal
    address an interface has.
    """
    if asked is not None:
        if cluster.nodes and asked not in cluster.nodes:
            raise UnknownNodeError(unknown("node", asked, cluster.nodes, cutoff=0.4))
        return asked
    if given is not None and given.node:
        return given.node
    if len(cluster.nodes) == 1:
        return next(iter(cluster.nodes))
    # kube-proxy takes the hostname in lower case (pkg/util/node, GetHostname).
    if given is not None and given.hostname and given.hostname.strip().lower() in cluster.nodes:
        return given.hostname.strip().lower()
    own = {one.address for dump in interfaces for _, one in dump.addresses()}
    found = [
        name
        for name, node in cluster.nodes.items()
        if any(one.type == "InternalIP" and canonical(one.address) in own for one in node.status.addresses)
    ]
    return found[0] if own and len(found) == 1 else None


def mode_of(inputs: Inputs, rulesets: dict[int, Ruleset], *, ipvs_in_use: bool, ipvs_given: bool) -> ProxyMode:
    """The mode that kube-proxy runs in: what its rules in nat show, else what it is set to, else what was given.

    `ipvs_in_use`: its sets or virtual servers were given; `ipvs_given`: some dump of IPVS was, be it empty.
    """
    for rules in rulesets.values():
        if uses_sets(rules, "nat", "KUBE-SERVICES"):
            return ProxyMode.IPVS
    if any(SERVICE_CHAIN.match(name) for rules in rulesets.values() for name in rules.chains("nat")):
        return ProxyMode.IPTABLES
    if inputs.given is not None and inputs.given.mode in ("iptables", "ipvs"):
        return ProxyMode(inputs.given.mode)
    there = any("KUBE-SERVICES" in rules.chains("nat") for rules in rulesets.values())
    return ProxyMode.IPVS if ipvs_in_use or (ipvs_given and not there) else ProxyMode.IPTABLES


def serving(
    inputs: Inputs,
    tables: Sequence[Table],
    left_out: Sequence[Table],
    rulesets: dict[int, Ruleset],
    signs: dict[int, Signs],
    cluster: Cluster,
    shown: Collection[int],
    to_serve: Mapping[int, bool | None],
    mode: ProxyMode,
) -> Iterator[Finding]:
    """RA004 and RA005: which families and tables are there, and whether kube-proxy serves them.

    `left_out`: tables that are given and not evaluated, as said already. `shown`: families that kube-proxy is seen to serve by other
    things than rules. `to_serve`: whether it is to serve a family, where it runs on the node; None where that is not known.
    """
    bare = _Bare(inputs, tables, rulesets, signs, cluster, shown, to_serve)
    if mode is ProxyMode.IPVS:
        # Rules are a part only of what is asked there, and their absence is told beside it.
        for table in tables:
            if is_cut(table) and signs[table.family].served:
                signs[table.family] = Signs(served=False)
        yield from bare.findings()
        return
    present = {family: {table.name for table in tables if table.family == family} for family in FAMILIES}
    given = {(table.family, table.name) for table in (*tables, *left_out)}
    served = [family for family in FAMILIES if signs[family].served]
    cut = bare.cut
    for lost in sorted(cut):
        signs[lost] = Signs(served=False)
        yield note(
            f"cut nat {lost}",
            f"the nat table of IPv{lost} is not there as a whole: what is missing may only be cut off, so its services are not checked",
            "take the dump again",
        )
    for family in FAMILIES:
        names = present[family]
        tool = "iptables-save" if family == 4 else "ip6tables-save"
        if not names:
            if inputs.dumps and family in bare.services:
                yield note(
                    f"family {family}", f"no IPv{family} table was given: IPv{family} is not checked", f"add the output of {tool}"
                )
            continue
        if "nat" not in names:
            yield note(
                f"nat {family}",
                f"the nat table of IPv{family} is not in the dump: its services are not checked",
                f"take the whole of {tool}, without -t",
            )
            continue
        if (family, "filter") not in given and family in served and family not in cut:
            yield note(
                f"filter {family}",
                f"the filter table of IPv{family} is not in the dump: refusals and forwarding are not checked",
                f"take the whole of {tool}, without -t",
            )
    yield from bare.findings()


class _Bare:
    """The families whose nat table was given whole, and holds no rules of kube-proxy although Services need some: what is said of them.

    `services`: how many Services need rules, by family; `cut`: the families whose nat table is not whole; `runs`: kube-proxy serves another one.
    """

    def __init__(
        self,
        inputs: Inputs,
        tables: Sequence[Table],
        rulesets: dict[int, Ruleset],
        signs: dict[int, Signs],
        cluster: Cluster,
        shown: Collection[int],
        to_serve: Mapping[int, bool | None],
    ) -> None:
        self.inputs = inputs
        self.tables = tables
        self.rulesets = rulesets
        self.cluster = cluster
        self.shown = shown
        self.to_serve = to_serve
        self.services = families_of_services(cluster)
        served = {family for family in FAMILIES if signs[family].served}
        self.runs = bool(served)
        nat = [table for table in tables if table.name == "nat"]
        self.cut = {table.family for table in nat if is_cut(table)}
        whole = {table.family for table in nat} - self.cut - served
        self.families = [family for family in sorted(whole) if family in self.services]

    def findings(self) -> Iterator[Finding]:
        """RA005 of the node, or of the family that is lost beside another; RA004 where kube-proxy need not have written any."""
        unread = [family for family in self.families if family in self.inputs.unread]
        for family in unread:
            yield note(
                f"unread {family}",
                f"no rules of kube-proxy are in what was read of IPv{family}, and not all was: its services are not checked",
                "have the rest read, too: what keeps it from being read is said beside this",
            )
        known = [family for family in self.families if family not in unread]
        nftables = self.inputs.in_nftables_mode
        if self.runs or self.inputs.unread:  # be it in what was not read
            for family in known:
                if not nftables and (self.to_serve[family] or family in self.shown):
                    yield self._of_family(family)
                elif family not in self.shown:
                    yield note(
                        f"unserved {family}",
                        f"no rules of kube-proxy are in the nat table of IPv{family}: its services are not checked",
                        "if kube-proxy is to serve this family, look at its log",
                    )
        elif not self.cut and any(self.to_serve[family] is not False for family in known):
            if nftables:
                yield note("mode", "kube-proxy runs in nftables mode here, which is not audited yet", OTHER_MODE)
            else:
                count = sum(1 for one in self.cluster.services.values() if one.spec.type != "ExternalName")
                yield self._said(FAMILIES, f"{count} Services exist, but the nat table holds no rules of kube-proxy", "node")

    def _of_family(self, family: int) -> Finding:
        return self._said(
            (family,),
            f"{self.services[family]} Services of IPv{family} need rules, but the nat table of IPv{family} holds no rules of kube-proxy"
            + (", which runs here" if self.runs else ""),
            f"node IPv{family}",
        )

    def _said(self, families: Collection[int], message: str, subject: str) -> Finding:
        tables = [one for one in self.tables if one.family in families]
        chains = [name for table in tables for name in self.rulesets[table.family].chains(table.name)]
        other = other_proxy(chains)
        traces = [name for name in chains if is_kube_proxy_chain(name) or name.startswith("KUBE-")]
        entry = CATALOGUE["RA005"]
        backends = {table.backend for table in tables}
        hint = (
            f"{other} serves the Services of this node; ruleaudit audits kube-proxy only"
            if other
            else "the dump may come from the other iptables backend: compare `iptables-legacy-save` and `iptables-nft-save`"
            if traces or (len(backends) == 1 and backends != {None} and not self.runs)
            else "kube-proxy writes rules that were flushed again within a minute; where they stay away, look at its log and restart it"
            if self.runs
            else entry.action
        )
        return Finding(
            "RA005",
            entry.name,
            Severity.INFO if other else Severity.ERROR,
            message + (f": {other} is at work" if other else ""),
            expected="chain KUBE-SERVICES in the nat table",
            observed=f"{len(chains)} chains, none of kube-proxy's"
            if not traces
            else "only " + ", ".join(sorted(set(traces))[:5]),
            hint=hint,
            locations=tuple(
                Location(table.dump.path, table.line, table.dump.text(table.line)) for table in tables if table.name == "nat"
            ),
            subject=subject,
        )


def settings_differ(family: int, given: ProxySettings, sign: Signs, mode: ProxyMode) -> Finding | None:
    """RA008: what was given of kube-proxy's settings against what its rules show, as far as both tell it."""
    said: list[str] = []
    seen: list[str] = []
    if given.mode is not None and "mode" in given.given and given.mode != mode.value:
        said.append(f"mode {given.mode}")
        seen.append(f"mode {mode.value}")
    if "masquerade_bit" in given.given and sign.mark is not None and sign.mark != 1 << given.masquerade_bit:
        said.append(f"masquerade mark {1 << given.masquerade_bit:#x}")
        seen.append(f"masquerade mark {sign.mark:#x}")
    detection = given.local_detection.get(family)
    if detection is None and "local_detection" in given.given and sign.local_match is not None:
        said.append("no detection of local pods")
        seen.append(f"local pods by {sign.local_match[1]}")
    elif isinstance(detection, LocalDetection) and detection.value and sign.local_match is not None:
        flag, value = sign.local_match
        by_interface = detection.mode in ("BridgeInterface", "InterfaceNamePrefix")
        wanted = detection.value + ("+" if detection.mode == "InterfaceNamePrefix" else "")
        if by_interface is not (flag == "-i") or wanted != value:
            said.append(f"local pods by {'interface' if by_interface else 'CIDR'} {wanted}")
            seen.append(f"local pods by {'interface' if flag == '-i' else 'CIDR'} {value}")
    if not said:
        return None
    entry = CATALOGUE["RA008"]
    return Finding(
        "RA008",
        entry.name,
        entry.severity,
        f"the rules of IPv{family} were written for {', '.join(seen)}; the settings that were given say {', '.join(said)}",
        expected=", ".join(said),
        observed=", ".join(seen),
        hint=entry.action,
        subject=f"settings IPv{family}",
    )


def follow_settings(findings: Iterable[Finding], leader: Finding, family: int) -> list[Finding]:
    """The findings, with those of the family as consequences of settings that differ which hang on the mark or on which pods are local."""
    follows = {"RA310", "RA401", "RA402", "RA404", "RA405"}
    if "local pods" in leader.expected:  # these take other chains under a Local policy, to other endpoints of the Service
        follows |= {"RA106", "RA107", "RA207", "RA208", "RA303", "RA305"}
    return [
        replace(one, cause=leader.fingerprint)
        if one.code in follows and one.cause is None and _family_of(one) in (family, None)
        else one
        for one in findings
    ]


def _family_of(finding: Finding) -> int | None:
    """The family that a finding is about, where its frontend or its endpoint tells it."""
    if finding.frontend is not None:
        return finding.frontend.family
    return None if finding.endpoint is None else family_of(split_endpoint(finding.endpoint)[0])


def is_cut(table: Table) -> bool:
    """Whether lines of a table are missing: its COMMIT (the output of `iptables -S` has none), or others."""
    return table.partial or (table.commit_line is None and not table.inferred)


def uses_sets(rules: Ruleset, table: str, chain: str) -> bool:
    return any(match.module == "set" for entry in rules.entries(table, chain) for match in entry.plan.shape.matches)


def time_skew(inputs: Inputs, cluster: Cluster, tables: Sequence[Table]) -> Iterator[Finding]:
    """RA006, as information: the header's time has no zone, so only a distance that no zone explains is spoken of (incidents 1.6)."""
    times = [time for table in tables if (time := header_time(table)) is not None]
    newest = cluster.newest_change
    if not times or newest is None:
        return
    dump = min(times).replace(tzinfo=UTC)
    # Zones reach from UTC-12 to UTC+14: the dump's time in UTC lies between these.
    if newest - (dump + timedelta(hours=12)) > _GRACE:
        entry = CATALOGUE["RA006"]
        yield Finding(
            "RA006",
            entry.name,
            Severity.INFO,
            f"the objects hold a change of {newest:%Y-%m-%dT%H:%M:%SZ}, the dump was taken at {dump:%Y-%m-%d %H:%M:%S} local "
            f"time: differences may only be time passing",
            certainty=Certainty.POSSIBLE,
            hint=entry.action,
            locations=tuple(Location(t.dump.path, t.line, t.dump.text(t.line)) for t in tables[:1]),
            subject="time",
        )
    del inputs


def unsettled(expectation: Expectation, passed_over: int, *, named: bool) -> Iterator[Finding]:
    """RA004 for what the objects ask for that could not be told: `passed_over` service ports that depend on which node this is, what the
    expectation leaves open (where the node is `named`), and endpoints of which nothing was given.
    """
    family = expectation.family
    if passed_over:
        yield note(
            f"local {family}",
            f"{passed_over} service ports of IPv{family} depend on which node this is (traffic policy Local, topology hints): they are "
            "not checked",
            "name the node with --node",
        )
    for text in expectation.notes if named else ():
        yield note(f"{text} {family}", text, "give the objects or settings that it names")
    if not expectation.endpoint_sources and expectation.service_ports:
        yield note(
            "endpoints",
            "neither EndpointSlices nor Endpoints were given: endpoints are not checked",
            "add them to the objects (kubectl get endpointslices -A -o json)",
        )

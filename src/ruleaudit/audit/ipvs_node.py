"""What the inputs hold of IPVS on a node: of what was given twice, the one that counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ruleaudit.audit.inputs import note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ruleaudit.audit.inputs import Inputs
    from ruleaudit.checks.context import RulePlace
    from ruleaudit.dumps.interfaces import InterfaceDump
    from ruleaudit.dumps.ip_sets import IpSet, IpSetDump
    from ruleaudit.dumps.lines import Lines
    from ruleaudit.dumps.virtual_servers import Listing, VirtualServer
    from ruleaudit.findings import Finding

__all__ = ["IpvsNode", "ipvs_node", "is_set_of"]

DUMMY = "kube-ipvs0"


@dataclass
class IpvsNode:
    """What the inputs hold of IPVS: the listing that counts, the sets, the interfaces; None for what was not given."""

    listing: Listing | None = None
    sets: Mapping[str, IpSet] | None = None
    set_dump: IpSetDump | None = None
    interfaces: InterfaceDump | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def given(self) -> bool:
        """Whether anything of IPVS was given but interfaces, which every node has."""
        return self.listing is not None or self.sets is not None

    @property
    def in_use(self) -> bool:
        """Whether kube-proxy's IPVS mode shows: its sets, or virtual servers of its kind."""
        if self.sets is not None and any(name.startswith("KUBE-") for name in self.sets):
            return True
        return self.listing is not None and any(one.mark is None for one in self.listing.servers)

    def serves(self, family: int, *, served: bool) -> bool:
        """Whether kube-proxy serves a family: its rules are there, its sets, or virtual servers; where none of these shows, both may be."""
        if served or self.shows(family):
            return True
        return self.sets is None and self.listing is not None and not self.listing.servers and family == 4

    def shows(self, family: int) -> bool:
        """Whether virtual servers of a family are there, or sets of kube-proxy."""
        if self.listing is not None and any(one.family == family for one in self.listing.servers):
            return True
        return self.sets is not None and any(is_set_of(name, family) for name in self.sets)

    @property
    def dumps(self) -> dict[str, Lines]:
        """The dumps that were given, by the table that places in them name."""
        given = {
            "ipvs": self.listing.dump if self.listing is not None else None,
            "ipset": self.set_dump,
            "ip": self.interfaces,
        }
        return {name: dump for name, dump in given.items() if dump is not None}

    def dummy(self, family: int) -> dict[str, RulePlace] | None:
        """The addresses of kube-ipvs0 with their places; None where its addresses of this family are not known."""
        dump = self.interfaces
        if dump is None or (dump.only_family is not None and dump.only_family != family):
            return None
        found = dump.interface(DUMMY)
        if found is None:
            return {} if dump.whole else None
        return {
            one.address: ("ip", DUMMY, one.line)
            for one in found.addresses
            if one.family == family and one.scope != "link" and not dump.may_be_cut(one.line)
        }

    @property
    def dummy_whole(self) -> bool:
        """Whether all addresses of kube-ipvs0 are known, where they are: the listing was not cut within them."""
        dump = self.interfaces
        return dump is None or not dump.cut or not dump.interfaces or dump.interfaces[-1].name != DUMMY

    @property
    def sets_cut(self) -> bool:
        """Whether sets may have been cut off: no listing of them is known to have its end."""
        return self.set_dump is not None and self.set_dump.cut

    def dummy_place(self) -> RulePlace:
        """Where kube-ipvs0 stands; the head of the dump where it is not there."""
        found = self.interfaces.interface(DUMMY) if self.interfaces is not None else None
        return "ip", DUMMY, found.line if found is not None else 1

    def elsewhere(self, family: int) -> list[str]:
        """The addresses of every other interface, as far as they are given."""
        dump = self.interfaces
        if dump is None:
            return []
        return [
            one.address
            for interface, one in dump.addresses()
            if interface.name != DUMMY and one.family == family and one.scope != "link"
        ]


def ipvs_node(inputs: Inputs) -> IpvsNode:
    """Choose among what was given twice: the listing that says most; what differs between them is said (RA004)."""
    node = IpvsNode()
    listings = [one for dump in inputs.virtual_servers for one in dump.listings]
    if listings:
        ranked = sorted(
            listings, key=lambda one: (one.whole, one.has_weights, one.has_schedulers, one.has_connections), reverse=True
        )
        node.listing = ranked[0]
        for other in ranked[1:]:
            if other.whole and ranked[0].whole and _content(other, ranked[0]) != _content(ranked[0], other):
                node.findings.append(
                    note(
                        f"virtual servers {other.dump.path}",
                        f"the virtual servers are given twice and differ; those in {ranked[0].dump.path}:{ranked[0].line} count, "
                        f"not those in {other.dump.path}:{other.line}",
                        "give each listing once, from one moment",
                    )
                )
    for dump in sorted(inputs.set_dumps, key=lambda one: not one.cut):  # what is whole counts, and stands for what was cut
        node.sets = {**(node.sets or {}), **dump.sets}
        node.set_dump = dump if node.set_dump is None or node.set_dump.cut else node.set_dump
    for interfaces in inputs.interfaces:
        if node.interfaces is None or interfaces.interface(DUMMY) is not None:
            node.interfaces = interfaces
    return node


def _content(listing: Listing, other: Listing) -> dict[object, object]:
    """What a listing says of virtual servers, as far as `other` says it, too."""
    weights = listing.has_weights and other.has_weights
    schedulers = listing.has_schedulers and other.has_schedulers

    def real(server: VirtualServer) -> object:
        return sorted((one.address, one.port, one.weight if weights else None) for one in server.real_servers)

    return {
        server.name: (server.scheduler if schedulers else None, server.persistence if schedulers else None, real(server))
        for server in listing.servers
    }


def is_set_of(name: str, family: int) -> bool:
    """Whether a set is kube-proxy's in a family, by its name (KPR 9.1)."""
    return name.startswith("KUBE-6-") if family == 6 else name.startswith("KUBE-") and not name.startswith("KUBE-6-")

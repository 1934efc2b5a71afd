"""What a node can be told from its peers by, beside its findings: who wrote its rules, who else writes rules there, what is programmed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ruleaudit.findings import Traits
from ruleaudit.signs import dispatches, entry_comment, is_kube_proxy_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.audit.model import NodeModel

__all__ = ["traits_of"]

_SERVICE_PORT = re.compile(r"[^\s/]+/\S+")
_SOFTWARE = re.compile(r"(?:KUBE[-_])?[A-Za-z]+")


def traits_of(node: NodeModel) -> Traits:
    """The traits of a node that was made ready."""
    given = node.inputs.given
    backends = {
        table.backend
        for table in node.tables
        if table.name == "nat" and table.backend and any(map(is_kube_proxy_chain, table.chains))
    }
    others = {
        found[0]
        for table in node.tables
        for name, chain in table.chains.items()
        if chain.policy is None and not is_kube_proxy_chain(name) and (found := _SOFTWARE.match(name)) is not None
    }
    return Traits(
        None if node.proxy.minor is None else f"1.{node.proxy.minor}",
        " and ".join(sorted(backends)).replace("nf_tables", "nft") or None,
        ", ".join(sorted(others)) or None,
        tuple(sorted(dict(_programmed(node)).items())),
        node.name if given is None else node.name or given.node or given.hostname,
    )


def _programmed(node: NodeModel) -> Iterator[tuple[str, int]]:
    """Frontends, and the service chains that any node has, with how many rules they have; of IPVS, the virtual servers."""
    for family, rules in node.rulesets.items():
        if family not in node.families:
            continue
        for one in dispatches(rules):
            place = (
                f"port {one.port}/{one.protocol} of nodes" if one.address is None else _place(one.address, one.port, one.protocol)
            )
            yield (f"{one.name} at {place}" if one.name else place), 1
        for name, chain in rules.chains("nat").items():
            if name.startswith("KUBE-SVC-"):
                first = rules.first_entry("nat", name)
                found = _SERVICE_PORT.match(entry_comment(first) or "") if first is not None else None
                yield (name if found is None else f"{found[0]} in {name}"), len(chain.lines)
    for server in node.ipvs.listing.servers if node.ipvs.listing is not None else ():
        if server.address is not None and server.port is not None and server.protocol is not None:
            yield _place(server.address, server.port, server.protocol), 1


def _place(address: str, port: int, protocol: str) -> str:
    return f"[{address}]:{port}/{protocol}" if ":" in address else f"{address}:{port}/{protocol}"

"""The node as packets see it: its own addresses, and the clients from which its frontends are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical_address, parse_network, within
from ruleaudit.dataplane.vantage import Clients, choose_clients
from ruleaudit.kubeproxy.settings import LocalDetection
from ruleaudit.signs import entry_value, is_kube_proxy_chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Node
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.kubeproxy.expect import Expectation
    from ruleaudit.kubeproxy.settings import GivenSettings

__all__ = ["clients_of", "own_addresses"]


def own_addresses(family: int, node: Node | None, given: GivenSettings | None) -> list[str]:
    """The node's addresses of a family, canonical, as its Node object and the inputs give them; its primary one first."""
    own: list[str] = []
    if node is not None:
        for kind in ("InternalIP", "ExternalIP"):
            own += [
                address
                for one in node.status.addresses
                if one.type == kind and (address := canonical_address(one.address or "", family))
            ]
    for text in (given.node_addresses or ()) if given is not None else ():
        address = canonical_address(text, family)
        if address and address not in own:
            own.append(address)
    return own


def clients_of(
    family: int, rules: Ruleset, cluster: Cluster, node_object: Node | None, expectation: Expectation, everywhere: Sequence[str]
) -> Clients:
    """A client for each vantage point: with addresses that no rule and no object singles out. `everywhere`: the node's addresses."""
    prefixes: set[str] = set()
    for table in rules.tables:
        chains = rules.chains(table)
        for chain_name in rules.other_chains(table):  # but endpoint chains
            if is_kube_proxy_chain(chain_name) and not chain_name.startswith("KUBE-FW-"):
                continue
            for entry in rules.entries(table, chain_name) if len(chains[chain_name].lines) <= 5000 else ():
                value = entry_value(entry, "-s", negated=None)
                if value is not None:
                    prefixes.add(value)
    for expected in expectation.service_ports:
        prefixes.update(expected.source_ranges)
    detection = expectation.local_detection
    networks: list[str] = []
    interface: str | None = None
    if node_object is not None:
        networks += [text for text in (*node_object.spec.pod_cidrs, node_object.spec.pod_cidr or "") if text]
    if isinstance(detection, LocalDetection):
        if detection.mode in ("BridgeInterface", "InterfaceNamePrefix"):
            interface = detection.value + ("+" if detection.mode == "InterfaceNamePrefix" else "")
        else:
            where = parse_network(detection.value, family)
            if where is not None:
                inside = [
                    text for text in networks if (parsed := parse_network(text, family)) is not None and within(parsed, where)
                ]
                networks = inside or [detection.value]
    avoid = (set(everywhere), expectation.endpoint_addresses, cluster.pods_by_address)
    return choose_clients(
        family, pod_networks=networks, node_addresses=everywhere, pod_interface=interface, avoid=avoid, avoid_networks=prefixes
    )

"""Which IP families the Services of a cluster have, and which of them kube-proxy is to serve on a node."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ruleaudit.addresses import family_of, known_family
from ruleaudit.audit.node import own_addresses
from ruleaudit.kubeproxy.endpoints import PROXY_NAME_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Node, Service
    from ruleaudit.kubeproxy.settings import GivenSettings, ProxySettings

__all__ = ["families_of_services", "is_to_serve"]

_DUAL_STACK_BY_DEFAULT = 21
"""From this release on kube-proxy serves both families wherever the node can (pkg/features/kube_features.go, IPv6DualStack)."""


def families_of_services(cluster: Cluster) -> Mapping[int, int]:
    """The families in which Services need rules, with how many do."""
    counts: Counter[int] = Counter()
    for service in cluster.services.values():
        counts.update(set(_families(service)))
    return counts


def is_to_serve(
    family: int, cluster: Cluster, node: Node | None, given: GivenSettings | None, proxy: ProxySettings
) -> bool | None:
    """Whether a kube-proxy that runs on a node is to serve a family there, by the objects and its settings; None where they do not tell.

    `node`: None where it is not known which one it is. `given` and `proxy`: its settings as they were given, and with defaults.
    """
    if given is not None:
        dual = proxy.feature_gates.get("IPv6DualStack")
        before = given.minor is not None and given.minor < _DUAL_STACK_BY_DEFAULT and "feature_gates" in proxy.given
        one_alone = dual is False or (before and dual is not True)
        if one_alone or (proxy.cluster_cidrs and not _has(family, proxy.cluster_cidrs)):
            return False
    if own_addresses(family, node, given):
        return True
    known = [node] if node is not None else list(cluster.nodes.values())
    answers = {_has_addresses(one, family) for one in known}
    if len(answers) == 1 and None not in answers:
        return answers.pop()
    return True if family == _first_family(cluster) else None


def _has_addresses(node: Node, family: int) -> bool | None:
    """Whether a Node has an address, or addresses for its pods, of a family; None where it has none of either family."""
    of_pods = [one for one in (*node.spec.pod_cidrs, node.spec.pod_cidr or "") if one]
    texts = [*(one.address or "" for one in node.status.addresses), *of_pods]
    return _has(family, texts) if any(_has(one, texts) for one in (4, 6)) else None


def _has(family: int, texts: Iterable[str]) -> bool:
    """Whether one of these addresses and networks is of a family."""
    return any(family_of(text.partition("/")[0]) == family for text in texts)


def _first_family(cluster: Cluster) -> int | None:
    """The family that Services have first, which is the cluster's own: every kube-proxy serves it."""
    counts = Counter(families[0] for one in cluster.services.values() if (families := _families(one)))
    return counts.most_common(1)[0][0] if counts else None


def _families(service: Service) -> list[int]:
    """The families in which a Service needs rules, its first one first; none where it is not kube-proxy's, or nothing would lead to it."""
    spec = service.spec
    if spec.type == "ExternalName" or not spec.ports or PROXY_NAME_LABEL in (service.metadata.labels or ()):
        return []
    addresses = dict.fromkeys((*spec.cluster_ips, spec.cluster_ip or ""))
    return [known_family(one) for one in addresses if one and one != "None"]

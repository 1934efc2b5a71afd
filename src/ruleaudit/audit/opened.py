"""A node that is read, sorted and settled: what its families are opened from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruleaudit.audit.coverage import settings_differ

if TYPE_CHECKING:
    from ruleaudit.audit.inputs import Inputs
    from ruleaudit.audit.ipvs_node import IpvsNode
    from ruleaudit.cluster import Cluster
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dumps.rules import Table
    from ruleaudit.findings import Finding
    from ruleaudit.kubeproxy.release import ProxyMode
    from ruleaudit.kubeproxy.settings import ProxySettings
    from ruleaudit.signs import Signs

__all__ = ["OpenNode"]


@dataclass
class OpenNode:
    """One node with everything that was given of it.

    `findings`: what is said of the inputs themselves. `signs`: what the rules say of kube-proxy, by family; a family that it does not serve,
    or whose nat table is not whole, is not `served`.
    """

    name: str | None
    inputs: Inputs
    proxy: ProxySettings
    tables: list[Table]
    rulesets: dict[int, Ruleset]
    signs: dict[int, Signs]
    mode: ProxyMode
    ipvs: IpvsNode
    findings: list[Finding]

    @property
    def cluster(self) -> Cluster:
        """The objects."""
        return self.inputs.cluster

    def contradicted(self, family: int) -> Finding | None:
        """RA008: the settings that were given, where the rules of a family show others; what is expected of them is doubtful then."""
        sign = self.signs[family]
        return settings_differ(family, self.proxy, sign, self.mode) if sign.served else None

"""kube-proxy's settings without names: written anew, in the form in which they were given, from what ruleaudit reads of them."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ruleaudit.settings import Form, GivenSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.anonymize.mapping import Mapping

__all__ = ["settings_without_names"]


def settings_without_names(given: GivenSettings, mapping: Mapping) -> tuple[str, str]:
    """(the name for the file, its text) of the settings of one input. Raises ValueError where they would be read as others."""
    mapped = replace(
        given,
        node=None if given.node is None else mapping.name(given.node),
        node_addresses=None if given.node_addresses is None else tuple(map(mapping.address, given.node_addresses)),
        cluster_cidrs=None if given.cluster_cidrs is None else tuple(map(mapping.network, given.cluster_cidrs)),
        bridge_interface=None if given.bridge_interface is None else mapping.interface(given.bridge_interface),
        interface_prefix=None
        if given.interface_prefix is None
        else mapping.interface(given.interface_prefix + "+").removesuffix("+"),
        nodeport_addresses=None
        if given.nodeport_addresses is None
        else tuple(one if one == "primary" else mapping.network(one) for one in given.nodeport_addresses),
        ipvs_exclude_cidrs=None if given.ipvs_exclude_cidrs is None else tuple(map(mapping.network, given.ipvs_exclude_cidrs)),
        config_file=None if given.config_file is None else "config.conf",
    )
    name, text = {
        Form.DESCRIPTION: _description,
        Form.COMMAND_LINE: _command_line,
        Form.CONFIGURATION: _configuration,
    }[given.form](mapped)
    again = read_settings(text.encode(), name)
    for field in fields(GivenSettings):
        if field.name != "paths" and getattr(again, field.name) != getattr(mapped, field.name):
            raise ValueError(f"{field.name} would be read as {getattr(again, field.name)!r}, not {getattr(mapped, field.name)!r}")
    return name, text


def _description(given: GivenSettings) -> tuple[str, str]:
    detect = given.detect_local_mode or ("none" if given.cluster_cidrs == () else None)
    if detect == "BridgeInterface" and given.bridge_interface:
        detect += f":{given.bridge_interface}"
    elif detect == "InterfaceNamePrefix" and given.interface_prefix:
        detect += f":{given.interface_prefix}"
    found: dict[str, object] = {
        "kube_proxy_version": "unknown" if given.minor is None else f"Kubernetes v1.{given.minor}.0",
        "mode": given.mode,
        "node": given.node,
        "node_ips": given.node_addresses,
        "cluster_cidr": None if given.cluster_cidrs is None else ",".join(given.cluster_cidrs),
        "detect_local": detect,
    }
    return "meta.json", json.dumps({name: value for name, value in found.items() if value is not None}, indent=1) + "\n"


def _command_line(given: GivenSettings) -> tuple[str, str]:
    def flags() -> Iterator[tuple[str, str | None]]:
        yield "config", given.config_file
        yield "proxy-mode", given.mode
        yield "hostname-override", given.node
        yield "cluster-cidr", None if given.cluster_cidrs is None else ",".join(given.cluster_cidrs)
        yield "detect-local-mode", given.detect_local_mode
        yield "pod-bridge-interface", given.bridge_interface
        yield "pod-interface-name-prefix", given.interface_prefix
        yield "masquerade-all", _boolean(given.masquerade_all)
        yield "iptables-masquerade-bit", None if given.masquerade_bit is None else str(given.masquerade_bit)
        yield "nodeport-addresses", None if given.nodeport_addresses is None else ",".join(given.nodeport_addresses)
        yield "ipvs-exclude-cidrs", None if given.ipvs_exclude_cidrs is None else ",".join(given.ipvs_exclude_cidrs)
        yield "iptables-localhost-nodeports", _boolean(given.localhost_nodeports)
        gates = given.feature_gates
        yield "feature-gates", None if gates is None else ",".join(f"{name}={str(on).lower()}" for name, on in gates.items())

    command = "kube-proxy" if given.minor is None else f"kube-proxy-1.{given.minor}"
    words = [command, *(f"--{name}={value}" for name, value in flags() if value is not None)]
    if len(words) == 1:
        words.append("--v=2")  # a command without flags is not known as one
    return "kube-proxy.args", "\n".join(map(shlex.quote, words)) + "\n"


def _boolean(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _configuration(given: GivenSettings) -> tuple[str, str]:
    own: dict[str, object] = {"masqueradeAll": given.masquerade_all, "masqueradeBit": given.masquerade_bit}
    iptables: dict[str, object] = {"localhostNodePorts": given.localhost_nodeports, **({} if given.mode == "nftables" else own)}
    document: dict[str, object] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": given.mode,
        "hostnameOverride": given.node,
        "detectLocalMode": given.detect_local_mode,
        "detectLocal": _present(
            {
                "clusterCIDRs": given.cluster_cidrs,
                "bridgeInterface": given.bridge_interface,
                "interfaceNamePrefix": given.interface_prefix,
            }
        ),
        "iptables": _present(iptables),
        "nftables": _present(own) if given.mode == "nftables" else {},
        "ipvs": _present({"excludeCIDRs": given.ipvs_exclude_cidrs}),
        "nodePortAddresses": given.nodeport_addresses,
        "featureGates": None if given.feature_gates is None else dict(given.feature_gates),
    }
    kept = {name: value for name, value in _present(document).items() if value != {} or name == "featureGates"}
    return "kube-proxy-config.json", json.dumps(kept, indent=1) + "\n"


def _present(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}

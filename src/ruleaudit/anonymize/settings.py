"""kube-proxy's settings without names: written anew, in the form in which they were given, from what ruleaudit reads of them."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from ruleaudit.errors import InputError
from ruleaudit.kubeproxy.release import KNOWN_GATES
from ruleaudit.kubeproxy.settings import Form, GivenSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Mapping as TypingMapping

    from ruleaudit.anonymize.mapping import Mapping
    from ruleaudit.capture_description import NotCollected

    Rewrite = Callable[[Any, Mapping], object]

__all__ = ["REWRITTEN", "description_without_names", "settings_without_names"]

_COLLECTED: Final = frozenset(
    {"ip", "ipset", "ipvsadm", "nft", "kube-proxy's configuration", "services", "endpointslices", "endpoints", "nodes", "pods", "ingresses",
     "ingressclasses", *(f"{tool}{backend}-save" for tool in ("iptables", "ip6tables") for backend in ("", "-legacy", "-nft"))}
)  # fmt: skip
"""What `collect` calls what it could not collect; why may name nodes, pods and servers."""


def _same(value: object, _mapping: Mapping) -> object:
    return value


def _name(value: str, mapping: Mapping) -> str:
    return mapping.name(value)


def _hostname(value: str, mapping: Mapping) -> str:
    return mapping.name(value.strip().lower())  # as a Node is called that has it


def _addresses(value: Sequence[str], mapping: Mapping) -> tuple[str, ...]:
    return tuple(map(mapping.address, value))


def _networks(value: Sequence[str], mapping: Mapping) -> tuple[str, ...]:
    return tuple(one if one == "primary" else mapping.network(one) for one in value)


def _interface(value: str, mapping: Mapping) -> str:
    return mapping.interface(value)


def _prefix(value: str, mapping: Mapping) -> str:
    return mapping.interface(value + "+").removesuffix("+")


def _gates(value: TypingMapping[str, bool], _mapping: Mapping) -> dict[str, bool]:
    return {name: on for name, on in value.items() if name in KNOWN_GATES}


def _scheduler(value: str, mapping: Mapping) -> str:
    return mapping.scheduler(value)


def _file(_value: str, _mapping: Mapping) -> str:
    return "config.conf"


REWRITTEN: Final[TypingMapping[str, Rewrite]] = {
    "mode": _same,
    "minor": _same,
    "node": _name,
    "hostname": _hostname,
    "node_addresses": _addresses,
    "cluster_cidrs": _networks,
    "detect_local_mode": _same,
    "bridge_interface": _interface,
    "interface_prefix": _prefix,
    "masquerade_all": _same,
    "masquerade_bit": _same,
    "nodeport_addresses": _networks,
    "localhost_nodeports": _same,
    "feature_gates": _gates,
    "ipvs_exclude_cidrs": _networks,
    "ipvs_scheduler": _scheduler,
    "config_file": _file,
    "complete": _same,
    "form": _same,
    "paths": _same,
}
"""How each field of GivenSettings is rewritten where it is given: every one is here, those that stay, too."""


def settings_without_names(given: GivenSettings, mapping: Mapping) -> tuple[str, str]:
    """(the name for the file, its text) of the settings of one input. Raises InputError where no text would be read as they are."""
    values = {
        one.name: REWRITTEN[one.name](value, mapping)
        for one in fields(GivenSettings)
        if (value := getattr(given, one.name)) is not None
    }
    mapped = replace(given, **values)  # type: ignore[arg-type]  # field by field, from the same type
    name, text = _written(mapped)
    again = read_settings(text.encode(), name)
    lost = [name for name in _differing(mapped, again) if name != "paths"]
    if lost:
        raise InputError(
            f"its settings ({', '.join(lost)}) cannot be written without names; give kube-proxy's configuration, its command line and"
            " meta.json as files of their own",
            given.paths[0] if given.paths else "settings",
        )
    return name, text


def description_without_names(given: GivenSettings, lacking: Iterable[NotCollected], mapping: Mapping) -> str:
    """A capture's meta.json: the settings in it, and what could not be collected. Raises InputError."""
    name, text = settings_without_names(given, mapping)
    if name != "meta.json":
        raise InputError(
            "holds settings of kube-proxy beside what describes a capture; give these as a file of their own", given.paths[0]
        )
    found = json.loads(text)
    kept = [one.what if one.what in _COLLECTED else mapping.name(one.what) for one in lacking]
    if kept:
        found["not_collected"] = [{"what": what, "why": f"{what} was not collected"} for what in kept]
    return json.dumps(found, indent=1) + "\n"


def _differing(one: GivenSettings, other: GivenSettings) -> list[str]:
    return [each.name for each in fields(GivenSettings) if getattr(one, each.name) != getattr(other, each.name)]


def _written(given: GivenSettings) -> tuple[str, str]:
    """(name, text): one document of the form in which they were given, and where it cannot hold all, one of each form that holds the rest.

    An input may be several, such as a ConfigMap and a DaemonSet, which are read as one.
    """
    if given.form is Form.DESCRIPTION:
        return "meta.json", json.dumps(_description(given), indent=1) + "\n"
    documents: list[dict[str, object]] = []
    if given.form is Form.CONFIGURATION:
        documents.append(_configuration(given))
        if given.config_file is not None:
            documents.append(_daemon_set(["kube-proxy", f"--config={given.config_file}"]))
        beside = {"minor": given.minor, "hostname": given.hostname, "node_addresses": given.node_addresses}
    else:
        words = _command_line(given)
        if given.hostname is None and given.node_addresses is None:
            return "kube-proxy.args", "\n".join(map(shlex.quote, words)) + "\n"
        documents.append(_daemon_set(words))
        beside = {"hostname": given.hostname, "node_addresses": given.node_addresses}
    if any(value is not None for value in beside.values()):
        documents.append(_description(GivenSettings(**beside)))  # type: ignore[arg-type]  # by name, from the same type
    # As YAML, of which JSON is a part: several may stand in one text.
    return "kube-proxy-config.yaml", "".join(f"---\n{json.dumps(one, indent=1)}\n" for one in documents)


def _description(given: GivenSettings) -> dict[str, object]:
    """A capture's meta.json."""
    detect = given.detect_local_mode or ("none" if given.cluster_cidrs == () else None)
    if detect == "BridgeInterface" and given.bridge_interface:
        detect += f":{given.bridge_interface}"
    elif detect == "InterfaceNamePrefix" and given.interface_prefix:
        detect += f":{given.interface_prefix}"
    return _present(
        {
            "kube_proxy_version": "unknown" if given.minor is None else f"Kubernetes v1.{given.minor}.0",
            "mode": given.mode,
            "node": given.node,
            "hostname": given.hostname,
            "node_ips": given.node_addresses,
            "cluster_cidr": None if given.cluster_cidrs is None else ",".join(given.cluster_cidrs),
            "detect_local": detect,
        }
    )


def _daemon_set(words: Sequence[str]) -> dict[str, object]:
    container = {"name": "kube-proxy", "command": words}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [container]}}}}


def _command_line(given: GivenSettings) -> list[str]:
    gates = given.feature_gates
    flags = {
        "config": given.config_file,
        "proxy-mode": given.mode,
        "hostname-override": given.node,
        "cluster-cidr": _joined(given.cluster_cidrs),
        "detect-local-mode": given.detect_local_mode,
        "pod-bridge-interface": given.bridge_interface,
        "pod-interface-name-prefix": given.interface_prefix,
        "masquerade-all": _boolean(given.masquerade_all),
        "iptables-masquerade-bit": None if given.masquerade_bit is None else str(given.masquerade_bit),
        "nodeport-addresses": _joined(given.nodeport_addresses),
        "ipvs-exclude-cidrs": _joined(given.ipvs_exclude_cidrs),
        "ipvs-scheduler": given.ipvs_scheduler,
        "iptables-localhost-nodeports": _boolean(given.localhost_nodeports),
        "feature-gates": None if gates is None else ",".join(f"{name}={_boolean(on)}" for name, on in gates.items()),
    }
    command = "kube-proxy" if given.minor is None else f"kube-proxy-1.{given.minor}"
    words = [command, *(f"--{name}={value}" for name, value in flags.items() if value is not None)]
    return words if len(words) > 1 else [*words, "--v=2"]  # a command without flags is not known as one


def _joined(values: Sequence[str] | None) -> str | None:
    return None if values is None else ",".join(values)


def _boolean(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _configuration(given: GivenSettings) -> dict[str, object]:
    own: dict[str, object] = {"masqueradeAll": given.masquerade_all, "masqueradeBit": given.masquerade_bit}
    iptables: dict[str, object] = {"localhostNodePorts": given.localhost_nodeports, **({} if given.mode == "nftables" else own)}
    document = _present(
        {
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
            "ipvs": _present({"excludeCIDRs": given.ipvs_exclude_cidrs, "scheduler": given.ipvs_scheduler}),
            "nodePortAddresses": given.nodeport_addresses,
            "featureGates": None if given.feature_gates is None else dict(given.feature_gates),
        }
    )
    return {name: value for name, value in document.items() if value != {} or name == "featureGates"}


def _present(values: TypingMapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}

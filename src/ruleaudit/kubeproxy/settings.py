"""kube-proxy's settings: reading them in whatever form they are at hand, and what follows from them.

The defaults are those of cmd/kube-proxy/app/options.go and pkg/proxy/apis/config/v1alpha1/defaults.go in kubernetes/kubernetes.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from ruleaudit.addresses import family_of, parse_network
from ruleaudit.documents import plain_documents
from ruleaudit.errors import InputError
from ruleaudit.kubeproxy.release import Release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DEFAULT_MASQUERADE_BIT",
    "Detection",
    "Form",
    "GivenSettings",
    "LocalDetection",
    "ProxySettings",
    "combine",
    "find_settings",
    "read_settings",
    "resolve",
]

DEFAULT_MASQUERADE_BIT: Final = 14
"""The bit of the packet mark that asks for masquerade, 0x4000 (KPR 1.5)."""
DEFAULT_IPVS_SCHEDULER: Final = "rr"
"""What an empty --ipvs-scheduler means (pkg/proxy/ipvs/proxier.go, defaultScheduler)."""

_MODES: Final = frozenset({"iptables", "ipvs", "nftables", "userspace", "kernelspace"})
_DETECTION_MODES: Final = frozenset({"ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"})


@dataclass(frozen=True, slots=True)
class LocalDetection:
    """How kube-proxy tells traffic of local pods in one family (KPR 4.7).

    `mode` is "ClusterCIDR", "NodeCIDR", "BridgeInterface" or "InterfaceNamePrefix"; `value` is the CIDR, interface or prefix.
    "" with NodeCIDR: the pod CIDR of the Node, which the settings do not hold.
    """

    mode: str
    value: str


Detection = LocalDetection | None | Literal["unset"]
"""None: not implemented for the family, so kube-proxy writes no such rules. "unset": not known."""


class Form(IntEnum):
    """In which form settings were given; the lower one wins over the higher."""

    CONFIGURATION = 1
    COMMAND_LINE = 2
    DESCRIPTION = 3


@dataclass(frozen=True, slots=True)
class GivenSettings:
    """kube-proxy's settings as far as one input, or several combined, give them. None: not given.

    `minor` is that of the release; `node` the node's name as kube-proxy knows it; `hostname` what the node calls itself, which mostly is
    its name; `cluster_cidrs` and `nodeport_addresses` may
    be given and empty. `complete`: whatever is not given has kube-proxy's default. `config_file` is the --config of a command
    line, which then says little itself. `paths` names the inputs.
    """

    mode: str | None = None
    minor: int | None = None
    node: str | None = None
    hostname: str | None = None
    node_addresses: tuple[str, ...] | None = None
    cluster_cidrs: tuple[str, ...] | None = None
    detect_local_mode: str | None = None
    bridge_interface: str | None = None
    interface_prefix: str | None = None
    masquerade_all: bool | None = None
    masquerade_bit: int | None = None
    nodeport_addresses: tuple[str, ...] | None = None
    localhost_nodeports: bool | None = None
    feature_gates: Mapping[str, bool] | None = None
    ipvs_exclude_cidrs: tuple[str, ...] | None = None
    ipvs_scheduler: str | None = None
    config_file: str | None = None
    complete: bool = False
    form: Form = Form.DESCRIPTION
    paths: tuple[str, ...] = ()

    def over(self, other: GivenSettings) -> GivenSettings:
        """These settings, with those of `other` where these are silent. A complete command line or configuration is silent
        about nothing.
        """
        values: dict[str, object] = {}
        for entry in fields(GivenSettings):
            own = getattr(self, entry.name)
            values[entry.name] = (
                getattr(other, entry.name) if own is None and entry.name not in _HELD_BY_COMPLETE[self.complete] else own
            )
        values["complete"] = self.complete or other.complete
        values["form"] = min(self.form, other.form)
        values["paths"] = (*self.paths, *(path for path in other.paths if path not in self.paths))
        return GivenSettings(**values)  # type: ignore[arg-type]  # field by field, from the same type


_LOCAL: Final = frozenset({"cluster_cidrs", "detect_local_mode", "bridge_interface", "interface_prefix"})
_HELD_BY_COMPLETE: Final = {
    False: frozenset[str](),
    True: _LOCAL | {"masquerade_all", "masquerade_bit", "nodeport_addresses", "localhost_nodeports"},
}


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """kube-proxy's settings, defaults filled in.

    `mode` and `minor` are None when nothing gives them. `local_detection` holds families 4 and 6. `nodeport_addresses` None:
    every local address. `given` names the fields that an input gave; the others are defaults, or "unset" and to be inferred.
    """

    mode: str | None = None
    minor: int | None = None
    hostname_override: str | None = None
    node_addresses: tuple[str, ...] = ()
    local_detection: Mapping[int, Detection] = field(default_factory=lambda: MappingProxyType({4: "unset", 6: "unset"}))
    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = DEFAULT_MASQUERADE_BIT
    nodeport_addresses: tuple[str, ...] | None = None
    localhost_nodeports: bool = True
    feature_gates: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    ipvs_exclude_cidrs: tuple[str, ...] = ()
    ipvs_scheduler: str | None = None
    given: frozenset[str] = frozenset()

    def with_detection(self, family: int, detection: Detection) -> ProxySettings:
        """The same settings with another local detection for one family."""
        return replace(self, local_detection=MappingProxyType({**self.local_detection, family: detection}))

    def release(self, minor: int) -> Release:
        """The release 1.`minor` with these settings' feature gates."""
        return Release(minor, self.feature_gates)


def resolve(given: GivenSettings | None) -> ProxySettings:
    """What `given` amounts to, with kube-proxy's defaults."""
    if given is None:
        return ProxySettings()
    names = {entry.name for entry in fields(GivenSettings) if getattr(given, entry.name) is not None}
    if given.complete:
        names |= _HELD_BY_COMPLETE[True]
    known = {
        "mode": given.mode is not None or given.complete,
        "minor": given.minor is not None,
        "hostname_override": given.node is not None,
        "node_addresses": given.node_addresses is not None,
        "local_detection": bool(names & _LOCAL),
        "cluster_cidrs": "cluster_cidrs" in names,
        "masquerade_all": "masquerade_all" in names,
        "masquerade_bit": "masquerade_bit" in names,
        "nodeport_addresses": "nodeport_addresses" in names,
        "localhost_nodeports": "localhost_nodeports" in names,
        "feature_gates": given.feature_gates is not None or given.complete,
    }
    return ProxySettings(
        mode=given.mode or ("iptables" if given.complete else None),
        minor=given.minor,
        hostname_override=given.node,
        node_addresses=given.node_addresses or (),
        local_detection=MappingProxyType({family: _detection(given, family) for family in (4, 6)}),
        cluster_cidrs=given.cluster_cidrs or (),
        masquerade_all=bool(given.masquerade_all),
        masquerade_bit=DEFAULT_MASQUERADE_BIT if given.masquerade_bit is None else given.masquerade_bit,
        nodeport_addresses=given.nodeport_addresses or None,
        localhost_nodeports=given.localhost_nodeports is not False,
        feature_gates=MappingProxyType(dict(given.feature_gates or {})),
        ipvs_exclude_cidrs=given.ipvs_exclude_cidrs or (),
        ipvs_scheduler=given.ipvs_scheduler or (DEFAULT_IPVS_SCHEDULER if given.complete else None),
        given=frozenset(name for name, is_given in known.items() if is_given),
    )


def _detection(given: GivenSettings, family: int) -> Detection:
    mode = given.detect_local_mode
    if mode == "NodeCIDR":
        return LocalDetection(mode, "")
    if mode == "BridgeInterface":
        return LocalDetection(mode, given.bridge_interface) if given.bridge_interface else "unset"
    if mode == "InterfaceNamePrefix":
        return LocalDetection(mode, given.interface_prefix) if given.interface_prefix else "unset"
    if given.cluster_cidrs is None:
        return None if given.complete else "unset"
    for cidr in given.cluster_cidrs:
        parsed = parse_network(cidr, family)
        if parsed is not None:
            return LocalDetection("ClusterCIDR", str(parsed))
    return None


def combine(settings: Sequence[GivenSettings]) -> GivenSettings | None:
    """One value from the settings of several inputs; None for none.

    A configuration wins over a command line (kube-proxy ignores the flags that a --config file holds) unless that command line
    is complete without one, and both over a description (a capture's meta.json). Between equals the later one wins.
    """
    if not settings:
        return None
    flags_alone = any(entry.form is Form.COMMAND_LINE and entry.complete for entry in settings)

    def rank(numbered: tuple[int, GivenSettings]) -> tuple[int, int]:
        number, entry = numbered
        first = 0 if flags_alone and entry.form is Form.COMMAND_LINE else entry.form
        return first, -number

    ordered = [entry for _, entry in sorted(enumerate(settings), key=rank)]
    combined = ordered[0]
    for entry in ordered[1:]:
        combined = combined.over(entry)
    return combined


def read_settings(data: bytes, path: str) -> GivenSettings:
    """kube-proxy's settings from whatever `find_settings` finds them in. Raises InputError when there are none, too."""
    found = find_settings(data, path)
    if found is None:
        raise InputError(
            "holds no kube-proxy settings; give a KubeProxyConfiguration, the ConfigMap or DaemonSet of kube-proxy "
            "(kubectl -n kube-system get configmap,daemonset -o yaml), or its command line",
            path,
        )
    return found


def find_settings(data: bytes, path: str) -> GivenSettings | None:
    """kube-proxy's settings from a KubeProxyConfiguration, the ConfigMap, DaemonSet or Pod that holds it, lists of these, a
    command line, or a capture's meta.json; None when `data` is none of them: another program's ConfigMap or DaemonSet. Raises InputError when
    it is no JSON and no YAML, or a value in it is none that kube-proxy takes.
    """
    text = data.decode("utf-8", "replace")
    if _COMMAND_LINE.match(text):
        return _from_command_line(_words(text, path), path)
    found: list[GivenSettings] = []
    for document in plain_documents(data, path):
        if isinstance(document, str) and "kube-proxy" in document and "--" in document:
            found.append(_from_command_line(_words(document, path), path))
        elif isinstance(document, dict):
            found.extend(_from_object(document, path))
    return combine(found)


_COMMAND_LINE: Final = re.compile(r"\s*(?:[^\s:{]*kube-proxy[^\s:{]*\s+--?[a-z]|--[a-z][a-z-]+(?:[=\s]|\Z))")


def _words(text: str, path: str) -> list[str]:
    try:
        return shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        raise InputError(f"not a command line: {error}", path) from error


_FLAG_WITHOUT_VALUE: Final = frozenset({"masquerade-all", "iptables-localhost-nodeports"})


def _flags(words: Sequence[str]) -> dict[str, str]:
    """The flags of a command line: the last value of each, as pflag has it. Underscores are dashes."""
    flags: dict[str, str] = {}
    rest = iter(range(len(words)))
    for position in rest:
        word = words[position]
        if not word.startswith("--") or word == "--":
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("_", "-")
        if (
            not equals
            and name not in _FLAG_WITHOUT_VALUE
            and position + 1 < len(words)
            and not words[position + 1].startswith("--")
        ):
            value = words[next(rest)]
        elif not equals:
            value = "true"
        flags[name] = f"{flags[name]},{value}" if name == "feature-gates" and name in flags else value
    return flags


def _from_command_line(words: Sequence[str], path: str) -> GivenSettings:
    flags = _flags(words)
    minors = [Release.minor_of(word) for word in words if "kube-proxy" in word and not word.startswith("-")]
    node = flags.get("hostname-override")
    addresses = flags.get("nodeport-addresses")
    bit = flags.get("iptables-masquerade-bit")
    if bit is not None and not bit.isdigit():
        raise InputError(f"--iptables-masquerade-bit is {bit!r}, not a number from 0 to 31", path)
    return _checked(
        GivenSettings(
            mode=flags.get("proxy-mode") or None,
            minor=next((minor for minor in minors if minor is not None), None),
            node=node if node and "$(" not in node else None,
            cluster_cidrs=_split(flags["cluster-cidr"]) if "cluster-cidr" in flags else None,
            detect_local_mode=flags.get("detect-local-mode") or None,
            bridge_interface=flags.get("pod-bridge-interface") or None,
            interface_prefix=flags.get("pod-interface-name-prefix") or None,
            masquerade_all=_boolean(flags, "masquerade-all", path),
            masquerade_bit=None if bit is None else int(bit),
            nodeport_addresses=None if addresses is None else _split(addresses),
            ipvs_exclude_cidrs=_split(flags["ipvs-exclude-cidrs"]) if "ipvs-exclude-cidrs" in flags else None,
            ipvs_scheduler=flags.get("ipvs-scheduler"),
            localhost_nodeports=_boolean(flags, "iptables-localhost-nodeports", path),
            feature_gates=_gates(flags["feature-gates"], path) if "feature-gates" in flags else None,
            config_file=flags.get("config"),
            complete="config" not in flags,
            form=Form.COMMAND_LINE,
            paths=(path,),
        ),
        path,
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("[]") for part in text.split(",") if part.strip().strip("[]"))


def _boolean(flags: Mapping[str, str], name: str, path: str) -> bool | None:
    if name not in flags:
        return None
    value = flags[name].lower()
    if value in ("true", "t", "1"):
        return True
    if value in ("false", "f", "0"):
        return False
    raise InputError(f"--{name} is {flags[name]!r}, neither true nor false", path)


def _gates(text: str, path: str) -> dict[str, bool]:
    gates: dict[str, bool] = {}
    for part in _split(text):
        name, equals, value = part.partition("=")
        if not equals or value.lower() not in ("true", "false"):
            raise InputError(f"feature gate {part!r} is not NAME=true or NAME=false", path)
        gates[name.strip()] = value.lower() == "true"
    return gates


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(str(entry) for entry in value) if isinstance(value, list) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _from_object(document: Mapping[str, object], path: str) -> list[GivenSettings]:
    kind = document.get("kind")
    if kind == "KubeProxyConfiguration":
        return [_from_configuration(document, path)]
    if kind == "ConfigMap":
        return _from_config_map(document, path)
    if kind == "DaemonSet":
        template = _mapping(_mapping(_mapping(document.get("spec")).get("template")).get("spec"))
        return _from_pod_spec(template, path)
    if kind == "Pod":
        return _from_pod_spec(_mapping(document.get("spec")), path)
    items = document.get("items")
    if isinstance(items, list):
        return [entry for item in items if isinstance(item, dict) for entry in _from_object(item, path)]
    if "kube_proxy_version" in document:
        return [_from_description(document, path)]
    return []


def _from_configuration(document: Mapping[str, object], path: str) -> GivenSettings:
    iptables = _mapping(document.get("iptables"))
    nftables = _mapping(document.get("nftables"))
    linux = _mapping(document.get("linux"))
    detect = _mapping(document.get("detectLocal"))
    mode = _text(document.get("mode"))
    own = nftables if mode == "nftables" else iptables
    masquerade_all = _flag(linux.get("masqueradeAll"))
    bit = own.get("masqueradeBit")
    gates = document.get("featureGates")
    cidrs = _texts(detect.get("clusterCIDRs"))
    return _checked(
        GivenSettings(
            mode=mode,
            node=_text(document.get("hostnameOverride")),
            cluster_cidrs=cidrs if cidrs is not None else _split(str(document.get("clusterCIDR") or "")),
            detect_local_mode=_text(document.get("detectLocalMode")),
            bridge_interface=_text(detect.get("bridgeInterface")),
            interface_prefix=_text(detect.get("interfaceNamePrefix")),
            masquerade_all=masquerade_all if masquerade_all is not None else _flag(own.get("masqueradeAll")),
            masquerade_bit=bit if isinstance(bit, int) and not isinstance(bit, bool) else None,
            nodeport_addresses=_texts(document.get("nodePortAddresses")),
            ipvs_exclude_cidrs=_texts(_mapping(document.get("ipvs")).get("excludeCIDRs")),
            ipvs_scheduler=_text(_mapping(document.get("ipvs")).get("scheduler")),
            localhost_nodeports=_flag(iptables.get("localhostNodePorts")),
            feature_gates={str(name): bool(on) for name, on in gates.items()} if isinstance(gates, dict) else None,
            complete=True,
            form=Form.CONFIGURATION,
            paths=(path,),
        ),
        path,
    )


def _from_config_map(document: Mapping[str, object], path: str) -> list[GivenSettings]:
    """Kubeadm keeps the configuration under config.conf, EKS under config; any value that holds one will do."""
    found: list[GivenSettings] = []
    for text in _mapping(document.get("data")).values():
        if isinstance(text, str) and "KubeProxyConfiguration" in text:
            for held in plain_documents(text.encode(), path):
                if isinstance(held, dict):
                    found.extend(_from_object(held, path))
    return found


def _from_pod_spec(spec: Mapping[str, object], path: str) -> list[GivenSettings]:
    containers = spec.get("containers")
    for container in containers if isinstance(containers, list) else ():
        held = _mapping(container)
        words = [*(_texts(held.get("command")) or ()), *(_texts(held.get("args")) or ())]
        words = [part for word in words for part in ([word] if word.startswith("--") else _words(word, path))]
        if held.get("name") != "kube-proxy" and not any(word.rpartition("/")[2] == "kube-proxy" for word in words):
            continue
        settings = _from_command_line(words, path)
        image = _text(held.get("image")) or ""
        node = settings.node or _text(spec.get("nodeName"))
        return [replace(settings, minor=Release.minor_of(image.rpartition("/")[2]) or settings.minor, node=node)]
    return []


def _from_description(document: Mapping[str, object], path: str) -> GivenSettings:
    """A capture's meta.json: written by whoever captured the node, not by kube-proxy."""
    mode, _, value = str(document.get("detect_local") or "").partition(":")
    cidrs = document.get("cluster_cidr")
    return _checked(
        GivenSettings(
            mode=_text(document.get("mode")),
            minor=Release.minor_of(str(document.get("kube_proxy_version"))),
            node=_text(document.get("node")),
            hostname=_text(document.get("hostname")),
            node_addresses=_texts(document.get("node_ips")),
            cluster_cidrs=_split(cidrs) if isinstance(cidrs, str) else () if mode == "none" else None,
            detect_local_mode=mode if mode and mode != "none" else None,
            bridge_interface=value or None if mode == "BridgeInterface" else None,
            interface_prefix=value or None if mode == "InterfaceNamePrefix" else None,
            form=Form.DESCRIPTION,
            paths=(path,),
        ),
        path,
    )


def _checked(given: GivenSettings, path: str) -> GivenSettings:
    """`given`, when its values are such as kube-proxy takes. Raises InputError."""
    if given.mode is not None and given.mode not in _MODES:
        raise InputError(f"proxy mode {given.mode!r} is none that kube-proxy has ({', '.join(sorted(_MODES))})", path)
    if given.detect_local_mode is not None and given.detect_local_mode not in _DETECTION_MODES:
        raise InputError(
            f"detect-local mode {given.detect_local_mode!r} is none that kube-proxy has ({', '.join(sorted(_DETECTION_MODES))})",
            path,
        )
    if given.masquerade_bit is not None and not 0 <= given.masquerade_bit <= 31:
        raise InputError(f"masquerade bit {given.masquerade_bit} is not between 0 and 31", path)
    for name, values in (("cluster CIDR", given.cluster_cidrs), ("node port address", given.nodeport_addresses)):
        for value in values or ():
            if (
                parse_network(value, 4) is None
                and parse_network(value, 6) is None
                and not (name == "node port address" and value == "primary")
            ):
                raise InputError(f"{name} {value!r} is no CIDR such as 10.244.0.0/16", path)
    for address in given.node_addresses or ():
        if family_of(address) is None:
            raise InputError(f"node address {address!r} is no IP address", path)
    return given

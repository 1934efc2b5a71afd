"""A capture that can be shown to others: names and addresses rewritten, so that an audit finds the same.

Everything is written from what ruleaudit has read: dumps from the fields of their lines, objects and settings from the fields that an
audit uses. What is not read is not in the output, and what is read and unknown is replaced.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ruleaudit.anonymize.chains import Chains
from ruleaudit.anonymize.dumps import (
    interfaces_without_names,
    rules_without_names,
    sets_without_names,
    virtual_servers_without_names,
)
from ruleaudit.anonymize.mapping import KEPT_NAMES, KEPT_PORT_NAMES, Mapping
from ruleaudit.anonymize.objects import objects_without_names
from ruleaudit.anonymize.settings import description_without_names, settings_without_names
from ruleaudit.capture_description import not_collected
from ruleaudit.cluster import load
from ruleaudit.errors import InputError
from ruleaudit.formats.iptables_save import MAX_LINE_LENGTH, MAX_LINES, parse
from ruleaudit.kubeproxy.settings import find_settings
from ruleaudit.sources import Captures, InputKind, read_captures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.cluster import Cluster
    from ruleaudit.sources import Source

__all__ = ["KEPT_NAMES", "KEPT_PORT_NAMES", "Anonymous", "Mapping", "anonymized"]

Made = TypeVar("Made")
_OBJECT_FILES = {
    "Service": "services.json",
    "EndpointSlice": "endpointslices.json",
    "Endpoints": "endpoints.json",
    "Node": "nodes.json",
    "Pod": "pods.json",
    "Ingress": "ingresses.json",
    "IngressClass": "ingressclasses.json",
}


@dataclass(frozen=True, slots=True)
class Anonymous:
    """An anonymised capture: its files by name, in the order of their inputs, and what of the inputs is not in them, in words.

    Of several nodes, the files of each lie in a folder of its own ("node/iptables-save.txt"), and what they have in common beside these.
    """

    files: dict[str, str]
    left_out: tuple[str, ...]


def anonymized(given: Sequence[Source] | Captures, mapping: Mapping, *, limit_factor: int = 1) -> Anonymous:
    """Rewrite the inputs of one node or of several, as `sources.read` and `sources.gather` give them.

    Raises InputError where one cannot be read, or nothing is left.
    """
    if isinstance(given, Captures):
        found = _several(given, mapping, limit_factor)
        path = given.nodes[0].path
    else:
        objects = _objects(given, limit_factor)
        found = _rewritten(given, objects, objects, mapping, limit_factor)
        path = given[0].path if given else "input"
    if not found.files:
        raise InputError("holds nothing that can be anonymised; give a capture: dumps of rules, objects", path)
    return found


def _several(captures: Captures, mapping: Mapping, limit_factor: int) -> Anonymous:
    """All nodes and what they have in common, under one key; a node's folder is named by what stands for the name of its capture."""
    in_common = _objects(captures.shared, limit_factor)
    found = _rewritten(captures.shared, in_common, in_common, mapping, limit_factor)
    files, left_out = dict(found.files), [*found.left_out]
    made: list[tuple[str, Anonymous]] = []
    for capture, own in zip(captures.nodes, read_captures(captures.nodes, limit_factor=limit_factor), strict=True):
        written = _objects(own, limit_factor)
        known = in_common
        if any(one.kind is InputKind.OBJECTS for one in own):
            known = _objects([*captures.shared, *own], limit_factor) if captures.shared else written
        made.append((mapping.name(capture.name), _rewritten(own, known, written, mapping, limit_factor)))
    for folder, one in _numbered(made):
        files.update({f"{folder}/{name}": text for name, text in one.files.items()})
        left_out += one.left_out
    return Anonymous(files, tuple(left_out))


def _objects(sources: Sequence[Source], limit_factor: int) -> Cluster:
    return load([(one.path, one.data) for one in sources if one.kind is InputKind.OBJECTS], limit_factor=limit_factor)


def _rewritten(sources: Sequence[Source], known: Cluster, written: Cluster, mapping: Mapping, limit_factor: int) -> Anonymous:
    """What `sources` hold. `known`: the objects that explain what dumps name, `written`: those that become files."""
    from ruleaudit.formats import ip_addr, ipset, ipvsadm

    dumps = {
        id(one): parse(one.text, one.path, max_lines=MAX_LINES * limit_factor, max_line_length=MAX_LINE_LENGTH * limit_factor)
        for one in sources
        if one.kind is InputKind.IPTABLES_SAVE
    }
    chains = Chains(mapping, known, list(dumps.values()))
    made: list[tuple[str, str]] = []
    left_out: list[str] = [f"{problem}" for problem in written.problems]
    if written.config_maps:
        left_out.append("ConfigMaps: cluster DNS and kubelet are configured in free text")
    for source in sources:
        kind = source.kind
        if kind is InputKind.IPTABLES_SAVE:
            dump = dumps[id(source)]
            families = {table.family for table in dump.tables}
            made.append(("ip6tables-save.txt" if families == {6} else "iptables-save.txt", rules_without_names(dump, chains)))
        elif kind is InputKind.IPVSADM:
            made.append(("ipvsadm.txt", virtual_servers_without_names(ipvsadm.parse(source.text, source.path), chains)))
        elif kind is InputKind.IPSET:
            sets = ipset.parse(source.text, source.path)
            made.append(("ipset.xml" if sets.form == "xml" else "ipset.txt", sets_without_names(sets, chains)))
        elif kind is InputKind.IP_ADDR:
            made.append(("ip-addr.json", interfaces_without_names(ip_addr.parse(source.text, source.path), chains)))
        elif kind in (InputKind.PROXY_CONFIG, InputKind.CAPTURE_META):
            settings = find_settings(source.data, source.path)
            if settings is None:
                left_out.append(f"{source.path}: it holds no settings of kube-proxy")
            elif kind is InputKind.CAPTURE_META:
                lacking = not_collected(source.data, source.path)
                made.append(("meta.json", description_without_names(settings, lacking, mapping)))
            else:
                made.append(settings_without_names(settings, mapping))
        elif kind is InputKind.EMPTY:
            made.append(("empty.txt", ""))
        elif kind is InputKind.NFT:
            # That there is one says in which mode kube-proxy runs.
            made.append(("nft.json", '{"nftables": []}\n'))
            left_out.append(f"{source.path}: what the nftables ruleset holds, which no audit looks at")
        elif kind is not InputKind.OBJECTS:
            left_out.append(f"{source.path}: {source.reason or f'{kind.value}, which no audit looks at'}")
    made += [(_OBJECT_FILES[kind], text.decode()) for kind, text in objects_without_names(written, mapping)]
    return Anonymous(dict(_numbered(made)), tuple(left_out))


def _numbered(made: Sequence[tuple[str, Made]]) -> list[tuple[str, Made]]:
    """Files or folders, those of one name numbered in their order, which is that in which they are read again."""
    counts = Counter(name for name, _ in made)
    seen: Counter[str] = Counter()
    found = []
    for name, text in made:
        seen[name] += 1
        stem, dot, ending = name.partition(".")
        found.append((name if counts[name] == 1 else f"{stem}-{seen[name]:02}{dot}{ending}", text))
    return found

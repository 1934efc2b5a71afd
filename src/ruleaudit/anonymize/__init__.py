"""A capture that can be shown to others: names and addresses rewritten, so that an audit finds the same.

Everything is written from what ruleaudit has read: dumps from the fields of their lines, objects and settings from the fields that an
audit uses. What is not read is not in the output, and what is read and unknown is replaced.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ruleaudit.anonymize.chains import Chains
from ruleaudit.anonymize.dumps import (
    interfaces_without_names,
    rules_without_names,
    sets_without_names,
    virtual_servers_without_names,
)
from ruleaudit.anonymize.mapping import KEPT_NAMES, KEPT_PORT_NAMES, Mapping
from ruleaudit.anonymize.objects import objects_without_names
from ruleaudit.anonymize.settings import settings_without_names
from ruleaudit.cluster import load
from ruleaudit.errors import InputError
from ruleaudit.formats.iptables_save import MAX_LINE_LENGTH, MAX_LINES, parse
from ruleaudit.settings import read_settings
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruleaudit.sources import Source

__all__ = ["KEPT_NAMES", "KEPT_PORT_NAMES", "Anonymous", "Mapping", "anonymized"]


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
    """An anonymised capture: its files by name, in the order of their inputs, and what of the inputs is not in them, in words."""

    files: dict[str, str]
    left_out: tuple[str, ...]


def anonymized(sources: Sequence[Source], mapping: Mapping, *, limit_factor: int = 1) -> Anonymous:
    """Rewrite the inputs of one node, as `sources.read` gives them. Raises InputError where one cannot be read, or none is left."""
    from ruleaudit.formats import ip_addr, ipset, ipvsadm

    dumps = {
        id(one): parse(one.text, one.path, max_lines=MAX_LINES * limit_factor, max_line_length=MAX_LINE_LENGTH * limit_factor)
        for one in sources
        if one.kind is InputKind.IPTABLES_SAVE
    }
    objects = [(one.path, one.data) for one in sources if one.kind is InputKind.OBJECTS]
    cluster = load(objects, limit_factor=limit_factor)
    chains = Chains(mapping, cluster, list(dumps.values()))
    made: list[tuple[str, str]] = []
    left_out: list[str] = [f"{problem}" for problem in cluster.problems]
    if cluster.config_maps:
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
            made.append(settings_without_names(read_settings(source.data, source.path), mapping))
        elif kind is InputKind.EMPTY:
            made.append(("empty.txt", ""))
        elif kind is not InputKind.OBJECTS:
            left_out.append(f"{source.path}: {source.reason or f'{kind.value}, which no audit looks at'}")
    made += [(_OBJECT_FILES[kind], text.decode()) for kind, text in objects_without_names(cluster, mapping)]
    if not made:
        raise InputError(
            "holds nothing that can be anonymised; give a capture: dumps of rules, objects",
            sources[0].path if sources else "input",
        )
    return Anonymous(dict(_numbered(made)), tuple(left_out))


def _numbered(made: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The files, those of one name numbered in their order, which is that in which they are read again."""
    counts = Counter(name for name, _ in made)
    seen: Counter[str] = Counter()
    found = []
    for name, text in made:
        seen[name] += 1
        stem, dot, ending = name.partition(".")
        found.append((name if counts[name] == 1 else f"{stem}-{seen[name]:02}{dot}{ending}", text))
    return found

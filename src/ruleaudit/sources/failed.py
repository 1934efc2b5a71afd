"""What is a node's although it holds no dump: files called as dumps that are none, and folders and archives called as Nodes.

Such a node is named as one that could not be audited; to pass it over would make it one of which nothing is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from ruleaudit.sources.evidence import holds_dumps
from ruleaudit.sources.kinds import InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["called_as_dump", "commands_of", "is_failed_dump", "nodes_among"]

_CALLED = re.compile(
    r"^(?P<first>ip6?tables|xtables|ipvsadm|ipset|nft)(?=[._-]|$)|(?P<saved>ip6?tables)(?:-legacy|-nft)?-save", re.IGNORECASE
)
_NO_DUMP = re.compile(r"\.(?:[ch]|cfg|conf|go|html?|log|md|pcap|pdf|png|py|rst|service|sh|svg|ya?ml)$", re.IGNORECASE)
"""What is about a command, and no output of it."""
_COMMANDS = {
    InputKind.IPTABLES_SAVE: ("iptables", "ip6tables"),
    InputKind.IPVSADM: ("ipvsadm",),
    InputKind.IPSET: ("ipset",),
    InputKind.NFT: ("nft",),
}


def called_as_dump(path: str) -> str:
    """The command of which a file should hold the output, by its name: of "node-a/ip6tables-save.txt" it is "ip6tables"; "" where it says none."""
    name = path[max(path.rfind("/"), path.rfind(":")) + 1 :]
    found = _CALLED.search(name)
    if found is None or _NO_DUMP.search(name) is not None:
        return ""
    command = (found["first"] or found["saved"]).lower()
    return "iptables" if command == "xtables" else command


def is_failed_dump(source: Source) -> bool:
    """Whether a source should be a dump, by its name, and is none: it is empty, or holds the message of a command that failed."""
    return source.kind in (InputKind.OTHER, InputKind.EMPTY) and called_as_dump(source.path) != ""


def commands_of(sources: Iterable[Source]) -> set[str]:
    """The commands of which sources are the output: by their names, else by what they hold."""
    found: set[str] = set()
    for one in sources:
        if holds_dumps(one):
            called = called_as_dump(one.path)
            found |= {called} if called else set(_COMMANDS.get(one.kind, ()))
    return found


# --- names of Nodes ---


class _Metadata(msgspec.Struct):
    name: str = ""


class _Object(msgspec.Struct):
    kind: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    items: list[_Object] = msgspec.field(default_factory=list)


def nodes_among(names: Collection[str], objects: Iterable[Source]) -> frozenset[str]:
    """Which of `names` are names of Nodes, by what texts of `objects` say. Texts that cannot be read say nothing here: reading them tells why."""
    found: set[str] = set()
    for source in objects:
        if not any(name.encode("utf-8", "surrogateescape") in source.data for name in names):
            continue  # most often: a large text is not read for nothing
        try:
            whole = msgspec.json.decode(source.data, type=list[_Object] | _Object)
        except msgspec.MsgspecError:
            found |= _named_in(names, source.data)
        else:
            found |= _node_names(whole if isinstance(whole, list) else [whole])
    return frozenset(found.intersection(names))


def _node_names(objects: Iterable[_Object], kind: str = "") -> set[str]:
    names: set[str] = set()
    for one in objects:
        if (one.kind or kind) == "Node":
            names.add(one.metadata.name)
        names |= _node_names(one.items, one.kind.removesuffix("List"))
    return names


def _named_in(names: Iterable[str], data: bytes) -> set[str]:
    """The names by which a text that is not one document of JSON calls Nodes: that of a pod's node, of a host, of a Node's address."""
    key = rb"""(?:nodeName|kubernetes\.io/hostname|address)["']?\s*:\s*["']?%b["']?[ \t\r]*(?:[,}\n]|\Z)"""
    return {name for name in names if re.search(key % re.escape(name.encode("utf-8", "surrogateescape")), data) is not None}

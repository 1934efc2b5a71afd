"""Which programs are run for a node's dumps, and what of their output is kept: the same on the node itself and in a pod of it.

Nothing here writes, and nothing loads a kernel module that was not there, as far as that can be known: a program that would is not run where
`Kernel` says that there is nothing to see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.live.errors import LiveError, Missing
from ruleaudit.sources import InputKind, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Dump", "Dumps", "Kernel", "Output", "Run", "take"]


class Output(NamedTuple):
    """What a program did: its exit status (None: there is no such program), its standard output, its standard error."""

    status: int | None
    out: bytes
    err: str


Run = Callable[[Sequence[str]], Output]
"""Runs a program with arguments, and without a shell. Raises LiveError where it cannot be waited for."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel of the node has loaded; None where that is not known.

    `legacy`: by family, the tables that iptables-legacy has. `nft`, `sets`, `ipvs`: whether nf_tables, ip_set and ip_vs are there.
    `virtual_servers`: whether IPVS has any.
    """

    legacy: Mapping[int, tuple[str, ...] | None] = field(default_factory=lambda: {4: None, 6: None})
    nft: bool | None = None
    sets: bool | None = None
    ipvs: bool | None = None
    virtual_servers: bool | None = None


class Dump(NamedTuple):
    """What one program printed. `name`: the program, as reports cite it; `command`: as it was run, "" where what there is was known."""

    name: str
    command: str
    data: bytes
    kind: InputKind

    def source(self) -> Source:
        """It, as an input of an audit."""
        if self.kind.is_text:
            return Source(self.name, self.kind, self.data.decode("utf-8", "surrogateescape"), b"", given=False)
        return Source(self.name, self.kind, "", self.data, given=False)


@dataclass(frozen=True, slots=True)
class Dumps:
    """What was taken of a node, and what could not be."""

    dumps: tuple[Dump, ...]
    missing: tuple[Missing, ...]

    @property
    def unread(self) -> tuple[Missing, ...]:
        """What could not be taken of the rules."""
        return tuple(one for one in self.missing if one.what.startswith(tuple(_PREFIXES.values())))

    def sources(self) -> list[Source]:
        """Them, as inputs of an audit."""
        return [*(one.source() for one in self.dumps), *(one.source() for one in self.missing)]


_INSTALL: Final = "install the package iptables"
_PREFIXES: Final = {4: "iptables", 6: "ip6tables"}
_TABLE: Final = re.compile(rb"^\*[a-z]+[ \t\r]*$", re.MULTILINE)
_SET_IN_RULE: Final = re.compile(rb"--match-set KUBE-")
_EMPTY_TABLES: Final = {
    "filter": "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
    "nat": "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n",
}
"""What stands for tables that are known not to be there: as iptables-save prints them where they are, and no rule in them."""
_NAT: Final = re.compile(rb"^\*nat[ \t\r]*$", re.MULTILINE)
_UNPRINTABLE: Final = re.compile(rb"^# Table [`']nat' is incompatible", re.MULTILINE)
"""What iptables-nft-save says of a table that holds what only nft can print."""
_NFT_TABLE: Final = re.compile(rb"^table ip6? kube-proxy\b", re.MULTILINE)
_SERVER: Final = re.compile(rb"^-A ", re.MULTILINE)
_SET_OF_KUBE_PROXY: Final = re.compile(rb"^create KUBE-", re.MULTILINE)
_OF_ANOTHER_MODE: Final = frozenset({InputKind.IPVSADM, InputKind.NFT})
"""What tells of kube-proxy's work beside rules of iptables."""
LegacyReader = Callable[[int, Sequence[str]], bytes | None]
"""Reads legacy tables of a family without their tool, as iptables-legacy-save prints them; None where it cannot."""


def take(run: Run, kernel: Kernel, legacy_reader: LegacyReader | None = None) -> Dumps:
    """Every dump that the node has something to say in. Raises LiveError where its rules cannot be read at all."""
    taker = _Taker(run, kernel, legacy_reader)
    for family in (4, 6):
        taker.rules(family)
    taker.require_rules()
    taker.others()
    taker.without_rules()
    return Dumps(tuple(taker.dumps), tuple(taker.missing))


class _Taker:
    def __init__(self, run: Run, kernel: Kernel, legacy_reader: LegacyReader | None) -> None:
        self.run = run
        self.kernel = kernel
        self.legacy_reader = legacy_reader
        self.dumps: list[Dump] = []
        self.missing: list[Missing] = []
        self.failed: list[str] = []
        self.ran: set[int] = set()
        self.seen: set[int] = set()
        """Families of which every rule that there is was read."""
        self.without: dict[int, int] = {}
        """Those of them without a nat table, with the place among the dumps where theirs belongs."""
        self.nft_seen = True
        """Whether it is known if kube-proxy has an nftables ruleset, as far as iptables lacks rules of it."""

    # --- rules ---

    def rules(self, family: int) -> None:
        """Both backends' rules of a family."""
        gaps = len(self.missing) + len(self.failed)
        known = len(self.dumps)
        if self.kernel.legacy[family] != ():
            self._legacy(family)
        if self.kernel.nft is not False:
            self._nft(family)
        if len(self.missing) + len(self.failed) > gaps:
            return
        if family in self.ran or self.kernel.legacy[family] is not None:
            self.seen.add(family)
            if not any(_NAT.search(one.data) for one in self.dumps[known:]):
                self.without[family] = len(self.dumps)
        else:
            program = f"{_PREFIXES[family]}-save"
            self.missing.append(Missing(program, f"the rules of IPv{family} were not read: there is no {program}", _INSTALL))

    def _legacy(self, family: int) -> None:
        prefix = _PREFIXES[family]
        if self._saved(family, "legacy"):
            return
        tables = self.kernel.legacy[family]
        if tables is None:
            return  # in a pod: what its kube-proxy uses was asked, or will be
        names = ", ".join(tables)
        data = None if self.legacy_reader is None else self.legacy_reader(family, tables)
        if data is not None:
            self.ran.add(family)
            self._keep(f"{prefix}-legacy-save", "python-iptables", data)
            return
        self.missing.append(
            Missing(
                f"{prefix}-legacy-save",
                f"the legacy tables of IPv{family} ({names}) were not read: there is no {prefix}-legacy-save here, and no {prefix}-save that"
                " reads them",
                "install the package iptables, or pip install 'ruleaudit[live]' for python-iptables",
            )
        )

    def _nft(self, family: int) -> None:
        prefix = _PREFIXES[family]
        on_the_node = self.kernel.legacy[family] is not None
        if not self._saved(family, "nft") and (self.kernel.nft or on_the_node):
            self.missing.append(
                Missing(
                    f"{prefix}-nft-save",
                    f"whether iptables-nft holds rules of IPv{family} was not seen: there is no {prefix}-nft-save here, and no {prefix}-save"
                    " that reads them",
                    _INSTALL,
                )
            )

    def _saved(self, family: int, backend: str) -> bool:
        """Whether there is a program that prints the rules of a backend; what it printed is kept."""
        prefix = _PREFIXES[family]
        program = f"{prefix}-{backend}-save"
        output = self.run((program,))
        if output.status is None:
            program = f"{prefix}-save"
            version = self.run((program, "--version"))
            if version.status is None or ("nf_tables" in _words(version)) != (backend == "nft"):
                return False
            output = self.run((program,))
            if output.status is None:
                return False
        self.ran.add(family)
        if output.status != 0:
            self.failed.append(f"{program} failed with status {output.status}: {_first_line(output.err)}")
        else:
            self._keep(program, program, output.out)
            if _UNPRINTABLE.search(output.out):
                why = f"the nat table of IPv{family} was not read: {program} says that it holds what only nft can print"
                self.missing.append(Missing(program, why, "see `nft list ruleset` for what is no rule of iptables in it"))
        return True

    def _keep(self, name: str, command: str, data: bytes) -> None:
        if _TABLE.search(data):
            self.dumps.append(Dump(name, command, data, InputKind.IPTABLES_SAVE))

    def require_rules(self) -> None:
        """Raises LiveError where there is no program for rules, or one backend's failed while the other has none of kube-proxy's."""
        if not self.ran and all(tables is None for tables in self.kernel.legacy.values()):
            raise LiveError("there is no iptables-save")
        if self.failed and not any(b"KUBE-" in one.data for one in self.dumps):
            raise LiveError(self.failed[0])
        self.missing += [
            Missing(one.partition(" ")[0], one, "run it by hand and see what it says") for one in dict.fromkeys(self.failed)
        ]

    # --- what stands beside the rules ---

    def others(self) -> None:
        """Sets, virtual servers, addresses, and the nftables ruleset where kube-proxy has a table of its own in it."""
        by_rules = any(_SET_IN_RULE.search(one.data) for one in self.dumps)
        any_set = by_rules or any(b"--match-set " in one.data for one in self.dumps)
        sets = self._sets(needed=any_set)
        of_kube_proxy = by_rules or (sets is not None and _SET_OF_KUBE_PROXY.search(sets.data) is not None)
        if sets is not None and (any_set or of_kube_proxy):
            self.dumps.append(sets)
        self._virtual_servers(of_kube_proxy=of_kube_proxy)
        self._addresses(needed=of_kube_proxy or bool(self.kernel.virtual_servers))
        if self.kernel.nft is not False and not any(b"KUBE-SERVICES" in one.data for one in self.dumps):
            self._ruleset()

    def without_rules(self) -> None:
        """That there are no rules is a dump, too. Raises LiveError where neither rules nor that there are none could be read."""
        if not self.nft_seen:
            self.seen.clear()
        for family, place in reversed(self.without.items()) if self.nft_seen else ():
            self.dumps.insert(
                place, _without(family, beside=any(one.name.startswith(f"{_PREFIXES[family]}-") for one in self.dumps))
            )
        told = any(one.kind in _OF_ANOTHER_MODE or b"KUBE-" in one.data for one in self.dumps)
        if not told and not self.seen:
            first, *others = self.missing
            more = f" ({', '.join(one.what for one in others)}: not, either)" if others else ""
            raise LiveError(f"{first.message}; {first.hint}{more}")

    def _sets(self, *, needed: bool) -> Dump | None:
        if self.kernel.sets is False or (self.kernel.sets is None and not needed):
            return None
        output = self.run(("ipset", "save"))
        if output.status == 0:
            return Dump("ipset", "ipset save", output.out, InputKind.IPSET)
        if needed:
            self._lacks("ipset", output, "the sets that rules ask for were not read", "install the package ipset")
        return None

    def _virtual_servers(self, *, of_kube_proxy: bool) -> None:
        # ipvsadm loads ip_vs by itself where it is not there.
        if self.kernel.ipvs is False or (self.kernel.ipvs is None and not of_kube_proxy):
            return
        output = self.run(("ipvsadm", "-Sn"))
        if output.status == 0:
            if _SERVER.search(output.out):
                self.dumps.append(Dump("ipvsadm", "ipvsadm -Sn", output.out, InputKind.IPVSADM))
            elif of_kube_proxy:
                # An empty listing has a headline: it says that there is none, as an empty file does not.
                listed = self.run(("ipvsadm", "-Ln"))
                if listed.status == 0:
                    self.dumps.append(Dump("ipvsadm", "ipvsadm -Ln", listed.out, InputKind.IPVSADM))
        elif of_kube_proxy or self.kernel.virtual_servers:
            self._lacks("ipvsadm", output, "the virtual servers of IPVS were not read", "install the package ipvsadm")

    def _addresses(self, *, needed: bool) -> None:
        output = self.run(("ip", "-j", "addr"))
        command = "ip -j addr"
        if output.status not in (0, None):  # busybox has no -j
            output = self.run(("ip", "addr"))
            command = "ip addr"
        if output.status == 0 and output.out.strip():
            self.dumps.append(Dump("ip-addr", command, output.out, InputKind.IP_ADDR))
        elif needed:
            self._lacks("ip", output, "the addresses of the node's interfaces were not read", "install the package iproute2")

    def _ruleset(self) -> None:
        tables = self.run(("nft", "list", "tables"))
        on_the_node = self.kernel.legacy[4] is not None  # the image of a kube-proxy that writes such rules has nft
        if tables.status != 0 and (on_the_node or tables.status is not None):
            self.nft_seen = False
            self._lacks(
                "nft",
                tables,
                "iptables holds no rules of kube-proxy, and whether it has an nftables ruleset was not seen",
                "install the package nftables",
            )
        if tables.status != 0 or not _NFT_TABLE.search(tables.out):
            return
        for command in (("nft", "-j", "list", "ruleset"), ("nft", "list", "ruleset")):
            output = self.run(command)
            if output.status == 0 and output.out.strip():
                self.dumps.append(Dump("nft", " ".join(command), output.out, InputKind.NFT))
                return

    def _lacks(self, program: str, output: Output, message: str, hint: str) -> None:
        if output.status is None:
            self.missing.append(Missing(program, f"{message}: there is no {program} here", hint))
        else:
            said = f"{program} failed with status {output.status}: {_first_line(output.err)}"
            self.missing.append(Missing(program, f"{message}: {said}", "run it by hand and see what it says"))


def _without(family: int, *, beside: bool) -> Dump:
    """That a family has no rules at all, or, `beside` tables with rules, no nat table."""
    prefix = _PREFIXES[family]
    what = "nat table" if beside else "rule"
    name = f"{prefix}-no-nat" if beside else f"{prefix}-save"
    tables = _EMPTY_TABLES["nat"] if beside else "".join(_EMPTY_TABLES.values())
    text = (
        f"# No {what} of IPv{family} is here: the chains of the kernel accept everything.\n# Generated by {prefix}-save\n{tables}"
    )
    return Dump(name, "", text.encode(), InputKind.IPTABLES_SAVE)


def _words(output: Output) -> str:
    return output.out.decode("utf-8", "replace") + output.err


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else "without a message"

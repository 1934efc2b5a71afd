"""What the rules tell apart: packets that no rule tells apart share an answer (docs/semantics.md, S13).

`Classes` sorts addresses and ports by the rules that name them. `Places` goes on where chains dispatch, and each Service has rules of its
own: two destinations whose rules differ in nothing but the destination itself, its port, and the endpoints they spread over, are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.matches import inside, mask_of, port_ranges
from ruleaudit.dataplane.packet import Host, address_number, network
from ruleaudit.dataplane.ruleset import A_GOTO, A_JUMP, Balance, Entry, Leaf, Ruleset, named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Classes", "Place", "Places"]

_MOST_RULES = 16
"""More rules for one destination than this are not compared with another's: an answer of its own costs less."""


class Classes:
    """Which addresses and ports the rules tell apart: all others behave alike, so one answer serves them (S13)."""

    def __init__(self, rules: Ruleset, places: Iterable[tuple[str, str]], *, dispatched: bool = True) -> None:
        """The rules of these chains ((table, chain)) and of all that they lead to; `dispatched` False: but for those that a chain holds
        for single destinations, `dispatching` then names the chains that do.
        """
        self.dispatching: list[tuple[str, str]] = []
        self.exact = {"0.0.0.0", "::", "255.255.255.255"}
        self.ranges: set[tuple[int, int]] = set()
        self.original_ports = False
        bounds: set[int] = set()
        seen: set[tuple[str, str]] = set()
        todo = list(places)
        # What addrtype tells apart without naming it (S8).
        multicast = (0xE << 28, 0xF << 28) if rules.family == 4 else (0xFF << 120, 0xFF << 120)
        prefixes: set[tuple[int, int]] = {multicast}
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            chain = rules.prepared(*place)
            if chain is None:
                continue
            entries = chain.entries
            if not dispatched and chain.indexed:
                self.dispatching.append(place)
                entries = chain.others
            for entry in entries:
                if entry.action in (A_JUMP, A_GOTO):
                    todo.append((place[0], entry.target))
                self._note(entry, prefixes, bounds)
                self.original_ports = self.original_ports or entry.plan.original_port
        self.prefixes = sorted(prefixes)
        self.bounds = sorted(bounds)
        self.coarse = rules.family == 4 and not self.ranges and not any(mask & 0xFF for _base, mask in prefixes)
        self._memo: dict[str, tuple[object, ...]] = {}
        self._prefix_classes: dict[tuple[object, ...], tuple[object, ...]] = {}
        """One object for each class in `_memo`."""

    def _note(self, entry: Entry, prefixes: set[tuple[int, int]], bounds: set[int]) -> None:
        for address, ports in named_in(entry):
            if address is not None:
                first, dash, last = address.partition("-")
                if dash:
                    self.ranges.add((address_number(first), address_number(last)))
                    continue
                try:
                    version, base, mask = network(address)
                except ValueError:
                    prefixes.add(mask_of(address))
                    continue
                if mask == (0xFFFFFFFF if version == 4 else (1 << 128) - 1):
                    self.exact.add(str(ip_address(address.split("/")[0])))
                else:
                    prefixes.add((base, mask))
            if ports is not None:
                for low, high in port_ranges(ports):
                    bounds.update((low, high + 1))

    def of_address(self, text: str) -> tuple[object, ...] | str:
        """The class of an address: itself when a rule names it, else the prefixes it lies in."""
        if text in self.exact:
            return text
        # Where no rule cuts a network of 256 addresses in two, its addresses are of one class: there may be 100,000 of them.
        about = text.rpartition(".")[0] if self.coarse else text
        known = self._memo.get(about)
        if known is None:
            number = address_number(text)
            found = (
                *[number & mask == base for base, mask in self.prefixes],
                *[low <= number <= high for low, high in self.ranges],
            )
            known = self._memo[about] = self._prefix_classes.setdefault(found, found)
        return known

    def of_all(self, balance: Balance, host: Host) -> tuple[object, ...] | None:
        """The class of endpoints that are all of one class, None where they are not, or where that takes a closer look."""
        if not self.coarse:
            return None
        addresses = balance.addresses
        if (
            len(addresses.ports) > 1
            or addresses.loopback
            or not self.exact.isdisjoint(addresses.texts)
            or not host.addresses.isdisjoint(addresses.texts)
        ):
            return None
        memo = self._memo
        common: tuple[object, ...] | str | None = None
        for first_numbers, text in addresses.networks:
            known = memo.get(first_numbers) or self.of_address(text)
            if known is not common:
                if common is not None:
                    return None
                common = known
        return None if common is None else (common, bisect_right(self.bounds, *addresses.ports), False)

    def of_endpoints(self, leaves: Sequence[Leaf], host: Host) -> list[tuple[object, ...]]:
        """The classes of endpoints: of their addresses and ports, and whether they are the node's own."""
        bounds = self.bounds
        if self.coarse:
            memo, exact, own = self._memo, self.exact, host.addresses
            found: list[tuple[object, ...]] = []
            for leaf in leaves:
                address = leaf.address
                about = memo.get(address.rpartition(".")[0])
                if about is None or address in exact or address in own or address.startswith("127."):
                    break
                found.append((about, bisect_right(bounds, leaf.port), False))
            else:
                return found
        return [(self.of_address(leaf.address), bisect_right(bounds, leaf.port), host.is_local(leaf.address)) for leaf in leaves]

    def of_port(self, port: int) -> int:
        """The class of a port: its place among the bounds of all port matches."""
        return bisect_right(self.bounds, port)


class Place(NamedTuple):
    """A destination as the rules see it: destinations of equal `key` share an answer but for the endpoints of their `balances`, which are
    all different ones.
    """

    key: tuple[object, ...]
    balances: tuple[Balance, ...]


class _UnlikeError(Exception):
    """The rules of a destination look at more of it than can be compared."""


@dataclass(slots=True)
class _Latest:
    """The destination asked last, and what the dispatching chains hold for it."""

    destination: tuple[str, str] = ("", "")
    found: tuple[tuple[object, ...], tuple[Balance, ...]] | None = None


class Places:
    """Sorts the destinations of packets of one first hook; `sibling`: those of the other hook, which dispatches by the same chains."""

    def __init__(self, rules: Ruleset, hook: str, sibling: Places | None = None) -> None:
        self.rules = rules
        self.before = Classes(rules, [(table, hook) for table in ("raw", "mangle", "nat")], dispatched=False)
        self._constant: dict[tuple[str, str], tuple[object, ...]] = {}
        self._left = 0
        alike = sibling is not None and sibling.before.dispatching == self.before.dispatching
        self._latest: _Latest = sibling._latest if sibling is not None and alike else _Latest()

    def find(self, address: str, host_suffix: str, port: int) -> Place | None:
        """The place of a destination; None when it has to be asked for itself."""
        key, digits = address + host_suffix, str(port)
        if self._latest.destination != (key, digits):
            self._latest.destination, self._latest.found = (key, digits), self._of_dispatch(key, digits)
        found = self._latest.found
        return None if found is None else Place((self.before.of_address(address), self.before.of_port(port), found[0]), found[1])

    def _of_dispatch(self, key: str, port: str) -> tuple[tuple[object, ...], tuple[Balance, ...]] | None:
        balances: list[Balance] = []
        found: list[object] = []
        self._left = _MOST_RULES
        try:
            for table, name in self.before.dispatching:
                chain = self.rules.prepared(table, name)
                if chain is not None:
                    found += [(rank, self._of_rule(table, entry, key, port, balances)) for rank, entry in chain.keyed(key, port)]
                    found.append(name)
        except _UnlikeError:
            return None
        return tuple(found), tuple(balances)

    def _of_rule(self, table: str, entry: Entry, key: str, port: str, balances: list[Balance]) -> tuple[object, ...]:
        """A rule without what it shares with the destination only: the destination itself, its port, comments, names of chains."""
        self._left -= 1
        plan, values = entry.plan, entry.values
        if self._left < 0 or not plan.comparable:
            raise _UnlikeError
        found: list[object] = [plan]
        for slot, is_address in plan.named_slots:
            value = values[slot]
            if value == (key if is_address else port):
                found.append(True)
            elif is_address and "-" not in value:
                found.append(inside(value, 6 if ":" in key else 4, address_number(key.partition("/")[0])))
            elif not is_address and value.isdigit():
                found.append(False)
            else:
                raise _UnlikeError
        found.extend([values[slot] for slot in plan.other_slots])
        if entry.action in (A_JUMP, A_GOTO):
            found.append(self._of_chain(table, entry.target, key, port, balances))
        elif plan.name_slot is not None:
            found.append(entry.target)
        return tuple(found)

    def _of_chain(self, table: str, name: str, key: str, port: str, balances: list[Balance]) -> tuple[object, ...]:
        known = self._constant.get((table, name))
        if known is not None:
            return known
        chain = self.rules.prepared(table, name)
        if chain is None:
            return ()
        if chain.indexed or chain.looping:
            raise _UnlikeError
        head, balance = chain.head, chain.balance
        if chain.keeping is not None:
            balance = chain.keeping
            head = head[: balance.start]
        found: tuple[object, ...] = tuple([self._of_rule(table, entry, key, port, balances) for entry in head])
        if balance is not None:
            # Two rules may lead to one balance (the second for the node's own clients, say): alike are only those of whom that holds, too.
            number = next((number for number, one in enumerate(balances) if one is balance), len(balances))
            if number == len(balances):
                balances.append(balance)
            return (*found, number, balance.protocol, balance.rest > 0, balance.affinity)
        if all(entry.action not in (A_JUMP, A_GOTO) and not entry.plan.named_slots for entry in chain.head):
            self._constant[table, name] = found
        return found

"""Rulesets that no kube-proxy wrote: every match and target that the evaluator models, at random, in all tables."""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.kernel.laboratory import OUTSIDE

__all__ = ["RulesetWriter"]

_BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
# The interfaces that the hooks of a built-in chain know.
_KNOWN = {"PREROUTING": "-i", "INPUT": "-i", "FORWARD": "-i -o", "OUTPUT": "-o", "POSTROUTING": "-o"}
_CHAINS = 4


class Pool(NamedTuple):
    """The addresses of one family that random rules speak of."""

    own: str
    hosts: tuple[str, ...]
    networks: tuple[str, ...]
    targets: tuple[str, ...]
    snat: str


POOLS = {
    4: Pool(
        "192.168.100.11",
        ("10.96.0.1", "10.96.0.2", "192.168.100.11", "10.244.1.5", "10.244.2.5", "203.0.113.7"),
        ("10.96.0.0/16", "10.244.0.0/16", "10.244.1.0/24", "203.0.113.0/24", "192.168.100.0/24", "10.96.0.0/255.255.0.254"),
        ("10.244.1.5", "10.244.2.5", "192.168.100.11", "10.96.0.2"),
        "198.18.99.9",
    ),
    6: Pool(
        "fd00:192:168:100::11",
        ("fd00:10:96::1", "fd00:10:96::2", "fd00:192:168:100::11", "fd00:10:244:1::5", "fd00:10:244:2::5", "2001:db8:ffff::7"),
        ("fd00:10:96::/112", "fd00:10:244::/48", "fd00:10:244:1::/64", "2001:db8:ffff::/64", "fd00:192:168:100::/64"),
        ("fd00:10:244:1::5", "fd00:10:244:2::5", "fd00:192:168:100::11", "fd00:10:96::2"),
        "2001:2:0:99::9",
    ),
}
_PORTS = (53, 80, 443, 8080)


class RulesetWriter:
    """Writes one random ruleset of one family, in the input form of iptables-restore."""

    def __init__(self, family: int, pod_interface: str, seed: int) -> None:
        self.family, self.pool = family, POOLS[family]
        self.pod_interface = pod_interface
        self.dice = random.Random(f"{family} {seed}")

    def write(self) -> str:
        """The text of all five tables."""
        return "".join(self._table(table) for table in _BUILT_IN)

    def _maybe(self, probability: float) -> bool:
        return self.dice.random() < probability

    def _table(self, table: str) -> str:
        dice, lines = self.dice, [f"*{table}"]
        for chain in _BUILT_IN[table]:
            policy = "DROP" if table in ("filter", "mangle") and self._maybe(0.08) else "ACCEPT"
            lines.append(f":{chain} {policy} [0:0]")
        lines += [f":{table}-{number} - [0:0]" for number in range(_CHAINS)]
        icmp = "icmp" if self.family == 4 else "ipv6-icmp"
        for chain in _BUILT_IN[table]:
            if table != "nat":
                # The answers by which a refusal is seen get through.
                lines += [f"-A {chain} -p {icmp} -j ACCEPT", f"-A {chain} -p tcp -m tcp --tcp-flags RST RST -j ACCEPT"]
            lines += [self._rule(table, chain, chain, 0) for _ in range(dice.randrange(1, 6))]
        for number in range(_CHAINS):
            # A chain that several hooks share may use only what all of them know.
            lines += [self._rule(table, f"{table}-{number}", "", number + 1) for _ in range(dice.randrange(0, 6))]
        return "\n".join([*lines, "COMMIT", ""])

    def _rule(self, table: str, chain: str, hook: str, first_chain: int) -> str:
        matches = self._matches(table, hook)
        return " ".join(["-A", chain, *matches, *self._target(table, hook, first_chain, matches)])

    # --- matches ---------------------------------------------------------------------------------------------------------------------

    def _not(self, probability: float = 0.25) -> str:
        return "! " if self._maybe(probability) else ""

    def _matches(self, table: str, hook: str) -> list[str]:
        dice, found = self.dice, []
        protocol = None
        if self._maybe(0.35):
            found.append(f"{self._not()}-s {self._where()}")
        if self._maybe(0.35):
            found.append(f"{self._not()}-d {self._where()}")
        for flag in _KNOWN.get(hook, "").split():
            if self._maybe(0.15):
                # By what interface a packet of the node was to leave first is asked of lo only: one answer has one outgoing interface.
                names = (OUTSIDE, self.pod_interface, "lo", f"{OUTSIDE[:2]}+", f"{self.pod_interface[:3]}+", "docker0")
                name = dice.choice(("lo", "docker0") if hook == "OUTPUT" else names)
                found.append(f"{self._not()}{flag} {name}")
        if self._maybe(0.55):
            protocol = dice.choice(("tcp", "tcp", "udp", "sctp"))
            negated = self._not(0.1)
            found.append(f"{negated}-p {protocol}")
            if negated:
                protocol = None
        if protocol is not None and self._maybe(0.5):
            found.append(f"-m {protocol} {self._not()}{dice.choice(('--dport', '--dport', '--sport'))} {self._port_or_range()}")
        if protocol == "tcp" and self._maybe(0.15):
            found.append(dice.choice(("-m tcp --syn", "-m tcp ! --syn", "-m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
                                      "-m tcp --tcp-flags ACK NONE", "-m tcp --tcp-flags ALL SYN", "-m tcp --tcp-flags SYN,ACK ACK")))  # fmt: skip
        found += [self._module(table, hook, protocol) for _ in range(2) if self._maybe(0.3)]
        return found

    def _where(self) -> str:
        return self.dice.choice(self.pool.hosts if self._maybe(0.6) else self.pool.networks)

    def _port_or_range(self) -> str:
        low = self.dice.choice(_PORTS)
        return self.dice.choice((str(low), str(low), f"{low}:{low + self.dice.randrange(1, 500)}", f"{low}:", f":{low}"))

    def _module(self, table: str, hook: str, protocol: str | None) -> str:
        dice, no = self.dice, self._not()
        choices = [
            f"-m mark {no}--mark {self._mark()}",
            f"-m connmark {no}--mark {self._mark()}",
            f"-m addrtype {no}--dst-type {dice.choice(('LOCAL', 'UNICAST', 'LOCAL,UNICAST', 'MULTICAST'))}",
            f"-m addrtype {no}--src-type {dice.choice(('LOCAL', 'UNICAST', 'BROADCAST' if self.family == 4 else 'ANYCAST'))}",
            f"-m conntrack {no}--ctstate {self._states('NEW', 'RELATED', 'ESTABLISHED', 'DNAT', 'UNTRACKED', 'INVALID', 'SNAT')}",
            f"-m conntrack {no}--ctstatus {dice.choice(('ASSURED', 'SEEN_REPLY', 'NONE', 'EXPECTED', 'CONFIRMED', 'EXPECTED,ASSURED'))}",
            f"-m conntrack {no}--ctorigdst {self._where()}",
            f"-m conntrack {no}--ctorigsrc {self._where()}",
            f"-m conntrack {no}--ctorigdstport {dice.choice(_PORTS)}",
            f"-m conntrack --ctdir {dice.choice(('ORIGINAL', 'REPLY'))}",
            f"-m conntrack {no}--ctproto {dice.choice((6, 17, 132))}",
            f"-m state {no}--state {self._states('NEW', 'RELATED', 'ESTABLISHED', 'INVALID', 'UNTRACKED')}",
            f"-m statistic --mode random {no}--probability {dice.choice((0, 0.25, 0.5, 1))}",
            f"-m statistic --mode nth {no}--every {dice.randrange(2, 4)} --packet 0",
            f"-m iprange {no}--dst-range {self._range()}",
            f"-m iprange {no}--src-range {self._range()}",
            '-m comment --comment "what ! -s it \\"says\\""',
            f"-m pkttype {no}--pkt-type {dice.choice(('unicast', 'broadcast'))}",
        ]
        choices += [
            f"-m length {no}--length {dice.choice(('0:50', '20:65535', '1000'))}",
            "-m limit --limit 1/hour --limit-burst 2",
        ]
        if hook in ("OUTPUT", "POSTROUTING", "INPUT", "FORWARD", "PREROUTING"):
            way = "out" if hook in ("OUTPUT", "POSTROUTING") else "in"
            choices.append(f"-m policy --dir {way} --pol {dice.choice(('none', 'ipsec'))}")
        if hook in ("OUTPUT", "POSTROUTING"):
            choices += [f"-m owner {no}--uid-owner 0", f"-m owner {no}--gid-owner 4242 {self._not()}--uid-owner 4242"]
        if hook == "PREROUTING" and table != "nat":
            choices.append("-m rpfilter --loose" + (" --invert" if no else ""))
        if protocol is not None:
            ports = ",".join(dice.sample(["53", "80", "443", "8000:8100", "20000:30000"], dice.randrange(1, 4)))
            choices += [f"-m multiport {no}{flag} {ports}" for flag in ("--dports", "--sports", "--ports")]
        return dice.choice(choices)

    def _states(self, *names: str) -> str:
        return ",".join(self.dice.sample(names, self.dice.randrange(1, 4)))

    def _range(self) -> str:
        hosts = self.pool.hosts
        low = self.dice.choice(hosts)
        stem, separator, last = low.rpartition("." if self.family == 4 else ":")
        return f"{stem}{separator}0-{stem}{separator}{int(last) + 3}" if last.isdigit() else f"{low}-{low}"

    def _mark(self) -> str:
        return self.dice.choice(("0x4000/0x4000", "0x1", "0x0", "0x8000/0x8000", "0x3/0x3", "0x1/0x3", "0x4001/0x4000"))

    # --- targets ---------------------------------------------------------------------------------------------------------------------

    def _target(self, table: str, hook: str, first_chain: int, matches: list[str]) -> list[str]:
        dice = self.dice
        roll = dice.random()
        if roll < 0.35 and first_chain < _CHAINS:
            return [dice.choice(("-j", "-j", "-g")), f"{table}-{dice.randrange(first_chain, _CHAINS)}"]
        if roll < 0.45:
            return ["-j RETURN"]
        if roll < 0.5:
            return []
        if table == "nat":
            return [self._translation(hook, any(one.startswith(("-p tcp", "-p udp", "-p sctp")) for one in matches))]
        choices = [f"-j MARK {self._set_mark()}", f"-j CONNMARK {self._set_connmark()}", "-j ACCEPT", "-j ACCEPT"]
        choices.append(dice.choice(("-j LOG", "-j NFLOG --nflog-group 7", "-j NFQUEUE --queue-num 7 --queue-bypass")))
        if table == "mangle":
            choices *= 2
            choices += ["-j TOS --set-tos 0x10/0x3f", "-j TTL --ttl-set 32" if self.family == 4 else "-j HL --hl-set 32"]
        if table == "raw":
            choices = ["-j NOTRACK" if self._maybe(0.5) else "-j CT --notrack", "-j ACCEPT", f"-j MARK {self._set_mark()}"]
        if table == "filter":
            choices.append("-j REJECT" + (" --reject-with tcp-reset" if "-p tcp" in matches and self._maybe(0.5) else ""))
        if len(matches) >= 2 and self._maybe(0.4):
            choices = [*choices[:1], "-j DROP"]
        return [dice.choice(choices)]

    def _translation(self, hook: str, has_ports: bool) -> str:
        pool, dice = self.pool, self.dice
        if hook in ("PREROUTING", "OUTPUT"):
            address = dice.choice(pool.targets)
            port = f":{dice.choice(_PORTS)}" if has_ports and self._maybe(0.7) else ""
            text = f"[{address}]{port}" if self.family == 6 and port else f"{address}{port}"
            choices = [f"-j DNAT --to-destination {text}"] * 4 + ["-j ACCEPT", f"-j MARK {self._set_mark()}"]
            if has_ports and hook == "OUTPUT":
                choices += [
                    f"-j DNAT --to-destination :{dice.choice(_PORTS)}",
                    f"-j REDIRECT --to-ports {dice.choice(_PORTS)}",
                    "-j REDIRECT",
                ]
            return dice.choice(choices)
        if hook == "POSTROUTING":
            return dice.choice(("-j MASQUERADE", "-j MASQUERADE --random-fully", f"-j SNAT --to-source {pool.snat}", "-j ACCEPT",
                                f"-j MARK {self._set_mark()}"))  # fmt: skip
        return dice.choice(("-j ACCEPT", f"-j MARK {self._set_mark()}"))

    def _set_mark(self) -> str:
        flag = self.dice.choice(("--set-xmark", "--set-xmark", "--set-mark", "--or-mark", "--and-mark", "--xor-mark"))
        value = self.dice.choice(("0x4000", "0x1", "0x3", "0x8000", "0xffffbfff"))
        return f"{flag} {value}" + (
            f"/{self.dice.choice(('0x4000', '0x3', '0xffffffff', '0x0'))}" if flag.startswith("--set") else ""
        )

    def _set_connmark(self) -> str:
        return self.dice.choice(("--save-mark", "--restore-mark", "--set-xmark 0x1/0x3", "--set-mark 0x4000",
                                 "--save-mark --nfmask 0x4000 --ctmask 0x4000", "--restore-mark --nfmask 0x3 --ctmask 0x3"))  # fmt: skip

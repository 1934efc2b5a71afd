"""Loads a dump from standard input into this network namespace and prints what python-iptables reads back from the kernel.

A program of its own: importing iptc loads kernel modules and keeps handles on the namespace that it began in.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    subprocess.run(["iptables-legacy-restore"], input=sys.stdin.read(), text=True, check=True)
    import iptc

    read = {}
    for name in sys.argv[1:]:
        table = iptc.Table(name)
        table.refresh()
        read[name] = {
            chain.name: [
                {
                    "source": rule.src,
                    "destination": rule.dst,
                    "in": rule.in_interface,
                    "out": rule.out_interface,
                    "protocol": rule.protocol,
                    "fragment": bool(rule.fragment),
                    "matches": [[match.name, match.get_all_parameters()] for match in rule.matches],
                    "target": rule.target.name if rule.target else None,
                    "goto": bool(rule.target and rule.target.goto),
                    "parameters": rule.target.get_all_parameters() if rule.target else {},
                }
                for rule in chain.rules
            ]
            for chain in table.chains
        }
    json.dump(read, sys.stdout)


if __name__ == "__main__":
    main()

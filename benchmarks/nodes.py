"""Measure an audit of many nodes against one set of objects, beside audits of single nodes.

    python benchmarks/nodes.py [--nodes K] [--services N] [--endpoints M] [--mode MODE] [--jobs J ...]

Writes the captures of K nodes of one cluster (names, addresses and local endpoints differ) into a temporary folder and prints, for each
number of processes, CPU seconds (user and system) for each node and the peak memory of all processes together, sampled (pages that
processes share are counted once), beside the CPU seconds of `ruleaudit check` for one of the nodes as a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from node import write_node

if TYPE_CHECKING:
    from collections.abc import Sequence

_SINGLE = 5
"""How many single audits are measured; their median counts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200, metavar="K")
    parser.add_argument("--services", type=int, default=1_000, metavar="N")
    parser.add_argument("--endpoints", type=int, default=3, metavar="M")
    parser.add_argument("--mode", choices=("iptables", "ipvs"), default="iptables")
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2], metavar="J")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_node(folder / "objects", given.services, given.endpoints, given.mode, nodes=given.nodes)
        objects = (folder / "objects" / "objects.json").rename(folder / "objects.json")
        captures = []
        for which in range(given.nodes):
            captures.append(str(folder / f"capture-{which:04}"))
            write_node(
                Path(captures[-1]),
                given.services,
                given.endpoints,
                given.mode,
                nodes=given.nodes,
                which=which,
                with_objects=False,
            )
        single = statistics.median(_measured([captures[0], "--objects", str(objects)])[0] for _ in range(_SINGLE))
        print(f"one node as a process of its own: {single:.3f} s of CPU")
        for part in sorted({min(20, given.nodes), given.nodes}):
            for jobs in given.jobs:
                used, elapsed, peak = _measured([*captures[:part], "--objects", str(objects), "--jobs", str(jobs)])
                share = used / part / single
                print(
                    f"{part:4} nodes, {jobs} at once: {used / part:.3f} s of CPU for each ({share:.0%} of a single audit), "
                    f"{elapsed:.1f} s in all, {peak / 1e6:,.0f} MB at most"
                )
    return 0


def _measured(arguments: Sequence[str]) -> tuple[float, float, float]:
    """CPU seconds, elapsed seconds and the most memory in bytes that `ruleaudit check` takes. Raises RuntimeError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    since = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "ruleaudit", "check", *arguments], stdout=subprocess.DEVNULL)
    peak = [0]
    sampler = threading.Thread(target=_sample, args=(process, peak))
    sampler.start()
    status = process.wait()
    elapsed = time.monotonic() - since
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise RuntimeError(f"ruleaudit check ended with {status}: the nodes are not as they should be")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, elapsed, peak[0]


def _sample(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Keep the largest sum of the proportional set sizes (proc(5), smaps_rollup) of a process and its children."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_proportional(one) for one in (process.pid, *_children(process.pid))))
        time.sleep(0.2)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())

"""Compare the audit of a large node with iptables' own reading of the same dump.

    python benchmarks/compare.py [--services N] [--endpoints M] [--runs R] [--json FILE]

Measured is the CPU time, user and system, of all processes: of the whole `ruleaudit check` (process start, dump, objects, findings), and
of `iptables-legacy-restore --test` and `iptables-nft-restore --test` in a network namespace of their own, which needs root; what of
these is not there is left out, and said so. The programs take turns, so that what else the machine does meets them alike. Given are
the median of the runs, wall time and peak memory; the ratio is against the faster of the two. In turn with them the same node is audited in
IPVS mode (`ipvsadm -Sn`, `ipset save`, iptables-save, addresses), which should cost no more. Further measurements: the audits of a
tenth of the services (ten times the services should cost at most eleven times the time), of a node of about 1,200 lines, and
`ruleaudit --version`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from node import FILES, NODE, write_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Measurement", "Subject", "main", "measure"]

_RESTORES = ("iptables-legacy-restore", "iptables-nft-restore")
# The kernel module is often absent, and the restore then fails on the rule rather than measuring it.
_ACCOUNTING = re.compile(r" -m nfacct --nfacct-name +\S+")
_SMALL = (25, 10)  # about 1,200 lines
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to measure: its label, its command line and the file that it reads on standard input, if any."""

    label: str
    command: tuple[str, ...]
    stdin: Path | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Medians over `runs`: CPU time and wall time in seconds, memory in MiB (the peak, summed over processes)."""

    label: str
    runs: int
    cpu: float
    wall: float
    memory: float


@dataclass(frozen=True, slots=True)
class _Run:
    cpu: float
    wall: float
    memory: float


def measure(subjects: Sequence[Subject], runs: int) -> list[Measurement]:
    """Run the programs in turn, `runs` times each. Raises RuntimeError when one fails, with what it said."""
    found: dict[str, list[_Run]] = {subject.label: [] for subject in subjects}
    for _ in range(runs):
        for subject in subjects:
            found[subject.label].append(_run(subject))
    return [
        Measurement(
            label, runs, median(run.cpu for run in each), median(run.wall for run in each), median(run.memory for run in each)
        )
        for label, each in found.items()
    ]


def _run(subject: Subject) -> _Run:
    with tempfile.TemporaryFile() as said, (subject.stdin or Path(os.devnull)).open("rb") as stdin:
        begin = time.monotonic()
        process = subprocess.Popen(subject.command, stdin=stdin, stdout=said, stderr=subprocess.STDOUT)
        sampler = _Memory(process.pid)
        sampler.start()
        # The usage of a process that has been waited for includes that of its children.
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stop()
        if process.returncode:
            said.seek(0)
            raise RuntimeError(
                f"{' '.join(subject.command)}: status {process.returncode}: {said.read().decode(errors='replace')[-2000:]}"
            )
    # Not ru_maxrss: a child inherits there what this process had when it was started.
    return _Run(usage.ru_utime + usage.ru_stime, wall, sampler.peak / 1024)


class _Memory(threading.Thread):
    """Looks every now and then at the most memory that a process and its descendants have had resident; `peak`: their sum in KiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak = pid, 0
        self._done = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(_resident(pid) for pid in _descendants(self.pid)))

    def stop(self) -> None:
        """End, and wait for the end."""
        self._done.set()
        self.join()


def _descendants(pid: int) -> Iterable[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return  # it has ended meanwhile
    for child in children:
        yield from _descendants(int(child))


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0  # it has ended meanwhile
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _audit(folder: Path, label: str, mode: str = "iptables") -> Subject:
    command = (
        *_ruleaudit(),
        "check",
        *(str(folder / name) for name in FILES[mode]),
        "--objects",
        str(folder / "objects.json"),
        "--node",
        NODE,
    )
    return Subject(label, command)


def _ruleaudit() -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("ruleaudit")
    return (str(beside),) if beside.exists() else (sys.executable, "-m", "ruleaudit")


def _restores(dump: Path) -> tuple[list[Subject], list[str]]:
    """The restore programs that can be run here, and why others cannot."""
    if os.geteuid():
        return [], ["iptables-restore --test is left out: it needs root"]
    if shutil.which("unshare") is None:
        return [], ["iptables-restore --test is left out: unshare is not installed, and rules are not tested in this namespace"]
    found, missing = [], []
    for program in _RESTORES:
        where = shutil.which(program)
        if where is None:
            missing.append(f"{program} is left out: it is not installed")
        else:
            found.append(Subject(f"{program} --test", ("unshare", "-n", where, "--test"), dump))
    return found, missing


def _node(work: Path, services: int, endpoints: int, mode: str = "iptables") -> Path:
    folder = work / f"{services}x{endpoints}-{mode}"
    write_node(folder, services, endpoints, mode)
    return folder


def _lines(folder: Path) -> int:
    total = 0
    for name in FILES["ipvs"]:
        if (folder / name).exists():
            with (folder / name).open("rb") as dump:
                total += sum(1 for _line in dump)
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000, metavar="N")
    parser.add_argument("--endpoints", type=int, default=10, metavar="M", help="endpoints of each Service")
    parser.add_argument("--runs", type=int, default=5, metavar="R", help="of each program; their median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = parser.parse_args(arguments)
    if given.runs < 1 or given.services < 10:
        parser.error("at least one run and ten services")
    with tempfile.TemporaryDirectory(prefix="ruleaudit-benchmark-") as directory:
        work = Path(directory)
        large, tenth = (_node(work, number, given.endpoints) for number in (given.services, given.services // 10))
        ipvs_large, ipvs_tenth = (
            _node(work, number, given.endpoints, "ipvs") for number in (given.services, given.services // 10)
        )
        small = _node(work, *_SMALL)
        plain = work / "without-accounting.txt"
        with (large / "iptables-save.txt").open() as dump, plain.open("w") as out:
            out.writelines(_ACCOUNTING.sub("", line) for line in dump)
        restores, missing = _restores(plain)
        sizes = {folder: _lines(folder) for folder in (large, tenth, small, ipvs_large, ipvs_tenth)}
        audit, ipvs, *others = measure(
            [
                _audit(large, f"ruleaudit check, {sizes[large]:,} lines"),
                _audit(ipvs_large, f"ruleaudit check, IPVS, {sizes[ipvs_large]:,} lines", "ipvs"),
                *restores,
            ],
            given.runs,
        )
        rest = measure(
            [
                _audit(tenth, f"ruleaudit check, {sizes[tenth]:,} lines"),
                _audit(ipvs_tenth, f"ruleaudit check, IPVS, {sizes[ipvs_tenth]:,} lines", "ipvs"),
                _audit(small, f"ruleaudit check, {sizes[small]:,} lines"),
                Subject("ruleaudit --version", (*_ruleaudit(), "--version")),
            ],
            given.runs,
        )
    ratios = {
        "ten times the services": round(audit.cpu / rest[0].cpu, 2),
        "ten times the services, IPVS": round(ipvs.cpu / rest[1].cpu, 2),
        "IPVS to iptables": round(ipvs.cpu / audit.cpu, 2),
    }
    if others:
        ratios["audit to the faster restore"] = round(audit.cpu / min(one.cpu for one in others), 2)
    print(f"{'':44} {'CPU s':>8} {'wall s':>8} {'MiB':>8}")
    for one in (audit, ipvs, *others, *rest):
        print(f"{one.label:44} {one.cpu:8.2f} {one.wall:8.2f} {one.memory:8.0f}")
    for name, ratio in ratios.items():
        print(f"{name:44} {ratio:8.2f}")
    for note in missing:
        print(note, file=sys.stderr)
    if given.json is not None:
        figures = {
            "services": given.services,
            "endpoints": given.endpoints,
            "measurements": [asdict(one) for one in (audit, ipvs, *others, *rest)],
            "ratios": ratios,
            "left out": missing,
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

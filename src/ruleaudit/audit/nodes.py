"""Audits of many nodes against the same objects, in parallel: each process audits one node at a time, and only reports come back."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import traceback
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from ruleaudit.audit import audit_inputs
from ruleaudit.audit.inputs import require_usable_dumps
from ruleaudit.audit.shared import Shared
from ruleaudit.errors import RuleauditError
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

    from ruleaudit.audit.inputs import Progress
    from ruleaudit.findings import Report
    from ruleaudit.kubeproxy.settings import GivenSettings
    from ruleaudit.sources import Capture, Captures, Source

__all__ = ["NodeAudit", "audit_nodes", "usable_cores"]


@dataclass(frozen=True, slots=True)
class NodeAudit:
    """The outcome of one node: its report, or why there is none.

    `path` is that of its capture. `trace`: the traceback of a fault of ruleaudit itself, else "".
    """

    path: str
    report: Report | None
    error: str = ""
    trace: str = ""


_AHEAD = 8
"""So many nodes for each process may be done before the first of them."""


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def audit_nodes(
    captures: Captures,
    *,
    settings: GivenSettings | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    limit_factor: int = 1,
) -> list[NodeAudit]:
    """Audit every node of `captures`, in `jobs` processes (None: as many as there are cores); the outcomes in the order of the nodes.

    `settings` win over what the nodes' sources say. A node whose inputs cannot be used does not stop the others. `progress` is called
    with a text and the part done (0 to 1). Raises InputError where the shared inputs cannot be used, or files are of nobody that they name.
    """
    step = progress or (lambda _what, _part: None)
    shared = Shared(captures.shared)
    objects = [(one.path, one.data) for one in captures.shared if one.kind is InputKind.OBJECTS]
    known: Collection[str] = ()
    if objects:
        step("objects", 0.0)
        known = shared.cluster(objects, limit_factor).nodes  # before the processes part: all of them look at the same memory
    captures.require_names(known)
    work = _Work(captures.shared, shared, settings, limit_factor)
    first, rest = captures.nodes[:1], captures.nodes[1:]
    step(f"1 of {len(captures.nodes):,}: {first[0].path}", 0.0)
    with shared.learning():  # here, so that what is made for every node is made before the processes part
        outcomes = [work.audit(capture) for capture in first]
    gc.collect()
    gc.freeze()  # nor looked at by the collector of any of them: it stays in memory that they share
    try:
        others = _gathered(rest, _in_parallel(work, rest, min(jobs or usable_cores(), len(rest))), step)
        outcomes = list(_held_once(chain(outcomes, others)))
    finally:
        gc.unfreeze()
    step("done", 1.0)
    return outcomes


def _gathered(captures: Sequence[Capture], audited: Iterator[NodeAudit], step: Progress) -> Iterator[NodeAudit]:
    total = len(captures) + 1
    for number, capture in enumerate(captures, 2):
        step(f"{number:,} of {total:,}: {capture.path}", (number - 1) / total)
        yield next(audited)


def _held_once(outcomes: Iterable[NodeAudit]) -> Iterator[NodeAudit]:
    """The outcomes, with what is long and many nodes have alike held once: the names of Services, and what is programmed."""
    names: dict[tuple[str, ...], tuple[str, ...]] = {}
    programmed: dict[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] = {}
    pairs: dict[tuple[str, int], tuple[str, int]] = {}
    for one in outcomes:
        report = one.report
        if report is None:
            yield one
            continue
        traits = report.traits
        if traits is not None:
            held = programmed.get(traits.programmed)
            if held is None:
                held = tuple(pairs.setdefault(pair, pair) for pair in traits.programmed)
                programmed[held] = held
            traits = replace(traits, programmed=held)
        service_names = names.setdefault(report.service_names, report.service_names)
        yield replace(one, report=replace(report, service_names=service_names, traits=traits))


@dataclass(slots=True)
class _Work:
    """What is needed to audit one node after the other."""

    sources: Sequence[Source]
    shared: Shared
    settings: GivenSettings | None
    limit_factor: int

    def audit(self, capture: Capture) -> NodeAudit:
        """The outcome of the node whose capture this is."""
        path = capture.path
        try:
            own = capture.read(limit_factor=self.limit_factor)
            require_usable_dumps(own)
            report = audit_inputs(
                [*self.sources, *own],
                settings=self.settings,
                limit_factor=self.limit_factor,
                shared=self.shared,
                place=capture.name,
            )
        except RuleauditError as error:
            return NodeAudit(path, None, str(error), traceback.format_exc())
        except Exception as error:  # a fault of ruleaudit that one node brings up must not cost the reports of the others
            what = f"internal error: {type(error).__name__}: {error}. This is a fault of ruleaudit: please report it"
            return NodeAudit(path, None, what, traceback.format_exc())
        return NodeAudit(path, report)


def _audit_alone(work: _Work, capture: Capture, answer: Connection) -> None:
    """What a process of a node does: it ends without letting go of anything, which would take a third as long again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process' affair
    gc.disable()  # one audit, and then the end: what it makes is never looked at again
    answer.send(work.audit(capture))
    answer.close()
    os._exit(0)


def _in_parallel(work: _Work, captures: Sequence[Capture], count: int) -> Iterator[NodeAudit]:
    """The outcomes in the order of `captures`, from a process for each, `count` of them at a time.

    Where processes can be forked they have the objects in common with this one.
    """
    processes: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    done: dict[int, NodeAudit] = {}
    started = given = 0
    try:
        while given < len(captures):
            # Those that are done and wait for an earlier one are few: a slow node must not let the reports of all others pile up.
            while started < len(captures) and len(running) < count and started < given + _AHEAD * count:
                receiver, sender = processes.Pipe(duplex=False)
                process: BaseProcess = processes.Process(target=_audit_alone, args=(work, captures[started], sender))
                process.start()
                sender.close()
                running[receiver] = (started, process)
                started += 1
            for receiver in [one for one in wait(list(running)) if isinstance(one, Connection)]:
                number, process = running.pop(receiver)
                try:
                    done[number] = receiver.recv()
                except EOFError:
                    done[number] = NodeAudit(captures[number].path, None, _ended(process))
                receiver.close()
                process.join()
            while given in done:
                yield done.pop(given)
                given += 1
    finally:
        for receiver, (_, process) in running.items():
            process.terminate()
            process.join()
            receiver.close()


def _ended(process: BaseProcess) -> str:
    """Why a process gave no answer."""
    process.join()
    code = process.exitcode or 0
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    return f"the process that audited it was ended by the system ({how}), most likely for lack of memory; run with fewer --jobs"

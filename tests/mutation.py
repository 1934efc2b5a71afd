"""Mutation run: change the audit's own code in one place at a time, and see whether a test notices.

    python tests/mutation.py [--module NAME]... [--sample N] [--jobs N] [--tests PATH]... [--list]

A mutant that no test notices (a survivor) is code whose effect nothing holds: a hole in the tests, or an equivalent change. The tests are
collected and run once, under coverage, to learn which of them execute which line. Then each mutant gets a process of its own, forked
from this one with everything imported; it puts its change into the living function and runs the tests of that line until one fails,
those first that noticed the neighbours. A mutant that does not end within several times what its tests took counts as noticed.

What is changed: comparisons, operands of `and`/`or`, `not`, conditions, numbers, words, arithmetic, `any`/`all`, `min`/`max`, returned values,
`break`/`continue`, statements that only have an effect, optional arguments of findings; in functions, and in the tables of a module. What is
not: annotations, defaults of parameters, docstrings, the wording of messages, what is raised.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import importlib
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Literal, TypeAlias

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "kubeproxy.endpoints", "kubeproxy.expect", "compare",
    "checks.alone", "checks.context", "checks.foreign", "checks.judgement", "checks.leftovers", "checks.nodewide", "checks.objects",
    "checks.observer", "checks.service_chains", "checks.services", "checks.source_ranges", "checks.stopped", "checks.written",
    "dataplane.classes", "dataplane.evaluator", "dataplane.matches", "dataplane.observe", "dataplane.packet", "dataplane.ruleset", "dataplane.walk",
)  # fmt: skip
TESTS = ("tests/test_*.py", "tests/kubeproxy/test_*.py", "tests/checks/test_*.py", "tests/dataplane/test_*.py")
# These start processes, measure time or damage inputs at random: slow, and what they notice the others notice as well.
NOT_TESTS = frozenset({"test_bad_input", "test_benchmark_node", "test_captures", "test_cli", "test_sources", "test_semantics",
                       "test_catalogue"})  # fmt: skip
MEMORY = 3 << 30
LEAST_SECONDS = 4
Result: TypeAlias = Literal["killed", "survived", "timed out", "not reached"]

# --- what is changed ---------------------------------------------------------------------------------------------------------------------

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
_OF_FINDINGS = frozenset({"severity", "possible", "of", "service", "port", "frontend", "endpoint", "places", "objects", "cause"})
_WORDING = frozenset({"expected", "observed", "hint", "subject", "message"})


@dataclass(frozen=True)
class Change:
    """One place of a syntax tree and what is done there. `statement`: the module's statement that holds it."""

    line: int
    text: str
    apply: Callable[[], None]
    statement: ast.stmt


def changes(tree: ast.Module) -> list[Change]:
    """Every change of a module, in an order that depends on its text alone."""
    found: list[Change] = []
    for number, statement in enumerate(tree.body):
        holder = Holder(tree, "body", number)
        if "__all__" in _targets(statement):
            continue
        if isinstance(statement, (ast.FunctionDef, ast.Assign, ast.AnnAssign)):
            found += [Change(line, text, apply, statement) for line, text, apply in _inside(holder, statement)]
        elif isinstance(statement, ast.ClassDef):
            for at, method in enumerate(statement.body):
                if isinstance(method, ast.FunctionDef):
                    place = Holder(statement, "body", at)
                    found += [Change(line, text, apply, statement) for line, text, apply in _inside(place, method)]
    return found


@dataclass(frozen=True)
class Holder:
    """Where a node hangs in the tree."""

    parent: ast.AST
    name: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        """Hang another node there."""
        if self.index is None:
            setattr(self.parent, self.name, node)
        else:
            getattr(self.parent, self.name)[self.index] = node


Site: TypeAlias = "tuple[int, str, Callable[[], None]]"


def _inside(place: Holder, node: ast.AST) -> Iterator[Site]:
    yield from _own(place, node)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "defaults", "kw_defaults", "ctx", "ops", "op"):
            continue
        if name == "target" and isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For)):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _left_alone(child, node):
                yield from _inside(Holder(node, name, index), child)


def _left_alone(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.Pass, ast.Delete)):
        return True
    if isinstance(node, ast.keyword) and node.arg in _WORDING:
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(parent, ast.FunctionDef)


def _own(place: Holder, node: ast.AST) -> Iterator[Site]:
    """The changes of one node itself."""
    line = getattr(node, "lineno", 0)

    def instead(new: ast.AST) -> Site:
        return line, f"{_text(node)}  ->  {_text(new)}", lambda: place.put(ast.copy_location(new, node))

    match node:
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for number, operator in enumerate(ops):
                other = [*ops[:number], _COMPARE[type(operator)](), *ops[number + 1 :]]
                yield instead(ast.Compare(left, other, comparators))
        case ast.BoolOp(op=operator, values=values):
            for number, one in enumerate(values):
                rest = [*values[:number], *values[number + 1 :]]
                new = rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
                yield line, f"{_text(node)}  ->  without {_text(one)}", functools.partial(place.put, new)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            yield line, f"{_text(node)}  ->  {_text(operand)}", functools.partial(place.put, operand)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            yield instead(ast.BinOp(left, _ARITHMETIC[type(operator)](), right))
        case ast.Constant(value=bool(value)):
            yield instead(ast.Constant(not value))
        case ast.Constant(value=int(value) | float(value)):
            yield instead(ast.Constant(value + 1))
            if value >= 1:
                yield instead(ast.Constant(value - 1))
        case ast.Constant(value=str(value)) if value and (" " not in value or value[:1] == "-" or value[:5] == "KUBE-"):
            yield instead(ast.Constant(value + "~"))
        case ast.Name(id=name, ctx=ast.Load()) if name in _NAMES and place.name == "func":
            yield instead(ast.Name(_NAMES[name], ast.Load()))
        case ast.If(test=test) | ast.IfExp(test=test):
            for value in (True, False):
                what = f"if {_text(test)}  ->  if {value}"
                yield line, what, functools.partial(setattr, node, "test", ast.copy_location(ast.Constant(value), test))
        case ast.While(test=test):
            new = ast.copy_location(ast.Constant(value=False), test)
            yield line, f"while {_text(test)}  ->  never", functools.partial(setattr, node, "test", new)
        case ast.comprehension(ifs=conditions):
            for number, test in enumerate(conditions):
                rest = [*conditions[:number], *conditions[number + 1 :]]
                yield test.lineno, f"if {_text(test)}  ->  no such condition", functools.partial(setattr, node, "ifs", rest)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield instead(ast.Return(ast.copy_location(ast.Constant(None), value)))
        case ast.Continue():
            yield instead(ast.Pass())
        case ast.Break():
            yield instead(ast.Pass())
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom() as value):
            nothing: ast.stmt = ast.Pass() if isinstance(value, ast.Call) else _yields_nothing()
            yield line, f"{_text(node)}  ->  left out", lambda: place.put(ast.copy_location(nothing, node))
        case ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield line, f"{_text(node)}  ->  left out", lambda: place.put(ast.copy_location(ast.Pass(), node))
        case ast.Call(func=ast.Attribute(attr="finding"), keywords=keywords):
            for number, keyword in enumerate(keywords):
                if keyword.arg in _OF_FINDINGS:
                    others = [*keywords[:number], *keywords[number + 1 :]]
                    yield (
                        keyword.value.lineno,
                        f"finding without {keyword.arg}",
                        functools.partial(setattr, node, "keywords", others),
                    )
        case _:
            pass


def _yields_nothing() -> ast.stmt:
    """A statement that keeps a generator a generator."""
    return ast.parse("if False: yield").body[0]


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(node) if not isinstance(node, ast.comprehension) else node).split())
    return text if len(text) <= 90 else text[:87] + "..."


# --- putting a change into living code ---------------------------------------------------------------------------------------------------


def _codes(code: CodeType, path: str = "") -> Iterator[tuple[tuple[str, int], CodeType]]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            name = f"{path}.{one.co_name}"
            yield (name, one.co_firstlineno), one
            yield from _codes(one, name)


def _references(statement: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def _targets(statement: ast.stmt) -> set[str]:
    return {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


@dataclass
class Module:
    """One module under test: its text, its living functions, and which tests execute which of its lines."""

    name: str
    module: ModuleType
    path: Path
    source: str
    functions: dict[tuple[str, int], list[FunctionType]] = field(default_factory=dict)
    tests: dict[int, list[str]] = field(default_factory=dict)

    def put(self, number: int) -> None:
        """Put the change of that number into the living module."""
        tree = ast.parse(self.source)
        change = changes(tree)[number]
        statement = next(at for at, one in enumerate(tree.body) if one is change.statement)
        change.apply()
        ast.fix_missing_locations(tree)
        mutated = compile(tree, str(self.path), "exec", dont_inherit=True)
        if isinstance(change.statement, (ast.Assign, ast.AnnAssign)):
            self._assign(tree, tree.body[statement])
            return
        original = dict(_codes(compile(ast.parse(self.source), str(self.path), "exec", dont_inherit=True)))
        for key, code in _codes(mutated):
            if code != original.get(key):
                for function in self.functions.get(key, ()):
                    with contextlib.suppress(ValueError):  # closures that live on have their own free variables
                        function.__code__ = code
        self._assign(tree, tree.body[statement])

    def _assign(self, tree: ast.Module, cause: ast.stmt) -> None:
        """Assign anew the tables that `cause`, a changed table or function, has a part in; modules that imported them get them, too."""
        for one in tables_of(tree, cause):
            names = _targets(one)
            before = {name: vars(self.module).get(name) for name in names}
            future = ast.parse("from __future__ import annotations").body
            exec(compile(ast.Module([*future, one], []), str(self.path), "exec"), vars(self.module))
            for other in list(sys.modules.values()):
                for name in names:
                    if other is not self.module and vars(other).get(name, self) is before[name]:
                        setattr(other, name, vars(self.module)[name])


def tables_of(tree: ast.Module, cause: ast.stmt) -> list[ast.stmt]:
    """The assignments of a module that make use of `cause`, by whichever functions; itself, if it is one."""
    changed = _targets(cause) if isinstance(cause, (ast.Assign, ast.AnnAssign)) else {getattr(cause, "name", "")}
    found: list[ast.stmt] = [cause] if isinstance(cause, (ast.Assign, ast.AnnAssign)) else []
    more = True
    while more:  # a function may stand behind what it uses, or before
        more = False
        for one in tree.body:
            if isinstance(one, ast.FunctionDef) and one.name not in changed and _references(one) & changed:
                changed.add(one.name)
                more = True
    for one in tree.body:
        if one is not cause and isinstance(one, (ast.Assign, ast.AnnAssign)) and one.value and _references(one.value) & changed:
            changed |= _targets(one)
            found.append(one)
    return found


def _load(names: Iterable[str]) -> list[Module]:
    modules = []
    for name in names:
        module = importlib.import_module(f"ruleaudit.{name}")
        path = Path(module.__file__ or "")
        modules.append(Module(name, module, path, path.read_text()))
    return modules


def _find_functions(modules: Sequence[Module]) -> None:
    places = {str(one.path): one for one in modules}
    known = {
        str(one.path): {code: key for key, code in _codes(compile(one.source, str(one.path), "exec", dont_inherit=True))}
        for one in modules
    }
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and (module := places.get(thing.__code__.co_filename)) is not None:
            key = known[thing.__code__.co_filename].get(thing.__code__)
            if key is not None:
                module.functions.setdefault(key, []).append(thing)


class Caches:
    """What the program remembers of earlier questions: caches of functions, and tables of its modules that are empty at the start."""

    def __init__(self) -> None:
        modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "ruleaudit"]
        self.tables = [value for module in modules for value in vars(module).values() if isinstance(value, dict) and not value]
        self.functions = [
            one
            for one in gc.get_objects()
            if isinstance(one, functools._lru_cache_wrapper) and str(one.__module__).startswith("ruleaudit")
        ]

    def forget(self) -> None:
        """Empty them: what they hold hangs on the change."""
        for table in self.tables:
            table.clear()
        for function in self.functions:
            function.cache_clear()


# --- the run -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: Module
    number: int
    line: int
    text: str
    tests: tuple[str, ...]


class Run:
    """A plugin of pytest: it has the tests collected, learns what they execute, and runs them against every mutant."""

    def __init__(self, options: argparse.Namespace, modules: Sequence[Module]) -> None:
        self.options, self.modules, self.caches = options, modules, Caches()
        self.took: dict[str, float] = {}
        self.failed: list[str] = []
        self.noticed: Counter[str] = Counter()
        self.results: dict[str, Counter[Result]] = {one.name: Counter() for one in modules}
        self.survivors: list[tuple[str, Result]] = []
        self.out = os.fdopen(os.dup(1), "w", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise pytest.UsageError("the tests cannot be collected")
        self.items = {item.nodeid: item for item in session.items}
        self._learn(session.items)
        if self.failed:
            self.out.write("left out, since they fail without any change:\n" + "\n".join(self.failed) + "\n")
        mutants = self._mutants()
        every = len(mutants)
        if self.options.sample and self.options.sample < every:
            chosen = random.Random(self.options.seed).sample(range(every), self.options.sample)
            mutants = [mutants[at] for at in sorted(chosen)]
        self.out.write(f"{len(mutants)} of {every} mutants, {len(self.items)} tests\n")
        started = time.monotonic()
        self._all(mutants)
        self._report(len(mutants), every, time.monotonic() - started)
        return True

    def _learn(self, items: Sequence[pytest.Item]) -> None:
        """Run each test once, under coverage, with empty caches."""
        watch = coverage.Coverage(
            data_file=None, branch=False, include=[str(one.path) for one in self.modules], config_file=False
        )
        watch.start()
        for at, item in enumerate(items):
            self.caches.forget()
            watch.switch_context(item.nodeid)
            started = time.monotonic()
            with _silence():
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[at + 1] if at + 1 < len(items) else None)
            self.took[item.nodeid] = time.monotonic() - started
        watch.stop()
        data = watch.get_data()
        for module in self.modules:
            for line, contexts in data.contexts_by_lineno(str(module.path)).items():
                module.tests[line] = [one for one in contexts if one in self.items and one not in self.failed]
        _find_functions(self.modules)
        gc.collect()
        gc.freeze()

    def _mutants(self) -> list[Mutant]:
        mutants = []
        for module in self.modules:
            anywhere = sorted({test for tests in module.tests.values() for test in tests})
            tree = ast.parse(module.source)
            for number, change in enumerate(changes(tree)):
                tests = anywhere if tables_of(tree, change.statement) else module.tests.get(change.line, [])
                mutants.append(Mutant(module, number, change.line, change.text, tuple(tests)))
        return mutants

    def _all(self, mutants: Sequence[Mutant]) -> None:
        running: dict[int, tuple[Mutant, int]] = {}
        waiting = list(reversed(mutants))
        done = 0
        while waiting or running:
            while waiting and len(running) < self.options.jobs:
                mutant = waiting.pop()
                if not mutant.tests:
                    self._settle(mutant, "not reached")
                    continue
                tests = sorted(mutant.tests, key=lambda test: (-self.noticed[test], self.took[test]))
                reader, writer = os.pipe()
                self.out.flush()
                pid = os.fork()
                if not pid:
                    self._child(mutant, tests, writer)
                os.close(writer)
                running[pid] = mutant, reader
            if not running:
                continue
            pid, status = os.wait()
            mutant, reader = running.pop(pid)
            with os.fdopen(reader) as told:
                test = told.read()
            if test in self.took:
                # What noticed a neighbour is likely to notice the next; what is slow stays behind.
                self.noticed[test] = min(self.noticed[test] + 1, 3 + int(0.2 / (self.took[test] + 0.01)))
            if os.WIFSIGNALED(status):
                self._settle(mutant, "timed out" if os.WTERMSIG(status) == signal.SIGALRM else "killed")
            else:
                self._settle(mutant, "killed" if os.WEXITSTATUS(status) else "survived")
            done += 1
            if done % 100 == 0:
                self.out.write(f"... {done} of {len(mutants)}\n")

    def _child(self, mutant: Mutant, tests: Sequence[str], writer: int) -> None:
        """Never returns: 0 when no test failed."""
        status = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LEAST_SECONDS + int(5 * sum(self.took[test] for test in tests)))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            self.failed.clear()
            mutant.module.put(mutant.number)
            self.caches.forget()
            items = [self.items[test] for test in tests]
            for at, item in enumerate(items):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[at + 1] if at + 1 < len(items) else None)
                if self.failed:
                    os.write(writer, item.nodeid.encode())
                    break
            else:
                status = 0
        finally:
            os._exit(status)

    def _settle(self, mutant: Mutant, result: Result) -> None:
        self.results[mutant.module.name][result] += 1
        if result in ("survived", "not reached"):
            line = (
                f"{mutant.module.path.relative_to(mutant.module.path.parents[len(mutant.module.name.split('.'))])}:{mutant.line}"
            )
            self.survivors.append((f"{line}: {mutant.text}", result))
            self.out.write(f"{result}: {line}: {mutant.text}\n")

    def _report(self, tried: int, every: int, seconds: float) -> None:
        self.out.write(f"\n{'module':24}{'killed':>9}{'timed out':>11}{'survived':>10}{'not reached':>13}\n")
        total: Counter[Result] = Counter()
        for name, counts in self.results.items():
            if counts:
                total += counts
                self.out.write(_row(name, counts))
        self.out.write(_row("all", total))
        noticed = total["killed"] + total["timed out"]
        self.out.write(
            f"{noticed / max(1, tried):.1%} of {tried} mutants noticed ({tried} of {every} tried) in {seconds:.0f} s\n"
        )


def _row(name: str, counts: Counter[Result]) -> str:
    return f"{name:24}{counts['killed']:9}{counts['timed out']:11}{counts['survived']:10}{counts['not reached']:13}\n"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    kept = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        for number, one in enumerate(kept, 1):
            os.dup2(one, number)
            os.close(one)
        os.close(null)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--module", action="append", metavar="NAME", help="a module below ruleaudit, checks.written; all listed ones"
    )
    parser.add_argument(
        "--tests", action="append", metavar="PATH", help="tests to run, a pattern; those that need neither root nor captures"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="try N mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="of the choice")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants at a time")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    options = parser.parse_args()
    os.chdir(ROOT)
    modules = _load(options.module or MODULES)
    if options.list:
        for module in modules:
            for change in changes(ast.parse(module.source)):
                sys.stdout.write(f"{module.name}:{change.line}: {change.text}\n")
        return 0
    paths = [
        str(path)
        for pattern in options.tests or TESTS
        for path in sorted(ROOT.glob(pattern.removeprefix(f"{ROOT}/")))
        if path.stem not in NOT_TESTS
    ]
    os.environ["CI"] = "1"  # properties try the same examples each time
    quiet = [
        "-o",
        "addopts=--import-mode=importlib --strict-markers",
        "-p",
        "no:terminal",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faulthandler",
    ]
    return int(pytest.main([*quiet, *paths], plugins=[Run(options, modules)]))


if __name__ == "__main__":
    sys.exit(main())

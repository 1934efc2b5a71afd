"""The command line: arguments in, one call of the library, a report out.

What is heavy (parsers, decoders, rich) is imported where it is used: `--version` and `--help` need none of it.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO, TypeVar

import click

import ruleaudit
from ruleaudit import __version__, cli_configuration
from ruleaudit.cli_collect import cluster_options, collect_command, outside_sources
from ruleaudit.cli_completion import VARIABLE, complete_codes, complete_files
from ruleaudit.reports.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Progress as ProgressBar

    from ruleaudit.findings import Report, Severity
    from ruleaudit.reports.formats import Target
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Grouping, Layout, Line
    from ruleaudit.settings import GivenSettings
    from ruleaudit.sources import Captures, Source
    from ruleaudit.trace import Nodes

__all__ = ["command", "main"]

CLEAN, FOUND, FAILED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: nothing at or above --fail-on; findings; usage, unusable input or a fault of ruleaudit; Ctrl-C."""

Color = Literal["auto", "always", "never"]
Function = TypeVar("Function", bound="Callable[..., object]")

_EXAMPLES = """\b
Examples:
  ruleaudit check iptables-save.txt objects.json --node node-a
  iptables-save | ruleaudit check --objects objects.json --node node-a
  ruleaudit check --live --cluster
  ruleaudit explain RA206
"""
_CHECK_EPILOG = """\b
Objects: kubectl get services,endpointslices,endpoints,nodes,pods,ingresses,ingressclasses -A -o json > objects.json
Rules:   iptables-save > iptables-save.txt; ip6tables-save > ip6tables-save.txt   (as root, on the node)

\b
Exit status: 0 nothing at or above --fail-on, 1 findings, 2 usage, unreadable or unrecognised input.
"""


class OutputError(Exception):
    """The report cannot be written; the message says where and why."""


# --- the entry point ---


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. Nothing but SystemExit of an interpreter on its way down gets out."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    try:
        status = command.main(args=words, prog_name=_called(), complete_var=VARIABLE, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # the last line of defence: a fault of ruleaudit itself must not look like a finding
        return _failed(error, debug=debug)
    return status if isinstance(status, int) else CLEAN


def _called() -> str:
    """How the user calls the command: as a plugin of kubectl, too, which runs kubectl-ruleaudit for `kubectl ruleaudit`."""
    return "kubectl ruleaudit" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "ruleaudit"  # noqa: PTH119  pathlib takes its time


def _failed(error: Exception, *, debug: bool) -> int:
    from ruleaudit.errors import RuleauditError
    from ruleaudit.reports.printable import printable

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, RuleauditError | OutputError):
        _say(f"ruleaudit: {printable(str(error))}")
        return FAILED
    again = "" if debug else ", with the output of the same command with --debug"
    what = f"{type(error).__name__}: {printable(str(error))}"
    _say(f"ruleaudit {__version__}: internal error: {what}. This is a fault of ruleaudit: please report it{again}")
    return FAILED


def _say(text: str) -> None:
    """One line of diagnostics."""
    click.echo(text, err=True)


# --- options that commands share ---


def _common_options(function: Function) -> Function:
    for option in (
        click.option("--debug", is_flag=True, help="Show a traceback with every error."),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="Colours; auto: on a terminal, unless NO_COLOR is set.",
        ),
    ):
        function = option(function)
    return function


def _input_options(function: Function) -> Function:
    """INPUT, and what is said of it."""
    for option in (
        click.option(
            "--limit-factor",
            type=click.IntRange(1, 1000),
            default=1,
            show_default=True,
            help="Read inputs so many times larger than the limits that refusals name.",
        ),
        click.option(
            "--kube-proxy-config",
            metavar="FILE",
            shell_complete=complete_files,
            help="kube-proxy's settings: its configuration, the ConfigMap or DaemonSet that holds it, or its command line.",
        ),
        click.option("--node", metavar="NAME", help="The node whose rules these are.  [default: the only Node of the objects]"),
        click.option(
            "--objects",
            metavar="FILE",
            multiple=True,
            shell_complete=complete_files,
            help="Kubernetes objects, JSON or YAML; same as an INPUT.",
        ),
        click.argument("inputs", metavar="[INPUT]...", nargs=-1, shell_complete=complete_files),
    ):
        function = option(function)
    return function


def _output_option(function: Function) -> Function:
    return click.option(
        "--output", metavar="FILE", shell_complete=complete_files, help="Write to FILE, as a whole or not at all."
    )(function)


def _split(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _service_names(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        namespace, slash, name = value.partition("/")
        if not (namespace and slash and name) or "/" in name:
            raise click.BadParameter(f"{value!r} is no NAMESPACE/NAME")
    return values


# --- commands ---


class _Commands(click.Group):
    """The commands, of which some stand in modules of their own and are imported when they are asked for."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "anonymize": "ruleaudit.cli_anonymize",
        "completion": "ruleaudit.cli_completion",
        "lint": "ruleaudit.cli_lint",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, by name."""
        return sorted({*super().list_commands(ctx), *self.elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is none."""
        place = self.elsewhere.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        found: object = getattr(import_module(place), cmd_name)
        return found if isinstance(found, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EXAMPLES)
@click.version_option(__version__, message="%(prog)s %(version)s")
def command() -> None:
    """Compare what kube-proxy has programmed on a node with what the Kubernetes objects ask for, offline."""


@command.command(epilog=_CHECK_EPILOG)
@_input_options
@click.option("--live", is_flag=True, help="Read the rules of the node that this runs on, as root; nothing is changed.")
@click.option("--cluster", is_flag=True, help="Read the objects from the API server; nothing is changed.")
@cluster_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(FORMATS)),
    help="What is printed, and written to files whose name says no format.  [default: text]",
)
@click.option(
    "--output",
    "outputs",
    metavar="[FORMAT:]FILE",
    multiple=True,
    shell_complete=complete_files,
    help="Write to FILE, as a whole or not at all, in the format of its ending (.json, .html, .md, .sarif, .xml for JUnit, "
    ".gitlab.json); may be given several times. Then only a --format that no file has is printed.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Exit with 1 on findings of this severity or worse. info also shows notes in full.",
)
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Audit so many nodes at once.  [default: as many as there are cores]"
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")
@click.option("--strict-coverage", is_flag=True, help="Exit with 2 when something could not be checked (RA004).")
@click.option(
    "--select",
    metavar="PREFIX,...",
    multiple=True,
    callback=_split,
    shell_complete=complete_codes,
    help="Only codes that begin so.",
)
@click.option(
    "--ignore",
    metavar="PREFIX,...",
    multiple=True,
    callback=_split,
    shell_complete=complete_codes,
    help="No codes that begin so.",
)
@click.option(
    "--service",
    "services",
    metavar="NS/NAME",
    multiple=True,
    callback=_service_names,
    help="Only this Service, and what concerns the node.",
)
@click.option(
    "--namespace", "namespaces", metavar="NS", multiple=True, help="Only Services of this namespace, and what concerns the node."
)
@click.option(
    "--group-by",
    type=click.Choice(["service", "code", "node"]),
    default="service",
    show_default=True,
    help="How text is ordered.",
)
@click.option("--statistics", is_flag=True, help="Add a count for each code to the text.")
@click.option("--quiet", is_flag=True, help="Print findings only: no notes, no summary, no progress.")
@cli_configuration.baseline_options
@cli_configuration.configuration_options
@_common_options
def check(
    *,
    inputs: tuple[str, ...],
    objects: tuple[str, ...],
    live: bool,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    request_timeout: float,
    node: str | None,
    kube_proxy_config: str | None,
    format_: str | None,
    outputs: tuple[str, ...],
    fail_on: str,
    jobs: int | None,
    exit_zero: bool,
    strict_coverage: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    services: tuple[str, ...],
    namespaces: tuple[str, ...],
    group_by: Grouping,
    statistics: bool,
    limit_factor: int,
    quiet: bool,
    baseline: str | None,
    write_baseline: str | None,
    color: Color,
    debug: bool,
) -> int:
    """Compare the rules of one node with the objects of its cluster.

    INPUT is a dump (iptables-save), a file of objects, a folder or an archive of both, or - for standard input; what each is, is
    found by its content. Without INPUT a pipe on standard input is read. --live reads the node that this runs on, --cluster the
    objects from the API server. Where INPUTs are folders or archives of several nodes, each is audited by itself, against the objects
    that are given beside them, with --objects or --cluster, or that lie in its own folder.
    """
    from ruleaudit import cli_nodes
    from ruleaudit.findings import Severity
    from ruleaudit.reports.selection import Selection, code_prefix

    selection = Selection(tuple(map(code_prefix, select)), tuple(map(code_prefix, ignore)), services, namespaces)
    threshold = Severity(fail_on)
    paths = inputs or (() if live else _piped())
    targets = _targets(outputs, format_)
    with _Progress(shown=not quiet) as progress:
        outside = outside_sources(
            live=live,
            cluster=cluster,
            kubeconfig=kubeconfig,
            context=context,
            timeout=request_timeout,
            progress=progress.step,
            limit_factor=limit_factor,
        )
        given = _given(paths, objects, limit_factor)
        settings = _settings(kube_proxy_config)
        audited = (
            ruleaudit.audit_inputs(
                [*given, *outside], node=node, settings=settings, progress=progress.step, limit_factor=limit_factor
            )
            if isinstance(given, list)
            else cli_nodes.audit(given, outside, node, settings, jobs, progress.step, limit_factor)
        )
    reports = [one.report for one in audited if one.report is not None] if isinstance(audited, list) else [audited]
    aside = cli_configuration.put_aside(reports, baseline, write_baseline)
    shown, hidden = selection.apply_to_all(aside.reports)
    hidden = aside.hidden(cli_configuration.with_origins(hidden))
    known = cli_configuration.written_baseline(aside, shown, write_baseline, threshold)
    from ruleaudit.reports.text import Layout

    layout = Layout(group_by, notes=threshold is Severity.INFO or bool(select), quiet=quiet, statistics=statistics)
    judge = partial(_status, threshold=threshold, exit_zero=exit_zero or bool(known), strict_coverage=strict_coverage)
    if isinstance(audited, list):
        if debug:
            _say("".join(one.trace for one in audited).rstrip())
        comparison = cli_nodes.beside_each_other(audited, shown)
        texts = cli_nodes.made(
            comparison,
            hidden,
            targets,
            layout,
            threshold,
            lambda lines, printed: _drawn(lines, color, printed=printed),
            aside.notices,
        )
        _write_all([*known, *((texts[one.format, one.path == "-"], one.path) for one in targets)])
        if not quiet or comparison.failures:
            cli_nodes.say_beside(comparison, hidden, targets, _say, aside.notices)
        return max([*map(judge, aside.reports, shown), FAILED if comparison.failures else CLEAN])
    texts = _texts(shown[0], hidden, targets, layout, threshold, color, aside.notices)
    _write_all([*known, *((texts[one.format, one.path == "-"], one.path) for one in targets)])
    if not quiet:
        _say_beside(shown[0], hidden, targets, aside.notices)
    return judge(aside.reports[0], shown[0])


_TRACE_EPILOG = """\b
Examples:
  ruleaudit trace collected/ --from pod/demo/client --to web.demo.svc.cluster.local:80
  ruleaudit trace collected/ --from node --to 10.96.1.1:80/tcp
  ruleaudit trace collected/ --from 198.51.100.7 --to 192.168.100.11:30080
  ruleaudit trace node-a/ node-b/ --from 198.51.100.7 --to https://shop.example.com/cart

\b
Exit status: 0 every connection reaches a ready endpoint, 1 one does not or may not, 2 usage or unreadable input.
"""


@command.command(epilog=_TRACE_EPILOG)
@_input_options
@click.option("--from", "client", metavar="CLIENT", required=True, help="pod/NAMESPACE/NAME, node, or an ADDRESS.")
@click.option("--to", "target", metavar="TARGET", required=True, help="(NAME | ADDRESS | URL)[:PORT][/PROTOCOL]")
@click.option(
    "--controller", metavar="NAMESPACE/NAME", help="The Ingress controller: a Service, a Deployment, a DaemonSet or a pod."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="A tree, JSON, or a picture for Graphviz or Mermaid.",
)
@_output_option
@click.option("--quiet", is_flag=True, help="Print the answer only, and no progress.")
@_common_options
def trace(
    *,
    inputs: tuple[str, ...],
    objects: tuple[str, ...],
    node: str | None,
    kube_proxy_config: str | None,
    limit_factor: int,
    client: str,
    target: str,
    controller: str | None,
    format_: Literal["text", "json", "dot", "mermaid"],
    output: str | None,
    quiet: bool,
    color: Color,
    debug: bool,
) -> int:
    """Follow a connection from its client to the pod, with the rules that decide.

    INPUT is as for check; several folders with a meta.json each are several nodes, through which the connection is followed.
    """
    del debug
    from ruleaudit.audit import without_collection
    from ruleaudit.trace import trace as follow

    with _Progress(shown=not quiet) as progress, without_collection():
        nodes = _nodes([*(inputs or _piped()), *objects], node, kube_proxy_config, progress.step, limit_factor)
        found = follow(nodes, client, target, controller=controller)
    if format_ == "json":
        from ruleaudit.trace.structured import json_trace

        text = json_trace(found)
    elif format_ == "text":
        from ruleaudit.trace.text import trace_lines

        lines = list(trace_lines(found))
        text = _drawn(lines[-1:] if quiet else lines, color, printed=output in (None, "-"))
    else:
        from ruleaudit.trace.picture import dot_trace, mermaid_trace

        text = dot_trace(found) if format_ == "dot" else mermaid_trace(found)
    _write(text, output)
    return CLEAN if found.reached else FOUND


@command.group()
def show() -> None:
    """Read the model of a node: what is there, what it means, who leads to it."""


def _show_command(kind: str, metavar: str, help_: str) -> None:
    """One command of `show`, for one kind of thing."""
    name = (click.argument("name", metavar=metavar),) if metavar else ()

    def shown(
        *,
        inputs: tuple[str, ...],
        objects: tuple[str, ...],
        node: str | None,
        kube_proxy_config: str | None,
        limit_factor: int,
        format_: Literal["text", "json"],
        output: str | None,
        color: Color,
        debug: bool,
        name: str = "",
    ) -> int:
        del debug
        from ruleaudit.audit import without_collection
        from ruleaudit.show import json_sections, section_lines
        from ruleaudit.show import show as show_of

        with _Progress(shown=True) as progress, without_collection():
            model = _nodes([*(inputs or _piped()), *objects], node, kube_proxy_config, progress.step, limit_factor).first
            section = show_of(model, kind, name)
        if format_ == "json":
            _write(json_sections(model.name, section), output)
        else:
            _write(_drawn(list(section_lines(section)), color, printed=output in (None, "-")), output)
        return CLEAN

    function: Callable[..., int] = shown
    for option in (_common_options, _output_option, _show_format, _input_options, *name):
        function = option(function)
    show.command(kind, help=help_)(function)


_show_format = click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs."
)
for _kind, _metavar, _help in (
    (
        "service",
        "NAMESPACE/NAME",
        "A Service: its endpoints, its addresses, who gets their connections, and the rules that name them.",
    ),
    ("chain", "CHAIN", "A chain: what it means, whose it is, who jumps to it, and its rules."),
    ("endpoint", "ADDRESS[:PORT]", "An endpoint: whose it is, and who sends traffic to it."),
    ("virtual-server", "ADDRESS:PORT[/PROTOCOL]", "A virtual server of IPVS and its real servers."),
    ("set", "SET", "A set of ipset, and the rules that ask it."),
    ("summary", "", "The node in short: modes, tables, chains, virtual servers, sets, objects."),
):
    _show_command(_kind, _metavar, _help)


@command.command()
@click.argument("code", shell_complete=complete_codes)
@_output_option
@_common_options
def explain(*, code: str, output: str | None, color: Color, debug: bool) -> int:
    """Say what CODE means, why it matters, what to do, and what looks like it but is right.

    CODE is a code (RA206), its name (stale-endpoint), or the beginning of codes (RA2), which lists them.
    """
    del debug
    from ruleaudit.catalogue import CATALOGUE
    from ruleaudit.reports.selection import code_prefix
    from ruleaudit.reports.text import entry_lines

    prefix = code_prefix(code)
    if prefix in CATALOGUE:
        _write(_drawn(list(entry_lines(CATALOGUE[prefix])), color, printed=output in (None, "-")), output)
    else:
        _write(_drawn(_code_lines(prefix), color, printed=output in (None, "-")), output)
    return CLEAN


@command.command()
@click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs."
)
@_output_option
@_common_options
def codes(*, format_: Literal["text", "json"], output: str | None, color: Color, debug: bool) -> int:
    """List every code with its name and severity; as JSON with all that `explain` says."""
    del debug
    if format_ == "text":
        _write(_drawn(_code_lines(""), color, printed=output in (None, "-")), output)
        return CLEAN
    import json
    from dataclasses import asdict

    from ruleaudit.catalogue import CATALOGUE, GROUPS

    entries = [
        {**asdict(entry), "severity": entry.severity.value, "group": entry.group, "about": GROUPS[entry.group]}
        for entry in CATALOGUE.values()
    ]
    _write(json.dumps({"schema": "ruleaudit/codes/v1", "codes": entries}, indent=2) + "\n", output)
    return CLEAN


def _code_lines(prefix: str) -> list[Line]:
    from ruleaudit.catalogue import CATALOGUE, GROUPS, RESERVED
    from ruleaudit.reports.text import Line, Piece

    lines: list[Line] = []
    for group, about in GROUPS.items():
        members = [entry for code, entry in CATALOGUE.items() if entry.group == group and code.startswith(prefix)]
        if members:
            lines.append(Line(0, "", (Piece(f"{group}  {about}", "bold"),)))
        lines.extend(Line(2, "", (Piece(f"{entry.code}  {entry.severity.value:8} {entry.name}"),)) for entry in members)
    if not prefix:
        lines.extend(Line(0, "", (Piece(f"{group}  reserved for {about}", "dim"),)) for group, about in RESERVED.items())
    return lines


# --- reading ---


def _piped() -> tuple[str, ...]:
    """Standard input where something is led into it. Raises UsageError where nothing is: a terminal, /dev/null, closed."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        mode = None
    if mode is None or stat.S_ISCHR(mode):
        raise click.UsageError(
            "no INPUT is given, and nothing is piped into standard input; --live reads this node.", click.get_current_context()
        )
    return ("-",)


def _settings(config: str | None) -> GivenSettings | None:
    from ruleaudit.sources import read_plain

    return None if config is None else ruleaudit.read_settings(read_plain(config), config)


def _given(paths: Sequence[str], objects: Sequence[str], limit_factor: int) -> list[Source] | Captures:
    from ruleaudit.sources import gather

    standard_input: TextIO | None = sys.stdin  # None where the caller closed it
    stream = standard_input.buffer if "-" in (*paths, *objects) and standard_input is not None else None
    return gather(paths, stream, shared=objects, limit_factor=limit_factor)


def _nodes(
    paths: Sequence[str], node: str | None, config: str | None, progress: Callable[[str, float], None], limit_factor: int
) -> Nodes:
    from ruleaudit.trace import read_nodes

    standard_input: TextIO | None = sys.stdin  # None where the caller closed it
    stream = standard_input.buffer if "-" in paths and standard_input is not None else None
    return read_nodes(paths, stream, node=node, settings=_settings(config), progress=progress, limit_factor=limit_factor)


class _Progress:
    """A bar on standard error, if that is a terminal and the work takes longer than a second."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and _is_terminal(sys.stderr)
        self._since = time.monotonic()
        self._bar: ProgressBar | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str, part: float) -> None:
        """Show that `what` is being done, and that `part` (0 to 1) of the whole is done."""
        if not self._shown or time.monotonic() - self._since < 1:
            return
        from ruleaudit.reports.printable import printable

        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(), TextColumn("{task.fields[what]}", markup=False))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._bar.add_task("", total=1.0, what="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=part, what=printable(what), refresh=True)


command.add_command(collect_command(_common_options, _Progress))


# --- judging and writing ---


def _status(report: Report, shown: Report, *, threshold: Severity, exit_zero: bool, strict_coverage: bool) -> int:
    if strict_coverage and any(finding.code == "RA004" for finding in report.findings):
        return FAILED
    if not exit_zero and any(finding.severity.rank <= threshold.rank for finding in shown.findings):
        return FOUND
    return CLEAN


def _texts(
    shown: Report,
    hidden: Hidden,
    targets: Sequence[Target],
    layout: Layout,
    threshold: Severity,
    color: Color,
    notices: Sequence[str] = (),
) -> dict[tuple[str, bool], str]:
    """Every report that is asked for, by its format and whether it is printed: what cannot be made is written nowhere."""
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.formats import render
    from ruleaudit.reports.text import hidden_text, report_lines

    said = (*((hidden_text(hidden),) if hidden.count else ()), *notices)
    context = Context(threshold, os.getcwd(), said, hidden)  # noqa: PTH109  a str is wanted
    texts: dict[tuple[str, bool], str] = {}
    for name, path in targets:
        printed = path == "-"
        if name == "text":
            texts[name, printed] = _drawn(list(report_lines(shown, layout, hidden, notices)), color, printed=printed)
        else:
            texts[name, printed] = texts.get((name, not printed)) or render(name, (shown,), context)
    return texts


def _say_beside(shown: Report, hidden: Hidden, targets: Sequence[Target], notices: Sequence[str] = ()) -> None:
    """Diagnostics beside the reports: the summary where files are written, what is hidden where a report has no room for it.

    Nothing beside commands for GitHub: its runner looks for them on standard error, too.
    """
    from ruleaudit.reports.printable import printable
    from ruleaudit.reports.text import hidden_text, plain, summary_line

    printed = {one.format for one in targets if one.path == "-"}
    if printed & {"text", "github"}:
        return
    if any(one.path != "-" for one in targets):
        _say(plain([summary_line(shown, hidden)]).rstrip())
    if hidden.count and any(one.format in ("json", "gitlab") for one in targets):
        _say(hidden_text(hidden))
    for notice in notices:
        _say(printable(notice))


def _drawn(lines: Sequence[Line], color: Color, *, printed: bool) -> str:
    """The lines as text: with colours where they are wanted, wrapped on a terminal."""
    from ruleaudit.reports.text import colored, plain

    terminal = printed and _is_terminal(sys.stdout)
    automatic = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if color == "never" or (color == "auto" and not automatic):
        return plain(lines)
    import shutil

    return colored(lines, shutil.get_terminal_size().columns if terminal else None)


def _is_terminal(stream: TextIO | None) -> bool:
    """False for a stream that the caller closed, too: the interpreter has None for it."""
    return stream is not None and stream.isatty()


def _targets(outputs: Sequence[str], chosen: str | None) -> list[Target]:
    """Where the report goes. Without --output it is printed; with it, only a format that was asked for and that no file gets.

    Raises OutputNameError, and before the work OutputError where a folder is missing or a file is named twice.
    """
    from pathlib import Path

    from ruleaudit.reports.formats import Target, target

    targets = [target(text, chosen) for text in outputs]
    if not targets or (chosen is not None and all(one.format != chosen for one in targets)):
        targets.append(Target(chosen or "text", "-"))
    seen: set[str] = set()
    for _, path in targets:
        place = path if path == "-" else os.path.realpath(path)
        if place in seen:
            raise OutputError(f"{'standard output' if path == '-' else path}: more than one report would be written there")
        if path != "-" and not Path(path).absolute().parent.is_dir():
            raise OutputError(f"{path}: there is no such folder to write to")
        seen.add(place)
    return targets


def _write(text: str, output: str | None) -> None:
    """One text, to a file or to standard output (None, "-")."""
    _write_all([(text, output or "-")])


def _write_all(texts: Sequence[tuple[str, str]]) -> None:
    """Texts to files or to standard output ("-"). The files come first: what is printed is said to be done.

    Each file is written as a whole or stays as it is, so that a reader never sees half a report; and none is changed before all of
    them lie complete beside their places. What cannot be replaced, a device or a pipe, comes after that.
    """
    prepared: list[tuple[Path, Path, str]] = []
    try:
        for text, output in sorted(texts, key=lambda one: os.path.exists(one[1]) and not os.path.isfile(one[1])):  # noqa: PTH110, PTH113
            if output != "-":
                prepared.extend(_prepared(text.encode("utf-8", "backslashreplace"), output))
        for temporary, target, output in prepared:
            try:
                temporary.replace(target)
            except OSError as error:
                raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        for temporary, _, _ in prepared:
            temporary.unlink(missing_ok=True)
    for text, output in texts:
        if output == "-":
            _print(text)


def _write_bytes(data: bytes, output: str) -> None:
    """One file, as a whole or not at all."""
    for temporary, target, _ in _prepared(data, output):
        try:
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error


def _print(text: str) -> None:
    standard_output: TextIO | None = sys.stdout  # None where the caller closed it
    if standard_output is None:
        raise OutputError("standard output is closed")
    encoding = standard_output.encoding or "utf-8"
    try:
        stream = sys.stdout.buffer
        stream.write(text.encode(encoding, "backslashreplace"))
        stream.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough. What the interpreter flushes at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


def _prepared(data: bytes, output: str) -> list[tuple[Path, Path, str]]:
    """`data` in a file beside `output`: (that file, what it is to replace, `output`). Nothing is left to do for a device or a pipe."""
    import tempfile
    from pathlib import Path

    target = Path(output).resolve()  # a link stays a link
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or a pipe, which cannot be replaced
            return []
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(data)
                stream.flush()
                temporary.chmod(mode)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    return [(temporary, target, output)]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

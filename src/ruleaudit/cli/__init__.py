"""The command line: arguments in, one call of the library, a report out.

Here are the entry point, the table of the commands and the last line of defence. Each command stands in a module of its own name, and what
commands share in `options`, `inputs`, `output`, `terminal` and `progress`.

What is heavy (parsers, decoders, rich) is imported where it is used: `--version` and `--help` need none of it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

import click

from ruleaudit import __version__
from ruleaudit.cli.completion import VARIABLE
from ruleaudit.cli.statuses import CLEAN, FAILED, INTERRUPTED
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["command", "kubectl_complete", "main"]

_EXAMPLES = """\b
Examples:
  ruleaudit check iptables-save.txt objects.json --node node-a
  iptables-save | ruleaudit check --objects objects.json --node node-a
  ruleaudit check --live --cluster
  ruleaudit explain RA206
"""


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


def kubectl_complete(words: Sequence[str] | None = None) -> int:
    """The program kubectl_complete-ruleaudit, which kubectl 1.26 and newer runs to complete `kubectl ruleaudit WORD...`."""
    from ruleaudit.cli.completion import answers

    for line in answers(command, sys.argv[1:] if words is None else words):
        click.echo(line)
    return CLEAN


def _called() -> str:
    """How the user calls the command: as a plugin of kubectl, too, which runs kubectl-ruleaudit for `kubectl ruleaudit`."""
    return "kubectl ruleaudit" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "ruleaudit"  # noqa: PTH119  pathlib takes its time


def _failed(error: Exception, *, debug: bool) -> int:
    from ruleaudit.errors import RuleauditError
    from ruleaudit.reports.printable import printable

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, RuleauditError):
        say(f"ruleaudit: {printable(str(error))}")
        return FAILED
    again = "" if debug else ", with the output of the same command with --debug"
    what = f"{type(error).__name__}: {printable(str(error))}"
    say(f"ruleaudit {__version__}: internal error: {what}. This is a fault of ruleaudit: please report it{again}")
    return FAILED


class _Commands(click.Group):
    """The commands, each of which is imported when it is asked for."""

    places: ClassVar[Mapping[str, str]] = {
        "anonymize": "ruleaudit.cli.anonymize",
        "check": "ruleaudit.cli.check",
        "codes": "ruleaudit.cli.explain",
        "collect": "ruleaudit.cli.collect",
        "completion": "ruleaudit.cli.completion",
        "explain": "ruleaudit.cli.explain",
        "lint": "ruleaudit.cli.lint",
        "show": "ruleaudit.cli.show",
        "trace": "ruleaudit.cli.trace",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, by name."""
        del ctx
        return sorted(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is none."""
        del ctx
        place = self.places.get(cmd_name)
        if place is None:
            return None
        found: object = getattr(import_module(place), cmd_name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EXAMPLES)
@click.version_option(__version__, message="%(prog)s %(version)s")
def command() -> None:
    """Compare what kube-proxy has programmed on a node with what the Kubernetes objects ask for, offline."""

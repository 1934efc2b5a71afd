"""Shell completion: the command `completion`, and what options and arguments are completed with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.statuses import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem

__all__ = ["VARIABLE", "complete_codes", "complete_files", "completion", "kubectl_complete"]

VARIABLE = "_RULEAUDIT_COMPLETE"
"""The environment variable through which a shell asks for completions, by whatever name ruleaudit is called."""
_FILES, _NO_FILES = ":0", ":4"
"""What kubectl's shells are to do beside what is answered: complete files, or not (cobra's ShellCompDirective)."""


def complete_codes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes, beginnings of codes and names that begin as what is typed; of a list with commas the last one."""
    from click.shell_completion import CompletionItem

    from ruleaudit.catalogue import CATALOGUE, GROUPS

    before, comma, typed = incomplete.rpartition(",")
    words = {**GROUPS, **{code: entry.name for code, entry in CATALOGUE.items()}}
    words |= {entry.name: code for code, entry in CATALOGUE.items()}
    return [
        CompletionItem(f"{before}{comma}{word}", help=about)
        for word, about in words.items()
        if word.lower().startswith(typed.lower())
    ]


def complete_files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell, which knows its files and folders."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    r"""Print the script with which SHELL completes ruleaudit's commands, options and codes.

    \b
    bash: eval "$(ruleaudit completion bash)"         in ~/.bashrc
    zsh:  eval "$(ruleaudit completion zsh)"          in ~/.zshrc, after compinit
    fish: ruleaudit completion fish | source          in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "ruleaudit", VARIABLE).source())
    return CLEAN


def kubectl_complete(words: Sequence[str] | None = None) -> int:
    """The program kubectl_complete-ruleaudit, which kubectl 1.26 and newer runs to complete `kubectl ruleaudit WORD...`.

    `words`: those behind `kubectl ruleaudit`, the last being the one that is typed. Prints an answer a line, and a directive.
    """
    for line in _answers(sys.argv[1:] if words is None else words):
        click.echo(line)
    return CLEAN


def _answers(words: Sequence[str]) -> Iterator[str]:
    from click.shell_completion import ShellComplete

    from ruleaudit.cli import command

    *before, typed = words or [""]
    found = ShellComplete(command, {}, "ruleaudit", VARIABLE).get_completions(list(before), typed)
    words_only = [one for one in found if one.type == "plain"]
    yield from (f"{one.value}\t{one.help}" if one.help else str(one.value) for one in words_only)
    yield _NO_FILES if len(words_only) == len(found) else _FILES

"""Shell completion: the command `completion`, and what options and arguments are completed with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ruleaudit.cli.statuses import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem

__all__ = ["VARIABLE", "answers", "complete_codes", "complete_files", "completion"]

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


def answers(command: click.Command, words: Sequence[str]) -> Iterator[str]:
    """What kubectl reads of a plugin's completion: an answer a line, and a directive. `words`: those behind the plugin's name, the last
    being the one that is typed.
    """
    from click.shell_completion import ShellComplete

    *before, typed = words or [""]
    found = ShellComplete(command, {}, "ruleaudit", VARIABLE).get_completions(list(before), typed)
    plain = [one for one in found if one.type == "plain"]
    yield from (f"{one.value}\t{one.help}" if one.help else str(one.value) for one in plain)
    yield _NO_FILES if len(plain) == len(found) else _FILES

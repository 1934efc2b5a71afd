"""Shell completion, asked for as a shell asks for it, and by the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import ruleaudit.__main__
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.cli import command as root
from ruleaudit.cli import kubectl_complete

if TYPE_CHECKING:
    from collections.abc import Iterator

PREPARED = {
    "bash": 'eval "$({0} completion bash)"; COMP_WORDS=(ruleaudit explain RA20) COMP_CWORD=2; '
    '_ruleaudit_completion ruleaudit; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "fish": "{0} completion fish | source; complete -C 'ruleaudit explain RA20' | cut -f 1",
    # What zsh completes shows on a terminal only; here it takes the script and says what it runs for the command.
    "zsh": 'autoload -U compinit; compinit -D; eval "$({0} completion zsh)"; print $_comps[ruleaudit]',
}


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command as it is installed, under both of its names."""
    for name in ("ruleaudit", "kubectl-ruleaudit"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom ruleaudit.__main__ import main\nsys.exit(main())\n")
        path.chmod(0o755)
    return tmp_path / "bin"


def environment(command: Path, **more: str) -> dict[str, str]:
    sources = str(Path(ruleaudit.__main__.__file__).parents[1])
    return {**os.environ, "PATH": f"{command}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": sources, **more}


def completed(command: Path, *words: str) -> list[str]:
    asked = environment(
        command, _RULEAUDIT_COMPLETE="bash_complete", COMP_WORDS=" ".join(("ruleaudit", *words)), COMP_CWORD=str(len(words))
    )
    done = subprocess.run(["ruleaudit"], env=asked, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ex"], ["plain,explain"]),
        (["explain", "ra20"], [f"plain,RA20{number}" for number in range(1, 10)]),
        (["explain", "stale-en"], ["plain,stale-endpoint"]),
        (["check", "--select", "RA1,RA206"], ["plain,RA1,RA206"]),
        (["check", "--ignore", "RA8"], ["plain,RA8", *(f"plain,{code}" for code in CATALOGUE if code.startswith("RA8"))]),
        (["lint", "--select", "no-such"], [""]),
        (["check", "iptables-s"], ["file,iptables-s"]),
        (["check", "--objects", "obj"], ["file,obj"]),
        (["lint", "fix"], ["file,fix"]),
        (["anonymize", "--output", "new"], ["file,new"]),
        (["collect", "--kubeconfig", "k"], ["file,k"]),
        (["check", "--fail-on", "w"], ["plain,warning"]),
        (["completion", "z"], ["plain,zsh"]),
    ],
)
def test_what_is_completed(command: Path, words: list[str], wanted: list[str]) -> None:
    assert completed(command, *words) == wanted


@pytest.mark.parametrize("name", ["ruleaudit", "kubectl-ruleaudit"])
@pytest.mark.parametrize("shell", PREPARED)
def test_a_shell_takes_the_script(command: Path, shell: str, name: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = PREPARED[shell].format(name)
    options = ["-f"] if shell == "zsh" else []
    home = environment(command, HOME=str(command), XDG_CONFIG_HOME=str(command))
    done = subprocess.run([program, *options, "-c", script], env=home, capture_output=True, text=True, timeout=60, cwd=command)
    wanted = ["_ruleaudit_completion"] if shell == "zsh" else [f"RA20{number}" for number in range(1, 10)]
    assert (sorted(done.stdout.split()), done.stderr) == (wanted, "")


def test_every_file_is_left_to_the_shell() -> None:
    """An option that takes a file and does not say so is completed with nothing, not with files."""

    def below(command: click.Command, context: click.Context) -> Iterator[click.Command]:
        yield command
        if not isinstance(command, click.Group):
            return
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from below(found, context)

    context = click.Context(root)
    for command in below(root, context):
        for parameter in command.params:
            if any(word in (parameter.metavar or "") for word in ("FILE", "PATH", "INPUT", "FOLDER", "CAPTURE")):
                assert [one.type for one in parameter.shell_complete(context, "x")] == ["file"], (command.name, parameter.name)


@pytest.mark.parametrize(("name", "called"), [("ruleaudit", "ruleaudit"), ("kubectl-ruleaudit", "kubectl ruleaudit")])
def test_the_usage_says_what_was_typed(command: Path, name: str, called: str) -> None:
    done = subprocess.run([name, "check", "--help"], env=environment(command), capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"Usage: {called} check [OPTIONS]")
    done = subprocess.run([name, "check", "--frobnicate"], env=environment(command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"Try '{called} check --help' for help." in done.stderr


def test_both_names_are_installed() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {
        **dict.fromkeys(("ruleaudit", "kubectl-ruleaudit"), "ruleaudit.__main__:main"),
        "kubectl_complete-ruleaudit": "ruleaudit.cli:kubectl_complete",
    }


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ex"], ["explain", ":4"]),
        (["explain", "RA207"], ["RA207", ":4"]),
        (["check", "--fail-on", "w"], ["warning", ":4"]),
        (["check", "--sel"], ["--select", ":4"]),
        (["check", "fix"], [":0"]),
        (["check", "--no-such-option", ""], [":0"]),
        ([], [":4"]),
    ],
)
def test_kubectl_completes_its_plugin(capsys: pytest.CaptureFixture[str], words: list[str], wanted: list[str]) -> None:
    """Kubectl 1.26 asks kubectl_complete-ruleaudit, and reads an answer a line and a directive at the end."""
    assert kubectl_complete(words) == 0
    answered = [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert answered == wanted if words else answered[-1:] == wanted

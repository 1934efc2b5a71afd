"""Keep the documents true: docs/codes.md is the catalogue, man/ruleaudit.1 the help of the commands, a console block shows what the
command prints, and a limit is that of the code.

usage: documents.py [--write]     without --write nothing is changed, and what is out of date is an error
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import manpage
from ruleaudit import documents, sources
from ruleaudit.catalogue import CATALOGUE, GROUPS, RESERVED, Entry
from ruleaudit.formats import line_grammar

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LIMITS = re.compile(r"^<!-- limits -->\n(.*?)^<!-- end of limits -->$", re.DOTALL | re.MULTILINE)


def codes() -> str:
    """The text of docs/codes.md."""
    parts = [
        "# Codes",
        "What every finding means, why it matters, what to do, and what looks like it but is right. A code is stable for ever: "
        "never renumbered, never reused. `ruleaudit explain RA206` prints the same.",
        "This page is generated from `src/ruleaudit/catalogue.py` by `make update`.",
    ]
    for group, about in GROUPS.items():
        parts.append(f"## {group} {about}")
        parts.extend(_entry(entry) for entry in CATALOGUE.values() if entry.group == group)
    parts.extend(f"## {group} reserved for {about}" for group, about in RESERVED.items())
    return "\n\n".join(parts) + "\n"


def _entry(entry: Entry) -> str:
    varies = f"; {entry.varies}" if entry.varies else ""
    paragraphs = [
        f"### {entry.code} {entry.name}",
        f"*{entry.severity.value}{varies}*",
        entry.meaning,
        f"**Example.** `{entry.example}`",
        f"**Why it matters.** {entry.why}",
        f"**What to do.** {entry.action}",
    ]
    if entry.exceptions:
        paragraphs.append(f"**Exceptions.** {entry.exceptions}")
    return "\n\n".join(paragraphs)


def limits() -> str:
    """The table of what is refused as too large."""
    rows = (
        ("all inputs together, unpacked", f"{sources.MAX_BYTES:,} bytes"),
        ("files of one folder or archive", f"{sources.MAX_FILES:,}"),
        ("one input of YAML", f"{documents.MAX_YAML_BYTES:,} bytes"),
        ("lines of a dump", f"{line_grammar.MAX_LINES:,}"),
        ("a line of a dump", f"{line_grammar.MAX_LINE_LENGTH:,} characters"),
    )
    return "\n".join(("| what | at most |", "|---|---|", *(f"| {what} | {most} |" for what, most in rows))) + "\n"


def renewed(text: str) -> str:
    """A document with its generated parts renewed: the output of every command of its console blocks, and the table of limits."""
    text = LIMITS.sub(lambda _: f"<!-- limits -->\n{limits()}<!-- end of limits -->", text)
    return BLOCK.sub(lambda block: f"```console\n{_session(block[1])}```", text)


def _session(block: str) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"{command}\n{_output(command[2:])}" for command in commands)


def _output(command: str) -> str:
    program, *arguments = shlex.split(command)
    if program != "ruleaudit":
        raise SystemExit(f"a console block may only run ruleaudit (write others as sh blocks): {command}")
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    done = subprocess.run(
        [sys.executable, "-m", "ruleaudit", *arguments],
        cwd=ROOT,
        env={**environment, "COLUMNS": "110"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def main() -> int:
    """Exit status 1 when something is out of date and was not written."""
    wanted = {ROOT / "docs" / "codes.md": codes(), ROOT / "man" / "ruleaudit.1": manpage.page()}
    for pattern in DOCUMENTS:
        for path in sorted(ROOT.glob(pattern)):
            if path not in wanted:
                wanted[path] = renewed(path.read_text(encoding="utf-8"))
    stale = False
    for path, text in wanted.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        name = str(path.relative_to(ROOT))
        if "--write" in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written")
            continue
        stale = True
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, f"{name} as it should be"))
    if stale:
        print("documents are out of date: run `make update` and look at the difference")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())

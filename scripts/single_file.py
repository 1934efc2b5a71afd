"""Give a file that shiv made the start of single_file_main.py, which says what is wrong where it cannot be run.

usage: single_file.py MADE FILE     with the Python that MADE was made with
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import zipfile
from pathlib import Path

START = Path(__file__).with_name("single_file_main.py")
MAIN = "__main__.py"
UNFILLED = 'PYTHON, MACHINE, SUFFIX = "", "", ""  # filled in'


def start() -> str:
    """The text of the start, with what this Python is."""
    text = START.read_text(encoding="utf-8")
    values = (sysconfig.get_python_version(), platform.machine(), sysconfig.get_config_var("EXT_SUFFIX"))
    assert UNFILLED in text
    return text.replace(UNFILLED, f"PYTHON, MACHINE, SUFFIX = {', '.join(map(repr, values))}")


def main() -> None:
    """Write FILE, executable."""
    made, file = map(Path, sys.argv[1:])
    with made.open("rb") as stream:
        first = stream.readline()  # by which the system finds the interpreter; the archive follows
    with file.open("wb") as stream:
        stream.write(first)
        with zipfile.ZipFile(made) as old, zipfile.ZipFile(stream, "w") as new:
            for member in old.infolist():
                new.writestr(member, start() if member.filename == MAIN else old.read(member))
    file.chmod(0o755)
    made.unlink()


if __name__ == "__main__":
    main()

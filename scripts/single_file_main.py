"""How the single file starts: by saying what is wrong with this Python or this home, where something is, before anything else is imported.

scripts/single_file.py puts it into the file and fills in what the file was built for. Every Python 3 must be able to read it, so nothing newer
than 3.3 stands here (suffixes of extensions are known since then).
"""

import importlib.machinery
import os
import platform
import sys

PYTHON, MACHINE, SUFFIX = "", "", ""  # filled in


def unfit() -> str:
    """Why this Python cannot run the file, "" where it can: its parsers are native code for one minor version and one kind of machine."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    if SUFFIX in suffixes:
        return ""
    message = "{} is built for Python {} on {} ({}), and this is Python {}.{} on {} ({})".format(
        os.path.basename(sys.argv[0]),
        PYTHON,
        MACHINE,
        SUFFIX,
        sys.version_info[0],
        sys.version_info[1],
        platform.machine(),
        suffixes[0] if suffixes else platform.python_implementation(),
    )
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    other = [os.path.join(folder, "python" + PYTHON) for folder in folders]
    fitting = [path for path in other if os.access(path, os.X_OK)]
    if fitting and platform.machine() == MACHINE:
        return message + "; run it with {}".format(fitting[0])
    return message + "; build one with this Python: `make single-file` in a checkout of ruleaudit"


def main() -> None:
    """Run ruleaudit, or end with status 2 where it cannot be run."""
    message = unfit()
    if not message:
        from _bootstrap import bootstrap

        try:
            bootstrap()
        except (OSError, RuntimeError) as error:  # of the unpacking: ruleaudit lets none of its own out
            message = "cannot unpack itself into {}: {}; set SHIV_ROOT to a folder that can be written to".format(
                os.environ.get("SHIV_ROOT", "~/.shiv"), getattr(error, "strerror", None) or error
            )
    sys.stderr.write("ruleaudit: {}\n".format(message))
    sys.exit(2)


if __name__ == "__main__":
    main()

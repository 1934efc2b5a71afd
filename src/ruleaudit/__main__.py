"""`python -m ruleaudit`, and the entry point of the command."""

from __future__ import annotations

import sys

from ruleaudit.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

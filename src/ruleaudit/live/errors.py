"""What keeps the node or the cluster from being read."""

from __future__ import annotations

from typing import NamedTuple

from ruleaudit.errors import RuleauditError
from ruleaudit.sources import InputKind, Source

__all__ = ["PIP", "LiveError", "Missing"]

PIP = "pip install 'ruleaudit[live]'"
"""What installs the packages that are only needed to read a cluster, or a node without tools."""


class LiveError(RuleauditError):
    """The cluster or the node cannot be read: the message says why and what to do."""


class Missing(NamedTuple):
    """Something that could not be read while the rest could: `what` names it, `message` says why, `hint` what would change that."""

    what: str
    message: str
    hint: str

    def source(self) -> Source:
        """It, for the audit to report as not checked (RA004)."""
        return Source(self.what, InputKind.ABSENT, "", b"", given=False, reason=self.message, hint=self.hint)

"""What a server offers: one that is older than this client offers less, and gets what it can store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from reportd_client import limits
from reportd_client.sender.http import Server

BUNDLE = "bundle"
KNOWN = "known"
NESTING = "parent_step_number"
SHARDS = "shards"


@dataclass(frozen=True)
class Offers:
    features: frozenset[str] = frozenset()
    max_file_size: Optional[int] = None
    max_files: int = limits.GROUP_FILES  # in one request

    @classmethod
    def of(cls, server: Server) -> Offers:
        """What GET /limits says; nothing when the server does not have it. Raises Stopped, Fatal."""
        answer = server.call("GET", "/limits", question=True)
        value: dict[str, Any] = answer.value if answer.status == 200 else {}
        features = value.get("features")
        names = [name for name in features if isinstance(name, str)] if isinstance(features, list) else []
        size, files = (_positive(value.get(name)) for name in ("max_file_size", "batch_max_files"))
        return cls(frozenset(names), size, min(files or limits.GROUP_FILES, limits.GROUP_FILES))

    def refusal(self, size: int) -> Optional[str]:
        """Why a file of this size need not be sent, in the words of the server; None when it may be."""
        if self.max_file_size is None or size <= self.max_file_size:
            return None
        return f"File size exceeds maximum allowed ({self.max_file_size / (1 << 20):g}MB)"


def _positive(value: Any) -> Optional[int]:
    return value if isinstance(value, int) and value > 0 else None

"""Which part of a run a job runs: `2/5` is the second of five."""

from __future__ import annotations

import re
from typing import Optional

MOST = 1000  # that the server takes
_SHARD = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")


def parse(text: str) -> Optional[tuple[int, int]]:
    """Index and total of `2/5`; None when there is no such shard."""
    found = _SHARD.fullmatch(text)
    index, total = (int(found[1]), int(found[2])) if found else (0, 0)
    return (index, total) if 1 <= index <= total <= MOST else None

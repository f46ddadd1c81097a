"""Sends one spool and prints seconds, peak memory in MiB and the receipt: a process of its own, for its memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from reportd_client.sender.http import Patience
from reportd_client.sender.main import send

started = time.perf_counter()
receipt = send(
    Path(sys.argv[1]),
    os.environ["REPORTD_TOKEN"],
    Patience(600),
    url=sys.argv[2],
    ended=True,
    keep=sys.argv[3] == "keep",
)
seconds = time.perf_counter() - started
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps([seconds, memory, json.loads(receipt.line())]))

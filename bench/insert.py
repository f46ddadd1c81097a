"""What asyncpg costs by itself: reportd's own insert of steps, sent by one connection, one test case after the other.

`python -m bench.insert DSN STEPS < cases.json` prints the CPU seconds that it took.
"""

import asyncio
import json
import sys
import time
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from bench.bodies import step
from server.db import load_sql
from server.ids import bucket_of, new_ids

_FIELDS = [
    "iteration_number",
    "step_number",
    "step_type",
    "action",
    "description",
    "status",
    "duration_ms",
    "element_selector",
    "element_name",
    "element_type",
    "input_value",
    "expected_value",
    "actual_value",
    "error_message",
    "error_type",
    "stack_trace",
    "screenshot_path",
    "started_at",
    "completed_at",
]


def _columns(count: int) -> list[list[Any]]:
    steps = [{**step(i), "iteration_number": 1} for i in range(count)]
    for item in steps:
        for name in ("started_at", "completed_at"):
            item[name] = datetime.fromisoformat(item[name])
    return [[item.get(name) for item in steps] for name in _FIELDS]


async def main(dsn: str, count: int, cases: list[UUID]) -> float:
    """CPU seconds of this process for `count` steps in each of the cases."""
    insert = load_sql().steps.insert_many
    columns = _columns(count)
    connection = await asyncpg.connect(dsn)
    await connection.execute(insert, cases[0], new_ids(0, count), *columns)  # prepares the statement
    started = time.process_time()
    for case in cases[1:]:
        await connection.execute(insert, case, new_ids(bucket_of(case), count), *columns)
    spent = time.process_time() - started
    await connection.close()
    return spent


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]), [UUID(case) for case in json.load(sys.stdin)])))

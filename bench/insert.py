"""The cost of asyncpg alone: inserts the steps of one test case after the other, over one connection, without a server.

`python -m bench.insert DSN STEPS < cases.json` prints the CPU seconds of this process.
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
from server.ids import bucket_of, new_ids

# Every column that a client can set, and its SQL type.
_COLUMNS = {
    **{"iteration_number": "int", "step_number": "int", "step_type": "text", "action": "text", "description": "text"},
    **{"status": "text", "duration_ms": "int", "element_selector": "text", "element_name": "text"},
    **{"element_type": "text", "input_value": "text", "expected_value": "text", "actual_value": "text"},
    **{"error_message": "text", "error_type": "text", "stack_trace": "text", "screenshot_path": "text"},
    **{"started_at": "timestamptz", "completed_at": "timestamptz"},
}
_NAMES = ", ".join(_COLUMNS)
_ARRAYS = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(_COLUMNS.values(), 3))
_INSERT = f"""
INSERT INTO test_step_results (test_case_result_id, id, {_NAMES})
SELECT $1, n.* FROM unnest($2::uuid[], {_ARRAYS}) AS n(id, {_NAMES})
"""


def _columns(count: int) -> list[list[Any]]:
    steps = [{**step(i), "iteration_number": 1} for i in range(count)]
    for item in steps:
        for name in ("started_at", "completed_at"):
            item[name] = datetime.fromisoformat(item[name])
    return [[item.get(name) for item in steps] for name in _COLUMNS]


async def main(dsn: str, count: int, cases: list[UUID]) -> float:
    """CPU seconds for `count` steps in each case. The first case, which prepares the statement, is not counted."""
    columns = _columns(count)
    connection = await asyncpg.connect(dsn)
    await connection.execute(_INSERT, cases[0], new_ids(0, count), *columns)
    started = time.process_time()
    for case in cases[1:]:
        await connection.execute(_INSERT, case, new_ids(bucket_of(case), count), *columns)
    spent = time.process_time() - started
    await connection.close()
    return spent


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]), [UUID(case) for case in json.load(sys.stdin)])))

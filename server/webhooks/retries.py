"""When a delivery that failed is attempted again, and when it is given up: after about a day."""

import random

_MINUTE, _HOUR = 60.0, 3600.0
DAY = 24 * _HOUR
# Before the second attempt, the third, and so on; in all a little less than a day.
DELAYS = [10.0, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, *[4 * _HOUR] * 5]
_LONGEST_WAIT = 4 * _HOUR
_JITTER = 0.1  # otherwise all deliveries that failed in an outage would come again at the same moment
GONE = 410  # the target wants nothing any more


def next_delay(attempts: int, age: float, status: int | None, retry_after: float | None) -> float | None:
    """The seconds until the next attempt; None: give up. `attempts` have failed, the last one with `status`, since the
    event happened `age` seconds ago. `retry_after` is what the target asked for."""
    if attempts > len(DELAYS) or status == GONE:
        return None
    delay = max(DELAYS[attempts - 1], min(retry_after or 0.0, _LONGEST_WAIT))
    delay *= 1 + random.uniform(0, _JITTER)  # noqa: S311 - no secret
    return delay if age + delay < 1.1 * DAY else None

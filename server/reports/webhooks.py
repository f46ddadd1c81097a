"""The events of runs and of the disk that webhooks are sent, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET

from server.config import Config
from server.database.pool import Pool
from server.database.queries import SQL
from server.hooks import WebhookConfig
from server.reports import run_tests
from server.reports.run_tests import Counts
from server.reports.suite_runs import SuiteRun
from server.storage.free_space import FreeSpace, Measured
from server.webhooks import outbox
from server.webhooks.events import Event, code, cut, lines, listed, ping, wanting

_FINAL = ("Passed", "Failed", "Skipped")
_SHAPES = {"Passed": "✓", "Failed": "✕", "Skipped": "–"}
_LOOKED_AT = 100  # failing tests of a run whose history is read
_DEPTH = 200  # results of each that are read
_LISTED = 20  # tests in one event: a body stays below the 20 KB that the specification recommends for usual names
_NAME, _ERROR = 300, 300  # characters
_ENOUGH = 1.25  # disk.low can be sent again once the days have been above the threshold by this factor
LOW = "disk.low"


@dataclass(slots=True)
class Delivery:
    """An event for one webhook. `due_at` None: it is delivered, or given up. `status` and `answer` are of the last
    attempt."""

    id: UUID
    webhook: str
    event: str
    project: str | None
    suite_run_id: UUID | None
    created_at: datetime
    due_at: datetime | None
    attempts: int
    attempted_at: datetime | None
    status: int | None
    answer: str | None
    delivered_at: datetime | None

    @property
    def state(self) -> str:
        if self.delivered_at is not None:
            return "delivered"
        return "waiting" if self.due_at is not None else "given up"


async def status_before(
    connection: Any, hooks: Sequence[WebhookConfig], run_id: UUID, scope: UUID | None, status: object
) -> str | None:
    """The status of a run before a PATCH that sets `status`. None when the PATCH finishes nothing, or no webhook wants
    to know: then this costs no statement."""
    if status is UNSET or status not in _FINAL or not any(set(hook.events) - {LOW} for hook in hooks):
        return None
    found: str | None = await connection.fetchval(SQL.webhooks.status_before, run_id, scope)
    return found


async def after_update(connection: Any, config: Config, before: str | None, run: SuiteRun) -> None:
    """Adds the events of a PATCH that has finished a run, or one of its shards, whose status was `before`.

    A run finishes once, and once more when another shard says that it failed.
    """
    if before is None:
        return
    finished = before not in _FINAL or (run.status == "Failed" and before != "Failed")
    wanted = wanting(config.webhooks, "run.finished", run.project) if finished else []
    failing = wanting(config.webhooks, "tests.newly_failing", run.project)
    if not wanted and not failing:
        return
    counts = (await run_tests.counts(connection, [run.id])).get(run.id, Counts())
    about = await connection.fetchval(SQL.suite_runs.project_of, run.id, None), run, counts, config.server.public_url
    await outbox.add(connection, wanted, _finished(*about))
    if failing and counts.failed:
        last_id, moment = await connection.fetchrow(SQL.webhooks.looked_at, run.id)
        tests = await connection.fetch(SQL.webhooks.newly_failing, run.id, last_id, moment, _LOOKED_AT, _DEPTH)
        if tests:
            await outbox.add(connection, failing, _newly_failing(*about, tests))


def _finished(project_id: UUID, run: SuiteRun, counts: Counts, url: str) -> Event:
    failed = f", {counts.failed} failed" if counts.failed else ""
    flaky = f", {counts.flaky} flaky" if counts.flaky else ""
    text = lines(
        f"{_SHAPES[run.status]} {run.status}: {_title(run)}",
        f"{_tests(counts.total)}{failed}{flaky}",
        _link(url, f"/runs/{run.id}"),
    )
    data = {"project": run.project, "run": _run(run, counts, url)}
    return Event("run.finished", data, text, run.project, project_id, run.id)


def _newly_failing(project_id: UUID, run: SuiteRun, counts: Counts, url: str, tests: Sequence[Any]) -> Event:
    shown = tests[:_LISTED]
    few = [code(test["name"]) + (f": {code(_error(test))}" if test["error"] else "") for test in shown]
    text = lines(
        f"✕ {_tests(len(tests))} newly failing: {_title(run)}",
        listed(few, len(tests) - len(shown)),
        _link(url, f"/runs/{run.id}"),
    )
    data = {
        "project": run.project,
        "run": _run(run, counts, url),
        "newly_failing": len(tests),
        "tests": [
            {
                "test_id": cut(test["test_id"], _NAME),
                "name": cut(test["name"], _NAME),
                "browser": test["browser"],
                "test_case_result_id": test["id"],
                "error_type": test["error_type"],
                "error": _error(test) or None,
                "url": _link(url, f"/results/{test['id']}"),
            }
            for test in shown
        ],
    }
    return Event("tests.newly_failing", data, text, run.project, project_id, run.id, tests[0]["last_id"])


def _run(run: SuiteRun, counts: Counts, url: str) -> dict[str, Any]:
    """A run in an event. Its tests are counted by their last attempts, as on its page."""
    texts = ("name", "status", "environment", "branch", "commit_sha", "build_url", "triggered_by")
    tests = ("total", "passed", "failed", "flaky", "skipped", "pending")
    return {
        "id": run.id,
        **{name: value and cut(value, 2 * _NAME) for name in texts for value in [getattr(run, name)]},
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "tests": {name: getattr(counts, name) for name in tests},
        "url": _link(url, f"/runs/{run.id}"),
    }


def _title(run: SuiteRun) -> str:
    """`shop`, `nightly` on `main` (`8f14e45`)"""
    branch = f" on {code(run.branch)}" if run.branch else ""
    commit = f" ({code(run.commit_sha[:12])})" if run.commit_sha else ""
    return f"{code(run.project)}, {code(run.name)}{branch}{commit}"


def _tests(number: int) -> str:
    return f"{number} test" if number == 1 else f"{number} tests"


def _error(test: Any) -> str:
    return cut((test["error"] or "").strip().partition("\n")[0], _ERROR)


def _link(url: str, path: str) -> str | None:
    return f"{url.rstrip('/')}{path}" if url else None


async def check_disk(pool: Pool, config: Config, free_space: FreeSpace) -> None:
    """Adds disk.low when the disk will be full in fewer than `[artifacts] low_days`: once, by one of all processes, and
    again only after there was enough."""
    hooks = wanting(config.webhooks, LOW, None)
    space = await free_space.measure() if hooks else None
    if space is None or space.days is None:
        return
    least = config.artifacts.low_days
    if space.days < least:
        async with pool.transaction() as connection:
            if await connection.fetchval(SQL.webhooks.note, LOW) is not None:
                await outbox.add(connection, hooks, _low(space, space.days, least))
    elif space.days >= _ENOUGH * least:
        await pool.execute(SQL.webhooks.forget, LOW)


def _low(space: Measured, days: float, least: float) -> Event:
    text = f"The disk of reportd is full in about {days:.1f} days: {space.free / (1 << 30):.1f} GiB are free."
    values = {"days": round(days, 2), "low_days": least, "free_bytes": space.free, "size_bytes": space.size}
    return Event(LOW, values, text)


async def latest(where: Any, names: Sequence[str], limit: int) -> list[Delivery]:
    """The newest deliveries of each of these webhooks, at most `limit` of each, newest first."""
    return [Delivery(*row) for row in await where.fetch(SQL.webhooks.latest, names, limit)]


async def waiting(where: Any, names: Sequence[str]) -> dict[str, int]:
    """How many deliveries of each webhook wait."""
    return {row["name"]: row["waiting"] for row in await where.fetch(SQL.webhooks.counts, names)}


async def test(connection: Any, hook: WebhookConfig) -> None:
    """Adds an event that shows whether the webhook works."""
    await outbox.add(connection, [hook], ping(hook.name))


async def try_again(connection: Any, hook: WebhookConfig, delivery_id: UUID | None) -> None:
    """Makes all deliveries due that wait for the webhook, or one that waits or was given up."""
    await connection.execute(SQL.webhooks.try_again, hook.name, delivery_id)

"""Sends the demo's story to a server, through its API, the oldest run first: pages order by ids, which ascend."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from server.commands.demo import play, story
from server.commands.demo.client import BASE, Client, Part
from server.commands.demo.draw import Draw
from server.commands.demo.files import files
from server.commands.demo.result import Picture, Result, time
from server.commands.demo.story import Run

_WORKERS = 8  # results that are being sent
_BATCH = 40  # files of a request; a server's [artifacts] batch_max_files is 50 by default
_LIVE_FIRST = 12  # results that the running run has at first


@dataclass
class Sent:
    """What has been sent. `removed` is the artifact whose file was removed from the disk."""

    runs: int = 0
    results: int = 0
    steps: int = 0
    files: int = 0
    removed: str = ""


@dataclass
class _Open:
    """A run that gets its end when the last of its results is complete."""

    id: str
    left: int
    status: str
    ended: datetime


class Sender:
    """`one_project`: whether the token has only one project, which then gets all runs. `storage`: the storage folder,
    if it is on this machine."""

    def __init__(self, client: Client, draw: Draw, one_project: bool = False, storage: Path | None = None) -> None:
        self._client, self._draw, self._one_project, self._storage = client, draw, one_project, storage
        self._queue: asyncio.Queue[tuple[str, Result, _Open]] = asyncio.Queue(_WORKERS * 8)
        self.sent = Sent()

    async def send(self, runs: list[Run], progress: Callable[[str], None] = lambda _: None) -> Sent:
        """Send all runs. Raises Refused."""
        last = ""
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._work()) for _ in range(_WORKERS)]
                for run in runs:
                    last = await self._begin(run)
                    if run.number % 20 == 0:
                        progress(f"{run.number} of {len(runs)} runs")
                await self._queue.join()
                for worker in workers:
                    worker.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        # The demo is recognized as complete by this.
        await self._client.patch(f"/suite-runs/{last}", {"metadata": {"demo_complete": True}})
        return self.sent

    async def add(self, run_id: str, results: list[Result]) -> list[str]:
        """Create results in a run; their ids."""
        body = {"test_cases": [result.fields for result in results]}
        made = await self._client.post(f"/suite-runs/{run_id}/test-cases/bulk", body)
        self.sent.results += len(results)
        return [case["id"] for case in made["test_cases"]]

    async def fill(self, case_id: str, result: Result) -> None:
        """Send what belongs to a result that exists."""
        path = f"/test-case-results/{case_id}"
        if result.steps:
            await self._client.post(f"{path}/steps", {"steps": result.steps})
            self.sent.steps += len(result.steps)
        artifacts = await self._send_pictures(case_id, [picture for picture in result.pictures if picture.sent])
        for checkpoint in result.checkpoints:
            place = checkpoint["iteration_number"], checkpoint["step_number"], "checkpoint"
            checkpoint["screenshot_artifact_id"] = artifacts.get(place)
        for kind, field, entries in (
            ("checkpoints", "checkpoints", result.checkpoints),
            ("console-logs", "entries", result.console),
            ("network-logs", "entries", result.network),
        ):
            if entries:
                await self._client.post(f"{path}/{kind}", {field: entries})
        if result.featured:
            await self._send_files(case_id, result)

    async def _begin(self, run: Run) -> str:
        """Create a run and its results, in their order, and queue what belongs to each result. The id of the run."""
        where = {} if self._one_project else {"project": run.project}
        created = await self._client.post("/suite-runs", {**run.fields(), **where, "started_at": time(run.started_at)})
        results, ended = play.results(run)
        if run.running:
            results = results[:_LIVE_FIRST]
        last_attempts = {result.test.id: result for result in results}.values()
        status = "Running" if run.running else "Failed" if any(each.failed for each in last_attempts) else "Passed"
        opened = _Open(created["id"], len(results), status, ended)
        for case_id, result in zip(await self.add(opened.id, results), results, strict=True):
            await self._queue.put((case_id, result, opened))
        self.sent.runs += 1
        return opened.id

    async def _work(self) -> None:
        while True:
            case_id, result, opened = await self._queue.get()
            await self.fill(case_id, result)
            opened.left -= 1
            if not opened.left and opened.status != "Running":
                end = {"status": opened.status, "finished_at": time(opened.ended)}
                await self._client.patch(f"/suite-runs/{opened.id}", end)
            self._queue.task_done()

    async def _send_pictures(self, case_id: str, pictures: list[Picture]) -> dict[tuple[int, int, str], str]:
        """The ids of the artifacts by iteration, step and category."""
        ids: dict[tuple[int, int, str], str] = {}
        for first in range(0, len(pictures), _BATCH):
            batch = pictures[first : first + _BATCH]
            drawn = await asyncio.gather(*[self._draw(each.scene) for each in batch])
            parts = [(each.file_name, content, "image/png") for each, content in zip(batch, drawn, strict=True)]
            made = await self._upload(case_id, parts, [_entry(each) for each in batch])
            ids |= {(p.iteration, p.step, p.category): a["id"] for p, a in zip(batch, made, strict=True)}
            self._remove_lost(batch, made)
        return ids

    def _remove_lost(self, batch: list[Picture], made: list[Any]) -> None:
        """Remove files from the storage folder, so that a page has a file to miss."""
        for picture, artifact in zip(batch, made, strict=True):
            if picture.lost and self._storage is not None:
                file = self._storage / artifact["storage_path"].removeprefix("artifacts/")
                if file.exists():  # else the configured folder is not that of this server
                    file.unlink()
                    self.sent.removed = artifact["id"]

    async def _send_files(self, case_id: str, result: Result) -> None:
        made = files(result)
        failed = next(step["step_number"] for step in result.steps if step["status"] == "Failed")
        entries = [{"artifact_type": file.artifact_type, "step_number": failed} for file in made]
        await self._upload(case_id, [(file.name, file.content, file.mime_type) for file in made], entries)

    async def _upload(self, case_id: str, parts: list[Part], entries: list[dict[str, Any]]) -> list[Any]:
        made = await self._client.send_files(case_id, parts, entries)
        self.sent.files += len(made)
        return made


def _entry(picture: Picture) -> dict[str, Any]:
    return {
        "artifact_type": "screenshot",
        "artifact_category": picture.category,
        "step_number": picture.step,
        "iteration_number": picture.iteration,
        "captured_at": time(picture.at),
    }


async def feed(sender: Sender, client: Client, run_id: str, seed: int, now: Callable[[], datetime]) -> None:
    """Add a result a second to the running run, until cancelled. When each test has one, second attempts follow."""
    run = story.runs(seed, 1, now())[-1]
    tests = story.tests_of(run)
    position = (await client.get(f"{BASE}/suite-runs/{run_id}"))["test_counts"]["total"]
    while True:
        test, attempt = tests[position % len(tests)], 1 + position // len(tests)
        began = now() - timedelta(seconds=8)  # so that most tests have ended by now
        result, _ = play.play(run, test, attempt, story.live_fault(test, position), began)
        (case_id,) = await sender.add(run_id, [result])
        await sender.fill(case_id, result)
        position += 1
        await asyncio.sleep(1)

"""A run: opens the spool, starts the sender, and says at the end what has arrived."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Mapping, Sequence

from reportd_client import ci
from reportd_client.launch import Launched, launch
from reportd_client.mask import Masks
from reportd_client.notes import Notes, harmless
from reportd_client.receipt import Receipt, resume_hint
from reportd_client.settings import Settings, read, token_of
from reportd_client.spool import Spool
from reportd_client.system import System
from reportd_client.tests import Test
from reportd_client.texts import cut
from reportd_client.writer import Writer

DEFAULT_SPOOL = ".reportd-spool"
NO_KEY = "needs a run_key that the others have, too: set REPORTD_RUN_KEY, or the shards do not meet in one run"
_MOST_TESTS = 2**31 - 1


class Recorder:
    """What the tests of one process share. `spool` None: nothing is recorded."""

    def __init__(self, spool: Spool | None, notes: Notes, masks: Masks) -> None:
        self.notes, self.masks = notes, masks
        self.on = spool is not None
        if spool is not None:
            self.writer = Writer(spool, lambda text: notes.problem("disk", text))

    @classmethod
    def join(cls, folder: Path, notes: Notes, masks: Masks) -> Recorder:
        """The recorder of another process of the same run. Raises SpoolError."""
        return cls(Spool.open(folder), notes, masks)

    def append(self, record: dict[str, Any], verdict: bool = False) -> int:
        """Write a record: the number of its bytes."""
        return self.writer.append(record, verdict) if self.on else 0


class Run:
    """One run of a test suite: a context manager. All of its methods return without waiting for the network."""

    def __init__(self, settings: Settings, described: Described, token: str | None, notes: Notes, masks: Masks) -> None:
        self.settings, self.notes, self._masks = settings, notes, masks
        self.fields, self.shard = described.fields, described.shard
        self._token = token
        self._launched: Launched | None = None
        self.spool: Spool | None = None
        self.recorder = Recorder(None, notes, masks)
        self.receipt: Receipt | None = None
        self.tests_expected: int | None = None  # if it is known beforehand
        self._ended: dict[str, Any] = {}

    # --- from its beginning to its end ---

    @harmless
    def open(self) -> None:
        """Make the spool and start the sender."""
        if not self.settings.on:
            self.notes.problem("off", "REPORTD_URL is not set: nothing is recorded")
            return
        root = Path(self.settings.spool or DEFAULT_SPOOL).absolute()
        try:
            self.spool = Spool.create(root, {"url": self.settings.url, "run": self.fields, "shard": self.shard})
        except OSError as error:
            self.notes.problem("spool", f"Cannot write to the spool {root}: {error.strerror}. Nothing is recorded")
            return
        self.recorder = Recorder(self.spool, self.notes, self._masks)
        self.recorder.writer.reserve()
        if self.tests_expected is not None:
            self.expect(self.tests_expected)
        if self.settings.sender != "none":
            self._launched = launch(self.spool.folder, self._token, self.settings, self.notes)

    def __enter__(self) -> Run:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _in_a_thread(self.close)

    @harmless
    def close(self) -> None:
        """Write the end of the run, and wait for the sender: at most `drain` seconds and a little."""
        if self.spool is None or self.receipt is not None:
            return
        folder = self.spool.folder
        # If the waiting is interrupted, this is the receipt, and nobody waits again when the run is closed once more.
        self.receipt = Receipt(spool=folder, message=f"Interrupted while sending. {resume_hint(folder)}", code=5)
        try:
            self.recorder.append({"kind": "end", "finished_at": System.now(), **self._ended}, verdict=True)
            self.recorder.writer.close()
            self.receipt = self._launched.finish() if self._launched else Receipt(spool=folder)
        finally:
            if lost := self.recorder.writer.lost:
                self.receipt.refused.append(f"{lost} records that the spool had no space for")
            if self.receipt.message:
                self.notes.problem("receipt", self.receipt.message)

    @harmless
    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what has ended so far is on the server: whether it is."""
        if self._launched is None:
            return False
        return self._launched.flush(self.settings.drain if timeout is None else timeout)

    async def flush_async(self, timeout: float | None = None) -> bool:
        return bool(await _in_a_thread(lambda: self.flush(timeout)))

    # --- what a run has ---

    def test(
        self,
        name: str,
        test_id: str | None = None,
        *,
        attempt: int = 1,
        tags: Sequence[str] | None = None,
        browser: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Test:
        """One attempt of a test. `test_id` is its identity across runs, by default the name."""
        fields = {"tags": list(tags or ()), "browser": browser, "metadata": dict(metadata or {})}
        return Test(self.recorder, str(name), test_id, attempt, **fields)

    @harmless
    def add_metadata(self, **values: Any) -> None:
        """Values of the run's metadata that are known only now."""
        self.recorder.append({"kind": "run", "metadata": self._masks.anything(values)}, verdict=True)

    @harmless
    def expect(self, tests: int) -> None:
        """How many tests this run, or this shard of it, has: by that the server knows whether some never came."""
        if not isinstance(tests, int) or not 0 <= tests <= _MOST_TESTS:
            self.notes.wrong(f"The number of tests must be a whole number from 0, not {tests!r}")
            return
        self.recorder.append({"kind": "run", "tests_expected": int(tests)}, verdict=True)

    @harmless
    def add_error(self, text: str) -> None:
        """Something that went wrong outside of tests. The run is Failed, unless it gets another status."""
        self.recorder.append({"kind": "run", "errors": [self._masks.text(cut(str(text), 2000))]}, verdict=True)

    def leave_open(self) -> None:
        """Others say how the run ends."""
        self._ended["finish"] = False

    def set_status(self, status: str) -> None:
        """The status of the run. Without it the run is Failed when the last attempt of any test is."""
        if status not in ("Passed", "Failed", "Skipped", "Pending"):
            self.notes.wrong(f"The status of a run must be Passed, Failed, Skipped or Pending, not {status!r}")
            return
        self._ended["status"] = status


async def _in_a_thread(work: Callable[[], Any]) -> Any:
    import asyncio  # here, because it costs 50 ms of every start and most runs do not use it

    return await asyncio.get_running_loop().run_in_executor(None, work)


def make_run(notes: Notes | None = None, **arguments: Any) -> Run:
    """The run that arguments, environment and CI describe. Wrong settings turn recording off; strict, they raise."""
    notes = notes or Notes()
    try:
        settings = read(arguments)
        notes.strict = settings.strict
        token = arguments.get("token") or token_of(os.environ)
        masks = Masks(settings.mask)
    except ValueError as error:  # SettingsError, and a pattern that cannot be used
        if str(os.environ.get("REPORTD_STRICT", "")).strip() == "1":
            raise
        notes.problem("off", f"{error}. Nothing is recorded")
        settings, token, masks = Settings(), None, Masks()
    described = describe(settings, arguments)
    if described.shard and not described.is_shared:
        notes.problem("shard", f"Shard {described.shard} {NO_KEY}. It is a run of its own")
        described.shard = None
    run = Run(settings, described, token, notes, masks)
    run.tests_expected = arguments.get("tests_expected")
    return run


@dataclass
class Described:
    """The fields of a run, and the shard of it. `is_shared`: other jobs of the build have the same run_key."""

    fields: dict[str, Any]
    shard: str | None
    is_shared: bool


def describe(settings: Settings, arguments: Mapping[str, Any]) -> Described:
    """What arguments and settings say of the run, else the CI, else git."""
    build = ci.detect(os.environ, Path.cwd()) if settings.on else None
    name = settings.name or (build.name if build else None) or Path.cwd().name or "tests"
    run_key = settings.run_key or (build.run_key(name) if build else None)
    shard = settings.shard or (build.shard if build else None)
    metadata = {**(build.metadata() if build else {}), **dict(arguments.get("metadata") or {})}
    if shard:
        metadata["ci"] = {**metadata.get("ci", {}), "shard": shard}
    fields = {
        "name": name[:500],
        "run_key": run_key or str(uuid.uuid4()),
        "project": settings.project,
        "environment": settings.environment,
        "branch": settings.branch or (build.branch if build else None),
        "commit_sha": settings.commit or (build.commit if build else None),
        "build_url": settings.build_url or (build.build_url if build else None),
        "browser": arguments.get("browser"),
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "triggered_by": build.details.get("actor") if build else None,
        "tags": list(arguments.get("tags") or ()) or None,
        "metadata": metadata or None,
        "started_at": System.now(),
    }
    given = {field: value for field, value in fields.items() if value is not None}
    return Described(given, None if shard and shard.endswith("/1") else shard, run_key is not None)

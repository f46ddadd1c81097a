"""Each disk call of an upload or a removal fails once, one after the other, and with it the request or nothing.

No upload reports files that are not stored, no file stays staged or without a row, and the same upload then succeeds.
Without HTTP and without a database.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from server.errors import ReportError
from server.storage.disk import Placement, Removal
from server.storage.folder import Storage, StorageAway
from server.storage.stage import Stage
from server.uploads import receive as receiving
from server.uploads.known import Known, stage_known
from server.uploads.refusals import CONTENT_MISSING, EMPTY, STORAGE_FULL
from tests.storage.test_folder import OURS, artifact_files, contents, files_below, open_storage, receive, sha256

__all__ = ["open_storage"]  # a fixture

CALLS = ["close", "fdatasync", "fsync", "link", "lstat", "mkdir", "open", "read", "replace", "rmdir", "unlink"]
CALLS += ["fstat", "stat", "writev"]
FOLDER = "2026/01/24/case"
FILES = [b"small", b"large " * 20_000, b"small", b"", b"last"]
NAMES = {f"{FOLDER}/{n}.txt": content for n, content in enumerate(FILES) if content}
MOST_CALLS = 60


class Fault:
    """Fails the n-th call of os.<name> below a folder. `done`: the call does its work and yet reports the error."""

    def __init__(self, monkeypatch, root: Path) -> None:
        self._monkeypatch, self._root = monkeypatch, str(root)
        self.fired = False

    @contextmanager
    def armed(self, name: str, n: int, number: int, done: bool) -> Iterator[None]:
        call, seen = getattr(os, name), 0

        def failing(*args, **options):
            nonlocal seen
            seen += self._is_below(args[-1 if name in {"link", "replace"} else 0])
            if seen != n or self.fired:
                return call(*args, **options)
            self.fired = True
            if done or name == "close":  # Linux frees the descriptor in any case
                result = call(*args, **options)
                if name == "open":
                    os.closerange(result, result + 1)
            raise OSError(number, os.strerror(number))

        self.fired = False
        with self._monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            yield

    def _is_below(self, target: object) -> bool:
        with suppress(OSError):
            if isinstance(target, int):
                target = os.readlink(f"/proc/self/fd/{target}")  # noqa: PTH115
            return str(target).startswith(self._root)
        return False


@pytest.fixture
def fault(monkeypatch, tmp_path) -> Fault:
    monkeypatch.setattr(receiving, "WINDOW", 64 << 10)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # only its errors matter here
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    return Fault(monkeypatch, tmp_path)


async def upload(storage: Storage, names: dict[str, bytes] | None = None, existing: bool = False) -> list[str] | None:
    """Receives FILES and publishes those that were accepted: their names; None when the request failed."""
    try:
        async with Stage(storage) as stage:
            files = await receive(stage, *FILES)
            accepted = [file for file in files if file.refusal is None]
            assert {file.refusal for file in files} <= {None, EMPTY, STORAGE_FULL}
            placements = [
                Placement(f.path, f.size, f.checksum, OURS, [f"{FOLDER}/{f.index}.txt"], existing) for f in accepted
            ]
            return await stage.publish(placements)
    except ReportError as error:
        assert error.status in {503, 507}
        return None


async def remove(storage: Storage) -> list[str]:
    return await storage.remove([Removal(name, OURS, sha256(content)) for name, content in NAMES.items()])


def no_links(monkeypatch) -> None:
    def refusing(source, target, **_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refusing)


def damage(storage: Storage) -> None:
    """Removes, truncates and changes stored files."""
    for n, (name, content) in enumerate(NAMES.items()):
        (storage.root / name).unlink()
        if n:
            (storage.root / name).write_bytes(content[:-n] + b"?" * (n - 1))


@pytest.mark.parametrize("scenario", ["new", "known", "damaged", "no links"])
@pytest.mark.parametrize("call", CALLS)
async def test_each_call_of_an_upload_fails_once(open_storage, fault, monkeypatch, scenario, call):
    storage = open_storage(durability="full")
    if scenario == "no links":
        no_links(monkeypatch)
    for number, done in [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True), (errno.ESTALE, True)]:
        for n in range(1, MOST_CALLS):
            before = {}
            if scenario == "known":
                other = Placement(stage_other(storage), 5, sha256(b"small"), OURS, ["other/1.txt"])
                before = {storage.disk.place(other, set()): b"small"}
            existing = scenario == "damaged"
            if existing:
                await upload(storage)
                damage(storage)
            with fault.armed(call, n, number, done):
                names = await upload(storage, existing=existing)
            where = f"{call} {n} {errno.errorcode[number]} {done=}: {names}"
            assert files_below(storage.staging) == {}, where
            stored = artifact_files(storage)
            if existing:  # what could not be restored stays as it was
                assert names is None or {name: stored.get(name) for name in names} == {n: NAMES[n] for n in names}, (
                    where
                )
            else:
                assert stored == before | {name: NAMES[name] for name in names or []}, where
            await remove(storage)
            assert artifact_files(storage) == before, where
            if existing:
                await upload(storage)
                damage(storage)
            assert await upload(storage, existing=existing) == list(NAMES), where
            assert artifact_files(storage) == before | NAMES, where
            await remove(storage)
            await storage.remove([Removal(name, OURS, sha256(content)) for name, content in before.items()])
            assert artifact_files(storage) == {}, where
            if not fault.fired:
                break
        else:
            pytest.fail(f"more than {MOST_CALLS} calls of {call}")


def stage_other(storage: Storage) -> str:
    path = storage.staging / "other"
    path.write_bytes(b"small")
    return str(path)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("done", [False, True])
async def test_each_call_of_a_removal_fails_once(open_storage, fault, call, done):
    storage = open_storage(durability="full")
    for n in range(1, MOST_CALLS):
        await upload(storage)
        with fault.armed(call, n, errno.EIO, done):
            try:
                removed = await remove(storage)
            except StorageAway:
                removed = []
        left = set(NAMES) - set(removed)
        assert set(artifact_files(storage)) <= left
        await storage.remove([Removal(name, OURS, sha256(NAMES[name])) for name in left])  # the queue tries again
        assert artifact_files(storage) == {} and contents(storage) == []
        if not fault.fired:
            return
    pytest.fail(f"more than {MOST_CALLS} calls of {call}")


async def adopt(storage: Storage) -> list[str] | None:
    """Stores the bytes of NAMES once more as known files: the paths of the accepted ones; None when it failed."""
    wanted = [Known(n, "a.txt", sha256(content), len(content)) for n, content in enumerate(NAMES.values())]
    try:
        async with Stage(storage) as stage:
            files = await stage_known(stage, OURS, wanted, 1 << 20)
            assert {file.refusal for file in files} <= {None, CONTENT_MISSING, STORAGE_FULL}
            return await stage.publish(
                [
                    Placement(f.path, f.size, f.checksum, OURS, [f"known/case/{f.index}.txt"])
                    for f in files
                    if f.refusal is None
                ]
            )
    except ReportError as error:
        assert error.status in {503, 507}
        return None


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("call", CALLS)
async def test_each_call_for_known_files_fails_once(open_storage, fault, monkeypatch, links, call):
    """`links` False: the content has the maximum number of links, and is copied."""
    storage = open_storage(durability="full")
    await upload(storage)
    expected = {f"known/case/{n}.txt": content for n, content in enumerate(NAMES.values())}
    for number, done in [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True)]:
        for n in range(1, MOST_CALLS):
            with monkeypatch.context() as patch:
                if not links:
                    no_links(patch)
                with fault.armed(call, n, number, done):
                    names = await adopt(storage)
            where = f"{call} {n} {errno.errorcode[number]} {done=}: {names}"
            assert files_below(storage.staging) == {}, where
            assert artifact_files(storage) == NAMES | {name: expected[name] for name in names or []}, where
            await storage.remove([Removal(name, OURS, sha256(expected[name])) for name in names or []])
            if len(contents(storage)) < len(set(NAMES.values())):
                await storage.remove([Removal(name, OURS, sha256(content)) for name, content in NAMES.items()])
                await upload(storage)
            if not fault.fired:
                break
    assert await adopt(storage) == list(expected)

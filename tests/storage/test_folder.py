"""Storage, staging and receiving file uploads, without HTTP and without a database."""

import asyncio
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from server.errors import MalformedBody, OutcomeUnknown, StorageFull
from server.limits import Admission
from server.storage.disk import Disk, Placement, Removal, Watch
from server.storage.folder import Storage, StorageAway
from server.storage.paths import content_path
from server.storage.stage import Stage
from server.uploads import receive as receiving
from server.uploads.refusals import EMPTY, MIB, STORAGE_FULL, too_large
from tests.forms import BOUNDARY, a_body, a_file
from tests.up_server import CHECKOUT as ROOT

OURS, THEIRS = UUID(int=1), UUID(int=2)
FOLDER = "2026/01/24/case"
RULES = receiving.Rules(frozenset({"file"}), max_file_size=4 << 20, max_files=50, max_total=64 << 20, too_many="")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def open_storage(tmp_path):
    """open_storage(durability=…): an open Storage in tmp_path that is closed at the end of the test."""
    opened = []

    def make(root: Path | None = None, durability: str = "none") -> Storage:
        storage = Storage(root or tmp_path / "artifacts", durability)
        storage.open()
        opened.append(storage)
        return storage

    yield make
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(open_storage) -> Storage:
    return open_storage()


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, including staged files and the content cache."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def artifact_files(storage: Storage) -> dict[str, bytes]:
    """The published files: name to content, without staged files and the content cache."""
    return {name: content for name, content in files_below(storage.root).items() if not name.startswith(".")}


def contents(storage: Storage) -> list[str]:
    return [name for name in files_below(storage.root) if name.startswith(".content/")]


def stage_file(stage, content: bytes, *candidates: str, project: UUID = OURS, existing: bool = False) -> Placement:
    """Stages a file that is to get the first free name of `candidates`."""
    path = stage.new_path()
    Path(path).write_bytes(content)
    return Placement(path, len(content), sha256(content), project, candidates, existing)


async def publish(storage: Storage, content: bytes, *candidates: str, project: UUID = OURS) -> str:
    """Publishes one file; the name that it got."""
    async with Stage(storage) as stage:
        (path,) = await stage.publish([stage_file(stage, content, *candidates, project=project)])
    return path


def inode(storage: Storage, path: str) -> int:
    return (storage.root / path).stat().st_ino


async def receive(
    stage, *files: bytes, rules: receiving.Rules = RULES, size: int = 64 << 10, memory: Admission | None = None
) -> list[receiving.StagedFile]:
    """The files that receive() stages from a body sent in chunks of `size` bytes."""
    body = a_body(*(a_file(content, f"{number}.txt") for number, content in enumerate(files)))
    chunks = iter([body[at : at + size] for at in range(0, len(body), size)])

    async def next_chunk() -> bytes:
        return next(chunks, b"")

    reservation = (memory or Admission(1, 1 << 30)).reserve()
    return (await receiving.receive(next_chunk, BOUNDARY.encode(), rules, stage, reservation)).files


class RecordingWatch(Watch):
    def __init__(self):
        self.links, self.syncs, self.damages = [], [], []

    def synced(self, what, seconds):
        assert seconds > 0
        self.syncs.append(what)

    def linked(self, size):
        self.links.append(size)

    def damaged(self, what):
        self.damages.append(what)


@pytest.fixture
def watch(storage):
    storage.disk.watch = RecordingWatch()
    return storage.disk.watch


# --- publishing ---------------------------------------------------------------------------------------------


async def test_published_files_have_their_names_and_bytes_and_staging_is_empty(storage):
    async with Stage(storage) as stage:
        items = [stage_file(stage, f"file {n}".encode(), f"{FOLDER}/step_00{n}.txt") for n in range(3)]
        assert await stage.publish(items) == [item.candidates[0] for item in items]
    assert artifact_files(storage) == {f"{FOLDER}/step_00{n}.txt": f"file {n}".encode() for n in range(3)}
    assert list(storage.staging.iterdir()) == []


async def test_staged_files_that_are_not_published_are_removed(storage):
    async with Stage(storage) as stage:
        stage_file(stage, b"unwanted", "a.txt")
        stage.new_path()  # never written
    assert files_below(storage.root) == {}


async def test_other_users_cannot_read_files_and_folders(storage):
    async with Stage(storage) as stage:
        (file,) = await receive(stage, b"secret")
        await stage.publish([Placement(file.path, file.size, file.checksum, OURS, [f"{FOLDER}/a.txt"])])
    assert (storage.root / FOLDER / "a.txt").stat().st_mode & 0o007 == 0
    assert (storage.root / FOLDER).stat().st_mode & 0o007 == 0


async def test_an_existing_file_is_never_overwritten(storage):
    candidates = [f"{FOLDER}/a.txt", f"{FOLDER}/a_2.txt", f"{FOLDER}/a_3.txt"]
    taken = [await publish(storage, f"file {n}".encode(), *candidates) for n in range(3)]
    assert taken == candidates
    with pytest.raises(StorageAway):
        await publish(storage, b"one too many", *candidates)
    assert artifact_files(storage) == {name: f"file {n}".encode() for n, name in enumerate(candidates)}


async def test_a_link_to_cached_content_does_not_overwrite_either(storage):
    (storage.root / FOLDER).mkdir(parents=True)
    (storage.root / FOLDER / "a.txt").write_bytes(b"someone else's")
    assert await publish(storage, b"ours", f"{FOLDER}/b.txt") == f"{FOLDER}/b.txt"
    assert await publish(storage, b"ours", f"{FOLDER}/a.txt", f"{FOLDER}/c.txt") == f"{FOLDER}/c.txt"
    assert (storage.root / FOLDER / "a.txt").read_bytes() == b"someone else's"


async def test_concurrent_uploads_never_get_the_same_name(storage):
    candidates = [f"{FOLDER}/a_{n}.txt" for n in range(24)]
    names = await asyncio.gather(*(publish(storage, f"file {n}".encode(), *candidates) for n in range(24)))
    assert sorted(names) == sorted(candidates)
    assert artifact_files(storage) == {name: f"file {n}".encode() for n, name in enumerate(names)}


# --- deduplication ------------------------------------------------------------------------------------------


async def test_the_same_bytes_are_stored_once_in_a_project(storage):
    first = await publish(storage, b"same", f"{FOLDER}/a.txt")
    second = await publish(storage, b"same", "2026/01/25/other/b.txt")
    assert inode(storage, first) == inode(storage, second) == inode(storage, content_path(OURS, sha256(b"same")))
    assert contents(storage) == [content_path(OURS, sha256(b"same"))]


async def test_the_same_bytes_in_one_request_are_stored_once(storage):
    async with Stage(storage) as stage:
        items = [stage_file(stage, b"same", f"a/{n}.txt") for n in (1, 2)]
        first, second = await stage.publish(items)
    assert inode(storage, first) == inode(storage, second)


async def test_projects_never_share_bytes(storage):
    ours = await publish(storage, b"same", "a/1.txt")
    theirs = await publish(storage, b"same", "a/2.txt", project=THEIRS)
    assert inode(storage, ours) != inode(storage, theirs)
    assert inode(storage, theirs) == inode(storage, content_path(THEIRS, sha256(b"same")))


async def test_a_cache_entry_of_the_wrong_size_is_replaced(storage):
    first = await publish(storage, b"the same", "a/1.txt")
    (storage.root / first).write_bytes(b"cut")  # the content cache has a hard link to the same file
    second = await publish(storage, b"the same", "a/2.txt")
    third = await publish(storage, b"the same", "a/3.txt")
    assert artifact_files(storage) == {first: b"cut", second: b"the same", third: b"the same"}
    assert inode(storage, second) == inode(storage, third)


def damage(file: Path, at: int) -> bytes:
    """Flips a bit of a file in place, which all its hard links show; the bytes that it has now."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("size", [1, 100, 256 << 10, (256 << 10) + 1, (1 << 20) - 1])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
async def test_a_damaged_cache_entry_is_never_linked_and_is_replaced(storage, watch, caplog, size, place):
    content = os.urandom(size)
    first = await publish(storage, content, "a/1.txt")
    damaged = damage(storage.root / first, {"first": 0, "middle": size // 2, "last": size - 1}[place])
    second = await publish(storage, content, "a/2.txt")
    third = await publish(storage, content, "a/3.txt")
    assert artifact_files(storage) == {first: damaged, second: content, third: content}
    entry = content_path(OURS, sha256(content))
    assert inode(storage, second) == inode(storage, third) == inode(storage, entry)
    assert watch.damages == ["content"] and watch.links == [size]
    (record,) = caplog.records
    assert record.levelname == "ERROR" and entry in record.getMessage()
    assert list(storage.staging.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "unreadable", "dangling"])
async def test_a_cache_entry_that_is_no_readable_file_is_not_linked(storage, watch, kind, monkeypatch):
    content = b"x" * 100
    entry = storage.root / content_path(OURS, sha256(content))
    entry.parent.mkdir(parents=True)
    if kind == "folder":
        entry.mkdir()
    elif kind == "pipe":
        os.mkfifo(entry)
    elif kind == "dangling":
        entry.symlink_to("nothing")
    else:
        entry.write_bytes(content)
        fail_reads(monkeypatch, entry)
    path = await publish(storage, content, "a/1.txt")
    monkeypatch.undo()
    assert (storage.root / path).read_bytes() == content and watch.damages == ["content"]
    if kind != "folder":  # a folder cannot be replaced, only left alone
        assert entry.is_file() and inode(storage, "a/1.txt") == entry.stat().st_ino
    assert list(storage.staging.iterdir()) == []


def fail_reads(monkeypatch, file: Path, number: int = errno.EIO) -> None:
    """Reading this file fails, by default like a bad sector."""
    read = os.read

    def failing(descriptor, count):
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(file):  # noqa: PTH115
            raise OSError(number, os.strerror(number))
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", failing)


async def test_a_staged_file_that_cannot_be_read_back_fails_the_request(storage, watch, monkeypatch):
    first = await publish(storage, b"the same", "a/1.txt")
    with pytest.raises(StorageAway):
        async with Stage(storage) as stage:
            item = stage_file(stage, b"the same", "a/2.txt")
            fail_reads(monkeypatch, Path(item.staged))
            await stage.publish([item])
    assert artifact_files(storage) == {first: b"the same"} and watch.damages == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOTCONN, errno.ESTALE])
async def test_too_many_open_files_and_a_broken_mount_are_no_damage(storage, watch, monkeypatch, number):
    first = await publish(storage, b"the same", "a/1.txt")
    opened = os.open

    def failing(path, *args, **options):
        if "/.content/" in str(path):
            raise OSError(number, os.strerror(number))
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StorageAway):
        await publish(storage, b"the same", "a/2.txt")
    assert artifact_files(storage) == {first: b"the same"} and watch.damages == []


async def test_a_mount_that_breaks_while_content_is_read_is_no_damage(storage, watch, monkeypatch):
    first = await publish(storage, b"the same", "a/1.txt")
    fail_reads(monkeypatch, storage.root / content_path(OURS, sha256(b"the same")), errno.ENOTCONN)
    with pytest.raises(StorageAway):
        await publish(storage, b"the same", "a/2.txt")
    monkeypatch.undo()
    assert artifact_files(storage) == {first: b"the same"} and watch.damages == []


async def test_only_content_that_would_be_linked_is_read(storage, monkeypatch):
    await publish(storage, b"ours", "a/1.txt")
    monkeypatch.setattr(os, "read", None)
    await publish(storage, b"new", "a/2.txt")
    await publish(storage, b"ours", "a/3.txt", project=THEIRS)
    async with Stage(storage) as stage:
        await receive(stage, b"ours")


async def test_many_bytes_are_placed_in_several_disk_calls(storage, monkeypatch):
    """Each call has a timeout, and a retry of the upload would compare the same bytes again."""
    monkeypatch.setattr("server.storage.stage._PORTION", 10)
    calls, run = [], Stage.run

    async def counted(self, work, items):
        calls.append([item.candidates[0] for item in items])
        return await run(self, work, items)

    monkeypatch.setattr(Stage, "run", counted)
    async with Stage(storage) as stage:
        items = [stage_file(stage, b"x" * size, f"a/{n}") for n, size in enumerate([4, 5, 6, 30, 1, 2])]
        assert await stage.publish(items) == [f"a/{n}" for n in range(6)]
        assert await stage.publish([]) == []
    assert calls == [["a/0", "a/1", "a/2"], ["a/3"], ["a/4", "a/5"]]


async def test_a_symlink_in_the_content_cache_is_not_used(storage, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"not for everyone")
    content = b"x" * len(str(secret))  # the size that the link itself has
    entry = storage.root / content_path(OURS, sha256(content))
    entry.parent.mkdir(parents=True)
    entry.symlink_to(secret)
    path = await publish(storage, content, "a/1.txt")
    assert not (storage.root / path).is_symlink() and (storage.root / path).read_bytes() == content
    assert secret.read_bytes() == b"not for everyone"


@pytest.mark.parametrize("content", [None, b"", b"cut", b"longer than it was", b"all of xt"])
async def test_a_damaged_or_missing_file_is_restored(storage, watch, content):
    path = await publish(storage, b"all of it", f"{FOLDER}/a.txt")
    (storage.root / path).unlink()
    if content is not None:
        (storage.root / path).write_bytes(content)
    else:
        (storage.root / FOLDER).rmdir()
    async with Stage(storage) as stage:
        assert await stage.publish([stage_file(stage, b"all of it", path, existing=True)]) == [path]
    assert artifact_files(storage) == {path: b"all of it"}
    assert watch.damages == ([] if content is None else ["artifact"])
    assert list(storage.staging.iterdir()) == []


async def test_restoring_a_file_leaves_the_others_that_share_its_damaged_bytes(storage):
    """They are restored when they are sent again themselves; later uploads are linked to none of them."""
    first, second = await publish(storage, b"all of it", "a/1.txt"), await publish(storage, b"all of it", "a/2.txt")
    damaged = damage(storage.root / first, 3)
    async with Stage(storage) as stage:
        await stage.publish([stage_file(stage, b"all of it", first, existing=True)])
    third = await publish(storage, b"all of it", "a/3.txt")
    assert artifact_files(storage) == {first: b"all of it", second: damaged, third: b"all of it"}


async def test_an_intact_file_is_not_replaced(storage):
    path = await publish(storage, b"all of it", f"{FOLDER}/a.txt")
    before = inode(storage, path)
    async with Stage(storage) as stage:
        await stage.publish([stage_file(stage, b"all of it", path, existing=True)])
    assert inode(storage, path) == before
    assert list(storage.staging.iterdir()) == []


# --- staged files that cannot be removed ----------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """failing(name, number, times, done, where): the first `times` calls of os.<name> on a path or descriptor below
    `where` fail with this error; `done`: they do their work and yet report the error, as network file systems do."""

    def arm(name: str, number: int = errno.EIO, times: int = 1000, done: bool = False, where: str = "/.staging/"):
        call, left = getattr(os, name), [times]

        def failing(*args, **options):
            paths = [os.readlink(f"/proc/self/fd/{each}") if isinstance(each, int) else str(each) for each in args[:2]]  # noqa: PTH115
            if where not in paths[-1 if name in {"link", "replace"} else 0] or not left[0]:
                return call(*args, **options)
            left[0] -= 1
            if done:
                call(*args, **options)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, failing)
        return left

    return arm


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("done", [False, True])
async def test_a_staged_file_that_cannot_be_unlinked_at_once_is_removed_at_the_end(storage, failing, existing, done):
    """Its content is linked already (or a duplicate), so the request succeeds."""
    path = await publish(storage, b"same", "a/1.txt")
    failing("unlink", times=1, done=done)
    async with Stage(storage) as stage:
        name = path if existing else "a/2.txt"
        assert await stage.publish([stage_file(stage, b"same", name, existing=existing)]) == [name]
    assert list(storage.staging.iterdir()) == [] and not storage.disk.undiscarded
    assert artifact_files(storage)[name] == b"same"


async def test_staged_files_are_removed_once_the_disk_allows_it(storage, failing, monkeypatch):
    await publish(storage, b"same", "a/1.txt")
    with monkeypatch.context():
        failing("unlink")
        await publish(storage, b"same", "a/2.txt")
        async with Stage(storage) as stage:
            stage_file(stage, b"unwanted", "a/3.txt")
        await storage.tidy()
        assert sorted(files_below(storage.staging).values()) == [b"same", b"unwanted"]
        monkeypatch.undo()
    await publish(storage, b"next", "a/4.txt")  # the end of any request retries
    assert files_below(storage.staging) == {} and not storage.disk.undiscarded


async def test_a_refused_file_that_cannot_be_unlinked_fails_nothing(storage, failing):
    failing("unlink")
    rules = receiving.Rules(frozenset({"file"}), 1000, 50, 64 << 20, "")
    async with Stage(storage) as stage:
        first, empty, big, last = await receive(stage, b"first", b"", b"x" * 1001, b"last", rules=rules)
        assert [first.refusal, empty.refusal, big.refusal, last.refusal] == [None, EMPTY, too_large(1000), None]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_reports_full_at_close_refuses_only_that_file(storage, failing, number, done):
    failing("close", number, times=1, done=done)
    async with Stage(storage) as stage:
        full, last = await receive(stage, b"first", b"last")
        assert [full.refusal, last.refusal] == [STORAGE_FULL, None]
        assert list(files_below(storage.staging).values()) == [b"last"]


async def test_a_delayed_write_error_at_close_fails_the_request(storage, failing):
    failing("close", done=True)
    with pytest.raises(StorageAway):
        async with Stage(storage) as stage:
            await receive(stage, b"first", b"last")
    assert files_below(storage.root) == {}


async def test_a_write_error_at_the_close_of_a_refused_file_fails_nothing(storage, failing):
    """The file became too large after its first window was written."""
    failing("close", done=True, times=1)
    rules = receiving.Rules(frozenset({"file"}), receiving.WINDOW + 100_000, 50, 64 << 20, "")
    async with Stage(storage) as stage:
        big, last = await receive(stage, b"x" * (receiving.WINDOW + 200_000), b"last", rules=rules)
        assert big.refusal is not None and last.refusal is None
        assert list(files_below(storage.staging).values()) == [b"last"]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO, errno.EPERM, errno.ESTALE])
async def test_a_link_that_was_made_counts_whatever_the_call_reports(storage, failing, number):
    """A network file system that repeats a call whose reply it lost finds its own link: EEXIST."""
    failing("link", number, times=1, done=True, where=FOLDER)
    candidates = [f"{FOLDER}/a.txt", f"{FOLDER}/a_2.txt"]
    assert await publish(storage, b"new", *candidates) == candidates[0]
    assert artifact_files(storage) == {candidates[0]: b"new"} and files_below(storage.staging) == {}


# --- rolling back -------------------------------------------------------------------------------------------


async def test_an_exception_removes_everything_published(storage):
    before = await publish(storage, b"shared", "a/before.txt")
    with pytest.raises(ZeroDivisionError):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"new", "a/new.txt"), stage_file(stage, b"shared", "a/shared.txt")])
            assert len(artifact_files(storage)) == 3
            raise ZeroDivisionError
    assert artifact_files(storage) == {before: b"shared"}
    assert contents(storage) == [content_path(OURS, sha256(b"shared"))]
    assert list(storage.staging.iterdir()) == []


async def test_a_cancelled_request_removes_everything_published(storage):
    published = asyncio.Event()

    async def request():
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"new", "a/new.txt")])
            published.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(request())
    await published.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_below(storage.root) == {}


async def test_a_restored_file_is_not_removed_on_an_exception(storage):
    path = await publish(storage, b"all of it", "a/1.txt")
    (storage.root / path).write_bytes(b"cut")
    with pytest.raises(ZeroDivisionError):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"all of it", path, existing=True)])
            raise ZeroDivisionError
    assert artifact_files(storage) == {path: b"all of it"}


@pytest.mark.parametrize("error", [OutcomeUnknown, asyncio.CancelledError, ZeroDivisionError])
async def test_files_are_kept_when_their_commit_may_have_succeeded(storage, error):
    with pytest.raises(error):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"perhaps", "a/1.txt")])
            stage.settle(True)
            raise error
    assert artifact_files(storage) == {"a/1.txt": b"perhaps"}
    assert list(storage.staging.iterdir()) == []


async def test_files_are_removed_when_their_commit_failed(storage):
    with pytest.raises(ZeroDivisionError):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"no", "a/1.txt")])
            stage.settle(True)
            stage.settle(False)
            raise ZeroDivisionError
    assert files_below(storage.root) == {}


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageAway)])
async def test_a_publish_that_fails_halfway_removes_the_first_half(storage, monkeypatch, number, error):
    link = os.link

    def failing(source, target, **options):
        if str(target).endswith("2.txt"):
            raise OSError(number, os.strerror(number))
        return link(source, target, **options)

    monkeypatch.setattr(os, "link", failing)
    with pytest.raises(error):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, f"{n}".encode(), f"a/{n}.txt") for n in range(5)])
    assert files_below(storage.root) == {}


# --- removing -----------------------------------------------------------------------------------------------


async def test_removing_deletes_the_file_and_its_folder_once_it_is_empty(storage):
    one = await publish(storage, b"1", f"{FOLDER}/a.txt")
    two = await publish(storage, b"2", f"{FOLDER}/b.txt")
    assert await storage.remove([Removal(one, OURS, sha256(b"1"))]) == [one]
    assert artifact_files(storage) == {two: b"2"} and contents(storage) == [content_path(OURS, sha256(b"2"))]
    await storage.remove([Removal(two, OURS, sha256(b"2")), Removal(two, OURS, sha256(b"2"))])
    assert files_below(storage.root) == {}
    assert not (storage.root / FOLDER).exists()


async def test_removing_the_last_file_of_a_content_deletes_the_cache_entry(storage):
    first, second = await publish(storage, b"same", "a/1.txt"), await publish(storage, b"same", "a/2.txt")
    theirs = await publish(storage, b"same", "a/3.txt", project=THEIRS)
    await storage.remove([Removal(first, OURS, sha256(b"same"))])
    assert len(contents(storage)) == 2
    await storage.remove([Removal(second, OURS, sha256(b"same"))])
    assert contents(storage) == [content_path(THEIRS, sha256(b"same"))]
    assert artifact_files(storage) == {theirs: b"same"}


async def test_removing_an_iteration_deletes_the_parent_folder_only_when_it_is_empty(storage):
    deep = await publish(storage, b"2", f"{FOLDER}/iteration_002/a.txt")
    flat = await publish(storage, b"1", f"{FOLDER}/a.txt")
    await storage.remove([Removal(deep, OURS, sha256(b"2"))])
    assert artifact_files(storage) == {flat: b"1"} and not (storage.root / FOLDER / "iteration_002").exists()
    deep = await publish(storage, b"2", f"{FOLDER}/iteration_002/a.txt")
    await storage.remove([Removal(flat, OURS, sha256(b"1")), Removal(deep, OURS, sha256(b"2"))])
    assert not (storage.root / FOLDER).exists()


@pytest.mark.parametrize("durability", ["none", "full"])
async def test_removing_a_missing_file_succeeds(open_storage, durability):
    storage = open_storage(durability=durability)
    missing = ["2020/01/01/x/a.txt", "b.txt"]
    assert sorted(await storage.remove([Removal(path, OURS, "ab" * 32) for path in missing])) == missing


@pytest.mark.parametrize("durability", ["none", "full"])
async def test_removing_a_path_below_a_file_succeeds(open_storage, durability):
    storage = open_storage(durability=durability)
    path = await publish(storage, b"1", "a/1.txt")
    assert await storage.remove([Removal(f"{path}/x.txt", OURS, "ab" * 32)]) == [f"{path}/x.txt"]
    assert artifact_files(storage) == {path: b"1"}


async def test_a_file_that_cannot_be_removed_is_not_reported_as_removed(storage, monkeypatch, caplog):
    paths = [await publish(storage, f"{n}".encode(), f"a/{n}.txt") for n in range(3)]
    unlink = os.unlink

    def failing(path, **options):
        if str(path).endswith("1.txt"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing)
        removed = await storage.remove([Removal(path, OURS, sha256(f"{n}".encode())) for n, path in enumerate(paths)])
    assert sorted(removed) == [paths[0], paths[2]] and artifact_files(storage) == {paths[1]: b"1"}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert await storage.remove([Removal(paths[1], OURS, sha256(b"1"))]) == [paths[1]]
    assert files_below(storage.root) == {}


@pytest.mark.parametrize("bad", ["a", "a/iteration_002"])
async def test_a_folder_that_cannot_be_synced_holds_up_only_its_own_files(open_storage, monkeypatch, caplog, bad):
    storage = open_storage(durability="full")
    paths = [
        await publish(storage, f"{n}".encode(), path) for n, path in enumerate(["a/1", "a/iteration_002/1", "b/1"])
    ]
    removals = [Removal(path, OURS, sha256(f"{n}".encode())) for n, path in enumerate(paths)]
    with monkeypatch.context():
        sync = storage.disk.sync_folder

        def sync_folder(folder):
            if str(folder) == f"{storage.root}/{bad}":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(folder)

        monkeypatch.setattr(storage.disk, "sync_folder", sync_folder)
        removed = await storage.remove(removals)
        assert sorted(removed) == [path for path in paths if not path.startswith(f"{bad}/1")]
        assert [record.levelname for record in caplog.records] == ["ERROR"] and bad in caplog.text
        monkeypatch.undo()
    assert sorted(await storage.remove(removals)) == paths  # also those that are gone already
    assert files_below(storage.root) == {}


async def test_no_file_is_reported_as_removed_when_the_storage_is_unavailable(storage):
    path = await publish(storage, b"1", "a/1.txt")
    unmounted = storage.root.rename(storage.root.with_name("unmounted"))
    with pytest.raises(StorageAway):
        await storage.remove([Removal(path, OURS, sha256(b"1"))])
    unmounted.rename(storage.root)
    assert artifact_files(storage) == {path: b"1"}


async def test_a_removed_folder_is_created_again(storage):
    path = await publish(storage, b"1", f"{FOLDER}/a.txt")
    await storage.remove([Removal(path, OURS, sha256(b"1"))])
    assert await publish(storage, b"2", f"{FOLDER}/a.txt") == path
    assert artifact_files(storage) == {path: b"2"}


async def test_a_folder_that_is_removed_just_before_the_link_is_created_again(storage, monkeypatch):
    link, races = os.link, []

    def racing(source, target, **options):
        if not races:
            races.append(target)
            Path(target).parent.rmdir()  # as remove() in another thread would after the folder's last file
        link(source, target, **options)

    monkeypatch.setattr(os, "link", racing)
    assert await publish(storage, b"1", f"{FOLDER}/a.txt") == f"{FOLDER}/a.txt"
    assert races and artifact_files(storage) == {f"{FOLDER}/a.txt": b"1"}


async def test_a_folder_is_created_once_for_all_files_of_a_request(storage, monkeypatch):
    mkdir, made = os.mkdir, []
    monkeypatch.setattr(os, "mkdir", lambda path, mode=0o777: made.append(path) or mkdir(path, mode))
    async with Stage(storage) as stage:
        await stage.publish([stage_file(stage, b"%d" % n, f"{FOLDER}/{n}.txt") for n in range(5)])
    assert [path for path in made if "/.content" not in path] == [
        str(storage.root / part) for part in ("2026", "2026/01", "2026/01/24", FOLDER)
    ]
    assert len(artifact_files(storage)) == 5


async def test_concurrent_publishing_and_removing_in_one_folder(storage):
    async def publish_and_remove(name: str) -> int:
        done = 0
        for n in range(20):
            content = f"{name} {n}".encode()
            try:
                path = await publish(storage, content, f"{FOLDER}/{name}.txt")
            except StorageAway:  # the folder was removed twice in a row: the client retries
                continue
            assert (storage.root / path).read_bytes() == content
            await storage.remove([Removal(path, OURS, sha256(content))])
            done += 1
        return done

    assert min(await asyncio.gather(*(publish_and_remove(name) for name in "abcd"))) > 0
    assert files_below(storage.root) == {}


# --- file systems without hard links ------------------------------------------------------------------------


@pytest.fixture(params=["refused", "by the setting"])
def no_links(request, monkeypatch, storage) -> None:
    """A file system without hard links, or `hard_links = false`. Like Linux, it looks up both paths before EPERM."""
    if request.param == "by the setting":
        storage.disk = Disk(storage.root, durable=False, hard_links=False)
        monkeypatch.setattr(os, "link", None)
        return

    def refusing(source, target, **_):
        os.stat(source)  # noqa: PTH116
        os.stat(os.path.dirname(target))  # noqa: PTH116, PTH120
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refusing)


async def test_without_hard_links_files_are_published_under_their_names(storage, no_links):
    candidates = [f"{FOLDER}/a.txt", f"{FOLDER}/b.txt"]
    assert await publish(storage, b"1", *candidates) == candidates[0]
    assert await publish(storage, b"2", *candidates) == candidates[1]
    assert await publish(storage, b"1", "other/a.txt") == "other/a.txt"
    with pytest.raises(StorageAway):
        await publish(storage, b"3", *candidates)
    assert files_below(storage.root) == {candidates[0]: b"1", candidates[1]: b"2", "other/a.txt": b"1"}


async def test_with_the_setting_no_file_gets_a_second_name_and_clients_send_each(open_storage):
    storage = open_storage()
    stored = await publish(storage, b"1", "a/1.txt")
    storage.disk = Disk(storage.root, durable=False, hard_links=False)
    assert await publish(storage, b"1", "a/2.txt") == "a/2.txt"
    assert (storage.root / "a/2.txt").stat().st_nlink == 1 and inode(storage, stored) != inode(storage, "a/2.txt")
    assert not storage.disk.has(OURS, sha256(b"1"), 1)
    assert storage.disk.adopt(OURS, sha256(b"1"), 1, str(storage.staging / "0")) is None
    await storage.remove([Removal(path, OURS, sha256(b"1")) for path in (stored, "a/2.txt")])
    assert artifact_files(storage) == {} and contents(storage) == []


async def test_without_hard_links_an_exception_removes_everything_published(storage, no_links):
    with pytest.raises(ZeroDivisionError):
        async with Stage(storage) as stage:
            await stage.publish([stage_file(stage, b"1", "a/1.txt"), stage_file(stage, b"1", "a/2.txt")])
            raise ZeroDivisionError
    assert files_below(storage.root) == {}


async def test_without_hard_links_a_removed_folder_is_created_again(storage, no_links):
    path = await publish(storage, b"1", f"{FOLDER}/a.txt")
    await storage.remove([Removal(path, OURS, sha256(b"1"))])
    assert await publish(storage, b"2", f"{FOLDER}/a.txt") == path
    assert files_below(storage.root) == {path: b"2"}


async def test_without_hard_links_a_failed_rename_leaves_no_file(storage, no_links, monkeypatch):
    def failing(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(StorageFull):
        await publish(storage, b"1", f"{FOLDER}/a.txt")
    assert files_below(storage.root) == {}


async def test_a_file_with_too_many_links_is_copied(storage, monkeypatch):
    first = await publish(storage, b"same", "a/1.txt")
    link = os.link

    def limited(source, target, **options):
        if os.stat(source).st_nlink >= 2:  # noqa: PTH116 - ext4's limit is 65,000
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        return link(source, target, **options)

    monkeypatch.setattr(os, "link", limited)
    second = await publish(storage, b"same", "a/2.txt")
    assert artifact_files(storage) == {first: b"same", second: b"same"}
    assert inode(storage, first) != inode(storage, second)
    assert list(storage.staging.iterdir()) == []


# --- metrics -------------------------------------------------------------------------------------------------


async def test_only_hard_links_to_existing_content_are_counted_as_linked(storage, watch, monkeypatch):
    first = await publish(storage, b"same", "a/1.txt")
    await publish(storage, b"other", "a/2.txt")
    await publish(storage, b"same", "a/3.txt", project=THEIRS)
    assert watch.links == []
    third = await publish(storage, b"same", "a/1.txt", "a/4.txt")
    assert watch.links == [4] and inode(storage, first) == inode(storage, third)

    def full(source, target):
        if "/.content/" in str(source):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        os.rename(source, target)  # noqa: PTH104

    monkeypatch.setattr(os, "link", full)
    await publish(storage, b"same", "a/5.txt")
    assert watch.links == [4]
    assert watch.syncs == []  # durability is "none" here


async def test_each_fsync_is_reported(open_storage):
    storage = open_storage(durability="full")
    storage.disk.watch = watch = RecordingWatch()
    async with Stage(storage) as stage:
        (file,) = await receive(stage, b"x")
        assert watch.syncs == ["file"]
        await stage.publish([Placement(file.path, file.size, file.checksum, OURS, [f"{FOLDER}/a.txt"])])
    new_folders = len(FOLDER.split("/"))
    assert watch.syncs == ["file", *["folder"] * (new_folders + 1)]  # the parent of each new folder, and of the file


# --- receiving ----------------------------------------------------------------------------------------------


async def test_files_are_written_hashed_and_counted(storage):
    contents = [os.urandom(n) for n in (1, 100_000, 3 << 20)]
    for size in (1000, 64 << 10, 5 << 20):
        async with Stage(storage) as stage:
            files = await receive(stage, *contents, size=size)
            assert [Path(file.path).read_bytes() for file in files] == contents
            assert [(f.size, f.checksum, f.refusal) for f in files] == [(len(c), sha256(c), None) for c in contents]
        assert files_below(storage.root) == {}


async def test_a_body_that_arrives_byte_by_byte_is_written(storage):
    async with Stage(storage) as stage:
        (file,) = await receive(stage, b"\r\n--" * 2000, size=1)
        assert Path(file.path).read_bytes() == b"\r\n--" * 2000


async def test_a_partial_write_is_completed(storage, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "writev", lambda fd, views: write(fd, b"".join(views)[:777]))
    content = os.urandom(200_000)
    async with Stage(storage) as stage:
        (file,) = await receive(stage, content)
        assert (Path(file.path).read_bytes(), file.checksum) == (content, sha256(content))


async def test_an_oversized_file_is_deleted_as_soon_as_it_ends(storage):
    async with Stage(storage) as stage:
        rules = receiving.Rules(frozenset({"file"}), 1 << 20, 50, 64 << 20, "")
        big, exact, small = await receive(stage, b"x" * (3 << 20), b"y" * (1 << 20), b"z", rules=rules)
        assert big.refusal == too_large(1 << 20) and big.size == 3 << 20
        assert exact.refusal is None and small.refusal is None
        assert sorted(files_below(storage.staging).values()) == [b"y" * (1 << 20), b"z"]


@pytest.mark.parametrize(
    ("in_use", "largest"), [(0, 64 * MIB // 17), (32 * MIB, 32 * MIB // 17), (60 * MIB, MIB), (99 * MIB, MIB // 16)]
)
async def test_uploads_write_earlier_while_more_memory_is_in_use(storage, monkeypatch, in_use, largest):
    write, sizes, chunk = receiving._write_window, [], 16 << 10
    admission = Admission(2, 128 * MIB)
    admission.reserve().hold(in_use)

    def recording(stage, window):
        sizes.append(sum(len(view) for piece in window for view in piece.views))
        write(stage, window)

    monkeypatch.setattr(receiving, "_write_window", recording)
    async with Stage(storage) as stage:
        files = await receive(stage, *[b"x" * MIB] * 8, size=chunk, memory=admission)
        assert {file.refusal for file in files} == {None}
    assert largest - 2 * chunk <= max(sizes) <= largest + chunk and sum(sizes) == 8 * MIB
    assert admission.memory == in_use


async def test_a_broken_body_leaves_nothing_staged(storage):
    chunks = iter([a_file(b"a" * (3 << 20)), a_file(b"b" * 100)[:-50]])

    async def next_chunk() -> bytes:
        return next(chunks, b"")

    with pytest.raises(MalformedBody):
        async with Stage(storage) as stage:
            await receiving.receive(next_chunk, BOUNDARY.encode(), RULES, stage, Admission(1, 1 << 30).reserve())
    assert files_below(storage.root) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_refuses_only_the_file_being_written(storage, monkeypatch, number):
    write = os.writev

    def full(descriptor, views):
        if b"FULL" in b"".join(views)[:100]:
            raise OSError(number, os.strerror(number))
        return write(descriptor, views)

    monkeypatch.setattr(os, "writev", full)
    async with Stage(storage) as stage:
        first, big, last = await receive(stage, b"first", b"FULL" * 500_000, b"last")
        assert [first.refusal, big.refusal, last.refusal] == [None, STORAGE_FULL, None]
        assert sorted(files_below(storage.staging).values()) == [b"first", b"last"]


async def test_a_disk_that_reports_full_at_fdatasync_refuses_the_file(open_storage, monkeypatch):
    storage = open_storage(durability="full")

    def full(descriptor):
        if os.fstat(descriptor).st_size == len(b"second"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", full)
    async with Stage(storage) as stage:
        files = await receive(stage, b"1", b"second", b"3")
        assert [file.refusal for file in files] == [None, STORAGE_FULL, None]
        assert sorted(files_below(storage.staging).values()) == [b"1", b"3"]


async def test_a_broken_disk_fails_the_request(storage, monkeypatch):
    def broken(descriptor, views):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "writev", broken)
    with pytest.raises(StorageAway):
        async with Stage(storage) as stage:
            await receive(stage, b"1")
    assert files_below(storage.root) == {}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_small_file_fits_after_a_file_too_large_for_the_disk(open_storage, small_disk):
    storage = open_storage(small_disk / "artifacts", durability="full")
    try:
        async with Stage(storage) as stage:
            fits, too_big, small = await receive(stage, b"a" * (1 << 20), b"b" * (3 << 20), b"c" * 1000)
            assert [fits.refusal, too_big.refusal, small.refusal] == [None, STORAGE_FULL, None]
            items = [Placement(f.path, f.size, f.checksum, OURS, [f"a/{f.index}.txt"]) for f in (fits, small)]
            await stage.publish(items)
        sizes = {name: len(content) for name, content in artifact_files(storage).items()}
        assert sizes == {"a/0.txt": 1 << 20, "a/2.txt": 1000}
    finally:
        storage.close()


async def test_a_file_that_did_not_fit_makes_room_for_the_next_one(open_storage, small_disk):
    """The last bytes of the first file and the whole second one arrive together."""
    storage = open_storage(small_disk / "artifacts", durability="full")
    try:
        async with Stage(storage) as stage:
            too_big, fits = await receive(stage, b"a" * (3 << 20), b"b" * 1_047_000)
            assert [too_big.refusal, fits.refusal] == [STORAGE_FULL, None]
            assert [len(content) for content in files_below(storage.staging).values()] == [1_047_000]
    finally:
        storage.close()


async def test_a_staged_file_is_removed_when_its_folder_is_back(storage):
    """Another folder was mounted over ours for a moment."""
    staged, away = storage.staging / "0", storage.root / "away"
    staged.write_bytes(b"1")
    storage.staging.rename(away)
    storage.disk.discard(str(staged))
    assert storage.disk.undiscarded == {str(staged)}
    away.rename(storage.staging)
    storage.disk.discard(str(staged))
    assert not staged.exists() and storage.disk.undiscarded == set()


async def test_many_small_files_are_never_open_all_at_once(open_storage, monkeypatch):
    """They arrive together, and each needs a descriptor until it is synced."""
    storage, most, real = open_storage(durability="full"), 0, os.fdatasync

    def fdatasync(descriptor):
        nonlocal most
        with suppress(OSError):  # another thread has closed one
            opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
            most = max(most, sum(each.startswith(f"{storage.staging}/") for each in opened))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    rules = receiving.Rules(frozenset({"file"}), max_file_size=4 << 20, max_files=199, max_total=64 << 20, too_many="")
    async with Stage(storage) as stage:
        files = await receive(stage, *(str(number).encode() for number in range(199)), rules=rules)
        assert 1 < most <= 32
        assert [file.refusal for file in files] == [None] * 199 and {file.descriptor for file in files} == {-1}
        assert sorted(files_below(storage.staging).values()) == sorted(str(number).encode() for number in range(199))


async def test_checking_a_full_disk_leaves_no_file(open_storage, small_disk):
    storage = open_storage(small_disk / "artifacts")
    try:
        await storage.check()
        with pytest.raises(OSError, match="No space"), (small_disk / "more").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        with pytest.raises(StorageFull):
            await storage.check()
        assert list(storage.staging.iterdir()) == []
    finally:
        storage.close()


async def test_a_cancelled_upload_keeps_its_file_until_its_writer_thread_ends(storage, monkeypatch):
    started, proceed, paths = threading.Event(), threading.Event(), []
    write = os.writev

    def slow(descriptor, views):
        started.set()
        proceed.wait(10)
        try:
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        except OSError as error:
            paths.append(error)
            raise
        return write(descriptor, views)

    async def request():
        async with Stage(storage) as stage:
            await receive(stage, b"x" * 1000)

    monkeypatch.setattr(os, "writev", slow)
    task = asyncio.create_task(request())
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(list(storage.staging.iterdir())) == 1
    proceed.set()
    async with asyncio.timeout(10):
        while list(storage.staging.iterdir()):
            await asyncio.sleep(0.01)
    assert len(paths) == 1 and str(paths[0]).startswith(str(storage.staging))


# --- durable before visible ---------------------------------------------------------------------------------


@pytest.fixture
def disk_calls(monkeypatch) -> list[tuple[str, ...]]:
    """The system calls in order: ("fdatasync", path), ("fsync", path), ("link", source, target)."""
    calls: list[tuple[str, ...]] = []
    fdatasync, fsync, link = os.fdatasync, os.fsync, os.link

    def path_of(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115

    def recorded_fdatasync(descriptor):
        calls.append(("fdatasync", path_of(descriptor)))
        fdatasync(descriptor)

    def recorded_fsync(descriptor):
        calls.append(("fsync", path_of(descriptor)))
        fsync(descriptor)

    def recorded_link(source, target, **options):
        calls.append(("link", str(source), str(target)))
        link(source, target, **options)

    monkeypatch.setattr(os, "fdatasync", recorded_fdatasync)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "link", recorded_link)
    return calls


async def receive_and_publish(storage: Storage, *names: str) -> list[str]:
    """Receives and publishes a file for each name; the paths where they were staged."""
    async with Stage(storage) as stage:
        files = await receive(stage, *(name.encode() for name in names))
        await stage.publish(
            [
                Placement(file.path, file.size, file.checksum, OURS, [name])
                for file, name in zip(files, names, strict=True)
            ]
        )
        return [file.path for file in files]


async def test_files_and_folders_are_durable_when_publish_returns(open_storage, disk_calls):
    storage = open_storage(durability="full")
    names = [f"{FOLDER}/a.txt", f"{FOLDER}/b.txt", f"{FOLDER}/iteration_002/a.txt"]
    staged = await receive_and_publish(storage, *names)
    for path, name in zip(staged, names, strict=True):
        final = storage.root / name
        link = disk_calls.index(("link", path, str(final)))
        # The data is synced before the link, and the folder after it.
        assert disk_calls.index(("fdatasync", path)) < link
        assert ("fsync", str(final.parent)) in disk_calls[link:]
    new_folders = [storage.root / part for part in ("2026", "2026/01", "2026/01/24", FOLDER, f"{FOLDER}/iteration_002")]
    for folder in new_folders:  # a new folder survives a power failure only when its parent is synced, too
        assert ("fsync", str(folder.parent)) in disk_calls, folder


async def test_the_parents_of_a_synced_folder_are_not_synced_again(open_storage, disk_calls):
    storage = open_storage(durability="full")
    await receive_and_publish(storage, f"{FOLDER}/a.txt")
    disk_calls.clear()
    (staged,) = await receive_and_publish(storage, f"{FOLDER}/b.txt")
    final = storage.root / FOLDER / "b.txt"
    without_cache = [call for call in disk_calls if "/.content/" not in call[-1]]
    assert without_cache == [("fdatasync", staged), ("link", staged, str(final)), ("fsync", str(final.parent))]


async def test_a_folder_that_was_removed_and_created_again_is_synced_again(open_storage, disk_calls):
    storage = open_storage(durability="full")
    await receive_and_publish(storage, f"{FOLDER}/a.txt")
    name = f"{FOLDER}/a.txt"
    await storage.remove([Removal(name, OURS, sha256(name.encode()))])
    disk_calls.clear()
    await receive_and_publish(storage, name)
    assert ("fsync", str(storage.root / "2026/01/24")) in disk_calls


async def test_folders_that_vanish_between_two_files_of_a_request_are_created_and_synced_again(
    open_storage, disk_calls, monkeypatch
):
    storage = open_storage(durability="full")
    await receive_and_publish(storage, "2026/01/24/other/a.txt")
    disk_calls.clear()
    link, races = os.link, []

    def racing(source, target, **options):
        if target.endswith("b.txt") and not races:
            races.append(target)
            shutil.rmtree(storage.root / "2026")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", racing)
    await receive_and_publish(storage, f"{FOLDER}/a.txt", f"{FOLDER}/b.txt")
    assert races and (storage.root / FOLDER / "b.txt").read_bytes() == f"{FOLDER}/b.txt".encode()
    for folder in ("2026", "2026/01", "2026/01/24", FOLDER):
        assert ("fsync", str((storage.root / folder).parent)) in disk_calls, folder


async def test_a_restored_file_is_synced(open_storage, disk_calls):
    storage = open_storage(durability="full")
    name = f"{FOLDER}/a.txt"
    await receive_and_publish(storage, name)
    (storage.root / name).unlink()
    disk_calls.clear()
    async with Stage(storage) as stage:
        (file,) = await receive(stage, name.encode())
        item = Placement(file.path, file.size, file.checksum, OURS, [name], existing=True)
        await stage.publish([item])
    assert disk_calls[0] == ("fdatasync", file.path)
    assert ("fsync", str(storage.root / FOLDER)) in disk_calls
    assert (storage.root / name).read_bytes() == name.encode()


async def test_a_removal_is_synced_when_it_returns(open_storage, disk_calls):
    storage = open_storage(durability="full")
    await receive_and_publish(storage, f"{FOLDER}/a.txt", f"{FOLDER}/b.txt")
    disk_calls.clear()
    name = f"{FOLDER}/a.txt"
    await storage.remove([Removal(name, OURS, sha256(name.encode()))])
    assert disk_calls == [("fsync", str(storage.root / FOLDER))]


async def test_without_durability_nothing_is_synced(storage, disk_calls):
    await receive_and_publish(storage, f"{FOLDER}/a.txt")
    assert {call[0] for call in disk_calls} == {"link"}


# --- reading ------------------------------------------------------------------------------------------------


async def test_a_file_of_another_size_is_not_read(storage):
    path = await publish(storage, b"12345", "a/1.txt")
    assert await storage.read(path, 5, 0, 5) == b"12345"
    assert await storage.read(path, 5, 1, 3) == b"234"
    assert await storage.read(path, 5, 0, 0) == b""
    for other, size in [(path, 4), (path, 6), ("a/2.txt", 5), ("b/c/1.txt", 5), (f"{path}/x", 5), ("a", 5)]:
        assert await storage.read(other, size, 0, 5) is None


# --- staging folders of several processes -------------------------------------------------------------------


def test_each_process_has_a_staging_folder_of_its_own(open_storage, tmp_path):
    stages = [open_storage(tmp_path / "artifacts").staging for _ in range(5)]
    assert len(set(stages)) == 5 and all(folder.is_dir() for folder in stages)


def test_concurrent_processes_can_create_the_folder(tmp_path):
    barrier, errors = threading.Barrier(4), []

    def start() -> None:
        storage = Storage(tmp_path / "new/artifacts")
        barrier.wait()
        try:
            storage.open()
        except OSError as error:
            errors.append(error)
        storage.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_closing_removes_the_staging_folder(tmp_path):
    storage = Storage(tmp_path / "artifacts")
    storage.open()
    (storage.staging / "left").write_bytes(b"x")
    storage.close()
    storage.close()
    assert files_below(storage.root) == {} and not storage.staging.exists()


def test_a_folder_that_cannot_be_created_is_an_error_at_the_start(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        Storage(tmp_path / "file").open()


async def test_check_fails_when_no_file_can_be_written(storage):
    await storage.check()
    assert files_below(storage.root) == {}
    storage.staging.rmdir()
    with pytest.raises(StorageAway):
        await storage.check()


async def test_a_start_on_a_stalled_disk_times_out(tmp_path, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("server.storage.staging.try_lock", lambda folder: released.wait(60) and None)
    storage = Storage(tmp_path / "artifacts", file_timeout=0.1)
    try:
        with pytest.raises(OSError, match=r"artifacts: it does not answer within 0\.1 seconds"):
            await storage.start()
    finally:
        monkeypatch.setattr("server.storage.staging.try_lock", lambda folder: os.open(folder, os.O_RDONLY))
        released.set()
        await storage.stop()


def test_a_process_can_exit_while_its_disk_stalls(tmp_path):
    """At exit, Python joins the threads of its thread pools. A thread blocked on the disk must not be in one."""
    code = """
import asyncio, threading, sys
from server.storage.folder import Storage
async def main():
    storage = Storage(sys.argv[1], file_timeout=1.0)
    await storage.start()
    for call in (storage.run, storage.run_unchecked):
        try:
            await call(threading.Event().wait)
        except Exception as error:
            print(type(error).__name__)
    storage.close = threading.Event().wait
    import server.storage.folder as folder
    folder._CLOSE_SECONDS = 0.1
    await storage.stop()
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "artifacts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["StorageAway"] * 2, "")

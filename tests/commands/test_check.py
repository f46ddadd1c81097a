"""`reportd check`: its findings, what --repair removes and never removes, also beside a working server."""

import asyncio
import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import psycopg
import pytest

from server.commands.check import compare
from server.commands.check.context import CheckFailed, Context, Options
from server.commands.check.files import Files
from server.commands.check.findings import KINDS, Report
from server.commands.check.rows import Rows
from server.commands.serve import OldSchema
from server.database.queries import SQL
from server.services import SERVICES
from server.storage.disk import Disk, Placement
from server.storage.marker import MARKER
from server.storage.orphans import Orphans
from server.storage.paths import STAGING, content_path
from server.storage.staging import Place, place_of
from server.storage.walk import stat_or_none, walk
from tests.forms import batch, post
from tests.makers import png
from tests.up_server import ENVIRONMENT, PATIENCE, REPORTD, end, reportd, running, serving, up_server, wait_for

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"
NOW = Options(grace=0.0)
REPAIR = Options(grace=0.0, repair=True)
HASHES = Options(grace=0.0, verify_hashes=True)


class Lines(Report):
    """A report that collects its output lines."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.printed: list[dict[str, Any]] = []

    def _print(self, line: str) -> None:
        self.printed.append(json.loads(line))


@pytest.fixture(autouse=True)
def marked(storage, rows) -> None:
    """A marker file in the storage folder and its id in the database, as after the first start of a server."""
    own = uuid4()
    storage.mkdir()
    (storage / MARKER).write_text(f"{own}\n")
    rows("INSERT INTO storage_folder (id) VALUES (%s)", own)


@pytest.fixture
def checked(config, dsn):
    """await checked(options): exit code, (kind, path, removed) of each finding, summary. By default without a grace
    period, because all files of a test are new."""

    async def run(options: Options = NOW, **artifacts: Any) -> tuple[int, list[tuple[str, str, bool]], dict[str, Any]]:
        report = Lines()
        # A file system's clock has coarse ticks: only after a pause is the ctime of a new file older than now.
        await asyncio.sleep(0.05)
        changed = msgspec.structs.replace(config, artifacts=msgspec.structs.replace(config.artifacts, **artifacts))
        code = await compare.check(dsn, changed, options, report)
        *findings, last = report.printed
        assert last["exit_code"] == code
        return code, sorted((each["finding"], each["path"], each["removed"]) for each in findings), last["summary"]

    return run


@pytest.fixture
def sent(client, case_url):
    """await sent(count, url=…): uploads a batch; (artifact, path below the storage folder) of each file."""

    async def send(count: int = 1, url: str = "", seed: int = 0) -> list[tuple[dict[str, Any], str]]:
        files = [(png(seed=seed + number), f"{number}.png") for number in range(count)]
        url = url or await case_url()
        status, got = await post(client, f"{url}/artifacts/batch", batch(files))
        assert status == 201, got
        return [(each, each["storage_path"].removeprefix("artifacts/")) for each in got["artifacts"]]

    return send


def content_of(storage: Path, artifact: dict[str, Any]) -> Path:
    (found,) = storage.glob(f".content/*/{artifact['checksum'][:2]}/{artifact['checksum']}")
    return found


def everything(storage: Path) -> dict[str, tuple[int, int]]:
    """{path: (inode, ctime)} of everything below the storage folder except folders."""
    found = {}
    for folder, _, names in os.walk(storage):
        for name in names:
            stat = Path(folder, name).lstat()
            found[str(Path(folder, name).relative_to(storage))] = (stat.st_ino, stat.st_ctime_ns)
    return found


# --- rows without a correct file -------------------------------------------------------------------------------


async def test_a_correct_storage_has_no_findings(checked, sent, storage):
    await sent(3)
    before = everything(storage)
    for options in (NOW, HASHES, REPAIR, Options()):
        code, findings, summary = await checked(options)
        assert (code, findings) == (0, [])
        assert (summary["artifacts"], summary["files"], summary["content_entries"]) == (3, 3, 3)
        assert summary["complete"] and summary["failure"] is None
    assert everything(storage) == before


async def test_the_result_of_the_last_check_is_stored(checked, sent, storage, rows):
    ((_, path),) = await sent()
    await checked()
    (storage / path).unlink()
    code, _, summary = await checked()
    (row,) = rows("SELECT exit_code, summary, finished_at > now() - interval '1 minute' AS now FROM storage_checks")
    assert row == {"exit_code": code, "summary": summary, "now": True}
    assert code == 1 and summary["findings"] == {"missing_file": 1}


async def test_thumbnails_are_neither_findings_nor_removed(client, checked, sent, storage):
    ((artifact, _),) = await sent()
    assert (await client.get(f"/thumbs/{artifact['id']}-320.webp")).status == 200
    before = everything(storage)
    assert any(name.startswith(".thumbs/") for name in before)
    for options in (NOW, HASHES, REPAIR):
        code, findings, summary = await checked(options)
        assert (code, findings, summary["files"], summary["content_entries"]) == (0, [], 1, 1)
    assert everything(storage) == before


async def test_rows_without_a_correct_file_are_found_and_kept(checked, sent, storage, rows):
    (_, missing), (_, cut), (_, folder), (_, link), (_, longer) = await sent(5)
    (storage / missing).unlink()
    (storage / longer).unlink()
    (storage / longer).write_bytes(b"x" * 5000)
    os.truncate(storage / cut, 10)  # and its content entry, which is the same file
    (storage / folder).unlink()
    (storage / folder).mkdir()
    (storage / link).rename(storage / f"{link}.moved")
    (storage / link).symlink_to(storage / f"{link}.moved")
    code, findings, _ = await checked(REPAIR)
    assert code == 1
    assert [(kind, path) for kind, path, _ in findings if KINDS[kind].startswith("artifacts")] == sorted(
        [
            ("missing_file", missing),
            ("not_a_file", folder),
            ("not_a_file", link),
            ("wrong_size", cut),
            ("wrong_size", longer),
        ]
    )
    assert len(rows("SELECT FROM test_artifacts")) == 5
    code, again, _ = await checked(REPAIR)
    assert code == 1 and [path for _, path, removed in again if removed] == []
    assert (storage / cut).exists() and (storage / longer).exists() and (storage / link).is_symlink()


async def test_wrong_bytes_are_found_only_with_verify_hashes(checked, sent, storage):
    (first, path), (second, other) = await sent(2)
    with (storage / path).open("r+b") as file:  # the content entry is the same file
        file.write(b"WRONG")
    content = content_of(storage, second)
    content.unlink()  # the second artifact has no content entry
    with (storage / other).open("r+b") as file:
        file.write(b"WRONG")
    assert (await checked())[:2] == (0, [])
    entry = str(content_of(storage, first).relative_to(storage))
    expected = sorted([("wrong_hash", path), ("wrong_hash", other), ("wrong_content", entry)])
    for options, removed in (HASHES, False), (Options(repair=True, verify_hashes=True), True):
        code, findings, _ = await checked(options)
        assert code == 1 and [(kind, path) for kind, path, _ in findings] == expected
        assert {kind for kind, _, gone in findings if gone} == ({"wrong_content"} if removed else set())
    assert not (storage / entry).exists() and (storage / path).exists()


async def test_a_file_that_shares_the_inode_of_a_good_entry_is_not_read_again(checked, sent, storage, monkeypatch):
    (first, shared), (_, wrong), (second, own) = await sent(3)
    with (storage / wrong).open("r+b") as file:
        file.write(b"WRONG")
    content_of(storage, second).unlink()
    await asyncio.sleep(0.05)  # the ctime must be older than the check
    read = set()
    real = os.open

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        read.add(str(path).removeprefix(f"{storage}/"))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    assert [(kind, path) for kind, path, _ in (await checked(HASHES))[1] if kind == "wrong_hash"] == [
        ("wrong_hash", wrong)
    ]
    assert str(content_of(storage, first).relative_to(storage)) in read
    assert {wrong, own} <= read and shared not in read


async def test_the_last_copy_of_an_artifacts_bytes_is_kept(checked, client, sent, case_url, storage):
    """The file was removed; the content entry is the only copy until the file is sent again."""
    url = await case_url()
    ((artifact, path),) = await sent(url=url)
    (storage / path).unlink()
    for options in (NOW, REPAIR):
        assert (await checked(options))[:2] == (1, [("missing_file", path, False)])
    assert content_of(storage, artifact).exists()
    ((again, _),) = await sent(url=url)
    entry = str(content_of(storage, artifact).relative_to(storage))
    assert again["duplicate"] and (await checked(REPAIR))[:2] == (1, [("unused_content", entry, True)])
    assert (await checked(HASHES))[:2] == (0, [])


async def test_a_finding_has_the_values_of_its_row(config, dsn, sent, storage, capsys):
    ((artifact, path),) = await sent()
    os.truncate(storage / path, 10)
    assert await compare.check(dsn, config, NOW, Report(as_json=True)) == 1
    first, *_ = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "finding": "wrong_size",
        "path": path,
        "size": artifact["file_size"],
        "artifact_id": artifact["id"],
        "found": "10",
        "removed": False,
    }


# --- files without a row -------------------------------------------------------------------------------


async def test_files_without_a_row_are_found_and_removed(checked, sent, storage, rows):
    await sent()
    kept = everything(storage)
    mine = await sent(3, seed=10)
    rows("DELETE FROM test_artifacts WHERE id = ANY(%s)", [artifact["id"] for artifact, _ in mine])
    paths = sorted(path for _, path in mine)
    code, findings, summary = await checked()
    assert (code, findings) == (1, [("file_without_row", path, False) for path in paths])
    assert summary["finding_bytes"] == {"file_without_row": sum(artifact["file_size"] for artifact, _ in mine)}
    code, findings, summary = await checked(REPAIR)
    assert code == 1 and summary["removed"] == len(findings) == 6  # with their content entries
    assert [each for each in findings if each[0] == "file_without_row"] == [
        ("file_without_row", path, True) for path in paths
    ]
    assert everything(storage) == kept
    assert not (storage / paths[0]).parent.exists()
    assert (await checked())[:2] == (0, [])


async def test_hard_links_of_one_inode_are_removed_in_one_check(checked, client, case_url, storage, rows):
    """Unlinking one name renews the ctime of the others."""
    for _ in range(3):
        assert (await post(client, f"{await case_url()}/artifacts/batch", batch([(png(), "a.png")])))[0] == 201
    rows("DELETE FROM test_artifacts")
    assert sorted((storage / path).stat().st_nlink for path in everything(storage)) == [1, 4, 4, 4, 4]
    await asyncio.sleep(1.5)
    _, findings, _ = await checked(Options(grace=1.0, repair=True))
    assert [kind for kind, _, _ in findings] == ["file_without_row"] * 3 + ["unused_content"]
    assert list(everything(storage)) == [MARKER]


async def test_files_younger_than_the_grace_period_are_no_findings(checked, sent, storage, rows):
    ((_, path),) = await sent()
    rows("DELETE FROM test_artifacts")
    os.utime(storage / path, (0, 0))  # age is ctime: an old mtime must not count
    for options in (Options(), Options(repair=True)):
        code, findings, summary = await checked(options)
        assert (code, findings, summary["younger_than_grace"]) == (0, [], 1)
    assert (storage / path).exists()


async def test_a_content_entry_without_files_is_found(checked, sent, storage):
    ((artifact, _),) = await sent()
    entry = content_of(storage, artifact).parent.parent / "ab" / ("ab" * 32)
    entry.parent.mkdir(exist_ok=True)
    entry.write_bytes(b"x")
    path = str(entry.relative_to(storage))
    assert (await checked())[1] == [("unused_content", path, False)]
    assert (await checked(Options()))[:2] == (0, [])
    assert (await checked(REPAIR))[1] == [("unused_content", path, True)]
    assert (await checked())[:2] == (0, []) and content_of(storage, artifact).exists()


ODD = ["new\nline.png", os.fsdecode(b"\xff\xfe.png"), "größe 日本.png", "-rf", "a'b\"c\\", "\x1b[31m.png"]


async def test_files_with_odd_names_are_handled_like_others(checked, sent, storage, config, dsn, capsys):
    ((_, path),) = await sent()
    folder = (storage / path).parent
    for name in ODD:
        (folder / name).write_bytes(b"x")
    before = Path(path).parent
    expected = sorted(("file_without_row", f"{before}/{name}", False) for name in ODD)
    assert (await checked())[:2] == (1, expected)
    assert await compare.check(dsn, config, NOW, Report(as_json=False)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("file_without_row")]
    assert len(lines) == len(ODD) and all(line.isascii() and line.isprintable() for line in lines)
    assert [removed for _, _, removed in (await checked(REPAIR))[1]] == [True] * len(ODD)
    assert list(folder.iterdir()) == [storage / path]


async def test_files_that_reportd_never_makes_are_found_but_never_removed(checked, sent, storage, tmp_path):
    ((_, path),) = await sent()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "precious").write_bytes(b"x")
    (storage / "backup.tar").write_bytes(b"x")
    (storage / "2026/notes").mkdir(parents=True, exist_ok=True)
    (storage / "2026/notes/todo.txt").write_bytes(b"x")
    (storage / "link").symlink_to(target)
    (storage / path).parent.joinpath("iteration_002").symlink_to(target)
    os.mkfifo((storage / path).parent / "pipe")
    (storage / ".content/readme").write_bytes(b"x")
    (storage / ".staging/readme").write_bytes(b"x")
    folder = Path(path).parent
    unknown = sorted(
        [
            *["backup.tar", "2026/notes/todo.txt", "link", f"{folder}/iteration_002", f"{folder}/pipe"],
            *[".content/readme", ".staging/readme"],
        ]
    )
    before = everything(storage)
    code, findings, _ = await checked(REPAIR)
    assert (code, findings) == (1, [("unknown_file", path, False) for path in unknown])
    assert everything(storage) == before and (target / "precious").exists()


async def test_files_of_the_operating_system_in_a_mount_are_ignored(checked, sent, storage):
    ((_, path),) = await sent()
    folder = Path(path).parent
    for name in ("lost+found/#12", ".snapshot/hourly/x", "aquota.user", ".Trash-0/x", f"{folder}/.nfs0001", ".x"):
        (storage / name).parent.mkdir(parents=True, exist_ok=True)
        (storage / name).write_bytes(b"x")
    before = everything(storage)
    assert (await checked(REPAIR))[:2] == (0, [])
    assert everything(storage) == before


async def test_files_of_a_delete_that_are_not_yet_unlinked_are_no_findings(checked, sent, storage, rows):
    ((artifact, path),) = await sent()
    rows("DELETE FROM test_artifacts")
    rows(
        "INSERT INTO removed_files (storage_path, checksum, project_id) SELECT %s, %s, id FROM projects",
        path,
        artifact["checksum"],
    )
    code, findings, summary = await checked(REPAIR)
    assert (code, findings, summary["pending_removal"]) == (0, [], 1)
    rows("UPDATE removed_files SET unlinked_at = now()")  # unlinked, but restored from a backup
    assert (await checked())[1] == [("file_without_row", path, False)]


@pytest.fixture
def unsynced(monkeypatch):
    """unsynced.add(folder): its fsync fails. Without fsync, a removal is not durable."""
    folders: set[str] = set()
    sync = Disk.sync_folder

    def sync_folder(disk: Disk, folder: Any) -> None:
        if str(folder) in folders:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(disk, folder)

    monkeypatch.setattr(Disk, "sync_folder", sync_folder)
    return folders


@pytest.fixture
def config(config):
    return msgspec.structs.replace(config, artifacts=msgspec.structs.replace(config.artifacts, durability="full"))


async def test_a_folder_that_cannot_be_synced_is_reported_and_holds_up_no_other(
    client, checked, sent, rows, storage, unsynced
):
    ((_, held_up),), ((_, other),) = await sent(), await sent(seed=1)
    unsynced.add(str((storage / held_up).parent))
    for run in rows("SELECT id FROM suite_runs ORDER BY id"):
        assert (await client.delete(f"{BASE}/suite-runs/{run['id']}")).status == 204
    await client.app[SERVICES].removals.drain(client.app[SERVICES].pool)
    assert not (storage / held_up).exists() and not (storage / other).exists()
    code, findings, summary = await checked()
    assert (code, findings, summary["pending_removal"]) == (0, [], 1)  # a DELETE request may be working on it
    rows("UPDATE removed_files SET removed_at = now() - INTERVAL '2 hours'")
    for options in (NOW, Options(), Options(grace=7000.0), REPAIR):
        code, findings, summary = await checked(options)
        assert (code, findings) == (1, [("held_up_removal", held_up, False)]) and summary["pending_removal"] == 1
    assert (await checked(Options(grace=7500.0)))[0] == 0
    unsynced.clear()
    await client.app[SERVICES].removals.drain(client.app[SERVICES].pool)
    code, findings, summary = await checked()
    assert (code, findings, summary["pending_removal"]) == (0, [], 0)


async def test_a_repair_goes_on_after_a_folder_that_cannot_be_synced(checked, sent, rows, storage, unsynced, capsys):
    files = [path for number in range(3) for _, path in await sent(seed=number)]
    rows("DELETE FROM test_artifacts")
    unsynced.add(str((storage / files[1]).parent))
    code, findings, summary = await checked(REPAIR)
    assert code == 2 and summary["unreadable"] == 1 and "may not be durable" in capsys.readouterr().err
    assert sorted(path for kind, path, removed in findings if removed and kind == "file_without_row") == sorted(files)


# --- staging ------------------------------------------------------------------------------------------------


@pytest.fixture
def staged(storage, rows):
    """staged(…): a staged file of another process. `quiet`: its row's age in seconds; None: it has no row. `host`: of
    its machine, in the folder of a version up to 0.2.0."""

    def stage(quiet: float | None = None, *, here: bool = False, host: str = "") -> Path:
        id = uuid4()
        path = storage.joinpath(".staging", host, id.hex, "0")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        if quiet is not None:
            place = place_of(storage) if here else Place("of another machine", 7)
            rows(
                "INSERT INTO instances (id, host, boot_id, device, seen_at)"
                " VALUES (%s, %s, %s, %s, now() - make_interval(secs => %s))",
                *(id, socket.gethostname(), place.boot_id, place.device, quiet),
            )
        return path

    return stage


@pytest.mark.parametrize("process", [{"quiet": 5, "here": True}, {"quiet": 3700}], ids=["here", "elsewhere"])
async def test_staged_files_of_ended_processes_are_found(checked, storage, staged, process):
    path = staged(**process)
    name = str(path.relative_to(storage))
    assert (await checked())[1] == [("stale_staging", name, False)]
    assert (await checked(Options(repair=True)))[:2] == (0, []) and path.exists()
    assert (await checked(REPAIR))[1] == [("stale_staging", name, True)]
    assert (await checked())[:2] == (0, [])


async def test_staged_files_of_a_living_process_with_the_same_host_name_are_kept(checked, staged):
    """Its lock is not seen here, as on two mounts of a network file system."""
    path = staged(3500)
    assert (await checked(REPAIR))[:2] == (0, []) and path.exists()


@pytest.mark.parametrize("host", ["", f"{socket.gethostname()}-0badb007", "another-0badb007"])
async def test_staged_files_without_a_row_are_kept_for_a_day(checked, storage, staged, host, monkeypatch):
    path = staged(host=host)
    name = str(path.relative_to(storage))
    code, findings, summary = await checked(REPAIR)
    assert (code, findings, summary["younger_than_grace"]) == (0, [], 1) and path.exists()
    monkeypatch.setattr(Context, "file_time", lambda self: time.time() + 86_500)
    assert (await checked(REPAIR))[1] == [("stale_staging", name, True)]


async def test_staged_files_of_a_living_process_are_no_findings(checked, client, storage):
    path = client.app[SERVICES].storage.staging / "17"
    path.write_bytes(b"half")
    assert (await checked(REPAIR))[:2] == (0, [])
    assert path.exists()


# --- changes during the check -------------------------------------------------------------------------------


class Interrupting(Lines):
    """A report that calls `action` once, at the first progress of a phase."""

    def __init__(self, phase: str, action: Callable[[], Any]) -> None:
        super().__init__()
        self._action_phase, self._action = phase, action
        self.happened = False

    def progress(self, phase: str, done: int, total: int | None = None) -> None:
        if phase == self._action_phase and not self.happened:
            self.happened = True
            self._action()


async def test_a_row_committed_after_the_rows_were_read_causes_no_finding(config, dsn, sent, rows, storage):
    ((_, path),) = await sent()
    kept = rows("SELECT * FROM test_artifacts")[0]
    rows("DELETE FROM test_artifacts")

    def commit() -> None:
        names = ", ".join(kept)
        rows(f"INSERT INTO test_artifacts ({names}) VALUES ({', '.join(['%s'] * len(kept))})", *kept.values())

    ((_, other),) = await sent()  # without a second row there would be no progress call
    report = Interrupting("artifacts", commit)
    await asyncio.sleep(0.05)
    assert await compare.check(dsn, config, REPAIR, report) == 0, report.printed
    assert report.happened and (storage / path).exists() and (storage / other).exists()


async def test_an_artifact_deleted_between_the_passes_causes_no_finding(config, dsn, sent, client, rows):
    ((artifact, path), _) = await sent(2)

    def delete() -> None:
        rows("DELETE FROM test_artifacts WHERE id = %s", artifact["id"])
        rows(
            "INSERT INTO removed_files (storage_path, checksum, project_id) SELECT %s, %s, id FROM projects",
            path,
            artifact["checksum"],
        )

    report = Interrupting("artifacts", delete)
    assert await compare.check(dsn, config, REPAIR, report) == 0, report.printed
    assert report.happened


@pytest.fixture
async def context(config, dsn, storage):
    """A Context, for tests that call parts of a check."""
    storage.mkdir(exist_ok=True)
    connection = await asyncpg.connect(dsn)
    with ThreadPoolExecutor(2) as threads:
        yield Context(connection, str(storage), False, REPAIR, Lines(), threads)
    await connection.close()


async def test_a_concurrent_delete_causes_no_finding(context, sent, client, storage):
    ((artifact, path), (_, other)) = await sent(2)
    portion = await context.fetch(SQL.check.portion, "", 10)
    assert (await client.delete(f"{BASE}/artifacts/{artifact['id']}")).status == 204
    (storage / other).unlink()
    compared = Rows(context)
    assert [row["storage_path"] for row, _ in compared._check(portion, {}).suspects] == sorted([path, other])
    await compared._recheck(portion, {})
    assert [each["path"] for each in context.report.printed] == [other]


async def test_a_concurrent_upload_that_restores_a_file_causes_no_finding(context, sent, case_url, storage):
    url = await case_url()
    ((_, path),) = await sent(url=url)
    (storage / path).unlink()
    compared, portion = Rows(context), await context.fetch(SQL.check.portion, "", 10)
    assert len(compared._check(portion, {}).suspects) == 1
    ((again, _),) = await sent(url=url)
    assert again["duplicate"]
    await compared._recheck(portion, {})
    assert context.report.printed == []


async def test_a_file_that_vanishes_changes_or_gets_a_row_causes_no_finding(context, dsn, sent, storage):
    """The walk has listed these paths. Since then one got a row, one vanished, and one was replaced by a new file."""
    ((_, with_row),) = await sent()
    gone, replaced, left = (str(Path(with_row).parent / name) for name in ("gone.png", "replaced.png", "left.png"))
    (storage / replaced).write_bytes(b"old")
    (storage / left).write_bytes(b"x")
    await asyncio.sleep(0.05)
    with uncommitted(dsn, LOCK):  # an upload in progress
        (storage / replaced).unlink()
        (storage / replaced).write_bytes(b"new")
        await Files(context)._recheck([with_row, gone, replaced])
        assert context.report.printed == []
    await asyncio.sleep(0.05)
    await Files(context)._recheck([with_row, gone, left])
    assert [each["path"] for each in context.report.printed] == [left]
    assert (storage / with_row).exists() and (storage / replaced).read_bytes() == b"new"


LOCK = "SELECT FROM test_case_results FOR NO KEY UPDATE"


@contextmanager
def uncommitted(dsn: str, query: str, *parameters: Any) -> Iterator[None]:
    """A transaction that has written, and stays open."""
    with psycopg.connect(dsn) as connection:
        connection.execute(query, parameters)
        yield
        connection.rollback()


async def test_files_of_a_test_case_that_is_locked_are_no_findings(checked, sent, dsn, rows, storage):
    """Whatever the clocks say: the transaction may be that of an upload, and commit their rows."""
    with uncommitted(dsn, LOCK):
        pass  # an ended transaction has no effect
    ((_, other),), ((_, path),) = await sent(), await sent(seed=5)
    rows("DELETE FROM test_artifacts")
    with uncommitted(dsn, f"SELECT FROM test_case_results WHERE id = '{path.split('/')[3]}' FOR NO KEY UPDATE"):
        code, findings, summary = await checked(REPAIR)
        assert (code, findings[0], summary["younger_than_grace"]) == (1, ("file_without_row", other, True), 1)
        assert {kind for kind, _, _ in findings[1:]} == {"unused_content"} and (storage / path).exists()
    assert [path for _, path, _ in (await checked())[1]] == [path]
    # A read-only transaction, like that of a backup, commits no rows.
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT FROM projects")
        await asyncio.sleep(0.1)
        assert [path for _, path, _ in (await checked())[1]] == [path]


@pytest.mark.parametrize("skew", [-86_400 * 400, -7200, 7200, 86_400 * 400])
async def test_the_clock_of_this_machine_does_not_matter(
    checked, sent, client, rows, storage, staged, monkeypatch, skew
):
    """On a network file system, the server's clock sets the ctime."""
    ((_, path),) = await sent()
    rows("DELETE FROM test_artifacts")
    half, theirs = staged(3700), staged()
    entry = storage / ".content" / str(UUID(int=1)) / "ab" / ("ab" * 32)
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"x")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    hour = Options(grace=3600.0, repair=True)
    assert (await checked(hour))[:2] == (0, [])
    assert (storage / path).exists() and half.exists() and theirs.exists() and entry.exists()
    kinds = {"file_without_row", "stale_staging", "unused_content"}
    assert {kind for kind, _, _ in (await checked(REPAIR))[1]} == kinds and theirs.exists()
    assert not [name for name in os.listdir(storage) if name.startswith(".check")]  # noqa: PTH208


async def test_a_repair_during_an_upload_loses_no_file(client, case_url, checked, storage, monkeypatch):
    """Without a grace period, and by a clock that is hours ahead: the upload's files are linked, its rows are not."""
    linked, proceed = threading.Event(), threading.Event()
    sync = Disk.sync_folder

    def slow(disk: Disk, folder: Any) -> None:
        if "/2" in str(folder).removeprefix(str(storage)) and any(Path(folder).glob("*.png")):
            linked.set()
            assert proceed.wait(PATIENCE)
        sync(disk, folder)

    monkeypatch.setattr(Disk, "sync_folder", slow)
    upload = asyncio.create_task(post(client, f"{await case_url()}/artifacts/batch", batch([(png(), "a.png")])))
    await asyncio.to_thread(linked.wait, PATIENCE)
    with monkeypatch.context() as patch:
        real = time.time
        patch.setattr(time, "time", lambda: real() + 7200)
        for options in (REPAIR, Options(repair=True)):
            code, findings, summary = await checked(options)
            assert (code, findings) == (0, []) and summary["younger_than_grace"] > 0
    proceed.set()
    status, got = await upload
    assert status == 201 and (await client.get(got["artifacts"][0]["download_url"])).status == 200


async def test_a_repair_needs_the_file_systems_clock(checked, sent, rows, storage, monkeypatch):
    ((_, path),) = await sent()
    rows("DELETE FROM test_artifacts")
    real = os.open

    def opened(name: Any, *arguments: Any, **named: Any) -> int:
        if "/.check-" in str(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(name, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    code, findings, summary = await checked(REPAIR)
    assert (code, findings) == (2, []) and "system's clock" in summary["failure"] and (storage / path).exists()
    assert (await checked())[1] == [("file_without_row", path, False)]


async def test_a_replaced_file_is_not_removed(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    orphans, found = Orphans(str(tmp_path), durable=False), stat_or_none(str(path))
    path.unlink()
    (tmp_path / "y").write_bytes(b"new")
    (tmp_path / "y").rename(path)
    assert not orphans.remove("x", found) and path.read_bytes() == b"new"
    path.unlink()
    assert not orphans.remove("x", found)


async def test_a_link_made_after_our_own_unlink_counts_as_new(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x")
    second.hardlink_to(first)
    orphans = Orphans(str(tmp_path), durable=False)
    cutoff = time.time() + 1
    assert orphans.is_old(stat_or_none(str(first)), cutoff)
    assert orphans.remove("a", stat_or_none(str(first)))
    assert orphans.is_old(stat_or_none(str(second)), 0.0)  # our own unlink does not count as a change
    (tmp_path / "c").hardlink_to(second)  # an upload of the same bytes
    assert not orphans.is_old(stat_or_none(str(second)), 0.0)


async def test_repairs_beside_a_working_server_lose_no_file(config, dsn, client, make_run, checked, sent, storage):
    """Uploads of new and of repeated bytes, and deletions, during repairs without a grace period."""
    await sent()
    stop, kept, failures = asyncio.Event(), [], []

    async def work(number: int) -> None:
        for turn in range(1000):
            if stop.is_set():
                return
            run = await make_run()
            reply = await client.post(f"{BASE}/suite-runs/{run}/test-cases", json={"name": "x"})
            url = f"{BASE}/test-case-results/{(await reply.json())['id']}"
            files = [(png(seed=turn % 3), "a.png"), (png(seed=1000 * number + turn), "b.png")]
            status, got = await post(client, f"{url}/artifacts/batch", batch(files))
            if status != 201:
                failures.append(got)
                return
            first, second = got["artifacts"]
            kept.append(second)
            reply = await client.delete(f"{BASE}/artifacts/{first['id']}")
            if reply.status != 204:
                failures.append(reply.status)
            if turn % 3 == 0:
                await client.delete(f"{BASE}/suite-runs/{run}")
                kept.pop(kept.index(second))

    workers = [asyncio.create_task(work(number)) for number in range(4)]
    complete = 0
    try:
        for turn in range(12):
            report = Lines()
            options = Options(grace=0.0, repair=turn % 3 != 2, verify_hashes=turn % 4 == 0)
            await compare.check(dsn, config, options, report)
            *findings, last = report.printed
            complete += last["summary"]["complete"]
            # A DELETE unlinks the file, then its content entry. Without a grace period, a check may run in between.
            assert {each["finding"] for each in findings} <= {"unused_content"}, findings
    finally:
        stop.set()
        await asyncio.gather(*workers)
    assert failures == [] and complete == 12 and len(kept) > 10
    for artifact in kept:
        async with client.get(artifact["download_url"]) as reply:
            assert reply.status == 200
            assert hashlib.sha256(await reply.read()).hexdigest() == artifact["checksum"]
    assert (await checked(HASHES))[:2] == (0, [])


async def test_two_repairs_never_run_concurrently(checked, dsn, config, rows):
    """On whichever hosts: the lock is in the database. One on the folder is not seen through another mount."""
    refused = []

    async def meanwhile() -> None:
        for options in (REPAIR, NOW):
            try:
                assert (await checked(options))[0] == 0
            except CheckFailed as error:
                refused.append((options, str(error)))

    class Slow(Lines):
        def summary(self, failure: str | None = None) -> int:
            (locks,) = rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert locks["count"] == 1
            with ThreadPoolExecutor(1) as other:
                other.submit(asyncio.run, meanwhile()).result()
            return super().summary(failure)

    assert await compare.check(dsn, config, REPAIR, Slow()) == 0
    ((options, message),) = refused
    assert options == REPAIR and "perhaps on another host" in message
    for _ in range(3):  # the lock ends with the check, at once
        assert (await checked(REPAIR))[0] == 0
    async with asyncio.TaskGroup() as tasks:  # checks that only report are not excluded
        for _ in range(3):
            tasks.create_task(checked())


async def test_a_repair_that_is_refused_or_fails_leaves_no_lock(checked, storage, rows):
    storage.joinpath(MARKER).unlink()
    for _ in range(2):
        with pytest.raises(CheckFailed, match="is not this database's storage folder"):
            await checked(REPAIR)
    assert rows("SELECT FROM pg_locks WHERE locktype = 'advisory'") == []


async def test_a_repair_ends_well_when_the_connection_of_its_lock_is_lost(dsn, config, rows):
    cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"

    class Cut(Lines):
        def summary(self, failure: str | None = None) -> int:
            assert rows(cut) == [{"pg_terminate_backend": True}]
            return super().summary(failure)

    assert await compare.check(dsn, config, REPAIR, Cut()) == 0


# --- incomplete checks ------------------------------------------------------------------------------------


async def test_a_missing_or_unmounted_storage_folder_is_an_error(checked, sent, storage):
    await sent()
    storage.rename(f"{storage}.away")
    with pytest.raises(CheckFailed, match="does not exist"):
        await checked()
    storage.mkdir()
    (storage / "lost+found").mkdir()
    (storage / ".staging").mkdir()
    (storage / "somebody else's").mkdir()
    with pytest.raises(CheckFailed, match="Is its disk mounted"):
        await checked(REPAIR)


async def test_a_storage_folder_that_disappears_causes_no_findings(config, dsn, sent, storage):
    await sent(3)
    for phase in ("artifacts", "files"):
        report = Interrupting(phase, lambda: storage.rename(f"{storage}.away"))
        assert await compare.check(dsn, config, REPAIR, report) == 2
        assert report.happened and report.printed[:-1] == []
        assert "disappeared" in report.printed[-1]["summary"]["failure"]
        Path(f"{storage}.away").rename(storage)


async def test_a_storage_folder_that_disappears_before_the_recheck_causes_no_findings(context, sent, storage):
    await sent(2)
    portion = await context.fetch(SQL.check.portion, "", 10)
    storage.rename(f"{storage}.away")
    storage.mkdir()  # the empty mount point
    with pytest.raises(CheckFailed, match="disappeared"):
        await Rows(context)._recheck(portion, {})
    assert context.report.printed == []
    storage.rmdir()
    Path(f"{storage}.away").rename(storage)


async def test_the_storage_folder_of_another_database_is_refused(checked, sent, storage, rows):
    await sent()
    rows("DELETE FROM suite_runs")
    rows("UPDATE storage_folder SET id = gen_random_uuid()")
    before = everything(storage)
    with pytest.raises(CheckFailed, match="of another database"):
        await checked(REPAIR)
    rows("DELETE FROM storage_folder")
    with pytest.raises(CheckFailed, match="Start the server once"):
        await checked(REPAIR)
    assert everything(storage) == before


async def test_an_unreadable_folder_is_reported_and_the_check_continues(checked, sent, storage, capsys, monkeypatch):
    (_, missing), _ = await sent(2)
    (storage / missing).unlink()
    closed = storage / "2020"
    closed.mkdir()
    real = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == closed:  # root ignores permissions, so a mode would not do
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    code, findings, summary = await checked()
    assert (code, findings) == (2, [("missing_file", missing, False)])
    assert summary["unreadable"] == 1 and not summary["complete"]
    assert f"{closed}: Permission denied" in capsys.readouterr().err


async def test_a_read_error_is_not_reported_as_a_wrong_hash(checked, sent, storage, capsys, monkeypatch):
    ((artifact, path), _) = await sent(2)
    content_of(storage, artifact).unlink()  # otherwise the file itself is not read
    real = os.open

    def opened(name: Any, *arguments: Any, **named: Any) -> int:
        if str(name).endswith(path):
            raise OSError(5, "Input/output error", name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    code, findings, summary = await checked(HASHES)
    assert (code, findings, summary["artifacts"]) == (2, [], 2)
    assert f"{path}: Input/output error" in capsys.readouterr().err


async def test_a_lost_database_connection_is_reported(config, dsn, sent, storage):
    await sent()
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]

    def cut() -> None:
        with psycopg.connect(dsn.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reportd check'"
            )

    report = Interrupting("artifacts", cut)
    assert await compare.check(dsn, config, NOW, report) == 2
    assert report.happened and report.printed[-1]["summary"]["failure"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    command = ["mount", "--bind", str(folder), str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_read_only_storage_is_checked_but_not_repaired(checked, storage):
    path = storage / "2026/01/24" / str(UUID(int=1)) / "step_001.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    name = str(path.relative_to(storage))
    with read_only(storage):
        assert (await checked())[:2] == (1, [("file_without_row", name, False)])
        code, findings, summary = await checked(REPAIR)
        assert (code, findings, summary["unreadable"]) == (2, [("file_without_row", name, False)], 1)
    assert path.exists()


async def test_an_old_schema_is_refused_and_a_newer_one_is_accepted(only_requests, checked, client, dsn, rows):
    rows("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9999_of_the_future')")
    assert (await checked())[0] == 0
    rows("DELETE FROM _yoyo_migration WHERE migration_id ~ '^0010'")
    with pytest.raises(OldSchema, match="Missing: 0010_"):
        await checked()
    rows("DROP TABLE _yoyo_migration")
    with pytest.raises(OldSchema, match="reportd migrate"):
        await checked()


# --- durable removals, savings, other file systems ----------------------------------------------------------


async def test_removals_fsync_each_folder_once(checked, sent, storage, rows, monkeypatch):
    mine = await sent(3)
    rows("DELETE FROM test_artifacts")
    synced = []
    real = Disk.sync_folder
    monkeypatch.setattr(Disk, "sync_folder", lambda disk, folder: synced.append(str(folder)) or real(disk, folder))
    await checked(REPAIR)
    folder = str(storage / Path(mine[0][1]).parent)
    assert synced.count(folder) == 1


async def test_the_sizes_count_shared_bytes_once(checked, client, case_url):
    small, large = png(seed=1), png(100, 100, seed=2)
    for _ in range(3):
        status, _ = await post(
            client, f"{await case_url()}/artifacts/batch", batch([(small, "a.png"), (large, "b.png")])
        )
        assert status == 201
    _, _, summary = await checked()
    assert summary["artifact_bytes"] == 3 * (len(small) + len(large))
    assert summary["stored_bytes"] == len(small) + len(large)
    assert summary["saved_bytes"] == 2 * (len(small) + len(large))


async def test_removing_a_content_entry_during_an_upload_is_harmless(tmp_path):
    """The entry vanishes between the upload's lookup and its link: the upload keeps its own copy."""
    disk, project, content = Disk(tmp_path, durable=False), UUID(int=1), b"bytes"
    (tmp_path / STAGING).mkdir()
    checksum = hashlib.sha256(content).hexdigest()
    orphans = Orphans(str(tmp_path), durable=False)
    stop = threading.Event()

    def remove() -> None:
        entry = content_path(project, checksum)
        while not stop.is_set():
            found = stat_or_none(f"{tmp_path}/{entry}")
            if found is not None:
                orphans.remove(entry, found)
                assert list(orphans.tidy()) == []

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for number in range(2000):
            staged = tmp_path / f"staged-{number}"
            staged.write_bytes(content)
            name = f"2026/01/24/{UUID(int=number)}/a.png"
            assert disk.place(Placement(str(staged), len(content), checksum, project, [name]), set()) == name
            assert (tmp_path / name).read_bytes() == content and not staged.exists()
    finally:
        stop.set()
        thread.join()


def test_a_walk_ignores_files_and_folders_that_vanish(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    for number in range(20):
        (top / str(number)).mkdir()
        (top / str(number) / "file").touch()
    found = []
    for path in walk(str(top)):
        found.append(path)
        for folder in set(top.iterdir()) - {top / Path(path).parent}:
            folder.joinpath("file").unlink()
            folder.rmdir()
    assert len(found) == 1


# --- the command --------------------------------------------------------------------------------------------


def environment(dsn: str, storage: Path) -> dict[str, str]:
    return {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(storage)}


async def test_the_command_prints_its_findings(sent, dsn, storage, rows):
    (_, missing), (_, kept) = await sent(2)
    own = environment(dsn, storage)
    done = await asyncio.to_thread(reportd, "check", **own)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("\nRows and files agree.\n")
    (storage / missing).unlink()
    stray = storage / Path(kept).parent / "stray.png"
    stray.write_bytes(b"x")
    done = await asyncio.to_thread(reportd, "check", "--grace", "0s", **own)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"missing_file      {missing}  (" in done.stdout and "stray.png  (1 bytes)\n" in done.stdout
    assert done.stdout.endswith("\n2 findings, 0 of them removed, 2 left.\n")
    done = await asyncio.to_thread(reportd, "check", "--repair", "--grace", "0s", "--json", "--verify-hashes", **own)
    assert (done.returncode, done.stderr) == (1, "")
    first, second, last = map(json.loads, done.stdout.splitlines())
    assert {first["finding"], second["finding"]} == {"missing_file", "file_without_row"}
    assert last["summary"]["removed"] == 1 and last["exit_code"] == 1
    assert not stray.exists()


def test_an_incomplete_check_exits_with_2(tmp_path, dsn, rows):
    own = environment(dsn, tmp_path)
    for wrong, message in [
        ({"REPORTD_DATABASE_DSN": f"postgresql://postgres@/reportd?host={tmp_path}"}, "No such file"),
        ({"REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "none")}, "does not exist"),
        ({"REPORTD_DATABASE_POOL_SIZE": "none"}, "REPORTD_DATABASE_POOL_SIZE"),
    ]:
        done = reportd("check", **{**own, **wrong})
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr and done.stderr.startswith("reportd: ") and done.stderr.count("\n") == 1
    for options in (["--grace", "1y"], ["--grace", "-1s"], ["--what"]):
        assert reportd("check", *options, **own).returncode == 2
    done = reportd("check", "--data", str(tmp_path))
    message = f"reportd: {tmp_path} holds no database of `reportd up`. Correct --data.\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_is_incomplete(tmp_path, dsn, rows, number):
    """The signal arrives while the check waits for a table lock."""
    folder = tmp_path / "artifacts/2026/01/24" / str(UUID(int=1))
    folder.mkdir(parents=True)
    (folder / "step_001.png").touch()
    own = {**ENVIRONMENT, **environment(dsn, tmp_path / "artifacts")}
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE removed_files")
        command = [*REPORTD, "check", "--json"]
        process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            end(process)
    assert process.returncode == 2 and err == "reportd: The check was interrupted.\n", (out, err)
    assert json.loads(out)["summary"]["complete"] is False


def test_a_closed_pipe_exits_with_2(tmp_path, dsn, rows):
    folder = tmp_path / "artifacts/2026/01/24" / str(UUID(int=1))
    folder.mkdir(parents=True)
    for number in range(2000):
        (folder / f"{number}.png").touch()
    own = {**ENVIRONMENT, **environment(dsn, tmp_path / "artifacts")}
    time.sleep(0.05)
    with subprocess.Popen(
        [*REPORTD, "check", "--grace", "0s", "--json"], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(PATIENCE) == 2


async def test_text_output_has_a_thousand_findings_of_a_kind_and_json_all(dsn, config, storage, capsys):
    folder = storage / "2026/01/24" / str(UUID(int=1))
    folder.mkdir(parents=True)
    for number in range(1200):
        (folder / f"{number}.png").touch()
    await asyncio.sleep(0.05)
    assert await compare.check(dsn, config, NOW, Report(as_json=False)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("file_without_row  2026/")]) == 1000
    assert len([line for line in lines if "only counted" in line]) == 1
    assert lines[-1] == "1200 findings, 0 of them removed, 1200 left."
    assert await compare.check(dsn, config, NOW, Report(as_json=True)) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1201


def test_progress_is_printed_on_terminals_only(capsys, monkeypatch):
    Report(as_json=False).progress("files", 5, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    Report(as_json=False).progress("files", 5, 10)
    assert "files: 5 (50 %), " in capsys.readouterr().err


def test_a_folder_of_up_is_checked_while_it_runs(up_server):
    done = reportd("check", "--data", str(up_server.data), "--json", "--repair")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["summary"]["complete"]


def test_a_folder_of_up_is_checked_while_it_is_stopped(tmp_path):
    data = tmp_path / "data"
    with running(data) as server:
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        url = f"{BASE}/test-case-results/{case}/artifacts"
        sent = server.send(url, ("file", "a.png", png(), "image/png"), ("artifact_type", "screenshot"))
    done = reportd("check", "--data", str(data), "--json", "--verify-hashes")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["summary"]["artifacts"] == 1
    assert not server.postgres.running()
    (data / sent["storage_path"]).unlink()
    assert reportd("check", "--data", str(data)).returncode == 1
    assert not server.postgres.running()


def test_repair_removes_everything_that_a_killed_server_left(tmp_path, dsn, make_token, rows):
    with serving(tmp_path / "data", dsn, make_token()) as server:
        (staging,) = (tmp_path / "data/artifacts/.staging").iterdir()
        staged_file = staging / "0"
        staged_file.write_bytes(b"half")
        # Until it has its row, it may be one of an older version, which nobody takes for ended within a day.
        wait_for(lambda: rows("SELECT id FROM instances"), server.log.read_text)
        end(server.process, 9)
    own = environment(dsn, tmp_path / "data/artifacts")
    assert staged_file.exists()
    time.sleep(0.05)
    assert reportd("check", "--repair", "--grace", "0s", **own).returncode == 1
    done = reportd("check", "--grace", "0s", **own)
    assert done.returncode == 0, (done.stdout, done.stderr)


async def test_the_primary_of_several_hosts_is_queried(dsn, config, storage, tmp_path):
    """A standby may lag: the files of rows that it lacks would be findings."""
    several = dsn.replace("host=", f"host={tmp_path},").replace("port=5432", "port=5432,5432")
    assert await compare.check(several, config, NOW, Lines()) == 0
    with pytest.raises(asyncpg.InternalClientError):
        await asyncpg.connect(f"{dsn}&target_session_attrs=standby")
    assert await compare.check(f"{several}&target_session_attrs=standby", config, NOW, Lines()) == 0


def test_a_background_check_ends_on_sigterm(tmp_path, dsn, rows):
    """A shell makes background processes ignore SIGINT, so SIGTERM must not be handled by way of SIGINT."""
    (tmp_path / "artifacts/2026/01/24").mkdir(parents=True)
    (tmp_path / "artifacts/2026/01/24/x").touch()
    own = {**ENVIRONMENT, **environment(dsn, tmp_path / "artifacts")}
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE removed_files")
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *REPORTD, "check"]
        process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            end(process)
    assert (process.returncode, err) == (2, "reportd: The check was interrupted.\n")

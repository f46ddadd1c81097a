"""`reportd backup` and `reportd restore`: what comes back, beside working servers, and what is refused."""

import asyncio
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from server.commands.backup import contents, database, layout, making, placing
from server.commands.serve import OldSchema
from server.database import clients, migrate
from server.database.embedded import Postgres
from server.services import SERVICES
from server.storage.linked import LINKED
from server.storage.marker import MARKER
from tests.forms import batch, post, single
from tests.makers import png
from tests.up_server import reportd, up_server, wait_for

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"
Files = dict[str, bytes]


@pytest.fixture
def run(command, storage, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """run("backup", …): the command on this test's database and storage folder."""
    monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", str(storage))
    return command


@pytest.fixture
def backups(tmp_path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def back_up(run, backups) -> Callable[..., Any]:
    """await back_up(…): makes a backup beside the server; its manifest."""

    async def make(*options: str) -> dict[str, Any]:
        code, output, errors = await asyncio.to_thread(run, "backup", str(backups), *options)
        assert code == 0, errors
        name = output.split()[1]
        return json.loads((backups / name / layout.MANIFEST).read_text())

    return make


@pytest.fixture
def new_machine(postgres, tmp_path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """The DSN of an empty database and a storage folder that is missing; commands use them from here on."""
    name = f"restored_{uuid4().hex}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres.dsn(name), tmp_path / "new"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def restore_there(run, backups, new_machine, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """restore_there(…): restores into the new machine."""

    def there(*options: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setenv("REPORTD_DATABASE_DSN", new_machine[0])
            patch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", str(new_machine[1]))
            return run("restore", str(backups), *options)

    return there


@pytest.fixture
def send(client, case_url) -> Callable[..., Any]:
    """await send(png(…), …): the paths of the artifacts of a new result, below the storage folder."""

    async def upload(*pictures: bytes, **fields: Any) -> list[str]:
        files = [(picture, f"{number}.png") for number, picture in enumerate(pictures)]
        status, got = await post(client, f"{await case_url(**fields)}/artifacts/batch", batch(files))
        assert status == 201, got
        return [each["storage_path"].removeprefix("artifacts/") for each in got["artifacts"]]

    return upload


def all_rows(dsn: str) -> dict[str, list[Any]]:
    """Every row of every table, but what servers and checks count and renew beside the requests."""
    left_out = "yoyo_lock|(usage|counted)_days|selector_uses|instances|sweeps|storage_checks"
    # A sweep makes partitions. The tables that they are of have their rows.
    kinds = "relkind IN ('r', 'p') AND NOT relispartition"
    of = f"FROM pg_class WHERE relnamespace = 'public'::regnamespace AND {kinds} AND relname !~ '{left_out}' ORDER BY 1"
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(f"SELECT relname::text {of}").fetchall()
        return {
            table: connection.execute(f'SELECT t::text FROM "{table}" t ORDER BY 1').fetchall() for (table,) in tables
        }


def files_of(storage: Path) -> Files:
    """The bytes of every stored file."""
    return {
        str(path.relative_to(storage)): path.read_bytes()
        for path in storage.rglob("*")
        if path.is_file() and not str(path.relative_to(storage)).startswith((".staging", ".thumbs", LINKED))
    }


def inodes(folder: Path) -> dict[int, int]:
    """{inode: bytes} of everything below a folder."""
    return {(found := path.lstat()).st_ino: found.st_size for path in folder.rglob("*")}


@pytest.fixture(params=["linked", "copied"])
def how(request, monkeypatch) -> str:
    """Whether the folder of backups is on the file system of the storage folder."""
    if request.param == "copied":
        copy_only(monkeypatch)
    return request.param


def copy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (contents, placing):
        monkeypatch.setattr(module, "may_link", lambda *_: False)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Without the one call that waits for everything that other programs have written."""
    monkeypatch.setattr(os, "sync", lambda: None)


# --- what comes back -------------------------------------------------------------------------------------------


async def test_everything_comes_back_on_a_new_machine(
    send, make_run, make_token, back_up, restore_there, new_machine, dsn, storage, how
):
    make_token(project="other")
    paths = await send(png(seed=1), png(seed=2), png(seed=1))
    other = await send(png(seed=1), png(seed=3), run=await make_run(project="other"))
    before = files_of(storage), all_rows(dsn)
    manifest = await back_up()
    assert manifest["rows"] == {"suite_runs": 2, "test_case_results": 2, "test_step_results": 0, "test_artifacts": 5}
    assert (manifest["files"]["contents"], manifest["files"]["missing"]) == (3, 0)
    assert manifest["files"]["linked"] == (3 if how == "linked" else 0)
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, ""), errors
    assert "Rows and files agree." in output and "Everything that the backup has is there." in output
    there, folder = new_machine
    assert (files_of(folder), all_rows(there)) == before
    files = {path: (folder / path).stat() for path in (*paths, *other)}
    assert files[paths[0]].st_ino == files[paths[2]].st_ino != files[other[0]].st_ino  # projects never share
    assert not inodes(storage).keys() & inodes(folder).keys()  # nor do two storage folders, through a backup
    assert {stat.S_IMODE(found.st_mode) for found in files.values()} == {0o640} and not (folder / ".restoring").exists()


async def test_a_deleted_run_comes_back_and_newer_files_stay(
    client, send, make_run, back_up, run, backups, start, storage, dsn
):
    deleted = await make_run()
    (path,) = await send(png(seed=1), run=deleted)
    before = all_rows(dsn)
    await back_up()
    assert (await client.delete(f"{BASE}/suite-runs/{deleted}")).status == 204
    assert not (storage / path).exists()
    (newer,) = await send(png(seed=2))
    code, _, errors = await asyncio.to_thread(run, "restore", str(backups), "--replace")
    assert code == 1 and "other connections use the database. Stop all reportd servers first." in errors
    await client.close()
    code, _, errors = await asyncio.to_thread(run, "restore", str(backups))
    assert code == 1 and "The database is not empty. To replace everything in it with the backup, add --rep" in errors
    code, output, errors = await asyncio.to_thread(run, "restore", str(backups), "--replace")
    assert (code, errors) == (0, "")
    assert "1 files are not of the backup." in output and (storage / newer).exists()
    assert all_rows(dsn) == before
    again = await start()
    assert (await again.get(f"{BASE}/suite-runs/{deleted}")).status == 200
    (artifact,) = all_rows(dsn)["test_artifacts"]
    reply = await again.get(f"{BASE}/artifacts/{artifact[0][1:37]}/download")
    assert (reply.status, await reply.read()) == (200, png(seed=1))


async def test_a_lost_storage_folder_comes_back(client, send, back_up, run, backups, storage, dsn):
    await send(png(seed=1), png(seed=1), png(seed=2))
    before = files_of(storage), all_rows(dsn)
    await back_up()
    await client.close()
    shutil.rmtree(storage)
    code, output, errors = await asyncio.to_thread(run, "restore", str(backups), "--replace")
    assert (code, errors) == (0, ""), output
    assert "files: 0 were there, 3 linked, 0 copied" in output  # the backup had the only copy
    assert (files_of(storage), all_rows(dsn)) == before
    code, output, _ = await asyncio.to_thread(run, "check", "--verify-hashes", "--grace", "0s")
    assert code == 0, output


async def test_only_the_files_come_back_and_no_row_is_changed(
    client, send, make_run, back_up, run, backups, storage, dsn, rows
):
    gone = await make_run()
    (deleted,) = await send(png(seed=1), run=gone)
    kept = await send(png(seed=2), png(seed=3))
    await back_up()
    assert (await client.delete(f"{BASE}/suite-runs/{gone}")).status == 204
    (newer,) = await send(png(seed=4))
    before = all_rows(dsn)
    shutil.rmtree(storage)
    code, output, errors = await asyncio.to_thread(run, "restore", str(backups), "--files-only")
    assert (code, errors) == (0, ""), output
    assert (
        "1 artifacts have no intact file: they came after the backup" in output
        and f"missing_file      {newer}" in output
    )
    assert [(storage / path).exists() for path in (deleted, newer, *kept)] == [False, False, True, True]
    assert all_rows(dsn) == before
    (storage / kept[0]).unlink()
    code, output, _ = await asyncio.to_thread(run, "restore", str(backups), "--files-only")
    assert code == 0 and "files: 1 were there, 1 linked, 0 copied" in output
    (storage / kept[0]).unlink()
    shutil.rmtree(storage / ".content")
    for path in backups.glob(f"{layout.CONTENTS}/*/*"):
        path.unlink()
    code, _, errors = await asyncio.to_thread(run, "restore", str(backups), "--files-only")
    assert code == 1 and f"the backup has lost the file of {kept[0]}" in errors
    (storage / MARKER).write_text(f"{uuid4()}\n")
    code, _, errors = await asyncio.to_thread(run, "restore", str(backups), "--files-only")
    assert code == 1 and "is the storage folder of another database" in errors
    rows("UPDATE storage_folder SET id = gen_random_uuid()")
    code, _, errors = await asyncio.to_thread(run, "restore", str(backups), "--files-only")
    assert code == 1 and "The backup is of another database" in errors


async def test_equal_files_share_their_space_also_over_portions(
    send, back_up, restore_there, new_machine, how, monkeypatch
):
    for module in (making, placing):
        monkeypatch.setattr(module, "_PORTION", 2)
    paths = await send(*[png(seed=1)] * 5, png(seed=2))
    manifest = await back_up()
    assert (manifest["files"]["contents"], manifest["files"]["new"]) == (2, 2)
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, ""), output
    found = [(new_machine[1] / path).stat() for path in paths]
    assert len({each.st_ino for each in found}) == 2 and found[0].st_nlink == 6  # with the content entry


async def test_an_older_backup_can_be_chosen(client, send, back_up, restore_there, new_machine, backups):
    (first,) = await send(png(seed=1))
    await back_up()
    (second,) = await send(png(seed=2))
    await back_up()
    older, newer = layout.Backups(backups).names()
    code, _, errors = await asyncio.to_thread(restore_there, "--backup", "2026-01-01T00.00.00Z")
    assert code == 1 and f"is not there. Complete backups in {backups}: {older}, {newer}." in errors
    assert (await asyncio.to_thread(restore_there, "--backup", older))[0] == 0
    assert (new_machine[1] / first).exists() and not (new_machine[1] / second).exists()
    assert (await asyncio.to_thread(restore_there, "--replace"))[0] == 0
    assert (new_machine[1] / second).exists()


async def test_an_artifact_that_had_no_file_is_no_fault_of_the_restore(client, send, back_up, restore_there, storage):
    lost, _ = await send(png(seed=1), png(seed=2))
    (storage / lost).unlink()
    manifest = await back_up()
    assert manifest["files"]["missing"] == 1
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, "") and "1 artifacts had no intact file when the backup was made" in output
    assert f"missing_file      {lost}" in output


# --- what a backup costs ---------------------------------------------------------------------------------------


async def test_the_second_backup_costs_what_is_new(client, send, back_up, backups, how):
    await send(*(png(50, 50, seed) for seed in range(8)))
    first = await back_up()
    assert (first["files"]["new"], first["files"]["contents"]) == (8, 8)
    before = inodes(backups / layout.CONTENTS)
    nothing = await back_up()
    assert (nothing["files"]["new"], nothing["files"]["new_bytes"], nothing["files"]["contents"]) == (0, 0, 8)
    assert inodes(backups / layout.CONTENTS) == before
    picture = png(50, 50, 99)
    await send(picture, png(50, 50, 1))
    third = await back_up()
    assert (third["files"]["new"], third["files"]["new_bytes"]) == (1, len(picture))
    after = inodes(backups / layout.CONTENTS)
    (added,) = (after.keys() - before.keys()) - {path.stat().st_ino for path in backups.glob(f"{layout.CONTENTS}/*")}
    assert after[added] == len(picture)


async def test_a_link_costs_no_bytes_and_is_of_the_stored_file(client, send, back_up, backups, storage):
    (path,) = await send(png())
    assert (await back_up())["files"]["linked"] == 1
    (entry,) = backups.glob(f"{layout.CONTENTS}/*/*")
    assert entry.samefile(storage / path)


async def test_old_backups_go_with_the_contents_that_only_they_had(client, send, make_run, back_up, backups):
    def stored() -> list[bytes]:
        return sorted(path.read_bytes() for path in backups.glob(f"{layout.CONTENTS}/*/*"))

    run = await make_run()
    await send(png(seed=1), png(seed=2), run=run)
    await back_up("--keep", "2")
    await client.delete(f"{BASE}/suite-runs/{run}")
    await send(png(seed=2), png(seed=3))
    await back_up("--keep", "2")
    assert stored() == sorted(png(seed=seed) for seed in (1, 2, 3))
    first, second = layout.Backups(backups).names()
    await back_up("--keep", "2")
    assert stored() == sorted(png(seed=seed) for seed in (2, 3))
    kept = layout.Backups(backups).names()
    assert first not in kept and kept[0] == second and len(kept) == 2


async def test_nothing_is_removed_by_a_damaged_list(send, back_up, run, backups):
    await send(png())
    await back_up()
    await back_up()
    _, second = layout.Backups(backups).names()
    damage(backups / second / layout.LIST)
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups), "--keep", "2")
    assert code == 1 and "But no older one was removed" in errors and f"{second}/files.gz is damaged" in errors
    assert len(layout.Backups(backups).names()) == 3


# --- beside working servers ------------------------------------------------------------------------------------


async def test_what_is_deleted_meanwhile_keeps_its_files_until_the_end(
    client, send, make_run, back_up, restore_there, run, storage, rows, monkeypatch
):
    """Between the dump and the files, a run and an artifact are deleted."""
    gone = await make_run()
    paths = [*await send(png(seed=1), run=gone), *await send(png(seed=2))]
    loop, copy = asyncio.get_running_loop(), making._copy

    def delete_and_copy(*arguments: Any) -> Any:
        async def delete() -> None:
            assert (await client.delete(f"{BASE}/suite-runs/{gone}")).status == 204
            await client.app[SERVICES].removals.drain(client.app[SERVICES].pool)

        asyncio.run_coroutine_threadsafe(delete(), loop).result(60)
        assert all((storage / path).exists() for path in paths)
        rows("UPDATE removed_files SET removed_at = now() - interval '1 day'")
        assert run("check", "--grace", "0s")[0] == 0  # they wait for the backup
        return copy(*arguments)

    monkeypatch.setattr(making, "_copy", delete_and_copy)
    manifest = await back_up()
    assert (manifest["files"]["contents"], manifest["files"]["missing"]) == (2, 0)
    code, output, _ = await asyncio.to_thread(run, "check")
    assert code == 1 and f"held_up_removal   {paths[0]}" in output
    await client.app[SERVICES].removals.drain(client.app[SERVICES].pool)
    assert [(storage / path).exists() for path in paths] == [False, True]
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, ""), output


async def test_all_that_was_acknowledged_before_is_in_it(
    client, make_case, back_up, restore_there, new_machine, monkeypatch
):
    """Uploads and deletions go on all the time; the restored database passes `reportd check`."""
    acknowledged: list[dict[str, Any]] = []
    stopped = False

    async def work(number: int) -> None:
        while not stopped:
            case = f"{BASE}/test-case-results/{await make_case()}"
            files = [(png(seed=number * 1000 + len(acknowledged) + each), f"{each}.png") for each in range(3)]
            status, got = await post(client, f"{case}/artifacts/batch", batch(files))
            assert status == 201
            assert (await client.delete(f"{BASE}/artifacts/{got['artifacts'][0]['id']}")).status == 204
            acknowledged.extend(got["artifacts"][1:])

    workers = [asyncio.create_task(work(number)) for number in range(4)]
    while len(acknowledged) < 20:
        await asyncio.sleep(0.01)
    before, copy = list(acknowledged), making._copy

    def copy_later(*arguments: Any) -> Any:
        """After some more of them, which are not in the dump."""
        number = len(acknowledged)
        wait_for(lambda: len(acknowledged) >= number + 8)
        return copy(*arguments)

    monkeypatch.setattr(making, "_copy", copy_later)
    manifest = await back_up()
    stopped = True
    await asyncio.gather(*workers)
    assert manifest["files"]["missing"] == 0
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, ""), output
    with psycopg.connect(new_machine[0]) as connection:
        restored = {str(row[0]) for row in connection.execute("SELECT id FROM test_artifacts")}
    assert {artifact["id"] for artifact in before} <= restored
    for artifact in before:
        file = new_machine[1] / artifact["storage_path"].removeprefix("artifacts/")
        assert file.stat().st_size == artifact["file_size"]


async def test_two_backups_at_once_are_refused(send, run, backups, tmp_path, dsn, monkeypatch):
    await send(png())
    monkeypatch.setattr(database, "_LOCK_SECONDS", 0.1)
    with making._held(dsn):
        code, _, errors = await asyncio.to_thread(run, "backup", str(backups))
    assert code == 1 and "Another `reportd backup` of this database runs. Wait until it has ended." in errors
    assert (await asyncio.to_thread(run, "backup", str(backups)))[0] == 0
    with layout.Backups(backups).locked():
        for command in (["backup", str(backups)], ["restore", str(backups), "--replace"]):
            code, _, errors = await asyncio.to_thread(run, *command)
            assert code == 1 and f"uses {backups}. Wait until it has ended." in errors


async def test_a_lost_connection_fails_the_backup(send, run, back_up, backups, rows, monkeypatch):
    """Without that connection, a server may have unlinked a file meanwhile."""
    await send(png())
    await back_up()
    copy = making._copy

    def copy_and_cut(*arguments: Any) -> Any:
        held = (
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND mode LIKE 'Excl%%'"
        )
        assert rows(held)
        return copy(*arguments)

    monkeypatch.setattr(making, "_copy", copy_and_cut)
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups))
    assert code == 1 and errors.startswith("reportd: ") and "Traceback" not in errors
    assert len(layout.Backups(backups).names()) == 1 and layout.Backups(backups).torn() == []


# --- hard links of backups are not those of artifacts ----------------------------------------------------------


async def test_a_deletion_removes_the_content_entry_that_only_a_backup_links_to(
    client, case_url, back_up, backups, storage, run
):
    case = await case_url()
    one, two = [(await post(client, f"{case}/artifacts", single(png(), f"{n}.png")))[1] for n in (1, 2)]
    await back_up()
    _, output, _ = await asyncio.to_thread(run, "check", "--json")
    summary = json.loads(output.splitlines()[-1])["summary"]
    assert (summary["stored_bytes"], summary["saved_bytes"]) == (len(png()), len(png()))
    assert (await client.get(f"/thumbs/{one['id']}-320.webp")).status == 200
    entries = [".content/*/*/*", ".thumbs/*/*/*"]
    assert (await client.delete(f"{BASE}/artifacts/{one['id']}")).status == 204
    assert all(list(storage.glob(pattern)) for pattern in entries)
    assert (await client.delete(f"{BASE}/artifacts/{two['id']}")).status == 204
    assert not any(list(storage.glob(pattern)) for pattern in entries)
    assert [path.read_bytes() for path in backups.glob(f"{layout.CONTENTS}/*/*")] == [png()]


async def test_a_content_entry_that_only_a_backup_links_to_is_a_finding(send, back_up, run, storage, rows):
    (path,) = await send(png())
    await back_up()
    rows("DELETE FROM test_artifacts")
    (storage / path).unlink()
    code, output, _ = await asyncio.to_thread(run, "check", "--grace", "0s", "--repair")
    assert code == 1 and "unused_content" in output and not list(storage.glob(".content/*/*/*"))


async def test_folders_of_backups_that_are_gone_are_forgotten(send, back_up, backups, storage, run, tmp_path):
    await send(png())
    await back_up()
    assert (storage / LINKED).read_text() == f"{backups}/files\n"
    shutil.rmtree(backups)
    assert (await asyncio.to_thread(run, "backup", str(tmp_path / "second")))[0] == 0
    assert (storage / LINKED).read_text() == f"{tmp_path}/second/files\n"


async def test_a_stored_file_is_never_written_again(client, case_url, back_up, backups, storage):
    """Otherwise a hard link would change with it. A damaged file that is sent again becomes another file."""
    case = await case_url()
    _, sent = await post(client, f"{case}/artifacts", single(png()))
    await back_up()
    (entry,) = backups.glob(f"{layout.CONTENTS}/*/*")
    file = storage / sent["storage_path"].removeprefix("artifacts/")
    damaged = bytes([*png()[:-1], 0])
    file.write_bytes(damaged)  # by somebody else, through the name that both share
    assert entry.read_bytes() == damaged
    status, _ = await post(client, f"{case}/artifacts", single(png()))
    assert status in (200, 201) and file.read_bytes() == png() and entry.read_bytes() == damaged
    assert not entry.samefile(file)
    manifest = await back_up("--verify-hashes")
    assert manifest["files"]["new"] == 1 and [each.read_bytes() for each in backups.glob("files/*/*")] == [png()]


# --- torn, damaged and wrong -----------------------------------------------------------------------------------


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink()
    path.write_bytes(content)


async def test_a_torn_backup_is_no_backup(send, back_up, run, backups, restore_there, monkeypatch):
    await send(png())
    with monkeypatch.context() as patch:
        patch.setattr(layout.shutil, "rmtree", lambda *_, **__: None)  # as after kill -9
        patch.setattr(making, "write_synced", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(run, "backup", str(backups))
    (torn,) = layout.Backups(backups).torn()
    code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "There is no complete backup" in errors and "The only one was interrupted." in errors
    code, _, errors = await asyncio.to_thread(restore_there, "--backup", torn.removesuffix(".partial"))
    assert code == 1 and "was interrupted, and is not complete" in errors
    await back_up()
    assert layout.Backups(backups).torn() == [] and len(layout.Backups(backups).names()) == 1
    assert (await asyncio.to_thread(restore_there))[0] == 0


async def test_an_interrupted_backup_keeps_the_last_good_one(send, back_up, run, backups, restore_there, monkeypatch):
    await send(png())
    await back_up()
    monkeypatch.setattr(making, "_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert (await asyncio.to_thread(run, "backup", str(backups), "--keep", "1"))[0] == 130
    assert layout.Backups(backups).torn() == [] and len(layout.Backups(backups).names()) == 1
    assert (await asyncio.to_thread(restore_there))[0] == 0


DAMAGED = {
    layout.DUMP: (damage, "is damaged: its SHA-256 is not that of manifest.json"),
    layout.LIST: (lambda path: path.unlink(), "files.gz: No such file or directory"),
    layout.MANIFEST: (lambda path: path.write_text("{"), "has no valid manifest.json"),
}


@pytest.mark.parametrize("part", DAMAGED)
async def test_a_damaged_backup_is_refused_before_anything_is_changed(
    send, back_up, backups, restore_there, new_machine, part
):
    await send(png())
    await back_up()
    change, message = DAMAGED[part]
    change(backups / layout.Backups(backups).names()[0] / part)
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, output) == (1, "") and message in errors and errors.count("\n") == 1
    assert all_rows(new_machine[0]) == {} and not new_machine[1].exists()


async def test_a_backup_of_a_newer_version_is_refused(send, back_up, backups, restore_there, monkeypatch):
    await send(png())
    await back_up()
    monkeypatch.setattr(migrate, "versions", lambda: frozenset({"0001_create_projects"}))
    code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "whose tables this version does not know: it lacks 0002_create_suite_runs," in errors
    path = backups / layout.Backups(backups).names()[0] / layout.MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "has format 2, this version reads 1. Install a newer reportd." in errors


async def test_a_content_that_the_backup_has_lost_is_named(send, back_up, backups, restore_there, monkeypatch):
    copy_only(monkeypatch)
    damaged, missing, _ = await send(*(png(seed=seed) for seed in range(3)))
    await back_up()
    for path in backups.glob(f"{layout.CONTENTS}/*/*"):
        if path.read_bytes() == png(seed=0):
            damage(path)
        elif path.read_bytes() == png(seed=1):
            path.unlink()
    code, output, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "The restored database misses files" in errors
    assert all(f"reportd: the backup has lost the file of {path}\n" in errors for path in (damaged, missing))
    assert output.count("missing_file ") == 2


async def test_an_intact_file_is_not_replaced_by_a_damaged_content(client, send, back_up, run, backups, storage):
    damaged, lost = await send(png(seed=0), png(seed=1))
    await back_up()
    for path in backups.glob(f"{layout.CONTENTS}/*/*"):
        damage(path) if path.samefile(storage / damaged) else path.unlink()
    await client.close()
    code, output, errors = await asyncio.to_thread(run, "restore", str(backups), "--replace")
    assert (code, errors) == (0, "") and "files: 2 were there, 0 linked, 0 copied" in output
    assert [(storage / path).read_bytes() for path in (damaged, lost)] == [png(seed=0), png(seed=1)]


async def test_paths_that_reportd_never_writes_lead_nowhere(send, back_up, restore_there, new_machine, rows, tmp_path):
    paths = await send(png(), png(), png())
    rows("UPDATE test_artifacts SET storage_path = '../escaped.png' WHERE storage_path = %s", paths[0])
    rows("UPDATE test_artifacts SET storage_path = E'two\\nlines' WHERE storage_path = %s", paths[1])
    manifest = await back_up()
    assert (manifest["files"]["missing"], manifest["files"]["contents"]) == (2, 1)
    assert (await asyncio.to_thread(restore_there))[0] == 0
    assert (new_machine[1] / paths[2]).read_bytes() == png() and not (tmp_path / "escaped.png").exists()
    new_machine[1].joinpath(placing.WORK).mkdir()
    found = contents.Listed("0" * 64, 1, str(uuid4()), "../escaped.png")
    assert placing.Placing(str(tmp_path), str(new_machine[1])).place(iter([found])).named == ["../escaped.png"]


async def test_a_failed_restore_changes_no_row_and_can_be_repeated(
    send, back_up, run, backups, restore_there, new_machine, monkeypatch
):
    await send(png(seed=1), png(seed=2))
    await back_up()
    dump = backups / layout.Backups(backups).names()[0] / layout.DUMP
    whole = dump.read_bytes()
    dump.write_bytes(whole[: len(whole) // 2])
    with monkeypatch.context() as patch:
        patch.setattr("server.commands.backup.restoring.read_manifest", unchecked(layout.read_manifest))
        code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "pg_restore of PostgreSQL" in errors and "failed: " in errors
    assert all_rows(new_machine[0]) == {}
    dump.write_bytes(whole)
    code, output, errors = await asyncio.to_thread(restore_there)
    assert (code, errors) == (0, "") and "files: 2 were there, 0 linked, 0 copied" in output


def unchecked(read: Callable[..., Any]) -> Callable[..., Any]:
    return lambda backup: read(backup, layout.MANIFEST)


async def test_wrong_folders_are_refused(send, run, backups, storage, tmp_path, rows):
    await send(png())
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "photo.jpg").touch()
    file.touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / layout.MARKER).write_text(f"{uuid4()}\n")
    nonsense = tmp_path / "nonsense"
    nonsense.mkdir()
    (nonsense / layout.MARKER).write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    expected = {
        full: "is neither empty nor a folder of backups. Choose another one.",
        file: f"Cannot use the folder {file}: File exists. Choose another one.",
        tmp_path / "loop": "File exists",
        other: "holds backups of another database. Choose another folder.",
        nonsense: "holds no id",
        storage / "backups": "must not be in one another",
        storage: "must not be in one another",
        tmp_path: "must not be in one another",
        Path("/proc/backups"): "No such file or directory",
    }
    for folder, message in expected.items():
        code, output, errors = await asyncio.to_thread(run, "backup", str(folder))
        assert (code, output) == (1, "") and message in errors and errors.count("\n") == 1, (folder, errors)
    for folder in (full, file, tmp_path / "missing"):
        code, _, errors = await asyncio.to_thread(run, "restore", str(folder))
        assert code == 1 and "is no folder of backups: there is no file .reportd-backups in it." in errors
    assert [path.name for path in full.iterdir()] == ["photo.jpg"]


async def test_a_storage_folder_that_is_not_mounted_is_never_backed_up(
    send, back_up, run, backups, storage, monkeypatch
):
    await send(png())
    await back_up()
    (storage / MARKER).rename(storage / "aside")
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups))
    assert code == 1 and "it has no file .reportd. Is its disk mounted?" in errors
    (storage / MARKER).write_text(f"{uuid4()}\n")
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups))
    assert code == 1 and "is the storage folder of another database" in errors
    (storage / "aside").replace(storage / MARKER)
    copy = making._copy

    def unmounting(*arguments: Any) -> Any:
        (storage / MARKER).unlink()
        return copy(*arguments)

    monkeypatch.setattr(making, "_copy", unmounting)
    assert (await asyncio.to_thread(run, "backup", str(backups)))[0] == 1
    assert len(layout.Backups(backups).names()) == 1


def test_a_database_that_no_server_has_used_is_refused(run, backups, new_machine, monkeypatch):
    code, _, errors = run("backup", str(backups))
    assert code == 1 and "No server has used this database yet: there is nothing to back up." in errors
    monkeypatch.setenv("REPORTD_DATABASE_DSN", new_machine[0])
    code, _, errors = run("backup", str(backups))
    assert (code, errors) == (1, f"reportd: {OldSchema.__doc__}\n") and not backups.exists()


async def test_a_storage_folder_with_files_is_not_filled_unless_told(send, back_up, restore_there, new_machine):
    await send(png())
    await back_up()
    new_machine[1].mkdir()
    (new_machine[1] / "2025").mkdir()
    code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "is not empty. To add the files of the backup to it, add --replace" in errors
    assert (await asyncio.to_thread(restore_there, "--replace"))[0] == 0


async def test_a_full_disk_costs_nothing_but_this_backup(send, back_up, run, backups, restore_there, monkeypatch):
    await send(png())
    await back_up()
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(database, "create", lambda path: (path.touch(), os.fdopen(os.dup(full), "wb"))[1])
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups), "--keep", "1")
    os.close(full)
    assert code == 1 and f"{backups} is full. The complete backups in it are as they were" in errors
    assert len(layout.Backups(backups).names()) == 1 and layout.Backups(backups).torn() == []
    assert (await asyncio.to_thread(restore_there))[0] == 0


# --- PostgreSQL's programs -------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Callable[..., Path]:
    """programs(15): a folder of programs that say that they are of this version; the only ones that are installed."""
    monkeypatch.setattr(clients, "_folders", lambda _: sorted(tmp_path.glob("postgresql/*/bin")))

    def make(major: int) -> Path:
        folder = tmp_path / f"postgresql/{major}/bin"
        folder.mkdir(parents=True)
        for name in ("pg_dump", "pg_restore", "psql"):
            (folder / name).write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.3 (Debian {major}.3-1)'\n")
            (folder / name).chmod(0o755)
        return folder

    return make


def test_the_programs_are_those_of_the_server_else_newer_ones(programs):
    with pytest.raises(clients.NoClients, match=r"of PostgreSQL 15 or newer .* \(found: none\)"):
        clients.find_clients(15)
    programs(14)
    with pytest.raises(clients.NoClients, match=r"\(found: 14 in .*postgresql-client-15"):
        clients.find_clients(15)
    programs(18)
    assert clients.find_clients(15).major == 18
    programs(16)
    assert [clients.find_clients(server).major for server in (15, 16, 17)] == [16, 16, 18]
    assert clients.find_clients(15, oldest=17).major == 18
    (programs(15) / "psql").unlink()
    assert clients.find_clients(15).major == 16


async def test_a_server_that_is_newer_than_all_programs_is_a_clear_error(send, run, backups, programs):
    await send(png())
    programs(14)
    code, _, errors = await asyncio.to_thread(run, "backup", str(backups))
    assert code == 1 and "Install the Debian package postgresql-client-" in errors and errors.count("\n") == 1
    assert not backups.exists()


async def test_an_older_server_than_that_of_the_backup_is_refused(send, back_up, backups, restore_there):
    await send(png())
    await back_up()
    path = backups / layout.Backups(backups).names()[0] / layout.MANIFEST
    path.write_text(path.read_text().replace('"postgres": ', '"postgres": 9'))
    code, _, errors = await asyncio.to_thread(restore_there)
    assert code == 1 and "Restore into PostgreSQL 9" in errors


def test_no_password_is_on_a_command_line(dsn):
    with psycopg.connect(dsn) as connection:
        chosen = f"{dsn}&password=secret&sslmode=disable&application_name=mine"
        given = clients.environment(chosen, connection)
        assert given["PGDATABASE"] == connection.info.dbname
        assert given["PGHOST"] == connection.info.host and dsn.endswith(f"port={given['PGPORT']}")
    assert (given["PGPASSWORD"], given["PGSSLMODE"]) == ("secret", "disable")


# --- `reportd up` ----------------------------------------------------------------------------------------------


def test_a_running_up_is_backed_up_and_never_replaced(up_server, tmp_path):
    folder = ["--data", str(up_server.data)]
    run = up_server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
    made = reportd("backup", str(tmp_path / "kept"), *folder)
    assert (made.returncode, made.stderr) == (0, "")
    refused = reportd("restore", str(tmp_path / "kept"), *folder, "--replace")
    assert refused.returncode == 1 and "is in use by process" in refused.stderr
    assert up_server.ask("GET", f"{BASE}/suite-runs/{run}").status == 200


@pytest.fixture
def older() -> Path:
    """The programs of a PostgreSQL that is older than the newest that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found or int(found[0].parts[-3]) >= 17 or clients.find_clients(17).major < 17:
        pytest.skip("no PostgreSQL before 17 is installed beside newer programs")
    return found[0].parent


def test_newer_programs_bring_a_dump_back_into_an_older_server(older, tmp_path):
    """pg_restore 17 and newer begin each dump with a setting that older servers refuse."""
    with Postgres(tmp_path / "postgres", str(older), settings={"fsync": "off"}) as server:
        migrate.apply(server.dsn())
        newer, path = clients.find_clients(17), tmp_path / "dump"
        with database.connected(server.dsn(), snapshot=True) as reader:
            (snapshot,) = reader.execute("SELECT pg_export_snapshot()").fetchone()
            database.dump(server.dsn(), reader, snapshot, newer, path)
        before = all_rows(server.dsn())
        with database.connected(server.dsn()) as target:
            database.restore(server.dsn(), target, newer, path, replace=True)
        assert all_rows(server.dsn()) == before and before["_yoyo_migration"]

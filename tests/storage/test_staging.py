"""Staging folders of several processes and hosts: which are removed, and which never."""

import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from server.services import SERVICES
from server.storage import staging
from server.storage.marker import MARKER
from server.storage.staging import Instance, Place, Staging, folder_of, place_of, required_age, sweep, try_lock
from tests.forms import CONTENT_TYPE, single
from tests.makers import png

ELSEWHERE = Place("of another machine", 7)
HOLDER = """
import sys
from pathlib import Path
from server.storage.staging import Staging
staging = Staging(Path(sys.argv[1]))
staging.open()
(staging.folder / "half-written").write_bytes(b"x")
print(staging.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own(tmp_path):
    staging = Staging(tmp_path)
    staging.open()
    yield staging
    staging.close()


@pytest.fixture
def left(tmp_path):
    """left(below): the folder of another process, not locked, with a staged file."""

    def make(below: str = "", id: UUID | None = None) -> Path:
        folder = tmp_path.joinpath(".staging", below, (id or uuid4()).hex)
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(b"half")
        return folder

    return make


@pytest.fixture
def later(monkeypatch):
    """later(seconds): the file system's clock is this much later."""
    real = staging.file_system_time

    def move(seconds: float) -> None:
        monkeypatch.setattr(staging, "file_system_time", lambda folder: real(folder) + seconds)

    return move


def row(folder: Path, place: Place, quiet: float) -> Instance:
    return Instance(UUID(folder.name), place, quiet)


def test_a_living_process_keeps_its_folder_and_a_killed_one_loses_it(own, tmp_path):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            id = UUID(holder.stdout.readline().strip())
            staged = tmp_path / ".staging" / id.hex / "half-written"
            for quiet, place in ((1, own.place), (9999, own.place), (9999, ELSEWHERE)):
                sweep(own, [Instance(id, place, quiet)], trusts_rows=True)
                assert staged.exists(), "the lock is a no, whatever the row says"
        finally:
            holder.kill()
            holder.wait()
    sweep(own, [Instance(id, ELSEWHERE, 3500)], trusts_rows=True)
    assert staged.exists(), "where a lock is not seen, only an old row is a proof"
    sweep(own, [Instance(id, own.place, 1)], trusts_rows=False)
    assert not staged.parent.exists() and own.folder.exists()


def test_two_hosts_of_one_name_keep_each_others_folders(own, left, tmp_path, later):
    """Their locks are not shared: one sees the other's folder as not locked."""
    theirs = left()
    for quiet in (0, 1800, 3599):
        sweep(own, [row(theirs, ELSEWHERE, quiet)], trusts_rows=True)
    later(1e6)
    sweep(own, [row(theirs, ELSEWHERE, 3599)], trusts_rows=True)
    assert theirs.exists()
    sweep(own, [row(theirs, ELSEWHERE, 3601)], trusts_rows=False)
    assert theirs.exists(), "the database was away: the others get time to renew their rows"
    sweep(own, [row(theirs, ELSEWHERE, 3601)], trusts_rows=True)
    assert not theirs.exists()


@pytest.mark.parametrize("same", [Place("b", 2), Place("a", 1)], ids=["a boot", "a mount"])
def test_a_free_lock_proves_nothing_on_another_kernel_or_mount(same):
    assert required_age(Instance(uuid4(), same, 1), Place("b", 1)) > 1e9
    assert required_age(Instance(uuid4(), same, 1), same) == 0


def test_a_folder_without_a_row_is_kept_for_a_day(own, left, later):
    theirs = left()
    later(86_000)
    sweep(own, [], trusts_rows=True)
    assert theirs.exists()
    later(86_500)
    sweep(own, [], trusts_rows=True)
    assert not theirs.exists() and own.folder.exists()


def test_a_file_that_was_written_lately_keeps_its_folder(own, left, monkeypatch):
    theirs = left()
    changed = staging._changed(theirs)
    monkeypatch.setattr(staging, "file_system_time", lambda folder: changed + 86_399)
    sweep(own, [], trusts_rows=True)
    assert theirs.exists()


@pytest.mark.parametrize(
    ("host", "is_removed"), [(socket.gethostname(), True), ("another", False), (f"{socket.gethostname()}-2", False)]
)
def test_folders_of_older_versions_are_removed_after_a_day_if_the_host_name_is_ours(own, left, later, host, is_removed):
    theirs = left(f"{host}-0badb007")
    sweep(own, [], trusts_rows=True)
    assert theirs.exists()
    later(86_500)
    sweep(own, [], trusts_rows=True)
    assert theirs.exists() is not is_removed
    if is_removed:
        sweep(own, [], trusts_rows=True)
        assert not theirs.parent.exists()


def test_other_files_in_the_folder_are_left_alone(own, tmp_path, later):
    top = tmp_path / ".staging"
    (top / "readme").write_bytes(b"x")
    (top / uuid4().hex.upper()).mkdir()
    (top / str(uuid4())).mkdir()
    (top / uuid4().hex).write_bytes(b"a file")
    before = set(top.iterdir())
    later(1e6)
    sweep(own, [], trusts_rows=True)
    assert set(top.iterdir()) == before


# --- made anew when it is gone ------------------------------------------------------------------------------

HEADERS = {"Content-Type": CONTENT_TYPE}


@pytest.fixture
def remove(client):
    """remove(): removes the staging folder of the running server; `all`: and the folder of all of them."""
    folder = client.app[SERVICES].storage.staging
    assert try_lock(folder) is None
    return lambda all=False: shutil.rmtree(folder.parent if all else folder)


@pytest.mark.parametrize("all", [False, True], ids=["alone", "with all others"])
async def test_uploads_go_on_after_the_staging_folder_was_removed(client, case_url, remove, all, caplog):
    url = await case_url()
    for number in range(2):
        remove(all)
        async with client.post(f"{url}/artifacts", data=single(png(seed=number)), headers=HEADERS) as reply:
            assert reply.status == 201, await reply.text()
    assert caplog.text.count("had been removed; it was made anew") == 2
    assert try_lock(client.app[SERVICES].storage.staging) is None, "locked again"
    assert (await client.get("/readyz")).status == 200


async def test_a_server_without_its_staging_folder_is_ready_reads_and_removes(client, case_url, remove, storage):
    async with client.post(f"{await case_url()}/artifacts", data=single(png()), headers=HEADERS) as reply:
        stored = await reply.json()
    remove()
    assert (await client.get("/readyz")).status == 200
    remove()
    assert (await client.get(stored["download_url"])).status == 200
    (storage / stored["storage_path"].removeprefix("artifacts/")).unlink()
    assert (await client.get(stored["download_url"])).status == 410, "the disk is mounted: the file is missing"
    own = client.app[SERVICES].storage
    assert own.staging.is_dir()
    for work in (own.clean, lambda: own.remove_now([])):
        remove()
        work()
        assert own.staging.is_dir()


@pytest.mark.parametrize("marker", [None, "0d1c9a4e-52f5-4f0a-9c0b-0a6f6f0a1b2c", "no id"])
async def test_no_staging_folder_is_made_in_an_empty_mount_point_or_another_folder(client, storage, marker):
    own = client.app[SERVICES].storage
    assert own.own_id
    storage.rename(f"{storage}.away")
    storage.mkdir()
    if marker:
        (storage / MARKER).write_text(marker)
    assert (await client.get("/readyz")).status == 503
    with pytest.raises(OSError):
        own.remove_now([])
    assert [path.name for path in storage.iterdir() if path.name != MARKER] == []


def test_a_folder_that_threads_make_anew_at_once_is_locked_once(own):
    shutil.rmtree(own.folder)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: own.make_anew(), range(8)))
    assert own.folder.is_dir() and try_lock(own.folder) is None
    own.close()
    assert not own.folder.exists()


# --- names ---------------------------------------------------------------------------------------------------


def test_a_folder_that_another_process_was_removing_is_locked_in_the_end(tmp_path):
    own, other = Staging(tmp_path), Staging(tmp_path)
    other.id, other.folder = own.id, own.folder
    other.open()
    try:
        original = staging.time.sleep
        staging.time.sleep = lambda seconds: other.close()
        own.open()
    finally:
        staging.time.sleep = original
    assert own.folder.is_dir() and own.place == place_of(tmp_path)
    own.close()


@pytest.mark.parametrize(
    ("path", "folder", "has_id"),
    [
        (f".staging/{'a' * 32}/0", f".staging/{'a' * 32}", True),
        (f".staging/host-0badb007/{'a' * 32}/0", f".staging/host-0badb007/{'a' * 32}", False),
    ],
)
def test_the_folder_of_a_staged_file(path, folder, has_id):
    assert folder_of(path) == (folder, UUID("a" * 32) if has_id else None)


@pytest.mark.parametrize("path", ["", "0", ".staging/0", f".staging/{'a' * 32}", ".content/a/b/c", "2026/01/24/a/0"])
def test_other_paths_have_no_staging_folder(path):
    assert folder_of(path) is None

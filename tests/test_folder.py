"""Whose files a storage folder holds: a server takes no other folder for its own, and no empty one instead of it."""

import asyncio
import shutil
from uuid import UUID, uuid4

import msgspec
import pytest
from aiohttp.test_utils import TestServer

from server.app import create_app
from server.folder import MARK, WrongFolder
from tests.forms import CONTENT_TYPE, single
from tests.makers import png
from tests.up_server import reportd, serving


@pytest.fixture
def starts(config):
    """await starts(section={…}): a server starts and ends again. Raises what keeps it from starting."""

    async def start(**sections) -> None:
        changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()}
        server = TestServer(create_app(msgspec.structs.replace(config, **changed)))
        try:
            await server.start_server()
        finally:
            await server.close()

    return start


@pytest.fixture
async def used(client, case_url, storage):
    """The folder of a database that has an artifact."""
    body = single(png(20, 20))
    case = await case_url()
    assert (await client.post(f"{case}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})).status == 201
    return storage


async def test_a_new_folder_is_marked_and_found_again(starts, storage, rows):
    await starts()
    (row,) = rows("SELECT id FROM storage_folder")
    assert (storage / MARK).read_text() == f"{row['id']}\n"
    await starts()
    assert rows("SELECT id FROM storage_folder") == [row]
    assert [path.name for path in storage.glob(f"{MARK}*")] == [MARK]


async def test_servers_that_start_first_together_agree(starts, storage, rows):
    await asyncio.gather(*(starts() for _ in range(6)))
    (row,) = rows("SELECT id FROM storage_folder")
    assert (storage / MARK).read_text() == f"{row['id']}\n"


async def test_a_disk_that_is_not_mounted_is_noticed(used, starts, tmp_path):
    used.rename(tmp_path / "away")
    used.mkdir()
    with pytest.raises(WrongFolder, match="Is its disk mounted"):
        await starts()
    shutil.rmtree(used)
    (tmp_path / "away").rename(used)
    await starts()


async def test_the_folder_of_another_database_is_refused(used, starts):
    other = uuid4()
    (used / MARK).write_text(f"{other}\n")
    with pytest.raises(WrongFolder, match=f"of another database: .* says {other}"):
        await starts()


@pytest.mark.parametrize("text", ["", "x\n", "0\n1\n"])
async def test_a_mark_that_is_none_is_named(used, starts, text):
    (used / MARK).write_text(text)
    with pytest.raises(WrongFolder, match="holds no id"):
        await starts()


async def test_what_the_refusal_says_helps(used, starts, rows):
    (used / MARK).unlink()
    with pytest.raises(WrongFolder) as refused:
        await starts()
    own = rows("SELECT id FROM storage_folder")[0]["id"]
    assert f"write the line {own} into {used / MARK}" in str(refused.value)
    (used / MARK).write_text(f"{own}\n")
    await starts()


async def test_a_folder_without_anything_in_the_database_may_be_lost(starts, storage, rows):
    await starts()
    own = rows("SELECT id FROM storage_folder")[0]["id"]
    shutil.rmtree(storage)
    await starts()
    assert UUID((storage / MARK).read_text().strip()) == own


async def test_a_new_database_takes_a_folder_as_it_is(starts, storage, rows):
    storage.mkdir()
    own = uuid4()
    (storage / MARK).write_text(f"{own}\n")
    await starts()
    assert rows("SELECT id FROM storage_folder")[0]["id"] == own


async def test_without_a_database_the_server_starts(starts):
    await starts(database={"dsn": "postgresql://postgres@/x?host=/nonexistent"})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_must_not_start_says_why_and_ends(tmp_path, dsn, make_token, workers):
    data = tmp_path / "data"
    with serving(data, dsn, make_token()) as server:
        run = server.ask_json("POST", "/api/v1/reports/suite-runs", {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"/api/v1/reports/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        form = [("artifact_type", "screenshot")]
        url = f"/api/v1/reports/test-case-results/{case}/artifacts"
        server.send(url, ("file", "a.png", png(20, 20), "image/png"), *form)
    (data / "artifacts" / MARK).unlink()
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(data / "artifacts")}
    done = reportd("serve", "--port", "0", "--workers", workers, **own)
    assert done.returncode in (1, 3) and "Is its disk mounted?" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""

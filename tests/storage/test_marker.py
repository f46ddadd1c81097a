"""The marker of a storage folder: a server refuses the folder of another database, and an empty mount point."""

import asyncio
import shutil
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from aiohttp.test_utils import TestServer

from server.app import create_app
from server.services import SERVICES
from server.storage.marker import MARKER, WrongFolder
from tests.forms import CONTENT_TYPE, single
from tests.makers import png
from tests.up_server import reportd, serving


@pytest.fixture
def starts(config):
    """await starts(section={…}): starts and stops a server. Raises the error that prevents the start."""

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
    """The storage folder, after one artifact was uploaded."""
    body = single(png(20, 20))
    case = await case_url()
    assert (await client.post(f"{case}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})).status == 201
    return storage


async def test_the_first_start_writes_the_marker_and_later_starts_keep_it(starts, storage, rows):
    await starts()
    (row,) = rows("SELECT id FROM storage_folder")
    assert (storage / MARKER).read_text() == f"{row['id']}\n"
    await starts()
    assert rows("SELECT id FROM storage_folder") == [row]
    assert [path.name for path in storage.glob(f"{MARKER}*")] == [MARKER]


async def test_concurrent_first_starts_agree_on_one_marker(starts, storage, rows):
    await asyncio.gather(*(starts() for _ in range(6)))
    (row,) = rows("SELECT id FROM storage_folder")
    assert (storage / MARKER).read_text() == f"{row['id']}\n"


async def test_an_empty_mount_point_is_refused(used, starts, tmp_path):
    used.rename(tmp_path / "away")
    used.mkdir()
    with pytest.raises(WrongFolder, match="Is its disk mounted"):
        await starts()
    shutil.rmtree(used)
    (tmp_path / "away").rename(used)
    await starts()


async def test_the_folder_of_another_database_is_refused(used, starts):
    other = uuid4()
    (used / MARKER).write_text(f"{other}\n")
    with pytest.raises(WrongFolder, match=f"of another database: .* contains {other}"):
        await starts()


@pytest.mark.parametrize("text", ["", "x\n", "0\n1\n"])
async def test_a_marker_without_an_id_is_refused(used, starts, text):
    (used / MARKER).write_text(text)
    with pytest.raises(WrongFolder, match="holds no id"):
        await starts()


async def test_the_refusal_explains_how_to_restore_the_marker(used, starts, rows):
    (used / MARKER).unlink()
    with pytest.raises(WrongFolder) as refused:
        await starts()
    own = rows("SELECT id FROM storage_folder")[0]["id"]
    assert f"write the line {own} into {used / MARKER}" in str(refused.value)
    (used / MARKER).write_text(f"{own}\n")
    await starts()


async def test_a_lost_folder_is_marked_again_when_the_database_has_no_artifacts(starts, storage, rows):
    await starts()
    own = rows("SELECT id FROM storage_folder")[0]["id"]
    shutil.rmtree(storage)
    await starts()
    assert UUID((storage / MARKER).read_text().strip()) == own


async def test_a_new_database_adopts_the_marker_of_an_existing_folder(starts, storage, rows):
    storage.mkdir()
    own = uuid4()
    (storage / MARKER).write_text(f"{own}\n")
    await starts()
    assert rows("SELECT id FROM storage_folder")[0]["id"] == own


@contextmanager
def database_unavailable(postgres, dsn):
    """Renames the database inside the `with` block, so that a server cannot connect."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )
        connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")


async def wait_until(condition) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("mounted", [True, False])
async def test_a_server_that_starts_before_its_database_stores_nothing_until_the_marker_is_checked(
    used, start, make_token, postgres, dsn, rows, tmp_path, mounted
):
    token, (artifact,) = make_token(), rows("SELECT id, test_case_result_id AS case FROM test_artifacts")
    if not mounted:
        used.rename(tmp_path / "disk")
        used.mkdir()
    with database_unavailable(postgres, dsn):
        late = await start(token=token)
        assert (await late.get("/readyz")).status == 503
    download, form = f"/api/v1/reports/artifacts/{artifact['id']}/download", {"Content-Type": CONTENT_TYPE}
    upload = partial(
        late.post,
        f"/api/v1/reports/test-case-results/{artifact['case']}/artifacts",
        data=single(png(9, 9)),
        headers=form,
    )
    if not mounted:
        for _ in range(30):
            for reply in (await upload(), await late.get(download), await late.get("/readyz")):
                assert (reply.status, (await reply.json())["code"]) in {
                    (503, "storage_unavailable"),
                    (503, "database_unavailable"),
                }
            await asyncio.sleep(0.1)
        assert [path.name for path in used.iterdir()] == [".staging"]
        shutil.rmtree(used)
        (tmp_path / "disk").rename(used)
        (used / ".staging").mkdir(exist_ok=True)
        late.app[SERVICES].storage.staging.mkdir(parents=True)

    async def is_ready() -> bool:
        return (await late.get("/readyz")).status == 200

    await wait_until(is_ready)
    assert (await late.get(download)).status == 200
    assert (await upload()).status == 201


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_refuses_its_folder_exits_with_the_reason(tmp_path, dsn, make_token, workers):
    data = tmp_path / "data"
    with serving(data, dsn, make_token()) as server:
        run = server.ask_json("POST", "/api/v1/reports/suite-runs", {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"/api/v1/reports/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        form = [("artifact_type", "screenshot")]
        url = f"/api/v1/reports/test-case-results/{case}/artifacts"
        server.send(url, ("file", "a.png", png(20, 20), "image/png"), *form)
    (data / "artifacts" / MARKER).unlink()
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(data / "artifacts")}
    done = reportd("serve", "--port", "0", "--workers", workers, **own)
    assert done.returncode in (1, 3) and "Is its disk mounted?" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""

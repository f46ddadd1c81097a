"""GET /suite-runs/{id}/archive: a run as a zip."""

import asyncio
import hashlib
import io
import json
import zipfile

import pytest
from aiohttp import ClientError

from server.archive.zip_stream import MANIFEST
from server.services import SERVICES
from tests.api.test_bundles import FULL, RUNS, a_step, a_test, sent_file
from tests.forms import a_body, a_field, a_file, post
from tests.makers import png, text


@pytest.fixture
async def full_run(client, make_run):
    """A run with two results, one of them tried twice; three artifacts, of which two have the same bytes."""
    run = await make_run(name="nightly/4711 ü", run_key="k", branch="main", tags=["a"], metadata={"n": 1.50, "ü": "✓"})
    files = [sent_file(0, step_number=2), sent_file(1, artifact_category="error"), sent_file(2, artifact_type="log")]
    one = a_test("pays", **FULL, artifacts=files)
    one["test"] |= {"status": "Failed", "error_message": "no\nbutton", "attempt": 1, "metadata": {"a": [1, None]}}
    bundle = {"tests": [one, a_test("pays", steps=[a_step(1)]), a_test("returns")]}
    contents = [(png(), "0.png"), (png(), "x.png"), (text(), "y.log")]
    parts = [a_file(data, name, name="files") for data, name in contents]
    status, body = await post(client, f"{RUNS}/{run}/bundle", a_body(a_field("bundle", json.dumps(bundle)), *parts))
    assert status == 201, body
    return run


async def archive_of(client, run):
    reply = await client.get(f"{RUNS}/{run}/archive")
    assert reply.status == 200, await reply.text()
    return zipfile.ZipFile(io.BytesIO(await reply.read()))


def read(archive, name):
    return json.loads(archive.read(name))


async def test_an_archive_is_a_download_with_a_name(client, full_run):
    reply = await client.get(f"{RUNS}/{full_run}/archive")
    assert reply.headers["Content-Type"] == "application/zip"
    assert reply.headers["Content-Disposition"] == f'attachment; filename="nightly-4711-{full_run}.zip"'
    assert reply.headers["Cache-Control"] == "private, no-store"
    head = await client.head(f"{RUNS}/{full_run}/archive")
    assert (head.status, await head.read()) == (200, b"")


async def test_the_manifest_has_every_entry(client, full_run):
    archive = await archive_of(client, full_run)
    sums = dict(line.split("  ")[::-1] for line in archive.read(MANIFEST).decode().splitlines())
    assert sums == {
        name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist() if name != MANIFEST
    }
    assert len(set(archive.namelist())) == len(archive.namelist())


async def test_each_content_is_in_it_once_by_its_hash(client, full_run):
    archive = await archive_of(client, full_run)
    files = {name: archive.read(name) for name in archive.namelist() if name.startswith("files/")}
    assert files == {
        f"files/{hashlib.sha256(png()).hexdigest()}.png": png(),
        f"files/{hashlib.sha256(text()).hexdigest()}.txt": text(),
    }
    assert [archive.getinfo(name).compress_type for name in sorted(files, key=lambda name: name[-3:])] == [0, 8]


async def test_the_data_are_the_objects_of_the_api(client, full_run):
    archive = await archive_of(client, full_run)
    run = read(archive, "data/run.json")
    shown = await (await client.get(f"{RUNS}/{full_run}")).json()
    assert same(run, shown) and shown.keys() - run.keys() == {"test_counts", "total_duration_ms"}
    results = read(archive, "data/results-0001.json")
    listed = (await (await client.get(f"{RUNS}/{full_run}/test-cases")).json())["items"]
    assert all(map(same, results, listed)) and [each["name"] for each in results] == ["pays", "pays", "returns"]
    assert all(each["client_ref"] for each in results)
    case = results[0]["id"]
    for name, path in (("checkpoints", "checkpoints"), ("console_logs", "console-logs"), ("artifacts", "artifacts")):
        found = read(archive, f"data/{case}/{name}-0001.json")
        reply = await (await client.get(f"/api/v1/reports/test-case-results/{case}/{path}?shape=object")).json()
        shown = {each["id"]: each for each in reply["items"]}
        assert len(found) == len(shown) and all(same(each, shown[each["id"]]) for each in found), name
    steps = read(archive, f"data/{case}/steps-0001.json")
    assert [(each["iteration_number"], each["step_number"], each["parent_step_number"]) for each in steps] == [
        (1, 1, None),
        (1, 2, 1),
        (2, 1, None),
    ]
    assert not any(name.startswith(f"data/{results[2]['id']}/") for name in archive.namelist())


def same(found, shown):
    """Whether all that both have is equal, up to the digits of times."""
    return all(key not in shown or plain(value) == plain(shown[key]) for key, value in found.items())


def plain(value):
    return value[:23] if isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T" else value


async def test_long_lists_are_in_several_entries(client, make_case, rows):
    case = await make_case()
    long = [{"level": "info", "message": f"{n:03}" + "x" * 9_000} for n in range(300)]
    await client.post(f"/api/v1/reports/test-case-results/{case}/console-logs", json={"entries": long})
    run = str(rows("SELECT suite_run_id FROM test_case_results")[0]["suite_run_id"])
    archive = await archive_of(client, run)
    names = [name for name in archive.namelist() if "console_logs" in name]
    assert names == [f"data/{case}/console_logs-{n:04}.json" for n in (1, 2, 3)]
    messages = [each["message"][:3] for name in names for each in read(archive, name)]
    assert messages == [f"{n:03}" for n in range(300)]


async def test_a_file_that_is_gone_is_named_in_the_manifest(client, full_run, storage, rows):
    for row in rows("SELECT storage_path FROM test_artifacts WHERE mime_type = 'image/png'"):
        (storage / row["storage_path"]).unlink()
    archive = await archive_of(client, full_run)
    name = f"files/{hashlib.sha256(png()).hexdigest()}.png"
    assert name not in archive.namelist()
    assert archive.read(MANIFEST).decode().endswith(f"# missing: {name}\n")


async def test_one_intact_copy_of_a_file_is_enough(client, full_run, storage, rows):
    first = rows("SELECT storage_path FROM test_artifacts WHERE mime_type = 'image/png' ORDER BY id LIMIT 1")[0]
    (storage / first["storage_path"]).unlink()
    archive = await archive_of(client, full_run)
    assert f"files/{hashlib.sha256(png()).hexdigest()}.png" in archive.namelist()
    assert b"missing" not in archive.read(MANIFEST)


async def test_a_file_with_other_bytes_is_said_to_have_changed(client, full_run, storage, rows):
    path = storage / rows("SELECT storage_path FROM test_artifacts WHERE mime_type = 'text/plain'")[0]["storage_path"]
    path.write_bytes(b"?" * path.stat().st_size)
    archive = await archive_of(client, full_run)
    name = f"files/{hashlib.sha256(text()).hexdigest()}.txt"
    lines = archive.read(MANIFEST).decode().splitlines()
    assert f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}" in lines
    assert lines[-1] == f"# changed: {name} does not have the bytes that were uploaded"


async def test_an_archive_that_cannot_be_completed_is_reset(client, full_run, monkeypatch):
    """Otherwise a client would take a part of it for the whole."""
    services = client.app[SERVICES]

    async def fails(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(services.storage, "read", fails)
    with pytest.raises(ClientError):
        await (await client.get(f"{RUNS}/{full_run}/archive")).read()


async def test_a_slow_reader_holds_no_connection_to_the_database(client, make_case, rows):
    case = await make_case()
    long = [{"level": "info", "message": "x" * 40_000} for _ in range(200)]
    for _ in range(3):
        reply = await client.post(f"/api/v1/reports/test-case-results/{case}/console-logs", json={"entries": long})
        assert reply.status == 201
    rows("UPDATE test_console_logs SET message = repeat(md5(id::text), 2000)")  # does not compress well
    run = rows("SELECT suite_run_id FROM test_case_results")[0]["suite_run_id"]
    reply = await client.get(f"{RUNS}/{run}/archive")
    await reply.content.read(100)
    services = client.app[SERVICES]
    async with asyncio.timeout(10):
        while services.pool.in_use:
            await asyncio.sleep(0.01)
    assert services.admission.replies > 0  # it is counted while it is sent
    reply.close()


async def test_replies_beyond_the_limit_are_refused(start, client, full_run):
    small = await start(server={"reply_memory": 1 << 20})
    with small.app[SERVICES].admission.reply(1 << 20):
        reply = await small.get(f"{RUNS}/{full_run}/archive")
        assert (reply.status, (await reply.json())["code"]) == (503, "overloaded")


async def test_an_unknown_run_is_404(client):
    reply = await client.get(f"{RUNS}/019b0000-0000-7000-8000-000000000000/archive")
    assert (reply.status, (await reply.json())["code"]) == (404, "suite_run_not_found")

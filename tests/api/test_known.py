"""Files that a client need not send, because the project has their bytes: /artifacts/missing, and `known` entries."""

import asyncio
import errno
import json
import os
import time
from statistics import median
from uuid import uuid4

import pytest

from server.services import SERVICES
from tests.api.test_artifacts import content_entries, on_disk, sha256, shot
from tests.forms import a_body, a_file, batch, metadata, post
from tests.makers import png

MISSING = "/api/v1/reports/artifacts/missing"


def content(data):
    return {"checksum": sha256(data), "file_size": len(data)}


def known(data, **fields):
    return {"known": True, **content(data), "file_name": "a.png", "artifact_type": "screenshot", **fields}


def only(*entries):
    return a_body(metadata(*entries))


async def send(client, case, *entries):
    return await post(client, f"{case}/artifacts/batch", only(*entries))


async def stored(client, case, data, name="a.png"):
    status, body = await post(client, f"{case}/artifacts/batch", batch([(data, name)]))
    assert status == 201, body
    return body["artifacts"][0]


async def missing(client, *files, **more):
    reply = await client.post(MISSING, json={"files": list(files), **more})
    assert reply.status == 200, await reply.text()
    return (await reply.json())["missing"]


# --- what is missing ---------------------------------------------------------------------------------------------


async def test_only_what_the_project_does_not_have_is_missing(client, case_url):
    one, two, other = shot(1), shot(2), shot(3)
    for data in (one, two):
        await stored(client, await case_url(), data)
    upper = {**content(one), "checksum": sha256(one).upper()}
    wrong_size = {**content(two), "file_size": len(two) + 1}
    sent = [content(other), content(one), content(two), upper, wrong_size]
    assert await missing(client, *sent) == [sha256(other), sha256(two)]
    assert await missing(client) == []


async def test_content_whose_stored_file_is_gone_or_short_is_missing(client, case_url, storage):
    paths = {}
    for seed in range(3):
        await stored(client, await case_url(), shot(seed))
        paths[seed] = next((storage / ".content").rglob(sha256(shot(seed))))
    paths[0].unlink()
    os.truncate(paths[1], 10)
    paths[2].unlink()
    paths[2].mkdir()
    wanted = [content(shot(seed)) for seed in range(3)]
    assert await missing(client, *wanted) == [each["checksum"] for each in wanted]
    for seed in range(3):
        _, body = await send(client, await case_url(), known(shot(seed)))
        assert body["failed"][0]["code"] == "content_missing"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "files"),
        ({"files": [content(b"x")] * 1001}, "files"),
        ({"files": [{**content(b"x"), "checksum": "x" * 64}]}, "files[0].checksum"),
        ({"files": [{**content(b"x"), "checksum": "../" * 21 + "a"}]}, "files[0].checksum"),
        ({"files": [content(b"x"), {"checksum": "0" * 64}]}, "files[1].file_size"),
        ({"files": [content(b"")]}, "files[0].file_size"),
        ({"files": [{**content(b"x"), "file_size": 2**63}]}, "files[0].file_size"),
        ({"files": [], "project": "nobody's"}, "project"),
    ],
)
async def test_wrong_values_are_named(client, body, path):
    reply = await client.post(MISSING, json=body)
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path)


async def test_the_project_is_that_of_a_new_run(client, start, make_token, case_url, make_run):
    ours, theirs = shot(1), shot(2)
    await stored(client, await case_url(), ours)
    other = await start(token=make_token(project="theirs", role="uploader"))
    await stored(other, await case_url(run=await make_run(project="theirs")), theirs)
    assert await missing(client, content(ours), content(theirs)) == [sha256(theirs)]
    assert await missing(client, content(ours), content(theirs), project="theirs") == [sha256(ours)]
    assert await missing(other, content(ours), content(theirs)) == [sha256(ours)]
    reply = await other.post(MISSING, json={"files": [content(ours)], "project": "default"})
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "project")
    viewer = await start(token=make_token(project="default", role="viewer"))
    assert (await viewer.post(MISSING, json={"files": []})).status == 403


async def test_the_time_of_a_reply_does_not_depend_on_other_projects(client, start, make_token, case_url):
    """The server looks at one path for each file, which contains the caller's project, whoever else has the bytes."""
    ours, nobodys = [shot(n) for n in range(20)], [content(shot(100 + n)) for n in range(20)]
    status, _ = await post(client, f"{await case_url()}/artifacts/batch", batch([(d, "a.png") for d in ours]))
    other = await start(token=make_token(project="theirs"))
    disk, seen = other.app[SERVICES].storage.disk, []
    lstat = os.lstat
    assert status == 201
    theirs = [content(data) for data in ours]
    os.lstat = lambda path, **options: seen.append(str(path)) or lstat(path, **options)
    try:
        assert await missing(other, *theirs) == [each["checksum"] for each in theirs]
        looked = list(seen)
        seen.clear()
        assert await missing(other, *nobodys) == [each["checksum"] for each in nobodys]
    finally:
        os.lstat = lstat
    assert len(looked) == len(seen) == 20 and len({path.split("/.content/")[1][:36] for path in looked + seen}) == 1
    spent = {True: [], False: []}
    for n in range(400):  # the same call, without the noise of HTTP
        begun = time.perf_counter()
        disk.has(other_project(looked), (theirs if n % 2 else nobodys)[n % 20]["checksum"], 5)
        spent[bool(n % 2)].append(time.perf_counter() - begun)
    assert median(spent[True]) < 2 * median(spent[False]) and median(spent[False]) < 2 * median(spent[True])


def other_project(paths):
    return paths[0].split("/.content/")[1][:36]


# --- known entries -----------------------------------------------------------------------------------------------


async def test_a_known_entry_is_an_artifact_like_one_that_is_sent(client, case_url, storage, stored_files):
    data, case = shot(), await case_url()
    sent = await stored(client, await case_url(), data)
    fields = {"step_number": 3, "artifact_category": "error", "description": "no button", "iteration_number": 2}
    status, body = await send(client, case, known(data, **fields, captured_at="2026-01-24T12:00:00Z"))
    assert (status, body["message"], body["failed"]) == (201, "Successfully uploaded 1 artifacts", [])
    (made,) = body["artifacts"]
    assert {name: made[name] for name in fields} == fields and made["captured_at"] == "2026-01-24T12:00:00.000Z"
    assert (made["known_index"], made["file_index"], made["duplicate"]) == (0, None, False)
    for name in ("mime_type", "file_size", "checksum", "file_name", "text_encoding"):
        assert made[name] == sent[name] or name == "file_name"
    assert on_disk(storage, made).samefile(on_disk(storage, sent)) and len(stored_files()) == 2
    assert await (await client.get(made["download_url"])).read() == data
    listed = await (await client.get(f"{case}/artifacts")).json()
    assert [each["id"] for each in listed["items"]] == [made["id"]]


async def test_files_and_known_entries_mix_and_each_fails_alone(client, case_url):
    have, fresh, gone, case = shot(1), shot(2), shot(3), await case_url()
    await stored(client, await case_url(), have)
    entries = [
        {"file_index": 1, "artifact_type": "screenshot"},
        known(have),
        known(gone, file_name="gone.png"),
        known(have, artifact_type="nonsense"),
        {"file_index": 0, "artifact_type": "screenshot", "step_number": 9},
        known(have, step_number=2),
    ]
    files = [a_file(data, f"{n}.png", name="files") for n, data in enumerate([fresh, b"GIF89a"])]
    status, body = await post(client, f"{case}/artifacts/batch", a_body(metadata(*entries), *files))
    assert (status, body["message"]) == (207, "Uploaded 3 of 6 artifacts")
    assert [(each["file_index"], each["known_index"]) for each in body["artifacts"]] == [
        (0, None),
        (None, 0),
        (None, 3),
    ]
    failed = [(f["file_index"], f["known_index"], f["file_name"], f["code"]) for f in body["failed"]]
    assert failed == [
        (1, None, "1.png", "file_corrupted"),
        (None, 1, "gone.png", "content_missing"),
        (None, 2, None, "invalid"),
    ]
    assert "artifact_type" in body["failed"][2]["error"]


async def test_the_same_known_entry_twice_is_one_artifact(client, case_url, stored_files, rows):
    data, case = shot(), await case_url()
    first = await stored(client, case, data)
    status, body = await send(client, case, known(data, step_number=0))  # as the batch has stored it
    assert (status, body["artifacts"][0]["id"], body["artifacts"][0]["duplicate"]) == (201, first["id"], True)
    for duplicate in (False, True):
        status, body = await send(client, case, known(data, step_number=5), known(data, step_number=5))
        assert (status, [each["duplicate"] for each in body["artifacts"]]) == (201, [duplicate, True])
    assert len(rows("SELECT id FROM test_artifacts")) == len(stored_files()) == 2


async def test_known_content_with_two_names_at_one_step_is_two_artifacts(client, make_run, case_url, storage):
    data, case = shot(), await case_url()
    await stored(client, await case_url(), data)
    entries = [known(data, file_name=name, step_number=1, artifact_category="error") for name in ("a.png", "b.png")]
    status, body = await send(client, case, *entries)
    assert (status, body["failed"]) == (201, []), body
    run = await make_run()
    bundle = {"tests": [{"client_ref": str(uuid4()), "test": {"name": "t", "status": "Failed"}, "artifacts": entries}]}
    reply = await client.post(f"/api/v1/reports/suite-runs/{run}/bundle", json=bundle)
    of_bundle = await reply.json()
    assert reply.status == 201 and not of_bundle["tests"][0].get("failed"), of_bundle
    for artifacts in (body["artifacts"], of_bundle["tests"][0]["artifacts"]):
        files = [on_disk(storage, each) for each in artifacts]
        assert len(files) == len(set(files)) == 2 and all(file.read_bytes() == data for file in files)


async def test_a_known_screenshot_is_linked_to_its_step(client, case_url):
    data, case = shot(), await case_url()
    await stored(client, await case_url(), data)
    await client.post(f"{case}/steps/bulk", json={"steps": [{"step_number": 4}]})
    _, body = await send(client, case, known(data, step_number=4))
    (step,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    assert step["screenshot_artifact_id"] == body["artifacts"][0]["id"]


async def test_the_bytes_of_another_project_cannot_be_linked(
    client, start, make_token, case_url, make_run, stored_files
):
    data = shot()
    await stored(client, await case_url(), data)
    other = await start(token=make_token(project="theirs", role="uploader"))
    before = stored_files()
    status, body = await send(other, await case_url(run=await make_run(project="theirs")), known(data))
    assert (status, body["code"], body["failed"][0]["code"]) == (422, "no_file_kept", "content_missing")
    assert body["errors"][0]["path"] == "known[0]"
    nobodys, unknown = await send(other, await case_url(run=await make_run(project="theirs")), known(shot(9)))
    assert (nobodys, {**unknown, "request_id": 0}) == (status, {**body, "request_id": 0})
    foreign = await case_url()
    assert (await send(other, foreign, known(data)))[0] == 404
    assert stored_files() == before


async def test_after_a_delete_of_the_last_holder_the_bytes_are_missing(client, case_url, storage, stored_files):
    data = shot()
    holders = [await stored(client, await case_url(), data) for _ in range(2)]
    for number, holder in enumerate(holders):
        assert await missing(client, content(data)) == []
        assert (await client.delete(f"/api/v1/reports/artifacts/{holder['id']}")).status == 204
        status, body = await send(client, await case_url(), known(data))
        if number == 0:  # the other one still has them; and then this new one would, too
            assert status == 201
            await client.delete(f"/api/v1/reports/artifacts/{body['artifacts'][0]['id']}")
    assert (status, body["failed"][0]["code"]) == (422, "content_missing")
    assert await missing(client, content(data)) == [sha256(data)]
    assert content_entries(storage) == stored_files() == []


async def test_damaged_bytes_are_not_linked(client, case_url, storage, stored_files):
    data = png(40, 40, 1)
    holder = await stored(client, await case_url(), data)
    on_disk(storage, holder).write_bytes(data[:-20] + b"?" * 20)
    case, before = await case_url(), stored_files()
    status, body = await send(client, case, known(data))
    assert (status, body["failed"][0]["code"], stored_files()) == (422, "content_missing", before)
    made = await stored(client, case, data)
    assert await (await client.get(made["download_url"])).read() == data
    assert (await send(client, await case_url(), known(data)))[0] == 201


async def test_a_type_that_is_not_allowed_any_more_is_missing(client, start, case_url):
    data = shot()
    await stored(client, await case_url(), data)
    narrow = await start(artifacts={"allowed_types": ["text/plain"]})
    _, body = await send(narrow, await case_url(), known(data))
    assert body["failed"][0]["code"] == "content_missing"


async def test_with_the_maximum_number_of_links_the_bytes_are_copied(client, case_url, storage, monkeypatch):
    data, case = shot(), await case_url()
    holder = await stored(client, await case_url(), data)
    link = os.link

    def full(source, target, **options):
        if "/.content/" in str(source):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        return link(source, target, **options)

    monkeypatch.setattr(os, "link", full)
    status, body = await send(client, case, known(data))
    assert status == 201, body
    made = on_disk(storage, body["artifacts"][0])
    assert made.read_bytes() == data and not made.samefile(on_disk(storage, holder))
    assert list((storage / ".staging").rglob("*.*")) == []


async def test_too_many_known_entries_are_refused(client, case_url):
    data = shot()
    await stored(client, await case_url(), data)
    entries = [known(data, step_number=n) for n in range(501)]
    status, body = await send(client, await case_url(), *entries)
    assert (status, body["errors"][0]["path"]) == (422, "metadata")
    status, body = await send(client, await case_url(), *entries[:500])
    assert status == 201 and len(body["artifacts"]) == 500


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"checksum": None}, "checksum"),
        ({"checksum": "0" * 63}, "checksum"),
        ({"file_size": 0}, "file_size"),
        ({"file_size": "12"}, "file_size"),
        ({"file_name": None}, "file_name"),
        ({"artifact_type": None}, "artifact_type"),
    ],
)
async def test_an_entry_with_a_wrong_value_names_it(client, case_url, change, word):
    await stored(client, await case_url(), shot())
    _, body = await send(client, await case_url(), {**known(shot()), **change}, known(shot()))
    (failed,) = body["failed"]
    assert (failed["code"], failed["known_index"]) == ("invalid", 0) and failed["error"].startswith(word)


@pytest.mark.parametrize("value", [False, None, 1, "true", []])
async def test_only_true_makes_an_entry_known(client, case_url, value):
    """Older clients may send a field of this name, and of the others, with any value."""
    entry = {"file_index": 0, "artifact_type": "screenshot", "known": value, "file_size": "5 KB", "file_name": 7}
    body = a_body(metadata(entry), a_file(shot(), name="files"))
    status, made = await post(client, f"{await case_url()}/artifacts/batch", body)
    assert (status, made["artifacts"][0]["file_index"]) == (201, 0)


async def test_a_known_entry_with_hostile_names_stays_in_its_folder(client, case_url, storage):
    data, case = shot(), await case_url()
    await stored(client, await case_url(), data)
    for name in ("../../x.png", "/etc/passwd", "a\0b.png", "\ud800.png", "é" * 300, ""):
        status, body = await send(client, case, known(data, file_name=name))
        assert status == 201, body
        assert on_disk(storage, body["artifacts"][0]).parent.name == case.rpartition("/")[2]


async def test_a_repeated_request_with_a_key_is_replayed(client, case_url, rows):
    data, case = shot(), await case_url()
    await stored(client, await case_url(), data)
    for other in (known(data), known(data), known(data, step_number=1)):
        last = await post(client, f"{case}/artifacts/batch", only(other), Idempotency_Key="k")
    assert (last[0], last[1]["code"]) == (422, "idempotency_key_reused")
    assert len(rows("SELECT id FROM test_artifacts WHERE test_case_result_id = %s", case.rpartition("/")[2])) == 1


async def test_known_files_are_counted(client, case_url):
    data = shot()
    await stored(client, await case_url(), data)

    async def counted():
        lines = (await (await client.get("/metrics")).text()).splitlines()
        names = ("reportd_uploads_known_total ", "reportd_uploads_known_bytes_total ")
        return [float(line.split()[1]) for name in names for line in lines if line.startswith(name)]

    before = await counted()
    await send(client, await case_url(), known(data), known(shot(5)))
    assert await counted() == [before[0] + 1, before[1] + len(data)]


# --- races -------------------------------------------------------------------------------------------------------


async def test_racing_with_deletes_of_the_last_holder_no_row_is_without_its_bytes(client, case_url, storage, rows):
    data = shot()
    for _ in range(6):
        holder = await stored(client, await case_url(), data)
        cases = [await case_url() for _ in range(4)]
        sent = [send(client, case, known(data)) for case in cases]
        sent.insert(2, client.delete(f"/api/v1/reports/artifacts/{holder['id']}"))
        replies = await asyncio.gather(*sent)
        for status, body in [each for each in replies if isinstance(each, tuple)]:
            assert status == 201 or body["failed"][0]["code"] == "content_missing", body
        for row in rows("SELECT storage_path FROM test_artifacts"):
            assert (storage / row["storage_path"]).read_bytes() == data
        for row in rows("SELECT id FROM test_artifacts"):
            assert (await client.delete(f"/api/v1/reports/artifacts/{row['id']}")).status == 204


async def test_bytes_that_vanish_between_staging_and_linking_are_still_stored(client, case_url, storage, monkeypatch):
    """A DELETE, or `check --repair`, removes the content entry at the worst moment."""
    data = shot()
    holder = await stored(client, await case_url(), data)
    stage = type(client.app[SERVICES].storage.disk)
    place = stage.place

    def late(self, *arguments):
        on_disk(storage, holder).unlink(missing_ok=True)
        for entry in (storage / ".content").rglob(sha256(data)):
            entry.unlink()
        return place(self, *arguments)

    monkeypatch.setattr(stage, "place", late)
    status, body = await send(client, await case_url(), known(data))
    assert status == 201
    assert on_disk(storage, body["artifacts"][0]).read_bytes() == data
    assert content_entries(storage) == [sha256(data)]
    assert json.dumps(body).count("content_missing") == 0

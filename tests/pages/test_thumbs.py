"""Thumbnails over HTTP: whose they are, how long they are kept, and what is shown where there is none."""

import asyncio
import io
import os
import re
import signal
import uuid

import pytest
from PIL import Image

from server.services import SERVICES
from server.storage.paths import THUMBS
from server.thumbs import thumbnails as module
from tests import makers
from tests.forms import CONTENT_TYPE, single

BASE = "/api/v1/reports"
A_YEAR = "private, max-age=31536000, immutable"
SVG = "image/svg+xml"


@pytest.fixture
def send(client, make_case):
    """await send(b"…", "a.png", case=…): the id of a new artifact."""

    async def sent(content, name="a.png", case=None):
        case = case or await make_case()
        body = single(content, name, "application/octet-stream", artifact_type="other")
        reply = await client.post(
            f"{BASE}/test-case-results/{case}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE}
        )
        assert reply.status == 201, await reply.text()
        return (await reply.json())["id"]

    return sent


async def shown(reply):
    """The size of an image."""
    assert (reply.status, reply.content_type) == (200, "image/webp"), await reply.text()
    return Image.open(io.BytesIO(await reply.read())).size


async def drawn(reply, *words, status=200):
    """Asserts that the reply is a drawing with these words and nothing that runs, loads or styles anything."""
    text = await reply.text()
    assert (reply.status, reply.content_type) == (status, SVG), text
    assert all(word in text for word in words), text
    assert not re.search(r"<script|href|style|\son|url\(", text)
    return True


async def test_a_thumbnail_is_sent_with_headers_for_a_year(client, send, storage):
    id_ = await send(makers.png(640, 400))
    sizes = {}
    for width in (320, 960):
        reply = await client.get(f"/thumbs/{id_}-{width}.webp")
        sizes[width] = await shown(reply)
        assert reply.headers["Cache-Control"] == A_YEAR and reply.headers["Vary"] == "Authorization, Cookie"
        tag = reply.headers["ETag"]
        for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await client.get(f"/thumbs/{id_}-{width}.webp", headers={"If-None-Match": sent})
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] == tag and again.headers["Cache-Control"] == A_YEAR
        head = await client.head(f"/thumbs/{id_}-{width}.webp")
        assert head.headers["Content-Length"] == str(len(await reply.read()))
        other = await client.get(f"/thumbs/{id_}-{1280 - width}.webp", headers={"If-None-Match": tag})
        assert other.status == 200
    assert sizes == {320: (320, 200), 960: (640, 400)}
    assert len(list(storage.glob(f"{THUMBS}/*/*/*.webp"))) == 2


@pytest.mark.parametrize("width", ["0", "321", "1920", "0320", "٣٢٠", "320-960", "", "-320", "320.webp"])
async def test_there_are_two_widths(client, send, width):
    assert (await client.get(f"/thumbs/{await send(makers.png())}-{width}.webp")).status == 404


async def test_unknown_and_malformed_ids_are_404(client):
    for id_ in (uuid.uuid4(), "x", "..%2f..", "{" + str(uuid.uuid4()) + "}"):
        assert (await client.get(f"/thumbs/{id_}-320.webp")).status == 404


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (makers.pdf(), "a.pdf", "PDF"),
        (makers.text(), "<script>.log", "Text"),
        (makers.json(), "a.json", "JSON"),
        (makers.html(), "a.html", "HTML"),
    ],
)
async def test_files_that_are_no_images_have_a_drawing(client, send, content, name, word):
    reply = await client.get(f"/thumbs/{await send(content, name)}-960.webp")
    assert await drawn(reply, word, "no image", 'width="960"')
    assert reply.headers["Cache-Control"] == "private, max-age=600" and "ETag" not in reply.headers
    assert client.app[SERVICES].thumbnails._pool.process is None


async def test_an_image_that_claims_too_much_has_a_drawing_and_the_download_stays(client, send):
    bomb = makers.blank_png(60_000, 60_000, sent=10)
    id_ = await send(bomb)
    for _ in range(2):
        reply = await client.get(f"/thumbs/{id_}-320.webp")
        assert await drawn(reply, "PNG", "no preview", 'width="320"')
        assert reply.headers["Cache-Control"] == "private, max-age=600" and "ETag" not in reply.headers
    assert await (await client.get(f"{BASE}/artifacts/{id_}/download")).read() == bomb
    metrics = await (await client.get("/metrics")).text()
    assert re.search(r'reportd_thumbnails_total{outcome="failed"} [1-9]', metrics)


async def test_a_thumbnail_that_is_not_ready_is_a_drawing_to_be_asked_for_again(client, send, monkeypatch):
    warm, id_ = await send(makers.png(seed=1)), await send(makers.png(640, 400))
    await client.get(f"/thumbs/{warm}-320.webp")
    os.kill(client.app[SERVICES].thumbnails._pool.process.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.05)
    reply = await client.get(f"/thumbs/{id_}-320.webp")
    assert await drawn(reply, "PNG", "in a moment", status=202)
    assert (reply.headers["Cache-Control"], reply.headers["Retry-After"]) == ("private, no-store", "2")
    assert "ETag" not in reply.headers
    os.kill(client.app[SERVICES].thumbnails._pool.process.pid, signal.SIGCONT)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 60.0)
    assert await shown(await client.get(f"/thumbs/{id_}-320.webp")) == (320, 200)


async def test_a_missing_file_is_410_and_an_away_storage_503(client, send, storage, stored_files):
    id_ = await send(makers.png())
    (path,) = stored_files()
    (storage / path).rename(storage / "moved")
    reply = await client.get(f"/thumbs/{id_}-320.webp")
    assert (reply.status, (await reply.json())["code"]) == (410, "artifact_content_missing")
    storage.rename(storage.with_name("away"))
    reply = await client.get(f"/thumbs/{id_}-320.webp")
    assert (reply.status, (await reply.json())["code"]) == (503, "storage_unavailable")
    storage.with_name("away").rename(storage)
    (storage / "moved").rename(storage / path)
    assert await shown(await client.get(f"/thumbs/{id_}-320.webp")) == (16, 16)


async def test_a_deleted_artifact_has_no_thumbnail_and_none_stays_on_disk(client, send, storage):
    content, case = makers.png(640, 400), None
    ids = [await send(content, case=case) for _ in range(2)]
    for id_ in ids:
        await shown(await client.get(f"/thumbs/{id_}-320.webp"))
    for left, id_ in ((1, ids[0]), (0, ids[1])):
        assert (await client.delete(f"{BASE}/artifacts/{id_}")).status == 204
        assert (await client.get(f"/thumbs/{id_}-320.webp")).status == 404
        assert len(list(storage.glob(f"{THUMBS}/*/*/*.webp"))) == left


async def test_a_link_shows_thumbnails_of_the_images_that_it_covers(client, nobody, send, make_run, make_case):
    run = await make_run(project="default")
    case, other = await make_case(run=run), await make_case()
    ours, page = await send(makers.png(640, 400), case=case), await send(makers.html(), "a.html", case=case)
    theirs = await send(makers.png(seed=2), case=other)
    made = await client.post(f"{BASE}/links", json={"suite_run_id": run})
    link = (await made.json())["url"]
    reply = await nobody.get(f"{link}/thumbs/{ours}-320.webp")
    assert await shown(reply) == (320, 200)
    assert reply.headers["Cache-Control"] == "private, no-store" and reply.headers["X-Robots-Tag"] == "noindex"
    for hidden in (page, theirs, uuid.uuid4(), "x"):
        assert (await nobody.get(f"{link}/thumbs/{hidden}-320.webp")).status == 404
    assert (await nobody.get(f"/thumbs/{ours}-320.webp")).status == 401
    alone = (await (await client.post(f"{BASE}/links", json={"artifact_id": page})).json())["url"]
    reply = await nobody.get(f"{alone}/thumbs/{page}-320.webp")
    assert await drawn(reply, "HTML") and reply.headers["Cache-Control"] == "private, no-store"
    assert (await client.delete(f"{BASE}/links/{(await made.json())['id']}")).status == 204
    assert (await nobody.get(f"{link}/thumbs/{ours}-320.webp")).status == 404


async def test_two_workers_share_the_cache(client, start, send):
    id_ = await send(makers.png(640, 400))
    other = await start()
    both = await asyncio.gather(*(each.get(f"/thumbs/{id_}-320.webp") for each in (client, other) for _ in range(5)))
    assert len({await reply.read() for reply in both}) == 1
    third = await start()
    assert await shown(await third.get(f"/thumbs/{id_}-320.webp")) == (320, 200)
    assert third.app[SERVICES].thumbnails._pool.process is None


async def test_a_server_that_ends_takes_its_process_along(client, send):
    await client.get(f"/thumbs/{await send(makers.png())}-320.webp")
    pid = client.app[SERVICES].thumbnails._pool.process.pid
    await client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

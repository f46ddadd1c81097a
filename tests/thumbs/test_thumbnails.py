"""Thumbnails of stored files: shared making, waiting, failures that are not repeated, and a storage that fails."""

import asyncio
import hashlib
import io
import os
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from server.errors import ContentMissing
from server.storage.disk import Removal
from server.storage.folder import StorageAway
from server.storage.paths import THUMBS, content_path, thumb_path
from server.thumbs import thumbnails as module
from server.thumbs.pool import NoThumbnail, Pool, is_whole
from server.thumbs.thumbnails import Absent, Source, Thumbnails
from tests import makers
from tests.storage.test_folder import open_storage, storage

__all__ = ["open_storage", "storage"]  # fixtures

OURS, THEIRS = UUID(int=1), UUID(int=2)
MADE = b"RIFF\4\0\0\0WEBP"


class Scripted:
    """A pool that makes nothing. `replies`: what it does with each image: bytes, an exception, or an event to wait for
    first."""

    def __init__(self, *replies):
        self.replies, self.asked, self.at_once, self.most = list(replies), [], 0, 0

    async def thumbnail(self, descriptor, width, most_height):
        self.asked.append((os.pread(descriptor, 1000, 0), width, most_height))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            reply = self.replies.pop(0) if self.replies else MADE
            if isinstance(reply, asyncio.Event):
                await reply.wait()
                reply = MADE
            if isinstance(reply, Exception):
                raise reply
            return reply
        finally:
            self.at_once -= 1

    async def close(self):
        pass


@pytest.fixture
def stored(storage):
    """stored(b"…", project=…): a Source with these bytes."""

    def store(content, project=OURS):
        checksum = hashlib.sha256(content).hexdigest()
        path = f"2026/01/24/{project}/{checksum}.png"
        (storage.root / path).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / path).write_bytes(content)
        return Source(project, path, len(content), checksum)

    return store


@pytest.fixture
async def scripted(storage):
    """scripted(*replies): thumbnails and the Scripted pool that they ask."""
    opened = []

    def make(*replies, max_bytes=1 << 20):
        pool = Scripted(*replies)
        opened.append(Thumbnails(storage, max_bytes, pool))
        return opened[-1], pool

    yield make
    for thumbnails in opened:
        await thumbnails.close()


async def test_a_thumbnail_is_made_once_and_then_read_from_disk(storage, stored):
    source, pool = stored(makers.png(640, 400)), Pool()
    thumbnails = Thumbnails(storage, 1 << 20, pool)
    sizes = {}
    for width in (320, 960):
        made = await thumbnails.of(source, width)
        assert (storage.root / thumb_path(OURS, source.checksum, width)).read_bytes() == made
        sizes[width] = Image.open(io.BytesIO(made)).size
    assert sizes == {320: (320, 200), 960: (640, 400)}
    await thumbnails.close()
    other, none = Thumbnails(storage, 1 << 20, Scripted(AssertionError())), Absent.FAILED
    assert is_whole(await other.of(source, 320)) and await other.of(source, 960) != none


async def test_twins_wait_for_one_another(scripted, stored):
    gate = asyncio.Event()
    thumbnails, pool = scripted(gate)
    asked = [asyncio.create_task(thumbnails.of(stored(b"one"), 320)) for _ in range(50)]
    await asyncio.sleep(0.1)
    gate.set()
    assert await asyncio.gather(*asked) == [MADE] * 50
    assert pool.asked == [(b"one", 320, 1280)]


async def test_another_width_or_project_is_another_thumbnail(scripted, stored, storage):
    thumbnails, pool = scripted()
    for source in (stored(b"one"), stored(b"one", THEIRS)):
        for width in (320, 960):
            assert await thumbnails.of(source, width) == MADE
    assert len(pool.asked) == 4 and len(list(storage.root.glob(f"{THUMBS}/*/*/*.webp"))) == 4


async def test_at_most_two_at_once(scripted, stored):
    thumbnails, pool = scripted()
    found = await asyncio.gather(*(thumbnails.of(stored(b"%d" % n), 320) for n in range(20)))
    assert found == [MADE] * 20 and pool.most <= 2


async def test_a_request_waits_for_a_while_and_the_making_goes_on(scripted, stored, monkeypatch):
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.05)
    gate = asyncio.Event()
    thumbnails, pool = scripted(gate)
    source = stored(b"one")
    assert await thumbnails.of(source, 320) is Absent.LATE
    assert await thumbnails.of(source, 320) is Absent.LATE
    gate.set()
    monkeypatch.setattr(module, "_WAIT_SECONDS", 60.0)
    assert await thumbnails.of(source, 320) == MADE
    assert len(pool.asked) == 1


async def test_a_cancelled_request_does_not_stop_the_making(scripted, stored):
    gate = asyncio.Event()
    thumbnails, pool = scripted(gate)
    source = stored(b"one")
    first, second = (asyncio.create_task(thumbnails.of(source, 320)) for _ in range(2))
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await second == MADE and len(pool.asked) == 1


async def test_when_too_many_wait_the_others_get_a_placeholder_at_once(scripted, stored, monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    gate = asyncio.Event()
    thumbnails, _ = scripted(gate, gate)
    waiting = [asyncio.create_task(thumbnails.of(stored(b"%d" % n), 320)) for n in range(3)]
    await asyncio.sleep(0.1)
    assert await thumbnails.of(stored(b"more"), 320) is Absent.LATE
    gate.set()
    assert await asyncio.gather(*waiting) == [MADE] * 3
    assert await thumbnails.of(stored(b"more"), 320) == MADE


async def test_a_failure_is_noted_for_a_while(scripted, stored, monkeypatch, caplog):
    thumbnails, pool = scripted(NoThumbnail("is cut"), MADE, NoThumbnail("is cut"))
    source = stored(b"one")
    for _ in range(3):
        assert await thumbnails.of(source, 320) is Absent.FAILED
    assert len(pool.asked) == 1 and caplog.text.count("is cut") == 1 and source.storage_path in caplog.text
    assert await thumbnails.of(stored(b"two"), 320) == MADE
    monkeypatch.setattr(module, "_FAILURE_SECONDS", 0.0)
    assert await thumbnails.of(source, 320) is Absent.FAILED
    assert await thumbnails.of(source, 320) == MADE


async def test_the_notes_of_failures_are_bounded(scripted, stored, monkeypatch):
    monkeypatch.setattr(module, "_MAX_FAILURES", 2)
    thumbnails, pool = scripted(*[NoThumbnail("")] * 4)
    sources = [stored(b"%d" % number) for number in range(3)]
    for source in sources:
        assert await thumbnails.of(source, 320) is Absent.FAILED
    for source in (sources[1], sources[2], sources[0]):
        assert await thumbnails.of(source, 320) is Absent.FAILED
    assert [content for content, *_ in pool.asked] == [b"0", b"1", b"2", b"0"]


async def test_a_missing_file_is_missing_and_is_found_when_it_is_back(scripted, stored, storage):
    thumbnails, pool = scripted()
    source = stored(b"one")
    path = storage.root / source.storage_path
    path.write_bytes(b"longer")
    for _ in range(2):
        with pytest.raises(ContentMissing):
            await thumbnails.of(source, 320)
        path.unlink(missing_ok=True)
    path.write_bytes(b"one")
    assert await thumbnails.of(source, 320) == MADE and len(pool.asked) == 1


async def test_while_the_disk_is_not_mounted_nothing_counts_as_missing(scripted, stored, storage):
    thumbnails, _ = scripted()
    source = stored(b"one")
    storage.root.rename(storage.root.with_name("away"))
    with pytest.raises(StorageAway):
        await thumbnails.of(source, 320)
    storage.root.with_name("away").rename(storage.root)
    assert await thumbnails.of(source, 320) == MADE


async def test_a_disk_that_does_not_answer_leaves_no_descriptor_open(scripted, stored, storage, monkeypatch):
    thumbnails, _ = scripted()
    source, gate, opened = stored(b"one"), asyncio.Event(), storage.disk.open
    loop, descriptors = asyncio.get_running_loop(), []

    def slow(*arguments):
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(60)
        descriptors.append(opened(*arguments))
        return descriptors[0]

    monkeypatch.setattr(storage.disk, "open", slow)
    monkeypatch.setattr(storage, "_seconds", 0.2)
    with pytest.raises(StorageAway):
        await thumbnails.of(source, 320)
    gate.set()
    monkeypatch.setattr(storage, "_seconds", 30.0)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if descriptors and not Path(f"/proc/self/fd/{descriptors[0]}").exists():
            break
    else:
        pytest.fail("the descriptor is still open")


async def test_when_the_disk_is_full_the_thumbnail_is_sent_and_not_kept(scripted, stored, storage):
    thumbnails, pool = scripted()
    source = stored(b"one")
    storage.disk._min_free = 1 << 60
    assert [await thumbnails.of(source, 320) for _ in range(2)] == [MADE] * 2
    assert len(pool.asked) == 2 and not (storage.root / THUMBS).exists()


async def test_no_descriptor_is_left(scripted, stored):
    thumbnails, _ = scripted(MADE, NoThumbnail(""))
    before = len(list(Path("/proc/self/fd").iterdir()))
    await thumbnails.of(stored(b"one"), 320)
    await thumbnails.of(stored(b"two"), 320)
    await asyncio.sleep(0.1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


async def test_a_cache_that_grows_is_tidied_without_waiting_for_the_sweeper(scripted, stored, storage):
    image = b"RIFF" + (2000 - 8).to_bytes(4, "little") + b"WEBP" + bytes(2000 - 12)
    thumbnails, _ = scripted(*[image] * 30, max_bytes=20_000)
    for number in range(30):
        assert await thumbnails.of(stored(b"%d" % number), 320) == image
        if thumbnails._tidying:
            await thumbnails._tidying
    assert sum(path.stat().st_size for path in storage.root.glob(f"{THUMBS}/*/*/*.webp")) <= 20_000


@pytest.mark.parametrize("shared", [False, True])
async def test_the_thumbnails_go_with_the_last_file_of_their_content(scripted, stored, storage, shared):
    thumbnails, _ = scripted()
    source = stored(b"one")
    content = storage.root / content_path(OURS, source.checksum)
    content.parent.mkdir(parents=True)
    os.link(storage.root / source.storage_path, content)
    if shared:
        os.link(content, storage.root / "2026/other.png")
    for width in (320, 960):
        await thumbnails.of(source, width)
    await storage.remove([Removal(source.storage_path, OURS, source.checksum)])
    assert len(list(storage.root.glob(f"{THUMBS}/*/*/*.webp"))) == (2 if shared else 0)
    assert content.exists() == shared


async def test_closing_ends_what_is_being_made(storage, stored):
    gate = asyncio.Event()
    thumbnails = Thumbnails(storage, 1 << 20, Scripted(gate))
    asked = asyncio.create_task(thumbnails.of(stored(b"one"), 320))
    await asyncio.sleep(0.1)
    await thumbnails.close()
    with pytest.raises(asyncio.CancelledError):
        await asked

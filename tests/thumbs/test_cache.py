"""The cache of thumbnails: what is read back, what is made again, and which files go when there are too many."""

import os
from uuid import UUID

import pytest

from server.storage.folder import StorageAway
from server.storage.paths import THUMBS, thumb_path
from server.thumbs.cache import Cache
from tests.storage.test_folder import files_below, open_storage, storage

__all__ = ["open_storage", "storage"]  # fixtures

OURS, THEIRS = UUID(int=1), UUID(int=2)
SIZE = 1000
HOUR = 3600


def webp(number=0, size=SIZE):
    body = b"WEBP" + bytes([number % 256]) * (size - 12)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def path_of(number, project=OURS):
    return thumb_path(project, f"{number:064x}", 320)


@pytest.fixture
def kept(storage):
    """kept(): the numbers of the thumbnails on disk."""

    def numbers():
        return sorted(int(path.stem.partition("-")[0], 16) for path in storage.root.glob(f"{THUMBS}/*/*/*.webp"))

    return numbers


@pytest.fixture(autouse=True)
def locks_end_at_once(storage, monkeypatch):
    """Not in a thread after tidy() has returned: the next tidy() of a test could find the lock held."""
    submit = storage.submit_anyway
    monkeypatch.setattr(storage, "submit_anyway", lambda call, *a: call(*a) if call is os.close else submit(call, *a))


async def fill(storage, cache, number, first=0):
    """Write thumbnails that were made an hour after each other, the first one longest ago."""
    for n in range(first, first + number):
        await cache.write(path_of(n), webp(n))
        os.utime(storage.root / path_of(n), (HOUR * n, HOUR * n))


async def test_a_thumbnail_is_read_back_by_every_worker_and_by_no_other_project(storage):
    one, other = Cache(storage, 1 << 20), Cache(storage, 1 << 20)
    assert await one.read(path_of(1)) is None
    await one.write(path_of(1), webp())
    assert await other.read(path_of(1)) == webp()
    assert await other.read(path_of(1, THEIRS)) is None
    assert path_of(1) == f".thumbs/{OURS}/00/{1:064x}-320.webp"
    await other.write(path_of(1), webp(7))
    assert await one.read(path_of(1)) == webp(7)
    assert not any(name.startswith(".staging") for name in files_below(storage.root))


@pytest.mark.parametrize("found", [b"", webp()[:-1], webp() + b"x", b"\0" * SIZE, b"<svg>", "folder", "link", "fifo"])
async def test_what_is_no_whole_thumbnail_is_made_again(storage, found):
    """A file may be cut after a power cut, since nothing is synced."""
    cache, path = Cache(storage, 1 << 20), storage.root / path_of(1)
    await cache.write(path_of(1), webp())
    path.unlink()
    if found == "folder":
        path.mkdir()
    elif found == "link":
        (storage.root / "secret").write_bytes(webp())
        path.symlink_to(storage.root / "secret")
    elif found == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(found)
    assert await cache.read(path_of(1)) is None
    if found != "folder":
        await cache.write(path_of(1), webp())
        assert await cache.read(path_of(1)) == webp()


async def test_the_oldest_go_until_a_tenth_is_free(storage, kept):
    cache = Cache(storage, 20 * SIZE)
    await fill(storage, cache, 20)
    await cache.tidy()
    assert kept() == list(range(20))
    await fill(storage, cache, 2, first=20)
    await cache.tidy()
    assert kept() == list(range(4, 22))
    await cache.tidy()
    assert kept() == list(range(4, 22))


async def test_of_files_of_one_hour_no_more_go_than_must(storage, kept, monkeypatch):
    monkeypatch.setattr("server.thumbs.cache._PORTION", 7)
    cache = Cache(storage, 20 * SIZE)
    for number in range(50):
        await cache.write(path_of(number), webp(number))
    await cache.tidy()
    assert len(kept()) == 18


async def test_two_workers_count_one_after_the_other_and_what_both_wrote(storage, kept):
    one, other = Cache(storage, 20 * SIZE), Cache(storage, 20 * SIZE)
    await fill(storage, one, 15)
    await fill(storage, other, 15, first=15)
    async with one._locked(True) as is_locked:
        assert is_locked
        await other.tidy()
        assert len(kept()) == 30
    await fill(storage, other, 2, first=30)
    assert other.has_grown
    await other.tidy()
    assert kept() == list(range(14, 32)) and not other.has_grown


async def test_a_worker_that_has_written_little_leaves_a_recent_count_alone(storage, kept):
    one, other = Cache(storage, 20 * SIZE), Cache(storage, 2 * SIZE)
    await fill(storage, one, 10)
    await one.tidy()
    assert one.has_grown is other.has_grown is False
    await other.tidy()
    assert len(kept()) == 10
    os.utime(storage.root / THUMBS / "counted", (1, 1))
    await other.tidy()
    assert len(kept()) == 1


async def test_other_files_are_neither_counted_nor_removed(storage, kept):
    cache = Cache(storage, 5 * SIZE)
    await fill(storage, cache, 3)
    outside = storage.root / "outside"
    outside.mkdir()
    (outside / "evidence").write_bytes(b"x" * 100 * SIZE)
    (storage.root / THUMBS / "link").symlink_to(outside)
    (storage.root / THUMBS / "evidence").symlink_to(outside / "evidence")
    await cache.tidy()
    assert kept() == [0, 1, 2] and (outside / "evidence").exists()


async def test_without_a_cache_there_is_nothing_to_do(storage):
    await Cache(storage, SIZE).tidy()
    assert not (storage.root / THUMBS).exists()


async def test_a_full_disk_keeps_nothing_and_says_nothing(storage):
    cache = Cache(storage, 1 << 20)
    storage.disk._min_free = 1 << 60
    await cache.write(path_of(1), webp())
    assert not (storage.root / THUMBS).exists() and not cache.has_grown


async def test_when_the_disk_is_full_the_older_half_makes_room_for_uploads(storage, kept):
    cache = Cache(storage, 20 * SIZE)
    await fill(storage, cache, 12)
    await cache.tidy()
    assert kept() == list(range(12))
    storage.disk._min_free, storage.disk._available = 1 << 60, 0
    os.utime(storage.root / THUMBS / "counted", (1, 1))
    await cache.tidy()
    assert kept() == list(range(8, 12))  # half, and a tenth of what is allowed


async def test_while_the_disk_is_not_mounted_nothing_is_written_into_its_mount_point(storage):
    cache = Cache(storage, 1 << 20)
    storage.root.rename(storage.root.with_name("away"))
    storage.root.mkdir()
    await cache.write(path_of(1), webp())
    assert list(storage.root.iterdir()) == [] and await cache.read(path_of(1)) is None
    storage.root.rmdir()
    storage.root.with_name("away").rename(storage.root)


async def test_a_storage_that_is_not_ours_is_not_read(storage):
    storage.is_ours = False
    with pytest.raises(StorageAway):
        await Cache(storage, 1 << 20).read(path_of(1))

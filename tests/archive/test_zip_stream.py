"""The zip that is written while it is sent, as other programs read it."""

import hashlib
import io
import shutil
import struct
import subprocess
import zipfile
from datetime import UTC, datetime

import pytest

from server.archive import zip_stream
from server.archive.zip_stream import MANIFEST, ZipStream

MOMENT = datetime(2026, 11, 30, 12, 0, 59, tzinfo=UTC)


def made(entries, notes=(), moment=MOMENT, most=1000):
    stream = ZipStream(moment)
    parts = []
    for name, content, compress in entries:
        parts.append(stream.begin(name, compress, len(content)))
        parts += [stream.take(content[start : start + 10_000]) for start in range(0, len(content), 10_000)]
        parts.append(stream.end())
        assert stream.digest == hashlib.sha256(content).hexdigest()
    for note in notes:
        stream.note(note)
    return b"".join([*parts, *stream.finish(most)])


ENTRIES = [("a.txt", b"hello " * 5000, True), ("b/ü.bin", bytes(range(256)) * 90, False), ("empty", b"", True)]


def test_python_reads_every_entry_and_its_time():
    data = made(ENTRIES)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*(name for name, _, _ in ENTRIES), MANIFEST]
        assert [archive.read(name) for name, _, _ in ENTRIES] == [content for _, content, _ in ENTRIES]
        assert archive.getinfo("a.txt").compress_size < 1000
        assert archive.getinfo("a.txt").date_time == (2026, 11, 30, 12, 0, 58)


def test_the_manifest_has_the_hash_of_every_entry_and_comments():
    with zipfile.ZipFile(io.BytesIO(made(ENTRIES, ["missing: files/x.png"]))) as archive:
        *lines, note = archive.read(MANIFEST).decode().splitlines()
    assert lines == [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content, _ in ENTRIES]
    assert note == "# missing: files/x.png"


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_unzip_and_sha256sum_accept_it(tmp_path):
    (tmp_path / "x.zip").write_bytes(made(ENTRIES, ["missing: files/x.png"]))
    subprocess.run(["unzip", "-q", "x.zip"], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", MANIFEST], cwd=tmp_path, check=True)


@pytest.mark.parametrize("limit", [100, 20_000])
def test_numbers_that_are_too_large_for_the_old_format_are_in_zip64(monkeypatch, limit):
    """With a limit far below 4 GiB: what is above it must be written, and read, in the larger fields."""
    monkeypatch.setattr(zip_stream, "_FULL", limit)
    stream, parts = ZipStream(MOMENT), []
    for name, content, compress in ENTRIES:
        parts += [stream.begin(name, compress, len(content)), stream.take(content), stream.end()]
    data = b"".join([*parts, *stream.finish(1000)])
    assert b"PK\6\6" in data and b"PK\6\7" in data
    # Readers know only the real limit, so it is put back where the fields say "see zip64".
    at = data.rindex(b"PK\6\6")
    count, length, start = struct.unpack("<QQQ", data[at + 32 : at + 56])
    assert (count, start + length) == (4, at)
    directory = data[start : start + length]
    assert directory.count(b"PK\1\2") == 4
    large = [content for _, content, _ in ENTRIES if len(content) >= limit]
    assert all(struct.pack("<Q", len(content)) in directory for content in large)


def test_many_entries_are_counted_in_zip64():
    stream, parts = ZipStream(MOMENT), []
    for number in range(65_536):
        parts += [stream.begin(f"{number}", False), stream.end()]
    with zipfile.ZipFile(io.BytesIO(b"".join([*parts, *stream.finish(1 << 20)]))) as archive:
        assert len(archive.namelist()) == 65_537
        assert archive.read("65535") == b""


@pytest.mark.parametrize("year", [1970, 2200])
def test_years_that_zip_does_not_have_are_the_nearest(year):
    with zipfile.ZipFile(io.BytesIO(made(ENTRIES, moment=MOMENT.replace(year=year)))) as archive:
        assert archive.getinfo("empty").date_time[0] == min(max(year, 1980), 2107)

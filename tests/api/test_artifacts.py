"""Artifacts: single and batch uploads, refusals, deduplication, lists and deletion. Checks replies, files and rows."""

import asyncio
import errno
import hashlib
import json
import os
import re
import uuid
from contextlib import contextmanager
from functools import cache

import pytest
from aiohttp import FormData

from server.services import SERVICES
from server.uploads import refusals
from tests import makers
from tests.forms import CONTENT_TYPE, a_body, a_field, a_file, a_part, batch, metadata, post, single
from tests.makers import cut, flip_byte, png

MIB = 1 << 20
TYPES = "image/png, image/jpeg, image/gif, application/json, text/plain, text/html, application/pdf"
big_png = cache(makers.big_png)


def shot(seed: int = 0) -> bytes:
    return png(8, 8, seed)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def on_disk(storage, artifact):
    """The path of an artifact's file."""
    return storage / artifact["storage_path"].removeprefix("artifacts/")


def content_entries(storage) -> list[str]:
    return sorted(path.name for path in (storage / ".content").rglob("*") if path.is_file())


async def get(client, url, **query):
    async with client.get(url, params=query) as reply:
        return reply.status, await reply.json()


@pytest.fixture
def full_disk(monkeypatch):
    """with full_disk(): writing a file that contains FULL fails with ENOSPC."""
    write = os.writev

    def full(descriptor, views):
        if b"FULL" in b"".join(views):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, views)

    @contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", full)
            yield

    return context


# --- one file -----------------------------------------------------------------------------------------------


async def test_the_reply_to_a_single_upload_is_that_of_the_specification(client, case_url, storage, stored_files, rows):
    case, content = await case_url(), shot()
    sent = {
        "artifact_type": "screenshot",
        "step_number": 1,
        "iteration_number": 1,
        "artifact_category": "after",
        "description": "Nach dem Klick – “ok” 🙂",
    }
    captured = "2026-01-24T14:00:01.2509+02:00"
    status, got = await post(client, f"{case}/artifacts", single(content, "shot one.png", captured_at=captured, **sent))
    assert status == 201
    case_id = case.rpartition("/")[2]
    assert got == {
        **sent,
        "id": got["id"],
        "test_case_result_id": case_id,
        "step_result_id": None,
        "file_name": "shot one.png",
        "file_size": len(content),
        "mime_type": "image/png",
        "text_encoding": None,
        "checksum": sha256(content),
        "storage_path": got["storage_path"],
        "download_url": f"/api/v1/reports/artifacts/{got['id']}/download",
        "captured_at": "2026-01-24T12:00:01.250Z",
        "uploaded_at": got["uploaded_at"],
        "created_at": got["created_at"],
        "duplicate": False,
    }
    assert re.fullmatch(rf"artifacts/\d{{4}}/\d\d/\d\d/{case_id}/step_001_after\.png", got["storage_path"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", got["uploaded_at"])
    day = got["uploaded_at"][:10].replace("-", "/")
    assert got["storage_path"].startswith(f"artifacts/{day}/") or got["uploaded_at"][11:16] in {"00:00", "23:59"}
    assert uuid.UUID(got["id"]).version == 7
    assert on_disk(storage, got).read_bytes() == content
    assert stored_files() == [got["storage_path"].removeprefix("artifacts/")]
    (row,) = rows("SELECT * FROM test_artifacts")
    assert (str(row["id"]), row["storage_path"], row["file_size"]) == (got["id"], stored_files()[0], len(content))
    del got["duplicate"]
    assert await get(client, f"/api/v1/reports/artifacts/{got['id']}") == (200, got)
    assert (await get(client, f"{case}/artifacts"))[1] == {"total": 1, "page": 1, "per_page": 100, "items": [got]}


async def test_only_the_type_is_required_and_empty_fields_count_as_absent(client, case_url):
    case = await case_url()
    empty = ("step_number", "iteration_number", "artifact_category", "description", "captured_at", "checksum")
    _, bare = await post(client, f"{case}/artifacts", single(shot(1), "bare.png"))
    _, filled = await post(client, f"{case}/artifacts", single(shot(2), "filled.png", **dict.fromkeys(empty, "")))
    for got in (bare, filled):
        assert {key: got[key] for key in empty[:-1]} == {**dict.fromkeys(empty[:-1]), "iteration_number": 1}
        assert got["storage_path"].endswith(f"/{got['file_name']}")


async def test_unknown_form_fields_are_ignored(client, case_url):
    status, _ = await post(client, f"{await case_url()}/artifacts", single(shot(), whatever="1", file_index="7"))
    assert status == 201


async def test_a_description_that_looks_like_json_is_stored_as_text(client, case_url):
    case = await case_url()
    for description in ("null", "true", "1", "[]", " blanks ", "\r\n"):
        status, got = await post(
            client, f"{case}/artifacts", single(shot(), f"{description!r}.png", description=description)
        )
        assert (status, got["description"]) == (201, description)


async def test_an_image_of_8_mb_is_stored(client, case_url, storage):
    content = big_png()
    assert len(content) > 8_000_000
    status, got = await post(client, f"{await case_url()}/artifacts", single(content, checksum=sha256(content)))
    assert (status, got["file_size"], got["checksum"]) == (201, len(content), sha256(content))
    assert on_disk(storage, got).read_bytes() == content


async def test_a_chunked_upload_without_content_length_is_stored(client, case_url, storage):
    body = single(png(100, 100))

    async def chunks():
        for at in range(0, len(body), 997):
            yield body[at : at + 997]

    status, got = await post(client, f"{await case_url()}/artifacts", chunks())
    assert status == 201 and on_disk(storage, got).read_bytes() == png(100, 100)


# Wrong files as (content, name, declared type, further fields), each with its error text, code, and the status of a
# single upload.
CORRUPTED = ("File corrupted or unreadable", "file_corrupted", 422)


def not_allowed(found, missing="application/octet-stream", may_be_text=False):
    sentence = refusals.not_allowed(TYPES.split(", "), found, missing, may_be_text).sentence
    return sentence, "type_not_allowed", 415


TOO_LARGE = ("File size exceeds maximum allowed (1MB)", "file_too_large", 413)
MISMATCH = ("Checksum mismatch", "checksum_mismatch", 422)
GARBAGE = b"\x80\x00\xfe" * 1000
WRONG_FILES = {
    "too large": ((b"x" * (MIB + 1), "a.txt", "text/plain"), TOO_LARGE),
    "zip": (
        (b"PK\x03\x04" + b"\0" * 100, "a.zip", "application/zip"),
        not_allowed("application/zip", "application/zip"),
    ),
    "webp named png": ((makers.webp(), "a.png", "image/png"), not_allowed("image/webp", "image/webp")),
    "garbage": (
        (GARBAGE, "a.bin", "application/octet-stream"),
        not_allowed("no known format, and no text: byte 0 (0x80) is not UTF-8", may_be_text=True),
    ),
    "core dump named log": ((b"\x7fELF\2\1\1\0", "a.log", "text/plain"), not_allowed("an ELF program or core dump")),
    "garbage named png": ((GARBAGE, "a.png", "application/octet-stream"), CORRUPTED),
    "garbage declared png": ((GARBAGE, "a", "image/png"), CORRUPTED),
    "cut png": ((cut(png(40, 40), 20), "a.png", "image/png"), CORRUPTED),
    "png with a flipped byte": ((flip_byte(png(40, 40), 2000), "a.png", "image/png"), CORRUPTED),
    "cut jpeg": ((cut(makers.jpeg(), 2), "a.jpg", "image/jpeg"), CORRUPTED),
    "cut jpeg named text": ((cut(makers.jpeg(), 2), "a.txt", "text/plain"), CORRUPTED),
    "cut gif": ((cut(makers.gif(), 3), "a.gif", "image/gif"), CORRUPTED),
    "cut pdf": ((cut(makers.pdf(), 20), "a.pdf", "application/pdf"), CORRUPTED),
    "empty": ((b"", "a.png", "image/png"), ("File is empty", "file_empty", 422)),
    "other checksum": ((shot(1), "a.png", "image/png", {"checksum": "0" * 64}), MISMATCH),
}


def wrong_file(content, name, declared, fields=None):
    return content, name, declared, fields or {}


@pytest.fixture
async def small(start):
    """A client of a server that accepts files of at most 1 MiB, and at most 20 per batch."""
    return await start(artifacts={"max_file_size": MIB, "batch_max_files": 20})


async def test_a_single_upload_of_a_wrong_file_is_refused(small, case_url, stored_files, storage, rows):
    case = await case_url()
    for what, (sent, (text, code, expected)) in WRONG_FILES.items():
        content, name, declared, fields = wrong_file(*sent)
        status, got = await post(small, f"{case}/artifacts", single(content, name, declared, **fields))
        assert (status, got["detail"], got["code"]) == (expected, text, code), what
        assert set(got) - {"errors"} == {"detail", "code", "request_id"}, what
        assert ("errors" in got) == (expected == 422), what
    assert stored_files() == content_entries(storage) == rows("SELECT FROM test_artifacts") == []


async def test_wrong_files_in_a_batch_do_not_affect_the_others(small, case_url, stored_files, storage, rows):
    case, parts, entries, expected = await case_url(), [], [], []
    for index, (sent, (text, code, _)) in enumerate(WRONG_FILES.values()):
        content, name, declared, fields = wrong_file(*sent)
        parts.append(a_file(content, name, "files", declared))
        entries.append({"file_index": index, "artifact_type": "other", **fields})
        expected.append({"file_index": index, "known_index": None, "file_name": name, "error": text, "code": code})
    good = {"first.png": len(parts), "last.png": len(parts) + 1}
    parts += [a_file(shot(index), name, "files") for name, index in good.items()]
    entries += [{"file_index": index, "artifact_type": "screenshot"} for index in good.values()]
    status, got = await post(small, f"{case}/artifacts/batch", a_body(metadata(*entries), *parts))
    assert status == 207 and set(got) == {"message", "artifacts", "failed"}
    assert got["message"] == f"Uploaded 2 of {len(WRONG_FILES) + 2} artifacts"
    assert got["failed"] == expected
    assert {item["file_name"]: item["file_index"] for item in got["artifacts"]} == good
    assert len(stored_files()) == len(content_entries(storage)) == len(rows("SELECT FROM test_artifacts")) == 2
    for item in got["artifacts"]:
        assert on_disk(storage, item).read_bytes() == shot(item["file_index"])


async def test_a_file_of_the_maximum_size_is_accepted(small, case_url):
    case = await case_url()
    status, got = await post(small, f"{case}/artifacts", single(b"x" * MIB, "a.txt", "text/plain"))
    assert (status, got["file_size"]) == (201, MIB)


async def test_only_the_configured_types_are_allowed(start, case_url):
    webp, case = await start(artifacts={"allowed_types": ["image/webp", "video/webm"]}), await case_url()
    status, got = await post(webp, f"{case}/artifacts", single(makers.webp(), "a.png"))
    assert (status, got["mime_type"]) == (201, "image/webp")
    status, got = await post(webp, f"{case}/artifacts", single(shot()))
    assert status == 415
    assert got["detail"].startswith("File type not allowed. Allowed types: image/webp, video/webm. Found: image/png. ")
    assert '"image/png" in [artifacts] allowed_types' in got["detail"]


async def test_a_site_may_allow_videos_traces_and_every_other_file(start, case_url, storage):
    files = [
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "a.mov", "video/quicktime", ".mov"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "app.log.gz", "application/gzip", ".gz"),
        (b"PK\3\4" + bytes(40), "trace.zip", "application/octet-stream", ".bin"),  # a known type that is not listed
        (GARBAGE, "core", "application/octet-stream", ".bin"),
        (b"<html>", "page.html", "application/octet-stream", ".bin"),
        (b"text", "a.txt", "text/plain", ".txt"),
    ]
    types = ["video/quicktime", "application/gzip", "text/plain", "application/octet-stream"]
    site, case = await start(artifacts={"allowed_types": types}), await case_url()
    for content, name, mime_type, extension in files:
        status, got = await post(site, f"{case}/artifacts", single(content, name, "application/x-any"))
        assert (status, got["mime_type"]) == (201, mime_type), got
        assert got["text_encoding"] == ("utf-8" if mime_type == "text/plain" else None)
        assert got["storage_path"].endswith(extension) and on_disk(storage, got).read_bytes() == content
        download = await site.get(got["download_url"])
        assert (await download.read(), download.content_type) == (content, mime_type)
    for content, name in ((GARBAGE, "a.png"), (cut(makers.jpeg(), 2), "a"), (cut(makers.pdf(), 20), "a.pdf")):
        status, got = await post(site, f"{case}/artifacts", single(content, name, "application/octet-stream"))
        assert (status, got["code"]) == (422, "file_corrupted")


TEXTS = [
    # content, name, declared type, artifact type, then MIME type and encoding
    (b"one\0 NUL", "a.log", "text/plain", "log", "text/plain", "utf-8"),
    ("Gr\xf6\xdfe".encode("cp1252"), "app.log.1", "application/octet-stream", "other", "text/plain", "unknown"),
    ("Größe\r\n".encode("utf-16"), "console.txt", "text/plain", "log", "text/plain", "utf-16le"),
    ("plain text".encode("utf-16-be"), "output", "application/octet-stream", "log", "text/plain", "utf-16be"),
    (b'{"log": "\xff"}', "trace.har", "application/json", "har", "application/json", "unknown"),
    ('{"log": "ö"}'.encode("utf-16"), "trace.har", "application/json", "har", "application/json", "utf-16le"),
    (b"\xffblob", "blob", "application/octet-stream", "har", "text/plain", "unknown"),
    ("<html>Größe".encode("latin-1"), "report.html", "text/html", "other", "text/html", "unknown"),
    (b"plain", "blob", "application/octet-stream", "other", "text/plain", "utf-8"),
]


@pytest.mark.parametrize(("content", "name", "declared", "artifact_type", "mime_type", "encoding"), TEXTS)
async def test_text_in_any_encoding_is_kept_and_named(
    client, case_url, content, name, declared, artifact_type, mime_type, encoding
):
    case = await case_url()
    for path, body in (
        ("artifacts", single(content, name, declared, artifact_type=artifact_type)),
        ("artifacts/batch", None),
    ):
        if body is None:
            entry = {"file_index": 0, "artifact_type": artifact_type, "description": "in a batch"}
            body = a_body(a_file(content, name, "files", declared), metadata(entry))  # the metadata follows the file
        status, got = await post(client, f"{case}/{path}", body)
        got = got["artifacts"][0] if "artifacts" in got else got
        assert (status, got["mime_type"], got["text_encoding"]) == (201, mime_type, encoding), got
        assert got["duplicate"] == (path != "artifacts")
    read = await (await client.get(f"/api/v1/reports/artifacts/{got['id']}")).json()
    (listed,) = (await (await client.get(f"{case}/artifacts?shape=object")).json())["items"]
    assert read["text_encoding"] == listed["text_encoding"] == encoding
    download = await client.get(got["download_url"])
    assert await download.read() == content
    named = encoding != "unknown" and (mime_type.startswith("text/") or encoding == "utf-16le")
    assert download.headers["Content-Type"] == (f"{mime_type}; charset={encoding}" if named else mime_type)


async def test_binary_files_have_no_text_encoding_and_text_of_older_versions_is_utf_8(client, case_url, rows):
    case = await case_url()
    for content, name, encoding in ((shot(), "a.png", None), (b"text", "a.log", "utf-8"), (b"{}", "a.json", "utf-8")):
        _, got = await post(client, f"{case}/artifacts", single(content, name))
        assert got["text_encoding"] == encoding
        rows("UPDATE test_artifacts SET text_encoding = NULL WHERE id = %s", got["id"])
        _, again = await post(client, f"{case}/artifacts", single(content, name))
        read = await (await client.get(f"/api/v1/reports/artifacts/{got['id']}")).json()
        assert read["text_encoding"] == again["text_encoding"] == encoding and again["duplicate"]


async def test_the_type_is_detected_from_the_content(client, case_url, storage):
    case = await case_url()
    files = [
        (shot(), "a.txt", "text/plain", "image/png", ".png"),
        (makers.jpeg(thumbnail=True), "b.png", "image/png", "image/jpeg", ".jpg"),
        (makers.gif(), "c.jpg", "image/jpeg", "image/gif", ".gif"),
        (makers.pdf(), "d", "", "application/pdf", ".pdf"),
        (makers.text(), "e.png", "image/png", "text/plain", ".txt"),  # a wrong name is no reason to refuse a file
        (makers.html(), "f.txt", "text/plain", "text/html", ".html"),
        (makers.json(), "g.har", "application/octet-stream", "application/json", ".json"),
        (makers.json(), "h.log", "application/json; charset=utf-8", "application/json", ".json"),
        (makers.json(), "i.log", "text/plain", "text/plain", ".txt"),
        (shot() + b"trailing bytes are fine", "j.png", "image/png", "image/png", ".png"),
    ]
    entries = [{"file_index": index, "artifact_type": "other"} for index in range(len(files))]
    parts = [a_file(content, name, "files", declared) for content, name, declared, *_ in files]
    status, got = await post(client, f"{case}/artifacts/batch", a_body(metadata(*entries), *parts))
    assert (status, got["failed"]) == (201, [])
    for item, (content, name, _, mime_type, extension) in zip(got["artifacts"], files, strict=True):
        assert (item["file_name"], item["mime_type"]) == (name, mime_type)
        assert item["storage_path"].endswith(f"/{name.partition('.')[0]}{extension}")
        assert on_disk(storage, item).read_bytes() == content


async def test_a_checksum_must_be_64_hex_digits_in_any_case(client, case_url, stored_files):
    case, right = await case_url(), sha256(shot())
    for number, text in enumerate([right, right.upper()]):
        status, got = await post(client, f"{case}/artifacts", single(shot(), f"{number}.png", checksum=text))
        assert (status, got["checksum"]) == (201, right)
    for text in (right[:-1], right + "0", f"sha256-{right}", "g" * 64, right + "\n"):
        status, got = await post(client, f"{case}/artifacts", single(shot(), "x.png", checksum=text))
        assert status == 422, text
    assert len(stored_files()) == 2


WORDS = {"artifact_type": "screenshot, log, video, har, other", "artifact_category": "before, after, error, checkpoint"}
BAD_VALUES = [
    ("step_number", -1, "must be at least 0"),
    ("step_number", 2**31, "must be at most 2147483647"),
    ("step_number", 10**30, ""),
    ("step_number", "x", "must be an integer"),
    ("step_number", 1.5, "must be an integer"),
    ("iteration_number", 0, "must be at least 1"),
    ("iteration_number", 2**31, "must be at most 2147483647"),
    ("iteration_number", "one", "must be an integer"),
    ("artifact_category", "during", f"must be one of: {WORDS['artifact_category']}"),
    ("artifact_category", "After", f"must be one of: {WORDS['artifact_category']}"),
    ("artifact_type", "picture", f"must be one of: {WORDS['artifact_type']}"),
    ("artifact_type", None, "is required"),
    ("captured_at", "yesterday", "must be an ISO 8601 time"),
    ("captured_at", "2026-02-30T00:00:00Z", "must be an ISO 8601 time"),
    ("captured_at", "1769256001", "must be an ISO 8601 time"),
    ("captured_at", "1969-12-31T23:59:59Z", "must lie in the years"),
    ("captured_at", "0001-01-01T00:00:00+14:00", "must be an ISO 8601 time"),
    ("checksum", "abc", ""),
    ("checksum", "g" * 64, ""),
]


async def test_errors_name_the_wrong_values_of_a_single_upload(client, case_url, stored_files, rows):
    case = await case_url()
    for field, value, message in BAD_VALUES:
        fields = {field: "" if value is None else value}
        status, got = await post(client, f"{case}/artifacts", single(shot(), **fields))
        assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", field), (field, value)
        assert got["errors"][0]["message"].startswith(message), (field, value)
        assert got["detail"] == f"{field}: {got['errors'][0]['message']}"
    assert stored_files() == rows("SELECT FROM test_artifacts") == []


async def test_wrong_values_in_a_batch_are_named_and_refuse_only_their_file(client, case_url, stored_files):
    case = await case_url()
    bad = [*BAD_VALUES, ("step_number", True, "must be an integer"), ("step_number", "1", "must be an integer")]
    bad += [("description", [5], "must be a string"), ("artifact_type", [], "")]
    entries = [{"artifact_type": "screenshot", field: value} for field, value, _ in bad]
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in entries]
    files = [(shot(index), f"{index}.png") for index in range(len(bad) + 1)]
    body = batch(files, [*entries, {"artifact_type": "screenshot"}])
    status, got = await post(client, f"{case}/artifacts/batch", body)
    assert (status, len(got["artifacts"]), len(stored_files())) == (207, 1, 1)
    assert [failed["file_index"] for failed in got["failed"]] == list(range(len(bad)))
    for failed, (field, value, message) in zip(got["failed"], bad, strict=True):
        assert failed["error"].startswith(f"{field}: {message}"), (field, value, failed)
        assert failed["code"] == "invalid"


async def test_null_in_metadata_counts_as_absent(client, case_url):
    nulls = dict.fromkeys(
        ("step_number", "iteration_number", "artifact_category", "description", "captured_at", "checksum")
    )
    case = await case_url()
    status, got = await post(
        client, f"{case}/artifacts/batch", batch([(shot(), "a.png")], [{"artifact_type": "log", **nulls, "new": 1}])
    )
    assert status == 201 and got["artifacts"][0]["iteration_number"] == 1


async def test_a_field_that_is_not_utf8_is_refused(client, case_url, stored_files):
    body = a_body(a_field("artifact_type", "log"), a_field("description", b"a\x80"), a_file(shot()))
    status, got = await post(client, f"{await case_url()}/artifacts", body)
    assert (status, got["errors"]) == (422, [{"path": "description", "message": "must be UTF-8"}])
    assert stored_files() == []


async def test_fields_have_a_maximum_size(client, case_url, stored_files, rows):
    case = await case_url()
    fits = "x" * (64 << 10)
    status, got = await post(client, f"{case}/artifacts", single(shot(), description=fits))
    assert (status, got["description"]) == (201, fits)
    for size in ((64 << 10) + 1, MIB + 1):
        status, got = await post(client, f"{case}/artifacts", single(shot(1), description="x" * size))
        assert (status, got["code"]) == (413, "too_large")
    entry = {"artifact_type": "log", "description": "x" * (MIB - 1000)}
    status, got = await post(client, f"{case}/artifacts/batch", batch([(shot(2), "b.png")], [entry]))
    assert (status, len(got["artifacts"][0]["description"])) == (201, MIB - 1000)
    entry["description"] += "x" * 2000
    status, got = await post(client, f"{case}/artifacts/batch", batch([(shot(3), "c.png")], [entry]))
    assert (status, got["code"]) == (413, "too_large")
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 2


async def test_file_parts_with_other_names_are_refused(client, case_url, stored_files, rows):
    case, kind = await case_url(), a_field("artifact_type", "log")
    a_good_file = a_file(shot(2))
    for name in ("files", "files[]", "file[0]", "image", "description"):
        status, got = await post(client, f"{case}/artifacts", a_body(kind, a_file(shot(), name=name), a_good_file))
        assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", name)
    for name in ("image", "file[]", "file[0]", "Files", "files[a]", "files[0][0]", "files[0]x", "files0"):
        entry = metadata({"file_index": 0, "artifact_type": "log"})
        status, got = await post(
            client, f"{case}/artifacts/batch", a_body(entry, a_good_file, a_file(shot(), name=name))
        )
        assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", name)
    assert stored_files() == rows("SELECT FROM test_artifacts") == []


async def test_a_file_part_named_metadata_is_refused_in_a_single_upload(client, case_url):
    body = a_body(a_field("artifact_type", "log"), a_file(shot()), a_file(b"[]", "m.json", name="metadata"))
    assert (await post(client, f"{await case_url()}/artifacts", body))[0] == 422


async def test_missing_and_repeated_parts_are_refused(client, case_url, stored_files, rows):
    case, kind = await case_url(), a_field("artifact_type", "log")
    status, got = await post(client, f"{case}/artifacts", a_body(kind, a_file(shot(1)), a_file(shot(2))))
    assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", "file")
    status, got = await post(client, f"{case}/artifacts", a_body(kind))
    assert (status, got["detail"]) == (422, "file: is required")
    status, got = await post(client, f"{case}/artifacts/batch", a_body(metadata()))
    assert (status, got["detail"]) == (422, "files: is required")
    status, got = await post(client, f"{case}/artifacts", a_body(kind, kind, a_file(shot())))
    assert (status, got["detail"]) == (422, "artifact_type: is sent twice")
    assert stored_files() == rows("SELECT FROM test_artifacts") == []


async def test_a_file_part_needs_no_file_name(client, case_url):
    body = a_body(a_field("artifact_type", "log"), a_part(b"just text", 'Content-Disposition: form-data; name="file"'))
    status, got = await post(client, f"{await case_url()}/artifacts", body)
    assert (status, got["file_name"], got["mime_type"]) == (201, "unnamed", "text/plain")


# --- file names and storage paths ---------------------------------------------------------------------------


NAMES = [
    ("../../../etc/passwd", "passwd", "passwd"),
    ("C:\\shots\\y.png", "y.png", "y"),
    ('say "hi"; x=1.png', 'say "hi"; x=1.png', "say_hi_x_1"),
    ("größe ✓ 日本.png", "größe ✓ 日本.png", "gr_e_"),
    ("a\r\nSet-Cookie: x.png", "aSet-Cookie: x.png", "aSet-Cookie_x"),
    ("ü" * 4000 + ".png", "ü" * 251 + ".png", "_"),
    ("..", "unnamed", "unnamed"),
]


async def test_file_names_are_kept_but_cannot_leave_the_folder(client, case_url, stored_files):
    case, stored = await case_url(), []
    for sent, kept, stem in NAMES:
        status, got = await post(client, f"{case}/artifacts", single(shot(), sent))
        assert (status, got["file_name"]) == (201, kept)
        assert got["storage_path"].endswith(f"/{case.rpartition('/')[2]}/{stem}.png")
        stored.append(got["storage_path"].removeprefix("artifacts/"))
    assert stored_files() == sorted(stored)


async def test_a_taken_file_name_gets_a_number_and_later_a_part_of_the_id(client, case_url, storage):
    case = await case_url()
    sent = [
        (await post(client, f"{case}/artifacts", single(shot(seed), step_number=1, artifact_category="after")))[1]
        for seed in range(5)
    ]
    entries = [{"artifact_type": "screenshot", "step_number": 1, "artifact_category": "after"}] * 7
    body = batch([(shot(seed), "shot.png") for seed in range(5, 12)], entries)
    sent += (await post(client, f"{case}/artifacts/batch", body))[1]["artifacts"]
    names = [item["storage_path"].rpartition("/")[2] for item in sent]
    ends = [f"_{item['id'].replace('-', '')[-12:]}" for item in sent[9:]]
    assert names == [f"step_001_after{end}.png" for end in ("", *(f"_{n}" for n in range(2, 10)), *ends)]
    assert [on_disk(storage, item).read_bytes() for item in sent] == [shot(seed) for seed in range(12)]


async def test_a_file_without_a_row_is_never_overwritten(client, case_url, storage):
    case = await case_url()
    _, first = await post(client, f"{case}/artifacts", single(shot(1), step_number=1))
    orphan = on_disk(storage, first).with_name("step_002.png")
    orphan.write_bytes(b"left by a crash")
    status, got = await post(client, f"{case}/artifacts", single(shot(2), step_number=2))
    assert status == 201 and got["storage_path"].endswith("/step_002_2.png")
    assert orphan.read_bytes() == b"left by a crash" and on_disk(storage, got).read_bytes() == shot(2)


async def test_a_path_in_test_artifacts_or_removed_files_is_not_reused(client, case_url, storage, rows):
    case = await case_url()
    _, lost = await post(client, f"{case}/artifacts", single(shot(1), step_number=1))
    on_disk(storage, lost).unlink()
    removed = lost["storage_path"].removeprefix("artifacts/").replace("step_001", "step_002")
    project = rows("SELECT id FROM projects")[0]["id"]
    # A crash between the commit of a deletion and the unlink leaves such a row.
    rows("INSERT INTO removed_files (storage_path, project_id, checksum) VALUES (%s, %s, 'x')", removed, project)
    for step in (1, 2):
        status, got = await post(client, f"{case}/artifacts", single(shot(3), step_number=step))
        assert status == 201 and got["storage_path"].endswith(f"/step_00{step}_2.png")


async def test_each_iteration_after_the_first_has_its_own_folder(client, case_url, storage):
    case = await case_url()
    for iteration, folder in [(1, ""), (2, "iteration_002/"), (1000, "iteration_1000/")]:
        _, got = await post(client, f"{case}/artifacts", single(shot(), step_number=1, iteration_number=iteration))
        assert got["storage_path"].endswith(f"/{case.rpartition('/')[2]}/{folder}step_001.png")
        assert on_disk(storage, got).read_bytes() == shot()


# --- batches ------------------------------------------------------------------------------------------------


async def test_the_reply_to_a_batch_is_that_of_the_specification(client, case_url, storage, stored_files, rows):
    case = await case_url()
    files = [(shot(seed), f"step_{seed}.png") for seed in range(3)]
    # Entries refer to files by file_index: their own order does not matter.
    entries = [{"file_index": i, "artifact_type": "screenshot", "step_number": 10 + i} for i in (2, 0, 1)]
    body = a_body(metadata(*entries), *(a_file(content, name, "files") for content, name in files))
    status, got = await post(client, f"{case}/artifacts/batch", body)
    assert (status, got["message"], got["failed"]) == (201, "Successfully uploaded 3 artifacts", [])
    assert [(i["file_index"], i["step_number"], i["file_name"]) for i in got["artifacts"]] == [
        (0, 10, "step_0.png"),
        (1, 11, "step_1.png"),
        (2, 12, "step_2.png"),
    ]
    assert [item["id"] for item in got["artifacts"]] == sorted(item["id"] for item in got["artifacts"])
    for item, (content, _) in zip(got["artifacts"], files, strict=True):
        assert item["duplicate"] is False and on_disk(storage, item).read_bytes() == content
        _, shown = await get(client, f"/api/v1/reports/artifacts/{item['id']}")
        assert shown == {key: item[key] for key in item if key not in {"duplicate", "file_index", "known_index"}}
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 3


async def test_the_metadata_may_be_before_between_or_after_the_files(client, case_url):
    case = await case_url()
    files = [a_file(shot(seed), f"{seed}.png", "files") for seed in range(2)]
    entries = [{"file_index": i, "artifact_type": "screenshot", "step_number": i} for i in range(2)]
    as_field = metadata(*entries)
    as_file = a_file(json.dumps(entries).encode(), "x.json", "metadata", "application/json")  # curl -F metadata=@x.json
    orders = [
        (as_field, *files),
        (files[0], as_field, files[1]),
        (*files, as_field),
        (as_file, *files),
        (*files, as_file),
    ]
    for number, order in enumerate(orders):
        status, got = await post(client, f"{case}/artifacts/batch", a_body(*order))
        assert status == 201, number
        assert [(i["file_index"], i["file_name"], i["step_number"]) for i in got["artifacts"]] == [
            (0, "0.png", 0),
            (1, "1.png", 1),
        ]


async def test_the_fields_of_a_single_upload_may_be_before_or_after_the_file(client, case_url):
    case = await case_url()
    kind, step, file = a_field("artifact_type", "log"), a_field("step_number", "4"), a_file(shot())
    for number, order in enumerate([(file, kind, step), (kind, file, step), (step, kind, file)]):
        status, got = await post(client, f"{case}/artifacts", a_body(*order))
        assert (status, got["artifact_type"], got["step_number"], got["duplicate"]) == (201, "log", 4, number > 0)


async def test_names_sent_by_aiohttp_arrive_as_they_are(client, case_url):
    """A real form of aiohttp, which percent-encodes every name."""
    case = await case_url()
    for number, name in enumerate(("login failed.png", "100%.png", "100%25.png", "größe ✓.png", 'say "hi".png')):
        form = FormData({"artifact_type": "screenshot"})
        form.add_field("file", shot(number), filename=name, content_type="image/png")
        got = await (await client.post(f"{case}/artifacts", data=form)).json()
        assert got["file_name"] == name
    literal = single(shot(), "100%25.png")
    assert (await post(client, f"{case}/artifacts", literal, **{"User-Agent": "curl/8.5.0"}))[1][
        "file_name"
    ] == "100%25.png"


@pytest.mark.parametrize(
    "names", [["files", "files[]", "file", "files"], ["files[3]", "files[0]", "files[0]", "files[1234567890123]"]]
)
async def test_a_batch_accepts_file_parts_with_several_names(client, case_url, names):
    """The order sent decides, not the number in the name."""
    case = await case_url()
    entries = [{"file_index": i, "artifact_type": "screenshot", "step_number": i} for i in range(4)]
    parts = [a_file(shot(seed), f"{seed}.png", name) for seed, name in enumerate(names)]
    status, got = await post(client, f"{case}/artifacts/batch", a_body(*parts, metadata(*entries)))
    assert (status, [item["file_name"] for item in got["artifacts"]]) == (201, ["0.png", "1.png", "2.png", "3.png"])


BAD_METADATA = [b"{", b"{}", b"null", b'"x"', b"[1]", b"[[]]", b"[null]", b"[{}] x", b"\xff", b"[" * 200_000, b"[{},]"]


async def test_metadata_that_is_no_array_of_objects_is_refused(client, case_url, stored_files, rows):
    case = await case_url()
    for text in BAD_METADATA:
        body = a_body(a_file(shot(), name="files"), a_field("metadata", text))
        status, got = await post(client, f"{case}/artifacts/batch", body)
        assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", "metadata"), text[:10]
    assert stored_files() == rows("SELECT FROM test_artifacts") == []


async def test_descriptions_are_repaired_with_a_warning(client, case_url):
    entries = [
        {"artifact_type": "log"},
        {"artifact_type": "log", "description": "\ud800", "step_number": 2.0},
        {"artifact_type": "log", "description": "\ud800", "step_number": 2.5},
    ]
    case = await case_url()
    body = batch([(shot(i), f"{i}.png") for i in range(3)], entries)
    status, got = await post(client, f"{case}/artifacts/batch", body)
    assert (status, len(got["failed"])) == (207, 1)
    assert [(item["description"], item["step_number"]) for item in got["artifacts"]] == [(None, None), ("\ufffd", 2)]
    assert [each["path"] for each in got["warnings"]] == ["metadata[1].description"]
    status, got = await post(client, f"{case}/artifacts", single(shot(4), description="a\0b"))
    assert (status, got["description"], got["warnings"][0]["path"]) == (201, "a\ufffdb", "description")


async def test_missing_metadata_is_refused(client, case_url, stored_files):
    for parts in ([], [a_field("metadata", "")]):
        body = a_body(a_file(shot(), name="files"), *parts)
        status, got = await post(client, f"{await case_url()}/artifacts/batch", body)
        assert (status, got["code"], got["errors"][0]["path"]) == (422, "invalid", "metadata")
    assert stored_files() == []


async def test_files_and_metadata_entries_that_do_not_match_are_refused_one_by_one(
    client, case_url, stored_files, rows
):
    entries = [
        {"file_index": 1, "artifact_type": "log"},
        {"file_index": 1, "artifact_type": "har"},
        {"file_index": 7, "artifact_type": "log"},
        {"file_index": 0, "artifact_type": "log"},
        {"file_index": -1, "artifact_type": "log"},
        {"artifact_type": "log"},
        {"file_index": "0", "artifact_type": "log"},
        {"file_index": 2.5, "artifact_type": "log"},
        {"file_index": True, "artifact_type": "log"},
        {"file_index": 10**30, "artifact_type": "log"},
    ]
    files = [a_file(shot(seed), f"{seed}.png", "files") for seed in range(3)]
    case = await case_url()
    status, got = await post(client, f"{case}/artifacts/batch", a_body(metadata(*entries), *files))
    assert (status, got["message"]) == (207, "Uploaded 1 of 10 artifacts")
    assert [item["file_index"] for item in got["artifacts"]] == [0]
    found = [(f["file_index"], f["file_name"], f["error"], f["code"]) for f in got["failed"]]
    assert found[:4] == [
        (-1, None, "No file with this index", "no_file"),
        (1, "1.png", "More than one metadata entry for this file", "duplicate_metadata"),
        (2, "2.png", "No metadata for this file", "no_metadata"),
        (7, None, "No file with this index", "no_file"),
    ]
    assert len(found) == 9
    assert all(index is None and error.startswith("file_index: ") for index, _, error, _ in found[4:])
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1


async def test_a_batch_without_a_valid_file_gets_an_error_with_the_fields_of_a_batch(
    client, case_url, stored_files, rows
):
    entries = [{"file_index": 0, "artifact_type": "log"}, {"artifact_type": "log"}]
    body = a_body(metadata(*entries), a_file(b"", "a.png", "files"), a_file(shot(), "b.png", "files"))
    status, got = await post(client, f"{await case_url()}/artifacts/batch", body)
    assert (status, got["code"]) == (422, "no_file_kept")
    assert got["detail"] and got["request_id"]
    assert (got["message"], got["artifacts"]) == ("Uploaded 0 of 3 artifacts", [])
    assert [(failed["file_index"], failed["error"]) for failed in got["failed"]] == [
        (0, "File is empty"),
        (1, "No metadata for this file"),
        (None, "file_index: is required"),
    ]
    assert stored_files() == rows("SELECT FROM test_artifacts") == []


async def test_the_error_of_an_entry_without_a_file_does_not_contain_none(client, case_url):
    body = a_body(metadata({"artifact_type": "log"}), a_file(shot(), name="files"))
    status, got = await post(client, f"{await case_url()}/artifacts/batch", body)
    assert (status, len(got["errors"])) == (422, 2)
    assert not any("None" in problem["path"] for problem in got["errors"])


async def test_a_full_disk_refuses_one_file_and_stores_the_others(client, case_url, full_disk, stored_files, rows):
    case = await case_url()
    files = [(shot(1), "1.png"), (b"FULL" * 100_000, "2.txt"), (shot(3), "3.png")]
    with full_disk():
        status, got = await post(client, f"{case}/artifacts/batch", batch(files))
        assert (status, got["message"]) == (207, "Uploaded 2 of 3 artifacts")
        full = {"file_name": "2.txt", "error": "Storage is full", "code": "storage_full"}
        assert got["failed"] == [{"file_index": 1, "known_index": None, **full}]
        assert [item["file_index"] for item in got["artifacts"]] == [0, 2]
        status, got = await post(client, f"{case}/artifacts", single(b"FULL", "2.txt", "text/plain"))
        assert (status, got["detail"], got["code"]) == (507, "Storage is full", "storage_full")
        status, got = await post(client, f"{case}/artifacts/batch", batch([(b"", "0.png"), (b"FULL", "2.txt")]))
        assert (status, got["detail"], got["code"]) == (507, "Storage is full", "storage_full")
        assert (got["message"], got["artifacts"]) == ("Uploaded 0 of 2 artifacts", [])
        assert [failed["code"] for failed in got["failed"]] == ["file_empty", "storage_full"]
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 2
    assert (await post(client, f"{case}/artifacts/batch", batch(files)))[0] == 201
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 3


async def test_a_disk_too_full_for_a_hard_link_fails_the_whole_batch(
    client, case_url, storage, stored_files, rows, monkeypatch
):
    case = await case_url()

    def full(source, target, link=os.link):
        if str(target).endswith("step_001.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        status, got = await post(client, f"{case}/artifacts/batch", batch([(shot(n), f"{n}.png") for n in range(3)]))
    assert (status, got["code"]) == (507, "storage_full")
    assert stored_files() == content_entries(storage) == rows("SELECT FROM test_artifacts") == []


async def test_a_failed_transaction_leaves_no_files(only_requests, client, case_url, storage, stored_files, rows):
    case = await case_url()
    rows("ALTER TABLE test_artifacts ADD CONSTRAINT none CHECK (step_number <> 1)")
    status, _ = await post(client, f"{case}/artifacts/batch", batch([(shot(n), f"{n}.png") for n in range(3)]))
    assert status == 500
    assert stored_files() == content_entries(storage) == rows("SELECT FROM test_artifacts") == []


async def test_a_batch_with_one_file_too_many_is_refused(client, case_url, stored_files, rows):
    case = await case_url()
    files = [(shot(seed), f"{seed}.png") for seed in range(50)]
    status, got = await post(client, f"{case}/artifacts/batch", batch([*files, (b"not even looked at", "x")]))
    assert (status, got["code"]) == (413, "too_large")
    assert got["detail"] == "Too many files (maximum 50 per batch)"
    assert stored_files() == rows("SELECT FROM test_artifacts") == []
    status, got = await post(client, f"{case}/artifacts/batch", batch(files))
    assert (status, got["message"]) == (201, "Successfully uploaded 50 artifacts")
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 50


async def test_an_oversized_file_is_drained_up_to_the_maximum_size_of_the_request(start, case_url, stored_files, rows):
    small, case = await start(artifacts={"max_file_size": MIB, "batch_max_files": 2}), await case_url()

    async def in_chunks(size):
        body = batch([(b"x" * size, "big.txt"), (shot(), "good.png")])
        for at in range(0, len(body), 1 << 16):
            yield body[at : at + (1 << 16)]

    status, got = await post(small, f"{case}/artifacts/batch", in_chunks(4 * MIB + 1000))
    assert (status, got["code"]) == (413, "too_large")
    assert stored_files() == rows("SELECT FROM test_artifacts") == []
    status, got = await post(small, f"{case}/artifacts/batch", in_chunks(4 * MIB - 2000))
    assert (status, [item["file_name"] for item in got["artifacts"]]) == (207, ["good.png"])
    assert got["failed"][0]["error"] == "File size exceeds maximum allowed (1MB)"
    assert len(stored_files()) == 1
    # A single upload holds no other file that could be stored, so an oversized file refuses the whole request.
    body = single(b"x" * (3 * MIB // 2), "big.txt")
    status, got = await post(small, f"{case}/artifacts", body)
    assert (status, got["code"]) == (413, "file_too_large")


# --- duplicates ---------------------------------------------------------------------------------------------


async def test_the_same_upload_sent_twice_is_one_artifact(client, case_url, stored_files, rows):
    case = await case_url()
    sent = {"step_number": 1, "artifact_category": "after", "description": "first"}
    _, first = await post(client, f"{case}/artifacts", single(shot(), **sent))
    for change in ({}, {"description": "second"}, {"captured_at": "2026-01-01"}, {"iteration_number": 1}):
        status, again = await post(client, f"{case}/artifacts", single(shot(), **{**sent, **change}))
        assert (status, again) == (201, {**first, "duplicate": True})
    status, again = await post(client, f"{case}/artifacts", single(shot(), "C:\\shots\\shot.png", "text/plain", **sent))
    assert again["id"] == first["id"]
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1


async def test_the_same_bytes_for_another_step_or_type_are_a_new_artifact_that_shares_the_inode(
    client, case_url, storage, rows
):
    case, other = await case_url(), await case_url()
    sent = {"step_number": 1, "artifact_category": "after"}
    _, first = await post(client, f"{case}/artifacts", single(shot(), **sent))
    changes = [
        {"artifact_category": "before"},
        {"artifact_category": ""},
        {"step_number": 2},
        {"step_number": ""},
        {"iteration_number": 2},
        {"artifact_type": "other"},
    ]
    inodes = {on_disk(storage, first).stat().st_ino}
    for change in changes:
        status, got = await post(client, f"{case}/artifacts", single(shot(), **{**sent, **change}))
        assert (status, got["duplicate"]) == (201, False), change
        inodes.add(on_disk(storage, got).stat().st_ino)
    for url, name in [(case, "other.png"), (other, "shot.png")]:
        _, got = await post(client, f"{url}/artifacts", single(shot(), name, **sent))
        assert got["duplicate"] is False
        inodes.add(on_disk(storage, got).stat().st_ino)
    assert len(rows("SELECT FROM test_artifacts")) == 9
    assert len(inodes) == 1  # the same bytes are stored once


async def test_the_same_bytes_in_two_projects_are_stored_twice(client, start, make_token, case_url, storage):
    theirs = await start(token=make_token(project="theirs"))
    run = await (await theirs.post("/api/v1/reports/suite-runs", json={"name": "x"})).json()
    url = f"/api/v1/reports/suite-runs/{run['id']}/test-cases"
    case = (await (await theirs.post(url, json={"name": "x"})).json())["id"]
    _, one = await post(client, f"{await case_url()}/artifacts", single(shot()))
    _, two = await post(theirs, f"/api/v1/reports/test-case-results/{case}/artifacts", single(shot()))
    assert on_disk(storage, one).stat().st_ino != on_disk(storage, two).stat().st_ino
    assert two["duplicate"] is False and on_disk(storage, two).read_bytes() == shot()


async def test_a_duplicate_within_one_batch_is_one_artifact(client, case_url, stored_files, rows):
    case = await case_url()
    files = [(shot(1), "a.png"), (shot(2), "b.png"), (shot(1), "a.png")]
    entries = [{"artifact_type": "screenshot", "description": f"{number}"} for number in range(3)]
    status, got = await post(client, f"{case}/artifacts/batch", batch(files, entries))
    assert (status, got["message"]) == (201, "Successfully uploaded 3 artifacts")
    first, _, again = got["artifacts"]
    assert [item["duplicate"] for item in got["artifacts"]] == [False, False, True]
    assert [item["file_index"] for item in got["artifacts"]] == [0, 1, 2]
    assert again == {**first, "duplicate": True, "file_index": 2}
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 2


async def test_of_duplicates_within_one_batch_the_first_is_stored(client, case_url):
    entries = [{"artifact_type": "screenshot", "description": text} for text in ("first", "second")]
    body = batch([(shot(1), "a.png"), (shot(1), "a.png")], entries)
    _, got = await post(client, f"{await case_url()}/artifacts/batch", body)
    assert [item["description"] for item in got["artifacts"]] == ["first", "first"]


async def test_a_batch_may_mix_duplicates_and_new_files(client, case_url, stored_files, rows):
    case = await case_url()
    files = [(shot(seed), f"{seed}.png") for seed in range(4)]
    _, first = await post(client, f"{case}/artifacts/batch", batch(files[:2]))
    _, second = await post(client, f"{case}/artifacts/batch", batch(files))
    assert [item["duplicate"] for item in second["artifacts"]] == [True, True, False, False]
    assert [item["id"] for item in second["artifacts"][:2]] == [item["id"] for item in first["artifacts"]]
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 4


@pytest.mark.parametrize("url", ["artifacts", "artifacts/batch"])
async def test_a_missing_or_damaged_file_is_restored_by_uploading_it_again(
    client, case_url, storage, stored_files, url
):
    case = await case_url()
    body = single(shot(), step_number=1) if url == "artifacts" else batch([(shot(), "shot.png")])
    _, first = await post(client, f"{case}/{url}", body)
    first = first.get("artifacts", [first])[0]
    path = on_disk(storage, first)
    for damage in (
        path.unlink,
        lambda: path.write_bytes(b"cut"),
        lambda: path.write_bytes(flip_byte(shot(), 30)),
        lambda: (path.unlink(), path.parent.rmdir()),
    ):
        damage()
        status, again = await post(client, f"{case}/{url}", body)
        again = again.get("artifacts", [again])[0]
        assert (status, again["id"], again["duplicate"]) == (201, first["id"], True)
        assert stored_files() == [first["storage_path"].removeprefix("artifacts/")]
        assert await (await client.get(first["download_url"])).read() == shot()


@pytest.mark.parametrize("damaged", [b"cut", flip_byte(shot(), 30)])
async def test_a_damaged_file_is_not_shared_with_a_new_artifact(client, case_url, storage, damaged):
    case, other = await case_url(), await case_url()
    _, first = await post(client, f"{case}/artifacts", single(shot()))
    on_disk(storage, first).write_bytes(damaged)
    _, second = await post(client, f"{other}/artifacts", single(shot()))
    assert on_disk(storage, second).read_bytes() == shot()


async def test_five_concurrent_uploads_of_one_batch_store_it_once(client, case_url, stored_files, rows):
    case = await case_url()
    body = batch([(shot(seed), f"{seed}.png") for seed in range(6)])
    replies = await asyncio.gather(*(post(client, f"{case}/artifacts/batch", body) for _ in range(5)))
    assert [status for status, _ in replies] == [201] * 5
    ids = {tuple(item["id"] for item in got["artifacts"]) for _, got in replies}
    assert len(ids) == 1
    flags = sorted(tuple(item["duplicate"] for item in got["artifacts"]) for _, got in replies)
    assert flags == [(False,) * 6] + [(True,) * 6] * 4
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 6


async def test_concurrent_uploads_for_one_step_get_different_paths(client, case_url, storage, stored_files):
    case = await case_url()
    bodies = [single(shot(seed), step_number=1) for seed in range(15)]
    replies = await asyncio.gather(*(post(client, f"{case}/artifacts", body) for body in bodies))
    assert [status for status, _ in replies] == [201] * 15
    assert len(stored_files()) == len({got["storage_path"] for _, got in replies}) == 15
    for seed, (_, got) in enumerate(replies):
        assert on_disk(storage, got).read_bytes() == shot(seed)


# --- reading ------------------------------------------------------------------------------------------------


async def send_five(client, case) -> list[str]:
    """Upload five artifacts. Returns their names in the order of a list."""
    for seed, (name, fields) in enumerate(
        [
            ("e.png", {"iteration_number": 2, "step_number": 0}),
            ("d.png", {"step_number": 2, "artifact_category": "error", "artifact_type": "other"}),
            ("a.png", {}),
            ("b.png", {"step_number": 1, "artifact_category": "before"}),
            ("c.png", {"step_number": 1, "artifact_category": "after"}),
        ]
    ):
        assert (await post(client, f"{case}/artifacts", single(shot(seed), name, **fields)))[0] == 201
    return ["a.png", "b.png", "c.png", "d.png", "e.png"]


async def test_lists_are_ordered_filtered_and_paged(client, case_url):
    case = await case_url()
    everything = await send_five(client, case)
    await post(client, f"{await case_url()}/artifacts", single(shot(), "elsewhere.png"))

    async def listed(**query):
        status, page = await get(client, f"{case}/artifacts", **query)
        assert status == 200 and set(page) == {"total", "page", "per_page", "items"}
        return page["total"], page["page"], page["per_page"], "".join(item["file_name"][0] for item in page["items"])

    assert await listed() == (5, 1, 100, "abcde")
    assert await listed(page=2, per_page=2) == (5, 2, 2, "cd")
    assert await listed(page=9, per_page=2) == (5, 9, 2, "")
    assert await listed(per_page=100_000) == (5, 1, 500, "abcde")
    assert await listed(step_number=1) == (2, 1, 100, "bc")
    assert await listed(step_number=0) == (1, 1, 100, "e")
    assert await listed(step_number=1, artifact_category="after") == (1, 1, 100, "c")
    assert await listed(artifact_type="other") == (1, 1, 100, "d")
    assert await listed(iteration_number=1, artifact_type="screenshot") == (3, 1, 100, "abc")
    assert await listed(artifact_type="video") == (0, 1, 100, "")
    assert len(everything) == 5
    for query in (
        {"page": 0},
        {"per_page": 0},
        {"artifact_type": "x"},
        {"step_number": -1},
        {"artifact_category": "x"},
    ):
        assert (await get(client, f"{case}/artifacts", **query))[0] == 422, query


async def test_lists_can_have_the_array_form(client, case_url, start, make_token):
    case = await case_url()
    await send_five(client, case)
    reply = await client.get(f"{case}/artifacts?shape=array&artifact_type=screenshot")
    assert reply.headers["X-Total-Count"] == "4"
    assert [item["file_name"] for item in await reply.json()] == ["a.png", "b.png", "c.png", "e.png"]
    reply = await client.get(f"{case}/artifacts?shape=array&page=2&per_page=2")
    assert reply.headers["X-Total-Count"] == "5"
    assert [item["file_name"] for item in await reply.json()] == ["c.png", "d.png"]
    by_token = await start(token=make_token(shape="array"))
    assert isinstance((await get(by_token, f"{case}/artifacts"))[1], list)
    assert isinstance((await get(by_token, f"{case}/artifacts", shape="object"))[1], dict)
    elements = (await get(client, f"{case}/artifacts", shape="array"))[1]
    assert elements == (await get(client, f"{case}/artifacts"))[1]["items"]


async def test_deleting_removes_the_row_the_file_and_the_content_entry(client, case_url, storage, stored_files, rows):
    case = await case_url()
    _, one = await post(client, f"{case}/artifacts", single(shot(), "one.png"))
    _, two = await post(client, f"{case}/artifacts", single(shot(), "two.png"))
    _, three = await post(client, f"{case}/artifacts", single(shot(3), "three.png"))
    assert content_entries(storage) == sorted([sha256(shot()), sha256(shot(3))])
    url = "/api/v1/reports/artifacts/"

    async def delete(artifact):
        reply = await client.delete(url + artifact["id"])
        return reply.status, await reply.read()

    assert await delete(one) == (204, b"")
    assert not on_disk(storage, one).exists() and on_disk(storage, two).read_bytes() == shot()
    assert len(content_entries(storage)) == 2
    assert (await delete(two))[0] == 204
    assert content_entries(storage) == [sha256(shot(3))]
    assert stored_files() == [three["storage_path"].removeprefix("artifacts/")]
    assert [str(row["id"]) for row in rows("SELECT id FROM test_artifacts")] == [three["id"]]
    assert rows("SELECT FROM removed_files WHERE unlinked_at IS NULL") == []
    assert (await delete(two))[0] == 404
    for path in ("", "/download"):
        status, got = await get(client, url + two["id"] + path)
        assert (status, got["detail"], got["code"]) == (404, "Artifact not found", "artifact_not_found")
    on_disk(storage, three).unlink()  # a file that is already missing must not block the deletion
    assert (await delete(three))[0] == 204
    assert not on_disk(storage, three).parent.exists()
    _, again = await post(client, f"{case}/artifacts", single(shot(), "one.png"))
    assert again["duplicate"] is False and on_disk(storage, again).read_bytes() == shot()
    # The path is not reused at once: a stalled process that still has to unlink the old file would delete the new one.
    assert again["storage_path"] == one["storage_path"].replace(".png", "_2.png")


async def test_a_deletion_tries_once_more_what_failed(client, case_url, stored_files, rows, monkeypatch):
    sent = (await post(client, f"{await case_url()}/artifacts", single(shot())))[1]
    unlink, calls = os.unlink, []

    def failing(path, **options):
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", failing)
    assert (await client.delete(f"/api/v1/reports/artifacts/{sent['id']}")).status == 204
    assert stored_files() == [] and calls[0] == calls[1]
    assert rows("SELECT FROM removed_files WHERE unlinked_at IS NULL") == []


async def test_a_deletion_succeeds_when_the_unlink_fails_and_a_later_sweep_removes_the_file(
    client, case_url, stored_files, monkeypatch
):
    case = await case_url()
    sent = [(await post(client, f"{case}/artifacts", single(shot(n), step_number=n)))[1] for n in range(2)]
    url = "/api/v1/reports/artifacts/"

    def failing(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing)
        assert (await client.delete(url + sent[0]["id"])).status == 204
    assert (await client.get(url + sent[0]["id"])).status == 404
    assert len(stored_files()) == 2
    assert (await client.delete(url + sent[1]["id"])).status == 204  # removes only its own file
    assert len(stored_files()) == 1
    services = client.app[SERVICES]
    await services.removals.drain(services.pool)
    assert stored_files() == []


async def test_unknown_and_malformed_ids_are_a_404(client):
    for unknown in (str(uuid.uuid4()), "nonsense", uuid.uuid4().hex, "%00"):
        for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/download")]:
            reply = await client.request(method, f"/api/v1/reports/artifacts/{unknown}{path}")
            assert (reply.status, (await reply.json())["detail"]) == (404, "Artifact not found")
        for method, path in [("GET", ""), ("POST", ""), ("POST", "/batch")]:
            url = f"/api/v1/reports/test-case-results/{unknown}/artifacts{path}"
            body = None if method == "GET" else single(shot())
            reply = await client.request(method, url, data=body, headers={"Content-Type": CONTENT_TYPE})
            assert (reply.status, (await reply.json())["detail"]) == (404, "Test case result not found")


async def test_a_token_of_another_project_gets_404(client, case_url, start, make_token, stored_files, rows):
    case = await case_url()
    _, artifact = await post(client, f"{case}/artifacts", single(shot()))
    theirs, ours = await start(token=make_token(project="theirs")), await start(token=make_token(project="default"))
    url = f"/api/v1/reports/artifacts/{artifact['id']}"
    before = stored_files(), rows("SELECT * FROM test_artifacts")
    for body, path in [(single(shot(1)), "artifacts"), (batch([(shot(1), "a.png")]), "artifacts/batch")]:
        status, got = await post(theirs, f"{case}/{path}", body)
        assert (status, got["detail"]) == (404, "Test case result not found")
    assert (await get(theirs, f"{case}/artifacts"))[0] == 404
    for path in ("", "/download"):
        assert (await get(theirs, url + path))[0] == 404
    assert (await theirs.delete(url)).status == 404
    assert (stored_files(), rows("SELECT * FROM test_artifacts")) == before
    assert (await get(ours, url))[0] == 200 and (await ours.delete(url)).status == 204


# --- idempotency keys ---------------------------------------------------------------------------------------


async def with_key(client, url, body, key="k-1", content_type=CONTENT_TYPE):
    """Status, decoded reply, and the value of the Idempotent-Replayed header."""
    headers = {"Content-Type": content_type, "Idempotency-Key": key}
    async with client.post(url, data=body, headers=headers) as reply:
        return reply.status, await reply.json(), reply.headers.get("Idempotent-Replayed")


async def test_a_single_upload_with_a_key_is_replayed_and_not_stored_again(client, case_url, stored_files, rows):
    case = await case_url()
    status, first, replayed = await with_key(client, f"{case}/artifacts", single(shot(), step_number=1))
    assert (status, first["duplicate"], replayed) == (201, False, None)
    assert await with_key(client, f"{case}/artifacts", single(shot(), step_number=1)) == (201, first, "true")
    # The same fields and file with another multipart boundary are the same request.
    other = single(shot(), step_number=1).replace(CONTENT_TYPE.rpartition("=")[2].encode(), b"another")
    assert await with_key(client, f"{case}/artifacts", other, content_type="multipart/form-data; boundary=another") == (
        201,
        first,
        "true",
    )
    changed = [
        single(shot(2), step_number=1),
        single(shot(), step_number=2),
        single(shot(), "x.png", step_number=1),
        single(shot(), step_number=1, description="x"),
    ]
    for body in changed:
        status, got, _ = await with_key(client, f"{case}/artifacts", body)
        assert (status, got["code"]) == (422, "idempotency_key_reused")
    status, got, _ = await with_key(client, f"{await case_url()}/artifacts", single(shot(), step_number=1))
    assert (status, got["code"]) == (422, "idempotency_key_reused")
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1


async def test_a_batch_with_a_key_is_replayed_and_not_stored_again(client, case_url, stored_files, rows):
    case = await case_url()
    files = [(shot(1), "1.png"), (cut(shot(2), 5), "2.png")]
    status, first, replayed = await with_key(client, f"{case}/artifacts/batch", batch(files))
    assert (status, first["message"], replayed) == (207, "Uploaded 1 of 2 artifacts", None)
    assert await with_key(client, f"{case}/artifacts/batch", batch(files)) == (207, first, "true")
    status, got, _ = await with_key(client, f"{case}/artifacts/batch", batch([(shot(1), "1.png"), (shot(2), "2.png")]))
    assert (status, got["code"]) == (422, "idempotency_key_reused")
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1


async def test_after_a_refused_upload_its_key_can_be_used_again(client, case_url):
    case = await case_url()
    assert (await with_key(client, f"{case}/artifacts", single(cut(shot(), 5))))[0] == 422
    assert (await with_key(client, f"{case}/artifacts", single(shot())))[::2] == (201, None)
    assert (await with_key(client, f"{case}/artifacts/batch", batch([(b"", "1.png")]), "k-2"))[0] == 422
    assert (await with_key(client, f"{case}/artifacts/batch", batch([(shot(), "1.png")]), "k-2"))[::2] == (201, None)


async def test_a_batch_that_met_a_full_disk_can_be_retried_with_its_key(client, case_url, full_disk):
    case = await case_url()
    files = [(shot(1), "1.png"), (b"FULL", "2.txt")]
    with full_disk():
        assert (await with_key(client, f"{case}/artifacts/batch", batch(files)))[0] == 207
    status, got, replayed = await with_key(client, f"{case}/artifacts/batch", batch(files))
    assert (status, replayed) == (201, None)
    assert [item["duplicate"] for item in got["artifacts"]] == [True, False]


async def test_two_callers_may_use_the_same_key(client, start, case_url):
    case, other = await case_url(), await start()
    assert (await with_key(client, f"{case}/artifacts", single(shot(1))))[0] == 201
    assert (await with_key(other, f"{case}/artifacts", single(shot(2), "x.png")))[::2] == (201, None)


async def test_concurrent_uploads_with_one_key_are_stored_once(client, case_url, stored_files, rows):
    case = await case_url()
    body = batch([(shot(seed), f"{seed}.png") for seed in range(3)])
    replies = await asyncio.gather(*(with_key(client, f"{case}/artifacts/batch", body) for _ in range(6)))
    assert [status for status, *_ in replies] == [201] * 6
    assert len({json.dumps(got) for _, got, _ in replies}) == 1
    assert sorted(str(replayed) for *_, replayed in replies) == ["None"] + ["true"] * 5
    assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 3


async def test_malformed_keys_are_refused(client, case_url, stored_files):
    case = await case_url()
    for key in ("", "x" * 201, "ü", "a\tb"):
        for path, body in [("artifacts", single(shot())), ("artifacts/batch", batch([(shot(), "a.png")]))]:
            status, got, _ = await with_key(client, f"{case}/{path}", body, key)
            assert (status, got["code"]) == (422, "invalid_idempotency_key"), key
    assert stored_files() == []

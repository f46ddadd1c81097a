"""Playwright's reports that are cut, empty, damaged or hostile: small ones that are made by hand."""

import json
import random
import struct
import tracemalloc

import pytest
from reportd_client.formats import archive, playwright_events
from reportd_client.formats.archive import Archive
from reportd_client.formats.result import Unreadable

from tests.images import png
from tests.playwright_reports import (
    BEGIN,
    attach,
    attempt,
    blob,
    project,
    report,
    step,
    zipped,
)
from tests.test_junit import looked

# --- reports that are cut, empty, or of another format ---


def test_a_blob_that_is_cut(tmp_path):
    """The whole results, those that were open, and those that had not run."""
    events = [project("a", "b", "c"), BEGIN, *attempt("a"), *attempt("b", *step("1", "Click"))[:-1]]
    (tmp_path / "report.jsonl").write_bytes(blob(*events, whole=False) + b'{"method":"onTe')
    reports, results = looked(tmp_path)
    assert [(each.test["name"], each.test["status"], each.test.get("error_message")) for each in results] == [
        ("a", "Passed", None),
        ("b", "Pending", "The test did not finish"),
        ("c", "Pending", "Did not run"),
    ]
    assert "is cut" in reports.notes[0] and len(results[1].steps) == 1
    assert "1 lines cannot be read" in reports.notes[1]


@pytest.mark.parametrize(
    ("data", "words", "code"),
    [
        (b"", "is empty", 2),
        (blob(project(), BEGIN), "is empty: it has no test", 2),
        (blob(BEGIN) + b"no JSON\n", "1 lines cannot be read, and the others have no test", 3),
        (b"PK\x03\x04 and no more", "is cut or no zip", 3),
        (b'{"method": "onBlobReportMetadata"}\n', "is no blob report of Playwright: it has no list of tests", 3),
        (b"<testsuite/>", "is no blob report of Playwright", 3),
    ],
)
def test_blobs_that_have_no_test(tmp_path, send, data, words, code):
    (tmp_path / "r.jsonl").write_bytes(data)
    done = send(tmp_path / "r.jsonl", "--format", "playwright-blob")
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


def test_a_zip_that_is_cut(tmp_path):
    """Its whole results, with the files that are whole; the list of files is at the end of a zip."""
    titles = [f"test {number} {random.random()}" for number in range(300)]
    file = attach(name="x", contentType="image/png", path="resources/x.png")
    lost = attach(name="y", contentType="image/png", path="resources/y.png")
    events = [event for title in titles for event in attempt(title, file, lost)]
    path = zipped(tmp_path / "r.zip", blob(project(*titles), BEGIN, *events), **{"resources__x.png": png(1)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    reports, results = looked(path)
    passed = [result for result in results if result.test["status"] == "Passed"]
    assert 50 < len(passed) < 300 and len(results) == 300 and "is cut" in reports.notes[0]
    made = []
    for result in reports.results():
        for each in result.files if result.test["status"] == "Passed" else ():
            try:
                made.append(each.bytes_or_path())
            except Unreadable as error:
                made.append(str(error))
    assert made == [png(1), "No such file"] * len(passed)


def test_a_zip_that_is_cut_before_its_report(tmp_path):
    data = random.randbytes(50_000)
    path = zipped(tmp_path / "r.zip", blob(project("a"), BEGIN, *attempt("a")), resources__a=data)
    whole = path.read_bytes()
    for end in (10, 20_000, len(whole) - 1):
        path.write_bytes(whole[:end])
        reports, results = looked(path, format="playwright-blob")
        assert (len(results), bool(reports.unreadable)) == ((1, False) if end == len(whole) - 1 else (0, True))
    path.write_bytes(whole[:20_000])
    with Archive(path) as opened, pytest.raises(Unreadable, match="the zip is cut"):
        opened.unpack("resources/a")
    assert "is of no format that is known" in looked(path)[0].unreadable[0]
    zipped(path, b"{}")
    assert looked(tmp_path)[1] == [], "another zip in a folder is no report"


@pytest.mark.parametrize("size", [100, 40 << 20])
def test_a_zip_bomb_that_is_cut(tmp_path, size):
    path = zipped(tmp_path / "r.zip", blob(project("a"), BEGIN, *attempt("a")) + b" " * size + b"\n")
    path.write_bytes(path.read_bytes()[:-30])
    reports, _ = looked(path, format="playwright-blob")
    assert [("zip bomb" in text) for text in reports.unreadable] == [True] * (size > 1_000)


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        ("", "is empty", 2),
        (json.dumps(report()), "is empty: it has no test", 2),
        ("{}", "is no JSON report of Playwright: it needs `suites`", 3),
        ('{"config": {"rootDir": "', "is cut before", 3),
        ("<testsuite/>", "is no JSON", 3),
    ],
)
def test_json_without_a_test(tmp_path, send, text, words, code):
    (tmp_path / "r.json").write_text(text)
    done = send(tmp_path / "r.json", "--format", "playwright-json")
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


# --- hostile zips and lines ---


def test_files_of_a_blob_are_those_of_its_zip(tmp_path):
    names = ["resources/a.png", "../secret.png", "/etc/passwd", "resources/../resources/a.png", "report.jsonl\0", ""]
    events = [attach(name=str(at), contentType="image/png", path=name) for at, name in enumerate(names)]
    entries = {"resources__a.png": png(1), "resources__b": random.randbytes(2 << 20)}
    big = attach(name="big", contentType="application/zip", path="resources/b")
    zipped(tmp_path / "r.zip", blob(project("a"), BEGIN, *attempt("a", *events, big)), **entries)
    made = []
    reports, _ = looked(tmp_path)
    for result in reports.results():
        for file in result.files:
            try:
                made.append(file.bytes_or_path())
            except Unreadable as error:
                made.append(str(error))
        assert made[-1].read_bytes() == entries["resources__b"]
    assert made[:6] == [png(1)] + ["No such file"] * 5
    assert not made[-1].exists(), "a temporary file is removed"


def test_files_of_an_unpacked_blob_stay_in_its_folder(tmp_path):
    (tmp_path / "in/resources").mkdir(parents=True)
    (tmp_path / "in/resources/a.png").write_bytes(png(1))
    (tmp_path / "secret.png").write_bytes(png(2))
    (tmp_path / "in/resources/link.png").symlink_to("/etc/hostname")
    names = ["resources/a.png", "../secret.png", "resources/link.png"]
    events = [attach(name=str(at), contentType="image/png", path=name) for at, name in enumerate(names)]
    (tmp_path / "in/report.jsonl").write_bytes(blob(project("a"), BEGIN, *attempt("a", *events)))
    _, (result,) = looked(tmp_path / "in")
    assert [bool(file.refused) for file in result.files] == [False, True, True]


def test_zip_bombs(tmp_path):
    """A report that is packed too well, a file that is, too many names, and a size that lies."""
    bomb = blob(project("a"), BEGIN) + b" " * (20 << 20) + b"\n"
    zipped(tmp_path / "r.zip", bomb)
    assert "packed more than 200 times" in looked(tmp_path / "r.zip", format="playwright-blob")[0].unreadable[0]
    file = attach(name="x", contentType="image/png", path="resources/x.png")
    zipped(
        tmp_path / "r.zip",
        blob(project("a"), BEGIN, *attempt("a", file)),
        resources__x__png=b"",
        **{"resources/x.png": bytes(20 << 20)},
    )
    reports, _ = looked(tmp_path)
    for result in reports.results():
        with pytest.raises(Unreadable, match="packed more than 200 times"):
            result.files[0].bytes_or_path()


def test_more_than_may_be_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED", 1_000)
    with Archive(zipped(tmp_path / "r.zip", b"x" * 600, a=b"y" * 600)) as opened:
        for _ in range(2):
            assert opened.unpack("a") == b"y" * 600, "the same file counts once"
        with pytest.raises(Unreadable, match="has more than"):
            opened.unpack("report.jsonl")


def test_more_than_may_be_unpacked_of_a_zip_that_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED", 1_000)
    path = zipped(tmp_path / "r.zip", b"x" * 600, a=b"y" * 600)
    path.write_bytes(path.read_bytes()[:-5])
    with Archive(path) as opened:
        assert opened.unpack("a") == b"y" * 600
        with pytest.raises(Unreadable, match="too much"):
            opened.unpack("report.jsonl")


def test_a_list_of_files_that_is_too_long(tmp_path, monkeypatch):
    path = zipped(tmp_path / "r.zip", b"", **{f"f{at}": b"" for at in range(50)})
    assert 1_000 < archive._directory_size(path) < 5_000
    monkeypatch.setattr(archive, "MAX_DIRECTORY", 1_000)
    with pytest.raises(Unreadable, match="list of files"):
        Archive(path)


def test_a_list_of_files_as_large_archives_have_it(tmp_path):
    """Their sizes stand elsewhere, in 64 bits."""
    whole = zipped(tmp_path / "r.zip", b"x").read_bytes()
    at = whole.rindex(b"PK\x05\x06")
    size = struct.unpack_from("<I", whole, at + 12)[0]
    large = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, size, at - size) + struct.pack(
        "<IIQI", 0x07064B50, 0, at, 1
    )
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "r.zip").write_bytes(whole[:at] + large + end)
    assert archive._directory_size(tmp_path / "r.zip") == size
    with Archive(tmp_path / "r.zip") as opened:
        assert opened.unpack("report.jsonl") == b"x"


def test_a_damaged_file_of_a_zip_hurts_only_itself(tmp_path):
    file = attach(name="x", contentType="image/png", path="resources/x.png")
    path = zipped(tmp_path / "r.zip", blob(project("a"), BEGIN, *attempt("a", file)), **{"resources__x.png": png(1)})
    data = bytearray(path.read_bytes())
    data[data.index(b"resources/x.png") + 20] ^= 0xFF
    path.write_bytes(data)
    for result in looked(tmp_path)[0].results():
        with pytest.raises(Unreadable, match=r"damaged|cannot be read"):
            result.files[0].bytes_or_path()


def test_a_zip_with_a_password(tmp_path):
    path = zipped(tmp_path / "r.zip", blob(project("a"), BEGIN, *attempt("a")))
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + at] |= 1
    path.write_bytes(data)
    assert "cannot be read" in looked(path, format="playwright-blob")[0].unreadable[0]


def test_lines_that_are_too_long_or_too_deep_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(playwright_events, "MAX_LINE", 5_000)
    monkeypatch.setattr(playwright_events, "MAX_VALUES", 2_000)
    events = blob(project("a"), BEGIN, *attempt("a"))
    bad = b'{"x": "%s"}\n' % (b"x" * 20_000) + b"[" * 1_500 + b"\n" + b"[[],%s[]]\n" % (b"[]," * 1_000) + b"no JSON\n"
    (tmp_path / "report.jsonl").write_bytes(events + bad)
    reports, results = looked(tmp_path)
    assert len(results) == 1 and "4 lines cannot be read" in reports.notes[0]


def test_results_that_never_end_take_a_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(playwright_events, "MAX_OPEN", 200_000)
    monkeypatch.setattr(playwright_events, "MAX_RESULTS", 50)
    titles = [str(number) for number in range(100)]
    with (tmp_path / "report.jsonl").open("wb") as file:
        file.write(blob(project(*titles), BEGIN, whole=False))
        for title in titles:
            events = attempt(title, *(event for at in range(30) for event in step(str(at), "x" * 1_000)))[:-1]
            file.writelines(json.dumps(event).encode() + b"\n" for event in events)
            file.write(
                json.dumps({"method": "onStdIO", "params": {"resultId": f"{title} 0", "data": "y" * 100_000}}).encode()
                + b"\n"
            )
    tracemalloc.start()
    try:
        reports, results = looked(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(results) == 100 and most < 10 << 20
    assert any("are left out" in note for note in reports.notes) and any(
        "cannot be read" in note for note in reports.notes
    )

"""The spool survives its writers: torn records, full disks, files that change."""

import errno
import json
import os
import resource
import subprocess
import sys

import pytest
from reportd_client.spool import Follower, Spool, SpoolError, decode, encode
from reportd_client.system import System
from reportd_client.writer import Writer


@pytest.fixture
def spool(tmp_path):
    return Spool.create(tmp_path, {"url": None, "run": {"name": "nightly"}})


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def writer(spool, warnings):
    writer = Writer(spool, warnings.append)
    writer.reserve()
    yield writer
    writer.close()


def records(spool):
    return [found.record for found in Follower(spool.folder).poll()]


@pytest.mark.parametrize("value", ["x", "\ud83d", "a\nb\0", "é" * 1000, None, 1.5, [1, {"a": "b"}]])
def test_a_record_comes_back_as_it_was(value):
    assert decode(encode({"kind": "add", "value": value})[:-1]) == {"kind": "add", "value": value}


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, {(1, 2): 3}, b"x", {"a": {1, 2}}])
def test_values_that_json_does_not_have_become_text(value):
    assert decode(encode({"value": value})[:-1]) is not None


def test_a_value_whose_repr_raises_is_named():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert decode(encode({"value": Odd()})[:-1]) == {"value": "<Odd>"}


def test_a_deep_value_is_cut():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert decode(encode({"value": deep})[:-1]) is not None


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_line_is_no_record(cut):
    line = encode({"kind": "begin", "ref": "1", "test": {"name": "x"}})[:-1]
    assert decode(line[:-cut]) is None
    assert decode(line[:20] + b"!" + line[21:]) is None


def test_a_record_that_is_being_written_is_read_when_it_is_whole(spool, writer):
    follower = Follower(spool.folder)
    writer.append({"kind": "a"})
    (file,) = spool.folder.glob("w-*.jsonl")
    line = encode({"kind": "b"})
    with file.open("ab") as stream:
        stream.write(line[:10])
    assert [found.record for found in follower.poll()] == [{"kind": "a"}]
    assert follower.unfinished() == 1
    with file.open("ab") as stream:
        stream.write(line[10:])
    assert [found.record for found in follower.poll()] == [{"kind": "b"}]
    assert (follower.torn, follower.unfinished()) == (0, 0)


def test_records_behind_a_torn_one_are_read(spool, writer):
    writer.append({"kind": "a"})
    (file,) = spool.folder.glob("w-*.jsonl")
    with file.open("ab") as stream:
        stream.write(encode({"kind": "lost"})[:15] + b"\n" + encode({"kind": "b"}))
    follower = Follower(spool.folder)
    assert [found.record["kind"] for found in follower.poll()] == ["a", "b"]
    assert follower.torn == 1


def test_each_process_writes_its_own_file(spool, writer):
    writer.append({"kind": "parent"})
    child = os.fork()
    if child == 0:
        writer.append({"kind": "child"})
        os._exit(0)
    os.waitpid(child, 0)
    writer.append({"kind": "parent"})
    assert len(list(spool.folder.glob("w-*.jsonl"))) == 2
    assert sorted(record["kind"] for record in records(spool)) == ["child", "parent", "parent"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "run": {}}', '{"format": 1, "spool_id": "x"}', None])
def test_a_folder_that_is_no_spool_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(SpoolError, match=r"run\.json|another version"):
        Spool.open(tmp_path)


# --- files ---


def test_equal_bytes_are_stored_once(spool, writer):
    first, second = writer.store(b"png", True), writer.store(bytearray(b"png"), True)
    assert first == second == {"file": first["file"], "file_size": 3}
    assert [path.read_bytes() for path in spool.files.iterdir()] == [b"png"]


def test_a_small_file_is_copied(spool, writer, tmp_path):
    path = tmp_path / "shot.png"
    path.write_bytes(b"first")
    stored = writer.store(path, True)
    path.write_bytes(b"second")
    assert (spool.files / stored["file"]).read_bytes() == b"first"


def test_a_large_file_is_linked_and_outlives_its_name(spool, writer, tmp_path):
    path = tmp_path / "video.webm"
    path.write_bytes(bytes(2 << 20))
    stored = writer.store(str(path), True)
    assert (spool.files / stored["file"]).samefile(path) and stored["mtime_ns"] == path.stat().st_mtime_ns
    path.unlink()
    assert (spool.files / stored["file"]).stat().st_size == 2 << 20


def test_a_large_file_of_another_file_system_is_copied(spool, writer, tmp_path, monkeypatch):
    def other_device(*arguments):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(System, "link", other_device)
    path = tmp_path / "video.webm"
    path.write_bytes(bytes(2 << 20))
    stored = writer.store(path, True)
    assert not (spool.files / stored["file"]).samefile(path) and stored["file_size"] == 2 << 20


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "nul", "unreadable"])
def test_what_is_no_regular_file_is_refused(writer, tmp_path, kind):
    path = str(tmp_path / "x") if kind != "nul" else "a\0b"
    if kind == "folder":
        (tmp_path / "x").mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "unreadable":
        path = "/proc/self/mem"
    assert set(writer.store(path, True)) == {"refused"} or kind == "unreadable"


# --- a full disk ---


def full(code=errno.ENOSPC):
    def write(fd, data):
        raise OSError(code, os.strerror(code))

    return write


def test_on_a_full_disk_verdicts_get_the_reserve(spool, writer, warnings, monkeypatch):
    real, space = System.write, [True]

    def write(fd, data):
        if not (spool.folder / "reserve").exists() or space[0]:
            return real(fd, data)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(System, "write", write)
    assert writer.append({"kind": "add"})
    space[0] = False
    assert not writer.append({"kind": "add"})
    assert not (spool.folder / "reserve").exists()
    assert writer.append({"kind": "test"}, verdict=True)
    assert not writer.append({"kind": "add"})  # only verdicts from now on
    assert (writer.lost, len(warnings)) == (2, 1)
    assert "only the results of tests are kept" in warnings[0]
    assert [record["kind"] for record in records(spool)] == ["add", "test"]


def test_a_verdict_that_meets_the_full_disk_first_is_kept(spool, writer, monkeypatch):
    real, calls = System.write, []

    def write(fd, data):
        calls.append(data)
        return real(fd, data[:10]) if len(calls) == 1 else real(fd, data)  # the first record is torn

    monkeypatch.setattr(System, "write", write)
    assert writer.append({"kind": "test"}, verdict=True)
    follower = Follower(spool.folder)
    assert [found.record["kind"] for found in follower.poll()] == ["test"]
    assert follower.unfinished() == 1


def test_a_disk_that_stays_full_raises_nothing(writer, monkeypatch):
    monkeypatch.setattr(System, "write", full())
    assert not writer.append({"kind": "test"}, verdict=True)
    assert not writer.append({"kind": "test"}, verdict=True)
    assert "refused" in writer.store(b"png", True)
    assert writer.lost == 2


@pytest.mark.parametrize(("free", "kept"), [(300, "pv"), (150, "v"), (80, ""), (10, "")])
def test_the_fuller_the_disk_the_less_is_kept(writer, warnings, monkeypatch, free, kept):
    from collections import namedtuple

    usage = namedtuple("usage", "free")(free << 20)
    monkeypatch.setattr(System, "disk_usage", lambda path: usage)
    assert ("refused" not in writer.store(b"passed", important=False)) == ("p" in kept)
    assert ("refused" not in writer.store(b"failed", important=True)) == ("v" in kept)
    assert writer.append({"kind": "test"}, verdict=True)
    assert bool(writer.append({"kind": "add"})) == (free > 50)
    assert len(warnings) == (free < 200)


def test_a_process_that_may_not_write_more_keeps_its_verdicts(tmp_path):
    """RLIMIT_FSIZE is what a quota or a full disk is to a process. Its record file is full, another one is not."""
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, {resource.RLIM_INFINITY}))
import reportd_client as reportd
with reportd.run(sender="none", spool={str(tmp_path)!r}) as run:
    for i in range(20):
        with run.test(f"test {{i}}") as test:
            for _ in range(60):
                test.console("info", "x" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("only the results of tests are kept") == 1
    (folder,) = [path.parent for path in tmp_path.glob("*/run.json")]
    kinds = [json.dumps(record) for record in records(Spool.open(folder))]
    assert sum('"kind": "test"' in kind for kind in kinds) == 20

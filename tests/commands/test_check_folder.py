"""`reportd check --folder`: right on a local disk, and on a file system that breaks one promise."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.commands.check import folder, promises, trial
from server.commands.check.context import CheckFailed
from server.commands.check.trial import Calls

ALL = [promise.text for promise in (*promises.OF_ONE_MOUNT, *promises.OF_TWO_MOUNTS)]


@pytest.fixture
def mounts(tmp_path) -> tuple[Path, Path]:
    """The paths of one folder through two mounts."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").symlink_to("here")
    return tmp_path / "here", tmp_path / "there"


@pytest.fixture
def tried(mounts, capsys, monkeypatch) -> Callable[..., tuple[int, dict[str, dict[str, Any]]]]:
    """tried(link=…): the exit code and the results by promise, with these system calls instead of the real ones."""
    monkeypatch.setattr(trial, "SECONDS", 0.3)

    def run(other: Path | None = mounts[1], **calls: Callable[..., Any]) -> tuple[int, dict[str, dict[str, Any]]]:
        fake = type("Fake", (Calls,), {name: staticmethod(call) for name, call in calls.items()})
        code = folder.print_results(mounts[0], other, True, fake)
        *results, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert list(mounts[0].iterdir()) == []
        return code, {result["promise"]: result for result in results}

    return run


@pytest.mark.parametrize("number", [1, 2])
def test_a_local_disk_keeps_all_promises(command, mounts, number):
    options = ("--folder", str(mounts[0]), *(("--other", str(mounts[1])) if number == 2 else ()))
    code, out, err = command("check", *options)
    expected = ALL if number == 2 else ALL[: len(promises.OF_ONE_MOUNT)]
    *lines, last = out.splitlines()
    assert (code, err) == (0, "") and [line.split(":")[0] for line in lines] == [
        f"kept      {text}" for text in expected
    ]
    assert last == f"{mounts[0]} can be used. {len(lines)} of {len(lines)} promises are kept."
    code, out, _ = command("check", "--json", *options)
    *results, summary = map(json.loads, out.splitlines())
    assert code == 0 and {result["state"] for result in results} == {"kept"}
    assert summary == {"kept": len(expected), "broken": 0, "unusable": 0} and list(mounts[0].iterdir()) == []


def refuse(number: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def overwrite(source: str, path: str) -> None:
    Path(path).unlink(missing_ok=True)
    os.link(source, path)


def create(path: str, flags: int, mode: int = 0o777) -> int:
    return os.open(path, flags & ~os.O_EXCL, mode)


def short(path: str, flags: int, mode: int = 0o777) -> int:
    if len(Path(path).name) > 200:
        raise OSError(errno.ENAMETOOLONG, "File name too long")
    return os.open(path, flags, mode)


def only(kind: Callable[[int], bool]) -> Callable[[int], None]:
    """fsync() that fails for files or for folders."""

    def fsync(descriptor: int) -> None:
        if kind(os.fstat(descriptor).st_mode & 0o170000):
            raise OSError(errno.EINVAL, "Invalid argument")

    return fsync


def truncated(path: str) -> None:
    os.truncate(path, 0)
    Path(path).unlink()


def both_win(call: Callable[..., Any]) -> Callable[..., Any]:
    """Nobody is told that a name was there, when two sides race."""

    def raced(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except FileExistsError:
            if not threading.current_thread().name.startswith("ThreadPoolExecutor"):
                raise
            return os.open(os.devnull, os.O_WRONLY)

    return raced


def slow_clock(path: str) -> Any:
    found = os.lstat(path)
    return SimpleNamespace(st_ctime=found.st_ctime - 3600, st_nlink=found.st_nlink, st_size=found.st_size)


BROKEN = {
    "no links": ({"link": refuse(errno.EPERM)}, {ALL[0]: "broken", ALL[14]: "broken"}),
    "links overwrite": ({"link": overwrite}, {ALL[1]: "unusable", ALL[14]: "broken"}),
    "creates overwrite": ({"open": create}, {ALL[2]: "unusable", ALL[15]: "broken"}),
    "no rename": ({"replace": refuse(errno.EIO)}, {ALL[3]: "unusable"}),
    "a rename that does nothing": ({"replace": lambda source, path: None}, {ALL[3]: "unusable"}),
    "no fsync of files": ({"fsync": only(lambda mode: mode == 0o100000)}, {ALL[4]: "unusable"}),
    "no fsync of folders": ({"fsync": only(lambda mode: mode == 0o040000)}, {ALL[5]: "unusable"}),
    "removed bytes are gone": ({"unlink": truncated}, {ALL[6]: "broken", ALL[18]: "broken"}),
    "short names": ({"open": short}, {ALL[7]: "broken"}),
    "no space figures": ({"statvfs": lambda path: os.statvfs_result([0] * 10)}, {ALL[8]: "unusable"}),
    "no locks": ({"flock": refuse(errno.ENOLCK)}, {ALL[9]: "broken", ALL[16]: "broken"}),
    "locks that exclude nobody": ({"flock": lambda *_: None}, {ALL[9]: "broken", ALL[16]: "broken"}),
    "a clock of its own": ({"lstat": slow_clock}, {ALL[10]: "broken"}),
    "both win a race of links": ({"link": both_win(os.link)}, {ALL[14]: "broken"}),
    "both win a race of creates": ({"open": both_win(os.open)}, {ALL[15]: "broken"}),
}


@pytest.mark.parametrize(("calls", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_file_system_that_breaks_one_promise(tried, calls, expected):
    code, results = tried(**calls)
    assert {text: result["state"] for text, result in results.items() if result["state"] != "kept"} == expected
    assert code == (1 if "unusable" in expected.values() else 0)
    assert all(results[text]["found"] and results[text]["then"] for text in expected)


def through(mount: str, call: Callable[[Callable[[], os.stat_result], str], Any]) -> Callable[[str], Any]:
    """lstat() that `call` replaces for paths through this mount."""

    def lstat(path: str) -> Any:
        return call(lambda: os.lstat(path), path) if f"/{mount}/" in path else os.lstat(path)

    return lstat


def test_another_mount_that_shows_old_attributes(tried):
    cached: dict[str, os.stat_result] = {}

    def stale(real: Callable[[], os.stat_result], path: str) -> os.stat_result:
        return cached.setdefault(path, real()) if path not in cached else cached[path]

    code, results = tried(lstat=through("there", stale))
    assert code == 0
    assert {text: result["found"] for text, result in results.items() if result["state"] != "kept"} == {
        "so is the removal of a file": "it is still seen after 0.3 s",
        "so is a new size": "its old size is seen after 0.3 s",
    }


def test_another_mount_that_shows_files_late_is_measured(tried):
    looks: list[str] = []

    def late(real: Callable[[], os.stat_result], path: str) -> os.stat_result:
        looks.append(path)
        if looks.count(path) <= 3:
            raise FileNotFoundError(path)
        return real()

    code, results = tried(lstat=through("there", late))
    assert code == 0 and results[ALL[11]]["state"] == "kept" and results[ALL[11]]["found"].startswith("after ")


def test_a_lock_that_the_other_mount_does_not_see(tried, mounts):
    """As with FUSE: each mount has locks of its own."""
    names = {}

    def opened(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = os.open(path, flags, mode)
        names[descriptor] = path
        return descriptor

    def flock(descriptor: int, operation: int) -> None:
        if not names[descriptor].startswith(f"{mounts[1]}/"):
            Calls.flock(descriptor, operation)

    code, results = tried(open=opened, flock=flock)
    assert code == 0 and [text for text, result in results.items() if result["state"] != "kept"] == [ALL[16]]


def test_a_mount_that_loses_a_file_with_one_of_its_names(tried, mounts):
    """As SeaweedFS: it knows a file only by the name by which it has found it first."""
    lost: set[int] = set()

    def unlink(path: str) -> None:
        found = os.lstat(path)
        if found.st_nlink > 1:
            lost.add(found.st_ino)
        Path(path).unlink()

    def opened(path: str, flags: int, mode: int = 0o777) -> int:
        if path.startswith(f"{mounts[1]}/") and not flags & os.O_CREAT and os.lstat(path).st_ino in lost:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return os.open(path, flags, mode)

    code, results = tried(unlink=unlink, open=opened)
    assert code == 0 and [text for text, result in results.items() if result["state"] != "kept"] == [ALL[18]]
    assert results[ALL[18]]["found"] == "they are not found" and "hard_links = false" in results[ALL[18]]["then"]


def test_another_folder_is_not_the_second_mount(tried, tmp_path):
    (tmp_path / "another").mkdir()
    code, results = tried(tmp_path / "another")
    assert code == 1 and list(results)[-1] == ALL[11], "nothing more can be tried"
    assert results[ALL[11]]["found"] == "it is not the same folder: nothing is seen after 0.3 s"
    assert list((tmp_path / "another").iterdir()) == []


def test_a_result_says_what_reportd_does_without_it(mounts, capsys):
    fake = type(
        "Fake", (Calls,), {"flock": staticmethod(refuse(errno.ENOLCK)), "fsync": staticmethod(refuse(errno.EIO))}
    )
    assert folder.print_results(mounts[0], None, False, fake) == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("broken    a lock on a folder is held once (flock): No locks available")
    assert lines[at + 1].startswith("          Staged files of a process that was killed are removed after an hour")
    assert lines[-1] == f"{mounts[0]} cannot be used: 2 of 11 promises that reportd needs are broken."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folder", "missing"), "Cannot create a folder in {}/missing: No such file or directory."),
        (("--folder", "file"), "Cannot create a folder in {}/file: Not a directory."),
        (("--folder", "here", "--other", "missing"), "There is no folder missing."),
        (("--other", "here"), "name the folder itself with --folder."),
        (("--folder", "here", "--repair"), "use it without --repair and --verify-hashes."),
        (("--folder", "here", "--verify-hashes"), "use it without --repair and --verify-hashes."),
    ],
)
def test_a_folder_that_cannot_be_tried(command, mounts, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    code, out, err = command("check", *options)
    assert (code, out) == (2, "") and message.format(tmp_path) in err
    assert list(mounts[0].iterdir()) == []


def test_a_disk_that_stalls_does_not_hold_up_the_command(mounts, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(folder, "_ANSWER_SECONDS", 0.2)
    fake = type("Fake", (Calls,), {"fsync": staticmethod(lambda descriptor: over.wait(60))})
    try:
        with pytest.raises(CheckFailed, match=r"here does not answer within 0\.2 seconds"):
            folder.print_results(mounts[0], None, True, fake)
    finally:
        over.set()

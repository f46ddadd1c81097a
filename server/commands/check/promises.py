"""What reportd relies on in a file system, each as a small trial. Blocking."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB
from threading import Barrier, BrokenBarrierError

from server.commands.check.trial import CONTENT, SECONDS, Broken, Trial

_ROUNDS = 50
_SKEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Promise:
    """`test` returns what it has measured. Raises Broken, OSError. `without`: what reportd does about a broken promise.
    `is_needed`: without it, the folder cannot be used."""

    text: str
    test: Callable[[Trial], str | None]
    without: str
    is_needed: bool = True


def _link(trial: Trial) -> None:
    source, path = trial.write(trial.here + trial.name()), trial.here + trial.name()
    trial.calls.link(source, path)
    if trial.read(path) != CONTENT or trial.calls.lstat(source).st_nlink != 2:
        raise Broken("the second name has other bytes, or is not counted")


def _link_of_an_existing_name(trial: Trial) -> None:
    source, path = trial.write(trial.here + trial.name()), trial.write(trial.here + trial.name(), b"kept")
    try:
        trial.calls.link(source, path)
    except FileExistsError:
        pass
    except OSError:
        return  # no hard links at all: see _link
    else:
        raise Broken("no error")
    if trial.read(path) != b"kept":
        raise Broken("the file was overwritten")


def _exclusive_create(trial: Trial) -> None:
    path = trial.write(trial.here + trial.name())
    try:
        trial.write(path, b"")
    except FileExistsError:
        return
    raise Broken("no error")


def _replace(trial: Trial) -> None:
    old, new = trial.write(trial.here + trial.name(), b"old"), trial.write(trial.here + trial.name())
    trial.calls.replace(new, old)
    if trial.read(old) != CONTENT or trial.exists(new):
        raise Broken("the old file is still there, or the new one has two names")


def _sync_file(trial: Trial) -> None:
    _synced(trial, trial.write(trial.here + trial.name()), os.O_RDWR)


def _sync_folder(trial: Trial) -> None:
    _synced(trial, trial.here, os.O_RDONLY | os.O_DIRECTORY)


def _synced(trial: Trial, path: str, flags: int) -> None:
    descriptor = trial.calls.open(path, flags)
    try:
        trial.calls.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_while_open(trial: Trial) -> None:
    path = trial.write(trial.here + trial.name())
    descriptor = trial.calls.open(path, os.O_RDONLY)
    try:
        trial.calls.unlink(path)
        if os.read(descriptor, 2 * len(CONTENT)) != CONTENT:
            raise Broken("its bytes are gone")
    finally:
        os.close(descriptor)
    if trial.exists(path):
        raise Broken("the name is still there")


def _names(trial: Trial) -> None:
    for name in ("n" * 255, "Prüfung-検査.png"):
        trial.write(f"{trial.here}/{name}")
        if name not in os.listdir(trial.here):
            raise Broken(f"{name[:20]}… is listed with another name")


def _space(trial: Trial) -> str:
    found = trial.calls.statvfs(trial.here)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if not 0 < free <= size:
        raise Broken(f"{free} of {size} bytes are free")
    return f"{free >> 30} of {size >> 30} GiB are free"


def _lock(trial: Trial) -> None:
    _locked(trial, trial.here, trial.here)


def _lock_through_both(trial: Trial) -> None:
    _locked(trial, trial.here, trial.there)


def _locked(trial: Trial, here: str, there: str) -> None:
    descriptors = [trial.calls.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (here, there)]
    try:
        trial.calls.flock(descriptors[0], LOCK_EX | LOCK_NB)
        try:
            trial.calls.flock(descriptors[1], LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return
        raise Broken("both have it")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _clock(trial: Trial) -> str:
    skew = trial.calls.lstat(trial.write(trial.here + trial.name())).st_ctime - time.time()
    if abs(skew) > _SKEW_SECONDS:
        raise Broken(f"{skew:+.1f} s")
    return f"{skew:+.1f} s"


def _clock_of_both(trial: Trial) -> str:
    name = trial.name()
    here = trial.calls.lstat(trial.write(trial.here + name)).st_ctime
    there = trial.calls.lstat(trial.write(trial.there + trial.name())).st_ctime
    if abs(there - here) > _SKEW_SECONDS:
        raise Broken(f"{there - here:+.1f} s")
    return f"{there - here:+.1f} s"


def _seen(trial: Trial) -> str:
    name = trial.name()
    trial.write(trial.here + name)
    found = trial.until(lambda: trial.exists(trial.there + name), "it is not the same folder: nothing is seen")
    if trial.read(trial.there + name) != CONTENT:
        raise Broken("it has other bytes")
    return found


def _gone(trial: Trial) -> str:
    name = trial.name()
    trial.write(trial.here + name)
    trial.until(lambda: trial.exists(trial.there + name), "a new file is not seen")
    trial.calls.unlink(trial.here + name)
    return trial.until(lambda: not trial.exists(trial.there + name), "it is still seen")


def _other_names(trial: Trial) -> None:
    """SeaweedFS keeps for each mount only the first name by which it has found a file."""
    names = [trial.name() for _ in range(3)]
    trial.write(trial.here + names[0])
    for name in names[1:]:
        try:
            trial.calls.link(trial.here + names[0], trial.here + name)
        except OSError:
            return  # no hard links at all: see _link
    for name in names:
        trial.until(lambda: trial.exists(trial.there + name), "a new file is not seen")  # noqa: B023
        trial.read(trial.there + name)
    trial.calls.unlink(trial.here + names[0])
    try:
        trial.until(lambda: not trial.exists(trial.there + names[0]), "its removal is not seen")
    except Broken:
        return  # see _gone
    try:
        if {trial.read(trial.there + name) for name in names[1:]} != {CONTENT}:
            raise Broken("they have other bytes")
    except FileNotFoundError:
        raise Broken("they are not found") from None


def _size(trial: Trial) -> str:
    name = trial.name()
    trial.write(trial.here + name, b"x")
    trial.until(lambda: trial.exists(trial.there + name), "a new file is not seen")
    descriptor = trial.calls.open(trial.here + name, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, CONTENT)
    finally:
        os.close(descriptor)
    size = len(CONTENT) + 1
    return trial.until(lambda: bool(trial.calls.lstat(trial.there + name).st_size == size), "its old size is seen")


def _race_of_links(trial: Trial) -> str:
    sources = [trial.write(folder + trial.name()) for folder in (trial.here, trial.there)]
    return _race(trial, lambda side, path: trial.calls.link(sources[side], path))


def _race_of_creates(trial: Trial) -> str:
    return _race(trial, lambda side, path: trial.write(path, b""))


def _race(trial: Trial, create: Callable[[int, str], object]) -> str:
    """Both mounts create the same name at the same moment."""
    start, names = Barrier(2), [trial.name() for _ in range(_ROUNDS)]

    def won(side: int) -> list[bool]:
        outcomes = []
        for name in names:
            start.wait(SECONDS)
            try:
                create(side, (trial.there if side else trial.here) + name)
            except FileExistsError:
                outcomes.append(False)
            except OSError:
                start.abort()
                raise
            else:
                outcomes.append(True)
        return outcomes

    with ThreadPoolExecutor(2) as threads:
        sides = [threads.submit(won, side) for side in range(2)]
    for side in sides:
        if not isinstance(error := side.exception(), BrokenBarrierError | None):
            raise error
    here, there = (side.result() for side in sides)
    both = sum(map(all, zip(here, there, strict=True)))
    if both:
        raise Broken(f"both sides won {both} of {_ROUNDS} races")
    return f"{_ROUNDS} races"


_SPACE = "Each artifact has a copy of its own: equal files take their space several times."
_OVERWRITES = "Files of other artifacts could be overwritten."
_SYNC = 'Uploads fail, unless [artifacts] durability = "none": then a power cut loses files.'
_ENDS = "A download ends early when its artifact is deleted meanwhile."
_LOCK = "Staged files of a process that was killed are removed after an hour, not at once."
_ROWS = "Nothing is lost: names come from the database, under the lock of the test case."
_AGAIN = "reportd looks again after a second, before it says that a file is damaged."
_UNSHARED = "Set [artifacts] hard_links = false. Else files are 410 through a mount, after equal ones were deleted."
_LONGER = "For a while, a deleted file can still be read through the other mount."

OF_ONE_MOUNT = (
    Promise("a file may have two names (link)", _link, _SPACE, False),
    Promise("a link never overwrites", _link_of_an_existing_name, _OVERWRITES),
    Promise("a name is created once (O_EXCL)", _exclusive_create, _OVERWRITES),
    Promise("a rename replaces a file", _replace, "Damaged files could not be replaced."),
    Promise("a file can be synced (fsync)", _sync_file, _SYNC),
    Promise("a folder can be synced (fsync)", _sync_folder, _SYNC),
    Promise("an open file can be read after its removal", _unlink_while_open, _ENDS, False),
    Promise("names of 255 bytes, also outside ASCII", _names, "reportd's own names are shorter, in ASCII.", False),
    Promise("the free space is known", _space, "Uploads are refused, as on a full disk."),
    Promise("a lock on a folder is held once (flock)", _lock, _LOCK, False),
    Promise("its clock agrees with this machine's", _clock, "reportd measures ages by the folder's clock.", False),
)
OF_TWO_MOUNTS = (
    Promise("a new file is seen through the other mount", _seen, "The hosts cannot read each other's files."),
    Promise("so is the removal of a file", _gone, _LONGER, False),
    Promise("so is a new size", _size, _AGAIN, False),
    Promise("one of two links with one name wins", _race_of_links, _ROWS, False),
    Promise("one of two new files with one name wins", _race_of_creates, _ROWS, False),
    Promise("a lock is held once by both mounts", _lock_through_both, "Rows show which processes live.", False),
    Promise("both mounts have one clock", _clock_of_both, "Synchronise the clocks of the hosts (NTP).", False),
    Promise("a file keeps its other names when one is removed", _other_names, _UNSHARED, False),
)

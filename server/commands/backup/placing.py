"""Puts the files of a backup back into the storage folder. Never removes one. Blocking.

A file that is there with the right bytes stays. Within a project equal files share their disk space, as after an
upload. Projects never share.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from uuid import UUID, uuid4

from server.commands.backup.contents import Listed, copy, link, may_link
from server.storage.equal import is_equal
from server.storage.linked import entry_path
from server.storage.paths import content_path, leads_out
from server.storage.walk import sha256, stat_or_none

WORK = ".restoring"  # in the storage folder: unfinished files, and which backup is being restored
_PORTION = 1000
_THREADS = 4
_MOST_NAMED = 20


@dataclass(slots=True)
class Placed:
    """Counts of artifacts. `lost`: those whose content is missing or damaged in the backup."""

    kept: int = 0
    linked: int = 0
    copied: int = 0
    lost: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, other: "Placed") -> None:
        self.kept += other.kept
        self.linked += other.linked
        self.copied += other.copied
        self.lost += other.lost
        self.named += other.named[: _MOST_NAMED - len(self.named)]


class Placing:
    """Places files of the folder of contents `contents` below the storage folder `root`."""

    def __init__(self, contents: str, root: str) -> None:
        self._contents = contents
        self._root = root
        self._linkable = False

    def place(self, listed: Iterator[Listed]) -> Placed:
        """Place these artifacts, which are in the order of their checksums. Durable at the end. Raises OSError."""
        self._linkable = may_link(self._contents, self._root)
        placed = Placed()
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="restore")
        try:
            while portion := list(islice(listed, _PORTION)):
                groups = [list(group) for _, group in groupby(portion, key=attrgetter("checksum"))]
                for done in threads.map(self._place, groups):
                    placed.add(done)
        finally:
            threads.shutdown(cancel_futures=True)
        os.sync()  # the folders: there may be one for each file
        return placed

    def _place(self, group: list[Listed]) -> Placed:
        """Place artifacts that all have the same content."""
        done = Placed()
        entry = entry_path(self._contents, group[0].checksum)
        for project, files in groupby(group, key=attrgetter("project_id")):
            content = f"{self._root}/{content_path(UUID(project), group[0].checksum)}"
            is_placed = self._is_there(content, entry, group[0])  # also by the portion before
            source = content if is_placed else entry
            for file in files:
                target = f"{self._root}/{file.storage_path}"
                if leads_out(file.storage_path):  # reportd writes no such list
                    how = None
                elif self._is_there(target, entry, file):
                    how = "kept"
                else:
                    how = self._put(source, target, file, is_placed)
                if how is None:
                    done.lost += 1
                    done.named.append(file.storage_path)
                    continue
                setattr(done, how, getattr(done, how) + 1)
                source, is_placed = target, True
            if is_placed:
                _share(source, content)
        return done

    def _is_there(self, target: str, entry: str, file: Listed) -> bool:
        """Whether the stored file is as in the backup, or right although the backup's content is damaged or lost."""
        found = stat_or_none(target)
        if found is None:
            return False
        if stat_or_none(entry) is not None and is_equal(target, entry, file.size):
            return True
        return stat.S_ISREG(found.st_mode) and found.st_size == file.size and sha256(target) == file.checksum

    def _put(self, source: str, target: str, file: Listed, is_placed: bool) -> str | None:
        """Put one file; how it was done, or None when the backup does not have these bytes.

        `is_placed`: `source` is a file of the project. Otherwise it is the content in the backup. That gets a
        link only if it has no other: else it is the file of another project, or in the storage folder that the backup
        is of, where each link counts as one of an artifact.
        """
        found = stat_or_none(source)
        if found is None or found.st_size != file.size:
            return None
        written = f"{self._root}/{WORK}/{uuid4().hex}"
        try:
            linkable = is_placed or (self._linkable and found.st_nlink == 1)
            how = "linked" if linkable and link(source, written) else "copied"
            if how == "copied" and copy(source, written) != file.checksum:
                return None
            os.makedirs(os.path.dirname(target), 0o750, exist_ok=True)
            os.replace(written, target)
            return how
        finally:
            with suppress(FileNotFoundError):
                os.unlink(written)


def _share(source: str, content: str) -> None:
    """Add a content entry, for later uploads to link to. Without it they only take more space."""
    os.makedirs(os.path.dirname(content), 0o750, exist_ok=True)
    with suppress(FileExistsError):
        link(source, content)


def begin(root: str, backup: str) -> None:
    """Note which backup is being restored: an interrupted restore of it may be repeated in a folder that has files."""
    work = Path(root, WORK)
    work.mkdir(0o750, exist_ok=True)
    (work / "backup").write_text(backup, "utf-8")


def is_begun(root: str, backup: str) -> bool:
    """Whether a restore of this backup was interrupted here."""
    note = Path(root, WORK, "backup")
    return note.exists() and note.read_text("utf-8") == backup


def finish(root: str) -> None:
    shutil.rmtree(Path(root, WORK))

"""Backups that hold hard links to stored files: which of a file's links are theirs.

A content entry may be removed when no artifact links to it any more. Without this, the link of a backup would count as
one more artifact: deleted files would never leave `.content`, and `reportd check` would see disk space saved that is
not. The file `.backups` in the storage folder has a line for each such backup, the folder of its contents.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

LINKED = ".backups"


def entry_path(folder: str, checksum: str) -> str:
    """Where a folder of contents has the bytes with this SHA-256."""
    return f"{folder}/{checksum[:2]}/{checksum}"


def linked_folders(root: str) -> list[str]:
    """The folders of contents that may have hard links to files of this storage folder. Blocking."""
    try:
        with open(f"{root}/{LINKED}", encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def add_linked(root: str, folder: str) -> None:
    """Record a folder before the first link. Drops those that do not exist any more. Blocking, durable."""
    known = linked_folders(root)
    if folder in known:
        return
    written = Path(f"{root}/{LINKED}-{uuid4().hex}")
    try:
        with written.open("x", encoding="utf-8") as file:
            file.write("".join(f"{each}\n" for each in [*filter(os.path.isdir, known), folder]))
            file.flush()
            os.fsync(file.fileno())
        written.replace(f"{root}/{LINKED}")
    finally:
        written.unlink(missing_ok=True)


def own_links(found: os.stat_result, checksum: str, folders: Sequence[str]) -> int:
    """The number of a file's hard links without those of backups. Blocking."""
    links = found.st_nlink
    for folder in folders:
        with suppress(OSError):
            links -= os.path.samestat(found, os.lstat(entry_path(folder, checksum)))
    return links

"""The half of `reportd check` that goes from rows to files: is each artifact's file there, and what its row says?"""

import asyncio
import os
import stat
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from server.commands.check.context import (
    HASHED_PORTION,
    MOST_REMEMBERED,
    PORTION,
    THREADS,
    TICKS,
    Context,
    ahead,
    inode,
)
from server.commands.check.findings import Finding
from server.database.queries import SQL
from server.storage.paths import CONTENT, content_checksum, content_path
from server.storage.walk import look, sha256


@dataclass(slots=True)
class _Looked:
    """What a portion of rows came to."""

    size: int = 0
    stored: float = 0.0
    suspects: list[tuple[Any, Finding]] = field(default_factory=list)
    unreadable: list[tuple[str, OSError]] = field(default_factory=list)


class Rows:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._root = context.root
        self._options = context.options
        self._report = context.report
        self._tally = context.report.tally
        self._wrong: set[tuple[int, int]] = set()  # inodes of content entries that are not what their name says

    async def compare(self) -> None:
        """Goes through all artifacts."""
        if self._options.verify_hashes:
            await self._verify_contents()
        after = ""

        async def portion() -> list[Any]:
            nonlocal after
            number = HASHED_PORTION if self._options.verify_hashes else PORTION
            rows = await self._context.fetch(SQL.check.portion, after, number)
            after = rows[-1]["storage_path"] if rows else after
            return rows

        async with aclosing(ahead(portion)) as portions:
            async for rows in portions:
                contents = await self._contents_of(rows) if self._options.verify_hashes else {}
                share = -(-len(rows) // THREADS)
                parts = [rows[start : start + share] for start in range(0, len(rows), share)]
                looked = await asyncio.gather(*(self._context.run(self._look, part, contents) for part in parts))
                self._tally.artifacts += len(rows)
                for part in looked:
                    self._tally.artifact_bytes += part.size
                    self._tally.stored_bytes += part.stored
                    self._tell_unreadable(part)
                if suspects := [row for part in looked for row, _ in part.suspects]:
                    await self._look_again(suspects, contents)
                self._report.progress("artifacts", self._tally.artifacts, self._context.estimate)

    def _tell_unreadable(self, looked: _Looked) -> None:
        for path, error in looked.unreadable:
            self._report.unreadable(error, path)

    async def _look_again(self, rows: list[Any], contents: dict[UUID, str]) -> None:
        """The file first, then the row: a row that is there after the look was there before it, too, since no name is
        given a second time within a day of its DELETE. So no DELETE took the file away between, and an upload of the
        same bytes that made the file whole meanwhile has mended it."""
        looked = await self._context.run(self._look, rows, contents)
        self._tell_unreadable(looked)
        there = await self._context.fetch(SQL.check.still_there, [row["id"] for row, _ in looked.suspects])
        self._context.must_be_mounted()
        ids = {row["id"] for row in there}
        for row, finding in looked.suspects:
            if row["id"] in ids:
                self._report.finding(finding)
                self._context.want(row["checksum"])

    def _look(self, rows: Sequence[Any], contents: dict[UUID, str]) -> _Looked:
        """Blocking."""
        looked = _Looked()
        for row in rows:
            if self._context.stopped:
                break
            looked.size += row["file_size"]
            try:
                finding, found = self._judge(row, contents)
            except OSError as error:
                looked.unreadable.append((row["storage_path"], error))
                continue
            if finding is not None:
                looked.suspects.append((row, finding))
            if found is not None:
                # The names that share the bytes, but for the content entry, which is there wherever links are.
                looked.stored += found.st_size / max(1, found.st_nlink - 1)
        return looked

    def _judge(self, row: Any, contents: dict[UUID, str]) -> tuple[Finding | None, os.stat_result | None]:
        path, size = row["storage_path"], row["file_size"]
        absolute = f"{self._root}/{path}"
        found = look(absolute)

        def wrong(kind: str, instead: str | None = None) -> Finding:
            return Finding(kind, path, size, artifact_id=str(row["id"]), found=instead)

        if found is None:
            return wrong("missing_file"), None
        if not stat.S_ISREG(found.st_mode):
            return wrong("not_a_file"), None
        if found.st_size != size:
            return wrong("wrong_size", str(found.st_size)), found
        if self._options.verify_hashes and not self._is_verified(found, contents.get(row["id"])):
            try:
                checksum = sha256(absolute)
            except FileNotFoundError:
                return wrong("missing_file"), None
            if checksum != row["checksum"]:
                return wrong("wrong_hash", checksum), found
        return None, found

    async def _verify_contents(self) -> None:
        """Comes first: a file that shares its inode with a good entry need not be read a second time.

        A wrong entry is removed whatever its age: the next upload of these bytes would be linked to it, and each that
        was made it younger. No artifact loses anything by it, as an entry is a cache, and so is a race for one.
        """
        done = 0
        async with aclosing(self._context.walked(CONTENT, HASHED_PORTION * THREADS)) as portions:
            async for paths in portions:
                parts = [paths[start::THREADS] for start in range(THREADS)]
                for wrong in await asyncio.gather(*(self._context.run(self._wrong_among, part) for part in parts)):
                    await self._context.run(self._report_wrong, wrong)
                done += len(paths)
                self._report.progress("content entries verified", done)

    def _wrong_among(self, paths: list[str]) -> list[tuple[str, os.stat_result, str]]:
        """Blocking. Each with what it is and its real hash."""
        wrong = []
        for path in paths:
            checksum = content_checksum(path)
            if self._context.stopped or checksum is None:
                continue
            try:
                found = look(f"{self._root}/{path}")
                if found is not None and stat.S_ISREG(found.st_mode):  # else it is gone, or _contents() tells
                    actual = sha256(f"{self._root}/{path}")
                    if actual != checksum:
                        wrong.append((path, found, actual))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._report.unreadable(error, path)
        return wrong

    def _report_wrong(self, wrong: list[tuple[str, os.stat_result, str]]) -> None:
        """Blocking. One that has changed since it was read is another entry, and none of ours."""
        for path, found, actual in wrong:
            now = look(f"{self._root}/{path}")
            if now is None or inode(now) != inode(found):
                continue
            removed = self._options.repair and self._context.remove(path, now)
            if removed is None:
                continue
            if len(self._wrong) <= MOST_REMEMBERED:
                self._wrong.add(inode(now))
            self._report.finding(Finding("wrong_content", path, now.st_size, found=actual, removed=removed))
        self._context.orphans.tidy()

    def _is_verified(self, found: os.stat_result, content: str | None) -> bool:
        """Whether a file's bytes are those of an entry that _verify_contents() has read and found good.

        One whose inode has not changed since before that began was linked to its entry then, and met there.
        """
        if content is None or len(self._wrong) > MOST_REMEMBERED or found.st_ctime >= self._context.began - TICKS:
            return False
        entry = look(f"{self._root}/{content}")
        return entry is not None and inode(entry) == inode(found) and inode(found) not in self._wrong

    async def _contents_of(self, rows: list[Any]) -> dict[UUID, str]:
        """Where the bytes of artifacts are found again, by artifact."""
        cases = {row["test_case_result_id"] for row in rows}
        projects = {row["id"]: row["project_id"] for row in await self._context.fetch(SQL.check.projects, list(cases))}
        return {
            row["id"]: content_path(projects[row["test_case_result_id"]], row["checksum"])
            for row in rows
            if row["test_case_result_id"] in projects
        }

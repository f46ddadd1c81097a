"""The half of `reportd check` that goes from rows to files: does each artifact's file exist and match its row?"""

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
    MAX_REMEMBERED,
    PORTION,
    THREADS,
    Context,
    inode,
    prefetch,
)
from server.commands.check.findings import Finding
from server.database.queries import SQL
from server.storage.linked import own_links
from server.storage.paths import CONTENT, content_checksum, content_path
from server.storage.walk import sha256, stat_or_none


@dataclass(slots=True)
class _Result:
    """The result for some rows. Sizes in bytes; `stored` counts files that share an inode once."""

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
        self._wrong: set[tuple[int, int]] = set()  # inodes of content entries with wrong bytes
        self._began = 0.0  # the file system's time when _verify_contents() began to read

    async def compare(self) -> None:
        """Check the file of every artifact."""
        if self._options.verify_hashes:
            await self._verify_contents()
        after = ""

        async def portion() -> list[Any]:
            nonlocal after
            number = HASHED_PORTION if self._options.verify_hashes else PORTION
            rows = await self._context.fetch(SQL.check.portion, after, number)
            after = rows[-1]["storage_path"] if rows else after
            return rows

        async with aclosing(prefetch(portion)) as portions:
            async for rows in portions:
                contents = await self._contents_of(rows) if self._options.verify_hashes else {}
                size = -(-len(rows) // THREADS)
                parts = [rows[start : start + size] for start in range(0, len(rows), size)]
                results = await asyncio.gather(*(self._context.run(self._check, part, contents) for part in parts))
                self._tally.artifacts += len(rows)
                for result in results:
                    self._tally.artifact_bytes += result.size
                    self._tally.stored_bytes += result.stored
                    self._report_unreadable(result)
                if suspects := [row for result in results for row, _ in result.suspects]:
                    await self._recheck(suspects, contents)
                self._report.progress("artifacts", self._tally.artifacts, self._context.estimated_artifacts)

    def _report_unreadable(self, result: _Result) -> None:
        for path, error in result.unreadable:
            self._report.unreadable(error, path)

    async def _recheck(self, rows: list[Any], contents: dict[UUID, str]) -> None:
        """Check the files again, then query which rows still exist; report only those.

        A row that still exists was not deleted in the meantime. No DELETE of another row has removed its file either,
        because a file name is not reused within a day of its DELETE. So a concurrent DELETE causes no finding. Neither
        does an upload of the same bytes that has restored the file in the meantime.
        """
        result = await self._context.run(self._check, rows, contents)
        self._report_unreadable(result)
        existing = await self._context.fetch(SQL.check.still_there, [row["id"] for row, _ in result.suspects])
        self._context.ensure_mounted()
        ids = {row["id"] for row in existing}
        for row, finding in result.suspects:
            if row["id"] in ids:
                self._report.finding(finding)
                self._context.add_missing(row["checksum"])

    def _check(self, rows: Sequence[Any], contents: dict[UUID, str]) -> _Result:
        """Check the files of some rows. Blocking."""
        result = _Result()
        for row in rows:
            if self._context.stopped:
                break
            result.size += row["file_size"]
            try:
                finding, found = self._judge(row, contents)
            except OSError as error:
                result.unreadable.append((row["storage_path"], error))
                continue
            if finding is not None:
                result.suspects.append((row, finding))
            if found is not None:
                # An equal share for each artifact of this inode. Linked files have one more link: the content entry.
                links = own_links(found, row["checksum"], self._context.linked)
                result.stored += found.st_size / max(1, links - 1)
        return result

    def _judge(self, row: Any, contents: dict[UUID, str]) -> tuple[Finding | None, os.stat_result | None]:
        path, size = row["storage_path"], row["file_size"]
        absolute = f"{self._root}/{path}"
        found = stat_or_none(absolute)

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
        """Read every content entry. Runs first: a file that shares the inode of a good entry need not be read again.

        With --repair, a wrong entry is removed whatever its age. Otherwise the next upload of these bytes would be
        linked to wrong bytes, and each such link would renew its ctime. Removing it, even in a race with an upload,
        loses no artifact: content entries are only a cache.
        """
        done = 0
        self._began = await self._context.run(self._context.file_time)
        async with aclosing(self._context.walked(CONTENT, HASHED_PORTION * THREADS)) as portions:
            async for paths in portions:
                parts = [paths[start::THREADS] for start in range(THREADS)]
                for wrong in await asyncio.gather(*(self._context.run(self._wrong_among, part) for part in parts)):
                    await self._context.run(self._report_wrong, wrong)
                done += len(paths)
                self._report.progress("content entries verified", done)

    def _wrong_among(self, paths: list[str]) -> list[tuple[str, os.stat_result, str]]:
        """The entries whose bytes are wrong, each with its stat result and actual SHA-256. Blocking."""
        wrong = []
        for path in paths:
            checksum = content_checksum(path)
            if self._context.stopped or checksum is None:
                continue
            try:
                found = stat_or_none(f"{self._root}/{path}")
                if found is not None and stat.S_ISREG(found.st_mode):  # _contents() in files.py reports the others
                    actual = sha256(f"{self._root}/{path}")
                    if actual != checksum:
                        wrong.append((path, found, actual))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._report.unreadable(error, path)
        return wrong

    def _report_wrong(self, wrong: list[tuple[str, os.stat_result, str]]) -> None:
        """Report wrong entries, and with --repair remove them. Skips those replaced since they were read. Blocking."""
        for path, found, actual in wrong:
            now = stat_or_none(f"{self._root}/{path}")
            if now is None or inode(now) != inode(found):
                continue
            removed = self._options.repair and self._context.remove(path, now)
            if removed is None:
                continue
            if len(self._wrong) <= MAX_REMEMBERED:
                self._wrong.add(inode(now))
            self._report.finding(Finding("wrong_content", path, now.st_size, found=actual, removed=removed))
        self._context.tidy()

    def _is_verified(self, found: os.stat_result, content: str | None) -> bool:
        """Whether the file shares the inode of a content entry that _verify_contents() has read and found good.

        The ctime must be older than the start of that reading: a later link could be to an entry that was not read.
        """
        if content is None or len(self._wrong) > MAX_REMEMBERED or found.st_ctime >= self._began:
            return False
        entry = stat_or_none(f"{self._root}/{content}")
        return entry is not None and inode(entry) == inode(found) and inode(found) not in self._wrong

    async def _contents_of(self, rows: list[Any]) -> dict[UUID, str]:
        """The path of the content entry of each artifact."""
        cases = {row["test_case_result_id"] for row in rows}
        projects = {row["id"]: row["project_id"] for row in await self._context.fetch(SQL.check.projects, list(cases))}
        return {
            row["id"]: content_path(projects[row["test_case_result_id"]], row["checksum"])
            for row in rows
            if row["test_case_result_id"] in projects
        }

"""The half of `reportd check` that goes from files to rows: does a row refer to each file?

With --repair, it removes files that no row refers to.
"""

import math
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from server.commands.check.context import PORTION, Context, prefetch
from server.commands.check.findings import Finding
from server.database.queries import SQL
from server.storage.instances import instances_of
from server.storage.linked import own_links
from server.storage.paths import CONTENT, STAGING, case_of, content_checksum
from server.storage.staging import Instance, folder_of, place_of, required_age, try_lock
from server.storage.walk import NOT_OURS, stat_or_none, walk

# Seconds from the commit of a DELETE until its own request has unlinked its files, even with --grace 0.
_DELETE_SECONDS = 5.0


class Files:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._root = context.root
        self._options = context.options
        self._report = context.report
        self._tally = context.report.tally

    async def compare(self) -> None:
        """Check every file in the storage folder, and the queue of files to remove."""
        await self._files()
        await self._removals()
        instances = instances_of(await self._context.fetch(SQL.instances.all))
        await self._context.run(self._staging, instances)
        # Last: removing a file may leave its content entry without any other hard link.
        await self._contents()

    async def _files(self) -> None:
        async with aclosing(self._context.walked("", PORTION, NOT_OURS)) as portions:
            async for paths in portions:
                self._tally.files += len(paths)
                referenced = await self._referenced(paths)
                if suspects := [path for path in paths if path not in referenced]:
                    await self._recheck(suspects)
                self._report.progress("files", self._tally.files, self._tally.artifacts)

    async def _recheck(self, paths: list[str]) -> None:
        """Query the rows again, then judge (and remove) each file that still has none.

        A DELETE lists its file in removed_files until the file is unlinked. An upload holds the lock of its test case
        from before it links a file until its rows are committed. The locks are queried before the rows. Therefore a
        file without a row, whose test case was not locked, belongs to no running upload and will never get a row. No
        clock matters for that. An upload that begins later does not use the name: it exists, or else it is another
        file.
        """
        cutoff = await self._context.run(self._context.file_time) - self._options.grace
        locked = await self._locked({case for path in paths if (case := case_of(path))})
        referenced = await self._referenced(paths)

        def judge() -> None:
            for path in paths:
                if case_of(path) in locked:
                    self._tally.younger_than_grace += 1
                elif path not in referenced:
                    self._judge_file(path, cutoff, "file_without_row")
            self._context.tidy()

        await self._context.run(judge)

    async def _locked(self, cases: Collection[UUID]) -> set[UUID]:
        """The test cases that a transaction is writing now, for example that of an upload in progress."""
        return {row["id"] for row in await self._context.fetch(SQL.check.locked_cases, list(cases))}

    async def _referenced(self, paths: list[str]) -> set[str]:
        """The paths that a row refers to, also those of deleted artifacts whose files are still to be unlinked.

        Paths that are not valid UTF-8 are not queried: PostgreSQL cannot store them, so no row has one.
        """
        texts = [path for path in paths if _is_utf8(path)]
        return {row["storage_path"] for row in await self._context.fetch(SQL.check.referenced, texts)}

    async def _removals(self) -> None:
        """Count the queue of files to remove, and report those in it for longer than the grace period.

        They may be gone already: a file leaves the queue when its folder has been synced, too.
        """
        waiting = max(self._options.grace, _DELETE_SECONDS)
        after = ""

        async def portion() -> list[Any]:
            nonlocal after
            rows = await self._context.fetch(SQL.check.removals, after, PORTION, waiting)
            after = rows[-1]["storage_path"] if rows else after
            return rows

        def report(paths: list[str]) -> None:
            for path in paths:
                try:
                    found = stat_or_none(f"{self._root}/{path}")
                except OSError as error:
                    self._report.unreadable(error, path)
                else:
                    self._report.finding(Finding("held_up_removal", path, found.st_size if found else 0))

        async with aclosing(prefetch(portion)) as portions:
            async for rows in portions:
                self._tally.pending_removal += len(rows)
                await self._context.run(report, [row["storage_path"] for row in rows if row["is_held_up"]])

    def _staging(self, instances: Sequence[Instance]) -> None:
        """Find staged files of processes that have ended. Keeps their folders: servers remove them. Blocking."""
        now, here = self._context.file_time(), place_of(Path(self._root))
        known = {instance.id: instance for instance in instances}
        paths = self._context.readable(walk(self._root, STAGING))
        for folder, staged in groupby(paths, key=folder_of):
            if folder is None:
                for path in staged:
                    self._judge_file(path, now - self._options.grace, "unknown_file")
                continue
            name, id = folder
            age = required_age(known.get(id) if id else None, here)
            if age == math.inf:
                continue
            try:
                self._judge_staged(name, staged, now - max(self._options.grace, age))
            except OSError as error:
                self._report.unreadable(error, name)

    def _judge_staged(self, folder: str, staged: Iterator[str], cutoff: float) -> None:
        """Report the files of a staging folder, unless somebody holds its lock."""
        lock = try_lock(Path(f"{self._root}/{folder}"))
        if lock is None:
            return
        try:
            for path in staged:
                self._judge_file(path, cutoff, "stale_staging")
        finally:
            os.close(lock)

    def _judge_file(self, path: str, cutoff: float, kind: str, shared: str | None = None) -> None:
        """Report a file that no row refers to when it is older than `cutoff`; with --repair, remove it. Blocking.

        `shared`: skip a content entry with this SHA-256 that artifacts link to.
        """
        try:
            found = stat_or_none(f"{self._root}/{path}")
            if found is None or (shared and own_links(found, shared, self._context.linked) > 1):
                return
            if not self._context.orphans.is_old(found, cutoff):
                self._tally.younger_than_grace += 1
                return
        except OSError as error:
            self._report.unreadable(error, path)
            return
        if not self._context.orphans.may_be_removed(path, found):
            self._report.finding(Finding("unknown_file", path, found.st_size))
            return
        removed = self._options.repair and self._context.remove(path, found)
        if removed is not None:
            self._report.finding(Finding(kind, path, found.st_size, removed=removed))

    async def _contents(self) -> None:
        """Find content entries without any other hard link.

        Removing an entry that a concurrent upload was about to link costs disk space at most: the upload then keeps its
        own copy. An entry is kept, and not reported, when the file of an artifact with these bytes is missing or
        damaged: the entry may be their last copy.
        """

        def judge(paths: list[str]) -> None:
            cutoff = self._context.file_time() - self._options.grace
            for path in paths:
                checksum = content_checksum(path)
                if checksum is None:
                    self._judge_file(path, cutoff, "unknown_file")
                    continue
                self._tally.content_entries += 1
                if not self._context.may_be_missing(checksum):
                    self._judge_file(path, cutoff, "unused_content", shared=checksum)
            self._context.tidy()

        async with aclosing(self._context.walked(CONTENT, PORTION)) as portions:
            async for paths in portions:
                await self._context.run(judge, paths)
                self._report.progress("content entries", self._tally.content_entries)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True

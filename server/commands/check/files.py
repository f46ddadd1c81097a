"""The half of `reportd check` that goes from files to rows: does anything refer to each file? With --repair, what
nothing refers to is removed."""

import os
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from itertools import groupby

from server.commands.check.context import PORTION, TICKS, Context
from server.commands.check.findings import Finding
from server.database.queries import SQL
from server.storage.orphans import abandoned, is_of_this_machine, staging_folder
from server.storage.paths import CONTENT, STAGING, content_checksum
from server.storage.walk import NOT_OURS, look, walk

_DAY = 86_400.0


class Files:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._root = context.root
        self._options = context.options
        self._report = context.report
        self._tally = context.report.tally

    async def compare(self) -> None:
        """Goes through all files."""
        await self._files()
        await self._context.run(self._staging)
        # After the files: what was removed among them may have been the last to share an entry's bytes.
        await self._contents()

    async def _files(self) -> None:
        async with aclosing(self._context.walked("", PORTION, NOT_OURS)) as portions:
            async for paths in portions:
                self._tally.files += len(paths)
                referenced = await self._referenced(paths)
                self._tally.pending_removal += sum(referenced.values())
                if suspects := [path for path in paths if path not in referenced]:
                    await self._look_for_rows_again(suspects)
                self._report.progress("files", self._tally.files, self._tally.artifacts)

    async def _look_for_rows_again(self, paths: list[str]) -> None:
        """Rows first, then the file, which is removed at once if it is to be.

        The file of a DELETE is noted for removal until it is gone. The file of an upload has a younger ctime than its
        transaction, or else that has ended, and its rows are there: transactions are asked for before rows. So what is
        older than both the grace period and every transaction that still writes, and has no row, never will have one.
        """
        now = time.time()
        (oldest,) = (await self._context.fetch(SQL.check.oldest_writer))[0]
        cutoff = now - max(self._options.grace, 0.0 if oldest is None else oldest + TICKS)
        referenced = await self._referenced(paths)

        def judge() -> None:
            for path in paths:
                if path not in referenced:
                    self._judge_file(path, cutoff, "file_without_row")
            self._context.orphans.tidy()

        await self._context.run(judge)

    async def _referenced(self, paths: list[str]) -> dict[str, bool]:
        """Those that a row is for; True when it only waits to be unlinked. No row can have a name that is no text."""
        texts = [path for path in paths if _is_text(path)]
        return {row["storage_path"]: row["pending"] for row in await self._context.fetch(SQL.check.referenced, texts)}

    def _staging(self) -> None:
        """Blocking. Of this machine, what no living process holds; of another one, whose locks we may not see, only
        files so old that no upload can still need them, and never the folder, which a server keeps for its life."""
        now = time.time()
        paths = self._context.readable(walk(self._root, STAGING))
        for folder, staged in groupby(paths, key=staging_folder):
            if folder is None:
                for path in staged:
                    self._judge_file(path, now - self._options.grace, "unknown_file")
                continue
            try:
                with abandoned(self._root, folder) as is_abandoned:
                    if is_abandoned:
                        self._judge_staged(folder, staged, now)
            except OSError as error:
                self._report.unreadable(error, folder)

    def _judge_staged(self, folder: str, staged: Iterator[str], now: float) -> None:
        ours = is_of_this_machine(folder)
        grace = self._options.grace if ours else max(self._options.grace, _DAY)
        for path in staged:
            self._judge_file(path, now - grace, "stale_staging")
        if ours and self._options.repair:
            with suppress(OSError):  # not empty
                os.rmdir(f"{self._root}/{folder}")

    def _judge_file(self, path: str, cutoff: float, kind: str, most_links: int | None = None) -> None:
        """Blocking. A file that nothing refers to is a finding once it is old, and goes if it may."""
        try:
            found = look(f"{self._root}/{path}")
            if found is None or (most_links is not None and found.st_nlink > most_links):
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
        """Entries that nothing else shares. Whatever an upload does to one meanwhile, removing it costs disk space at
        most: an upload that finds it gone keeps its own bytes. But what an artifact lacks stays, and is no finding:
        it may be the last copy of those bytes."""

        def judge(paths: list[str]) -> None:
            cutoff = time.time() - self._options.grace
            for path in paths:
                checksum = content_checksum(path)
                if checksum is None:
                    self._judge_file(path, cutoff, "unknown_file")
                    continue
                self._tally.content_entries += 1
                if not self._context.is_wanted(checksum):
                    self._judge_file(path, cutoff, "unused_content", most_links=1)
            self._context.orphans.tidy()

        async with aclosing(self._context.walked(CONTENT, PORTION)) as portions:
            async for paths in portions:
                await self._context.run(judge, paths)
                self._report.progress("content entries", self._tally.content_entries)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True

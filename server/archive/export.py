"""A run as a zip that is made while it is sent: its data, its files, pages to read them, and a manifest."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID

import orjson

from server import __version__
from server.archive import names
from server.archive.pages import Pages, Text
from server.archive.zip_stream import HELD, ZipStream
from server.background import aside
from server.database.reads import Reads
from server.reports import archives
from server.reports.archives import Kept, Run
from server.storage.folder import Storage
from server.viewer import assets

_CHUNK = 256 << 10  # bytes of a file in memory at a time
_PER_FILE = 2 * HELD  # bytes that are held for each artifact: its entry, and that its content is in the archive
_PER_RESULT = 4 * HELD
_VENDORED = "pixelmatch.js"
_STATIC = {"difference_worker.js", _VENDORED}  # which only other scripts name


class FileCut(Exception):
    """A stored file became shorter while it was sent."""


class Export:
    """The archive of one run. `held`: about how many bytes are in memory until it is sent."""

    def __init__(self, reads: Reads, storage: Storage, run: Run) -> None:
        self._reads, self._storage, self._run = reads, storage, run
        self._zip = ZipStream(run.created_at)
        self._sent: dict[bytes, str] = {}  # the names of the files in the archive, by checksum
        self._gone: dict[bytes, str] = {}  # likewise, of files that the server does not have any more
        self._pages = Pages(reads, run.id, self._sent)
        self.held = _PER_RESULT * run.results + _PER_FILE * run.artifacts

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the zip. No connection to the database is held between two parts."""
        about = {"format": names.FORMAT, "reportd": __version__, "run": str(self._run.id)}
        yield await self._whole(names.ABOUT, orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE))
        yield await self._whole(names.RUN, self._run.item.encode() + b"\n")
        number = 0
        async for items, ids in archives.results(self._reads, self._run.id):
            number += 1
            yield await self._items(names.results(number), items)
            for case_id in ids:
                async with aclosing(self._case(case_id)) as parts:
                    async for part in parts:
                        yield part
        for name in archives.OF_RUN:
            number = 0
            async for items in archives.listed(self._reads, name, self._run.id):
                number += 1
                yield await self._items(names.of_run(name, number), items)
        async with aclosing(self._packed_pages(self._pages.of_run())) as parts:
            async for part in parts:
                yield part
        for asset in sorted(self._pages.used | _STATIC):
            yield await self._whole(names.static(asset), assets.by_name()[asset].content)
        yield await self._whole(f"{names.static(_VENDORED)}.LICENSE.txt", assets.licence(_VENDORED))
        for gone in self._gone.values():
            self._zip.note(f"missing: {gone}")
        for part in self._zip.finish(_CHUNK):
            yield part

    async def _case(self, case_id: UUID) -> AsyncGenerator[bytes, None]:
        """A result: its lists, and those of its files that no earlier result has."""
        for name in archives.LISTS:
            number = 0
            async for items in archives.listed(self._reads, name, case_id):
                number += 1
                yield await self._items(names.listed(case_id, name, number), items)
        number, images = 0, dict[UUID, str]()
        async for items, files in archives.artifacts(self._reads, case_id):
            number += 1
            yield await self._items(names.listed(case_id, "artifacts", number), items)
            for file in files:
                async with aclosing(self._file(file)) as parts:
                    async for part in parts:
                        yield part
                entry = self._sent.get(bytes.fromhex(file.checksum))
                if entry and file.mime_type.startswith("image/"):
                    images[file.id] = entry
        async with aclosing(self._packed_pages(self._pages.of_result(case_id, images))) as parts:
            async for part in parts:
                yield part

    async def _packed_pages(self, pages: AsyncGenerator[tuple[str, Text], None]) -> AsyncGenerator[bytes, None]:
        """Pages as entries, each while it is drawn."""
        async with aclosing(pages):
            async for name, text in pages:
                yield self._zip.begin(name, compress=True)
                async with aclosing(text):
                    async for part in text:
                        yield await self._packed(part.encode(), compress=True)
                yield self._zip.end()

    async def _items(self, name: str, items: Sequence[str]) -> bytes:
        """JSON texts as a list, one item a line."""
        return await self._whole(name, ("[" + ",\n".join(items) + "]\n").encode())

    async def _whole(self, name: str, content: bytes, compress: bool = True) -> bytes:
        """An entry whose content is in memory."""

        def pack() -> bytes:
            return self._zip.begin(name, compress) + self._zip.take(content) + self._zip.end()

        return await aside(4 * len(content), pack)

    async def _file(self, file: Kept) -> AsyncGenerator[bytes, None]:
        """A stored file, unless the archive has its content already. One that is gone is named in the manifest."""
        checksum, size, path = bytes.fromhex(file.checksum), file.file_size, file.storage_path
        if checksum in self._sent:
            return
        name = names.file(file.checksum, file.mime_type)
        first = await self._storage.read(path, size, 0, min(size, _CHUNK))
        if first is None or len(first) < min(size, _CHUNK):
            self._gone[checksum] = name
            return
        self._sent[checksum] = name
        self._gone.pop(checksum, None)
        compress = names.is_text(file.mime_type)
        yield self._zip.begin(name, compress, size)
        yield await self._packed(first, compress)
        read = len(first)
        del first
        async with aclosing(self._storage.parts(path, size, read, size, _CHUNK)) as parts:
            async for part in parts:
                read += len(part)
                yield await self._packed(part, compress)
        if read < size:
            raise FileCut(f"the file {path} ended after {read} of {size} bytes")
        yield self._zip.end()
        if self._zip.digest != file.checksum:
            self._zip.note(f"changed: {name} does not have the bytes that were uploaded")

    async def _packed(self, part: bytes, compress: bool) -> bytes:
        return await aside(8 * len(part) if compress else 0, self._zip.take, part)

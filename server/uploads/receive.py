"""Brings a multipart body to disk: each byte is counted, hashed and looked at as it comes, then written in windows.

A window of bytes, which may span several files, is handed to a thread in one go: the hop costs more than the
parsing. A request holds about one window in memory, whatever the size of its files.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from server.errors import Invalid, Problem, TooLarge
from server.limits import Reservation
from server.storage.disk import FULL
from server.storage.stage import Stage
from server.uploads import multipart
from server.uploads.content import Inspector, Verdict
from server.uploads.multipart import End, Part
from server.uploads.refusals import EMPTY, STORAGE_FULL, Refusal, too_large

WINDOW = 1 << 20
_SMALL_WINDOW = 64 << 10  # when memory is tight
_MOST_VIEWS = 512  # of a window that comes byte by byte
MAX_METADATA = 1 << 20
MAX_FIELD = 64 << 10


@dataclass(frozen=True, slots=True)
class Rules:
    """What an upload may be. Sizes in bytes; `file_fields` are the names a file part may have."""

    file_fields: frozenset[str]
    max_file_size: int
    max_files: int
    max_total: int
    too_many: str  # the sentence for one file more than `max_files`; as 413, or 422 for the single upload
    too_long: str = "The body is too large."  # the sentence for a body above `max_total`
    single: bool = False


@dataclass(slots=True)
class Form:
    """A received body: text fields by name, files in the order sent. A file is staged, or has a refusal."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: list["StagedFile"] = field(default_factory=list)


class StagedFile:
    """One file part on its way to disk, and what is known of it once it is sealed."""

    __slots__ = (
        "_descriptor",
        "_hash",
        "_inspector",
        "_limit",
        "_stage",
        "checksum",
        "file_name",
        "index",
        "path",
        "refusal",
        "size",
    )

    def __init__(self, index: int, part: Part, limit: int, stage: Stage) -> None:
        self.index = index
        self.file_name = multipart.clean_file_name(part.file_name or "")
        self.size = 0
        self.checksum = ""  # SHA-256 of the content, 64 hex digits, once it has ended
        self.refusal: Refusal | None = None
        self.path = stage.new_path(self.close)
        self._limit = limit
        self._stage = stage
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._inspector = Inspector(self.file_name, part.content_type)

    def verdict(self) -> Verdict:
        """What the content is, and whether it is whole."""
        return self._inspector.finish()

    def take(self, view: memoryview) -> bool:
        """Counts, hashes and looks at bytes as they come; False when they need not be kept.

        On the event loop: the bytes are still in the processor's cache, and a chunk takes 0.1 ms. Done in the thread
        that writes, it cost a tenth more of the whole upload, because each call there gives the interpreter away.
        """
        self.size += len(view)
        if self.size > self._limit and self.refusal is None:
            self.refusal = too_large(self._limit)
        if self.refusal is not None:
            return False
        self._hash.update(view)
        self._inspector.feed(view)
        return True

    def end(self) -> None:
        """All of it has come."""
        self.checksum = self._hash.hexdigest()
        if not self.size:
            self.refusal = EMPTY

    def write(self, views: list[memoryview]) -> None:
        """Blocking. A full disk is a refusal of this file; anything else that the disk says is raised."""
        try:
            self._stage.disk.ensure_room(sum(map(len, views)))
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            _write_all(self._descriptor, views)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.refusal = STORAGE_FULL

    def seal(self) -> None:
        """Blocking. Makes a good file durable, drops a refused one."""
        try:
            if self.refusal is None:
                self._stage.disk.sync(self._descriptor)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.refusal = STORAGE_FULL
        finally:
            self.close()
        if self.refusal is not None:
            self._stage.discard(self.path)

    def close(self) -> None:
        """Gives back the descriptor."""
        if self._descriptor >= 0:
            # Forgotten first: a descriptor that fails to close is closed all the same, and its number soon another's.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


@dataclass(slots=True)
class _Piece:
    """What a window holds of one file."""

    file: StagedFile
    views: list[memoryview] = field(default_factory=list)
    ends: bool = False


async def receive(
    next_chunk: Callable[[], Awaitable[bytes]], boundary: bytes, rules: Rules, stage: Stage, memory: Reservation
) -> Form:
    """The whole body: fields in memory, files staged. `next_chunk` gives b"" at the end.

    Raises MalformedBody, TooLarge, Invalid for what is wrong with the request as a whole.
    """
    reception = _Reception(boundary, rules, stage)
    with memory:
        while chunk := await next_chunk():
            reception.take(chunk)
            memory.hold(reception.held + reception.fields)
            if reception.window_is_full or (memory.is_tight and reception.held >= _SMALL_WINDOW):
                await stage.run(_work, reception.window())
        reception.end()
        await stage.run(_work, reception.window())
    return reception.form


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    """In one call nearly always; a disk that is nearly full takes a part first, and says then what it is."""
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def _work(window: list[_Piece]) -> None:
    """The one place where bytes meet the disk. Runs in a thread."""
    for piece in window:
        if piece.views and piece.file.refusal is None:
            piece.file.write(piece.views)
        if piece.ends:
            piece.file.seal()


class _Reception:
    """Sorts the events of a body into fields and windows, and keeps the budgets."""

    def __init__(self, boundary: bytes, rules: Rules, stage: Stage) -> None:
        self.form = Form()
        self._rules = rules
        self._stage = stage
        self._parser = multipart.Parser(boundary)
        self._received = 0
        self._pieces: list[_Piece] = []
        self.held = 0  # bytes of the window
        self.fields = 0  # bytes of text fields
        self._views = 0
        self._file: StagedFile | None = None
        self._field = ""
        self._text = bytearray()

    @property
    def window_is_full(self) -> bool:
        return self.held >= WINDOW or self._views >= _MOST_VIEWS

    def window(self) -> list[_Piece]:
        """What has come since the last one; the next begins empty."""
        pieces, self._pieces, self.held, self._views = self._pieces, [], 0, 0
        return pieces

    def take(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._rules.max_total:
            raise TooLarge(self._rules.too_long)
        for event in self._parser.feed(chunk):
            if isinstance(event, memoryview):
                self._data(event)
            elif isinstance(event, Part):
                self._begin(event)
            elif event is End.OF_PART:
                self._end_part()

    def end(self) -> None:
        self._parser.close()

    def _begin(self, part: Part) -> None:
        is_file = part.name in self._rules.file_fields
        is_metadata = part.name == "metadata" and not self._rules.single
        if not is_file and part.file_name is not None and not is_metadata:
            wanted = " or ".join(sorted(self._rules.file_fields))
            raise Invalid(Problem(part.name, f"is not a file field; send files as {wanted}"))
        if is_file:
            self._begin_file(part)
        elif part.name in self.form.fields:
            raise Invalid(Problem(part.name, "is sent twice"))
        else:
            self._file, self._field, self._text = None, part.name, bytearray()

    def _begin_file(self, part: Part) -> None:
        if len(self.form.files) >= self._rules.max_files:
            if self._rules.single:
                raise Invalid(Problem(part.name, self._rules.too_many))
            raise TooLarge(self._rules.too_many)
        self._file = StagedFile(len(self.form.files), part, self._rules.max_file_size, self._stage)
        self.form.files.append(self._file)
        self._pieces.append(_Piece(self._file))

    def _data(self, view: memoryview) -> None:
        if self._file is None:
            limit = MAX_METADATA if self._field == "metadata" else MAX_FIELD
            if len(self._text) + len(view) > limit:
                raise TooLarge(f"The field {self._field} is larger than {limit >> 10} KiB.")
            self._text += view
            self.fields += len(view)
        elif self._file.take(view):
            self._piece(self._file).views.append(view)
            self.held += len(view)
            self._views += 1

    def _end_part(self) -> None:
        if self._file is None:
            self.form.fields[self._field] = bytes(self._text)
        else:
            self._file.end()
            self._piece(self._file).ends = True

    def _piece(self, file: StagedFile) -> _Piece:
        """The file's piece of this window; a window that was handed over has none yet."""
        if not self._pieces or self._pieces[-1].file is not file:
            self._pieces.append(_Piece(file))
        return self._pieces[-1]

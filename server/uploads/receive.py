"""Writes the files of a multipart body to disk: each byte is counted, hashed and inspected on arrival, then written.

Writes are buffered: a window of 1 to 4 MiB, which may span several files, goes to a thread in one call. Switching to
a thread costs more than parsing. A request holds about one window in memory, whatever the size of its files.
"""

import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from server.errors import Invalid, Problem, TooLarge
from server.limits import Reservation
from server.storage.disk import FULL
from server.storage.stage import Stage
from server.uploads import multipart
from server.uploads.content import Inspector, Verdict
from server.uploads.multipart import End, Part
from server.uploads.names import clean_file_name
from server.uploads.refusals import EMPTY, STORAGE_FULL, Refusal, too_large

WINDOW = 4 << 20  # while there is memory for 16 of them
_USUAL_WINDOW = 1 << 20
_SMALL_WINDOW = 64 << 10  # when memory is tight
_MOST_OPEN = 32  # files of a window: each has a descriptor until it is synced
_MAX_VIEWS = 512  # of one window: otherwise a client that sends single bytes makes a long list of views
MAX_METADATA = 1 << 20
MAX_FIELD = 64 << 10
_NUMBERED = re.compile(r"\[[0-9]+\]\Z")


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of an upload. Sizes in bytes; `file_fields` are the names that a file part may have."""

    file_fields: frozenset[str]
    max_file_size: int
    max_files: int
    max_total: int
    too_many: str  # the sentence for more than `max_files` files: 413, or 422 in a single upload
    too_long: str = "The body is too large."  # the sentence for a body larger than `max_total`
    single: bool = False
    json_field: str = "metadata"  # a text field that may also be sent like a file
    json_size: int = MAX_METADATA


@dataclass(slots=True)
class Form:
    """A received body: text fields by name, files in the order sent. Each file is staged or has a refusal."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: list["StagedFile"] = field(default_factory=list)


class StagedFile:
    """One file part: its staged file on disk, and its size, checksum and verdict once it is sealed."""

    __slots__ = (
        "_hash",
        "_inspector",
        "_limit",
        "_stage",
        "checksum",
        "descriptor",
        "file_name",
        "index",
        "known",
        "path",
        "refusal",
        "size",
    )

    def __init__(self, index: int, part: Part, limit: int, stage: Stage, known: bool = False) -> None:
        self.index = index
        self.known = known  # whether its bytes are those of the project, see known.py
        self.file_name = clean_file_name(part.file_name or "")
        self.size = 0
        self.checksum = ""  # SHA-256 of the content in 64 hex digits, set by finish()
        self.refusal: Refusal | None = None
        self.path = stage.new_path(self.close)
        self._limit = limit
        self._stage = stage
        self.descriptor = -1
        self._hash = hashlib.sha256()
        self._inspector = Inspector(self.file_name, part.content_type)

    def verdict(self) -> Verdict:
        """The detected type of the content, and whether it is intact."""
        return self._inspector.finish()

    def take(self, view: memoryview) -> bool:
        """Count, hash and inspect received bytes. False when the file is refused: the bytes need not be written.

        This runs on the event loop: the bytes are still in the CPU cache, and a chunk takes 0.1 ms. In the writing
        thread, the whole upload cost a tenth more, because each call there releases the GIL.
        """
        self.size += len(view)
        if self.size > self._limit and self.refusal is None:
            self.refusal = too_large(self._limit)
        if self.refusal is not None:
            return False
        self._hash.update(view)
        self._inspector.feed(view)
        return True

    def finish(self) -> None:
        """Set the checksum, after the last byte; refuse an empty file."""
        self.checksum = self._hash.hexdigest()
        if not self.size:
            self.refusal = EMPTY

    def write(self, views: list[memoryview], last: bool) -> None:
        """Write bytes to the staged file. Blocking. A full disk refuses this file; other OSErrors are raised."""
        try:
            self._stage.disk.ensure_space(sum(map(len, views)))
            if self.descriptor < 0:
                self.descriptor = self._stage.create(self.path)
            _write_all(self.descriptor, views)
            if last:
                self._stage.disk.start_sync(self.descriptor)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.refusal = STORAGE_FULL

    def seal(self, error: OSError | None) -> None:
        """Close an accepted file, or remove a refused one. Blocking. `error`: of its sync. A full disk refuses it."""
        if self.refusal is None:
            try:
                if error is not None:
                    raise error
                self.close()  # may report a delayed write error, also that the disk is full
            except OSError as failed:
                if failed.errno not in FULL:
                    raise
                self.refusal = STORAGE_FULL
        if self.refusal is not None:
            self._stage.discard(self.path)

    def close(self) -> None:
        """Close the file descriptor."""
        if self.descriptor >= 0:
            # Reset it first: Linux frees the number even when close() fails, and it may soon belong to another file.
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


@dataclass(slots=True)
class _Piece:
    """The bytes of one file within a window."""

    file: StagedFile
    views: list[memoryview] = field(default_factory=list)
    ends: bool = False


async def receive(
    next_chunk: Callable[[], Awaitable[bytes]],
    boundary: bytes,
    rules: Rules,
    stage: Stage,
    memory: Reservation,
    user_agent: str = "",
) -> Form:
    """Receive the body: text fields are held in memory, files are staged. `next_chunk` returns b"" at the end.

    `user_agent` is that of the request: it decides whether file names are percent-encoded.

    Raises MalformedBody, TooLarge or Invalid when the request as a whole is refused.
    """
    reception = _Reception(multipart.Parser(boundary, user_agent), rules, stage)
    with memory:
        while chunk := await next_chunk():
            reception.take(chunk)
            if reception.fields > 2 * MAX_METADATA:
                memory.grow(reception.held + reception.fields)  # refused when other bodies leave too little
            else:
                memory.hold(reception.held + reception.fields)
            if reception.holds(_window_size(memory.spare)):
                await stage.run(_write_window, stage, reception.window())
        reception.end()
        await stage.run(_write_window, stage, reception.window())
    return reception.form


def _window_size(spare: int) -> int:
    """The size in bytes of a window that is to be written now, see Reservation.spare."""
    return min(WINDOW, max(_USUAL_WINDOW, spare // 16)) if spare >= 0 else _SMALL_WINDOW


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    """Write all bytes, nearly always in one call. A disk that is nearly full first writes a part, then fails."""
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def _write_window(stage: Stage, window: list[_Piece]) -> None:
    """Write a window to the staged files, and sync and seal the files that end in it. Runs in a thread."""
    written: list[StagedFile] = []
    for piece in window:
        if piece.views and piece.file.refusal is None:
            piece.file.write(piece.views, piece.ends)
        if piece.ends and piece.file.refusal is None:
            written.append(piece.file)
        elif piece.ends:
            piece.file.seal(None)  # now: the next files may fit on the disk without it
        if len(written) == _MOST_OPEN:
            _sync_and_seal(stage, written)
            written = []
    _sync_and_seal(stage, written)


def _sync_and_seal(stage: Stage, files: list[StagedFile]) -> None:
    errors = stage.disk.sync_files([file.descriptor for file in files])
    for file, error in zip(files, errors, strict=True):
        file.seal(error)


class _Reception:
    """Sorts the parser's events into text fields and windows, and enforces the limits."""

    def __init__(self, parser: multipart.Parser, rules: Rules, stage: Stage) -> None:
        self.form = Form()
        self._rules = rules
        self._stage = stage
        self._parser = parser
        self._received = 0
        self._pieces: list[_Piece] = []
        self.held = 0  # bytes in the current window
        self.fields = 0  # bytes of text fields
        self._views = 0
        self._file: StagedFile | None = None
        self._field = ""
        self._text = bytearray()

    def holds(self, size: int) -> bool:
        """Whether the current window has `size` bytes, or as many views as a window may have."""
        return self.held >= size or self._views >= _MAX_VIEWS

    def window(self) -> list[_Piece]:
        """Return the current window and begin an empty one."""
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
        # files[0] counts as files[]: PHP's curl cannot repeat a field name.
        is_file = _NUMBERED.sub("[]", part.name) in self._rules.file_fields
        is_json = part.name == self._rules.json_field and not self._rules.single
        if not is_file and part.file_name is not None and not is_json:
            wanted = " or ".join(sorted(self._rules.file_fields))
            raise Invalid(Problem(part.name, f"is not a file field. Send files as {wanted}"))
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
            limit = self._rules.json_size if self._field == self._rules.json_field else MAX_FIELD
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
            self._file.finish()
            self._piece(self._file).ends = True

    def _piece(self, file: StagedFile) -> _Piece:
        """The piece of `file` in the current window, added when the window does not have it yet."""
        if not self._pieces or self._pieces[-1].file is not file:
            self._pieces.append(_Piece(file))
        return self._pieces[-1]

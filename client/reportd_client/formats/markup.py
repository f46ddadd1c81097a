"""XML of any origin, read in pieces: no document type, no entities, any encoding, and characters that XML forbids."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any, Iterator, Protocol
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from reportd_client.formats.result import Empty, Unreadable

MAX_FILE = 256 << 20
MAX_TAG = 16 << 20  # bytes of a tag or comment, which the parser keeps whole
MAX_DEPTH = 200
HEAD = 64 << 10
_CHUNK = 256 << 10
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# The same, written as a number: 0 to 8, 11, 12, 14 to 31.
_NUMBERED = re.compile(r"&#(?:x0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F])|0*(?:[0-8]|1[1-24-9]|2[0-9]|3[01]));")
_ESCAPES = re.compile(r"&#(?:x0*1[bB]|0*27);|\x1b")
_HALF = re.compile(r"&#?[xX0-9a-fA-F]{0,12}\Z")
_TAG = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)[\s/>]")
_BEFORE_TAG = (("<?", "?>"), ("<!--", "-->"), ("<!", ">"))
ESCAPE = "\u241b"  # in the place of the escape character, which XML forbids and colours of terminals begin with


class Target(Protocol):
    """Gets the elements in their order; names are without their namespace."""

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...

    def cut(self) -> None:
        """The rest of the file is missing or damaged."""


def first_tag(head: bytes) -> str | None:
    """The name of the first element, from the beginning of a file; None when it is no XML."""
    try:
        text = head.decode(_encoding(head), "replace").lstrip("\ufeff \t\r\n")
    except LookupError:
        return None
    while (end := next((end for start, end in _BEFORE_TAG if text.startswith(start)), None)) is not None:
        if text.startswith("<!DOCTYPE") and "[" in text.partition(">")[0]:
            end = "]"
        text = text.partition(end)[2].lstrip("> \t\r\n")
    found = _TAG.match(text)
    return found[1] if found else None


def read(path: Path, target: Target) -> Iterator[None]:
    """Parse a file, and yield after each piece. Raises Unreadable, Empty."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE >> 20} MiB")
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            if not head.strip():
                raise Empty(f"{path} is empty")
            stream.seek(0)
            yield from _parse(path, iter(lambda: stream.read(_CHUNK), b""), _encoding(head), target)
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None


def _parse(path: Path, chunks: Iterator[bytes], encoding: str, target: Target) -> Iterator[None]:
    guard = _Guard(path, target)
    parser = DefusedXMLParser(target=guard, encoding="utf-8", forbid_dtd=True)
    fed = 0
    try:
        for text in _clean(path, chunks, encoding):
            data = text.encode()
            fed += len(data)
            parser.feed(data)
            if fed - parser.parser.CurrentByteIndex > MAX_TAG:
                raise Unreadable(f"{path} has a tag of more than {MAX_TAG >> 20} MiB")
            yield
        parser.close()
    except DefusedXmlException:
        raise Unreadable(f"{path} has a document type or entities, which are not read") from None
    except ParseError:
        target.cut()
    yield


class _Guard:
    """Passes elements on, without namespaces, as deep as a report may be."""

    def __init__(self, path: Path, target: Target) -> None:
        self._path, self._target, self._depth = path, target, 0
        self.data = target.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"{self._path} is nested too deeply")
        self._target.start(tag.rpartition("}")[2], attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._target.end(tag.rpartition("}")[2])

    def close(self) -> Any:
        return None


def _encoding(head: bytes) -> str:
    for bom, encoding in _BOMS.items():
        if head.startswith(bom):
            return encoding
    if head[:2] in (b"<\0", b"\0<"):
        return "utf-16-le" if head[0] else "utf-16-be"
    declared = _DECLARED.match(head)
    name = declared[1].decode() if declared else "utf-8"
    return "utf-8" if name.lower().startswith("utf-16") else name  # an ASCII declaration of UTF-16 is none


def _clean(path: Path, chunks: Iterator[bytes], encoding: str) -> Iterator[str]:
    """The text in pieces, with what XML forbids replaced."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        pieces = (decoder.decode(chunk) for chunk in chunks)
        rest, first = "", True
        for piece in pieces:
            text, rest = rest + piece, ""
            if first:
                text, first = text.lstrip("\ufeff \t\r\n"), False
            half = _HALF.search(text)
            if half:
                text, rest = text[: half.start()], text[half.start() :]
            yield _without_forbidden(text)
        yield _without_forbidden(rest + decoder.decode(b"", True))
    except (LookupError, UnicodeError):
        raise Unreadable(f"{path} has the encoding {encoding}, which is not known") from None


def _without_forbidden(text: str) -> str:
    if "&#" in text or "\x1b" in text:
        text = _NUMBERED.sub("\ufffd", _ESCAPES.sub(ESCAPE, text))
    return _FORBIDDEN.sub("\ufffd", text)

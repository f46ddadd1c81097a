"""Text in any encoding: which files are text by their name or declared type, and the encoding of a content. Pure."""

import codecs
import re

UTF_8, UTF_16LE, UTF_16BE, UNKNOWN = "utf-8", "utf-16le", "utf-16be", "unknown"

_SLICE = 1 << 16
_MIN_NULS = 4  # in the head of UTF-16 without a byte order mark: fewer may be damage in another encoding

# Also rotated logs such as app.log.1 and app.log.2026-01-31, and captured output such as stdout or job-stderr.
_NAMES = re.compile(
    r".*\.(?:log|txt|text|out|err)(?:\.[0-9_-]+)?"
    r"|.*\.(?:json|jsonl|ndjson|har|xml|svg|trx|tap|html?|xhtml|md|rst|csv|tsv|ya?ml|toml|ini|cfg|conf|env|properties"
    r"|sql|sh|bat|cmd|ps1|py|js|mjs|ts|jsx|tsx|css|java|kt|rb|go|rs|cs|php|feature|diff|patch|trace|dump|lcov|info)"
    r"|(?:.*[._-])?(?:stdout|stderr|syslog|messages|console|logcat|dmesg)",
    re.DOTALL,
)
_DECLARED = re.compile(
    r"text/.+|.+\+(?:xml|json|yaml)|application/(?:x-)?(?:json|jsonl|ndjson|xml|yaml|javascript|ecmascript|sql|sh|log)"
)


def is_text_name(file_name: str) -> bool:
    """Whether a file name in lower case is that of a text file."""
    return _NAMES.fullmatch(file_name) is not None


def is_text_type(declared: str) -> bool:
    """Whether a MIME type in lower case, without parameters, is one of text."""
    return _DECLARED.fullmatch(declared) is not None


def beginning(head: bytes) -> tuple[str, bool, bytes]:
    """The encoding of a text that begins with `head`, whether a byte order mark says so, and `head` as UTF-8.

    Without a mark, UTF-16 is recognised when most characters are ASCII. UTF-8 stands for every other encoding: only
    the whole content shows whether it is UTF-8.
    """
    encoding, marked = UTF_8, False
    if head.startswith(b"\xff\xfe") and head[2:4] != b"\0\0":  # with two zero bytes it is the mark of UTF-32
        encoding, marked = UTF_16LE, True
    elif head.startswith(b"\xfe\xff"):
        encoding, marked = UTF_16BE, True
    elif b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) >= max(_MIN_NULS, len(head) // 4) and not min(even, odd):
            encoding = UTF_16LE if odd else UTF_16BE
    return encoding, marked, head if encoding == UTF_8 else head.decode(encoding, "ignore").encode()


class Decoding:
    """Decodes a content as it streams. `encoding` becomes `unknown` at the first byte that does not belong to it.

    A character that is cut in half at the end is accepted: logs are often cut at a number of bytes.
    """

    __slots__ = ("_decoder", "_position", "encoding", "stopped")

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.stopped = ""  # where and why the content stopped being text, for people; "" when it did not
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._position = 0

    def feed(self, view: memoryview) -> None:
        # Small slices stay in the CPU cache: 1 MiB of text at once can become 4 MiB of str.
        for start in range(0, len(view), _SLICE):
            if self.encoding != UNKNOWN:
                self._decode(view[start : start + _SLICE])

    def _decode(self, view: memoryview) -> None:
        self._position += len(view)
        try:
            text = self._decoder.decode(view)
        except UnicodeDecodeError as error:
            if not self.stopped:
                at = self._position - len(error.object) + error.start
                self.stopped = f"byte {at} (0x{error.object[error.start]:02x}) is not {self.encoding.upper()}"
            self.encoding = UNKNOWN
            return
        if not self.stopped and "\0" in text:
            pending = len(self._decoder.getstate()[0])
            at = self._position - pending - len(text[text.index("\0") :].encode(self.encoding))
            self.stopped = f"byte {at} is NUL"

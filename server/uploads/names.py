"""File names as clients send them: encodings are undone, and the base name is cleaned. Pure."""

import binascii
import re
from email.quoprimime import header_decode
from unicodedata import normalize
from urllib.parse import unquote

MAX_FILE_NAME = 255
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]{0,253}[A-Za-z0-9_-]")
_REMOVED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# aiohttp encodes all except letters, digits and -._~ (RFC 3986, 2.3): a name with any other character is not from it.
_PERCENT_ENCODED = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+")
# RFC 2047, 2, with a language as in RFC 2231. Only common charsets: some of Python's codecs are slow.
_ENCODED_WORD = re.compile(
    r"=\?((?:utf-?8|us-ascii|iso-|windows-|cp[0-9]|gb|big5|shift|euc|koi8)[\w.:-]*)(?:\*[\w-]*)?\?([bq])\?([^?]*)\?=",
    re.IGNORECASE | re.ASCII,
)
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")


def decoded(sent: str, user_agent: str) -> str:
    """The file name that a client means with the `filename` of a part.

    .NET and mail libraries send encoded words (RFC 2047), and aiohttp percent-encodes every name. Curl and browsers do
    not encode a percent sign, so `100%25.png` keeps it: only the User-Agent shows which of the two a name is.
    """
    if "=?" in sent:
        sent = _ENCODED_WORD.sub(_word, _BETWEEN_WORDS.sub("", sent))
    elif "%" in sent and "aiohttp/" in user_agent and _PERCENT_ENCODED.fullmatch(sent):
        return percent_decoded(sent)
    # Browsers escape these three characters in a file name (WHATWG HTML, "multipart form data").
    return sent.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def percent_decoded(name: str) -> str:
    """The name without percent-encoding; unchanged when it does not encode UTF-8."""
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name


def link_name(path: str | None) -> str | None:
    """The base name that links steps and screenshots: in Unicode form C, and without percent-encoding.

    None when it is the base name as it is. macOS writes names in form D, and some clients percent-encode them: the
    path of a step and the name of its screenshot are then written in different ways.
    """
    if path is None or (path.isascii() and "%" not in path):
        return None
    name = _base_name(normalize("NFC", percent_decoded(path)).replace("\0", ""))
    return None if name == _base_name(path) else name


def clean_file_name(sent: str) -> str:
    """The base name of a client's file name: no folders, no control characters, at most 255 characters."""
    if _PLAIN_NAME.fullmatch(sent):
        return sent
    base = _REMOVED.sub("", _base_name(sent)).strip()
    if base in {"", ".", ".."}:
        return "unnamed"
    if len(base) > MAX_FILE_NAME:
        stem, dot, extension = base.rpartition(".")
        keep = f"{dot}{extension}" if stem and len(extension) <= 20 else ""
        base = base[: MAX_FILE_NAME - len(keep)] + keep
    return base


def _base_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _word(word: re.Match[str]) -> str:
    """The text of an encoded word; the word itself when it is malformed."""
    charset, coding, text = word.groups()
    try:
        if coding in "bB":
            return binascii.a2b_base64(text + "=" * (-len(text) % 4)).decode(charset)
        return header_decode(text).encode("latin-1").decode(charset)
    except (ValueError, LookupError):  # binascii.Error and UnicodeError are ValueErrors
        return word[0]

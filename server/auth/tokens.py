"""The text of tokens and of session cookies: how they are made, and what is kept of them."""

import hashlib
import re
import secrets
import string
import zlib

# A token is rpt_, 43 random letters and digits, and 6 for their CRC32: scanners find it without asking anybody, and
# most typos are refused here. Those that were made before it had a checksum are 6 characters shorter, which tells them
# apart: they are random in all that they have.
PREFIX = "rpt_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43  # of 62 digits: 256 bits
_CHECKED = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{6}})")
_UNCHECKED = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{43}}")
_COOKIE = re.compile(r"[0-9A-Za-z_-]{43}")


def new_token() -> str:
    """256 random bits behind a prefix that tells people and scanners what it is."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def is_token(text: str) -> bool:
    """Whether it can be a token at all, as far as its text says."""
    checked = _CHECKED.fullmatch(text)
    if checked is not None:
        return _checksum(checked[1]) == checked[2]
    return _UNCHECKED.fullmatch(text) is not None


def new_cookie() -> str:
    """The value of a session cookie: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_cookie(text: str) -> bool:
    """Whether it can be the value of a session cookie at all, as far as its text says."""
    return _COOKIE.fullmatch(text) is not None


def hash_of(secret: str) -> bytes:
    """What is stored and looked up: SHA-256 is enough for 256 random bits, there is nothing to guess.

    Secrets are never compared, so no comparison need take constant time: what an index tells by its timing is about
    hashes, and nobody finds a secret whose hash begins like one that is there, other than by trying.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def csrf_token(cookie: str) -> str:
    """What a page must send beside the cookie to change something. Only who reads a reply of the server knows it."""
    return hashlib.sha256(b"csrf " + cookie.encode("utf-8", "surrogateescape")).hexdigest()


def _checksum(random: str) -> str:
    number, digits = zlib.crc32(random.encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits

"""The text of tokens and session cookies: how it is made and checked, and the hash that is stored."""

import hashlib
import re
import secrets
import string
import zlib

# A token is rpt_, 43 random letters and digits, and 6 characters for their CRC32. The checksum lets secret scanners
# recognise a token offline, and most typos are refused here without a query. Tokens of older versions have no checksum:
# they are 6 characters shorter.
PREFIX = "rpt_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43  # of 62 digits: 256 bits
_WITH_CHECKSUM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{6}})")
_WITHOUT_CHECKSUM = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{43}}")
_COOKIE = re.compile(r"[0-9A-Za-z_-]{43}")


def new_token() -> str:
    """256 random bits after a prefix that people and secret scanners recognise, and a checksum."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def is_token(text: str) -> bool:
    """Whether `text` has the format of a token and, where it has a checksum, the right one."""
    checked = _WITH_CHECKSUM.fullmatch(text)
    if checked is not None:
        return _checksum(checked[1]) == checked[2]
    return _WITHOUT_CHECKSUM.fullmatch(text) is not None


def new_cookie() -> str:
    """The value of a session cookie: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_cookie(text: str) -> bool:
    """Whether `text` has the format of a session cookie's value."""
    return _COOKIE.fullmatch(text) is not None


def hash_of(secret: str) -> bytes:
    """The hash by which a secret is stored and looked up. SHA-256 suffices: 256 random bits cannot be guessed.

    Secrets are not compared, so no constant-time comparison is needed. The timing of the index lookup may reveal the
    beginning of stored hashes. That does not help: a secret with such a hash can only be found by brute force.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def csrf_token(cookie: str) -> str:
    """The token that a page must send with the cookie to change data. Only a page that can read the server's replies
    has it, and pages of other sites cannot."""
    return hashlib.sha256(b"csrf " + cookie.encode("utf-8", "surrogateescape")).hexdigest()


def _checksum(random: str) -> str:
    number, digits = zlib.crc32(random.encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits

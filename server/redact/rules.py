"""Redacts credentials: those of the system under test in stored logs, and the server's own in its log. Pure: no I/O."""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

REDACTED = "[redacted]"

_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
_USER_INFO = re.compile(r"(//[^/?#@:\s]*):[^/?#&\s]*@")
# Names of parameters that carry a credential: names that end with one of the long words, like `access_token`,
# `newPassword` or `user[password]`, and the short words as separate words. Lengths are bounded: otherwise a URL made of
# separators would take quadratic time.
_NAME = (
    r"(?i)(?<=[?&;#])("
    r"(?:[^=&;#?\s]{0,120}?(?:token|token[_-]?id|secret|password|passwd|passphrase|signature|credentials?"
    r"|api[_-]?key|authorization|session[_-]?id)"
    r"|(?:[^=&;#?\s]{0,80}(?:[_.\[-]|%5B))?(?:auth|sig|otp|pwd|jwt|sid)|key)"
    r"(?:\[\d{0,9}\]|\]|%5B\d{0,9}%5D|%5D){0,2})="
)
_IN_URL = re.compile(_NAME + r"(?:[^&#;]|;(?![^=&#;]*=))*")
_IN_TEXT = re.compile(_NAME + r"[^&#;\s\"'<>]*")

# Names of password fields, in selectors, identifiers and labels. A short word must be a separate word, as in `userPin`,
# `otpCode` or `USER_PIN`: otherwise `spinner` and `opinion` would match.
_LONG_WORD = re.compile(r"(?i)passw(?:or)?[dt]|passphrase|passcode|secret|one[-_ ]?time[-_ ]?(?:code|pass)")
_SHORT_WORDS = ("pin", "otp", "totp", "pwd", "pass", "cvv", "cvc")
_SHORT_WORD = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(_SHORT_WORDS)})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_SHORT_WORDS).title()})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_SHORT_WORDS).upper()})(?![a-z]|[A-Z](?![a-z]))"
)

# Evidence links: any path segment after /shared/, and the text of a link anywhere, even if it is truncated.
_SHARED = re.compile(r"(?<=/shared/)[^/?#]+")
_LINK = re.compile(r"rpl_[0-9A-Za-z_-]{16,}")


def is_password_field(*names: str | None) -> bool:
    """Whether one of `names` is that of a field for a password, a PIN or a one-time code."""
    return any(name and (_LONG_WORD.search(name) or _SHORT_WORD.search(name)) for name in names)


def redact_headers(headers: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """The headers with the values of credential headers replaced, and the URLs in other headers redacted."""
    return {name: _redact_header(name.strip().lower(), value) for name, value in headers.items()}


def redact_url(url: str) -> str:
    """The URL without its password and without the values of parameters that are named like credentials."""
    return _redacted(url, _IN_URL)


def redact_target(target: str) -> str:
    """The target of a request to this server, for the log: redact_url, and without an evidence link."""
    if "%" in target and _SHARED.search(plain := unquote(target)):  # aiohttp also routes a percent-encoded path
        target = quote(plain, safe="/?#[]@!$&'()*+,;=:%")
    return redact_url(redact_links(_SHARED.sub(REDACTED, target)))


def redact_links(text: str) -> str:
    """The text without evidence links of this server."""
    return _LINK.sub(REDACTED, text) if "rpl_" in text else text


def redact_text(text: str) -> str:
    """The text with the URLs in it redacted: messages of browsers and tools quote URLs."""
    return _redacted(text, _IN_TEXT)


def _redacted(text: str, secrets: re.Pattern[str]) -> str:
    if "//" in text:
        text = _USER_INFO.sub(rf"\1:{REDACTED}@", text)
    return secrets.sub(rf"\1={REDACTED}", text) if "=" in text else text


def _redact_header(name: str, value: str | list[str]) -> str | list[str]:
    if isinstance(value, list):
        return [REDACTED if name in _SECRET_HEADERS else redact_url(text) for text in value]
    return REDACTED if name in _SECRET_HEADERS else redact_url(value)

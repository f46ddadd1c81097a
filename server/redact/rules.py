"""Redacts credentials: those of the system under test in stored logs, and the server's own in its log. Pure: no I/O."""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from server.redact.secret_words import LONG_NAMES, LONG_WORDS, SECRET_HEADERS, SHORT_NAMES, SHORT_WORDS

REDACTED = "[redacted]"

# Everything below takes linear time: no character is looked at again for each of the characters before it. One MiB of
# the worst text took 0.3 s when one pattern did it all.
_USER_INFO = re.compile(r"(//[^/?#@:\s]*+):[^/?#&\s]*@")
# A parameter of a URL, with the `=` behind its name. Its value ends differently in a URL and in a text with URLs in it.
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s]++)=")
_URL_VALUE_ENDS = re.compile(r"[&#]|;[^=&#;]*+=")
_TEXT_VALUE_ENDS = re.compile(r"[&#;\s\"'<>]")
_SHORT_NAME = re.compile(rf"(?:^|[_.\[-]|%5b)(?:{'|'.join(SHORT_NAMES)})$|^key$")
_INDEX = re.compile(r"(?:\[\d{0,9}\]|\]|%5b\d{0,9}%5d|%5d)$")
_NAME_END = 64  # the characters of a name that matter: more than a word with two indexes

_LONG_WORDS = tuple(re.compile(word) for word in LONG_WORDS)
_FORMS = [[form(word) for word in SHORT_WORDS] for form in (str.lower, str.title, str.upper)]
_SHORT_WORD = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(_FORMS[0])})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_FORMS[1])})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_FORMS[2])})(?![a-z]|[A-Z](?![a-z]))"
)
# Finds where a short word may begin, ten times as fast as _SHORT_WORD.
_SHORT_WORD_BEGINS = re.compile("|".join(word for forms in _FORMS for word in forms))

# Evidence links: any path segment after /shared/, and the text of a link anywhere, even if it is truncated.
_SHARED = re.compile(r"(?<=/shared/)[^/?#]+")
# What a provider sends along when a person has signed in there.
_SIGN_IN = re.compile(r"(?<=/sign-in/callback\?).+")
_LINK = re.compile(r"rpl_[0-9A-Za-z_-]{16,}")


def is_password_field(*names: str | None) -> bool:
    """Whether one of `names` is that of a field for a password, a PIN or a one-time code."""
    return any(name and (_has_long_word(name) or _has_short_word(name)) for name in names)


def redact_headers(headers: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """The headers with the values of credential headers replaced, and the URLs in other headers redacted."""
    return {name: _redact_header(name.strip().lower(), value) for name, value in headers.items()}


def redact_url(url: str) -> str:
    """The URL without its password and without the values of parameters that are named like credentials."""
    return _redacted(url, _URL_VALUE_ENDS)


def redact_target(target: str) -> str:
    """The target of a request to this server, for the log: redact_url, without links and sign-in codes."""
    if "%" in target and _SHARED.search(plain := unquote(target)):  # aiohttp also routes a percent-encoded path
        target = quote(plain, safe="/?#[]@!$&'()*+,;=:%")
    return redact_url(redact_links(_SIGN_IN.sub(REDACTED, _SHARED.sub(REDACTED, target))))


def redact_links(text: str) -> str:
    """The text without evidence links of this server."""
    return _LINK.sub(REDACTED, text) if "rpl_" in text else text


def redact_text(text: str) -> str:
    """The text with the URLs in it redacted: messages of browsers and tools quote URLs."""
    return _redacted(text, _TEXT_VALUE_ENDS)


def _redacted(text: str, value_ends: re.Pattern[str]) -> str:
    if "//" in text:
        text = _USER_INFO.sub(rf"\1:{REDACTED}@", text)
    return _without_secrets(text, value_ends) if "=" in text else text


def _without_secrets(text: str, value_ends: re.Pattern[str]) -> str:
    """The text without the values of parameters that are named like credentials."""
    parts: list[str] = []
    at = 0
    for parameter in _PARAMETER.finditer(text):
        if parameter.start() < at or not _is_secret(parameter[1]):  # the former: inside of a value that is hidden
            continue
        parts += [text[at : parameter.end()], REDACTED]
        end = value_ends.search(text, parameter.end())
        at = len(text) if end is None else end.start()
    return "".join([*parts, text[at:]]) if parts else text


def _is_secret(name: str) -> bool:
    """Whether a parameter with this name carries a credential."""
    end = name[-_NAME_END:].casefold()
    for _ in range(2):
        if end[-1:] == "]" or end[-3:] == "%5d":
            end = _INDEX.sub("", end)
    return end.endswith(LONG_NAMES) or (end.endswith((*SHORT_NAMES, "key")) and _SHORT_NAME.search(end) is not None)


def _has_long_word(name: str) -> bool:
    lower = name.casefold()
    return any(word.search(lower) for word in _LONG_WORDS)


def _has_short_word(name: str) -> bool:
    return any(_SHORT_WORD.match(name, begin.start()) for begin in _SHORT_WORD_BEGINS.finditer(name))


def _redact_header(name: str, value: str | list[str]) -> str | list[str]:
    if isinstance(value, list):
        return [REDACTED if name in SECRET_HEADERS else redact_url(text) for text in value]
    return REDACTED if name in SECRET_HEADERS else redact_url(value)

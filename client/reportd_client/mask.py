"""Hides credentials before anything is written to the spool, which is a file. The server hides the same ones again."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, Sequence

from reportd_client.secret_words import LONG_NAMES, LONG_WORDS, SECRET_HEADERS, SHORT_NAMES, SHORT_WORDS

REDACTED = "[redacted]"

_USER_INFO = re.compile(r"(//[^/?#@:\s]*):[^/?#&\s]*@")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=")
_URL_VALUE = re.compile(r"[^&#;]*(?:;(?![^=&#;]*=)[^&#;]*)*")
_TEXT_VALUE = re.compile(r"[^&#;\s\"'<>]*")
_SHORT_NAME = re.compile(rf"(?:^|[_.\[-]|%5b)(?:{'|'.join(SHORT_NAMES)})$|^key$")
_INDEX = re.compile(r"(?:\[\d{0,9}\]|\]|%5b\d{0,9}%5d|%5d)$")
_NAME_END = 64
_LONG = 4  # characters of a value that is hidden inside of words, too

_LONG_WORDS = [re.compile(word) for word in LONG_WORDS]
_FORMS = [[form(word) for word in SHORT_WORDS] for form in (str.lower, str.title, str.upper)]
_SHORT_WORD = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(_FORMS[0])})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_FORMS[1])})(?![a-z])"
    rf"|(?<![A-Z])(?:{'|'.join(_FORMS[2])})(?![a-z]|[A-Z](?![a-z]))"
)
_TOKEN = re.compile(r"rpt_[0-9A-Za-z]{43,}")  # of reportd, which a test prints with its environment
_QUOTED = re.compile(r"([\"'`])(?:(?!\1).)*\1")
_STEP_TEXTS = (
    *("action", "description", "input_value", "expected_value", "actual_value", "error_message", "stack_trace"),
    *("element_selector", "element_name"),
)


def is_password_field(*names: str | None) -> bool:
    """Whether one of `names` is that of a field for a password, a PIN or a one-time code."""
    return any(
        name and (any(word.search(name.casefold()) for word in _LONG_WORDS) or _SHORT_WORD.search(name))
        for name in names
    )


class Masks:
    """Hides credentials by their place, and what the patterns of REPORTD_MASK match anywhere.

    `patterns` has one regular expression a line. Raises ValueError for one that cannot be used.
    """

    def __init__(self, patterns: str = "") -> None:
        self._patterns = []
        for line in filter(None, map(str.strip, patterns.splitlines())):
            try:
                self._patterns.append(re.compile(line))
            except re.error as error:
                raise ValueError(f"REPORTD_MASK: {line!r} is not a regular expression: {error}") from None

    def text(self, text: str) -> str:
        """The text without the credentials of URLs in it, and without tokens of reportd."""
        return self._own(_redacted(text, _TEXT_VALUE))

    def url(self, url: str) -> str:
        return self._own(_redacted(url, _URL_VALUE))

    def _own(self, text: str) -> str:
        text = without_tokens(text)
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text

    def headers(self, headers: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._header(name.lower(), value) for name, value in headers.items()}

    def _header(self, name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._header(name, item) for item in value]
        return REDACTED if name in SECRET_HEADERS else self.url(str(value))

    def step(self, step: dict[str, Any]) -> dict[str, Any]:
        """The fields of a step. What was typed into a password field is hidden everywhere in the step.

        Tools also write the value into the title, as in `Fill "hunter2"`. When the value is not known, every quoted
        part of the title is hidden.
        """
        if _is_secret_step(step):
            step = _without_typed(step)
        return self.fields(step, _STEP_TEXTS)

    def fields(self, values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """The same values, with the texts of these names hidden where needed."""
        changed = {name: self.text(values[name]) for name in names if isinstance(values.get(name), str)}
        return {**values, **changed}

    def network(self, entry: dict[str, Any]) -> dict[str, Any]:
        entry = {**entry, "url": self.url(entry["url"])}
        for name in ("request_headers", "response_headers"):
            if entry.get(name):
                entry[name] = self.headers(entry[name])
        return self.fields(entry, ("error_text",))

    def anything(self, value: Any) -> Any:
        """A JSON value with all of its texts hidden where needed."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                name: REDACTED if isinstance(item, str) and is_password_field(str(name)) else self.anything(item)
                for name, item in value.items()
            }
        return [self.anything(item) for item in value] if isinstance(value, (list, tuple)) else value


def without_tokens(text: str) -> str:
    return _TOKEN.sub(REDACTED, text) if "rpt_" in text else text


def typed_secret(step: dict[str, Any]) -> str | None:
    """What a step typed into a password field, when it is long enough to be told from other text."""
    typed = step.get("input_value")
    return typed if typed and len(typed) >= _LONG and _is_secret_step(step) else None


def without_secrets(value: Any, secrets: Sequence[str]) -> Any:
    """A JSON value with these texts hidden in all of its texts."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, dict):
        return {name: without_secrets(item, secrets) for name, item in value.items()}
    return [without_secrets(item, secrets) for item in value] if isinstance(value, (list, tuple)) else value


def _is_secret_step(step: dict[str, Any]) -> bool:
    names = step.get("element_selector"), step.get("element_name")
    return is_password_field(*names) or step.get("element_type") == "password"


def _without_typed(step: dict[str, Any]) -> dict[str, Any]:
    typed = step.get("input_value")
    step = {**step, "input_value": REDACTED} if typed else dict(step)
    for name in ("action", "description", "expected_value", "actual_value", "error_message", "stack_trace"):
        text = step.get(name)
        if not text:
            continue
        if typed:
            step[name] = _without(typed, text)
        elif name in ("action", "description"):
            step[name] = _without_quoted(text, (step.get("element_selector"), step.get("element_name")))
    return step


def _without_quoted(text: str, known: tuple[str | None, ...]) -> str:
    """The text without its quoted parts, except the `known` names of the field."""
    return _QUOTED.sub(lambda found: found[0] if found[0][1:-1] in known else f'"{REDACTED}"', text)


def _without(typed: str, text: str) -> str:
    """The text without what was typed. A short value is hidden only as a word of its own: `1` is in most texts."""
    if len(typed) >= _LONG:
        return text.replace(typed, REDACTED)
    return re.sub(rf"(?<!\w){re.escape(typed)}(?!\w)", REDACTED, text)


def _redacted(text: str, value: re.Pattern[str]) -> str:
    if "//" in text and "@" in text:
        text = _USER_INFO.sub(rf"\1:{REDACTED}@", text)
    if "=" not in text:
        return text
    parts: list[str] = []
    at = 0
    for parameter in _PARAMETER.finditer(text):
        if parameter.start() < at or not _is_secret(parameter[1]):  # the former: inside of a value that is hidden
            continue
        parts += [text[at : parameter.end()], REDACTED]
        found = value.match(text, parameter.end())
        at = found.end() if found else parameter.end()
    return "".join([*parts, text[at:]]) if parts else text


def _is_secret(name: str) -> bool:
    """Whether a parameter with this name carries a credential."""
    end = name[-_NAME_END:].casefold()
    for _ in range(2):
        end = _INDEX.sub("", end)
    return end.endswith(LONG_NAMES) or _SHORT_NAME.search(end) is not None

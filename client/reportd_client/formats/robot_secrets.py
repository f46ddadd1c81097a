"""Passwords among the arguments and messages of Robot Framework's keywords."""

from __future__ import annotations

import re
from typing import Any

from reportd_client.mask import REDACTED, is_password_field

_VARIABLE = re.compile(r"[$@&%]\{[^}]*\}")
_ASSIGNED = re.compile(r"[$@&]\{([^}]{1,200})\} = (.+)", re.DOTALL)  # what a keyword logs that sets a variable
_TRACED = re.compile(r"(?:\$\{([^}]{1,200})\}|(\w{1,200}))?(=?)'((?:[^'\\]|\\.)*)'")
_NAMED = re.compile(r"(\w[\w ]{0,100})=(.*)", re.DOTALL)
_MAX_TEXT = 20_000
_SHORTEST = 4


def shown_arguments(keyword: dict[str, Any]) -> list[str]:
    """The arguments of a keyword, without what is typed into a field for a password."""
    arguments = _arguments(keyword)
    hidden = _is_typed(keyword, arguments)
    shown = []
    for i, text in enumerate(arguments):
        named = _NAMED.match(text)
        if hidden and i and not _VARIABLE.fullmatch(text):
            text = REDACTED
        elif named and is_password_field(named[1]) and not _VARIABLE.fullmatch(named[2]):
            text = f"{named[1]}={REDACTED}"
        shown.append(text)
    return shown


def secrets_of_keyword(keyword: dict[str, Any]) -> set[str]:
    """Values of its arguments that are passwords."""
    arguments = _arguments(keyword)
    found = set(arguments[1:]) if _is_typed(keyword, arguments) else set()
    named = [match for match in map(_NAMED.match, arguments) if match]
    found |= {match[2] for match in named if is_password_field(match[1])}
    if keyword.get("type") == "VAR" and is_password_field(_text(keyword.get("name"))):
        values = keyword.get("value") or keyword.get("assign")
        found |= {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()
    return {value for value in found if len(value) >= _SHORTEST and not _VARIABLE.search(value)}


def secrets_of_message(keyword: dict[str, Any], message: str) -> set[str]:
    """Values in a message that sets a variable, or that has the values of the arguments (level TRACE)."""
    if len(message) > _MAX_TEXT:
        return set()
    assigned = _ASSIGNED.match(message)
    if assigned and is_password_field(assigned[1]):
        return {assigned[2]} if len(assigned[2]) >= _SHORTEST else set()
    if not message.startswith("Arguments: ["):
        return set()
    typed = _is_typed(keyword, _arguments(keyword))
    found = set()
    for i, match in enumerate(_TRACED.finditer(message)):
        name = (match[1] or match[2]) if match[3] else None
        if (typed and i) or is_password_field(name):
            found.add(match[4])
    return {value for value in found if len(value) >= _SHORTEST}


def _is_typed(keyword: dict[str, Any], arguments: list[str]) -> bool:
    """Whether a keyword types into a field for a password: by its name, or that of the field, its first argument."""
    name = _text(keyword.get("name")).rpartition(".")[2]
    return len(arguments) > 1 and is_password_field(name, arguments[0])


def _arguments(keyword: dict[str, Any]) -> list[str]:
    arguments = keyword.get("args")
    return [text for text in arguments if isinstance(text, str)] if isinstance(arguments, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

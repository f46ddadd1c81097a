"""Whom else this server believes: the setting `[[auth.ci]]`. Wrong values stop the start."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1, max_length=1000)]

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class CiRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Jobs whose ID token has these claims get a token for the project. In the value of a claim, `*` stands for any
    characters; a list names alternatives."""

    issuer: Text
    audience: Text
    project: Text
    claims: Annotated[dict[Text, Text | list[Text]], Meta(min_length=1, max_length=50)]

    def __post_init__(self) -> None:
        _check_issuer(self.issuer)
        _check_project(self.project)
        if [] in self.claims.values():
            raise ValueError("claims: a list of alternatives must not be empty: nothing would match it")


def is_secure(address: str, beside: str = "") -> bool:
    """Whether an address may be asked: https, or http on this machine if `beside`, or else itself, is there, too."""
    try:
        parts, other = urlsplit(address), urlsplit(beside or address)
        hosts = {parts.hostname, other.hostname}
        return (
            parts.port != 0
            and bool(parts.hostname)
            and not parts.username
            and (parts.scheme == "https" or (parts.scheme == "http" and hosts <= _LOOPBACK))
        )
    except ValueError:  # a wrong port, or brackets without an IPv6 address
        return False


def _check_issuer(issuer: str) -> None:
    if not is_secure(issuer) or not re.fullmatch(r"[!-~]+", issuer) or "?" in issuer or "#" in issuer:
        raise ValueError(
            f"issuer: {issuer!r} must be an address like https://token.actions.githubusercontent.com, exactly as in "
            "the claim iss: https (http only on this machine), without user, query and fragment"
        )


def _check_project(name: str) -> None:
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError(f"project: {name!r} must be 1 to 100 printable characters")

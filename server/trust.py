"""Whom else this server believes: the settings `[[auth.ci]]` and `[auth.oidc]`. Wrong values stop the start."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

Text = Annotated[str, Meta(min_length=1, max_length=1000)]

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_ROLE = re.compile(r"(?:(?P<project>.+)=)?(?P<role>viewer|uploader|admin)", re.DOTALL)


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


class Oidc(Struct, frozen=True, forbid_unknown_fields=True):
    """Single sign-on. Off while `issuer` is empty."""

    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    scopes: list[str] = field(default_factory=lambda: ["openid", "profile", "email"])
    roles_claim: str = "groups"
    role_map: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.issuer:
            if self.client_id or self.client_secret or self.role_map:
                raise ValueError("issuer is missing: give the address of the provider, like https://login.example")
            return
        _check_issuer(self.issuer)
        if not self.client_id:
            raise ValueError("client_id is missing: the provider gives it when reportd is registered there")
        if "openid" not in self.scopes or not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in self.scopes):
            raise ValueError('scopes must have "openid"; scopes are ASCII texts without spaces')
        if not self.roles_claim or not self.role_map:
            raise ValueError("roles_claim and role_map are needed: without them nobody would have a role")
        for roles in self.role_map.values():
            grants_of(roles)

    @property
    def on(self) -> bool:
        return bool(self.issuer)


def grants_of(roles: list[str]) -> list[tuple[str | None, str]]:
    """Project and role of texts like `web=uploader`; project None for `viewer`, in all projects. Raises ValueError."""
    found: list[tuple[str | None, str]] = []
    for text in roles:
        match = _ROLE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"role_map: {text!r} must be ROLE or PROJECT=ROLE, where ROLE is one of viewer, uploader, admin"
            )
        if match["project"] is not None:
            _check_project(match["project"])
        found.append((match["project"], match["role"]))
    return found


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

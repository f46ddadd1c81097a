"""Whom this server calls: the settings `[[webhooks]]`. A wrong value stops the start."""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

# The events of webhooks, see docs/webhooks.md. `disk.low` concerns the whole server, the others a project.
WebhookEvent = Literal["run.finished", "tests.newly_failing", "disk.low"]
_SECRET = "whsec_"  # noqa: S105 - the prefix of all secrets, from the Standard Webhooks specification
_SECRET_BYTES = range(24, 65)


class WebhookConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A target of events. load() fills in `name` and `events`."""

    url: str = ""
    secret: str = ""
    name: str = ""
    project: str = ""
    events: list[WebhookEvent] = field(default_factory=list)
    format: Literal["standard", "chat"] = "standard"
    allow: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def may_be_anywhere(self) -> bool:
        """Whether `allow` has the host itself, so that it may also be in a private network."""
        return self.host in map(str.lower, self.allow)

    @property
    def target(self) -> str:
        """The URL without its path, which often is a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def keys(self) -> list[bytes]:
        """The keys of `secret`, which may have several, separated by spaces. Raises ValueError."""
        return [_key_of(secret) for secret in self.secret.split()]


def problem_of(hook: WebhookConfig) -> str | None:
    """The wrong key of a webhook, and what it must be."""
    # The URL is not repeated: its path often is a secret.
    if not is_url(hook.url, ("https", "http")) or (urlsplit(hook.url).scheme == "http" and not hook.may_be_anywhere):
        return (
            "url: must be like https://chat.example/hook, without user name and fragment. "
            "With http:// only if `allow` has its host"
        )
    if hook.format == "standard" and not hook.secret:
        return "secret: is needed, unless the format is chat. Make one: echo whsec_$(openssl rand -base64 32)"
    try:
        hook.keys()
    except ValueError:
        return "secret: must be whsec_ and then 24 to 64 bytes as base64; several are separated by a space"
    for key in ("name", "project"):
        value = getattr(hook, key)
        if len(value) > 100 or not value.isprintable():
            return f"{key}: must have at most 100 printable characters"
    if hook.project and "disk.low" in hook.events:
        return "events: disk.low concerns the whole server. Remove it, or remove `project`"
    for each in hook.allow:
        if not re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.]+(/\d{1,3})?", each, re.ASCII):
            return f"allow: {each!r} must be a host name, an address, or a network like 10.1.0.0/16"
        try:
            "/" in each and ip_network(each)
        except ValueError:
            return f"allow: {each!r} is not a network. Write it like 10.1.0.0/16"
    return None


def is_url(text: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0  # raises ValueError for a port that is no number
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(' \\"<>`{}')
    return has_host and plain and parts.scheme in schemes and "@" not in parts.netloc and "#" not in text


def _key_of(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError."""
    try:
        key = b64decode(secret.removeprefix(_SECRET), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if not secret.startswith(_SECRET) or len(key) not in _SECRET_BYTES:
        raise ValueError("wrong prefix or length")
    return key

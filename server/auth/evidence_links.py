"""The text of evidence links: signed and verified without the database. The database stores the target of a link."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

PREFIX = "rpl_"
# 50 characters of base64url, without padding: 16 bytes of id, 5 of expiry, 16 of signature.
PATTERN = rf"{PREFIX}[0-9A-Za-z_-]{{50}}"
_TEXT = re.compile(PATTERN)
_SIGNED = 21
_SIGNATURE = 16
_CONTEXT = b"reportd evidence link\0"  # otherwise a signature made with this key for other data could pass as a link


@dataclass(frozen=True, slots=True)
class Shared:
    """The target of an opened link, the URL of its page, `/shared/<the link's text>`, and when the link ends."""

    kind: str  # suite_run, test_case_result or artifact
    id: UUID
    url: str
    ends: datetime


def sign(key: bytes, link_id: UUID, expires: int) -> str:
    """The text of a link that expires at `expires` (Unix time in seconds)."""
    signed = link_id.bytes + expires.to_bytes(5)
    return PREFIX + urlsafe_b64encode(signed + _signature(key, signed)).rstrip(b"=").decode()


def well_formed(text: str) -> bool:
    """Whether `text` has the format of a link."""
    return _TEXT.fullmatch(text) is not None


def read(key: bytes, text: str, now: float) -> UUID | None:
    """The id in a well-formed link; None when its signature is wrong or it has expired. `now` is Unix time."""
    encoded = text.removeprefix(PREFIX)
    raw = urlsafe_b64decode(encoded + "==")
    signed, signature = raw[:_SIGNED], raw[_SIGNED:]
    # The last base64 character has four unused bits: without this check, one link would have 16 valid texts.
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != encoded:
        return None
    if not hmac.compare_digest(signature, _signature(key, signed)) or int.from_bytes(signed[16:]) <= now:
        return None
    return UUID(bytes=signed[:16])


def ends(text: str) -> datetime:
    """When a link that read() accepts expires."""
    raw = urlsafe_b64decode(text.removeprefix(PREFIX) + "==")
    return datetime.fromtimestamp(int.from_bytes(raw[16:_SIGNED]), UTC)


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + signed, "sha256")[:_SIGNATURE]

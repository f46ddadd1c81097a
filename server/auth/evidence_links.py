"""Evidence links: their text, which is made and read without asking anybody. What a link is for is in the database."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from uuid import UUID

PREFIX = "rpl_"
# 50 characters of base64url, without padding: 16 bytes of id, 5 of expiry, 16 of signature.
PATTERN = rf"{PREFIX}[0-9A-Za-z_-]{{50}}"
_TEXT = re.compile(PATTERN)
_SIGNED = 21
_SIGNATURE = 16
_CONTEXT = b"reportd evidence link\0"  # so that no signature of the key is ever good for anything else


@dataclass(frozen=True, slots=True)
class Shared:
    """What a link that was opened is on, and where that is shown: `/shared/<the link's text>`."""

    kind: str  # suite_run, test_case_result or artifact
    id: UUID
    url: str


def sign(key: bytes, link_id: UUID, expires: int) -> str:
    """The text of a link that ends at `expires`, in seconds since 1970."""
    signed = link_id.bytes + expires.to_bytes(5)
    return PREFIX + urlsafe_b64encode(signed + _signature(key, signed)).rstrip(b"=").decode()


def well_formed(text: str) -> bool:
    """Whether it can be a link at all."""
    return _TEXT.fullmatch(text) is not None


def read(key: bytes, text: str, now: float) -> UUID | None:
    """The id of a link that was signed with this key and has not ended; None for any other that is well formed."""
    encoded = text.removeprefix(PREFIX)
    raw = urlsafe_b64decode(encoded + "==")
    signed, signature = raw[:_SIGNED], raw[_SIGNED:]
    # The last character has four bits that say nothing: other ones would make another text of the same link.
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != encoded:
        return None
    if not hmac.compare_digest(signature, _signature(key, signed)) or int.from_bytes(signed[16:]) <= now:
        return None
    return UUID(bytes=signed[:16])


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + signed, "sha256")[:_SIGNATURE]

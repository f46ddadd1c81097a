"""The headers of a delivery, from the Standard Webhooks specification 1.0.0: id, time, and signatures of both and the
body. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID


def message_id(delivery_id: UUID) -> str:
    """The webhook-id of a delivery: the same in all of its attempts."""
    return f"msg_{delivery_id.hex}"


def headers(message: str, seconds: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of an attempt at `seconds` (Unix time). One signature for each key; none without keys."""
    signed = f"{message}.{seconds}.".encode() + body
    signatures = [f"v1,{b64encode(hmac.digest(key, signed, sha256)).decode()}" for key in keys]
    found = {"webhook-id": message, "webhook-timestamp": str(seconds)}
    return {**found, "webhook-signature": " ".join(signatures)} if signatures else found

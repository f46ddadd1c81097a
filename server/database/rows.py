"""Encodes rows as one JSON parameter, which queries read with json_to_recordset: fields are columns of that name."""

from datetime import datetime
from typing import Any

import msgspec


def encode(rows: Any) -> bytes:
    """A Struct, or a list of them, as JSON. Absent and None become NULL. `json` bytes of an object are copied as is."""
    return _encoder.encode(rows)


def _plain(value: object) -> object:
    """The hook of msgspec for types that it does not support, such as subclasses."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return str(value)
    return msgspec.Raw(value.json)  # type: ignore[attr-defined]


_encoder = msgspec.json.Encoder(enc_hook=_plain)

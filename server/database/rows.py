"""Rows as one JSON parameter of a query, which reads them with json_to_recordset: a column has one name everywhere."""

from datetime import datetime
from typing import Any

import msgspec


def encode(rows: Any) -> bytes:
    """A Struct, or a list of them, as JSON. Absent and None become NULL; what has `json` bytes is taken as it is."""
    return _encoder.encode(rows)


def _plain(value: object) -> object:
    """What msgspec asks for a type that it does not know, as subclasses are."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return str(value)
    return msgspec.Raw(value.json)  # type: ignore[attr-defined]


_encoder = msgspec.json.Encoder(enc_hook=_plain)

"""Builds multipart bodies byte by byte and sends them. No client library, which could correct them, is used."""

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import ClientTimeout

PATIENCE = ClientTimeout(total=30)  # a server that hangs must fail its test, not block the whole run
BOUNDARY = "----reportd-test-7MA4YWxk"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def a_part(content: bytes, *headers: str, boundary: str = BOUNDARY) -> bytes:
    """One part with its boundary. `headers` are written unchanged, one per line."""
    return (
        f"--{boundary}\r\n".encode() + "".join(f"{line}\r\n" for line in headers).encode() + b"\r\n" + content + b"\r\n"
    )


def a_field(name: str, value: str | bytes) -> bytes:
    content = value if isinstance(value, bytes) else value.encode()
    return a_part(content, f'Content-Disposition: form-data; name="{name}"')


def a_file(content: bytes, file_name: str = "shot.png", name: str = "file", content_type: str = "image/png") -> bytes:
    """A file part. `file_name` is written as browsers do it: quotes and line breaks percent-encoded."""
    written = file_name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return a_part(
        content,
        f'Content-Disposition: form-data; name="{name}"; filename="{written}"',
        f"Content-Type: {content_type}",
    )


def metadata(*entries: Any) -> bytes:
    """The `metadata` field of a batch."""
    return a_field("metadata", json.dumps(entries))


def a_body(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """The whole body, with its final boundary."""
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def single(content: bytes, file_name: str = "shot.png", content_type: str = "image/png", **fields: Any) -> bytes:
    """The body of a single upload. The artifact type is screenshot unless `fields` has another `artifact_type`."""
    texts = {"artifact_type": "screenshot", **fields}
    return a_body(
        *(a_field(name, str(value)) for name, value in texts.items()),
        a_file(content, file_name, content_type=content_type),
    )


def batch(files: Sequence[tuple[bytes, str]], entries: Sequence[dict[str, Any]] | None = None) -> bytes:
    """The body of a batch of (content, name). Without `entries`, file n is a screenshot of step n."""
    if entries is None:
        entries = [{"artifact_type": "screenshot", "step_number": number} for number in range(len(files))]
    numbered = [{"file_index": index, **entry} for index, entry in enumerate(entries)]
    return a_body(metadata(*numbered), *(a_file(content, name, name="files") for content, name in files))


async def post(client: Any, url: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and decoded reply. Underscores in the names of `headers` become hyphens."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post(url, data=body, headers={"Content-Type": CONTENT_TYPE, **extra}, timeout=PATIENCE) as reply:
        return reply.status, await reply.json()

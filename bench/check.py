"""Verifies the data that a load stored: downloads must have the bytes that were sent."""

import hashlib
import http.client
import json
from dataclasses import dataclass

from bench.bodies import Body, Steps, Upload


@dataclass
class Sample:
    """A request of a load, with the body of its reply."""

    path: str
    serial: int
    reply: bytes


def check(port: int, token: str, digest: str, body: Body | None, samples: list[Sample]) -> int:
    """The number of files and step lists that were verified. Raises RuntimeError for a mismatch."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(path: str) -> bytes:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"GET {path}: status {reply.status}")
        return content

    verified = 0
    for sample in samples:
        if body is None:
            verified += bool(digest) and _verify(sample.path, sample.reply, digest)
        elif sample.reply and isinstance(body, Steps):  # without a reply: the floor or the bare handler
            if len(json.loads(get(sample.path))["steps"]) != body.count:
                raise RuntimeError(f"{sample.path}: expected {body.count} steps")
            verified += 1
        elif sample.reply and isinstance(body, Upload):
            reply = json.loads(sample.reply)
            (reply,) = reply.get("tests", [reply])
            files = [hashlib.sha256(file).hexdigest() for file in body.files(sample.serial)]
            for artifact in reply.get("artifacts", [reply]):
                expected = files[artifact.get("file_index", 0)]
                verified += _verify(artifact["download_url"], get(artifact["download_url"]), expected)
    connection.close()
    return verified


def _verify(path: str, content: bytes, expected: str) -> int:
    if hashlib.sha256(content).hexdigest() != expected:
        raise RuntimeError(f"{path}: SHA-256 differs from the bytes that were sent")
    return 1

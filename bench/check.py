"""Looks again at what a load has stored: what is downloaded must be what was sent."""

import hashlib
import http.client
import json
from dataclasses import dataclass

from bench.bodies import Login, Steps, Upload


@dataclass
class Sample:
    """A request whose reply was kept."""

    path: str
    serial: int
    reply: bytes


def check(port: int, token: str, digest: str, body: Upload | Steps | Login | None, samples: list[Sample]) -> int:
    """How many files and lists are what they should be. Raises RuntimeError for one that is not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(path: str) -> bytes:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"GET {path}: status {reply.status}")
        return content

    compared = 0
    for sample in samples:
        if body is None:
            compared += bool(digest) and _same(sample.path, sample.reply, digest)
        elif not sample.reply or isinstance(body, Login):
            continue  # the floor and the bare handler keep nothing to ask for, and neither does a login
        elif isinstance(body, Steps):
            if len(json.loads(get(sample.path))["steps"]) != body.count:
                raise RuntimeError(f"{sample.path}: not the steps that were sent")
            compared += 1
        else:
            reply = json.loads(sample.reply)
            files = [hashlib.sha256(file).hexdigest() for file in body.files(sample.serial)]
            for artifact in reply.get("artifacts", [reply]):
                expected = files[artifact.get("file_index", 0)]
                compared += _same(artifact["download_url"], get(artifact["download_url"]), expected)
    connection.close()
    return compared


def _same(path: str, content: bytes, expected: str) -> int:
    if hashlib.sha256(content).hexdigest() != expected:
        raise RuntimeError(f"{path}: other bytes than were sent")
    return 1

"""The names of the files in an archive."""

import re
from typing import Any

from server.uploads.content import KNOWN_TYPES, extension
from server.viewer import assets

FORMAT = 1  # raised when an older `reportd import` could not read the archive
ABOUT, RUN, INDEX = "data/archive.json", "data/run.json", "index.html"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OF_RUN = "shards|expected_artifacts"
_LISTS = "steps|checkpoints|console_logs|network_logs|artifacts"
ALLOWED = re.compile(
    rf"index\.html|MANIFEST\.sha256|data/archive\.json|data/run\.json|data/(?:results|{_OF_RUN})-\d{{4,}}\.json"
    rf"|data/{_UUID}/(?:{_LISTS})-\d{{4,}}\.json|results/{_UUID}(?:-\d{{1,10}}){{0,2}}\.html"
    rf"|tests-(?:failed|flaky|pending|skipped|passed)-\d{{1,10}}\.html"
    rf"|files/[0-9a-f]{{64}}\.[a-z0-9]{{2,4}}|static/[A-Za-z0-9_.-]+",
    re.ASCII,
)


def results(number: int) -> str:
    """A portion of the results, from 1."""
    return of_run("results", number)


def of_run(name: str, number: int) -> str:
    """A portion of another list of the run, from 1."""
    return f"data/{name}-{number:04}.json"


def listed(case_id: Any, name: str, number: int) -> str:
    """A portion of a list below a result, from 1."""
    return f"data/{case_id}/{name}-{number:04}.json"


def result(case_id: Any, iteration: int = 0, number: int = 1) -> str:
    """The page of a result: the one that it opens with, or a page of one of its iterations."""
    return f"results/{case_id}{f'-{iteration}' if iteration else ''}{f'-{number}' if number > 1 else ''}.html"


def tests(state: str, number: int) -> str:
    """A page of the tests with a status, from 1."""
    return f"tests-{state.lower()}-{number}.html"


def file(checksum: str, mime_type: str) -> str:
    """The bytes of an artifact. HTML is named as text: opened from a disk, its scripts would run."""
    suffix = ".txt" if mime_type == "text/html" else extension(mime_type) if mime_type in KNOWN_TYPES else ".bin"
    return f"files/{checksum}{suffix}"


def is_text(mime_type: str) -> bool:
    """Whether it is worth the time to compress files of this type."""
    return mime_type.startswith("text/") or mime_type == "application/json"


def static(name: str) -> str:
    return f"static/{assets.by_name()[name].file}"

"""The static files of the pages. Each has an address with a hash of its content, which may be cached for good."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

_FOLDER = files("server.viewer").joinpath("static")
_NAMES = (
    "reportd.css",
    "front.css",
    "compare.css",
    "empty.js",
    "compare.js",
    "core.js",
    "times.js",
    "icon.svg",
    "result.css",
    "steps.js",
    "lane.js",
    "stage.js",
    "difference.js",
    "difference_worker.js",
    "keys.js",
    "docs.css",
    "docs.js",
    "vendor/pixelmatch/pixelmatch.js",
    "vendor/swagger-ui/swagger-ui.css",
    "vendor/swagger-ui/swagger-ui-bundle.js",
)
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file. `file` is its name with the hash, like docs.0123456789abcdef.css."""

    file: str
    media_type: str
    content: bytes


@cache
def by_name() -> Mapping[str, Asset]:
    """All static files by their name without folder and hash. Read once, when the first page needs them."""
    return {name.rpartition("/")[2]: _load(name) for name in _NAMES}


@cache
def by_file() -> Mapping[str, Asset]:
    """All static files by `file`."""
    return {asset.file: asset for asset in by_name().values()}


def address(name: str) -> str:
    """The address of the static file with this name."""
    return f"/static/{by_name()[name].file}"


def _load(name: str) -> Asset:
    content = _FOLDER.joinpath(name).read_bytes()
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    return Asset(f"{stem}.{sha256(content).hexdigest()[:16]}.{suffix}", TYPES[suffix], content)

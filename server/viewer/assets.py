"""The static files of the pages. Each has an address with a hash of its content, which may be cached for good."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

_FOLDER = files("server.viewer").joinpath("static")
# Of a style sheet, what only its readers need: comments, indentation, and spaces beside some signs.
_NOT_NEEDED = re.compile(rb"/\*.*?\*/\s*|^\s+", re.DOTALL | re.MULTILINE)
_BESIDE = re.compile(rb" *([{};]) *")  # no style sheet of ours has these signs in a string
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
    folders = [_FOLDER, *(folder for folder in _FOLDER.joinpath("vendor").iterdir() if folder.is_dir())]
    found = [file for folder in folders for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES]
    return {file.name: _load(file) for file in found}


@cache
def by_file() -> Mapping[str, Asset]:
    """All static files by `file`."""
    return {asset.file: asset for asset in by_name().values()}


def address(name: str) -> str:
    """The address of the static file with this name."""
    return f"/static/{by_name()[name].file}"


def licence(name: str) -> bytes:
    """The licence of a static file of another project."""
    folder = next(each for each in _FOLDER.joinpath("vendor").iterdir() if each.joinpath(name).is_file())
    return folder.joinpath("LICENSE").read_bytes()


def _load(file: Traversable) -> Asset:
    content = file.read_bytes()
    stem, _, suffix = file.name.rpartition(".")
    if suffix == "css" and _FOLDER.joinpath(file.name).is_file():  # ours; those of other projects stay as they are
        content = _BESIDE.sub(rb"\1", _NOT_NEEDED.sub(b"", content))
    return Asset(f"{stem}.{sha256(content).hexdigest()[:16]}.{suffix}", TYPES[suffix], content)

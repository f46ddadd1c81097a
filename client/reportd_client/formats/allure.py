"""A folder of Allure results: a file for each test, files of fixtures that several tests share, and attachments."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import json_file, paths
from reportd_client.formats.allure_test import Fixtures, has_content, result_of
from reportd_client.formats.result import Empty, Result, Source, Unreadable, plain
from reportd_client.formats.values import moment
from reportd_client.texts import cut

NAME = "allure"
_NAMED = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}-(?:result|container)\.json")
_KEYS = (b'"historyId"', b'"testCaseId"', b'"fullName"', b'"statusDetails"', b'"children"', b'"befores"', b'"afters"')
_BOTH = ("befores", "afters")
_MOST_FIXTURES = 32 << 20  # bytes of the containers that are kept
_MOST_CHILDREN = 1_000_000
_MOST_PROPERTIES = 200


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format. The names of the keys may come late in a file."""
    text = json_file.ascii_of(head)
    has_keys = b'"uuid"' in text and any(key in text for key in _KEYS)
    is_named = _NAMED.fullmatch(path.name) is not None  # and may be empty, when the disk was full
    return is_named if not text else text[:1] == b"{" and (has_keys or is_named)


def unit(path: Path) -> Path:
    """All files of a folder are one report."""
    return path.parent


def files(folder: Path) -> list[Path]:
    """The files of tests and of fixtures."""
    found = sorted(path for path in folder.glob("*.json") if path.is_file() and not paths.is_attachment(path.name))
    return [path for path in found if looks(paths.head(path), path)]


def read(source: Source) -> Iterator[Result]:
    """The results of a folder. Raises Unreadable, Empty."""
    reader, count, damaged = _Reader(source), 0, 0
    _read_run(source)
    found = files(source.path)
    if not found:
        raise Unreadable(f"{source.path} has no results of Allure: files named …-result.json")
    for path in [path for path in found if not reader.take_container(path)]:
        value = _object(path)
        if value is None:
            damaged += 1
        else:
            count += 1
            yield reader.result(value)
    if damaged:
        source.note(f"{source.path}: {damaged:,} files are cut or damaged: {count:,} whole results were read")
    if reader.lost_fixtures:
        source.note(f"{source.path}: {reader.lost_fixtures:,} files of fixtures are too large together")
    if not count and damaged:
        raise Unreadable(f"{source.path} has no whole result of Allure")
    if not count:
        raise Empty(f"{source.path} is empty: it has no test")


def _object(path: Path) -> Optional[dict[str, Any]]:
    """The object of a file; None when it is not whole."""
    try:
        value, is_cut = json_file.read(path)
    except Unreadable:
        return None
    return value if isinstance(value, dict) and not is_cut else None


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        # What runs before and after, of each container, and of how many tests.
        self._fixtures: list[tuple[list[Any], list[Any], int]] = []
        self._befores: dict[str, list[int]] = {}  # of a test, by its uuid: places in the list above
        self._afters: dict[str, list[int]] = {}
        self._size = self._children = 0
        self._histories: dict[bytes, list[Any]] = {}  # of each test_id
        self.lost_fixtures = 0

    def take_container(self, path: Path) -> bool:
        """Whether a file is a container of fixtures; keep those that are worth a step. Those that passed belong to the
        first test, or after it to the last: a fixture of a session, with its pictures, is not repeated in each test."""
        if not path.name.endswith("-container.json") and b'"children"' not in json_file.ascii_of(paths.head(path)):
            return False
        value = _object(path)
        if value is None or "status" in value or not any(name in value for name in ("children", *_BOTH)):
            return False
        befores, afters = ([each for each in _list(value.get(name)) if has_content(each)] for name in _BOTH)
        children = [child for child in _list(value.get("children")) if isinstance(child, str)]
        if children and (befores or afters):
            self._size, self._children = self._size + path.stat().st_size, self._children + len(children)
            if self._size > _MOST_FIXTURES or self._children > _MOST_CHILDREN:
                self.lost_fixtures += 1
            else:
                self._keep(children, plain(befores), plain(afters))
        return True

    def _keep(self, children: list[str], befores: list[Any], afters: list[Any]) -> None:
        self._fixtures.append((befores, afters, len(children)))
        place = len(self._fixtures) - 1
        has_failed = any(each.get("status") in ("failed", "broken") for each in befores)
        for name in children if has_failed else children[:1]:
            self._befores.setdefault(name, []).append(place)
        self._afters.setdefault(children[-1], []).append(place)

    def result(self, value: dict[str, Any]) -> Result:
        uuid = str(value.get("uuid"))
        befores = [
            (each, -self._fixtures[at][2]) for at in self._befores.get(uuid, ()) for each in self._fixtures[at][0]
        ]
        afters = [(each, self._fixtures[at][2]) for at in self._afters.get(uuid, ()) for each in self._fixtures[at][1]]
        fixtures = Fixtures(_in_order(befores), _in_order(afters))
        result = result_of(self._source, plain(value), fixtures)
        self._tell_apart(result, value.get("historyId"))
        began = result.test.get("started_at")
        if began is not None:
            self._source.suite["started_at"] = min(began, self._source.suite.get("started_at", began))
        return result

    def _tell_apart(self, result: Result, history: Any) -> None:
        """Tests whose parameters are hidden may have the same names, but not the same history."""
        if not isinstance(history, str):
            return
        key = hashlib.blake2b(result.test["test_id"].encode("utf-8", "replace"), digest_size=8).digest()
        known = self._histories.setdefault(key, [])
        if history not in known[:100]:
            known.append(history)
        at = known.index(history)
        if at:
            result.test["test_id"] = f"{cut(result.test['test_id'], 490)} #{at + 1}"
            result.test["name"] = f"{cut(result.test['name'], 490)} #{at + 1}"


def _in_order(fixtures: list[tuple[dict[str, Any], int]]) -> list[dict[str, Any]]:
    """By their start. Those of the same millisecond by their number: a fixture of more tests is the outer one."""
    found = sorted(fixtures, key=lambda item: (moment(item[0].get("start")) or "", item[1], str(item[0].get("name"))))
    return [fixture for fixture, _ in found]


# --- the run ---


def _read_run(source: Source) -> None:
    """Executor and environment, where the folder has them."""
    metadata: dict[str, Any] = source.suite.setdefault("metadata", {})
    executor = _object(source.path / "executor.json")
    if executor is not None:
        texts = {name: cut(plain(str(value)), 1_000) for name, value in list(executor.items())[:50] if value}
        metadata["executor"] = texts
        if texts.get("buildUrl", "").startswith(("http://", "https://")):
            source.suite["build_url"] = texts["buildUrl"]
        source.names.update(filter(None, [texts.get("reportName")]))
    environment = _properties(source.path / "environment.properties")
    if environment:
        metadata["environment"] = environment


def _properties(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(256 << 10).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = (line.strip() for line in text.splitlines())
    pairs = (re.split(r"\s*[=:]\s*|\s+", line, maxsplit=1) for line in lines if line and line[0] not in "#!")
    found = {cut(plain(pair[0]), 200): cut(plain(pair[1]), 1_000) for pair in pairs if len(pair) == 2}
    return dict(list(found.items())[:_MOST_PROPERTIES])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

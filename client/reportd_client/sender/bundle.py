"""The body of a bundle: tests with everything that belongs to them, in one request."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Sequence, Union

from reportd_client.sender.body import Json, Upload
from reportd_client.sender.files import Ready
from reportd_client.sender.plan import Parcel
from reportd_client.sender.repair import Spot

_MOST_KNOWN = 500  # in one request
_MOST_ENTRIES = 1_000  # for files of one test
ROWS = {  # what belongs to a test, and what people call one of each
    "steps": "step",
    "checkpoints": "checkpoint",
    "console_logs": "console entry",
    "network_logs": "network entry",
}
_PATH = re.compile(rf"tests\[(\d+)\]\.(?:(test)|({'|'.join(ROWS)}|artifacts)\[(\d+)\])(?:\.(\w+))?.*")


class Packed:
    """A test, and what of it is still to be sent: the rows of its parcel, and files."""

    def __init__(self, parcel: Parcel, files: list[Ready]) -> None:
        self.parcel, self.files = parcel, files
        self.is_stored = False
        # What the next bundle has of the files; the others follow.
        self.named: list[Ready] = []  # in the order in which the test has them, which is that of its result
        self.inside: dict[int, Ready] = {}  # of these: with their bytes, by their index
        self.known: list[Ready] = []  # of these: whose bytes the server has
        self.later: list[Ready] = []  # named by the first bundle, and brought by another one

    def value(self, with_missing: bool) -> dict[str, Any]:
        """As the bundle has it. `with_missing`: also with the files that it does not bring."""
        indices = {id(file): index for index, file in self.inside.items()}
        entries = [
            {"file_index": indices[id(file)], **file.fields} if id(file) in indices else file.known()
            for file in self.named
        ]
        if with_missing:
            entries += [*(file.later() for file in self.later), *self.parcel.refused][: _MOST_ENTRIES - len(entries)]
        lists = {name: rows for name in ROWS if (rows := getattr(self.parcel, name))}
        return {"client_ref": self.parcel.ref, "test": self.parcel.test, **lists, "artifacts": entries}

    def is_taken(self) -> None:
        """The server has the test, its rows, and the names of files that are missing."""
        self.is_stored = True
        self.parcel.refused.clear()
        for name in ROWS:
            getattr(self.parcel, name).clear()


def body_of(packed: Sequence[Packed], with_missing: bool) -> Union[Json, Upload]:
    value = {"tests": [one.value(with_missing) for one in packed]}
    files = [(file.name, file.path, file.size) for one in packed for file in one.inside.values()]
    return Upload("bundle", value, files) if files else Json(value)


def choose_files(packed: Sequence[Packed], is_there: Callable[[Ready], bool], max_files: int, max_bytes: int) -> None:
    """Choose the files of the next bundle, at least one if any is left. The same bytes are sent once: the second time
    they are known, in the bundle that follows. A file that waits lets those after it wait that belong to the same step:
    a result shows the files of a step in the order in which they arrive."""
    index = size = known = 0
    chosen: set[str] = set()
    for one in packed:
        one.named, one.known, one.inside = [], [], {}
        waiting: set[tuple[Any, Any]] = set()
        for file in one.files:
            if file.step in waiting:
                continue
            there = is_there(file)
            if there and known < _MOST_KNOWN:
                one.known.append(file)
                known += 1
            elif not there and _has_space(file, chosen, size, max_files, max_bytes):
                one.inside[index] = file
                chosen.add(file.checksum)
                index, size = index + 1, size + file.size
            else:
                waiting.add(file.step)
                continue
            one.named.append(file)
        chosen_ids = {id(file) for file in one.named}
        one.later = [] if one.is_stored else [file for file in one.files if file.size and id(file) not in chosen_ids]


def _has_space(file: Ready, chosen: set[str], size: int, max_files: int, max_bytes: int) -> bool:
    """Whether the bundle takes the bytes of a further file; `chosen`: the checksums of the others."""
    if not chosen:
        return True
    return file.checksum not in chosen and len(chosen) < max_files and size + file.size <= max_bytes


def locate(packed: Sequence[Packed], path: str) -> Optional[Spot]:
    """The place of a path such as `tests[3].steps[2].status` or `tests[0].artifacts[1].description`."""
    found = _PATH.fullmatch(path)
    if found is None or int(found[1]) >= len(packed):
        return None
    one, field = packed[int(found[1])], found[5]
    test_id = one.parcel.test_id
    if found[2]:
        return Spot(test_id, "test", [one.parcel.test], 0, field, is_test=True)
    index = int(found[4])
    if found[3] != "artifacts":
        return Spot(test_id, ROWS[found[3]], getattr(one.parcel, found[3]), index, field)
    if index >= len(one.named):
        return None
    file = one.named[index]
    return Spot(test_id, file.name, one.files, one.files.index(file), field)

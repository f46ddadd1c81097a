"""The addresses in the pages of an archive: files beside one another, which open from a disk."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from server.archive import names
from server.reports.panels import At
from server.viewer.addresses import Addresses
from server.viewer.filters import FilteredAddress


class Places:
    """On which page each step of a result is. `starts`: the first step of each page, in order; `opening`: the step that
    the result opens with, None for a result without steps."""

    def __init__(self, case_id: UUID, starts: Sequence[At], opening: At | None) -> None:
        self.case_id, self.starts = case_id, starts
        self._first = self._page(opening) if opening else -1
        self._opening = names.result(case_id)

    def name(self, at: At) -> str:
        """The page that has a step."""
        page = self._page(at)
        if page in (self._first, -1):
            return self._opening
        iteration = self.starts[page].iteration
        number = sum(each.iteration == iteration for each in self.starts[: page + 1])
        return names.result(self.case_id, iteration, number)

    def _page(self, at: At) -> int:
        return bisect_right(self.starts, at) - 1


class ArchivePages(Addresses):
    """Of a page `up` ("../", or "" at the top) from which leads to the archive. `images`: the names of files by the ids
    of artifacts. `files`: likewise by checksum; a file that is not there is missing. `used` collects the names of
    static files. `places`: of the result whose page it is."""

    def __init__(
        self,
        up: str,
        images: Mapping[UUID, str],
        files: Mapping[bytes, str],
        used: set[str],
        places: Places | None = None,
    ) -> None:
        self._up, self._images, self._files, self._used, self._places = up, images, files, used, places

    def asset(self, name: str) -> str:
        self._used.add(name)
        return self._up + names.static(name)

    def home(self) -> str:
        return self._up + names.INDEX

    def run(self, run_id: Any) -> str:
        return self._up + names.INDEX

    def result(self, case_id: Any, step: Any = None, view: Any = None, with_: Any = None, **asked: Any) -> str:
        if any(asked.values()):  # a page of a list, or a text without cuts
            return ""
        name, sent = names.result(case_id), ""
        if step:
            at = step if isinstance(step, At) else At.parse(str(step))
            if at and self._places and self._places.case_id == case_id:
                name = self._places.name(at)
            sent = f"?step={step}" + (f"&view={view}" if view else "") + (f"&with={with_}" if with_ else "")
        return self._up + name + sent

    def logs(self, case_id: Any, step: Any = None, page: int = 1, **asked: Any) -> str:
        return self.result(case_id, step) + "#logs" if page == 1 else ""

    def file(self, file: Any, save: bool = False) -> str:
        return "" if save or self.gone(file) else self._up + self._files[bytes.fromhex(file.checksum)]

    def gone(self, file: Any) -> bool:
        return bytes.fromhex(file.checksum) not in self._files

    def image(self, artifact_id: Any) -> str:
        name = self._images.get(artifact_id)
        return self._up + name if name else ""

    def thumbnail(self, artifact_id: Any, width: int) -> str:
        return self.image(artifact_id)


class Lists(FilteredAddress):
    """The pages that list the tests of a run, one row of pages for each status."""

    def alone(self, **filters: Any) -> str:
        """Tests with an error are among the failed ones."""
        state = filters.get("status") or ("Failed" if filters.get("error") else "")
        return names.tests(state, 1) if state else names.INDEX

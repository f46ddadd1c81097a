"""The pages of an archive: those of the run and of each result, drawn by the templates of the server."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from server.archive import names
from server.archive.addresses import ArchivePages, Lists, Places
from server.background import aside
from server.database.reads import Reads
from server.reports import archives, overview, results, run_comparisons, run_pages, shards
from server.reports.panels import At, Panel
from server.reports.results import CUT, ROWS, Asked, Head
from server.viewer import render, result_page
from server.viewer.stage import PAIRS, Stage, stage

_PANELS = 20  # steps that are read and drawn at once
_ROW = 1 << 10  # about how much work a row is, in the bytes that aside() counts
_PANEL = 16 << 10
_END = "</body>"
# Pages of the archive have no headers to say so. `file:` is what they are opened from; `reportd open` serves them.
_FROM = "'self' file:"
_POLICY = (
    f"default-src 'none'; script-src {_FROM}; style-src {_FROM}; img-src {_FROM} blob:; media-src {_FROM}; "
    "worker-src 'self'; form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types reportd"
)
# Ages would differ each time the archive is made: so that no page has one, all is long ago.
_LATER = datetime(9999, 1, 1, tzinfo=UTC)

Text = AsyncGenerator[str, None]


@dataclass(frozen=True, slots=True)
class Frame:
    """As html.Frame; `address` is the name of the page, without its folder: a link to itself."""

    address: str
    who: None = None
    kind: str = "archive"
    theme: str = "auto"
    section: str = ""
    until: None = None
    policy: str = _POLICY


@dataclass(frozen=True, slots=True)
class _Query:
    """Of the page of a result: nothing is asked for."""

    step: None = None
    view: None = None
    beside: None = None
    files: int = 1
    after: None = None
    until: None = None


class Pages:
    """The pages of one archive. `files`: the names of its files by checksum, those of a result before its pages;
    `used`: the names of the static files that the pages need."""

    def __init__(self, reads: Reads, run_id: UUID, files: Mapping[bytes, str]) -> None:
        self._reads, self._run_id, self._files = reads, run_id, files
        self.used: set[str] = set()

    async def of_result(self, case_id: UUID, images: dict[UUID, str]) -> AsyncGenerator[tuple[str, Text], None]:
        """The names of the pages of a result, and their texts. `images`: the names of its files by their ids."""
        starts = await archives.page_starts(self._reads, case_id, ROWS)
        first = await self._result(case_id, None)
        places = Places(case_id, starts, first.panel.step.at if first.panel else None)
        opening, to = {At(each.number, each.opens) for each in first.iterations}, self._addresses("../", images, places)
        yield names.result(case_id), self._text(first, names.result(case_id), to)
        for start in starts:
            if (name := places.name(start)) != names.result(case_id):
                at = next((each for each in opening if places.name(each) == name), start)
                yield name, self._text(await self._result(case_id, at), name, to)

    async def of_run(self) -> AsyncGenerator[tuple[str, Text], None]:
        """The first page, and the lists of tests."""
        values = await self._run_values(run_pages.Asked())
        yield names.INDEX, self._run_text(values, names.INDEX, {}, names.tests("Failed", 1))
        for state, number_of in values["states"]:
            cursor = None
            for number in count(1):
                if not number_of:
                    break
                asked = run_pages.Asked(status=state, group="none", cursor=cursor)
                values = await self._run_values(asked)
                name, filters = names.tests(state, number), {"status": state, "cursor": cursor}
                cursor = values["further"]
                yield name, self._run_text(values, name, filters, names.tests(state, number + 1))
                if cursor is None:
                    break

    def _addresses(self, up: str, images: dict[UUID, str], places: Places | None = None) -> ArchivePages:
        return ArchivePages(up, images, self._files, self.used, places)

    async def _result(self, case_id: UUID, at: At | None) -> results.Result:
        asked = Asked(str(at) if at else None, logs=1)
        return await self._reads.attempt(partial(results.of_case, self._reads, case_id, None, asked, CUT))

    async def _text(self, result: results.Result, name: str, to: ArchivePages) -> Text:
        """The page, with the panels of all its steps at the end."""
        draw = partial(result_page.draw, result, _Query(), cut=CUT, to=to, frame=Frame(name.rpartition("/")[2]))
        text, _, end = (await aside(_ROW * (len(result.rows) + 100), draw)).rpartition(_END)
        yield text
        if result.panel is not None:
            iteration, head = result.panel.step.iteration, result.head
            for start in range(0, len(result.rows), _PANELS):
                ats = [At(iteration, row.number) for row in result.rows[start : start + _PANELS]]
                found = await archives.panels_of(self._reads, head.id, ats, CUT)
                yield await aside(_PANEL * len(found), _kept, found, head, to)
        yield _END + end

    async def _run_values(self, asked: run_pages.Asked) -> dict[str, Any]:
        return await self._reads.attempt(partial(self._read_run, asked))

    async def _read_run(self, asked: run_pages.Asked) -> dict[str, Any]:
        async with self._reads.acquire() as connection:
            listed = await overview.one(connection, self._run_id, None)
            compared = await run_comparisons.by_id(connection, self._run_id, None)
            values = await run_pages.values(connection, compared, listed.counts, asked, history=False)
            shown = [each.picture for each in values["steps"].values() if each.picture]
            sums = await archives.checksums_of(connection, shown)
            whole = await shards.of_run(connection, self._run_id, None, listed.counts.total)
        running = listed.run.status == "Running"
        values["now"] = listed.run.updated_at if running else _LATER
        images = {some_id: self._files[checksum] for some_id, checksum in sums.items() if checksum in self._files}
        values["to"] = self._addresses("", images)
        return {
            **values,
            "listed": replace(listed, quiet=None),
            "run": listed.run,
            "counts": listed.counts,
            "against": None,
            "whole": whole,
        }

    async def _run_text(self, values: dict[str, Any], name: str, filters: dict[str, Any], following: str) -> Text:
        here = Lists(names.INDEX, {key: value for key, value in filters.items() if value})
        given = {**values, "here": here, "further": following if values["further"] else None, "frame": Frame(name)}
        yield await aside(_ROW * run_pages.TESTS, partial(render.page, "suite_run.html", **given))


def _kept(found: Sequence[Panel], head: Head, to: ArchivePages) -> str:
    """The panels of some steps, each with its images in all modes."""
    kept = []
    for panel in found:
        shown = stage(panel, None, None)
        views = [(view, beside, stage(panel, view, beside or None)) for view, beside in _modes(panel, shown)]
        kept.append((panel, shown, views))
    return render.page("kept.html", head=head, kept=kept, to=to)


def _modes(panel: Panel, shown: Stage) -> Iterator[tuple[str, str]]:
    """Every mode of the images of a step, and the image on the left, as they are in links."""
    for mode in shown.modes:
        yield mode.view, mode.beside
        if mode.view in PAIRS:
            for other in stage(panel, mode.view, None).others:
                yield mode.view, other.role

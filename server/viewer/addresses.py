"""The addresses that pages link to, as `to` in templates. Pages for people who have signed in, pages of evidence links
and archives are drawn by the same templates: what differs is which pages there are, and where.

An empty address means that there is no such page; the templates then print the text alone, or nothing.
"""

from typing import Any
from urllib.parse import quote, urlencode

from server.viewer import assets

_API = "/api/v1/reports"


class Addresses:
    """Nowhere: every address is empty. A subclass has those that its readers may follow, so that one that is added
    later leads nowhere until somebody decides."""

    def asset(self, name: str) -> str:
        """A static file. Without style sheets, those are written into the page; without scripts, there are none."""
        return ""

    def home(self) -> str:
        """The first page."""
        return ""

    def search(self) -> str:
        """The search, and with it the other places in the head of every page."""
        return ""

    def project(self, name: str) -> str:
        """The runs of a project."""
        return ""

    def run(self, run_id: Any) -> str:
        return ""

    def run_data(self, run_id: Any) -> str:
        """A run as the API has it."""
        return ""

    def archive(self, run_id: Any) -> str:
        """A run as one file."""
        return ""

    def runs_compared(self, head: Any, base: Any) -> str:
        """What changed from the run `base` (or `previous`, `main`) to the run `head`."""
        return ""

    def result(self, case_id: Any, **query: Any) -> str:
        """The page of a result. Values of `query` that are None or empty are left out."""
        return ""

    def step(self, case_id: Any, at: Any, **query: Any) -> str:
        """The page of one step of a result. `at`: `2.17`."""
        return ""

    def difference(self, case_id: Any) -> str:
        """The first difference of a result from its last green."""
        return ""

    def comparison(self, case_id: Any, with_: Any = None) -> str:
        """A result step by step beside another one, by default its last green."""
        return ""

    def test(self, project: str, test_id: str, **query: Any) -> str:
        """The history of a test."""
        return ""

    def error(self, project: str, fingerprint: str) -> str:
        return ""

    def selectors(self, project: str, text: str) -> str:
        """The selectors of a project that contain a text."""
        return ""

    def file(self, file: Any, save: bool = False) -> str:
        """The bytes of a file (a reports.panels.File). `save`: the browser saves it."""
        return ""

    def result_file(self, case_id: Any, artifact_id: Any) -> str:
        """The page of a file."""
        return ""

    def gone(self, file: Any) -> bool:
        """Whether the bytes of a file are known to be missing, so that the page says so instead of showing it."""
        return False

    def image(self, artifact_id: Any) -> str:
        """The bytes of a file of which only the id is known, and that it is an image."""
        return ""

    def thumbnail(self, artifact_id: Any, width: int) -> str:
        """A smaller copy of an image, 320 or 960 pixels wide."""
        return ""

    def logs(self, case_id: Any, step: Any = None, **query: Any) -> str:
        """All console entries and network requests of a result, on its page."""
        return ""

    def report(self, case_id: Any) -> str:
        """The result as the API has it."""
        return ""

    def checkpoints(self, case_id: Any) -> str:
        """All checkpoints as the API has them."""
        return ""

    def entry(self, case_id: Any, log: str, number: int) -> str:
        """One entry of a log (`console` or `network`) as the API has it, whole."""
        return ""


class Pages(Addresses):
    """The pages for people who have signed in."""

    asset = staticmethod(assets.address)

    def home(self) -> str:
        return "/"

    def search(self) -> str:
        return "/search"

    def project(self, name: str) -> str:
        return f"/runs{query({'project': name})}"

    def run(self, run_id: Any) -> str:
        return f"/runs/{run_id}"

    def run_data(self, run_id: Any) -> str:
        return f"{_API}/suite-runs/{run_id}"

    def archive(self, run_id: Any) -> str:
        return f"/runs/{run_id}.zip"

    def runs_compared(self, head: Any, base: Any) -> str:
        return f"/compare{query({'base': base, 'head': head})}"

    def result(self, case_id: Any, **asked: Any) -> str:
        return f"/results/{case_id}{query(asked)}"

    def step(self, case_id: Any, at: Any, **asked: Any) -> str:
        return f"/results/{case_id}/steps/{at}{query(asked)}"

    def difference(self, case_id: Any) -> str:
        return f"/results/{case_id}/difference"

    def comparison(self, case_id: Any, with_: Any = None) -> str:
        return f"/results/{case_id}/compare{query({'with': with_})}"

    def test(self, project: str, test_id: str, **asked: Any) -> str:
        return f"/tests{query({'project': project, 'id': test_id, **asked})}"

    def error(self, project: str, fingerprint: str) -> str:
        return f"/errors/{quote(project, safe='')}/{fingerprint}"

    def selectors(self, project: str, text: str) -> str:
        return f"/insights{query({'show': 'selectors', 'project': project, 'q': text[:255]})}"

    def file(self, file: Any, save: bool = False) -> str:
        return self.image(file.id) + ("?download=true" if save else "")

    def result_file(self, case_id: Any, artifact_id: Any) -> str:
        return f"/results/{case_id}/files/{artifact_id}"

    def image(self, artifact_id: Any) -> str:
        return f"{_API}/artifacts/{artifact_id}/download"

    def thumbnail(self, artifact_id: Any, width: int) -> str:
        return f"/thumbs/{artifact_id}-{width}.webp"

    def logs(self, case_id: Any, step: Any = None, **asked: Any) -> str:
        return self.result(case_id, step=step, log="all", **asked) + "#logs"

    def report(self, case_id: Any) -> str:
        return f"{_API}/test-case-results/{case_id}/report"

    def checkpoints(self, case_id: Any) -> str:
        return f"{_API}/test-case-results/{case_id}/checkpoints"

    def entry(self, case_id: Any, log: str, number: int) -> str:
        return f"{_API}/test-case-results/{case_id}/{log}-logs?per_page=1&page={number}"


class LinkPages(Addresses):
    """The pages of an evidence link on a run or a result, all below its own address: `base`, `/shared/rpl_…`.

    `only`: the one result that it covers; None: all of its run. There are no other pages, no scripts, and of the files
    the images.
    """

    def __init__(self, base: str, only: Any = None) -> None:
        self._base, self._only = base, only

    def asset(self, name: str) -> str:
        return assets.address(name) if name == "icon.svg" else ""

    def run(self, run_id: Any) -> str:
        return "" if self._only else self._base

    def result(self, case_id: Any, **asked: Any) -> str:
        return self._of(case_id, "", asked)

    def step(self, case_id: Any, at: Any, **asked: Any) -> str:
        return self._of(case_id, f"/steps/{at}", asked)

    def file(self, file: Any, save: bool = False) -> str:
        return self.image(file.id) + ("?download=true" if save else "") if file.is_image else ""

    def image(self, artifact_id: Any) -> str:
        return f"{self._base}/artifacts/{artifact_id}"

    def thumbnail(self, artifact_id: Any, width: int) -> str:
        return f"{self._base}/thumbs/{artifact_id}-{width}.webp"

    def _of(self, case_id: Any, rest: str, asked: dict[str, Any]) -> str:
        covered = self._only is None or str(self._only) == str(case_id)
        return f"{self._base}/test-case-results/{case_id}{rest}{query(asked)}" if covered else ""


PAGES = Pages()
NOWHERE = Addresses()


def query(values: dict[str, Any]) -> str:
    """The query of an address, with `?`; values that are None or empty are left out. `with_` stands for `with`."""
    given = {name.rstrip("_"): value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""

"""The demo's story: which runs there are, on which day of it, and which test fails in which of them, and why.

A day is a number: the newest day of the demo is LAST_DAY. The same seed gives the same story; only its times hang from
`until`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from server.commands.demo import faults
from server.commands.demo.acts import Test, World
from server.commands.demo.faults import Fault
from server.commands.demo.tests_of_buying import catalogue_import
from server.commands.demo.tests_of_others import api_tests, app_tests
from server.commands.demo.tests_of_shop import tests

LAST_DAY = 28  # before day 1, all is calm
PROJECTS = ("shop", "shop-app", "back-office")
RENAMED, SLOW_FROM, TIMED_OUT, ROUNDED, COOKIES = 9, 15, 18, 20, 23
LOAD_MS = {15: 1300, 16: 2600, 17: 4000, 18: 4100}  # how long the basket service takes on which day; else 300
FLAKY = "keeps the basket after sign-in"
AMOUNTS = "calculates the total of five amounts"
HALF_DAY = timedelta(hours=12)
GIFT_CARDS, BASKET_TOTAL = "feature/gift-cards", "fix/basket-total"
# Branch: the days on which it is tested. On the newest day the first one is still running.
_BRANCHES = {GIFT_CARDS: (12, 14, 17, 20, 24, 27), BASKET_TOTAL: (20, 21, 21, 22, 25)}
FEATURED = "pays by card"  # the newest failure with files of every kind
_SLOW_IN_NEWEST = (FEATURED, "pays by invoice", "pays by voucher")
_FLAKY_IN_NEWEST = {
    FLAKY: "add",
    "enlarges a photo": "home",
    "refuses a wrong password": "submit",
    "shows past orders": "submit",
}
_FIXED_IN_NEWEST = {"opens a category": 6, "shows reviews": 2}  # by the number of articles that each expects
_QUIET = 7  # tests of the newest run's third shard that were never reported


@dataclass(frozen=True)
class Run:
    """A suite run of the story. `back` counts the runs of its series from the newest one, 0."""

    number: int
    project: str
    name: str
    branch: str
    day: int
    started_at: datetime
    commit: str
    back: int
    seed: int
    running: bool = False

    @property
    def newest(self) -> bool:
        return self.project == "shop" and self.branch == "main" and self.back == 0

    @property
    def key(self) -> str:
        return f"demo-{self.seed}-{self.number}"

    def fields(self) -> dict[str, Any]:
        """The body of POST /suite-runs."""
        shop, app = self.project == "shop", self.project == "shop-app"
        metadata: dict[str, Any] = {"demo": self.seed, "expected_tests": len(tests_of(self))}
        if shop:
            words = ("finished", "finished", "quiet" if self.newest else "running" if self.running else "finished")
            metadata["shards"] = [
                {"index": i + 1, "total": 3, "browser": ("chromium", "chromium", "firefox")[i], "state": word}
                for i, word in enumerate(words)
            ]
        return {
            "name": self.name,
            "run_key": self.key,
            "environment": "staging" if self.branch == "main" else "preview",
            "branch": self.branch,
            "commit_sha": self.commit,
            "build_url": f"https://ci.hearthside.example/{self.project}/builds/{4600 + self.number}",
            "browser": "chromium, firefox" if shop else "Safari 26, iPhone 17" if app else None,
            "platform": "iOS 26.1" if app else "Linux",
            "triggered_by": "schedule"
            if self.branch == "main" and self.back % 2
            else ("anna", "Łukasz", "Zoë")[self.number % 3],
            "tags": ["demo", f"demo-{self.seed}", "nightly" if self.back % 2 or not shop else "noon"],
            "metadata": metadata,
        }


def runs(seed: int, days: int, until: datetime) -> list[Run]:
    """All runs of the last `days` days of the story, the oldest first."""
    made: list[tuple[datetime, str, str, str, int, int, bool]] = []
    for back in range(2 * days):
        made.append(
            (
                until - timedelta(minutes=14) - back * HALF_DAY,
                "shop",
                "checkout",
                "main",
                LAST_DAY - back // 2,
                back,
                False,
            )
        )
    for back in range(days):
        made.append(
            (
                until - timedelta(hours=5) - 2 * back * HALF_DAY,
                "shop-app",
                "app on iPhone",
                "main",
                LAST_DAY - back,
                back,
                False,
            )
        )
    for back, day in enumerate(range(0, days, 3)):
        at = until - timedelta(hours=7) - 2 * day * HALF_DAY
        made.append((at, "back-office", "API", "main", LAST_DAY - day, back, False))
    for branch, on in _BRANCHES.items():
        for i, day in enumerate(on):
            at = until - timedelta(hours=2 + 3 * (i % 2), minutes=11 * i) - 2 * (LAST_DAY - day) * HALF_DAY
            if LAST_DAY - day < days:
                made.append((at, "shop", "checkout", branch, day, len(on) - i, False))
    made.append((until - timedelta(minutes=3), "shop", "checkout", GIFT_CARDS, LAST_DAY, 0, True))
    made.sort()
    return [_run(seed, number, *what) for number, what in enumerate(made, 1)]


def _run(
    seed: int,
    number: int,
    at: datetime,
    project: str,
    name: str,
    branch: str,
    day: int,
    back: int,
    on: bool,
) -> Run:
    # Every third day, both runs of main are of one commit: then a test that passes and fails there is flaky. Never on a
    # branch, where a commit repairs a test.
    shared = branch == "main" and day % 3 == 0
    changed = f"{project} {branch} {day}" if shared else f"{project} {branch} {day} {back}"
    commit = hashlib.sha1(f"{seed} {changed}".encode(), usedforsecurity=False).hexdigest()
    return Run(number, project, name, branch, day, at, commit, back, seed, on)


def world(run: Run) -> World:
    """The version of the shop, and of its tests, that a run has tested."""
    if run.day < RENAMED:
        return World()
    if run.day == RENAMED:
        return World("Place order", "#pay")
    late = run.day == COOKIES + 1 or (run.day == COOKIES and run.back % 2 == 0)
    return World("Place order", "[data-testid=place-order]", late and run.branch == "main")


def tests_of(run: Run) -> list[Test]:
    """The tests of a run, in the order of its shards."""
    if run.project == "shop-app":
        return list(app_tests())
    if run.project == "back-office":
        return list(api_tests())
    found = list(tests(world(run)))
    if run.branch != "main":
        return [test for test in found if test.tags[0] in ("pay", "search", "basket", "product")]
    # Not in each run: 2,000 steps of it would be half of the demo. The newest two can be compared.
    return [*found, catalogue_import()] if run.back < 2 else found


def shard_of(test: Test, position: int) -> int:
    return 2 if test.browser == "firefox" else position % 2


def quiet_tests(run: Run) -> set[str]:
    """The names of the tests that the newest run's third shard has never reported."""
    silent = [test.name for test in tests_of(run) if test.browser == "firefox"][-_QUIET:]
    return set(silent) if run.newest else set()


def attempts(run: Run, test: Test) -> Iterator[Fault | None]:
    """What goes wrong in each attempt of a test; None: it passes."""
    if run.project == "shop" and (tag := _flaky(run, test)):
        yield faults.moment(tag)
    yield _fault(run, test)


def _flaky(run: Run, test: Test) -> str:
    if run.branch != "main":
        return ""
    if run.newest:
        return _FLAKY_IN_NEWEST.get(test.name, "")
    return "add" if test.name == FLAKY and run.back % 8 == 5 else ""


def load_ms(run: Run, test: Test) -> int:
    """How long the step takes that waits for the basket service."""
    if run.branch != "main":
        return 300
    return 4100 if run.newest and test.name in _SLOW_IN_NEWEST else LOAD_MS.get(run.day, 300)


def _fault(run: Run, test: Test) -> Fault | None:
    if run.project == "shop-app":
        return _of_app(run, test)
    if run.project == "back-office":
        return _of_api(run, test)
    if run.branch == GIFT_CARDS:
        return faults.gift_card() if test.name == "pays by gift card" and run.day <= 14 else None
    if run.branch == BASKET_TOTAL:
        if run.day <= 21 and run.back >= 4:
            return {AMOUNTS: faults.rounded(), "shows the total of three articles": faults.three_articles()}.get(
                test.name
            )
        return None
    return _of_main(run, test)


def _of_main(run: Run, test: Test) -> Fault | None:
    if test.name == AMOUNTS:
        return faults.rounded() if run.day >= ROUNDED else None
    if run.day == RENAMED:
        return faults.renamed() if test.tags == ("pay",) else None
    if run.day == TIMED_OUT:
        return faults.not_enabled() if test.name in (FEATURED, "pays by wallet") else None
    if run.day in (COOKIES, COOKIES + 1):
        return faults.covered() if test.name == "subscribes to the newsletter" else None
    if run.back == 1:
        return faults.fewer(_FIXED_IN_NEWEST[test.name]) if test.name in _FIXED_IN_NEWEST else None
    return _of_newest(test) if run.newest else None


def _of_newest(test: Test) -> Fault | None:
    if test.name in _SLOW_IN_NEWEST:
        return faults.not_enabled()
    found = {
        "searches “mug”": faults.fewer(4, soft=("first", "filter")),
        "searches “lamp”": faults.fewer(2),
        "returns an order": faults.unavailable(),
        "fills the wish list": faults.page_error(),
        "imports the catalogue": faults.row_without_price(1737),
    }
    return found.get(test.name)


def _of_app(run: Run, test: Test) -> Fault | None:
    if test.name == "shows the basket without a connection" and run.day >= 26:
        return faults.no_element()
    return faults.app_ended() if test.tags[0] == "account" and run.day == 14 else None


def _of_api(run: Run, test: Test) -> Fault | None:
    if test.name == "rounds a price in CHF" and run.back == 0:
        return faults.pytest_assertion(test.id, "state", "12.34", "12.35")
    if test.tags[0] == "stock" and run.day in (17, 18, 19):
        return faults.api_unavailable("/api/stock")
    return None


def live_fault(test: Test, position: int) -> Fault | None:
    """What goes wrong in the results that --live adds: one in seven fails, at its last important step."""
    tags = [act.tag for act in test.acts if act.tag]
    return faults.moment(tags[-1]) if position % 7 == 3 else None

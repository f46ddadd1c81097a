"""Two results side by side in Chromium: the keys n and N go from difference to difference, also without scripts."""

import pytest

from tests.browser.test_results import appears, complaints, opened, press
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "opened", "up_server"]  # fixtures

API = "/api/v1/reports"
PLACE = "`${location.search} ${document.getElementById('place').textContent}`"
MARKED = "document.getElementById('difference').dataset.diff"


@pytest.fixture
def red(up_server):
    """The id of a result that differs from its last green in the steps 5, 15 and 25."""
    for status in ("Passed", "Failed"):
        run = up_server.ask_json("POST", f"{API}/suite-runs", {"name": "compared", "branch": "main"}, status=201)["id"]
        case = {"name": "is compared", "status": status}
        case = up_server.ask_json("POST", f"{API}/suite-runs/{run}/test-cases", case, status=201)["id"]
        steps = [
            {"step_number": at, "step_type": "ui", "description": f"Step {chr(96 + at)}", "status": "Passed",
             "actual_value": status if at in (5, 15, 25) else "same"}
            for at in range(1, 27)
        ]  # fmt: skip
        up_server.ask_json("POST", f"{API}/test-case-results/{case}/steps", {"steps": steps}, status=201)
    return case


async def test_keys_go_through_the_differences(opened, red):
    tab = await opened(f"/results/{red}/compare", height=400)
    assert await appears(tab, MARKED) == "1.5" and "1 of 3" in await tab.evaluate(PLACE)
    for key, diff, place in [("n", "1.15", 2), ("n", "1.25", 3), ("n", "1.25", 3), ("N", "1.15", 2), ("N", "1.5", 1)]:
        await press(tab, key)
        assert await tab.evaluate(MARKED) == diff
        assert await tab.evaluate(PLACE) == f"?diff={diff} {place} of 3"
        top = await tab.evaluate("document.getElementById('difference').getBoundingClientRect().top")
        assert 0 <= top < 400 and await tab.evaluate("document.activeElement.id") == "difference"
    assert complaints(tab) == []


async def test_the_address_of_a_difference_has_it_in_view(opened, red):
    for scripts in (True, False):
        tab = await opened(f"/results/{red}/compare?diff=1.25#difference", height=400, scripts=scripts)
        assert await appears(tab, MARKED) == "1.25"
        top = await tab.evaluate("document.getElementById('difference').getBoundingClientRect().top")
        assert 0 < top < 400
        assert "diff=1.15#difference" in await tab.evaluate("document.querySelector('[data-key=N]').href")

"""Browsers in tests: a real Chromium by Playwright, and a driver as Selenium's is."""

import os
import shutil

import pytest

from tests.images import png
from tests.server import PATIENCE
from tests.test_pytest import report

__all__ = ["report"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
real_browser = pytest.mark.skipif(
    not CHROMIUM and not os.environ.get("REQUIRE_CHROMIUM"), reason="needs chromium; REQUIRE_CHROMIUM=1 makes it fail"
)

CONFTEST = f"""
import pytest
from playwright.sync_api import sync_playwright
from reportd_client import screenshots
from reportd_client.pytest_plugin import browser

screenshots.SECONDS = browser._SECONDS = {PATIENCE}  # a slow machine needs more than three

@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path={CHROMIUM!r}, args=["--no-sandbox"])
        yield browser
        try:
            browser.close()
        except Exception:
            pass

@pytest.fixture
def context(browser):
    context = browser.new_context()
    context.route("**/*", answer)
    yield context
    try:
        context.close()
    except Exception:
        pass

def answer(route):
    if "missing" in route.request.url:
        route.fulfill(status=404, body="no")
    elif "broken" in route.request.url:
        route.abort()
    else:
        route.fulfill(body="<title>Shop</title><h1>Cart</h1>", content_type="text/html",
                      headers={{"x-api-key": "secret-key"}})

@pytest.fixture
def page(context):
    return context.new_page()
"""
SUITE = """
import os, signal
import reportd_client as reportd

def test_fails(page):
    with reportd.step("Open the cart", type="navigate"):
        page.goto("http://shop.example/cart?token=secret-token")
        for event, code in (
            ("console", "console.error('from the page')"),
            ("response", "fetch('/missing').catch(() => 0)"),
            ("requestfailed", "fetch('/broken').catch(() => 0)"),
            ("weberror", "setTimeout(() => { throw new Error('uncaught in the page') }, 0)"),
        ):
            with page.context.expect_event(event):  # which comes when it comes
                page.evaluate(code)
    with reportd.step("Fill", selector="#password", input_value="hunter2"):
        pass
    with reportd.step("Look at it") as s:
        s.screenshot(page)
        s.screenshot(page.locator("h1"))
    with reportd.step("Expect the sum"):
        assert "Sum" in page.content()

def test_passes(page):
    page.goto("http://shop.example/")
"""


@real_browser
@pytest.mark.parametrize("workers", [0, 2])
def test_evidence_of_playwright(report, pytester, server, workers):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    result, run = report(*(["-n", workers] if workers else []))
    assert len(run["tests"]) == 2, result.stdout.str()
    test = run["by_name"]["test_fails"]
    requests = {e["url"]: e for e in test["network"]}
    steps = {s["action"]: s for s in test["steps"]}  # starting and closing the browser may be steps, too
    number = {action: step["step_number"] for action, step in steps.items()}
    assert requests["http://shop.example/cart?token=[redacted]"]["status_code"] == 200
    assert requests["http://shop.example/cart?token=[redacted]"]["response_headers"]["x-api-key"] == "[redacted]"
    assert requests["http://shop.example/missing"]["status_code"] == 404
    assert requests["http://shop.example/broken"]["error_text"]
    assert {e["step_number"] for e in test["network"]} == {number["Open the cart"]}
    messages = [e["message"] for e in test["console"]]
    assert "from the page" in messages and any("uncaught in the page" in text for text in messages)
    shots = {a["file_name"]: a for a in test["artifacts"]}
    failure = shots["screenshot.png"]
    assert (failure["artifact_category"], failure["step_number"]) == ("error", number["Expect the sum"])
    assert server.bytes_of(failure).startswith(b"\x89PNG") and failure["file_size"] > 2000
    looked = number["Look at it"]
    assert {f"step_{looked:03}.png", f"step_{looked:03}_2.png"} <= shots.keys()
    assert steps["Expect the sum"]["screenshot"]["file_name"] == "screenshot.png"
    passed = run["by_name"]["test_passes"]
    assert passed["artifacts"] == [] and len(passed["network"]) == 1 and passed["console"] == []
    for secret in ("secret-token", "secret-key", "hunter2"):
        assert secret not in str(run)


@real_browser
def test_a_killed_browser_changes_nothing(report, pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import subprocess, pytest
        def test_dies(page, browser):
            page.goto("http://shop.example/")
            browser.close()
            assert 0, "my own failure"
        def test_other(): pass
        """
    )
    _, run = report()
    test = run["by_name"]["test_dies"]
    assert (test["status"], test["error_message"].split("\n")[0]) == ("Failed", "my own failure")
    assert test["artifacts"] == [] and run["by_name"]["test_other"]["status"] == "Passed"


DRIVER = """
import pytest, time, base64

class Driver:
    current_url = "http://shop.example/?token=secret-token"
    def __init__(self, mode): self.mode = mode
    def get_screenshot_as_png(self):
        if self.mode == "hangs": time.sleep(30)
        if self.mode == "dead": raise ConnectionError("chrome not reachable\\nStacktrace: …")
        return bytes.fromhex("IMAGE")
    def get_log(self, kind):
        if self.mode == "no log": raise ValueError("not supported")
        return [{"level": "SEVERE", "message": "boom", "timestamp": 1764460000000}]
    def quit(self): pass

@pytest.fixture(params=["good", "no log", "dead", "hangs"])
def driver(request):
    yield Driver(request.param)

def test_fails(driver): assert 0, "mine"
def test_without_driver(): assert 0
"""


def test_evidence_of_selenium(report, pytester, server):
    pytester.makepyfile(DRIVER.replace("IMAGE", png(3).hex()))
    _, run = report()
    tests = run["by_name"]
    for name in ("good", "no log"):
        test = tests[f"test_fails[{name}]"]
        (shot,) = test["artifacts"]
        assert server.bytes_of(shot) == png(3) and shot["artifact_category"] == "error"
        assert test["metadata"]["page_url"] == "http://shop.example/?token=[redacted]"
    assert [(e["level"], e["message"]) for e in tests["test_fails[good]"]["console"]] == [("error", "boom")]
    for name, words in (("dead", "chrome not reachable"), ("hangs", "did not answer within 3 s")):
        test = tests[f"test_fails[{name}]"]
        assert test["error_message"].startswith("mine") and test["artifacts"] == []
        assert any(words in e["message"] for e in test["console"])
    assert tests["test_without_driver"]["artifacts"] == []


@real_browser
def test_screenshots_of_passed_tests_and_no_network(report, pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    _, run = report("--reportd-screenshots=all", "--reportd-network=off", "-k", "passes")
    (test,) = run["tests"]
    assert [a["artifact_category"] for a in test["artifacts"]] == ["after"] and test["network"] == []

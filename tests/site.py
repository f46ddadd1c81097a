"""One set of data that gives every page something to show, sent through the API, and the addresses of the pages.

`say(text, most)` writes each text that a client may choose, at most `most` characters of it: as it is, or hostile.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from server.ids import new_id
from server.routes import PAGES, ROUTES
from tests.makers import png
from tests.up_server import UpServer

API = "/api/v1/reports"
STEPS = 20
FAILED = 17
Say = Callable[[str, int], str]


@dataclass(frozen=True)
class Site:
    """Ids of what make() has sent. `failed` is a result whose step FAILED failed, `passed` one of the same test."""

    project: str
    name: str
    test_id: str
    branch: str
    earlier_run: str
    run: str
    passed: str
    failed: str
    fingerprint: str
    files: dict[str, str]  # of `failed`: the id by type and MIME type
    link: str  # the address of an evidence link on `run`

    def addresses(self) -> dict[str, list[str]]:
        """The addresses to visit, by the path of the route. An address without a page yet is not visited."""
        result, run = f"/results/{self.failed}", f"/runs/{self.run}"
        shown = f"{self.link}/test-case-results/{self.failed}"
        of_test = urlencode({"project": self.project, "id": self.test_id})
        filters = urlencode({"project": self.project, "branch": self.branch, "name": self.name, "status": "Failed"})
        error = f"/errors/{quote(self.project, safe='')}/{self.fingerprint}"
        there = {
            "/": ["/"],
            "/runs": ["/runs", f"/runs?{filters}", f"/runs?{urlencode({'branch': self.branch + 'x'})}"],
            "/runs/{suite_id}": [run, f"{run}?status=Failed&group=none", f"{run}?{urlencode({'q': self.name})}"],
            "/sign-in": ["/sign-in"],
            "/sign-out": ["/sign-out"],
            "/tests": [f"/tests?{of_test}", f"/tests?{of_test}&{urlencode({'branch': self.branch})}"],
            "/results/{case_id}": [result, f"{result}?step=1.16&view=side&log=all", f"/results/{self.passed}"],
            "/results/{case_id}/difference": [f"{result}/difference"],
            "/results/{case_id}/steps/{at}": [f"{result}/steps/1.{FAILED}"],
            "/results/{case_id}/files/{artifact_id}": [
                f"{result}/files/{self.files[name]}{query}"
                for name, query in [
                    ("log text/plain", "?line=2&find=line"),
                    ("other application/json", ""),
                    ("har application/json", "?entry=1"),
                    ("other text/html", "?view=rendered"),
                    ("screenshot image/png", ""),
                ]
            ],
            "/results/{case_id}/compare": [f"{result}/compare", f"{result}/compare?with={self.passed}"],
            "/compare": [f"/compare?base={self.earlier_run}&head={self.run}"],
            "/errors": ["/errors", f"/errors?{urlencode({'project': self.project})}"],
            "/errors/{project}/{fingerprint}": [error],
            "/search": [f"/search?{urlencode({'q': self.name[:20], 'project': self.project})}", "/search"],
            "/latest": [f"/latest?{urlencode({'project': self.project, 'name': self.name})}"],
            "/help": ["/help"],
            "/insights": [
                f"/insights?{urlencode({'project': self.project, 'show': show})}"
                for show in ("selectors", "flaky", "slow", "trends")
            ],
            "/admin/projects": ["/admin/projects"],
            "/admin/people": ["/admin/people"],
            "/admin/tokens": ["/admin/tokens"],
            "/admin/links": ["/admin/links", "/admin/links?active=true"],
            "/admin/storage": ["/admin/storage"],
            "/admin/audit": ["/admin/audit", f"/admin/audit?{urlencode({'project': self.project})}"],
            "/shared/{link}": [self.link, f"{self.link}?status=Failed&group=none"],
            "/shared/{link}/test-case-results/{case_id}": [shown, f"{shown}?step=1.16&view=side"],
            "/shared/{link}/test-case-results/{case_id}/steps/{at}": [f"{shown}/steps/1.{FAILED}"],
            "/admin/webhooks": ["/admin/webhooks"],
        }
        return {page: there[page] for page in page_paths()}


_MADE = pytest.StashKey[dict[str, Site]]()


def page_paths() -> list[str]:
    """The paths of all pages that can be visited."""
    # Those below /sign-in/ lead to the provider of single sign-on and back, and show nothing. A zip is no page.
    left_out = re.compile(r"/sign-in/.*|.*\.zip")
    shown = [route.path for route in PAGES if route.method == "GET" and not left_out.fullmatch(route.path)]
    of_links = [route.path for route in ROUTES if "text/html" in route.others and route.path.startswith("/shared/")]
    return list(dict.fromkeys([*shown, *of_links]))


def shared(request: pytest.FixtureRequest, server: UpServer, project: str, say: Say) -> Site:
    """What make() has sent, once for all test files that use the same project."""
    made = request.config.stash.setdefault(_MADE, {})
    if project not in made:
        made[project] = make(server, project, say)
    return made[project]


def make(server: UpServer, project: str, say: Say) -> Site:
    """Send two runs of a test, which passed and then failed, with everything that can be sent."""
    server.rows("INSERT INTO projects (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id", project)
    texts = {"project": project, "name": say("pays by card", 500), "test_id": say("shop/pay", 500)}
    texts["branch"] = say("main", 500)
    earlier, passed = _run(server, say, texts, "Passed", "earlier")
    run, failed = _run(server, say, texts, "Failed", "newest")
    query = "SELECT encode(error_fingerprint, 'hex') FROM test_case_results WHERE id = %s"
    ((fingerprint,),) = server.rows(query, failed)
    _access(server, say, project)
    link = server.ask_json("POST", f"{API}/links", {"suite_run_id": run}, status=201)["url"]
    for name, some_id in (("suite_run_id", run), ("test_case_result_id", failed)):
        server.ask_json("POST", f"{API}/links", {name: some_id, "note": say("for the shop", 255)}, status=201)
    query = (
        "SELECT concat_ws(' ', artifact_type, mime_type), id::text FROM test_artifacts WHERE test_case_result_id = %s"
    )
    files = dict(server.rows(query, failed))
    known = project, texts["name"], texts["test_id"], texts["branch"]
    return Site(*known, earlier, run, passed, failed, fingerprint, files, link)


def _run(server: UpServer, say: Say, texts: dict[str, str], status: str, key: str) -> tuple[str, str]:
    about = {
        "project": texts["project"],
        "name": texts["name"],
        "run_key": f"{texts['project']} {key} {say('key', 400)}",
        "status": status,
        "environment": say("staging", 255),
        "branch": texts["branch"],
        "commit_sha": (key.encode().hex() + say("8f14e45", 40))[:64],
        "build_url": say("https://ci.example/builds/4711", 2000),
        "browser": say("chromium", 255),
        "platform": say("linux", 255),
        "triggered_by": say("ci", 255),
        "tags": [say("smoke", 500)],
        "metadata": {say("shard", 99): say("1 of 2", 999)},
    }
    run = server.ask_json("POST", f"{API}/suite-runs", about, status=201)["id"]
    others = [{"name": f"{say('searches', 400)} {n}", "status": "Passed", "duration_ms": 900 * n} for n in range(1, 6)]
    others.append({"name": say("returns an order", 500), "status": "Skipped"})
    others += [
        {"name": "is flaky", "test_id": say("flaky", 99), "status": each, "attempt": attempt,
         "error_message": say("x", 99)}
        for attempt, each in ((1, "Failed"), (2, "Passed"))
    ]  # fmt: skip
    server.ask_json("POST", f"{API}/suite-runs/{run}/test-cases/bulk", {"test_cases": others}, status=201)
    return run, _result(server, say, texts, run, status)


def _result(server: UpServer, say: Say, texts: dict[str, str], run: str, status: str) -> str:
    result = {
        "name": texts["name"],
        "test_id": texts["test_id"],
        "status": status,
        "duration_ms": 38_200,
        "browser": say("chromium", 255),
        "tags": [say("payment", 500)],
        "metadata": {say("owner", 99): say("payments", 999)},
        "started_at": "2026-01-24T12:00:00Z",
        "completed_at": "2026-01-24T12:00:38Z",
    }
    if status == "Failed":
        result |= _error(say)
    case = server.ask_json("POST", f"{API}/suite-runs/{run}/test-cases", result, status=201)["id"]
    url = f"{API}/test-case-results/{case}"
    steps = {"steps": [_step(say, number, status == "Failed") for number in range(1, STEPS + 1)]}
    server.ask_json("POST", f"{url}/steps/bulk", steps, status=201)
    for number in (15, 16, FAILED):
        _picture(server, say, url, number, status == "Failed" and number == FAILED)
    _files(server, say, url)
    _logs(server, say, url)
    return str(case)


def _error(say: Say) -> dict[str, str]:
    return {
        "error_type": say("TimeoutError", 100),
        "error_message": say("waiting for #pay to be enabled\n\nexpect(locator).toBeEnabled()\n  - waiting", 1 << 20),
        "stack_trace": say("at pay.spec.ts:12\nat run.ts:3", 1 << 20),
    }


def _step(say: Say, number: int, fails: bool) -> dict[str, Any]:
    failed = fails and number == FAILED
    step = {
        "step_number": number,
        "step_type": say("ui", 50),
        "action": say("click", 100),
        "description": say(f"Click “Pay {number}”", 5000),
        "status": "Failed" if failed else "Pending" if fails and number > FAILED else "Passed",
        "duration_ms": 30_000 if failed else 400,
        "element_name": say("Pay now", 255),
        "element_type": say("button", 50),
        "element_selector": say("#pay", 5000),
        "started_at": f"2026-01-24T12:00:{number:02}Z",
    }
    if number == FAILED - 3:
        step["screenshot_path"] = say("never_came.png", 500)
    if failed:
        values = {"input_value": say("4111", 5000), "expected_value": say("enabled", 5000)}
        step |= {**values, "actual_value": say("disabled", 5000), **_error(say)}
    return step


def _picture(server: UpServer, say: Say, url: str, number: int, failed: bool) -> None:
    fields = {
        "artifact_type": "screenshot",
        "step_number": str(number),
        "artifact_category": "error" if failed else "after",
        "description": say("the page", 5000),
    }
    name = say(f"step_{number}.png", 100).replace("/", "_").replace('"', "'")
    name = "".join(each for each in name if each.isprintable() or each == "\u202e")
    picture = ("file", name, png(1280, 800, seed=number + failed) if number == FAILED else png(320, 200), "image/png")
    server.send(f"{url}/artifacts", picture, *fields.items())


def _files(server: UpServer, say: Say, url: str) -> None:
    said = say("a line", 5000)
    pair = [{"name": said, "value": said}]
    request = {"method": said[:20], "url": said, "headers": pair, "queryString": pair, "postData": {"text": said}}
    response = {"status": 404, "statusText": said, "headers": pair, "content": {"mimeType": said, "text": said}}
    entry = {"request": request, "response": response, "time": 12, "timings": {said[:50]: 3}}
    contents = {
        "worker.log": f"\x1b[31m{said}\x1b[0m\nline 2\n".encode() + b"line \xff\n",
        "network.har": json.dumps({"log": {"entries": [entry, {"request": 1, "response": []}]}}).encode(),
        "data.json": json.dumps({said: [said, 1, None, {said: {}}]}).encode(),
        "page.html": f"<!doctype html><title>{said}</title>{said}".encode(),
    }
    for name, content in contents.items():
        kind = {"log": "log", "har": "har"}.get(name.rpartition(".")[2], "other")
        server.send(f"{url}/artifacts", ("file", name, content, "text/plain"), ("artifact_type", kind))


def _logs(server: UpServer, say: Say, url: str) -> None:
    of_step = {"step_number": FAILED}
    checks = [
        {"checkpoint_number": number, "name": say("total", 500), "checkpoint_type": say("value", 50), "status": each,
         "expected_value": say("19.99", 5000), "actual_value": say("20.00", 5000),
         "message": say("rounded", 5000), **of_step}
        for number, each in ((1, "Failed"), (2, "Passed"))
    ]  # fmt: skip
    server.ask_json("POST", f"{url}/checkpoints", {"checkpoints": checks}, status=201)
    console = [
        {"level": level, "message": say("deprecated", 1 << 20), "source_url": say("https://shop.example/app.js", 5000),
         "line_number": 7, "logged_at": "2026-01-24T12:00:17.5Z", **of_step}
        for level in ("error", "warning", "info")
    ]  # fmt: skip
    server.ask_json("POST", f"{url}/console-logs", {"entries": console}, status=201)
    network = [
        {"method": say("GET", 20), "url": say("https://shop.example/basket", 5000), "status_code": code,
         "resource_type": say("fetch", 50), "error_text": say("refused", 500), "duration_ms": 90, "response_size": 900,
         "request_headers": {"X-Trace": say("1", 99)}, "response_headers": {"X-Trace": say("2", 99)},
         "started_at": "2026-01-24T12:00:17.2Z", **of_step}
        for code in (200, 404, 503)
    ]  # fmt: skip
    server.ask_json("POST", f"{url}/network-logs", {"entries": network}, status=201)


def _access(server: UpServer, say: Say, project: str) -> None:
    """A person and a token of the project."""
    role = "INSERT INTO user_roles SELECT %s, id, 'viewer' FROM projects WHERE name = %s RETURNING user_id"
    add = "INSERT INTO users (id, name, password_hash) VALUES (%s, %s, 'x') RETURNING id"
    ((user_id,),) = server.rows(add, new_id(0), say(f"anna of {project}", 100))
    server.rows(role, user_id, project)
    add = (
        "INSERT INTO tokens (id, name, token_hash, role, project_id, expires_at)"
        " SELECT %s, %s, %s, 'uploader', id, '2027-01-24' FROM projects WHERE name = %s RETURNING id"
    )
    server.rows(add, new_id(0), say(f"ci of {project}", 100), project.encode(), project)

"""HAR: what Playwright records here in a real Chromium, small files in the ways of others, and bad ones."""

import http.server
import json
import threading

import pytest

from tests.odd import with_odd_values
from tests.test_browser import CHROMIUM, real_browser
from tests.test_junit import dry_run, looked
from tests.test_send import run_of

PAGE = b"""<title>Shop</title><form action=/sign-in><input type=password name=password value=hunter2></form>
<script>
fetch('/api?token=secret-token', {headers: {authorization: 'Bearer secret-bearer', 'x-plain': 'shown'}})
</script>"""
SECRETS = ("hunter2", "secret-token", "secret-bearer", "secret-cookie", "secret-body")


class _Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = PAGE if self.path == "/cart" else b"{}"
        self.send_response(404 if self.path == "/missing" else 200)
        for name, value in (("content-type", "text/html"), ("set-cookie", "sid=secret-cookie"), ("x-two", "1")):
            self.send_header(name, value)
        self.send_header("x-two", "2")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The path of a HAR file, and the address of the shop in it."""
    from playwright.sync_api import sync_playwright

    path = tmp_path_factory.mktemp("har") / "shop.har"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            context = browser.new_context(record_har_path=path)
            page = context.new_page()
            with page.expect_response("**/api*"):
                page.goto(f"{address}/cart")
            with page.expect_response("**/missing"):
                page.evaluate("fetch('/missing').then(reply => reply.text())")
            page.evaluate("fetch('/order', {method: 'POST', body: 'secret-body'}).then(reply => reply.text())")
            page.evaluate("fetch('http://127.0.0.1:9/').catch(() => {})")
            with page.expect_response("**/sign-in*"):
                page.evaluate("document.forms[0].submit()")
            page.wait_for_load_state()
            context.close()
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    return path, address


def requests_by_path(entries, address):
    return {entry["url"].removeprefix(address).partition("?")[0]: entry for entry in entries}


@real_browser
def test_requests_of_a_browser(recorded):
    path, address = recorded
    reports, (result,) = looked(path)
    log = json.loads(path.read_text())["log"]
    assert reports.notes == [] and len(result.network_logs) == len(log["entries"])
    test = result.test
    assert (test["name"], test["test_id"], test["status"]) == ("shop.har", "shop.har", "Passed")
    assert test["browser"].startswith("chromium ") and test["metadata"]["har"].startswith("Playwright ")
    assert test["started_at"] == min(each["started_at"] for each in result.network_logs)
    found = requests_by_path(result.network_logs, address)
    for entry in log["entries"]:
        sent = found[entry["request"]["url"].removeprefix(address).partition("?")[0]]
        assert sent["method"] == entry["request"]["method"]
        assert sent.get("status_code") == (entry["response"]["status"] if entry["response"]["status"] > 0 else None)
        assert sent.get("resource_type") == entry.get("_resourceType")
        assert sent.get("duration_ms") == (round(entry["time"]) if entry["time"] >= 0 else None)
        assert {name: value for name, value in sent["request_headers"].items() if isinstance(value, str)} == {
            header["name"]: header["value"] for header in entry["request"]["headers"]
        }
        assert sent["started_at"][:23] == entry["startedDateTime"][:23]
        assert -1 not in sent.values()
    assert (found["/cart"]["status_code"], found["/cart"]["resource_type"]) == (200, "document")
    assert found["/cart"]["response_size"] >= len(PAGE) and found["/missing"]["status_code"] == 404
    assert found["/cart"]["response_headers"]["x-two"] == ["1", "2"]
    assert (found["/order"]["method"], found["/order"]["request_size"]) == ("POST", len("secret-body"))
    failed = found["http://127.0.0.1:9/"]
    assert (
        failed["error_text"] == "net::ERR_UNSAFE_PORT" and "status_code" not in failed and "response_size" not in failed
    )
    assert result.files == []


@real_browser
def test_nothing_secret_of_a_browser_is_sent(recorded, send, server):
    path, address = recorded
    done = send(path, "--run-key", "har")
    assert done.returncode == 0 and "1 test, 0 files" in done.stdout, done.stderr
    (test,) = run_of(server, done)["tests"]
    text = json.dumps(test)
    assert not any(secret in text for secret in SECRETS) and "shown" in text
    found = requests_by_path(test["network"], address)
    assert found["/api"]["url"].endswith("?token=[redacted]") and found["/sign-in"]["url"].endswith(
        "password=[redacted]"
    )
    assert found["/api"]["request_headers"]["authorization"] == "[redacted]"
    assert all(entry["response_headers"].get("set-cookie", "[redacted]") == "[redacted]" for entry in found.values())
    assert test["artifacts"] == [] and "1 test (0 new)" in send(path, "--run-key", "har").stdout
    kept = run_of(server, send(path, "--run-key", "har kept", "--keep-har"))
    ((artifact,),) = (test["artifacts"] for test in kept["tests"])
    assert artifact["artifact_type"] == "har" and server.bytes_of(artifact) == path.read_bytes()


@real_browser
def test_requests_are_added_to_a_result_once(recorded, send, server, tmp_path):
    path, _ = recorded
    run = server.post("/suite-runs", {"name": "har"})
    case = server.post(f"/suite-runs/{run['id']}/test-cases", {"name": "a", "status": "Failed"})["id"]
    server.post(f"/test-case-results/{case}/network-logs", {"first_sequence": 0, "entries": [har()["own"]]})
    (tmp_path / "other.har").write_text(json.dumps(har(entry(url="http://x/other"))["file"]))
    done = send(path, tmp_path / "other.har", "--test-case", case)
    count = len(json.loads(path.read_text())["log"]["entries"])
    assert done.stdout == f"{count + 1} requests of 2 files ({count + 1} new) added to {case}\n", done.stderr
    assert f"{count + 1} requests of 2 files (0 new)" in send(path, tmp_path / "other.har", "--test-case", case).stdout
    test = server.test(case)
    assert len(test["network"]) == count + 2 and test["status"] == "Failed"
    assert not any(secret in json.dumps(test) for secret in SECRETS)
    done = send(path, "--test-case", case, "--keep-har")
    assert [artifact["artifact_type"] for artifact in server.test(case)["artifacts"]] == ["har"], done.stderr


# --- in the ways of others ---


def entry(url="http://x/", method="GET", response=None, **more):
    return {"request": {"method": method, "url": url}, "response": response or {"status": 200}, **more}


def har(*entries, **log):
    file = {"log": {"version": "1.2", "creator": {"name": "x"}, "entries": list(entries), **log}}
    return {"file": file, "own": {"method": "GET", "url": "http://own/", "status_code": 200}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (entry(), {"method": "GET", "url": "http://x/", "status_code": 200}),
        (entry(method=""), {"method": "GET"}),
        (
            entry(response={"status": 0, "_error": "net::ERR_FAILED"}),
            {"status_code": None, "error_text": "net::ERR_FAILED"},
        ),
        (entry(response={"status": "200"}), {"status_code": None}),
        (entry(response={"bodySize": -1, "content": {"size": 12}}), {"response_size": 12}),
        (entry(response={"bodySize": -1, "content": {"size": -1}}), {"response_size": None}),
        (entry(response={"bodySize": 0, "content": {"size": 12}}), {"response_size": 0}),
        (entry(time=1.5), {"duration_ms": 2}),
        (entry(time=-1), {"duration_ms": None}),
        (entry(startedDateTime="2026-01-02T03:04:05.678+01:00"), {"started_at": "2026-01-02T02:04:05.678+00:00"}),
        (entry(startedDateTime="yesterday"), {"started_at": None}),
        (entry(url="data:text/plain," + "x" * 100_000), {"url": "data:text/plain," + "x" * 8_175 + "…"}),
        (entry(url="http://x/\x1b[1mbold\0"), {"url": "http://x/bold\ufffd"}),
    ],
)
def test_fields(tmp_path, given, expected):
    (tmp_path / "a.har").write_text(json.dumps(har(given)["file"]))
    _, (result,) = looked(tmp_path)
    (found,) = result.network_logs
    assert {name: found.get(name) for name in expected} == expected


def test_in_a_folder_with_reports_a_file_is_no_test_of_its_own(tmp_path):
    (tmp_path / "junit.xml").write_text("<testsuite><testcase name='a'/></testsuite>")
    (tmp_path / "a.har").write_text(json.dumps(har(entry())["file"]))
    reports, results = looked(tmp_path)
    assert [result.test["name"] for result in results] == ["a"] and "a.har is skipped" in reports.remarks[0]
    _, results = looked(tmp_path / "junit.xml", tmp_path / "a.har")
    assert [result.test["name"] for result in results] == ["a", "a.har"]


# --- cut, odd and hostile files ---


@pytest.mark.parametrize(
    ("text", "options", "code", "words"),
    [
        (json.dumps(har()["file"]), [], 2, "is empty: it has no request"),
        ("", ["--format", "har"], 2, "is empty"),
        (json.dumps(har(entry(), entry())["file"])[:-40], [], 4, "is cut: 1 whole requests were read"),
        (json.dumps(har(entry())["file"])[:-20], [], 3, "is cut before the end of its first request"),
        (json.dumps(har(entry(), entry(url=""))["file"]), [], 4, "1 entries have no request"),
        ('{"steps": []}', ["--format", "har"], 3, "is no HAR: it needs a `log` with `entries`"),
        ("<testsuite/>", ["--format", "har"], 3, "is no JSON"),
        (json.dumps(har(entry())["file"]), ["--format", "ctrf"], 3, "is no CTRF"),
        (json.dumps(har()["file"]), ["--test-case", "x"], 2, "is empty: it has no request"),
        (json.dumps(har(entry())["file"])[:-20], ["--test-case", "x"], 3, "is cut before the end of its first request"),
        (
            json.dumps(har(entry(), entry())["file"])[:-40],
            ["--test-case", "x"],
            4,
            "is cut: 1 whole requests were read",
        ),
        ("[]", ["--test-case", "x"], 3, "is no HAR"),
        ("[]", ["--test-case", "x", "--format", "junit"], 1, "takes HAR files, not --format junit"),
    ],
)
def test_exit_codes(tmp_path, capsys, text, options, code, words):
    (tmp_path / "a.har").write_text(text)
    ended = dry_run(tmp_path / "a.har", *options)
    assert (ended, words in (said := capsys.readouterr().err)) == (code, True), said


def test_a_result_that_does_not_exist(tmp_path, send):
    (tmp_path / "a.har").write_text(json.dumps(har(entry())["file"]))
    done = send(tmp_path, "--test-case", "019bef12-7a41-7c3e-8d25-5b0c1f6e9a01")
    assert done.returncode == 5 and "not found" in done.stderr
    (tmp_path / "a.har").unlink()
    assert send(tmp_path, "--test-case", "x").returncode == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "a.har").write_bytes(
        json.dumps(har(entry(url="http://x/ü"))["file"], ensure_ascii=False).encode(encoding)
    )
    _, (result,) = looked(tmp_path)
    assert result.network_logs[0]["url"] == "http://x/ü"


def test_values_of_other_types_cost_no_more_than_themselves(tmp_path):
    given = entry(startedDateTime="x", time=1, _resourceType="x")
    given["request"].update(headers=[{"name": "a", "value": "b"}], bodySize=1)
    given["response"] = {"status": 1, "content": {"size": 1}, "bodySize": 1, "headers": [{"name": "a"}]}
    for changed in with_odd_values(har(given, browser={"name": "x"}, pages=[{"title": "x"}])["file"]):
        (tmp_path / "a.har").write_text(json.dumps(changed))
        looked(tmp_path / "a.har", format="har")

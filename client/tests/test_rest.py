"""The client of every call: complete, with the types of the server's OpenAPI, and repeating what is safe."""

import inspect
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from datetime import datetime, timezone

import pytest
from reportd_client import limits
from reportd_client.rest import Api, ApiError, access, results, suites
from reportd_client.rest.connection import Connection
from reportd_client.sender.http import Answer
from reportd_client.settings import SettingsError

from tests import shapes
from tests.images import png
from tests.server import CHECKOUT, PATIENCE, free_port, python

FOR_BROWSERS = {"docs_show", "static_show"}  # pages, not calls
PAGING = {"page", "per_page", "limit", "cursor", "shape", "download"}  # what iterators and methods set themselves
GROUPS = {name: value for name, value in vars(Api("http://x", "t")).items() if not name.startswith("_")}
METHODS = {f"{name}_{method}": getattr(group, method) for name, group in GROUPS.items() for method in dir(group)}
METHODS = {name: method for name, method in METHODS.items() if inspect.ismethod(method) and "__" not in name}


@pytest.fixture(scope="module")
def openapi(server):
    return server.json("/api/v1/openapi.json")


@pytest.fixture(scope="module")
def operations(openapi):
    """(method, path, description) of each operation."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture
def api(server):
    with Api(server.url, server.token) as api:
        yield api


@pytest.fixture
def through(proxy, server, monkeypatch):
    """An Api behind a proxy, with short waits."""
    monkeypatch.setattr(limits, "FIRST_RETRY", 0.01)
    with Api(proxy.url, server.token, retry_seconds=PATIENCE) as api:
        yield api


# --- it has what the server has ---


def test_every_call_has_a_method_and_every_method_a_call(operations):
    extra = {"shared_download"}  # another way to the call of shared_show
    assert METHODS.keys() - extra == operations.keys() - FOR_BROWSERS


def test_the_types_are_those_of_the_server(openapi):
    assert shapes.source(openapi) == shapes.FILE.read_text("utf-8"), "run: cd client && python -m tests.shapes"


@pytest.fixture
def sent(monkeypatch):
    """The requests of a method, which get a reply without items."""
    calls = []

    def call(self, method, path, query=None, body=None, headers=None, *, once=False, to=None):
        calls.append((method, path, dict(query or {}), body, headers or {}, once))
        reply = {"items": [], "next_cursor": None, "total": 0, "per_page": 1, "csrf_token": "c"}
        return Answer(200, {"Set-Cookie": "reportd_session=s"}, json.dumps(reply).encode())

    monkeypatch.setattr(Connection, "call", call)
    return calls


def arguments_of(method, tmp_path):
    """An argument for each parameter, also for those that may be left out."""
    (tmp_path / "a.txt").write_text("a")
    special = {"file": tmp_path / "a.txt", "width": 320}
    if method.__self__.__class__.__name__ != "Artifacts":  # whose `files` are checksums
        special["files"] = [tmp_path / "a.txt"]
    lists = ("files", "steps", "checkpoints", "entries", "tests", "metadata", "test_cases")
    parameters = inspect.signature(method).parameters.values()
    names = [each.name for each in parameters if each.kind != each.VAR_KEYWORD]
    return {name: special.get(name, [] if name in lists else f"the {name}/") for name in names}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_sends_what_the_description_says(name, operations, sent, tmp_path):
    method, path, described = operations["shared_show" if name == "shared_download" else name]
    given = arguments_of(METHODS[name], tmp_path)
    result = METHODS[name](**given)
    if inspect.isgenerator(result):
        assert list(result) == []
    ((sent_method, sent_path, query, body, headers, once),) = sent
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
    assert sent_method == method and re.fullmatch(pattern, sent_path), (sent_path, path)
    declared = described.get("parameters", [])
    of_query = {each["name"] for each in declared if each["in"] == "query"} - PAGING
    if name in ("shared_show", "shared_show_case", "shared_download"):  # the others are of their pages
        assert query.keys() - PAGING <= of_query
    else:
        assert query.keys() - PAGING == of_query
    takes_key = any(each["name"] == "Idempotency-Key" for each in declared)
    assert ("Idempotency-Key" in headers) == takes_key and not (takes_key and once)
    assert once == (method == "POST" and not takes_key and name != "artifacts_missing")  # a question
    content = described.get("requestBody", {}).get("content", {})
    assert (body is not None) == bool(content)
    if "application/json" in content and "multipart/form-data" not in content:
        shape = content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        assert takes(METHODS[name], shape) or json.loads(body.data).keys() <= fields_of(shape), name


def takes(method, shape):
    """Whether the fields of this shape are the keyword arguments."""
    more = [each for each in inspect.signature(method).parameters.values() if each.kind == each.VAR_KEYWORD]
    return bool(more) and more[0].annotation == f"Unpack[shapes.{shape}]"


def fields_of(shape):
    text = shapes.FILE.read_text("utf-8")
    return set(re.findall(r"^    (\w+):", re.search(rf"class {shape}\(.*?(?=\nclass |\Z)", text, re.DOTALL)[0], re.M))


def test_replies_have_the_types_that_the_description_says(operations):
    for name, method in METHODS.items():
        if name == "shared_download":
            continue
        responses = operations[name][2]["responses"]
        found = inspect.signature(method).return_annotation
        schema = responses[min(responses)].get("content", {}).get("application/json", {}).get("schema", {})
        texts = {each["$ref"].rsplit("/", 1)[1] for each in schema.get("anyOf", [schema]) if "$ref" in each}
        of_list = re.fullmatch(r"Iterator\[shapes\.(\w+)\]", found)
        if of_list:
            pages = [fields for fields in texts if f"items: list[{of_list[1]}]" in shapes.FILE.read_text("utf-8")]
            assert pages, (name, found)
        else:
            assert texts <= set(re.findall(r"shapes\.(\w+)", found)), (name, found)


def test_a_type_can_be_imported_at_run_time():
    from reportd_client.rest.shapes import NewSuiteRun

    assert NewSuiteRun(name="x") == {"name": "x"}
    with pytest.raises(ImportError):
        from reportd_client.rest.shapes import nothing  # noqa: F401


def test_importing_the_package_imports_no_http_library():
    done = python(
        "import sys, reportd_client; found = {'urllib3', 'defusedxml', 'reportd_client.rest', 'reportd_client.aio'}; "
        "print(found & set(sys.modules))",
        PYTHONPATH=str(CHECKOUT / "client"),
    )
    assert done.stdout == "set()\n", done.stderr


# --- against a server ---


def test_from_a_run_to_its_files_and_back(api, tmp_path):
    run = api.suite_runs.create(name="tools", tags=["a"], run_key=f"rest {os.getpid()}")
    assert api.suite_runs.create(name="tools", run_key=run["run_key"])["id"] == run["id"]
    case = api.test_cases.create(run["id"], name="pay", status="Failed", error_message="no")
    api.test_cases.create(run["id"], name="more", status="Passed")
    assert [each["name"] for each in api.test_cases.index(run["id"], status="Failed")] == ["pay"]
    api.steps.create_bulk(case["id"], [{"step_number": 1, "action": "click", "status": "Failed"}])
    assert api.steps.index(case["id"])["failed_steps"] == 1
    step = api.steps.index(case["id"])["steps"][0]
    assert api.steps.update(step["id"], actual_value="ü\ud83d")["id"] == step["id"]
    api.checkpoints.create_many(case["id"], [{"checkpoint_number": 1, "name": "total", "status": "Failed"}])
    api.logs.create_console(case["id"], [{"level": "error", "message": "boom"}], first_sequence=0)
    assert [entry["message"] for entry in api.logs.index_console(case["id"])] == ["boom"]
    path = tmp_path / 'a "picture".png'
    path.write_bytes(png(5))
    one = api.uploads.create(case["id"], path, artifact_type="screenshot", step_number=1)
    two = api.uploads.create_batch(
        case["id"],
        [path, ("täglich.log", b"text")],
        [{"file_index": 0, "artifact_type": "other"}, {"file_index": 1, "artifact_type": "log", "description": "d"}],
    )
    assert [each["file_name"] for each in two["artifacts"]] == [path.name, "täglich.log"] and one["step_number"] == 1
    saved = api.downloads.show(one["id"], tmp_path / "copy.png")
    assert saved.read_bytes() == png(5) and api.artifacts.show(one["id"])["checksum"] == one["checksum"]
    assert api.artifacts.missing([{"checksum": one["checksum"], "file_size": one["file_size"]}])["missing"] == []
    assert zipfile.is_zipfile(api.archives.show(run["id"], tmp_path / "run.zip"))
    assert api.reports.show(case["id"])["test_case_result"]["name"] == "pay"
    assert api.thumbs.show(one["id"], 320, tmp_path / "small.webp").read_bytes()[:4] == b"RIFF"
    api.suite_runs.update(run["id"], status="Failed", finished_at=datetime.now(timezone.utc).isoformat())
    since = datetime.fromisoformat(run["created_at"].replace("Z", "+00:00"))
    assert run["id"] in [each["id"] for each in api.suite_runs.index(since=since, tag="a", status="failed")]
    api.artifacts.delete(one["id"])
    api.suite_runs.delete(run["id"])
    with pytest.raises(ApiError) as caught:
        api.suite_runs.show(run["id"])
    assert (caught.value.status, caught.value.code) == (404, "suite_run_not_found") and caught.value.request_id in str(
        caught.value
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ['a "picture".png', "copy.png", "run.zip", "small.webp"]


def test_a_list_of_several_pages(api):
    run = api.suite_runs.create(name="tools")
    api.test_cases.create_many(run["id"], [{"name": f"test {i}"} for i in range(1200)])
    assert len({each["id"] for each in api.test_cases.index(run["id"])}) == 1200


def test_a_bundle_with_and_without_files(api):
    run = api.suite_runs.create(name="bundles")
    one = {"client_ref": "7b0c4b8e-30a5-4b0f-9a53-0f1f6a7f2c11", "test": {"name": "one", "status": "Passed"}}
    two = {
        **one,
        "client_ref": one["client_ref"].replace("7", "8"),
        "artifacts": [{"file_index": 0, "artifact_type": "log"}],
    }
    assert api.bundles.create(run["id"], [one])["tests"][0]["created"] is True
    again, new = api.bundles.create(run["id"], [one, two], [("a.log", b"text")])["tests"]
    assert (again["created"], new["created"], len(new["artifacts"])) == (False, True, 1)


def test_an_evidence_link_needs_no_token(api, server, tmp_path):
    run = api.suite_runs.create(name="shared")
    case = api.test_cases.create(run["id"], name="a", status="Failed")
    file = api.uploads.create(case["id"], ("a.png", png(6)), artifact_type="screenshot")
    with Api(server.url) as visitor:
        link = api.links.create(suite_run_id=run["id"])["url"].rsplit("/", 1)[1]
        assert visitor.shared.show(link)["suite_run"]["id"] == run["id"]
        assert visitor.shared.show_case(link, case["id"])["test_case_result"]["id"] == case["id"]
        assert visitor.shared.show_image(link, file["id"], tmp_path / "a").read_bytes() == png(6)
        link = api.links.create(artifact_id=file["id"])["url"].rsplit("/", 1)[1]
        assert visitor.shared.download(link, tmp_path / "b").read_bytes() == png(6)
        with pytest.raises(ApiError) as caught:
            visitor.suite_runs.show(run["id"])
        assert caught.value.status == 401
    assert {each["artifact_id"] for each in api.links.index(active=True)} >= {file["id"], None}


def test_the_server_about_itself(api):
    assert (api.health.live()["status"], api.health.ready()["status"]) == ("ok", "ready")
    assert "reportd_" in api.health.metrics() and "bundle" in api.limits.show()["features"]
    assert api.sessions.show()["kind"] == "token" and api.openapi.show()["paths"]
    assert next(api.audit.index())["action"]
    assert api.insights.show(show="trends", days=2)["trends"]
    with pytest.raises(ApiError) as caught:
        api.exchange.create("no token of a CI")
    assert caught.value.status in (401, 403)


def test_a_person_logs_in(server):
    password = (server.data / "admin-password").read_text().strip()
    with Api(server.url) as person:
        person.sessions.login("admin", password)
        assert person.suite_runs.create(name="of a person")["name"] == "of a person"
        assert person.sessions.show()["name"] == "admin"
        person.sessions.logout()
        with pytest.raises(ApiError) as caught:
            person.suite_runs.create(name="of nobody")
        assert caught.value.status == 401
        with pytest.raises(ApiError) as caught:
            person.sessions.login("admin", f"not {password}")
        assert caught.value.status == 401 and password not in str(caught.value)


# --- errors ---


def test_wrong_values_are_named(api):
    with pytest.raises(ApiError) as caught:
        api.suite_runs.create(name="x", status="green")
    error = caught.value
    assert (error.status, error.code) == (422, "invalid") and error.sentence and error.request_id
    assert [each["path"] for each in error.errors] == ["status"]


def test_refused_files_are_listed(api):
    case = api.test_cases.create(api.suite_runs.create(name="x")["id"], name="a")
    files = [("a.bin", b"\0\1\2"), ("b.txt", b"text")]
    entries = [{"file_index": i, "artifact_type": "other"} for i in range(2)]
    assert [each["file_name"] for each in api.uploads.create_batch(case["id"], files, entries)["failed"]] == ["a.bin"]
    with pytest.raises(ApiError) as caught:
        api.uploads.create_batch(case["id"], files[:1], entries[:1])
    assert caught.value.reply["failed"][0]["file_name"] == "a.bin"


def test_an_id_is_one_part_of_the_path(api):
    for suite_id in ("../limits", "a/b", "?x", "", "%2e%2e", "ü"):
        with pytest.raises(ApiError) as caught:
            api.suite_runs.show(suite_id)
        assert caught.value.status in (400, 404, 405)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        ((302, {}, {"Location": "https://elsewhere/"}), "redirect", "redirects to https://elsewhere/"),
        ((200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), "not_reportd", "no JSON"),
        ((403, b"<html>blocked</html>", {"Content-Type": "text/html"}), "not_reportd", "a proxy may have answered"),
        ((507, {"detail": "The disk is full", "code": "storage_full"}), "storage_full", "The disk is full"),
    ],
)
def test_answers_of_others(proxy, through, reply, code, words):
    proxy.script = lambda method, path: reply
    with pytest.raises(ApiError, match=words) as caught:
        through.limits.show()
    assert caught.value.code == code and len(proxy.seen) == 1


def test_settings(monkeypatch, server):
    with pytest.raises(SettingsError, match="Set REPORTD_URL"):
        Api()
    with pytest.raises(SettingsError, match="must be an address"):
        Api("ftp://x")
    monkeypatch.setenv("REPORTD_URL", server.url)
    monkeypatch.setenv("REPORTD_TOKEN", server.token)
    with Api() as api:
        assert api.limits.show()["role"] == "admin"


# --- repetitions ---


@pytest.mark.parametrize(
    "action", ["cut", "drop", 502, (503, {"detail": "d", "code": "c"}, {"Retry-After": "0"}), 429, 408]
)
def test_what_is_safe_is_repeated(proxy, through, server, action, tmp_path):
    proxy.script = lambda method, path: action if proxy.number == 1 else None
    run = through.suite_runs.create(name="again")
    case = through.test_cases.create(run["id"], name="a")
    file = through.uploads.create(case["id"], ("a.txt", b"text"), artifact_type="log")
    through.steps.replace(case["id"], [{"step_number": 1, "step_type": "click"}])
    through.test_cases.update(case["id"], status="Passed")
    assert through.downloads.show(file["id"], tmp_path / "a.txt").read_bytes() == b"text"
    assert len(server.cases(run["id"])) == 1 and len(server.test(case["id"])["artifacts"]) == 1
    through.artifacts.delete(file["id"])
    through.suite_runs.delete(run["id"])
    assert len(proxy.seen) == 2 * len(set(proxy.seen)) == 16


def test_what_is_not_safe_is_not_repeated(proxy, through):
    run = through.suite_runs.create(name="links")
    proxy.script = lambda method, path: "cut"
    with pytest.raises(ApiError) as caught:
        through.links.create(suite_run_id=run["id"])
    assert (caught.value.status, caught.value.code) == (0, "unreachable") and len(proxy.seen) == 2


def test_a_key_of_the_caller_holds_over_calls(api):
    run = api.suite_runs.create(name="keys")
    ids = {api.test_cases.create(run["id"], name="a", idempotency_key="build 1")["id"] for _ in range(3)}
    assert len(ids) == 1


def test_it_gives_up_in_time(proxy, server, monkeypatch):
    proxy.script = lambda method, path: (503, {"detail": "busy", "code": "overloaded"}, {"Retry-After": "3600"})
    with Api(proxy.url, server.token, retry_seconds=5) as api:
        with pytest.raises(ApiError) as caught:  # at once: the server asks for more time than there is
            api.limits.show()
    assert caught.value.retry_after == 3600 and len(proxy.seen) == 1
    with pytest.raises(ApiError, match="cannot be reached"):
        Api(f"http://127.0.0.1:{free_port()}", "t", retry_seconds=0).limits.show()


def test_close_ends_the_waiting(proxy, server):
    proxy.script = lambda method, path: 503
    api = Api(proxy.url, server.token, retry_seconds=600)
    threading.Timer(0.2, api.close).start()
    with pytest.raises(ApiError):
        api.limits.show()


def test_a_file_that_changes_while_it_is_sent_is_named(api, tmp_path):
    case = api.test_cases.create(api.suite_runs.create(name="x")["id"], name="a")
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 1_000_000)
    form = results.Form({"artifact_type": "log"}, [path], "file")
    path.write_bytes(b"x")
    with pytest.raises(ApiError, match="became smaller") as caught:
        api._connection.create(f"/api/v1/reports/test-case-results/{case['id']}/artifacts", form, None)
    assert caught.value.code == "file_changed"
    with pytest.raises(FileNotFoundError):
        api.uploads.create(case["id"], tmp_path / "gone.log", artifact_type="log")


def test_a_download_that_breaks_off_leaves_no_file(through, proxy, tmp_path):
    proxy.script = lambda method, path: (200, b"half", {"X": "y"})
    with pytest.raises(IsADirectoryError):
        through.downloads.show("x", tmp_path)
    proxy.script = lambda method, path: 404
    with pytest.raises(ApiError):
        through.downloads.show("x", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_large_files_are_not_kept_in_memory(tmp_path):
    """A file of 64 MiB is read in pieces: the memory of Python's objects stays far below it."""
    code = f"""
import tracemalloc
from reportd_client.rest.form import Form
form = Form({{"a": 1}}, [{str(tmp_path / "large")!r}], "file")
tracemalloc.start()
assert sum(len(chunk) for chunk in form.chunks()) == form.length > 64 << 20
print(tracemalloc.get_traced_memory()[1] < 4 << 20)
"""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT / "client", capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_the_groups_are_classes_of_these_files():
    found = {type(group).__module__.rsplit(".", 1)[1] for group in GROUPS.values()}
    assert found == {module.__name__.rsplit(".", 1)[1] for module in (suites, results, access)}

"""`reportd-send finish`: what newly fails, is flaky or missing, as text, as Markdown and as an exit code."""

import re
import uuid

import pytest
from reportd_client.cli import main
from reportd_client.commands.summary import Markdown, one_line

from tests.server import free_port


@pytest.fixture
def finish(server, monkeypatch, capsys):
    """Runs the command in this process: code, output, messages."""
    monkeypatch.setenv("REPORTD_URL", server.url)
    monkeypatch.setenv("REPORTD_TOKEN", server.token)

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(["finish", *map(str, arguments)])
        said = capsys.readouterr()
        return int(ended.value.code), said.out, said.err

    return run


@pytest.fixture
def make(server):
    """Makes a run of this name with results; each is (test_id, status, fields, steps)."""

    def run(name, *results, status="Failed", **fields):
        made = server.post("/suite-runs", {"name": name, "status": status, **fields})
        tests = [
            {
                "client_ref": str(uuid.uuid4()),
                "test": {"name": test_id, "test_id": test_id, "status": outcome, **more},
                "steps": list(steps),
            }
            for test_id, outcome, more, steps in results
        ]
        if tests:
            server.post(f"/suite-runs/{made['id']}/bundle", {"tests": tests})
        return made

    return run


def step(number, status="Passed", **fields):
    return {"step_number": number, "step_type": "click", "action": f"click {number}", "status": status, **fields}


@pytest.fixture
def name():
    return f"checkout {uuid.uuid4()}"


@pytest.fixture
def pull_request(make, name):
    """A run of the main branch, and one in which something else fails: both."""
    base = make(
        name,
        ("pay", "Passed", {}, [step(1, duration_ms=300), step(2)]),
        ("search", "Failed", {"error_message": "no hits"}, []),
        ("cart", "Failed", {}, []),
        branch="main",
        commit_sha="8f14e45c" * 5,
    )
    failed = {"error_message": "no button\nat line 3", "browser": None}
    head = make(
        name,
        ("pay", "Failed", failed, [step(1, duration_ms=4100), step(2, "Failed", error_message="no button")]),
        ("search", "Failed", {"error_message": "no hits"}, []),
        ("cart", "Passed", {}, []),
        ("new", "Failed", {"browser": "firefox"}, []),
        ("login", "Failed", {"attempt": 1}, []),
        ("login", "Passed", {"attempt": 2}, []),
        branch="fix",
        commit_sha="c0ffee11" * 5,
    )
    return base, head


def test_new_failures_with_their_first_difference(finish, server, pull_request, name, tmp_path):
    base, head = pull_request
    page = tmp_path / "page.md"
    page.write_text("of another step, without its end")
    code, out, err = finish(head["id"], "--markdown", tmp_path / "own.md", GITHUB_STEP_SUMMARY=str(page))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{name}: Failed · 5 tests · 3 failed · 1 flaky · branch fix · commit c0ffee11",
        "2 new failures against main 8f14e45c; 1 failed there, too; 1 fixed",
        "  new (firefox): never passed before",
        "  pay: no button: step 1 took 4.1 s, was 0.3 s; failed at 2",
        "1 flaky test, which failed first and passed then",
        "  login",
        "Nothing is missing",
        f"{server.url}/runs/{head['id']}",
    ]
    text = (tmp_path / "own.md").read_text("utf-8")
    assert page.read_text("utf-8") == f"of another step, without its end\n{text}"
    assert text.startswith(f"## `{name}`\n\nFailed · 5 tests · 3 failed · 1 flaky · branch `fix` · commit `c0ffee11`")
    assert f"[page of the run]({server.url}/runs/{head['id']})" in text
    compared = f"{server.url}/compare?base={base['id']}&head={head['id']}"
    assert f"### 2 new failures against [`main` `8f14e45c`]({compared}); 1 failed there, too; 1 fixed\n" in text
    pay = next(test for test in server.run(head["id"])["tests"] if test["name"] == "pay")
    difference = "  - `no button`\n  - `step 1 took 4.1 s, was 0.3 s; failed at 2`\n"
    assert f"- [`pay`]({server.url}/results/{pay['id']})\n{difference}" in text and "- [`login`](" in text


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([], 0),
        (["new-failures"], 7),
        (["incomplete"], 0),
        (["incomplete,new-failures"], 7),
        (["incomplete", "new-failures"], 7),
        (["never"], 0),
        (["never,incomplete"], 1),
        (["failures"], 1),
    ],
)
def test_what_makes_a_job_fail(finish, pull_request, wanted, code):
    options = [option for each in wanted for option in ("--fail-on", each)]
    assert finish(pull_request[1]["id"], *options)[0] == code


def test_without_a_run_to_compare_with_no_failure_is_new(finish, make, name):
    head = make(name, (f"pay {name}", "Failed", {}, []), branch="main")
    code, out, _ = finish(head["id"], "--fail-on", "new-failures,incomplete")
    assert code == 0 and "There is no finished run of this name on the main branch yet" in out
    assert f"1 test failed\n  pay {name}: never passed before\n" in out


# --- what is missing ---


@pytest.fixture
def incomplete(server, make, name):
    run = make(name, ("pay", "Passed", {}, []), status="Running")
    path = f"/suite-runs/{run['id']}"
    for index, shard in enumerate([{"status": "Failed", "errors": ["no `space`\n| left"]}, {"status": "Running"}], 1):
        server.post(f"{path}/shards/{index}", {"total": 4, "tests_expected": 3, **shard}, method="PUT")
    files = [
        {"later": True, "checksum": f"{i:064}", "file_size": 9, "file_name": f"shot-{i}.png", "artifact_type": "video"}
        for i in range(25)
    ]
    test = {"client_ref": str(uuid.uuid4()), "test": {"name": "login", "status": "Failed"}, "artifacts": files}
    server.post(f"{path}/bundle", {"tests": [test]})
    return run


def test_what_is_missing(finish, incomplete, tmp_path):
    code, out, _ = finish(incomplete["id"], "--markdown", tmp_path / "own.md")
    assert code == 0
    for line in (
        "The run is not complete",
        "  2 of 4 shards are silent: 3, 4",
        "  shard 2 of 4 is still running",
        "  shard 1: no `space` | left",
        "  4 of 6 tests did not come",
        "25 files did not come",
        "  shot-0.png of login: it never came",
        "  and 20 more",
    ):
        assert line in out.splitlines(), (line, out)
    text = (tmp_path / "own.md").read_text("utf-8")
    assert "- shard 1: ``no `space` | left``\n" in text and "- `shot-19.png` of `login`\n  - it never came\n" in text
    assert "- and 5 more\n" in text
    assert finish(incomplete["id"], "--fail-on", "incomplete")[0] == 4
    assert finish(incomplete["id"], "--fail-on", "new-failures")[0] == 0


def test_it_waits_for_shards(finish, server, proxy, incomplete):
    def script(method, path):
        if path.endswith("/completeness"):
            asked = [path for _, path in proxy.seen if path.endswith("/completeness")]
            for index in (2, 3, 4) if len(asked) == 2 else ():
                shard = {"total": 4, "status": "Passed"}
                server.post(f"/suite-runs/{incomplete['id']}/shards/{index}", shard, method="PUT")

    proxy.script = script
    code, out, err = finish(incomplete["id"], "--wait", "60", REPORTD_URL=proxy.url)
    assert code == 0 and "silent" not in out and out.startswith(f"{incomplete['name']}: Failed")
    assert err == "reportd-send: 1 of 4 shards have finished. Waiting up to 60 s\n"


def test_the_time_to_wait_is_over(finish, incomplete):
    code, out, err = finish(incomplete["id"], "--wait", "1", "--fail-on", "incomplete")
    assert code == 4 and "2 of 4 shards are silent" in out and err.count("\n") == 1


# --- which run ---

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "shop/web",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_WORKFLOW": "tests",
    "GITHUB_JOB": "e2e",
}


def test_a_run_by_its_id_address_or_key(finish, server, make, name):
    key = f"build-{uuid.uuid4()}"
    run = make(name, status="Passed", run_key=key)
    for given in ([run["id"]], [f"{server.url}/runs/{run['id'].upper()}/"], ["--run-key", key]):
        assert finish(*given)[1].startswith(f"{name}: Passed · 0 tests\n"), given
    assert finish(REPORTD_RUN_KEY=key)[0] == 0


def test_the_run_of_this_build_also_from_another_job(finish, make, name):
    number = str(uuid.uuid4().int)
    key = f"github:shop/web:{number}:1:tests / "
    make("e2e", status="Passed", run_key=f"{key}e2e")
    make("others", status="Passed", run_key=f"github:shop/web:{number}0:1:tests / e2e")
    ci = {**GITHUB, "GITHUB_RUN_ID": number}
    assert finish(**ci)[1].startswith("e2e: Passed")
    assert finish(**{**ci, "GITHUB_JOB": "finish"})[1].startswith("e2e: Passed")
    assert finish("--name", "unit", **ci)[0] == 2  # a name that is given is meant
    make("unit", status="Passed", run_key=f"{key}unit")
    code, _, err = finish(**{**ci, "GITHUB_JOB": "finish"})
    assert code == 1 and "There are several runs: unit (default), e2e (default)" in err


def test_no_run(finish):
    code, _, err = finish(str(uuid.uuid4()))
    assert code == 2 and "There is no such run" in err
    assert finish("--run-key", "nobody's", "--fail-on", "never")[0] == 0
    assert finish("nightly")[0] == 1
    code, _, err = finish()
    assert code == 1 and "Outside of a CI, say which run is meant" in err


# --- servers, and what is not right ---


def test_a_server_that_is_older(finish, server, proxy, make, name):
    key = str(uuid.uuid4())
    run = make(name, ("pay", "Failed", {}, []), run_key=key)
    make("another", run_key=str(uuid.uuid4()))

    def script(method, path):
        if path.startswith("/suite-runs?"):  # which ignores a filter that it does not know
            return 200, {**server.get("/suite-runs?limit=50"), "next_cursor": None}  # other tests make runs, too
        return (404, {"detail": "Not found"}) if path.count("/") > 2 else None

    proxy.script = script
    code, out, err = finish("--run-key", key, "--fail-on", "incomplete,new-failures", REPORTD_URL=proxy.url)
    assert code == 0 and err == ""
    assert out.splitlines() == [
        f"{name}: Failed · 1 test · 1 failed",
        "The server is older than this client: it does not say what is new, which tests are flaky, what is missing",
        f"{proxy.url}/runs/{run['id']}",
    ]


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        ((200, {"items": 5}), 5, "does not answer as a reportd server"),
        ((200, {"hello": "world"}), 5, "does not answer as a reportd server"),
        ((200, b"<html>"), 5, "does not answer as a reportd server"),
        ((403, {"detail": "no"}), 6, "refuses the token"),
        ((422, {"detail": "wrong"}), 5, "wrong"),
        ((302, {}, {"Location": "https://elsewhere"}), 1, "redirects to https://elsewhere"),
        (503, 5, "HTTP 503"),
    ],
)
def test_answers_of_others(finish, impatient, proxy, make, name, reply, code, words):
    run = make(name)
    proxy.script = lambda method, path: reply if path.endswith("/comparison?base=main") else None
    found, _, err = finish(run["id"], REPORTD_URL=proxy.url)
    assert found == code and words in err and err.count("\n") == 1, err


def test_a_server_that_is_down(finish, impatient):
    run = str(uuid.uuid4())
    code, _, err = finish(run, REPORTD_URL=f"http://127.0.0.1:{free_port()}")
    assert code == 5 and "cannot be reached" in err
    assert finish(run, "--fail-on", "never")[0] == 0
    assert finish(run, "--fail-on", "never", REPORTD_URL="nowhere")[0] == 1


def test_the_time_for_the_server_is_over(finish):
    code, _, err = finish(str(uuid.uuid4()), "--timeout", "0", REPORTD_URL=f"http://127.0.0.1:{free_port()}")
    assert code == 5 and err.count("\n") == 1


def test_a_wrong_token(finish):
    code, _, err = finish(str(uuid.uuid4()), "--fail-on", "never", REPORTD_TOKEN="rpt_wrong_token_0123")
    assert code == 6 and "does not accept the token rpt_wron…" in err


def test_files_that_cannot_be_written(finish, make, name, tmp_path):
    run = make(name, status="Passed")
    code, out, err = finish(run["id"], GITHUB_STEP_SUMMARY=str(tmp_path))
    assert code == 0 and out and "Cannot write to GITHUB_STEP_SUMMARY" in err
    assert finish(run["id"], "--markdown", tmp_path / "no" / "own.md", GITHUB_STEP_SUMMARY="")[0] == 1


# --- hostile texts ---

HOSTILE = [
    "a|b <script>alert(1)</script> @everyone #1 $x$ ![](http://x) [a](javascript:b) **b** :+1:",
    "``` three\n# heading\n- item\n<!-- ",
    "`", "``a`", "\\", "\u202eright\u2066", "\x1b[31mred\x1b[0m\0\x07", "\r\n\u2028line", "a" * 5_000, "`" * 5_000, " ",
]  # fmt: skip
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)")


def test_hostile_texts_are_texts(finish, server, make, name, tmp_path):
    """Outside of code spans there is nothing that a test has said."""
    title = HOSTILE[0] + name
    make(title, branch="main")
    results = [
        (f"{i} {text}"[:500], "Failed", {"error_message": text, "browser": (text.strip("\0") or "x")[:100]}, [])
        for i, text in enumerate(HOSTILE)
    ]
    flaky = [(f"flaky {HOSTILE[1]}", status, {"attempt": i}, []) for i, status in enumerate(("Failed", "Passed"), 1)]
    run = make(title, *results, *flaky, branch=HOSTILE[0], commit_sha="a|`b`")
    shard = {"total": 2, "status": "Failed", "errors": HOSTILE[:3]}
    server.post(f"/suite-runs/{run['id']}/shards/1", shard, method="PUT")
    code, out, _ = finish(run["id"], "--markdown", tmp_path / "own.md")
    text = (tmp_path / "own.md").read_text("utf-8")
    assert code == 0
    assert not set("\x1b\0\x07\u202e\u2066\u2028\r") & set(out + text)
    links = re.sub(r"\]\(http://[^\s()]+\)", "]", text)
    ours = SPAN.sub("…", links)
    assert not set("`<>@|$!\\*:_") & set(ours.replace("shard 1: …", "")), ours
    kinds = re.compile(r"|## …|### [\w ,;…\[\]]+|- [\w \[\]…():]+|  - [\w …]+|[\w …·\[\]]+")
    assert all(kinds.fullmatch(line) for line in ours.splitlines()), ours
    assert "<script>alert(1)</script>" in text and "\n# heading" not in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_has_the_whole_text(text):
    made = Markdown().text(text, 300)
    (found,) = SPAN.findall(made)
    assert SPAN.fullmatch(made) and found[1].strip() == (one_line(text, 300) or "(no text)")


def test_a_page_has_a_bound(finish, server, make, name, tmp_path):
    """GitHub shows at most 1 MiB."""
    make(name, branch="main")
    run = make(name)
    wide = "\U0001f642" * 400
    cases = [{"name": f"{i} {wide}", "status": "Failed", "error_message": wide} for i in range(700)]
    server.post(f"/suite-runs/{run['id']}/test-cases/bulk", {"test_cases": cases})
    for index in range(1, 101):
        shard = {"total": 1000, "status": "Failed", "errors": [wide] * 5}
        if index % 25 == 0:
            server.post(f"/suite-runs/{run['id']}/shards/{index}", shard, method="PUT")
    code, out, _ = finish(run["id"], "--markdown", tmp_path / "own.md")
    text = (tmp_path / "own.md").read_bytes()
    assert code == 0 and len(text) < 200_000 and b"- and 680 more\n" in text
    assert "996 of 1000 shards are silent: 1, 2, 3" in out and "and 976 more" in out
    assert out.count("\n") < 30

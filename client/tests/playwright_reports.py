"""Small reports of Playwright, made by hand."""

import json
import zipfile

from tests.test_junit import looked

TIME = 1_790_000_000_000
FIRST = {"method": "onBlobReportMetadata", "params": {"version": 2, "pathSeparator": "/"}}
CONFIGURE = {"method": "onConfigure", "params": {"config": {"rootDir": "/x", "version": "1.60.0", "shard": None}}}
BEGIN = {"method": "onBegin"}
END = {"method": "onEnd", "params": {"result": {"status": "passed", "startTime": TIME, "duration": 1.5}}}


def project(*titles, name="chromium", file="a.spec.ts", **fields):
    tests = [
        {"testId": title, "title": title, "location": {"file": file, "line": 3}, "tags": [], **fields}
        for title in titles
    ]
    suites = [{"title": file, "location": {}, "entries": [{"title": "", "entries": tests}]}]
    return {"method": "onProject", "params": {"project": {"name": name, "suites": suites}}}


def attempt(title, *inside, retry=0, status="passed", expected="passed", **fields):
    """The events of a result: its begin, those `inside`, its end."""
    key = f"{title} {retry}"
    begin = {"testId": title, "result": {"id": key, "retry": retry, "workerIndex": 1, "startTime": TIME}}
    end = {
        "test": {"testId": title, "expectedStatus": expected},
        "result": {"id": key, "duration": 4, "status": status, "errors": []},
    }
    end["result"].update(fields)
    events = [{"method": method, "params": {"testId": title, "resultId": key, **params}} for method, params in inside]
    return [{"method": "onTestBegin", "params": begin}, *events, {"method": "onTestEnd", "params": end}]


def step(key, title, parent=None, error=None, **fields):
    begin = {"id": key, "parentStepId": parent, "title": title, "category": "pw:api", "startTime": TIME, **fields}
    return [("onStepBegin", {"step": begin}), ("onStepEnd", {"step": {"id": key, "duration": 1, "error": error}})]


def attach(**attachment):
    return ("onAttach", {"attachments": [attachment]})


def blob(*events, whole=True):
    given = [FIRST, CONFIGURE, *events, *([END] if whole else [])]
    return "".join(json.dumps(event) + "\n" for event in given).encode()


def zipped(path, report, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in {**entries, "report.jsonl": report}.items():
            file.writestr(name.replace("__", "/"), data)
    return path


def report(*tests, **config):
    specs = [
        {
            "title": name,
            "line": 3,
            "tags": ["t"],
            "tests": [{"projectName": "p", "expectedStatus": "passed", "results": results}],
        }
        for name, results in tests
    ]
    suites = [
        {"title": "a.spec.ts", "file": "a.spec.ts", "specs": specs, "suites": [{"title": "d", "specs": specs[:1]}]}
    ]
    return {"config": {"rootDir": "/x", "version": "1.60.0", **config}, "suites": suites, "errors": [], "stats": {}}


def outcome(**fields):
    return {
        "status": "passed",
        "retry": 0,
        "workerIndex": 0,
        "duration": 3,
        "startTime": "2026-11-30T06:54:14.810Z",
        "errors": [],
        **fields,
    }


def read(tmp_path, *events, **options):
    (tmp_path / "report.jsonl").write_bytes(blob(*events, **options))
    return looked(tmp_path / "report.jsonl")

"""Console and network logs: appended in bulk, read back in the order sent, without credentials."""

import asyncio
import uuid

import pytest

CONSOLE = {
    "level": "error",
    "message": "Uncaught TypeError – äöü 🙂\n  at x",
    "source_url": "https://shop.test/app.js?v=1",
    "line_number": 0,
    "column_number": 2**31 - 1,
    "step_number": 3,
    "iteration_number": 2,
    "logged_at": "2026-01-24T12:00:00.123Z",
}
NETWORK = {
    "method": "PROPFIND",
    "url": "https://shop.test/api?q=1#top",
    "status_code": 503,
    "resource_type": "fetch",
    "request_headers": {"Accept": "*/*", "X-List": ["a", "b"], "Empty": "", "None": []},
    "response_headers": {"Content-Type": "text/html"},
    "request_size": 0,
    "response_size": 2**63 - 1,
    "duration_ms": 2**31 - 1,
    "error_text": "net::ERR_FAILED",
    "step_number": 0,
    "iteration_number": 3,
    "started_at": "2026-01-24T12:00:00.123Z",
}
KINDS = {"console-logs": CONSOLE, "network-logs": NETWORK}
REQUIRED = {"console-logs": ("level", "message"), "network-logs": ("method", "url")}

both = pytest.mark.parametrize("kind", KINDS)


def entry(kind, **fields):
    """An entry with only the required fields, and these."""
    least = {"level": "info", "message": "m"} if kind == "console-logs" else {"method": "GET", "url": "/"}
    return {**least, **fields}


async def append(client, case, kind, entries, **fields):
    """The status, and how many entries were stored."""
    reply = await client.post(f"{case}/{kind}", json={"entries": entries, **fields})
    return reply.status, (await reply.json()).get("created")


async def get(client, case, kind, **query):
    reply = await client.get(f"{case}/{kind}", params=query)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def numbers(client, case, kind, **query):
    """The step number of each listed entry; the tests use it to identify entries."""
    return [item["step_number"] for item in (await get(client, case, kind, **query))["items"]]


def numbered(kind, *steps):
    return [entry(kind, step_number=number) for number in steps]


# --- writing and reading ---------------------------------------------------------------------------------------


@both
async def test_every_field_is_stored_and_listed(client, case_url, kind):
    case, sent = await case_url(), KINDS[kind]
    assert await append(client, case, kind, [{**sent, "id": "x", "unknown": {}}]) == (201, 1)
    (item,) = (await get(client, case, kind))["items"]
    assert {key: item[key] for key in sent} == sent
    assert item["test_case_result_id"] in case and uuid.UUID(item["id"]).version == 7


@both
async def test_only_two_fields_are_required(client, case_url, kind):
    case, fields = await case_url(), KINDS[kind].keys() - set(REQUIRED[kind])
    assert await append(client, case, kind, [entry(kind), entry(kind, **dict.fromkeys(fields))]) == (201, 2)
    for item in (await get(client, case, kind))["items"]:
        defaults = {"iteration_number": 1, "request_headers": {}, "response_headers": {}}
        assert {key: item[key] for key in fields} == {key: defaults.get(key) for key in fields}
    assert await append(client, case, kind, []) == (201, 0)


@both
async def test_entries_are_listed_in_the_order_sent(client, case_url, kind):
    case, other = await case_url(), await case_url()
    await append(client, case, kind, numbered(kind, 3, 1, 2, 1))
    await append(client, other, kind, numbered(kind, 7))
    await append(client, case, kind, numbered(kind, 0))
    assert await numbers(client, case, kind) == [3, 1, 2, 1, 0]
    await append(client, other, kind, numbered(kind, *range(1_000, 0, -1)))
    assert await numbers(client, other, kind, per_page=400, page=2) == list(range(601, 201, -1))
    page = await get(client, other, kind, page=3, per_page=400)
    assert (page["total"], page["page"], page["per_page"], len(page["items"])) == (1_001, 3, 400, 201)
    assert len((await get(client, other, kind))["items"]) == 100
    assert (await get(client, other, kind, per_page=501))["per_page"] == 500
    assert (await get(client, other, kind, page=4, per_page=400))["items"] == []


async def test_console_logs_can_be_filtered(client, case_url):
    case = await case_url()
    entries = [
        entry("console-logs", level=level, step_number=number, iteration_number=1 + number % 2)
        for number, level in enumerate(["debug", "info", "warning", "error", "error"])
    ]
    await append(client, case, "console-logs", entries)
    for query, expected in [
        ({"level": "error"}, [3, 4]),
        ({"level": "WARN"}, [2]),
        ({"step_number": 0}, [0]),
        ({"iteration_number": 2}, [1, 3]),
        ({"iteration_number": 2, "level": "error"}, [3]),
        ({"iteration_number": 3}, []),
    ]:
        assert await numbers(client, case, "console-logs", **query) == expected, query
        assert (await get(client, case, "console-logs", **query))["total"] == len(expected)


async def test_network_logs_can_be_filtered(client, case_url):
    case = await case_url()
    entries = [
        entry(
            "network-logs", status_code=status, resource_type=kind, step_number=number, iteration_number=1 + number % 2
        )
        for number, (status, kind) in enumerate([(200, "xhr"), (404, "xhr"), (500, "image"), (None, None), (0, "xhr")])
    ]
    await append(client, case, "network-logs", entries)
    for query, expected in [
        ({"status_min": 400}, [1, 2]),
        ({"status_min": 404}, [1, 2]),
        ({"status_min": 0}, [0, 1, 2, 4]),
        ({"resource_type": "xhr"}, [0, 1, 4]),
        ({"resource_type": "xhr", "status_min": 300}, [1]),
        ({"step_number": 0}, [0]),
        ({"iteration_number": 2}, [1, 3]),
    ]:
        assert await numbers(client, case, "network-logs", **query) == expected, query
        assert (await get(client, case, "network-logs", **query))["total"] == len(expected)


async def test_the_level_names_of_other_tools_are_mapped(client, case_url):
    case = await case_url()
    words = {
        "debug": "debug",
        "trace": "debug",
        "verbose": "debug",
        "info": "info",
        "log": "info",
        "warning": "warning",
        "warn": "warning",
        "error": "error",
        "severe": "error",
        "fatal": "error",
        "WARN": "warning",
        " Severe ": "error",
    }
    assert (await append(client, case, "console-logs", [entry("console-logs", level=word) for word in words]))[0] == 201
    items = (await get(client, case, "console-logs"))["items"]
    assert [item["level"] for item in items] == list(words.values())


async def test_a_size_of_minus_one_is_stored_as_null(client, case_url):
    """HAR files use -1 for an unknown size."""
    case = await case_url()
    await append(client, case, "network-logs", [entry("network-logs", request_size=-1, response_size=-1)])
    (item,) = (await get(client, case, "network-logs"))["items"]
    assert item["request_size"] is None and item["response_size"] is None


# --- retries ---------------------------------------------------------------------------------------------------


@both
async def test_without_first_sequence_a_repeated_request_stores_its_entries_again(client, case_url, kind):
    case = await case_url()
    for _ in range(2):
        assert await append(client, case, kind, numbered(kind, 1, 2)) == (201, 2)
    assert await numbers(client, case, kind) == [1, 2, 1, 2]


@both
async def test_with_first_sequence_a_repeated_request_stores_nothing_again(client, case_url, kind):
    case, other = await case_url(), await case_url()
    assert await append(client, case, kind, numbered(kind, 0, 1, 2), first_sequence=0) == (201, 3)
    assert await append(client, case, kind, numbered(kind, 0, 1, 2), first_sequence=0) == (201, 0)
    # Overlapping requests: only the new entries are stored, in the order in which they arrive.
    assert await append(client, case, kind, numbered(kind, 2, 3), first_sequence=2) == (201, 1)
    assert await append(client, case, kind, numbered(kind, 8, 9), first_sequence=8) == (201, 2)
    assert await append(client, case, kind, numbered(kind, 7, 8, 9, 10), first_sequence=7) == (201, 2)
    assert await numbers(client, case, kind) == [0, 1, 2, 3, 8, 9, 7, 10]
    assert await append(client, case, kind, numbered(kind, 5)) == (201, 1)
    assert await append(client, other, kind, numbered(kind, 0), first_sequence=0) == (201, 1)


async def test_console_and_network_logs_have_separate_sequences(client, case_url):
    case = await case_url()
    for kind in KINDS:
        assert await append(client, case, kind, numbered(kind, 1), first_sequence=1) == (201, 1)


@both
async def test_concurrent_repetitions_store_each_entry_once(client, case_url, kind):
    case = await case_url()
    replies = await asyncio.gather(
        *(append(client, case, kind, numbered(kind, *range(n, n + 10)), first_sequence=n) for n in [0, 5, 10] * 4)
    )
    assert {status for status, _ in replies} == {201}
    assert sum(created for _, created in replies) == 20
    assert sorted(await numbers(client, case, kind)) == list(range(20))


@both
async def test_first_sequence_must_be_from_0_to_2_to_the_62(client, case_url, kind):
    case = await case_url()
    assert await append(client, case, kind, numbered(kind, 1, 2), first_sequence=2**62) == (201, 2)
    for wrong in (-1, 2**62 + 1, 2**64, 1.5, "0"):
        reply = await client.post(f"{case}/{kind}", json={"entries": [entry(kind)], "first_sequence": wrong})
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "first_sequence"), wrong


# --- credentials -----------------------------------------------------------------------------------------------

HIDDEN = "[redacted]"


async def test_credentials_in_headers_are_not_stored(client, case_url, rows):
    case = await case_url()
    names = ["Authorization", "proxy-authorization", "COOKIE", "Set-Cookie", "x-API-key", " Authorization "]
    headers = {**dict.fromkeys(names, "hunter2"), "Accept": "hunter3"}
    lists = {"set-cookie": ["hunter2=1", "hunter2=2"], "Cookie": [], "Via": ["a", "b"]}
    await append(client, case, "network-logs", [entry("network-logs", request_headers=headers, response_headers=lists)])
    (item,) = (await get(client, case, "network-logs"))["items"]
    assert item["request_headers"] == {**dict.fromkeys(names, HIDDEN), "Accept": "hunter3"}
    assert item["response_headers"] == {"set-cookie": [HIDDEN, HIDDEN], "Cookie": [], "Via": ["a", "b"]}
    assert "hunter2" not in str(rows("SELECT * FROM test_network_logs"))


async def test_credentials_in_urls_are_not_stored(client, case_url, rows):
    case = await case_url()
    url = "https://user:hunter2@shop.test/a?access_token=hunter2&q=1&X-Api-Key=x#id_token=hunter2"
    clean = f"https://user:{HIDDEN}@shop.test/a?access_token={HIDDEN}&q=1&X-Api-Key={HIDDEN}#id_token={HIDDEN}"
    await append(client, case, "network-logs", [entry("network-logs", url=url)])
    await append(client, case, "console-logs", [entry("console-logs", source_url=url)])
    assert [item["url"] for item in (await get(client, case, "network-logs"))["items"]] == [clean]
    assert [item["source_url"] for item in (await get(client, case, "console-logs"))["items"]] == [clean]
    stored = rows("SELECT * FROM test_network_logs") + rows("SELECT * FROM test_console_logs")
    assert "hunter2" not in str(stored)


async def test_credentials_in_urls_in_headers_are_not_stored(client, case_url, rows):
    case = await case_url()
    url = "https://user:hunter2@shop.test/a?access_token=hunter2"
    headers = {"Referer": url, "Location": url, ":path": "/a?access_token=hunter2"}
    await append(client, case, "network-logs", [entry("network-logs", request_headers=headers)])
    assert "hunter2" not in str(rows("SELECT * FROM test_network_logs"))


# --- wrong values ----------------------------------------------------------------------------------------------

BAD = {
    "console-logs": [
        ({"level": None}, "level", "must be one of: debug, info, warning, error"),
        ({"level": ["error"]}, "level", "must be one of: debug, info, warning, error"),
        ({"message": None}, "message", "must be a string, not null"),
        ({"column_number": 2**31}, "column_number", "must be at most 2147483647"),
        ({"step_number": 1.5}, "step_number", "must be an integer or null, not a number"),
        ({"iteration_number": 0}, "iteration_number", "must be at least 1"),
        ({"logged_at": -1}, "logged_at", "must lie in the years 1970 to 9998"),
    ],
    "network-logs": [
        ({"method": ""}, "method", "must not be empty"),
        ({"method": "x" * 21}, "method", "must be at most 20 characters long"),
        ({"url": None}, "url", "must be a string, not null"),
        ({"url": ""}, "url", "must not be empty"),
        ({"method": "GET\0"}, "method", "must not contain NUL"),
        ({"status_code": 1000}, "status_code", "must be at most 999"),
        ({"request_headers": []}, "request_headers", "must be an object"),
        ({"request_headers": [["a", "b"]]}, "request_headers", "must be an object"),
        ({"request_headers": {"a": [[1]]}}, "request_headers", "must hold strings or lists of strings"),
        ({"request_headers": {"a": None}}, "request_headers", "must hold strings or lists of strings"),
        ({"response_headers": {"a": ["b", None]}}, "response_headers", "must hold strings or lists of strings"),
        ({"response_headers": {"a": {"b": "c"}}}, "response_headers", "must hold strings or lists of strings"),
        ({"response_headers": {"a": "x" * (64 << 10)}}, "response_headers", "must be at most 64 KiB"),
        ({"response_size": 2**63}, "response_size", "must be"),
        ({"duration_ms": 2**31}, "duration_ms", "must be at most 2147483647"),
        ({"step_number": -1}, "step_number", "must be at least 0"),
        ({"iteration_number": "1"}, "iteration_number", "must be an integer or null, not a string"),
        ({"started_at": "2026-13-01"}, "started_at", "must be an ISO 8601 time"),
    ],
}


@both
async def test_errors_name_the_wrong_values(client, case_url, kind):
    case = await case_url()
    for wrong, path, message in BAD[kind]:
        reply = await client.post(f"{case}/{kind}", json={"entries": [entry(kind), entry(kind, **wrong)]})
        problem = (await reply.json())["errors"][0]
        assert (reply.status, problem["path"]) == (422, f"entries[1].{path}"), str(wrong)[:80]
        assert problem["message"].startswith(message), problem
    for body, path in [
        ({}, "entries"),
        ([], ""),
        ({"entries": {}}, "entries"),
        ({"entries": [1]}, "entries[0]"),
        ({"entries": [{}]}, f"entries[0].{REQUIRED[kind][0]}"),
        ({"entries": [entry(kind)] * 10_001}, "entries"),
    ]:
        reply = await client.post(f"{case}/{kind}", json=body)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), str(body)[:80]
    assert (await client.post(f"{case}/{kind}", data=b'{"entries": [')).status == 400
    assert (await get(client, case, kind))["total"] == 0


@both
async def test_errors_name_the_wrong_filters(client, case_url, kind):
    case = await case_url()
    own = {"console-logs": [("level", "loud")], "network-logs": [("status_min", "1000"), ("resource_type", "x" * 51)]}
    common = [("page", "0"), ("per_page", "0"), ("step_number", "-1"), ("iteration_number", "0"), ("page", "\0")]
    for path, value in [*common, *own[kind]]:
        reply = await client.get(f"{case}/{kind}", params={path: value})
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), value


@both
async def test_an_unknown_test_case_is_a_404_before_the_body_is_checked(client, case_url, start, make_token, kind):
    case = await case_url()
    theirs = await start(token=make_token(project="theirs"))
    base = "/api/v1/reports/test-case-results"
    for caller, url in [
        (client, f"{base}/{uuid.uuid4()}"),
        (client, f"{base}/nonsense"),
        (client, f"{base}/%00"),
        (theirs, case),
    ]:
        for method, data in [("GET", None), ("POST", b"{"), ("POST", b'{"entries": []}')]:
            reply = await caller.request(method, f"{url}/{kind}", data=data)
            assert (reply.status, (await reply.json())["detail"]) == (404, "Test case result not found")


async def test_credentials_in_messages_are_not_stored(client, case_url, rows):
    """Browsers quote URLs in their error messages."""
    case = await case_url()
    message = 'GET https://u:hunter2@h/x?access_token=hunter2&page=3 failed: "?sid=hunter2" is not allowed'
    await append(client, case, "console-logs", [entry("console-logs", message=message)])
    await append(client, case, "network-logs", [entry("network-logs", error_text=message)])
    stored = [row["text"] for row in rows("SELECT message AS text FROM test_console_logs")]
    stored += [row["text"] for row in rows("SELECT error_text AS text FROM test_network_logs")]
    assert not any("hunter2" in text for text in stored)
    assert all("page=3" in text and text.endswith("is not allowed") for text in stored)

"""Recorded requests: a table of them, one whole, and what is no HAR."""

import json

import pytest

from server.reports import har


def entry(url="https://shop.example/", status=200, **more):
    request = {"method": "GET", "url": url, "headers": [{"name": "A", "value": "1"}], "cookies": []}
    response = {"status": status, "statusText": "OK", "headers": [], "content": {"size": 9, "mimeType": "text/html"}}
    return {"request": request, "response": response, "time": 12.7, "startedDateTime": "2026-01-24T12:00:00Z", **more}


def read(entries, number=1, chosen=None):
    return har.read(json.dumps({"log": {"version": "1.2", "entries": entries}}).encode(), number, chosen)


def test_a_table_of_requests():
    page = read([entry(), entry("https://shop.example/pay", 503), entry("https://gone.example/", 0)])
    assert [(row.number, row.status, row.failed) for row in page.rows] == [
        (1, 200, False),
        (2, 503, True),
        (3, 0, True),
    ]
    first = page.rows[0]
    assert (first.method, first.mime_type, first.size, first.milliseconds) == ("GET", "text/html", 9, 12)


def test_one_request_whole():
    page = read([entry(), entry(timings={"wait": 3.2, "dns": -1, "x": "y"})], chosen=2)
    assert page.entry.row.number == 2 and [(each.name, each.value) for each in page.entry.request_headers] == [
        ("A", "1")
    ]
    assert page.entry.timings == [("wait", 3)]
    assert read([entry()], chosen=2).entry is None


def test_pages_of_500():
    entries = [entry(f"/{n}") for n in range(1_100)]
    assert [(len(read(entries, number).rows), read(entries, number).page) for number in (1, 3, 9)] == [
        (500, 1), (100, 3), (100, 3)
    ]  # fmt: skip
    assert read(entries, 2).rows[0].url == "/500" and read([]).rows == []


@pytest.mark.parametrize(
    "odd",
    [
        {"request": 1, "response": 2}, {"request": {}, "response": {}}, {"request": {"url": 7}, "response": [1]},
        {"request": None, "response": {"status": "x", "content": {"size": None}}, "time": None, "timings": [1]},
        {"request": {"headers": "x"}, "response": {"status": 1e308, "content": {"size": 1e300}}},
    ],
)  # fmt: skip
def test_an_entry_that_is_none_does_not_hide_the_others(odd):
    page = read([odd, entry()], chosen=1)
    assert len(page.rows) == 2 and page.rows[1].status == 200 and page.entry.row.number == 1


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b'{"log":{}}', b'{"log":{"entries":[1]}}', b'{"log":{"entries":[{}]}}', b"\xff", b"[" * 100_000,
     b'{"log":{"entries":[' + b"[" * 100_000, b'{"log":{"entries":[]}} x'],
)  # fmt: skip
def test_what_is_no_har_is_said_to_be_none(raw):
    assert har.read(raw, 1, 1) == "This file is no HAR, so it is shown as text."

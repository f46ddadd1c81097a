"""Console and network logs of the demo's results, made from their steps."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from server.commands.demo.acts import SHOP
from server.commands.demo.faults import Fault
from server.commands.demo.result import Result
from server.commands.demo.story import Run

Entry = dict[str, Any]
# Substring of a step's action: method, path and kind of the request that it makes, and the usual size of the reply.
_REQUESTS = [
    ("Open ", "GET", "/", "document", 38_412),
    ("Press Enter in", "GET", "/api/search?q=", "fetch", 9_120),
    ("Add to basket", "POST", "/api/basket/lines", "fetch", 612),
    ("basket's prices", "GET", "/api/basket?prices=1", "fetch", 1_904),
    ("Checkout", "GET", "/checkout", "document", 21_077),
    ("Pay now", "POST", "/api/orders", "fetch", 842),
    ("Confirm", "POST", "/api/returns", "fetch", 402),
    ("Sign in", "POST", "/api/session", "fetch", 288),
    ("Subscribe", "POST", "/api/newsletter", "fetch", 24),
    ("POST ", "POST", "/api/stock", "fetch", 133),
]
_PARTS = [("/assets/shop-8f14e4.css", "stylesheet", 61_230), ("/assets/shop-8f14e4.js", "script", 312_944)]
_PARTS += [("/img/autumn.webp", "image", 88_190), ("/img/wool-480.webp", "image", 23_310)]


def add(result: Result, run: Run, fault: Fault | None) -> None:
    """Give a result its logs. Of a very long one, only the first steps have requests."""
    for step in result.steps[:200]:
        if "started_at" in step:
            result.network += _requests(step, fault)
    at = result.steps[0].get("started_at") if result.steps else None
    if at is None or run.project == "back-office":
        return
    result.console.append(_said("info", "Hearthside shop 8f14e4, build 2026-11, environment staging", 1, at, 12))
    result.console.append(_said("warning", "Image “autumn.webp” has no width; layout may shift", 1, at, 310))
    # In each run, so that it is no difference between two results.
    result.network.append(_request("GET", "/img/banner-winter.webp", "image", 404, 148, 41, 1, at))
    message = "Failed to load resource: the server responded with a status of 404 (Not Found)"
    result.console.append(_said("error", message, 1, at, 380, "/img/banner-winter.webp"))
    for step in result.steps:
        if step["status"] == "Failed":
            result.console += _console_of_failure(step, fault)


def _requests(step: Entry, fault: Fault | None) -> Iterator[Entry]:
    failed = step["status"] == "Failed"
    for words, method, path, kind, size in _REQUESTS:
        if words not in step["action"]:
            continue
        number, at, iteration = step["step_number"], step["started_at"], step["iteration_number"]
        status = fault.status if failed and fault and fault.status else 201 if method == "POST" else 200
        took = min(step["duration_ms"], 8_000 if status >= 500 else step["duration_ms"])
        entry = _request(method, path, kind, status, 96 if status >= 500 else size, took, number, at, iteration)
        if status == 504:
            entry |= {
                "url": SHOP + "/api/basket/total",
                "method": "GET",
                "error_text": "net::ERR_HTTP_RESPONSE_CODE_FAILURE",
            }
        yield entry
        if kind == "document":
            for i, (part, part_kind, bytes_) in enumerate(_PARTS):
                yield _request("GET", part, part_kind, 200, bytes_, 30 + i * 17, number, at, iteration, 60 + i * 25)
        return


def _console_of_failure(step: Entry, fault: Fault | None) -> Iterator[Entry]:
    number, at = step["step_number"], step["started_at"]
    if fault and fault.status:
        text = f"Failed to load resource: the server responded with a status of {fault.status} ()"
        yield _said("error", text, number, at, 220, "/api/basket/total")
        yield _said(
            "error",
            f"Error: {fault.status}\n    at load (shop-8f14e4.js:1:48113)\n    at async update",
            number,
            at,
            240,
        )
    else:
        yield _said("warning", "[shop] a listener took 212 ms", number, at, 150)


def _request(
    method: str,
    path: str,
    kind: str,
    status: int,
    size: int,
    ms: int,
    step: int,
    at: str,
    iteration: int = 1,
    after: int = 8,
) -> Entry:
    accepted = {"document": "text/html", "image": "image/webp", "stylesheet": "text/css", "script": "text/javascript"}
    return {
        "method": method,
        "url": SHOP + path,
        "status_code": status,
        "resource_type": kind,
        "request_headers": {
            "Accept": accepted.get(kind, "application/json"),
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64)",
        },
        "response_headers": {"Content-Type": accepted.get(kind, "application/json"), "Server": "envoy"},
        "request_size": 412 if method == "GET" else 730,
        "response_size": size,
        "duration_ms": ms,
        "step_number": step,
        "iteration_number": iteration,
        "started_at": _later(at, after),
    }


def _said(level: str, message: str, step: int, at: str, after: int, source: str = "/assets/shop-8f14e4.js") -> Entry:
    where = {"source_url": SHOP + source, "line_number": 1, "column_number": 48113}
    return {"level": level, "message": message, **where, "step_number": step, "logged_at": _later(at, after)}


def _later(at: str, ms: int) -> str:
    moment = datetime.fromisoformat(at) + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

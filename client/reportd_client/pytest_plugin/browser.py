"""Browsers of Playwright and Selenium: known by what they can do, listened to, never patched."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator

from reportd_client.mask import Masks
from reportd_client.notes import Notes
from reportd_client.system import System

if TYPE_CHECKING:
    from reportd_client.pytest_plugin.attempt import Attempt

_SECONDS = 3.0  # for all screenshots of one failure
_MOST_PAGES = 3


class Browsers:
    """What the fixtures of this process have made. `entry` gets ("console" or "network", fields) of each event."""

    def __init__(self, notes: Notes, entry: Callable[[str, dict[str, Any]], None]) -> None:
        self._notes, self._entry = notes, entry
        self._objects: dict[str, Any] = {}  # by the name of the fixture
        self._listened: list[Any] = []  # contexts that have listeners

    def watch(self, fixture: str, value: Any, network: bool) -> None:
        """A fixture has made this. Listeners are those of the context, so that pop-ups are heard, too."""
        self._objects[fixture] = value
        context = value if _is_context(value) else getattr(value, "context", None) if _is_page(value) else None
        if context is not None and not any(context is known for known in self._listened):
            self._listened = [*self._listened[-20:], context]
            context.on("console", self._console)
            context.on("weberror", self._web_error)
            if network:
                context.on("response", self._response)
                context.on("requestfailed", self._request_failed)

    def forget(self, fixture: str) -> None:
        self._objects.pop(fixture, None)

    # --- events of Playwright; what raises here would be raised in the test ---

    def _quietly(self, kind: str, make: Callable[[], dict[str, Any]]) -> None:
        try:
            self._entry(kind, make())
        except Exception as error:
            self._notes.problem("browser event", f"An event of the browser was not recorded: {error}")

    def _console(self, message: Any) -> None:
        self._quietly("console", lambda: _console_fields(message))

    def _web_error(self, event: Any) -> None:
        self._quietly("console", lambda: {"level": "error", "message": f"Uncaught {event.error}"})

    def _response(self, response: Any) -> None:
        self._quietly("network", lambda: {**_request_fields(response.request), **_response_fields(response)})

    def _request_failed(self, request: Any) -> None:
        self._quietly("network", lambda: {**_request_fields(request), "error_text": str(request.failure or "failed")})

    # --- evidence ---

    def screenshots(self, attempt: Attempt, category: str) -> None:
        """Screenshots of the open pages, in bounded time. A browser that is gone costs a line of the test's log."""
        deadline = time.monotonic() + _SECONDS
        for name, take in list(self._takers(attempt))[:_MOST_PAGES]:
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError(f"no screenshot within {_SECONDS:.0f} s")
                at = attempt.test.failed_step
                attempt.test.attach(take(left), name, type="screenshot", category=category, step=at)
            except Exception as error:
                attempt.test.console("warning", f"No screenshot of the browser: {_first_line(error)}")

    def _takers(self, attempt: Attempt) -> Iterator[tuple[str, Callable[[float], bytes]]]:
        """A function for each picture, which gets the seconds that it may take."""
        pages: list[Any] = []
        for fixture, value in self._objects.items():
            if fixture not in getattr(attempt.item, "fixturenames", ()):
                continue
            if _is_driver(value):
                yield "screenshot.png", lambda left, driver=value: _within(left, driver.get_screenshot_as_png)  # type: ignore[misc]
            else:
                pages += [page for page in _pages_of(value) if not any(page is known for known in pages)]
        for number, page in enumerate(pages, 1):
            name = "screenshot.png" if number == 1 else f"screenshot_{number}.png"
            yield name, lambda left, page=page: _picture(page, left)  # type: ignore[misc]

    def driver_logs(self, attempt: Attempt) -> None:
        """Selenium: address of the page, and the browser's log where the driver has one."""
        for fixture, driver in self._objects.items():
            if not _is_driver(driver) or fixture not in getattr(attempt.item, "fixturenames", ()):
                continue
            try:
                found = _within(_SECONDS, lambda driver=driver: (driver.current_url, _log_of(driver)))  # type: ignore[misc]
            except Exception as error:
                attempt.test.console("warning", f"No log of the browser: {_first_line(error)}")
                continue
            attempt.test.add_metadata(page_url=Masks().url(str(found[0])))
            for entry in found[1]:
                attempt.test.console(
                    str(entry.get("level", "info")), str(entry.get("message", "")), logged_at=entry.get("timestamp")
                )


def _is_driver(value: Any) -> bool:
    return hasattr(value, "get_screenshot_as_png") and hasattr(value, "current_url")


def _is_context(value: Any) -> bool:
    return hasattr(value, "new_page") and hasattr(value, "pages") and hasattr(value, "on")


def _is_page(value: Any) -> bool:
    return hasattr(value, "goto") and hasattr(value, "screenshot") and hasattr(value, "context")


def _pages_of(value: Any) -> list[Any]:
    if _is_page(value):
        return [page for page in value.context.pages if not page.is_closed()]
    contexts = [value] if _is_context(value) else getattr(value, "contexts", ())
    return [page for context in contexts for page in context.pages if not page.is_closed()]


def _picture(page: Any, seconds: float) -> bytes:
    image = page.screenshot(timeout=max(1.0, seconds * 1000))
    if isinstance(image, bytes):
        return image
    image.close()  # a coroutine of an asynchronous page, which nobody can await here
    raise TypeError("the page is asynchronous, take it with `await page.screenshot()`")


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of work that has no time limit of its own. Raises TimeoutError, and what it raises."""
    results: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"the browser did not answer within {seconds:.0f} s")
    return results[0]


def _log_of(driver: Any) -> list[dict[str, Any]]:
    try:
        return list(driver.get_log("browser"))
    except Exception:  # drivers without logs: Firefox, Safari
        return []


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


def _console_fields(message: Any) -> dict[str, Any]:
    place = message.location or {}
    return {
        "level": str(message.type),
        "message": str(message.text),
        "source_url": place.get("url") or None,
        "line_number": place.get("lineNumber"),
        "column_number": place.get("columnNumber"),
        "logged_at": System.now(),
    }


def _request_fields(request: Any) -> dict[str, Any]:
    """What the event already has: no value here costs a round trip to the browser."""
    timing = request.timing or {}
    started, first_byte = timing.get("startTime") or 0, timing.get("responseStart") or -1
    return {
        "method": str(request.method),
        "url": str(request.url),
        "resource_type": str(request.resource_type),
        "request_headers": dict(request.headers),
        "started_at": int(started) if started > 0 else System.now(),
        "duration_ms": round(first_byte) if first_byte >= 0 else None,
    }


def _response_fields(response: Any) -> dict[str, Any]:
    headers = dict(response.headers)
    size = headers.get("content-length", "")
    return {
        "status_code": int(response.status) or None,
        "response_headers": headers,
        "response_size": int(size) if size.isdecimal() else None,
    }

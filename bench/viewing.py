"""Rows about what people look at: the page of a result, and thumbnails."""

import io
import time
import urllib.request
from contextlib import ExitStack
from functools import partial

from PIL import Image

from bench import servers
from bench.access import log_in
from bench.bodies import Picture
from bench.load import Load, Result
from bench.measure import Measured, call, in_turn, make_cases, measure, values_of
from bench.processes import Server
from bench.results import WHOLE, Row
from bench.run import Run

_BROWSER = {"Accept": "text/html", "Accept-Encoding": "gzip"}
_WIDTH = 320
_PICTURE = 3_000_000  # bytes; about 1,000 × 1,000 pixels


def result_page(run: Run) -> list[Row]:
    """The page of a result of 10 steps and 5 screenshots, compared with a bare handler that returns the same bytes."""
    row = Row("result-page", "page of a result, 10 steps, signed in", "CPU ms", "bare handler, same bytes", part=WHOLE)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        cases = make_cases(ours, 20, 10)
        batches = [f"{case}/artifacts/batch" for case in cases]
        measure(ours, Load(ours.port, "batch", batches, len(batches), ours.token, files=5, size=100_000))
        cookie = log_in(ours, "reader", run.database.person("reader", "default=viewer"))
        paths = [f"/results/{case.rpartition('/')[2]}" for case in cases]
        same = folder / "page.html"
        same.write_bytes(_fetched(ours, paths[0], {**_BROWSER, "Cookie": cookie}))
        handler = stack.enter_context(servers.bare(run.database, same))

        def read(server: Server, factor: int, count: int) -> Measured:
            load = Load(server.port, "get", paths, count * factor, sample=0, cookie=cookie, headers=_lines(_BROWSER))
            return measure(server, load)

        # The handler is much faster and needs more requests, since CPU time is counted in steps of 10 ms.
        contenders = {"ours": partial(read, ours, 1), "bare": partial(read, handler, 20)}
        found = in_turn(run.rounds, run.count(200), contenders)
    each = values_of(found, Measured.per_request)
    return [row.fill(each["ours"], each["bare"])]


def thumbnails(run: Run) -> list[Row]:
    """A thumbnail that is made, compared with Pillow alone, and served again, compared with a bare handler."""
    first = Row("thumbnails", "thumbnail of a PNG of 3 MB, first request", "CPU ms", "Pillow alone")
    again = Row("thumbnails", "thumbnail, further requests", "CPU ms", "bare handler, same bytes", part=WHOLE)
    picture = Picture(_PICTURE).file(0)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        (kept,) = _upload(ours, 1)
        same = folder / "thumbnail.webp"
        same.write_bytes(_fetched(ours, kept, {"Authorization": f"Bearer {ours.token}"}))
        handler = stack.enter_context(servers.bare(run.database, same))

        def make(count: int) -> Measured:
            paths = _upload(ours, count)
            return measure(ours, Load(ours.port, "get", paths, count, ours.token, 1, sample=0))

        def alone(count: int) -> Measured:
            started = time.process_time()
            for _ in range(count):
                with Image.open(io.BytesIO(picture)) as image:
                    image.thumbnail((_WIDTH, 4 * _WIDTH))
                    image.save(io.BytesIO(), "WEBP", quality=75)
            return Measured(time.process_time() - started, 0.0, Result(requests=count))

        def read(server: Server, factor: int, count: int) -> Measured:
            load = Load(server.port, "get", [kept], count * factor, server.token, sample=0)
            return measure(server, load)

        made = in_turn(run.rounds, run.count(20), {"ours": make, "alone": alone})
        read_again = in_turn(
            run.rounds, run.count(1500), {"ours": partial(read, ours, 1), "bare": partial(read, handler, 5)}
        )
    rows = [(first, made, "alone"), (again, read_again, "bare")]
    for row, found, other in rows:
        each = values_of(found, Measured.per_request)
        row.fill(each["ours"], each[other])
    return [first, again]


def _upload(server: Server, count: int) -> list[str]:
    """Uploads new pictures; the paths of their thumbnails."""
    (case,) = make_cases(server, 1)
    load = Load(server.port, "single", [f"{case}/artifacts"], count, server.token, size=_PICTURE, sample=0)
    measure(server, load)
    items = call(server, "GET", f"{case}/artifacts?per_page=500")["items"]
    return [f"/thumbs/{item['id']}-{_WIDTH}.webp" for item in items]


def _fetched(server: Server, path: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    with urllib.request.urlopen(request) as reply:
        return bytes(reply.read())


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())

"""Rows about reads: CPU time of listing steps and of downloads."""

from contextlib import ExitStack
from functools import partial

from bench import servers
from bench.load import Load
from bench.measure import Measured, call, fetch, in_turn, make_cases, measure, values_of
from bench.processes import Server
from bench.results import Row
from bench.run import Run


def steps(run: Run) -> list[Row]:
    """GET of 50 steps with screenshots, compared with a bare handler that returns the same bytes."""
    row = Row("read-steps", "GET 50 steps, screenshots", "requests per CPU s", "bare handler, same bytes", 0.25, False)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        cases = make_cases(ours, 20, 50)
        batches = [f"{case}/artifacts/batch" for case in cases]
        measure(ours, Load(ours.port, "batch", batches, len(batches), ours.token, files=50, size=2_000))
        paths = [f"{case}/steps" for case in cases]
        same = folder / "steps.json"
        same.write_bytes(fetch(ours, "GET", paths[0]))
        handler = stack.enter_context(servers.bare(run.database, same))

        def read(server: Server, factor: int, count: int) -> Measured:
            return measure(server, Load(server.port, "get", paths, count * factor, server.token))

        # The handler is much faster and needs more requests, since CPU time is counted in steps of 10 ms.
        contenders = {"ours": partial(read, ours, 1), "bare": partial(read, handler, 10)}
        found = in_turn(run.rounds, run.count(1500), contenders)
    each = values_of(found, lambda m: m.result.requests / m.cpu)
    return [row.fill(each["ours"], each["bare"])]


def download(run: Run) -> list[Row]:
    """Download of 200 KB by reportd alone and behind nginx with X-Accel-Redirect, compared with nginx alone."""
    alone = Row("download", "download of 200 KB", "CPU ms", "nginx", 5)
    behind = Row("download", "download of 200 KB, X-Accel-Redirect", "CPU ms with nginx's", "nginx", 5)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        (case,) = make_cases(ours, 1)
        measure(ours, Load(ours.port, "single", [f"{case}/artifacts"], 1, ours.token, size=200_000))
        (artifact,) = call(ours, "GET", f"{case}/artifacts")["items"]

        def get(server: Server, path: str, factor: int, count: int) -> Measured:
            load = Load(server.port, "get", [path], count * factor, server.token, digest=artifact["checksum"])
            return measure(server, load)

        contenders = {"ours": partial(get, ours, artifact["download_url"], 1)}
        alone.missing = behind.missing = servers.why_no_nginx()
        if not alone.missing:
            path = artifact["storage_path"].replace("artifacts", "", 1)
            nginx = stack.enter_context(servers.nginx(folder / "nginx", ours.storage))
            contenders["nginx"] = partial(get, nginx, path, 4)
            if not servers.has_setting("artifacts", "accel_redirect"):
                behind.missing = "this reportd has no [artifacts] accel_redirect"
            else:
                settings = {"storage_path": str(ours.storage), "accel_redirect": "/_files/"}
                second = stack.enter_context(servers.reportd(run.database, folder / "second", artifacts=settings))
                proxy = stack.enter_context(servers.nginx(folder / "proxy", ours.storage, second))
                contenders["both"] = partial(get, proxy, artifact["download_url"], 1)
        found = in_turn(run.rounds, run.count(3000), contenders)
    each = values_of(found, Measured.per_request)
    limit = each.get("nginx", ())
    return [alone.fill(each["ours"], limit), behind.fill(each.get("both", ()), limit)]

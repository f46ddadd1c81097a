"""Three times as many clients as the server has upload slots: accepted uploads stay fast, the rest get a 503 with
Retry-After, and memory stays bounded."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.chaos.clients import Batch, make_cases
from tests.chaos.processes import memory, reset_peak
from tests.forms import CONTENT_TYPE, batch
from tests.up_server import UpServer, serving, staged

MAX_UPLOADS = 8  # concurrent uploads that the server accepts
SLACK = 24 << 20  # bytes of memory above the peak at full load without overload
SETTINGS = {"REPORTD_SERVER_MAX_UPLOADS": str(MAX_UPLOADS), "REPORTD_LOG_LEVEL": "warning"}
TIMEOUT = aiohttp.ClientTimeout(total=60)


@dataclass
class Outcome:
    """What the clients observed: seconds of each accepted upload, reply statuses, number of saved files."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    files: int = 0

    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


async def client(
    session: aiohttp.ClientSession,
    cases: list[str],
    serials: Iterator[int],
    until: float,
    polite: bool,
    outcome: Outcome,
) -> None:
    """Uploads in a loop. A polite client waits for Retry-After before it sends again."""
    while time.monotonic() < until:
        serial = next(serials)
        item = Batch(f"load-{serial}", cases[serial % len(cases)], files=4, width=120)
        body = batch([(content, f"{number}.png") for number, content in enumerate(item.pictures())])
        while time.monotonic() < until:
            began = time.perf_counter()
            async with session.post(f"{item.case}/artifacts/batch", data=body, timeout=TIMEOUT) as reply:
                await reply.read()
                outcome.statuses[reply.status] += 1
                if reply.status == 201:
                    outcome.seconds.append(time.perf_counter() - began)
                    outcome.files += 4
                    break
                assert reply.status == 503 and float(reply.headers["Retry-After"]) > 0, reply
            await asyncio.sleep(float(reply.headers["Retry-After"]) if polite else 0)


async def load(
    server: UpServer, cases: list[str], serials: Iterator[int], clients: int, seconds: float, polite: bool = True
) -> Outcome:
    outcome = Outcome()
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": CONTENT_TYPE}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as session:
        until = time.monotonic() + seconds
        await asyncio.gather(*(client(session, cases, serials, until, polite, outcome) for _ in range(clients)))
    return outcome


@pytest.mark.parametrize("polite", [True, False], ids=["waits_for_retry_after", "retries_at_once"])
async def test_overload_with_three_times_as_many_clients_as_slots(tmp_path, dsn, make_token, effort, tally, polite):
    seconds, serials = effort.times(2, 60), itertools.count()
    with serving(tmp_path / "data", dsn, make_token(), **SETTINGS) as server:
        cases, pid = make_cases(server, 64), server.process.pid
        await load(server, cases, serials, MAX_UPLOADS, seconds / 2)
        ratios = []
        for _ in range(3):  # the best of three counts, since other processes use this machine, too
            reset_peak(pid)
            normal = await load(server, cases, serials, MAX_UPLOADS, seconds / 2)
            normal_peak = memory(pid, "VmHWM")
            reset_peak(pid)
            over = await load(server, cases, serials, 3 * MAX_UPLOADS, seconds, polite)
            peak = memory(pid, "VmHWM")
            ratios.append(over.p99() / normal.p99())
            assert set(normal.statuses) == {201}, normal.statuses
            assert over.statuses[503] and over.seconds
            assert peak <= normal_peak + SLACK, (normal_peak, peak)
            tally.add("accepted", over.statuses[201])
            tally.add("503", over.statuses[503])
            tally.maximum("peak MiB", peak / 2**20)
            tally.maximum("peak MiB without overload", normal_peak / 2**20)
            tally.maximum("p99 without overload, ms", 1000 * normal.p99())
            if ratios[-1] <= 3:
                break
        tally.record("p99 under overload / p99 without", [round(ratio, 2) for ratio in ratios])
        assert min(ratios) <= 3, ratios
        assert staged(server.data / "artifacts") == []

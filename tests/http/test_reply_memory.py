"""Replies in progress are bounded: `[server] reply_memory` for all, and 16 for each evidence link."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from server.errors import Overloaded
from server.limits import Admission
from server.services import SERVICES
from tests.http.test_admission import a_step, until

MIB = 1 << 20


@pytest.fixture
def hoard():
    """hoard(client, path): opens a connection that asks for `path` and reads nothing, until the end of the test."""
    with ExitStack() as stack:

        def opened(client, path: str, token: str = "") -> None:
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((client.host, client.port))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())

        yield opened


async def a_large_case(client) -> str:
    """The URL of a test case result whose steps are 8 MiB."""
    run = await (await client.post("/api/v1/reports/suite-runs", json={"name": "nightly"})).json()
    cases = f"/api/v1/reports/suite-runs/{run['id']}/test-cases"
    case = (await (await client.post(cases, json={"name": "x"})).json())["id"]
    url = f"/api/v1/reports/test-case-results/{case}"
    steps = [a_step(number, stack_trace="x" * MIB) for number in range(8)]
    assert (await client.post(f"{url}/steps", json={"steps": steps})).status == 201
    return url


async def test_large_replies_that_are_not_read_fill_reply_memory(start, hoard):
    client = await start(server={"reply_memory": 5 * MIB})
    url, admission = await a_large_case(client), client.app[SERVICES].admission
    token = client.session.headers["Authorization"]
    for count in (1, 2):  # each holds two portions of 1 MiB
        hoard(client, f"{url}/steps", token)
        await until(lambda: admission.replies > 2 * MIB * count)  # noqa: B023
    for path in (f"{url}/steps", f"{url}/report"):
        reply = await client.get(path)
        assert (reply.status, (await reply.json())["code"]) == (503, "overloaded")
        assert reply.headers["Retry-After"] == "1"
    assert (await client.get(url)).status == 200  # small replies go on
    assert admission.refused_replies == 2


async def test_the_memory_of_a_reply_is_released_when_its_client_leaves(start):
    client = await start(server={"reply_memory": MIB})
    url, admission = await a_large_case(client), client.app[SERVICES].admission
    for _ in range(3):  # a reply that is alone may be larger than reply_memory
        assert len(await (await client.get(f"{url}/steps")).read()) > 8 * MIB
        reply = await client.get(f"{url}/steps")
        reply.close()
        await until(lambda: admission.replies == 0)


async def test_a_link_has_at_most_16_replies_in_progress(start, hoard, nobody):
    client = await start(database={"pool_timeout": 2.0}, server={"reply_memory": 1 << 30})
    url, admission = await a_large_case(client), client.app[SERVICES].admission
    made = await client.post("/api/v1/reports/links", json={"test_case_result_id": url.rpartition("/")[2]})
    other = await client.post("/api/v1/reports/links", json={"test_case_result_id": url.rpartition("/")[2]})
    path, other_path = (await made.json())["url"], (await other.json())["url"]
    for _ in range(40):
        hoard(client, path)
    await until(lambda: admission.refused_replies >= 24)
    assert 16 * 2 * MIB < admission.replies < 16 * 3 * MIB
    reply = await client.get(path)
    assert (reply.status, (await reply.json())["code"]) == (503, "overloaded")
    assert (await client.head(other_path)).status == 200  # another link has its own 16


async def test_a_request_of_a_link_waits_for_a_free_slot():
    admission, order = Admission(1, 1), []

    async def request(number: int) -> None:
        async with admission.link("a", 60):
            order.append(number)
            assert len(order) <= 16 or finish.is_set()
            await finish.wait()

    finish = asyncio.Event()
    tasks = [asyncio.create_task(request(number)) for number in range(20)]
    await until(lambda: len(order) == 16)
    with pytest.raises(Overloaded):
        async with admission.link("a", 0.05):
            pass
    async with admission.link("b", 0.05):
        pass
    finish.set()
    await asyncio.gather(*tasks)
    assert order == list(range(20)) and not admission._links

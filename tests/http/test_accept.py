"""At most `[server] max_connections` are open: the longest idle one is closed first, and open ones are served."""

import asyncio
import select
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest

from server.app import create_app
from server.config import Config, DatabaseConfig, ServerConfig
from server.http import accept, protocol
from server.http.accept import Acceptor, max_connections
from server.http.protocol import Runner
from tests.api.test_artifacts_raw import connect
from tests.http.test_admission import until
from tests.up_server import CHECKOUT, serving, wait_for

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def accepting(config):
    """async with accepting(limit) as address: a server with that limit, as connect() wants it, with its `server` and
    its `acceptor`."""

    @asynccontextmanager
    async def started(limit: int):
        quick = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, body_timeout=1.0))
        runner = Runner(create_app(quick), access_log=None, handle_signals=False)
        await runner.setup()
        listening, other = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        acceptor = Acceptor(runner.made, [listening, other], limit)
        acceptor.start()
        try:
            port = listening.getsockname()[1]
            yield SimpleNamespace(host="127.0.0.1", port=port, server=runner.made, acceptor=acceptor)
        finally:
            await acceptor.stop()
            await runner.cleanup()

    return started


async def is_served(connection) -> bool:
    await connection.send(GET)
    return (await connection.reply()).status == 200


@pytest.fixture
def held():
    """One AsyncExitStack, for connections that stay open until the end of the test."""
    return AsyncExitStack()


async def test_a_new_connection_closes_the_one_that_has_been_idle_for_the_longest(accepting, held):
    async with accepting(3) as server, held:
        first, second, third = [await held.enter_async_context(connect(server)) for _ in range(3)]
        for connection in (second, first, third, second):  # so first has been idle for the longest
            assert await is_served(connection)
        fourth = await held.enter_async_context(connect(server))
        assert await is_served(fourth)
        assert await first.closes()
        assert await is_served(second) and await is_served(third) and server.server.open == 3
        fifth = await held.enter_async_context(connect(server))  # fourth was idle before second and third were
        assert await is_served(fifth) and await fourth.closes()
        assert await is_served(second) and await is_served(third)


async def test_a_connection_that_sends_nothing_or_half_a_head_is_idle(accepting, held):
    async with accepting(2) as server, held:
        silent = await held.enter_async_context(connect(server))
        half = await held.enter_async_context(connect(server))
        await half.send(GET[:-5])
        await until(lambda: server.server.open == 2)
        for old in (silent, half):
            assert await is_served(await held.enter_async_context(connect(server)))
            assert await old.closes()


@pytest.mark.parametrize("line", [b"", b"Connection: close\r\n"])
async def test_a_client_that_does_not_read_its_last_reply_is_disconnected(accepting, config, monkeypatch, line):
    """transport.close() would wait for it without end, and it would count as open for as long."""
    monkeypatch.setattr(protocol, "_LINGER_SECONDS", 0.2)
    async with accepting(10) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((server.host, server.port))
            await until(lambda: server.server.open == 1)
            (connection,) = server.server.connections
            own = connection.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            client.sendall(
                GET.replace(b"/healthz", b"/api/v1/openapi.json").replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n")
            )
            await until(lambda: connection.transport is None or connection.transport.get_write_buffer_size())
            if not line:
                connection.force_close()  # as idle_timeout does
            await until(lambda: server.server.open == 0)


async def test_many_more_connections_than_the_limit_do_not_delay_an_open_one(accepting, held, caplog, monkeypatch):
    monkeypatch.setattr(accept, "_LOG_SECONDS", 1e9)
    async with accepting(20) as server, held:
        served = await held.enter_async_context(connect(server))
        for _ in range(200):
            assert await is_served(served)  # so it is never the one that has been idle for the longest
            await held.enter_async_context(connect(server))
        await until(lambda: server.server.open == 20)
        assert await is_served(served)
    records = [record.getMessage() for record in caplog.records if "connections are open" in record.getMessage()]
    assert len(records) == 1 and "[server] max_connections: 20" in records[0]  # at most one each _LOG_SECONDS


async def test_while_none_is_idle_new_connections_wait(accepting, held, caplog):
    async with accepting(2) as server, held:
        busy = [await held.enter_async_context(connect(server)) for _ in range(2)]
        for connection in busy:
            await connection.send(GET.replace(b"GET", b"POST").replace(b"healthz", b"nothing")[:-2])
            await connection.send(b"Content-Length: 5\r\n\r\n")
            assert (await connection.reply()).status == 404  # it now lingers, which is not idle
        waits = await held.enter_async_context(connect(server))
        await waits.send(GET)
        await until(lambda: "none of them is idle" in caplog.text)
        assert server.server.open == 2
        busy[0].writer.close()
        assert (await waits.reply()).status == 200
        assert caplog.text.count("none of them is idle") < 10


async def test_a_stop_serves_the_connections_that_are_accepted_already(accepting, held):
    async with held:
        async with accepting(5) as server:
            connection = await held.enter_async_context(connect(server))
            assert await is_served(connection)
        with pytest.raises(OSError):
            await asyncio.open_connection(server.host, server.port)


@pytest.mark.parametrize(("limit", "served"), [(50, 40), (3, 3)])
async def test_a_stop_serves_the_connections_in_the_queue_of_the_kernel(accepting, limit, served):
    """Closing the socket would reset them, and their clients could not know whether the request was carried out."""
    async with accepting(limit) as server:
        with ExitStack() as stack:
            clients = []
            for _ in range(40):  # no await: the event loop cannot accept one of them
                clients.append(stack.enter_context(socket.create_connection((server.host, server.port), timeout=60)))
                clients[-1].sendall(GET)
            await server.acceptor.stop()
            replies = [await asyncio.to_thread(client.recv, 15) for client in clients[:served]]
            assert replies == [b"HTTP/1.1 200 OK"] * served and server.server.open == served
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((server.host, server.port))


@pytest.mark.parametrize(
    ("configured", "descriptors", "limit"),
    [(0, 1024, 475), (0, 1 << 20, 4096), (0, 64, 1), (100, 1024, 100), (475, 1024, 475), (20_000, 1024, 20_000)],
)
def test_the_default_is_half_of_the_descriptors_that_are_left(configured, descriptors, limit, caplog):
    config = Config(server=ServerConfig(max_connections=configured), database=DatabaseConfig(pool_size=10))
    assert max_connections(config, descriptors) == limit
    assert ("needs up to 40074 file descriptors, but the limit is 1024" in caplog.text) == (configured == 20_000)


def test_the_descriptor_limit_is_raised_to_its_hard_value():
    code = "import resource; from server.http import accept; print(accept.raise_descriptor_limit(), end=' ');"
    code += "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    command = ["prlimit", "--nofile=100:1000", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1000", "1000", "1000"]


@pytest.mark.parametrize("limit", ["0", "5000"])
def test_a_server_out_of_descriptors_serves_its_open_connections(tmp_path, dsn, make_token, limit):
    """0: the limit follows from the descriptors. 5000: they run out, and accept() fails."""
    settings = {"REPORTD_SERVER_MAX_CONNECTIONS": limit, "REPORTD_DATABASE_POOL_SIZE": "2"}
    prefix = ("prlimit", "--nofile=200:200")
    with serving(tmp_path / "data", dsn, make_token(), prefix=prefix, **settings) as server, ExitStack() as stack:
        size = server.log.stat().st_size
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        for _ in range(5):
            assert server.ask("GET", "/healthz").status == 200  # each on a new connection
        assert "connections are open ([server] max_connections: " in server.log.read_text()
        assert "Traceback" not in server.log.read_text() and server.log.stat().st_size - size < 20_000
    assert server.process.returncode == 0


def test_the_limit_holds_for_each_worker(tmp_path, dsn, make_token):
    options = ("--workers", "2")
    settings = {"REPORTD_SERVER_MAX_CONNECTIONS": "5"}
    with serving(tmp_path / "data", dsn, make_token(), *options, **settings) as server, ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(40)
        ]
        for _ in range(5):
            assert server.ask("GET", "/healthz").status == 200
        # Each of the two may keep 5; the server has closed all others.
        wait_for(lambda: len(select.select(opened, [], [], 0)[0]) >= 30)


# --- request heads ------------------------------------------------------------------------------------------


async def test_a_head_of_more_than_64_kib_is_refused(client):
    async with connect(client) as connection:
        lines = b"".join(b"H%d: %s\r\n" % (n, b"x" * 8000) for n in range(7))
        await connection.send(GET[:-2] + lines + b"\r\n")
        assert (await connection.reply()).status == 200
        await connection.send(GET[:-2] + lines + lines)
        reply = await connection.reply()
        assert (reply.status, reply.code) == (400, "malformed_request")
        assert await connection.closes()


async def test_the_heads_of_many_requests_together_may_be_larger(client, monkeypatch):
    monkeypatch.setattr(protocol, "_MAX_HEAD", 200)
    async with connect(client) as connection:
        for _ in range(10):
            assert await is_served(connection)
        for _ in range(5):  # in pieces
            await connection.send(GET[:30])
            await connection.send(GET[30:])
            assert (await connection.reply()).status == 200
        await connection.send(GET * 10)
        for _ in range(10):
            assert (await connection.reply()).status == 200
        body = b"x" * 1000
        await connection.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + body)
        assert (await connection.reply()).status == 404


async def test_a_body_that_arrives_with_its_head_is_not_counted_as_a_head(client, case_url):
    """Several reads of the socket may come before the handler of a request has started."""
    steps = f"{await case_url()}/steps"
    body = b'{"steps": []' + b" " * (4 << 20) + b"}"
    lines = f"PUT {steps} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.session.headers['Authorization']}\r\n"
    async with connect(client) as connection:
        for _ in range(5):
            await connection.send(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert (await connection.reply()).status == 200

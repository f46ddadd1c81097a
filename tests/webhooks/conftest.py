"""Fixtures: a target that records what it is sent, and servers that send to it."""

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from server import config as configuration
from server.app import create_app
from server.config import ServerConfig
from server.hooks import WebhookConfig
from server.webhooks import retries, worker

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Target:
    """A server that records requests, and replies by `answer(request)`: by default 204."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: object = None
    at_once: int = 0
    most_at_once: int = 0

    @property
    def bodies(self):
        return [msgspec.json.decode(body) for _, body in self.requests]

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.requests]

    async def handle(self, request):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.requests.append(
                ({name.lower(): value for name, value in request.headers.items()}, await request.read())
            )
            return await self.answer(request) if self.answer else web.Response(status=204)
        finally:
            self.at_once -= 1

    async def until(self, number):
        async with asyncio.timeout(20):
            while len(self.requests) < number:
                await asyncio.sleep(0.01)


@pytest.fixture
async def make_target():
    """await make_target(answer): a Target on 127.0.0.1."""
    servers = []

    async def make(answer=None, **options):
        target, app = Target(answer=answer), web.Application()
        app.router.add_route("*", "/{anything:.*}", target.handle)
        server = TestServer(app, **options)
        servers.append(server)
        await server.start_server(shutdown_timeout=0.1)
        target.url = f"{server.scheme}://127.0.0.1:{server.port}/hook/secret"
        return target

    yield make
    for server in servers:
        await server.close()


@pytest.fixture
async def target(make_target):
    return await make_target()


@pytest.fixture
def hook():
    """hook(target, **keys): the configuration of a webhook, as load() makes it."""

    def make(target, **keys):
        keys = {"secret": SECRET, "allow": ["127.0.0.1"], **keys}
        (made,) = configuration._checked([WebhookConfig(url=target if isinstance(target, str) else target.url, **keys)])
        return made

    return make


@pytest.fixture
def quick(monkeypatch):
    """The worker looks and retries at once."""
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(worker, "_RENEW_SECONDS", 0.1)
    monkeypatch.setattr(retries, "DELAYS", [0.01] * len(retries.DELAYS))


@pytest.fixture
async def serve(aiohttp_client, config, make_token, quick):
    """await serve(hook, …): a client of a server with these webhooks; it sends an admin token."""

    async def started(*hooks, **sections):
        server = ServerConfig(public_url="https://reports.example/r/")
        changed = msgspec.structs.replace(config, webhooks=list(hooks), server=server, **sections)
        return await aiohttp_client(create_app(changed), headers={"Authorization": f"Bearer {make_token()}"})

    return started

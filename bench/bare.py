"""The cost of aiohttp and asyncpg alone: a POST reads the body and inserts one row, a GET returns prepared bytes.

`python -m bench.bare DSN [FILE]` prints its port and serves until its standard input is closed.
"""

import asyncio
import sys
from pathlib import Path

import asyncpg
from aiohttp import web

_TABLE = (
    "CREATE TABLE IF NOT EXISTS bench_bare (id BIGSERIAL PRIMARY KEY, path TEXT, size BIGINT, created_at TIMESTAMPTZ)"
)
_INSERT = "INSERT INTO bench_bare (path, size, created_at) VALUES ($1, $2, now()) RETURNING id"


async def main(dsn: str, content: bytes) -> None:
    """Serves on a free port."""
    async with asyncpg.create_pool(dsn, min_size=10, max_size=10) as pool:
        await pool.execute(_TABLE)

        async def insert(request: web.Request) -> web.Response:
            body = await request.read()
            number = await pool.fetchval(_INSERT, request.path, len(body))
            return web.Response(status=201, headers={"Location": f"/{number}"})

        async def show(request: web.Request) -> web.Response:
            return web.Response(body=content, content_type="application/json")

        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", insert)
        app.router.add_get("/{path:.*}", show)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else b""))

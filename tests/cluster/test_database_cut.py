"""A host loses its network in the middle of a transaction."""

import sys

import psycopg

from tests.cluster.hosts import network
from tests.cluster.lan import postgresql
from tests.cluster.patroni import PROGRAMS
from tests.cluster.programs import required
from tests.up_server import CHECKOUT, wait_for

HOLD_A_LOCK = """
import asyncio, sys
from server.config import DatabaseConfig
from server.database.pool import open_pool

async def main():
    pool = await open_pool(DatabaseConfig(dsn=sys.argv[1]))
    async with pool.transaction() as connection:
        await connection.execute("LOCK TABLE suite_runs")
        print("locked", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""
TRY = "DO 'BEGIN LOCK TABLE suite_runs IN SHARE MODE NOWAIT; END'"


def test_the_locks_of_a_host_without_network_are_released(tmp_path):
    """PostgreSQL by itself would keep them for two hours."""
    required(str(PROGRAMS / "postgres"))
    with network(tmp_path, "database", "alpha") as lan, lan.inside():
        database, alpha = lan.hosts
        dsn = postgresql(database, tmp_path)
        script = (sys.executable, "-c", HOLD_A_LOCK, dsn)
        holding = alpha.start(*script, log=tmp_path / "log", folder=str(CHECKOUT), PYTHONPATH=str(CHECKOUT))
        wait_for(lambda: "locked" in holding.output(), holding.output)
        with psycopg.connect(dsn, autocommit=True) as connection:

            def is_free() -> bool:
                try:
                    connection.execute(TRY)
                except psycopg.errors.LockNotAvailable:
                    return False
                return True

            assert not is_free()
            alpha.unplug()
            wait_for(is_free)

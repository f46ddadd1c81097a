"""`kill -9` of any program of a cluster under load: the files in SeaweedFS, the rows in PostgreSQL under Patroni."""

import os
import time
from contextlib import ExitStack

import psycopg
import pytest

from server.database import migrate
from tests.chaos.conftest import LONG
from tests.chaos.mixed import Mixed, wait_for_removals
from tests.chaos.victims import Hosts, of_the_database, two_hosts
from tests.cluster.patroni import patroni
from tests.people import an_admin
from tests.up_server import end

pytestmark = pytest.mark.skipif(not LONG, reason="long form: make chaos")
KILLS = 12
PAUSE = 20.0  # seconds from one kill to the next
SECONDS = float(os.environ.get("CHAOS_SECONDS", "1200"))


def verify(hosts: Hosts, stack: ExitStack, load: Mixed) -> None:
    """Asserts that rows and files are what was acknowledged, also as a host sees it that has just mounted the folder.

    A mount that has seen two names of a file may not find one of them after the other was removed.
    """
    load.read_all()
    for server in hosts.servers:
        end(server.process)
    hosts.serve(0, stack)  # unlinks what the others could not
    wait_for_removals(hosts.dsn)
    with hosts.weed.mounted(hosts.weed.folder / "fresh", hosts.hosts[0].own, "/reports") as fresh:
        load.verify(fresh.outside, hosts.dsn)


def test_nothing_is_lost_when_a_program_of_the_storage_is_killed(tmp_path, dsn, effort, tally):
    with two_hosts(tmp_path, dsn, an_admin(dsn)) as (hosts, stack):
        load, victims = Mixed([hosts.outside], tally, effort.random), hosts.victims(stack)
        kinds = [*victims] * (KILLS // len(victims))
        effort.random.shuffle(kinds)
        with load.running():
            for kind in kinds:
                load.wait_for_writes(20)
                began = time.monotonic()
                victims[kind](effort.random)
                load.wait_for_writes(20)
                tally.add(f"{kind} killed")
                tally.maximum(f"longest gap when a {kind} is killed, seconds", load.gap(began))
        verify(hosts, stack, load)


def test_nothing_is_lost_when_all_programs_are_killed_in_turn(tmp_path, effort, tally):
    with patroni() as cluster:
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE reportd")
        dsn = cluster.dsn()
        migrate.apply(dsn)
        with two_hosts(tmp_path, dsn, an_admin(dsn)) as (hosts, stack):
            load = Mixed([hosts.outside], tally, effort.random)
            victims = hosts.victims(stack) | of_the_database(cluster)
            ends = time.monotonic() + SECONDS
            with load.running():
                while time.monotonic() < ends:
                    began, kind = time.monotonic(), effort.random.choice(list(victims))
                    victims[kind](effort.random)
                    tally.add(f"{kind} killed")
                    time.sleep(max(0.0, PAUSE - (time.monotonic() - began)))
                    load.wait_for_writes()
                    tally.maximum(f"longest gap after a {kind} was killed, seconds", load.gap(began))
            cluster.wait_until_whole()
            verify(hosts, stack, load)

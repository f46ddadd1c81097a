"""What a request asks of PostgreSQL: its statements, from PostgreSQL's log, and how each of them is carried out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.servers import Database
from server.database.pool import _SESSION

# The tables with a row for each result, step, file or log entry. No page may read one from beginning to end.
LARGE = {"test_case_results", "test_step_results", "test_artifacts", "test_console_logs", "test_network_logs"}
_TIMEOUT = "SET statement_timeout = '60s'"
_FIRST_COLUMNS = """
SELECT i.indexrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid
WHERE a.attnum = 1"""

# The beginning of an entry in the format of log_line_prefix = '%m [%p] '; its other lines begin with a tab.
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ \[(\d+)\] (\w+):  ", re.MULTILINE)
_EXECUTED = re.compile(r"duration: [\d.]+ ms  (?:execute [^:]*|statement): (.*)", re.DOTALL)
_VALUE = re.compile(r"\$\d+ = ('(?:[^']|'')*'|NULL)")


@dataclass(frozen=True)
class Statement:
    """A statement with its values as SQL literals."""

    text: str
    values: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its first words, without the comment of its file."""
        code = " ".join(line for line in self.text.splitlines() if not line.startswith("--"))
        return " ".join(code.split())[:90]


@dataclass
class Plan:
    """How a statement is carried out: the large tables that it reads whole, milliseconds, and pages that it reads."""

    scans: set[str]
    milliseconds: float = 0.0
    buffers: int = 0


@contextmanager
def traced(database: Database) -> Iterator[None]:
    """PostgreSQL logs the statements of connections that are opened within the `with` block."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        change = sql.SQL("ALTER DATABASE {} SET log_min_duration_statement").format(name)
        connection.execute(change + sql.SQL(" = 0"))
        try:
            yield
        finally:
            connection.execute(change + sql.SQL(" TO DEFAULT"))


def statements(log: Path, start: int) -> list[Statement]:
    """The queries that were logged since byte `start`, in their order."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    found: list[Statement] = []
    waiting: dict[str, str] = {}  # the statement of each process whose values are in its next entry
    for pid, kind, content in _entries(text):
        if kind == "LOG" and (match := _EXECUTED.match(content)):
            waiting[pid] = match[1]
            found.append(Statement(match[1]))
        elif kind == "DETAIL" and content[:12].lower() == "parameters: " and pid in waiting:
            at = max(n for n, each in enumerate(found) if each.text == waiting[pid])
            found[at] = Statement(waiting.pop(pid), tuple(_VALUE.findall(content)))
    return [each for each in found if each.name.startswith(("SELECT", "WITH"))]


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    starts = [*_ENTRY.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=False):  # without an entry there is one end
        yield match[1], match[2], text[match.end() : end].replace("\n\t", "\n").strip()


def explain(database: Database, statement: Statement) -> Plan:
    """Runs the statement with the plan for its values and with that for any values; the slower of both.

    Scans also count when the planner would choose them if the server's connections did not avoid them.
    """
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        first: dict[str, str] = dict(connection.execute(_FIRST_COLUMNS).fetchall())  # type: ignore[arg-type]
        connection.execute(_TIMEOUT.encode())
        connection.execute(f"PREPARE traced AS {statement.text}".encode())
        execute = f"EXECUTE traced({', '.join(statement.values)})" if statement.values else "EXECUTE traced"
        found = Plan(set())
        for settings, analyze in ((_SESSION, "ANALYZE, BUFFERS, "), ("RESET enable_seqscan", "")):
            for mode in ("force_custom_plan", "force_generic_plan"):
                connection.execute(f"{settings}; SET plan_cache_mode = {mode}".encode())
                query = f"EXPLAIN ({analyze}FORMAT JSON) {execute}"
                (plan,) = connection.execute(query.encode()).fetchone()[0]  # type: ignore[index]
                found.scans |= {scan for node in _nodes(plan["Plan"]) for scan in _scan(node, first)}
                found.milliseconds = max(found.milliseconds, plan.get("Execution Time", 0.0))
                read = plan["Plan"].get("Shared Hit Blocks", 0) + plan["Plan"].get("Shared Read Blocks", 0)
                found.buffers = max(found.buffers, read)
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _scan(node: dict[str, Any], first: dict[str, str]) -> Iterator[str]:
    """A large table that the node reads whole; also by an index, when no value of its first column is given."""
    table, index = node.get("Relation Name", ""), node.get("Index Name")
    if node["Node Type"] == "Seq Scan" and table in LARGE:
        yield table
    elif index and table in LARGE and not re.search(rf"\b{first[index]}\b", node.get("Index Cond", "")):
        yield f"{table} by {index}"

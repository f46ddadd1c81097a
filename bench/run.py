"""Resources that the rows of a run share: PostgreSQL and its databases, created when the first row needs them."""

from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

from bench.full import ARTIFACTS_OF_A_CASE, STEPS_OF_A_CASE, fill
from bench.processes import Server, folder
from bench.servers import Cluster, Database, reportd

ROUNDS = 5


class Run:
    """A context manager that stops everything it started."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.rounds = 1 if quick else ROUNDS
        self.full_cases = 2_000 if quick else 200_000
        self.notes: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def count(self, requests: int) -> int:
        """How many requests to send: `requests`, or a twentieth of them (at least 10) in a quick run."""
        return max(10, requests // 20) if self.quick else requests

    def ours(self, stack: ExitStack) -> tuple[Server, Path]:
        """Starts reportd for a row; the server and the temporary folder of the row."""
        row = stack.enter_context(self.scratch())
        return stack.enter_context(reportd(self.database, row / "ours")), row

    def scratch(self, need: int = 3 << 30, on_disk: bool = False) -> AbstractContextManager[Path]:
        """A temporary folder; see processes.folder."""
        return folder(need, on_disk)

    @cached_property
    def cluster(self) -> Cluster:
        """The PostgreSQL of all rows except the durable one."""
        return self._stack.enter_context(Cluster(self._stack.enter_context(folder(8 << 30)) / "postgres"))

    @cached_property
    def database(self) -> Database:
        """The database of all rows that need neither an empty nor a full one."""
        return self.cluster.database("bench")

    @cached_property
    def empty(self) -> Database:
        """A database that only the rows that need an empty one write to."""
        return self.cluster.database("empty")

    @cached_property
    def full(self) -> Database:
        """A database with `full_cases` test cases, their steps and artifacts."""
        database = self.cluster.database("full")
        seconds = fill(database, self.full_cases)
        counts = f"{self.full_cases * STEPS_OF_A_CASE:,} steps, {self.full_cases * ARTIFACTS_OF_A_CASE:,} artifacts"
        size = database.value("SELECT pg_database_size(current_database())")
        self.notes.append(f"full database: {counts}, {size / 2**30:.1f} GiB, filled in {seconds:.0f} s")
        return database

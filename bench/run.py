"""What the rows of one run share: a PostgreSQL and its databases, started when the first row needs them."""

from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

from bench.processes import folder
from bench.servers import Cluster, Database

ROUNDS = 5


class Run:
    """A context manager: everything that was started ends with it."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.rounds = 1 if quick else ROUNDS
        self._stack = ExitStack()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def count(self, requests: int) -> int:
        """How many requests to send where a full run sends `requests`."""
        return max(10, requests // 20) if self.quick else requests

    def scratch(self, need: int = 3 << 30, on_disk: bool = False) -> AbstractContextManager[Path]:
        """A folder for files; see processes.folder."""
        return folder(need, on_disk)

    @cached_property
    def cluster(self) -> Cluster:
        """The PostgreSQL of all rows but the durable one."""
        return self._stack.enter_context(Cluster(self._stack.enter_context(folder()) / "postgres"))

    @cached_property
    def database(self) -> Database:
        """The database of all rows that do not ask for an empty or a full one."""
        return self.cluster.database("bench")

"""Several processes that serve one port: gunicorn starts, watches and replaces them, each runs serve.run."""

import asyncio
import logging
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import GunicornWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from server.commands import serve
from server.commands.systemd import Service
from server.config import Config
from server.storage.folder import Storage

LOG = logging.getLogger("reportd")

_STOP = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_SILENT_SECONDS = 60  # after which an event loop that does not move is killed and replaced
_LOOP_SECONDS = 1.0  # how often gunicorn's own loop comes round
_LAST_SECONDS = 10.0  # what gunicorn needs to kill the workers that do not end, and to end itself
_RETRY_SECONDS = 1.0
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it has a name that nobody can foresee


def run(config: Config, ready: serve.Ready, service: Service) -> None:
    """Serves with `config.server.workers` processes until SIGINT or SIGTERM, then exits the interpreter.

    `ready` is called in one of them, see serve.run; systemd is told by this process. Raises OSError when the address
    cannot be taken or the storage not be opened: that is tried here once, so that it is not said by every worker.
    """
    asyncio.run(_try_storage(config))
    sockets = serve.listen(config.server, service)
    address = serve.url(sockets[0].getsockname())
    master = os.getpid()
    # In memory where there is such a folder: figures and heartbeats must not wait for a disk that is busy.
    folder = Path(tempfile.mkdtemp(prefix="reportd-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    try:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from prometheus_client.multiprocess import mark_process_dead

        import server.app  # noqa: F401 - here, that the processes share its memory

        settings = {
            "bind": [f"fd://{listening.detach()}" for listening in sockets],
            "workers": config.server.workers,
            "worker_class": Worker,
            "worker_tmp_dir": str(folder),
            "timeout": _SILENT_SECONDS,
            "graceful_timeout": math.ceil(config.server.shutdown_timeout + serve.CLEANUP_SECONDS),
            "child_exit": lambda _, worker: mark_process_dead(worker.pid),
            "logger_class": _Log,
            "loglevel": config.log.level,
            "errorlog": None,
            "control_socket_disable": True,
        }
        _Arbiter(_Application(config, ready, folder, settings), service, address).run()
    except HaltServer as error:  # a second worker that fails while gunicorn stops because of the first
        sys.exit(error.exit_status)
    finally:
        # A worker's end is an exception, too, and passes here; it tidies up only when its master was killed.
        if os.getpid() == master or os.getppid() != master:
            shutil.rmtree(folder, ignore_errors=True)


async def _try_storage(config: Config) -> None:
    storage = Storage(config.artifacts.storage_path, file_timeout=config.artifacts.file_timeout)
    await storage.start()
    await storage.stop()


class _Application(BaseApplication):
    """What gunicorn asks for: its settings. The rest is for the workers, which have this as `app`."""

    def __init__(self, config: Config, ready: serve.Ready, folder: Path, settings: dict[str, Any]) -> None:
        self.config = config
        self.ready = ready
        self.announced = folder / "ready"
        self.core: int | None = None  # of the worker that is started next
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Nothing: a worker runs serve.run, which makes the application."""


class _Log(Logger):
    """gunicorn's log lines, sent where ours go."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.propagate = True


class _Arbiter(Arbiter):
    app: _Application

    def __init__(self, app: _Application, service: Service, address: str) -> None:
        self._cores: dict[int, int] = {}  # of each worker by its process id
        self._service, self._address = service, address
        self._announced = False
        self._said = -math.inf  # when systemd was told last that we are alive
        super().__init__(app)
        self.systemd = bool(service.sockets)  # gunicorn would remove a socket's path, which is systemd's

    def murder_workers(self) -> None:
        self._tell()
        super().murder_workers()

    def reap_workers(self) -> None:
        self._tell()
        super().reap_workers()

    def stop(self, graceful: bool = True) -> None:
        self._service.stopping(
            f"Stopping; requests in progress get {self.app.config.server.shutdown_timeout:g} seconds",
            self.cfg.graceful_timeout + _LAST_SECONDS,
        )
        super().stop(graceful)

    def _tell(self) -> None:
        """What systemd waits for. Called in each loop of gunicorn's: also while it stops, or waits on a SIGHUP for
        workers to end."""
        if not self._announced and self.app.announced.exists():
            self._announced = True
            self._service.ready(f"{self.app.config.server.workers} workers serve at {self._address}")
        now = time.monotonic()
        if self._service.watchdog and now >= self._said + self._service.watchdog - _LOOP_SECONDS:
            self._said = now
            self._service.alive()

    def spawn_worker(self) -> Any:
        self._cores = {pid: core for pid, core in self._cores.items() if pid in self.WORKERS}
        taken = Counter(self._cores.values())
        self.app.core = min(os.sched_getaffinity(0), key=lambda core: (taken[core], secrets.randbits(16)))
        # A new process forgets a signal that it gets before it has handlers, and would serve on: it gets it later.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            pid = super().spawn_worker()
            self._cores[pid] = self.app.core
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)


class Worker(GunicornWebWorker):
    """One process: serve.run, with gunicorn's heartbeat beside it."""

    app: _Application

    def init_signals(self) -> None:
        super().init_signals()
        # gunicorn's word for a SIGINT. Like that one it means what SIGTERM does, for which serve.run has a handler.
        self.loop.add_signal_handler(signal.SIGQUIT, signal.raise_signal, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

    async def _run(self) -> None:
        try:
            await serve.run(self.app.config, self._accepting, self._heartbeat, sockets=self.sockets, core=self.app.core)
        except OSError as error:
            LOG.error("A worker cannot start: %s", error)
            if self.app.announced.exists():  # the others serve; one more is tried until the storage is back
                await asyncio.sleep(_RETRY_SECONDS)
                self.exit_code = 1
            else:
                self.exit_code = Arbiter.WORKER_BOOT_ERROR  # at which gunicorn gives up

    def _accepting(self, url: str) -> None:
        self.booted = True
        with suppress(FileExistsError):
            self.app.announced.touch(exist_ok=False)
            self.app.ready(url)

    async def _heartbeat(self) -> None:
        """Tells gunicorn that this process is alive; ends when gunicorn is not."""
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await asyncio.sleep(1)

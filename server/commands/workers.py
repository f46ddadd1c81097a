"""`reportd serve --workers N`: gunicorn starts, monitors and replaces N worker processes, which run serve.run."""

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

LOG = logging.getLogger("reportd")

_STOP = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_HEARTBEAT_TIMEOUT = 60  # seconds; a worker whose event loop hangs for longer is killed and replaced
_LOOP_SECONDS = 1.0  # the interval of gunicorn's main loop
_LAST_SECONDS = 10.0  # how long gunicorn needs to kill workers that do not stop, and to end itself
_RETRY_SECONDS = 1.0
_EXTENSION_STEP_SECONDS = 10.0
_SHM = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder with an unpredictable name in it


def run(config: Config, ready: serve.Ready, service: Service) -> None:
    """Serve with `config.server.workers` processes until SIGINT or SIGTERM, then exit the interpreter.

    The first worker that can serve calls `ready`, see serve.run; this process notifies systemd. Raises OSError when the
    address cannot be bound or the storage folder cannot be opened. This process opens the folder first: otherwise every
    worker would log the same error.
    """
    serve.check_storage(config)
    sockets = serve.listen(config.server, service)
    address = serve.url(sockets[0].getsockname())
    master = os.getpid()
    # In /dev/shm where it exists: metrics and heartbeats must not block on a busy disk.
    folder = Path(tempfile.mkdtemp(prefix="reportd-", dir=_SHM if os.access(_SHM, os.W_OK) else None))
    try:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from prometheus_client.multiprocess import mark_process_dead

        import server.app  # noqa: F401 - imported before the fork, so that the workers share its memory

        settings = {
            "bind": [f"fd://{listening.detach()}" for listening in sockets],
            "workers": config.server.workers,
            "worker_class": Worker,
            "worker_tmp_dir": str(folder),
            "timeout": _HEARTBEAT_TIMEOUT,
            "graceful_timeout": math.ceil(config.server.shutdown_timeout + serve.CLEANUP_SECONDS),
            "child_exit": lambda _, worker: mark_process_dead(worker.pid),
            "logger_class": _Log,
            "loglevel": config.log.level,
            "errorlog": None,
            "control_socket_disable": True,
        }
        _Arbiter(_Application(config, ready, folder, settings), service, address).run()
    except HaltServer as error:  # another worker failed while gunicorn was stopping because of the first failure
        sys.exit(error.exit_status)
    finally:
        # A worker exits by an exception, too, and gets here. It removes the folder only when its master was killed.
        if os.getpid() == master or os.getppid() != master:
            shutil.rmtree(folder, ignore_errors=True)


class _Application(BaseApplication):
    """Passes settings to gunicorn, and configuration to the workers, which have this object as `app`."""

    def __init__(self, config: Config, ready: serve.Ready, folder: Path, settings: dict[str, Any]) -> None:
        self.config = config
        self.ready = ready
        self.announced = folder / "ready"
        self.core: int | None = None  # the processor core of the next worker
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Unused: each worker runs serve.run, which makes the application."""


class _Log(Logger):
    """Sends gunicorn's log records to the log of reportd."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.propagate = True


class _Arbiter(Arbiter):
    app: _Application

    def __init__(self, app: _Application, service: Service, address: str) -> None:
        self._cores: dict[int, int] = {}  # processor core of each worker, by process id
        self._service, self._address = service, address
        self._announced = False
        self._last_extension = time.monotonic()  # when systemd was last asked to wait longer for the start
        self._last_ping = -math.inf  # when the watchdog of systemd was pinged last; monotonic clock
        super().__init__(app)
        self.systemd = bool(service.sockets)  # then gunicorn does not unlink a unix socket, which belongs to systemd

    def murder_workers(self) -> None:
        self._notify_systemd()
        super().murder_workers()

    def reap_workers(self) -> None:
        self._notify_systemd()
        super().reap_workers()

    def stop(self, graceful: bool = True) -> None:
        self._service.stopping(
            f"Stopping; requests in progress get {self.app.config.server.shutdown_timeout:g} seconds to finish",
            self.cfg.graceful_timeout + _LAST_SECONDS,
        )
        super().stop(graceful)
        for number in self.SIGNALS:  # Python would restore their defaults at its end, see serve.run
            signal.signal(number, signal.SIG_IGN)

    def _notify_systemd(self) -> None:
        """Send readiness and watchdog pings to systemd.

        Called in every iteration of gunicorn's loops, including those that wait for workers to end on a stop or SIGHUP.
        """
        if not self._announced and self.app.announced.exists():
            self._announced = True
            self._service.ready(f"{self.app.config.server.workers} workers serve at {self._address}")
        now = time.monotonic()
        if not self._announced and now >= self._last_extension + _EXTENSION_STEP_SECONDS:
            self._last_extension = now
            self._service.waiting("Not ready; the log has the reason", serve.EXTENSION_SECONDS)
        if self._service.watchdog and now >= self._last_ping + self._service.watchdog - _LOOP_SECONDS:
            self._last_ping = now
            self._service.ping()

    def spawn_worker(self) -> Any:
        self._cores = {pid: core for pid, core in self._cores.items() if pid in self.WORKERS}
        taken = Counter(self._cores.values())
        self.app.core = min(os.sched_getaffinity(0), key=lambda core: (taken[core], secrets.randbits(16)))
        # A signal that arrives before the new process has its handlers would be lost, and the worker would never stop.
        # Blocked, it stays pending until serve.run has its handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            pid = super().spawn_worker()
            self._cores[pid] = self.app.core
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)


class Worker(GunicornWebWorker):
    """One worker process: runs serve.run and sends heartbeats to gunicorn."""

    app: _Application

    def init_signals(self) -> None:
        super().init_signals()
        # On SIGINT, gunicorn sends SIGQUIT to its workers. Handle it like SIGTERM, for which serve.run has a handler.
        self.loop.add_signal_handler(signal.SIGQUIT, signal.raise_signal, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGQUIT})

    async def _run(self) -> None:
        try:
            await serve.run(self.app.config, self._accepting, self._heartbeat, sockets=self.sockets, core=self.app.core)
        except OSError as error:
            LOG.error("A worker cannot start: %s", error)
            if self.app.announced.exists():  # other workers serve: gunicorn starts a new one until the storage is back
                await asyncio.sleep(_RETRY_SECONDS)
                self.exit_code = 1
            else:
                self.exit_code = Arbiter.WORKER_BOOT_ERROR  # gunicorn then stops

    def _accepting(self, url: str) -> None:
        self.booted = True
        with suppress(FileExistsError):
            self.app.announced.touch(exist_ok=False)
            self.app.ready(url)

    async def _heartbeat(self) -> None:
        """Send heartbeats to gunicorn; returns, and so stops the server, when gunicorn has died."""
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await asyncio.sleep(1)

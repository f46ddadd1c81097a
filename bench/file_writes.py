"""Compares two ways to write the files of a batch: aiofiles, chunk by chunk, and one call for each window.

`python -m bench.file_writes` prints the median CPU seconds per 10⁹ bytes of both, and the median ratio. It measures
only the writes: no server, no network, no fsync. docs/differences-from-the-documents.md quotes the result.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiofiles

from server.storage.threads import Threads

_FILES, _SIZE, _CHUNK, _WINDOW = 10, 200_000, 64 << 10, 1 << 20
_BATCHES, _ROUNDS = 60, 7


async def by_aiofiles(folder: Path, threads: Threads) -> None:
    """The design taken literally: open, each chunk and close are one thread-pool call each."""
    data = memoryview(os.urandom(_SIZE))
    for number in range(_FILES):
        async with aiofiles.open(folder / str(number), "wb", buffering=0, executor=threads) as file:
            for start in range(0, _SIZE, _CHUNK):
                await file.write(data[start : start + _CHUNK])


async def by_windows(folder: Path, threads: Threads) -> None:
    """Like server/uploads/receive.py: collects chunks of all files up to a window, and writes them in one call."""
    data = memoryview(os.urandom(_SIZE))
    window: list[tuple[Path, list[memoryview]]] = []
    held = 0
    for number in range(_FILES):
        views = [data[start : start + _CHUNK] for start in range(0, _SIZE, _CHUNK)]
        window.append((folder / str(number), views))
        held += _SIZE
        if held >= _WINDOW or number == _FILES - 1:
            await asyncio.wrap_future(threads.submit(_write, window))
            window, held = [], 0


def _write(window: list[tuple[Path, list[memoryview]]]) -> None:
    for path, views in window:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            os.writev(descriptor, views)
        finally:
            os.close(descriptor)


async def main() -> None:
    """Prints one line for each way, and the ratio."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="reportd-bench-", dir=where) as name:
        folder, threads = Path(name), Threads(8, "bench")
        ways = {"aiofiles, 64 KiB chunks": by_aiofiles, "one call a window": by_windows}
        spent: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(_ROUNDS + 1):
            for way, work in ways.items():
                started = time.process_time()
                for _ in range(_BATCHES):
                    await work(folder, threads)
                spent[way].append((time.process_time() - started) / (_BATCHES * _FILES * _SIZE) * 1e9)
        for way, seconds in spent.items():
            print(f"{way:24} {statistics.median(seconds[1:]):.2f} CPU s/GB")
        first, second = spent.values()
        print(f"ratio {statistics.median(a / b for a, b in zip(first[1:], second[1:], strict=True)):.2f}")
        threads.end(5)


if __name__ == "__main__":
    asyncio.run(main())

"""Settings of the server's process: its processor core, and its memory."""

import ctypes
import os
import secrets

# Parameters of glibc's mallopt().
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_MEMORY = 64 << 20  # bytes
_LARGE_BLOCK = 32 << 20  # bytes


def pin_to_core(core: int | None) -> None:
    """Pin this process to one processor core: `core`, or a random one. Call it from the main thread.

    The GIL lets one thread run at a time, and moving it between cores costs more than a second core gains: a quarter of
    the processor time of small uploads, a tenth of batches (bench/README.md).
    """
    # Random: with a fixed choice, such as one by process id, all containers of a host would share one core.
    os.sched_setaffinity(0, {secrets.choice(list(os.sched_getaffinity(0))) if core is None else core})


def keep_freed_memory() -> None:
    """Keep up to 64 MiB of freed memory, of blocks up to 32 MiB. Without glibc: does nothing.

    Otherwise the received bytes of each upload go back to the system when they are written, and the next upload waits
    for the kernel to clear new pages: a twentieth of the processor time of batches. And for a JSON body of 13 MB, the
    event loop stands still for 20 to 40 ms instead of 8 to 16.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_MEMORY)

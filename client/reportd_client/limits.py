"""Every limit of the client. What exceeds a limit is cut, and its last entry says so."""

from __future__ import annotations

# One test.
MAX_STEPS = 10_000
MAX_CONSOLE = 5_000
MAX_NETWORK = 5_000
MAX_CHECKPOINTS = 5_000
MAX_FILES = 2_000
MAX_TEST_BYTES = 8 << 20  # of JSON; a request to the server may have 16 MiB
MAX_OUTPUT = 256 << 10  # bytes of captured stdout and stderr
MAX_OUTPUT_LINES = 1_000
MAX_TEXT = 64 << 10  # characters of a message, an error or a stack trace
MAX_METADATA = 48 << 10  # bytes of a test's metadata as JSON; the server takes 64 KiB

# The spool.
COPY_BELOW = 1 << 20  # a file given by path is copied up to this size, else hard-linked
RESERVE = 256 << 10  # bytes that are given back when the disk is full, so that verdicts still fit
LOW_DISK = (200 << 20, 100 << 20, 50 << 20)  # free bytes below which less and less is kept, see spool.Space
OLD_SPOOL_DAYS = 14

# Groups of tests, and requests.
GROUP_SECONDS = 2.0
GROUP_TESTS = 500
GROUP_FILES = 50
GROUP_BYTES = 4 << 20
GROUP_STEPS = 10_000
GROUP_ENTRIES = 10_000
GROUP_FILE_BYTES = 200 << 20
LOADED_BYTES = 8 << 20  # of all groups that are being sent; as Python's values they take five times as much
REQUESTS = 4  # under way at once
REQUESTS_WHEN_BUSY = 2  # after 429 or 503, until GOOD_REPLIES have come
GOOD_REPLIES = 20
MAX_REPLY = 32 << 20
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
FIRST_RETRY = 0.5
LAST_RETRY = 30.0

# The end of a run.
DRAIN_SECONDS = 30.0
UNREACHED_SECONDS = 2.0  # instead, when no request has ever succeeded
LAST_REQUEST_SECONDS = 5.0  # for the requests under way when the sender is stopped

"""The floor: the lowest cost of an upload in Python. Threads receive, hash and write the body, and parse nothing.

`python -m bench.floor FOLDER` prints its port and serves until its standard input is closed. With `--durable DSN
--files N` it splits a body into N files, makes the same system calls for each as reportd, and inserts their rows.
"""

# ruff: noqa: PTH102, PTH104
# Plain strings, as in server/storage/disk.py: a Path costs microseconds.

import argparse
import hashlib
import itertools
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg

_REPLY = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_BUFFER = 1 << 20
_TABLE = "CREATE TABLE IF NOT EXISTS bench_floor (LIKE test_artifacts)"
_INSERT = """
INSERT INTO bench_floor (id, test_case_result_id, artifact_type, step_number, iteration_number, file_name, file_size,
                         mime_type, checksum, storage_path, dedupe_key, uploaded_at, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'screenshot', n.number, 1, 'step_001.png', n.size,
       'image/png', n.checksum, n.path, '\\x00112233445566778899aabbccddeeff', now(), now()
FROM unnest(%s::int[], %s::bigint[], %s::text[], %s::text[]) AS n(number, size, checksum, path)
"""


def _bodies(sock: socket.socket, sizes: list[int]) -> Iterator[Iterator[memoryview]]:
    """Yields the body of each request as views of one buffer. Appends its size to `sizes` first."""
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    while True:
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                return
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        sizes.append(size)

        def views(rest: bytes = rest, left: int = size) -> Iterator[memoryview]:
            if rest:
                yield memoryview(rest)
            left -= len(rest)
            while left:
                count = sock.recv_into(view[: min(left, _BUFFER)])
                if not count:
                    raise ConnectionResetError
                yield view[:count]
                left -= count

        yield views()


def _serve(sock: socket.socket, folder: Path) -> None:
    sizes: list[int] = []
    with sock:
        for number, body in enumerate(_bodies(sock, sizes)):
            digest = hashlib.sha256()
            descriptor = os.open(folder / f"{threading.get_ident()}-{number}", os.O_WRONLY | os.O_CREAT)
            for view in body:
                digest.update(view)
                os.write(descriptor, view)
            os.close(descriptor)
            digest.hexdigest()
            sock.sendall(_REPLY)


class _Durable:
    """The system calls and the insert that reportd makes for a batch, and nothing else."""

    def __init__(self, folder: Path, dsn: str, files: int) -> None:
        self._root, self._dsn, self._files = str(folder), dsn, files
        self._numbers = itertools.count()
        for name in ("staging", "content", "day"):
            (folder / name).mkdir()
        with psycopg.connect(dsn) as connection:
            connection.execute(_TABLE)

    def serve(self, sock: socket.socket) -> None:
        sizes: list[int] = []
        with sock, psycopg.connect(self._dsn, autocommit=True) as connection:
            for body in _bodies(sock, sizes):
                staged = self._stage(body, sizes[-1])
                folder = f"{self._root}/day/{next(self._numbers)}"
                os.mkdir(folder)
                _sync_folder(f"{self._root}/day")
                paths = [self._publish(path, digest, f"{folder}/{i}.png") for i, (path, digest, _) in enumerate(staged)]
                _sync_folder(folder)
                numbers, sums, counts = list(range(len(staged))), [s[1] for s in staged], [s[2] for s in staged]
                connection.execute(_INSERT, (numbers, counts, sums, paths))
                sock.sendall(_REPLY)

    def _stage(self, body: Iterator[memoryview], size: int) -> list[tuple[str, str, int]]:
        """Writes the body as synced files of about the same size; their paths, SHA-256 and sizes."""
        file_size = -(-size // self._files)
        done: list[tuple[str, str, int]] = []
        path, descriptor, digest, have = "", -1, hashlib.sha256(), 0
        left = size
        for view in body:
            while view:
                if descriptor < 0:
                    path, digest, have = f"{self._root}/staging/{next(self._numbers)}", hashlib.sha256(), 0
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
                piece, view = view[: file_size - have], view[file_size - have :]
                digest.update(piece)
                os.write(descriptor, piece)
                have += len(piece)
                left -= len(piece)
                if have == file_size or not left:
                    os.fdatasync(descriptor)
                    os.close(descriptor)
                    descriptor = -1
                    done.append((path, digest.hexdigest(), have))
        return done

    def _publish(self, staged: str, digest: str, final: str) -> str:
        os.link(staged, final)
        os.rename(staged, f"{self._root}/content/{digest}")
        return final


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    """Serves on a free port."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--durable", metavar="DSN")
    parser.add_argument("--files", type=int, default=10)
    options = parser.parse_args()
    durable = _Durable(options.folder, options.durable, options.files) if options.durable else None
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            sock, _ = listening.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            work, arguments = (durable.serve, (sock,)) if durable else (_serve, (sock, options.folder))
            threading.Thread(target=work, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""The physical limit: threads that receive, hash and write, and parse nothing. Nothing can be cheaper in Python.

`python -m bench.floor FOLDER` prints its port and serves until its standard input ends.
"""

import hashlib
import os
import socket
import sys
import threading
from pathlib import Path

_REPLY = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_BUFFER = 1 << 20


def _serve(sock: socket.socket, folder: Path) -> None:
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    number = 0
    with sock:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = sock.recv(4096)
                if not data:
                    return
                head += data
            head, _, rest = head.partition(b"\r\n\r\n")
            left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(rest)
            digest = hashlib.sha256(rest)
            path = folder / f"{threading.get_ident()}-{number}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, rest)
            while left:
                size = sock.recv_into(view[: min(left, _BUFFER)])
                if not size:
                    return
                digest.update(view[:size])
                os.write(descriptor, view[:size])
                left -= size
            os.close(descriptor)
            digest.hexdigest()
            number += 1
            sock.sendall(_REPLY)


def main(folder: Path) -> None:
    """Serves on a free port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            sock, _ = listening.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(sock, folder), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

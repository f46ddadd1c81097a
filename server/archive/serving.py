"""Serves an archive on loopback, to one person on this machine: what a browser does not allow pages from a disk, like
the counted difference of two images, works there."""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server.archive import names
from server.archive.opened import Opened

_CHUNK = 256 << 10  # bytes
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "json": "application/json",
    "sha256": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    **{"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "pdf": "application/pdf"},
    **{"mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "mkv": "video/x-matroska"},
}
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types reportd"
)
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'"


class ArchiveServer(ThreadingHTTPServer):
    """Serves `archive` at `url`. Listens on 127.0.0.1 alone; `port` 0: any that is free. Raises OSError."""

    daemon_threads = True

    def __init__(self, archive: Opened, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.archive = archive
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: ArchiveServer
    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def do_GET(self) -> None:
        """Sends an entry, or the requested range of it."""
        name = self.path.partition("?")[0].removeprefix("/") or names.INDEX
        # A page of another site may have its name lead to this address (DNS rebinding): it would read the archive.
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(403, "This server answers to 127.0.0.1 and localhost alone.")
        elif not self.server.archive.has(name):
            self._refuse(404, "The archive has no such file.")
        else:
            self._send(name)

    do_HEAD = do_GET

    def _send(self, name: str) -> None:
        size = self.server.archive.size(name)
        start, end = self._range(size)
        partial = (start, end) != (0, size)
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Type", _TYPES.get(name.rpartition(".")[2], "application/octet-stream"))
        self._end_headers(end - start, _PAGE_POLICY if not name.startswith("files/") else _FILE_POLICY)
        if self.command == "HEAD":
            return
        with self.server.archive.open(name) as stream:
            stream.seek(start)
            while start < end and (part := stream.read(min(_CHUNK, end - start))):
                self.wfile.write(part)
                start += len(part)

    def _range(self, size: int) -> tuple[int, int]:
        """From which byte to which, as a video asks for; any other range is the whole."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match and int(match[1]) < size:
            return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        return 0, size

    def _refuse(self, status: int, sentence: str) -> None:
        text = sentence.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self._end_headers(len(text), _FILE_POLICY)
        if self.command != "HEAD":
            self.wfile.write(text)

    def _end_headers(self, length: int, policy: str) -> None:
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the address."""

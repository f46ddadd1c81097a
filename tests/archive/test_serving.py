"""`reportd open`: an archive on loopback, for a browser on this machine alone."""

import http.client
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from server.archive.opened import Opened
from server.archive.serving import ArchiveServer
from tests.api.test_archives import full_run  # noqa: F401
from tests.archive.test_importing import saved  # noqa: F401
from tests.makers import png
from tests.up_server import PATIENCE


@contextmanager
def served(path):
    """ask(path, method, **headers): status, headers and body of a served archive."""
    with Opened(path) as archive, ArchiveServer(archive, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(target, method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
            connection.request(method, target, headers={name.replace("_", "-"): text for name, text in headers.items()})
            with connection.getresponse() as reply:
                found = reply.status, reply.headers, reply.read()
            connection.close()
            return found

        try:
            yield ask, archive
        finally:
            server.shutdown()
            thread.join()


async def test_entries_are_served_with_their_types_and_policies(saved):  # noqa: F811
    with served(saved) as (ask, archive):
        status, headers, body = ask("/?step=1.2")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8") and b"nightly" in body
        assert "script-src 'self';" in headers["Content-Security-Policy"]
        name = next(each for each in archive.names if each.endswith(".png"))
        status, headers, body = ask("/" + name)
        assert (status, headers["Content-Type"], body) == (200, "image/png", png())
        assert headers["Content-Security-Policy"].startswith("sandbox; ")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask("/" + name, "HEAD")[2] == b""
        for asked, sent in (("bytes=10-19", png()[10:20]), ("bytes=10-", png()[10:]), ("bytes=9-99999999", png()[9:])):
            status, headers, body = ask("/" + name, Range=asked)
            assert (status, body) == (206, sent)
        for other in ("bytes=99999999-", "bytes=-5", "x"):
            assert ask("/" + name, Range=other)[::2] == (200, png())


@pytest.mark.parametrize(
    "target", ["/none", "/../../etc/passwd", "/%2e%2e/x", "//etc/passwd", "/MANIFEST.sha256/", "/files/"]
)
async def test_what_the_archive_does_not_have_is_404(saved, target):  # noqa: F811
    with served(saved) as (ask, _):
        assert ask(target)[0] == 404


async def test_names_of_other_sites_that_lead_here_are_refused(saved):  # noqa: F811
    with served(saved) as (ask, _):
        assert ask("/", Host="attacker.example")[0] == 403
        assert ask("/", Host="127.0.0.1")[0] == 403
        assert ask("/", "POST")[0] == 501


async def test_the_command_checks_serves_and_ends_with_a_signal(saved, command, tmp_path):  # noqa: F811
    process = subprocess.Popen([sys.executable, "-m", "server", "open", str(saved)], stdout=subprocess.PIPE, text=True)
    try:
        assert "is whole. Open http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.stdout.close()
    saved.write_bytes(saved.read_bytes()[:-1])
    code, _, error = command("open", str(saved))
    assert code == 1 and "is not a zip, or was cut" in error

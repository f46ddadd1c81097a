"""One rewritten line on a terminal while something is sent, and nothing elsewhere."""

import io
import json
import os
import pty
import subprocess
import sys
import threading

from reportd_client.commands import terminal
from reportd_client.commands.terminal import Progress, say

from tests.server import CLEAN, PATIENCE, wait_until


class Screen(io.StringIO):
    def isatty(self):
        return True


def shown(text):
    """What a terminal shows of this."""
    lines = [""]
    for part in text.replace("\r\n", "\n").replace("\r", "\0\r").replace("\n", "\0\n").split("\0"):
        if part.startswith("\n"):
            lines.append(part[1:])
        elif part.startswith("\r"):
            lines[-1] = part[1:] + lines[-1][len(part) - 1 :]
        else:
            lines[-1] += part
    return [line.rstrip() for line in lines]


def test_a_line_is_rewritten_and_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "21")
    screen = Screen()
    with Progress(stream=screen) as progress:
        progress.show("a line that is longer than the terminal")
        assert shown(screen.getvalue()) == ["a line that is longe"]
        progress.show("short")
        assert shown(screen.getvalue()) == ["short"]
        say("a problem")
        assert shown(screen.getvalue()) == ["reportd-send: a problem", "short"]
        size = len(screen.getvalue())
        progress.show("short")
        assert len(screen.getvalue()) == size
    assert shown(screen.getvalue()) == ["reportd-send: a problem", ""]


def test_nothing_where_there_is_no_terminal(capsys):
    stream, screen = io.StringIO(), Screen()
    for progress in (Progress(stream=stream), Progress(off=True, stream=screen)):
        with progress:
            progress.show("something")
    assert stream.getvalue() == screen.getvalue() == ""
    say("a problem")
    assert capsys.readouterr().err == "reportd-send: a problem\n"


def test_what_has_been_sent_is_counted(tmp_path, monkeypatch):
    """Line by line while the sender writes: half a line is read when it is whole."""
    monkeypatch.setattr(terminal, "_SECONDS", 0.01)
    screen = Screen()
    with Progress(stream=screen) as progress:
        progress.follow(tmp_path, 1200)
        wait_until(lambda: shown(screen.getvalue()) == ["0 of 1,200 tests sent"])
        with (tmp_path / "receipts.jsonl").open("a") as receipts:
            for line in ({"run": "x"}, {"group": 1, "refs": ["a"]}, {"complete": ["a"] * 1000}):
                receipts.write(json.dumps(line) + "\n")
            receipts.write('{"complete": ["b", ')
            receipts.flush()
            wait_until(lambda: shown(screen.getvalue()) == ["1,000 of 1,200 tests sent"])
            receipts.write('"c"]}\n')
            receipts.flush()
            wait_until(lambda: shown(screen.getvalue()) == ["1,002 of 1,200 tests sent"])
    assert shown(screen.getvalue()) == [""]


def test_a_command_on_a_terminal(server, tmp_path):
    """The summary on standard output has nothing of it, and the terminal nothing when it is done."""
    (tmp_path / "result.json").write_text(json.dumps([{"steps": [], "test": {"name": f"{i}"}} for i in range(300)]))
    screen, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from reportd_client.cli import main; main()", str(tmp_path / "result.json")],
        env={**CLEAN, "REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_SPOOL": str(tmp_path / "s")},
        stdout=subprocess.PIPE,
        stderr=far,
    )
    os.close(far)
    seen = []

    def read():
        try:
            while data := os.read(screen, 1000):
                seen.append(data)
        except OSError:  # the end of a terminal
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out = process.communicate(timeout=PATIENCE)[0]
    reader.join()
    os.close(screen)
    text = b"".join(seen).decode()
    assert process.returncode == 0 and out.startswith(b"300 tests, 0 files") and out.count(b"\n") == 1
    assert "200 of 300 tests read" in text and "of 300 tests sent" in text
    assert shown(text) == [""], text

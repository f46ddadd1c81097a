"""The thumbnail process: its limits, and what happens to hostile images, when it dies, is slow or is not needed."""

import asyncio
import io
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from server.thumbs import child, pool
from server.thumbs.pool import NoThumbnail, Pool, is_whole
from tests import makers
from tests.up_server import CHECKOUT, wait_for

RED = (220, 20, 20)


@pytest.fixture
async def one():
    """A pool whose process is ended at the end of the test."""
    made = Pool()
    yield made
    await made.close()


@pytest.fixture
def ask(tmp_path):
    """await ask(pool, bytes): the thumbnail of an image, 320 wide."""

    async def asked(where, data):
        path = tmp_path / "image"
        path.write_bytes(data)
        with path.open("rb") as file:
            return await where.thumbnail(file.fileno(), 320, 1280)

    return asked


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program("…"): what the thumbnail process runs instead; its starts are lines of the returned file."""

    def replace(text):
        path, starts = tmp_path / "program.py", tmp_path / "starts"
        begin = (
            f"import os, socket, time\nprint(os.getpid(), file=open({str(starts)!r}, 'a'))\ns = socket.socket(fileno=0)"
        )
        path.write_text(f"{begin}\n{textwrap.dedent(text)}", "utf-8")
        monkeypatch.setattr(pool, "_PROGRAM", str(path))
        return starts

    return replace


def state(pid):
    """The state of a process in /proc; None when there is none, or only a zombie that nobody reaps."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if found == "Z" else found


def memory():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def without_end(frames):
    """A GIF of many frames that stops in the middle of one."""
    one = makers.gif(64, 64, frames=3)
    return one[:-1] + one[one.index(b"\x21\xf9") : -1] * frames + one[one.index(b"\x21\xf9") : -400]


async def test_hostile_images_get_no_thumbnail_and_cost_the_server_no_memory(one, ask):
    good = makers.png(640, 400)
    assert is_whole(await ask(one, good))
    before = memory()
    hostile = {
        "declared": (makers.blank_png(60_000, 60_000, sent=10), "exceeds limit"),
        "real": (makers.blank_png(7_100, 7_100), "exceeds limit"),
        "cut": (makers.cut(makers.png(640, 400), 100_000), "truncated"),
        "text": (b"hello", "cannot identify"),
    }
    for name, (data, reason) in hostile.items():
        with pytest.raises(NoThumbnail, match=reason):
            await ask(one, data)
        assert is_whole(await ask(one, good)), name
    largest = makers.blank_png(7_000, 7_140, colour=True)  # 49.98 megapixels: 200 MB each time that it is copied
    sizes = [Image.open(io.BytesIO(await ask(one, largest))).size for _ in range(3)]
    assert sizes == [(320, 326)] * 3
    assert Image.open(io.BytesIO(await ask(one, without_end(2_000)))).size == (64, 64)
    assert memory() - before < 4 * 7_000 * 7_140 / 4


async def test_the_process_may_do_little(one, ask, monkeypatch):
    monkeypatch.setenv("REPORTD_DATABASE_DSN", "postgresql://secret@localhost/reportd")
    await ask(one, makers.png())
    pid = one.process.pid
    limits = {
        name: resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"))
        for name in ("AS", "CORE", "FSIZE", "NOFILE", "NPROC")
    }
    most = {"AS": child.MAX_MEMORY, "CORE": 0, "FSIZE": 0, "NOFILE": 16, "NPROC": 0}
    assert limits == {name: (number, number) for name, number in most.items()}
    assert resource.prlimit(pid, resource.RLIMIT_CPU)[0] in (child.MAX_SECONDS, child.MAX_SECONDS + 1)
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {line.partition(b"=")[0] for line in environment} <= {b"", b"PYTHONPATH", b"PYTHONHOME", b"LD_LIBRARY_PATH"}
    opened = {str(each.readlink()).partition(":")[0] for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert opened == {"socket", "/dev/null"}
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)


def test_the_limit_of_processor_time_is_for_each_image():
    """The kernel counts the time of the whole process, so a fixed limit would end it after some hundred images."""
    code = f"""
        import resource, sys
        sys.path.insert(0, {str(CHECKOUT)!r})
        from server.thumbs import child
        child.MAX_SECONDS = 1
        for _ in range(3):
            child._limit_seconds()
            began = child.time.process_time()
            while child.time.process_time() - began < 0.6:
                pass
        print("three images")
        while True:
            pass
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("three images\n", -signal.SIGXCPU), done.stderr


async def test_a_process_that_was_killed_is_replaced(one, ask):
    await ask(one, makers.png())
    first = one.process.pid
    os.kill(first, signal.SIGKILL)
    assert is_whole(await ask(one, makers.png(640, 400)))
    assert one.process.pid != first and state(first) is None


async def test_a_process_that_takes_too_long_is_replaced(ask):
    slow = Pool(seconds=2.0)
    try:
        await ask(slow, makers.png())
        first = slow.process.pid
        os.kill(first, signal.SIGSTOP)
        assert is_whole(await ask(slow, makers.png(640, 400)))
        assert slow.process.pid != first
        await asyncio.to_thread(wait_for, lambda: state(first) is None)
    finally:
        await slow.close()


@pytest.mark.parametrize(("seconds", "is_made"), [(1.5, True), (0.1, False)])
async def test_a_process_that_only_waits_for_a_processor_gets_more_time(ask, program, monkeypatch, seconds, is_made):
    """It is given five times more. Here it computes for 3 s each time."""
    monkeypatch.setattr(pool, "_TIMES_MORE", 1 if not is_made else 500)
    starts, start = [], pool.Process.start  # counted here: the process may be ended before its first line

    async def started():
        starts.append(1)
        return await start()

    monkeypatch.setattr(pool.Process, "start", started)
    program(
        """
        s.recv(4)
        while time.thread_time() < 3: pass
        s.sendall(b"\\1\\0\\0\\0\\14RIFF\\4\\0\\0\\0WEBP")
        time.sleep(60)
        """
    )
    where = Pool(seconds)
    try:
        if is_made:
            assert is_whole(await ask(where, makers.png()))
        else:
            with pytest.raises(NoThumbnail, match="takes too long"):
                await ask(where, makers.png())
        assert len(starts) == 2 - is_made
    finally:
        await where.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("os._exit(1)", 10.0),
        ("s.recv(4); os.kill(os.getpid(), 9)", 10.0),
        ("s.recv(4); time.sleep(60)", 1.0),
        ("s.recv(4); s.sendall(b'\\1\\xff\\xff\\xff\\xff'); time.sleep(60)", 10.0),
        ("s.recv(4); s.sendall(b'\\1\\0\\0\\0\\14<svg>scripts'); time.sleep(60)", 10.0),
        ("s.recv(4); s.sendall(b'\\1\\0\\0\\0\\14RIFF'); s.close()", 10.0),
        ("import no_such_module", 10.0),
    ],
    ids=["exits", "dies", "hangs", "sends too much", "sends no WebP", "stops in the middle", "cannot start"],
)
async def test_one_retry_in_a_fresh_process_and_then_no_thumbnail(ask, program, text, seconds):
    starts, where = program(text), Pool(seconds)
    try:
        with pytest.raises(NoThumbnail, match="has ended, or takes too long"):
            await ask(where, makers.png())
        assert len(starts.read_text("ascii").split()) == 2
        assert where.process is None
        for pid in starts.read_text("ascii").split():
            await asyncio.to_thread(wait_for, lambda pid=pid: state(pid) is None)
    finally:
        await where.close()


async def test_a_program_that_cannot_be_started_is_no_thumbnail(one, ask, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(NoThumbnail, match="FileNotFoundError"):
        await ask(one, makers.png())


async def test_an_idle_process_is_ended_and_started_again(ask):
    where = Pool(idle_seconds=0.2)
    try:
        await ask(where, makers.png())
        first = where.process.pid
        await asyncio.to_thread(wait_for, lambda: state(first) is None)
        assert where.process is None
        assert is_whole(await ask(where, makers.png()))
    finally:
        await where.close()
    assert where.process is None


async def test_after_a_cancelled_request_the_next_gets_its_own_reply(one, ask):
    await ask(one, makers.png())
    asking = asyncio.create_task(ask(one, makers.blank_png(7_000, 7_000, colour=True)))
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    red = io.BytesIO()
    Image.new("RGB", (10, 20), RED).save(red, "PNG")
    assert Image.open(io.BytesIO(await ask(one, red.getvalue()))).size == (10, 20)


async def test_images_are_made_one_after_the_other_by_one_process(one, ask, tmp_path):
    sizes = [(10 + number, 20) for number in range(12)]
    asked = []
    for size in sizes:
        path = tmp_path / f"{size[0]}.png"
        path.write_bytes(makers.png(*size))
        descriptor = os.open(path, os.O_RDONLY)
        asked.append((descriptor, asyncio.create_task(one.thumbnail(descriptor, 320, 1280))))
    found = await asyncio.gather(*(task for _, task in asked))
    for descriptor, _ in asked:
        os.close(descriptor)
    assert [Image.open(io.BytesIO(image)).size for image in found] == sizes


def test_the_process_ends_with_a_server_that_is_killed(tmp_path):
    """Also one that is stopped, or in the middle of an image: it cannot see that its socket was closed."""
    (tmp_path / "image").write_bytes(makers.png())
    code = f"""
        import asyncio, sys, time
        sys.path.insert(0, {str(CHECKOUT)!r})
        from server.thumbs.pool import Pool
        async def main():
            pool = Pool()
            with open({str(tmp_path / "image")!r}, "rb") as file:
                await pool.thumbnail(file.fileno(), 320, 1280)
            print(pool.process.pid, flush=True)
            time.sleep(60)
        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
        try:
            os.kill(pid, signal.SIGSTOP)
            server.kill()
            server.wait(60)
            wait_for(lambda: state(pid) is None)
        finally:
            if state(pid) is not None:
                os.kill(pid, signal.SIGKILL)


def test_a_server_does_not_load_pillow():
    code = "import sys, server.app; sys.exit(any(name.partition('.')[0] == 'PIL' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, timeout=120).returncode == 0

"""The private attributes of aiohttp that the server uses, and the version that setup.py pins for them."""

import inspect
import re
from pathlib import Path

import aiohttp
from aiohttp import GunicornWebWorker, http_writer, web

from server.commands.workers import Worker
from server.http import files, protocol

# Subclass, its base class in aiohttp, and the private names of the base that the subclass reads, sets or overrides. A
# file's reply takes its head from aiohttp's writer.
USED = {
    (protocol.Connection, web.RequestHandler): {
        "_messages",
        "_current_request",
        "_force_close",
        "_loop",
        "_waiter",
        "_next_keepalive_close_time",
    },
    (protocol._Server, web.Server): {"_loop", "_kwargs"},
    (protocol.Runner, web.AppRunner): {"_make_server"},
    (Worker, GunicornWebWorker): {"_run"},
    (files._File, web.StreamResponse): {"_send_headers_immediately"},
    (files._File, http_writer.StreamWriter): {"_headers_buf", "_headers_written"},
}


def private_names(kind):
    """The private names that a class of aiohttp defines, or sets on `self`."""
    found = set(re.findall(r"\bself\.(_[a-z]\w*)", inspect.getsource(kind)))
    return found | {name for name in vars(kind) if re.match("_[a-z]", name)} | set(getattr(kind, "__slots__", ()))


def test_the_private_names_that_are_used_are_those_listed_and_exist():
    for (ours, base), used in USED.items():
        names = private_names(base)
        assert used <= names, f"aiohttp {aiohttp.__version__} has no {used - names} in {base.__name__}"
        mentioned = set(re.findall(r"(?m)(?:\.|def |^    )(_[a-z]\w*)", inspect.getsource(ours)))
        assert mentioned & names == used, ours.__name__


def test_no_other_file_subclasses_aiohttp_or_reads_its_private_names():
    all_files = sorted((Path(protocol.__file__).parent.parent).rglob("*.py"))
    assert len(all_files) > 50
    subclasses = {
        path.name for path in all_files if re.search(r"\bclass \w+\((web\.|Gunicorn)", path.read_text("utf-8"))
    }
    assert subclasses == {"protocol.py", "workers.py", "reply.py", "files.py"}
    private = r"\b(request|response|reply|runner|transport|site|app|stream|content)\._[a-z]"
    assert [path.name for path in all_files if re.search(private, path.read_text("utf-8"))] == []


def test_aiohttp_is_pinned_below_the_next_minor_version():
    text = (Path(protocol.__file__).parents[2] / "setup.py").read_text("utf-8")
    lowest, next_minor = re.findall(r'"aiohttp>=3\.(\d+)[\d.]*,<3\.(\d+)"', text)[0]
    assert int(next_minor) == int(lowest) + 1
    assert aiohttp.__version__.startswith(f"3.{lowest}.")

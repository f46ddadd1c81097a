"""`reportd check --folder`: tries whether a file system keeps the promises that reportd relies on.

Needs no database and touches nothing but a subfolder of its own. With `--other`, a second mount of the same folder, it
also tries what one host sees of another's files.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar
from uuid import uuid4

from server.commands.check.context import CheckFailed
from server.commands.check.promises import OF_ONE_MOUNT, OF_TWO_MOUNTS, Promise
from server.commands.check.trial import Broken, Calls, Trial
from server.storage.threads import in_thread

# Longer than a distributed file system needs to give up a host that is gone.
_ANSWER_SECONDS = 120.0

R = TypeVar("R")
State = Literal["kept", "broken", "unusable"]


@dataclass(frozen=True, slots=True)
class Result:
    """Of one promise. `found`: what was measured, or what is wrong. `then`: what reportd does without it."""

    promise: str
    state: State
    found: str | None
    then: str | None


def check_folder(options: argparse.Namespace) -> int:
    """Try the folder that the options of `reportd check` name, see print_results(). Raises CheckFailed."""
    if options.folder is None:
        raise CheckFailed("--other is the second mount of a folder: name the folder itself with --folder.")
    if options.repair or options.verify_hashes:
        raise CheckFailed("--folder compares nothing: use it without --repair and --verify-hashes.")
    return print_results(options.folder, options.other, options.json)


def print_results(folder: Path, other: Path | None, as_json: bool, calls: type[Calls] = Calls) -> int:
    """Try a folder and print the results; the exit code: 0 usable, 1 not. Raises CheckFailed when that fails."""
    results = []
    for result in _results(folder, other, calls):
        results.append(result)
        print(json.dumps(asdict(result)) if as_json else _line(result), flush=True)
    broken = sum(result.state == "broken" for result in results)
    unusable = sum(result.state == "unusable" for result in results)
    if as_json:
        print(json.dumps({"kept": len(results) - broken - unusable, "broken": broken, "unusable": unusable}))
    elif unusable:
        print(f"{folder} cannot be used: {unusable} of {len(results)} promises that reportd needs are broken.")
    else:
        print(f"{folder} can be used. {len(results) - broken} of {len(results)} promises are kept.")
    return 1 if unusable else 0


def _results(folder: Path, other: Path | None, calls: type[Calls]) -> Iterator[Result]:
    if other is not None and not other.is_dir():
        raise CheckFailed(f"There is no folder {other}.")
    name = f".check-{uuid4().hex}"  # reportd skips names that begin with a dot
    here = folder.absolute() / name
    _answered(lambda: _make(here), folder)
    try:
        trial = Trial(str(here), str(other.absolute() / name) if other else None, calls)
        for promise in (*OF_ONE_MOUNT, *(OF_TWO_MOUNTS if other else ())):
            result = _answered(partial(_tried, promise, trial), folder)
            yield result
            if promise is OF_TWO_MOUNTS[0] and result.state == "unusable":
                return  # it is not the same folder: nothing more can be tried
    finally:
        _answered(lambda: shutil.rmtree(here, ignore_errors=True), folder)


def _make(here: Path) -> None:
    try:
        here.mkdir(mode=0o700)
    except OSError as error:
        raise CheckFailed(f"Cannot create a folder in {here.parent}: {error.strerror}.") from error


def _tried(promise: Promise, trial: Trial) -> Result:
    try:
        return Result(promise.text, "kept", promise.test(trial), None)
    except Broken as error:
        found = str(error)
    except OSError as error:
        found = error.strerror or str(error)
    return Result(promise.text, "unusable" if promise.is_needed else "broken", found, promise.without)


def _answered(work: Callable[[], R], folder: Path) -> R:
    """`work()`, in a thread that does not keep the command from ending. Raises CheckFailed when the disk stalls."""
    try:
        return in_thread(work).result(_ANSWER_SECONDS)
    except TimeoutError:
        raise CheckFailed(f"{folder} does not answer within {_ANSWER_SECONDS:g} seconds.") from None


def _line(result: Result) -> str:
    found = f": {result.found}" if result.found else ""
    if result.state == "kept":
        return f"kept      {result.promise}{found}"
    return f"{result.state:8}  {result.promise}{found}\n          {result.then}"

"""Plays a test of the story: the result, its steps, pictures, checkpoints and logs, as the API takes them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from server.commands.demo import logs, story
from server.commands.demo.acts import Act, Test
from server.commands.demo.faults import Fault
from server.commands.demo.result import Picture, Result, time
from server.commands.demo.scene import Scene
from server.commands.demo.story import Run

NAMED_ONLY = (6, 8)  # steps of the newest FEATURED whose screenshots are named and never sent
NOT_SENT_STEPS = (3, 4)  # steps of the newest "searches “lamp”" that never came
BACKWARDS = 9  # the step of the newest "pays by invoice" that ends before it starts
PASSED_PICTURES = 6


def results(run: Run) -> tuple[list[Result], datetime]:
    """The results of a run, shard by shard, and when its last shard has ended."""
    clocks, made = [run.started_at] * 3, []
    quiet = story.quiet_tests(run)
    for position, test in enumerate(story.tests_of(run)):
        if test.name in quiet:
            made.append(Result(test, _fields(run, test, 1, "Pending")))
            continue
        shard = story.shard_of(test, position)
        for attempt, fault in enumerate(story.attempts(run, test), 1):
            result, clocks[shard] = play(run, test, attempt, fault, clocks[shard])
            made.append(result)
    return made, max(clocks)


def play(run: Run, test: Test, attempt: int, fault: Fault | None, at: datetime) -> tuple[Result, datetime]:
    """The result of one attempt that starts at `at`, and when it has ended."""
    rng = Random(f"{run.seed} {run.number} {test.id} {attempt}")  # noqa: S311 - a story, not a secret
    result = Result(test, _fields(run, test, attempt, "Failed" if fault else "Passed"))
    result.featured = run.newest and test.name == story.FEATURED
    end = at
    for iteration in range(1, test.iterations + 1):
        end = _iterate(run, result, iteration, fault, end, rng)
    result.fields |= {"started_at": time(at), "completed_at": time(end), "duration_ms": _ms(end - at)}
    if fault:
        result.fields |= {"error_message": fault.message, "error_type": fault.error_type, "stack_trace": fault.stack}
    _leave_out(run, result)
    if illustrated(run, test, fault):
        logs.add(result, run, fault)
    else:
        result.pictures, result.checkpoints = [], []
    for step in result.steps:
        step["screenshot_path"] = next((p.file_name for p in reversed(result.pictures) if _shows(p, step)), None)
    return result, end + timedelta(milliseconds=rng.randrange(80, 400))


def illustrated(run: Run, test: Test, fault: Fault | None) -> bool:
    """Whether a result has pictures and logs: each failure, its neighbours in time, and the newest days."""
    if run.project == "back-office":
        return fault is not None
    about = {story.RENAMED - 1, story.TIMED_OUT - 1, story.ROUNDED - 1, story.COOKIES - 1}
    of_a_failure = test.tags[0] == "pay" or test.name in (story.AMOUNTS, "subscribes to the newsletter")
    return fault is not None or run.day >= story.LAST_DAY - 2 or (run.day in about and of_a_failure)


def _shows(picture: Picture, step: dict[str, Any]) -> bool:
    same = picture.step == step["step_number"] and picture.iteration == step["iteration_number"]
    return same and picture.category in ("after", "error")


def _fields(run: Run, test: Test, attempt: int, status: str) -> dict[str, Any]:
    fields = {"name": test.name, "test_id": test.id, "status": status, "attempt": attempt, "tags": list(test.tags)}
    owner = {"pay": "team checkout", "basket": "team checkout", "search": "team discovery"}.get(
        test.tags[0], "team home"
    )
    return {**fields, "browser": test.browser or None, "metadata": {"owner": owner, "build": 4600 + run.number}}


def _iterate(run: Run, result: Result, iteration: int, fault: Fault | None, at: datetime, rng: Random) -> datetime:
    """Play the acts once; returns when they have ended."""
    broken, before = False, None
    mine = fault if fault and fault.iteration == iteration else None
    for number, act in enumerate(_acts(result.test, iteration), 1):
        if broken:
            result.steps.append(_step(act, number, iteration, "Pending"))
            continue
        fails = mine is not None and bool(act.tag) and act.tag in (mine.tag, *mine.soft)
        usual = story.load_ms(run, result.test) if act.tag == "load" else act.ms
        ms = mine.ms if mine and fails and mine.ms else round(usual * rng.uniform(0.88, 1.18))
        step = _step(act, number, iteration, "Failed" if fails else "Passed")
        end = at + timedelta(milliseconds=ms)
        step |= {"duration_ms": ms, "started_at": time(at), "completed_at": time(end)}
        result.steps.append(step)
        if mine and fails:
            step |= _error(act, mine)
            broken = not mine.soft
        result.pictures += _pictures(number, iteration, act, before, mine if fails else None, end)
        result.checkpoints += _checkpoint(result, step, act, end)
        before, at = act.scene or before, end + timedelta(milliseconds=rng.randrange(4, 40))
    return at


def _error(act: Act, fault: Fault) -> dict[str, Any]:
    if act.tag == fault.tag:
        told, actual = fault.message, fault.actual
    else:  # a soft failure after the first one
        told, actual = f"Error: expected “{act.expected}”, got nothing", ""
    return {"error_message": told, "error_type": fault.error_type, "actual_value": actual, "stack_trace": fault.stack}


def _acts(test: Test, iteration: int) -> Iterator[Act]:
    """The acts of an iteration: of several, each has its own amount."""
    if test.iterations == 1:
        yield from test.acts
        return
    amount = test.values[iteration - 1]
    for act in test.acts:
        scene = act.scene
        if scene is not None and scene.given[0] == "3" and iteration != 3:
            scene = scene._replace(given=("3", round(float(amount) * 100), *scene.given[2:]))
        told = {
            "value": amount if act.kind == "type" else "",
            "expected": amount if act.tag == "total" else act.expected,
        }
        yield Act(**{**vars(act), **told, "scene": scene})


def _step(act: Act, number: int, iteration: int, status: str) -> dict[str, Any]:
    step: dict[str, Any] = {
        "step_number": number,
        "iteration_number": iteration,
        "step_type": act.kind,
        "status": status,
    }
    step |= {"action": act.words[:100], "element_selector": act.selector, "element_name": act.element}
    step |= {"element_type": act.role, "input_value": act.value, "expected_value": act.expected}
    if act.expected and status == "Passed":
        step["actual_value"] = act.expected
    return {name: value for name, value in step.items() if value != ""}


def _pictures(
    number: int, iteration: int, act: Act, before: Scene | None, fault: Fault | None, at: datetime
) -> Iterator[Picture]:
    stem = f"step_{number:03d}" if iteration == 1 else f"iteration_{iteration}_step_{number:03d}"
    if fault is None:
        if act.scene is not None:
            yield Picture(f"{stem}.png", "after", number, iteration, act.scene, at)
            if act.tag == "total":
                yield Picture(f"{stem}_checkpoint.png", "checkpoint", number, iteration, act.scene, at)
        return
    if before is not None:
        yield Picture(f"{stem}_before.png", "before", number, iteration, before, at)
    shown = fault.shown(act.scene if act.scene is not None and act.kind == "assert" else before)
    if shown is not None:
        yield Picture(f"{stem}_error.png", "error", number, iteration, shown, at)


def _checkpoint(result: Result, step: dict[str, Any], act: Act, at: datetime) -> Iterator[dict[str, Any]]:
    if act.tag not in ("total", "count", "state", "items"):
        return
    yield {
        "checkpoint_number": step["step_number"],
        "name": act.words,
        "checkpoint_type": "value",
        "status": step["status"],
        "expected_value": act.expected,
        "actual_value": step.get("actual_value"),
        "message": step.get("error_message"),
        "step_number": step["step_number"],
        "iteration_number": step["iteration_number"],
        "captured_at": time(at),
    }


def _leave_out(run: Run, result: Result) -> None:
    """What the newest run's results lack, so that pages have something missing to show."""
    if not result.failed and len(result.steps) < 100:
        chosen = [p for p in result.pictures if p.category == "after"][-PASSED_PICTURES:]
        result.pictures = [p for p in result.pictures if p in chosen or p.category == "checkpoint"]
    if not run.newest:
        return
    name = result.test.name
    if result.featured:
        result.pictures = [replace(p, sent=p.step not in NAMED_ONLY) for p in result.pictures]
    if name == "returns an order":
        result.pictures = [replace(p, lost=p.category == "before") for p in result.pictures]
    if name == "searches “lamp”":
        result.steps = [step for step in result.steps if step["step_number"] not in NOT_SENT_STEPS]
        result.pictures = [p for p in result.pictures if p.step not in NOT_SENT_STEPS]
    if name == "pays by invoice":
        step = result.steps[BACKWARDS - 1]
        step["completed_at"] = time(datetime.fromisoformat(step["started_at"]) - timedelta(milliseconds=40))


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)

"""What webhooks send: an event as the JSON of the Standard Webhooks specification, or as a text for a chat."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from server.hooks import WebhookConfig

TEST = "webhook.test"
_LONGEST = 200  # characters of a name in a chat
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `project` None: to the whole server. `text` is what a chat shows, see code() below.

    `last_result_id`: of tests.newly_failing, the newest result of the run.
    """

    type: str
    data: Mapping[str, Any]
    text: str
    project: str | None = None
    project_id: UUID | None = None
    run_id: UUID | None = None
    last_result_id: UUID | None = None
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))


def wanting(hooks: Iterable[WebhookConfig], event: str, project: str | None) -> list[WebhookConfig]:
    """The webhooks that are sent this event of a project."""
    return [hook for hook in hooks if event in hook.events and hook.project in ("", project)]


def ping(name: str) -> Event:
    """The event that shows whether a webhook works."""
    text = f"This is a test of the webhook {code(name)} of reportd."
    return Event(TEST, {"webhook": name, "message": "This is a test."}, text)


def body(event: Event, hook: WebhookConfig) -> str:
    """The body of the request, in the webhook's format."""
    if hook.format == "chat":
        return orjson.dumps({"text": event.text}).decode()
    values = {"type": event.type, "timestamp": event.moment, "data": event.data}
    return orjson.dumps(values, default=str, option=_OPTIONS).decode()  # str: UUIDs of asyncpg


def code(text: str, most: int = _LONGEST) -> str:
    """A client's text as code in a chat: there it is no link and mentions nobody.

    Slack also reads `<!channel>` in code. Control characters and marks of text direction become spaces.
    """
    line = cut(" ".join("".join(each if each.isprintable() else " " for each in text).split()), most)
    safe = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
    return f"`{safe}`"


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def lines(*parts: str | None) -> str:
    """The parts that there are, each on its line."""
    return "\n".join(part for part in parts if part)


def listed(items: Sequence[str], more: int) -> str:
    """Items of a list, and how many more there are."""
    shown = [f"• {item}" for item in items]
    return "\n".join([*shown, f"… and {more} more"] if more > 0 else shown)

"""Administration: webhooks, their last answers, and a test."""

from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.errors import NotYours
from server.http import admin, html
from server.http.admin import administered, change
from server.http.reply import Response
from server.reports import overview, webhooks
from server.services import SERVICES
from server.viewer import render

PATH = "/admin/webhooks"
_LISTED = 10  # deliveries of each webhook


class DoneQuery(Struct):
    """The query of the page. `done`: what was just done."""

    done: Annotated[str, Meta(max_length=30)] | None = None


class WebhookForm(Struct):
    """`id`: of a delivery; without it, all that wait for the webhook are tried again."""

    action: Literal["test", "retry"]
    name: Annotated[str, Meta(max_length=300)]
    id: UUID | None = None


async def index(request: web.Request, query: DoneQuery) -> Response:
    """The webhooks of the configuration, each with its newest deliveries."""
    _check_everywhere(request)
    services = request.app[SERVICES]
    hooks = services.config.webhooks
    names = [hook.name for hook in hooks]
    async with services.pool.acquire() as connection:
        waiting = await webhooks.waiting(connection, names)
        deliveries = await webhooks.latest(connection, names, _LISTED)
        projects = await overview.projects(connection, None)
    draw = partial(
        render.page,
        "admin_webhooks.html",
        hooks=hooks,
        waiting=waiting,
        deliveries={name: [each for each in deliveries if each.webhook == name] for name in names},
        projects=projects,
        query=query,
    )
    return await admin.page(request, draw, rows=len(deliveries))


async def update(request: web.Request, form: WebhookForm) -> Response:
    """Adds a test event, or makes deliveries due now."""
    hook = next((hook for hook in request.app[SERVICES].config.webhooks if hook.name == form.name), None)
    async with change(request) as connection:
        _check_everywhere(request)
        hook = admin.shown(hook)
        if form.action == "test":
            await webhooks.test(connection, hook)
        else:
            await webhooks.try_again(connection, hook, form.id)
    return html.see_other(f"{PATH}?done={form.action}")


def _check_everywhere(request: web.Request) -> None:
    """Webhooks are those of the whole server. Raises NotYours."""
    if administered(request) is not None:
        raise NotYours("Webhooks concern the whole server. An admin of all projects sees them.")

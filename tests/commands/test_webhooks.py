"""The commands that list webhooks and send a test."""

import asyncio

import pytest

from tests.webhooks.conftest import SECRET, make_target, target

__all__ = ["make_target", "target"]  # fixtures


@pytest.fixture
def written(tmp_path):
    """written(text): a configuration file with this text."""

    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return str(path)

    return write


def table(url, **keys):
    keys = {"secret": SECRET, **keys}
    return f'[[webhooks]]\nurl = "{url}"\nallow = ["127.0.0.1"]\n' + "".join(f'{k} = "{v}"\n' for k, v in keys.items())


async def test_a_test_is_sent_at_once_and_its_answer_printed(command, written, target):
    file = written(table(target.url, name="good") + table("https://127.0.0.1:1/secret", name="away"))
    code, output, errors = await asyncio.to_thread(command, "webhook", "test", "good", "--config", file)
    assert (code, output.strip(), errors) == (0, "good: 204", "")
    assert target.bodies[0]["type"] == "webhook.test" and "webhook-signature" in target.requests[0][0]
    code, output, errors = await asyncio.to_thread(command, "webhook", "test", "--config", file)
    assert code == 1 and output.splitlines()[0].strip() == "good: 204" and "not delivered" in errors
    assert output.splitlines()[1].startswith("away: no reply Cannot connect") and "secret" not in output


def test_an_unknown_webhook_and_a_configuration_without_are_refused(command, written):
    code, _, errors = command("webhook", "test", "x", "--config", written(table("https://a.example/")))
    assert (code, errors) == (1, "reportd: No webhook has the name x. There are: a.example.\n")
    for word in ("test", "list"):
        code, _, errors = command("webhook", word)
        assert code == 1 and "has no [[webhooks]]" in errors


def test_the_list_shows_what_waits_and_the_last_answer(command, written, rows):
    file = written(table("https://a.example/secret", project="shop") + table("https://b.example/", format="chat"))
    add = "INSERT INTO webhook_deliveries (id, webhook, event, body, attempts, attempted_at, status, answer) VALUES"
    rows(f"{add} (gen_random_uuid(), 'a.example', 'run.finished', '', 2, '2026-01-24 12:00Z', 500, %s)", "no\x1b[2J")
    code, output, errors = command("webhook", "list", "--config", file)
    assert (code, errors) == (0, "") and "secret" not in output and SECRET not in output
    assert output.splitlines() == [
        "a.example: https://a.example, standard, shop (no such project yet)",
        "  run.finished, tests.newly_failing; 1 waiting",
        "  last: run.finished, waiting, 2026-01-24 12:00: 500 no\\x1b[2J",
        "b.example: https://b.example, chat, all projects",
        "  run.finished, tests.newly_failing, disk.low; 0 waiting",
    ]

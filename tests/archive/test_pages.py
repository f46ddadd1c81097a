"""The pages of an archive: every step and test is in them, and every address leads to a file of the archive."""

import posixpath
import re
from html import unescape

import pytest

from server.archive import pages
from server.archive.addresses import Places
from server.reports import results, run_pages
from server.reports.panels import At
from tests.api.test_archives import archive_of, full_run  # noqa: F401
from tests.api.test_bundles import RUNS, a_step

CASES = "/api/v1/reports/test-case-results"


def texts(archive):
    return {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".html")}


def check_addresses(archive):
    """Every address in a page is a file of the archive, or leads to a place in its own page."""
    found = 0
    for name, text in texts(archive).items():
        for address in re.findall(r'(?:href|src|data-worker|data-pixelmatch)="([^"]*)"', text):
            path = re.split("[?#]", unescape(address))[0]
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            assert address and target in archive.namelist(), (name, address)
            found += 1
    return found


async def test_every_address_leads_to_a_file_of_the_archive(client, full_run):  # noqa: F811
    archive = await archive_of(client, full_run)
    assert check_addresses(archive) > 100
    assert {"index.html", "tests-flaky-1.html", "tests-passed-1.html"} <= set(archive.namelist())
    assert {f"static/{name}" for name in ("pixelmatch", "difference_worker")} <= {
        name.partition(".")[0] for name in archive.namelist()
    }
    assert any(name.endswith(".js.LICENSE.txt") for name in archive.namelist())


async def test_a_result_of_many_steps_has_several_pages(client, make_case, monkeypatch, rows):
    for module in (results, pages):
        monkeypatch.setattr(module, "ROWS", 3)
    places = [(1, n) for n in range(1, 8)] + [(2, 1), (2, 2)]
    steps = [a_step(n, iteration_number=i, step_type="ui", description=f"<{n}>") for i, n in places]
    steps[4] |= {"status": "Failed", "error_message": "no"}
    case = await make_case(status="Failed")
    reply = await client.post(f"{CASES}/{case}/steps", json={"steps": steps})
    assert reply.status == 201, await reply.text()
    archive = await archive_of(client, rows("SELECT suite_run_id FROM test_case_results")[0]["suite_run_id"])
    found = {name: re.findall(r'<template data-step="([\d.]+)">', text) for name, text in texts(archive).items()}
    assert {name: steps for name, steps in found.items() if steps} == {
        f"results/{case}.html": ["1.4", "1.5", "1.6"],
        f"results/{case}-1.html": ["1.1", "1.2", "1.3"],
        f"results/{case}-1-3.html": ["1.7"],
        f"results/{case}-2.html": ["2.1", "2.2"],
    }
    check_addresses(archive)
    assert f'href="../results/{case}-2.html?step=2.' in texts(archive)[f"results/{case}.html"]


async def test_all_tests_are_listed_in_pages(client, make_run, monkeypatch):
    monkeypatch.setattr(run_pages, "TESTS", 4)
    run = await make_run(status="Passed")
    cases = [{"name": f"test {n:02}", "status": "Failed" if n < 5 else "Passed"} for n in range(14)]
    await client.post(f"{RUNS}/{run}/test-cases/bulk", json={"test_cases": cases})
    archive = await archive_of(client, run)
    listed = [name for name in archive.namelist() if name.startswith("tests-")]
    assert listed == [f"tests-{state}.html" for state in ("failed-1", "failed-2", "passed-1", "passed-2", "passed-3")]
    every = {name for page in listed for name in re.findall(r"test \d\d", texts(archive)[page])}
    assert every == {each["name"] for each in cases}
    check_addresses(archive)


async def test_a_file_that_is_gone_is_said_in_the_page(client, full_run, storage, rows):  # noqa: F811
    for row in rows("SELECT storage_path FROM test_artifacts WHERE mime_type = 'image/png'"):
        (storage / row["storage_path"]).unlink()
    archive = await archive_of(client, full_run)
    case = rows("SELECT test_case_result_id AS id FROM test_artifacts")[0]["id"]
    assert "the stored file is missing (sha256 " in texts(archive)[f"results/{case}-1.html"]
    assert "the stored file is missing" in texts(archive)[f"results/{case}.html"]  # in the list of files
    check_addresses(archive)


@pytest.mark.parametrize("at,name", [("1.1", "-1"), ("1.5", ""), ("1.99", "-1-3"), ("2.7", "-2"), ("9.1", "-2")])
def test_a_step_has_one_page(at, name):
    starts = [At(1, 1), At(1, 4), At(1, 7), At(2, 1)]
    places = Places("x", starts, At(1, 6))
    assert places.name(At.parse(at)) == f"results/x{name}.html"
    assert Places("x", [], None).name(At(1, 1)) == "results/x.html"

"""The benchmark: its request bodies are valid, its verdicts are right, and one row runs from end to end."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart, loop, missing, pages, plans, readme, results, volume
from bench.bodies import Attachment, Bundle, Picture, Prepared, Steps, Upload
from bench.load import Load
from bench.measure import measure
from bench.processes import BenchError, Server, cpu_seconds, folder
from bench.results import POSTGRES, WHOLE, Point, Row
from bench.servers import Database
from server.routes import PAGES, ROUTES
from server.uploads.content import Inspector
from tests.http.test_event_loop import line

ROOT = Path(__file__).parent.parent
ONE = (1.0, 0.0)


@pytest.mark.parametrize("size", [2_000, 200_000, 2_000_000, 10_000_000])
def test_pictures_are_valid_and_have_about_the_requested_size(size):
    file = Picture(size).file(serial=7)
    inspector = Inspector("step_001.png", "image/png")
    inspector.feed(file)
    verdict = inspector.finish()
    assert verdict.mime_type == "image/png" and not verdict.corrupted
    assert 0.85 * size < len(file) < 1.05 * size


@pytest.mark.parametrize(
    "body", [Upload(10, 2_000), Upload(1, 2_000, True), Bundle(5, 2_000, 10), Attachment(2, 2_000)]
)
def test_a_body_holds_its_files_and_every_file_is_different(body):
    seen = set()
    for serial in range(5):
        sent, files = b"".join(body.pieces(serial, step=3)), body.files(serial)
        assert all(b"\r\n\r\n" + file + b"\r\n--" in sent for file in files)
        seen.update(files)
    assert len(seen) == 5 * len(files)


def test_a_bundle_is_one_whole_test_with_a_ref_of_its_own():
    body, tests = Bundle(5, 2_000, steps=10), []
    for serial in (1, 2):
        ((test,),) = json.loads(body.pieces(serial, 0)[0].partition(b"\r\n\r\n")[2]).values()
        assert (len(test["steps"]), [each["file_index"] for each in test["artifacts"]]) == (10, list(range(5)))
        tests.append(test)
    assert tests[0]["client_ref"] != tests[1]["client_ref"]


def test_prepared_bodies_belong_to_the_paths():
    body = Prepared(['{"a": 1}', '{"a": 2}'])
    assert [body.pieces(serial=7, step=3, path=path) for path in (0, 1)] == [[b'{"a": 1}'], [b'{"a": 2}']]


def test_a_body_of_steps_is_json():
    steps = json.loads(b"".join(Steps(50).pieces(0, 0)))["steps"]
    assert [step["step_number"] for step in steps] == list(range(50))


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "ratio", "met"),
    [
        (Row("a", "", "s", "floor", 1.5), [3, 2, 90], [2, 2, 2], 1.5, True),
        (Row("a", "", "s", "floor", 1.5), [3.1], [2], 1.55, False),
        (Row("a", "", "s", "peer", 2, at_most=False, inverted=True), [2], [4], 2, True),
        (Row("a", "", "s", "peer", 2, at_most=False, inverted=True), [2], [3], 1.5, False),
        (Row("a", "", "MiB", "", 16), [12], [], 12, True),
        (Row("a", "", "s", "floor"), [1], [2], 0.5, None),
        (Row("a", "", "s", "peer", 2), [1], [], None, None),
        (Row("a", "", "s", "peer", 2), [], [], None, None),
    ],
)
def test_the_verdict_of_a_row_is_the_ratio_of_the_medians(row, ours, theirs, ratio, met):
    row.fill([(value, 0.5) for value in ours], [(value, 0.0) for value in theirs])
    assert (row.ratio, row.met) == (pytest.approx(ratio) if ratio else None, met)


@pytest.mark.parametrize(
    ("part", "ratio", "ours", "theirs"),
    [
        ("server", 1.5, "3 (+2) CPU ms", "bare 2 (+0.5)"),
        (POSTGRES, 4, "2 CPU ms", "bare 0.5"),
        (WHOLE, 2, "3 + 2 CPU ms", "bare 2 + 0.5"),
    ],
)
def test_a_row_compares_servers_or_postgresql_or_both(part, ratio, ours, theirs):
    row = Row("a", "artifact", "CPU ms", "bare", part=part).fill([(3, 2), (1, 9), (4, 1)], [(2, 0.5)])
    assert row.ratio == pytest.approx(ratio) and results.cells(row)[1:3] == (ours, theirs)


def test_the_table_shows_verdicts_and_missing_measurements():
    good = Row("a", "batch", "CPU s/GB", "floor", 1.5).fill([(2.0, 0.25)], [ONE])
    gone = Row("a", "download", "CPU ms", "nginx", 4, missing="nginx is not installed")
    assert results.cells(good) == ("batch", "2 (+0.25) CPU s/GB", "floor 1", "2.00", "≤ 1.5", "missed")
    assert results.cells(gone) == ("download", "", "nginx: nginx is not installed", "", "≤ 4", "not measured")
    lines = results.table(results.HEAD, [results.cells(good), results.cells(gone)]).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4


def test_results_are_saved_as_json_and_drawn_as_svg(tmp_path):
    found = results.new(quick=True)
    found.rows = [
        Row("batch", "batch of 10 × 200 KB", "CPU s/GB", "floor", 1.5).fill([(2.0, 0.25)], [ONE]),
        Row("batch", "peer's & ours", "CPU s/GB", "<peer>", 2, False, True).fill([(2.0, 0.25)], [(5.0, 0.5)]),
        Row("small", "not measured", "CPU ms", "bare handler", 1.8, missing="not there"),
    ]
    found.growth = [Point("connections", "4", 500.0), Point("connections", "16", missing="not there")]
    found.save(tmp_path / "kept" / "results.json")
    kept = json.loads((tmp_path / "kept" / "results.json").read_text("utf-8"))
    assert [(row["ours"], row["ratio"], row["met"]) for row in kept["rows"]] == [
        ([2.0], 2.0, False),
        ([2.0], 2.5, True),
        ([], None, None),
    ]
    assert kept["machine"]["cores"] and kept["commit"] and kept["date"] and len(kept["growth"]) == 2
    drawing = ElementTree.fromstring(chart.draw(kept["rows"]))
    shown = [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert shown[:-1] == ["Batch of 10 × 200 KB: CPU s/GB", "reportd", "2.25", "floor", "1", "<peer>", "5.5"]
    assert "not there" in results.report(found)


def test_the_readme_has_the_latest_results_and_a_word_on_each_missed_goal():
    found = json.loads((ROOT / "bench" / "results" / "latest.json").read_text("utf-8"))
    text = readme.README.read_text("utf-8")
    assert readme.with_results(text, found) == text, "run `python -m bench.readme`"
    said = text.partition("## What keeps a figure from its goal")[2]
    assert not [row["name"] for row in found["rows"] if row["met"] is False and f"- `{row['name']}`" not in said]


def test_the_longest_piece_of_work_is_the_shortest_of_its_attempts():
    printed = [(0.0250, 1.3, "steps put", "<Handle a: b>"), (0.0125, 0.8, "steps put", "<Handle>")]
    printed += [(0.0031, 1.0, "large steps (*/*)", "<Handle>"), (0.0012, 1.4, "", "<Handle>")]
    output = ".".join(line(*each) for each in printed)
    assert loop.longest_of(output) == {"steps put": 12.5, "large steps (*/*)": 3.1, "": 1.2}


def test_an_unexpected_reply_aborts_a_measurement():
    class Refusing(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(409)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"taken")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = Server("a server", server.server_port, [os.getpid()])
        with pytest.raises(BenchError, match=r"5 × steps to a server failed(.|\n)*status 409(.|\n)*taken"):
            measure(target, Load(target.port, "steps", ["/steps"], 5, connections=1, steps=10))
        server.shutdown()


def test_the_cpu_time_of_ended_child_processes_is_counted():
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert cpu_seconds(os.getpid()) - before >= 0.05


def test_the_temporary_folder_is_removed_after_an_exception():
    with pytest.raises(KeyError), folder(1) as path:
        (path / "file").write_bytes(b"x")
        raise KeyError
    assert not path.exists()


def test_some_rows_run_from_end_to_end(tmp_path):
    output = tmp_path / "results.json"
    names = ["steps-50", "bundle", "whole-test", "second-run"]
    command = [sys.executable, "-m", "bench", "--quick", "--only", *names, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text("utf-8"))["rows"]
    assert list(dict.fromkeys(row["name"] for row in rows)) == names
    for row in rows:
        if "peer" not in row["compared"] or not row["missing"]:  # what the peer is made of may not be installed
            assert row["ours"][0] > 0 and row["theirs"][0] > 0 and not row["missing"], row
    assert "50 steps in one POST" in done.stdout and "asyncpg alone" in done.stdout


def test_statements_and_their_values_are_read_from_the_log(tmp_path):
    """In the format of PostgreSQL 18, and with `parameters` as PostgreSQL 15 writes it."""
    log = tmp_path / "postgres.log"
    log.write_text(
        "2026-11-30 01:30:55.700 UTC [7] LOG:  duration: 0.1 ms  bind a: SELECT $1\n"
        "2026-11-30 01:30:55.700 UTC [7] DETAIL:  Parameters: $1 = 'it''s'\n"
        "2026-11-30 01:30:55.701 UTC [7] LOG:  duration: 1.5 ms  execute a: -- Says why.\n\tSELECT $1,\n\t  $2\n"
        "2026-11-30 01:30:55.701 UTC [8] LOG:  duration: 0.1 ms  statement: BEGIN;\n"
        "2026-11-30 01:30:55.701 UTC [7] DETAIL:  parameters: $1 = 'it''s $2 = ''x''', $2 = NULL\n"
        "2026-11-30 01:30:55.702 UTC [8] LOG:  duration: 0.1 ms  execute b: UPDATE tokens SET last_used_at = now()\n"
        "2026-11-30 01:30:55.702 UTC [8] LOG:  duration: 0.1 ms  execute c: SELECT 2\n"
    )
    first, second = plans.statements(log, 0)
    assert first == plans.Statement("-- Says why.\nSELECT $1,\n  $2", ("'it''s $2 = ''x'''", "NULL"))
    assert first.name == "SELECT $1, $2" and second == plans.Statement("SELECT 2")
    assert plans.statements(log, log.stat().st_size) == []


def test_every_measured_page_exists():
    routes = [re.sub(r"\{[^}]*\}", "[^/?]+", route.path) for route in [*PAGES, *ROUTES] if route.method == "GET"]
    for page in pages.MEASURED:
        assert any(re.fullmatch(route + r"(\?.*)?", page.address) for route in routes), page.address


def test_a_filled_database_has_what_the_pages_need(dsn):
    database = Database(dsn, 0)
    volume.fill(database, 26)
    assert database.value("SELECT count(*) FROM suite_runs") == 26
    assert database.value("SELECT count(DISTINCT test_id) FROM test_case_results") == 5_000
    lost = """
        SELECT count(*) FROM test_case_results c
        LEFT JOIN errors e ON e.project_id = c.project_id AND e.fingerprint = c.error_fingerprint
        WHERE (c.status = 'Failed') <> (e.fingerprint IS NOT NULL)"""
    assert database.value(lost) == 0
    steps = "SELECT count(*) FROM test_step_results WHERE test_case_result_id = "
    found = volume.addresses(database)
    assert [database.value(f"{steps}'{found[f'steps_{n}']}'") for n in (20, 200, 2000)] == [20, 200, 2000]
    read = plans.explain(database, plans.Statement("SELECT FROM test_step_results WHERE duration_ms = 7"))
    by_id = plans.explain(database, plans.Statement(f"{steps}$1", (f"'{found['steps_20']}'",)))
    assert "test_step_results" in read.scans and not by_id.scans and by_id.buffers < read.buffers


@pytest.mark.parametrize(("more", "told"), [(0.0, ""), (1e-7, ""), (2e-5, "above the noise")])
def test_a_difference_of_times_counts_when_it_is_above_the_noise(more, told):
    unknown = [1e-3 + (n * 37 % 101) * 1e-6 for n in range(500)]
    cells = missing.compared([each + more for each in unknown], unknown)
    assert cells[-1] == told and float(cells[2]) == pytest.approx(more * 1e6, abs=0.1)

"""`reportd import`: a run from an archive, all of it or nothing, and never twice."""

import hashlib
import json
import stat
import uuid
import zipfile

import msgspec
import psycopg
import pytest

from server.app import create_app
from server.archive import names, opened
from server.archive.zip_stream import MANIFEST
from server.auth.tokens import hash_of, new_token
from tests.api.test_archives import RUNS, archive_of, full_run  # noqa: F401
from tests.api.test_bundles import a_test
from tests.makers import png, text

TABLES = ["suite_runs", "test_case_results", "test_step_results", "test_artifacts", "test_checkpoints",
          "test_console_logs", "test_network_logs", "suite_run_shards", "expected_artifacts"]  # fmt: skip
ORDER = {"suite_run_shards": "shard_index", "expected_artifacts": "test_case_result_id, checksum, file_name",
         "test_console_logs": "seq", "test_network_logs": "seq"}  # fmt: skip
# Not from the archive: the place of the project and of the file, and the order among all rows of the server.
OWN = {"project_id", "storage_path", "seq"}


@pytest.fixture
async def saved(client, full_run, tmp_path):  # noqa: F811
    """The archive of a full run, as a file."""
    path = tmp_path / "run.zip"
    path.write_bytes((await archive_of(client, full_run)).fp.getvalue())
    return path


@pytest.fixture
def other(postgres, tmp_path, command, monkeypatch):
    """Another server, of its own database and folder: other("import", …) runs a command there. other.rows(sql)."""
    name = f"other_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_reportd")
    dsn, folder = postgres.dsn(name), tmp_path / "other"

    def run(*arguments):
        monkeypatch.setenv("REPORTD_DATABASE_DSN", dsn)
        monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", str(folder))
        monkeypatch.setenv("REPORTD_ARTIFACTS_DURABILITY", "none")
        return command(*map(str, arguments))

    def rows(query):
        with psycopg.connect(dsn, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(query).fetchall()

    run.rows, run.folder, run.dsn = rows, folder, dsn
    run.files = lambda: sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".reportd"
    )
    yield run
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def contents(rows):
    return {
        table: [
            {key: value for key, value in row.items() if key not in OWN}
            for row in rows(f"SELECT * FROM {table} ORDER BY {ORDER.get(table, 'id')}")
        ]
        for table in TABLES
    }


def changed(path, change, resum=True):
    """The archive with other entries: `change(entries)` gets a dict of their bytes. `resum`: with a manifest that
    fits."""
    with zipfile.ZipFile(path) as archive:
        entries = {each.filename: archive.read(each) for each in archive.infolist()}
    change(entries)
    if resum:
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in entries.items() if name != MANIFEST]
        entries[MANIFEST] = "".join(lines).encode()
    out = path.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out


def edit(where, /, **fields):
    """A change of the first object in the first entry whose name has `where`."""

    def change(entries):
        found = next(each for each in sorted(entries) if where in each)
        value = json.loads(entries[found])
        (value[0] if isinstance(value, list) else value).update(fields)
        entries[found] = json.dumps(value).encode()

    return change


def repeated(where):
    """The first object of an entry 12 times: more often than there are places for its file."""

    def change(entries):
        found = next(each for each in sorted(entries) if where in each)
        entries[found] = json.dumps(json.loads(entries[found])[:1] * 12).encode()

    return change


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


def deep(entries):
    edit("run.json", metadata={"a": "deep"})(entries)
    entries[names.RUN] = entries[names.RUN].replace(b'"deep"', b"[" * 100_000 + b"]" * 100_000)


# --- what is imported --------------------------------------------------------------------------------------------


async def test_everything_of_the_run_is_as_it_was(client, saved, other, rows, full_run):  # noqa: F811
    code, output, error = other("import", saved)
    assert (code, error) == (0, "")
    assert output == f"imported run {full_run} (nightly/4711 ü) in project default: 3 results, 3 artifacts\n"
    assert contents(other.rows) == contents(rows)
    errors = "SELECT encode(fingerprint, 'hex') AS f, error_type, stable_text, sample FROM errors"
    assert other.rows(errors) == rows(errors)
    paths = [row["storage_path"] for row in other.rows("SELECT storage_path FROM test_artifacts ORDER BY id")]
    assert [(other.folder / path).read_bytes() for path in paths] == [png(), png(), text()]
    assert len({(other.folder / path).stat().st_ino for path in paths[:2]}) == 1


async def test_the_import_is_in_the_audit_trail(saved, other, full_run):  # noqa: F811
    other("import", saved)
    (entry,) = other.rows("SELECT * FROM audit_entries")
    assert (entry["action"], str(entry["subject_id"]), entry["actor_kind"]) == (
        "suite_run.imported",
        full_run,
        "command",
    )
    assert entry["detail"] == {"archive": "run.zip", "results": 3, "artifacts": 3}


async def test_a_second_import_changes_nothing(saved, other, full_run):  # noqa: F811
    other("import", saved)
    before, files = contents(other.rows), other.files()
    code, output, _ = other("import", saved)
    assert (code, output) == (
        0,
        f"run {full_run} (nightly/4711 ü) in project default was there already: nothing changed\n",
    )
    assert (contents(other.rows), other.files()) == (before, files)
    assert len(other.rows("SELECT FROM audit_entries")) == 1


@pytest.fixture
async def there(saved, other, config, aiohttp_client):
    """A client of that other server, which has imported the run."""
    assert other("import", saved)[0] == 0
    token = new_token()
    with psycopg.connect(other.dsn, autocommit=True) as connection:
        insert = "INSERT INTO tokens (name, token_hash, role) VALUES ('x', %s, 'viewer')"
        connection.execute(insert, [hash_of(token)])
    artifacts = msgspec.structs.replace(config.artifacts, storage_path=str(other.folder))
    database = msgspec.structs.replace(config.database, dsn=other.dsn)
    app = create_app(msgspec.structs.replace(config, artifacts=artifacts, database=database))
    return await aiohttp_client(app, headers={"Authorization": f"Bearer {token}"})


async def test_an_archive_of_the_import_has_the_same_manifest(saved, there, full_run):  # noqa: F811
    archive = await archive_of(there, full_run)
    with zipfile.ZipFile(saved) as first:
        assert archive.read(MANIFEST).decode() == first.read(MANIFEST).decode()
        assert archive.namelist() == first.namelist()


@pytest.mark.parametrize("shared", [True, False])
async def test_a_file_that_was_imported_a_moment_ago_is_not_lost(there, other, monkeypatch, shared):
    """It may only be missing here, on the mount of another host. The artifact itself is old: it keeps its id."""
    monkeypatch.setattr("server.reports.downloads.seconds_of", lambda artifact_id: 0.0)
    monkeypatch.setattr("server.storage.folder.is_shared", lambda root: shared)
    artifact = other.rows("SELECT id, storage_path FROM test_artifacts LIMIT 1")[0]
    (other.folder / artifact["storage_path"]).unlink()
    reply = await there.get(f"/api/v1/reports/artifacts/{artifact['id']}/download")
    assert reply.status == (503 if shared else 410)


async def test_a_project_is_created_and_may_be_named(saved, other):
    assert other("import", saved, "--project", "shop")[0] == 0
    found = other.rows("SELECT p.name FROM suite_runs r JOIN projects p ON p.id = r.project_id")
    assert found == [{"name": "shop"}]


async def test_files_that_are_gone_stay_gone(client, full_run, other, rows, storage, tmp_path):  # noqa: F811
    for row in rows("SELECT storage_path FROM test_artifacts WHERE mime_type = 'image/png'"):
        (storage / row["storage_path"]).unlink()
    path = tmp_path / "run.zip"
    path.write_bytes((await archive_of(client, full_run)).fp.getvalue())
    code, output, _ = other("import", path)
    assert code == 0 and output.endswith("2 artifacts have no file: the archive does not have their bytes\n")
    assert contents(other.rows) == contents(rows)


async def test_a_deleted_run_can_come_back(client, saved, full_run, command, config, monkeypatch, rows):  # noqa: F811
    before = contents(rows)
    assert (await client.delete(f"/api/v1/reports/suite-runs/{full_run}")).status == 204
    monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", config.artifacts.storage_path)
    code, _, error = command("import", str(saved))
    assert (code, error) == (0, "")
    assert contents(rows) == before
    for row in rows("SELECT id FROM test_artifacts"):
        assert (await client.get(f"/api/v1/reports/artifacts/{row['id']}/download")).status == 200


@pytest.fixture
async def incomplete(client, full_run, tmp_path):  # noqa: F811
    """The archive of a run of which a shard, a test and files are missing."""
    shard = {
        "status": "Failed",
        "tests_expected": 5,
        "errors": ["no browser"],
        "started_at": "2026-01-24T12:00:00.123Z",
    }
    assert (await client.put(f"{RUNS}/{full_run}/shards/1", json={"total": 2, **shard})).status == 200
    later = {"later": True, "artifact_type": "other", "file_name": "v.webm", "file_size": 9, "checksum": "a" * 64}
    gone = {"refused": "No such file", "artifact_type": "other", "file_name": "gone.png"}
    bundle = {"tests": [a_test("more", artifacts=[later, gone]), a_test("many", artifacts=[gone])]}
    assert (await client.post(f"{RUNS}/{full_run}/bundle", json=bundle)).status == 201
    path = tmp_path / "run.zip"
    path.write_bytes((await archive_of(client, full_run)).fp.getvalue())
    return path


async def test_a_run_misses_after_the_import_what_it_missed(client, incomplete, other, rows, full_run):  # noqa: F811
    assert other("import", incomplete)[0] == 0
    assert contents(other.rows) == contents(rows)
    assert (
        len(other.rows("SELECT FROM suite_run_shards")) == 1 and len(other.rows("SELECT FROM expected_artifacts")) == 3
    )
    with zipfile.ZipFile(incomplete) as archive:
        page = archive.read(names.INDEX).decode()
    assert "nothing was heard of shard 2 of 2" in page and "no browser" in page and "gone.png" in page


async def test_an_imported_run_follows_its_shards(client, incomplete, command, config, monkeypatch, full_run):  # noqa: F811
    await client.delete(f"{RUNS}/{full_run}")
    monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", config.artifacts.storage_path)
    assert command("import", str(incomplete))[0] == 0
    reply = await client.put(f"{RUNS}/{full_run}/shards/2", json={"total": 2, "status": "Passed"})
    assert (await reply.json())["status"] == "Failed"


async def test_an_archive_without_shards_is_that_of_an_earlier_server(saved, other):
    def earlier(entries):
        run = json.loads(entries[names.RUN])
        assert run.pop("by_shards") is False
        entries[names.RUN] = json.dumps(run).encode()

    assert other("import", changed(saved, earlier))[0] == 0


async def test_shards_and_missing_files_that_no_archive_has_are_refused(incomplete, other):
    shards, files = "data/shards-", "data/expected_artifacts-"
    cases = [
        (edit(shards, shard_index=3), "a value that the database refuses"),
        (edit(shards, total=1001), "data/shards-0001.json is not what an archive of a run has there"),
        (edit(shards, status="Skipped"), "data/shards-0001.json is not what an archive of a run has there"),
        (edit(shards, errors=["x" * 2001]), "data/shards-0001.json is not what an archive of a run has there"),
        (edit(shards, started_at="0001-01-01T00:00:00+23:59"), "started_at must lie in the years 2 to 9998"),
        (edit(shards, colour="red"), "unknown field `colour`"),
        (repeated(shards), "data/shards-0001.json has something twice"),
        (repeated(files), "data/expected_artifacts-0001.json has something twice"),
        (edit(files, test_case_result_id=str(uuid.uuid4())), "has something of another run"),
        (edit(files, checksum="x"), "is not what an archive of a run has there"),
        (edit(files, file_name="a\0b"), "a value that the database refuses"),
        (edit(files, reason="x" * 4001), "is not what an archive of a run has there"),
        (edit("run.json", by_shards=None), "is not what an archive of a run has there"),
        (lambda entries: entries.update({"data/shards-0003.json": b"[]"}), "belongs to nothing"),
        (lambda entries: entries.update({"data/shards-0002.json": other_total(entries)}), "has shards of 2 and of 3"),
    ]
    for change, sentence in cases:
        refused(other, changed(incomplete, change), sentence)


def other_total(entries):
    (shard,) = json.loads(entries["data/shards-0001.json"])
    return json.dumps([{**shard, "shard_index": 3, "total": 3}]).encode()


# --- what is refused ---------------------------------------------------------------------------------------------


def is_empty(other):
    assert other.rows("SELECT FROM suite_runs UNION ALL SELECT FROM audit_entries") == []
    assert [row["name"] for row in other.rows("SELECT name FROM projects")] == ["default"]
    assert other.files() == []


def refused(other, path, sentence, *more):
    code, output, error = other("import", path, *more)
    assert (code, output) == (1, ""), error
    assert sentence in error and error.endswith(" Nothing was imported.\n"), error
    is_empty(other)


async def test_ids_of_another_project_are_refused(saved, other, rows):
    other("import", saved, "--project", "shop")
    before = contents(other.rows)
    code, _, error = other("import", saved)
    assert code == 1 and "is in the project shop of this server already" in error
    taken = changed(saved, lambda entries: fresh_run(entries))
    code, _, error = other("import", taken, "--project", "shop-2")
    assert code == 1 and "Something else in this database has an id of the archive" in error
    assert contents(other.rows) == before
    assert [row["name"] for row in other.rows("SELECT name FROM projects ORDER BY name")] == ["default", "shop"]


def fresh_run(entries):
    """The run has another id; its results have theirs."""
    old, new = json.loads(entries[names.RUN])["id"], str(uuid.uuid4())
    for name in [names.ABOUT, names.RUN, "data/results-0001.json"]:
        entries[name] = entries[name].replace(old.encode(), new.encode())


async def test_another_run_with_the_run_key_is_said(saved, other):
    other("import", saved)

    def fresh(entries):
        fresh_run(entries)
        for name in [each for each in entries if each.startswith(("data/results", "data/0"))]:
            del entries[name]

    code, _, error = other("import", changed(saved, fresh))
    assert code == 1 and "another run with the run_key" in error


async def test_a_cut_zip_is_refused(saved, other):
    data = saved.read_bytes()
    for kept in (0, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        saved.write_bytes(data[:kept])
        refused(other, saved, "is not a zip, or was cut")


async def test_a_file_that_is_no_zip_or_no_file_is_refused(tmp_path, other):
    (tmp_path / "x.zip").write_bytes(b"hello" * 1000)
    refused(other, tmp_path / "x.zip", "is not a zip")
    code, _, error = other("import", tmp_path / "none.zip")
    assert code == 1 and "No such file" in error


async def test_any_changed_byte_is_refused(saved, other):
    data = bytearray(saved.read_bytes())
    data[data.index(png()) + 60] ^= 1
    saved.write_bytes(data)
    refused(other, saved, "it was cut or changed")


async def test_an_entry_that_does_not_have_its_sum_is_refused(saved, other):
    def change(entries):
        entries[names.RUN] = entries[names.RUN].replace(b"main", b"xxxx")

    refused(other, changed(saved, change, resum=False), "does not have the SHA-256 of MANIFEST.sha256")


async def test_a_manifest_that_does_not_match_is_refused(saved, other):
    cases = [
        (lambda entries: entries.pop(MANIFEST), "it has no MANIFEST.sha256"),
        (lambda entries: entries.pop(names.RUN), "data/run.json is in MANIFEST.sha256 alone"),
        (lambda entries: entries.update({"static/x.js": b""}), "static/x.js is not in MANIFEST.sha256"),
        (lambda entries: entries.update({MANIFEST: b"x"}), "has a line that is no SHA-256 and name"),
        (lambda entries: entries.update({MANIFEST: b"\xff"}), "cannot be read"),
    ]
    for change, sentence in cases:
        refused(other, changed(saved, change, resum=False), sentence)


async def test_names_that_no_archive_has_are_refused(saved, other):
    for name in (
        *("../x", "/etc/passwd", "files/../../x.png", "C:\\x", "results/x.html", "data/x.json", "files/", "é"),
        *("a" * 60_000, "index.html/x", "data/RUN.json", "MANIFEST.sha256\n"),
    ):
        archive = changed(saved, lambda entries, name=name: entries.update({name: b"x"}))
        refused(other, archive, "no archive of reportd has an entry")


async def test_links_are_refused(saved, other):
    link = zipfile.ZipInfo("static/x.js")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(other, saved, "is not a regular file but a link")


async def test_two_entries_of_one_name_are_refused(saved, other):
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(names.RUN, "{}")
    refused(other, saved, "two entries have the same name")


async def test_a_zip_bomb_is_refused(saved, other, monkeypatch):
    monkeypatch.setattr(opened, "_FREE_GROWTH", 1 << 20)
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("static/x.js", bytes(80 << 20))
    refused(other, saved, "a zip bomb")


async def test_data_that_no_archive_has_leave_nothing_behind(saved, other):
    cases = [
        (edit("archive.json", format=2), "has format 2"),
        (edit("archive.json", run=str(uuid.uuid4())), "has another run than"),
        (edit("run.json", status="Odd"), "data/run.json is not what an archive of a run has there"),
        (edit("run.json", colour="red"), "unknown field `colour`"),
        (edit("run.json", name="x" * 501), "a value that the database refuses"),
        (edit("run.json", name="a\0b"), "a value that the database refuses"),
        (edit("results-", suite_run_id=str(uuid.uuid4())), "has a result of another run"),
        (edit("/steps-", parent_step_number=7), "parent_step_number must be smaller than step_number"),
        (edit("/steps-", test_case_result_id=str(uuid.uuid4())), "has something of another result"),
        (edit("/artifacts-", file_size=1), "does not have the size of artifact"),
        (edit("/artifacts-", mime_type="image/x"), "which reportd does not store"),
        (edit("/console_logs-", level="loud"), "a value that the database refuses"),
        (edit("/artifacts-", uploaded_at="0001-01-01T00:00:00+23:59"), "uploaded_at must lie in the years 2 to 9998"),
        (edit("run.json", started_at="9999-12-31T23:59:59-23:59"), "started_at must lie in the years 2 to 9998"),
        (edit("run.json", metadata={"a": nested(33)}), "metadata must not be nested deeper than 32 levels"),
        (edit("run.json", metadata={"a": nested(900)}), "metadata must not be nested deeper than 32 levels"),
        (deep, "data/run.json is not what an archive of a run has there"),
        (repeated("/artifacts-"), "/artifacts-0001.json has an id twice"),
        (repeated("results-"), "results-0001.json has an id twice"),
        (edit("run.json", tags=[uuid.uuid4().hex * 9_000]), "a value that the database refuses"),
        (lambda entries: entries.update({f"data/{uuid.uuid4()}/steps-0001.json": b"[]"}), "belongs to nothing"),
        (lambda entries: entries.update({"data/results-0003.json": b"[]"}), "belongs to nothing"),
        (lambda entries: entries.update({names.RUN: b"[" * 100_000}), "is not what an archive of a run has there"),
    ]
    for change, sentence in cases:
        refused(other, changed(saved, change), sentence)


async def test_a_failure_in_the_middle_leaves_no_file(saved, other, monkeypatch):
    """The files are placed before the rows; here the last statement fails."""

    async def fails(*_, **__):
        raise psycopg.Error("no more audit entries")

    monkeypatch.setattr("server.archive.importing.record", fails)
    code, _, error = other("import", saved)
    assert (code, error) == (1, "reportd: no more audit entries\n")
    is_empty(other)

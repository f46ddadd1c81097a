"""server/storage/paths.py: the paths of artifacts, and that no file name escapes its folder."""

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.storage.paths import CONTENT, STAGING, content_path, relative_paths

DAY = datetime(2026, 1, 4, 23, 59, 59, tzinfo=UTC)
CASE = UUID("0198c0de-0000-7abc-8000-0123456789ab")
ID = UUID("0198c0de-0000-7abc-8000-ba9876543210")
FOLDER = f"2026/01/04/{CASE}/"


def names(step=1, category=None, file_name="shot.png", extension=".png", iteration=1, artifact_id=ID):
    return relative_paths(DAY, CASE, iteration, step, category, file_name, extension, artifact_id)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"step": 1, "category": "after"}, "step_001_after.png"),  # the specification, "File Storage Structure"
        ({"step": 3, "category": "error"}, "step_003_error.png"),
        ({"step": 1, "category": "after", "iteration": 2}, "iteration_002/step_001_after.png"),
        ({"step": 1}, "step_001.png"),
        ({"step": 0, "extension": ".txt"}, "step_000.txt"),
        ({"step": 1234, "iteration": 1000}, "iteration_1000/step_1234.png"),
        ({"step": 2**31 - 1, "iteration": 2**31 - 1}, "iteration_2147483647/step_2147483647.png"),
        ({"step": 5, "file_name": "../../etc/passwd"}, "step_005.png"),
        ({"step": None, "file_name": "shot one.png"}, "shot_one.png"),
        ({"step": None, "file_name": "trace.har", "extension": ".json"}, "trace.json"),
        ({"step": None, "file_name": "a.b.tar.gz", "extension": ".txt"}, "a.b.tar.txt"),
        ({"step": None, "file_name": "no-ending", "extension": ".txt"}, "no-ending.txt"),
        ({"step": None, "file_name": "größe ✓ 日本.png"}, "gr_e_.png"),
        ({"step": None, "file_name": "日本.png"}, "_.png"),
        ({"step": None, "file_name": ".png"}, "png.png"),
        ({"step": None, "file_name": ".."}, "artifact.png"),
        ({"step": None, "file_name": "....png"}, "artifact.png"),
        ({"step": None, "file_name": ""}, "artifact.png"),
        ({"step": None, "file_name": "x" * 250 + ".png"}, "x" * 80 + ".png"),
        ({"step": None, "file_name": "shot.png", "iteration": 3}, "iteration_003/shot.png"),
    ],
)
def test_the_first_candidate_path(arguments, path):
    assert names(**arguments)[0] == FOLDER + path


def test_further_candidates_have_a_number_and_the_last_one_the_id():
    expected = ["", *(f"_{n}" for n in range(2, 10)), "_ba9876543210"]
    assert names(category="before") == [f"{FOLDER}step_001_before{end}.png" for end in expected]
    assert names(step=None) == [f"{FOLDER}shot{end}.png" for end in expected]


def test_the_last_candidate_differs_for_consecutive_ids():
    others = [names(artifact_id=UUID(int=ID.int + n))[-1] for n in range(100)]
    assert len(set(others)) == 100


@given(
    st.one_of(st.text(), st.text("./\\~-_ \0:*", max_size=12), st.just("x" * 255)),
    st.sampled_from([None, "before"]),
    st.integers(1, 5),
    st.none() | st.integers(0, 2**31 - 1),
)
def test_no_file_name_escapes_its_folder(file_name, category, iteration, step):
    paths = names(step, category, file_name, iteration=iteration)
    assert len(set(paths)) == len(paths) == 10
    for path in paths:
        folder, _, name = path.removeprefix(FOLDER).rpartition("/")
        assert folder == ("" if iteration == 1 else f"iteration_{iteration:03d}")
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.png", name)
        assert len(name) <= 80 + 1 + 12 + 4


def test_cached_contents_are_addressed_by_project_and_checksum():
    checksum = "ab" + "0" * 62
    assert content_path(CASE, checksum) == f".content/{CASE}/ab/{checksum}"
    assert (STAGING, CONTENT) == (".staging", ".content")  # not a year, so they cannot collide with an artifact

"""Environments as the CI systems set them, recorded from their documentation and jobs."""

import json
import subprocess
from pathlib import Path

import pytest
from reportd_client.ci import detect

SHA, HEAD = "a" * 40, "b" * 40
# Also read by the tests of the Playwright reporter, which is written in JavaScript.
TABLE = json.loads((Path(__file__).parent / "ci_environments.json").read_text("utf-8"))
GITHUB, GITLAB = TABLE["github"]["environment"], TABLE["gitlab"]["environment"]


@pytest.mark.parametrize("name", TABLE)
def test_each_system(name, tmp_path):
    recorded = TABLE[name]
    build = detect(recorded["environment"], tmp_path)
    for field in ("branch", "commit", "build_url", "shard"):
        assert getattr(build, field) == recorded[field]
    assert build.run_key(build.name) == recorded["run_key"]
    assert build.metadata()["ci"]["system"] == name.split()[0]


PULLS = {
    "github": ({"GITHUB_HEAD_REF": "x", "GITHUB_REF": "refs/pull/5/merge", "GITHUB_REF_NAME": "5/merge"}, SHA, None),
    "gitlab": (
        {
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "x",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD,
            "CI_MERGE_REQUEST_IID": "5",
            "CI_COMMIT_REF_NAME": "refs/merge-requests/5/merge",
        },
        HEAD,
        "5",
    ),
    "jenkins": ({"BRANCH_NAME": "PR-5", "CHANGE_BRANCH": "x", "CHANGE_ID": "5", "GIT_BRANCH": "PR-5"}, SHA, "5"),
    "azure": (
        {
            "BUILD_SOURCEBRANCH": "refs/pull/5/merge",
            "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/x",
            "SYSTEM_PULLREQUEST_SOURCECOMMITID": HEAD,
            "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "5",
            "SYSTEM_PULLREQUEST_PULLREQUESTID": "77",  # of Azure; the number is the one that people see on GitHub
        },
        HEAD,
        "5",
    ),
    "circleci": ({"CIRCLE_BRANCH": "x", "CIRCLE_PR_NUMBER": "5"}, SHA, "5"),
    "buildkite": ({"BUILDKITE_BRANCH": "x", "BUILDKITE_PULL_REQUEST": "5"}, SHA, "5"),
    "bitbucket": ({"BITBUCKET_BRANCH": "x", "BITBUCKET_PR_ID": "5"}, SHA, "5"),
    "drone": ({"DRONE_SOURCE_BRANCH": "x", "DRONE_PULL_REQUEST": "5"}, SHA, "5"),
    "woodpecker": (
        {"CI_COMMIT_BRANCH": "main", "CI_COMMIT_SOURCE_BRANCH": "x", "CI_COMMIT_PULL_REQUEST": "5"},
        SHA,
        "5",
    ),
    "travis": ({"TRAVIS_PULL_REQUEST": "5"}, HEAD, "5"),
}


@pytest.mark.parametrize("name", PULLS)
def test_a_pull_request_has_its_branch_and_number(name, tmp_path):
    more, commit, number = PULLS[name]
    build = detect({**TABLE[name]["environment"], **more}, tmp_path)
    assert (build.branch, build.commit, build.metadata()["ci"].get("pull_request")) == ("x", commit, number)


@pytest.mark.parametrize(
    ("name", "more", "shard"),
    [
        ("gitlab", {"CI_NODE_INDEX": "5", "CI_JOB_NAME": "rspec 5/5"}, "5/5"),
        ("azure", {"SYSTEM_JOBPOSITIONINPHASE": "4", "SYSTEM_JOBNAME": "e2e 4"}, "4/4"),
        ("circleci", {"CIRCLE_NODE_INDEX": "2"}, "3/3"),
        ("buildkite", {"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_JOB_ID": "j0"}, "1/2"),
        ("bitbucket", {"BITBUCKET_PARALLEL_STEP": "1", "BITBUCKET_PARALLEL_STEP_COUNT": "3"}, "2/3"),
        ("github", {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "2"}, None),  # of no system that GitHub has
        ("gitlab", {"CI_NODE_INDEX": "two"}, None),
        ("gitlab", {"CI_NODE_TOTAL": "1"}, None),
    ],
)
def test_each_shard_has_its_number_and_the_key_of_all(name, more, shard, tmp_path):
    first, other = TABLE[name]["environment"], {**TABLE[name]["environment"], **more}
    one, two = detect(first, tmp_path), detect(other, tmp_path)
    assert two.shard == shard and one.run_key(one.name) == two.run_key(two.name)


@pytest.mark.parametrize("name", TABLE)
def test_empty_variables_are_absent(name, tmp_path):
    """CI systems set variables that do not apply to the empty text: nothing may become empty by that."""
    signs = ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "CIRCLECI", "BUILDKITE", "DRONE", "TRAVIS", "CI")
    signs += ("BITBUCKET_BUILD_NUMBER",)
    build = detect({key: value if key in signs else "" for key, value in TABLE[name]["environment"].items()}, tmp_path)
    assert (build.branch, build.commit, build.build_url, build.shard, build.name) == (None,) * 5
    assert build.run_key("n") is None and build.metadata()["ci"].keys() <= {"system"}


def test_five_shards_become_one_run_and_two_jobs_do_not(record, server, monkeypatch, tmp_path):
    def send(environment, test):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        with record(spool=str(tmp_path / test)) as run, run.test(test):
            pass
        return run.receipt.run_id

    monkeypatch.chdir(tmp_path)
    ids = [send({**GITLAB, "CI_NODE_INDEX": str(k), "CI_JOB_NAME": f"rspec {k}/5"}, f"t{k}") for k in range(1, 6)]
    other = send({**GITLAB, "CI_JOB_NAME": "e2e"}, "t6")
    assert len(set(ids)) == 1 and other not in ids
    run = server.run(ids[0])
    assert sorted(test["name"] for test in run["tests"]) == ["t1", "t2", "t3", "t4", "t5"]
    assert (run["name"], run["branch"], run["commit_sha"]) == ("shop / rspec", "main", SHA)


def test_a_pull_request_on_github_has_the_commit_that_was_pushed(tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 5, "head": {"sha": HEAD}}}))
    environment = {**GITHUB, "GITHUB_HEAD_REF": "fix", "GITHUB_EVENT_PATH": str(event)}
    build = detect(environment, tmp_path)
    assert (build.branch, build.commit) == ("fix", HEAD)
    assert build.metadata()["ci"]["pull_request"] == "5"


@pytest.mark.parametrize("event", ["", "not JSON", "[]", '{"pull_request": null}', '{"pull_request": {"head": 1}}'])
def test_an_odd_event_file_is_ignored(event, tmp_path):
    (tmp_path / "event.json").write_text(event)
    assert detect({**GITHUB, "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}, tmp_path).commit == SHA


def test_a_re_run_is_another_run_and_names_the_first(tmp_path):
    build = detect({**GITHUB, "GITHUB_RUN_ATTEMPT": "2"}, tmp_path)
    assert build.run_key("CI / e2e") == "github:acme/shop:77:2:CI / e2e"
    assert build.metadata()["rerun_of"] == "https://github.com/acme/shop/actions/runs/77/attempts/1"


def test_shards_meet_in_one_run_and_jobs_of_a_workflow_do_not(tmp_path):
    shards = [detect({**GITLAB, "CI_NODE_INDEX": str(k), "CI_JOB_NAME": f"rspec {k}/5"}, tmp_path) for k in range(1, 6)]
    assert len({build.run_key(build.name) for build in shards}) == 1
    assert [build.shard for build in shards] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    jobs = [detect({**GITHUB, "GITHUB_JOB": job}, tmp_path) for job in ("unit", "e2e")]
    assert len({build.run_key(build.name) for build in jobs}) == 2


def test_teamcity_says_it_in_files(tmp_path):
    configuration, build_file = tmp_path / "configuration", tmp_path / "build"
    configuration.write_text("teamcity.serverUrl=https\\://tc.example\nteamcity.build.branch=refs/heads/main\n# x=1\n")
    build_file.write_text(f"teamcity.build.id = 42\nteamcity.configuration.properties.file={configuration}\n")
    environment = {
        "TEAMCITY_VERSION": "2026.1",
        "TEAMCITY_BUILD_PROPERTIES_FILE": str(build_file),
        "BUILD_VCS_NUMBER": SHA,
        "BUILD_NUMBER": "7",
        "TEAMCITY_PROJECT_NAME": "shop",
        "TEAMCITY_BUILDCONF_NAME": "e2e",
    }
    build = detect(environment, tmp_path)
    assert (build.branch, build.commit) == ("main", SHA)
    assert build.build_url == "https://tc.example/viewLog.html?buildId=42"
    assert build.run_key("n") == "teamcity:42:n"
    del environment["TEAMCITY_BUILD_PROPERTIES_FILE"]
    assert detect(environment, tmp_path).run_key("n") == "teamcity:e2e:7:n"


@pytest.fixture
def checkout(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "-b", "topic", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return tmp_path, done.stdout.strip()


def test_git_fills_what_is_left(checkout):
    folder, commit = checkout
    build = detect({}, folder)
    assert (build.branch, build.commit, build.run_key("n")) == ("topic", commit, None)
    buildkite = {**TABLE["buildkite"]["environment"], "BUILDKITE_COMMIT": "HEAD"}
    assert detect(buildkite, folder).commit == commit
    subprocess.run(["git", "-C", str(folder), "checkout", "-q", "--detach"], check=True)
    assert detect({}, folder).branch is None


def test_without_ci_and_git_there_is_nothing(tmp_path):
    assert detect({"GITHUB_ACTIONS": "", "CI": "true"}, tmp_path) is None


def test_nothing_that_looks_like_a_credential_is_taken(tmp_path):
    build = detect({**GITHUB, "GITHUB_TOKEN": "ghs_secret", "AWS_SECRET_ACCESS_KEY": "secret"}, tmp_path)
    assert "secret" not in str(build)

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The commands of strategies remote and native, run by a real `sh` the way Drone's runner runs them, with a `docker` that
writes down what it is asked for. tests/pipelines runs some of them for real."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.pipeline import Pipeline
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.strategies import documents
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump_all

BASE = {
    "repo": "registry.example.com/octocat/example",
    "platforms": ["linux/amd64", "linux/arm64"],
    "username": {"from_secret": "user"},
    "password": {"from_secret": "pass"},
}
REMOTE = {**BASE, "strategy": "remote", "builders": [{"endpoint": "tcp://builder.example.com:1234"}]}
SECRETS = {
    "user": "octocat",
    "pass": "p4ss'w\"o$rd`",
    "buildkit_ca": "an authority\nin two lines",
    "buildkit_cert": "the certificate",
    "buildkit_key": "the key itself",
}

DOCKER = """#!{python} -IS
import json, os, stat, sys
files = {{}}
for argument in sys.argv[1:]:
    for part in argument.split(","):
        name, path = part.partition("=")[::2]
        if name in ("cacert", "cert", "key"):
            status = os.stat(path)
            files[name] = [open(path).read(), stat.S_IMODE(status.st_mode), stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode)]
said = sys.stdin.read() if "--password-stdin" in sys.argv else ""
with open(os.environ["CALLS"], "a") as stream:
    stream.write(json.dumps([sys.argv[1:], said, files, dict(os.environ)]) + "\\n")
sys.exit(int(os.environ.get("FAIL_ON", "") in sys.argv[1:]))
"""

FILE = Path(__file__).resolve().parents[5] / "roles/lab/files/step.py"
SPEC = importlib.util.spec_from_file_location("lab_step_of_the_shell", FILE)
RUNNER = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = RUNNER  # dataclasses look their module up there
SPEC.loader.exec_module(RUNNER)

SHELLS = [name for name in ("dash", "busybox") if shutil.which(name)]


@pytest.fixture(params=SHELLS)
def run(request, tmp_path):
    """Run a step's commands as drone-runner-docker does, and return the calls of docker, and all output."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(DOCKER.format(python=sys.executable))
    docker.chmod(0o755)
    calls = tmp_path / "calls"

    def go(step, *, secrets=SECRETS, check=True, **environment):
        calls.write_text("")
        ref, branch = environment.pop("DRONE_COMMIT_REF", "refs/heads/main"), environment.pop("DRONE_BRANCH", "main")
        build = {"ref": ref, "branch": branch, "commit": environment.pop("DRONE_COMMIT_SHA", "123456789abc")}
        text = dump_all([{"kind": "pipeline", "name": "default", "steps": [step]}])
        made = RUNNER.compiled({"config": text, "step": step["name"], "build": build})
        shell = "busybox sh" if request.param == "busybox" else request.param
        done = subprocess.run(
            [*shell.split(), "-c", f'echo "$DRONE_SCRIPT" | {shell}'],
            env={
                "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                "CALLS": str(calls),
                "TMPDIR": str(tmp_path),
                **made.environment,
                **{name: secrets.get(secret, "") for name, secret in made.secrets.items()},
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return [json.loads(line) for line in calls.read_text().splitlines()], done.stdout + done.stderr, done.returncode

    return go


def last_step(description, **more):
    return dict(documents(Pipeline.parse({**description, **more}, allow_plaintext=True))[-1]["steps"][0])


def arguments(calls, *begin):
    return [call[0] for call in calls if call[0][: len(begin)] == list(begin)]


def tags_of(calls):
    (build,) = arguments(calls, "buildx", "build")
    return [build[i + 1].rpartition(":")[2] for i, word in enumerate(build) if word == "--tag"]


# drone-plugins/drone-docker, tags_test.go and tags.go
AUTO_TAGS = [
    ("refs/heads/main", "", ["latest"]),
    ("refs/tags/0.9.0", "", ["0.9", "0.9.0"]),
    ("refs/tags/1.0.0", "", ["1", "1.0", "1.0.0"]),
    ("refs/tags/v1.0.0", "", ["1", "1.0", "1.0.0"]),
    ("refs/tags/v1.2.3", "", ["1", "1.2", "1.2.3"]),
    ("refs/tags/v10.20.30", "", ["10", "10.20", "10.20.30"]),
    ("refs/tags/v1.0.0-alpha.1", "", ["1.0.0-alpha.1"]),
    ("refs/tags/v18.06.0-rc1", "", ["18.6.0-rc1"]),
    ("refs/tags/v00.1.2", "", ["00.1", "00.1.2"]),
    ("refs/tags/v001.1.2", "", ["001", "001.1", "001.1.2"]),
    ("refs/heads/main", "linux-amd64", ["linux-amd64"]),
    ("refs/tags/v1.0.0", "linux-amd64", ["1-linux-amd64", "1.0-linux-amd64", "1.0.0-linux-amd64"]),
    ("refs/tags/v18.06.0", "nanoserver", ["18-nanoserver", "18.06-nanoserver", "18.06.0-nanoserver"]),
]


@pytest.mark.parametrize(("ref", "suffix", "tags"), AUTO_TAGS)
def test_auto_tag_makes_the_tags_that_drone_docker_makes(run, ref, suffix, tags):
    more = {"auto_tag_suffix": suffix} if suffix else {}
    calls = run(last_step(REMOTE, auto_tag=True, **more), DRONE_COMMIT_REF=ref)[0]
    assert tags_of(calls) == tags


@pytest.mark.parametrize(
    "ref", ["refs/heads/feature", "refs/heads/main2", "refs/pull/1/head", "refs/heads/x/main", "", "main; id"]
)
def test_auto_tag_builds_nothing_elsewhere_and_touches_no_secret(run, ref):
    calls, output, code = run(last_step(REMOTE, auto_tag=True), DRONE_COMMIT_REF=ref, secrets={})
    assert (calls, code) == ([], 0)
    assert "nothing is built" in output


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "x1.0.0",
        "20190203",
        "1.2",
        "1.2.3.4",
        "1.2.3-",
        "1.2.3+",
        "1.2.3+build",
        "v",
        "a.b.c",
        "1.2.3-a..b",
        "1.2.3;id",
    ],
)
def test_a_tag_that_is_no_version_fails_before_anything_is_done(run, tag):
    calls, output, code = run(last_step(REMOTE, auto_tag=True), DRONE_COMMIT_REF=f"refs/tags/{tag}", check=False)
    assert (calls, code) == ([], 1)
    assert "no semantic version" in output


def test_the_remote_build_is_what_was_described(run):
    step = last_step(
        REMOTE,
        tags=["1.0", "b"],
        context="app dir",
        dockerfile="docker/Dockerfile",
        target="final",
        provenance=False,
        labels={"org.example": "it's"},
        build_args={"A": "x y", "TOKEN": {"from_secret": "pass"}},
        cache_from=["type=registry,ref=a/b:cache"],
        cache_to=["type=inline"],
    )
    calls = run(step)[0]
    assert arguments(calls, "buildx", "build") == [
        [
            *("buildx", "build", "--builder", "multiarch", "--push", "--platform", "linux/amd64,linux/arm64"),
            *("--file", "docker/Dockerfile", "--target", "final", "--provenance=false"),
            *("--build-arg", "A=x y", "--build-arg", "TOKEN", "--label", "org.example=it's"),
            *("--cache-from", "type=registry,ref=a/b:cache", "--cache-to", "type=inline"),
            *("--tag", "registry.example.com/octocat/example:1.0", "--tag", "registry.example.com/octocat/example:b"),
            "app dir",
        ]
    ]
    assert calls[-1][3]["TOKEN"] == SECRETS["pass"]


def test_the_clients_certificates_are_files_that_nobody_else_reads(run):
    calls = run(last_step(REMOTE))[0]
    (create,) = [call for call in calls if call[0][:2] == ["buildx", "create"]]
    assert create[2] == {
        "cacert": ["an authority\nin two lines\n", 0o600, 0o700],
        "cert": ["the certificate\n", 0o600, 0o700],
        "key": ["the key itself\n", 0o600, 0o700],
    }


def test_the_password_goes_to_docker_through_its_standard_input_and_into_no_log(run):
    calls, output = run(last_step(REMOTE))[:2]
    (login,) = [call for call in calls if call[0][0] == "login"]
    assert login[0] == ["login", "--username", "octocat", "--password-stdin", "registry.example.com"]
    assert login[1] == SECRETS["pass"]
    for secret in ("pass", "buildkit_key", "buildkit_ca"):
        assert SECRETS[secret] not in output
        assert all(SECRETS[secret] not in word for call in calls for word in call[0])


def test_a_secret_that_is_missing_is_named_before_anything_is_done(run):
    calls, output, code = run(last_step(REMOTE), secrets={**SECRETS, "buildkit_key": ""}, check=False)
    assert (calls, code) == ([], 1)
    assert "BUILDKIT_KEY is empty" in output


def test_a_daemon_that_does_not_answer_ends_the_build_before_it_begins(run):
    calls, _said, code = run(last_step(REMOTE), FAIL_ON="inspect", check=False)
    assert code == 1
    assert arguments(calls, "buildx", "build") == []


def test_several_daemons_become_one_builder(run):
    builders = [
        {"endpoint": "tcp://a.example.com:1234", "platforms": ["linux/amd64"]},
        {"endpoint": "tcp://[::1]:1234", "platforms": ["arm64", "armhf"], "servername": "b"},
    ]
    calls = run(last_step(REMOTE, builders=builders))[0]
    first, second = arguments(calls, "buildx", "create")
    assert first[-3:] == ["--platform", "linux/amd64", "tcp://a.example.com:1234"]
    assert second[-6:] == [
        "--driver-opt",
        "servername=b",
        "--platform",
        "linux/arm64,linux/arm/v7",
        "--append",
        "tcp://[::1]:1234",
    ]


@pytest.mark.parametrize(
    "branch",
    [
        "$(touch pwned)",
        "a'; touch pwned; '",
        'a"; touch pwned; "',
        "`touch pwned`",
        "{from_secret: pass}",
        "x: y # z",
        "- &a *b",
    ],
)
def test_what_drone_puts_in_is_never_read_as_code(run, tmp_path, branch):
    step = last_step(
        REMOTE, build_args={"BRANCH": "${DRONE_BRANCH}"}, tags=["${DRONE_COMMIT_SHA:0:8}"], context="${DRONE_BRANCH}"
    )
    calls = run(step, DRONE_BRANCH=branch, DRONE_COMMIT_SHA="123456789abc")[0]
    assert not (tmp_path / "pwned").exists()
    (build,) = arguments(calls, "buildx", "build")
    assert f"BRANCH={branch}" in build
    assert build[-1] == branch
    assert tags_of(calls) == ["12345678"]


@pytest.mark.parametrize(
    ("more", "ref", "made"),
    [
        ({"tags": ["1.0"]}, "", {"1.0": ["1.0-linux-amd64", "1.0-linux-arm64"]}),
        ({}, "", {"latest": ["latest-linux-amd64", "latest-linux-arm64"]}),
        ({"auto_tag": True}, "refs/heads/main", {"latest": ["linux-amd64", "linux-arm64"]}),
        (
            {"auto_tag": True},
            "refs/tags/v0.2.1",
            {"0.2": ["0.2-linux-amd64", "0.2-linux-arm64"], "0.2.1": ["0.2.1-linux-amd64", "0.2.1-linux-arm64"]},
        ),
        (
            {"auto_tag": True, "auto_tag_suffix": "alpine"},
            "refs/heads/main",
            {"alpine": ["alpine-linux-amd64", "alpine-linux-arm64"]},
        ),
        (
            {"auto_tag": True, "auto_tag_suffix": "alpine"},
            "refs/tags/1.0.0-rc1",
            {"1.0.0-rc1-alpine": ["1.0.0-rc1-alpine-linux-amd64", "1.0.0-rc1-alpine-linux-arm64"]},
        ),
    ],
)
def test_native_joins_what_the_platforms_pipelines_pushed(run, more, ref, made):
    calls = run(last_step({**BASE, "strategy": "native"}, **more), DRONE_COMMIT_REF=ref)[0]
    joined = {}
    for words in arguments(calls, "buildx", "imagetools", "create"):
        assert words[3] == "--tag"
        final, *sources = [word.rpartition(":")[2] for word in words[4:]]
        joined[final] = sources
    assert joined == made


def test_the_platforms_pipelines_push_what_the_join_takes():
    pipeline = Pipeline.parse({**BASE, "strategy": "native", "tags": ["1.0"]})
    pushed = [document["steps"][0]["settings"]["tags"] for document in documents(pipeline)[:-1]]
    assert pushed == ["1.0-linux-amd64", "1.0-linux-arm64"]
    pipeline = Pipeline.parse({**BASE, "strategy": "native", "auto_tag": True, "auto_tag_suffix": "alpine"})
    suffixes = [document["steps"][0]["settings"]["auto_tag_suffix"] for document in documents(pipeline)[:-1]]
    assert suffixes == ["alpine-linux-amd64", "alpine-linux-arm64"]


def test_what_a_person_gives_is_not_changed_on_its_way_through_the_runners_echo(run):
    given = {"A": r"a\1b\nc\\d", "B": 'it\'s "x"'}
    calls = run(last_step(REMOTE, build_args=given, labels={"l": r"\\"}))[0]
    (build,) = arguments(calls, "buildx", "build")
    assert [word for word in build if word.startswith(("A=", "B=", "l="))] == [r"A=a\1b\nc\\d", 'B=it\'s "x"', r"l=\\"]

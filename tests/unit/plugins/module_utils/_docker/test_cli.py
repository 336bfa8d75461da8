# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import cli as _docker
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Docker, context_host, current_context
from ansible_collections.multiarch.drone.plugins.module_utils._passwords import without_passwords
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.fixture
def cli(tmp_path):
    """Return a maker of Docker CLIs that are shell scripts."""

    def make(script):
        path = tmp_path / "docker"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Docker(str(path))

    return make


def test_a_call_returns_what_docker_said(cli):
    output = cli('echo "{\\"args\\": \\"$*\\"}"; echo careful >&2').run("image", "ls")
    assert output.json() == {"args": "image ls"}
    assert (output.rc, output.err) == (0, "careful\n")


def test_a_missing_cli_says_how_to_get_it():
    with pytest.raises(Problem, match=r"no Docker CLI '/nowhere/docker' here; install it"):
        Docker("/nowhere/docker").run("version")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "start the daemon",
        ),
        ("permission denied while trying to connect to the docker API at unix:///var/run/docker.sock", "group docker"),
        (
            "docker: unknown command: docker buildx\n\nRun 'docker --help' for more information",
            "install the buildx plugin",
        ),
        ("docker: 'buildx' is not a docker command.\nSee 'docker --help'", "install the buildx plugin"),
        ("ERROR: write /x: no space left on device", "free some space"),
        ("Error response from daemon: unable to apply caps: operation not permitted", "privileged"),
    ],
)
def test_a_known_failure_says_what_to_do(cli, said, message):
    docker = cli(f"cat >&2 <<'END'\n{said}\nEND\nexit 3")
    with pytest.raises(Problem, match=message) as caught:
        docker.run("buildx", "ls")
    assert "docker buildx ls failed (3): " in str(caught.value)
    assert caught.value.facts["rc"] == 3
    assert "See 'docker" not in str(caught.value)


def test_a_call_that_hangs_is_ended_with_its_children(cli, tmp_path):
    docker = cli(f"(sleep 2; touch {tmp_path}/survived) & sleep 60")
    started = time.monotonic()
    with pytest.raises(Problem, match=r"did not end within 0\.3 s"):
        docker.run("buildx", "ls", timeout=0.3)
    assert time.monotonic() - started < 2
    time.sleep(2.2)
    assert not (tmp_path / "survived").exists()


def test_who_listens_gets_each_line_as_it_comes_and_the_output_is_the_same(cli):
    heard = []
    output = cli("echo one >&2; echo out; echo two >&2; exit 3").run("build", check=False, heard=heard.append)
    assert heard == ["one\n", "two\n"]
    assert (output.rc, output.out, output.err) == (3, "out\n", "one\ntwo\n")


def test_a_call_that_is_listened_to_ends_at_its_time_limit_with_its_children(cli):
    with pytest.raises(Problem, match=r"did not end within 1 s"):
        cli("echo one >&2; sleep 60 & sleep 60").run("build", timeout=1, heard=lambda _line: None)


def test_calls_run_beside_each_other(cli):
    docker = cli("sleep 0.4; echo $1")
    started = time.monotonic()
    calls = [docker.start("a"), docker.start("b")]
    assert [call.wait().out for call in calls] == ["a\n", "b\n"]
    assert time.monotonic() - started < 0.75


def test_output_that_is_no_json_is_a_problem_that_names_the_command(cli):
    with pytest.raises(Problem, match="docker info did not print JSON"):
        cli("echo oops").run("info").json()


def test_a_builder_named_by_the_environment_does_not_reach_docker(cli, monkeypatch):
    monkeypatch.setenv("BUILDX_BUILDER", "somebody-elses")
    assert cli("echo ${BUILDX_BUILDER-unset}").run().out == "unset\n"


def test_passwords_are_not_shown(cli):
    assert without_passwords("http_proxy=http://joe:s3cret@proxy:3128/x") == "http_proxy=http://joe:…@proxy:3128/x"
    with pytest.raises(Problem) as caught:
        cli('echo "$*" >&2; exit 1').run("buildx", "create", "--driver-opt", "env.TOKEN=s3cret", "ssh://u:s3cret@h")
    assert "s3cret" not in str(caught.value) + str(caught.value.facts)


def test_contexts_are_found_as_the_cli_finds_them(tmp_path):
    env = {"DOCKER_CONFIG": str(tmp_path)}
    assert (current_context(env), context_host(env, "default")) == ("default", "unix:///var/run/docker.sock")
    (tmp_path / "config.json").write_text('{"currentContext": "arm"}')
    assert current_context(env) == "arm"
    assert context_host(env, "arm") == ""
    meta = tmp_path / "contexts/meta/ac5f5e1eb4da45a9f5f8cdd6bd1d8a6d1a1ee0d7b1de4fc3e8aa1b5e0d0d1c44"
    meta = meta.with_name(__import__("hashlib").sha256(b"arm").hexdigest())
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": "arm", "Endpoints": {"docker": {"Host": "ssh://pi"}}}))
    assert context_host(env, "arm") == "ssh://pi"
    assert current_context({**env, "DOCKER_HOST": "tcp://x:1"}) == "default"
    assert current_context({**env, "DOCKER_CONTEXT": "b", "DOCKER_HOST": "tcp://x:1"}) == "b"


def plugin(directory, mode=0o755):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "docker-buildx"
    path.write_text("#!/bin/sh\necho $*\n")
    path.chmod(mode)
    return str(path)


def test_buildx_is_started_by_its_own_path_where_the_cli_would_find_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(_docker, "PLUGIN_DIRS", (str(tmp_path / "usr"),))
    env = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    systems = plugin(tmp_path / "usr")
    assert _docker.buildx_plugin(env) == systems
    users = plugin(tmp_path / "docker/cli-plugins")
    assert _docker.buildx_plugin(env) == users
    assert Docker().start_buildx("inspect", "ci").wait().out == "inspect ci\n"


def test_buildx_is_left_to_the_cli_where_the_way_to_it_is_not_plain(tmp_path, monkeypatch):
    env = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    monkeypatch.setattr(_docker, "PLUGIN_DIRS", (str(tmp_path / "usr"),))
    assert _docker.buildx_plugin(env) == ""
    plugin(tmp_path / "docker/cli-plugins", mode=0o644)
    plugin(tmp_path / "usr")
    assert _docker.buildx_plugin(env) == "", "what the CLI would find first cannot be executed"
    plugin(tmp_path / "docker/cli-plugins")
    (tmp_path / "docker/config.json").write_text('{"cliPluginsExtraDirs": ["/opt/plugins"]}')
    assert _docker.buildx_plugin(env) == ""
    cli = tmp_path / "cli"
    cli.write_text("#!/bin/sh\necho cli $*\n")
    cli.chmod(0o755)
    assert Docker(str(cli)).start_buildx("inspect", "ci").wait().out == "cli buildx inspect ci\n"

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab's ways to be Drone's runner and its build plugin; what each does was compared with the real ones, see their files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FILES = Path(__file__).resolve().parents[3] / "roles/lab/files"
PLUGIN = "thegeeklab/drone-docker-buildx:23"


def load(name):
    spec = importlib.util.spec_from_file_location(f"lab_{name}", FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


step = load("step")


def compiled(*steps, repo=None, **more):
    text = more.pop("config", None) or yaml.safe_dump({"kind": "pipeline", "name": "default", "steps": list(steps)})
    return step.compiled({"config": text, "step": steps[-1]["name"] if steps else "docker", "repo": repo or {}, **more})


def docker(**more):
    return {"name": "docker", "image": PLUGIN, **more}


# drone-runner-docker's encoder_test.go, and what its `compile` says of more
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("foo", "foo"),
        (True, "true"),
        (42, "42"),
        (42.424242, "42.424242"),
        (100000000.0, "1e+08"),
        (["foo", "bar"], "foo,bar"),
        ([1, True, 1.5], "1,true,1.5"),
        ([{"name": "john"}], '[{"name":"john"}]'),
        ({"foo": "bar"}, '{"foo":"bar"}'),
        ([], ""),
    ],
)
def test_a_setting_becomes_the_variable_that_the_runner_makes_of_it(value, text):
    assert compiled(docker(settings={"Some_thing": value})).environment["PLUGIN_SOME_THING"] == text


def test_secrets_are_told_by_name_and_a_setting_that_is_null_is_none():
    made = compiled(
        docker(settings={"password": {"from_secret": "p"}, "x": None}, environment={"T": {"from_secret": "t"}})
    )
    assert made.secrets == {"PLUGIN_PASSWORD": "p", "T": "t"}
    assert not {"PLUGIN_PASSWORD", "PLUGIN_X", "T"} & set(made.environment)


def test_dollars_are_put_in_over_the_whole_text_before_it_is_yaml():
    text = "kind: pipeline\nsteps: [{name: docker, image: x, settings: {a: '${DRONE_COMMIT_SHA:0:8}', b: $$x, c: '${NO:-d}'}}]\n"
    environment = compiled(config=text, build={"commit": "0123456789ab"}).environment
    assert [environment[f"PLUGIN_{name}"] for name in "ABC"] == ["01234567", "$x", "d"]
    with pytest.raises(step.Refused, match="does not know"):
        compiled(config=text.replace("NO:-d", "NO##v"))


@pytest.mark.parametrize(
    ("repo", "images", "more", "privileged"),
    [
        ({"trusted": True}, [], {"privileged": True}, True),
        ({}, ["docker.io/thegeeklab/drone-docker-buildx:1"], {}, True),
        ({}, ["thegeeklab/drone-docker-buildx"], {"commands": ["x"]}, False),
        ({}, ["thegeeklab/drone-docker-buildx"], {"environment": {"DOCKER_HOST": "x"}}, False),
        ({"trusted": True}, [], {}, False),
        ({}, [], {"image": "plugins/docker"}, True),
    ],
)
def test_who_is_privileged(repo, images, more, privileged):
    assert compiled(docker(**more), repo=repo, privileged_images=images).privileged is privileged


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([docker(privileged=True)], "linter: untrusted repositories cannot enable privileged mode"),
        ([{"name": "x", "image": "y", "network_mode": "host"}, docker()], "linter: untrusted repositories cannot configure network_mode"),
        ([docker(), docker()], "linter: duplicate step names"),
        ([{"name": "docker"}], "linter: invalid or missing image"),
    ],
)  # fmt: skip
def test_what_the_linter_refuses_is_refused_in_its_words(steps, says):
    with pytest.raises(step.Refused, match=says):
        compiled(*steps)


@pytest.mark.parametrize(
    ("when", "build", "skipped"),
    [
        ({}, {}, False),
        ({"event": "tag"}, {}, True),
        ({"event": {"exclude": ["pull_request"]}}, {"event": "pull_request"}, True),
        ({"event": {"exclude": ["pull_request"]}}, {}, False),
        ({"branch": ["release/*"]}, {"branch": "release/1"}, False),
        ({"ref": {"include": "refs/tags/*"}}, {}, True),
    ],
)
def test_a_step_whose_conditions_are_not_met_is_skipped(when, build, skipped):
    assert compiled(docker(when=when), build=build).skipped is skipped


def test_commands_are_one_script_that_stops_at_the_first_failure_and_shows_each():
    made = compiled(docker(commands=["cd a", 'echo "$HOME" | cat']))
    assert made.entrypoint == ["/bin/sh", "-c"]
    assert made.command == ['echo "$DRONE_SCRIPT" | /bin/sh']
    script = made.environment["DRONE_SCRIPT"]
    assert "set -e\n" in script
    assert script.endswith('\necho + "echo \\"\\$HOME\\" | cat"\necho "$HOME" | cat\n')


@pytest.fixture
def fake_docker(tmp_path, monkeypatch):
    """Put a `docker` first that writes down its arguments and says its environment."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/argv\ncase "$1" in run) env; test -z "$PLUGIN_FAIL" || exit 3;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def go(*arguments, **request):
        done = subprocess.run(
            [sys.executable, FILES / "step.py", *arguments],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
        path = tmp_path / "argv"
        return done, path.read_text().splitlines() if path.exists() else []

    return go


def test_a_secret_reaches_the_container_and_neither_an_argument_nor_the_log(fake_docker):
    text = yaml.safe_dump(
        {
            "kind": "pipeline",
            "steps": [docker(settings={"key": {"from_secret": "key"}, "fail": True, "user": "octocat"})],
        }
    )
    request = {"config": text, "secrets": {"key": "hunter2-a\nhunter2-b\n"}, "workspace": "/srv/x"}
    done, argv = fake_docker(**request, images={PLUGIN: "stand-in"})
    assert done.returncode == 3
    assert "PLUGIN_USER=octocat" in done.stdout
    assert "PLUGIN_KEY=******\n******\n" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr + "".join(argv)
    assert [line.split()[0] for line in argv] == ["network", "run", "network"]
    assert argv[1].split()[-1] == "stand-in"
    assert "--privileged" not in argv[1]
    assert "--volume=/srv/x:/drone/src" in argv[1]
    assert f"stand-in stands for {PLUGIN}" in done.stdout
    assert "hunter2" not in fake_docker("--show", **request)[0].stdout


def test_a_step_that_is_skipped_runs_nothing_and_a_refusal_is_one_line(fake_docker):
    text = yaml.safe_dump({"kind": "pipeline", "steps": [docker(when={"event": "tag"})]})
    done, argv = fake_docker(config=text)
    assert (done.returncode, argv) == (0, [])
    assert "is skipped" in done.stdout
    done, argv = fake_docker(config=text, pipeline="nope")
    assert (done.returncode, done.stderr, argv) == (1, "the file has no pipeline nope\n", [])


# The plugin


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """Return the plugin's stand-in with these settings in the environment."""
    if sys.version_info < (3, 11):
        pytest.skip("it runs on Debian 13's Python")
    module = load("plugin")
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def go(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(name if name.startswith("DRONE_") else f"PLUGIN_{name.upper()}", value)
        return module

    return go


def without_time(argv):
    return [word for word in argv if not word.startswith("DOCKER_IMAGE_CREATED=")]


def test_the_articles_settings_make_the_command_that_the_plugin_makes(plugin):
    made = plugin(
        repo="octocat/example", tags="latest", platforms="linux/amd64,linux/arm64", username="a", password="b"
    )
    assert without_time(made.build()) == [
        *("buildx", "build", "--rm=true", "-f", "Dockerfile", ".", "--push", "--pull=true", "--build-arg"),
        *("--platform", "linux/amd64,linux/arm64", "-t", "octocat/example:latest"),
    ]


def test_without_tags_nothing_is_pushed(plugin):
    assert not {"--push", "-t"} & set(plugin(repo="a/b").build())


@pytest.mark.parametrize(
    ("ref", "tags"),
    [
        ("refs/heads/main", ["latest"]),
        ("refs/heads/dev", []),
        ("refs/tags/v1.2.3", ["1", "1.2", "1.2.3"]),
        ("refs/tags/0.9.0", ["0.9", "0.9.0"]),
        ("refs/tags/v18.06.0-rc1", ["18.6.0-rc1"]),
        ("refs/tags/1.2.3-", ["1", "1.2", "1.2.3"]),
    ],
)
def test_auto_tag_makes_the_tags_that_the_plugin_makes(plugin, ref, tags):
    module = plugin(repo="a/b", auto_tag="true", DRONE_COMMIT_REF=ref, DRONE_REPO_BRANCH="main")
    assert module.tags() == tags


@pytest.mark.parametrize("tag", ["x1.0.0", "1.2", "1.2.3.4", "1.2.3-a..b"])
def test_a_tag_that_is_no_version_fails(plugin, tag):
    module = plugin(auto_tag="true", DRONE_COMMIT_REF=f"refs/tags/{tag}")
    with pytest.raises(module.Failed, match="validation failed"):
        module.tags()


def test_settings_of_the_build_and_of_the_daemon_are_passed_on(plugin):
    module = plugin(
        repo="a/b", tags="1, 2", cache_from=r"type=registry\,ref=x,y", pull_image="false", build_args="A=1,B=x y",
        bip="192.168.0.1/24", mirror="http://m", custom_dns="1.1.1.1,8.8.8.8", dry_run="t",
    )  # fmt: skip
    assert without_time(module.build()) == [
        *("buildx", "build", "--rm=true", "-f", "Dockerfile", "."),
        *("--cache-from", "type=registry,ref=x", "--cache-from", "y"),
        *("--build-arg", "--build-arg", "A=1", "--build-arg", "B=x y", "-t", "a/b:1", "-t", "a/b:2"),
    ]
    assert module.daemon() == [
        *("--data-root", "/var/lib/docker", "--host=unix:///var/run/docker.sock"),
        *("--registry-mirror", "http://m", "--bip", "192.168.0.1/24", "--dns", "1.1.1.1", "--dns", "8.8.8.8"),
    ]
    assert module.plain_http('[registry."a:1"]\nhttp = true\n[registry."b"]\nmirrors = ["x"]\n') == ["a:1"]

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a described pipeline comes to, and what is refused that Drone or a plugin would swallow."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.pipeline import Pipeline, from_secrets
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.plugins import PLUGINS, credentials_within
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.strategies import check_cross, documents
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump_all
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

# The pipelines of https://blog.wu-boy.com/2023/04/drone-ci-cd-to-build-multiarch-docker-images-with-buildx-en/
ARTICLE_1 = """
kind: pipeline
name: default

steps:
  - name: docker
    image: thegeeklab/drone-docker-buildx:23
    privileged: true
    settings:
      username: octocat
      password: secure
      repo: octocat/example
      tags: latest
      platforms:
        - linux/amd64
        - linux/arm64
"""
ARTICLE_2 = ARTICLE_1.replace("tags: latest", "auto_tag: true")
ARTICLE_3 = """
- name: publish_image_to_aws_registry
  pull: always
  image: ghcr.io/bitprocessor/drone-docker-buildx-ecr:1.0.0
  privileged: true
  settings:
    access_key:
      from_secret: aws_docker_push_id
    secret_key:
      from_secret: aws_docker_push_key
    auto_tag: true
    region: ap-southeast-1
    Dockerfile: docker/Dockerfile.aws
    cache_from: xxxxxxxxxxxx.dkr.ecr.ap-southeast-1.amazonaws.com/user-service
    registry: xxxxxxxxxxxx.dkr.ecr.ap-southeast-1.amazonaws.com
    repo: user-service
    platforms:
      - linux/arm64
      - linux/amd64
"""
ONE = {
    "name": "default",
    "plugin": "thegeeklab",
    "step": "docker",
    "privileged": True,
    "repo": "octocat/example",
    "tags": ["latest"],
    "platforms": ["linux/amd64", "linux/arm64"],
    "settings": {"username": "octocat", "password": "secure"},
}
REGISTRY = "xxxxxxxxxxxx.dkr.ecr.ap-southeast-1.amazonaws.com"
THREE = {
    "plugin": "ecr",
    "step": "publish_image_to_aws_registry",
    "pull": "always",
    "repo": "user-service",
    "auto_tag": True,
    "platforms": ["linux/arm64", "linux/amd64"],
    "settings": {
        "access_key": {"from_secret": "aws_docker_push_id"},
        "secret_key": {"from_secret": "aws_docker_push_key"},
        "region": "ap-southeast-1",
        "Dockerfile": "docker/Dockerfile.aws",
        "cache_from": f"{REGISTRY}/user-service",
        "registry": REGISTRY,
    },
}
BASE = {"repo": "octocat/example", "platforms": ["linux/amd64", "linux/arm64"]}
REMOTE = {**BASE, "strategy": "remote", "builders": [{"endpoint": "tcp://builder.example.com:1234"}]}
NATIVE = {**BASE, "strategy": "native", "tags": ["1.0"]}
LOGIN = {"username": {"from_secret": "user"}, "password": {"from_secret": "pass"}}


def render(description, **more):
    """Return the documents as Drone will read them: written as YAML and read again."""
    made = documents(Pipeline.parse({**description, **more}, allow_plaintext=True))
    read = list(yaml.safe_load_all(dump_all(made)))
    assert read == [dict(document) for document in made]
    return read


def the_step(description, **more):
    (document,) = render(description, **more)
    return document["steps"][-1]


def test_the_articles_first_pipeline_comes_out():
    assert render(ONE) == [yaml.safe_load(ARTICLE_1)]


def test_the_articles_second_pipeline_comes_out():
    description = {name: value for name, value in ONE.items() if name != "tags"}
    assert render(description, auto_tag=True) == [yaml.safe_load(ARTICLE_2)]


def test_the_articles_third_step_comes_out():
    assert the_step(THREE) == yaml.safe_load(ARTICLE_3)[0]


@pytest.mark.parametrize("plugin", [name for name in PLUGINS if name not in ("any", "ecr")])
def test_every_plugin_takes_what_is_described(plugin):
    several = {} if PLUGINS[plugin].several_platforms else {"platforms": ["linux/arm64"]}
    step = the_step(
        BASE, plugin=plugin, tags=["1", "2"], **LOGIN, dockerfile="a/Dockerfile", labels={"a": "b"}, **several
    )
    known = PLUGINS[plugin].settings
    assert set(step["settings"]) <= known
    assert step["settings"]["tags"] == ["1", "2"]
    assert step["settings"].get("dockerfile", step["settings"].get("containerfile")) == "a/Dockerfile"


@pytest.mark.parametrize("plugin", [name for name, plugin in PLUGINS.items() if not plugin.latest])
def test_a_plugin_that_pushes_nothing_without_tags_is_told_the_tag_that_it_promises(plugin):
    assert the_step(BASE, plugin=plugin)["settings"]["tags"] == "latest"
    for more in (
        {"tags": []},
        {"settings": {"output": "type=tar,dest=x"}},
        {"settings": {"tag": "x"}},
        {"auto_tag": True},
    ):
        if plugin != "ecr" or "output" not in more.get("settings", {}):
            assert "tags" not in the_step(BASE, plugin=plugin, **more)["settings"]


def test_a_plugin_with_the_hosts_daemon_needs_no_privilege():
    step = the_step(BASE, privileged=False, settings={"daemon_off": True})
    assert "privileged" not in step


def test_any_image_takes_any_setting():
    step = the_step(BASE, image="example/mine:1", settings={"whatever": 1})
    assert step == {
        "name": "docker",
        "image": "example/mine:1",
        "settings": {"whatever": 1, "repo": "octocat/example", "platforms": ["linux/amd64", "linux/arm64"]},
    }


def test_plugins_docker_is_privileged_by_the_runner_itself():
    assert the_step({"repo": "a/b", "platforms": ["arm64"]}, plugin="docker") == {
        "name": "docker",
        "image": "plugins/docker:20.18",
        "settings": {"repo": "a/b", "platform": "linux/arm64"},
    }


def test_woodpeckers_plugin_is_told_the_ref_that_drone_does_not_tell_it():
    step = the_step(BASE, plugin="wp-docker-buildx", auto_tag=True)
    assert step["environment"] == {
        "CI_COMMIT_REF": "${DRONE_COMMIT_REF}",
        "CI_REPO_DEFAULT_BRANCH": "${DRONE_REPO_BRANCH}",
    }
    assert "environment" not in the_step(BASE, plugin="wp-docker-buildx", tags=["1"])


def test_a_caches_comma_is_escaped_since_the_plugin_splits_there():
    step = the_step(BASE, cache_from=["type=registry,ref=a/b"], cache_to=["type=registry,ref=a/b,mode=max"])
    assert step["settings"]["cache_from"] == [r"type=registry\,ref=a/b"]
    assert step["settings"]["cache_to"] == "type=registry,ref=a/b,mode=max"


def test_a_build_argument_of_a_secret_goes_through_the_environment():
    step = the_step(BASE, build_args={"A": 1, "FLAG": True, "TOKEN": {"from_secret": "token"}})
    assert step["settings"]["build_args"] == ["A=1", "FLAG=true"]
    assert step["settings"]["build_args_from_env"] == ["TOKEN"]
    assert step["environment"] == {"TOKEN": {"from_secret": "token"}}


def test_the_rest_of_the_document_is_written_as_it_is_given():
    (document,) = render(
        BASE,
        name="build",
        trigger={"branch": ["main"]},
        depends_on=["test"],
        steps=[{"name": "test", "image": "golang", "commands": ["go test ./..."]}],
        steps_after=[{"name": "notify", "image": "slack"}],
        extra={"type": "docker", "node": {"pool": "big"}},
        step_extra={"failure": "ignore"},
        when={"event": "push"},
    )
    assert list(document) == ["kind", "type", "name", "node", "trigger", "depends_on", "steps"]
    assert [step["name"] for step in document["steps"]] == ["test", "docker", "notify"]
    assert document["steps"][1]["failure"] == "ignore"
    assert document["steps"][1]["when"] == {"event": "push"}


def test_platforms_are_written_as_oci_names_them_each_once():
    assert the_step({"repo": "a/b"}, platforms=["aarch64", "arm64", "armhf"])["settings"]["platforms"] == [
        "linux/arm64",
        "linux/arm/v7",
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"reop": "a/b"}, "'reop'.*did you mean repo?"),
        ({"repo": None}, "repo is missing"),
        ({"repo": ""}, "repo is empty"),
        ({"repo": "octocat/example:latest"}, "holds a tag.*tags: \\[latest\\]"),
        ({"repo": "Octocat/Example"}, "lower case"),
        ({"tags": ["a b"]}, "not a valid tag"),
        ({"tags": [1.1]}, "read as a number"),
        ({"auto_tag": True, "tags": ["latest"]}, "auto_tag makes the tags itself"),
        ({"auto_tag": True, "settings": {"tags": "x"}}, "auto_tag makes the tags itself"),
        ({"settings": {"auto_tag": True}, "tags": ["x"]}, "auto_tag makes the tags itself"),
        ({"auto_tag_suffix": "x"}, "does nothing"),
        ({"platforms": ["linux/arm9"]}, "linux/arm9.*not a platform"),
        ({"platforms": "linux/arm64,windows/amd64"}, "windows"),
        ({"plugin": "thegeklab"}, "did you mean thegeeklab"),
        ({"strategy": "emulate"}, "did you mean emulated"),
        ({"settings": {"tagz": "x"}}, "'tagz' and would ignore it; did you mean tags?"),
        ({"settings": {"Repo": "x"}}, "repo and settings.Repo say the same"),
        ({"settings": {"MIRROR": "x", "mirror": "y"}}, "the same one to Drone"),
        ({"settings": {"secrets": "x"}}, "drone-docker-buildx:24"),
        ({"plugin": "wp-docker-buildx", "settings": {"dockerfile": "x"}}, "containerfile"),
        ({"plugin": "docker"}, "one platform.*thegeeklab, wp-docker-buildx, woodpecker or ecr builds several"),
        ({"plugin": "docker", "platforms": [], "settings": {"platforms": "a,b"}}, "builds several"),
        ({"plugin": "docker", "platforms": ["arm64"], "cache_to": ["x"]}, "cache_to.*thegeeklab"),
        ({"plugin": "woodpecker", "cache_from": ["a", "b"]}, "takes one cache_from"),
        ({"plugin": "any"}, "set image"),
        ({"registry": "registry.example.com"}, "pushed to Docker Hub.*registry.example.com/octocat/example"),
        ({"settings": {"registry": "https://registry.example.com/v2"}}, "pushed to Docker Hub"),
        ({"build_args": {"A": "1,2"}}, "comma"),
        ({"build_args": ["A"]}, "no value"),
        ({"build_args": {"A": {"secret": "x"}}}, "from_secret"),
        ({"steps": [{"name": "docker"}]}, "two steps are named docker"),
        ({"steps": "go test"}, "not a dictionary|not a list"),
        ({"settings": ["a"]}, "not a dictionary"),
        ({"privileged": "maybe"}, "neither true nor false"),
        ({"builders": [{"endpoint": "tcp://a:1"}]}, "builders is for strategy remote"),
        ({"strategy": "cross", "platforms": []}, "none is named"),
        ({"strategy": "native", "platforms": []}, "none is named"),
        ({"strategy": "native", "settings": {"username": "x"}}, "move settings.username to username"),
        ({"strategy": "native", "plugin": "ecr"}, "cannot log in to ECR"),
        ({"strategy": "remote"}, "set builders"),
        ({"strategy": "remote", "plugin": "thegeeklab"}, "leave plugin out"),
        ({**REMOTE, "builders": [{"endpoint": "unix:///run/buildkitd.sock"}]}, "needs trust"),
        ({**REMOTE, "builders": [{"endpoint": "builder:1234"}]}, "not a daemon's address.*tcp://"),
        ({**REMOTE, "builders": [{"endpoint": "tcp://a:1;id"}]}, "not a daemon's address"),
        ({**REMOTE, "builders": [{"endpont": "tcp://a:1"}]}, "did you mean endpoint"),
        ({**REMOTE, "builders": [{"endpoint": "tcp://a:1", "platforms": ["amd64"]}]}, "no builder builds linux/arm64"),
        ({**REMOTE, "privileged": True}, "no privileged step"),
        ({"privileged": False}, "starts a Docker daemon.*thegeeklab/drone-docker-buildx in privileged_images"),
        ({"plugin": "docker", "platforms": ["arm64"], "step_extra": {"volumes": [{"name": "x"}]}}, "not a step with volumes"),
        ({"plugin": "docker", "platforms": ["arm64"], "environment": {"HOME": "/"}}, "not a step with environment.HOME"),
        ({"plugin": "docker", "platforms": ["arm64"], "settings": {"cosign_params": "x"}}, "plugins/docker:21.3"),
        ({**REMOTE, "when": {"event": ["push", "pull_request"]}}, "pull requests"),
        ({**REMOTE, "when": {"event": {"include": "pull_request"}}}, "pull requests"),
        ({**REMOTE, "settings": {"mirror": "x"}}, "'mirror' is a plugin's"),
        ({**REMOTE, **LOGIN, "build_args": {"REGISTRY_PASSWORD": {"from_secret": "x"}}}, "the step's own variable"),
        ({**REMOTE, "build_args": {"PATH": {"from_secret": "x"}}}, "the step's own variable"),
        ({**REMOTE, "settings": {"platforms": "arm64"}}, "say the same"),
    ],
)  # fmt: skip
def test_what_would_be_swallowed_is_refused(more, says):
    with pytest.raises(Problem, match=says):
        render(BASE, **more)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"region": "us-east-1"}, "is in region ap-southeast-1, and region is us-east-1"),
        ({"region": None}, "no region is set, which means us-east-1"),
        ({"registry": "registry.example.com"}, "not an ECR registry"),
        ({"username": "x"}, "access_key"),
        ({"cache_to": "x"}, "woodpecker"),
    ],
)
def test_an_ecr_registry_must_fit_its_region(settings, says):
    with pytest.raises(Problem, match=says):
        render(THREE, settings={**THREE["settings"], **settings})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"password": "hunter2"}, "password"),
        ({"settings": {"password": "hunter2"}}, "settings.password"),
        ({"settings": {"PASSWORD": "hunter2"}}, "settings.PASSWORD"),
        ({"settings": {"config": '{"auths": {}}'}}, "settings.config"),
        ({"plugin": "ecr", "repo": "x", "settings": {"secret_key": "hunter2"}}, "settings.secret_key"),
        ({"environment": {"API_TOKEN": "hunter2"}}, "environment.API_TOKEN"),
        ({"build_args": {"NPM_TOKEN": "hunter2"}}, "build_args.NPM_TOKEN"),
        ({"steps": [{"name": "x", "environment": {"PASSWORD": "hunter2"}}]}, "step x, environment.PASSWORD"),
        ({"password": {"value": "hunter2"}}, "password"),
        ({"password": ["hunter2"]}, "password"),
        ({"password": [{"from_secret": "x"}, "hunter2"]}, "password"),
        ({"password": {"from_secret": "x", "value": "hunter2"}}, "password"),
        ({"password": {"from_secret": ["hunter2"]}}, "password"),
        ({"password": 12345}, "password"),
        ({"settings": {"logins": [{"registry": "x", "password": "hunter2"}]}}, "settings.logins"),
        ({"plugin": "any", "image": "x", "settings": {"a": {"b": {"token": "hunter2"}}}}, "settings.a.b.token"),
        ({"environment": {"API_TOKEN": {"value": "hunter2"}}}, "environment.API_TOKEN"),
        ({"build_args": ["NPM_TOKEN=hunter2"]}, "build_args.NPM_TOKEN"),
        ({"settings": {"mirror": "https://me:hunter2@mirror"}}, "settings.mirror"),
        ({"step_extra": {"environment": {"API_TOKEN": "hunter2"}}}, "step_extra.environment.API_TOKEN"),
        ({"extra": {"services": [{"name": "db", "environment": {"PASSWORD": "hunter2"}}]}}, "step db, environment"),
    ],
)
def test_a_credential_in_clear_text_is_refused_unless_allowed_and_never_repeated(more, says):
    with pytest.raises(Problem, match=says) as caught:
        Pipeline.parse({**BASE, **more})
    assert "hunter2" not in str(caught.value)
    assert "from_secret" in str(caught.value)
    assert "hunter2" not in str(more) or "hunter2" in list(credentials_within(more))


@pytest.mark.parametrize("word", ["from_secrt", "from-secret", "fromSecret", "From_Secret", "from_secrets"])
@pytest.mark.parametrize("where", ["password", "username", "settings", "environment", "steps"])
def test_a_misspelt_from_secret_is_refused_even_where_clear_text_is_allowed(word, where):
    value = {word: "docker_password"}
    more = {where: value if where.endswith(("name", "word")) else {"X": value}}
    if where == "steps":
        more = {"steps": [{"name": "x", "settings": {"y": [value]}}]}
    with pytest.raises(Problem, match="from_secret: NAME"):
        Pipeline.parse({**BASE, **more}, allow_plaintext=True)


@pytest.mark.parametrize("value", [{"from_secret": "x"}, "${DOCKER_PASSWORD}", "$PASSWORD", ""])
def test_what_only_names_a_credential_is_none(value):
    assert Pipeline.parse({**BASE, "password": value or None})
    assert not list(credentials_within({"password": value, "settings": {"secret": "id=x"}, "x_token": None}))


def test_native_is_a_pipeline_for_each_platform_and_one_that_joins():
    made = render(NATIVE, **LOGIN, platforms=["amd64", "arm64", "armhf"], steps=[{"name": "test", "image": "x"}])
    assert [document["name"] for document in made] == ["default-amd64", "default-arm64", "default-arm-v7", "default"]
    assert [document.get("platform") for document in made] == [
        {"os": "linux", "arch": "amd64"},
        {"os": "linux", "arch": "arm64"},
        {"os": "linux", "arch": "arm", "variant": "v7"},
        None,
    ]
    assert [document["steps"][-1].get("settings", {}).get("tags") for document in made[:3]] == [
        "1.0-linux-amd64",
        "1.0-linux-arm64",
        "1.0-linux-arm-v7",
    ]
    join = made[-1]
    assert join["depends_on"] == ["default-amd64", "default-arm64", "default-arm-v7"]
    assert join["clone"] == {"disable": True}
    assert "privileged" not in join["steps"][0]


def test_native_lets_a_plugin_of_one_platform_build_several():
    made = render(NATIVE, plugin="docker", tags=None, auto_tag=True)
    assert [document["steps"][-1]["settings"]["platform"] for document in made[:2]] == ["linux/amd64", "linux/arm64"]


def test_remote_is_one_ordinary_step_that_no_pull_request_runs():
    step = the_step(REMOTE, **LOGIN)
    assert "privileged" not in step
    assert "volumes" not in step
    assert step["when"] == {"event": {"exclude": ["pull_request"]}}
    assert sorted(from_secrets(step)) == ["buildkit_ca", "buildkit_cert", "buildkit_key", "pass", "user"]


@pytest.mark.parametrize(
    ("when", "becomes"),
    [
        ({"branch": "main"}, {"branch": "main", "event": {"exclude": ["pull_request"]}}),
        ({"event": ["push", "tag"]}, {"event": ["push", "tag"]}),
        ({"event": "tag"}, {"event": "tag"}),
        ({"event": "*"}, {"event": {"include": ["*"], "exclude": ["pull_request"]}}),
        ({"event": ["push", "pull_*"]}, {"event": {"include": ["push", "pull_*"], "exclude": ["pull_request"]}}),
        ({"event": {"exclude": ["cron"]}}, {"event": {"exclude": ["cron", "pull_request"]}}),
        ({"event": {"exclude": "cron"}}, {"event": {"exclude": ["cron", "pull_request"]}}),
        ({"event": {"include": ["push"]}}, {"event": {"include": ["push"], "exclude": ["pull_request"]}}),
    ],
)
def test_remote_keeps_conditions_and_never_runs_for_pull_requests(when, becomes):
    assert the_step(REMOTE, when=when)["when"] == becomes


def test_only_the_strategy_need_change_from_the_articles_pipeline_to_remote():
    description = {name: value for name, value in ONE.items() if name not in ("plugin", "privileged")}
    step = the_step(description, strategy="remote", builders=REMOTE["builders"])
    assert step["environment"]["REGISTRY_USERNAME"] == "octocat"


@pytest.mark.parametrize(
    "more",
    [
        {"auto_tag": True, "auto_tag_suffix": "x"},
        {"tags": ["${DRONE_TAG}", "a"]},
        {"build_args": {"A": "${DRONE_COMMIT:0:8}$$x"}},
    ],
)
@pytest.mark.parametrize("base", [REMOTE, NATIVE])
def test_no_command_has_what_drone_would_replace_before_the_shell_sees_it(base, more):
    description = {name: value for name, value in base.items() if name != "tags"}
    for document in render(description, **more, **LOGIN):
        for command in document["steps"][-1].get("commands", []):
            assert "${" not in command
            assert "$$" not in command


@pytest.mark.parametrize(
    ("dockerfile", "says"),
    [
        ("FROM --platform=$BUILDPLATFORM golang AS b\nRUN go build\nFROM scratch\nCOPY --from=b /a /a\n", None),
        ("FROM --platform=${BUILDPLATFORM} golang AS b\nRUN go build\nFROM b AS c\nRUN x\nFROM scratch\nCOPY --from=c /a /\n", None),
        ("from --platform=$BUILDPLATFORM a as B\nrun x\nfrom scratch\ncopy --from=b / /\n", None),
        ("FROM debian AS unused\nRUN x\nFROM --platform=$BUILDPLATFORM a AS b\nRUN y\nFROM scratch\nCOPY --from=b / /\n", None),
        ("# RUN x\nFROM --platform=$BUILDPLATFORM a AS b\nFROM scratch\nCOPY <<EOF /x\nRUN not this\nEOF\nCOPY --from=0 / /\n", None),
        ("FROM golang\nRUN go build\n", "line 2: RUN"),
        ("FROM --platform=$BUILDPLATFORM golang AS b\nRUN a\nFROM debian\nCOPY --from=b / /\nRUN apt-get \\\n  update\n", "line 5: RUN.*line 3"),
        ("FROM --platform=linux/amd64 golang\nRUN x\n", "line 2: RUN"),
        ("FROM scratch\nCOPY . /\n", "nowhere says FROM --platform"),
        ("FROM --platform=$TARGETPLATFORM golang AS b\nRUN x\nFROM scratch\nCOPY --from=b / /", "line 2: RUN"),
        ("ARG X\n", "no FROM"),
        ("", "no FROM"),
    ],
)  # fmt: skip
def test_cross_takes_a_dockerfile_that_executes_nothing_of_the_target_platform(dockerfile, says):
    if says is None:
        check_cross(dockerfile, "Dockerfile")
    else:
        with pytest.raises(Problem, match=says):
            check_cross(dockerfile, "Dockerfile")


def test_cross_looks_at_the_stages_of_the_target_alone():
    dockerfile = "FROM --platform=$BUILDPLATFORM a AS b\nRUN x\nFROM scratch AS good\nCOPY --from=b / /\nFROM debian AS bad\nRUN y\n"
    check_cross(dockerfile, "Dockerfile", "good")
    with pytest.raises(Problem, match="line 6"):
        check_cross(dockerfile, "Dockerfile", "bad")
    with pytest.raises(Problem, match="no stage 'ugly'"):
        check_cross(dockerfile, "Dockerfile", "ugly")

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a registry says decides whether anything is built. The real ones are in tests/registry."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Docker, Output
from ansible_collections.multiarch.drone.plugins.module_utils._image import build as _build
from ansible_collections.multiarch.drone.plugins.module_utils._image import declare, inputs, transport
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

INDEX = "application/vnd.oci.image.index.v1+json"
OPTIONS = {
    **{name: {} for name in ("add_hosts", "annotations", "build_args", "build_contexts", "labels")},
    **{name: [] for name in ("allow", "attests", "cache_from", "cache_to", "no_cache_filters", "outputs")},
    **{name: [] for name in ("insecure_registries", "secrets", "ssh", "ulimit")},
    **dict.fromkeys(
        ("builder", "ca_path", "cgroup_parent", "file", "network", "provenance", "sbom", "shm_size", "target"), None
    ),
    **dict.fromkeys(("load", "no_cache", "pull"), False),
    "call": "build",
    "platforms": ["linux/amd64", "linux/arm64"],
    "push": True,
    "rebuild": "auto",
    "registry_timeout": 5,
    "tags": ["r.example/app:1"],
    "timeout": 60,
}


class World:
    """Registries that answer from a table, and a Docker that pushes what it is told to the table."""

    def __init__(self, monkeypatch, context):
        self.manifests = {}
        self.asked = []
        self.builds = []
        self.pushes = []
        self.context = context
        monkeypatch.setattr(transport.Transport, "request", self.request)
        monkeypatch.setattr(Docker, "run", self.docker)

    def request(self, url, headers, method="GET", body=None, verify=True):
        self.asked.append(f"{method} {url}")
        answer = self.manifests.get(url.replace("https://", "").replace("/v2", "").replace("/manifests/", ":"))
        if answer is None or isinstance(answer, int):
            return transport.Answer(answer or 404, {"www-authenticate": 'Basic realm="x"'}, b"{}", url)
        digest = "sha256:" + hashlib.sha256(answer).hexdigest()
        fields = {"content-type": INDEX, "docker-content-digest": digest}
        return transport.Answer(200, fields, b"" if method == "HEAD" else answer, url)

    def docker(self, *args, **_options):
        self.builds.append(args)
        manifests, rc = self.pushes.pop(0)
        self.manifests.update(manifests)
        return Output(("docker", *args), rc, "", "#1 step\nERROR: failed to solve: it broke" if rc else "#1 step")

    def has(self, name, digest="", platforms=("amd64", "arm64"), made="", attested=True):
        """Let a registry have an index, made from these inputs, whose platforms hold `made`."""
        entries = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": "sha256:" + hashlib.sha256((architecture + made).encode()).hexdigest(),
                "size": 1,
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture in platforms
        ]
        content = {"schemaVersion": 2, "manifests": entries, "annotations": {_build.KEY: digest} if digest else {}}
        return {name: json.dumps(content).encode()}

    def run(self, check=False, **options):
        build = _build.wish({**OPTIONS, "context": self.context, **options})
        return declare.pushed(build, Docker(), {**OPTIONS, **options}, check_mode=check)


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM r.example/base\nFROM r.example/base\n")
    made = World(monkeypatch, str(tmp_path / "context"))
    made.manifests = made.has("r.example/base:latest")
    made.digest = made.run(check=True)["input_digest"]
    made.asked.clear()
    return made


def test_an_unchanged_image_costs_one_question_for_its_base_and_one_for_each_tag(world):
    world.manifests.update(world.has("r.example/app:1", world.digest))
    result = world.run()
    assert (result["changed"], result["built"], result["reasons"]) == (False, False, [])
    assert world.asked == [
        "HEAD https://r.example/v2/base/manifests/latest",
        "GET https://r.example/v2/app/manifests/1",
    ]
    assert world.builds == []


@pytest.mark.parametrize(
    ("has", "reason"),
    [
        ({}, "r.example/app:1 is not there"),
        ({"digest": ""}, "r.example/app:1 does not say what it was made from"),
        ({"digest": "sha256:other"}, "r.example/app:1 was made from other inputs"),
        ({"digest": "right", "platforms": ["amd64"]}, "r.example/app:1 lacks linux/arm64"),
    ],
)
def test_what_is_missing_or_other_is_a_reason_to_build(world, has, reason):
    if has:
        digest = world.digest if has["digest"] == "right" else has["digest"]
        world.manifests.update(world.has("r.example/app:1", **{**has, "digest": digest}))
    result = world.run(check=True)
    assert result["reasons"] == [reason]
    assert (result["changed"], result["built"], result["images"]) == (True, False, [])
    assert world.builds == []


def test_check_mode_and_run_show_the_same_and_the_second_run_nothing(world):
    predicted = world.run(check=True)
    world.pushes.append((world.has("r.example/app:1", world.digest), 0))
    done = world.run()
    assert [done[key] for key in ("changed", "steps", "diff")] == [
        predicted[key] for key in ("changed", "steps", "diff")
    ]
    assert world.run()["changed"] is False
    assert len(world.builds) == 1


def test_other_inputs_that_make_the_same_image_are_no_change(world):
    world.manifests.update(world.has("r.example/app:1", "sha256:old", made="x"))
    world.pushes.append((world.has("r.example/app:1", world.digest, made="x"), 0))
    result = world.run()
    assert (result["built"], result["changed"], result["diff"]) == (True, False, {"before": {}, "after": {}})


def test_the_same_inputs_that_make_another_image_are_a_change_and_shown(world):
    world.manifests.update(world.has("r.example/app:1", world.digest, made="x"))
    world.pushes.append((world.has("r.example/app:1", world.digest, made="y"), 0))
    result = world.run(rebuild="always")
    assert (result["built"], result["changed"]) == (True, True)
    assert result["diff"]["after"]["r.example/app:1"]["built"] == "again"


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_that_a_registry_denies_may_come_to_be_with_the_first_push(world, status):
    world.manifests["r.example/app:1"] = status
    assert world.run(check=True)["reasons"] == ["r.example/app:1 is not there"]


@pytest.mark.parametrize(("status", "message"), [(500, "says 500"), (429, "too many requests")])
def test_a_registry_that_cannot_say_stops_everything_before_the_build(world, status, message):
    world.manifests["r.example/app:1"] = status
    with pytest.raises(Problem, match=message):
        world.run()
    assert world.builds == []


def test_a_base_image_that_nobody_can_look_up_leaves_no_digest_on_what_is_pushed(world):
    world.manifests["r.example/base:latest"] = 500
    world.pushes.append((world.has("r.example/app:1"), 0))
    result = world.run()
    assert result["input_digest"] == ""
    assert "the base image cannot be looked up: r.example/base:latest" in result["reasons"][0]
    assert not any(_build.KEY in argument for argument in world.builds[0])


def test_a_push_that_went_elsewhere_is_an_error(world):
    world.pushes.append(({}, 0))
    with pytest.raises(Problem, match="the registry has nothing that we may read; is it the same registry"):
        world.run()


def test_what_another_play_pushed_meanwhile_from_the_same_inputs_is_as_good(world, monkeypatch):
    def build(*args, **options):
        path = args[args.index("--metadata-file") + 1]
        with open(path, "w") as file:
            json.dump({"containerimage.digest": "sha256:mine"}, file)
        return World.docker(world, *args, **options)

    monkeypatch.setattr(Docker, "run", build)
    world.pushes.append((world.has("r.example/app:1", "sha256:another"), 0))
    with pytest.raises(Problem, match="the build pushed sha256:mine, and the registry has sha256:"):
        world.run()
    world.pushes.append((world.has("r.example/app:1", world.digest), 0))
    assert world.run()["built"] is True


def test_a_push_without_a_platform_is_an_error(world):
    world.pushes.append((world.has("r.example/app:1", world.digest, platforms=["amd64"]), 0))
    with pytest.raises(Problem, match="was pushed and lacks linux/arm64"):
        world.run()


def test_a_build_that_fails_says_why_and_brings_its_log(world):
    world.pushes.append(({}, 1))
    with pytest.raises(Problem, match=r"building r\.example/app:1 failed: failed to solve: it broke") as caught:
        world.run()
    assert caught.value.facts["log"][0] == "#1 step"


def test_a_secrets_lines_are_blotted_out_of_the_log(tmp_path):
    (tmp_path / "key").write_text("-----BEGIN KEY-----\nabcdef\nok\n")
    build = type("Build", (), {"secrets": (_build.Secret("a", str(tmp_path / "key"), "", ""),)})()
    log = declare._log(build, Output((), 0, "", "#1 -----BEGIN KEY-----\n#1 abcdef\n#1 ok\n"))
    assert log == ("#1 ********", "#1 ********", "#1 ok")


def test_a_digest_of_inputs_does_not_change_between_versions_of_this_collection():
    """A change here builds every image of every user again: then count _inputs.FORMAT up, and say so in the changelog."""
    assert inputs.FORMAT == 1
    facts = {"format": 1, "context": "sha256:0", "options": {"platforms": ["linux/amd64"]}}
    assert (
        inputs._digest(facts)
        == "sha256:"
        + hashlib.sha256(b'{"context":"sha256:0","format":1,"options":{"platforms":["linux/amd64"]}}').hexdigest()
    )

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import registry, transport
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import image_platforms_info


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "the list of images is empty"),
        ({"images": ["Alpine"]}, "'Alpine' is not an image reference"),
        ({"require": ["linux/arm9"]}, r"did you mean linux/arm64\?"),
        ({"require": ["windows/amd64"]}, "windows/amd64 is a platform of windows"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"ca_path": "/nowhere"}, "/nowhere, which ca_path names, cannot be read"),
        ({"insecure_registries": ["http://x"]}, "write HOST or HOST:PORT"),
    ],
)
def test_bad_input_is_refused_before_a_registry_is_asked(monkeypatch, arguments, message):
    monkeypatch.setattr(registry, "read_all", lambda *_unused: pytest.fail("a registry was asked"))
    defaults = {
        "images": ["a"],
        "require": [],
        "timeout": 30,
        "insecure_registries": [],
        "ca_path": None,
        "sizes": False,
    }
    with pytest.raises(Problem, match=message):
        image_platforms_info.read(SimpleNamespace(params={**defaults, **arguments}))


# main(): the result, and what is asked

INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(body):
    return "sha256:" + hashlib.sha256(body).hexdigest()


class World:
    """Registries as a table: a path to a body, or to the status of a refusal."""

    def __init__(self):
        self.there, self.asked = {}, []

    def manifest(self, size):
        """Let a registry have a manifest of an image of this size; return its descriptor for an architecture."""
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"c"), "size": 0}
        layers = [{"digest": sha256(str(size).encode()), "size": size}]
        body = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
        self.there[f"r.example/app@{sha256(body)}"] = body
        return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(body), "size": len(body)}

    def index(self, name, **sizes):
        entries = [
            {**self.manifest(size), "platform": {"os": "linux", "architecture": architecture}}
            for architecture, size in sizes.items()
        ]
        self.there[name] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()

    def request(self, url, headers, method="GET", body=None, verify=True):
        name = url.replace("https://", "").replace("/v2", "").replace("/manifests/sha256", "@sha256")
        name = name.replace("/manifests/", ":")
        self.asked.append(f"{method} {name}")
        answer = self.there.get(name, 404)
        if isinstance(answer, int):
            return transport.Answer(answer, {}, b"{}", url)
        return transport.Answer(200, {"content-type": INDEX, "docker-content-digest": sha256(answer)}, answer, url)


@pytest.fixture
def world(monkeypatch, tmp_path):
    world = World()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(transport.Transport, "request", lambda self, *args, **options: world.request(*args, **options))
    world.index("r.example/app:1", amd64=1000, arm64=2000)
    return world


APP = "r.example/app:1"


@pytest.mark.parametrize("check", [False, True])
def test_an_image_is_read_by_one_question_and_nothing_changes(world, run_module, check):
    told = run_module(image_platforms_info, {"images": [APP, APP]}, check=check)
    assert (told["changed"], world.asked) == (False, [f"GET {APP}"])
    (image,) = told["images"]
    assert (image["reference"], image["digest"]) == (APP, sha256(world.there[APP]))
    assert [(entry["platform"], entry["bytes"]) for entry in image["platforms"]] == [
        ("linux/amd64", None),
        ("linux/arm64", None),
    ]


def test_sizes_cost_one_question_more_for_each_platform(world, run_module):
    world.index("r.example/app:2", amd64=1000)  # the same manifest
    told = run_module(image_platforms_info, {"images": [APP, "r.example/app:2"], "sizes": True})
    sizes = [[entry["bytes"] for entry in image["platforms"]] for image in told["images"]]
    assert sizes == [[1000, 2000], [1000]]
    assert len(world.asked) == len(set(world.asked)) == 4


def test_what_cannot_be_read_is_named_beside_what_can(world, run_module):
    world.there["r.example/app:3"] = 503
    told = run_module(image_platforms_info, {"images": [APP, "r.example/app:2", "r.example/app:3"], "sizes": True})
    assert told.failed
    assert "r.example/app:2 does not exist" in told["msg"]
    assert "says 503" in told["msg"]
    assert [(image["reference"], len(image["platforms"])) for image in told["images"]] == [(APP, 2)]
    assert [entry["bytes"] for entry in told["images"][0]["platforms"]] == [1000, 2000]


def test_a_size_that_cannot_be_read_fails_the_task_and_one_that_is_not_there_is_null(world, run_module):
    first, second = (name for name in world.there if "@" in name)
    world.there[first] = 404
    told = run_module(image_platforms_info, {"images": [APP], "sizes": True})
    assert [entry["bytes"] for entry in told["images"][0]["platforms"]] == [None, 2000]
    world.there[second] = 503
    failed = run_module(image_platforms_info, {"images": [APP], "sizes": True})
    assert "says 503" in failed["msg"]
    assert [entry["bytes"] for entry in failed["images"][0]["platforms"]] == [None, None]


def test_a_missing_platform_fails_the_task_with_what_is_there(world, run_module):
    told = run_module(image_platforms_info, {"images": [APP], "require": ["arm64,s390x"]})
    assert told["msg"].startswith(f"{APP} is not built for linux/s390x")
    assert told["missing"] == {APP: ["linux/s390x"]}
    assert [entry["platform"] for entry in told["images"][0]["platforms"]] == ["linux/amd64", "linux/arm64"]

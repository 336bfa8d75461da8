# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ast
import inspect
import sys
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._runner import prune
from ansible_collections.multiarch.drone.plugins.module_utils._runner.prune import Thing, find, pick, seconds

NOW = int(time.time())
STARTED = NOW - 1000


def stamp(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%S.5Z", time.gmtime(moment))


def labels(number, expires):
    return {
        "io.drone": "true",
        "io.drone.repo.slug": "octocat/app1",
        "io.drone.build.number": str(number),
        "io.drone.expires": str(expires),
    }


class Engine:
    """A Docker engine in memory; what it was asked for stands in `asked`."""

    def __init__(self, containers=(), networks=(), volumes=(), runner=STARTED):
        self.asked = []
        self.deleted = []
        self._answers = {
            "/containers/json": list(containers),
            "/networks": list(networks),
            "/volumes": {"Volumes": list(volumes)},
            "/containers/drone-runner/json": {"State": {"Running": True, "StartedAt": stamp(runner)}}
            if runner
            else None,
            "/system/df": {"Volumes": []},
        }

    def get(self, url):
        path = url.partition("?")[0]
        self.asked.append(path)
        return self._answers[path]

    def delete(self, url):
        self.deleted.append(url)


def container(name, created, **row):
    return {"Id": f"id-{name}", "Names": [f"/{name}"], "Created": created, "State": "running", "Image": "x", **row}


def step(number, created, expires=NOW + 9999):
    return container(f"drone-{number}", created, Labels=labels(number, expires))


@pytest.mark.parametrize(
    ("created", "expires", "runner", "left"),
    [
        # Moments by the start of the runner and by now: two workers of pytest must name a test alike.
        (-100, 9999, True, True),  # made by a runner that is gone
        (100, 9999, True, False),
        (0, 9999, True, False),  # in the very second: Docker tells no fractions
        (100, -1, True, True),  # its build is over at the latest
        (999, 9999, False, True),  # no runner, no build
    ],
    ids=["older", "younger", "same-second", "over", "no-runner"],  # without the moment, which is another in each worker
)
def test_what_a_build_that_may_still_run_consists_of_is_never_left_over(created, expires, runner, left):
    engine = Engine([step(1, STARTED + created, NOW + expires)], runner=STARTED if runner else None)
    found = find(engine, "drone-runner")
    assert [thing.build for thing in (found.left if left else found.live)] == ["octocat/app1 #1"]
    assert len(found.left) == left


def test_networks_and_volumes_are_known_by_their_labels():
    network = {"Id": "n", "Name": "drone-n", "Created": stamp(STARTED - 9), "Labels": labels(1, NOW + 9999)}
    volume = {"Name": "drone-v", "CreatedAt": stamp(STARTED - 9), "Labels": labels(1, NOW + 9999)}
    found = find(Engine(networks=[network], volumes=[volume]), "drone-runner")
    assert sorted(thing.kind for thing in found.left) == ["network", "volume"]


def test_nothing_without_the_label_belongs_to_drone():
    assert find(Engine([container("db", 1, Labels={"app": "db"})]), "drone-runner") == prune.Found((), ())


def test_what_there_is_is_listed_before_it_is_asked_whose_it_is():
    """A build that starts in between would otherwise look left over."""
    engine = Engine([step(1, STARTED)])
    find(engine, "drone-runner")
    assert engine.asked.index("/containers/drone-runner/json") > engine.asked.index("/volumes")


def test_beside_another_runner_only_what_is_over_at_the_latest_is_left():
    other = container("by-hand", 1, Image="drone/drone-runner-docker:1", Labels={})
    found = find(Engine([other, step(1, STARTED - 100), step(2, STARTED - 100, NOW - 1)]), "drone-runner")
    assert [thing.build for thing in found.left] == ["octocat/app1 #2"]


@pytest.mark.parametrize(
    ("known", "live", "created", "left"),
    [
        ((), False, 5, True),
        ((), True, 5, False),  # it may be that build's
        ((), True, -5, True),
        (("buildx_buildkit_default0",), False, -5, False),  # a user's
    ],
    ids=["nobody's", "perhaps-the-build's", "older-than-the-build", "a-user's"],
)
def test_a_buildkit_that_a_step_has_left_goes_when_no_builder_knows_it(monkeypatch, known, live, created, left):
    monkeypatch.setattr(prune, "known_builders", lambda: set(known))
    rows = [
        container("buildx_buildkit_default0", STARTED + created, Labels={}),
        *([step(1, STARTED + 1)] if live else []),
    ]
    assert [thing.name for thing in find(Engine(rows), "drone-runner").left] == ["buildx_buildkit_default0"] * left
    assert find(Engine(rows), "drone-runner", builders=False).left == ()


def test_the_state_of_such_a_buildkit_goes_with_it():
    engine = Engine()
    prune.remove(engine, [Thing("container", "1", "buildx_buildkit_x0", 0.0), Thing("network", "2", "n", 0.0)])
    assert engine.deleted == ["/containers/1?force=1&v=1", "/volumes/buildx_buildkit_x0_state", "/networks/2"]


def test_an_image_is_untagged_when_all_else_is_gone_and_never_forced():
    engine = Engine()
    prune.remove(engine, [Thing("image", "a/b:1", "a/b:1", 0.0), Thing("network", "2", "n", 0.0)])
    assert engine.deleted == ["/networks/2", "/images/a/b%3A1"]


def thing(name, age, size=0, build="", kind="container"):
    return Thing(kind, name, name, 1000.0 - age, size=size, build=build)


@pytest.mark.parametrize(
    ("left", "age", "size", "chosen"),
    [
        ([thing("old", 50), thing("young", 5)], 10, 0, ["old"]),
        ([thing("young", 5, 70), thing("younger", 4, 40)], 10, 100, ["young"]),
        ([thing("young", 5, 70), thing("younger", 4, 40)], 10, 200, []),
        ([thing("old", 50, 90), thing("young", 5, 70)], 10, 100, ["old"]),
        ([thing("young", 5, 10**9)], 10, 0, []),
    ],
)
def test_the_old_goes_and_then_the_oldest_until_it_is_little_enough(left, age, size, chosen):
    assert [one.name for one in pick(left, 1000.0, age, size)] == chosen


@pytest.mark.parametrize(("age", "size", "goes"), [(10, 0, False), (2, 0, True), (100, 60, True), (100, 100, False)])
def test_a_build_goes_as_a_whole(age, size, goes):
    """Docker gives nobody the volume of a build whose last step's container, made much later, is there yet."""
    volume, step = thing("volume", 50, 50, "a #1", "volume"), thing("step", 5, 50, "a #1")
    assert pick([step, volume], 1000.0, age, size) == ([step, volume] if goes else [])


IMAGE = "drone/drone-runner-docker"


def image(id, created, *tags, digests=()):
    return {"Id": id, "Created": created, "RepoTags": list(tags) or None, "RepoDigests": list(digests)}


@pytest.mark.parametrize("wished", [f"{IMAGE}:2", f"docker.io/{IMAGE}:2"])
def test_an_image_that_the_runner_was_made_of_before_goes(wished):
    digest = f"{IMAGE}@sha256:1"
    images = [
        image("tagged", 1, f"{IMAGE}:1", f"{IMAGE}:1.0", digests=[digest]),
        image("moved", 1, digests=[digest]),
        image("moved-in-an-old-docker", 1, "<none>:<none>", digests=["<none>@<none>"]),
        image("declared", 5, f"{IMAGE}:2"),
        image("same-second", 5, f"{IMAGE}:2.1"),
        image("not-yet", 9, f"{IMAGE}:3"),
        image("used", 1, f"{IMAGE}:0"),
        image("another", 1, "drone/drone:1"),
        image("kept", 1, f"{IMAGE}:0.9", "kept:1"),
    ]
    gone = prune.superseded(Images(images), "drone-runner", wished, 900)
    assert [thing.id for thing in gone] == [f"{IMAGE}:1", f"{IMAGE}:1.0", digest]


class Images(Engine):
    """An engine with images, a runner of image `runs`, and another container of image "used"."""

    def __init__(self, images, runs="declared", runner=STARTED):
        super().__init__([container("stopped", 1, ImageID="used")], runner=runner)
        if runner:
            self._answers["/containers/drone-runner/json"]["Image"] = runs
        self._answers["/images/json"] = images
        for name in (f"{IMAGE}%3A2", f"docker.io/{IMAGE}%3A2"):
            self._answers[f"/images/{name}/json"] = {"Id": "declared", "Created": "1970-01-01T00:00:05.5Z"}


@pytest.mark.parametrize(
    "changes",
    [{"runs": "another"}, {"runner": None}, {"runner": NOW - 9}],
    ids=["not-yet-changed", "no-runner", "just-changed"],
)
def test_no_image_goes_before_the_declared_one_has_run_for_long(changes):
    assert prune.superseded(Images([image("old", 1, f"{IMAGE}:1")], **changes), "drone-runner", f"{IMAGE}:2", 900) == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25T01:02:03.5Z", 1795568523.5),
        ("2026-11-25T02:02:03+01:00", 1795568523.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("", 0.0),
    ],
)
def test_dockers_moments_are_read(text, moment):
    assert seconds(text) == moment


def test_the_program_stands_alone_on_the_host():
    tree = ast.parse(inspect.getsource(prune))
    names = {
        node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    names |= {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert names - {"__future__"} <= set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""buildx_image from arguments to result, with a model of Docker's CLI and of registries: what is returned, and what is called."""

from __future__ import annotations

import hashlib
import json
import os
import re

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import cli
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Docker
from ansible_collections.multiarch.drone.plugins.module_utils._image import transport
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import buildx_image

from .docker_cli import Call

KEY = "dev.multiarch.drone.input-digest"
POLICY = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
INDEX = "application/vnd.oci.image.index.v1+json"
APP, BASE = "r.example/app:1", "up.example/base:1"
FLEET = ["linux/amd64", "linux/arm64"]
INSPECTED = """Name:          {name}
Driver:        remote

Nodes:
Name:      {name}0
Endpoint:  tcp://x:1234
Status:    running
Platforms: {platforms}
"""


def sha256(body):
    return "sha256:" + hashlib.sha256(body).hexdigest()


def index(content, platforms=FLEET, annotations=None):
    """Return an index whose manifests hold `content`."""
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256(f"{platform} {content}".encode()),
            "size": 1,
            "platform": dict(zip(("os", "architecture", "variant"), platform.split("/"))),
        }
        for platform in platforms
    ]
    return json.dumps({"schemaVersion": 2, "manifests": entries, "annotations": annotations or {}}).encode()


class World:
    """Registries as a table of tags, and a BuildKit that may have other images under these names."""

    def __init__(self, tmp_path):
        self.tags = {BASE: index("new")}  # a body, or the status of a refusal
        self.builders_own = {}  # of a mirror, or an engine: digests by name; "" for an image that has none
        self.lacks = set()  # digests that the builder cannot get
        self.obeys = True  # whether BuildKit knows source policies
        self.pushes = True
        self.tells_digest = True
        self.platforms = "linux/amd64*, linux/arm64*"
        self.engine = {}  # of local images: IDs by tag
        self.containerd = True
        self.calls, self.asked, self.policies, self.secrets = [], [], [], []
        self.failing = ""
        self.before_build = lambda: None
        self.config = tmp_path / "docker"

    def add_builder(self, name, driver="remote"):
        path = self.config / "buildx/instances" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        node = {"Name": f"{name}0", "Endpoint": "tcp://x:1234", "Platforms": None}
        path.write_text(json.dumps({"Name": name, "Driver": driver, "Nodes": [node]}))

    # The registries

    def request(self, url, headers, method="GET", body=None, verify=True):
        name = url.replace("https://", "").replace("/v2", "").replace("/manifests/", ":")
        self.asked.append(f"{method} {name}")
        answer = self.tags.get(name, 404)
        if isinstance(answer, int):
            return transport.Answer(answer, {}, b"{}", url)
        fields = {"content-type": INDEX, "docker-content-digest": sha256(answer)}
        return transport.Answer(200, fields, b"" if method == "HEAD" else answer, url)

    # The CLI

    def answer(self, argv, env):
        argv = ["buildx", *argv[1:]] if argv[0].endswith("docker-buildx") else list(argv[1:])
        self.calls.append(" ".join(argv))
        if self.failing and re.search(self.failing, self.calls[-1]):
            self.failing = ""
            return 1, "", "ERROR: it was made to fail"
        if argv[:2] == ["buildx", "inspect"]:
            return 0, INSPECTED.format(name=argv[-1], platforms=self.platforms), ""
        if argv[:2] == ["image", "inspect"]:
            there = [tag for tag in argv[4:] if tag in self.engine]
            lines = [json.dumps({"Id": self.engine[tag], "RepoTags": [tag]}) for tag in there]
            return (0 if len(there) == len(argv[4:]) else 1), "\n".join(lines), ""
        assert argv[:2] == ["buildx", "build"], argv
        return self.build(argv, env)

    def build(self, argv, env):
        self.before_build()
        options = [(argv[number], argv[number + 1]) for number in range(2, len(argv) - 1)]
        given = {flag: [value for name, value in options if name == flag] for flag, _value in options}
        policy = {}
        if env.get(POLICY):
            with open(env[POLICY]) as file:
                rules = json.load(file)["rules"]
            policy = {rule["selector"]["identifier"]: rule["updates"]["identifier"] for rule in rules}
        self.policies.append(policy)
        self.secrets.append({name: value for name, value in env.items() if name.startswith("MULTIARCH_SECRET")})
        if "check" in argv:
            return 0, "Check complete, no warnings found.", ""
        with open(os.path.join(argv[-1], "Dockerfile")) as file:
            text = file.read()
        log, content = [], text
        for name in re.findall(r"^FROM (\S+)$", text, re.MULTILINE):
            identifier = f"docker-image://{name}"
            asked = policy.get(identifier, "").partition("@")[2] if self.obeys else ""
            digest = asked or (self.builders_own[name] if name in self.builders_own else sha256(self.tags[name]))
            if digest in self.lacks:
                said = (
                    f"ERROR: failed to solve: {name}: failed to resolve source metadata for {name}@{digest}: not found"
                )
                return 1, "", f"#1 [internal] load metadata for {name}\n{said}"
            log.append(f"#{len(log) + 2} [linux/arm64 1/2] FROM {name}{digest and '@' + digest}")
            content += digest
        with open(os.path.join(argv[-1], "hello")) as file:
            content += file.read()
        annotations = {
            key.partition(":")[2]: value
            for key, _equals, value in (item.partition("=") for item in given.get("--annotation", []))
        }
        platforms = given.get("--platform", ["linux/amd64"])[0].split(",")
        body = index(content, platforms, annotations)
        if self.pushes and ("--push" in argv or any("push=" in word for word in argv)):
            self.tags.update(dict.fromkeys(given["--tag"], body))
        if "--load" in argv:
            self.engine.update(dict.fromkeys(given["--tag"], sha256(body)))
        with open(given["--metadata-file"][0], "w") as file:
            json.dump({"containerimage.digest": sha256(body)} if self.tells_digest else {}, file)
        return 0, "", "\n".join([*log, "#9 0.1 FROM up.example/base:1@sha256:" + "0" * 64, "#9 DONE 0.1s"])

    @property
    def builds(self):
        return [call for call in self.calls if call.startswith("buildx build")]


@pytest.fixture
def world(monkeypatch, tmp_path):
    world = World(tmp_path)

    def start(self, argv, env, stdin, timeout):
        return Call(argv, world.answer(argv, {**os.environ, **(env or {})}))

    def get(url, *, path="", timeout=0):
        if world.containerd is None:
            raise Problem("the engine does not run")
        kind = [["driver-type", "io.containerd.snapshotter.v1"]] if world.containerd else []
        return {"DriverStatus": kind}

    monkeypatch.setattr(Docker, "_start", start)
    monkeypatch.setattr(transport.Transport, "request", lambda self, *args, **options: world.request(*args, **options))
    monkeypatch.setattr("ansible_collections.multiarch.drone.plugins.module_utils._docker.engine.get", get)
    monkeypatch.setattr(cli, "buildx_plugin", lambda env: "")
    monkeypatch.setenv("DOCKER_CONFIG", str(world.config))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT", "SOURCE_DATE_EPOCH", POLICY):
        monkeypatch.delenv(name, raising=False)
    world.add_builder("ci")
    world.context = tmp_path / "context"
    world.context.mkdir()
    (world.context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY hello /\n")
    (world.context / "hello").write_text("hello\n")
    return world


@pytest.fixture
def image(world, run_module):
    """Run the module; what is called and asked is counted from here on."""

    def run(*, check=False, fails=False, **arguments):
        world.calls.clear()
        world.asked.clear()
        defaults = {"context": str(world.context), "tags": [APP], "platforms": FLEET, "push": True, "builder": "ci"}
        given = {name: value for name, value in {**defaults, **arguments}.items() if value is not None}
        result = run_module(buildx_image, given, check=check)
        assert result.failed == fails, result
        assert "this is a bug" not in result.get("msg", "")
        return result

    return run


def warnings(result):
    """Return the warnings as one text: from ansible-core 2.20 on they are objects."""
    return json.dumps(result.get("warnings", []))


def claim(world, tag=APP):
    return json.loads(world.tags[tag])["annotations"].get(KEY, "")


NEW = sha256(index("new"))
PINNED = {f"docker-image://{BASE}": f"docker-image://{BASE}@{NEW}"}


def test_check_mode_predicts_a_run_builds_once_and_the_next_asks_the_registries_alone(world, image):
    predicted = image(check=True)
    assert world.calls == []
    done = image()
    assert {name: predicted[name] for name in ("changed", "steps", "diff", "reasons", "input_digest")} == {
        name: done[name] for name in ("changed", "steps", "diff", "reasons", "input_digest")
    }
    [call] = world.calls
    metadata = re.search(r"--metadata-file (\S+)", call)[1]
    assert call.replace(metadata, "M") == (
        f"buildx build --progress plain --metadata-file M --builder ci --platform linux/amd64,linux/arm64 "
        f"--file {world.context}/Dockerfile --tag {APP} --annotation index:{KEY}={done['input_digest']} "
        f"--output=type=image,push= -- {world.context}"
    )
    assert world.asked == [f"HEAD {BASE}", f"GET {APP}", f"GET {APP}"]
    assert done["digest"] == sha256(world.tags[APP])
    assert not os.path.exists(metadata)
    again = image()
    assert (again["changed"], again["built"], again["steps"]) == (False, False, [])
    assert world.calls == []
    assert world.asked == [f"HEAD {BASE}", f"GET {APP}"]


# What was used


def test_buildkit_is_given_the_digest_that_was_looked_up(world, image):
    world.builders_own[BASE] = "sha256:" + "1" * 64  # a mirror, or the engine, has an old one
    done = image()
    assert world.policies == [PINNED]
    assert claim(world) == done["input_digest"]
    assert done["base_images"] == {BASE: NEW}
    assert "warnings" not in done
    assert image()["built"] is False


def test_a_builder_that_cannot_get_that_digest_builds_from_what_it_has_and_the_image_claims_nothing(world, image):
    old = "sha256:" + "1" * 64
    world.builders_own[BASE] = old
    world.lacks.add(NEW)
    first = image()
    assert world.policies == [PINNED, {}]
    assert [KEY in call for call in world.builds] == [True, False]
    assert (first["changed"], first["built"], first["input_digest"]) == (True, True, "")
    assert first["base_images"] == {BASE: old}
    what = f"the builder cannot get {BASE}@{NEW}, which its registry has now: so the image does not say what it was made from"
    assert what in warnings(first)
    again = image()
    assert again["reasons"] == [f"{APP} does not say what it was made from"]
    assert (again["built"], again["changed"]) == (True, False)
    world.builders_own.clear()
    world.lacks.clear()
    assert (image()["changed"], claim(world) != "") == (True, True)
    assert image()["built"] is False


@pytest.mark.parametrize("has", ["sha256:" + "1" * 64, ""])
def test_a_buildkit_that_knows_no_policy_is_found_out_by_its_log(world, image, has):
    world.builders_own[BASE], world.obeys = has, False
    done = image()
    assert len(world.builds) == 2
    assert (done["input_digest"], claim(world)) == ("", "")
    what = has or "an image of its engine"
    assert f"the builder has {BASE} as {what}, and its registry as {NEW}" in warnings(done)


def test_a_users_own_policy_stays_and_what_it_converts_is_not_claimed(world, image, monkeypatch, tmp_path):
    own, old = tmp_path / "policy.json", "sha256:" + "1" * 64
    rule = {
        "selector": {"identifier": f"docker-image://{BASE}"},
        "updates": {"identifier": f"docker-image://{BASE}@{old}"},
    }
    own.write_text(json.dumps({"rules": [rule]}))
    monkeypatch.setenv(POLICY, str(own))
    image()
    assert set(world.policies[0].values()) == {f"docker-image://{BASE}@{old}"}
    assert claim(world) == ""


def test_a_base_image_by_digest_is_not_taken_for_another_of_its_name(world, image):
    old = "sha256:" + "1" * 64
    (world.context / "Dockerfile").write_text(f"FROM {BASE}@{old}\nFROM {BASE}\nCOPY hello /\n")
    world.tags[f"{BASE}@{old}"] = b""
    world.builders_own[f"{BASE}@{old}"] = ""
    done = image()
    assert claim(world) == done["input_digest"] != ""
    assert done["base_images"] == {f"{BASE}@{old}": old, BASE: NEW}


def test_a_context_that_is_an_image_has_its_digest(world, image):
    (world.context / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    world.tags["scratch"] = b""
    image(build_contexts={"one": f"docker-image://{BASE}", "two": f"docker-image://{BASE}@{NEW}"})
    assert (
        f"--build-context one=docker-image://{BASE}@{NEW} --build-context two=docker-image://{BASE}@{NEW} "
        in world.calls[0]
    )


def test_a_context_that_changes_meanwhile_is_built_again_and_claims_what_it_is(world, image):
    changes = iter(["changed\n"])
    world.before_build = lambda: (world.context / "hello").write_text(next(changes, "changed\n"))
    done = image()
    assert len(world.builds) == 2
    assert claim(world) == done["input_digest"]
    assert image()["built"] is False


def test_a_context_that_never_stands_still_claims_nothing(world, image):
    world.before_build = lambda: (world.context / "hello").write_text(str(len(world.calls)))
    done = image()
    assert len(world.builds) == 3
    assert (done["input_digest"], claim(world)) == ("", "")
    assert "the context changed while it was built" in warnings(done)


# The push


def test_a_push_that_pushes_nothing_is_an_error(world, image):
    world.pushes = False
    failed = image(fails=True)
    assert f"{APP}: the build pushed sha256:" in failed["msg"]
    assert "the registry has nothing that we may read" in failed["msg"]


@pytest.mark.parametrize("tells", [True, False])
def test_a_push_that_leaves_an_older_image_is_an_error(world, image, tells):
    image()
    world.pushes, world.tells_digest = False, tells
    (world.context / "hello").write_text("changed\n")
    failed = image(fails=True)
    assert f"the registry has {sha256(world.tags[APP])}" in failed["msg"]


def test_a_push_that_leaves_an_image_with_the_same_inputs_is_an_error_where_another_was_built(world, image):
    first = image()
    world.tags[APP] = index("by hand", annotations={KEY: first["input_digest"]})
    world.pushes = False
    assert "and the registry has" in image(rebuild="always", fails=True)["msg"]


def test_of_several_names_each_is_read_back(world, image):
    both = [APP, "other.example/app:1"]
    done = image(tags=both)
    assert [entry["reference"] for entry in done["images"]] == both
    del world.tags[both[1]]
    assert image()["built"] is False
    again = image(tags=both)
    assert again["reasons"] == [f"{both[1]} is not there"]
    assert image(tags=[*both, both[0]])["built"] is False


def test_an_engines_classic_store_is_told_to_push_and_can_claim_nothing(world, image):
    world.containerd = False
    one = {"builder": "default", "platforms": ["linux/amd64"]}
    predicted, done = image(check=True, **one), image(**one)
    assert predicted["reasons"] == done["reasons"]
    assert "the engine of the builder default has no containerd image store" in done["reasons"][0]
    [call] = world.builds
    assert " --pull --output=type=image,push=true " in call
    assert KEY not in call
    assert (image(**one)["built"], image(**one)["changed"]) == (True, False)
    world.containerd = True
    image(**one)
    assert " --output=type=image,push= " in world.builds[0]
    assert "--pull" in world.builds[0]
    image(rebuild="always")
    assert "--pull" not in world.builds[0]


def test_an_old_classic_engine_with_a_base_of_its_own_is_told_of_it(world, image):
    world.containerd, world.obeys = False, False
    world.builders_own[BASE] = ""
    done = image(builder="default", platforms=["linux/amd64"])
    assert f"the builder has {BASE} as an image of its engine, and its registry as {NEW}" in warnings(done)
    assert done["base_images"] == {}


def test_an_engines_classic_store_and_several_platforms_are_refused_before_anything_is_asked(world, image):
    world.containerd = False
    failed = image(builder="default", fails=True)
    assert "the engine of the builder default keeps one platform an image, in its classic store" in failed["msg"]
    assert (world.calls, world.asked) == ([], [])


def test_an_engine_that_does_not_run_is_no_reason_to_fail_where_nothing_is_built(world, image):
    image(builder="default")
    world.containerd = None
    assert image(builder="default")["built"] is False


def test_push_beside_load_fills_both(world, image):
    done = image(load=True)
    assert world.engine == {APP: done["digest"]}
    assert " --load --push -- " in world.builds[0]


# The builder


@pytest.mark.parametrize("name", ["cii", "somebody-elses", "-x", "../ci"])
def test_a_builder_that_the_user_does_not_have_is_named_before_anything_is_asked(world, image, name):
    failed = image(builder=name, fails=True)
    assert f'no builder "{name}" found: this user has ci, default' in failed["msg"]
    assert "multiarch.drone.buildx_builder declares one; it belongs to the user who made it" in failed["msg"]
    assert (world.calls, world.asked) == ([], [])


def test_a_builders_own_platform_is_an_input(world, image):
    world.platforms = "linux/arm64, linux/amd64"
    first = image(platforms=None)
    assert world.calls[0] == "buildx inspect ci"
    assert "--platform" not in world.builds[0]
    assert image(platforms=None)["built"] is False
    world.platforms = "linux/amd64, linux/386"
    other = image(platforms=None, check=True)
    assert other["reasons"] == [f"{APP} was made from other inputs"]
    assert other["input_digest"] != first["input_digest"]


def test_a_builder_whose_platform_nobody_knows_builds_each_time_and_says_why(world, image):
    world.platforms = ""
    for changed in (True, False):
        done = image(platforms=None)
        assert "which platform is the own one of the builder ci is not known: name it in platforms" in done["reasons"]
        assert (done["built"], done["changed"], claim(world)) == (True, changed, "")


def test_a_builder_that_does_not_answer_is_no_reason_to_fail_in_check_mode(world, image):
    world.failing = "buildx inspect"
    assert "is not known" in image(platforms=None, check=True)["reasons"][0]


def test_without_a_name_the_users_current_builder_is_meant(world, image):
    current = world.config / "buildx/current"
    current.write_text(json.dumps({"Name": "ci", "Key": "unix:///var/run/docker.sock"}))
    image(builder=None, platforms=None)
    assert world.calls[0] == "buildx inspect ci"


# Values


@pytest.mark.parametrize("option", ["build_args", "labels", "annotations"])
@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, ""), (3, "3"), (1.5, "1.5"), ("2026-11-28", "2026-11-28"), ("", "")],
)
def test_a_value_is_one_text_for_the_digest_and_for_the_build(world, image, option, value, text):
    first = image(**{option: {"NAME": value}})
    flag = {"build_args": "--build-arg", "labels": "--label", "annotations": "--annotation"}[option]
    assert f" {flag} NAME={text} " in world.builds[0]
    if option != "annotations":  # the model keeps annotations of the index alone
        assert image(**{option: {"NAME": text}})["built"] is False
    assert image(check=True, **{option: {"NAME": text}})["input_digest"] == first["input_digest"]


def test_a_boolean_chooses_the_base_image_that_the_build_takes(world, image):
    (world.context / "Dockerfile").write_text("ARG SLIM=false\nFROM up.example/base:${SLIM}\nFROM up.example/base:1\n")
    world.tags["up.example/base:true"] = index("slim")
    world.tags["up.example/base:${SLIM}"] = b""
    done = image(build_args={"SLIM": True}, check=True)
    assert sorted(done["base_images"]) == [BASE, "up.example/base:true"]


# For this host alone


def test_an_image_that_is_loaded_is_compared_by_its_id(world, image):
    local = {"push": False, "load": True, "platforms": ["linux/amd64"]}
    predicted = image(check=True, **local)
    assert world.builds == []
    done = image(**local)
    assert predicted["steps"] == done["steps"] == [f"load {APP}"]
    inspect = f"image inspect --format {{{{json .}}}} {APP}"
    assert [call.replace(world.builds[0], "BUILD") for call in world.calls] == [inspect, "BUILD", inspect]
    assert "--provenance false" in world.builds[0]
    assert (image(**local)["changed"], world.asked) == (False, [])


def test_a_check_of_the_dockerfile_builds_nothing(world, image):
    done = image(call="check")
    assert (done["changed"], done["built"], done["log"]) == (False, False, ["Check complete, no warnings found."])
    [call] = world.calls
    assert " --call check -- " in call
    assert APP not in world.tags


def test_a_secret_is_in_the_environment_alone(world, image):
    done = image(secrets=[{"id": "npm", "value": "s3cret-value"}])
    assert world.secrets == [{"MULTIARCH_SECRET_0": "s3cret-value"}]
    assert " --secret id=npm,env=MULTIARCH_SECRET_0 " in world.calls[0]
    assert "s3cret-value" not in json.dumps(done) + " ".join(world.calls)


# Each step fails once


@pytest.mark.parametrize(
    ("tag", "status", "message"),
    [(APP, 500, "says 500"), (APP, 429, "too many requests")],
)
def test_a_registry_that_does_not_answer_ends_the_task_before_anything_is_built(world, image, tag, status, message):
    world.tags[tag] = status
    assert message in image(fails=True)["msg"]
    assert world.calls == []


def test_a_base_image_that_cannot_be_looked_up_is_taken_as_the_builder_has_it_and_claims_nothing(world, image):
    body, world.tags[BASE] = world.tags[BASE], 500
    world.builders_own[BASE] = sha256(body)
    done = image()
    assert "the base image cannot be looked up" in done["reasons"][0]
    assert (world.policies, claim(world)) == ([{}], "")


def test_a_build_that_fails_changes_no_tag_and_brings_its_log(world, image):
    world.failing = "buildx build"
    failed = image(fails=True)
    assert f"building {APP} failed: it was made to fail" in failed["msg"]
    assert failed["log"] == ["ERROR: it was made to fail"]
    assert APP not in world.tags
    assert image()["built"] is True


def test_a_registry_that_fails_after_the_push_fails_the_task_and_the_next_run_finds_what_was_pushed(world, image):
    plain = world.request

    def request(url, *args, **options):
        if world.builds and "app" in url:
            return transport.Answer(503, {}, b"{}", url)
        return plain(url, *args, **options)

    world.request = request
    assert "says 503" in image(fails=True)["msg"]
    world.request = plain
    assert image()["built"] is False


def test_a_second_build_that_fails_says_so(world, image):
    """The first one's claim would be wrong: the task fails, and the registry keeps what was there."""
    world.lacks.add(NEW)
    world.builders_own[BASE] = NEW  # by its name, too, it cannot be had
    failed = image(fails=True)
    assert "not found" in failed["msg"]
    assert len(world.builds) == 2
    assert APP not in world.tags


def test_metadata_that_is_cut_is_none(world, image, monkeypatch):
    build = world.build

    def cut(argv, env):
        answer = build(argv, env)
        with open(argv[argv.index("--metadata-file") + 1], "w") as file:
            file.write('{"containerimage.dig')
        return answer

    world.build = cut
    assert image()["built"] is True


# What is refused before anything is asked or built


LONG = "x" * (128 << 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "-"}, "give the absolute path of a directory"),
        ({"context": "https://h/a.git\n#x"}, "context has a control character"),
        ({"context": "/" + LONG}, "context is longer than the 127 KiB"),
        ({"context": "--push"}, "context is '--push'"),
        ({"file": "a\nb"}, "file has a control character"),
        ({"file": "../nowhere"}, "there is no Dockerfile"),
        ({"file": LONG}, "file is longer"),
        ({"tags": ["-app"]}, "'-app' is not an image reference"),
        ({"tags": ["a,b"]}, "'a,b' is not an image reference"),
        ({"tags": ["a\nb"]}, "is not an image reference"),
        ({"tags": [""]}, "is not an image reference"),
        ({"tags": ["../a"]}, "is not an image reference"),
        ({"tags": ["r/" + "x" * 300]}, "at most 255 characters"),
        ({"tags": ["r:" + "x" * 129]}, "at most 128 letters"),
        ({"platforms": ["linux/amd64\n"], "tags": ["A"]}, "is not an image reference"),
        ({"platforms": ["--push"]}, "--push"),
        ({"builder": "a\nb"}, "builder has a control character"),
        ({"builder": " "}, "builder has an empty entry"),
        ({"build_args": {"": "x"}}, "build_args: '' is not a name"),
        ({"build_args": {"A=B": "x"}}, "build_args: 'A=B' is not a name"),
        ({"build_args": {"A\nB": "x"}}, r"build_args: 'A\nB' is not a name"),
        ({"build_args": {"A": [1]}}, "build_args: A is a list; give a text"),
        ({"build_args": {"A": {"b": 1}}}, "build_args: A is a table; give a text"),
        ({"build_args": {"A": LONG}}, "build_args: A is longer than the 127 KiB"),
        ({"labels": {"a=b": "x"}}, "labels: 'a=b' is not a name"),
        ({"annotations": {"": "x"}}, "annotations: '' is not a name"),
        ({"build_contexts": {"Ä": "/tmp"}}, "is not a name of a context"),
        ({"build_contexts": {"a": "relative"}}, "which is not there on this host"),
        ({"build_contexts": {"a": "."}}, "is not an absolute path"),
        ({"build_contexts": {"a": "docker-image://A B"}}, "build_contexts: a: 'A B' is not an image reference"),
        ({"build_contexts": {"a": "docker-imge://b"}}, "did you mean docker-image?"),
        ({"build_contexts": {"a": "oci-layout:///nowhere"}}, "which is not there on this host"),
        ({"build_contexts": {"a": None}}, "build_contexts: a has an empty entry"),
        ({"build_contexts": {"a": "/tmp\n"}}, "has a control character"),
        ({"outputs": ['type=local,dest="/a']}, "has a quote within a field"),
        ({"outputs": ['"type=local,dest=/a']}, "has a quote without its other"),
        ({"outputs": ["type=local"]}, "does not say where"),
        ({"outputs": ["type=tar,dest=-"]}, "the standard output, which nobody reads"),
        ({"outputs": ["type=tar,dest=x"]}, "'x' is not an absolute path"),
        ({"outputs": ["type=tar,dest=/a/b", "type=oci,dest=/a//b"]}, "two of them are written to"),
        ({"outputs": ["type=image,push=false"]}, "says not to push, and push is set"),
        ({"outputs": ["type=image\n"]}, "has a control character"),
        ({"cache_to": ["type=registry,ref=a\nb"]}, "cache_to has a control character"),
        ({"cache_from": ['type="x"']}, "has a quote within a field"),
        ({"cache_from": [LONG]}, "cache_from is longer"),
        ({"secrets": [{"id": "a,b", "value": "x"}]}, "is not a valid id"),
        ({"secrets": [{"id": "a", "value": "x"}, {"id": "a", "value": "y"}]}, "secrets: 'a' is there twice"),
        ({"secrets": [{"id": "a", "src": "/etc"}]}, "/etc is not a regular file"),
        ({"secrets": [{"id": "a", "src": "/dev/zero"}]}, "/dev/zero is not a regular file"),
        ({"secrets": [{"id": "a", "env": "A,B"}]}, "is not the name of a variable"),
        ({"secrets": [{"id": "a", "value": LONG}]}, "secrets: 'a': value is longer"),
        ({"ssh": [""]}, "ssh has an empty entry"),
        ({"attests": ["mode=max"]}, "says no type"),
        ({"attests": ["type=sbom", "type=sbom"]}, "sbom is asked for twice"),
        ({"attests": ["type=provenance"], "provenance": "false"}, "provenance is asked for twice"),
        ({"ulimit": ["nofile"]}, "'nofile' is not a limit"),
        ({"ulimit": ["nofiles=1"]}, "did you mean nofile?"),
        ({"ulimit": ["nofile=2:1"]}, "soft above hard"),
        ({"ulimit": ["nofile=1,core=1"]}, "is not a limit"),
        ({"shm_size": "lots"}, "'lots' is not a size"),
        ({"add_hosts": {"a b": "10.0.0.1"}}, "is not the name of a host"),
        ({"add_hosts": {"a": "10.0.0.1,b=10.0.0.2"}}, "is not an IP address"),
        ({"add_hosts": {"a": "10.0.0.256"}}, "is not an IP address"),
        ({"add_hosts": {"a": None}}, "add_hosts: a has an empty entry"),
        ({"network": "bridge"}, "value of network must be one of"),
        ({"target": "a\nb"}, "target has a control character"),
        ({"allow": [""]}, "allow has an empty entry"),
        ({"no_cache_filters": ["\x1b"]}, "no_cache_filters has a control character"),
        ({"cgroup_parent": "a\nb"}, "cgroup_parent has a control character"),
        ({"insecure_registries": ["http://x"]}, "write HOST or HOST:PORT"),
        ({"timeout": 1e8}, "which is a week"),
        ({"timeout": -1}, "timeout is -1"),
        ({"registry_timeout": 0}, "timeout is 0"),
    ],
)
def test_hostile_input_is_refused_with_the_options_name_before_anything_is_asked(world, image, options, message):
    failed = image(fails=True, **options)
    assert message in failed["msg"]
    assert (world.calls, world.asked) == ([], [])


@pytest.mark.parametrize(
    "options",
    [
        {"outputs": ['type=local,"dest=/nowhere/a,b"']},
        {"outputs": ["/nowhere/plain"]},
        {"add_hosts": {"a": "10.0.0.1", "b": "::1", "c": "[::1]", "d": "host-gateway", "e": "10.0.0.1,10.0.0.2"}},
        {"ulimit": ["nofile=1024:2048", "core=-1", "nproc=1:-1"]},
        {"shm_size": "1.5g"},
        {"attests": ["type=provenance,mode=max", "type=sbom"]},
        {"build_args": {"A": "several\nlines", "HTTP_PROXY": "http://x"}},
        {"labels": {"a.b/c-d": "x=y"}},
        {"annotations": {"index,manifest[linux/amd64]:org.example": "x"}},
        {"ssh": ["default", "id=/a,/b"]},
        {"provenance": "mode=max", "sbom": "generator=docker.io/a/b:1"},
        {"provenance": "0"},
        {"provenance": "disabled=true"},
        {"allow": ["network.host", "device=a/b=c"]},
        {"builder": "CI"},
    ],
)
def test_what_buildx_takes_is_taken(world, image, options):
    assert image(check=True, **options)["changed"] is True


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"provenance": "F"}, "manifest"),
        ({"provenance": "disabled=true"}, "manifest"),
        ({"attests": ["type=provenance,disabled=1"]}, "manifest"),
        ({"attests": ["type=provenance,disabled=1", "type=sbom"]}, "index"),
        ({"provenance": "T"}, "index"),
        ({"provenance": "0", "sbom": "disabled=true"}, "manifest"),
        ({"provenance": "0", "sbom": "1"}, "index"),
    ],
)
def test_the_annotation_is_where_an_image_with_these_attestations_has_it(world, image, options, where):
    image(platforms=["linux/arm64"], **options)
    assert f"--annotation {where}:{KEY}=" in world.builds[0]

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an image says that it was made from is what BuildKit took: with a mirror that lags, and contexts that change meanwhile."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

KEY = "dev.multiarch.drone.input-digest"


def raw(reference):
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def layers(reference):
    """Return the layers of each platform of an image."""
    listed = [entry for entry in raw(reference)["manifests"] if entry["platform"]["os"] != "unknown"]
    name = reference.rpartition(":")[0]
    return [[layer["digest"] for layer in raw(f"{name}@{entry['digest']}")["layers"]] for entry in listed]


@pytest.fixture
def push_base(build, context):
    """Push a base image with this content to registries."""

    def push(content, *hosts):
        before = {name: (context / name).read_text() for name in ("hello", "Dockerfile")}
        (context / "hello").write_text(content)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY hello /base\n")
        build(tags=[f"{host}/base:1" for host in hosts], provenance="false", rebuild="always")
        for name, text in before.items():
            (context / name).write_text(text)

    return push


@pytest.fixture
def lagging(push_base, start_registry, start_buildkitd):
    """A registry with a new base image; and a builder that asks a mirror, which has the old one."""

    def start(*, reachable=True):
        upstream, mirror = start_registry(), start_registry()
        push_base("old", upstream.host, mirror.host)
        push_base("new", upstream.host)
        # A builder behind a firewall gets nothing but from its mirror: here it insists on TLS, which upstream does not have.
        insists = "" if reachable else "http = false\ninsecure = false\n"
        return (
            upstream,
            mirror,
            start_buildkitd(
                "lagging",
                f'[registry."{upstream.host}"]\nmirrors = ["{mirror.host}"]\n{insists}[registry."{mirror.host}"]\nhttp = true\n',
            ),
        )

    return start


DOCKERFILES = {
    "a base": ("FROM {base}\nCOPY hello /\n", {}),
    "a base with a name": ("FROM {base} AS base\nFROM base\nCOPY hello /\n", {}),
    "a base in a variable": ("ARG BASE={base}\nFROM $BASE\nCOPY hello /\n", {}),
    "an image that is copied from": ("FROM scratch\nCOPY --from={base} /base /\nCOPY hello /\n", {}),
    "a base for each platform": ("FROM --platform=$TARGETPLATFORM {base}\nCOPY hello /\n", {}),
    "a context": ("FROM started\nCOPY hello /\n", {"build_contexts": {"started": "docker-image://{base}"}}),
    "a base by digest beside it": (
        "FROM {base}@{old} AS old\nFROM {base}\nCOPY --from=old /base /old\nCOPY hello /\n",
        {},
    ),
}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_mirror_that_lags_gives_no_old_base_to_an_image_that_says_new(build, registry, lagging, context, name):
    upstream, mirror, builder = lagging()
    base = f"{upstream.host}/base:1"
    old = (
        "sha256:"
        + subprocess.run(
            f"skopeo inspect --raw --tls-verify=false docker://{mirror.host}/base:1 | sha256sum",
            shell=True,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout[:64]
    )
    text, options = DOCKERFILES[name]
    (context / "Dockerfile").write_text(text.format(base=base, old=old))
    options = json.loads(json.dumps(options).replace("{base}", base))
    first = build(builder=builder, **options)
    assert raw(f"{registry.host}/app:1")["annotations"] == {KEY: first["input_digest"]}
    for (used, *_more), (new, *_none) in zip(layers(f"{registry.host}/app:1"), layers(base)):
        assert used == new
    assert "warnings" not in first
    again = build(builder=builder, **options)
    assert (again["built"], again["reasons"]) == (False, [])


def test_a_builder_that_has_only_the_mirrors_old_base_claims_nothing_and_says_so(
    build, registry, lagging, push_base, context
):
    upstream, mirror, builder = lagging(reachable=False)
    base = f"{upstream.host}/base:1"
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY hello /\n")
    for changed in (True, False):
        result = build(builder=builder)
        assert (result["built"], result["changed"], result["input_digest"]) == (True, changed, "")
        assert f"the builder cannot get {base}@sha256:" in json.dumps(result["warnings"])
        assert KEY not in raw(f"{registry.host}/app:1").get("annotations", {})
        assert [each[0] for each in layers(f"{registry.host}/app:1")] == [
            each[0] for each in layers(f"{mirror.host}/base:1")
        ]
        assert build(builder=builder, check=True)["reasons"] == [
            f"{registry.host}/app:1 does not say what it was made from"
        ]
    # The mirror has caught up.
    push_base("new", mirror.host)
    done = build(builder=builder)
    assert (done["changed"], bool(done["input_digest"])) == (True, True)
    assert "warnings" not in done
    assert build(builder=builder)["built"] is False


@pytest.mark.parametrize("containerd_store", [True, False])
def test_an_engine_that_has_the_old_base_takes_the_new_one_and_pushes(
    build, registry, push_base, start_engine, context, containerd_store
):
    version = subprocess.run(["dockerd", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    if containerd_store and int(re.search(r"version (\d+)", version)[1]) < 24:
        pytest.skip("this machine's engine has no containerd image store")
    base = f"{registry.host}/base:1"
    push_base("old", registry.host)
    engine = start_engine(containerd_store=containerd_store)
    subprocess.run(["docker", "pull", "--quiet", base], check=True)
    push_base("new", registry.host)
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY hello /\n")
    arguments = {"builder": engine, "platforms": ["linux/amd64"], "provenance": "false"}
    first = build(**arguments)
    assert (first["changed"], bool(first["input_digest"])) == (True, containerd_store)
    # The classic store makes layers of its own: what they hold counts.
    assert contents(f"{registry.host}/app:1")[:1] == contents(f"{registry.host}/base@{platform_of(base)}")
    again = build(**arguments)
    assert (again["changed"], again["built"]) == (False, not containerd_store)
    if not containerd_store:
        assert "has no containerd image store" in again["reasons"][0]
        (context / "hello").write_text("changed\n")
        changed = build(**arguments)
        assert changed["changed"] is True
        assert changed["digest"] != first["digest"] == again["digest"]


def contents(reference):
    """Return the digests of an image's layers as they are unpacked."""
    command = ["skopeo", "inspect", "--config", "--tls-verify=false", f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["rootfs"]["diff_ids"]


def platform_of(reference):
    """Return the digest of an image for this machine's platform."""
    return next(
        entry["digest"] for entry in raw(reference)["manifests"] if entry["platform"]["architecture"] == "amd64"
    )


@pytest.fixture
def meddler(tmp_path, context):
    """A Docker CLI that changes the context before it builds, as often as it is told to."""

    def make(times):
        (tmp_path / "left").write_text("x" * times)
        program = tmp_path / "docker"
        program.write_text(
            f"""#!/bin/sh
case "$*" in *--metadata-file*)
    left=$(cat {tmp_path}/left)
    [ -z "$left" ] || {{ printf %s "${{left#x}}" >{tmp_path}/left; echo changed >>{context}/hello; }}
esac
exec docker "$@"
"""
        )
        program.chmod(0o755)
        return str(program)

    return make


def test_a_context_that_changes_before_it_is_sent_is_built_again(build, registry, meddler, context):
    done = build(docker_cli=meddler(1))
    assert (context / "hello").read_text() == "hello\nchanged\n"
    assert raw(f"{registry.host}/app:1")["annotations"] == {KEY: done["input_digest"]}
    assert "warnings" not in done
    assert build()["built"] is False


def test_a_context_that_never_stands_still_leaves_an_image_that_claims_nothing(build, registry, meddler):
    done = build(docker_cli=meddler(9))
    assert "the context changed while it was built: so the image does not say" in json.dumps(done["warnings"])
    assert done["input_digest"] == ""
    assert KEY not in raw(f"{registry.host}/app:1").get("annotations", {})
    assert build(check=True)["reasons"] == [f"{registry.host}/app:1 does not say what it was made from"]

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""multiarch.drone.buildx_image against a real BuildKit and real registries, run by Ansible."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest

KEY = "dev.multiarch.drone.input-digest"
FLEET = ["linux/amd64", "linux/arm64"]


def index(reference):
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def test_an_image_is_predicted_built_kept_and_built_again_for_each_input_that_matters(build, registry, context):
    predicted = build(check=True)
    assert (predicted["changed"], predicted["built"], predicted["digest"]) == (True, False, "")
    assert predicted["reasons"] == [f"{registry.host}/app:1 is not there"]

    first = build()
    assert (first["changed"], first["built"]) == (True, True)
    assert first["diff"] == predicted["diff"]
    assert first["steps"] == predicted["steps"]
    assert [entry["platform"] for entry in first["images"][0]["platforms"]] == FLEET
    assert len(first["images"][0]["attestations"]) == 2
    pushed = index(f"{registry.host}/app:1")
    assert pushed["annotations"] == {KEY: first["input_digest"]}
    assert any("COPY hello" in line for line in first["log"])

    again = build()
    assert (again["changed"], again["built"], again["digest"]) == (False, False, first["digest"])
    assert "log" not in again

    # What .dockerignore leaves out, and times, are no inputs.
    (context / "noise.log").write_text("x")
    os.utime(context / "hello", (1, 1))
    assert build(check=True)["changed"] is False

    # Permissions are.
    (context / "hello").chmod(0o755)
    moded = build(check=True)
    assert moded["reasons"] == [f"{registry.host}/app:1 was made from other inputs"]
    (context / "hello").chmod(0o644)

    # Options are.
    assert build(check=True, build_args={"VERSION": "2"})["changed"] is True
    assert build(check=True, platforms=["linux/amd64"])["changed"] is True
    assert build(check=True, labels={"a": "b"})["changed"] is True
    assert build(check=True, cache_from=["type=registry,ref=127.0.0.1:1/x"])["changed"] is False

    # A comment in the Dockerfile is another input, and the same image.
    with (context / "Dockerfile").open("a") as file:
        file.write("# nothing\n")
    (context / ".dockerignore").write_text("*.log\nDockerfile\n")
    commented = build()
    assert (commented["changed"], commented["built"]) == (False, True)
    assert build(check=True)["built"] is False

    (context / "hello").write_text("hello again\n")
    changed = build()
    assert (changed["changed"], changed["built"]) == (True, True)
    assert changed["digest"] != first["digest"]


@pytest.mark.parametrize("options", [{}, {"platforms": ["linux/arm64"], "provenance": "false"}])
def test_an_unchanged_image_costs_one_question_and_one_for_each_base(build, registry, layout, context, options):
    base = registry.push(layout(*FLEET), "base:1")
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY hello /\n")
    build(**options)
    registry.asked()
    assert build(**options)["built"] is False
    assert registry.asked() == ["HEAD /v2/base/manifests/1", "GET /v2/app/manifests/1"]


def test_a_new_tag_is_pushed_and_both_must_be_there(build, registry):
    first = build()
    both = [f"{registry.host}/app:1", f"{registry.host}/other/app:2"]
    second = build(tags=both)
    assert (second["changed"], second["built"]) == (True, True)
    assert [entry["reference"] for entry in second["images"]] == both
    assert [entry["platforms"] for entry in second["images"]] == [first["images"][0]["platforms"]] * 2
    assert build(tags=both)["changed"] is False


def test_a_new_base_image_is_noticed_by_its_digest_alone(build, registry, layout, context):
    base = registry.push(layout("linux/amd64", "linux/arm64"), "base:1")
    (context / "Dockerfile").write_text(f"ARG BASE=base:1\nFROM {registry.host}/$BASE\nCOPY hello /\n")
    first = build()
    assert list(first["base_images"]) == [base]
    assert build()["built"] is False
    registry.push(layout("linux/amd64", "linux/arm64", annotations={"new": "yes"}), "base:1")
    noticed = build(check=True)
    assert noticed["reasons"] == [f"{registry.host}/app:1 was made from other inputs"]
    assert noticed["base_images"][base] != first["base_images"][base]


def test_a_base_image_that_cannot_be_looked_up_is_built_each_time_and_never_guessed(module, registry, builder, context):
    (context / "Dockerfile").write_text("FROM 127.0.0.1:1/base\nCOPY hello /\n")
    arguments = {"context": str(context), "tags": [f"{registry.host}/app:1"], "push": True, "builder": builder}
    predicted = module("buildx_image", check=True, **arguments)
    assert predicted["input_digest"] == ""
    assert "the base image cannot be looked up: http://127.0.0.1:1/" in predicted["reasons"][0]
    failed = module("buildx_image", **arguments)
    assert failed["failed"]
    assert f"building {registry.host}/app:1 failed: " in failed["msg"]
    assert failed["log"]


def test_rebuild_always_builds_and_changes_nothing_where_the_image_is_the_same(build):
    first = build()
    again = build(rebuild="always")
    assert (again["built"], again["changed"]) == (True, False)
    assert again["images"][0]["platforms"] == first["images"][0]["platforms"]


@pytest.mark.parametrize("platforms", [["linux/arm64"], FLEET])
def test_without_provenance_the_index_has_platforms_only_and_one_platform_is_known_as_well(build, platforms):
    first = build(platforms=platforms, provenance=False)
    (image,) = first["images"]
    assert image["attestations"] == []
    assert [entry["platform"] for entry in image["platforms"]] == platforms
    again = build(platforms=platforms, provenance="false")
    assert (again["built"], again["changed"]) == (False, False)
    always = build(platforms=platforms, provenance="false", rebuild="always")
    assert (always["built"], always["changed"]) == (True, False)


@pytest.mark.parametrize(("tls", "auth"), [(True, True), (True, False), (False, True)])
def test_a_registry_with_tls_or_a_login_is_pushed_to_and_read(
    module, start_registry, start_buildkitd, context, home, tls, auth
):
    registry = start_registry(tls=tls, auth=auth)
    builder = start_buildkitd(config=f'[registry."{registry.host}"]\nca = ["{registry.ca}"]\n' if tls else "")
    arguments = {
        "context": str(context),
        "tags": [f"{registry.host}/app:1"],
        "platforms": FLEET,
        "push": True,
        "builder": builder,
        "ca_path": str(registry.ca) if tls else None,
    }
    if auth:
        refused = module("buildx_image", **arguments)
        assert refused["failed"]
        assert "docker login" in refused["msg"]
        registry.login(home)
    first = module("buildx_image", **arguments)
    assert (first["failed"], first["changed"]) == (False, True)
    second = module("buildx_image", **arguments)
    assert (second["built"], second["changed"], second["digest"]) == (False, False, first["digest"])


def test_secrets_reach_the_build_and_nothing_else(build, busybox, context, tmp_path, home, monkeypatch, registry):
    (context / "busybox").write_bytes(busybox)
    (context / "busybox").chmod(0o755)
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in ("a", "b", "c"))
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/cat\n"
        f"RUN {mounts} cat /run/secrets/a /run/secrets/b /run/secrets/c && echo made > /made\n"
    )
    (tmp_path / "secret").write_text("from-a-file\n")
    monkeypatch.setenv("MY_TOKEN", "from-a-variable")
    # A docker that leaves its arguments behind.
    (home / "docker").write_text(f'#!/bin/sh\necho "$@" >>{home}/arguments\nexec docker "$@"\n')
    (home / "docker").chmod(0o755)
    secrets = [
        {"id": "a", "src": str(tmp_path / "secret")},
        {"id": "b", "env": "MY_TOKEN"},
        {"id": "c", "value": "from-a-value"},
    ]
    result = build(platforms=["linux/amd64"], secrets=secrets, docker_cli=str(home / "docker"))
    assert any("********" in line for line in result["log"])
    everything = json.dumps(result) + (home / "arguments").read_text() + json.dumps(index(f"{registry.host}/app:1"))
    assert "--secret id=c,env=MULTIARCH_SECRET_2" in everything
    for secret in ("from-a-file", "from-a-variable", "from-a-value"):
        assert secret not in everything
    # Another value is no other input, as for BuildKit's cache.
    secrets[2]["value"] = "from-another-value"
    assert build(platforms=["linux/amd64"], secrets=secrets)["built"] is False


def test_a_git_repository_is_built_once_for_each_commit(build, context, tmp_path):
    def git(*args):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *settings, "-C", context, *args], check=True, stdout=subprocess.DEVNULL)

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    served = tmp_path / "served"
    subprocess.run(["git", "clone", "--quiet", "--bare", context, served / "app.git"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "git",
        "daemon",
        f"--base-path={served}",
        "--export-all",
        "--listen=127.0.0.1",
        f"--port={port}",
        str(served),
    ]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while daemon.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        url = f"git://127.0.0.1:{port}/app.git#main"
        first = build(context=url)
        assert first["changed"] is True
        assert first["input_digest"]
        assert build(context=url)["built"] is False
        (context / "hello").write_text("two\n")
        git("commit", "-am", "two")
        git("push", "--quiet", str(served / "app.git"), "HEAD:main")
        assert build(context=url)["changed"] is True
        gone = build(context=f"git://127.0.0.1:{port}/app.git#nowhere", check=True)
        assert (gone["input_digest"], gone["changed"]) == ("", True)
        assert "git fetch failed" in gone["reasons"][0]
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(10)


def test_files_are_written_without_a_registry(module, builder, context, tmp_path):
    result = module("buildx_image", context=str(context), builder=builder, outputs=[f"type=local,dest={tmp_path}/out"])
    assert (result["failed"], result["changed"]) == (False, True)
    assert (tmp_path / "out/hello").read_text() == "hello\n"


def test_the_rules_of_a_dockerfile_are_checked_without_building(module, builder, context):
    good = module("buildx_image", context=str(context), builder=builder, call="check")
    assert (good["failed"], good["changed"]) == (False, False)
    (context / "Dockerfile").write_text("from scratch as Base\nCOPY hello /\nCOPY --from=nothing / /\n")
    bad = module("buildx_image", context=str(context), builder=builder, call="check")
    assert bad["failed"]


def test_a_registry_that_is_down_and_a_builder_that_is_not_there_change_nothing(module, registry, builder, context):
    arguments = {"context": str(context), "platforms": FLEET, "push": True}
    down = module("buildx_image", tags=["127.0.0.1:1/app:1"], builder=builder, **arguments)
    assert "does the registry run" in down["msg"]
    gone = module("buildx_image", tags=[f"{registry.host}/app:1"], builder="nobody", **arguments)
    assert 'no builder "nobody" found' in gone["msg"]
    assert "multiarch.drone.buildx_builder" in gone["msg"]


def test_a_build_that_hangs_is_ended_at_its_time_limit(module, registry, builder, busybox, context):
    (context / "busybox").write_bytes(busybox)
    (context / "busybox").chmod(0o755)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/sleep\nRUN sleep 60\n")
    before = time.monotonic()
    result = module(
        "buildx_image",
        context=str(context),
        tags=[f"{registry.host}/app:1"],
        push=True,
        builder=builder,
        timeout=5,
    )
    assert "did not end within 5 s" in result["msg"]
    assert time.monotonic() - before < 30


def test_a_platform_that_no_node_executes_is_said_with_what_helps(module, registry, builder, busybox, context):
    foreign = bytearray(busybox)
    foreign[18:20] = b"\x34\x12"  # e_machine: a CPU that nobody has built yet
    (context / "busybox").write_bytes(foreign)
    (context / "busybox").chmod(0o755)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/sh\nRUN true\n")
    tags = [f"{registry.host}/app:1"]
    result = module(
        "buildx_image", context=str(context), tags=tags, platforms=["linux/mips64"], push=True, builder=builder
    )
    assert result["failed"]
    assert "multiarch.drone.binfmt_qemu registers an emulator" in result["msg"]


@pytest.fixture
def small_disk(tmp_path):
    """Make disks of a few MiB, which a test can fill."""
    mounted = []

    def make(path, size):
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(path)], check=True)
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


# A registry does not tell its users why.
@pytest.mark.parametrize(
    ("whose", "said"), [("builder", "no space left on device; free some space"), ("registry", "failed to push")]
)
def test_a_full_disk_is_said_and_the_old_image_stays(
    module, start_registry, start_buildkitd, small_disk, context, tmp_path, whose, said
):
    disk = small_disk(tmp_path / {"builder": "buildkitd-fleet/root", "registry": "registry0/storage"}[whose], "24m")
    registry, builder = start_registry(), start_buildkitd()
    tags = [f"{registry.host}/app:1"]
    arguments = {"context": str(context), "tags": tags, "platforms": FLEET, "push": True, "builder": builder}
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    first = module("buildx_image", **arguments)
    assert first["changed"] is True, first
    (context / "large").write_bytes(os.urandom(32 << 20))
    full = module("buildx_image", **arguments)
    assert full["failed"]
    assert said in full["msg"]
    (context / "large").unlink()
    again = module("buildx_image", **arguments)
    assert (again["built"], again["digest"]) == (False, first["digest"])
    subprocess.run(["mount", "-o", "remount,size=128m", str(disk)], check=True)
    assert module("buildx_image", **arguments, labels={"a": "b"})["changed"] is True


def test_two_plays_at_a_time_push_one_image_and_both_are_content(build):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _number: build(rebuild="always"), range(2))
    assert first["images"][0]["platforms"] == second["images"][0]["platforms"]
    assert build()["built"] is False


def test_a_context_with_pipes_sockets_devices_and_strange_names_is_hashed_as_it_is_sent(build, context, tmp_path):
    os.mkfifo(context / "pipe")
    os.mknod(context / "null", 0o600 | 0o020000, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(context)  # a socket's path is short
        listening.bind("socket")
        os.chdir(here)
    (context / "outside").symlink_to("/etc/passwd")
    (context / "loop").symlink_to("loop")
    (context / ("n" * 250)).write_text("long")
    (context / "new\nline \t'\"$(x)").write_text("odd")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    first = build()
    assert first["input_digest"]
    assert build()["built"] is False

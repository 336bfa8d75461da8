# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of multiarch.drone.buildx_image that BuildKit itself acts upon, and a module that is ended while BuildKit builds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import pytest

ONE = ["linux/amd64"]
SPDX = "https://spdx.dev/Document"


@pytest.fixture
def shell(context, busybox):
    """Write a Dockerfile of steps that a shell runs."""
    (context / "busybox").write_bytes(busybox)
    (context / "busybox").chmod(0o755)

    def write(*steps):
        start = ("FROM scratch", "COPY busybox /bin/", 'RUN ["/bin/busybox", "--install", "-s", "/bin"]')
        (context / "Dockerfile").write_text("\n".join((*start, *steps, "")))

    return write


def raw(reference):
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def wait_until(condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# ---- ssh


@pytest.fixture
def key(tmp_path, context):
    """A key without a passphrase, whose public half is in the context, as is an ssh-add with the libraries that it needs."""
    path = tmp_path / "deploy"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    root = context / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/false\n")
    shutil.move(f"{path}.pub", root / "deploy.pub")
    program = shutil.which("ssh-add")
    libraries = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for file in re.findall(r"/\S+", libraries):
        (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / file[1:])
    shutil.copy(program, root / "ssh-add")
    return path


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """An ssh-agent of its own."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    process = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "agent").exists)
    yield
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("whose", ["a key", "an agent"])
def test_a_step_signs_with_the_key_that_ssh_forwards_and_the_key_is_no_input(
    module, build, builder, context, key, agent, whose
):
    name = {"a key": "deploy", "an agent": "default"}[whose]
    # ssh-add -T asks the agent for a signature, and verifies it.
    (context / "Dockerfile").write_text(
        f'FROM scratch\nCOPY root /\nRUN --mount=type=ssh,id={name},required ["/ssh-add", "-T", "/deploy.pub"]\n'
    )
    refused = module("buildx_image", context=str(context), builder=builder)
    assert f"unset ssh forward key {name}" in refused["msg"]
    ssh = f"{name}={key}"
    private = key.read_text()
    if whose == "an agent":
        subprocess.run(["ssh-add", "-q", key], check=True)
        key.unlink()
        ssh = name
    result = build(platforms=ONE, ssh=[ssh])
    assert result["changed"] is True
    assert not any(line in json.dumps(result) for line in private.splitlines()[1:-1])
    assert build(platforms=ONE)["built"] is False


# ---- sbom


@pytest.mark.parametrize("sbom", ["generator=HOST/docker/buildkit-syft-scanner:stable-1", True])
def test_what_the_generator_of_sbom_says_is_attested_of_each_platform(
    build, registry, start_buildkitd, context, shell, sbom
):
    """A stand-in for docker.io's generator: BuildKit runs it as it runs that one (buildkit: docs/attestations/sbom-protocol.md)."""
    mirrored = f'[registry."docker.io"]\nmirrors = ["{registry.host}"]\n'
    builder = start_buildkitd("mirrored", mirrored)
    said = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": SPDX, "predicate": {"name": "stand-in"}}
    (context / "said").write_text(json.dumps(said))
    (context / "scan").write_text(
        'set -e\ntest "$(cat "$BUILDKIT_SCAN_SOURCE/hello")" = hello\ncp /said "$BUILDKIT_SCAN_DESTINATION/it.spdx.json"\n'
    )
    dockerfile = (context / "Dockerfile").read_text()
    shell("COPY said scan /", 'ENTRYPOINT ["/bin/sh", "/scan"]')
    scanner = f"{registry.host}/docker/buildkit-syft-scanner:stable-1"
    build(builder=builder, platforms=ONE, tags=[scanner], provenance="false")

    (context / "Dockerfile").write_text(dockerfile)
    sbom = sbom.replace("HOST", registry.host) if sbom is not True else sbom
    first = build(builder=builder, sbom=sbom, provenance="false")
    (image,) = first["images"]
    assert [entry["platform"] for entry in image["attestations"]] == ["linux/amd64", "linux/arm64"]
    for attestation in image["attestations"]:
        (layer,) = raw(f"{registry.host}/app@{attestation['digest']}")["layers"]
        assert layer["annotations"] == {"in-toto.io/predicate-type": SPDX}
        digest = layer["digest"].split(":")[1]
        blob = registry.storage / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
        assert json.loads(blob.read_text())["predicate"] == {"name": "stand-in"}
    assert build(builder=builder, sbom=sbom, provenance="false")["built"] is False
    without = build(builder=builder, provenance="false", check=True)
    assert without["reasons"] == [f"{registry.host}/app:1 was made from other inputs"]


# ---- cgroup_parent


def test_steps_run_below_the_cgroup_that_cgroup_parent_names_and_it_is_no_input(build, shell):
    name = f"multiarch-{uuid.uuid4().hex}"
    shell("RUN true")

    def made():
        # BuildKit takes its own cgroup away, and leaves the parent.
        return sorted(Path("/sys/fs/cgroup").glob(f"**/{name}"))

    try:
        build(platforms=ONE)
        assert not made()
        assert build(platforms=ONE, cgroup_parent=name)["built"] is False
        assert build(platforms=ONE, cgroup_parent=name, rebuild="always", no_cache=True)["built"] is True
        assert made()
    finally:
        for top in made():
            for directory, _directories, _files in os.walk(top, topdown=False):
                os.rmdir(directory)


# ---- outputs


def members(archive):
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


def holds_the_files(place, _result):
    assert ((place / "hello").read_bytes() if place.is_dir() else members(place)["hello"]) == b"hello\n"


def holds_what_was_pushed(place, result):
    (entry,) = json.loads(members(place)["index.json"])["manifests"]
    assert entry["digest"] == result["digest"]


def holds_an_image_for_an_engine(place, result):
    (entry,) = json.loads(members(place)["manifest.json"])
    assert entry["RepoTags"] == [result["images"][0]["reference"]]


HOLDS = {
    "local": holds_the_files,
    "tar": holds_the_files,
    "oci": holds_what_was_pushed,
    "docker": holds_an_image_for_an_engine,
}


@pytest.mark.parametrize(("kinds", "options"), [("local tar oci", {}), ("docker", {"provenance": "false"})])
def test_outputs_beside_a_push_are_written_once_and_again_where_they_were_lost(build, tmp_path, kinds, options):
    places = {kind: tmp_path / kind for kind in kinds.split()}
    outputs = [f"type={kind},dest={place}" for kind, place in places.items()]
    arguments = {"platforms": ONE, "outputs": outputs, **options}

    def prove(result):
        for kind, place in places.items():
            HOLDS[kind](place, result)

    first = build(**arguments)
    assert first["changed"] is True
    prove(first)
    for place in places.values():
        os.utime(place, (1, 1))
    again = build(**arguments)
    assert (again["changed"], again["built"]) == (False, False)
    assert [place.stat().st_mtime for place in places.values()] == [1] * len(places)

    for place in places.values():
        if place.is_dir():
            shutil.rmtree(place)
            place.mkdir()  # as a play may do that is run again on a new host
        else:
            place.unlink()
        predicted = build(**arguments, check=True)
        assert (predicted["changed"], predicted["digest"]) == (True, "")
        assert predicted["reasons"][-1] == f"nothing is at {place}"
    lost = build(**arguments)
    assert (lost["changed"], lost["steps"], lost["diff"]) == (True, predicted["steps"], predicted["diff"])
    assert lost["steps"] == [f"write {place}" for place in places.values()]
    assert lost["images"][0]["platforms"] == first["images"][0]["platforms"]
    prove(lost)
    assert build(**arguments)["built"] is False


def test_an_image_output_says_how_the_push_is_done_and_is_no_second_push(build, registry):
    arguments = {"platforms": ONE, "outputs": ["type=image,compression=zstd,force-compression=true"]}
    result = build(**arguments)
    assert registry.asked().count("PUT /v2/app/manifests/1") == 1
    digest = result["images"][0]["platforms"][0]["digest"]
    (layer,) = raw(f"{registry.host}/app@{digest}")["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert build(**arguments)["built"] is False


# ---- ended while BuildKit builds


def processes(file, text):
    """Return the processes of which /proc/PID/`file` holds a text."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # it has ended
            continue
    return found


# SIGHUP is what a lost ssh connection sends. Of SIGKILL nobody can be told: there the CLI ends when it next prints a line.
@pytest.mark.parametrize(
    ("number", "work"),
    [
        (signal.SIGTERM, "sleep 60 #"),
        (signal.SIGHUP, "sleep 60 #"),
        (signal.SIGKILL, "while sleep 0.2; do echo working; done #"),
    ],
)
def test_a_module_that_is_ended_while_buildkit_builds_leaves_the_old_image_and_no_secret_and_the_next_run_builds(
    build, start_module, builder, registry, context, shell, tmp_path, monkeypatch, number, work
):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    old = build(platforms=ONE)
    name, secret = f"work-{uuid.uuid4().hex}", f"{work} {uuid.uuid4().hex}"
    # What the step does is a secret, and so no input: the next run asks for the same image.
    shell(f"RUN --mount=type=secret,id={name} sh /run/secrets/{name}")
    image = {"context": str(context), "tags": [f"{registry.host}/app:1"], "platforms": ONE, "push": True}
    with start_module("buildx_image", **image, builder=builder, secrets=[{"id": name, "value": secret}]) as process:
        wait_until(lambda: processes("cmdline", f"/run/secrets/{name}"))
        # The CLI prints what runs once a moment, and would die of that if nobody listened.
        time.sleep(1)
        assert processes("environ", secret)
        process.send_signal(number)
        said = process.stdout.read() if number != signal.SIGKILL else ""
    wait_until(lambda: not processes("environ", secret) and not processes("cmdline", f"/run/secrets/{name}"))
    if said:
        assert f"{number.name} ended the task; run it again" in json.loads(said)["msg"]
    # SIGKILL leaves an empty directory.
    assert [path for path in temporary.rglob("*") if number != signal.SIGKILL or path.is_file()] == []
    predicted = build(platforms=ONE, secrets=[{"id": name, "value": "true"}], check=True)
    assert predicted["reasons"] == [f"{registry.host}/app:1 was made from other inputs"]
    assert predicted["diff"]["before"][f"{registry.host}/app:1"]["inputs"] == old["input_digest"]
    after = build(platforms=ONE, secrets=[{"id": name, "value": "true"}])
    assert (after["changed"], after["built"], after["input_digest"]) == (True, True, predicted["input_digest"])

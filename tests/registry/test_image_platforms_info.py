# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""multiarch.drone.image_platforms_info against real registries, run by Ansible."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time

FLEET = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"]


def names(image):
    return [entry["platform"] for entry in image["platforms"]]


def raw(reference):
    """Return the bytes of a manifest as skopeo reads them."""
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def test_an_oci_index_with_attestations_is_read_as_it_was_pushed(module, registry, layout):
    image = registry.push(layout(*FLEET, attestations=True, annotations={"a": "b"}), "team/app:1")
    result = module("image_platforms_info", images=[image], require=["amd64,arm64", "armhf", "s390x"])
    (read,) = result["images"]
    assert names(read) == FLEET
    assert [entry["platform"] for entry in read["attestations"]] == FLEET
    assert read["digest"] == "sha256:" + hashlib.sha256(raw(image)).hexdigest()
    assert read["annotations"] == {"a": "b"}
    assert result["changed"] is False
    listed = {entry["digest"]: entry["size"] for entry in json.loads(raw(image))["manifests"]}
    assert {entry["digest"]: entry["size"] for entry in read["platforms"] + read["attestations"]} == listed


def test_a_docker_list_a_single_manifest_and_a_digest_are_read_in_one_call(module, registry, layout):
    docker = registry.push(layout("linux/amd64", "linux/arm/v7"), "docker:1", "--format", "v2s2")
    single = registry.push(layout("linux/arm64", single=True), "single:1")
    pinned = f"{registry.host}/docker@sha256:{hashlib.sha256(raw(docker)).hexdigest()}"
    result = module("image_platforms_info", images=[docker, single, pinned, docker])
    assert [image["reference"] for image in result["images"]] == [docker, single, pinned]
    assert [names(image) for image in result["images"]] == [
        ["linux/amd64", "linux/arm/v7"],
        ["linux/arm64"],
        ["linux/amd64", "linux/arm/v7"],
    ]
    assert [image["media_type"].split(".")[1] for image in result["images"]] == ["docker", "oci", "docker"]


def test_a_missing_platform_fails_and_is_named_and_what_is_there_is_returned(module, registry, layout):
    image = registry.push(layout("linux/amd64", "linux/arm/v6"), "app:1")
    result = module("image_platforms_info", images=[image], require=["linux/amd64", "linux/arm/v7"], check=True)
    assert result["failed"]
    assert f"{image} is not built for linux/arm/v7" in result["msg"]
    assert result["missing"] == {image: ["linux/arm/v7"]}
    assert names(result["images"][0]) == ["linux/amd64", "linux/arm/v6"]


def test_what_does_not_exist_is_named_with_the_registrys_words_and_the_rest_is_returned(module, registry, layout):
    image = registry.push(layout("linux/amd64"), "app:1")
    result = module("image_platforms_info", images=[image, f"{registry.host}/app:2", f"{registry.host}/nope:1"])
    assert result["failed"]
    assert f"{registry.host}/app:2 does not exist: {registry.host} says 404 (manifest unknown)" in result["msg"]
    assert f"{registry.host}/nope:1 does not exist" in result["msg"]
    assert [read["reference"] for read in result["images"]] == [image]


def test_tls_needs_its_authority_and_a_login_dockers_credentials(module, start_registry, layout, home, monkeypatch):
    registry = start_registry(tls=True, auth=True)
    image = registry.push(layout("linux/amd64"), "app:1")
    trusted = {"images": [image], "ca_path": str(registry.ca)}
    assert "there are no credentials for it in" in module("image_platforms_info", **trusted)["msg"]

    registry.login(home, password="wr0ng")
    wrong = module("image_platforms_info", **trusted)
    assert f"no access for robot from {home}/.docker/config.json" in wrong["msg"]
    assert "wr0ng" not in json.dumps(wrong)

    registry.login(home)
    assert names(module("image_platforms_info", **trusted)["images"][0]) == ["linux/amd64"]

    (home / ".docker/config.json").rename(home / "config.json")
    monkeypatch.setenv("DOCKER_CONFIG", str(home))
    assert names(module("image_platforms_info", **trusted)["images"][0]) == ["linux/amd64"]


def test_an_untrusted_certificate_is_refused_unless_the_registry_is_listed_as_insecure(module, start_registry, layout):
    registry = start_registry(tls=True)
    image = registry.push(layout("linux/amd64"), "app:1")
    refused = module("image_platforms_info", images=[image])
    assert "its certificate is not trusted" in refused["msg"]
    assert "ca_path" in refused["msg"]
    accepted = module("image_platforms_info", images=[image], insecure_registries=[registry.host])
    assert names(accepted["images"][0]) == ["linux/amd64"]


def test_a_credential_helper_gives_the_login(module, start_registry, layout, home, monkeypatch):
    registry = start_registry(auth=True)
    image = registry.push(layout("linux/amd64"), "app:1")
    helper = home / "docker-credential-vault"
    helper.write_text('#!/bin/sh\necho \'{"Username":"robot","Secret":"s3cret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    (home / ".docker/config.json").write_text(json.dumps({"credHelpers": {registry.host: "vault"}}))
    result = module("image_platforms_info", images=[image])
    assert names(result["images"][0]) == ["linux/amd64"]
    assert "s3cret" not in json.dumps(result)


def test_a_registry_that_takes_connections_and_says_nothing_fails_within_the_timeout(module):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        image = f"127.0.0.1:{silent.getsockname()[1]}/app:1"
        before = time.monotonic()
        result = module("image_platforms_info", images=[image], timeout=1)
        assert "no answer within the timeout" in result["msg"]
        assert time.monotonic() - before < 6


def test_the_size_of_each_platform_is_what_skopeo_copies_of_it(module, registry, layout, tmp_path):
    image = registry.push(layout("linux/amd64", "linux/arm/v7", attestations=True), "app:1")
    (read,) = module("image_platforms_info", images=[image], sizes=True)["images"]
    for number, entry in enumerate(read["platforms"]):
        pinned = f"docker://{registry.host}/app@{entry['digest']}"
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]
        subprocess.run([*command, pinned, f"dir:{tmp_path}/{number}"], check=True)
        blobs = [path for path in (tmp_path / str(number)).iterdir() if path.name not in ("manifest.json", "version")]
        assert entry["bytes"] == sum(path.stat().st_size for path in blobs)
    (plain,) = module("image_platforms_info", images=[image])["images"]
    assert [entry["bytes"] for entry in plain["platforms"]] == [None, None]

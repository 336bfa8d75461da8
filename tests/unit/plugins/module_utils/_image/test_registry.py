# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A registry that misbehaves: what no real registry does on request. The real one's tests are in tests/registry."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import registry
from ansible_collections.multiarch.drone.plugins.module_utils._image.reference import Reference
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.tests.standins.registry import (
    CHALLENGES,
    CONFIGS,
    PASSWORD,
    SERVERS,
    UNREADABLE,
    USER,
    Registry,
)

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def sha256(body):
    return "sha256:" + hashlib.sha256(body).hexdigest()


def descriptor(architecture, os="linux", variant="", media_type=OCI_MANIFEST, **more):
    platform = {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
    digest = sha256(f"{os}{architecture}{variant}".encode())
    return {"mediaType": media_type, "digest": digest, "size": 500, "platform": platform, **more}


def index(*manifests, media_type=OCI_INDEX, **more):
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests), **more}


class Standin:
    """A registry of this test: routes from paths to what is answered, and a record of what was asked."""

    def __init__(self):
        self.routes = {}
        self.requests = []
        self.connections = set()

    def answer(self, path, body=b"", status=200, **headers):
        self.routes[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def manifest(self, name, version, content, media_type=OCI_INDEX, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answer(f"/v2/{name}/manifests/{version}", body, Content_Type=media_type, **headers)
        return body

    def paths(self):
        return [path for _unused, path, _unused in self.requests]


@contextmanager
def serving(standin):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            standin.requests.append((self.command, self.path, dict(self.headers)))
            standin.connections.add(self.client_address)
            length = int(self.headers.get("Content-Length") or 0)
            self.form = parse_qs(self.rfile.read(length).decode())
            route = standin.routes.get(self.path) or standin.routes.get(urlsplit(self.path).path)
            status, headers, body = route(self) if callable(route) else route or (404, {}, b"")
            if status is None:
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_unused):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    standin.host = f"127.0.0.1:{server.server_port}"
    try:
        yield standin
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def standin():
    with serving(Standin()) as started:
        yield started


@pytest.fixture
def other():
    with serving(Standin()) as started:
        yield started


@pytest.fixture(autouse=True)
def docker_config(tmp_path, monkeypatch):
    """An empty Docker configuration, and a ~/.netrc that must not matter."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / ".netrc").write_text("default login netrc password netrc\n")
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker/config.json"


def login(config, host, user="robot", password="s3cret"):
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def read(*names, timeout=5.0, **options):
    access = registry.Access.of(timeout=timeout, **options)
    return registry.read_all([Reference.parse(name) for name in names], access)


def read_one(name, **options):
    (image,) = read(name, **options)
    if isinstance(image, Problem):
        raise image
    return image


def platforms(image):
    return [entry.platform for entry in image.platforms]


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_of_either_kind_names_its_platforms_normalised(standin, media_type):
    content = index(
        descriptor("amd64"),
        descriptor("arm64", variant="v8"),
        descriptor("arm"),
        descriptor("arm", variant="v6"),
        descriptor("amd64", "windows"),
        media_type=media_type,
    )
    body = standin.manifest("app", "1", content, media_type)
    image = read_one(f"{standin.host}/app:1")
    assert platforms(image) == ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "windows/amd64"]
    assert image.digest == sha256(body)
    assert image.document.media_type == media_type
    assert image.platforms[0].size == 500


def test_attestations_are_told_apart_and_say_what_they_are_about(standin):
    amd64 = descriptor("amd64")
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd64["digest"]}
    standin.manifest("app", "1", index(amd64, descriptor("unknown", "unknown", annotations=notes)))
    facts = read_one(f"{standin.host}/app:1").facts("app")
    assert [entry["platform"] for entry in facts["platforms"]] == ["linux/amd64"]
    (attestation,) = facts["attestations"]
    assert (attestation["platform"], attestation["attests"]) == ("linux/amd64", amd64["digest"])
    assert facts["others"] == []


def single(standin, name, version, config, media_type=OCI_MANIFEST, **more):
    config = json.dumps(config).encode()
    kind = "application/vnd.docker.container.image.v1+json" if "docker" in media_type else more.pop("kind", None)
    content = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": kind or "application/vnd.oci.image.config.v1+json",
            "digest": sha256(config),
            "size": len(config),
        },
        "layers": [],
        **more,
    }
    standin.answer(f"/v2/{name}/blobs/{sha256(config)}", config)
    body = standin.manifest(name, version, content, media_type)
    standin.manifest(name, sha256(body), body, media_type)
    return body


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_single_manifest_says_its_platform_in_its_configuration(standin, media_type):
    body = single(standin, "app", "1", {"os": "linux", "architecture": "arm", "variant": "v6"}, media_type)
    image = read_one(f"{standin.host}/app:1")
    assert platforms(image) == ["linux/arm/v6"]
    assert image.platforms[0].digest == image.digest == sha256(body)
    assert image.platforms[0].size == len(body)


def test_an_index_that_leaves_a_platform_out_is_completed_from_what_it_lists(standin):
    body = single(standin, "app", "inner", {"os": "linux", "architecture": "s390x"})
    listed = {"mediaType": OCI_MANIFEST, "digest": sha256(body), "size": len(body)}
    inner = standin.manifest("app", "middle", index(listed))
    standin.manifest("app", sha256(inner), inner)
    middle = {"mediaType": OCI_INDEX, "digest": sha256(inner), "size": len(inner)}
    standin.manifest("app", "1", index(descriptor("amd64"), middle))
    assert platforms(read_one(f"{standin.host}/app:1")) == ["linux/amd64", "linux/s390x"]


def test_an_artifact_is_no_platform(standin):
    single(standin, "chart", "1", {}, kind="application/vnd.cncf.helm.config.v1+json")
    facts = read_one(f"{standin.host}/chart:1").facts("chart")
    assert facts["platforms"] == []
    assert facts["others"][0]["artifact_type"] == "application/vnd.cncf.helm.config.v1+json"


def test_a_missing_platform_is_named_and_a_variant_is_taken_exactly(standin):
    standin.manifest("app", "1", index(descriptor("amd64"), descriptor("arm", variant="v6")))
    image = read_one(f"{standin.host}/app:1")
    assert registry.missing(image, ["linux/amd64", "linux/arm/v7", "linux/s390x"]) == ["linux/arm/v7", "linux/s390x"]


# Sizes


def sized(standin, *layers, config=40, **more):
    """Let a registry have a manifest with layers of these sizes; return its descriptor."""
    content = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"c"), "size": config},
        "layers": [{"digest": sha256(str(size).encode()), "size": size} for size in layers],
        **more,
    }
    body = json.dumps(content).encode()
    digest = sha256(body)
    standin.manifest("app", digest, body, OCI_MANIFEST)
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(body)}


def with_platform(listed, architecture):
    return {**listed, "platform": {"os": "linux", "architecture": architecture}}


def sizes(*names):
    (images, access) = read(*names), registry.Access.of(timeout=5)
    for image in registry.with_sizes(images, access):
        if isinstance(image, Problem):
            raise image
        yield {entry["platform"]: entry["bytes"] for entry in image.facts("x")["platforms"]}


def test_the_size_of_a_platform_is_that_of_its_configuration_and_its_layers_each_once(standin):
    amd64, arm64 = sized(standin, 1000, 200, 1000), sized(standin, 7, config=1 << 40)
    standin.manifest("app", "1", index(with_platform(amd64, "amd64"), with_platform(arm64, "arm64")))
    standin.manifest("app", "2", index(with_platform(amd64, "amd64")))
    name = f"{standin.host}/app"
    assert list(sizes(f"{name}:1", f"{name}:2")) == [
        {"linux/amd64": 1240, "linux/arm64": (1 << 40) + 7},
        {"linux/amd64": 1240},
    ]
    assert len(standin.requests) == 4  # two tags and two manifests, each once


def test_a_single_manifest_is_asked_for_once_and_has_a_size(standin):
    body = single(standin, "app", "1", {"os": "linux", "architecture": "arm"})
    size = json.loads(body)["config"]["size"]
    assert list(sizes(f"{standin.host}/app:1")) == [{"linux/arm/v7": size}]
    assert [path for path in standin.paths() if "manifests" in path] == ["/v2/app/manifests/1"]


def test_a_platform_that_a_registry_lists_and_does_not_have_has_no_size(standin):
    there = with_platform(sized(standin, 5), "amd64")
    standin.manifest("app", "1", index(there, descriptor("s390x")))
    assert list(sizes(f"{standin.host}/app:1")) == [{"linux/amd64": 45, "linux/s390x": None}]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({}, "layers is an object, not a list"),
        ([{"digest": "x"}], r"layers\[0\] has no size"),
        ([{"digest": "x", "size": -1}], r"the size of layers\[0\] is negative"),
        ([{"digest": "x", "size": "1"}], "is a text, not a whole number"),
        (["x"], "not an object"),
    ],
)
def test_a_manifest_whose_layers_have_no_size_is_damaged(standin, layers, message):
    standin.manifest("app", "1", index(with_platform(sized(standin, layers=layers), "amd64")))
    with pytest.raises(Problem, match=f"its manifest is damaged: .*{message}"):
        list(sizes(f"{standin.host}/app:1"))


def test_a_registry_that_refuses_the_sizes_says_why(standin):
    listed = descriptor("amd64")
    standin.manifest("app", "1", index(listed))
    standin.answer(f"/v2/app/manifests/{listed['digest']}", b"{}", 429)
    with pytest.raises(Problem, match="too many requests"):
        list(sizes(f"{standin.host}/app:1"))


# Answers that cannot be right


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"<html>Sign in to the Wi-Fi</html>", "text/html", "is a web page, and not a manifest"),
        (b'{"schemaVersion": 2, "manif', OCI_INDEX, "not valid JSON"),
        (b"", OCI_INDEX, "not valid JSON"),
        (b"[" * 100_000, OCI_INDEX, "not valid JSON"),
        (b"[]", OCI_INDEX, "JSON of another kind"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "application/vnd.docker.distribution.manifest.v1+json", "schema 1"),
        (b'{"schemaVersion": 2}', OCI_INDEX, "neither an index nor a manifest"),
        (b'{"manifests": [], "config": {}, "layers": []}', OCI_INDEX, "an index and a manifest at once"),
        (b'{"manifests": [{"size": 1}]}', OCI_INDEX, "is damaged"),
        (b'{"manifests": ["x"]}', OCI_INDEX, "is damaged"),
        (b'{"manifests": [{"digest": "x", "size": "big"}]}', OCI_INDEX, "is damaged"),
        (b" " * (4 << 20) + b"{}", OCI_INDEX, "larger than 4 MiB"),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(standin, body, content_type, message):
    standin.manifest("app", "1", body, content_type)
    with pytest.raises(Problem) as caught:
        read_one(f"{standin.host}/app:1")
    assert message in str(caught.value)
    assert f"{standin.host}/app:1" in str(caught.value) or "larger" in message


def test_a_body_that_is_not_what_the_header_promises_is_refused(standin):
    standin.manifest("app", "1", index(), Docker_Content_Digest=sha256(b"other"))
    with pytest.raises(Problem, match="not what its digest promises"):
        read_one(f"{standin.host}/app:1")


def test_a_body_that_is_not_what_the_reference_asks_for_is_refused_whatever_the_header_says(standin):
    body = standin.manifest("app", sha256(b"asked"), index(), Docker_Content_Digest=sha256(b"asked"))
    assert sha256(body) != sha256(b"asked")
    with pytest.raises(Problem, match="not what its digest promises"):
        read_one(f"{standin.host}/app@{sha256(b'asked')}")


def test_an_answer_cut_short_is_an_error(standin):
    standin.answer("/v2/app/manifests/1", b'{"manifests": []}', Content_Length="5000", Connection="close")
    with pytest.raises(Problem, match=r"cut in the middle of the answer \(IncompleteRead\)"):
        read_one(f"{standin.host}/app:1", timeout=2)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {}, "does not exist: "),
        (403, {}, "no access: "),
        (429, {"Retry-After": "17"}, "too many requests from here (429 (as it says)); try again in 17 seconds, log in"),
        (500, {}, "says 500 (as it says); try again later"),
        (418, {}, "is it a registry, or a proxy's page?"),
    ],
)
def test_a_refusal_carries_the_registrys_words_and_a_hint(standin, status, headers, message):
    body = json.dumps({"errors": [{"code": "X", "message": "as\r\nit says"}]}).encode()
    standin.routes["/v2/app/manifests/1"] = (status, headers, body)
    with pytest.raises(Problem) as caught:
        read_one(f"{standin.host}/app:1")
    assert message in str(caught.value)
    assert "as it says" in str(caught.value)


# Time


def test_a_registry_that_hangs_is_an_error_within_the_timeout(standin):
    standin.routes["/v2/app/manifests/1"] = lambda handler: time.sleep(8) or (None, {}, b"")
    standin.manifest("app", "2", index(descriptor("amd64")))
    before = time.monotonic()
    # Long enough for the good one on a busy machine.
    hanging, good = read(f"{standin.host}/app:1", f"{standin.host}/app:2", timeout=2)
    assert time.monotonic() - before < 6
    assert "no answer within the timeout" in str(hanging)
    assert platforms(good) == ["linux/amd64"]


def test_a_registry_that_sends_a_byte_at_a_time_cannot_outlast_the_timeout(standin):
    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _unused in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.1)
        return None, {}, b""

    standin.routes["/v2/app/manifests/1"] = drip
    before = time.monotonic()
    with pytest.raises(Problem, match="no answer within the timeout"):
        read_one(f"{standin.host}/app:1", timeout=0.5)
    assert time.monotonic() - before < 1.5


def test_a_registry_that_is_not_there_says_so():
    with pytest.raises(Problem, match="does the registry run, and on that port"):
        read_one("127.0.0.1:1/app:1")


def test_a_name_that_does_not_resolve_says_so():
    with pytest.raises(Problem, match=r"no address is known for registry\.invalid"):
        read_one("registry.invalid/app:1")


# Connections


def test_many_images_of_one_registry_are_read_over_few_connections(standin):
    for number in range(40):
        standin.manifest("app", str(number), index(descriptor("amd64")))
    images = read(*(f"{standin.host}/app:{number}" for number in range(40)))
    assert [str(image.reference) for image in images] == [f"{standin.host}/app:{number}" for number in range(40)]
    assert len(standin.connections) <= registry.THREADS


def test_a_connection_that_the_server_closed_meanwhile_is_made_again(standin):
    def close_silently(handler):
        handler.close_connection = True
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(index()).encode()

    standin.routes["/v2/app/manifests/1"] = close_silently
    standin.manifest("app", "2", index(descriptor("amd64")))
    client = registry.Client(registry.Access.of(timeout=5))
    client.image(Reference.parse(f"{standin.host}/app:1"))
    time.sleep(0.05)
    assert platforms(client.image(Reference.parse(f"{standin.host}/app:2"))) == ["linux/amd64"]


def test_a_proxy_from_the_environment_is_used_and_no_proxy_obeyed(standin, monkeypatch):
    standin.routes["http://127.0.0.2:1/v2/app/manifests/1"] = (
        200,
        {"Content-Type": OCI_INDEX},
        json.dumps(index(descriptor("amd64"))).encode(),
    )
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@{standin.host}")
    assert platforms(read_one("127.0.0.2:1/app:1")) == ["linux/amd64"]
    (_unused, _unused, headers) = standin.requests[0]
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    with pytest.raises(Problem, match="does the registry run"):
        read_one("127.0.0.2:1/app:1")


# Logins


def wants_basic(standin, name, user="robot", password="s3cret"):
    good = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(handler):
        if handler.headers.get("Authorization") != good:
            return 401, {"WWW-Authenticate": 'Basic realm="r"'}, b"{}"
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(index(descriptor("amd64"))).encode()

    for version in ("1", "2"):
        standin.routes[f"/v2/{name}/manifests/{version}"] = answer


def test_a_basic_login_is_asked_for_once(standin, docker_config):
    login(docker_config, standin.host)
    wants_basic(standin, "app")
    client = registry.Client(registry.Access.of(timeout=5))
    for version in ("1", "2", "1"):
        client.image(Reference.parse(f"{standin.host}/app:{version}"))
    assert len(standin.requests) == 4  # one 401, and then each image at once


@pytest.mark.parametrize("key", ["http://{}", "https://{}/v1/", "https://{}/v2/", "{}"])
def test_a_login_is_found_under_every_key_that_docker_has_ever_written(standin, docker_config, key):
    login(docker_config, key.format(standin.host))
    wants_basic(standin, "app")
    assert platforms(read_one(f"{standin.host}/app:1")) == ["linux/amd64"]


def test_a_wrong_password_is_named_by_its_place_and_never_shown(standin, docker_config):
    login(docker_config, standin.host, password="wr0ng")
    wants_basic(standin, "app")
    with pytest.raises(Problem) as caught:
        read_one(f"{standin.host}/app:1")
    assert f"no access for robot from {docker_config}" in str(caught.value)
    assert "docker login" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_without_credentials_netrc_is_not_used_and_the_hint_is_docker_login(standin, docker_config):
    wants_basic(standin, "app", "netrc", "netrc")
    with pytest.raises(Problem, match=r"no credentials for it in .*docker login"):
        read_one(f"{standin.host}/app:1")
    assert not any("Authorization" in headers for _unused, _unused, headers in standin.requests)


def wants_token(standin, service, *names, token="tok-{}", realm=None):
    """Let `names` of a registry want a token of `service`, one for each scope."""

    def answer(handler):
        name = handler.path.split("/")[2]
        if handler.headers.get("Authorization") != "Bearer " + token.format(name):
            challenge = f'Bearer realm="{realm or "http://" + service.host + "/token"}",service="reg",scope="x"'
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(index(descriptor("amd64"))).encode()

    def give(handler):
        query = {**parse_qs(urlsplit(handler.path).query), **handler.form}
        handler.server.last = query
        name = query["scope"][0].split(":")[1]
        return 200, {}, json.dumps({"token": token.format(name)}).encode()

    for name in names:
        standin.routes[f"/v2/{name}/manifests/1"] = answer
    service.routes["/token"] = give


def test_a_token_is_fetched_for_each_repository_with_one_refusal_for_the_registry(standin, other, docker_config):
    login(docker_config, standin.host)
    wants_token(standin, other, "a", "b")
    client = registry.Client(registry.Access.of(timeout=5))
    for name in ("a", "b", "a"):
        client.image(Reference.parse(f"{standin.host}/{name}:1"))
    assert len(standin.requests) == 4
    assert [parse_qs(urlsplit(path).query)["scope"] for path in other.paths()] == [
        ["repository:a:pull"],
        ["repository:b:pull"],
    ]
    assert all(headers["Authorization"].startswith("Basic ") for _unused, _unused, headers in other.requests)


def test_a_public_repository_gets_a_token_without_login(standin, other):
    wants_token(standin, other, "a")
    assert platforms(read_one(f"{standin.host}/a:1")) == ["linux/amd64"]
    assert "Authorization" not in other.requests[0][2]


def test_an_identity_token_is_exchanged_by_post_and_stays_out_of_the_url(standin, other, docker_config):
    docker_config.write_text(json.dumps({"auths": {standin.host: {"identitytoken": "refresh-me"}}}))
    wants_token(standin, other, "a")
    assert platforms(read_one(f"{standin.host}/a:1")) == ["linux/amd64"]
    assert [method for method, _unused, _unused in other.requests] == ["POST"]
    assert "refresh-me" not in other.paths()[0]


@pytest.mark.parametrize("name", CHALLENGES)
def test_every_order_and_form_of_challenges_is_understood(docker_config, name):
    with Registry(CHALLENGES[name]) as server:
        login(docker_config, server.host, USER, PASSWORD)
        assert platforms(read_one(f"{server.host}/app:1")) == ["linux/s390x"]


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_of_the_table_is_read_and_what_it_says_is_proven(docker_config, name):
    with Registry(**SERVERS[name]) as server:
        login(docker_config, server.host, USER, PASSWORD)
        if name in UNREADABLE:
            with pytest.raises(Problem, match=r"not what its digest promises|of an unknown kind|schema 1"):
                read_one(f"{server.host}/app:1")
            return
        image = read_one(f"{server.host}/app:1")
        assert platforms(image) == ["linux/s390x"]
        assert image.digest == server.digest
        assert len(server.asked) <= 9


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "a digest in the header that is another's"])
def test_the_digest_of_a_tag_is_that_of_its_manifest_whatever_the_header_says(docker_config, name):
    with Registry(**SERVERS[name]) as server:
        login(docker_config, server.host, USER, PASSWORD)
        (digest,) = registry.digests([Reference.parse(f"{server.host}/app:1")], registry.Access.of(timeout=5))
        if isinstance(digest, Problem):
            assert "of an unknown kind" in str(digest)
        else:
            assert digest == server.digest


@pytest.mark.parametrize(("media_type", "config_type"), CONFIGS)
def test_what_moby_takes_for_the_configuration_of_an_image_is_one(media_type, config_type):
    with Registry(media_type=media_type, config_type=config_type) as server:
        image = read_one(f"{server.host}/app:1")
        assert platforms(image) == (["linux/s390x"] if CONFIGS[media_type, config_type] else [])


def test_an_identity_token_is_not_sent_again_where_the_token_service_redirects(standin, other, docker_config):
    with serving(Standin()) as third:
        docker_config.write_text(json.dumps({"auths": {standin.host: {"identitytoken": "refresh-me"}}}))
        wants_token(standin, other, "a")
        other.answer("/token", status=307, Location=f"http://{third.host}/token")
        with pytest.raises(Problem, match="the request's content is not sent there") as caught:
            read_one(f"{standin.host}/a:1")
        assert third.requests == []
    assert "refresh-me" not in str(caught.value)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "//x", "ftp://x/token"])
def test_a_token_service_that_is_none_gets_no_login(standin, other, docker_config, realm):
    login(docker_config, standin.host)
    wants_token(standin, other, "a", realm=realm or "-")
    with pytest.raises(Problem, match="cannot be trusted with a login"):
        read_one(f"{standin.host}/a:1")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": ""}', b'{"token": "a\\r\\nX: y"}', b'{"token": 5}'])
def test_a_token_service_that_gives_no_token_is_an_error(standin, other, body):
    wants_token(standin, other, "a")
    other.answer("/token", body)
    with pytest.raises(Problem, match="gave no token"):
        read_one(f"{standin.host}/a:1")


def test_a_redirect_to_another_host_carries_no_credentials(standin, other, docker_config):
    login(docker_config, standin.host)
    wants_basic(standin, "app")
    allowed = standin.routes["/v2/app/manifests/1"]

    def redirect(handler):
        status, headers, body = allowed(handler)
        if status == 401:
            return status, headers, body
        return 307, {"Location": f"http://{other.host}/storage?signature=abc"}, b""

    standin.routes["/v2/app/manifests/1"] = redirect
    other.answer("/storage", json.dumps(index(descriptor("arm64"))).encode())
    assert platforms(read_one(f"{standin.host}/app:1")) == ["linux/arm64"]
    assert "Authorization" not in other.requests[0][2]


def test_a_redirect_in_a_circle_ends_and_its_signature_is_not_shown(standin):
    standin.answer("/v2/app/manifests/1", status=307, Location="/v2/app/manifests/1?signature=abc")
    with pytest.raises(Problem, match="redirects without end") as caught:
        read_one(f"{standin.host}/app:1")
    assert "abc" not in str(caught.value)
    assert len(standin.requests) < 10


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x"])
def test_a_redirect_to_something_else_than_http_is_refused(standin, location):
    standin.answer("/v2/app/manifests/1", status=302, Location=location)
    with pytest.raises(Problem, match="redirects to"):
        read_one(f"{standin.host}/app:1")


# Docker's configuration


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a credential helper that does what the given shell says, and puts what it was asked for into a file."""

    def install(shell, name="test"):
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\ncat >>{tmp_path}/asked; echo " $1" >>{tmp_path}/asked\n{shell}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return tmp_path / "asked"

    return install


GIVE = """echo '{"ServerURL":"x","Username":"robot","Secret":"s3cret"}'"""


@pytest.mark.parametrize("kind", ["credsStore", "credHelpers"])
def test_a_credential_helper_is_executed_as_docker_does(standin, docker_config, helper, kind):
    asked = helper(GIVE)
    docker_config.write_text(json.dumps({kind: "test" if kind == "credsStore" else {standin.host: "test"}}))
    wants_basic(standin, "app")
    assert platforms(read_one(f"{standin.host}/app:1")) == ["linux/amd64"]
    assert asked.read_text() == f"{standin.host} get\n"


def test_a_helper_for_another_registry_is_not_asked(standin, docker_config, helper):
    asked = helper(GIVE)
    docker_config.write_text(json.dumps({"credHelpers": {"ghcr.io": "test"}}))
    wants_basic(standin, "app")
    with pytest.raises(Problem, match="no credentials"):
        read_one(f"{standin.host}/app:1")
    assert not asked.exists()


def test_a_helper_that_knows_no_login_means_none(standin, docker_config, helper):
    helper("echo credentials not found in native keychain; exit 1")
    docker_config.write_text(json.dumps({"credsStore": "test"}))
    wants_basic(standin, "app")
    with pytest.raises(Problem, match="no credentials for it"):
        read_one(f"{standin.host}/app:1")


@pytest.mark.parametrize(
    ("shell", "message"),
    [
        ("echo the vault is sealed; exit 1", "failed: the vault is sealed; run it by hand"),
        ("exit 3", "failed: exit status 3"),
        ("echo s3cret", "gave no JSON with Username and Secret"),
        ("exec sleep 5", "did not answer in time"),
    ],
)
def test_a_helper_that_fails_is_named_and_its_output_is_kept_secret(standin, docker_config, helper, shell, message):
    helper(shell)
    docker_config.write_text(json.dumps({"credsStore": "test"}))
    wants_basic(standin, "app")
    with pytest.raises(Problem) as caught:
        read_one(f"{standin.host}/app:1", timeout=1)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"credsStore": "gone"}', "docker-credential-gone, which .* is not installed"),
        ('{"credsStore": "../../bin/sh"}', "not a valid name for a credential helper"),
        ("{", "is not a Docker configuration"),
        ("[]", "holds no JSON object"),
        ('{"auths": []}', "no credentials"),
        ('{"auths": ["x"]}', "'auths' is not JSON object"),
        ('{"auths": {"HOST": {"auth": "%%%s3cret"}}}', "the entry 'HOST' is damaged; docker login"),
        ('{"auths": {"HOST": 5}}', "the entry 'HOST' is damaged"),
    ],
)
def test_a_damaged_docker_configuration_is_named_without_what_is_in_it(standin, docker_config, config, message):
    docker_config.write_text(config.replace("HOST", standin.host))
    wants_basic(standin, "app")
    with pytest.raises(Problem, match=message.replace("HOST", standin.host)) as caught:
        read_one(f"{standin.host}/app:1")
    assert "s3cret" not in str(caught.value)


# Options


def test_a_timeout_of_nothing_and_a_ca_that_is_not_there_are_refused_before_anything_is_asked():
    with pytest.raises(Problem, match="timeout is 0"):
        registry.Access.of(timeout=0)
    with pytest.raises(Problem, match=r"/nowhere\.pem, which ca_path names"):
        registry.Access.of(timeout=1, ca_path="/nowhere.pem")
    with pytest.raises(Problem, match="HOST or HOST:PORT"):
        registry.Access.of(timeout=1, insecure_registries=["http://host"])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.2:5000", True), ("[::1]:5000", True), ("127.0.0.1.example", False), ("h", False)],
)
def test_only_the_loopback_is_insecure_by_itself(host, loopback):
    assert registry.Access.of(timeout=1).is_insecure(host) is loopback

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A registry of one image that wants logins in every way that RFC 7235 allows, and lists configurations of every kind.

The tests of tests/unit hold the client to it; those of tests/registry ask skopeo about the same table.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
USER, PASSWORD, BEARER = "robot", "s3cret", "tok-1"
LOGINS = {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}

TOKEN = 'Bearer realm="http://HOST/token",service="reg"'
# What stands in the WWW-Authenticate fields of a 401.
CHALLENGES = {
    "basic": ['Basic realm="r"'],
    "basic in lower case": ['basic realm="r"'],
    "basic without a realm": ["Basic"],
    "bearer": [TOKEN],
    "bearer in upper case": [TOKEN.replace("Bearer", "BEARER")],
    "bearer with spaces after commas": [TOKEN.replace(",", ",  ")],
    "bearer with a parameter unquoted": [TOKEN.replace('"reg"', "reg")],
    "bearer with commas in quotes": [TOKEN + ',scope="repository:a:pull,push",error="insufficient, scope"'],
    "bearer with escaped quotes": [TOKEN + ',error="say \\"Basic realm=x\\""'],
    "bearer before basic": [TOKEN + ', Basic realm="r"'],
    "basic before bearer": ['Basic realm="r", ' + TOKEN],
    "bearer and basic in fields of their own": [TOKEN, 'Basic realm="r"'],
    "basic and bearer in fields of their own": ['Basic realm="r"', TOKEN],
    "digest first": ['Digest realm="a, b", nonce="Basic, Bearer", qop="auth,auth-int"', TOKEN],
    "digest first in one field": ['Digest realm="a, b", nonce="x", ' + TOKEN],
    "negotiate first": ["Negotiate", 'Basic realm="r"'],
    "negotiate first in one field": ['Negotiate, Basic realm="r"'],
    "negotiate with its token first": ['Negotiate YWJj==, Basic realm="r"'],
    "an unknown scheme last": [TOKEN, 'Custom a="b"'],
}
# The media type of a configuration, and whether it is one of an image.
CONFIGS = {
    (OCI, "application/vnd.oci.image.config.v1+json"): True,
    (DOCKER, "application/vnd.docker.container.image.v1+json"): True,
    (DOCKER, "application/octet-stream"): True,
    (DOCKER, "application/json"): True,
    (DOCKER, "text/html"): True,
    (DOCKER, ""): True,
    (OCI, "application/vnd.cncf.helm.config.v1+json"): False,
    (OCI, "application/vnd.oci.empty.v1+json"): False,
}

SCOPED = TOKEN + ',scope="repository:app:pull"'
# What servers do that people have, each as the settings of a Registry. A reader reads them all; but of those in UNREADABLE,
# which none can prove.
SERVERS = {
    "ghcr": {"challenges": [SCOPED.replace('"reg"', '"ghcr.io"')], "token": {"token": "TOKEN"}},
    "gcr": {
        "challenges": [SCOPED.replace('"reg"', '"gcr.io"')],
        "token": {"expires_in": 43200, "issued_at": "2026-11-28T00:00:00Z", "token": "TOKEN"},
    },
    "acr": {"challenges": [SCOPED], "token": {"access_token": "TOKEN"}},
    "gitlab": {"challenges": [SCOPED], "token": {"token": "TOKEN", "access_token": "TOKEN", "expires_in": 300}},
    "ecr": {"challenges": ['Basic realm="https://1.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com"']},
    "harbor": {
        "challenges": [SCOPED.replace('"reg"', '"harbor-registry"')],
        "token": {"token": "TOKEN", "access_token": "", "expires_in": 1800, "issued_at": "2026-11-28T00:00:00Z"},
    },
    "nexus": {"challenges": ['BASIC realm="Sonatype Nexus Repository Manager"']},
    "nexus with its token realm": {
        "challenges": ['Bearer realm="http://HOST/token",service="http://HOST/repository/docker/v2/token"'],
        "token": {"token": "TOKEN"},
    },
    "artifactory": {
        "challenges": ['Basic realm="Artifactory Realm"', 'Bearer realm="http://HOST/token",service="HOST"'],
        "token": {"token": "TOKEN", "expires_in": 3600},
    },
    "gitea": {"challenges": ['Bearer realm="http://HOST/token",service="container_registry",scope="*"', "Basic"]},
    "quay": {
        "challenges": ['Bearer realm="http://HOST/token?account=robot",service="quay.io",scope="repository:app:pull"']
    },
    "a token that ends after one question": {"challenges": [SCOPED], "lasts": 1},
    "a scope of several actions": {
        "challenges": [TOKEN + ',scope="repository:app:pull,push"'],
        "scope": "repository:app:pull",
    },
    "a scope that only the challenge knows": {
        "challenges": [TOKEN + ',scope="repository:group/app:pull"'],
        "scope": "repository:group/app:pull",
    },
    "several challenges with a scope each": {
        "challenges": [TOKEN + ',scope="repository:other:pull"', SCOPED],
        "scope": "repository:app:pull",
    },
    "an error beside the challenge": {"challenges": [SCOPED + ',error="invalid_token",error_description="none, yet"']},
    "no Content-Type": {"sent_type": None},
    "a Content-Type of plain JSON": {"sent_type": "application/json"},
    "a Content-Type with a parameter": {"sent_type": DOCKER + "; charset=utf-8"},
    "no digest in the header": {"sent_digest": None},
    "a Location relative to the host": {"moved_to": "/elsewhere"},
    "a Location relative to the path": {"moved_to": "./moved"},
    "a Location of another host": {"moved_to": "http://localhost:PORT/elsewhere"},
    "no answer to HEAD": {"head": 405},
    "a digest in the header that is another's": {"sent_digest": "sha256:" + "0" * 64},
    "a digest in the header that is none": {"sent_digest": "latest"},
    "schema 1": {"media_type": "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema": 1},
}
UNREADABLE = {"a digest in the header that is another's", "a digest in the header that is none", "schema 1"}


class Registry(ThreadingHTTPServer):
    """The image `app:1` for linux/s390x, behind these challenges; without any, for everybody.

    `token` is what its token service answers, for `scope` (any where it is empty) and for so many questions; `sent_type` and
    `sent_digest` are the headers of a manifest, "" for the right one; `moved_to` is where blobs and manifests are.
    """

    daemon_threads = True

    def __init__(
        self,
        challenges=(),
        media_type=DOCKER,
        config_type="application/vnd.docker.container.image.v1+json",
        *,
        token=None,
        scope="",
        lasts=0,
        sent_type="",
        sent_digest="",
        moved_to="",
        head=0,
        schema=2,
    ):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.token, self.scope, self.lasts = token or {"token": "TOKEN"}, scope, lasts
        self.sent_type, self.sent_digest, self.head = sent_type, sent_digest, head
        self.moved_to = moved_to.replace("PORT", str(self.server_port))
        self.given, self.used, self.asked = 0, {}, []
        self.challenges = [challenge.replace("HOST", self.host) for challenge in challenges]
        config = json.dumps(
            {"os": "linux", "architecture": "s390x", "rootfs": {"type": "layers", "diff_ids": []}}
        ).encode()
        digest = "sha256:" + hashlib.sha256(config).hexdigest()
        descriptor = {"mediaType": config_type, "size": len(config), "digest": digest}
        manifest = json.dumps(
            {"schemaVersion": schema, "mediaType": media_type, "config": descriptor, "layers": []}
        ).encode()
        self.digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        self.contents = {
            "/v2/": ("application/json", b"{}"),
            "/v2/app/manifests/1": (media_type, manifest),
            f"/v2/app/manifests/{self.digest}": (media_type, manifest),
            f"/v2/app/blobs/{digest}": (config_type or "application/octet-stream", config),
        }

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_unused):
        pass

    def do_GET(self):
        server, address = self.server, urlsplit(self.path)
        path, sent = address.path, self.headers.get("Authorization")
        server.asked.append(f"{self.command} {path}")
        if path == "/token":
            return self._give_token(parse_qs(address.query))
        if path.startswith("/elsewhere"):
            path = path[len("/elsewhere") :]  # its address is the login
        elif server.challenges and not self._is_good(sent):
            return self._answer(401, b"{}", *(("WWW-Authenticate", text) for text in server.challenges))
        elif server.moved_to.endswith("/elsewhere") and path != "/v2/":
            return self._answer(307, b"", ("Location", server.moved_to + path))
        if server.moved_to == "./moved" and path != "/v2/" and "/moved/" not in path:
            directory, _slash, name = path.rpartition("/")
            server.contents[f"{directory}/moved/{name}"] = server.contents.get(path, ("", b""))
            return self._answer(307, b"", ("Location", f"./moved/{name}"))
        if path not in server.contents:
            return self._answer(404, b"{}")
        kind, content = server.contents[path]
        if "/manifests/" not in path:
            return self._answer(200, content, ("Content-Type", kind))
        if self.command == "HEAD" and server.head:
            return self._answer(server.head, b"")
        digest = server.digest if server.sent_digest == "" else server.sent_digest
        kind = kind if server.sent_type == "" else server.sent_type
        return self._answer(200, content, ("Content-Type", kind), ("Docker-Content-Digest", digest))

    do_HEAD = do_POST = do_GET

    def _give_token(self, query):
        """Give a token; for another scope one that opens nothing."""
        server = self.server
        server.given += 1
        scopes = {scope for text in query.get("scope", []) for scope in text.split()}
        token = f"{BEARER}-{server.given}" if not server.scope or server.scope in scopes else "tok-for-nothing"
        answer = {name: token if value == "TOKEN" else value for name, value in server.token.items()}
        return self._answer(200, json.dumps(answer).encode(), ("Content-Type", "application/json"))

    def _is_good(self, sent):
        if sent in LOGINS:
            return True
        if not (sent or "").startswith(f"Bearer {BEARER}-"):
            return False
        self.server.used[sent] = self.server.used.get(sent, 0) + 1
        return not self.server.lasts or self.server.used[sent] <= self.server.lasts

    def _answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (("Docker-Distribution-Api-Version", "registry/2.0"), *headers):
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

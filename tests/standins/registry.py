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
from urllib.parse import urlsplit

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
USER, PASSWORD, BEARER = "robot", "s3cret", "tok-1"
LOGINS = {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), f"Bearer {BEARER}"}

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


class Registry(ThreadingHTTPServer):
    """The image `app:1` for linux/s390x, behind these challenges; without any, for everybody."""

    daemon_threads = True

    def __init__(self, challenges=(), media_type=DOCKER, config_type="application/vnd.docker.container.image.v1+json"):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.challenges = [challenge.replace("HOST", self.host) for challenge in challenges]
        config = json.dumps(
            {"os": "linux", "architecture": "s390x", "rootfs": {"type": "layers", "diff_ids": []}}
        ).encode()
        digest = "sha256:" + hashlib.sha256(config).hexdigest()
        descriptor = {"mediaType": config_type, "size": len(config), "digest": digest}
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": media_type, "config": descriptor, "layers": []}
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
        path, sent = urlsplit(self.path).path, self.headers.get("Authorization")
        if path == "/token":
            return self._answer(200, json.dumps({"token": BEARER}).encode())
        if self.server.challenges and sent not in LOGINS:
            return self._answer(401, b"{}", *(("WWW-Authenticate", text) for text in self.server.challenges))
        if path not in self.server.contents:
            return self._answer(404, b"{}")
        kind, content = self.server.contents[path]
        return self._answer(200, content, ("Content-Type", kind))

    do_HEAD = do_POST = do_GET

    def _answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (("Docker-Distribution-Api-Version", "registry/2.0"), *headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every module that speaks HTTP against servers that answer anything: each ends in time, in bounds, with a sentence."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._runner.queue import ping
from ansible_collections.multiarch.drone.plugins.modules import (
    drone_cron,
    drone_repo,
    drone_repo_info,
    drone_repo_trust,
    drone_secret,
    drone_template,
    drone_user,
    image_platforms_info,
)

TOKEN = "tok-marked-1234567890"
VALUE = "value-marked-0987654321"
APP = "octocat/app1"
# Only a hang passes this bound, whatever the machine does beside.
BOUND = 30

MODULES = {
    "drone_secret": (drone_secret, {"secrets": [{"repo": APP, "name": "a", "value": VALUE}]}),
    "drone_cron": (drone_cron, {"crons": [{"repo": APP, "name": "a", "expr": "@daily", "branch": "main"}]}),
    "drone_template": (drone_template, {"templates": [{"namespace": "octocat", "name": "a.yaml", "data": "kind: x"}]}),
    "drone_user": (drone_user, {"users": [{"login": "robot", "machine": True, "token": VALUE}]}),
    "drone_repo": (drone_repo, {"repos": [{"slug": APP, "trusted": True}], "missing": "synchronize"}),
    "drone_repo_info": (drone_repo_info, {}),
    "drone_repo_trust": (drone_repo_trust, {"repos": ["octocat/*"]}),
    "image_platforms_info": (image_platforms_info, {}),
}


def arguments(name, url, timeout=1):
    options = MODULES[name][1]
    if name == "image_platforms_info":
        return {"images": [url.replace("http://", "") + "/app:1"], "timeout": timeout, **options}
    return {"drone_url": url, "drone_token": TOKEN, "timeout": timeout, **options}


def ok(body, *headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(f"Content-Length: {len(body)}", "Content-Type: application/json", *headers) + body


def head(*headers, status="200 OK"):
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")).encode("latin-1")


def for_ever(start, again, pause=0.0):
    """Send `start`, and then `again` without end."""

    def send(connection, _path):
        connection.sendall(start)
        while True:
            connection.sendall(again)
            time.sleep(pause)

    return send


def silence(connection, _path):
    connection.recv(1)


def pages(new):
    """Answer each page of a list full: of new rows, or always of the same ones."""

    def send(connection, path):
        match = re.search(r"[?&]page=(\d+)&per_page=(\d+)", path)
        page, size = (int(match[1]), int(match[2])) if match else (1, 10)
        first = page * size if new else 0
        rows = [{"id": first + row, "slug": f"fleet/r{first + row}", "name": f"r{first + row}"} for row in range(size)]
        connection.sendall(ok(rows))

    return send


DAMAGED_JSON = {
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "null entries": [None],
    "a list of lists": [[]],
    "a list of texts": ["x"],
    "entries without keys": [{}],
    "a text": "text",
    "a number": 7,
    "an object without keys": {},
    "another API": {"items": []},
    "numbers for texts": [{"id": 1, "slug": 5, "name": 5, "login": 5, "expr": 5}],
    "texts for numbers": [{"id": "x", "slug": APP, "name": "", "login": ["a"], "expr": None}],
    "a list for a text": {"login": ["bot"], "admin": True, "manifests": 5, "errors": 5},
    "NaN": b'[{"id": NaN}]',
    "infinity": b'{"login": 1e999, "manifests": [{"digest": "sha256:00", "size": 1e999}]}',
    "a key twice": b'{"login": "bot", "login": "eve", "admin": true}',
    "a huge number": b"9" * 100_000,
    "a number of more than 64 bits": [{"id": 2**70, "slug": APP, "name": "a"}],
    "no UTF-8": b'[{"id": 1, "slug": "\xff\xfe", "name": "\xff", "login": "\xff"}]',
    "half a surrogate pair": b'[{"id": 1, "slug": "\\ud800/a", "name": "\\ud800", "login": "\\ud800"}]',
    "terminal escapes": b'[{"id": 1, "slug": "\\u001b[2J/a", "name": "\\u001b[2J", "login": "\\u001b[2J"}]',
    "HTML": b"<html><title>\x1b]0;owned\x07Sign in</title>" + TOKEN.encode(),
    "titles": b"<title" * 50_000,
    "cut JSON": b'[{"id": 1, "sl',
    "a digest that is a path": {"manifests": [{"digest": "../../x", "size": 1}]},
    "a config of everything": {"config": {"digest": [], "size": {}, "platform": 5}, "annotations": []},
    "too many values": b"[" + b"{}," * 700_000 + b"{}]",
}
ANSWERS = {
    **{name: ok(body) for name, body in DAMAGED_JSON.items()},
    "an error with terminal escapes": ok(
        {"message": f"\x1b]0;owned\x07 {TOKEN}", "errors": [{"message": "\x1b[2J"}]}
    ).replace(b"200 OK", b"418 No"),
    "an error of lists": ok([[]]).replace(b"200 OK", b"400 No"),
    "Location: http://[": head("Location: http://[", "Content-Length: 0", status="302 Found"),
    "Location: a port of letters": head("Location: http://h:port/", "Content-Length: 0", status="307 Go"),
    "Location: control characters": head("Location: http://a\x1b[2Jb/", "Content-Length: 0", status="302 Found"),
    "Location: a password": head(f"Location: http://u:{TOKEN}@h/", "Content-Length: 0", status="302 Found"),
    "Location: a label too long": head(f"Location: http://{'a' * 300}/", "Content-Length: 0", status="302 Found"),
    "Location: in a circle": head("Location: ?", "Content-Length: 0", status="302 Found"),
    'realm="http://["': head('WWW-Authenticate: Bearer realm="http://["', "Content-Length: 0", status="401 No"),
    "a realm that never ends": head(
        'WWW-Authenticate: Bearer realm="' + "\\" * 5000, "Content-Length: 0", status="401 No"
    ),
    "a challenge of nothing": head("WWW-Authenticate: ,,=,", "Content-Length: 0", status="401 No"),
    "Content-Length: -5": head("Content-Length: -5") + b"[]",
    "Content-Length: abc": head("Content-Length: abc") + b"[]",
    "Content-Length: absurd": head("Content-Length: 99999999999999999999") + b"[]",
    "Content-Length: thousands of digits": head("Content-Length: " + "9" * 6000) + b"[]",
    "Content-Length: 4 GiB": head("Content-Length: 4294967296") + b"[]",
    "Content-Length: two": head("Content-Length: 2", "Content-Length: 3") + b"[]",
    "Transfer-Encoding: gzip": head("Transfer-Encoding: gzip", "Content-Length: 2") + b"[]",
    "chunks of a negative size": head("Transfer-Encoding: chunked") + b"-1\r\n[]",
    "chunks of no size": head("Transfer-Encoding: chunked") + b"zz\r\n[]",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status that is huge": b"HTTP/1.1 99999999 OK\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "cut": head("Content-Length: 1000") + b"[",
}
SLOW = {
    "silence": silence,
    "headers that drip": for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "a body that drips": for_ever(head("Content-Length: 100000"), b" ", 0.05),
    "chunks that drip": for_ever(head("Transfer-Encoding: chunked"), b"1\r\n \r\n", 0.05),
}
HUGE = {
    "a body without end": for_ever(head(), b" " * (1 << 20)),
    "chunks without end": for_ever(head("Transfer-Encoding: chunked"), b"100000\r\n" + b" " * (1 << 20) + b"\r\n"),
    "a chunk without end": for_ever(head("Transfer-Encoding: chunked") + b"-1\r\n", b" " * (1 << 20)),
    "a line without end": for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x" * (1 << 20)),
    "headers without end": for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    "interim answers without end": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
    "full pages without end": pages(new=True),
    "the same full page again": pages(new=False),
    "16 MiB of empty objects": ok(b"[" + b"{}," * 5_000_000 + b"{}]"),
    "16 MiB of wide letters": ok(b'["' + "🐳".encode() * 4_000_000 + b'"]'),
}


class Hostile(socketserver.ThreadingTCPServer):
    """A server that gives one answer to everything; only to who asks for it, the token's owner is told."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, answer, *, tells_user):
        self.answer = answer
        self.tells_user = tells_user
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Say nothing of a client that went away."""


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        asked = b""
        while b"\r\n\r\n" not in asked:
            received = self.request.recv(1 << 16)
            if not received or received[:1] == b"\x16":  # TLS, which it does not speak
                return
            asked += received
        path = asked.split(b" ")[1].decode()
        if path == "/api/user" and self.server.tells_user:
            self.request.sendall(ok({"login": "bot", "admin": True, "machine": False}, "Connection: close"))
        elif callable(self.server.answer):
            self.server.answer(self.request, path)
        else:
            self.request.sendall(self.server.answer)


@pytest.fixture
def hostile(monkeypatch):
    servers = []
    for name in ("http_proxy", "https_proxy", "all_proxy", "DRONE_SERVER", "DRONE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def start(answer, *, tells_user=True):
        servers.append(Hostile(answer, tells_user=tells_user))
        return servers[-1].url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def check_failure(result):
    """Assert that a module failed with a sentence that a terminal can show and that holds nothing secret."""
    assert result["failed"]
    assert 20 < len(result["msg"]) < 3000
    assert "Traceback" not in result["msg"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result["msg"])
    text = json.dumps(result)
    assert TOKEN not in text
    assert VALUE not in text


@pytest.mark.parametrize("name", MODULES)
def test_a_damaged_answer_is_a_sentence(run_module, no_naps, hostile, name):
    for what, answer in ANSWERS.items():
        for tells_user in (True, False):
            began = time.monotonic()
            result = run_module(MODULES[name][0], arguments(name, hostile(answer, tells_user=tells_user), timeout=10))
            assert time.monotonic() - began < BOUND, what
            try:
                check_failure(result)
            except (AssertionError, KeyError) as error:
                raise AssertionError(f"{what}: {dict(result)}") from error


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("what", SLOW)
def test_an_answer_that_does_not_end_is_given_up_at_the_timeout(run_module, no_naps, hostile, name, what):
    began = time.monotonic()
    result = run_module(MODULES[name][0], arguments(name, hostile(SLOW[what])))
    assert time.monotonic() - began < BOUND
    check_failure(result)
    assert "no answer within" in result["msg"]


CODE = r"""
import json, re, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
from ansible_collections.multiarch.drone.plugins.modules import {name}
try:
    {name}.main()
finally:
    # Not ru_maxrss: it keeps what the process that forked this one had.
    print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1), file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["drone_repo_info", "image_platforms_info"])
@pytest.mark.parametrize("what", HUGE)
def test_an_answer_without_end_takes_neither_the_memory_nor_the_time(hostile, name, what):
    given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments(name, hostile(HUGE[what]), timeout=10)})
    ran = subprocess.run(
        [sys.executable, "-c", CODE.format(name=name)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    check_failure(json.loads(ran.stdout))
    assert int(ran.stderr.split()[-1]) < 200_000, ran.stderr  # KiB


@pytest.mark.parametrize("what", [*SLOW, *ANSWERS])
def test_a_ping_that_is_answered_by_anything_says_why(hostile, what):
    url = hostile({**SLOW, **ANSWERS}[what])
    said = ping(url, TOKEN, validate_certs=True, ca_path=None, timeout=1)
    assert len(said) > 20
    assert TOKEN not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("timeout", [0, -1, 10**8, 10**12, "nan", "soon"])
@pytest.mark.parametrize("name", MODULES)
def test_a_timeout_that_cannot_be_meant_is_refused_before_anything_is_asked(run_module, name, timeout):
    result = run_module(MODULES[name][0], arguments(name, "http://127.0.0.1:1", timeout=timeout))
    check_failure(result)
    assert "timeout" in result["msg"]


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1",
        "http://[",
        "http://[zz]/",
        "https://h:99999",
        "https://h:-1",
        "https://h:0",
        "https://" + "a" * 300,
        "https://a..b",
        "https://-",
        "http://h\x00/",
        "http://h\x1b[2J/",
        "https://\u200b",
        "//h",
        "javascript:x",
        f"https://u:{TOKEN}@h",
        "https://ex ample",
    ],
)
@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("drone")])
def test_an_address_that_is_none_is_refused(run_module, name, url):
    check_failure(run_module(MODULES[name][0], {**arguments(name, "http://127.0.0.1:1"), "drone_url": url}))


def test_validate_certs_false_warns_that_anybody_gets_the_token(run_module, no_naps, hostile):
    url = hostile(ok([]))
    for validate, warned in ((True, False), (False, True)):
        result = run_module(drone_repo_info, {**arguments("drone_repo_info", url), "validate_certs": validate})
        assert not result.failed
        assert ("validate_certs is false" in str(result.get("warnings"))) is warned

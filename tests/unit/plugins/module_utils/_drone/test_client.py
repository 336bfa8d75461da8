# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Drone client against a server that answers what a test scripts, faults included."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone import client as _drone
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import (
    Drone,
    Refused,
    Unreachable,
    safe_to_repeat,
)
from ansible_collections.multiarch.drone.plugins.module_utils._drone.server import Server
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

TOKEN = "tok-1234567890"
BOT = {"login": "bot", "admin": True, "machine": False}
APP = {"id": 1, "slug": "octocat/app1"}


def answer(status=200, content=None, type="application/json", **headers):
    """Return one scripted answer."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    return status, {"Content-Type": type, **{name.replace("_", "-"): value for name, value in headers.items()}}, body


def error(status, message, **headers):
    return answer(status, {"message": message}, **headers)


def page(status, title):
    return answer(status, f"<!DOCTYPE html><html><head><title>{title}</title>".encode(), "text/html; charset=utf-8")


def cut(handler):
    """Close the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def cut_in_the_middle(handler):
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"login": ')
    cut(handler)


class Script(ThreadingHTTPServer):
    """A server that gives scripted answers, one after the other and the last one for ever, and notes the requests."""

    daemon_threads = True

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self):
        """Method and path of each request."""
        return [f"{request['method']} {request['path']}" for request in self.requests]

    @property
    def connections(self):
        return {request["connection"] for request in self.requests}

    def handle_error(self, request, client_address):
        """Say nothing of a client that went away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(
            {
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": json.loads(body) if body else None,
                "connection": self.client_address[1],
            }
        )
        script = self.server.answers
        what = script.pop(0) if len(script) > 1 else script[0]
        if callable(what):
            what = what(self)
        if what is None:
            return
        status, headers, content = what
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = do_CONNECT = handle_any


@pytest.fixture
def script():
    """Start scripted servers; stop them at the end."""
    servers = []

    def start(*answers):
        servers.append(Script(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(server, naps=None, **options):
    """Return a client that notes in `naps` how long it would have slept."""
    url = server if isinstance(server, str) else server.url
    return Drone(url, TOKEN, sleep=(naps if naps is not None else []).append, **options)


# Addresses


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://drone.example.com", "https://drone.example.com"),
        ("https://drone.example.com/", "https://drone.example.com"),
        ("https://drone.example.com/api", "https://drone.example.com"),
        ("https://drone.example.com/api/", "https://drone.example.com"),
        ("https://drone.example.com:443", "https://drone.example.com"),
        ("http://drone.example.com:8080/ci/api/", "http://drone.example.com:8080/ci"),
        (" https://Drone.example.com ", "https://drone.example.com"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_address_is_taken_as_people_paste_it(url, server):
    assert str(Server.parse(url)) == server


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "drone_url is empty"),
        ("drone.example.com", "did you mean https://drone.example.com?"),
        ("ftp://drone.example.com", "does not begin with http"),
        ("https://", "does not begin with http"),
        ("https://drone.example.com:port", "drone_url is not a valid URL"),
        ("https://drone.example.com/?a=b", "a query or a fragment"),
        ("https://drone.example.com/#/", "a query or a fragment"),
        ("https://drone.exam ple.com", "has a space"),
    ],
)
def test_a_wrong_address_is_said_before_anything_is_sent(url, words):
    with pytest.raises(Problem, match=words.replace("?", r"\?")):
        Server.parse(url)


@pytest.mark.parametrize("url", ["https://bot:hunter2@drone.example.com", "bot:hunter2@drone.example.com"])
def test_a_password_in_the_address_is_refused_and_not_repeated(url):
    with pytest.raises(Problem, match="holds a user or a password") as caught:
        Server.parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_path_before_the_api_is_kept(script):
    server = script(answer(content=BOT))
    client(server.url + "/ci/api").me()
    assert server.asked == ["GET /ci/api/user"]


# The token


@pytest.mark.parametrize(("token", "words"), [("", "is empty"), (" \n", "is empty"), ("two words", "a character that")])
def test_a_token_that_cannot_be_one_is_refused_before_anything_is_sent(token, words):
    with pytest.raises(Problem, match=words):
        Drone("https://drone.example.com", token)


def test_the_token_of_a_file_that_ends_with_a_newline_is_the_token(script):
    server = script(answer(content=BOT))
    Drone(server.url, TOKEN + "\n").me()
    assert server.requests[0]["headers"]["authorization"] == f"Bearer {TOKEN}"


def test_a_revoked_token_is_told_with_the_server_and_the_route(script):
    server = script(error(401, "Unauthorized"))
    with pytest.raises(
        Unreachable, match=r'GET http://127.0.0.1:\d+/api/user answered 401: "Unauthorized"; .* revoked'
    ):
        client(server).me()
    assert len(server.requests) == 1


def test_netrc_does_not_replace_the_token(script, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login eve password x\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = script(answer(content=BOT))
    client(server).me()
    assert server.requests[0]["headers"]["authorization"] == f"Bearer {TOKEN}"


def test_what_the_server_says_back_is_repeated_without_the_token_and_without_hidden_values(script):
    server = script(error(400, f"bad header {TOKEN} for hunter2"), page(200, f"Who is {TOKEN}?"))
    drone = client(server)
    drone.hide(["hunter2", ""])
    with pytest.raises(Refused, match=r"bad header \*\*\*\*\*\*\*\* for \*\*\*\*\*\*\*\*") as caught:
        drone.get("user")
    with pytest.raises(Unreachable) as page_problem:
        drone.get("user")
    assert TOKEN not in str(caught.value) + str(page_problem.value)


def test_who_needs_to_be_an_administrator_and_is_none_is_told_so_by_name(script):
    server = script(answer(content={**BOT, "admin": False}))
    with pytest.raises(Problem, match=r"trusted needs an administrator's token; `bot` is none on http://127"):
        client(server).need_admin("trusted")


# Connections


def test_requests_of_one_thread_share_a_connection(script):
    server = script(answer(content=BOT))
    drone = client(server)
    for number in range(20):
        drone.get("user", number=number)
    assert len(server.connections) == 1


def test_each_thread_has_a_connection_of_its_own(script):
    barrier = threading.Barrier(3)

    def meet(handler):
        barrier.wait(5)
        return answer(content=BOT)

    server = script(meet)
    drone = client(server)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: drone.get("user"), range(9)))
    assert len(server.connections) == 3


def test_a_kept_connection_that_the_server_closed_meanwhile_is_opened_anew_without_a_doubt(script):
    server = script(answer(content=BOT, Connection="keep-alive"))
    drone = client(server)
    drone.me()
    (kept,) = drone._wire.transport._kept.values()
    kept.sock.sock.shutdown(socket.SHUT_RD)  # what the end of an idle connection looks like
    drone.post("secrets/octocat", {})  # not safe to repeat: it must not even be tried on the dead one
    assert server.asked == ["GET /api/user", "POST /api/secrets/octocat"]
    assert len(server.connections) == 2


# Redirects


def test_a_redirect_on_the_same_server_is_followed(script):
    server = script(answer(302, Location="/api/user?again"), answer(content=BOT))
    assert client(server).me().login == "bot"
    assert server.asked == ["GET /api/user", "GET /api/user?again"]


def test_a_redirect_never_carries_the_token_to_another_host_or_port(script):
    other = script(answer(content=BOT))
    server = script(answer(302, Location=f"{other.url}/login?next=/"))
    with pytest.raises(Problem, match=rf"redirects GET /api/user to {other.url}/login; the token is not sent there"):
        client(server).me()
    assert other.requests == []


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_turn_a_change_into_a_question_is_refused(script, status):
    server = script(answer(status, Location="/api/other"), answer(content=BOT))
    with pytest.raises(Problem, match="redirects PATCH"):
        client(server).patch("repos/octocat/app1", {}, look=safe_to_repeat)
    assert len(server.requests) == 1


def test_a_change_follows_a_redirect_that_keeps_it_a_change(script):
    server = script(answer(307, Location="/api/other"), answer(content={**APP, "trusted": True}))
    client(server).patch("repos/octocat/app1", {"trusted": True})
    assert server.requests[1]["method"] == "PATCH"
    assert server.requests[1]["body"] == {"trusted": True}


def test_redirects_in_a_circle_end(script):
    server = script(answer(302, Location="/api/user"))
    with pytest.raises(Problem, match="redirects without end"):
        client(server).me()
    assert len(server.requests) == 6


# Asking again


@pytest.mark.parametrize("fault", [error(429, "slow down"), error(502, ""), error(503, ""), error(504, ""), cut])
def test_a_passing_trouble_is_waited_out(script, fault):
    naps = []
    server = script(answer(content=BOT), fault, fault, answer(content=BOT))
    drone = client(server, naps)
    drone.get("user")
    assert drone.get("user")["login"] == "bot"
    assert len(naps) == 2
    assert naps[0] < naps[1]


def test_an_answer_that_is_cut_in_the_middle_is_asked_for_again(script):
    server = script(cut_in_the_middle, answer(content=BOT))
    assert client(server).me().login == "bot"


@pytest.mark.parametrize("said", ["seconds", "a date"])
def test_the_server_says_how_long_to_wait(script, said):
    naps = []
    said = "7" if said == "seconds" else formatdate(time.time() + 7.9, usegmt=True)
    server = script(error(429, "slow down", Retry_After=said), answer(content=BOT))
    client(server, naps).me()
    assert 6 <= naps[0] <= 8


def test_a_server_that_asks_for_an_hour_is_told_instead_of_waited_for(script):
    naps = []
    server = script(error(503, "maintenance", Retry_After="3600"))
    with pytest.raises(Refused, match=r'503: "maintenance"; .* \(it asks for 3600 s\)'):
        client(server, naps).me()
    assert naps == []


def test_a_trouble_that_stays_is_told_after_a_few_seconds(script):
    naps = []
    server = script(page(502, "Bad Gateway"))
    with pytest.raises(
        Refused, match=r"answered 502: an HTML page \('Bad Gateway'\); the server behind the gateway is away"
    ):
        client(server, naps).me()
    assert len(server.requests) == 6
    assert sum(naps) < 10


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501])
def test_an_error_that_will_stay_is_not_asked_for_again(script, status):
    server = script(error(status, "no"))
    with pytest.raises(Refused, match=rf'answered {status}: "no"'):
        client(server).get("repos/octocat/app1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [error(502, ""), error(504, ""), cut, cut_in_the_middle])
def test_a_change_without_an_answer_is_looked_up_and_not_repeated_when_it_happened(script, fault):
    server = script(fault, answer(content=BOT))
    drone = client(server)
    assert drone.post("users", {"login": "bot"}, look=lambda: drone.find("users/bot")) == BOT
    assert server.asked == ["POST /api/users", "GET /api/users/bot"]


def test_a_change_without_an_answer_is_repeated_when_it_was_looked_up_that_it_did_not_happen(script):
    server = script(cut, error(404, "sql: no rows in result set"), answer(content=BOT))
    drone = client(server)
    assert drone.post("users", {"login": "bot"}, look=lambda: drone.find("users/bot")) == BOT
    assert server.asked == ["POST /api/users", "GET /api/users/bot", "POST /api/users"]


@pytest.mark.parametrize("fault", [error(503, ""), cut])
def test_a_change_that_nobody_can_look_up_is_never_repeated(script, fault):
    server = script(fault, answer(content=BOT))
    with pytest.raises(Unreachable, match="nobody knows whether it was done"):
        client(server).post("users", {"login": "bot"})
    assert len(server.requests) == 1


def test_a_change_that_was_refused_unread_is_repeated(script):
    server = script(error(429, "slow down"), answer(content=BOT))
    assert client(server).post("users", {"login": "bot"}) == BOT


def test_two_changes_at_a_time_read_again_and_then_change_again(script):
    server = script(
        error(500, "Optimistic Lock Error"),
        answer(content={**APP, "timeout": 60}),
        answer(content={**APP, "timeout": 90}),
    )
    drone = client(server)

    def look():
        row = drone.get("repos/octocat/app1")
        return row if row["timeout"] == 90 else None

    assert drone.patch("repos/octocat/app1", {"timeout": 90}, look=look) == {**APP, "timeout": 90}
    assert server.asked == [f"{method} /api/repos/octocat/app1" for method in ("PATCH", "GET", "PATCH")]


def test_no_answer_in_time_is_told_and_a_change_is_looked_up(script):
    def slow(handler):
        time.sleep(1.5)
        return answer(content=BOT)

    server = script(slow, answer(content=BOT))
    drone = client(server, timeout=1)
    with pytest.raises(Unreachable, match=r"/api/user: no answer within 1 s; .* timeout waits longer"):
        drone.me()
    server.answers = [slow, answer(content=BOT)]
    assert drone.post("users", {}, look=lambda: drone.find("users/bot")) == BOT


def test_an_address_where_nothing_listens_is_told_within_a_second():
    naps = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unreachable, match="nothing listens there"):
        client(url, naps).me()
    assert sum(naps) < 1


# What is not Drone


def test_a_page_instead_of_json_is_told_by_its_title(script):
    server = script(page(200, "Log in to\n  Corp"))
    with pytest.raises(
        Unreachable, match=r"answered 200 with an HTML page \('Log in to Corp'\) instead of JSON; is drone_url"
    ):
        client(server).me()


@pytest.mark.parametrize("content", [["a list"], {"name": "another API"}, 7])
def test_json_of_another_server_is_told(script, content):
    with pytest.raises(Unreachable, match="did not answer as Drone does"):
        client(script(answer(content=content))).me()


def test_what_does_not_speak_http_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet():
            connection = listening.accept()[0]
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(1000)
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(Unreachable, match="does not speak HTTP"):
            client(f"http://127.0.0.1:{listening.getsockname()[1]}").me()


def test_plain_http_on_the_port_of_https_is_told():
    answer_of_go = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse():
            connection = listening.accept()[0]
            connection.recv(1000)
            connection.sendall(answer_of_go)
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(Refused, match=r"did you mean https://127.0.0.1:"):
            client(f"http://127.0.0.1:{listening.getsockname()[1]}").me()


def test_https_on_the_port_of_plain_http_is_told(script):
    server = script(answer(content=BOT))
    with pytest.raises(Unreachable, match=r"does not speak TLS on that port; did you mean http://127.0.0.1:"):
        client(server.url.replace("http:", "https:")).me()


# TLS


@pytest.fixture
def tls(script, tmp_path):
    """A scripted server with a certificate that nobody trusts, and the certificate's file."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *names, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = script(answer(content=BOT))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    return server, str(certificate)


def test_a_certificate_that_is_not_trusted_is_told_and_the_token_is_not_sent(tls):
    server = tls[0]
    with pytest.raises(
        Unreachable, match=r"certificate is not trusted: .*; name the certificate authority's file in ca_path"
    ):
        client(server).me()
    assert server.requests == []


def test_ca_path_makes_a_certificate_trusted_and_the_connection_is_kept(tls):
    server, certificate = tls
    drone = client(server, ca_path=certificate)
    drone.me()
    drone.get("user")
    assert len(server.connections) == 1


def test_validate_certs_false_takes_any_certificate(tls):
    assert client(tls[0], validate_certs=False).me().login == "bot"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_path_without_certificates_is_told(tls, tmp_path, content):
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(Problem, match=rf"ca_path {file}: .*; name a file of certificates in PEM"):
        client(tls[0], ca_path=str(file)).me()


# Proxies


def test_the_proxy_of_the_environment_is_used_and_its_own_page_is_told(script, monkeypatch):
    proxy = script(answer(content=BOT), page(403, "Blocked by policy"))
    monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://eve:hunter2@"))
    drone = client("http://drone.example.com")
    drone.me()
    assert proxy.asked == ["GET http://drone.example.com/api/user"]
    assert proxy.requests[0]["headers"]["host"] == "drone.example.com"
    assert proxy.requests[0]["headers"]["proxy-authorization"] == "Basic ZXZlOmh1bnRlcjI="
    with pytest.raises(Refused, match=r"through the proxy http://127.0.0.1:\d+.*Blocked by policy") as caught:
        drone.get("user")
    assert "hunter2" not in str(caught.value)


def test_no_proxy_names_the_servers_that_are_reached_without_it(script, monkeypatch):
    server = script(answer(content=BOT))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert client(server).me().login == "bot"


def test_a_proxy_that_refuses_the_tunnel_is_told(script, monkeypatch):
    proxy = script(answer(407, Proxy_Authenticate="Basic"))
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(Unreachable, match=r"the proxy refuses: .*407"):
        client("https://drone.example.com").me()
    assert "authorization" not in proxy.requests[0]["headers"]


# Lists


def paged(rows, most=10**9, between=None):
    """Answer pages of `rows`, at most `most` a page; `between` may move rows after each page."""

    def serve(handler):
        query = dict(pair.split("=") for pair in handler.path.split("?")[1].split("&"))
        size = min(int(query["per_page"]), most)
        start = (int(query["page"]) - 1) * size
        content = list(rows[start : start + size])
        if between:
            between(rows)
        return answer(content=content or None)

    return serve


def rows_of(count):
    return [{"id": number, "slug": f"fleet/r{number}"} for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1003, 10_000])
def test_a_list_is_complete_and_costs_one_request_or_two(script, count):
    server = script(paged(rows_of(count)))
    assert client(server).rows("repos") == rows_of(count)
    assert len(server.requests) <= 2


@pytest.mark.parametrize("most", [25, 30, 64, 100])
def test_a_list_is_complete_on_a_server_that_gives_smaller_pages_than_asked_for(script, most):
    server = script(paged(rows_of(1000), most))
    assert client(server).rows("repos") == rows_of(1000)


def test_rows_that_move_between_pages_are_found_and_counted_once(script):
    moves = [lambda rows: rows.append(rows.pop(0)), lambda rows: rows.insert(0, rows.pop())]

    def move(rows):
        if moves:
            moves.pop(0)(rows)

    server = script(paged(rows_of(300), 100, move))
    assert sorted(row["id"] for row in client(server).rows("repos")) == list(range(300))


def test_rows_that_never_stop_moving_are_read_a_few_times(script):
    server = script(paged(rows_of(300), 100, lambda rows: rows.append(rows.pop(0))))
    assert len(client(server).rows("repos")) >= 299
    assert len(server.requests) <= 5 * 4


def test_who_is_no_administrator_lists_what_is_theirs(script):
    server = script(answer(content={**BOT, "admin": False}), answer(content=rows_of(3)))
    assert client(server).repos() == rows_of(3)
    assert server.asked == ["GET /api/user", "GET /api/user/repos"]


# Costs


def test_plain_http_imports_neither_urls_nor_threads_nor_proxies():
    code = (
        "import sys, ansible.module_utils.basic\n"
        "from ansible_collections.multiarch.drone.plugins.module_utils._drone import client, repos\n"
        "print([name for name in ('ansible.module_utils.urls', 'urllib.request', 'concurrent.futures.thread', 'difflib',"
        " 'cryptography') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert shown.stdout.strip() == "[]"


def test_routes_quote_their_parts():
    assert _drone.repo_route("octocat/a b", "secrets", "x/y?") == "repos/octocat/a%20b/secrets/x%2Fy%3F"

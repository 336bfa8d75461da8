# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running engine is read over its socket; one that does not run is never asked."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._docker import engine as _engine
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """A socket that gives one answer, or with b"" none for as long as the test lasts."""
    over = threading.Event()
    threads = []

    def start(answer: bytes) -> str:
        path = str(tmp_path / "docker.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()

        def serve() -> None:
            with server:
                client = server.accept()[0]
                with client:
                    client.recv(1 << 16)
                    client.sendall(answer)
                    if not answer:
                        over.wait(10)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return path

    yield start
    over.set()
    for thread in threads:
        thread.join(5)


def answer(value: Any, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(value)}".encode()


def test_an_engine_with_the_containerd_image_store_says_so(daemon: Callable[[bytes], str]) -> None:
    info = {
        "ServerVersion": "26.1.5+dfsg1",
        "Images": 3,
        "Containers": 2,
        "ContainersRunning": 1,
        "DockerRootDir": "/srv",
    }
    store = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    engine = _engine.read(_engine.Unit(active=True), path=daemon(answer({**info, **store})))
    assert engine == _engine.Engine("26.1.5+dfsg1", 2, 1, 3, "/srv", True, {})
    assert not _engine.engine_of({**info, "DriverStatus": [["Backing Filesystem", "extfs"]]}).containerd_store


def test_a_stopped_engine_is_not_asked_since_systemd_would_start_it(tmp_path: Path) -> None:
    assert _engine.read(_engine.Unit(installed=True), path=str(tmp_path / "never")) is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "does not answer within 0.3 s; look at: journalctl -u docker"),
        (b"hello", "answered /info with 'hello' and no JSON"),
        (answer({"message": "cannot"}, "500 Internal Server Error"), "500 Internal Server Error.*cannot"),
        (answer([1]), r"200 OK.*\[1\]"),
    ],
)
def test_an_engine_that_answers_nonsense_or_nothing_is_an_error_with_what_to_do(
    daemon: Callable[[bytes], str], said: bytes, told: str
) -> None:
    with pytest.raises(Problem, match=told):
        _engine.get("/info", path=daemon(said), timeout=0.3)


def test_a_missing_socket_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"cannot be asked at .*/none: No such file"):
        _engine.get("/info", path=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "version"), [("26.1.5+dfsg1", (26, 1)), ("29.0.0-rc.1", (29, 0)), ("dev", ()), ("", ())]
)
def test_versions_compare_by_their_first_two_numbers(text: str, version: tuple[int, ...]) -> None:
    assert _engine.version_tuple(text) == version


def test_the_engine_is_reloaded_without_bin_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    _engine.reload(_engine.Unit(active=True, pid=77))
    assert sent == [(77, 1)]


def test_a_missing_program_has_said_so() -> None:
    assert _engine.call("/no/such/program") == _engine.Said(127, "/no/such/program: No such file or directory")
    assert _engine.call("sleep", "5", timeout=0.1).rc == 124


@pytest.mark.parametrize(
    ("required_by", "limits", "seconds"),
    [
        ("", "", 0),
        ("drone-runner.service multi-user.target", "2h 30s", 7230),
        ("a.service b.service", "1min 30s\n\ninfinity", 86400),
    ],
)
def test_a_restart_is_given_the_time_that_systemd_gives_what_it_stops_first(
    monkeypatch: pytest.MonkeyPatch, required_by: str, limits: str, seconds: float
) -> None:
    """A CI runner that drains may take hours: a restart that was given up after minutes would be taken back meanwhile."""

    def call(*argv: str, **_unused: object) -> _engine.Said:
        return _engine.Said(0, required_by if "--property=RequiredBy" in argv else limits)

    monkeypatch.setattr(_engine, "call", call)
    assert _engine.patience() == seconds

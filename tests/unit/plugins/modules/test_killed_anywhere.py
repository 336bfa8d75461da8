# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Modules that change files, killed with SIGKILL at any moment and run on full disks, under three umasks: one run converges,
and nothing of what was ended lies about.

A moment is what Python itself tells of: a file that is opened, named, removed, a process that is started. Each trial has a process
and, where disks are full, a mount namespace of its own. MULTIARCH_DRONE_FUZZ_SECONDS says how long each module is tried (1),
MULTIARCH_DRONE_FUZZ_SEED what is tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _files
from ansible_collections.multiarch.drone.plugins.module_utils._record import world as record
from ansible_collections.multiarch.drone.tests.unit.plugins.modules import (
    test_buildkitd_instances,
    test_buildx_builder,
    test_docker_engine_config,
)
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.every_module import give, imported

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount, and give files to others")
SEED = os.environ.get("MULTIARCH_DRONE_FUZZ_SEED", "1")
SECONDS = float(os.environ.get("MULTIARCH_DRONE_FUZZ_SECONDS", "1"))
MOMENTS = ("open", "os.", "shutil.", "subprocess.Popen", "tempfile.")
CLONE_NEWNS = 0x20000

buildkitd_host = test_buildkitd_instances.host
buildx_engine = test_buildx_builder.engine
docker_engine = test_docker_engine_config.engine
LOCKS = (".multiarch.drone.lock", ".lock")  # buildx's own directory has both
PIPELINE = {"repo": "octocat/app", "tags": ["latest"], "platforms": ["linux/amd64", "linux/arm64"]}


def git(*arguments):
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def repository(place):
    bare = place / "octocat/app.git"
    git("init", "-q", "--bare", "-b", "main", str(bare))
    return {"repos": [{"url": f"file://{bare}", "branch": "main"}], "pipeline": PIPELINE}


# Module, the host that it needs, and its arguments, made of a directory.
CASES = {
    "buildkitd_instances": (
        "buildkitd_host",
        lambda place: {"instances": [test_buildkitd_instances.MAIN], "programs": str(place / "programs")},
    ),
    "buildx_builder": (
        "buildx_engine",
        lambda _place: {"name": "ci", "nodes": [{"driver_opts": {"memory": "1g", "env.A": "b"}}], "default": True},
    ),
    "docker_engine_config": (
        "docker_engine",
        lambda place: {
            "path": str(place / "docker/daemon.json"),
            "options": {"labels": ["a=b"], "log-opts": {"max-size": "10m"}},
        },
    ),
    "drone_pipeline": ("", lambda place: {"path": str(place), "config_path": "ci/.drone.yml", "pipeline": PIPELINE}),
    "drone_pipeline in git": ("", repository),
    "drone_secret": (
        "server",
        lambda place: {
            "secrets": [{"repo": "octocat/app1", "name": "a", "value": "one"}],
            "fingerprints": str(place / "fingerprints"),
            "update": "changed",
        },
    ),
    "host_record": ("", lambda place: {"role": "docker_engine", "files": [str(place / "a"), str(place / "b")]}),
}


class Wrong(Exception):
    """What a trial found."""


@pytest.fixture
def trial(monkeypatch, tmp_path, request):
    """Run a function in a process of its own: what it raises, this raises."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    monkeypatch.setattr(_files, "RUN", str(tmp_path / "run/multiarch.drone"))
    monkeypatch.setenv("TMPDIR", str(tmp))
    monkeypatch.setattr("tempfile.tempdir", str(tmp))
    monkeypatch.setenv("HOME", str(tmp_path))
    for function in (record.read_record, record.write_record):
        defaults = (str(tmp_path / "record/record.json"),)
        monkeypatch.setattr(function, "__defaults__", defaults)

    def run(work):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(reader)
                work()
                said = ""
            except BaseException:
                said = traceback.format_exc()
            os.write(writer, said.encode()[-20000:])
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        os.waitpid(child, 0)
        assert not said, said

    return run


def call(monkeypatch, name, arguments, *, at=0):
    """Run a module in a process of its own, killed at a moment; return its result, or None where it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(writer, 1)
        sys.stdout = os.fdopen(1, "w")
        module = imported(name.partition(" ")[0])
        give(monkeypatch, arguments)
        count = 0

        def hook(event, _arguments):
            nonlocal count
            if event.startswith(MOMENTS):
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        if at:
            sys.addaudithook(hook)
        try:
            module.main()
        except SystemExit:
            pass
        except BaseException:
            print(traceback.format_exc())
        sys.stdout.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    try:
        return json.loads(said)
    except ValueError:
        raise Wrong(f"it printed {said[-2000:]!r}") from None


def check_converged(monkeypatch, name, arguments, place):
    """Run a module as Ansible would the next time: it succeeds, it changes nothing more, and no temporary file is there."""
    result = call(monkeypatch, name, arguments)
    if result.get("failed"):
        raise Wrong(f"the next run fails: {result['msg']}")
    left = [
        str(path)
        for path in place.rglob("*")
        if _files._OURS.fullmatch(path.name) or path.name.endswith((".tmp", ".lock~"))
    ]
    left += [str(path) for path in (place / "tmp").iterdir()]
    if left:
        raise Wrong(f"left behind: {left}")
    wide = [
        str(path) for path in place.rglob("*") if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o002
    ]
    if wide and name != "drone_pipeline in git":  # in a repository git itself makes the files
        raise Wrong(f"everybody can write: {wide}")
    if name not in IN_MEMORY:
        again = call(monkeypatch, name, arguments)
        if again.get("failed") or again["changed"]:
            raise Wrong(f"a second run: {again}")


# What their hosts hold beside files is in the memory of the process that was killed.
IN_MEMORY = ("buildkitd_instances", "buildx_builder", "docker_engine_config")


def prepared(request, name, place):
    host, arguments = CASES[name]
    given = request.getfixturevalue(host) if host else None
    made = arguments(place)
    if host == "server":
        made.update(drone_url=given.url, drone_token=given.tokens["octocat"])
    give(request.getfixturevalue("monkeypatch"), {**made, "_ansible_check_mode": True})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        imported(name.partition(" ")[0]).main()  # what is imported once is imported for all
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_killed_at_any_moment_is_finished_by_the_next(monkeypatch, request, tmp_path, trial, name):
    arguments = prepared(request, name, tmp_path)
    saved = tmp_path.parent / f"{tmp_path.name}-saved"
    shutil.copytree(tmp_path, saved, symlinks=True)
    dice = random.Random(f"{SEED} {name}")
    until = time.monotonic() + SECONDS
    moments, killed = list(range(1, 400)), 0
    while moments and (killed < 10 or time.monotonic() < until):
        at = moments.pop(dice.randrange(len(moments)))
        os.umask(dice.choice((0o077, 0o022, 0)))

        def work(at=at):
            if call(monkeypatch, name, arguments, at=at) is None:
                (saved.parent / f"{saved.name}-killed").touch()
            check_converged(monkeypatch, name, arguments, tmp_path)

        try:
            trial(work)
        except AssertionError as error:
            raise AssertionError(f"killed at moment {at}: {error}") from None
        if (saved.parent / f"{saved.name}-killed").exists():
            (saved.parent / f"{saved.name}-killed").unlink()
            killed += 1
        else:  # it had ended before
            moments = [moment for moment in moments if moment < at]
        shutil.rmtree(tmp_path)
        shutil.copytree(saved, tmp_path, symlinks=True)
    assert killed >= 10


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


@pytest.mark.parametrize("name", CASES)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(monkeypatch, request, tmp_path, trial, name):
    arguments = prepared(request, name, tmp_path)
    saved = tmp_path.parent / f"{tmp_path.name}-saved"
    shutil.copytree(tmp_path, saved, symlinks=True)
    failed = []

    def work(pages):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
            raise Wrong("no mount namespace")
        mount("--make-rprivate", "/")
        mount("-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path))
        shutil.copytree(saved, tmp_path, symlinks=True, dirs_exist_ok=True)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        room = os.statvfs(tmp_path)
        (tmp_path / "filler").write_bytes(b"x" * max(0, (room.f_bavail - pages) * room.f_frsize))
        result = call(monkeypatch, name, arguments)
        if "space" in str(result.get("warnings")):  # the server has the secret, and the fingerprint is not kept
            (saved.parent / f"{saved.name}-failed").touch()
        if result.get("failed"):
            (saved.parent / f"{saved.name}-failed").touch()
            if not re.search(r"space|disk|write", result["msg"]) or "this is a bug" in result["msg"]:
                raise Wrong(f"it says {result['msg']!r}")
            after = {
                path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "filler"
            }
            odd = [str(path) for path in after if path not in before and path.name not in LOCKS]
            if odd and name != "drone_pipeline in git":
                raise Wrong(f"it failed ({result['msg']}), and left {odd}")
        (tmp_path / "filler").unlink()
        check_converged(monkeypatch, name, arguments, tmp_path)

    for pages in range(12):
        try:
            trial(lambda pages=pages: work(pages))
        except AssertionError as error:
            raise AssertionError(f"with {pages} pages free: {error}") from None
        failed.append((saved.parent / f"{saved.name}-failed").exists())
    assert any(failed), "the disk was never full"

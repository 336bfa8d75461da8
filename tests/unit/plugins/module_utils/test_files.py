# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ast
import contextlib
import errno
import getpass
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _files
from ansible_collections.multiarch.drone.plugins.module_utils._files import (
    File,
    link_atomically,
    make_directory,
    make_temporary_directory,
    put,
    put_all,
    read_file,
    remove_temporary_directory,
    sweep,
    temporary_directory,
    write_atomically,
)

ME = getpass.getuser()
PLUGINS = Path(__file__).parents[4] / "plugins"
ROOT = os.geteuid() == 0
UMASKS = (0o000, 0o022, 0o077)
DEAD = "4194305"  # above the largest pid_max


@contextlib.contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture(params=["unnamed", "named"])
def staging(request, monkeypatch):
    """Files are staged without a name, or on a file system that has no such files."""
    if request.param == "named":
        real = os.open

        def no_unnamed(path, flags, *more, **options):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported", path)
            return real(path, flags, *more, **options)

        monkeypatch.setattr(_files.os, "open", no_unnamed)
    return request.param


@pytest.mark.usefixtures("staging")
def test_files_are_written_all_or_none(tmp_path):
    def there():
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    put_all({first: File("old", owner=ME), second: File("old", 0o600, ME)})
    assert read_file(second) == File("old", 0o600, ME)
    new = File("new", owner=ME)
    with pytest.raises(OSError, match="No such file"):
        put_all({first: new, second: None, str(tmp_path / "nowhere/third"): new})
    assert there() == {"first": "old", "second": "old"}
    put_all({first: new, second: None})
    assert there() == {"first": "new"}


@pytest.mark.usefixtures("staging")
def test_a_directory_in_the_way_of_a_file_leaves_all_files_as_they_were(tmp_path):
    (tmp_path / "first").write_text("old")
    (tmp_path / "way").mkdir()
    for files in ({"first": "new", "way": "new"}, {"first": None, "way": None}, {"way": "new"}):
        with pytest.raises(IsADirectoryError):
            put_all({str(tmp_path / name): text and File(text, owner=ME) for name, text in files.items()})
        assert sorted(os.listdir(tmp_path)) == ["first", "way"]
        assert (tmp_path / "first").read_text() == "old"


@pytest.mark.usefixtures("staging")
def test_what_was_replaced_is_put_back_where_a_later_file_cannot_be(tmp_path, monkeypatch):
    """An immutable file is one that can be read, and not be replaced; it is found out in the middle."""
    old = {"a": "old a", "gone": "old gone", "immutable": "old"}
    for name, text in old.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o640)
    os.symlink("nowhere", tmp_path / "link")
    replace = os.replace

    def refuse(source, target):
        if os.path.basename(target) == "immutable":
            raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)
        replace(source, target)

    monkeypatch.setattr(_files.os, "replace", refuse)
    new = File("new", 0o600, ME)
    wish = {"a": new, "link": new, "made": new, "gone": None, "immutable": new}
    with pytest.raises(PermissionError):
        put_all({str(tmp_path / name): file for name, file in wish.items()})
    assert os.readlink(tmp_path / "link") == "nowhere"
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "link"} == old
    assert {mode(tmp_path / name) for name in old} == {0o640}


@pytest.mark.skipif(not ROOT, reason="only root makes files immutable")
def test_a_really_immutable_file_leaves_all_files_as_they_were(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_text("old")
    if subprocess.run(["chattr", "+i", tmp_path / "second"], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(PermissionError):
            put_all({str(tmp_path / name): File("new") for name in ("first", "second")})
        with pytest.raises(PermissionError):
            put_all({str(tmp_path / "first"): None, str(tmp_path / "second"): None})
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "old", "second": "old"}
    finally:
        subprocess.run(["chattr", "-i", tmp_path / "second"], check=True)


@pytest.mark.usefixtures("staging")
@pytest.mark.parametrize("mask", UMASKS)
def test_a_file_has_the_mode_that_is_said_whatever_the_umask(tmp_path, mask):
    with umask(mask):
        for wanted in (0o600, 0o644, 0o755):
            put(str(tmp_path / "file"), File("text", wanted, ME))
            assert mode(tmp_path / "file") == wanted
        write_atomically(str(tmp_path / "file"), b"kept")
        assert mode(tmp_path / "file") == 0o755
        write_atomically(str(tmp_path / "new"), "new")
        assert mode(tmp_path / "new") == 0o644
        write_atomically(str(tmp_path / "secret"), "new", new_mode=0o600)
        assert mode(tmp_path / "secret") == 0o600


@pytest.mark.usefixtures("staging")
def test_a_file_is_never_wider_open_than_it_shall_be(tmp_path, monkeypatch):
    """Whoever reads while it is written: the staged file is 0600 until it has its content, owner and mode."""
    seen = []
    write = os.write

    def look(descriptor, data):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(_files.os, "write", look)
    with umask(0):
        put(str(tmp_path / "file"), File("text", 0o644, ME))
    assert seen == [0o600]


@pytest.mark.parametrize("mask", UMASKS)
def test_directories_have_the_modes_that_are_said_whatever_the_umask(tmp_path, mask):
    path = tmp_path / "a/b/c"
    with umask(mask):
        assert make_directory(str(path), 0o700) == [str(tmp_path / part) for part in ("a", "a/b", "a/b/c")]
        assert not make_directory(str(path), 0o755)
        assert make_directory(str(tmp_path / "x/y"), parents=0o700)
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c", "x", "x/y")] == [0o755, 0o755, 0o700, 0o700, 0o755]


def test_a_directory_that_is_there_keeps_its_mode_and_a_file_in_its_place_is_told(tmp_path):
    tmp_path.chmod(0o750)
    assert not make_directory(str(tmp_path))
    assert mode(tmp_path) == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "file"))


@pytest.mark.usefixtures("staging")
def test_extended_attributes_stay(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    try:
        os.setxattr(path, "user.who", b"an administrator")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    put(str(path), File("new", 0o600, ME))
    assert os.getxattr(path, "user.who") == b"an administrator"
    write_atomically(str(path), "newer")
    assert os.getxattr(path, "user.who") == b"an administrator"


@pytest.mark.skipif(not ROOT, reason="only root gives files to others")
@pytest.mark.usefixtures("staging")
def test_owner_and_group_stay_unless_another_owner_is_declared(tmp_path):
    path = str(tmp_path / "file")
    write_atomically(path, "old")
    os.chown(path, 1234, 4321)
    write_atomically(path, "new")
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (1234, 4321)
    put(path, File("newer", 0o640, "root"))
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (0, 4321)


@pytest.mark.usefixtures("staging")
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("other")
    os.symlink("other", tmp_path / "file")
    write_atomically(str(tmp_path / "file"), "new", mode=0o600)
    assert not os.path.islink(tmp_path / "file")
    assert (tmp_path / "other").read_text() == "other"
    link_atomically(str(tmp_path / "file"), "/dev/null")
    assert os.readlink(tmp_path / "file") == "/dev/null"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


@pytest.mark.usefixtures("staging")
@pytest.mark.parametrize("call", ["write", "fchmod", "fchown", "fsync", "replace", "link"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_lies_about_whatever_fails(tmp_path, monkeypatch, staging, call, failure):
    (tmp_path / "a").write_text("old")
    if call == "link" and staging == "named":
        pytest.skip("a file with a name gets no other")

    def fail(*_args, **_options):
        raise failure

    monkeypatch.setattr(_files.os, call, fail)
    with pytest.raises(type(failure)):
        put_all({str(tmp_path / name): File("new", owner=ME) for name in ("a", "b")})
    monkeypatch.undo()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_the_file_that_has_no_room_is_named(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        put(str(tmp_path / "file"), File("text", owner=ME))
    assert caught.value.filename == str(tmp_path / "file")


def test_a_signal_between_several_files_waits_until_all_are_written(tmp_path, monkeypatch):
    replace, ended = os.replace, []

    def interrupted(source, target):
        replace(source, target)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not ended

    before = signal.signal(signal.SIGTERM, lambda *_args: ended.append(True))
    try:
        monkeypatch.setattr(_files.os, "replace", interrupted)
        put_all({str(tmp_path / name): File("new", owner=ME) for name in "ab"})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_a_killed_process_leaves_nothing_after_the_next_write(tmp_path):
    """Killed at the worst place: the file has its temporary name and is not yet in its place."""
    program = (
        "import os, signal, sys\n"
        "from ansible_collections.multiarch.drone.plugins.module_utils import _files\n"
        "_files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "_files.write_atomically(sys.argv[1], 'secret', mode=0o600)\n"
    )
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=dict(os.environ, PYTHONPATH=_root()), check=False
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert mode(tmp_path / left) == 0o600
    write_atomically(str(path), "text")
    assert os.listdir(tmp_path) == ["file"]


def _root():
    """Return the directory in which ansible_collections is."""
    return str(Path(sys.modules["ansible_collections.multiarch.drone"].__path__[0]).parents[2])


def test_temporary_directories_are_for_their_user_alone_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with umask(0):
        for large in (False, True):
            with temporary_directory(large=large) as directory:
                assert mode(directory) == 0o700
                assert os.path.dirname(directory) == str(tmp_path if large or not ROOT else tmp_path / "run")
                (Path(directory) / "file").write_text("secret")
            assert not os.path.exists(directory)
    if ROOT:
        assert mode(tmp_path / "run") == 0o700


@pytest.mark.skipif(not ROOT, reason="who is not root uses /tmp anyway")
@pytest.mark.parametrize("trouble", ["a file", "somebody else's", "open to others", "a link"])
def test_where_the_directory_of_roots_own_cannot_be_trusted_another_is_taken(tmp_path, monkeypatch, trouble):
    run = tmp_path / "run"
    monkeypatch.setattr(_files, "RUN", str(run))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if trouble == "a file":
        run.write_text("")
    elif trouble == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        run.symlink_to("elsewhere")
    else:
        run.mkdir()
        run.chmod(0o777 if trouble == "open to others" else 0o700)
        os.chown(run, 1234 if trouble == "somebody else's" else 0, -1)
    with temporary_directory() as directory:
        assert os.path.dirname(directory) == str(tmp_path)


def test_the_next_run_removes_what_dead_processes_left_and_nothing_else(tmp_path):
    names = {
        "dead": f"multiarch.drone.{DEAD}.0123456789abcdef",
        "alive": f"multiarch.drone.{os.getpid()}.0123456789abcdef",
        "dead file": f".multiarch.drone.{DEAD}.0123456789abcdef",
        "another's": "multiarch.drone.yml",
    }
    (tmp_path / names["dead"]).mkdir()
    (tmp_path / names["dead"] / "key.pem").write_text("secret")
    (tmp_path / names["alive"]).mkdir()
    (tmp_path / names["dead file"]).write_text("secret")
    (tmp_path / names["another's"]).write_text("kept")
    sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([names["alive"], names["another's"]])


def test_a_directory_that_a_process_of_another_container_uses_is_not_swept(tmp_path, monkeypatch):
    """Its number is not in our /proc, but it holds the lock."""
    monkeypatch.setattr(_files, "RUN", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(_files, "_name", lambda: f".multiarch.drone.{DEAD}.0123456789abcdef")
    used = make_temporary_directory()
    sweep(str(tmp_path))
    assert os.path.isdir(used)
    remove_temporary_directory(used)
    assert os.listdir(tmp_path) == []


def test_no_other_file_of_the_hosts_makes_files_or_directories_by_hand():
    """What keeps modes, owners and words of honour is in _files alone; the next one that is written by hand is found here."""
    by_hand = {"mkstemp", "mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "makedirs", "mkdir", "atomic_move"}
    by_hand |= {"fchmod", "copyfile", "move", "renames"}
    found = []
    for path in sorted(PLUGINS.glob("module*/**/*.py")):
        if path.name == "_files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in by_hand:
                found.append(f"{path.relative_to(PLUGINS)}:{node.lineno} {node.func.attr}")
    assert found == []


@pytest.mark.parametrize("path", ["/dev/zero", "fifo"])
def test_only_regular_files_are_read(tmp_path, path):
    os.mkfifo(tmp_path / "fifo")
    assert read_file(str(tmp_path / path)) is None
    with pytest.raises(OSError, match="is not a regular file"):
        _files.read_regular(str(tmp_path / path))

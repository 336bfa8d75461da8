# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import socket
import subprocess

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import context
from ansible_collections.multiarch.drone.plugins.module_utils._image.dockerignore import Ignore, parse
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/deep").write_text("deep")
    (root / "a/top").write_text("top")
    (root / "run").write_text("run")
    return root


def digest(root, ignore=""):
    return context.digest_tree(str(root), parse(ignore.encode(), "x") if ignore else Ignore()).digest


CHANGES = {
    "content": lambda root: (root / "run").write_text("RUN"),
    "permission": lambda root: (root / "run").chmod(0o755),
    "permission of a directory": lambda root: (root / "a").chmod(0o700),
    "name": lambda root: (root / "run").rename(root / "ran"),
    "new empty file": lambda root: (root / "new").touch(),
    "new empty directory": lambda root: (root / "new").mkdir(),
    "file becomes a link": lambda root: ((root / "run").unlink(), (root / "run").symlink_to("a/top")),
    "pipe": lambda root: os.mkfifo(root / "pipe"),
    "content moved from one file to the next": lambda root: (
        (root / "a/b/deep").write_text("deepto"),
        (root / "a/top").write_text("p"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_buildkit_would_see_changes_the_digest(tree, change):
    before = digest(tree)
    CHANGES[change](tree)
    assert digest(tree) != before


def test_a_link_counts_by_where_it_leads_and_not_by_what_is_there(tree, tmp_path):
    (tree / "link").symlink_to("/nowhere")
    before = digest(tree)
    (tree / "link").unlink()
    (tree / "link").symlink_to("/elsewhere")
    assert digest(tree) != before


def test_extended_attributes_count(tree):
    before = digest(tree)
    try:
        os.setxattr(tree / "run", "user.x", b"1")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    assert digest(tree) != before


def test_times_owners_the_place_and_hard_links_do_not_count(tree, tmp_path):
    before = digest(tree)
    os.utime(tree / "run", (1, 1))
    if os.getuid() == 0:
        os.chown(tree / "run", 1234, 1234)
    os.link(tree / "run", tmp_path / "outside")
    moved = tree.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    assert digest(moved) == digest(tmp_path / "link") == before


def test_what_is_ignored_does_not_count_and_its_exceptions_do_with_their_directories(tree):
    before = digest(tree, "a\n!a/b/deep")
    (tree / "a/top").write_text("other")
    assert digest(tree, "a\n!a/b/deep") == before
    (tree / "a/b").chmod(0o700)
    assert digest(tree, "a\n!a/b/deep") != before
    names = [entry[1] for entry in context._walk(str(tree), "", parse(b"a\n!a/b/deep", "x"), ())]
    assert names == ["a", "a/b", "a/b/deep", "run"]


def test_a_directory_that_cannot_be_read_is_named_unless_it_is_ignored(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if path == str(tree / "a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Problem, match=r"/a: Permission denied; make it readable, or leave it out with \.dockerignore"):
        digest(tree)
    assert digest(tree, "a")


def test_a_socket_and_a_pipe_are_not_opened(tree):
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tree)  # a socket's path is short
        listening.bind("socket")
        os.chdir(here)
    assert context.digest_tree(str(tree), Ignore()).entries == 7


@pytest.fixture
def deep_tree(tree):
    here = os.getcwd()
    os.chdir(tree)
    for _unused in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    yield tree
    subprocess.run(["rm", "-rf", str(tree / "d")], check=True)  # pytest's own way is as recursive as what is tested


def test_a_tree_that_is_deeper_than_anybody_s_is_an_error_and_no_crash(deep_tree):
    with pytest.raises(Problem, match="nested too deep"):
        digest(deep_tree)
    assert digest(deep_tree, "d")


def test_a_file_that_changes_while_it_is_read_is_an_error(tree, tmp_path, monkeypatch):
    header = context._header

    def grow(path, *rest):
        with open(path, "a") as file:
            file.write("more")
        return header(path, *rest)

    (tree / "a").rename(tmp_path / "a")  # a file is left
    monkeypatch.setattr(context, "_header", grow)
    with pytest.raises(Problem, match="changes while the context is read"):
        digest(tree)


def test_names_that_are_no_text_are_read(tree):
    with open(os.fsencode(tree) + b"/\xff\n", "w"):
        pass
    assert digest(tree)


def test_the_dockerfiles_own_ignore_file_wins(tree):
    (tree / ".dockerignore").write_text("a\n")
    (tree / "Dockerfile.dockerignore").write_text("run\n")
    by_name = context.read_ignore(str(tree), str(tree / "Dockerfile"))
    assert by_name.verdict("run")[0]
    assert not by_name.verdict("a")[0]
    assert context.read_ignore(str(tree), str(tree / "Other")).verdict("a")[0]


def test_a_dockerignore_that_is_no_file_is_none_or_an_error_and_never_waited_for(tree):
    path = tree / ".dockerignore"
    path.mkdir()
    assert not context.read_ignore(str(tree)).verdict("a")[0]
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(Problem, match=r"\.dockerignore: it is not a regular file"):
        context.read_ignore(str(tree))
    path.unlink()
    path.symlink_to(".dockerignore")
    with pytest.raises(Problem, match="Too many levels of symbolic links"):
        context.read_ignore(str(tree))


def test_a_dockerignore_that_buildkit_finds_too_large_is_refused(tree):
    with open(tree / ".dockerignore", "wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(Problem, match="is larger than 16777216 bytes"):
        context.read_ignore(str(tree))

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verdicts of Docker's own matcher, recorded: tests/unit/data/dockerignore.json (x: left out, null: refused)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image.dockerignore import parse
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

RECORDED = json.loads((Path(__file__).parents[3] / "data/dockerignore.json").read_text())


def verdicts(content, paths):
    ignore = parse(content.encode(), ".dockerignore")

    def verdict(path):
        parent = path.rpartition("/")[0]
        return ignore.verdict(path, verdict(parent)[1] if parent else ())

    return "".join("x" if verdict(path)[0] else "." for path in paths)


@pytest.mark.parametrize(("content", "recorded"), RECORDED["cases"])
def test_every_verdict_is_that_of_dockers_own_matcher(content, recorded):
    if recorded is None:
        with pytest.raises(Problem, match=r"is not a valid pattern|not an exception"):
            parse(content.encode(), ".dockerignore")
    else:
        assert verdicts(content, RECORDED["paths"]) == recorded


def test_a_line_that_docker_refuses_is_named():
    with pytest.raises(Problem, match=r"/ctx/\.dockerignore, line 3: 'a\[' is not a valid pattern"):
        parse(b"# first\nfoo\na[\n", "/ctx/.dockerignore")


@pytest.mark.parametrize(
    ("content", "hidden"),
    [("a", True), ("a\n!a/b", False), ("a\n!b", True), ("a\n!*/b", False), ("a\n!ab", True), ("a\n!a/**", False)],
)
def test_a_directory_that_is_left_out_is_skipped_only_where_no_exception_can_hide_in_it(content, hidden):
    assert parse(content.encode(), "x").hides_all_below("a") is hidden


def verdict_of(content, path):
    ignore = parse(content.encode("utf-8", "surrogateescape"), ".dockerignore")
    return ignore.verdict(path)[0]


@pytest.mark.parametrize(
    ("content", "path", "left_out"),
    [
        ("\x1ca", "a", False),  # Python's strip takes it
        ("\x1ca", "\x1ca", True),
        ("\x85a\u3000", "a", True),
        ("/ a", "a", True),
        ("b\n\ufeffa", "a", False),
        ("b\n\ufeffa*", "a1", True),
        ("\ufeffa", "a", True),
        ("[[:alpha:]]", "a", True),
        ("[[:alpha:]]", "1", False),
        ("[^[:^digit:]]", "1", True),
        ("[\\d]", "1", True),
        ("[^a]", "a", False),
        ("[^a]", "b", True),
        ("[!a]", "!", True),
        ("[a-c]", "b", True),
        ("[]a]*", "x", None),
        ("\\Qa.b\\E", "a\\.b", True),
        ("\\Q*", "[^/]*$", True),
        ("a{2}*", "aab", True),
        ("a|b*", "xb", True),
        ("a*|b", "xb", True),
        ("a\\x2eb", "a.b", True),
        ("\\141", "a", True),
        ("*\\b*", "a", True),
        ("\udcff*", "\udcc3", True),  # bytes that are no UTF-8 are all the same to Go's expressions
        ("\udcff", "\udcff", False),  # and in between stands JSON
        ("**", "a/b", True),
        ("**/b", "a/b", True),
        ("a/**", "a", False),
        ("a/", "a", True),
        ("a?b", "a/b", False),
        ("[*]", "^[]", True),
    ],
)
def test_what_buildkits_own_code_says_of_a_pattern_is_said_here(content, path, left_out):
    if left_out is None:
        with pytest.raises(Problem, match="is not a valid pattern"):
            verdict_of(content, path)
    else:
        assert verdict_of(content, path) is left_out


@pytest.mark.parametrize(
    "line", ["a\\", "[", "[]", "[-]", "[a", "[a-", "!", "!\t/", "[\udcff]", "\\pL*", "!./\t/", "x" * 65536]
)
def test_a_pattern_that_docker_refuses_at_once_is_refused(line):
    with pytest.raises(Problem, match="line 2"):
        parse(b"b\n" + line.encode("utf-8", "surrogateescape"), ".dockerignore")


@pytest.mark.parametrize(
    "line", ["\\1*", "\\é", "\\E*", "[[:foo:]]", "[z-a]", "a{2}{3}*", "*{2}", "a{1001}*", "a*|{2}", "\\C*"]
)
def test_a_pattern_that_docker_refuses_when_it_tries_it_is_refused_then(line):
    ignore = parse(f"a\n{line}\nb".encode(), ".dockerignore")
    assert ignore.verdict("a")[0]
    with pytest.raises(Problem, match=r"line 2: .* is not a valid pattern: .*when it comes to 'c'"):
        ignore.verdict("c")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a*a*a*a*b", "a" * 200),
        ("*a" * 100 + "*b", "a" * 250),
        ("**/a/" * 30 + "b", "a/" * 1000 + "c"),
        ("a*|b*|c*|" * 30 + "d", "z" * 200),
        ("[ab]{500}" * 20, "ab" * 2000),
        ("*[a-z]*[a-z]*[a-z]*[a-z]*[a-z]*1", "z" * 255),
    ],
)
def test_no_pattern_takes_longer_with_each_star(pattern, path):
    """Each of these would take Python's re longer than the age of the world, or at least minutes."""
    assert not verdict_of(pattern, path)


def test_a_directory_is_skipped_where_docker_cuts_globs_off_its_exceptions():
    assert not parse(b"b\n!a/*/**", "x").hides_all_below("a")
    assert parse(b"b\n!a/*/**", "x").hides_all_below("b")


def test_thousands_of_patterns_are_read():
    content = "".join(f"dir{number}/file\n*{number}.log\nd{number}/**\n" for number in range(3000))
    ignore = parse(content.encode(), "x")
    assert [ignore.verdict(path)[0] for path in ("dir7/file", "x2999.log", "d3/x", "file")] == [True, True, True, False]

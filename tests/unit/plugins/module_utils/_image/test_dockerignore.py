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

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What tests/pipelines/test_yaml_reader.py found with Go's yaml.v2 as the judge; what stands here is its word."""

from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_read import values
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("y", True),
        ("N", False),
        ("off", False),
        ("1:30", "1:30"),
        ("08", 8.0),
        ("017", 15),
        ("0o17", 15),
        ("-0b11", -3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1e400", "1e400"),
        (".5", 0.5),
        ("._5", "._5"),
        ("0x_", "0x_"),
        (".nan", ".nan"),
        ("18446744073709551615", 18446744073709551615),
        ("2001-01-01", "2001-01-01"),
        ("~", None),
        ("=", "="),
    ],
)
def test_a_plain_scalar_is_what_go_takes_it_for(written, value):
    (read,) = values(f"a: [{written}]\n", "f")
    assert (read["a"], type(read["a"][0])) == ([value], type(value))


@pytest.mark.parametrize(
    "text", ["y", "N", "on", "1e3", "08", "0o17", "~", "<<", "=", "a\x85b", "a\u2028", "\ufeffa", "a\rb", "a\n\x85b"]
)
def test_what_go_would_take_for_something_else_is_quoted(text):
    assert values(dump({"a": text}), "f") == [{"a": text}]
    assert not dump({"a": text}).startswith(f"a: {text}")


def test_the_last_line_has_a_newline_for_go():
    assert values("a: |\n  text", "f") == [{"a": "text\n"}]


def test_a_tab_where_a_value_would_begin_is_refused_as_go_refuses_it():
    with pytest.raises(Problem, match="not valid YAML"):
        values("\t\n---\nkind: pipeline\n", "f")

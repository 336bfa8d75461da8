# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic
from ansible_collections.multiarch.drone.plugins.module_utils._arguments import Module, drop_nulls, split_texts

SPEC = {
    "token": {"type": "str", "no_log": True},
    "repos": {"type": "list", "elements": "dict", "options": {"slug": {"type": "str"}}},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str"}, "value": {"type": "str", "no_log": True}},
    },
    "login": {"type": "dict", "options": {"password": {"type": "str", "no_log": True}}},
}


@pytest.mark.parametrize(
    "arguments",
    [
        {"repos": ["octocat/app1"]},
        {"repos": "octocat/app1"},
        {"repos": [7]},
        {"secrets": [{"name": "a", "value": "hidden-1"}, "hidden-2"]},
        {"secrets": [["hidden-1", {"value": "hidden-2"}]]},
        {"secrets": {"name": "a", "value": {"deep": ["hidden-1"]}}},
        {"login": "hidden-1"},
        {"login": ["hidden-1"]},
        {"no_such_option": 1},
    ],
)
def test_arguments_of_a_wrong_type_do_not_show_the_secrets_beside_them(monkeypatch, capsys, arguments):
    given = {"token": "hidden-token", **arguments}
    if "inject_invocation" in basic.PASS_VARS:  # ansible-core from 2.20 on shows the arguments only when it is asked to
        given["_ansible_inject_invocation"] = True
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    with pytest.raises(SystemExit):
        Module(argument_spec=SPEC)
    shown = capsys.readouterr().out
    assert json.loads(shown)["failed"]
    assert "invocation" in shown
    assert "hidden-" not in shown


def test_null_is_no_value_however_deep():
    spec = {
        "name": {"required": True, "aliases": ["called"]},
        "free": {"type": "dict"},
        "rows": {"type": "list", "options": {"a": {"default": 1}, "b": {}}},
        "one": {"type": "dict", "options": {"c": {}}},
    }
    given = {"called": None, "free": {"x": None}, "rows": [{"a": None, "b": 2}, None], "one": {"c": None}, "odd": None}
    drop_nulls(spec, given)
    assert given == {"free": {"x": None}, "rows": [{"b": 2}, None], "one": {}, "odd": None}


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ("a, b", ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
        ("", []),
        (" , ,", []),
        ("one", ["one"]),
        (["a, b"], ["a, b"]),
        (None, None),
    ],
)
def test_a_text_stands_for_the_list_that_a_survey_means_by_it(given, items):
    params = {"names": given, "alias": given, "texts": "a, b"}
    split_texts({"names": {"type": "list", "elements": "str", "aliases": ["alias"]}, "texts": {"type": "str"}}, params)
    assert params == {"names": items, "alias": items, "texts": "a, b"}

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import random

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.module_utils._toml import dump, load

tomllib = pytest.importorskip("tomllib", reason="Python 3.11's own reader is what ours is held to")

SETTINGS = {
    "debug": True,
    "insecure-entitlements": ["network.host"],
    "worker": {
        "oci": {
            "max-parallelism": 4,
            "gcpolicy": [
                {"keepDuration": "48h", "maxUsedSpace": 512000000, "filters": ["type==source.local"]},
                {"all": True, "maxUsedSpace": "20GB"},
            ],
        }
    },
    "registry": {
        "registry.example.org:5000": {"http": True, "mirrors": ["mirror.example.org/a", "b"]},
        'odd "name"\\': {"ca": ["/etc/ssl/ä.pem"]},
    },
    "empty": {},
    "list": [],
}


def test_settings_are_written_so_that_any_reader_gets_them_back():
    assert tomllib.loads(dump(SETTINGS)) == SETTINGS
    assert load(dump(SETTINGS)) == SETTINGS


DOCUMENTS = [
    "",
    "# only a comment",
    "a = 1 # one\r\nb.c = 'x'\n[d]\n'e f' = \"\\u00e4\\t\\\"\"\n",
    "[registry]\n  [registry.'registry:5000']\n  http = true\n[registry.\"b\"]\nca = [\n 'x', # x\n 'y',\n]\n",
    "[[a.b]]\nx=1\n[a.b.c]\ny=2\n[[a.b]]\nx=0x1F\nz=1_000\nf=-1.5e3\n",
    "a = {b = 1, c = {d = []}}\ne = {}\n",
    'a = \'\'\'\nx\\y\'\'\'\nb = """x \\\n   y""""\nc = """\\""""\n',
    "[a]\nb = [[1, 2], ['x']]\n\n[a.c]\n",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_read_as_pythons_reader_reads_them(document):
    assert load(document) == tomllib.loads(document.replace("\r\n", "\n"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("a = ", "line 1: a value is missing"),
        ("\na = 'x", "line 2: a string has no end"),
        ("a = 1\na = 2", "line 2: a is given twice"),
        ("a = 1 b = 2", "more than one value"),
        ("[a\nb = 1", "] is missing"),
        ("a = 1\n[a.b]", "a is not a table"),
        ('a = "\\q"', "not a valid escape"),
        ("= 1", "a key is missing"),
    ],
)
def test_what_is_no_toml_is_an_error_with_its_line(document, message):
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(document)
    with pytest.raises(ValueError, match=message.replace("]", r"\]")):
        load(document)


def test_a_setting_without_a_value_is_a_problem_that_names_it():
    with pytest.raises(Problem, match=r"worker\.oci\.gc is None, which TOML cannot say"):
        dump({"worker": {"oci": {"gc": None}}})


def something(dice, depth=0):
    """Return a random value, hostile strings among them."""
    words = ["", "a", "b.c", "x:5000", 'q"', "it's", "ä\n\t", "\\", "\x7f", "#", "]", "='''", " "]
    kinds = ["word", "number", "flag", "list"] + ["table", "tables"] * (depth < 3)
    kind = dice.choice(kinds if depth else ["table"])
    if kind == "word":
        return dice.choice(words)
    if kind == "number":
        return dice.choice([0, -1, 2**40, 1.5, -0.25])
    if kind == "flag":
        return dice.choice([True, False])
    if kind == "list":
        return [dice.choice(words) for index in range(dice.randrange(3))]
    if kind == "tables":
        return [{dice.choice(words): something(dice, depth + 1)} for index in range(2)]
    return {dice.choice(words): something(dice, depth + 1) for index in range(dice.randrange(5))}


def test_random_settings_survive_writing_and_reading():
    dice = random.Random(7)
    for _attempt in range(500):
        settings = something(dice)
        document = dump(settings)
        assert tomllib.loads(document) == settings, document
        assert load(document) == settings, document

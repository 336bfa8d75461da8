# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pipeline files, read by us and by Go's yaml.v2 as Drone's parser uses it (tests/tools/yaml-judge): generated ones and odd ones.

`make services` takes some thousand, seeded; `make fuzz` goes on for FUZZ_SECONDS with FUZZ_SEED.
"""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import yaml_patch, yaml_read
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.yaml_dump import dump
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("FUZZ_SEED", "0"))


def composer():
    """Return the module of the generated files with what they mean: it stands in a unit test."""
    path = ROOT / "tests/unit/plugins/module_utils/_pipeline/test_foreign_files.py"
    spec = importlib.util.spec_from_file_location("test_foreign_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


foreign = composer()


@pytest.fixture(scope="module")
def judge():
    """Ask Go's yaml.v2: judge(text) returns the values of the documents, or None where it refuses the file."""
    program = subprocess.check_output([ROOT / "tests/tools/yaml-judge/build"], text=True).strip()
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask(text):
            process.stdin.write(base64.b64encode(text.encode()) + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            return None if answer["error"] else answer["documents"]

        yield ask
        process.stdin.close()


def told(value):
    """Write a value of ours as the judge writes its own."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return {json.dumps(told(key), separators=(",", ":")): told(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(one) for one in value]
    if isinstance(value, str):
        return {"text": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return {"number": str(value)} if isinstance(value, int) else {"float": value}


def ours(text):
    """Return what our reader reads; None where it refuses the file."""
    try:
        return [told(document.value) for document in yaml_read.read(text, "a")]
    except Problem:
        return None


def rounds(count):
    seconds = float(os.environ.get("FUZZ_SECONDS", "0"))
    until = time.monotonic() + seconds
    for number in itertools.count():
        if (number >= count) if not seconds else (time.monotonic() > until):
            return
        yield SEED + number


def test_what_is_written_means_to_drone_what_was_wished(judge):
    for seed in rounds(1500):
        file = foreign.Composer(seed)
        values = [value for _start, _end, value in file.documents]
        assert [one for one in judge(file.text) if one is not None] == [told(value) for value in values], seed
        for scope in ("step", "pipeline"):
            options = {"scope": scope, "step": "docker", "where": "a"}
            after = yaml_patch.put(file.text, [foreign.WISH], **options)
            wished = [told(value) for value in foreign.with_wish(values, scope)]
            read = [one for one in judge(after) if one is not None]
            assert sorted(map(json.dumps, map(ordered, read))) == sorted(map(json.dumps, map(ordered, wished))), seed
            left = foreign.without_wish(values, scope)
            if any(value["kind"] != "signature" for value in left):
                gone = yaml_patch.take(file.text, [foreign.WISH], **options)
                assert [one for one in judge(gone) if one is not None] == [told(value) for value in left], seed


def ordered(value):
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(one) for one in value] if isinstance(value, list) else value


SCALARS = [
    *("y", "n", "yes", "No", "on", "OFF", "true", "True", "~", "null", "Null", "", "=", "<<", "1:30", "0x10", "0o17", "017"),
    *("0b11", "1_000", "1e3", ".inf", "-.inf", ".nan", "2001-01-01", "+1", "-0", "0.10", "1.10", "0x_", "_1", "08", "1e", "1."),
    *("a b", "a: b", "- a", "a #b", "#a", "!a", "&a", "*a", "%a", "@a", "`a", "'a", '"a', "{a", "[a", "a\tb", "\ta", "a ", "é", "\u2028"),
    *("a\nb", "a\n", "\na", "a\n\n", "  a\nb", "\x85", "\u00a0", "🐳", "---", "...", "--- a", "${DRONE_TAG}", "\\", "a\\nb", "\ufeff"),
]  # fmt: skip


def test_each_text_that_is_written_is_read_by_drone_as_that_text(judge):
    """Keys and values, in blocks and lists: what we write of a text is never a number, a truth value or null for Drone."""
    for seed in rounds(300):
        dice = random.Random(f"text/{seed}")
        texts = ["".join(dice.choices(SCALARS, k=dice.choice([1, 1, 2]))) for _unused in range(8)]
        value = {
            "kind": "pipeline",
            "a": texts[0],
            "b": texts[1:4],
            "c": {texts[4] or "k": texts[5]},
            "d": [{"e": texts[6]}, [texts[7]]],
        }
        written = dump(value)
        assert judge(written) == [told(value)], written


LINES = [
    *("kind: pipeline", "kind:\tpipeline", "name: default", "steps:", "- name: a", "  - name: a", "  image: b", "    image: b", "---", "--- # c"),
    *("---\t", "...", "# c", "\t# c", "", "  ", "\t", "a: [1, 2,", "  3]", "a: {b: c}", "a: |", "a: |-", "a: >+", "    text", "  text # no", "a: &x b"),
    *("b: *x", "<<: *x", "a: 'x", "  y'", 'b: "x\\', '  y"', "? a", ": b", "- - a", "a:b", "a: b: c", "a:  b\t", "a: b\t# c", "!x a: b", "a: !!str 1"),
    *("name: x\t", "? [a]", "--- a", "---a", "....", "a: 1", "'a': b", "- ", "-", "a: -", "a: - b", "a: #b", "a:\t- b", "x: \u2028y", "\u00a0", "a: ''"),
]  # fmt: skip


def test_odd_files_are_read_alike_or_refused(judge):
    """A text that we read is read alike by Drone; what we refuse costs nothing but a message."""
    read = 0
    for seed in rounds(4000):
        dice = random.Random(f"lines/{seed}")
        newline = dice.choice(["\n", "\n", "\n", "\r\n"])
        text = newline.join(dice.choices(LINES, k=dice.randint(1, 9))) + dice.choice(["", newline])
        mine = ours(text)
        if mine is None:
            continue
        read += 1
        theirs = judge(text)
        assert theirs is not None, text
        assert [one for one in theirs if one is not None] == [one for one in mine if one is not None], text
    assert read

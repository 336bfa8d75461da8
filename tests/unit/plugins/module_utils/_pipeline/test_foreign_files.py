# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Generated files as strangers write them, changed: the composer below knows where each part is and what it means.

It is no YAML library: it writes text, and remembers the spans and the values. FUZZ_SECONDS and FUZZ_SEED make it longer.
"""

from __future__ import annotations

import json
import os
import random
import time

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import yaml_patch as patch
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import yaml_read

STEP = {"name": "docker", "image": "plugin:1", "privileged": True, "settings": {"tags": "1.10", "repo": "o/é"}}
WISH = {"kind": "pipeline", "type": "docker", "name": "default", "steps": [STEP]}
WORDS = [
    "golang",
    "go test ./...",
    "日本",
    "é: ü",
    "# no comment",
    "x\ty",
    "'",
    '"',
    "a\\b",
    "1e3",
    "yes",
    "{x",
    "- y",
    "🐳",
]


class Composer:
    """One file: its text, and of each document and step where it is and what it means."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.newline = self.random.choice(["\n", "\n", "\n", "\r\n"])
        self.text = self.random.choice(["", "", "", "\ufeff"])
        self.documents = []  # (start, end, value)
        self.steps = {}  # of pipeline default: name -> (start, end, value)
        self.compose()

    def chance(self, part):
        return self.random.random() < part

    def line(self, text=""):
        self.text += text + self.newline

    def noise(self, column=0):
        while self.chance(0.25):
            self.line(
                self.random.choice(["", "  ", " " * column + "# a comment: [", "# - name: docker", " " * column + "#"])
            )

    def behind(self):
        """What may stand behind a value on its line."""
        return self.random.choice(["", "", "", "", "  ", "   # why: {", "\t# tab", " \t"])

    def gap(self):
        return self.random.choice([" ", " ", " ", "  ", "\t", " \t"])

    def scalar(self, text, column):
        """Return a text in some style; in a block where it stands in one alone."""
        kind = self.random.choice(["single", "double", "block", "plain"])
        if kind == "plain" and text.isalnum() and text.isascii() and text not in ("1e3", "yes"):
            return text + self.behind(), text
        if kind == "block":
            lines = [text, self.random.choice(WORDS)]
            pad = self.newline + " " * (column + 2)
            chomp = self.random.choice(["|", "|-"])
            if text[:1] not in "# \t":
                return f"{chomp}{self.behind()}{pad}{pad.join(lines)}", "\n".join(lines) + (
                    "\n" if chomp == "|" else ""
                )
        if kind == "double":
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{quoted}"{self.behind()}', text
        return "'" + text.replace("'", "''") + "'" + self.behind(), text

    def step(self, name, dash, anchors):
        value = {"name": name}
        start = len(self.text)
        column = len(dash) + self.random.choice([1, 1, 1, 3])
        if self.chance(0.2):
            value["image"] = "alpine"
            written = self.random.choice(["{{name: {0}, image: alpine}}", '{{"name": "{0}", "image": "alpine",}}'])
            self.text += f"{dash}- {written.format(name)}"
            end = len(self.text)
            self.line(self.behind())
            return start + len(dash), end, value
        margin = " " * (column + 1)
        anchor = ""
        if self.chance(0.2) and name != "docker":
            anchors.append(name)
            anchor = f"&{name} "
        self.text += dash + "-"
        if anchor or self.chance(0.15):
            self.line(" " * bool(anchor) + anchor.strip())
            self.text += margin
        else:
            self.text += margin[len(dash) + 1 :]
        first = [f"name:{self.gap()}{name}", None]
        entries = [first]
        for key in self.random.sample(["image", "pull", "x", "w"], self.random.randint(0, 3)):
            entries.append([key, self.random.choice(WORDS)])
        for number, (key, text) in enumerate(entries):
            if number:
                self.line(self.behind() if text is None else "")
                self.noise(len(margin))
                self.text += margin
            if text is None:
                self.text += key
            else:
                written, value[key] = self.scalar(text, len(margin))
                self.text += f"{key}:{self.gap()}{written}"
        end = len(self.text)
        self.line()
        return start + len(dash), end, value

    def pipeline(self, name):
        value = {"kind": "pipeline"}
        keys = [("kind", "pipeline")]
        if name != "default" or self.chance(0.7):
            keys.append(("name", name))
        if self.chance(0.4):
            keys.append(("type", "docker"))
        self.random.shuffle(keys)
        for key, text in keys:
            self.line(f"{key}:{self.gap()}{self.random.choice([text, repr(text)])}{self.behind()}")
            self.noise()
            value[key] = text
        if self.chance(0.85):
            self.line("steps:" + self.random.choice(["", "", "  # all", "\t"]))
            dash, anchors = " " * self.random.choice([0, 2, 4, 3]), []
            names = ["test", "lint", "notify"][: self.random.randint(0, 3)]
            if not names or self.chance(0.6):
                names.insert(self.random.randint(0, len(names)), "docker")
            value["steps"] = []
            for step in names:
                self.noise(len(dash))
                start, end, one = self.step(step, dash, anchors)
                value["steps"].append(one)
                if name == "default":
                    self.steps[step] = start, end, one
            if anchors and self.chance(0.5):
                value["again"] = next(one for one in value["steps"] if one["name"] == anchors[0])
                self.line(f"again: *{anchors[0]}")
        if self.chance(0.4):
            self.line(f"trigger:{self.gap()}{{branch: [main, 'v*']}}{self.behind()}")
            value["trigger"] = {"branch": ["main", "v*"]}
        return value

    def compose(self):
        kinds = ["default", "other", "secret"]
        for number in range(self.random.randint(1, 3)):
            kind = kinds.pop(self.random.randrange(len(kinds)))
            start = len(self.text)
            if number or (self.chance(0.5) and not self.text):
                self.line("---" + self.random.choice(["", "", "  # next"]))
            self.noise()
            if kind == "secret":
                self.line("kind: secret\t# s" + self.newline + "name: token" + self.newline + "get: {path: a, name: b}")
                value = {"kind": "secret", "name": "token", "get": {"path": "a", "name": "b"}}
            else:
                value = self.pipeline(kind)
            self.noise()
            self.documents.append((start, len(self.text), value))
        if self.chance(0.2):
            start = len(self.text)
            self.line("---" + self.newline + "kind: signature" + self.newline + "hmac: 0a1b")
            self.documents.append((start, len(self.text), {"kind": "signature", "hmac": "0a1b"}))
        if self.chance(0.2):
            self.line("..." + self.newline + "what: [Drone never reads")
        elif self.chance(0.2) and self.documents[-1][2]["kind"] == "secret":
            self.text = self.text.rstrip("\r\n")


def meant(text):
    """Return what a text means: libyaml's word, up to where Drone reads."""
    text = text.split("\n...")[0] + "\n"
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one is not None]


def canonical(values):
    return sorted(json.dumps(value, sort_keys=True) for value in values)


def is_default(value):
    return value["kind"] == "pipeline" and value.get("name", "default") == "default"


def judge(seed):
    """Change a generated file in each way, and hold the result against what the composer knows."""
    file = Composer(seed)
    text, values = file.text, [value for _start, _end, value in file.documents]
    assert meant(text) == values, "the composer and libyaml agree on what is there"
    assert yaml_read.values(text, "a") == values
    place = next(((start, end) for start, end, value in file.documents if is_default(value)), None)
    for scope in ("step", "pipeline"):
        options = {"scope": scope, "step": "docker", "where": "a"}
        after = patch.put(text, [WISH], **options)
        assert patch.put(after, [WISH], **options) == after, "a second run changes nothing"
        assert canonical(meant(after)) == canonical(with_wish(values, scope))
        kept(file, text, after, scope, place, present=True)
        gone = patch.take(text, [WISH], **options)
        left = without_wish(values, scope)
        if any(value["kind"] != "signature" for value in left):
            assert meant(gone) == left
            kept(file, text, gone, scope, place, present=False)
        assert patch.take(gone, [WISH], **options) == gone


def with_wish(values, scope):
    result = []
    for value in values:
        if is_default(value):
            if scope == "pipeline":
                value = WISH
            else:
                steps = list(value.get("steps", []))
                at = next((i for i, step in enumerate(steps) if step["name"] == "docker"), len(steps))
                value = {**value, "steps": [*steps[:at], STEP, *steps[at + 1 :]]}
        result.append(value)
    return result if any(map(is_default, values)) else [*result, WISH]


def without_wish(values, scope):
    result = []
    for value in values:
        if is_default(value):
            if scope == "pipeline":
                continue
            steps = [step for step in value.get("steps", []) if step["name"] != "docker"]
            if steps != value.get("steps", []):
                value = {**value, "steps": steps}
                if not steps:
                    continue
        result.append(value)
    return result


def kept(file, text, after, scope, place, *, present):
    """Every byte outside of the touched part stays."""
    if place is None:
        assert after == text or present
        for start, end, _value in file.documents:
            assert text[start:end].rstrip("\r\n") in after
    elif scope == "pipeline" and present:
        assert after.startswith(text[: place[0]])
        assert after.endswith(text[place[1] :])
    elif scope == "pipeline":
        assert after.lstrip("\ufeff") == (text[: place[0]] + text[place[1] :]).lstrip("\ufeff")
    elif "docker" in file.steps:
        start, end, _value = file.steps["docker"]
        line = text.rfind("\n", 0, start) + 1
        if present or len(file.steps) > 1:
            assert after.startswith(text[:line])
            rest = text[end:]
            assert after.endswith(rest[rest.index("\n") :])
    elif present:
        for line in text.split("\n"):
            assert line.rstrip("\r") in after


SEED = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.mark.parametrize("seed", range(SEED, SEED + 400))
def test_a_generated_file_keeps_every_byte_outside_the_touched_part(seed):
    judge(seed)


def test_generated_files_for_as_long_as_asked():
    until, seed = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "0")), SEED + 400
    while time.monotonic() < until:
        try:
            judge(seed)
        except Exception as error:
            raise AssertionError(f"FUZZ_SEED={seed} shows it") from error
        seed += 1

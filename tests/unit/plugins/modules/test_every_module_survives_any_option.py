# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whatever stands in whichever option, a module ends with its result or a sentence: no traceback, and nothing is changed.

The values are made from the argument specifications of all modules, with a seed: a failure tells how to see it again. A run takes
about MULTIARCH_DRONE_FUZZ_SECONDS (by default 40 for all modules); MULTIARCH_DRONE_FUZZ_SEED changes what is tried.
"""

from __future__ import annotations

import json
import os
import random
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils import _files
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.every_module import (
    MODULES,
    NEEDED,
    give,
    imported,
    spec_of,
)

SEED = int(os.environ.get("MULTIARCH_DRONE_FUZZ_SEED", "1"))
SECONDS = float(os.environ.get("MULTIARCH_DRONE_FUZZ_SECONDS", "40")) / len(MODULES)
TEXTS = (
    "", " ", "\n", "a\nb", "a\tb", "a\0b", "-", "--help", "-v/etc", "../../etc/passwd", "/", ".", "..", "/dev/zero", "~", "~nobody/x",
    "ünï☃", "\ufeffbom", "\u202e", "\ud800", "%s{}$(id)`id`;&|", "{{ x }}", "null", "true", "0x_", "1_0", "*", "[", "a" * 70000, "a/b/c/d", "a:b@c",
    "https://[", "http://[::1", "https://x:99999999/", "file:///etc/passwd", "x" * 255 + "/y", "'", '"', "\\", "9" * 400, "1e400", "1e5000", "1e9999999999", "nan",
)  # fmt: skip
NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63),
    10**30,
    10**400,
    1.5,
    -0.0,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
)
SHAPES = (
    None, True, False, [], {}, [None], [[]], [{}], [[[]]], {"": ""}, {"a": None}, {"a": {"b": [1]}}, {"1": 2}, [1, "a", None, {}],
    [True], {"a": []}, [""], {"a\0b": "c"}, {"worker": {"oci": True}}, {"features": 1}, {"log-opts": [1]},
)  # fmt: skip
BUG = "this is a bug in"


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A world without Docker, without systemd and without a network: whatever is looked for is not there."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("DRONE_", "DOCKER_", "BUILDX_", "KUBE")) or "proxy" in name.lower()
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr(_files, "RUN", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drone():
    """A Drone server, of which nothing may be changed."""
    with DroneServer() as server:
        yield server


def values(dice):
    """Yield values without end: each of the lists once, then mixtures of them."""
    once = [*TEXTS, *NUMBERS, *SHAPES]
    dice.shuffle(once)
    yield from once
    while True:
        kind = dice.randrange(4)
        parts = dice.choices(once, k=dice.randrange(1, 4))
        yield [
            parts,
            dict(zip(("a", "name", "key"), parts)),
            dice.choice(TEXTS) + str(parts[0]),
            [dict(zip(("name", "x"), parts))],
        ][kind]


def places(spec, prefix=()):
    """Yield the path of each option, those of options in options as well."""
    for name, option in spec.items():
        yield (*prefix, name), option
        if option.get("options"):
            yield from places(option["options"], (*prefix, name))


def put(arguments, path, value, spec):
    """Return arguments with a value at a path; what is on the way is made."""
    name, *rest = path
    if not rest:
        return {**arguments, name: value}
    inner = arguments.get(name)
    is_list = spec[name].get("type") == "list"
    below = (inner[0] if is_list and inner else inner) or {}
    changed = put(below, rest, value, spec[name]["options"])
    return {**arguments, name: [changed] if is_list else changed}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_ends_with_a_sentence_and_changes_nothing(monkeypatch, capsys, tmp_path, drone, name):
    dice = random.Random(f"{SEED} {name}")
    spec = spec_of(monkeypatch, name)
    needed = dict(NEEDED.get(name, {}))
    if "drone_token" in spec and name != "drone_runner":
        needed.update(drone_url=drone.url, drone_token=drone.tokens["octocat"])
    for option in ("timeout", "registry_timeout"):
        if option in spec:
            needed[option] = 1
    every = [
        (path, value)
        for path, option in places(spec)
        for value in [*TEXTS, *NUMBERS, *SHAPES, *option.get("choices", ())]
    ]
    dice.shuffle(every)
    more = values(dice)
    paths = [path for path, _option in places(spec)]
    end, tried = time.monotonic() + SECONDS, 0
    before = sorted(os.listdir(tmp_path))
    bugs = []
    while time.monotonic() < end or tried < 20:
        path, value = every.pop() if every else (dice.choice(paths), next(more))
        tried += 1
        arguments = put(needed, path, value, spec)
        bugs += [f"{'.'.join(path)}={value!r:.80}: {bug}" for bug in _run(monkeypatch, capsys, name, arguments)]
    assert not bugs, "\n".join(sorted({bug.partition(": ")[2]: bug for bug in bugs}.values()))
    assert drone.changes == []
    assert [entry for entry in sorted(os.listdir(tmp_path)) if entry not in before] in ([], ["run"])


def _run(monkeypatch, capsys, name, arguments):
    """Run a module in check mode; yield what is wrong with its end."""
    try:
        json.dumps(arguments).encode()
        give(monkeypatch, {**arguments, "_ansible_check_mode": True})
    except ValueError:  # no JSON, so Ansible could not give it
        return
    capsys.readouterr()
    started = time.monotonic()
    try:
        imported(name).main()
    except SystemExit:
        pass
    except BaseException as error:
        frame = error.__traceback__
        while frame.tb_next is not None:
            frame = frame.tb_next
        yield f"{type(error).__name__}: {error!s:.200} ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})"
        return
    shown = capsys.readouterr().out
    try:
        result = json.loads(shown)
    except ValueError:
        yield f"it printed {shown[:200]!r}"
        return
    if BUG in str(result.get("msg")):
        yield str(result["msg"])[:300]
    if result.get("failed") and not str(result.get("msg", "")).strip():
        yield "it fails and says nothing"
    if time.monotonic() - started > 60:
        yield f"it takes {time.monotonic() - started:.0f} s"

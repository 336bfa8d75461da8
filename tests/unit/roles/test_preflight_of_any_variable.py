# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whatever stands in whichever variable of a role, the preflight takes it or says which variable is wrong: no traceback.

The variables are those of the roles' argument specifications, and of the entries in them. MULTIARCH_DRONE_FUZZ_SECONDS says how long
each role is tried beyond the table (1), MULTIARCH_DRONE_FUZZ_SEED what is tried.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._preflight import problems_of
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.test_every_module_survives_any_option import (
    NUMBERS,
    SHAPES,
    TEXTS,
    places,
    put,
    values,
)

ROLES = Path(__file__).resolve().parents[3] / "roles"
SPECIFICATIONS = {
    path.parents[1].name: yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    for path in ROLES.glob("*/meta/argument_specs.yml")
}
SEED = os.environ.get("MULTIARCH_DRONE_FUZZ_SEED", "1")
SECONDS = float(os.environ.get("MULTIARCH_DRONE_FUZZ_SECONDS", "1"))
JUDGED = sorted(set(SPECIFICATIONS) - {"lab"})
# What makes the rest of a role's variables good, so that each is looked at.
NEEDED = {
    "buildkitd": {
        "buildkitd_source": "package",
        "buildkitd_instances": [{"name": "one", "port": 1234}],
        "buildkitd_clients": [{"name": "ci", "instances": ["one"]}],
    },
    "builder": {"builder_builders": [{"name": "one", "nodes": [{"platforms": ["linux/arm64"]}]}]},
    "docker_engine": {
        "docker_engine_registry_logins": [{"registry": "r.example", "username": "joe", "password": "pw"}]
    },
    "drone_pipelines": {"drone_pipelines_pipelines": [{"pipeline": {"repo": "a/b"}, "path": "/tmp"}]},
    "drone_repos": {
        "drone_repos_url": "https://drone.example.com",
        "drone_repos_token": "token",
        "drone_repos_repos": [{"slug": "a/b"}],
        "drone_repos_crons": [{"repo": "a/b", "name": "n", "expr": "@daily"}],
        "drone_repos_secrets": [{"repo": "a/b", "name": "n", "value": "v"}],
    },
    "drone_runner": {
        "drone_runner_name": "one",
        "drone_runner_url": "https://drone.example.com",
        "drone_runner_rpc_secret": "secret",
    },
}
# Entries whose keys no role declares: each is a module's option.
FREE = {
    "builder": {("builder_builders", "nodes"): ("name", "endpoint", "platforms", "driver_opts", "flags")},
    "drone_repos": {
        ("drone_repos_repos",): ("slug", "state", "trusted", "timeout", "visibility"),
        ("drone_repos_crons",): ("repo", "name", "expr", "branch", "state"),
        ("drone_repos_users",): ("login", "machine", "token"),
        ("drone_repos_secrets",): ("repo", "name", "value"),
        ("drone_repos_templates",): ("namespace", "name", "data"),
        ("drone_repos_settings",): ("trusted", "timeout"),
    },
    "drone_pipelines": {("drone_pipelines_pipelines", "pipeline"): ("repo", "platforms", "tags", "steps", "settings")},
}


def defaults(role):
    given = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    return {name: value for name, value in given.items() if "{{" not in str(value)}


def spec_of(role):
    """Return a role's argument specification, with the keys of entries that it leaves to a module."""
    spec = {name: dict(option) for name, option in SPECIFICATIONS[role].items()}
    for path, keys in FREE.get(role, {}).items():
        options = spec
        for name in path[:-1]:
            options[name] = {**options[name], "options": dict(options[name]["options"])}
            options = options[name]["options"]
        options[path[-1]] = {**options[path[-1]], "options": {key: {"type": "raw"} for key in keys}}
    return spec


@pytest.mark.parametrize("role", JUDGED)
def test_the_defaults_and_what_a_role_needs_are_good(role):
    assert problems_of(SPECIFICATIONS[role], [role], {**defaults(role), **NEEDED.get(role, {})}, {"host": ""}) == []


@pytest.mark.parametrize("role", JUDGED)
def test_any_value_is_taken_or_refused_with_the_name_of_the_variable(role):
    dice = random.Random(f"{SEED} {role}")
    spec = spec_of(role)
    good = {**defaults(role), **NEEDED.get(role, {})}
    table = [(path, value) for path, _option in places(spec) for value in [*TEXTS, *NUMBERS, *SHAPES]]
    dice.shuffle(table)
    paths, more, until, bugs = [path for path, _option in places(spec)], values(dice), time.monotonic() + SECONDS, {}
    while table or time.monotonic() < until:
        path, value = table.pop() if table else (dice.choice(paths), next(more))
        given = put(good, path, value, spec)
        try:
            problems = problems_of(SPECIFICATIONS[role], [role], given, {"host": ""})
        except Exception as error:
            frame = error.__traceback__
            while frame.tb_next is not None:
                frame = frame.tb_next
            place = f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}"
            bugs[f"{type(error).__name__} {place} {path[0]}"] = (
                f"{'.'.join(path)}={value!r:.60}: {error!r:.200} at {place}"
            )
            continue
        if problems and not any(path[0] in problem for problem in problems):
            bugs[f"unnamed {path[0]} {problems[0][:30]}"] = f"{'.'.join(path)}={value!r:.60}: {problems!r:.300}"
    assert not bugs, "\n" + "\n".join(sorted(bugs.values()))

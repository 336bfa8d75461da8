# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every role's argument specification tells the truth about its defaults, and its variables cannot meet another role's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.multiarch.drone.plugins.module_utils._docker import packages
from ansible_collections.multiarch.drone.plugins.module_utils._record import apt

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def main_spec(role: Path) -> dict[str, Any]:
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"]


@each_role
def test_defaults_are_those_of_the_argument_specification(role: Path) -> None:
    options = main_spec(role).get("options", {})
    declared = {name: option["default"] for name, option in options.items() if "default" in option}
    assert load(role / "defaults/main.yml") == declared


@each_role
def test_a_variable_without_a_default_is_required(role: Path) -> None:
    options = main_spec(role).get("options", {})
    assert [name for name, option in options.items() if ("default" in option) == bool(option.get("required"))] == []


@each_role
def test_the_defaults_pass_their_own_specification(role: Path) -> None:
    options = main_spec(role).get("options", {})
    # A template has its type when it is rendered; the specification's documentation is no part of what is validated.
    plain = {name: value for name, value in load(role / "defaults/main.yml").items() if "{{" not in str(value)}
    spec = {name: _without_documentation(option) for name, option in options.items() if name in plain}
    assert ArgumentSpecValidator(spec).validate(plain).error_messages == []


@each_role
def test_every_variable_carries_the_name_of_its_role(role: Path) -> None:
    names = [*main_spec(role).get("options", {}), *load(role / "vars/main.yml"), *_set_by_tasks(role)]
    assert [name for name in names if not re.match(rf"(__)?{role.name}(_|$)", name)] == []


@each_role
def test_every_variable_that_is_declared_is_used(role: Path) -> None:
    files = [path for part in ("tasks", "vars", "templates", "handlers") for path in (role / part).rglob("*")]
    files += (role.parents[1] / "playbooks").rglob("*.yml")
    text = "\n".join(path.read_text() for path in files if path.is_file())
    names = [*main_spec(role).get("options", {}), *load(role / "vars/main.yml")]
    assert [name for name in names if not re.search(rf"\b{name}\b", re.sub(rf"(?m)^{name}:", "", text))] == []


@each_role
def test_everything_is_described_and_has_a_type(role: Path) -> None:
    spec = main_spec(role)
    assert spec["short_description"]
    assert spec["description"]
    assert [
        name for name, option in _every_option(spec) if not (option.get("description") and option.get("type"))
    ] == []


@each_role
def test_a_role_that_makes_something_can_take_it_away(role: Path) -> None:
    assert main_spec(role)["options"][f"{role.name}_state"]["choices"] == ["present", "absent"]


@each_role
def test_a_secret_is_never_printed(role: Path) -> None:
    """A task that gets a password must say no_log: a loop prints its items."""
    careless = [
        task["name"]
        for task in _tasks(role)
        if re.search(r"password|token|secret", str({key: value for key, value in task.items() if "." in key}))
        and not task.get("no_log")
        and not any(
            key.startswith("multiarch.drone.") for key in task
        )  # modules of ours have no_log in their specification
    ]
    assert careless == []


def _without_documentation(option: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in option.items() if key not in ("description", "version_added", "default")}
    if "options" in kept:
        kept["options"] = {name: _without_documentation(inner) for name, inner in kept["options"].items()}
    return kept


def _every_option(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, option in spec.get("options", {}).items():
        found += [(name, option), *_every_option(option)]
    return found


def _tasks(role: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    hint = [task for path in sorted((role / "tasks").glob("*.yml")) for task in load(path) or []]
    while hint:
        task = hint.pop()
        found.append(task)
        hint += [inner for part in ("block", "rescue", "always") for inner in task.get(part, [])]
    return found


def _set_by_tasks(role: Path) -> list[str]:
    names = []
    for task in _tasks(role):
        names += [task["register"]] if "register" in task else []
        names += (
            list(task.get("vars", {})) if not any("include_role" in key or "import_role" in key for key in task) else []
        )
        names += [name for name in task.get("ansible.builtin.set_fact", {}) if name != "cacheable"]
    return names


@each_role
def test_the_roles_readme_lists_its_variables_and_no_others(role: Path) -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (role / "README.md").read_text(), re.MULTILINE)
    assert listed == list(main_spec(role).get("options", {}))


def test_the_engine_asks_about_every_package_that_it_may_want() -> None:
    variables = load(ROOT / "roles/docker_engine/vars/main.yml")
    tables = [*packages.RELEASES.values(), *packages.MAKERS.values()]
    wanted = {name for table in tables for name in [*table.engine, table.buildx]}
    wanted |= {*variables["__docker_engine_beside"], "python3-requests"}
    assert set(variables["__docker_engine_known"]) == wanted - {""}


def _yaml_tasks() -> list[tuple[Path, dict[str, Any]]]:
    found = []
    paths = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")]
    for path in paths:
        hint = list(load(path) or [])
        while hint:
            task = hint.pop()
            found.append((path, task))
            for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
                hint += task.get(part, [])
    return found


def test_no_task_for_packages_removes_what_it_does_not_name() -> None:
    """apt takes docker-ce away for docker.io without a word, unless it is told not to."""
    managers = re.compile(r"\.(apt|package|dnf5?|yum|zypper|pacman)$|^(apt|package|dnf|yum)$")
    wrong = [
        f"{path.relative_to(ROOT)}: {task['name']}"
        for path, task in _yaml_tasks()
        for module, options in task.items()
        if managers.search(module) and not (isinstance(options, dict) and options.get("fail_on_autoremove") is True)
    ]
    texts = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/files/machine")]
    wrong += [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts
        for line in path.read_text().splitlines()
        if re.search(r"apt(-get)? (-\S+ )*install", line) and "--no-remove" not in line
    ]
    assert wrong == []
    assert "--no-remove" in apt.INSTALL


def test_what_provisions_judges_the_variables_of_every_role_before_it_changes_a_host() -> None:
    preflight, provision = load(ROOT / "playbooks/provision_runners.yml")
    imported = [task["ansible.builtin.import_role"]["name"] for task in provision["tasks"]]
    judged = preflight["tasks"][0]["multiarch.drone.preflight"]["roles"]
    assert [name for name in imported if repr(name.rpartition(".")[2]) not in judged] == []


@pytest.mark.parametrize(
    ("role", "tasks", "module", "beside"),
    [
        ("docker_engine", "config", "docker_engine_config", {"engine_version"}),  # of what is installed, the host tells
        ("qemu", "main", "binfmt_qemu", set()),
        ("drone_runner", "runner", "drone_runner", set()),
    ],
)
def test_a_host_is_asked_at_once_for_what_the_role_asks_alone(
    role: str, tasks: str, module: str, beside: set[str]
) -> None:
    wish = load(ROOT / f"roles/{role}/vars/main.yml")[f"__{role}_wish"]
    (given,) = [
        task[name]
        for task in load(ROOT / f"roles/{role}/tasks/{tasks}.yml")
        for name in task
        if name == f"multiarch.drone.{module}"
    ]
    assert wish == {name: value for name, value in given.items() if name not in beside}


@each_role
def test_what_is_true_or_a_number_is_read_so_where_it_came_as_a_text(role: Path) -> None:
    """`-e qemu_exclusive=false` gives the text "false", which an expression takes for true: only modules read their options."""
    kinds = ("bool", "int", "float")
    names = [name for name, option in main_spec(role).get("options", {}).items() if option.get("type") in kinds]
    exclusive_lock = r"\{\{ %s( \| default\([^)]*\))?( or omit)? \}\}"
    wrong = [
        f"{path.relative_to(ROOT)}:{number} {name}"
        for path in [*(role / "tasks").glob("*.yml"), *(role / "vars").glob("*.yml")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for name in names
        if re.search(rf"\b{name}\b(?! \| (bool|int|float|string)\b)", re.sub(exclusive_lock % name, "", line))
    ]
    assert wrong == []


@each_role
def test_a_list_is_read_as_one_where_it_came_as_a_text(role: Path) -> None:
    """`-e drone_repos_trusted=octocat/a,octocat/b` is as good a list to Ansible's modules, and none to its `+`."""
    options = main_spec(role).get("options", {})
    names = [
        name for name, option in options.items() if option.get("type") == "list" and option.get("elements") == "str"
    ]
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in [*(role / "tasks").glob("*.yml"), *(role / "vars").glob("*.yml")]
        for name in names
        for match in re.finditer(rf"\b{name}\b (\+|\| join).*|.*\+ {name}\b|.*': {name}\b", path.read_text())
    ]
    assert wrong == []


def test_community_docker_has_to_be_there_only_where_a_login_is_declared() -> None:
    """Ansible looks a task's module up when it reads the file: only a file that is included later may name one that may be missing."""
    found = {path.name for path, task in _yaml_tasks() if any(key.startswith("community.docker.") for key in task)}
    assert found == {"logins.yml", "logins_verified.yml"}
    texts = [path.read_text() for path in ROOT.glob("roles/docker_engine/tasks/*.yml")]
    assert [name for name in found if any(f"import_tasks: {name}" in text for text in texts)] == []

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What variables of roles cannot be together is refused before any host is asked; of a runner, in _runner/test_wish.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._preflight import in_words_of_the_role, texts, wrong

ROLES = Path(__file__).parents[4] / "roles"
DEFAULTS = {
    name: value
    for role in ("docker_engine", "builder")
    for name, value in yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()).items()
}


def refused(**variables) -> str:
    return "".join(wrong(["docker_engine", "builder"], {**DEFAULTS, **variables}, {}))


def test_defaults_can_be_had():
    assert refused() == ""


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"docker_engine_buildx": "url"}, "needs docker_engine_buildx_url"),
        ({"docker_engine_buildx": "url", "docker_engine_buildx_url": "https://x"}, "docker_engine_buildx_checksum"),
        ({"docker_engine_buildx": "path"}, "the plugin's file on the controller"),
        ({"docker_engine_containerd_store": "false"}, "every builder of this host uses the driver docker"),
        (
            {
                "docker_engine_containerd_store": "false",
                "builder_driver": "docker",
                "builder_builders": [{"name": "a"}],
            },
            "every builder of this host uses the driver docker",
        ),
    ],
)
def test_what_cannot_be_together_is_refused(variables, message):
    assert message in refused(**variables)


@pytest.mark.parametrize(
    "variables",
    [
        {
            "docker_engine_buildx": "url",
            "docker_engine_buildx_url": "https://x",
            "docker_engine_buildx_checksum": "sha256:0",
        },
        {"docker_engine_buildx": "path", "docker_engine_buildx_path": "/x"},
        {"docker_engine_buildx": "url", "docker_engine_state": "absent"},
        {
            "docker_engine_containerd_store": "false",
            "builder_builders": [{"name": "a"}, {"name": "b", "driver": "docker"}],
        },
        {"docker_engine_containerd_store": "false", "builder_builders": []},
    ],
)
def test_what_can_be_together_is_not(variables):
    assert refused(**variables) == ""


def test_builders_are_judged_with_the_engine_alone():
    assert wrong(["docker_engine"], {**DEFAULTS, "docker_engine_containerd_store": "false"}, {}) == []


def of_role(role, **variables):
    options = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    defaults = {name: option.get("default", "") for name, option in options.items()}
    return "; ".join(wrong([role], {**defaults, **variables}, {}))


@pytest.mark.parametrize("role", ["docker_engine", "qemu", "builder", "drone_repos", "drone_pipelines"])
def test_the_defaults_of_every_role_can_be_had(role):
    assert of_role(role) == ""


@pytest.mark.parametrize(
    ("role", "variables", "message"),
    [
        ("qemu", {"qemu_platforms": ["linux/arm65"]}, "did you mean linux/arm64"),
        ("qemu", {"qemu_verify": "depe"}, "qemu_verify: 'depe' is not a value of qemu_verify; write true, false or deep"),
        ("qemu", {"qemu_prove": 2}, "qemu_prove: 2 is not a value of qemu_prove"),
        ("qemu", {"qemu_source": "image"}, "qemu_source=image needs qemu_image"),
        ("qemu", {"qemu_source": "image", "qemu_image": "Upper:"}, "qemu_image: "),
        ("qemu", {"qemu_source": "path"}, "qemu_source=path needs qemu_path"),
        ("docker_engine", {"docker_engine_registry_mirrors": ["mirror"]}, "docker_engine_registry_mirrors"),
        ("docker_engine", {"docker_engine_min_free_gib": -1.0}, "docker_engine_min_free_gib"),
        ("docker_engine", {"docker_engine_buildx_checksum": "12"}, "docker_engine_buildx_checksum"),
        ("builder", {"builder_builders": [{"name": "Upper/x"}]}, "builder_builders: "),
        ("builder", {"builder_builders": [{"name": "a", "nodes": [{"platforms": ["linux/arm65"]}]}]}, "linux/arm64"),
        ("builder", {"builder_builders": [{"name": "a", "nodes": [{"driver_opts": {"image": "a b"}}]}]}, "node 0"),
        ("builder", {"builder_builders": [{"name": "a", "nodes": [{"driver_opts": {"imag": "a"}}]}]}, "image"),
        ("buildkitd", {"buildkitd_gc": {}}, "buildkitd_source=url needs buildkitd_url"),
        ("buildkitd", {"buildkitd_source": "image", "buildkitd_image": "a b"}, "buildkitd_image: "),
        ("buildkitd", {"buildkitd_source": "package", "buildkitd_instances": [{"name": "No_"}]}, "buildkitd_instances: "),
        ("drone_repos", {"drone_repos_trusted": ["octocat"]}, "did you mean octocat/*"),
        ("drone_repos", {"drone_repos_crons": [{"repo": "a/b", "name": "n", "expr": "0 1 * * *"}]}, "write the seconds too"),
        ("drone_pipelines", {"drone_pipelines_pipelines": [{"pipeline": {"platforms": ["linux/arm65"]}}]}, "linux/arm64"),
        ("drone_pipelines", {"drone_pipelines_pipelines": [{"pipeline": {"repo": "a b"}}]}, "drone_pipelines_pipelines: "),
    ],
)  # fmt: skip
def test_names_and_expressions_of_every_role_are_judged_by_their_own_parsers(role, variables, message):
    said = of_role(role, **variables)
    assert message in said
    assert any(name in said for name in variables) or role == "buildkitd"


def test_instances_of_buildkitd_without_a_fault_can_be_had():
    assert of_role("buildkitd", buildkitd_source="package", buildkitd_gc={"maxUsedSpace": "60%"}) == ""


def test_a_refusal_names_the_variable_and_not_the_module_s_option():
    assert (
        in_words_of_the_role("drone_url 'x' is not a valid address; rpc_secret")
        == "drone_runner_url 'x' is not a valid address; drone_runner_rpc_secret"
    )
    assert in_words_of_the_role("the name of a volume") == "the name of a volume"
    assert in_words_of_the_role("name 'a b' is not a valid name") == "drone_runner_name 'a b' is not a valid name"
    assert in_words_of_the_role("drone_runner_url") == "drone_runner_url"


def test_options_of_an_instance_that_nobody_gave_are_left_to_the_module():
    """Ansible's validation puts null there."""
    pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
    instance = {
        "name": "main",
        "port": 1234,
        "rootless": None,
        "config": None,
        "gc": None,
        "tls": None,
        "environment": None,
    }
    instances = [
        instance,
        {
            **instance,
            "name": "b",
            "port": 1235,
            "tls": {**dict.fromkeys(("ca", "cert", "key"), pem), "probe_key": None},
        },
    ]
    assert of_role("buildkitd", buildkitd_source="package", buildkitd_instances=instances) == ""


def test_an_empty_answer_of_a_survey_is_no_text_in_the_place_of_a_list():
    declared = {
        "a": {"type": "list", "elements": "str"},
        "b": {"type": "list", "elements": "dict"},
        "c": {"type": "dict"},
    }
    assert texts(declared, {"a": "", "b": " ", "c": ""}) == []
    assert texts(declared, {"a": "x, y"}) == []
    assert [told.split()[0] for told in texts(declared, {"a": '["x"]', "b": "x", "c": "{}"})] == ["a", "b", "c"]

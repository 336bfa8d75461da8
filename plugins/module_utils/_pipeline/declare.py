# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring pipelines to where Drone reads them, from the module's options to its result.

Each place (a directory, a branch of a git repository, a template of the server) is read, the wished text is made from
what it has, and one step brings it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from .._arguments import Module, is_telling, texts
from .._drone.client import OPTIONS
from .._passwords import url_secrets
from .git import tokens_within
from .plugins import credentials_within
from .spec import SPEC
from .to_directory import to_directory
from .to_repositories import to_repositories
from .to_template import to_template
from .wish import server_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

ARGUMENTS: Mapping[str, Any] = {
    **OPTIONS,
    "path": {"type": "path"},
    "repos": {
        "type": "list",
        "elements": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "branch": {"type": "str"},
            "config_path": {"type": "str"},
            "slug": {"type": "str"},
            "pipeline": {"type": "dict"},
        },
    },
    "template": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "config_path": {"type": "str", "default": ".drone.yml"},
    "scope": {"type": "str", "choices": ["step", "pipeline"], "default": "step"},
    # `repo` may stand in each repository's own pipeline instead.
    "pipeline": {"type": "dict", "options": {**SPEC, "repo": {"type": "str"}}},
    "allow_plaintext": {"type": "bool", "default": False},
    "runner_platforms": {"type": "list", "elements": "str"},
    "privileged_images": {"type": "list", "elements": "str"},
    "known_trusted": {"type": "list", "elements": "str"},
    "known_secrets": {"type": "list", "elements": "str", "no_log": False},
    "slug": {"type": "str"},
    "branch": {"type": "str"},
    "commit_message": {"type": "str", "default": "Build images for several platforms in Drone"},
    "commit_author": {"type": "str", "default": "multiarch.drone <multiarch.drone@localhost>"},
    "git_username": {"type": "str"},
    "git_password": {"type": "str", "no_log": True},
    "git_ssh_key": {"type": "path", "no_log": False},
    "git_timeout": {"type": "int", "default": 120},
    "at_a_time": {"type": "int", "default": 4},
    "drone_url": {**OPTIONS["drone_url"], "required": False},
    "drone_token": {**OPTIONS["drone_token"], "required": False},
}


class PipelineModule(Module):
    """A module that hides what stands in clear text in its descriptions and URLs, refused or not."""

    described = frozenset(("pipeline", "repos", "template", "known_secrets"))

    def _load_params(self) -> None:
        super()._load_params()
        given = [self.params.get("pipeline"), self.params.get("repos")]
        self.no_log_values.update(credentials_within(given))
        for text in texts(given):
            self.no_log_values.update(one for one in url_secrets(text) if is_telling(one) and not one.startswith("$"))
        if not self.params.get("git_password"):  # with it, what a URL has is a name
            self.no_log_values.update(tokens_within(self.params.get("repos")))


def deploy(module: AnsibleModule) -> dict[str, Any]:
    """Do what the module's options say."""
    options = module.params
    server = server_of(module)
    if options["path"] is not None:
        return to_directory(module, server)
    if options["template"] is not None:
        return to_template(module, server)
    return to_repositories(module, server)

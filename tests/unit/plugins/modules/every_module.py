# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All modules of the collection, as the files say that there are, with their argument specifications."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from ansible.module_utils import basic

DIRECTORY = Path(__file__).resolve().parents[4] / "plugins/modules"
PACKAGE = "ansible_collections.multiarch.drone.plugins.modules"
# Modules that run on a host; the others are documentation of an action plugin, which runs on the controller.
MODULES = sorted(path.stem for path in DIRECTORY.glob("*.py") if "def main(" in path.read_text())


def imported(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def spec_of(monkeypatch, name):
    """Return a module's argument specification."""
    module, found = imported(name), {}

    class Enough(Exception):
        pass

    def remember(self, argument_spec, **options):
        found.update(argument_spec)
        raise Enough

    with monkeypatch.context() as patch:
        patch.setattr(basic.AnsibleModule, "__init__", remember)
        try:
            module.main()
        except Enough:
            return found
    raise AssertionError(f"{name} makes no AnsibleModule")


def give(monkeypatch, arguments):
    """Give a module its arguments, as Ansible does at -vvv."""
    given = dict(arguments)
    if "inject_invocation" in basic.PASS_VARS:  # ansible-core from 2.20 on shows the arguments only when it is asked to
        given["_ansible_inject_invocation"] = True
    text = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)

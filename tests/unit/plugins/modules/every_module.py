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

# Each part of a shape that would tell something has the mark in it.
MARK = "zq7"
SHAPES = {
    "lines": f"{MARK}first-line-of-it\n{MARK}second\\line\n{MARK}third 'line'\n",
    "quotes": f"{MARK}'single\"double'{MARK}",
    "escapes": f"{MARK}back\\slash\\n\\t{MARK}",
    "tab": f"{MARK}with\ttab{MARK}",
    "unicode": f"{MARK}ünï☃{MARK}",
    "short": f"{MARK}x",
    "shell": f"{MARK}$HOME `id` & {MARK}%20",
    "key": f"-----BEGIN PRIVATE KEY-----\n{MARK}AAAABBBBCCCC\n{MARK}DDDDEEEE\n-----END PRIVATE KEY-----\n",
}
URLS = {
    "password": f"https://joe:{MARK}pass@git.example.com/a/b",
    "token": f"https://{MARK}token0@git.example.com/a/b.git",
    "at": f"https://joe:{MARK}p@ss{MARK}@git.example.com/a/b",
    "slash": f"http://joe:{MARK}p/ss{MARK}@proxy.example.com:3128",
    "filler": f"https://{MARK}token0:x-oauth-basic@git.example.com/a",
    "encoded": f"https://joe:{MARK}p%40ss{MARK}@git.example.com/a",
}
ATTRIBUTES = {
    "cache": f"type=s3,region=eu,bucket=b,access_key_id={MARK}id,secret_access_key={MARK}key,session_token={MARK}tok",
    "azure": f"type=azblob,name=n,account_url=https://a.example.com,secret_access_key={MARK}key",
}
# What a module needs, so that what is tried is the option and not that another one is missing.
NEEDED = {
    "binfmt_qemu": {"platforms": ["linux/arm64"]},
    "buildkitd_instances": {"instances": [{"name": "one"}]},
    "buildx_builder": {"name": "one"},
    "buildx_image": {"context": ".", "tags": ["one"]},
    "drone_cron": {"crons": [{"repo": "octocat/app1", "name": "one", "expr": "@daily"}]},
    "drone_pipeline": {"path": "/tmp", "pipeline": {"steps": [{"name": "one", "image": "alpine", "commands": ["true"]}]}},
    "drone_repo": {"repos": [{"slug": "octocat/app1"}]},
    "drone_repo_trust": {"repos": ["octocat/app1"]},
    "drone_runner": {"drone_url": "https://drone.example.com", "rpc_secret": "0123456789abcdef"},
    "drone_secret": {"secrets": [{"repo": "octocat/app1", "name": "one", "value": "two"}]},
    "drone_template": {"templates": [{"namespace": "octocat", "name": "one.yaml", "data": "kind: pipeline"}]},
    "drone_user": {"users": [{"login": "one"}]},
    "image_platforms_info": {"images": ["localhost:1/one"]},
}  # fmt: skip


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


def filled(spec, secret, *, url=False):
    """Return arguments with a secret in each place that is declared to hold one (or a URL in each text)."""
    given = {}
    for name, option in spec.items():
        inner, kind = option.get("options"), option.get("type", "str")
        if inner:
            value = filled(inner, secret, url=url)
            if value:
                given[name] = [value] if kind == "list" else value
        elif option.get("no_log") and not url:
            given[name] = (
                {"a": secret, "b": {"c": [secret]}} if kind == "dict" else [secret] if kind == "list" else secret
            )
        elif url and not option.get("choices") and not option.get("no_log"):
            if kind in ("str", "path", "raw"):
                given[name] = secret
            elif kind == "dict":
                given[name] = {"a": secret, "b": {"c": [secret]}}
            elif kind == "list":
                given[name] = [secret]
    return given

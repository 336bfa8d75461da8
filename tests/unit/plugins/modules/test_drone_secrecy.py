# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is secret stays so in a real play: at -vvvv, with diffs, in errors, in logs, in what is left on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECRETS = {
    "VALUE": "hunter2-a-secrets-value",
    "CHANGED": "hunter3-another-secrets-value",
    "CHOSEN": "0123456789abcdef-a-token-somebody-chose",
}
PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/multiarch.drone.drone:
      drone_url: "{{ lookup('ansible.builtin.env', 'URL') }}"
      drone_token: "{{ lookup('ansible.builtin.env', 'TOKEN') }}"
  tasks:
    - name: Write, and write another value
      multiarch.drone.drone_secret:
        update: changed
        fingerprints: "{{ playbook_dir }}/fingerprints.json"
        secrets:
          - {repo: octocat/app1, name: password, value: "{{ lookup('ansible.builtin.env', item) }}"}
          - {namespace: octocat, name: password, value: "{{ lookup('ansible.builtin.env', item) }}"}
      loop: [VALUE, CHANGED]
    - name: A server that says the value back
      multiarch.drone.drone_secret:
        update: always
        secrets: [{repo: octocat/app2, name: echo, value: "{{ lookup('ansible.builtin.env', 'VALUE') }}"}]
      ignore_errors: true
    - name: A repository that does not exist
      multiarch.drone.drone_secret:
        secrets: [{repo: octocat/missing, name: echo, value: "{{ lookup('ansible.builtin.env', 'VALUE') }}"}]
      ignore_errors: true
    - name: An entry that is wrong
      multiarch.drone.drone_secret:
        secrets: [{name: echo, value: "{{ lookup('ansible.builtin.env', 'VALUE') }}"}]
      ignore_errors: true
    - name: An account with a token of ones own
      multiarch.drone.drone_user:
        users: [{login: robot, machine: true, token: "{{ lookup('ansible.builtin.env', 'CHOSEN') }}"}]
"""


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_a_play_at_vvvv_tells_no_secret(server, tmp_path, arguments):
    (tmp_path / "play.yml").write_text(PLAY)
    server.faults.add(kind="status", status=400, message=f"bad value {SECRETS['VALUE']}", method="POST", path="*app2*")
    environment = {
        **os.environ,
        **SECRETS,
        "URL": server.url,
        "TOKEN": server.tokens["octocat"],
        "HOME": str(tmp_path),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_LOG_PATH": str(tmp_path / "log"),
        "ANSIBLE_COLLECTIONS_PATH": next(
            path for path in sys.path if Path(path, "ansible_collections/multiarch").is_dir()
        ),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvvv", "--diff", *arguments, "play.yml"]
    played = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    told = played.stdout + played.stderr
    assert played.returncode == 0, told
    assert "rescued=0    ignored=2" in told if arguments else "rescued=0    ignored=3" in told
    left = {
        path.relative_to(tmp_path): path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()
    }
    assert Path("log") in left
    if not arguments:
        assert "bad value ********" in told
        assert server.state.secrets.find(lambda row: row.data == SECRETS["CHANGED"])
        assert Path("fingerprints.json") in left
    for secret in (*SECRETS.values(), server.tokens["octocat"]):
        assert secret not in told
        assert [path for path, content in left.items() if secret in content] == []

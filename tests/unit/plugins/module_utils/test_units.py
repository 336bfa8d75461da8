# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The units that runners and BuildKit daemons start from after a reboot, judged by systemd itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._buildkitd import wish as buildkitd
from ansible_collections.multiarch.drone.plugins.module_utils._platform import by_machine
from ansible_collections.multiarch.drone.plugins.module_utils._runner import wish as runner
from ansible_collections.multiarch.drone.plugins.modules import drone_runner

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
TLS = {"ca": PEM, "cert": PEM, "key": PEM}
OPTIONS = yaml.safe_load(drone_runner.DOCUMENTATION)["options"]
DEFAULTS = {name: option.get("default") for name, option in OPTIONS.items()}
NEEDED = {"drone_url": "https://drone.example.com", "rpc_secret": "x", "name": "runner-1"}


def units_of(files):
    """Return the units among files, by their names."""
    return {
        path.rpartition("/")[2]: file.text for path, file in files.items() if path.startswith("/etc/systemd/system/")
    }


def of_runner(**options):
    tools = runner.Tools("/usr/bin/docker", "/usr/bin/python3", "", {})
    return units_of(runner.declare({**DEFAULTS, **NEEDED, **options}, tools, by_machine("x86_64")).files)


def of_daemon(**options):
    (daemon,) = buildkitd.declare([{"name": "main", **options}], buildkitd.Programs("/opt/buildkit", "1"))
    return units_of(daemon.files)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize(
    "units",
    [
        pytest.param(of_runner(), id="runner"),
        pytest.param(
            of_runner(stop_timeout=10**6, prune_age=10**6, prune_schedule="Mon *-*-* 04:00"), id="runner's limits"
        ),
        pytest.param(of_daemon(port=1234, tls=TLS), id="daemon"),
        pytest.param(
            of_daemon(port=1234, tls=TLS, rootless=True, address="::1", root="/srv/build-kit+@1"), id="rootless daemon"
        ),
    ],
)
def test_systemd_finds_no_fault_with_the_units(tmp_path, units):
    for name, text in units.items():
        # The programs are a real host's. Everything else is as it is written there.
        text = re.sub(r"(?m)^(ExecStart=)\S+", rf"\g<1>{shutil.which('true')}", text)
        (tmp_path / name).write_text(text)
    (tmp_path / "docker.service").write_text(f"[Service]\nExecStart={shutil.which('true')}\n")
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *(str(tmp_path / name) for name in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:", "SYSTEMD_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in ran.stdout.splitlines() if any(name in line for name in units)]
    assert (ran.returncode, said) == (0, [])

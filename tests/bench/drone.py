# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Measure drone_repo_trust against the stand-in at a real server's pace: ratios of one run, on one machine.

    python tests/bench/drone.py [--fleet 1000] [--rounds 5]

- Converged: the whole play against a play of one `ping`, interleaved, the best of each.
- Changes: the module against the same changes sent one after the other over one connection, by a client that does nothing
  else. (The play around it costs what a ping costs.)
- Ten times as many repositories: memory, and whether time grows in proportion.
It leaves with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.results import Results

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
BIN = Path(sys.executable).parent
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - {task}
"""


@contextmanager
def server(fleet, pace):
    """Run the stand-in in a process of its own, as a real server runs elsewhere; yield its URL."""
    command = [
        sys.executable,
        "-m",
        "tests.standins.drone",
        "--fleet",
        str(fleet),
        "--pace",
        pace,
        "--token",
        f"octocat={TOKEN}",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()


def run(command, environment):
    """Return the seconds and the megabytes that a command takes, with all that it starts."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output[-3000:]}")
    return seconds, usage.ru_maxrss / 1024


def play(directory, name, task, url):
    """Run a play of one task; return its seconds."""
    file = Path(directory, f"{name}.yml")
    file.write_text(PLAY.format(task=json.dumps(task)))
    environment = {
        **os.environ,
        "DRONE_SERVER": url,
        "DRONE_TOKEN": TOKEN,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
    }
    return run([BIN / "ansible-playbook", file], environment)[0]


def module(url, arguments):
    """Run drone_repo_trust alone, as Ansible runs it; return its seconds and megabytes."""
    code = (
        "import json, sys; from ansible.module_utils import basic; basic._ANSIBLE_PROFILE = 'legacy'\n"
        "basic._ANSIBLE_ARGS = sys.argv[1].encode()\n"
        "from ansible_collections.multiarch.drone.plugins.modules import drone_repo_trust; drone_repo_trust.main()"
    )
    arguments = {"drone_url": url, "drone_token": TOKEN, **arguments}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "build/collections")}
    return run([sys.executable, "-c", code, json.dumps({"ANSIBLE_MODULE_ARGS": arguments})], environment)


def one_after_the_other(url, count):
    """Return the seconds that a server takes for so many changes over one connection, from a client that does nothing else."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    started = time.perf_counter()
    for number in range(1, count + 1):
        connection.request("PATCH", f"/api/repos/fleet/repo-{number:04}", b'{"trusted": false}', headers)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"PATCH answered {response.status}")
    return time.perf_counter() - started


def trust(**options):
    return {"multiarch.drone.drone_repo_trust": {"repos": ["fleet/*"], **options}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleet", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results, fleet = Results("drone"), options.fleet

    with tempfile.TemporaryDirectory() as directory, server(fleet, "real") as url:
        play(directory, "trust", trust(), url)
        pings, converged = [], []
        for _round in range(options.rounds):
            pings.append(play(directory, "ping", {"ansible.builtin.ping": {}}, url))
            converged.append(play(directory, "trust", trust(), url))
        serial = one_after_the_other(url, fleet)
        module_alone = module(url, {"repos": ["fleet/*"]})[0]
    print(
        f"{fleet} repositories at a real server's pace: ping {min(pings):.2f} s, converged {min(converged):.2f} s, ",
        end="",
    )
    print(f"changes {module_alone:.2f} s, one after the other {serial:.2f} s")
    ratio = min(converged) / min(pings)
    results.told("converged: the whole play, to a play of one ping", ratio, 1.3)
    rate = serial / module_alone
    results.told("changes: the module's rate, to one after the other", rate, 0.9, least=True)

    rounds, megabytes = [], 0.0
    for _round in range(3):  # one alone may be over by the machine's mood
        times = {}
        for count in (fleet, 10 * fleet):
            with server(count, "quick") as url:
                for state in ("changes", "converged"):
                    times[count, state], more = module(url, {"repos": ["fleet/*"]})
                    megabytes = max(megabytes, more)
                times[count, "exclusive"], more = module(url, {"repos": ["octocat/*"], "exclusive": True})
                megabytes = max(megabytes, more)
        rounds.append(times)
    results.told(f"{10 * fleet} repositories: the module's memory", megabytes, 200, "MB")
    for state in ("changes", "converged", "exclusive"):
        ratios = [times[10 * fleet, state] / times[fleet, state] for times in rounds]
        results.told(f"{10 * fleet} to {fleet} repositories: {state}", statistics.median(ratios), 11)
    sys.exit(results.end())


if __name__ == "__main__":
    main()

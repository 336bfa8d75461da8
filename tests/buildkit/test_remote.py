# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The remote driver against real daemons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.declare import declare
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


def node(daemon, **more):
    return [{"endpoint": daemon.address, **more}]


def test_a_builder_is_created_as_predicted_and_then_stays_as_it_is(user, daemon):
    wish = {"nodes": node(daemon, platforms=["amd64"]), "default": True}
    predicted = user.declare(check=True, **wish)
    assert user.instance() is None
    done = user.declare(**wish)
    assert {key: done[key] for key in ("changed", "steps", "diff")} == {
        key: predicted[key] for key in ("changed", "steps", "diff")
    }
    assert done["changed"]
    assert user.declare(**wish)["changed"] is False
    assert user.declare(check=True, **wish)["changed"] is False
    assert "ci*" in user.docker("buildx", "ls").stdout
    user.build()


def test_info_and_result_tell_the_same(user, daemon):
    result = user.declare(nodes=node(daemon, platforms=["amd64"]))
    [builder] = user.info()["builders"]
    told = builder["nodes"][0]
    assert told["status"] == "running"
    assert told["buildkit_version"].startswith("v0.")
    assert told["platforms_declared"] == ["linux/amd64"]
    assert "linux/amd64" in told["platforms_native"]
    assert told["cache_bytes"] is not None
    assert told["problems"] == []
    told.update(dict.fromkeys(["cache_bytes", "platforms_native", "platforms_emulated"]))
    assert builder == result["builder"]


def test_a_dead_endpoint_is_refused_with_its_reason_and_leaves_nothing(user, tmp_path):
    with pytest.raises(Problem, match=r"node ci0 does not answer at tcp://127.0.0.1:1: Connection refused"):
        user.declare(nodes=[{"endpoint": "tcp://127.0.0.1:1"}])
    assert user.instance() is None
    assert not os.listdir(user.state / "instances") if (user.state / "instances").exists() else True


def test_a_change_to_a_dead_endpoint_leaves_the_old_builder_as_it_was(user, daemon, tmp_path):
    user.declare(nodes=node(daemon, platforms=["amd64"]), default=True)
    before = user.instance()
    with pytest.raises(Problem, match="nothing was changed"):
        user.declare(nodes=[{"endpoint": f"unix://{tmp_path}/nobody.sock"}], default=False)
    assert user.instance() == before
    user.build()


def test_without_bootstrap_a_dead_endpoint_is_declared(user):
    assert user.declare(nodes=[{"endpoint": "tcp://127.0.0.1:1"}], bootstrap=False)["changed"]
    assert not user.declare(nodes=[{"endpoint": "tcp://127.0.0.1:1"}], bootstrap=False)["changed"]
    [builder] = user.info()["builders"]
    assert builder["nodes"][0]["problems"] == ["it is inactive: nothing answers at tcp://127.0.0.1:1"]


def test_a_daemon_that_died_after_the_declaration_is_an_error_not_a_change(user, another_daemon):
    daemon = another_daemon()
    user.declare(nodes=node(daemon))
    daemon.stop()
    for check in (True, False):
        with pytest.raises(Problem, match="node ci0 does not answer"):
            user.declare(check=check, nodes=node(daemon))
    daemon.start()
    assert not user.declare(nodes=node(daemon))["changed"]


def test_a_daemon_that_somebody_replaced_is_told_by_its_version_and_is_no_change(
    user, programs, another_daemon, tmp_path
):
    daemon = another_daemon()
    first = user.declare(nodes=node(daemon))["builder"]["nodes"][0]["buildkit_version"]
    daemon.stop()
    newer = f"v9{first[2:]}"
    (tmp_path / "newer").mkdir()
    program = tmp_path / "newer/buildkitd"
    program.write_bytes((programs / "buildkitd").read_bytes().replace(first.encode(), newer.encode()))
    program.chmod(0o755)
    another_daemon(daemon.address, of=program.parent)
    for check in (True, False):
        again = user.declare(check=check, nodes=node(daemon))
        # Which BuildKit runs there is not this module's to declare: roles/buildkitd says so on its own host.
        assert (again["changed"], again["drift"]) == (False, [])
        assert again["builder"]["nodes"][0]["buildkit_version"] == newer
    user.build()


def test_a_platform_that_the_daemon_cannot_execute_is_refused(user, daemon):
    with pytest.raises(
        Problem, match=r"node ci0 declares linux/arm64/v9, and its BuildKit executes only .*; register QEMU"
    ):
        user.declare(nodes=node(daemon, platforms=["amd64", "arm64/v9"]))
    assert user.instance() is None


def test_several_nodes_make_one_builder_and_can_change(user, daemon, another_daemon):
    other = another_daemon()
    wish = [
        {"endpoint": daemon.address, "platforms": ["amd64"]},
        {"endpoint": other.address, "platforms": ["386"], "name": "small"},
    ]
    assert user.declare(nodes=wish)["changed"]
    again = user.declare(nodes=wish)
    assert not again["changed"]
    assert [told["name"] for told in again["builder"]["nodes"]] == ["ci0", "small"]
    swapped = user.declare(nodes=wish[:1])
    assert swapped["steps"][-1] == "change the builder ci (nodes)"
    assert not user.declare(nodes=wish[:1])["changed"]
    user.build()


def test_another_driver_under_the_name_is_an_error_unless_it_is_replaced(user, daemon):
    user.declare(driver="docker-container", bootstrap=False)
    with pytest.raises(Problem, match="exists with the driver docker-container, not remote"):
        user.declare(nodes=node(daemon))
    assert user.declare(nodes=node(daemon), recreate="always")["builder"]["driver"] == "remote"


def test_a_corrupt_instance_file_is_an_error_and_stays(user, daemon):
    user.declare(nodes=node(daemon))
    (user.state / "instances/ci").write_text("{")
    with pytest.raises(Problem, match="not a builder that buildx can read"):
        user.declare(nodes=node(daemon))
    assert user.instance() == b"{"
    told = user.info()
    assert told["builders"] == []
    assert "ci: " in told["problems"][0]


def test_mutual_tls(user, another_daemon, tmp_path):
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bk.test"]
    extension = ["-addext", "subjectAltName=DNS:bk.test"]
    files = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    subprocess.run([*openssl, *extension, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    with_tls = ["--tlscert", files[1], "--tlskey", files[0], "--tlscacert", files[1]]
    daemon = another_daemon("tcp://127.0.0.1:21234", *with_tls)
    opts = {"cacert": files[1], "cert": files[1], "key": files[0], "servername": "bk.test"}
    assert user.declare(nodes=node(daemon, driver_opts=opts))["changed"]
    assert not user.declare(nodes=node(daemon, driver_opts=opts))["changed"]
    user.build()
    before = user.instance()
    with pytest.raises(Problem, match="does not answer"):
        user.declare(nodes=node(daemon))  # without TLS
    assert user.instance() == before


def test_absent_forgets_the_builder_and_the_default(user, daemon):
    user.declare(nodes=node(daemon), default=True)
    user.declare("other", nodes=node(daemon))
    predicted = user.declare(state="absent", check=True)
    done = user.declare(state="absent")
    assert (done["steps"], done["changed"]) == (predicted["steps"], True) == (["remove the builder ci"], True)
    assert user.instance() is None
    assert user.instance("other") is not None
    assert user.docker("buildx", "inspect").stdout.splitlines()[0].split() == ["Name:", "default"]
    assert not user.declare(state="absent")["changed"]


def test_exclusive_removes_the_users_other_builders(user, daemon):
    user.declare("old", nodes=node(daemon), default=True)
    wish = {"nodes": node(daemon), "exclusive": ["ci", "kept"], "default": True}
    user.declare("kept", nodes=node(daemon))
    predicted = user.declare(check=True, **wish)
    done = user.declare(**wish)
    assert (done["steps"], done["diff"]) == (predicted["steps"], predicted["diff"])
    assert sorted(os.listdir(user.state / "instances")) == ["ci", "kept"]
    assert not user.declare(**wish)["changed"]
    assert "ci*" in user.docker("buildx", "ls").stdout


def play(user, daemon, endpoint=None):
    """Start a play of its own that declares the builder."""
    wish = {**user.defaults, "name": "ci", "nodes": [{"endpoint": endpoint or daemon.address}]}
    code = f"""
import sys
sys.path[:0] = {[str(path) for path in sys.path if path]!r}
from {declare.__module__} import declare
print(declare({wish!r}, check_mode=False)["changed"])
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_plays_at_a_time_end_in_one_builder(user, daemon):
    plays = [play(user, daemon) for _index in range(3)]
    outcomes = [running.communicate() for running in plays]
    assert sorted(out.strip() for out, err in outcomes) == ["False", "False", "True"], outcomes
    user.build()


def test_a_play_that_is_killed_at_any_moment_leaves_a_builder_that_builds(user, daemon, another_daemon):
    other = another_daemon()
    user.declare(nodes=node(daemon), default=True)
    for delay in (0.05, 0.15, 0.25, 0.35, 0.45):
        running = play(user, daemon, endpoint=other.address)
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        user.build()
        user.declare(nodes=node(daemon), default=True)
    assert not user.declare(nodes=node(daemon), default=True)["changed"]


def test_builds_go_on_while_a_play_waits_for_a_node(user, daemon, tmp_path):
    user.declare(nodes=node(daemon))

    def wait():
        with pytest.raises(Problem, match="does not answer"):
            user.declare("slow", nodes=[{"endpoint": f"unix://{tmp_path}/x"}])

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(1)
    started = time.monotonic()
    user.build()
    assert time.monotonic() - started < 4
    assert waiting.is_alive(), "the play did not wait as long as this test needs"
    waiting.join()

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Strategy remote, run as Drone runs it: a real `docker buildx` in an unprivileged container of an untrusted repository, a real
BuildKit behind mutual TLS, a real registry behind a login."""

from __future__ import annotations

import glob
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline.strategies import AUTO_TAG


def name_of(build):
    return build["repo"].partition("/")[2]


def test_an_image_of_every_platform_is_pushed_under_every_tag_by_an_ordinary_step(runner, build, registry):
    more = {
        "tags": ["1.0", "b"],
        "build_args": {"WHO": {"from_secret": "user"}},
        "labels": {"org.example": 'it\'s "$HOME"'},
    }
    shown = json.loads(runner.step({**build, **more}, "--show").stdout)
    assert shown["privileged"] is False
    done = runner.step({**build, **more})
    assert done.returncode == 0, done.stdout + done.stderr
    assert registry.tags(name_of(build)) == ["1.0", "b"]
    assert registry.platforms(f"{name_of(build)}:b") == ["linux/amd64", "linux/arm64"]
    assert registry.labels(f"{name_of(build)}:1.0") == {"who": "robot", "org.example": 'it\'s "$HOME"'}


@pytest.mark.parametrize(
    ("build_facts", "suffix", "tags"),
    [
        ({}, "", ["latest"]),
        ({"event": "tag", "ref": "refs/tags/v1.2.3"}, "", ["1", "1.2", "1.2.3"]),
        ({"event": "tag", "ref": "refs/tags/v1.2.3-rc1"}, "alpine", ["1.2.3-rc1-alpine"]),
        ({}, "alpine", ["alpine"]),
    ],
)
def test_auto_tag_pushes_under_the_tags_that_the_plugin_would_have_made(
    runner, build, registry, build_facts, suffix, tags
):
    more = {"auto_tag": True, **({"auto_tag_suffix": suffix} if suffix else {})}
    done = runner.step({**build, **more}, **build_facts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert registry.tags(name_of(build)) == tags


def test_busyboxs_shell_makes_of_every_reference_the_tags_that_the_plugin_makes(cli_image, lab):
    plugin = lab("plugin")
    versions = ["0.9.0", "1.0.0", "v1.2.3", "v10.20.30", "v1.0.0-alpha.1", "v18.06.0-rc1", "v00.1.2", "v001.1.2"]
    versions += ["x1.0.0", "20190203", "1.2", "1.2.3.4", "v", "a.b.c", "1.2.3-a..b", "1.2.3;id", "v010.08.009-rc.1"]
    refs = ["refs/heads/main", *(f"refs/tags/{version}" for version in versions)]
    script = "".join(
        f"( DRONE_COMMIT_REF='{ref}'\n{AUTO_TAG}\necho $tags\n) 2>/dev/null || echo refused\n" for ref in refs
    )
    done = subprocess.run(
        ["docker", "run", "--rm", "-i", "--env=DRONE_REPO_BRANCH=main", cli_image, "sh", "-e"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )

    def expected(ref):
        try:
            return " ".join(plugin.auto_tags(ref, ""))
        except plugin.Failed:
            return "refused"

    assert done.stdout.splitlines() == list(map(expected, refs))


def test_off_the_default_branch_auto_tag_builds_nothing(runner, build):
    done = runner.step({**build, "auto_tag": True}, branch="feature")
    assert done.returncode == 0
    assert "so nothing is built" in done.stdout
    assert "docker buildx" not in done.stdout.split("so nothing is built")[1]


def test_the_cache_outlives_the_build(runner, build):
    assert "CACHED" not in runner.step(build).stdout
    again = runner.step({**build, "tags": ["again"]})
    assert again.returncode == 0
    assert "CACHED" in again.stdout


def test_a_pull_request_runs_nothing(runner, build):
    done = runner.step(build, event="pull_request", ref="refs/pull/1/head")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "# step docker is skipped: its conditions are not met\n"


@pytest.mark.parametrize(
    ("secret", "value", "says"),
    [
        ("buildkit_key", "", "BUILDKIT_KEY is empty: does its secret exist"),
        ("pass", "", "REGISTRY_PASSWORD is empty: does its secret exist"),
        ("pass", "wrong", "401 Unauthorized"),
    ],
)
def test_a_secret_that_is_missing_or_wrong_fails_with_its_reason(runner, build, secret, value, says):
    done = runner.step(build, secrets={secret: value})
    assert done.returncode, done.stdout
    assert says in done.stdout
    assert "building with" not in done.stdout


def test_a_daemon_that_is_not_there_or_takes_no_such_certificate_says_why_and_builds_nothing(
    runner, build, certificates
):
    def secrets(**files):
        return {f"buildkit_{name}": (certificates / file).read_text() for name, file in files.items()}

    cases = [
        (
            {},
            secrets(cert="stranger.pem", key="stranger.key"),
            "tls: certificate required|broken pipe|reset by peer",
        ),  # whichever TLS 1.3 lets it see first
        ({}, secrets(ca="other-ca.pem"), "certificate signed by unknown authority"),
        ({}, secrets(key="stranger.key"), "private key does not match public key"),
        ({"builders": [{"endpoint": "tcp://127.0.0.1:9"}]}, {}, "connection refused"),
    ]
    # Each waits 20 seconds, as buildx does for a daemon that may be starting.
    with ThreadPoolExecutor(len(cases)) as pool:
        ran = list(pool.map(lambda case: runner.step({**build, **case[0]}, secrets=case[1]), cases))
    for done, (_more, _secrets, says) in zip(ran, cases):
        assert done.returncode, done.stdout
        assert re.search(says, done.stdout), done.stdout
        assert "no answer from tcp://" in done.stdout
        assert "building with" not in done.stdout


def test_a_build_that_fails_fails_the_step(runner, build):
    (runner.workspace / "Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    done = runner.step(build)
    assert done.returncode
    assert "/nothing" in done.stdout


def test_no_secret_is_an_argument_of_any_process_or_in_the_log(runner, build):
    seen, ended = set(), threading.Event()

    def watch():
        while not ended.wait(0.005):
            for path in glob.glob("/proc/[0-9]*/cmdline"):
                try:
                    with open(path, "rb") as stream:
                        seen.add(stream.read())
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    done = runner.step(
        {**build, "tags": ["x"], "build_args": {"WHO": {"from_secret": "who"}}}, secrets={"who": "whoever-xyzzy"}
    )
    ended.set()
    thread.join()
    assert done.returncode == 0, done.stdout
    arguments = b"\n".join(seen)
    assert b"imagetools" in arguments or b"buildx" in arguments  # the step's processes were seen
    key = runner.secrets["buildkit_key"].splitlines()[1]
    for secret in (runner.secrets["pass"], "whoever-xyzzy", key):
        assert secret.encode() not in arguments
    # Masked like the runner does, so what is masked was in the log.
    assert "******" not in done.stdout.replace("who=******", "")


def test_several_daemons_are_one_builder_and_each_builds_its_platform(runner, build, registry, start_daemon):
    one, two = start_daemon(), start_daemon("named")
    builders = [
        {"endpoint": one.endpoint, "platforms": ["linux/amd64"]},
        {"endpoint": two.endpoint, "platforms": ["linux/arm64"], "servername": "builder.test"},
    ]
    done = runner.step({**build, "builders": builders})
    assert done.returncode == 0, done.stdout
    assert registry.platforms(f"{name_of(build)}:latest") == ["linux/amd64", "linux/arm64"]
    assert one.has_cache()
    assert two.has_cache()


def test_what_a_branch_is_named_is_never_read_as_code(runner, build, registry):
    more = {"build_args": {"WHO": "${DRONE_BRANCH}"}, "labels": {"back": "a\\1b\\nc"}}
    done = runner.step({**build, **more}, branch="$(touch /drone/src/pwned)`id`'")
    assert done.returncode == 0, done.stdout
    assert not (runner.workspace / "pwned").exists()
    assert registry.labels(f"{name_of(build)}:latest") == {"who": "$(touch /drone/src/pwned)`id`'", "back": "a\\1b\\nc"}

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

CLIENT = "/etc/buildkit-client/payments"


@pytest.fixture
def buildctl(host):
    programs = host.run(
        "sed -n 's/^ExecStart=\\(.*\\)\\/buildkitd .*/\\1/p' /etc/systemd/system/buildkitd@payments.service"
    )
    return f"{programs.stdout.strip()}/buildctl --timeout 3"


@pytest.fixture
def builds_here(host):
    if not host.file(CLIENT).exists:
        pytest.skip("no builder is declared on this host")


def over_the_network(host, buildctl, server, port, *flags):
    return host.run(f"{buildctl} --addr tcp://{server}:{port} --tlsservername {server} {' '.join(flags)} debug workers")


def handshake(host, port, ca, *client):
    """Return what a daemon's TLS says to a client; it only listens, since who writes may meet a connection that is closed."""
    client = client and f"context.load_cert_chain{client}"
    program = f"""
import socket, ssl
context = ssl.create_default_context(cafile={ca!r})
{client or ""}
try:
    print(context.wrap_socket(socket.create_connection(("localhost", {port})), server_hostname="localhost").recv(1))
except ssl.SSLError as error:
    print(error)
"""
    return host.run("python3 -c %s", program).stdout


@pytest.mark.parametrize("name", ["payments", "website"])
def test_a_daemon_runs_and_starts_at_boot(host, name):
    service = host.service(f"buildkitd@{name}")
    assert service.is_running
    assert service.is_enabled


def test_a_client_of_the_builder_may_use_every_daemon_of_its_domain(host, buildctl, builds_here):
    tls = [f"--tlscacert {CLIENT}/ca.pem", f"--tlscert {CLIENT}/cert.pem", f"--tlskey {CLIENT}/key.pem"]
    for server in ("molecule-buildkitd-1", "molecule-buildkitd-2"):
        assert "linux/amd64" in over_the_network(host, buildctl, server, 1234, *tls).stdout


def test_a_client_without_a_certificate_is_refused(host):
    for name, port in (("payments", 1234), ("website", 1235)):
        assert "CERTIFICATE_REQUIRED" in handshake(host, port, f"/etc/buildkit/{name}/ca.pem")


def test_a_client_of_another_domain_is_refused(host, builds_here):
    said = handshake(host, 1235, "/etc/buildkit/website/ca.pem", f"{CLIENT}/cert.pem", f"{CLIENT}/key.pem")
    assert "UNKNOWN_CA" in said


def test_private_keys_are_readable_by_their_owners_alone(host, builds_here):
    for path in ("/etc/buildkit/payments/key.pem", "/etc/buildkit/website/key.pem", f"{CLIENT}/key.pem"):
        assert (host.file(path).user, host.file(path).mode) == ("root", 0o600)


def test_no_authority_s_key_is_on_a_host(host):
    assert host.run("find / -xdev -name 'ca-key.pem'").stdout == ""


def test_certificates_from_elsewhere_are_served_as_they_are(host):
    if not host.file("/etc/buildkit/strangers").exists:
        pytest.skip("no such daemon on this host")
    given = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "given.pem").read_text()
    assert host.file("/etc/buildkit/website/cert.pem").content_string == given


def test_the_socket_is_for_its_group(host):
    for name, group in (("payments", "root"), ("website", "website")):
        socket = host.file(f"/run/buildkit/{name}/buildkitd.sock")
        assert (socket.user, socket.group, socket.mode & 0o007) == ("root", group, 0)


def test_no_build_may_ask_for_insecure_entitlements(host, builds_here):
    said = host.run(
        "docker buildx build --builder fleet --allow security.insecure --platform linux/amd64 --output type=cacheonly /root/context"
    )
    assert said.failed
    assert "security.insecure is not allowed" in said.stderr


def test_the_cache_has_a_cap(host, buildctl):
    workers = host.run(
        f"{buildctl} --addr unix:///run/buildkit/payments/buildkitd.sock debug workers --format '{{{{json .}}}}'"
    )
    assert {policy["maxUsedSpace"] for policy in json.loads(workers.stdout)[0]["gcPolicy"]} & {
        2_000_000_000,
        2_147_483_648,
    }


def test_two_daemons_share_no_cache(host, buildctl):
    sizes = {}
    for name in ("payments", "website"):
        usage = host.run(f"{buildctl} --addr unix:///run/buildkit/{name}/buildkitd.sock du").stdout
        sizes[name] = re.findall(r"Total:\s+(\S+)", usage)
    assert sizes["payments"] != ["0B"]
    assert sizes["website"] == ["0B"]


def test_a_stranger_s_daemon_runs_as_a_user_that_can_do_nothing_else(host):
    if not host.file("/etc/buildkit/strangers").exists:
        pytest.skip("no such daemon on this host")
    owners = host.run("ps -eo user:32,args | grep [/]buildkitd.*strangers").stdout.splitlines()
    assert {line.split()[0] for line in owners} == {"buildkit-strangers"}
    assert host.file("/etc/buildkit/strangers/key.pem").user == "buildkit-strangers"
    assert "CERTIFICATE_REQUIRED" in handshake(host, 1236, "/etc/buildkit/strangers/ca.pem")


def test_a_rootless_daemon_executes_build_steps(host, buildctl):
    if not host.file("/etc/buildkit/strangers").exists:
        pytest.skip("no such daemon on this host")
    said = host.run(
        f"{buildctl} --addr unix:///run/buildkit/strangers/buildkitd.sock build --frontend dockerfile.v0 --no-cache "
        "--local context=/root/context --local dockerfile=/root/context --opt platform=linux/amd64 --progress plain"
    )
    assert said.succeeded, said.stderr
    assert 'RUN ["/bin/busybox"' in said.stderr


def test_the_image_is_for_both_platforms(host, builds_here):
    accept = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
    said = host.run(
        "python3 -c 'import sys, urllib.request as u; "
        'print(u.urlopen(u.Request(sys.argv[1], headers={"Accept": sys.argv[2]})).read().decode())\' '
        f"http://registry:5000/v2/sample/manifests/1 '{accept}'"
    )
    platforms = {
        "/".join([m["platform"]["os"], m["platform"]["architecture"]]) for m in json.loads(said.stdout)["manifests"]
    }
    assert platforms == {"linux/amd64", "linux/arm64"}


def test_an_upgrade_keeps_the_cache(host, builds_here):
    log = host.file("/root/second.log").content_string
    lines = [line for line in log.splitlines() if line.endswith("CACHED")]
    steps = [line for line in log.splitlines() if "RUN [" in line]
    assert len(steps) == 2
    assert {line.split()[0] for line in steps} <= {line.split()[0] for line in lines}
    digests = [
        json.loads(host.file(f"/root/{run}.json").content_string)["containerimage.digest"]
        for run in ("first", "second")
    ]
    assert digests[0] == digests[1]

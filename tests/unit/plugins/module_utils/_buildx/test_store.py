# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.drivers import NAMES, driver_of
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.options import size
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Node, Store
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.wish import (
    aspects,
    implied_flags,
    in_container,
    stored_aspects,
    wish_of,
)
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

DEFAULTS = {"driver": "docker-container", "nodes": [], "buildkitd_config": None}


@pytest.fixture
def store(tmp_path):
    return Store({"BUILDX_CONFIG": str(tmp_path / "buildx"), "DOCKER_CONFIG": str(tmp_path / "docker")})


def put(store, name, **builder):
    """Write an instance file as buildx does."""
    node = {"Name": f"{name}0", "Endpoint": "unix:///var/run/docker.sock", "Platforms": None, "DriverOpts": None}
    node |= {"Flags": ["--allow-insecure-entitlement=network.host"], "Files": None}
    raw = {"Name": name, "Driver": "docker-container", "Nodes": [node], "Dynamic": False, **builder}
    with store.transaction() as txn:
        txn.write(f"instances/{name}", json.dumps(raw).encode())


def wish(store, **params):
    return wish_of({"name": "ci", **DEFAULTS, **params}, store)


def test_a_stored_builder_is_read_with_its_platforms_normalised(store):
    node = {
        "Name": "arm",
        "Endpoint": "tcp://arm:1234",
        "Platforms": [
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
            {"architecture": "wasm", "os": "wasi"},
        ],
        "Files": {"buildkitd.toml": base64.b64encode(b"debug = true\n").decode()},
    }
    put(store, "ci", Driver="remote", Nodes=[node])
    builder = store.builder("ci")
    assert builder.driver == "remote"
    assert builder.nodes[0].platforms == ("linux/arm64", "wasi/wasm")
    assert builder.nodes[0].config() == {"debug": True}
    assert store.builder("nobody") is None


@pytest.mark.parametrize("name", ["a/b", "../x", "", "-x", "Ci", "x y", ".lock", "a\n", "a" * 200, "0a"])
def test_a_name_that_is_no_file_of_buildxs_is_refused(store, name):
    with pytest.raises(Problem, match="is not a valid name for a builder"):
        store.builder(name)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"Name": "ci"}', b'{"Name":"ci","Driver":"remote","Nodes":[{"Name":"../x"}]}', b"\xff\xfe"],
)
def test_a_corrupt_instance_file_is_an_error_that_names_it(store, content):
    with store.transaction() as txn:
        txn.write("instances/ci", content)
    with pytest.raises(
        Problem, match=r"instances/ci is not a builder that buildx can read|is not a valid name for a node"
    ):
        store.builder("ci")


def test_a_symbolic_link_is_not_followed(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"Name":"ci","Driver":"remote","Nodes":[]}')
    os.makedirs(f"{store.dir}/instances")
    os.symlink(secret, store.path("ci"))
    with pytest.raises(Problem, match="is a symbolic link"):
        store.builder("ci")
    os.symlink(secret, f"{store.dir}/.lock")
    with pytest.raises(Problem, match=r"\.lock"), store.transaction():
        pass


def test_a_named_pipe_does_not_hang_the_task(store):
    os.makedirs(f"{store.dir}/instances")
    os.mkfifo(store.path("ci"))
    with pytest.raises(Problem):
        store.builder("ci")


def test_writing_leaves_nothing_beside_that_buildx_took_for_a_builder(store):
    put(store, "ci")
    assert os.listdir(f"{store.dir}/instances") == ["ci"]
    assert os.stat(store.path("ci")).st_mode & 0o777 == 0o600
    assert os.stat(store.dir).st_mode & 0o777 == 0o700


def test_buildxs_lock_is_waited_for(store):
    put(store, "ci")
    order = []
    with open(f"{store.dir}/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def wait():
            with store.transaction():
                order.append("ours")

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        order.append("buildx's")
        fcntl.flock(file, fcntl.LOCK_UN)
        waiting.join()
    assert order == ["buildx's", "ours"]


def test_the_default_builder_is_found_as_buildx_finds_it(store):
    assert store.current() == ""
    put(store, "ci")
    put(store, "other")
    with store.transaction() as txn:
        txn.set_default("ci")
    assert store.current() == "ci"
    assert json.loads(store.read("current")) == {"Key": "unix:///var/run/docker.sock", "Name": "ci", "Global": False}
    with store.transaction() as txn:
        txn.write("current", b'{"Key":"another-context","Name":"other","Global":false}')
    assert store.current() == "ci", "defaults/ remembers it for this context"
    with store.transaction() as txn:
        txn.write("current", b'{"Key":"another-context","Name":"other","Global":true}')
    assert store.current() == "other"
    with store.transaction() as txn:
        txn.write("instances/other", None)
    assert store.current() == "ci"
    with store.transaction() as txn:
        txn.set_default("")
    assert store.current() == ""
    for garbage in (b"garbage", b"[]", b'"ci"', b'{"Name": 5}'):
        with store.transaction() as txn:
            txn.write("current", garbage)
        assert store.current() == ""


def test_nodes_get_the_names_that_buildx_gives(store):
    nodes = [{"endpoint": "tcp://a:1", "platforms": ["amd64"]}, {"endpoint": "tcp://b:1", "platforms": ["arm64,armhf"]}]
    builder = wish(store, driver="remote", nodes=nodes).builder
    assert [(node.name, node.platforms) for node in builder.nodes] == [
        ("ci0", ("linux/amd64",)),
        ("ci1", ("linux/arm64", "linux/arm/v7")),
    ]


def test_without_nodes_there_is_one_on_the_users_daemon(store):
    assert [node.endpoint for node in wish(store).builder.nodes] == ["unix:///var/run/docker.sock"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "a/b"}, r"'a/b' is not a valid name for a builder; a letter"),
        ({"name": "default"}, "is the name of a Docker context"),
        ({"nodes": [{"driver_opts": {"imgae": "x"}}]}, r"node ci0: 'imgae' is not an option of the docker-container driver; did you mean image\?"),
        ({"nodes": [{"driver_opts": {"memory": "lots"}}]}, "driver option memory: 'lots' is not a valid size"),
        ({"nodes": [{"driver_opts": {"env.": "x"}}]}, r"write env\.NAME"),
        ({"nodes": [{"driver_opts": {"restart-policy": "sometimes"}}]}, "not one of no, always"),
        ({"nodes": [{"endpoint": "nowhere"}]}, "there is no Docker context 'nowhere'"),
        ({"nodes": [{"endpoint": "a b"}]}, "neither a Docker context nor"),
        ({"nodes": [{"platforms": ["linux/arm9"]}]}, "did you mean"),
        ({"driver": "remote"}, "a remote node needs an endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "http://x"}]}, "is not a BuildKit endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x"}]}, "has no port"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x/y:1"}]}, r"is not a valid tcp endpoint; write it as tcp://HOST:1234"),
        ({"driver": "remote", "nodes": [{"endpoint": "unix://buildkitd.sock"}]}, "is not a valid unix endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "ssh://me:s3cret@x"}]}, "node ci0: an ssh endpoint with a password; BuildKit takes none"),
        ({"driver": "remote", "nodes": [{"endpoint": "ssh://me@-oProxyCommand=x"}]}, "is not a valid ssh endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "ssh://x?socket=y"}]}, "is not a valid ssh endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "docker-container://a/b"}]}, "is not a valid docker-container endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "kube-pod://A B"}]}, "is not a valid kube-pod endpoint"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1"}], "buildkitd_config": {"debug": True}}, "which starts no BuildKit"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "flags": ["--debug"]}]}, "flags with the remote driver"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "driver_opts": {"cacert": "ca.pem"}}]}, "not an absolute path"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "driver_opts": {"key": "/k"}}]}, "key without cert"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "driver_opts": {"cert": "/c", "key": "/k"}}]}, "TLS without"),
        ({"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "driver_opts": {"cacert": "/nowhere/ca.pem"}}]}, "is not there"),
        (
            {"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "platforms": ["amd64"]}, {"endpoint": "tcp://x:1", "platforms": ["arm"]}]},
            "two nodes have the endpoint tcp://x:1",
        ),
        (
            {"driver": "remote", "nodes": [{"endpoint": "tcp://x:1", "platforms": ["amd64"]}, {"endpoint": "tcp://y:1"}]},
            "node ci1 of several declares no platforms",
        ),
        (
            {
                "driver": "remote",
                "nodes": [{"endpoint": "tcp://x:1", "platforms": ["amd64"]}, {"endpoint": "tcp://y:1", "platforms": ["x86_64"]}],
            },
            "linux/amd64 is declared on the nodes ci0 and ci1",
        ),
        ({"driver": "kubernetes", "nodes": [{"endpoint": "x"}]}, "takes no endpoint"),
        ({"driver": "kubernetes", "nodes": [{"driver_opts": {"replicas": "many"}}]}, "is not a number of pods"),
        ({"driver": "kubernetes", "nodes": [{"driver_opts": {"loadbalance": "fair"}}]}, "neither sticky nor random"),
        ({"buildkitd_config": {"registry": {"r:5000": {"ca": ["/nowhere/ca.pem"]}}}}, r"registry r:5000: /nowhere/ca\.pem: No such file"),
        ({"driver": "kubernetes", "nodes": [{"driver_opts": {"tolerations": "key=ci,efect=NoSchedule"}}]}, "'efect=NoSchedule' is not one of key,"),
        ({"driver": "kubernetes", "nodes": [{"driver_opts": {"limit.cpu": "1"}}]}, r"did you mean limits\.cpu\?"),
        ({"nodes": [{"driver_opts": {"env.A": ["x"]}}]}, "driver option env.A is not a text"),
        ({"nodes": [{"flags": ["--oci-worker-labels 'a"]}]}, "node ci0: flags: No closing quotation; quote them"),
        ({"buildkitd_config": {"registry": ["r"]}}, "not a dictionary of dictionaries"),
        ({"buildkitd_config": {"registry": {"r": {"ca": "/etc/ca.pem"}}}}, r"registry r: ca is not a list of its kind; write ca: \[PATH\]"),
        ({"buildkitd_config": {"registry": {"r": {"keypair": ["x"]}}}}, "keypair is not a list of its kind"),
        ({"buildkitd_config": {"registry": {"r": {"keypair": [{"key": "/k"}]}}}}, "a keypair is a key and a cert"),
        ({"buildkitd_config": {"registry": {"r": {"ca": ["/dev/null"]}}}}, "it is not a regular file"),
        ({"buildkitd_config": {"worker": ["oci"]}}, "worker is not a dictionary of dictionaries"),
        ({"buildkitd_config": {"worker": {"oci": {"gcpolicy": "all"}}}}, "worker oci: gcpolicy is not a list of its kind"),
    ],
)  # fmt: skip
def test_careless_input_fails_before_anything_runs(store, params, message):
    with pytest.raises(Problem, match=message):
        wish(store, **params)


def test_a_node_of_another_builder_is_refused_since_its_container_has_that_name(store):
    put(store, "other")
    with pytest.raises(Problem, match="node other0 belongs to the builder other"):
        wish(store, nodes=[{"name": "other0"}])


def test_certificates_are_carried_along_under_the_paths_of_the_container(store, tmp_path):
    (tmp_path / "ca.pem").write_text("CA")
    (tmp_path / "key.pem").write_text("KEY")
    keypair = {"key": str(tmp_path / "key.pem"), "cert": str(tmp_path / "ca.pem")}
    config, files = in_container({"registry": {"r:5000": {"ca": [str(tmp_path / "ca.pem")], "keypair": [keypair]}}})
    assert config["registry"]["r:5000"]["ca"] == ["/etc/buildkit/certs/r_5000/ca.pem"]
    assert files == {"certs/r_5000/ca.pem": b"CA", "certs/r_5000/key.pem": b"KEY"}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/ca.pem").write_text("another")
    with pytest.raises(Problem, match="have one name in the container"):
        in_container({"registry": {"r": {"ca": [str(tmp_path / "ca.pem"), str(tmp_path / "sub/ca.pem")]}}})


def test_the_users_default_configuration_counts_when_none_is_given(store):
    with store.transaction() as txn:
        txn.write("buildkitd.default.toml", b"debug = true\n")
    assert wish(store).config == {"debug": True}
    assert wish(store, buildkitd_config={}).config == {}
    assert wish(store, driver="remote", nodes=[{"endpoint": "tcp://x:1"}]).config == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"regsitry": {}}, "'regsitry' is not a setting of buildkitd; did you mean registry"),
        ({"registry": {"r": {"mirror": ["x"]}}}, "did you mean mirrors"),
        ({"worker": {"oci": {"gcpolicy": [{"keepBytes": 10}]}}}, "not its limit; set maxUsedSpace"),
    ],
)
def test_what_buildkitd_ignores_without_a_word_is_a_warning(store, config, message):
    assert message in " ".join(wish(store, buildkitd_config=config).warnings)


@pytest.mark.parametrize(
    ("given", "stored", "equal"),
    [
        ([], ["--allow-insecure-entitlement=network.host"], True),
        (["--debug"], ["--debug", "--allow-insecure-entitlement=network.host"], True),
        (
            ["--allow-insecure-entitlement security.insecure"],
            ["--allow-insecure-entitlement", "security.insecure"],
            True,
        ),
        (
            ["--allow-insecure-entitlement=security.insecure"],
            ["--allow-insecure-entitlement=security.insecure", "--allow-insecure-entitlement=network.host"],
            False,
        ),
        (["--allow-insecure-entitlement=network.host"], ["--allow-insecure-entitlement=network.host"], True),
        ([], ["--debug"], False),
    ],
)
def test_the_entitlement_that_buildx_adds_is_no_difference(store, given, stored, equal):
    node = wish(store, nodes=[{"flags": given}]).builder.nodes[0]
    told = stored_aspects(Node("ci0", node.endpoint, flags=tuple(stored)), node, driver_of("docker-container"))
    assert (told == aspects(node, {})) is equal
    assert not implied_flags(node, driver_of("remote"))


def test_secrets_in_the_environment_are_compared_and_not_shown(store):
    one, other = (aspects(Node("n", "e", driver_opts={"env.TOKEN": value}), {}) for value in ("s3cret", "s3cret2"))
    assert one != other
    assert "s3cret" not in repr((one, other))


@pytest.mark.parametrize(
    "endpoint",
    [
        "unix:///run/buildkit/buildkitd.sock", "tcp://[::1]:1234", "tcp://host.example.org:1234", "ssh://host", "ssh://me@host:2222/run/b.sock",
        "docker-container://bk_1?context=other", "kube-pod://pod-0?namespace=builds&container=bk",
    ],
)  # fmt: skip
def test_every_form_of_an_endpoint_is_taken(store, endpoint):
    assert wish(store, driver="remote", nodes=[{"endpoint": endpoint}]).builder.nodes[0].endpoint == endpoint


def test_flags_and_numbers_of_yaml_become_what_buildx_stores():
    opts = driver_of("docker-container").driver_opts("n", {"default-load": True, "cpu-shares": 512, "env.DEBUG": None})
    assert opts == {"default-load": "true", "cpu-shares": "512", "env.DEBUG": ""}


def test_sizes_are_dockers():
    assert [size(text) for text in ("512m", "1.5g", "1GiB", "20GB", "7", "1k")] == [
        512 * 2**20, 3 * 2**29, 2**30, 20 * 2**30, 7, 1024
    ]  # fmt: skip


def test_every_driver_of_the_module_has_a_table():
    assert {driver_of(name).name for name in NAMES} == set(NAMES)

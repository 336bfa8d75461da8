# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.drivers import driver_of
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.kubernetes_api import api_problem
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.kubernetes_names import mark
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.kubernetes_syntax import quantity
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.store import Builder, Node
from ansible_collections.multiarch.drone.plugins.module_utils._docker.cli import Output
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

KUBERNETES = driver_of("kubernetes")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("limits.memory", value) for value in ("2GiB", "2gb", "2 Gi", "-1", "0", "lots", "1Ki2", "", "1e999999999")),
        *(("requests.cpu", value) for value in ("1/2", "500M m", "-500m", "half", "0x1")),
        *(("replicas", value) for value in ("-1", "0", "1.5", "many", "99999999999", "+1")),
        *(("labels", value) for value in ("team", "=ci", "a=b=c", "a=b,", "-a=b", "a=b c", "a=b,a=c", "app=x", "a/b/c=d", f"a={'x' * 64}")),
        *(("annotations", value) for value in ("owner", "a b=c", "buildx.docker.com/platform=linux/amd64", "a=b=c")),
        *(("nodeselector", value) for value in ("arm64", "kubernetes.io/arch=-", "a=b;c=d")),
        *(("tolerations", value) for value in ("ci", "operator=Equal", "key=a,operator=Is", "key=a,effect=No", "key=a,tolerationSeconds=3")),
        *(("tolerations", value) for value in ("key=a,operator=Exists,value=b", "key=a,key=b", "key=a,effect=NoExecute,tolerationSeconds=x")),
        *(("namespace", value) for value in ("Builds", "a.b", "-a", "a_b", "x" * 64)),
        *(("serviceaccount", value) for value in ("me@home", "A", "")),
        *(("image", value) for value in ("", "a b", "-x")),
        *(("timeout", value) for value in ("120", "2 minutes", "-1s")),
        *(("loadbalance", "round"), ("rootless", "yes"), ("qemu.install", "1"), ("replica", "1")),
    ],
)  # fmt: skip
def test_what_kubernetes_refuses_is_refused_before_with_the_options_name(option, value):
    with pytest.raises(Problem, match=rf"node ci0: .*{option}"):
        KUBERNETES.driver_opts("node ci0", {option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("limits.memory", value) for value in ("2Gi", "512Mi", "1.5G", "1e9", "123", "128974848000m", "1E")),
        *(("requests.cpu", value) for value in ("500m", "2", ".5", "0")),
        *(("labels", value) for value in ("team=ci", "example.org/team=ci,b=", '"a=b"', "A_b.c-d=E.f")),
        ("annotations", "example.org/owner=somebody with spaces"),
        *(("tolerations", value) for value in ("key=ci,operator=Exists", "operator=Exists", "key=a,value=b,effect=NoSchedule;key=c", "key=a,effect=NoExecute,tolerationSeconds=30")),
        *(("image", value) for value in ("moby/buildkit:v0.24.0", "r.example.org:5000/a/b@sha256:" + "a" * 64)),
        *(("timeout", value) for value in ("120s", "2m30s")),
    ],
)  # fmt: skip
def test_what_kubernetes_takes_is_taken(option, value):
    assert KUBERNETES.driver_opts("node ci0", {option: value}) == {option: value}


def test_a_request_above_its_limit_is_refused():
    with pytest.raises(Problem, match=r"requests.memory: 2Gi is more than limits.memory, which is 2G\b"):
        KUBERNETES.driver_opts("n", {"requests.memory": "2Gi", "limits.memory": "2G"})


def test_quantities_are_equal_however_they_are_written():
    assert quantity("1Gi") == quantity("1024Mi") == quantity("1073741824") == quantity("1073741824000m")
    assert quantity("0.5") == quantity("500m") == quantity("5e-1")


def node(name):
    return Node(name, "kubernetes:///x")


def test_nodes_that_would_share_a_deployment_are_refused():
    with pytest.raises(Problem, match="my_ci and my-ci share the deployment my-ci"):
        KUBERNETES.check_nodes(Builder("b", "kubernetes", (node("my_ci"), node("my-ci"))), [])
    other = Builder("other", "kubernetes", (node(f"my_ci-{mark()}"),))
    with pytest.raises(Problem, match="share the deployment my-ci with the builder other"):
        KUBERNETES.check_nodes(Builder("b", "kubernetes", (node("my-ci"),)), [other])
    KUBERNETES.check_nodes(Builder("b", "kubernetes", (node("a0"),)), [Builder("c", "remote", (node("a0"),))])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
            "cannot be reached",
        ),
        ("Unable to connect to the server: dial tcp: lookup nowhere: no such host", "cannot be reached"),
        ("error: You must be logged in to the server (Unauthorized)", "refuses this user"),
        (
            'Error from server (Forbidden): deployments.apps "ci0" is forbidden: User "x" cannot get',
            "refuses this user",
        ),
        ('error: context "nowhere" does not exist', "cannot be reached"),
        ('Error from server (NotFound): namespaces "x" not found', 'namespaces "x" not found'),
        (
            "ERROR: dial tcp 127.0.0.1:1: connect: connection refused\nERROR: failed to remove one or more builders",
            "connection refused",
        ),
    ],
)
def test_what_kubectl_and_buildx_say_of_the_api_is_understood(said, told):
    assert told in api_problem(Output(("kubectl",), 1, "", said)).what


def test_a_marked_node_is_the_declared_one_unless_that_is_declared_too():
    assert KUBERNETES.declared_name(f"ci0-{mark()}", ["ci0"]) == "ci0"
    assert KUBERNETES.declared_name(f"ci0-{mark()}b", ["ci0"]) == "ci0"
    assert KUBERNETES.declared_name("ci0-abcdef", ["ci0"]) == "ci0-abcdef"
    assert KUBERNETES.declared_name(f"ci0-{mark()}", ["ci0", f"ci0-{mark()}"]) == f"ci0-{mark()}"

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Builders in a real cluster: made, changed, mended, removed, and what is said where that is impossible."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx import kubernetes_api
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.kubernetes_names import mark
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

from tests.kubernetes.conftest import Member, become

FOREIGN = {"loong64": "loongarch64", "mips64": "mips64", "mips64le": "mips64el", "ppc64le": "ppc64le"}
SCRATCH = "example.invalid/nobody/has:this"


def test_a_builder_is_created_builds_is_found_again_and_removed(ci, cluster, namespace):
    predicted = ci.wish(check=True)
    assert cluster.names(namespace) == []
    done = ci.wish()
    assert (
        done["steps"]
        == predicted["steps"]
        == ["start ci: every node must answer", "create the builder ci (kubernetes)"]
    )
    assert done["diff"] == predicted["diff"]
    assert done["builder"]["nodes"][0]["status"] == "running"
    assert done["builder"]["nodes"][0]["image"]["runs"] == "local/buildkit:1"
    ci.build()
    before = cluster.versions(namespace)
    again = ci.wish()
    assert not again["changed"], again
    assert ci.info()["builders"][0]["nodes"][0]["problems"] == []
    assert cluster.versions(namespace) == before
    gone = ci.declare(state="absent")
    assert gone["steps"] == ["remove the deployments of ci (ci0)", "remove the builder ci"]
    assert cluster.names(namespace) == []
    assert not ci.declare(state="absent")["changed"]


def test_a_change_starts_beside_the_old_deployment_which_goes_last(ci, cluster, namespace):
    ci.wish()
    predicted = ci.wish({"labels": "team=ci"}, check=True)
    done = ci.wish({"labels": "team=ci"})
    assert done["steps"] == predicted["steps"]
    assert done["steps"][-1] == "remove the deployments of ci (ci0)"
    assert cluster.names(namespace) == [f"ci0-{mark()}"]
    ci.build()
    assert not ci.wish({"labels": "team=ci"})["changed"]
    ci.wish()
    assert cluster.names(namespace) == ["ci0"]


@pytest.mark.parametrize(
    ("opts", "why"),
    [
        ({"image": SCRATCH}, "ErrImagePull|ImagePullBackOff"),
        ({"nodeselector": "kubernetes.io/arch=nowhere"}, "Unschedulable: 0/2 nodes are available"),
        ({"requests.memory": "900Ti"}, "Unschedulable: .*Insufficient memory"),
    ],
)
def test_a_change_that_does_not_start_says_why_and_leaves_the_old_one_building(ci, cluster, namespace, opts, why):
    ci.wish()
    before, file = cluster.names(namespace), ci.instance()
    with pytest.raises(Problem, match=why) as caught:
        ci.wish({**opts, "timeout": "6s"})
    assert "not taken back" not in str(caught.value)
    assert cluster.names(namespace) == before
    assert ci.instance() == file
    ci.build()


def test_a_quota_that_is_exceeded_is_quoted(ci, cluster, namespace):
    cluster.kubectl("create", "quota", "-n", namespace, "few", "--hard=pods=1")
    ci.wish()
    with pytest.raises(Problem, match="exceeded quota: few"):
        ci.wish({"labels": "team=ci", "timeout": "4s"})
    assert cluster.names(namespace) == ["ci0"]
    ci.build()


DRIFT = [
    ({}, ["scale", "deployment/ci0", "--replicas=2"], "replicas: 2, declared 1"),
    ({}, ["scale", "deployment/ci0", "--replicas=0"], "replicas: 0, declared 1"),
    (
        {},
        ["set", "image", "deployment/ci0", "buildkitd=docker.io/local/buildkit:1"],
        "image: runs docker.io/local/buildkit:1",
    ),
    (
        {"limits.memory": "1Gi"},
        ["set", "resources", "deployment/ci0", "--limits=memory=2Gi"],
        "limits.memory: 2Gi, declared 1Gi",
    ),
    ({}, ["set", "resources", "deployment/ci0", "--requests=cpu=10m"], "requests.cpu: 10m, declared none"),
    ({}, ["set", "env", "deployment/ci0", "TOKEN=s3cret"], "environment: TOKEN is set, not declared"),
]


@pytest.mark.parametrize(
    ("opts", "command", "drift"),
    DRIFT,
    ids=[drift.partition(":")[0] + str(index) for index, (_o, _c, drift) in enumerate(DRIFT)],
)
def test_what_drifted_is_named_foretold_and_mended(ci, cluster, namespace, opts, command, drift):
    ci.wish(opts)
    cluster.kubectl("-n", namespace, *command)
    before = cluster.versions(namespace).keys()
    predicted = ci.wish(opts, check=True)
    assert [drift in text for text in predicted["drift"]] == [True], predicted["drift"]
    assert "s3cret" not in str(predicted)
    problems = ci.info()["builders"][0]["nodes"][0]["problems"]
    assert any(drift in problem for problem in problems), problems
    assert {name for name in before if name.startswith("Deployment")} == {"Deployment/ci0"}
    done = ci.wish(opts)
    assert done["steps"] == predicted["steps"]
    assert done["drift"] == predicted["drift"]
    assert cluster.names(namespace) == [f"ci0-{mark()}"]
    assert not ci.wish(opts)["changed"]


def patch(spec):
    return ["patch", "deployment", "ci0", "--type=strategic", "-p", json.dumps({"spec": {"template": spec}})]


def test_drift_of_scheduling_labels_and_configuration_is_named(ci, cluster, namespace):
    opts = {
        "nodeselector": "kubernetes.io/os=linux",
        "tolerations": "key=ci,operator=Exists",
        "annotations": "example.org/owner=ci",
        "env.PROXY": "s3cret",
    }
    wish = {"buildkitd_config": {"debug": True}, "bootstrap": True}
    ci.wish(opts, **wish)
    assert not ci.wish(opts, **wish)["changed"]
    pod = {
        "nodeSelector": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": "node"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
    }
    pod["initContainers"] = [{"name": "qemu", "image": "local/pause:1"}]
    pod["containers"] = [{"name": "buildkitd", "args": ["--debug"], "env": [{"name": "PROXY", "value": "other"}]}]
    cluster.kubectl("-n", namespace, *patch({"metadata": {"annotations": {"example.org/owner": "me"}}, "spec": pod}))
    cluster.kubectl(
        "-n", namespace, "patch", "configmap", "ci0-config", "-p", '{"data": {"buildkitd.toml": "debug = false\\n"}}'
    )
    told = " | ".join(ci.wish(opts, check=True, **wish)["drift"])
    for aspect in (
        "nodeselector",
        "tolerations",
        "annotations",
        "command",
        "environment: PROXY",
        "qemu.install",
        "config in the cluster: differs in debug",
    ):
        assert aspect in told
    assert "s3cret" not in told


def test_a_deployment_that_is_gone_is_foretold_by_looking_alone_and_started(ci, cluster, namespace):
    ci.wish()
    cluster.kubectl("-n", namespace, "delete", "deployment", "ci0", "--wait=true")
    cluster.wait_for(
        lambda: not [name for name in cluster.versions(namespace) if name.startswith(("Pod/", "ReplicaSet/"))], 60
    )
    before = cluster.versions(namespace)
    predicted = ci.wish(check=True)
    assert predicted["steps"] == ["start ci: every node must answer"]
    assert predicted["diff"]["before"]["ci0 status"] == "missing"
    assert ci.info()["builders"][0]["nodes"][0]["status"] == "missing"
    assert cluster.versions(namespace) == before
    assert ci.wish()["steps"] == predicted["steps"]
    assert cluster.names(namespace) == ["ci0"]
    ci.build()


def test_recreate_always_makes_another_deployment_each_time(ci, cluster, namespace):
    ci.wish()
    for expected in (f"ci0-{mark()}", "ci0"):
        done = ci.wish(recreate="always")
        assert done["changed"]
        assert cluster.names(namespace) == [expected]
    with pytest.raises(Problem, match="recreate is never"):
        ci.wish({"labels": "a=b"}, recreate="never")


def test_a_cordoned_node_is_a_reason_and_nothing_is_left(ci, cluster, namespace):
    with pytest.raises(Problem, match=r"Unschedulable: .*unschedulable"):
        ci.wish({"nodeselector": "kubernetes.io/hostname=cordoned", "timeout": "6s"})
    assert cluster.names(namespace) == []
    assert ci.instance() is None


@pytest.mark.parametrize("has_kubectl", [True, False])
def test_another_users_builder_of_the_same_name_is_neither_taken_over_nor_removed(
    ci, cluster, namespace, programs, tmp_path, monkeypatch, has_kubectl
):
    ci.wish()
    other = Member(tmp_path / "other", programs, cluster, "other", namespace)
    become(other, monkeypatch)
    if not has_kubectl:
        monkeypatch.setattr(kubernetes_api, "kubectl", lambda: "")
    before = cluster.versions(namespace)
    for more in ({}, {"bootstrap": False}, {"recreate": "always"}, {"check": True}):
        with pytest.raises(Problem, match=r"a deployment ci0 is there.*no builder of this user has it"):
            other.wish(**more)
    assert not other.declare(state="absent")["changed"]
    assert cluster.versions(namespace) == before
    become(ci, monkeypatch)
    ci.build()


def test_two_namespaces_have_builders_of_one_name_apart(ci, cluster, namespace, programs, tmp_path, monkeypatch):
    elsewhere = f"{namespace[:40]}-b"
    cluster.kubectl("create", "namespace", elsewhere)
    cluster.kubectl("create", "rolebinding", "-n", elsewhere, "all", "--clusterrole=admin", "--user=other")
    ci.wish()
    other = Member(tmp_path / "other", programs, cluster, "other", elsewhere)
    become(other, monkeypatch)
    other.wish({"namespace": elsewhere})
    other.declare(state="absent")
    assert cluster.names(namespace) == ["ci0"]
    cluster.kubectl("delete", "namespace", elsewhere, "--wait=false")


def test_exclusive_removes_the_deployments_of_other_builders(ci, cluster, namespace):
    ci.wish(name="old")
    ci.wish(exclusive=["ci"])
    assert cluster.names(namespace) == ["ci0"]
    assert ci.instance("old") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"users": [{"name": "ci", "user": {"token": "nobody's"}}]},
            "the Kubernetes API refuses this user: .*logged in|Unauthorized",
        ),
        (
            {"users": [{"name": "ci", "user": {"token": "stranger-token"}}]},
            "the Kubernetes API refuses this user: .*forbidden",
        ),
        ({"current-context": "nowhere"}, "the Kubernetes API cannot be reached: .*context.*nowhere"),
        (
            {"clusters": [{"name": "lab", "cluster": {"server": "https://127.0.0.1:1"}}]},
            "the Kubernetes API cannot be reached: .*refused",
        ),
    ],
    ids=["token", "stranger", "context", "down"],
)
def test_an_api_that_cannot_be_used_is_told_as_that_before_anything_is_changed(
    ci, cluster, namespace, changes, message
):
    ci.configure(**changes)
    with pytest.raises(Problem, match=message):
        ci.wish()
    assert ci.instance() is None
    ci.configure()
    ci.wish()
    before = cluster.versions(namespace)
    ci.configure(**changes)
    for more in ({}, {"check": True}, {"opts": {"labels": "a=b"}}):
        with pytest.raises(Problem, match=message):
            ci.wish(**more)
    [builder] = ci.info()["builders"]
    assert builder["nodes"][0]["status"] == "error"
    assert "Kubernetes API" in builder["nodes"][0]["problems"][0]
    assert cluster.versions(namespace) == before


def test_a_namespace_that_is_missing_is_an_error_that_names_it(ci):
    ci.configure(users=[{"name": "ci", "user": {"token": "admin-token"}}])
    with pytest.raises(Problem, match='namespaces "nowhere" not found'):
        ci.wish({"namespace": "nowhere"})
    assert ci.instance() is None


def test_absent_forgets_a_builder_whose_cluster_is_gone(ci, cluster, namespace):
    ci.wish()
    ci.configure(clusters=[{"name": "lab", "cluster": {"server": "https://127.0.0.1:1"}}])
    predicted = ci.declare(state="absent", check=True)
    done = ci.declare(state="absent")
    assert done["steps"] == predicted["steps"]
    assert ci.instance() is None
    assert "delete deployment/ci0" in done["warnings"][0]


def test_absent_by_a_user_who_may_not_is_an_error_and_the_builder_stays(ci, cluster, namespace):
    ci.wish()
    ci.configure(users=[{"name": "ci", "user": {"token": "stranger-token"}}])
    with pytest.raises(Problem, match="refuses this user"):
        ci.declare(state="absent")
    assert ci.instance() is not None
    assert cluster.names(namespace) == ["ci0"]


def test_declared_platforms_are_proven_by_a_build(ci, cluster, namespace):
    handlers = os.listdir("/proc/sys/fs/binfmt_misc") if os.path.isdir("/proc/sys/fs/binfmt_misc") else []
    foreign = next((name for name, qemu in FOREIGN.items() if f"qemu-{qemu}" not in handlers), None)
    if foreign is None:
        pytest.skip("this machine executes every platform")
    assert ci.wish(platforms=["amd64"])["changed"]
    assert not ci.wish(platforms=["amd64"])["changed"]
    with pytest.raises(Problem, match=f"declares linux/{foreign}, and a build for it fails there"):
        ci.wish(platforms=["amd64", foreign])
    assert cluster.names(namespace) == ["ci0"]
    ci.build()


def test_replicas_are_all_ready(ci, cluster, namespace):
    ci.wish({"replicas": 2})
    assert not ci.wish({"replicas": 2})["changed"]
    assert cluster.get("deployment", "ci0", "-n", namespace)["status"]["readyReplicas"] == 2


def test_a_volume_and_a_configuration_together_are_refused_since_buildx_loses_one(ci, cluster, namespace):
    with pytest.raises(Problem, match="does not mount the buildkitd_config"):
        ci.wish({"persistent-volume-claim.requests.storage": "1Gi"}, buildkitd_config={"debug": True})

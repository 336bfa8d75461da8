# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kubernetes driver up to the API, on a host without kubectl: the real buildx, and a server that keeps what it is told and runs nothing."""

from __future__ import annotations

import http.server
import json
import re
import threading

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._buildx import kubernetes_api
from ansible_collections.multiarch.drone.plugins.module_utils._buildx.kubernetes_names import mark
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

OPTS = {
    "image": "example.org/buildkit:v1",
    "namespace": "builds",
    "replicas": 2,
    "requests.cpu": "500m",
    "limits.memory": "2Gi",
    "nodeselector": "kubernetes.io/arch=arm64,pool=ci",
    "tolerations": "key=ci,operator=Equal,value=yes,effect=NoSchedule",
    "serviceaccount": "builder",
    "schedulername": "fair",
    "labels": "team=ci",
    "annotations": "example.org/owner=ci",
    "env.HTTP_PROXY": "http://proxy:3128",
    "qemu.install": True,
    "qemu.image": "example.org/binfmt:v1",
    "timeout": "1s",
}


class Cluster:
    """What is in a cluster in which no pod ever starts, and what was asked of its API."""

    def __init__(self):
        self.asked, self.objects, self.made, self.ready = [], {}, {}, 0


def api(cluster):
    class Api(http.server.BaseHTTPRequestHandler):
        def answer(self, code, body):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def handle_it(self):
            path = self.path.partition("?")[0]
            cluster.asked.append((self.command, path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "POST":
                name = re.search(rb"ci\d[a-z0-9-]*", body).group().decode()
                kind = path.rpartition("/")[2]
                cluster.objects[f"{path}/{name}"] = cluster.made[kind, name] = body
                return self.answer(201, {"metadata": {"name": name}})
            if path.endswith("/pods"):
                return self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})
            found = cluster.objects.get(path)
            if found is None:
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                return self.answer(404, status)
            if self.command == "DELETE":
                del cluster.objects[path]
                return self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
            return self.answer(200, {"metadata": {"name": "x"}, "status": {"readyReplicas": cluster.ready}})

        do_GET = do_POST = do_DELETE = do_PUT = handle_it

        def log_message(self, *_args):
            pass

    return Api


@pytest.fixture
def cluster(tmp_path, monkeypatch, user):
    cluster = Cluster()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), api(cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "builds"}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(kubernetes_api, "kubectl", lambda: "")
    yield cluster
    server.shutdown()
    server.server_close()


def wish(opts=None, **more):
    return {
        "driver": "kubernetes",
        "nodes": [{"driver_opts": {**OPTS, **(opts or {})}, "platforms": ["arm64"]}],
        **more,
    }


def test_a_builder_is_declared_without_a_pod(user, cluster):
    assert user.declare(**wish(bootstrap=False))["changed"]
    assert ("GET", "/apis/apps/v1/namespaces/builds/deployments/ci0") in cluster.asked
    assert cluster.objects == {}
    assert not user.declare(**wish(bootstrap=False))["changed"]
    [builder] = user.info()["builders"]
    assert builder["nodes"][0]["status"] == "missing"


def pair(key, value):
    """Return a pair of a map, or a variable, in the protobuf that buildx sends."""
    value = value if isinstance(value, bytes) else value.encode()
    return b"\n%c%s\x12%c%s" % (len(key), key.encode(), len(value), value)


def quantity(text):
    return b"\n%c%s" % (len(text), text.encode())


def test_what_is_declared_is_what_the_api_is_asked_for_and_what_does_not_start_goes_again(user, cluster):
    with pytest.raises(Problem, match="expected 2 replicas to be ready, got 0"):
        user.declare(**wish(buildkitd_config={"debug": True}))
    asked = cluster.made["deployments", "ci0"]
    for told in (
        pair("cpu", quantity("500m")),
        pair("memory", quantity("2Gi")),
        pair("kubernetes.io/arch", "arm64"),
        pair("pool", "ci"),
        pair("team", "ci"),
        pair("example.org/owner", "ci"),
        pair("HTTP_PROXY", "http://proxy:3128"),
        *(b"example.org/buildkit:v1", b"example.org/binfmt:v1", b"builder", b"fair", b"linux/arm64"),
        *(b"NoSchedule", b"--allow-insecure-entitlement=network.host"),
    ):
        assert told in asked
    assert any(b"debug = true" in body for (kind, _name), body in cluster.made.items() if kind == "configmaps")
    assert user.instance() is None
    assert cluster.objects == {}


def test_a_pod_that_cannot_be_asked_is_no_builder(user, cluster):
    cluster.ready = 2  # says the deployment; and there are none
    with pytest.raises(
        Problem, match=r"node ci0 at kubernetes:///ci.* does not answer: .*no running buildkit pods found"
    ):
        user.declare(**wish())
    assert user.instance() is None
    assert cluster.objects == {}


def deployed(user, cluster):
    """Declare a builder, and let buildx start it as it does for a build."""
    user.declare(**wish(bootstrap=False))
    cluster.ready = 2
    user.docker("buildx", "inspect", "--bootstrap", "ci")
    cluster.ready = 0
    assert len(cluster.objects) == 1


def test_a_change_gets_into_the_cluster(user, cluster):
    deployed(user, cluster)
    changed = wish({"limits.memory": "3Gi"}, bootstrap=False)
    with pytest.raises(Problem, match="recreate is never"):
        user.declare(recreate="never", **changed)
    predicted = user.declare(check=True, **changed)
    assert len(cluster.objects) == 1
    done = user.declare(**changed)
    assert done["steps"] == predicted["steps"]
    assert done["steps"] == ["change the builder ci (ci0 driver_opts)", "remove the deployments of ci (ci0)"]
    assert cluster.objects == {}, "buildx would have gone on with the old one"
    cluster.ready = 2
    user.docker("buildx", "inspect", "--bootstrap", "ci")
    assert pair("memory", quantity("3Gi")) in cluster.made["deployments", f"ci0-{mark()}"]
    assert not user.declare(**changed)["changed"]
    assert [node["name"] for node in user.declare(**changed)["builder"]["nodes"]] == [f"ci0-{mark()}"]


def test_a_change_that_does_not_start_leaves_the_old_builder_and_its_deployment(user, cluster):
    deployed(user, cluster)
    before, objects = user.instance(), dict(cluster.objects)
    with pytest.raises(Problem, match="expected 2 replicas"):
        user.declare(**wish({"limits.memory": "3Gi"}))
    assert user.instance() == before
    assert cluster.objects == objects
    assert pair("memory", quantity("3Gi")) in cluster.made["deployments", f"ci0-{mark()}"]


def test_a_deployment_of_somebody_else_is_not_taken_over_and_not_taken_away(user, cluster):
    cluster.objects["/apis/apps/v1/namespaces/builds/deployments/ci0"] = b""
    for bootstrap in (True, False):
        with pytest.raises(Problem, match=r"a deployment ci0 is there .*, and no builder of this user has it"):
            user.declare(**wish(bootstrap=bootstrap))
    assert len(cluster.objects) == 1
    assert user.instance() is None


def test_looking_writes_nothing_where_the_deployment_is_gone(user, cluster):
    deployed(user, cluster)
    cluster.objects.clear()
    cluster.asked.clear()
    predicted = user.declare(check=True, **wish())
    user.info()
    assert predicted["steps"] == ["start ci: every node must answer"]
    assert {method for method, _path in cluster.asked} == {"GET"}
    assert cluster.objects == {}


def test_absent_takes_the_deployments_away(user, cluster):
    deployed(user, cluster)
    assert user.declare(state="absent")["steps"] == ["remove the deployments of ci (ci0)", "remove the builder ci"]
    assert cluster.objects == {}
    assert user.instance() is None


def test_a_cluster_that_does_not_answer_is_an_error_and_changes_nothing(user, cluster, tmp_path):
    deployed(user, cluster)
    before = user.instance()
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text))
    with pytest.raises(Problem, match=r"the Kubernetes API cannot be reached: .*connection refused"):
        user.declare(**wish({"limits.memory": "3Gi"}))
    assert user.instance() == before


def test_absent_forgets_a_builder_whose_cluster_is_gone_and_says_what_may_be_left(user, cluster, tmp_path):
    deployed(user, cluster)
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text))
    done = user.declare(state="absent")
    assert done["changed"]
    assert user.instance() is None
    [warning] = done["warnings"]
    assert "connection refused" in warning
    assert warning.endswith("kubectl --namespace=builds delete deployment/ci0")
    assert not user.declare(state="absent")["changed"]

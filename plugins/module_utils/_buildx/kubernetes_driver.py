# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The driver `kubernetes`: BuildKit in a deployment of a cluster (docker/buildx: driver/kubernetes).

buildx names a deployment by its node, and leaves one that is there as it is. So a change makes nodes of other names, whose
deployments start beside the old ones, and the old ones go when the new ones have answered. A node that is declared as `ci0`
is stored as `ci0` or `ci0-` and a mark of this user on this host.

Looking starts nothing: `docker buildx inspect` without `--bootstrap`, and kubectl where the host has it, which alone tells
an API that does not answer from a deployment that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from .._problem import Problem
from . import kubernetes_syntax as syntax
from .driver import Driver
from .kubernetes_names import VOLUME, candidates, declared_name, deployment, endpoint_of, foreign, kubeconfig, unmarked
from .node import MISSING, STOPPED, Running, ask_buildx, inspected
from .options import check_duration, check_flag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._change import Step
    from .._docker.cli import Docker
    from .store import Builder, Node, Store


class KubernetesDriver(Driver):
    """Nodes that are deployments, or stateful sets where they have a persistent volume."""

    name = "kubernetes"
    options = {
        "image": syntax.check_image,
        "namespace": syntax.check_namespace,
        "replicas": syntax.check_replicas,
        "requests.cpu": syntax.check_quantity,
        "requests.memory": syntax.check_quantity,
        "requests.ephemeral-storage": syntax.check_quantity,
        VOLUME: syntax.check_positive_quantity,
        "limits.cpu": syntax.check_positive_quantity,
        "limits.memory": syntax.check_positive_quantity,
        "limits.ephemeral-storage": syntax.check_positive_quantity,
        "rootless": check_flag,
        "schedulername": syntax.check_object,
        "serviceaccount": syntax.check_object,
        "nodeselector": syntax.check_selector,
        "annotations": syntax.check_annotations,
        "labels": syntax.check_labels,
        "tolerations": syntax.check_tolerations,
        "loadbalance": syntax.check_balance,
        "qemu.install": check_flag,
        "qemu.image": syntax.check_image,
        "buildkit-root-volume-memory": syntax.check_positive_quantity,
        "default-load": check_flag,
        "timeout": check_duration,
    }
    env = True
    daemon = True
    compared = True
    moves = True
    removes_first = True

    # What is declared

    def check_options(self, where: str, opts: Mapping[str, str]) -> None:
        """Raise a Problem where requests are more than limits."""
        for what in ("cpu", "memory", "ephemeral-storage"):
            request, limit = opts.get(f"requests.{what}"), opts.get(f"limits.{what}")
            if request and limit and syntax.quantity(request) > syntax.quantity(limit):
                raise Problem(
                    f"{where}: driver option requests.{what}: {request} is more than limits.{what}, which is {limit}",
                    "a pod cannot be promised more than it may use",
                )

    def endpoint(self, where: str, given: str, builder: str, node: str, store: Store) -> str:
        """Return the name that buildx gives the node in a cluster: there is no address, kubectl's configuration has it."""
        super().endpoint(where, given, builder, node, store)
        if not syntax.SUBDOMAIN.fullmatch(deployment(node)) or len(deployment(node)) > 50:
            raise Problem(
                f"{where}: a deployment cannot be called {deployment(node)!r}",
                "end it with a letter or a digit, with up to 50 characters: letters, digits, dashes",
            )
        return endpoint_of(builder, node, store.env.get("KUBECONFIG", ""))

    def check_nodes(self, builder: Builder, others: Iterable[Builder]) -> None:
        """Raise a Problem where two nodes would share a deployment."""
        owner: dict[str, str] = {}
        for node in builder.nodes:
            name = deployment(node.name)
            if name in owner:
                raise Problem(
                    f"the nodes {owner[name]} and {node.name} share the deployment {name}",
                    "name one of them otherwise: a deployment has dashes where buildx allows underscores",
                )
            owner[name] = node.name
        for other in others:
            for node in other.nodes if other.driver == self.name else ():
                name = deployment(unmarked(node.name))
                if name in owner:
                    raise Problem(
                        f"node {owner[name]} would share the deployment {name} with the builder {other.name}",
                        "name the node otherwise: a deployment has dashes where buildx allows underscores",
                    )

    def check_config(self, builder: Builder, config: Mapping[str, Any]) -> None:
        """Raise a Problem where buildx would lose the configuration: it mounts a volume in its place, unless rootless."""
        for node in builder.nodes:
            if config and VOLUME in node.driver_opts and node.driver_opts.get("rootless") != "true":
                raise Problem(
                    f"node {node.name}: buildx does not mount the buildkitd_config beside {VOLUME}",
                    "write what can be written as flags, set rootless: true, or take a cache in the registry and no volume",
                )

    # What is there

    def declared_name(self, stored: str, wished: Iterable[str]) -> str:
        """Return which of the `wished` nodes a stored one is: it may have got a mark by a change."""
        return declared_name(stored, wished)

    def as_declared(self, stored: Builder, wished: Builder) -> Builder:
        """Return a stored builder with the names that its nodes have where they are declared."""
        if stored.driver != self.name:
            return stored
        names = [node.name for node in wished.nodes]
        nodes = []
        for node in stored.nodes:
            name = self.declared_name(node.name, names)
            place = endpoint_of(stored.name, name, kubeconfig(node))
            nodes.append(node._replace(name=name, endpoint=place if name != node.name else node.endpoint))
        return stored._replace(nodes=tuple(nodes))

    def look(self, docker: Docker, builder: Builder, raw: bytes | None) -> Callable[[], dict[str, Running]]:
        """Start to ask for each node's deployment; with kubectl also for those that have the names of its successors."""
        told = ask_buildx(docker, builder.name, raw=raw) if raw is not None else dict
        from .kubernetes_api import ask

        objects = ask(builder.nodes, [name for node in builder.nodes for name in candidates(node.name)])

        def answer() -> dict[str, Running]:
            there = objects()
            found = dict(told())
            for node in builder.nodes:
                now = found.get(node.name, Running(MISSING))
                now = now._replace(status={"inactive": MISSING}.get(now.status, now.status))
                found[node.name] = now if there is None else there.running(node, now)
            for name in there.names if there is not None else ():
                if name not in {deployment(node) for node in found}:
                    found[name] = Running(STOPPED)
            if raw is None:
                # Nothing is ours: what is there is found by its name alone.
                found = {
                    name: now for name, now in found.items() if there is not None and deployment(name) in there.names
                }
            return found

        return answer

    def must_look(self, wished: Builder, stored: Builder | None, *, same: bool, bootstrap: bool) -> Builder | None:
        """Return the stored builder, else the declared one: a deployment of its name may be somebody else's."""
        return stored or wished

    def running(
        self, stored: Builder | None, wished: Sequence[str], found: Mapping[str, Running]
    ) -> Mapping[str, Running]:
        """Return what was found of the stored nodes by their declared names."""
        nodes = stored.nodes if stored is not None else ()
        by_name = {self.declared_name(node.name, wished): found.get(node.name) for node in nodes}
        return {name: by_name.get(name) or Running(MISSING) for name in wished}

    def must_move(
        self, stored: Builder, config: Mapping[str, Any], running: Mapping[str, Running], *, always: bool
    ) -> bool:
        """Return whether a deployment differs from what its node declares, so that another one has to start beside it."""
        names = list(running)
        drifted = any(
            self.drift(node, config, running[self.declared_name(node.name, names)])
            for node in stored.nodes
            if self.declared_name(node.name, names) in running
        )
        return drifted or (always and any(now.status != MISSING for now in running.values()))

    def check_owner(self, wished: Builder, stored: Builder | None, found: Mapping[str, Running]) -> None:
        """Raise a Problem where a deployment of the declared name is there, and no builder of this user has it."""
        mine = {deployment(node.name) for node in stored.nodes} if stored is not None else set()
        for node in wished.nodes:
            known = node.name in {self.declared_name(name, [node.name]) for name in mine}
            if not known and any(deployment(name) == deployment(node.name) for name in found):
                raise foreign(deployment(node.name), node)

    def successor(self, wished: Builder, stored: Builder | None, now: Mapping[str, Running]) -> Builder:
        """Return the declared builder with names of nodes whose deployments are free."""
        taken = {deployment(name) for name in now}
        taken |= {deployment(node.name) for node in stored.nodes} if stored is not None else set()
        nodes = []
        for node in wished.nodes:
            name = next((name for name in candidates(node.name) if deployment(name) not in taken), None)
            if name is None:
                raise Problem(
                    f"every deployment is taken that {node.name} could have: {', '.join(candidates(node.name))}",
                    "remove those that no builder has: see kubectl get deployments",
                )
            nodes.append(node._replace(name=name, endpoint=endpoint_of(wished.name, name, kubeconfig(node))))
        return wished._replace(nodes=tuple(nodes))

    def drift(self, node: Node, config: Mapping[str, Any], now: Running) -> list[str]:
        """Return where a deployment differs from what its node declares; nothing where only kubectl could tell."""
        if not now.workload:
            return []
        from .kubernetes_drift import drift

        return drift(node, config, now)

    def identity(self, node: Node, now: Running) -> str:
        """Return what tells one deployment of a node from its successor."""
        if now.status == MISSING:
            return ""
        return str((now.workload.get("metadata") or {}).get("uid") or now.status)

    # What changes it

    def check_staged(self, docker: Docker, name: str, staged: bytes) -> None:
        """Raise a Problem where a deployment of the new builder is there, which kubectl has not told."""
        from .kubernetes_api import kubectl

        if not kubectl():
            for node, now in inspected(docker, name, raw=staged).items():
                if now.status != "inactive":
                    raise Problem(
                        f"a deployment {deployment(node)} is there ({now.error or now.status}), and no builder of this user has it",
                        "where it is another user's, name the node otherwise; where it is nobody's, remove it with kubectl",
                    )

    def beside(self, target: Builder, stored: Builder | None, running: Mapping[str, Running]) -> Mapping[str, Running]:
        """Return what runs for the nodes that are to be started: nothing for those that are new."""
        names = list(running)
        old = {node.name for node in stored.nodes} if stored is not None else set()
        return {
            node.name: running.get(self.declared_name(node.name, names), Running(MISSING))
            if node.name in old
            else Running(MISSING)
            for node in target.nodes
        }

    def start(
        self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float
    ) -> Mapping[str, Running]:
        """Let buildx start the deployments; where pods do not start, the Problem has the reason that the cluster gives."""
        from .kubernetes_api import reasons, start

        try:
            return start(docker, name, nodes, raw, timeout)
        except Problem as problem:
            why = reasons(nodes)
            raise Problem(
                f"a node does not answer: {problem.what}",
                "; ".join(why) or problem.hint,
                **{**problem.facts, **({"reasons": why} if why else {})},
            ) from problem

    def stop(
        self,
        docker: Docker,
        name: str,
        nodes: Sequence[Node],
        raw: bytes,
        now: Mapping[str, Running],
        outdated: Iterable[str],
        memory: Any,
    ) -> None:
        """Remove the deployments that were made."""
        made = [node for node in nodes if now[node.name].status == MISSING]
        if made:
            from .kubernetes_api import remove

            remove(docker, name, made, raw, keep_cache=False)

    def prove(self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float) -> None:
        """Build a step for each declared platform: in a cluster BuildKit's list is what it was started with."""
        if any(node.platforms for node in nodes):
            from .prove import prove

            prove(docker, name, nodes, raw, timeout)

    def changed_aspects(self, unlike: Iterable[str]) -> list[str]:
        """Return what a change is about; one that only mends drift is about that."""
        names = list(unlike)
        return super().changed_aspects(names) or [name for name in names if name.endswith(" drift")] or names

    # What goes

    def place(self, node: Node) -> str:
        """Return the deployment's name."""
        return f"deployment {deployment(node.name)}"

    def removal(
        self,
        docker: Docker,
        name: str,
        nodes: Sequence[Node],
        raw: bytes,
        *,
        keep_cache: bool,
        left: list[str] | None = None,
    ) -> Iterable[Step]:
        """Yield the step that removes the deployments; where there is no cluster any more, `left` gets what may be left in it."""
        from .kubernetes_api import removal_step

        yield removal_step(docker, name, nodes, raw, keep_cache=keep_cache, left=left)

    # What a person is told

    def image(self, node: Node, now: Running | None) -> dict[str, Any] | None:
        """Return which image the pods shall run, and which they run, where kubectl tells it."""
        if now is None or not now.workload:
            return None
        from .kubernetes_drift import containers, image_of

        runs = containers(now.workload)[0].get("image")
        return {"declared": image_of(node), "runs": runs, "id": None}

    def stopped_hint(self, node: Node) -> str:
        """Return what a build does about a deployment without a pod that is ready."""
        return (
            f"look at the pods of the deployment {deployment(node.name)}; a run of buildx_builder starts what is gone"
        )

    def is_local(self, node: Node) -> bool:
        """Return that a pod may be on any kernel."""
        return False

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every driver of buildx answers: the one place where the drivers differ (docker/buildx: driver/driver.go).

The defaults are those of a driver of which buildx starts nothing and nothing is compared.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Mapping

from .._problem import Problem, suggest
from .node import ask_buildx, inspected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._change import Step
    from .._docker.cli import Docker
    from .node import Running
    from .store import Builder, Node, Store


class Driver:
    """A driver: what its nodes take, how what runs for them is read, started, replaced and removed."""

    name = ""
    options: Mapping[str, Callable[[str], None]] = {}  # each option with what checks its value
    env = False  # env.NAME sets a variable of the daemon
    daemon = False  # buildx starts the daemon: it takes a configuration and flags
    takes_endpoint = False
    compared = False  # what runs is compared with what is declared
    moves = False  # a change starts other nodes beside the old ones
    removes_first = False  # what runs is removed before the builder's file is
    elsewhere = "use the daemon's daemon.json"  # what to do instead of buildkitd_config

    # What is declared

    def driver_opts(self, where: str, given: Mapping[str, object]) -> dict[str, str]:
        """Return a node's driver options as buildx stores them; raise a Problem that names the wrong one and the near match."""
        checked = {}
        for name, value in given.items():
            if isinstance(value, (list, dict)):
                raise Problem(f"{where}: driver option {name} is not a text", "write it as buildx takes it: one text")
            text = str(value).lower() if isinstance(value, bool) else str("" if value is None else value)
            if self.env and name.startswith("env."):
                if not re.fullmatch(r"env\.[A-Za-z_]\w*", name):
                    raise Problem(f"{where}: {name!r} is not a driver option", "write env.NAME")
            elif name not in self.options:
                hint = suggest(name, self.options) if self.options else f"the {self.name} driver takes none"
                raise Problem(f"{where}: {name!r} is not an option of the {self.name} driver", hint)
            else:
                try:
                    self.options[name](text)
                except ValueError as error:
                    raise Problem(f"{where}: driver option {name}: {error}") from error
            checked[name] = text
        self.check_options(where, checked)
        return checked

    def check_options(self, where: str, opts: Mapping[str, str]) -> None:
        """Raise a Problem where options are valid one by one and not together."""

    def endpoint(self, where: str, given: str, builder: str, node: str, store: Store) -> str:
        """Return a node's endpoint as buildx stores it; raise a Problem where it cannot be one."""
        if given:
            raise Problem(f"{where}: the {self.name} driver takes no endpoint, and {given!r} is given", "leave it out")
        return ""

    def check_nodes(self, builder: Builder, others: Iterable[Builder]) -> None:
        """Raise a Problem where the nodes are valid one by one and not together, or not beside the user's `others`."""
        mine = {node.name for node in builder.nodes}
        for other in others:
            for taken in sorted(mine & {node.name for node in other.nodes}):
                raise Problem(
                    f"node {taken} belongs to the builder {other.name}",
                    "name the node otherwise: its container has that name",
                )

    def check_config(self, builder: Builder, config: Mapping[str, Any]) -> None:
        """Raise a Problem where a node cannot have the configuration."""

    def forces_network_host(self, node: Node) -> bool:
        """Return whether buildx adds the entitlement network.host although others are given."""
        return False

    # What is there

    def declared_name(self, stored: str, wished: Iterable[str]) -> str:
        """Return which of the `wished` nodes a stored one is; its own name where it is none of them."""
        return stored

    def as_declared(self, stored: Builder, wished: Builder) -> Builder:
        """Return a stored builder with the names and endpoints that its nodes have where they are declared."""
        return stored

    def look(self, docker: Docker, builder: Builder, raw: bytes | None) -> Callable[[], dict[str, Running]]:
        """Start to ask what runs for each node, of which `raw` is the file; the result waits for the answers. It starts nothing."""
        return ask_buildx(docker, builder.name, raw=raw)

    def must_look(self, wished: Builder, stored: Builder | None, *, same: bool, bootstrap: bool) -> Builder | None:
        """Return the builder whose nodes are to be asked before a plan is made; None where the stored file says enough."""
        return stored if bootstrap and same else None

    def settled(
        self, docker: Docker, nodes: Sequence[Node], raw: bytes, now: Mapping[str, Running], timeout: float
    ) -> Mapping[str, Running]:
        """Return what runs for a builder as declared; a daemon that is not ours and does not answer is a Problem."""
        return now

    def drift(self, node: Node, config: Mapping[str, Any], now: Running) -> list[str]:
        """Return where what runs differs from what the node declares."""
        return []

    def identity(self, node: Node, now: Running) -> str:
        """Return what tells the thing that runs for a node from its successor; "" where there is none."""
        return ""

    def successor(self, wished: Builder, stored: Builder | None, now: Mapping[str, Running]) -> Builder:
        """Return the builder that buildx is to make for the declared one, its names free where it runs beside the old one."""
        return wished

    def running(
        self, stored: Builder | None, wished: Sequence[str], found: Mapping[str, Running]
    ) -> Mapping[str, Running]:
        """Return what was found, by the declared names of the nodes that `stored` has under others."""
        return found

    def must_move(
        self, stored: Builder, config: Mapping[str, Any], running: Mapping[str, Running], *, always: bool
    ) -> bool:
        """Return whether a builder as declared has to be replaced by another one beside it."""
        return False

    def check_owner(self, wished: Builder, stored: Builder | None, found: Mapping[str, Running]) -> None:
        """Raise a Problem where what is there under the declared names is not this user's."""

    # What changes it

    def check_staged(self, docker: Docker, name: str, staged: bytes) -> None:
        """Raise a Problem where a builder that is not written yet would take over what is not this user's."""

    def before_start(
        self,
        docker: Docker,
        nodes: Sequence[Node],
        now: Mapping[str, Running],
        outdated: Mapping[str, Sequence[str]],
        *,
        bootstrap: bool,
        timeout: float,
    ) -> Iterable[Step]:
        """Yield the steps that make way for the new nodes."""
        return ()

    def start(
        self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float
    ) -> Mapping[str, Running]:
        """Start every node, wait until each answers, and return what runs."""
        try:
            return inspected(docker, name, "--bootstrap", raw=raw, timeout=timeout)
        except Problem as problem:
            raise Problem("a node does not answer", problem.what, **problem.facts) from problem

    def remember(self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, now: Mapping[str, Running]) -> Any:
        """Return what `stop` has to know of the time before a start."""
        return None

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
        """Take back a start: what was made for it is removed, what stood still stands still again."""

    def prove(self, docker: Docker, name: str, nodes: Sequence[Node], raw: bytes, timeout: float) -> None:
        """Prove that each node executes the platforms that it declares, where BuildKit's own list is no proof."""

    def discard(self, docker: Docker, nodes: Sequence[Node]) -> None:
        """Remove what was set aside, by this task or by one that was killed, when the new builder holds."""

    def empty_cache(self, docker: Docker, node: Node, timeout: float) -> Step | None:
        """Return the step that empties the cache of a node that was made anew; None where it is new anyway."""
        return None

    def beside(self, target: Builder, stored: Builder | None, running: Mapping[str, Running]) -> Mapping[str, Running]:
        """Return what runs for the nodes that are to be started, by their own names."""
        return running

    def changed_aspects(self, unlike: Iterable[str]) -> list[str]:
        """Return what a change of the builder's file is about, of all that is unlike the wish."""
        return [name for name in unlike if not name.endswith((" status", " drift"))]

    # What goes

    def place(self, node: Node) -> str:
        """Return what runs for a node, and where, as the diff names it."""
        return f"{node.container} at {node.endpoint}"

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
        """Yield the steps that remove what runs for nodes of which the user's files know no more; `raw` is the file that did.

        `left` gets, for a person, what cannot be removed because its place is gone; None makes that a Problem.
        """
        return ()

    # What a person is told

    def image(self, node: Node, now: Running | None) -> dict[str, Any] | None:
        """Return the image of a node that buildx starts."""
        return None

    def stopped_hint(self, node: Node) -> str:
        """Return what it means that a node does not run."""
        return f"nothing answers at {node.endpoint}"

    def is_local(self, node: Node) -> bool:
        """Return whether a node runs on this host's kernel."""
        return node.endpoint.startswith(("unix://", "default"))

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a `.drone.yml` as Drone reads it: values and positions come from the same events of one parser.

Drone splits a file by lines before it parses YAML (drone-yaml, yaml/parse.go): a line that begins with `---` separates
documents, whatever else stands on that line, and nothing is read from a line that begins with `...` on. The parser is
libyaml where PyYAML has it; PyYAML's own parser is taught the one thing that it reads otherwise, a tab behind a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterator

from .._problem import Problem, suggest
from .yaml_dump import library
from .yaml_scalar import value_of

# Limits: no pipeline comes near them, and a hostile file costs less than a second.
MAX_SIZE = 1 << 20
MAX_DEPTH = 100
MAX_VALUES = 100_000  # with each alias counted as what it stands for
MAX_LINE = 64 * 1024  # Go's bufio.Scanner: Drone silently reads nothing from a longer line on

KINDS = ("pipeline", "secret", "signature", "registry", "cron", "template", "approval", "deployment")


@dataclass
class Node:
    """A value in a YAML text: where it begins and ends, comments not counted."""

    kind: str  # "scalar", "mapping", "sequence" or "alias"
    start: int
    end: int
    column: int
    flow: bool = False
    children: list[Node] = field(default_factory=list)  # of a mapping: key, value, key, value, …
    text: str = ""  # a scalar's value
    size: int = 1  # how many values it has, with each alias counted as what it stands for
    made: Any = None  # the same as PyYAML's node, from which the value is made

    def get(self, name: str) -> Node | None:
        """Return the value of a mapping's key; of a key that is there twice the last one, which YAML libraries take."""
        pairs = list(zip(self.children[::2], self.children[1::2])) if self.kind == "mapping" else []
        return next((value for key, value in reversed(pairs) if key.kind == "scalar" and key.text == name), None)


@dataclass
class Document:
    """One document of a text: its root's node and value, and where the document begins and ends."""

    root: Node | None  # None in an empty document
    value: Any
    start: int  # of its `---`, or where it begins without one
    begin: int  # behind the line of its `---`
    end: int  # where the next one begins, or what Drone reads ends

    @property
    def kind(self) -> str:
        """What the document says it is: pipeline, secret, signature …"""
        return str(self.value.get("kind", "")) if isinstance(self.value, dict) else ""

    @property
    def name(self) -> str:
        """The pipeline's name; Drone calls one without a name `default`."""
        return str(self.value.get("name") or "default") if isinstance(self.value, dict) else ""


@dataclass(frozen=True)
class Part:
    """The lines of one document, as Drone splits a file."""

    start: int
    begin: int
    end: int
    separated: bool  # whether it has a `---`


def stop(text: str) -> int:
    """Return where Drone stops reading: at a line that begins with `...`, or at the end."""
    match = re.search(r"^\.\.\.", text, re.MULTILINE)
    return match.start() if match else len(text)


def parts(text: str) -> list[Part]:
    """Return the documents' lines; a directive (%YAML) stays with the `---` that it belongs to."""
    end = stop(text)
    starts = [match.start() for match in re.finditer(r"^---", text[:end], re.MULTILINE)]
    found: list[Part] = []
    at = begin = int(text.startswith("\ufeff"))
    separated = False
    for start in [*starts, end]:
        content = text[begin:start]
        if start != end and re.search(r"^%", content, re.MULTILINE) and _says_nothing(content):
            continue
        if separated or content.strip("\ufeff \r\n"):
            found.append(Part(at, begin, start, separated))
        line = text.find("\n", start, end)
        at, begin, separated = start, end if line < 0 else line + 1, True
    return found


def _says_nothing(content: str) -> bool:
    """Tell whether a document's lines are comments, blanks and directives alone."""
    return not re.search(r"^(?![ \t\ufeff]*(#|\r?$)|%)", content.rstrip("\n"), re.MULTILINE)


def read(text: str, where: str) -> list[Document]:
    """Return the documents that Drone reads, with where they are; raise a Problem that names the line of an error."""
    check_limits(text, where)
    found = []
    for part in parts(text):
        root, value = _parse(text, part, where)
        if root is not None or part.separated:
            found.append(Document(root, value, part.start, part.begin, part.end))
    return found


def values(text: str, where: str) -> list[Any]:
    """Return the values of a text's documents."""
    return [document.value for document in read(text, where)]


def check_limits(text: str, where: str) -> None:
    """Raise a Problem for a text that is too large, or that Drone reads in part only."""
    if len(text) > MAX_SIZE:
        raise Problem(f"{where} has {len(text) >> 10} KiB, more than {MAX_SIZE >> 10}", "is this a pipeline's file?")
    for number, line in enumerate(text[: stop(text)].split("\n"), 1):
        if len(line) >= MAX_LINE // 4 and len(line.encode()) >= MAX_LINE - 1:
            raise Problem(
                f"{where}, line {number} is longer than 64 KiB, and Drone reads nothing from there on",
                "break the line up (a block scalar or a file of the repository); the file was left alone",
            )


def check_format(text: str, documents: list[Document], where: str) -> None:
    """Raise a Problem where Drone would not read a pipeline that is put into this file."""
    if re.search(r"^pipeline:[ \t\n\f\r]*$", text, re.MULTILINE):
        raise Problem(
            f"{where} has a line `pipeline:`, so Drone reads it in the format of Drone 0.8 and ignores other documents",
            "convert it with `drone convert`; the file was left alone",
        )
    if re.search(r"^kind:[ \t\n\v\f\r]+template[ \t\n\v\f\r]*$", text, re.MULTILINE):
        raise Problem(
            f"{where} loads a template (kind: template), and Drone ignores everything else in it",
            "change the template (option template), or replace the file; it was left alone",
        )
    for document in documents:
        if document.value is None:
            continue
        line = f"{where}, line {text.count(chr(10), 0, document.root.start if document.root else document.begin) + 1}"
        if not isinstance(document.value, dict):
            shape = "list" if isinstance(document.value, list) else "scalar"
            raise Problem(
                f"{line}: the document is a {shape} and not a mapping, so Drone does not read the file",
                "is this a pipeline's file (kind: pipeline)? it was left alone",
            )
        kind = document.value.get("kind")
        if kind is None or isinstance(kind, (dict, list)) or not str(kind):
            raise Problem(
                f"{line}: the document has no kind, and Drone refuses the file ('yaml: missing kind attribute')",
                "write kind: pipeline; if it is in the format of Drone 0.8, use `drone convert`; the file was left alone",
            )


def oddities(text: str, where: str) -> list[str]:
    """Return what Drone reads otherwise than its author meant, for warnings."""
    found = []
    for part in parts(text):
        number = text.count("\n", 0, part.start) + 1
        head, content = text[part.start : part.begin], text[part.begin : part.end]
        if not part.separated:
            head = ""
        if re.match(r"---[^\S\n]*[^\s#]", head):
            found.append(f"{where}, line {number}: Drone ignores what stands on the line of ---")
        if re.search(r"^%", content, re.MULTILINE) and _says_nothing(content.split("\n---")[0]):
            found.append(f"{where}, line {number}: Drone refuses a file with a directive (%): remove the line")
        elif _says_nothing(content):
            found.append(
                f"{where}, line {number}: this document is empty, and Drone refuses the file "
                "('yaml: missing kind attribute'): remove a --- there"
            )
    for document in read(text, where):
        if document.kind and document.kind not in KINDS:
            found.append(
                f"{where}: Drone knows no kind {document.kind!r}, and no runner executes it: "
                f"{suggest(document.kind, KINDS)}"
            )
    return found


# The parser


def _parse(text: str, part: Part, where: str) -> tuple[Node | None, Any]:
    """Return the root of a document's lines and its value; None for an empty one."""
    yaml = library()
    # Go's scanner gives each line a newline, the last one too.
    content = text[part.begin : part.end]
    content += "" if content.endswith("\n") else "\n"
    first = text.count("\n", 0, part.begin) + 1
    try:
        loader = _loader()(content)
        try:
            root = _Composer(loader, content, part.begin, where).root()
            return root, None if root is None else loader.construct_document(root.made)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {first + mark.line}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise Problem(
            f"{where}{line}: this is not valid YAML: {reason}", "correct the file; it was left alone"
        ) from error
    except RecursionError as error:
        raise Problem(f"{where} is nested too deeply", "simplify the file; it was left alone") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise Problem(f"{where}: PyYAML cannot read it: {error}", "correct the file; it was left alone") from error


class _Composer:
    """Nodes of a document, from its parser's events."""

    def __init__(self, loader: Any, text: str, base: int, where: str) -> None:
        self.yaml = library()
        self.loader = loader
        self.text = text
        self.base = base  # where the text begins in the file
        self.where = where
        self.anchors: dict[str, Node | None] = {}  # None: not yet ended

    def root(self) -> Node | None:
        """Return the root; None where the text has no document, and raise a Problem where it has two."""
        yaml, loader = self.yaml, self.loader
        loader.get_event()
        if not loader.check_event(yaml.DocumentStartEvent):
            return None
        loader.get_event()
        root = self._node(loader.get_event(), 0)
        loader.get_event()
        if loader.check_event(yaml.DocumentStartEvent):
            mark = loader.get_event().start_mark
            raise yaml.composer.ComposerError(None, None, "another document begins without a line `---`", mark)
        return None if root.kind == "scalar" and root.start == root.end and not root.made.value else root

    def _node(self, event: Any, depth: int) -> Node:
        """Return the node that an event begins. Collections end where their last child ends: YAML's own end is the next
        token, behind every comment between."""
        yaml = self.yaml
        start, end = event.start_mark.index, event.end_mark.index
        node = Node("scalar", self.base + start, self.base + end, event.start_mark.column)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, node)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        marks = event.start_mark, event.end_mark
        if isinstance(event, yaml.ScalarEvent):
            if event.style in ("|", ">"):  # the mark is behind the blank lines and comments that follow
                node.end = self.base + start + len(self.text[start:end].rstrip(" \t\r\n"))
            node.text = event.value
            tag = self._tag(yaml.ScalarNode, event.tag, event.value, event.implicit)
            node.made = yaml.ScalarNode(tag, event.value, *marks, style=event.style)
        else:
            self._collection(event, node, marks, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, node: Node) -> Node:
        yaml = self.yaml
        if event.anchor not in self.anchors:
            raise yaml.composer.ComposerError(None, None, f"found undefined alias {event.anchor}", event.start_mark)
        target = self.anchors[event.anchor]
        if target is None:
            raise Problem(
                f"{self.where} cannot be read by Drone: &{event.anchor} holds itself", "write it out; it was left alone"
            )
        node.kind, node.size, node.made = "alias", target.size, target.made
        return node

    def _collection(self, event: Any, node: Node, marks: tuple[Any, Any], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Problem(f"{self.where} is nested too deeply", "simplify the file; it was left alone")
        mapping = isinstance(event, self.yaml.MappingStartEvent)
        node.kind, node.flow = "mapping" if mapping else "sequence", bool(event.flow_style)
        for child in self._children():
            one = self._node(child, depth + 1)
            node.children.append(one)
            node.size += one.size
            if node.size > MAX_VALUES:
                raise Problem(
                    f"{self.where} has more than {MAX_VALUES} values once its aliases are put in",
                    "write fewer aliases; the file was left alone",
                )
        if node.flow:
            node.end = self.base + self.ended
        elif node.children:
            node.end = node.children[-1].end
        made = [child.made for child in node.children]
        kind = self.yaml.MappingNode if mapping else self.yaml.SequenceNode
        value = list(zip(made[::2], made[1::2])) if mapping else made
        node.made = kind(self._tag(kind, event.tag, None, event.implicit), value, *marks, flow_style=event.flow_style)

    def _children(self) -> Iterator[Any]:
        """Yield the events that begin a child, until the collection ends."""
        yaml = self.yaml
        while True:
            event = self.loader.get_event()
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self.ended = event.end_mark.index
                return
            yield event

    def _tag(self, kind: Any, tag: str | None, value: str | None, implicit: Any) -> str:
        # Which of them it is, its constructor finds out by Go's rules.
        if tag is None and kind is self.yaml.ScalarNode and implicit[0] and value_of(value or "") != value:
            return "tag:yaml.org,2002:null"
        return str(self.loader.resolve(kind, value, implicit) if tag is None or tag == "!" else tag)


_LOADERS: dict[str, Any] = {}


def _loader() -> Any:
    """Return a loader that takes any tag, and fails for no value: what a document says there is not ours to judge."""
    yaml = library()
    if "loader" in _LOADERS:
        return _LOADERS["loader"]
    core = "tag:yaml.org,2002:"
    base = getattr(yaml, "CSafeLoader", None) or _with_tabs(yaml)

    class Loader(base):  # type: ignore[misc, valid-type]
        def flatten_mapping(self, node: Any) -> None:
            """Put merged keys (<<) where they stand, as Go's yaml.v2 does: a later key wins, merged or not."""
            pairs = []
            for key, value in node.value:
                if key.tag != f"{core}merge":
                    if key.tag == f"{core}value":
                        key.tag = f"{core}str"
                    pairs.append((key, value))
                    continue
                for one in [value] if isinstance(value, yaml.MappingNode) else reversed(value.value):
                    if not isinstance(one, yaml.MappingNode):
                        raise yaml.constructor.ConstructorError(
                            None, None, "expected a mapping for merging", one.start_mark
                        )
                    self.flatten_mapping(one)
                    pairs.extend(one.value)
            node.value = pairs

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if isinstance(node, yaml.MappingNode):
                self.flatten_mapping(node)
            return yaml.constructor.BaseConstructor.construct_mapping(self, node, deep=deep)

    def tagged(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return {f"!{suffix}": node.value}
        construct = loader.construct_mapping if isinstance(node, yaml.MappingNode) else loader.construct_sequence
        return {f"!{suffix}": construct(node, deep=True)}

    def scalar(loader: Any, node: Any) -> Any:
        return value_of(loader.construct_scalar(node))

    Loader.add_multi_constructor("", tagged)
    Loader.add_multi_constructor("!", tagged)
    for name in ("int", "float", "bool", "null"):
        Loader.add_constructor(core + name, scalar)
    # Dates, and what else would not compare with what we write, stay texts.
    for name in ("timestamp", "binary", "value"):
        Loader.add_constructor(core + name, lambda loader, node: loader.construct_scalar(node))
    _LOADERS["loader"] = Loader
    return Loader


def _with_tabs(yaml: Any) -> Any:
    """Return PyYAML's own loader, which skips a tab behind a value as libyaml and Go's yaml do."""

    class WithTabs(yaml.SafeLoader):  # type: ignore[misc]
        def scan_to_next_token(self) -> None:
            super().scan_to_next_token()
            while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
                while self.peek() == "\t":
                    self.forward()
                super().scan_to_next_token()

    return WithTabs

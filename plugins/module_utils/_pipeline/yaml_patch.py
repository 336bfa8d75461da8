# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put documents, or one step of each, into the text of a `.drone.yml`, and leave every other byte as it is.

A YAML library that loads and dumps loses comments, quotes and order. So the parser's events only say *where* things are;
the text between them is cut and kept. Whatever comes out is read again, and must mean what was meant: the touched part
the wish, all else what it was. A text for which that cannot be had (a step that others alias, say) is left alone.

Drone splits a file by lines itself: a line that begins with `---` parts documents, and after one that begins with `...` it
reads nothing. So a new document goes before the signature, and before that end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Collection, Iterable, Iterator, Mapping

from .._problem import Problem
from .yaml_dump import dump, dump_all, library, plain


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

    def get(self, name: str) -> Node | None:
        """Return the value of a mapping's key."""
        pairs = zip(self.children[::2], self.children[1::2]) if self.kind == "mapping" else ()
        return next((value for key, value in pairs if key.kind == "scalar" and key.text == name), None)


@dataclass
class Document:
    """One document of a text: its root's node and value, and where the document begins and ends."""

    root: Node
    value: Any
    start: int  # of its `---`, or where it begins without one
    end: int  # of its `...`, or where the next one begins
    ended: bool  # whether it ends with `...`

    @property
    def kind(self) -> str:
        """What the document says it is: pipeline, secret, signature …"""
        return str(self.value.get("kind", "")) if isinstance(self.value, dict) else ""

    @property
    def name(self) -> str:
        """The pipeline's name; Drone calls one without a name `default`."""
        return str(self.value.get("name") or "default") if isinstance(self.value, dict) else ""


def put(text: str, wish: Iterable[Mapping[str, Any]], *, scope: str, step: str, where: str) -> str:
    """Return the text with each of the documents in it, or with the named step of each where `scope` is "step".

    A document that is not there is added as a whole. What means the same already stays as it is written.
    """
    documents = [plain(document) for document in wish]
    if not text.strip("\ufeff \t\r\n"):
        return dump_all(documents)
    before = values(text, where)
    try:
        if _expected(before, documents, scope=scope, step=step) == list(map(_named, before)):
            return text
        for document in documents:
            text = _still_yaml(_put_one(text, document, scope=scope, step=step, where=where), where)
        _prove(text, _expected(before, documents, scope=scope, step=step), where)
    except (
        RecursionError
    ) as error:  # an alias inside of what it stands for: YAML allows it, and nothing compares with it
        raise _unsafe(where, "a part of it holds itself") from error
    return text


def take(text: str, wish: Iterable[Mapping[str, Any]], *, scope: str, step: str, where: str) -> str:
    """Return the text without these documents, or where `scope` is "step" without the named step of each.

    A pipeline without steps is none: with its last step it goes. Where no more than a signature is left, the text is empty.
    """
    names = {document["name"] for document in wish}
    try:
        return _take(text, names, scope=scope, step=step, where=where)
    except RecursionError as error:
        raise _unsafe(where, "a part of it holds itself") from error


def _take(text: str, names: Collection[str], *, scope: str, step: str, where: str) -> str:
    before = values(text, where)
    left = [one for one in (_without(value, names, scope, step) for value in before) if one is not None]
    if not any(isinstance(value, dict) and value.get("kind") != "signature" for value in left):
        return ""
    while True:
        found = read(text, where)
        here = next((one for one in found if _without(one.value, names, scope, step) != _named(one.value)), None)
        if here is None:
            break
        if _without(here.value, names, scope, step) is None:
            behind = found[found.index(here) + 1 :]
            text = text[: here.start] + (
                text[behind[0].start :] if behind else text[here.end if here.ended else len(text) :]
            )
        else:
            text = _take_step(text, here, step, where)
        _still_yaml(text, where)
    _prove(text, list(map(_named, left)), where)
    return text


def left_as_is(text: str, wish: Iterable[Mapping[str, Any]], where: str) -> list[str]:
    """Return what scope "step" does not touch and the wish has otherwise: "trigger of pipeline default", …"""
    there = {value["name"]: value for value in map(_named, values(text, where)) if _is_pipeline(value)}
    return [
        f"{key} of pipeline {document['name']}"
        for document in map(plain, wish)
        for key, value in document.items()
        if key != "steps" and document["name"] in there and there[document["name"]].get(key) != value
    ]


def sign(text: str, hmac: str, where: str) -> str:
    """Return the text with a signature that Drone takes: its own replaced, or a new one at the end."""
    for document in read(text, where):
        if document.kind == "signature":
            old = document.root.get("hmac")
            if document.value.get("hmac") == hmac:
                return text
            if old is None or old.kind != "scalar":
                raise Problem(f"{where}: its signature has no hmac", "remove the document `kind: signature`")
            return text[: old.start] + hmac + text[old.end :]
    return _add_document(text, {"kind": "signature", "hmac": hmac}, where)


def values(text: str, where: str) -> list[Any]:
    """Return the values of a text's documents; raise a Problem that names the line where it is no YAML."""
    loaded: list[Any] = _parsed(where, lambda yaml: list(yaml.load_all(text, Loader=_lenient())))
    return loaded


def read(text: str, where: str) -> list[Document]:
    """Return the documents of a text, with where they are: ten times slower than `values`, and only for a change."""
    loaded = values(text, where)
    found: list[Document] = _parsed(where, lambda yaml: _documents(text))
    for document, value in zip(found, loaded):
        document.value = value
    return found


def _parsed(where: str, parse: Callable[[Any], Any]) -> Any:
    yaml = library()
    try:
        return parse(yaml)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise Problem(f"{where}{line}: this is no YAML: {reason}", "mend the file; it was left alone") from error
    except RecursionError as error:
        raise Problem(f"{where} is nested too deeply", "mend the file; it was left alone") from error


# Where things are


def _documents(text: str) -> list[Document]:
    """Return the documents of a text, their values not yet known."""
    yaml = library()
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    found = []
    for begin in events:
        if isinstance(begin, yaml.DocumentStartEvent):
            root = _node(next(events), events, text)
            end = next(events)
            ended = bool(end.explicit)
            found.append(
                Document(root, None, begin.start_mark.index, end.start_mark.index if ended else root.end, ended)
            )
    return found


def _node(event: Any, events: Iterator[Any], text: str) -> Node:
    """Return the node that an event begins. Collections end where their last child ends: YAML's own end is the next
    token, behind every comment between."""
    kind = type(event).__name__
    start, end, column = event.start_mark.index, event.end_mark.index, event.start_mark.column
    if kind == "AliasEvent":
        return Node("alias", start, end, column)
    if kind == "ScalarEvent":
        if event.style in ("|", ">"):  # the mark is behind the blank lines and comments that follow
            end = start + len(text[start:end].rstrip(" \t\r\n"))
        return Node("scalar", start, end, column, text=event.value)
    node = Node(
        "mapping" if kind == "MappingStartEvent" else "sequence", start, end, column, flow=bool(event.flow_style)
    )
    for child in events:
        if type(child).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            if node.flow:
                node.end = child.end_mark.index
            elif node.children:
                node.end = node.children[-1].end
            return node
        node.children.append(_node(child, events, text))
    raise AssertionError("the parser ends what it begins")


def _lenient() -> Any:
    """Return a loader that takes any tag: what a document says with it is not ours to judge."""
    yaml = library()
    if "loader" not in _LOADERS:

        class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
            pass

        def tagged(loader: Any, suffix: str, node: Any) -> Any:
            if isinstance(node, yaml.ScalarNode):
                return {f"!{suffix}": node.value}
            construct = loader.construct_mapping if isinstance(node, yaml.MappingNode) else loader.construct_sequence
            return {f"!{suffix}": construct(node, deep=True)}

        Loader.add_multi_constructor("!", tagged)
        # Dates, and what else would not compare with what we write, stay texts.
        Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)
        _LOADERS["loader"] = Loader
    return _LOADERS["loader"]


_LOADERS: dict[str, Any] = {}


# Cutting and keeping


def _put_one(text: str, wish: dict[str, Any], *, scope: str, step: str, where: str) -> str:
    found = [
        document for document in read(text, where) if document.kind == "pipeline" and document.name == wish["name"]
    ]
    if len(found) > 1:
        raise Problem(f"{where} has {len(found)} pipelines named {wish['name']}", "rename all but one")
    if not found:
        return _add_document(text, wish, where)
    document = found[0]
    if scope == "step":
        return _put_step(text, document, next(one for one in wish["steps"] if one.get("name") == step), where)
    if _named(document.value) == wish:
        return text
    return _replace_root(text, document.root, dump(wish))


def _put_step(text: str, document: Document, step: dict[str, Any], where: str) -> str:
    steps = document.root.get("steps")
    here = f"{where}, pipeline {document.name}"
    if steps is None:
        return _add_steps(text, document.root, step)
    if (
        steps.kind == "alias"
        or (steps.kind == "scalar" and steps.text not in ("", "~", "null"))
        or steps.kind == "mapping"
    ):
        raise Problem(f"{here}: its steps are no list of their own", "write them out, or set scope to pipeline")
    if not steps.children:
        return _fill_steps(text, steps, document.root, step)
    values = document.value["steps"]
    same = [i for i, value in enumerate(values) if isinstance(value, dict) and value.get("name") == step["name"]]
    if len(same) > 1:
        raise Problem(f"{here}: {len(same)} steps are named {step['name']}", "rename all but one")
    if not same:
        return _add_entry(text, steps, step)
    if values[same[0]] == step:
        return text
    return _replace_entry(text, steps, same[0], step)


def _replace_entry(text: str, steps: Node, index: int, step: dict[str, Any]) -> str:
    entry = steps.children[index]
    if steps.flow:
        return text[: entry.start] + dump(step, flow=True) + text[entry.end :]
    dash = _dash(text, steps, index)
    return text[:dash] + _entry(text, step, steps.column) + _after(text, entry.end)


def _add_entry(text: str, steps: Node, step: dict[str, Any]) -> str:
    last = steps.children[-1]
    if steps.flow:
        return f"{text[: last.end]}, {dump(step, flow=True)}{text[last.end :]}"
    return _insert_line(text, last.end, " " * steps.column + _entry(text, step, steps.column))


def _add_steps(text: str, root: Node, step: dict[str, Any]) -> str:
    """Give a pipeline without `steps` the first one."""
    if root.flow:
        comma = ", " if root.children else ""
        at = root.children[-1].end if root.children else root.start + 1
        return f"{text[:at]}{comma}steps: [{dump(step, flow=True)}]{text[at:]}"
    return _insert_line(text, root.end, _indented(text, dump({"steps": [step]}), root.column, first=True))


def _fill_steps(text: str, steps: Node, root: Node, step: dict[str, Any]) -> str:
    """Give a pipeline whose `steps` is empty (`steps:`, `steps: []`) the first one."""
    if root.flow:
        return f"{text[: steps.start]}[{dump(step, flow=True)}]{text[steps.end :]}"
    head = text[: steps.start].rstrip(" ")
    column = root.column + 2
    return _insert_line(head + text[steps.end :], len(head), " " * column + _entry(text, step, column))


def _add_document(text: str, document: Mapping[str, Any], where: str) -> str:
    """Add a document at the end, but before the signature and before the end that Drone reads to."""
    documents = read(text, where)
    written = f"---{_newline(text)}{_lines(text, dump(document))}"
    at = len(text)
    for found in documents:
        if found.kind == "signature" or found.ended:
            at = found.start if found.kind == "signature" else found.end
            break
    head = text[:at]
    if head and not head.endswith("\n"):
        head += _newline(text)
    if at == len(text) and not text.endswith("\n"):
        written = written.rstrip("\r\n")
    behind = text[at:]
    if behind and not behind.startswith(("---", "...")):
        behind = f"---{_newline(text)}{behind}"  # a first document that has no `---` of its own
    return head + written + behind


def _replace_root(text: str, root: Node, written: str) -> str:
    line = text.rfind("\n", 0, root.start) + 1
    head = text[: root.start]
    if text[line : root.start].strip(" \ufeff"):  # `--- {…}`: Drone does not read what stands on the line of `---`
        head = head.rstrip(" ") + _newline(text)
        return head + _lines(text, written).rstrip("\r\n") + _after(text, root.end)
    return head + _indented(text, written, root.column, first=False).rstrip("\r\n") + _after(text, root.end)


def _after(text: str, end: int) -> str:
    """Return what follows a replaced part: from its line's end on, for a comment on that line belonged to it."""
    rest = text[end:]
    match = re.match(r"[ \t]*(#[^\r\n]*)?(?=\r?\n|\r|\Z)", rest)
    return rest[match.end() :] if match else rest


def _dash(text: str, steps: Node, index: int) -> int:
    """Return where the `-` of an entry is: between it and the entry before there are only blanks and comments."""
    at = steps.children[index - 1].end if index else steps.start
    while text[at] != "-":
        at = _line_end(text, at) if text[at] == "#" else at + 1
    return at


def _insert_line(text: str, at: int, written: str) -> str:
    """Insert lines behind the line on which a part ends."""
    end = _line_end(text, at)
    newline = _newline(text)
    return text[:end] + newline + written.rstrip("\r\n") + text[end:]


def _line_end(text: str, at: int) -> int:
    match = re.compile(r"\r?\n|\r|\Z").search(text, at)
    return match.start() if match else len(text)


def _entry(text: str, step: dict[str, Any], column: int) -> str:
    """Return a step as an entry of a list whose dashes stand in a column; the first line without its indentation."""
    return _indented(text, dump([step]), column, first=False).rstrip("\r\n")


def _indented(text: str, written: str, column: int, *, first: bool) -> str:
    lines = written.split("\n")
    margin = " " * column
    shifted = [margin + line if line and (first or number) else line for number, line in enumerate(lines)]
    return _lines(text, "\n".join(shifted))


def _lines(text: str, written: str) -> str:
    return written.replace("\n", _newline(text))


def _newline(text: str) -> str:
    """Return how the lines of a text end, mostly."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _take_step(text: str, document: Document, step: str, where: str) -> str:
    """Return the text without a step that is not the pipeline's only one."""
    steps = document.root.get("steps")
    if steps is None or steps.kind != "sequence":
        raise _unsafe(where, "its steps are no list of their own")
    index = next(
        i for i, one in enumerate(document.value["steps"]) if isinstance(one, dict) and one.get("name") == step
    )
    entry = steps.children[index]
    if steps.flow:  # with the comma before it, or behind it where it is the first
        if index:
            return text[: steps.children[index - 1].end] + text[entry.end :]
        return text[: entry.start] + text[steps.children[1].start :]
    dash = _dash(text, steps, index)
    begin = text.rfind("\n", 0, dash) + 1
    if not text[begin:dash].strip():
        end = _line_end(text, entry.end)
        behind = re.match(r"\r?\n|\r", text[end:])
        return text[:begin] + text[end + (behind.end() if behind else 0) :]
    raise _unsafe(where, "the step shares its line")


def _without(value: Any, names: Collection[str], scope: str, step: str) -> Any:
    """Return what is left of a document; None where nothing is."""
    value = _named(value)
    if not _is_pipeline(value) or value["name"] not in names:
        return value
    if scope == "pipeline":
        return None
    steps = value.get("steps")
    if not isinstance(steps, list):
        return value
    left = [one for one in steps if not (isinstance(one, dict) and one.get("name") == step)]
    if len(left) == len(steps):
        return value
    return {**value, "steps": left} if left else None


def _expected(before: list[Any], wish: list[dict[str, Any]], *, scope: str, step: str) -> list[Any]:
    """Return the values that a text has once the wish is in it: the wished part new, all else as it was."""
    wished = {document["name"]: document for document in wish}
    expected = []
    for value in map(_named, before):
        if _is_pipeline(value) and value["name"] in wished:
            new = wished.pop(value["name"])
            value = (
                new if scope == "pipeline" else _with_step(value, next(s for s in new["steps"] if s["name"] == step))
            )
        expected.append(value)
    return [*expected, *wished.values()]


def _prove(text: str, expected: list[Any], where: str) -> None:
    """Raise a Problem unless the new text means what was meant, in whatever order."""
    left = list(map(_named, values(text, where)))
    for value in expected:
        if value not in left:
            raise _unsafe(where, "another part of it would change its meaning")
        left.remove(value)
    if left:
        raise _unsafe(where, "it would hold more than meant")


def _still_yaml(text: str, where: str) -> str:
    """Return a changed text; raise a Problem where the change broke it."""
    try:
        values(text, where)
    except Problem as problem:
        raise _unsafe(where, problem.what) from problem
    return text


def _is_pipeline(value: Any) -> bool:
    return isinstance(value, dict) and value.get("kind") == "pipeline"


def _named(value: Any) -> Any:
    """Return a document with the name that Drone gives a pipeline without one."""
    return {**value, "name": str(value.get("name") or "default")} if _is_pipeline(value) else value


def _with_step(value: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    steps = value.get("steps")
    if not isinstance(steps, list):
        return {**value, "steps": [step]}
    names = [one.get("name") if isinstance(one, dict) else None for one in steps]
    if step["name"] in names:
        at = names.index(step["name"])
        return {**value, "steps": [*steps[:at], step, *steps[at + 1 :]]}
    return {**value, "steps": [*steps, step]}


def _unsafe(where: str, why: str) -> Problem:
    return Problem(
        f"{where} is written in a way that cannot be changed in part: {why}",
        "does another part alias this one (&name, *name)? write it out; the file was left alone",
    )

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put documents, or one step of each, into the text of a `.drone.yml`, and leave every other byte as it is.

A YAML library that loads and dumps loses comments, quotes and order. So `yaml_read.py` says *where* things are, and the
text between them is cut and kept. The result is read again and must mean what was meant: the touched part the wish,
all else what it was. A text for which that is not possible (a step that others alias, say) is left alone.

Drone reads nothing behind a line that begins with `...`, so a new document goes before it, and before the signature.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Collection, Iterable, Mapping

from .._problem import Problem
from .yaml_dump import dump, dump_all, plain
from .yaml_read import check_format, check_limits, read, stop, values

if TYPE_CHECKING:
    from .yaml_read import Document, Node


def put(text: str, wish: Iterable[Mapping[str, Any]], *, scope: str, step: str, where: str) -> str:
    """Return the text with each of the documents in it, or with the named step of each where `scope` is "step".

    A document that is not there is added as a whole. What means the same already stays as it is written.
    """
    documents = [plain(document) for document in wish]
    if not text.strip("\ufeff \t\r\n"):
        return dump_all(documents)
    found = read(text, where)
    check_format(text, found, where)
    before = [document.value for document in found]
    expected = _expected(before, documents, scope=scope, step=step)
    if _strict(expected) == _strict(list(map(_named, before))):
        return text
    for document in documents:
        text = _still_yaml(_put_one(text, document, scope=scope, step=step, where=where), where)
    _prove(text, expected, where)
    return text


def take(text: str, wish: Iterable[Mapping[str, Any]], *, scope: str, step: str, where: str) -> str:
    """Return the text without these documents, or where `scope` is "step" without the named step of each.

    A pipeline without steps is none: with its last step it goes. Where no more than a signature is left, the text is empty.
    """
    names = {document["name"] for document in wish}
    before = values(text, where)
    left = [one for one in (_without(value, names, scope, step) for value in before) if one is not _REMOVED]
    if not any(isinstance(value, dict) and value.get("kind") != "signature" for value in left):
        if left == before:
            return text
        # Unless somebody keeps something behind `...`.
        if re.fullmatch(r"(\.\.\..*)?(\s|#.*)*", text[stop(text) :]):
            return ""
    while True:
        found = read(text, where)
        here = next((one for one in found if _without(one.value, names, scope, step) != _named(one.value)), None)
        if here is None:
            break
        if _without(here.value, names, scope, step) is _REMOVED:
            # Not behind a byte order mark alone: there Drone takes `---` for no separator.
            text = text[: here.start].lstrip("\ufeff") + text[here.end :]
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
            old = document.root.get("hmac") if document.root else None
            if document.value.get("hmac") == hmac:
                return text
            if old is None or old.kind != "scalar":
                raise Problem(f"{where}: its signature has no hmac", "remove the document `kind: signature`")
            return text[: old.start] + hmac + text[old.end :]
    return _add_document(text, {"kind": "signature", "hmac": hmac}, where)


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
    root = _root(document, where)
    if scope == "step":
        return _put_step(text, document, next(one for one in wish["steps"] if one.get("name") == step), where)
    if _strict(_named(document.value)) == _strict(wish):
        return text
    return _replace_root(text, root, dump(wish))


def _root(document: Document, where: str) -> Node:
    if document.root is None or document.root.kind != "mapping":
        raise _unsafe(where, "its root is not a mapping of its own")
    return document.root


def _put_step(text: str, document: Document, step: dict[str, Any], where: str) -> str:
    root = _root(document, where)
    steps = root.get("steps")
    here = f"{where}, pipeline {document.name}"
    if steps is None:
        return _add_steps(text, root, step)
    if (
        steps.kind == "alias"
        or (steps.kind == "scalar" and steps.text not in ("", "~", "null"))
        or steps.kind == "mapping"
    ):
        raise Problem(f"{here}: its steps are not a list of their own", "write them out, or set scope to pipeline")
    if not steps.children:
        return _fill_steps(text, steps, root, step)
    entries = document.value["steps"]
    same = [i for i, value in enumerate(entries) if isinstance(value, dict) and value.get("name") == step["name"]]
    if len(same) > 1:
        raise Problem(f"{here}: {len(same)} steps are named {step['name']}", "rename all but one")
    if not same:
        return _add_entry(text, steps, step)
    if _strict(entries[same[0]]) == _strict(step):
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
    signature = next((found for found in documents if found.kind == "signature"), None)
    at = signature.start if signature else stop(text)
    written = _lines(text, dump(document))
    last = next((found for found in reversed(documents) if found.end <= at), None)
    if last is not None and last.value is None and not text[last.begin : last.end].strip():
        # An empty document, which Drone refuses: filled, and not followed by another one.
        head = text[: last.begin]
        if not head.endswith("\n"):
            head += _newline(text)
        return head + written + text[last.end :]
    # Behind comments alone there is no document to separate from; Drone would take the comments for an empty one.
    if text[:at].strip("\ufeff \t\r\n") and (last is not None or at != len(text)):
        written = f"---{_newline(text)}{written}"
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
    steps = _root(document, where).get("steps")
    if steps is None or steps.kind != "sequence":
        raise _unsafe(where, "its steps are not a list of their own")
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


# What is left of a document that goes; None is the value of an empty one.
_REMOVED = object()


def _without(value: Any, names: Collection[str], scope: str, step: str) -> Any:
    """Return what is left of a document; _REMOVED where nothing is."""
    value = _named(value)
    if not _is_pipeline(value) or value["name"] not in names:
        return value
    if scope == "pipeline":
        return _REMOVED
    steps = value.get("steps")
    if not isinstance(steps, list):
        return value
    left = [one for one in steps if not (isinstance(one, dict) and one.get("name") == step)]
    if len(left) == len(steps):
        return value
    return {**value, "steps": left} if left else _REMOVED


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
    left = [_strict(_named(value)) for value in values(text, where) if value is not None]
    for value in expected:
        if value is None:  # an empty document says nothing
            continue
        if _strict(value) not in left:
            raise _unsafe(where, "another part of it would change its meaning")
        left.remove(_strict(value))
    if left:
        raise _unsafe(where, "it would hold more than meant")
    check_limits(text, where)


def _strict(value: Any) -> Any:
    """Return a value that equals another only of the same type: to Python 1, 1.0 and True are equal, to Go they are not."""
    if isinstance(value, dict):
        return {(type(name), name): _strict(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(one) for one in value]
    return (type(value), value)


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

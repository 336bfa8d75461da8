# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One step or one document of a `.drone.yml` changes, and every other byte stays: over careless and hostile files."""

from __future__ import annotations

import difflib

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import yaml_patch as patch
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import yaml_read
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

STEP = {"name": "docker", "image": "plugin:1", "settings": {"repo": "octocat/example", "tags": "latest"}}
WISH = {"kind": "pipeline", "name": "default", "steps": [STEP]}

PLAIN = """\
# the pipeline of our app
kind: pipeline   # what it is
name: default

steps:
  # tests come first
  - name: test          # fast
    image: 'golang'     # quoted, as somebody liked it
    commands: [go test ./...]

  # the image
  - name: docker
    image: plugin:0   # old
    settings:
      repo: octocat/example
      tags: [ old ]   # the last line of the step

  # behind the image
  - name: notify
    image: "slack"
# the end
"""

# Files in which the step `docker` of pipeline `default` is replaced.
REPLACED = {
    "with comments everywhere": PLAIN,
    "with CRLF": PLAIN.replace("\n", "\r\n"),
    "without a newline at its end": PLAIN.rstrip("\n"),
    "with the step last and without a newline": "kind: pipeline\nname: default\nsteps:\n- name: docker\n  image: x",
    "with a comment behind the last step": "kind: pipeline\nname: default\nsteps:\n- name: docker\n  image: x\n# end",
    "with dashes under the key": PLAIN.replace("\n  ", "\n"),
    "with wide dashes": "kind: pipeline\nname: default\nsteps:\n    -   name: docker\n        image: x\n    -   name: b\n",
    "with a dash on its own line": "kind: pipeline\nname: default\nsteps:\n  -\n    # why\n    name: docker\n    image: x\n  - name: b\n",
    "with a comment that holds a dash": "kind: pipeline\nname: default\nsteps:\n  - name: a\n  # - name: docker\n  - name: docker\n",
    "in flow style inside": "kind: pipeline\nname: default\nsteps:\n  - {name: a}\n  - {name: docker, image: x}  # why\n  - {name: b}\n",
    "with a list in flow style": "kind: pipeline\nname: default\nsteps: [{name: a}, {name: docker, image: x}, {name: b}]  # all\n",
    "in flow style as a whole": "{kind: pipeline, name: default, steps: [{name: docker, image: x}], trigger: {branch: main}}\n",
    "as JSON": '{"kind": "pipeline",\n "name": "default",\n "steps": [\n  {"name": "a"},\n  {"name": "docker", "image": "x"}\n ]}\n',
    "with a block text at the step's end": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    commands:\n      - |\n        one\n\n        two\n\n\n# a comment\n  - name: b\n",
    "with a kept block text": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    commands:\n      - |+\n        one\n\n\n  - name: b\n",
    "with a folded text that looks like a separator": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    x: >-\n      a\n      --- b\n  - name: b\n",
    "with other documents": f"---\nkind: secret\nname: s\nget: {{path: a}}  # q\n---\n{PLAIN}---\n# sig\nkind: signature\nhmac: abc\n\n...\n",
    "with a pipeline of another name": PLAIN + "---\nkind: pipeline\nname: other\nsteps:\n  - name: docker\n    image: mine # keep\n",
    "without a name": PLAIN.replace("name: default\n", ""),
    "with an alias inside": "kind: pipeline\nname: default\nx: &x {a: 1}\nsteps:\n  - name: docker\n    settings: *x\n  - name: b\n    settings: *x\n",
    "with an alias at its end": "kind: pipeline\nname: default\nx: &x\n  a: 1\nsteps:\n  - name: docker\n    settings: *x  # theirs\n  - name: b\n",
    "with a merge key": "kind: pipeline\nname: default\nx: &x {pull: always}\nsteps:\n  - <<: *x\n    name: docker\n  - <<: *x\n    name: b\n",
    "with an anchor on the step": "kind: pipeline\nname: default\nsteps:\n  - &d\n    name: docker\n    image: x\n  - name: b\n",
    "with tags": "kind: pipeline\nname: default\nfrom: !vault |\n  abc\nsteps:\n  - !mine\n    name: a\n  - name: docker\n",
    "with a BOM": "\ufeff" + PLAIN,
    "in other scripts": "# Ünïcödé 🐳\nkind: pipeline\nname: default\nsteps:\n  - name: a\n    image: 日本 # 語\n  - name: docker\n  - name: é\n",
    "with an empty value at its end": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    image:\n    # nothing\n  - name: b\n",
    "with trailing blank lines": PLAIN + "\n\n\n",
    "with a deeper comment behind": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    image: x\n      # deep\n  - name: b\n",
    "with a quoted text over lines": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    image: \"x\n      y\"\n  - name: b\n",
    "with a plain text over lines": "kind: pipeline\nname: default\nsteps:\n  - name: docker\n    image: x\n      y\n      z\n  - name: b\n",
    "with steps in the middle": "kind: pipeline\nsteps:\n- name: docker\n  image: x\n\ntrigger:\n  branch: [main]  # only\nname: default\n",
    "with a directive": "%YAML 1.1\n---\nkind: pipeline\nname: default\nsteps:\n  - name: docker\n",
}  # fmt: skip

# Files to which the step `docker` of pipeline `default` is added.
ADDED = {
    "with another step": "kind: pipeline\nname: default\nsteps:\n- name: a   # first\n  image: x\n\n# end\n",
    "with steps deep in": "kind: pipeline\nname: default\nsteps:\n      - name: a\n        image: x # y\ntrigger: {branch: main}\n",
    "without steps": "kind: pipeline\nname: default  # n\n# end\n",
    "without steps, without a newline": "kind: pipeline\nname: default",
    "with steps that are nothing": "kind: pipeline\nname: default\nsteps:\n# end\ntrigger: {branch: main}\n",
    "with steps that are nothing, and a comment": "kind: pipeline\nname: default\nsteps:   # none yet\n",
    "with steps that are empty": "kind: pipeline\nname: default\nsteps: []\ntrigger: {branch: main}\n",
    "with steps that are empty, and a comment": "kind: pipeline\nname: default\nsteps: []   # none yet\n# end\n",
    "with steps in flow style": "kind: pipeline\nname: default\nsteps: [ {name: a} ]  # all\n",
    "in flow style": "{kind: pipeline, name: default}\n",
    "in flow style with empty steps": "{kind: pipeline, name: default, steps: []}\n",
    "without a newline": "kind: pipeline\nname: default\nsteps:\n- name: a\n  image: x",
    "with CRLF": "kind: pipeline\r\nname: default\r\nsteps:\r\n- name: a\r\n  image: x\r\n---\r\nkind: secret\r\nname: s\r\n",
    "with CRLF, without steps": "kind: pipeline\r\nname: default\r\n",
    "with a block text last": "kind: pipeline\nname: default\nsteps:\n  - name: a\n    commands:\n      - |\n        one\n\n---\nkind: secret\nname: s\n",
}  # fmt: skip

# Files to which pipeline `default` is added as a whole.
WHOLE = {
    "nothing": "",
    "blanks": "\n  \n",
    "a comment alone": "# nothing here yet\n",
    "a comment without a newline": "# nothing here yet",
    "another pipeline": "kind: pipeline\nname: other\nsteps: []\n",
    "another pipeline without a newline": "kind: pipeline\nname: other\nsteps: []",
    "another pipeline with CRLF": "---\r\nkind: pipeline\r\nname: other\r\n",
    "a signature": "kind: pipeline\nname: other\n---\nkind: signature\nhmac: abc\n\n...\n",
    "a signature alone": "kind: signature\nhmac: abc\n",
    "an end": "kind: pipeline\nname: other\n...\n",
    "an end and what Drone never reads": "kind: pipeline\nname: other\n...\n---\nkind: pipeline\nname: ignored\n",
    "a secret of the same name": "kind: secret\nname: default\n",
    "a BOM": "\ufeffkind: pipeline\nname: other\n",
}


def put(text, scope="step", wish=WISH):
    return patch.put(text, [wish], scope=scope, step="docker", where=".drone.yml")


def load(text):
    return [document.value for document in yaml_read.read(text, "a")]


def kept(before, after):
    """Return the lines of `before` that are not in `after`."""
    lines = difflib.ndiff(before.splitlines(True), after.splitlines(True))
    return [line[2:] for line in lines if line.startswith("- ")]


def the_pipeline(text):
    return next(
        {"name": "default", **one}
        for one in load(text)
        if one and one.get("kind") == "pipeline" and one.get("name", "default") == "default"
    )


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED)
def test_the_step_is_replaced_where_it_stands_in_a_file(text):
    after = put(text)
    steps = the_pipeline(after)["steps"]
    assert [one["name"] for one in steps if "name" in one] == [
        one["name"] for one in the_pipeline(text)["steps"] if "name" in one
    ]
    assert STEP in steps
    assert put(after) == after, "a second run changes nothing"


@pytest.mark.parametrize("text", {**REPLACED, **ADDED}.values(), ids={**REPLACED, **ADDED})
def test_all_but_the_step_keeps_its_meaning_in_a_file(text):
    def without_step(one):
        steps = [step for step in one.get("steps") or [] if step.get("name") != "docker"]
        return {**one, "steps": steps}

    before, after = load(text), load(put(text))
    assert [without_step(one) for one in after] == [without_step(one) for one in before]


def test_only_the_bytes_of_the_step_change():
    after = put(PLAIN)
    head, rest = PLAIN.split("  - name: docker\n")
    tail = rest[rest.index("\n\n  # behind") :]
    assert after.startswith(head)
    assert after.endswith(tail)
    assert after[len(head) : -len(tail)] == (
        "  - name: docker\n    image: plugin:1\n    settings:\n      repo: octocat/example\n      tags: latest"
    )


@pytest.mark.parametrize("text", ADDED.values(), ids=ADDED)
def test_a_step_that_is_not_there_is_added_and_no_other_line_lost(text):
    after = put(text)
    assert the_pipeline(after)["steps"][-1] == STEP
    assert put(after) == after
    flat = text.startswith("{") or "steps: [" in text
    assert [line for line in kept(text, after) if line.strip()] == [] or flat or not text.endswith("\n")
    assert after.endswith("\n") == text.endswith("\n")


@pytest.mark.parametrize("scope", ["step", "pipeline"])
@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_pipeline_that_is_not_there_is_added_to_a_file_of(text, scope):
    after = put(text, scope)
    assert the_pipeline(after) == WISH
    assert put(after, scope) == after
    assert [line for line in kept(text, after) if line.strip()] == [] or not text.endswith("\n")
    # As Drone reads it: nothing behind the end, the signature last.
    read_by_drone = [one for one in load(after.split("\n...")[0]) if isinstance(one, dict)]
    assert WISH in read_by_drone
    if "signature" in text:
        assert read_by_drone[-1]["kind"] == "signature"


@pytest.mark.parametrize("text", {**REPLACED, **ADDED}.values(), ids={**REPLACED, **ADDED})
def test_the_whole_pipeline_is_replaced_in_a_file(text):
    after = put(text, "pipeline")
    assert the_pipeline(after) == WISH
    others = [one for one in load(text) if one.get("kind") != "pipeline" or one.get("name", "default") != "default"]
    assert [one for one in load(after) if one != WISH] == others
    assert put(after, "pipeline") == after


@pytest.mark.parametrize("scope", ["step", "pipeline"])
@pytest.mark.parametrize("text", {**REPLACED, **ADDED}.values(), ids={**REPLACED, **ADDED})
def test_no_line_ending_of_another_kind_comes_into_a_file(text, scope):
    after = put(text, scope)
    if "\r\n" in text:
        assert after.count("\n") == after.count("\r\n")
    else:
        assert "\r" not in after


def test_what_means_the_same_stays_as_somebody_wrote_it():
    text = "name: default\nkind: 'pipeline'\nsteps: [{settings: {tags: \"latest\", repo: octocat/example}, image: 'plugin:1', name: docker}]"
    assert put(text) == text
    assert put(text, "pipeline") == text


def test_other_documents_and_comments_stay_byte_for_byte_when_a_pipeline_is_replaced():
    head = "# ours\n---\nkind: secret   # s\nname: 's'\n---\n# above\n"
    tail = "\n# below\n\n---\nkind:   cron\nname: c # c\n"
    after = put(head + "kind: pipeline\nname: default\nsteps: [{name: x}]" + tail, "pipeline")
    assert after.startswith(head)
    assert after.endswith(tail)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: pipeline\nname: [unclosed\n", "line"),
        ("kind: pipeline\n\tname: x\n", "line 2"),
        ("a: *nobody\n", "not valid YAML"),
        ("kind: pipeline\nname: default\nsteps: *x\n", "not valid YAML"),
        ("kind: pipeline\nname: default\nsteps: text\n", "not a list"),
        ("kind: pipeline\nname: default\nsteps: {a: b}\n", "not a list"),
        ("kind: pipeline\nname: default\n---\nkind: pipeline\n", "2 pipelines named default"),
        ("kind: pipeline\nname: default\nsteps: [{name: docker}, {name: docker}]\n", "2 steps are named docker"),
        ("x: &s [{name: docker}]\nkind: pipeline\nname: default\nsteps: *s\n", "not a list of their own"),
        (
            "kind: pipeline\nname: default\nsteps:\n- &d {name: docker, image: x}\n- <<: *d\n  name: b\n",
            "cannot be changed in part",
        ),
        ("[" * 3000 + "]" * 3000, "deep"),
        ("kind: pipeline\nx: " + "[" * 30000, "deep"),
        ("kind: pipeline\nx: &x [*x]\n", "holds itself"),
        (
            "kind: pipeline\na: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")),
            "aliases",
        ),
        ("kind: pipeline\nx: " + "y" * 70000 + "\n", "line 2 is longer than 64 KiB"),
        ("kind: pipeline\n" + "# x\n" * 300000, "KiB"),
        # What Drone does not read as a file of pipelines.
        ("pipeline:\n  build:\n    image: golang\n", "drone convert"),
        ("# 0.8\nworkspace:\n  base: /go\n\npipeline:  \r\n  build: {image: golang}\r\n", "drone convert"),
        ("kind: pipeline\nname: other\n---\npipeline:\n", "drone convert"),
        ("pipeline:  # ours\n  build:\n    image: golang\n", "no kind"),
        ("kind: template\nload: multiarch.yaml\ndata: {a: b}\n", "template"),
        ("kind: pipeline\nname: other\n---\nkind:   template\nload: x.yaml\n", "template"),
        ("- kind: pipeline\n", "list"),
        ("pipeline\n", "scalar"),
        ("name: default\nsteps: []\n", "no kind"),
        ("kind:\nname: default\n", "no kind"),
        ("kind: [pipeline]\nname: default\n", "no kind"),
        ("local p = {};\n{kind: 'pipeline'}\n", "not valid YAML"),
        ("def main(ctx):\n  return {}\n", "drone convert"),
        ("kind: pipeline\nname: default\n? [a]\n: b\n", "unhashable"),
        ("kind: pipeline\nname: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_left_alone_with_the_reason(text, says):
    with pytest.raises(Problem, match=says) as caught:
        put(text)
    assert ".drone.yml" in str(caught.value)


# Seen in real files; each must be read, and changed.
ODD = {
    "a tab behind a value": "kind: pipeline\nname:\tdefault\nsteps:\n- name: a\n  image: golang\t# c\n",
    "a tab before a value": "kind: pipeline\nname: default\nsteps:\n- name: a\n  image:\tgolang\n",
    "a number that is none": "kind: pipeline\nname: default\nx: [0x_, 1_, 0b_, -_, .inf, .nan, 1:30, 2001-99-99, 2001-02-30 25:61:61]\n",
    "tags with nonsense": 'kind: pipeline\nname: default\nx: [!!int z, !!float z, !!bool z, !!timestamp z, !!binary "*", !!python/object:os.system x]\n',
    "a key that is there twice": "kind: pipeline\nname: other\nname: default\nsteps: [{name: x}]\nsteps:\n- name: a\n",
    "text behind the end": "kind: pipeline\nname: default\n...\n<<not yaml: [\n",
    "the pipeline behind the end": "kind: secret\nname: s\n...\n---\nkind: pipeline\nname: default\nsteps: [{name: x}]\n",
    "an empty document at the end": "kind: pipeline\nname: other\nsteps: []\n---\n",
    "an empty document at the begin": "---\n---\nkind: pipeline\nname: other\n",
    "a comment before the first document": "# ours\n---\nkind: pipeline\nname: default\n",
}


@pytest.mark.parametrize("fallback", [False, True], ids=["libyaml", "without libyaml"])
@pytest.mark.parametrize("scope", ["step", "pipeline"])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_a_file_is_read_and_changed_that_has(text, scope, fallback, monkeypatch):
    if fallback:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    monkeypatch.setattr(yaml_read, "_LOADERS", {})
    after = put(text, scope)
    pipeline = the_pipeline(after)
    assert STEP in pipeline["steps"]
    assert put(after, scope) == after
    left = [one for one in load(take(after, scope)) if one and one.get("name") == "default"]
    assert not any(STEP in (one.get("steps") or []) for one in left)


def test_what_drone_reads_otherwise_is_told():
    def told(text):
        return " ".join(yaml_read.oddities(text, "a"))

    assert "line 3: this document is empty" in told("kind: pipeline\nname: a\n---\n")
    assert "line 1: this document is empty" in told("# c\n---\nkind: pipeline\n")
    assert "line 1: Drone ignores what stands" in told("--- !x\nkind: pipeline\n")
    assert "directive" in told("%YAML 1.1\n---\nkind: pipeline\n")
    assert "did you mean pipeline?" in told("kind: Pipeline\n")
    assert told("---  # c\nkind: pipeline\n---\nkind: secret\n...\nx") == ""


def test_an_empty_document_is_filled_since_drone_refuses_it():
    assert put("kind: secret\nname: s\n---\n").startswith("kind: secret\nname: s\n---\nkind: pipeline\n")


def test_a_comment_alone_is_not_made_a_document_which_drone_would_refuse():
    assert put("# nothing yet\n").startswith("# nothing yet\nkind: pipeline\n")


@pytest.mark.parametrize("scope", ["step", "pipeline"])
def test_a_pipeline_is_taken_from_a_file_with_an_empty_document(scope):
    text = "kind: secret\nname: s\n---\nkind: pipeline\nname: default\nsteps: [{name: docker}]\n---\n"
    assert take(text, scope) == "kind: secret\nname: s\n---\n"


def test_true_is_not_the_number_one():
    wish = {**WISH, "steps": [{**STEP, "privileged": True}]}
    text = put("", wish=wish).replace("privileged: true", "privileged: 1")
    assert "privileged: true" in put(text, wish=wish)


def test_a_merged_key_behind_wins_as_in_go():
    assert load("x: &x {a: 1, b: 1}\nw: {a: 2, <<: *x, b: 3}\n")[0]["w"] == {"a": 1, "b": 3}
    assert load("x: &x {a: 1}\nz: &z {a: 2}\nw: {<<: [*x, *z]}\n")[0]["w"] == {"a": 1}


def test_what_scope_step_leaves_as_it_is_is_told():
    wish = {**WISH, "trigger": {"branch": ["main"]}}
    assert patch.left_as_is(PLAIN, [wish], "a") == ["trigger of pipeline default"]
    assert patch.left_as_is(PLAIN, [WISH], "a") == []


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("kind: pipeline\n", "kind: pipeline\n---\nkind: signature\nhmac: new\n"),
        ("kind: pipeline\n---\nkind: signature\nhmac: 'old' # s\n\n...\n", "kind: pipeline\n---\nkind: signature\nhmac: new # s\n\n...\n"),
        ("kind: pipeline\r\n", "kind: pipeline\r\n---\r\nkind: signature\r\nhmac: new\r\n"),
        ("kind: pipeline\n...\n# rest\n", "kind: pipeline\n---\nkind: signature\nhmac: new\n...\n# rest\n"),
    ],
)  # fmt: skip
def test_a_signature_is_put_where_drone_looks_for_it(text, after):
    assert patch.sign(text, "new", "a") == after
    assert patch.sign(after, "new", "a") == after


@pytest.mark.parametrize(
    "tag", ["1e3", "0o17", "0b1", "1_000", "1.10", "yes", "~", "0x1F", "12:30", ".5", "123e4567", "", " x"]
)
def test_a_text_that_a_yaml_of_go_would_take_for_a_number_is_quoted(tag):
    text = put("", wish={**WISH, "steps": [{"name": "docker", "tags": [tag]}]})
    written = text.split("- ")[-1].strip("\n")
    assert written[0] in "'\"", written
    assert yaml.safe_load(text)["steps"][0]["tags"] == [tag]


def take(text, scope="step"):
    return patch.take(text, [WISH], scope=scope, step="docker", where=".drone.yml")


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED)
def test_the_step_is_taken_out_of_a_file_and_nothing_else(text):
    after = take(text)
    expected = []
    for one in load(text):
        if one.get("kind") == "pipeline" and one.get("name", "default") == "default":
            one = {**one, "steps": [step for step in one["steps"] if step.get("name") != "docker"]}
            if not one["steps"]:
                continue
        expected.append(one)
    assert load(after) == expected
    assert take(after) == after
    assert "\r\n" not in text or after.count("\n") == after.count("\r\n")


@pytest.mark.parametrize("text", {**REPLACED, **ADDED}.values(), ids={**REPLACED, **ADDED})
def test_the_whole_pipeline_is_taken_out_of_a_file(text):
    after = take(text, "pipeline")
    others = [one for one in load(text) if one.get("kind") != "pipeline" or one.get("name", "default") != "default"]
    assert load(after) == others
    assert take(after, "pipeline") == after


@pytest.mark.parametrize("scope", ["step", "pipeline"])
@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_what_was_added_as_a_whole_goes_as_a_whole(text, scope):
    after = take(put(text, scope), scope)
    assert [one for one in load(after) if one is not None] == [
        one for one in load(text) if one is not None and (one.get("kind") != "signature" or "pipeline" in text)
    ]


def test_only_the_lines_of_the_step_are_taken():
    begin, end = PLAIN.index("  - name: docker\n"), PLAIN.index("\n  # behind")
    assert take(PLAIN) == PLAIN[:begin] + PLAIN[end:]


def test_a_file_with_no_more_than_a_signature_is_empty():
    assert take("kind: pipeline\nname: default\nsteps: [{name: docker}]\n---\nkind: signature\nhmac: x\n") == ""


def test_a_step_that_others_alias_is_not_taken():
    with pytest.raises(Problem, match="cannot be changed in part"):
        take("kind: pipeline\nname: default\nsteps:\n- &d {name: docker, image: x}\n- <<: *d\n  name: b\n")

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No module shows or logs a secret, wherever it stands in the arguments and whatever its shape.

The modules are those that the directory has: a new one is tested as soon as it is there.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.common import warnings
from ansible_collections.multiarch.drone.tests.unit.plugins.modules.every_module import (
    ATTRIBUTES,
    MARK,
    MODULES,
    SHAPES,
    URLS,
    filled,
    give,
    imported,
    spec_of,
)

NAMES = ("HTTPS_PASSWORD", "github_token", "AWS_SECRET_ACCESS_KEY", "splunk-token", "env.SOMETHING", "api-key")


@pytest.fixture
def sinks(monkeypatch, capsys):
    """Run a module up to its work, which says all that it knows; return what was logged and printed."""

    def run(name, arguments):
        logged = []
        syslog = SimpleNamespace(
            openlog=lambda *_args: None, syslog=lambda _level, text: logged.append(text), LOG_INFO=6, LOG_USER=8
        )
        monkeypatch.setattr(basic, "syslog", syslog)
        monkeypatch.setattr(basic, "has_journal", False)
        give(monkeypatch, arguments)
        warnings._global_warnings.clear()

        def work(module, _work):
            params = module.params
            module.log(f"debug {params!r}")
            module.warn(f"a warning of {params!r}")
            module.fail_json(
                msg=f"{params!r} {json.dumps(params)} {params}",
                diff={
                    "before": json.dumps(params, indent=2, ensure_ascii=False),
                    "after": yaml.safe_dump(params, allow_unicode=True),
                },
                exception=f"Traceback: {ValueError(str(params))!r}",
                params=params,
            )

        monkeypatch.setattr(imported(name), "serve", work)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            imported(name).main()
        printed = "".join(capsys.readouterr())
        assert json.loads(printed)["failed"]
        return "\n".join(logged), printed

    return run


def leaks(*shown):
    """Return where the mark shows, in words that can be read."""
    return [text[max(at - 40, 0) : at + 40] for text in shown for at in range(len(text)) if text.startswith(MARK, at)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODULES)
def test_declared_secrets_are_in_no_log_and_no_result(monkeypatch, sinks, name, shape):
    given = filled(spec_of(monkeypatch, name), SHAPES[shape])
    assert leaks(*sinks(name, given)) == []
    assert leaks(*sinks(name, {**given, "no_such_option": "x"})) == []


@pytest.mark.parametrize("url", {**URLS, **ATTRIBUTES})
@pytest.mark.parametrize("name", MODULES)
def test_urls_and_attributes_in_any_option_show_no_password(monkeypatch, sinks, name, url):
    if name == "drone_pipeline" and url in ATTRIBUTES:
        pytest.skip("it has no such attributes")
    given = filled(spec_of(monkeypatch, name), {**URLS, **ATTRIBUTES}[url], url=True)
    assert leaks(*sinks(name, given)) == []


@pytest.mark.parametrize("name", MODULES)
def test_values_of_free_dictionaries_are_hidden_by_their_names(monkeypatch, sinks, name):
    if name == "drone_pipeline":
        pytest.skip("it looks into its descriptions itself: test_drone_pipeline.py")

    def free(spec):
        for option, what in spec.items():
            if what.get("type") == "dict" and not what.get("options") and not what.get("no_log"):
                for key in NAMES:
                    yield {option: {key: SHAPES["quotes"], "deep": {key: SHAPES["escapes"]}}}
            for inner in free(what.get("options") or {}):
                yield {option: [inner] if what.get("type") == "list" else inner}

    for given in free(spec_of(monkeypatch, name)):
        assert leaks(*sinks(name, given)) == [], given


@pytest.mark.parametrize("name", MODULES)
def test_a_misspelt_option_and_a_wrong_type_show_no_secret(monkeypatch, sinks, name):
    def wrong(spec):
        secret = SHAPES["quotes"]
        if any(what.get("no_log") for what in spec.values()):
            yield {"misspelt": secret}
            yield {"misspelt": [{"deep": secret}]}
        for option, what in spec.items():
            if what.get("no_log"):
                yield {option: {"value": secret}}
                yield {option: [[secret]]}
            inner = what.get("options") or {}
            if inner and any(one.get("no_log") for one in inner.values()):
                yield {option: f"{MARK}text"}
                yield {option: [f"{MARK}text", 7]}
                yield {option: json.dumps([{"value": f"{MARK}json"}])}
                yield {option: f"value={MARK}pair other=x"}
            for given in wrong(inner):
                yield {option: [given] if what.get("type") == "list" else given}
                yield {option: ["not a dictionary", given] if what.get("type") == "list" else given}

    for given in wrong(spec_of(monkeypatch, name)):
        assert leaks(*sinks(name, given)) == [], given


def test_the_log_still_tells_what_was_asked_for(sinks):
    logged, _printed = sinks(
        "drone_repo_info", {"drone_url": f"https://joe:{MARK}pw@drone.example.com", "drone_token": "t0ken"}
    )
    assert "drone_url=https://joe:********@drone.example.com" in logged
    assert "drone_token=NOT_LOGGING_PARAMETER" in logged


def test_a_secret_that_begins_with_another_one_is_hidden_whole(sinks):
    secrets = [{"repo": "a/b", "name": str(number), "value": f"{MARK}abc" + "rest" * number} for number in range(4)]
    shown = sinks("drone_secret", {"drone_url": "https://d.example.com", "drone_token": "t0ken", "secrets": secrets})
    assert leaks(*shown) == []
    assert "rest" not in "".join(shown)

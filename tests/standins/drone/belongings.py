# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What belongs to repositories and namespaces: secrets, cron jobs, templates, as Drone's handlers treat them."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Mapping

from .access import Answer, Call, error, one
from .golang import decode, is_cron, slug
from .model import Cron, Secret, Template

# Secrets

SECRET: Mapping[str, type] = {"name": str, "data": str, "pull_request": bool, "pull_request_push": bool}
SECRET_UPDATE = {name: kind for name, kind in SECRET.items() if name != "name"}


def _checked(secret: Secret) -> Secret:
    """Return a secret that Drone takes: the name comes first, then the value, then the name's characters."""
    if not secret.name:
        raise error(400, "Invalid Secret Name")
    if not secret.data:
        raise error(400, "Invalid Secret Value")
    if re.search(r"[^a-zA-Z0-9\-_.]", secret.name):
        raise error(400, "Invalid Secret Name")
    return secret


def _secrets(call: Call) -> list[Secret]:
    repo = call.repo
    mine = (secret for secret in call.state.secrets if secret.repo_id == repo.id)
    return sorted(mine, key=lambda secret: secret.name)


def _secret(call: Call) -> Secret:
    return one(next((secret for secret in _secrets(call) if secret.name == call.names["secret"]), None))


def secrets_list(call: Call) -> object:
    return [secret.json() for secret in _secrets(call)]


def secrets_create(call: Call) -> object:
    fields = {"name": "", "data": "", **decode(call.body, "secretInput", SECRET)}
    repo_id = call.repo.id
    _checked(Secret(id=0, repo_id=repo_id, **fields))
    return call.state.secrets.insert(
        lambda id: Secret(id=id, repo_id=repo_id, **fields),
        key=lambda secret: (secret.repo_id, secret.name),
        columns="secrets.secret_repo_id, secrets.secret_name",
    ).json()


def secrets_find(call: Call) -> object:
    return _secret(call).json()


def secrets_update(call: Call) -> object:
    changes = decode(call.body, "secretUpdate", SECRET_UPDATE)
    return call.state.secrets.update(_checked(replace(_secret(call), **changes))).json()


def secrets_delete(call: Call) -> Answer:
    call.state.secrets.delete(_secret(call))
    return Answer(204)


# Secrets of organisations. Their columns are COLLATE NOCASE (migration 012_create_table_org_secrets.sql; not recorded).


def _org_secrets(call: Call) -> list[Secret]:
    namespace = call.names["namespace"].lower()
    mine = (secret for secret in call.state.org_secrets if secret.namespace.lower() == namespace)
    return sorted(mine, key=lambda secret: secret.name.lower())


def _org_secret(call: Call) -> Secret:
    name = call.names["secret"].lower()
    return one(next((secret for secret in _org_secrets(call) if secret.name.lower() == name), None))


def org_secrets_all(call: Call) -> object:
    return [secret.json() for secret in sorted(call.state.org_secrets, key=lambda secret: secret.name.lower())]


def org_secrets_list(call: Call) -> object:
    return [secret.json() for secret in _org_secrets(call)]


def org_secrets_create(call: Call) -> object:
    fields = {"name": "", "data": "", **decode(call.body, "secretInput", SECRET)}
    namespace = call.names["namespace"]
    _checked(Secret(id=0, namespace=namespace, **fields))
    return call.state.org_secrets.insert(
        lambda id: Secret(id=id, namespace=namespace, **fields),
        key=lambda secret: (secret.namespace.lower(), secret.name.lower()),
        columns="orgsecrets.secret_namespace, orgsecrets.secret_name",
    ).json()


def org_secrets_find(call: Call) -> object:
    return _org_secret(call).json()


def org_secrets_update(call: Call) -> object:
    changes = decode(call.body, "secretUpdate", SECRET_UPDATE)
    return call.state.org_secrets.update(_checked(replace(_org_secret(call), **changes))).json()


def org_secrets_delete(call: Call) -> Answer:
    call.state.org_secrets.delete(_org_secret(call))
    return Answer(204)


# Cron jobs


def _crons(call: Call) -> list[Cron]:
    repo = call.repo
    return sorted((cron for cron in call.state.crons if cron.repo_id == repo.id), key=lambda cron: cron.name)


def _cron(call: Call) -> Cron:
    return one(next((cron for cron in _crons(call) if cron.name == call.names["cron"]), None))


def crons_list(call: Call) -> object:
    return [cron.json() for cron in _crons(call)]


def crons_create(call: Call) -> object:
    """Make a cron job of name, expression and branch; what else is sent is ignored, `disabled` and `target` too."""
    fields = {
        "name": "",
        "expr": "",
        "branch": "",
        **decode(call.body, "Cron", {"name": str, "expr": str, "branch": str}),
    }
    repo_id = call.repo.id
    name = slug(fields.pop("name"))
    if not is_cron(fields["expr"]):
        raise error(400, "Invalid Cronjob Expression")
    if not name:
        raise error(400, "Invalid Cronjob Name")
    if not fields["branch"]:
        raise error(400, "Invalid Cronjob Branch")
    # When it runs next is not worked out: any time to come.
    soon = int(time.time()) + 3600
    return call.state.crons.insert(
        lambda id: Cron(id=id, repo_id=repo_id, name=name, next=soon, **fields),
        key=lambda cron: (cron.repo_id, cron.name),
        columns="cron.cron_repo_id, cron.cron_name",
    ).json()


def crons_find(call: Call) -> object:
    return _cron(call).json()


def crons_update(call: Call) -> object:
    """Change a cron job's branch, target and whether it runs; a new expression is ignored without a word."""
    changes = decode(call.body, "cronUpdate", {"branch": str, "target": str, "disabled": bool})
    return call.state.crons.update(replace(_cron(call), **changes)).json()


def crons_delete(call: Call) -> Answer:
    call.state.crons.delete(_cron(call))
    return Answer(204)


# Templates

EXTENSIONS = (".yml", ".yaml", ".star", ".starlark", ".script", ".jsonnet")


def _templates(call: Call) -> list[Template]:
    # The namespace's column is COLLATE NOCASE, from the source.
    namespace = call.names["namespace"].lower()
    mine = (template for template in call.state.templates if template.namespace.lower() == namespace)
    return sorted(mine, key=lambda template: template.name)


def _template(call: Call) -> Template:
    return one(next((row for row in _templates(call) if row.name == call.names["template"]), None))


def templates_all(call: Call) -> object:
    return [template.json() for template in sorted(call.state.templates, key=lambda row: row.name)]


def templates_list(call: Call) -> object:
    return [template.json() for template in _templates(call)]


def templates_create(call: Call) -> object:
    """Make a template. 2.28 takes the namespace from the path and refuses other extensions, 2.0.4 takes all as it comes."""
    new = call.state.version.new
    fields = {
        "name": "",
        "data": "",
        "namespace": "",
        **decode(call.body, "templateInput", dict.fromkeys(("name", "data", "namespace"), str)),
    }
    if new:
        fields["namespace"] = call.names["namespace"]
        # That it refuses is known from its source and from servers; no recording holds it.
        if not fields["name"].endswith(EXTENSIONS):
            raise error(400, "Template extension invalid. Must be yaml, starlark or jsonnet")
    if not fields["name"]:
        raise error(400, "Invalid Template Name")
    if not fields["data"]:
        raise error(400, "Invalid Template Data")
    columns = "templates.template_name, templates.template_namespace"
    same = call.state.templates.find(lambda row: row.name == fields["name"])
    if not new and same and same.namespace.lower() != fields["namespace"].lower():
        # In 2.0 the name alone is unique on the whole server (its migration 015; not recorded).
        raise error(500, "UNIQUE constraint failed: templates.template_name")
    return call.state.templates.insert(
        lambda id: Template(id=id, **fields), key=lambda row: (row.name, row.namespace.lower()), columns=columns
    ).json()


def templates_find(call: Call) -> object:
    return _template(call).json()


def templates_update(call: Call) -> object:
    changes = decode(call.body, "templateUpdate", {"data": str})
    template = replace(_template(call), **changes)
    if not template.data:
        raise error(400, "Invalid Template Data")
    return call.state.templates.update(template).json()


def templates_delete(call: Call) -> Answer:
    call.state.templates.delete(_template(call))
    return Answer(204)

# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say which certificates BuildKit daemons and their clients need, and what is wrong with those that are there."""

from __future__ import annotations

DOCUMENTATION = r"""
name: buildkitd_certificates
short_description: Which certificates BuildKit daemons and their clients need, and which are due
version_added: 0.1.0
description:
  - Reads the directory on the controller in which the role C(buildkitd) keeps its certificates, one authority for each instance
    (which is a trust domain), and says which certificates have to be made or made again, and why.
  - It changes nothing and asks no host, so that a run in which nothing is due has no task for it.
  - Each entry has C(kind) (V(ca), V(server) or V(client)), C(domain), C(name), C(names) (of a server), C(directory),
    C(certificate) and C(key) (paths), and C(due) (the reason, empty where the certificate is good). Authorities come first.
author:
  - The multiarch.drone authors (@multiarch-drone)
options:
  _terms:
    description: The names of the instances.
    type: list
    elements: str
    required: true
  directory:
    description: Where the certificates are.
    type: path
    required: true
  server:
    description: The name of the host whose daemons they are.
    type: str
    required: true
  names:
    description: The names and IP addresses by which clients know that host.
    type: list
    elements: str
    default: []
  clients:
    description: The clients, each with its C(name) and the C(instances) that it may use.
    type: list
    elements: dict
    default: []
  probe:
    description:
      - The client with which each daemon is tried, one of its own in every instance.
      - Where it is given, the entries of servers also have C(instance), which is C(name) and C(tls) as
        M(multiarch.drone.buildkitd_instances) takes them, private keys included.
    type: str
    default: ""
  renew_days:
    description: How many days before its end a certificate is due.
    type: int
    default: 30
requirements:
  - C(cryptography) on the controller, where ansible-core needs it itself.
"""

EXAMPLES = r"""
- name: What is due, and why
  ansible.builtin.debug:
    msg: >-
      {{ lookup('multiarch.drone.buildkitd_certificates', 'payments', directory='pki', server=inventory_hostname,
                clients=[{'name': 'ci', 'instances': ['payments']}], wantlist=true) | selectattr('due') }}
"""

RETURN = r"""
_raw:
  description: The certificates.
  type: list
  elements: dict
"""

import datetime
import ipaddress
import os

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup plugin."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        directory = self.get_option("directory")
        names = list(dict.fromkeys([*self.get_option("names"), "localhost", "127.0.0.1"]))
        wanted = [_entry(directory, domain, "ca", "ca") for domain in terms]
        wanted += [_entry(directory, domain, "server", self.get_option("server"), names) for domain in terms]
        probe = self.get_option("probe")
        clients = self.get_option("clients") + ([{"name": probe, "instances": list(terms)}] if probe else [])
        for client in clients:
            wanted += [
                _entry(directory, domain, "client", client["name"]) for domain in client["instances"] if domain in terms
            ]
        authorities = {entry["domain"]: _certificate(entry["certificate"]) for entry in wanted if entry["kind"] == "ca"}
        horizon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=self.get_option("renew_days"))
        for entry in wanted:
            entry["due"] = _due(entry, authorities[entry["domain"]], horizon)
            if probe and entry["kind"] == "server":
                tried = _entry(directory, entry["domain"], "client", probe)
                entry["instance"] = {"name": entry["domain"], "tls": _tls(entry, tried)}
        return wanted


def _entry(directory, domain, kind, name, names=()):
    """Return a wanted certificate: what it is for, and where it and its key are."""
    # A client's directory holds all that it needs, for every instance that it may use: it can be handed out as it is.
    inner = {"ca": domain, "server": f"{domain}/{name}", "client": f"clients/{name}/{domain}"}[kind]
    where = os.path.join(directory, inner if kind == "client" else os.path.join("instances", inner))
    certificate, key = ("ca.pem", "ca-key.pem") if kind == "ca" else ("cert.pem", "key.pem")
    return {
        "kind": kind,
        "domain": domain,
        "name": name,
        "names": [_subject(item) for item in names],
        "directory": where,
        "certificate": os.path.join(where, certificate),
        "key": os.path.join(where, key),
    }


def _tls(server, client):
    """Return the contents of a daemon's certificates, and of the client's that tries it; empty where there is none yet."""
    return {
        "ca": _text(os.path.join(client["directory"], "ca.pem")),
        "cert": _text(server["certificate"]),
        "key": _text(server["key"]),
        "server_name": server["name"],
        "probe_cert": _text(client["certificate"]),
        "probe_key": _text(client["key"]),
    }


def _text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _due(entry, authority, horizon):
    """Return why a certificate has to be made, or ""."""
    certificate = _certificate(entry["certificate"])
    if certificate is None or not os.path.exists(entry["key"]):
        return "is not there"
    ends = certificate.not_valid_after_utc
    if ends < horizon:
        return f"ends on {ends:%Y-%m-%d}"
    if entry["kind"] == "ca":
        return ""
    if authority is None or _signer(certificate) != _identity(authority):
        return "was signed by another authority"
    if entry["kind"] == "server" and set(entry["names"]) != _names(certificate):
        return "is for other names"
    bundled = _certificate(os.path.join(entry["directory"], "ca.pem"))
    if entry["kind"] == "client" and bundled != authority:
        return "lies beside another authority"
    return ""


def _certificate(path):
    from cryptography import x509

    try:
        with open(path, "rb") as file:
            return x509.load_pem_x509_certificate(file.read())
    except (OSError, ValueError):
        return None


def _identity(certificate):
    return _extension(certificate, "SubjectKeyIdentifier", "digest")


def _signer(certificate):
    return _extension(certificate, "AuthorityKeyIdentifier", "key_identifier")


def _names(certificate):
    from cryptography import x509

    names = _extension(certificate, "SubjectAlternativeName", "_general_names") or ()
    return {f"{'IP' if isinstance(name, x509.IPAddress) else 'DNS'}:{name.value}" for name in names}


def _extension(certificate, name, attribute):
    from cryptography import x509

    try:
        value = certificate.extensions.get_extension_for_class(getattr(x509, name)).value
    except x509.ExtensionNotFound:
        return None
    return list(value) if attribute == "_general_names" else getattr(value, attribute)


def _subject(name):
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"

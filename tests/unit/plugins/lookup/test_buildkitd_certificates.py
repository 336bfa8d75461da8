# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import datetime
import ipaddress
import shutil
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# ansible.plugins, once imported, makes modules that later tests run in this process warn as the controller does.
with mock.patch.dict(sys.modules, {"ansible.plugins.lookup": types.SimpleNamespace(LookupBase=object)}):
    from ansible_collections.multiarch.drone.plugins.lookup.buildkitd_certificates import LookupModule

CLIENTS = [{"name": "ci", "instances": ["a"]}]


class Lookup(LookupModule):
    """The lookup with its options given, not looked up by a plugin loader."""

    def set_options(self, direct, **_others):
        self.given = direct

    def get_option(self, option):
        return self.given[option]


def look(directory, *domains, **options):
    options = {"clients": CLIENTS, "names": [], "probe": "", "renew_days": 30, **options}
    return Lookup().run(list(domains), directory=str(directory), server="host", **options)


def due(directory, *domains, **options):
    return {
        (entry["domain"], entry["kind"], entry["name"]): entry["due"] for entry in look(directory, *domains, **options)
    }


def make(entry, authority=None, days=100, names=None):
    """Make a certificate as the role makes it; return it with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer, signing_key = authority or (None, key)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, entry["name"])])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(
        issuer_name=signer.subject if signer else name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(days=1),
        not_valid_after=now + datetime.timedelta(days=days),
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
    )
    if entry["names"]:
        parts = [name.split(":", 1) for name in names or entry["names"]]
        general = [x509.DNSName(n) if kind == "DNS" else x509.IPAddress(ipaddress.ip_address(n)) for kind, n in parts]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    Path(entry["directory"]).mkdir(parents=True, exist_ok=True)
    Path(entry["certificate"]).write_bytes(certificate.public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path(entry["key"]).write_bytes(key.private_bytes(pem, *plain))
    return certificate, key


@pytest.fixture
def pki(tmp_path):
    """Everything that a daemon and a client of one domain need."""
    ca, server, client = look(tmp_path, "a")
    authority = make(ca)
    make(server, authority)
    make(client, authority)
    shutil.copy(ca["certificate"], Path(client["directory"]) / "ca.pem")
    return tmp_path


def test_nothing_is_due_where_all_is_good(pki):
    assert set(due(pki, "a").values()) == {""}


def test_of_nothing_everything_is_due_authorities_first(tmp_path):
    assert list(due(tmp_path, "a", "b").items()) == [
        (("a", "ca", "ca"), "is not there"),
        (("b", "ca", "ca"), "is not there"),
        (("a", "server", "host"), "is not there"),
        (("b", "server", "host"), "is not there"),
        (("a", "client", "ci"), "is not there"),
    ]


def test_each_domain_has_an_authority_of_its_own(tmp_path):
    authorities = [entry["certificate"] for entry in look(tmp_path, "a", "b") if entry["kind"] == "ca"]
    assert len(set(authorities)) == 2


def test_certificates_of_a_lost_authority_are_all_due(pki):
    ca = look(pki, "a")[0]
    make(ca)
    assert due(pki, "a")["a", "server", "host"] == "was signed by another authority"
    assert due(pki, "a")["a", "client", "ci"] == "was signed by another authority"


def test_a_certificate_that_ends_soon_is_due(pki):
    assert due(pki, "a", renew_days=101)["a", "server", "host"].startswith("ends on 20")


def test_a_new_name_of_the_host_makes_its_certificate_due(pki):
    assert due(pki, "a", names=["10.0.0.1"])["a", "server", "host"] == "is for other names"


def test_an_ipv6_address_is_a_name_in_whatever_spelling(pki):
    ca, server, _client = look(pki, "a", names=["2001:db8:0:0::1"])
    authority = x509.load_pem_x509_certificate(Path(ca["certificate"]).read_bytes())
    key = serialization.load_pem_private_key(Path(ca["key"]).read_bytes(), None)
    make(server, (authority, key))
    assert due(pki, "a", names=["2001:db8::1"])["a", "server", "host"] == ""


def test_a_missing_key_and_a_corrupt_certificate_are_due(pki):
    _ca, server, client = look(pki, "a")
    Path(server["key"]).unlink()
    Path(client["certificate"]).write_text("garbage")
    assert due(pki, "a")["a", "server", "host"] == due(pki, "a")["a", "client", "ci"] == "is not there"


def test_a_client_gets_certificates_only_of_its_instances(tmp_path):
    assert [entry["domain"] for entry in look(tmp_path, "a", "b") if entry["kind"] == "client"] == ["a"]


def test_contents_are_given_only_with_a_probe(pki):
    assert all("instance" not in entry for entry in look(pki, "a"))
    instance = next(entry["instance"] for entry in look(pki, "a", probe="ci") if entry["kind"] == "server")
    assert instance["name"] == "a"
    assert instance["tls"]["server_name"] == "host"
    assert "PRIVATE KEY" in instance["tls"]["probe_key"]

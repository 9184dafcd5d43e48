"""`tieline node rekey`, `revoke` and `restate`: through the commands, with a hub and without one.

Without one, each leaves a request that the authority takes; the folder is what members get.
"""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Member
from tieline_client.profile import Profile, utc_now
from tieline_server.config import Home
from tieline_server.domain.ports import Operator, Tx
from tieline_server.storage.engine import open_store
from tieline_server.trust.authority import (
    AgencyAuthority,
    authority_certificate,
    issue_node_leaf,
)
from tieline_server.trust.ca_keys import ca_fingerprint
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.own_statement import OwnStatements

from tests.e2e.federation import Federation, Node, Result, tieline


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A member that joined and does not run; no hub."""
    federation = Federation(tmp_path_factory.mktemp("once")).found()
    federation.add("pt-pj", "national", "PT")
    return federation


@pytest.fixture
def made(once: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    """A copy of it for each test, as if it had been made there."""
    monkeypatch.delenv("TIELINE_PASSPHRASE_FILE", raising=False)
    root = tmp_path / "made"
    shutil.copytree(once.root, root)
    source = root / "pt-pj" / "directory" / "source"
    source.write_text(source.read_text().replace(str(once.root), str(root)))
    return Federation(root, nodes={"pt-pj": Node(root / "pt-pj", "pt-pj", 7443, 7444)})


@pytest.fixture
def pt(made: Federation) -> Node:
    return made["pt-pj"]


def _node(word: str, node: Node, *words: object) -> Result:
    return tieline("node", word, node.home, *words, "--json")


def _listed(node: Node) -> Member:
    """What the node's own copy holds of it."""
    return DirectoryStore(node.home).current().member(node.agency)


def _fetch(made: Federation, node: Node) -> None:
    tieline("node", "directory", "import", node.home, made.authority / "public").ok()


def _accept(made: Federation, node: Node, done: Any) -> None:
    """The authority takes the request, and the node gets the directory that came of it."""
    assert (done["command"], done["version"]) == ("accept", None)
    assert done["request"] == str(node.home / "request.json")
    made.change("accept", done["request"])
    _fetch(made, node)
    assert _node("rekey", node).ok().json["waits"] is None


def _admit(made: Federation, done: Any) -> Result:
    return tieline(
        *("federation", "admit", made.authority, done["request"], "--role", "national"),
        *("--country", "PT", "--fingerprint", done["fingerprint"]),
    )


def _ca(node: Node) -> bytes:
    return (node.home / "certs" / "node-ca.pem").read_bytes()


def test_without_a_hub_the_authority_takes_new_keys(made: Federation, pt: Node) -> None:
    first, old = (pt.home / "request.json").read_bytes(), _ca(pt)
    done = _node("rekey", pt, "--ca", "--signing").ok().json
    assert done["under_way"] == ["ca", "signing"] and "no hub" in done["waits"]
    assert (pt.home / "request.json").read_bytes() != first
    assert stat.S_IMODE((pt.home / "request.json").stat().st_mode) == 0o600
    # Before it is listed nothing is taken up, and to be told so changes nothing.
    request = (pt.home / "request.json").read_bytes()
    assert _node("rekey", pt, "--finish").code == 1
    shown = _node("rekey", pt).ok().json
    assert (shown["command"], shown["fingerprint"]) == ("accept", done["fingerprint"])
    assert (pt.home / "request.json").read_bytes() == request
    _accept(made, pt, done)
    assert len(_listed(pt).node_cas) == 2 and len(_listed(pt).signing_keys) == 2
    finished = _node("rekey", pt, "--finish").ok().json
    assert finished["under_way"] == [] and _ca(pt) != old
    _accept(made, pt, finished)
    (ca,) = _listed(pt).node_cas
    assert ca == x509.load_pem_x509_certificate(_ca(pt)).public_bytes(Encoding.DER)
    assert [key.not_after is None for key in _listed(pt).signing_keys] == [False, True]
    # It is over, and an older request is not taken again.
    assert _node("rekey", pt, "--finish").code == 1
    older = made.root / "older.json"
    older.write_bytes(request)
    refused = tieline("federation", "accept", made.authority, older)
    assert refused.code == 3 and "not newer" in refused.err


def test_without_a_hub_addresses_and_revocations_are_restated(made: Federation, pt: Node) -> None:
    config = pt.home / "config.toml"
    config.write_text(config.read_text().replace("Desk pt-pj", "Night desk"))
    done = _node("restate", pt).ok().json
    # What comes before it was taken goes into the same request.
    done = _node("revoke", pt, "5f3a").ok().json
    _accept(made, pt, done)
    assert _listed(pt).contact.name == "Night desk"
    assert DirectoryStore(pt.home).current().is_revoked("pt-pj", 0x5F3A)
    # Nothing to state: nothing waits, and nothing is written.
    before = (pt.home / "request.json").read_bytes()
    again = _node("restate", pt).ok().json
    assert (again["waits"], again["request"]) == (None, None)
    assert (pt.home / "request.json").read_bytes() == before


def test_a_leaf_in_use_and_no_number_are_not_revoked(pt: Node) -> None:
    before = (pt.home / "request.json").read_bytes()
    leaf = x509.load_pem_x509_certificate((pt.home / "certs" / "node.pem").read_bytes())
    assert _node("revoke", pt, f"{leaf.serial_number:x}").code == 3
    assert _node("revoke", pt, "no number").code == 2
    assert _node("rekey", pt).ok().json["waits"] is None
    assert (pt.home / "request.json").read_bytes() == before


def test_a_new_directory_key_is_admitted(made: Federation, pt: Node) -> None:
    known, old = _listed(pt).directory_key, (pt.home / "keys" / "directory.key").read_bytes()
    done = _node("rekey", pt, "--directory").ok().json
    assert (done["under_way"], done["command"]) == (["directory"], "admit")
    # A statement under a key that nobody listed is not taken as one.
    refused = tieline("federation", "accept", made.authority, done["request"])
    assert refused.code == 3 and "directory key" in refused.err
    assert _node("rekey", pt, "--finish").code == 1
    # What else changes meanwhile is in the request too; the one before it would leave it out.
    both = _node("rekey", pt, "--signing").ok().json
    assert both["command"] == "admit" and both["fingerprint"] != done["fingerprint"]
    assert _admit(made, done | {"request": both["request"]}).code == 3
    _admit(made, both).ok()
    _fetch(made, pt)
    assert _listed(pt).directory_key != known and len(_listed(pt).signing_keys) == 2
    finished = _node("rekey", pt, "--finish").ok().json
    assert (pt.home / "keys" / "directory.key").read_bytes() != old
    assert not (pt.home / "keys" / "directory.next.key").exists()
    _accept(made, pt, finished)
    _accept(made, pt, _node("revoke", pt, "77").ok().json)


def test_a_statement_of_before_is_signed_with_the_key_that_was_admitted_meanwhile(
    made: Federation, pt: Node
) -> None:
    done = _node("rekey", pt, "--directory").ok().json
    handed = made.root / "handed.json"
    handed.write_bytes(Path(done["request"]).read_bytes())
    _node("revoke", pt, "5f3a").ok()
    _admit(made, done | {"request": handed}).ok()
    _fetch(made, pt)
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert DirectoryStore(pt.home).current().is_revoked("pt-pj", 0x5F3A)


class Offline:
    """The next CA, whose key is on another machine."""

    def __init__(self, folder: Path, node: Node, kind: Kind = Kind.NODE) -> None:
        self.node, self.file, self.leaf = node, folder / "next-ca.pem", folder / "leaf.pem"
        key = keys.generate()
        certificate = authority_certificate(kind, node.agency, key, now=utc_now())
        federation = DirectoryStore(node.home).current().federation
        self.authority = AgencyAuthority(kind, federation, node.agency, certificate, key)
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def sign(self, request: Path) -> Path:
        """Certify what the node asks for."""
        asked = x509.load_pem_x509_csr(request.read_bytes())
        key = asked.public_key()
        assert asked.is_signature_valid and isinstance(key, keys.PublicKey)
        leaf = issue_node_leaf(self.authority, key, now=utc_now())
        self.leaf.write_bytes(leaf.public_bytes(Encoding.PEM))
        return self.leaf


def test_the_next_ca_is_offline(made: Federation, pt: Node) -> None:
    offline = Offline(made.root, pt)
    done = _node("rekey", pt, "--ca", "--certificate", offline.file).ok().json
    assert done["to_sign"] == str(pt.home / "node.csr")
    assert not (pt.home / "keys" / "node-ca.next.key").exists()
    # No peer would believe the leaf before the directory lists its CA.
    leaf = offline.sign(Path(done["to_sign"]))
    assert _node("renew", pt, "--import", leaf).code == 3
    _accept(made, pt, done)
    assert len(_listed(pt).node_cas) == 2
    refused = _node("rekey", pt, "--finish")
    assert refused.code == 1 and "node.csr" in refused.err
    _node("renew", pt, "--import", leaf).ok()
    # The request can be had once more, with the same CA and no other.
    again = _node("rekey", pt, "--ca", "--certificate", offline.file).ok().json
    assert Path(again["to_sign"]).exists() and again["waits"] is None
    other = Offline(made.root, pt).file
    assert "to be the next already" in _node("rekey", pt, "--ca", "--certificate", other).err
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert _listed(pt).node_cas == (offline.authority.der,)
    assert not (pt.home / "keys" / "node-ca.key").exists()
    # From now on leaves are asked for.
    assert _node("renew", pt).ok().json["request"] == str(pt.home / "node.csr")


def test_what_is_no_next_ca_changes_nothing(made: Federation, pt: Node) -> None:
    leaf = pt.home / "certs" / "node.pem"
    assert _node("rekey", pt, "--ca", "--certificate", leaf).code == 3
    in_use = _node("rekey", pt, "--ca", "--certificate", pt.home / "certs" / "node-ca.pem")
    assert in_use.code == 1 and "in use" in in_use.err
    assert _node("rekey", pt, "--ca", "--certificate", made.root / "none.pem").code != 0
    assert _node("rekey", pt, "--certificate", leaf).code == 2
    assert _node("rekey", pt, "--ca", "--finish").code == 2
    config = pt.home / "config.toml"
    text = config.read_text().replace('node_ca_key = ""', 'node_ca_key = "pkcs11:object=ca"')
    assert "pkcs11" in text
    config.write_text(text)
    assert _node("rekey", pt, "--ca").code == 2
    assert _node("rekey", pt).ok().json["under_way"] == []


def test_a_finish_that_was_cut_off_is_done_again(made: Federation, pt: Node) -> None:
    _accept(made, pt, _node("rekey", pt, "--ca").ok().json)
    saved = {path: path.read_bytes() for path in (pt.home / "certs").iterdir()}
    _node("rekey", pt, "--finish").ok()
    # As a power cut leaves it between two files: the next key is in its place, its CA is not.
    for name in ("node-ca.pem", "node-ca.next.pem"):
        path = pt.home / "certs" / name
        path.write_bytes(saved[path])
    left = pt.home / "certs" / ".new-half"
    left.write_bytes(b"half a file")
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert not left.exists()
    assert _ca(pt) == saved[pt.home / "certs" / "node-ca.next.pem"]
    assert _node("renew", pt).ok().json["serial"]


def _operator_ca(node: Node) -> bytes:
    return (node.home / "certs" / "operator-ca.pem").read_bytes()


def _issuers(node: Node) -> bytes:
    """The name of the CA that issued the first operator's certificate."""
    held = x509.load_pem_x509_certificate(Profile.load(node.profile).certificate.encode())
    return held.issuer.public_bytes()


def _named(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).subject.public_bytes()


def test_the_operator_ca_rolls_over_and_the_homes_profile_with_it(
    made: Federation, pt: Node
) -> None:
    old = _operator_ca(pt)
    assert _issuers(pt) == _named(old)
    done = _node("rekey", pt, "--operator-ca").ok().json
    assert done["under_way"] == ["operator-ca"] and done["to_sign"] is None
    upcoming = (pt.home / "certs" / "operator-ca.next.pem").read_bytes()
    key = pt.home / "keys" / "operator-ca.next.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # To begin again makes no second one; before it is listed it takes nobody's place.
    assert _node("rekey", pt, "--operator-ca").ok().json["under_way"] == ["operator-ca"]
    assert (pt.home / "certs" / "operator-ca.next.pem").read_bytes() == upcoming
    refused = _node("rekey", pt, "--finish")
    assert refused.code == 1 and "next operator CA yet" in refused.err
    assert (_operator_ca(pt), _issuers(pt)) == (old, _named(old))
    _accept(made, pt, done)
    assert len(_listed(pt).operator_cas) == 2
    before = Profile.load(pt.profile)
    finished = _node("rekey", pt, "--finish").ok().json
    assert finished["under_way"] == [] and not key.exists()
    assert _operator_ca(pt) == upcoming
    after = Profile.load(pt.profile)
    assert _issuers(pt) == _named(upcoming) and after.key == before.key
    assert stat.S_IMODE(pt.profile.stat().st_mode) == 0o600
    _accept(made, pt, finished)
    (listed,) = _listed(pt).operator_cas
    assert listed == x509.load_pem_x509_certificate(upcoming).public_bytes(Encoding.DER)
    assert len(_listed(pt).node_cas) == 1


def _put(person: Operator, tx: Tx) -> None:
    tx.operators.put(person)


def _add(node: Node, *names: str, roles: tuple[str, ...] = ("analyst",)) -> None:
    """People whose certificates are of the present operator CA."""
    store = open_store(Home(node.home).database_url(Home(node.home).config()), clock=utc_now)
    try:
        for at, name in enumerate(names):
            store.write(partial(_put, Operator(name, roles, (1000 + at,), utc_now())))
    finally:
        store.close()


def test_nobody_is_locked_out_by_surprise(made: Federation, pt: Node) -> None:
    _add(pt, "ana", "rui")
    old = _operator_ca(pt)
    _accept(made, pt, _node("rekey", pt, "--operator-ca").ok().json)
    refused = _node("rekey", pt, "--finish")
    assert refused.code == 1 and "ana, rui would be locked out" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert _operator_ca(pt) == old and _node("rekey", pt).ok().json["under_way"]
    assert _node("rekey", pt, "--leave-behind").code == 2
    done = _node("rekey", pt, "--finish", "--leave-behind").ok().json
    assert done["under_way"] == [] and _operator_ca(pt) != old


def test_without_an_admin_under_the_next_ca_nothing_ends(made: Federation, pt: Node) -> None:
    offline = Offline(made.root, pt, Kind.OPERATOR)
    done = _node("rekey", pt, "--operator-ca", "--certificate", offline.file).ok().json
    assert done["to_sign"] is None
    assert not (pt.home / "keys" / "operator-ca.next.key").exists()
    _accept(made, pt, done)
    old = _operator_ca(pt)
    # Its key is elsewhere, so nobody here can certify the first operator anew.
    for words in ((), ("--leave-behind",)):
        refused = _node("rekey", pt, "--finish", *words)
        assert refused.code == 1 and _operator_ca(pt) == old
    assert "no admin" in refused.err
    store = open_store(Home(pt.home).database_url(Home(pt.home).config()), clock=utc_now)
    try:
        name = Profile.load(pt.profile).operator
        known = store.read(lambda tx: tx.operators.get(name))
        assert known is not None
        issuer = ca_fingerprint(offline.authority.der)
        store.write(lambda tx: tx.operators.put(replace(known, issuer=issuer)))
    finally:
        store.close()
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert _operator_ca(pt) == offline.file.read_bytes()
    assert not (pt.home / "keys" / "operator-ca.key").exists()


def test_the_end_of_an_operator_ca_that_was_cut_off_is_done_again(
    made: Federation, pt: Node
) -> None:
    _accept(made, pt, _node("rekey", pt, "--operator-ca").ok().json)
    saved = {path: path.read_bytes() for path in (pt.home / "certs").iterdir()}
    _node("rekey", pt, "--finish").ok()
    for name in ("operator-ca.pem", "operator-ca.next.pem"):
        path = pt.home / "certs" / name
        path.write_bytes(saved[path])
    held = pt.profile.read_bytes()
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert _operator_ca(pt) == saved[pt.home / "certs" / "operator-ca.next.pem"]
    assert pt.profile.read_bytes() == held  # it had its certificate already


def test_what_is_no_next_operator_ca_changes_nothing(made: Federation, pt: Node) -> None:
    certs = pt.home / "certs"
    for file in (certs / "node.pem", certs / "node-ca.pem"):
        assert _node("rekey", pt, "--operator-ca", "--certificate", file).code == 3
    in_use = _node("rekey", pt, "--operator-ca", "--certificate", certs / "operator-ca.pem")
    assert in_use.code == 1 and "operator CA in use" in in_use.err
    words = ("--ca", "--operator-ca", "--certificate", certs / "node.pem")
    assert _node("rekey", pt, *words).code == 2
    config = pt.home / "config.toml"
    text = config.read_text()
    config.write_text(text.replace('operator_ca_key = ""', 'operator_ca_key = "pkcs11:object=c"'))
    assert _node("rekey", pt, "--operator-ca").code == 2
    config.write_text(text)
    assert _node("rekey", pt).ok().json["under_way"] == []


def test_a_hub_takes_its_own_word(made: Federation) -> None:
    hub = made.init("europol-ec3", "hub")
    made.join(hub)
    made.change("publish", "--home", hub.home)
    tieline("node", "directory", "import", hub.home, made.authority / "public").ok()
    before = _node("restate", hub).ok().json["version"]
    config = hub.home / "config.toml"
    config.write_text(config.read_text().replace("Desk europol-ec3", "Night desk"))
    done = _node("restate", hub).ok().json
    assert done["version"] > before and done["waits"] is done["request"] is None
    assert _listed(hub).contact.name == "Night desk"
    # The same statement as a file changes nothing more: whoever comes second finds it there.
    tieline("federation", "publish", made.authority, "--home", hub.home).ok()
    made.change("accept", hub.home / "request.json")


def test_a_leaf_of_a_revoked_agency_is_refused_for_the_agency(made: Federation, pt: Node) -> None:
    """No other leaf would help: it is not the certificate that is revoked."""
    made.change("revoke", "pt-pj")
    refused = _node("renew", pt, "--import", pt.home / "certs" / "node.pem")
    assert refused.code == 3
    assert "node.pem is refused: pt-pj is revoked (directory version" in refused.err
    assert "ask the authority, which can admit it again" in refused.err


def _kept(pt: Node) -> Path:
    """A copy of the home, as a backup would have it."""
    beside = len(list(pt.home.parent.glob("kept-*")))
    return Path(shutil.copytree(pt.home, pt.home.with_name(f"kept-{beside}")))


def _brought_back(made: Federation, pt: Node, kept: Path) -> None:
    """What a restore leaves once the directory of now is imported."""
    shutil.rmtree(pt.home)
    kept.rename(pt.home)
    brought = tieline("node", "directory", "import", pt.home, made.authority / "public").ok()
    assert "does not list the node CA and" in brought.err


def _changed_over(made: Federation, pt: Node, kept_when_begun: bool = False) -> Path:
    """Roll everything but the directory key over; return a copy of the home of before the end."""
    kept = _kept(pt) if not kept_when_begun else None
    _accept(made, pt, _node("rekey", pt, "--ca", "--signing", "--operator-ca").ok().json)
    kept = kept or _kept(pt)
    _accept(made, pt, _node("rekey", pt, "--finish", "--leave-behind").ok().json)
    assert _node("rekey", pt).ok().json["trouble"] is None
    return kept


def _keys_found(pt: Node) -> list[tuple[str, str]]:
    looked = tieline("doctor", "--home", pt.home, "--json").json["findings"]
    return [
        (one["state"], one["text"])
        for one in looked
        if one["check"] == "keys" and one["text"].startswith("the directory ")
    ]


def _told(word: str, pt: Node) -> Result:
    done = tieline("node", word, pt.home).ok()
    assert "holds what was stated" not in done.out
    return done


def test_a_home_of_before_a_roll_over_says_that_nobody_lets_it_in(
    made: Federation, pt: Node
) -> None:
    _brought_back(made, pt, _changed_over(made, pt))
    for word in ("rekey", "restate"):
        told = _told(word, pt).err
        assert "does not list the node CA and operator CA and signing key in use" in told
        assert f"node rekey {pt.home} --finish" in told
    assert [state for state, _ in _keys_found(pt)] == ["failed"]
    # To begin another roll-over would state keys that are nowhere, beside new ones.
    profile = pt.profile.read_bytes()
    refused = _node("rekey", pt, "--ca")
    assert refused.code == 1 and "--finish" in refused.err
    assert _node("rekey", pt).ok().json["under_way"] == []
    assert pt.profile.read_bytes() == profile


def test_a_home_of_before_a_roll_over_states_what_it_has(made: Federation, pt: Node) -> None:
    signing = _listed(pt).signing_keys[0].keyid
    _brought_back(made, pt, _changed_over(made, pt))
    done = _node("rekey", pt, "--finish").ok().json
    assert "to the authority" in done["trouble"]
    assert Profile.load(pt.profile).node_ca.encode() == _ca(pt)
    _accept(made, pt, done)
    assert _node("rekey", pt).ok().json["trouble"] is None and _keys_found(pt) == []
    in_use = [one.keyid for one in _listed(pt).signing_keys if one.not_after is None]
    assert in_use == [signing]
    (ca,) = _listed(pt).node_cas
    assert ca == x509.load_pem_x509_certificate(_ca(pt)).public_bytes(Encoding.DER)


def test_a_home_of_amid_a_roll_over_takes_the_next_keys_up(made: Federation, pt: Node) -> None:
    kept = _changed_over(made, pt, kept_when_begun=True)
    _brought_back(made, pt, kept)
    assert [state for state, _ in _keys_found(pt)] == ["failed"]
    done = _node("rekey", pt, "--finish", "--leave-behind").ok().json
    assert done["trouble"] is None and done["under_way"] == []
    assert _keys_found(pt) == []


def test_a_finish_that_was_cut_off_before_its_statement_is_told(
    made: Federation, pt: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    _accept(made, pt, _node("rekey", pt, "--ca", "--signing", "--operator-ca").ok().json)

    def cut(*_: object) -> None:
        raise OSError("power")

    with monkeypatch.context() as patched:
        patched.setattr(OwnStatements, "change", cut)
        assert _node("rekey", pt, "--finish").code == 1
    told = _told("rekey", pt)
    assert "nothing" in told.out
    assert "still lists what is no longer here: node CA and operator CA and" in told.err
    assert f"node rekey {pt.home} --finish" in told.err
    assert [state for state, _ in _keys_found(pt)] == ["warning"]
    done = _node("rekey", pt, "--finish").ok().json
    assert done["trouble"] is None  # it waits, and says so
    _accept(made, pt, done)
    assert len(_listed(pt).node_cas) == 1 and _keys_found(pt) == []


def test_joining_again_from_an_older_folder_keeps_the_newer_directory(
    made: Federation, pt: Node
) -> None:
    """As with a hub, which binds versions of its own: the first operator's profile is made anew."""
    older = Path(shutil.copytree(made.authority / "public", made.root / "older"))
    _accept(made, pt, _node("revoke", pt, "5f3a").ok().json)
    version = DirectoryStore(pt.home).current().version
    pt.profile.unlink()
    joined = tieline("node", "join", pt.home, "--federation", older, "--json").ok()
    assert "is older than version" in joined.err and "keeps its own" in joined.err
    assert joined.json["version"] == version and pt.profile.exists()
    assert DirectoryStore(pt.home).current().is_revoked("pt-pj", 0x5F3A)


def test_a_running_node_says_that_nobody_lets_it_in(made: Federation, pt: Node) -> None:
    _brought_back(made, pt, _changed_over(made, pt))
    pt.start()
    try:
        warnings = tieline("node", "status", pt.home, "--json").ok().json["warnings"]
        assert any("does not list the node CA and" in one for one in warnings)
        states = [state for state, _ in _keys_found(pt)]
        assert states == ["failed", "failed"]  # of the home, and of the node
        assert "keys.apart" in pt.log.read_text()
    finally:
        pt.stop()
    made.change("accept", _node("rekey", pt, "--finish").ok().json["request"])
    _fetch(made, pt)
    pt.start()
    try:
        warnings = tieline("node", "status", pt.home, "--json").ok().json["warnings"]
        assert not any("not list" in one or "no longer here" in one for one in warnings)
        assert "keys.apart" not in pt.log.read_text()
    finally:
        pt.stop()


def test_a_restore_says_how_the_keys_stand(made: Federation, pt: Node) -> None:
    secret = made.root / "passphrase"
    secret.write_text("seven violet herons\n")
    secret.chmod(0o600)
    kept = _changed_over(made, pt)
    tieline("node", "directory", "import", kept, made.authority / "public").ok()
    file = made.root / "backup"
    words = (file, "--passphrase-file", secret, "--json")
    tieline("node", "backup", kept, *words).ok()
    done = tieline("node", "restore", made.root / "back", *words).ok().json
    assert "does not list the node CA and" in done["trouble"]
    assert "node directory import" in done["next"][0]


def test_a_home_of_before_all_its_keys_were_changed_is_admitted_anew(
    made: Federation, pt: Node
) -> None:
    kept = _kept(pt)
    done = _node("rekey", pt, "--ca", "--signing", "--operator-ca", "--directory").ok().json
    _admit(made, done).ok()
    _fetch(made, pt)
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    _brought_back(made, pt, kept)
    refused = _node("rekey", pt, "--finish")
    assert refused.code != 0 and "node rekey HOME --directory" in refused.err
    _admit(made, _node("rekey", pt, "--directory").ok().json).ok()
    _fetch(made, pt)
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert _node("rekey", pt).ok().json["trouble"] is None and _keys_found(pt) == []


def test_a_home_of_amid_a_roll_over_before_the_last_one_goes_on_with_it(
    made: Federation, pt: Node
) -> None:
    kept = _changed_over(made, pt, kept_when_begun=True)
    _changed_over(made, pt)
    _brought_back(made, pt, kept)
    again = _node("rekey", pt, "--finish").ok().json  # neither its present nor its next are listed
    assert again["under_way"] == ["ca", "operator-ca", "signing"]
    refused = _node("rekey", pt, "--finish")
    assert refused.code == 1 and "does not list the next" in refused.err
    _accept(made, pt, again)
    assert (len(_listed(pt).node_cas), _keys_found(pt)) == (2, [])
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert (len(_listed(pt).node_cas), _keys_found(pt)) == (1, [])


def test_a_home_of_before_another_operator_ca_is_refused_by_nobody(
    made: Federation, pt: Node
) -> None:
    kept = _kept(pt)
    _accept(made, pt, _node("rekey", pt, "--operator-ca").ok().json)
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    shutil.rmtree(pt.home)
    kept.rename(pt.home)
    _fetch(made, pt)
    ((state, text),) = _keys_found(pt)
    assert state == "warning" and "the operator CA in use here: " in text
    _accept(made, pt, _node("rekey", pt, "--finish").ok().json)
    assert _keys_found(pt) == []

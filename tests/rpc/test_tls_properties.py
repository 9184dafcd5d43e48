"""Both listeners as an outside tool sees them: Python's TLS and openssl's, neither of them gRPC's.

docs/security.md says what sslyze, run by hand, found on the same listeners.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tieline_client import tls
from tieline_client.identifiers import dns_name
from tieline_server.rpc.methods import Listener

from tests.e2e.federation import wait_for
from tests.rpc.guarded import FEDERATION, ICE, OWN, Listening, World, listening

SECONDS = 60
NAME = dns_name(OWN, FEDERATION)
SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}


@dataclass
class Door:
    """A listener, and files with a certificate that it lets in."""

    port: Listening
    folder: Path

    def look(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        host, _, port = self.port.address.rpartition(":")
        plain = socket.create_connection((host, int(port)), SECONDS)
        try:
            return context.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.folder / "roots.pem")
        made.set_alpn_protocols(["h2"])
        if certificate:
            made.load_cert_chain(self.folder / "leaf.pem", self.folder / "key.pem")
        return made

    def words(self, *more: str) -> list[str]:
        """openssl's client as this door lets it in."""
        return [
            *("openssl", "s_client", "-connect", self.port.address, "-alpn", "h2"),
            *("-servername", NAME, "-CAfile", str(self.folder / "roots.pem")),
            *("-cert", str(self.folder / "leaf.pem"), "-key", str(self.folder / "key.pem")),
            *more,
        ]

    def openssl(self, *words: str, said: str = "") -> str:
        done = subprocess.run(
            self.words(*words),
            input=said,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture(params=list(Listener), ids=lambda one: one.value)
def door(request: pytest.FixtureRequest, world: World) -> Iterator[Door]:
    identity = (
        world.agencies[ICE].identity
        if request.param is Listener.FEDERATION
        else world.people["ana"]
    )
    with tempfile.TemporaryDirectory() as folder, listening(world, request.param) as port:
        made = Door(port, Path(folder))
        (made.folder / "roots.pem").write_bytes(tls.to_pem([world.agencies[OWN].node_ca.der]))
        (made.folder / "leaf.pem").write_bytes(identity.leaf_pem)
        (made.folder / "key.pem").write_bytes(identity.key_pem)
        yield made


def test_tls_1_3_with_its_authenticated_ciphers_and_no_compression(door: Door) -> None:
    with door.look(door.context()) as secure:
        assert secure.version() == "TLSv1.3"
        suite = secure.cipher()
        assert suite is not None
        assert suite[0] in SUITES
        assert secure.compression() is None
        assert secure.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2]
)
def test_nothing_below_tls_1_3(door: Door, version: ssl.TLSVersion) -> None:
    context = door.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call() if version < ssl.TLSVersion.TLSv1_2 else _nothing():
        context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
        door.look(context)
    # It was the listener that ended it, not this side for want of a version.
    assert "NO_PROTOCOLS" not in str(caught.value)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_error: object) -> None: ...


@pytest.mark.parametrize("suite", ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
def test_other_suites_are_not_spoken(door: Door, suite: str) -> None:
    told = door.openssl("-ciphersuites", suite)
    assert "Cipher is (NONE)" in told


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_each_of_its_suites_is(door: Door, suite: str) -> None:
    assert f"Cipher is {suite}" in door.openssl("-ciphersuites", suite)


def test_without_a_certificate_the_connection_ends(door: Door) -> None:
    # In TLS 1.3 the client's half is done before the server looks at its certificate.
    with (
        pytest.raises((ssl.SSLError, ConnectionError)) as caught,
        door.look(door.context(certificate=False)) as secure,
    ):
        secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        while secure.recv(4096):
            pass
        raise ConnectionError("closed without a word")
    assert door.port.exchange.bodies == door.port.people.bodies == 0
    assert caught.value is not None


def test_no_early_data(door: Door) -> None:
    """A replay needs 0-RTT: tickets allow none, and what is sent as early data is not taken."""
    session, early = door.folder / "session", door.folder / "early"
    early.write_text("replayed")
    first = subprocess.Popen(
        door.words("-sess_out", str(session)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    try:
        # The ticket comes after the handshake.
        wait_for("a ticket", lambda: session.exists() and session.stat().st_size, SECONDS)
        told, _ = first.communicate("Q\n", SECONDS)
    finally:
        first.kill()
        first.wait()
    assert "Max Early Data: 0" in told
    again = door.openssl("-sess_in", str(session), "-early_data", str(early))
    assert "Early data was accepted" not in again
    assert door.port.exchange.bodies == door.port.people.bodies == 0


def test_no_renegotiation(door: Door) -> None:
    """TLS 1.3 has none; whoever asks for it is not served otherwise."""
    told = door.openssl(said="R\n")
    assert "TLSv1.3" in told
    assert "RENEGOTIATING" in told
    assert "wrong ssl version" in told or "no renegotiation" in told

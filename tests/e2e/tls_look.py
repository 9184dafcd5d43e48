"""What a listener shows and takes, seen with Python's own TLS rather than gRPC's."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from tieline_client import tls

SECONDS = 60.0


@contextmanager
def context(identity: tls.Identity, roots: list[bytes]) -> Iterator[ssl.SSLContext]:
    """A client that trusts these CAs (DER) and shows this certificate."""
    with tempfile.TemporaryDirectory() as folder:
        leaf, key = Path(folder, "leaf.pem"), Path(folder, "key.pem")
        leaf.write_bytes(identity.leaf_pem)
        key.write_bytes(identity.key_pem)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(cadata=tls.to_pem(roots).decode())
        made.load_cert_chain(leaf, key)
    made.set_alpn_protocols(["h2"])
    yield made


def served_serial(address: str, name: str, identity: tls.Identity, roots: list[bytes]) -> int:
    """The serial number of the leaf that a fresh handshake meets."""
    host, _, port = address.rpartition(":")
    with (
        context(identity, roots) as client,
        socket.create_connection((host, int(port)), SECONDS) as plain,
        client.wrap_socket(plain, server_hostname=name) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

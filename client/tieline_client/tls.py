"""TLS for both sides: credentials, and every channel and server option, in one place.

TLS 1.3 only, client certificates always. A channel goes to one agency: its only roots are that
agency's CAs and the name it asks for is that agency's, wherever the address leads. A server's
roots are all members' node CAs (federation port) or its own agency's operator CAs (operator port),
read again at every handshake, so that renewal and revocation need no restart; open connections
end by age. What the handshake lets through is checked again in certificates.py.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.experimental
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tieline_client import TLS_1_3_ONLY, limits
from tieline_client.certificate_errors import CertificateMalformed, CertificateMissing
from tieline_client.errors import ConfigurationError, TrustError
from tieline_client.identifiers import dns_name

Options = list[tuple[str, int | str]]

AuthContext = Mapping[str, Iterable[bytes]] | Mapping[str, bytes]
"""What ``ServicerContext.auth_context()`` returns: the first; grpc-stubs says the second."""

_TLS_1_3 = b"TLSv1.3"
_PEM_BEGIN, _PEM_END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class TlsVersionRefused(TrustError):
    """The call came over something else than TLS 1.3."""

    reason = "TLS_VERSION"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this side is: its leaf, PEM, followed by nothing else, and its unencrypted key, PEM."""

    leaf_pem: bytes
    key_pem: bytes


@dataclass(frozen=True, slots=True)
class ServerMaterial:
    """What a listener works with: who it is and which CAs (DER) may vouch for callers."""

    identity: Identity
    caller_cas: tuple[bytes, ...]


def server_credentials(current: Callable[[], ServerMaterial]) -> grpc.ServerCredentials:
    """Return credentials that demand a client certificate and follow ``current``.

    ``current`` is called at every handshake, from gRPC's threads, and must be quick; while it
    returns the same object, nothing is reloaded. When it raises or gives what gRPC cannot use, the
    last good credentials stay. Raises ConfigurationError when there is no CA at all.
    """
    _require_tls_1_3()
    loaded = current()

    def configuration(material: ServerMaterial) -> grpc.ServerCertificateConfiguration:
        if not material.caller_cas:
            raise ConfigurationError("no CA may vouch for callers; run `tieline node join` first")
        identity = material.identity
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.leaf_pem)], to_pem(material.caller_cas)
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal loaded
        material = current()
        if material is loaded:
            return None
        fresh = configuration(material)
        loaded = material
        return fresh

    # None means "unchanged" to gRPC; the type stubs leave that out.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(
        configuration(loaded), fetcher, require_client_authentication=True
    )


def node_channel(
    target: str,
    *,
    agency: str,
    federation: str,
    roots: Sequence[bytes],
    identity: Identity,
    proxy: str = "",
    idle_seconds: float = 0,
) -> grpc.Channel:
    """Open a channel to one agency's node: for peers and for the agency's own people.

    ``roots`` are the DER node CAs of that agency and no other. ``proxy`` is the URL of an HTTP
    proxy that is asked to CONNECT; TLS goes through it end to end. A connection without calls is
    closed after ``idle_seconds`` (0: gRPC's half hour). Nothing is sent before the first call.
    Raises ConfigurationError without roots.
    """
    _require_tls_1_3()
    if not roots:
        raise ConfigurationError(
            f"no CA of {agency} is known, so its node cannot be recognised; fetch the directory"
        )
    credentials = grpc.ssl_channel_credentials(
        root_certificates=to_pem(roots),
        private_key=identity.key_pem,
        certificate_chain=identity.leaf_pem,
    )
    options = channel_options(dns_name(agency, federation), proxy=proxy)
    # Who reads a stream of answers does so by themselves: a thread for each costs more.
    options.append((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1))
    if idle_seconds:
        options.append(("grpc.client_idle_timeout_ms", _milliseconds(idle_seconds)))
    return grpc.secure_channel(target, credentials, options=options)


def channel_options(target_name: str, *, proxy: str = "") -> Options:
    """Return all options of a channel; ``target_name`` is the DNS name its server must prove.

    A proxy is used only where asked for, never because the environment names one.
    """
    return [
        ("grpc.ssl_target_name_override", target_name),
        ("grpc.default_authority", target_name),
        ("grpc.enable_http_proxy", int(bool(proxy))),
        *([("grpc.http_proxy", proxy)] if proxy else []),
        # Retries are ours: they need the outbox, back-off in storage and the same request id.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Else gRPC answers for up to two minutes that a peer is away which has long come back.
        ("grpc.initial_reconnect_backoff_ms", _milliseconds(limits.RECONNECT_FIRST_SECONDS)),
        ("grpc.max_reconnect_backoff_ms", _milliseconds(limits.RECONNECT_MOST_SECONDS)),
        # Channels share no connections, so that new credentials never ride on old ones.
        ("grpc.use_local_subchannel_pool", 1),
        *_message_options(),
    ]


def forget_proxies() -> None:
    """Take out of the environment what gRPC would let overrule the configured proxy, or its want.

    To be called before the first channel is made.
    """
    for name in ("no_grpc_proxy", "no_proxy", "GRPC_ADDRESS_HTTP_PROXY"):
        os.environ.pop(name, None)


def server_options(*, share_port: bool = False) -> Options:
    """Return all options of a listener.

    ``share_port`` lets several processes of one node answer on one port; without it a second node
    on the same port fails to start.
    """
    return [
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.max_concurrent_streams", limits.CONNECTION_STREAMS),
        ("grpc.max_connection_age_ms", _milliseconds(limits.CONNECTION_AGE_SECONDS)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(limits.CONNECTION_GRACE_SECONDS)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(limits.HANDSHAKE_SECONDS)),
        # Peers ping each KEEPALIVE_SECONDS; half of that still is no flood.
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(limits.KEEPALIVE_SECONDS / 2),
        ),
        *_message_options(),
    ]


def is_ready(channel: grpc.Channel) -> bool:
    """Whether a channel has a connection at this moment.

    grpcio's public way to know is a subscription, whose thread looks five times a second for as
    long as the channel lives: with fifty peers that alone kept an idle node busy.
    """
    core: Any = channel._channel  # type: ignore[attr-defined]
    ready: Any = grpc.ChannelConnectivity.READY.value
    try:
        return bool(core.check_connectivity_state(False) == ready[0])
    except ValueError:  # it is closed
        return False


def check_tls_version(auth_context: AuthContext) -> None:
    """Raise TlsVersionRefused unless a call's auth context says TLS 1.3.

    That only 1.3 is spoken follows from a side effect of gRPC (tieline_client/__init__.py), so
    each call is looked at too.
    """
    if _values(auth_context, "ssl_tls_version") != (_TLS_1_3,):
        raise TlsVersionRefused(
            "the connection is not TLS 1.3; let nothing stand between the nodes"
        )


def caller_leaf(auth_context: AuthContext) -> bytes:
    """Return the DER leaf of a call's auth context.

    Raises CertificateMissing without one, CertificateMalformed when it is not exactly one PEM
    block.
    """
    blocks = _values(auth_context, "x509_pem_cert")
    if not blocks:
        raise CertificateMissing("the caller showed no certificate; connect with one")
    if len(blocks) != 1:
        raise CertificateMalformed("the caller showed more than one leaf")
    return to_der(blocks[0])


def to_der(pem: bytes) -> bytes:
    """Return the bytes of a PEM that holds exactly one certificate; raise CertificateMalformed."""
    body = pem.strip()
    if body.startswith(_PEM_BEGIN) and body.endswith(_PEM_END):
        text = body[len(_PEM_BEGIN) : -len(_PEM_END)].translate(None, b"\r\n")
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            pass
    raise CertificateMalformed("not one PEM certificate; give the leaf alone, without a chain")


def to_pem(certificates: Iterable[bytes]) -> bytes:
    """Return DER certificates as one PEM bundle."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates
    )


def _require_tls_1_3() -> None:
    """Fail closed: a client cannot see which version its channel came to."""
    if not TLS_1_3_ONLY:
        raise ConfigurationError(
            "grpc was imported before tieline_client and would accept TLS 1.2;"
            " import tieline_client first"
        )


def _values(auth_context: AuthContext, name: str) -> tuple[bytes, ...]:
    return tuple(cast("Mapping[str, Iterable[bytes]]", auth_context).get(name, ()))


def _message_options() -> Options:
    return [
        ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
        ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
        ("grpc.max_metadata_size", limits.METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", limits.METADATA_BYTES),
        ("grpc.keepalive_time_ms", _milliseconds(limits.KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", _milliseconds(limits.KEEPALIVE_ANSWER_SECONDS)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

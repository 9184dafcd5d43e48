"""TLS for real: 1.3 only, credentials that reload, one agency per channel, no proxy unasked."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys, limits, tls
from tieline_client.certificate_errors import CertificateMalformed, CertificateMissing
from tieline_client.certificates import Kind
from tieline_client.errors import ConfigurationError
from tieline_client.identifiers import dns_name
from tieline_server.trust.authority import AgencyAuthority, create_authority, issue_node_leaf

from tests.trust.forging import DAY, World, make_world, usage
from tests.trust.handshakes import TinyServer, call, node_identity, serving

WORLD = make_world()
SUITE_WITHOUT_KEY = "ECDHE-PSK-CHACHA20-POLY1305"


@dataclass(frozen=True)
class Files:
    """A caller's certificate as files, for clients that are not gRPC."""

    certificate: Path
    key: Path
    roots: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    identity = node_identity(WORLD.other, WORLD.now)
    made = Files(folder / "leaf.pem", folder / "leaf.key", folder / "roots.pem")
    made.certificate.write_bytes(identity.leaf_pem)
    made.key.write_bytes(identity.key_pem)
    made.roots.write_bytes(tls.to_pem([WORLD.victim.der]))
    return made


@pytest.fixture(scope="module")
def honest() -> Iterator[tuple[TinyServer, str]]:
    identity = node_identity(WORLD.victim, WORLD.now)
    with serving(WORLD, identity, [WORLD.other.der]) as running:
        yield running


def channel_to(
    address: str,
    *,
    authority: AgencyAuthority = WORLD.victim,
    identity: tls.Identity | None = None,
    world: World = WORLD,
) -> grpc.Channel:
    return tls.node_channel(
        address,
        agency=authority.agency,
        federation=world.federation,
        roots=[authority.der],
        identity=identity or node_identity(world.other, world.now),
    )


# --- TLS 1.3 only ------------------------------------------------------------------------------


def handshake(address: str, files: Files, version: ssl.TLSVersion, ciphers: str = "") -> str | None:
    """Return the version that was agreed with Python's OpenSSL as client."""
    context = ssl.create_default_context(cafile=str(files.roots))
    context.load_cert_chain(files.certificate, files.key)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if ciphers:
        context.set_ciphers(ciphers)
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="pt-pj.demo.invalid") as secured,
    ):
        return secured.version()


def test_a_server_speaks_tls_1_3(honest: tuple[TinyServer, str], files: Files) -> None:
    assert handshake(honest[1], files, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.parametrize("ciphers", ["", "ALL:@SECLEVEL=0"])
def test_a_server_refuses_tls_1_2(
    honest: tuple[TinyServer, str], files: Files, ciphers: str
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(honest[1], files, ssl.TLSVersion.TLSv1_2, ciphers)


@pytest.mark.parametrize(
    "options",
    [
        ["-tls1_2"],
        ["-tls1_2", "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", f"{SUITE_WITHOUT_KEY}:@SECLEVEL=0", "-psk", "00"],
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ],
    ids=["1.2", "1.2-any-suite", "1.2-the-named-suite", "1.1"],
)
def test_openssl_cannot_get_less_than_tls_1_3(
    honest: tuple[TinyServer, str], files: Files, options: list[str]
) -> None:
    result = subprocess.run(
        ["openssl", "s_client", "-connect", honest[1], "-cert", str(files.certificate),
         "-key", str(files.key), *options],
        input=b"", capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode != 0
    assert b"no peer certificate available" in result.stdout
    assert b"Cipher is (NONE)" in result.stdout


def test_a_channel_refuses_a_server_of_tls_1_2(tmp_path: Path) -> None:
    identity = node_identity(WORLD.victim, WORLD.now)
    (tmp_path / "leaf.pem").write_bytes(identity.leaf_pem)
    (tmp_path / "leaf.key").write_bytes(identity.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    seen: list[str] = []

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    seen.append(str(secured.version()))
            except OSError as error:
                seen.append(str(error))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        with (
            channel_to(f"127.0.0.1:{listener.getsockname()[1]}") as channel,
            pytest.raises(grpc.RpcError) as refusal,
        ):
            call(channel, "Hello")
        thread.join(60)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(seen) == 1
    assert "no shared cipher" in seen[0]


def test_the_suite_is_named_before_grpc_is_loaded() -> None:
    """The side effect works in this order only; nothing from outside undoes it."""
    result = subprocess.run(
        [sys.executable, "-c",
         "import tieline_client, sys, os; assert 'grpc' not in sys.modules;"
         "print(os.environ['GRPC_SSL_CIPHER_SUITES'])"],
        env={**os.environ, "GRPC_SSL_CIPHER_SUITES": "ECDHE-ECDSA-AES128-GCM-SHA256"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == SUITE_WITHOUT_KEY


@pytest.mark.parametrize("module", ["tieline_server.rpc.server", "tieline_client.peer_client"])
def test_whatever_part_is_loaded_first_tls_1_3_is_the_only_one(module: str) -> None:
    program = f"import {module}, tieline_client; print(tieline_client.TLS_1_3_ONLY)"
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_SSL_CIPHER_SUITES"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "True"


def test_where_grpc_came_first_nothing_is_opened() -> None:
    program = """
import os
os.environ.pop("GRPC_SSL_CIPHER_SUITES", None)
import grpc
from tieline_client import tls
from tieline_client.errors import ConfigurationError
identity = tls.Identity(b"", b"")
openings = [
    lambda: tls.server_credentials(lambda: tls.ServerMaterial(identity, (b"ca",))),
    lambda: tls.node_channel("127.0.0.1:1", agency="pt-pj", federation="demo", roots=[b"ca"],
                             identity=identity),
]
for opening in openings:
    try:
        opening()
    except ConfigurationError as error:
        print(error.message)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("import tieline_client first" in line for line in lines)


@pytest.mark.parametrize(
    "context",
    [{}, {"ssl_tls_version": [b"TLSv1.2"]}, {"ssl_tls_version": [b"TLSv1.3", b"TLSv1.2"]}],
)
def test_each_call_is_asked_for_its_version(context: dict[str, list[bytes]]) -> None:
    with pytest.raises(tls.TlsVersionRefused) as refusal:
        tls.check_tls_version(context)
    assert refusal.value.reason == "TLS_VERSION"
    tls.check_tls_version({"ssl_tls_version": [b"TLSv1.3"]})


# --- who is at either end ----------------------------------------------------------------------


def test_a_caller_without_a_certificate_reaches_nothing(honest: tuple[TinyServer, str]) -> None:
    tiny, address = honest
    before = tiny.bodies, len(tiny.refusals)
    credentials = grpc.ssl_channel_credentials(tls.to_pem([WORLD.victim.der]))
    options = tls.channel_options("pt-pj.demo.invalid")
    with (
        grpc.secure_channel(address, credentials, options=options) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        call(channel, "Hello")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (tiny.bodies, len(tiny.refusals)) == before


def test_a_caller_without_tls_reaches_nothing(honest: tuple[TinyServer, str]) -> None:
    tiny, address = honest
    before = tiny.bodies, len(tiny.refusals)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        call(channel, "Hello")
    assert (tiny.bodies, len(tiny.refusals)) == before


def test_agencies_with_hyphens_anywhere_and_digits_find_each_other() -> None:
    for agency in ("-a", "a-", "00", "x--y", "a" * 32):
        own = create_authority(Kind.NODE, "demo", agency, keys.generate(), now=WORLD.now)
        world = World("demo", WORLD.now, own, WORLD.victim_operators, WORLD.other)
        with (
            serving(world, node_identity(own, world.now), [WORLD.other.der]) as (_, address),
            channel_to(address, authority=own, world=world) as channel,
        ):
            assert call(channel, "Effect", b"reached") == b"reached"


def test_an_existing_pkis_issuing_ca_is_root_enough() -> None:
    """Its own issuer is pinned nowhere: gRPC takes a CA that is not self-signed as trust anchor."""
    root, key = keys.generate(), keys.generate()

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    certificate = (
        x509.CertificateBuilder()
        .subject_name(name("National issuing CA"))
        .issuer_name(name("National root"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(WORLD.now - 2 * DAY)
        .not_valid_after(WORLD.now + 100 * DAY)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    own = AgencyAuthority(Kind.NODE, "demo", "de-bka", certificate, key)
    world = World("demo", WORLD.now, own, WORLD.victim_operators, WORLD.other)
    with serving(world, node_identity(own, world.now), [WORLD.other.der, own.der]) as (_, address):
        for caller in (WORLD.other, own):
            identity = node_identity(caller, world.now)
            with channel_to(address, authority=own, identity=identity, world=world) as channel:
                assert call(channel, "Effect", b"reached") == b"reached"


# --- reload ------------------------------------------------------------------------------------


def test_a_listener_follows_renewal_and_its_callers_cas_without_restart() -> None:
    first, renewed = (node_identity(WORLD.victim, WORLD.now) for _ in range(2))
    material = tls.ServerMaterial(first, (WORLD.victim.der,))
    asked = 0

    def current() -> tls.ServerMaterial:
        nonlocal asked
        asked += 1
        return material

    with serving(WORLD, first, (), current) as (_, address):
        with channel_to(address) as channel, pytest.raises(grpc.RpcError):
            call(channel, "Hello")
        # Another member is admitted and the leaf is renewed.
        material = tls.ServerMaterial(renewed, (WORLD.victim.der, WORLD.other.der))
        with channel_to(address) as channel:
            call(channel, "Hello")
        assert served_leaf(address) == tls.to_der(renewed.leaf_pem)
        # That member leaves again: refused at its next handshake.
        material = tls.ServerMaterial(renewed, (WORLD.victim.der,))
        with channel_to(address) as channel, pytest.raises(grpc.RpcError):
            call(channel, "Hello")
    assert asked >= 5


def served_leaf(address: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain) as secured,
    ):
        leaf = secured.getpeercert(binary_form=True)
    assert leaf is not None
    return leaf


@pytest.mark.parametrize("fault", ["raises", "no-ca", "bad-key", "no-leaf"])
def test_bad_new_credentials_leave_the_good_ones_in_place(fault: str) -> None:
    identity = node_identity(WORLD.victim, WORLD.now)
    good = tls.ServerMaterial(identity, (WORLD.other.der,))
    bad = {
        "no-ca": tls.ServerMaterial(identity, ()),
        "bad-key": tls.ServerMaterial(
            tls.Identity(identity.leaf_pem, keys.private_pem(keys.generate())), (WORLD.other.der,)
        ),
        "no-leaf": tls.ServerMaterial(tls.Identity(b"nothing", b"nothing"), (WORLD.other.der,)),
    }
    broken = False

    def current() -> tls.ServerMaterial:
        if not broken:
            return good
        if fault == "raises":
            raise ConfigurationError("the key cannot be read")
        return bad[fault]

    with serving(WORLD, identity, (), current) as (tiny, address):
        for turn in (1, 2, 3):
            with channel_to(address) as channel:
                assert call(channel, "Effect", b"x") == b"x"
            assert tiny.effects == turn
            broken = True


def test_a_listener_needs_someone_to_vouch_for_callers() -> None:
    material = tls.ServerMaterial(node_identity(WORLD.victim, WORLD.now), ())
    with pytest.raises(ConfigurationError, match="no CA may vouch"):
        tls.server_credentials(lambda: material)
    with pytest.raises(ConfigurationError, match="no CA of pt-pj is known"):
        tls.node_channel(
            "127.0.0.1:1",
            agency="pt-pj",
            federation="demo",
            roots=[],
            identity=material.identity,
        )


# --- options -----------------------------------------------------------------------------------


def test_a_proxy_in_the_environment_is_not_used_unasked(
    honest: tuple[TinyServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(variable, where)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("no_grpc_proxy", raising=False)
        with channel_to(honest[1]) as channel:
            assert call(channel, "Effect", b"x") == b"x"
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_a_message_over_the_cap_is_refused_on_either_side(honest: tuple[TinyServer, str]) -> None:
    tiny, address = honest
    before = tiny.bodies
    with channel_to(address) as channel:
        assert len(call(channel, "Effect", bytes(limits.MESSAGE_BYTES))) == limits.MESSAGE_BYTES
        with pytest.raises(grpc.RpcError) as refusal:
            call(channel, "Effect", bytes(limits.MESSAGE_BYTES + 1))
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    greedy = [
        (name, value)
        for name, value in tls.channel_options("pt-pj.demo.invalid")
        if name != "grpc.max_send_message_length"
    ]
    identity = node_identity(WORLD.other, WORLD.now)
    credentials = grpc.ssl_channel_credentials(
        tls.to_pem([WORLD.victim.der]), identity.key_pem, identity.leaf_pem
    )
    with (
        grpc.secure_channel(address, credentials, options=greedy) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        call(channel, "Effect", bytes(limits.MESSAGE_BYTES + 1))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert tiny.bodies == before + 1


def test_a_second_listener_on_the_same_port_does_not_start(honest: tuple[TinyServer, str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    material = tls.ServerMaterial(node_identity(WORLD.victim, WORLD.now), (WORLD.other.der,))
    server = grpc.server(ThreadPoolExecutor(1), options=tls.server_options())
    with pytest.raises(RuntimeError, match="bind"):
        server.add_secure_port(honest[1], tls.server_credentials(lambda: material))


def test_no_option_is_named_twice() -> None:
    for options in (tls.server_options(), tls.channel_options(dns_name("pt-pj", "demo"))):
        named = [name for name, _ in options]
        assert len(named) == len(set(named))
        assert all(name.startswith("grpc.") for name in named)


# --- PEM and DER -------------------------------------------------------------------------------


def test_a_leaf_is_exactly_one_pem_block() -> None:
    leaf = issue_node_leaf(WORLD.victim, keys.generate().public_key(), now=WORLD.now)
    pem, der = leaf.public_bytes(Encoding.PEM), leaf.public_bytes(Encoding.DER)
    assert tls.to_der(pem) == tls.to_der(pem.replace(b"\n", b"\r\n")) == der
    assert tls.to_pem([der]) == pem
    assert tls.caller_leaf({"x509_pem_cert": [pem]}) == der
    key_pem = keys.private_pem(keys.generate())
    for bad in (b"", pem + pem, pem[:-5], key_pem, pem + key_pem, pem.replace(b"MII", b"M!I", 1)):
        with pytest.raises(CertificateMalformed):
            tls.to_der(bad)
    with pytest.raises(CertificateMalformed):
        tls.caller_leaf({"x509_pem_cert": [pem, pem]})
    contexts: list[dict[str, list[bytes]]] = [{}, {"x509_pem_cert": []}]
    for absent in contexts:
        with pytest.raises(CertificateMissing):
            tls.caller_leaf(absent)

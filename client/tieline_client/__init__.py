"""All that is needed to speak Tieline: digests, identities, envelopes, TLS, formats, clients.

grpc-core reads its cipher list once, when it is imported. Naming only a TLS 1.2 suite that neither
side can complete leaves TLS 1.3 as the one version that works; the peer check still looks at the
version of every call, because this is a side effect that gRPC does not document (docs/security.md).
"""

import os
import sys

_SUITES, _UNUSABLE_SUITE = "GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-CHACHA20-POLY1305"

TLS_1_3_ONLY = "grpc" not in sys.modules or os.environ.get(_SUITES) == _UNUSABLE_SUITE
"""False when grpc was imported first and took TLS 1.2 with it; tls.py then refuses to work."""

os.environ[_SUITES] = _UNUSABLE_SUITE
# A police network's proxy settings must never carry loopback or peer traffic unasked.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

__version__ = "0.1.0"

WIRE_MAJOR = "v1"
WIRE_MINOR = 5
"""Additions to the wire raise the minor; a peer's Hello says what it speaks."""

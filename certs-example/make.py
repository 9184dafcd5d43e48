"""Make the certificates of a whole example federation: ``python certs-example/make.py OUT``.

Three agencies; for each a node CA, an operator CA, the node's leaf, one person's leaf and a signing
key, made by the node's own code (server/tieline_server/trust/authority.py). OUT/node-cas.pem holds
all node CAs, as a federation port trusts them. README.md walks through the files with openssl.

For looking and learning: the keys are plain files and the directory is none of a federation's. Real
agencies use `tieline node init`.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.errors import TielineError, UsageError
from tieline_client.tls import to_pem
from tieline_server.trust.authority import (
    AgencyAuthority,
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
)

FEDERATION = "example"
AGENCIES = {"europol-ec3": "jan.novak", "pt-pj": "ana.silva", "us-ice": "kim.jones"}
"""Agency to the one person who gets a certificate."""


def make_federation(out: Path, now: datetime) -> None:
    """Write all files under ``out``, which must be new or empty; raise UsageError otherwise."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; name a new one")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    node_cas = [
        make_agency(out / agency, agency, person, now) for agency, person in AGENCIES.items()
    ]
    (out / "node-cas.pem").write_bytes(to_pem(authority.der for authority in node_cas))


def make_agency(folder: Path, agency: str, person: str, now: datetime) -> AgencyAuthority:
    """Write one agency's files and return its node CA."""
    folder.mkdir(mode=0o700)
    node_ca = _make_ca(folder, Kind.NODE, agency, now)
    operator_ca = _make_ca(folder, Kind.OPERATOR, agency, now)

    node_key, person_key = keys.generate(), keys.generate()
    keys.save(folder / "node.key", node_key)
    leaf = issue_node_leaf(node_ca, node_key.public_key(), now=now)
    (folder / "node.pem").write_bytes(leaf.public_bytes(Encoding.PEM))

    keys.save(folder / f"{person}.key", person_key)
    leaf = issue_operator_leaf(operator_ca, person, person_key.public_key(), now=now)
    (folder / f"{person}.pem").write_bytes(leaf.public_bytes(Encoding.PEM))

    signing_key = keys.generate()
    keys.save(folder / "signing.key", signing_key)
    (folder / "signing.pub").write_bytes(
        signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "signing.keyid").write_text(keys.keyid(signing_key) + "\n", encoding="ascii")
    return node_ca


def _make_ca(folder: Path, kind: Kind, agency: str, now: datetime) -> AgencyAuthority:
    key = keys.generate()
    keys.save(folder / f"{kind.value}-ca.key", key)
    authority = create_authority(kind, FEDERATION, agency, key, now=now)
    (folder / f"{kind.value}-ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return authority


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code (docs: the command line's)."""
    parser = argparse.ArgumentParser(description="Make an example federation's certificates.")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    try:
        make_federation(parser.parse_args(arguments).out, datetime.now(UTC).replace(microsecond=0))
    except TielineError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    sys.stderr.write("made; the keys in it are plain files, for trying things out only\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

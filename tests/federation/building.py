"""Requests, federations and the command line, as the tests of this folder need them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Contact, Role, SigningKey
from tieline_server.federation_cli import federation_app
from tieline_server.trust import federation_edits, federation_init, request
from tieline_server.trust.authority import create_authority
from tieline_server.trust.federation import Federation
from tieline_server.trust.request import Request
from tieline_server.trust.stated import Stated
from tieline_server.trust.statements import AgencyStatement, OwnStatement
from typer.testing import CliRunner, Result

NOW = datetime.now(UTC).replace(microsecond=0)
FEDERATION = "tieline-test"


@dataclass
class Agency:
    """An agency's keys, from which its requests are made."""

    agency: str
    role: Role = Role.NATIONAL
    countries: Sequence[str] = ("PT",)
    directory_key: keys.PrivateKey = field(default_factory=keys.generate)
    signing_key: keys.PrivateKey = field(default_factory=keys.generate)
    node_ca: bytes = b""
    operator_ca: bytes = b""

    def __post_init__(self) -> None:
        self.node_ca = self.node_ca or self.new_ca(Kind.NODE)
        self.operator_ca = self.operator_ca or self.new_ca(Kind.OPERATOR)

    def new_ca(self, kind: Kind) -> bytes:
        """Return a new CA (DER) of this agency."""
        return create_authority(kind, FEDERATION, self.agency, keys.generate(), now=NOW).der

    def own(self, **changed: Any) -> OwnStatement:
        """Return what the agency states of itself."""
        signing = SigningKey(
            keyid=keys.keyid(self.signing_key),
            public=base64.b64encode(keys.public_der(self.signing_key)).decode(),
            not_before=NOW,
        )
        values: dict[str, Any] = {
            "agency": self.agency,
            "endpoints": ("127.0.0.1:7443",),
            "node_cas": (self.node_ca,),
            "operator_cas": (self.operator_ca,),
            "signing_keys": (signing,),
            "contact": Contact(name="Duty desk", email="duty@example.invalid"),
        }
        return OwnStatement(**{**values, **changed})

    def request(self, now: datetime = NOW, **changed: Any) -> Request:
        """Return a request to join, made at ``now``."""
        claims = AgencyStatement(
            agency=self.agency,
            name=f"Agency {self.agency}",
            role=self.role,
            countries=tuple(self.countries),
        )
        return request.build(claims, self.own(**changed), self.directory_key, now)


def write_request(path: Path, made: Request) -> Path:
    """Write request.json as `tieline node init` does."""
    path.write_bytes(made.to_json())
    return path


def invoke(*arguments: object, **environment: str) -> Result:
    """Run `tieline federation ARGUMENTS` in a pipe."""
    return CliRunner().invoke(
        federation_app, [str(argument) for argument in arguments], env=environment
    )


def succeed(*arguments: object, **environment: str) -> Any:
    """Run a command with --json; return its one document."""
    result = invoke(*arguments, "--json", **environment)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(exit_code: int, *arguments: object, **environment: str) -> str:
    """Run a command that must fail so; return its one line on stderr."""
    result = invoke(*arguments, **environment)
    assert result.exit_code == exit_code, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    errors = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def trial(folder: Path, *agencies: Agency, now: datetime = NOW) -> Federation:
    """Return a trial federation with these members."""
    federation = federation_init.create(
        folder, FEDERATION, passphrases=[None], threshold=1, now=now, trial=True
    )
    for agency in agencies:
        admit(federation, agency.request(), now)
    return federation


def admit(federation: Federation, made: Request, now: datetime = NOW) -> None:
    """Admit as claimed, and put it in force."""
    claims = made.claims
    change(
        federation,
        lambda stated: federation_edits.admit(stated, made, claims.role, claims.countries, now)[0],
        now,
    )


def change(federation: Federation, edit: Callable[[Stated], Stated], now: datetime = NOW) -> None:
    """Make an edit and sign it with the single key."""
    federation.propose(edit, now)
    path = federation.single_key
    assert path is not None
    assert federation.sign(keys.load(path), now).in_force

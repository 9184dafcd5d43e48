"""`tieline federation`: holders and their keys, and statements that need none of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tieline_client import keys, limits
from tieline_client.cli.output import Json, emit, line, run, say, time_text
from tieline_client.errors import InvalidInput, UsageError

from tieline_server import federation_views
from tieline_server.federation_prompts import load_key, new_passphrases
from tieline_server.trust import files
from tieline_server.trust.federation import Federation, Signatures
from tieline_server.trust.request import verify

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The authority's folder.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to `tieline federation`."""
    for command, example in (
        (holder_key, "holder-key /media/stick/holder-4.pem"),
        (rotate, "rotate ./authority --holder a.pub --holder b.pub --holder c.pub --threshold 2"),
        (collect, "collect ./authority /media/stick/proposal.json"),
        (accept, "accept ./authority request.json"),
    ):
        app.command(epilog=f"Example: tieline federation {example}")(command)


@run
def holder_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file to make.")],
    as_json: Json = False,
) -> None:
    """Make a key for a holder to come, encrypted, and beside it FILE.pub for the authority.

    To be run by the holder, on a machine of their own: the key never has to leave it.
    """
    public = file.with_name(f"{file.name}.pub")
    if public.exists():
        raise UsageError(f"{public} exists; name another file")
    (passphrase,) = new_passphrases(1)
    key = keys.generate()
    keys.save(file, key, passphrase)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files.write_atomic(public, pem)
    say(f"hand {public} to the authority, and read it the fingerprint over another channel")
    document = {"key": file, "public": public, "fingerprint": keys.keyid(key)}
    emit(as_json, document, lambda: line(keys.keyid(key)))


@run
def rotate(
    folder: Folder,
    *,
    holder: Annotated[
        list[Path] | None,
        typer.Option(metavar="PUB", help="A holder from now on, all of them; repeatable."),
    ] = None,
    threshold: Annotated[int | None, typer.Option(help="How many must sign from now on.")] = None,
    online: Annotated[
        bool, typer.Option("--online", help="New online keys too: the old may be stolen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Propose the next root: other holders, another threshold, new online keys, ten more years.

    Enough holders of before and enough of those after sign it, and those after sign the targets.
    """
    named = [_public(path) for path in holder or ()]
    federation = Federation.open(folder)
    now = datetime.now(UTC)
    with federation.changing():
        federation.propose_root(now, holders=named or None, threshold=threshold, online=online)
        path = federation.single_key
        if path is not None and not named:
            federation.sign(load_key(path), now)
        _told(federation, federation.signatures(), as_json)


def _public(path: Path) -> keys.PublicKey:
    data = files.read_bounded(path, limits.KEY_FILE_BYTES)
    if data is None:
        raise UsageError(f"{path} is no file; name the FILE.pub of `tieline federation holder-key`")
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_public_key,
    )

    try:
        key = load_pem_public_key(data)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise InvalidInput(f"{path} is no public key in PEM") from None
    public = keys.load_public(der)
    say(f"holder {path.name}: {keys.keyid(public)} (compare it with what the holder read out)")
    return public


@run
def collect(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(metavar="PROPOSAL", help="proposal.json as a holder signed it.")
    ],
    as_json: Json = False,
) -> None:
    """Add the signatures that holders gave on other machines; at the threshold it takes effect.

    A holder signs in a copy of this folder without keys/ and online/, and sends back
    proposed/proposal.json. What was changed in it beside signatures is refused.
    """
    federation = Federation.open(folder)
    with federation.changing():
        _told(federation, federation.collect(file, datetime.now(UTC)), as_json)


@run
def accept(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="REQUEST.json", help="A member's newer request.")],
    as_json: Json = False,
) -> None:
    """Take what a member states of itself: addresses, CAs, signing keys, revocations, contact.

    No holder signs: its directory key, which the holders listed, did. A new directory key, role or
    country needs `admit`.
    """
    data = files.read_bounded(file, limits.DIRECTORY_FILE_BYTES)
    if data is None:
        raise InvalidInput(f"{file} is no file; name the member's request.json")
    now = datetime.now(UTC)
    request = verify(data, now)
    federation = Federation.open(folder)
    with federation.changing():
        copy, remarks = federation.accept(request.claims.agency, request.role, request.own, now)
    version = copy.parsed_snapshot.version
    document = {"agency": request.claims.agency, "version": version, "remarks": remarks}
    for remark in remarks:
        say(remark)
    emit(as_json, document, lambda: line(f"in force as version {version}"))


def _told(federation: Federation, signatures: Signatures | None, as_json: bool) -> None:
    copy = federation.published()
    in_force = signatures is None or signatures.in_force
    document = {
        "changes": federation_views.changes(federation),
        "signatures": {"have": signatures.have, "need": signatures.need} if signatures else None,
        "in_force": in_force,
        "root_version": max(copy.roots),
        "version": copy.parsed_snapshot.version,
        "expires": copy.expires,
    }

    def show() -> None:
        if in_force:
            line(
                f"in force as version {copy.parsed_snapshot.version}, root {max(copy.roots)}, "
                f"valid until {time_text(copy.expires)}"
            )
        elif signatures is not None:
            line(f"{signatures.have} of {signatures.need} signatures")

    emit(as_json, document, show)

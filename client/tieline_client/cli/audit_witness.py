"""`tieline audit witnesses`, `proof`, `list`, `receipt`, `hold`: the auditor's other commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from tieline.v1 import auditor_pb2 as pb

from tieline_client import auditor_client as auditor
from tieline_client.audit_evidence import encoded
from tieline_client.cli import audit_alarms
from tieline_client.cli.audit import app
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import show_rows
from tieline_client.digests import format_digest, rows
from tieline_client.errors import ConfigurationError, NotFound, UsageError
from tieline_client.payloads import moment
from tieline_client.receipts import Receipt

__all__ = ["app"]

audit_alarms.add_to(app)


@app.command("witnesses")
@run
def witnesses(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="With --held or --proof: a new file.")
    ] = None,
    *,
    held: Annotated[
        str, typer.Option(metavar="AGENCY", help="Write the checkpoint that is held of its log.")
    ] = "",
    proof: Annotated[
        str, typer.Option(metavar="ID", help="Write both checkpoints of an equivocation.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show who watches this log, how far, what is held of theirs, and proofs of equivocation.

    With --held AGENCY FILE, the checkpoint held of another log is written, for whoever verifies an
    export of it (`tieline audit verify EXPORT --checkpoint FILE`).

    Example: tieline audit witnesses --home ./pt-pj
    """
    if bool(held or proof) != (file is not None) or (held and proof):
        raise UsageError("give --held AGENCY FILE, or --proof ID FILE, or neither")
    with connect(profile, home) as client:
        found = auditor.list_witnesses(client)
    if file is not None:
        text = _held(found, held) if held else _proof(found, proof)
        _write(file, text)
        emit(as_json, {"file": file}, lambda: line(f"written to {file}"))
        return
    document: dict[str, list[dict[str, object]]] = {
        "witnesses": [
            {
                "agency": one.agency,
                "size": one.size,
                "issued": moment(one.issue_time) if one.size else None,
                "countersigned": one.countersigned,
                "countersigned_at": moment(one.countersign_time) if one.countersigned else None,
            }
            for one in found.witnesses
        ],
        "equivocations": [
            {
                "id": one.id,
                "agency": one.agency,
                "kind": one.kind,
                "source": one.source,
                "found": moment(one.find_time),
                "why": one.why,
            }
            for one in found.equivocations
        ],
    }

    def render() -> None:
        keys = ("agency", "size", "issued", "countersigned", "countersigned_at")
        shown = [[one[key] for key in keys] for one in document["witnesses"]]
        show_rows(
            ("agency", "its entries seen", "at", "our entries countersigned", "at"), shown, "none"
        )
        for one in document["equivocations"]:
            line(f"EQUIVOCATION {one['id']}: {one['why']}")

    emit(as_json, document, render)


def _held(found: pb.ListWitnessesResponse, agency: str) -> str:
    for one in found.witnesses:
        if one.agency == agency and one.HasField("checkpoint"):
            return encoded(one.checkpoint) + "\n"
    raise NotFound(f"no checkpoint of {agency[:40]} is held; see `tieline audit witnesses`")


def _proof(found: pb.ListWitnessesResponse, number: str) -> str:
    for one in found.equivocations:
        if one.id == number:
            return f"{encoded(one.first)}\n{encoded(one.second)}\n"
    raise NotFound(f"there is no proof {number[:40]}; see `tieline audit witnesses`")


@app.command("inclusion")
@run
def inclusion(
    position: Annotated[int, typer.Argument(metavar="NO", min=0, help="The entry, from 0.")],
    *,
    size: Annotated[int, typer.Option(min=0, help="In the tree of so many; 0: the log.")] = 0,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show the proof that an entry is in the log (RFC 6962, section 2.1.1).

    Example: tieline audit inclusion 17 --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = auditor.get_inclusion(client, position, size)
    document = {
        "position": position,
        "size": found.size,
        "leaf_hash": found.leaf_hash,
        "root": found.root,
        "proof": list(found.proof),
    }
    emit(as_json, document, lambda: _show_proof(document))


@app.command("consistency")
@run
def consistency(
    first: Annotated[int, typer.Argument(metavar="SIZE", min=1)],
    second: Annotated[int, typer.Argument(metavar="[SIZE]", min=0)] = 0,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show the proof that the log of one size extends that of another (RFC 6962, section 2.1.2).

    Example: tieline audit consistency 100 250 --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = auditor.get_consistency(client, first, second)
    document = {
        "first": first,
        "second": found.second,
        "first_root": found.first_root,
        "second_root": found.second_root,
        "proof": list(found.proof),
    }
    emit(as_json, document, lambda: _show_proof(document))


def _show_proof(document: dict[str, object]) -> None:
    for key, value in document.items():
        for one in value if isinstance(value, list) else [value]:
            line(f"{key}: {one.hex() if isinstance(one, bytes) else one}")


@app.command("list")
@run
def asked_list(
    question: Annotated[str, typer.Argument(metavar="ID", help="First subject of query.asked.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show a list that this agency asked; that it was read is logged.

    Example: tieline audit list 01a2223a-9ed6-75bd-95c3-cb9462b4b497 --home ./pt-pj
    """
    with connect(profile, home) as client:
        digests = [
            format_digest(batch.kind, one)
            for batch in auditor.list_asked(client, question)
            for one in rows(batch.kind, bytes(batch.digests))
        ]

    def render() -> None:
        for one in digests:
            line(one)

    emit(as_json, {"question": question, "digests": digests}, render)


@app.command("receipt")
@run
def receipt(
    number: Annotated[str, typer.Argument(metavar="ID", help="Of a receipt or its question.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, mode 0600.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write a receipt out of the log to a file that `tieline audit verify FILE` verifies.

    Example: tieline audit receipt 01a2223a-9ed6-75bd-95c3-cb9462b4b497 receipt.json
    """
    with connect(profile, home) as client:
        found = auditor.get_receipt(client, number)
    Receipt(found.question, found.receipt, {}, found.list_salt).save(file)
    emit(as_json, {"file": file}, lambda: line(f"written to {file}"))


@app.command("hold")
@run
def hold(
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="For whose control, and why.")],
    case: Annotated[str, typer.Option(metavar="REF", help="Entries of this case.")] = "",
    person: Annotated[str, typer.Option(metavar="NAME", help="Entries of this person.")] = "",
    peer: Annotated[str, typer.Option(metavar="AGENCY", help="Entries with this agency.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Keep entries from being erased, for a control that goes on; without a choice, all.

    Example: tieline audit hold --case 2026-118 --reason "DPA inquiry 7/26" --home ./pt-pj
    """
    with connect(profile, home) as client:
        made = auditor.hold(client, reason, case, person, peer)
    emit(as_json, {"hold": made.id}, lambda: line(made.id))


@app.command("release")
@run
def release(
    number: Annotated[str, typer.Argument(metavar="ID", help="The hold.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """End a hold: what it kept is erased when its time is over.

    Example: tieline audit release 01a2223a-9ed6-75bd-95c3-cb9462b4b497 --home ./pt-pj
    """
    with connect(profile, home) as client:
        auditor.release(client, number)
    emit(as_json, {"released": number}, lambda: line("released"))


@app.command("holds")
@run
def holds(*, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False) -> None:
    """Show the holds that stand.

    Example: tieline audit holds --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = [
            {
                "hold": one.id,
                "set": moment(one.set_time),
                "by": one.set_by,
                "case": one.what.case_ref,
                "person": one.what.person,
                "peer": one.what.peer,
                "reason": one.what.reason,
            }
            for one in auditor.list_holds(client)
        ]
    keys = ("hold", "set", "by", "case", "person", "peer", "reason")
    emit(
        as_json,
        {"holds": found},
        lambda: show_rows(keys, [[one[key] for key in keys] for one in found], "none"),
    )


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from None

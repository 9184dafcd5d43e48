"""`tieline upload`, `tieline upload step` and `tieline uploads`: deposits in a repository."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tieline_client.cli import views
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
    usage,
)
from tieline_client.cli.groups import Place, group
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.tables import upload_rows
from tieline_client.errors import UsageError
from tieline_client.identifiers import check_id
from tieline_client.limits import REFERENCE_CHARS

app = group(
    "Deposit series in a repository, and move deposits on.\n\n"
    "To deposit: tieline upload ID... --to AGENCY --purpose CODE --case REF\n\n"
    "Example: tieline upload pt-pj/0198c3a1-7f00-7abc-8def-0123456789ab --to interpol "
    "--purpose victim-identification --case 2026-118",
    default="deposit",
    takes_words=True,
    places={name: Place(f"tieline_client.cli.drops:{name}") for name in ("drop", "reconcile")},
)

Step = Literal["media_requested", "media_received", "numbered", "withdrawn"]


@app.command("deposit")
@run
def deposit(
    series: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Series, by id or own name.")
    ],
    *,
    to: Annotated[str, typer.Option(metavar="AGENCY", help="The repository.")],
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Deposit series; the word "deposit" may be left out.

    Only what is new since the last deposit of a series travels. Media change hands elsewhere.

    Example: tieline upload "Case 12" --to interpol --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    repository = parse_agency(to)
    with connect(profile, home) as client:
        made = client.upload_series(series, repository, purpose=purpose, case_ref=case)
    documents = [views.upload(each) for each in made]
    emit(as_json, {"uploads": documents}, lambda: upload_rows(documents))


@app.command("step")
@run
def step(
    upload: Annotated[str, typer.Argument(metavar="ID", help="An id of `tieline uploads`.")],
    *,
    state: Annotated[Step, typer.Option(help="The state that it reached.")],
    reference: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="The hand-over's reference; for numbered the series number."
        ),
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Move a received deposit on. Repository only.

    Example: tieline upload step 0198c3a1-7f00-7abc-8def-0123456789ab --state media_requested
    """
    with usage():
        check_id(upload)
    if len(reference) > REFERENCE_CHARS:
        raise UsageError(f"--reference is longer than {REFERENCE_CHARS} characters; shorten it")
    with connect(profile, home) as client:
        document = views.upload(client.step_upload(upload, state, reference))
    emit(as_json, document, lambda: upload_rows([document]))


@run
def uploads(
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List deposits made or received, newest first.

    Example: tieline uploads --home ./interpol
    """
    with connect(profile, home) as client:
        documents = [views.upload(each) for each in client.list_uploads()]
    emit(as_json, {"uploads": documents}, lambda: upload_rows(documents))

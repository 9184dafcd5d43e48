"""`tieline series`: series, where they were probably made, and telling those who can act."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tieline_client.cli import views
from tieline_client.cli.common import (
    CONFIDENCES,
    URGENCIES,
    CaseOption,
    HandlingOption,
    HomeOption,
    InformationOption,
    ProfileOption,
    PurposeOption,
    RestrictionOption,
    RetainOption,
    SourceOption,
    TlpOption,
    check_case,
    check_why,
    connect,
    parse_agency,
    parse_country,
    parse_handling,
    parse_pair,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, referral_rows, show_rows, show_series
from tieline_client.cli.views import to_time
from tieline_client.errors import UsageError

app = group("Series: sets of items that show the same victims.")

SeriesArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The series' id, or the name of an own series.")
]
Confidence = Literal["low", "medium", "high"]
Urgency = Literal["immediate", "urgent", "routine"]


@app.command("list")
@run
def list_series(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """List own and received series.

    Example: tieline series list --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = [views.series(each) for each in client.list_series()]

    def render() -> None:
        columns = ("id", "name", "status", "origin", "items", "likely", "number")
        rows = [
            (
                each["id"],
                each["name"],
                each["status"],
                each["origin"],
                each["items"],
                " ".join(map(str, each["likely_countries"] or ())),  # type: ignore[call-overload]
                each["number"],
            )
            for each in found
        ]
        show_rows(columns, rows, "no series")

    emit(as_json, {"series": found}, render)


@app.command("show")
@run
def show(
    series: SeriesArgument,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show one series with its assessments.

    Example: tieline series show "Case 12" --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = views.series(client.get_series(series))
    emit(as_json, found, lambda: show_series(found))


@app.command("create")
@run
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique among the own series.")],
    *,
    case: Annotated[str, typer.Option("--case", metavar="REF", help="The case reference.")] = "",
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="SCHEME:VALUE",
            help="Its number elsewhere, as icse:4711; may be repeated.",
        ),
    ] = None,
    clues: Annotated[str, typer.Option(metavar="TEXT", help="Objects and places in words.")] = "",
    victims: Annotated[int | None, typer.Option(min=0, help="Victims seen, when known.")] = None,
    contact_name: Annotated[
        str, typer.Option(metavar="TEXT", help="Whom to call; by default the duty contact.")
    ] = "",
    contact_email: Annotated[str, typer.Option(metavar="MAIL", help="Their mail.")] = "",
    contact_phone: Annotated[str, typer.Option(metavar="NUMBER", help="Their telephone.")] = "",
    handling: HandlingOption = "",
    restriction: RestrictionOption = "",
    tlp: TlpOption = "",
    source: SourceOption = "",
    information: InformationOption = None,
    retain_until: RetainOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Make a series by hand.

    Example: tieline series create "Case 12" --case 2026-118 --reference icse:4711
    """
    check_case(case)
    stated = parse_handling(
        handling,
        tlp=tlp,
        source=source,
        information=information,
        retain_until=retain_until,
        restriction=restriction,
    )
    references = [parse_pair(each, "--reference") for each in reference or ()]
    if not name.strip() or any(not scheme for scheme, _ in references):
        raise UsageError("a series needs a name, and a reference the form SCHEME:VALUE")
    contact = (contact_name, contact_email, contact_phone)
    with connect(profile, home) as client:
        made = client.create_series(
            name,
            case_ref=case,
            handling=stated,
            references=references,
            clues=clues,
            victims=victims,
            contact=contact if any(contact) else None,
        )
    document = views.series(made)
    emit(as_json, document, lambda: show_series(document))


@app.command("assess")
@run
def assess(
    series: SeriesArgument,
    *,
    country: Annotated[
        str, typer.Option(metavar="CC", help="The likely country of production, as PT.")
    ],
    confidence: Annotated[Confidence, typer.Option(help="How sure.")],
    grounds: Annotated[str, typer.Option(metavar="TEXT", help="Why, in words.")],
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Confirmed rather than suspected.")
    ] = False,
    eliminate: Annotated[
        bool, typer.Option("--eliminate", help="The country is ruled out.")
    ] = False,
    region: Annotated[
        str, typer.Option(metavar="TEXT", help="Where in the country, in words.")
    ] = "",
    clue: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A clue that it rests on; may be repeated."),
    ] = None,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Say where a series was probably made; other judgements stay beside it.

    Where another country stands after it, whoever was told before is told so; "untold countries" of
    the answer are still to be referred.

    Example: tieline series assess "Case 12" --country PT --confidence high --grounds "wall sockets"
    """
    if not grounds.strip():
        raise UsageError("--grounds is empty; say why, in words")
    if confirmed and eliminate:
        raise UsageError("a country is confirmed or ruled out; give one of the two")
    code = parse_country(country)
    with connect(profile, home) as client:
        judged = client.assess_series(
            series,
            code,
            CONFIDENCES.index(confidence) + 1,
            grounds,
            confirmed=confirmed,
            eliminate=eliminate,
            region=region,
            clues=clue or (),
        )
    document = views.series(judged)
    emit(as_json, document, lambda: show_series(document))


@app.command("refer")
@run
def refer(
    series: SeriesArgument,
    *,
    country: Annotated[
        str, typer.Option(metavar="CC", help="The country; by default the likely ones.")
    ] = "",
    agency: Annotated[str, typer.Option(metavar="ID", help="One agency instead.")] = "",
    urgency: Annotated[Urgency, typer.Option(help="How soon they should look.")] = "routine",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="A word to the recipients.")] = "",
    vital_interests: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="A child is in danger, and why: an agency without an agreement is told once a "
            "second officer confirms it.",
        ),
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Tell every agency that serves the likely country.

    Where no member serves it, the hub is told so.

    Example: tieline series refer "Case 12" --country PT --urgency urgent
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    if country and agency:
        raise UsageError("give --country or --agency, not both")
    code = parse_country(country) if country else ""
    named = parse_agency(agency) if agency else ""
    with connect(profile, home) as client:
        made = client.refer(
            series,
            country=code,
            agency=named,
            urgency=URGENCIES.index(urgency) + 1,
            purpose=purpose,
            case_ref=case,
            note=note,
            vital_interests=vital_interests,
        )
    referrals = [views.referral(each) for each in made.referrals]
    waiting = [each.id for each in made.requests]

    def render() -> None:
        if referrals:
            referral_rows(referrals)
        for each in made.requests:
            until = moment(to_time(each.expire_time))
            line(
                f"{each.peer}: waits until {until} for a second officer; "
                f"tieline requests approve {each.id}"
            )

    emit(as_json, {"referrals": referrals, "requests": waiting}, render)


@app.command("withdraw")
@run
def withdraw(
    series: SeriesArgument,
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; everybody who was told reads it.")
    ],
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Take an own series back: everybody who was told erases it and says so.

    It stays here, and is in no answer to anybody any more.

    Example: tieline series withdraw "Case 12" --reason "the court ordered its erasure"
    """
    if not reason.strip():
        raise UsageError("--reason is empty; say why, in words")
    with connect(profile, home) as client:
        made = client.retract_series(series, "withdraw", reason)
    document = views.series(made)
    emit(as_json, document, lambda: show_series(document))


@app.command("narrow")
@run
def narrow(
    series: SeriesArgument,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AGENCY",
            help="Only these agencies keep it, all others erase it; may be repeated.",
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; everybody who was told reads it.")
    ] = "",
    handling: HandlingOption = "",
    restriction: RestrictionOption = "",
    tlp: TlpOption = "",
    retain_until: RetainOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Restrict an own series further, here and at everybody who was told.

    What is not named stays as it is; nothing can be loosened.

    Example: tieline series narrow "Case 12" --handling H2 --only es-gc --only europol-ec3
    """
    if not (only or handling or tlp or retain_until or restriction):
        raise UsageError("say what is narrowed: --handling, --tlp, --retain-until or --only")
    stated = parse_handling(
        handling,
        tlp=tlp,
        source="",
        information=None,
        retain_until=retain_until,
        restriction=restriction,
    )
    with connect(profile, home) as client:
        made = client.retract_series(
            series,
            "narrow",
            reason,
            code=stated.code if handling else None,
            tlp=stated.tlp,
            restriction=stated.restriction,
            retain_until=stated.retain_until,
            only=[parse_agency(each) for each in only] if only else None,
        )
    document = views.series(made)
    emit(as_json, document, lambda: show_series(document))

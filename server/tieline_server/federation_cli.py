"""`tieline federation`: what the authority does. trust/federation.py does the work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from tieline_client import identifiers, limits
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say, time_text
from tieline_client.countries import check_known_country
from tieline_client.directory import Role, parse_serial
from tieline_client.errors import InvalidInput, UsageError

from tieline_server import federation_holders_cli, federation_views
from tieline_server.federation_prompts import (
    compare_fingerprint,
    confirm_admissions,
    load_key,
    new_passphrases,
)
from tieline_server.trust import bundle, federation_init, files
from tieline_server.trust import federation_edits as edits
from tieline_server.trust.federation import Federation
from tieline_server.trust.request import Request, verify
from tieline_server.trust.stated import Stated

federation_app = group("Found a federation and state who is a member: for its authority.")

federation_holders_cli.add_to(federation_app)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The authority's folder.", show_default=False)
]
AgencyArgument = Annotated[str, typer.Argument(metavar="AGENCY", show_default=False)]

T = TypeVar("T")

_HOLDERS = 3


def _example(text: str) -> str:
    return f"Example: tieline federation {text}"


def _now() -> datetime:
    return datetime.now(UTC)


@federation_app.command(epilog=_example("init ./authority --name tieline-eu --keys 3"))
@run
def init(
    folder: Folder,
    *,
    name: Annotated[str, typer.Option(help="The federation's name, part of every identity.")],
    holders: Annotated[
        int | None, typer.Option("--keys", help=f"How many holders, {_HOLDERS} if not given.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="How many must sign, more than half if not given.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="A single plain key, for trials only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a federation: the holders' encrypted keys, the root, a directory without members.

    The root's fingerprint stands alone on stdout. DIR/public is all that others get.
    """
    if trial and (holders is not None or threshold is not None):
        raise UsageError("--trial makes a single key; leave out --keys and --threshold")
    count = 1 if trial else holders if holders is not None else _HOLDERS
    need = threshold if threshold is not None else count // 2 + 1
    federation_init.check_new(folder, name, count, need, trial=trial)
    passphrases = [None] if trial else new_passphrases(count)
    federation = federation_init.create(
        folder, name, passphrases=passphrases, threshold=need, now=_now(), trial=trial
    )
    fingerprint = federation.published().root_fingerprint
    key_files = [folder / "keys" / f"holder-{number}.pem" for number in range(1, count + 1)]
    if trial:
        say(
            f"TRIAL: {key_files[0]} is a plain key that whoever reads it can use alone; "
            "never use this federation for real data"
        )
    else:
        say(
            f"{count} encrypted keys in {folder / 'keys'}, {need} of them sign: let each holder "
            "take one away and keep no copy here"
        )
    say(f"federation {name} is founded; others get {federation.public} and nothing else")
    say("members compare this fingerprint of the root:")
    document = {
        "federation": name,
        "root_fingerprint": fingerprint,
        "keys": key_files,
        "threshold": need,
        "trial": trial,
        "public": federation.public,
    }
    emit(as_json, document, lambda: line(fingerprint))


@federation_app.command(
    epilog=_example("admit ./authority request.json --role national --country PT")
)
@run
def admit(
    folder: Folder,
    request_file: Annotated[
        Path,
        typer.Argument(metavar="REQUEST.json", help="The file that `tieline node init` wrote."),
    ],
    *,
    role: Annotated[Role, typer.Option(help="The role that you state.")],
    country: Annotated[
        list[str] | None, typer.Option(metavar="CC", help="A country that it serves; repeatable.")
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The request's, as the agency told it to you."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Admit an agency, or take a member's new request. You state role and countries.

    The fingerprint must reach you by another channel than the file.
    """
    countries = country or []
    for code in countries:
        _usage(check_known_country, code)
    now = _now()
    federation = Federation.open(folder)
    data = files.read_bounded(request_file, limits.DIRECTORY_FILE_BYTES)
    if data is None:
        raise InvalidInput(f"{request_file} is no file; name the agency's request.json")
    request = verify(data, now)
    compare_fingerprint(request, fingerprint, trial=federation.trial)
    remarks: list[str] = []

    def edit(before: Stated) -> Stated:
        after, said = edits.admit(before, request, role, countries, now)
        remarks[:] = said
        return after

    _change(
        folder,
        edit,
        as_json,
        request=request,
        agency=request.claims.agency,
        fingerprint=request.fingerprint,
        remarks=remarks,
    )


@federation_app.command("group", epilog=_example("group ./authority iberia pt-pj es-gc"))
@run
def set_group(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    agencies: Annotated[list[str], typer.Argument(metavar="AGENCY...", show_default=False)],
    as_json: Json = False,
) -> None:
    """Name a group of members for broadcasts and policy, or change it to these."""
    _usage(lambda value: identifiers.check_code(value, "group"), name)
    _change(folder, lambda before: edits.set_group(before, name, agencies), as_json)


@federation_app.command(epilog=_example("agreement ./authority us-ice --basis 'EU-US MLA 2003'"))
@run
def agreement(
    folder: Folder,
    agency: AgencyArgument,
    basis: Annotated[str, typer.Option(help="The legal basis, in words.")],
    as_json: Json = False,
) -> None:
    """Let an agency outside the union ask and be told, on a legal basis."""
    _change(folder, lambda before: edits.set_agreement(before, agency, basis), as_json)


@federation_app.command(epilog=_example("purpose ./authority deconfliction 'Who works on this?'"))
@run
def purpose(
    folder: Folder,
    code: Annotated[str, typer.Argument(metavar="CODE", show_default=False)],
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    as_json: Json = False,
) -> None:
    """Add a purpose code, or reword it."""
    _usage(lambda value: identifiers.check_code(value, "purpose"), code)
    _change(folder, lambda before: edits.set_purpose(before, code, text), as_json)


@federation_app.command(epilog=_example("revoke ./authority xx-lost --serial 5f3a"))
@run
def revoke(
    folder: Folder,
    agency: AgencyArgument,
    serial: Annotated[
        str | None, typer.Option(metavar="HEX", help="Only the certificate of this serial.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Revoke an agency with all its certificates and signatures, or one certificate."""
    if serial is None:
        _change(folder, lambda before: edits.revoke_agency(before, agency), as_json)
        return
    number = _usage(parse_serial, serial)
    _change(folder, lambda before: edits.revoke_serial(before, agency, number), as_json)


@federation_app.command(epilog=_example("renew ./authority"))
@run
def renew(folder: Folder, as_json: Json = False) -> None:
    """Propose what is in force once more, so that its year starts anew."""
    _change(folder, lambda before: before, as_json, renew_expiry=True)


@federation_app.command(epilog=_example("discard ./authority"))
@run
def discard(folder: Folder, as_json: Json = False) -> None:
    """Drop what is proposed and not yet in force, with its signatures."""
    federation = Federation.open(folder)
    with federation.changing():
        dropped = federation.discard()
    text = "the proposal is dropped" if dropped else "nothing was proposed"
    emit(as_json, {"discarded": dropped}, lambda: line(text))


@federation_app.command(epilog=_example("sign ./authority --key /media/stick/holder-2.pem"))
@run
def sign(
    folder: Folder,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The holder's key.")],
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEX",
            help="Of each request to be admitted, as you heard it; required in a pipe.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign what is proposed, as one holder; at the threshold it takes effect.

    Whoever is to be admitted is shown with the fingerprint of its request: the second person of
    the ceremony compares it too.
    """
    federation = Federation.open(folder)
    with federation.changing():
        lines = federation_views.changes(federation)
        for text in lines:
            say(f"proposed: {text}")
        confirm_admissions(federation.admissions(_now()), fingerprint, trial=federation.trial)
        signatures = federation.sign(load_key(key), _now())
    version = federation.published().parsed_snapshot.version
    document = {
        "changes": lines,
        "signatures": {"have": signatures.have, "need": signatures.need},
        "in_force": signatures.in_force,
        "version": version,
    }
    if signatures.in_force:
        text = f"in force as version {version}; hand it on with `tieline federation publish`"
    else:
        text = f"signed by {signatures.have} of the {signatures.need} holders that are needed"
    emit(as_json, document, lambda: line(text))


@federation_app.command(epilog=_example("publish ./authority --home /srv/hub"))
@run
def publish(
    folder: Folder,
    home: Annotated[
        Path | None, typer.Option(metavar="HOME", help="The home of the node that serves it.")
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What members hold (`node directory export`), if a hub is lost."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Renew the directory for 14 days, and hand it to the node that serves it (the hub)."""
    federation = Federation.open(folder)
    with federation.changing():
        held = bundle.read(after, federation.published()) if after is not None else None
        copy = federation.publish(_now(), home, held)
        waiting = federation.signatures()
    if waiting is not None:
        say(
            f"a proposal with {waiting.have} of {waiting.need} signatures waits and is not in "
            "force; `tieline federation status` shows it"
        )
    version, expires = copy.parsed_snapshot.version, copy.expires
    document = {
        "version": version,
        "expires": expires,
        "home": home,
        "proposal_waiting": waiting is not None,
    }
    emit(as_json, document, lambda: line(f"version {version}, valid until {time_text(expires)}"))


@federation_app.command(epilog=_example("status ./authority"))
@run
def status(folder: Folder, as_json: Json = False) -> None:
    """Show what is in force, until when, and what waits for signatures."""
    document = federation_views.status(Federation.open(folder))
    emit(as_json, document, lambda: federation_views.render_status(document, _now()))


@federation_app.command(epilog=_example("show ./authority --json"))
@run
def show(folder: Folder, as_json: Json = False) -> None:
    """Show the directory in force as members see it."""
    directory = Federation.open(folder).directory(_now())
    document = directory.model_dump(mode="json")
    emit(as_json, document, lambda: federation_views.render_directory(directory))


def _change(
    folder: Path,
    edit: Callable[[Stated], Stated],
    as_json: bool,
    *,
    renew_expiry: bool = False,
    request: Request | None = None,
    **document: object,
) -> None:
    """Propose an edit and, where one key is all there is, sign it at once."""
    federation = Federation.open(folder)
    with federation.changing():
        path = federation.single_key
        key = load_key(path) if path is not None else None
        now = _now()
        proposed = federation.propose(edit, now, renew=renew_expiry, request=request)
        lines = federation_views.changes(federation)
        if proposed.dropped:
            say(
                f"the proposal changed: {proposed.dropped} earlier signature(s) count no more, "
                "let their holders sign again"
            )
        in_force = False
        if key is not None and federation.proposal() is not None:
            in_force = federation.sign(key, now).in_force
        waiting = federation.signatures()
    version = federation.published().parsed_snapshot.version
    document |= {
        "changed": proposed.changed,
        "changes": lines,
        "dropped_signatures": proposed.dropped,
        "in_force": in_force or (waiting is None and not proposed.changed),
        "signatures": {"have": waiting.have, "need": waiting.need} if waiting else None,
        "version": version,
    }

    def render() -> None:
        for text in lines:
            line(text)
        if in_force:
            line(f"in force as version {version}")
        elif waiting is not None:
            line(
                f"proposed; {waiting.need - waiting.have} signature(s) are needed: "
                f"tieline federation sign {folder} --key FILE"
            )
        else:
            line("nothing changes: it is so already")

    emit(as_json, document, render)


def _usage(check: Callable[[str], T], value: str) -> T:
    """Run a check on an argument; what it refuses is wrong usage."""
    try:
        return check(value)
    except InvalidInput as error:
        raise UsageError(error.message) from None

"""`tieline node`: make a node, join a federation, serve, look."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.cli import uncollected
from tieline_client.cli.common import usage
from tieline_client.cli.groups import Place, group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.countries import check_known_country
from tieline_client.errors import ConfigurationError, UsageError
from tieline_client.profile import utc_now

from tieline_server.config import Home, make_config, numba_cache
from tieline_server.database_url import refuse_in_argument

_ELSEWHERE = {
    "backup": Place(
        "tieline_server.backup.cli:backup",
        "Example: tieline node backup /srv/tieline /backup/tieline-2026-11-23",
    ),
    "restore": Place(
        "tieline_server.backup.cli:restore",
        "Example: tieline node restore /srv/tieline /backup/tieline-2026-11-23",
    ),
    "resync": Place(
        "tieline_server.resync_cli:resync", "Example: tieline node resync /srv/tieline"
    ),
    "passphrase": Place(
        "tieline_server.passphrase_cli:passphrase", "Example: tieline node passphrase /srv/tieline"
    ),
    "renew": Place(
        "tieline_server.renew_cli:renew",
        "Example: tieline node renew /srv/tieline --import leaf.pem",
    ),
    "rekey": Place(
        "tieline_server.rekey_cli:rekey", "Example: tieline node rekey /srv/tieline --ca --signing"
    ),
    "revoke": Place(
        "tieline_server.rekey_cli:revoke", "Example: tieline node revoke /srv/tieline 5f3a"
    ),
    "restate": Place(
        "tieline_server.rekey_cli:restate", "Example: tieline node restate /srv/tieline"
    ),
    "status": Place(
        "tieline_server.status_cli:status", "Example: tieline node status /srv/tieline"
    ),
    "directory": Place("tieline_server.directory_cli:directory_app"),
}

app = group("Make, join and run the node of one agency.", places=_ELSEWHERE)

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]


@app.command(
    epilog="Example: tieline node init /srv/tieline --agency pt-pj --name 'Policia Judiciaria' "
    "--role national --country PT --listen 0.0.0.0:7443 --operator-listen 127.0.0.1:7444"
)
@run
def init(
    home: HomeArgument,
    agency: Annotated[str, typer.Option(help="Agency id, such as pt-pj.")],
    name: Annotated[str, typer.Option(help="The agency's name.")],
    role: Annotated[str, typer.Option(help="national, hub or repository.")],
    operator_listen: Annotated[str, typer.Option(help="HOST:PORT for the agency's own people.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT for other nodes; not needed with --outbound-only.")
    ] = "",
    country: Annotated[
        list[str] | None, typer.Option(help="ISO 3166-1 alpha-2; may repeat.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(help="HOST:PORT under which others reach it, if not --listen.")
    ] = "",
    outbound_only: Annotated[
        bool, typer.Option(help="Nobody can call this node: it is reached over its own calls.")
    ] = False,
    attach: Annotated[
        str, typer.Option(help="With --outbound-only: be attached to all members, or to a hub.")
    ] = "all",
    proxy: Annotated[
        str, typer.Option(help="http://HOST:PORT of the HTTP proxy for calls to other nodes.")
    ] = "",
    proxy_credentials: Annotated[
        str, typer.Option(help="File of mode 0600 that holds USER:PASSWORD for it.")
    ] = "",
    node_ca_certificate: Annotated[
        Path | None,
        typer.Option(help="Certificate of an offline node CA, or of an existing PKI's."),
    ] = None,
    operator_ca_certificate: Annotated[
        Path | None, typer.Option(help="The same of the operator CA.")
    ] = None,
    node_ca_key: Annotated[
        str, typer.Option(help="PKCS#11 URI of the node CA's key in a token.")
    ] = "",
    operator_ca_key: Annotated[str, typer.Option(help="The same of the operator CA.")] = "",
    database: Annotated[
        str, typer.Option(help="Database URL without password; default SQLite in HOME.")
    ] = "",
    database_password_file: Annotated[
        str, typer.Option(help="File of mode 0600 that holds the password for it.")
    ] = "",
    operator: Annotated[str, typer.Option(help="Name of the first operator.")] = "admin",
    contact_name: Annotated[str, typer.Option(help="The duty contact.")] = "",
    contact_email: Annotated[str, typer.Option(help="Its electronic mail.")] = "",
    contact_phone: Annotated[str, typer.Option(help="Its telephone.")] = "",
    as_json: Json = False,
) -> None:
    """Make keys, CAs, configuration and the request to join; print the request's fingerprint."""
    # heavy; other commands stay quick
    from tieline_server.homes import make_home  # noqa: PLC0415
    from tieline_server.trust.leaf_import import read_certificate  # noqa: PLC0415

    os.umask(0o077)
    refuse_in_argument(database)
    with usage():
        countries = [check_known_country(one) for one in country or ()]
    document: dict[str, object] = {
        "agency": agency,
        "name": name,
        "role": role,
        "countries": countries,
        "operator_listen": operator_listen,
        "outbound_only": outbound_only,
        "attach": attach,
        "proxy": proxy,
        "proxy_credentials": proxy_credentials,
        "node_ca_key": node_ca_key,
        "operator_ca_key": operator_ca_key,
        "database": database,
        "database_password_file": database_password_file,
        "first_operator": operator,
        "contact": {"name": contact_name, "email": contact_email, "phone": contact_phone},
    }
    if endpoint:
        document["endpoint"] = endpoint
    if listen and outbound_only:
        say("a node that only calls out listens on no port; --listen is not used")
    elif listen:
        document["listen"] = listen
    try:
        config = make_config(document, "node init", environment=False)
    except ConfigurationError as error:
        raise UsageError(error.message) from None
    given = {Kind.NODE: node_ca_certificate, Kind.OPERATOR: operator_ca_certificate}
    existing = {kind: read_certificate(file) for kind, file in given.items() if file is not None}
    request = make_home(home, config, utc_now(), existing=existing)
    if keys.passphrase_from_environment() is None:
        say(
            "the private keys are plain files of mode 0600: no passphrase source was given "
            f"(set {keys.PASSPHRASE_VARIABLE} for real use)"
        )
    _compile_kernels(Home(home))
    say(
        f"made {home}; hand {home / 'request.json'} to the federation's authority and read it the "
        "fingerprint over another channel; then run `tieline node join`"
    )
    result = {
        "agency": agency,
        "home": str(home),
        "request": str(home / "request.json"),
        "fingerprint": request.fingerprint,
    }
    emit(as_json, result, lambda: line(request.fingerprint))


def _compile_kernels(home: Home) -> None:
    """Fill the kernel cache, so that the first start answers without a compile pause."""
    numba_cache(home)
    from tieline_server.matching.warm import warm  # noqa: PLC0415 - after the cache is set

    say("compiling the matching kernels (once, some seconds) ...")
    warm(Path(os.environ["NUMBA_CACHE_DIR"]))


@app.command(epilog="Example: tieline node join /srv/tieline --federation /media/public")
@run
def join(
    home: HomeArgument,
    federation: Annotated[
        Path, typer.Option(help="The federation's folder, or its public part.", exists=False)
    ],
    hub: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="A hub or other member that has a newer directory than DIR."
        ),
    ] = "",
    operator_certificate: Annotated[
        Path | None,
        typer.Option(help="The first operator's, where the operator CA signs elsewhere."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Trust this federation's root, get the node's leaf and the first operator's profile.

    With --hub the folder may be older than the admission: the rest is fetched from there.
    """
    from tieline_server.homes import join as join_home  # noqa: PLC0415

    os.umask(0o077)
    joined = join_home(home, federation, utc_now(), operator_certificate, hub)
    directory = joined.directory
    if joined.older:
        say(f"{joined.older}; this home keeps its own")
    result = {
        "federation": directory.federation,
        "version": directory.version,
        "root": joined.root_fingerprint,
        "members": [member.agency for member in directory.active_members()],
        "profile": str(joined.profile) if joined.profile else None,
        "to_sign": [str(one) for one in joined.to_sign],
    }

    def show() -> None:
        line(f"joined {directory.federation}, directory version {directory.version}")
        line(f"root {joined.root_fingerprint} (compare it with the authority's)")
        if joined.profile:
            line(f"first operator: {joined.profile}")
        for one in joined.to_sign:
            line(f"to be signed by its CA, whose key is not here: {one}")
        if joined.to_sign:
            line(f"then: tieline node renew {home} --import FILE, and this command again with")
            line("--operator-certificate FILE")

    emit(as_json, result, show)


@app.command(epilog="Example: tieline node serve /srv/tieline")
@run
def serve(home: HomeArgument) -> None:
    """Run until SIGTERM; prints a line that is just "ready" on stderr once both ports answer."""
    os.umask(0o077)
    numba_cache(Home(home))
    with uncollected():
        from tieline_server.main import serve as serve_node  # noqa: PLC0415 - after the cache is set

    serve_node(home)

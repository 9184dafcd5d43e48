"""The root of the `tieline` command: which words lead to which module, and how errors leave it.

Commands of the server (`node`, `federation`, `policy`) come from entry points of the group
``tieline.commands`` and are loaded when they are named, so that a question to a node does not wait
for the imports of one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer

from tieline_client import WIRE_MAJOR, WIRE_MINOR, __version__
from tieline_client.cli import (
    audit_witness,
    broadcasts,
    budgets,
    clock,
    clues,
    doctor,
    drops,
    export,
    hashes,
    inbox,
    operations,
    operators,
    outbox,
    overlap,
    peers,
    requests,
    same_as,
    series_work,
    uploads,
    watches,
)
from tieline_client.cli.groups import Group, group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import EXIT_FAILED, EXIT_USAGE, ConfigurationError

ENTRY_POINTS = "tieline.commands"
_INTERRUPTED = 130
"""As shells report SIGINT."""


class Root(Group):
    """The root group: its own commands, and those that other distributions bring."""

    def names(self) -> list[str]:
        """Return the names of all commands without loading any."""
        return [*super().names(), *(each.name for each in _extra())]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return them for the help."""
        return self.names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; one that another distribution brings is loaded now."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = [each for each in _extra() if each.name == cmd_name]
        return _load(found[0]) if found else None


def _extra() -> list[EntryPoint]:
    return sorted(entry_points(group=ENTRY_POINTS), key=lambda each: each.name)


def _load(entry: EntryPoint) -> Any:
    try:
        brought = entry.load()
    except ImportError as error:
        brought = _absent(entry.name, error.name or "a module")
    command = typer.main.get_command(brought)
    command.name = entry.name
    return command


def _absent(name: str, missing: str) -> typer.Typer:
    """Return a command that says what to install."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        help="Not installed here: needs the node's parts, tieline[node].",
    )
    @run
    def tell() -> None:
        raise ConfigurationError(
            f"`tieline {name}` needs the node's parts ({missing} is missing); "
            "install them with: pip install 'tieline[node]'"
        )

    return app


def _build() -> typer.Typer:
    app = group("Which hashes do other agencies hold too, and who can act on it?", kind=Root)

    @app.callback(help="Which hashes do other agencies hold too, and who can act on it?")
    def root(
        _version: Annotated[
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
        ] = False,
    ) -> None:
        """Take --version."""

    app.add_typer(hashes.app, name="hashes")
    app.command("overlap")(overlap.overlap)
    app.add_typer(requests.app, name="requests")
    series_work.app.add_typer(same_as.app, name="same-as")
    app.add_typer(series_work.app, name="series")
    app.add_typer(inbox.app, name="inbox")
    app.command("outbox")(outbox.outbox)
    app.add_typer(clock.app, name="clock")
    app.add_typer(clues.app, name="clue")
    app.add_typer(operations.app, name="operation")
    app.add_typer(watches.app, name="watch")
    app.command("broadcast")(broadcasts.broadcast)
    app.command("broadcasts")(broadcasts.broadcasts)
    drops.add_to(uploads.app)
    app.add_typer(uploads.app, name="upload")
    app.command("uploads")(uploads.uploads)
    app.command("export")(export.export)
    app.command("peers")(peers.peers)
    app.add_typer(operators.app, name="operator")
    app.add_typer(budgets.app, name="budget")
    app.add_typer(audit_witness.app, name="audit")
    app.command("doctor")(doctor.doctor)
    app.command("version")(version)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        line(f"tieline {__version__}")
        raise typer.Exit


@run
def version(*, as_json: Json = False) -> None:
    """Print the version of Tieline and of the wire it speaks.

    Example: tieline version --json
    """
    wire = f"{WIRE_MAJOR}.{WIRE_MINOR}"
    document = {"version": __version__, "wire": wire}
    emit(as_json, document, lambda: line(f"tieline {__version__}, wire {wire}"))


app = _build()


@functools.cache
def _command() -> Any:
    return typer.main.get_command(app)


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Wrong usage is one line, like every error."""
    command = _command()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = command.main(args=words, prog_name="tieline", standalone_mode=False)
    except typer.TyperException as error:
        return _tell(error)
    except typer.Abort:
        say("aborted; nothing was done")
        return EXIT_FAILED
    if code == _INTERRUPTED:
        say("interrupted")
    return code if isinstance(code, int) else 0


def _tell(error: typer.TyperException) -> int:
    """Say in one line what was wrong with the words, and where their help is."""
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if context is not None and (not said or "Usage:" in said):
        # A group without a command: its help is the answer, and rich has printed it already.
        if said:
            say(said)
        return EXIT_USAGE
    where = context.command_path if context is not None else "tieline"
    say(f"error: {' '.join(said.split()).rstrip('.')}; see `{where} --help`")
    code = getattr(error, "exit_code", EXIT_USAGE)
    return code if isinstance(code, int) else EXIT_USAGE

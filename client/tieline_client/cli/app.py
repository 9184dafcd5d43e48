"""The root of the `tieline` command: which words lead to which module, and how errors leave it.

A command's module is imported when the command is named, so that none waits for the imports of the
others. Commands of the server (`node`, `federation`, `policy`) come from entry points of the group
``tieline.commands``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer

from tieline_client import WIRE_MAJOR, WIRE_MINOR, __version__
from tieline_client.cli.groups import Group, Place, group, load
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import EXIT_FAILED, EXIT_USAGE

ENTRY_POINTS = "tieline.commands"
_INTERRUPTED = 130
"""As shells report SIGINT."""
_HELP = "Which hashes do other agencies hold too, and who can act on it?"
_PLACES = {
    name: Place(f"tieline_client.cli.{place}")
    for name, place in {
        "hashes": "hashes:app",
        "overlap": "overlap:overlap",
        "requests": "requests:app",
        "series": "series_work:app",
        "inbox": "inbox:app",
        "outbox": "outbox:outbox",
        "clock": "clock:app",
        "clue": "clues:app",
        "operation": "operations:app",
        "watch": "watches:app",
        "broadcast": "broadcasts:broadcast",
        "broadcasts": "broadcasts:broadcasts",
        "upload": "uploads:app",
        "uploads": "uploads:uploads",
        "export": "export:export",
        "peers": "peers:peers",
        "operator": "operators:app",
        "budget": "budgets:app",
        "audit": "audit_witness:app",
        "doctor": "doctor:doctor",
    }.items()
}


class Root(Group):
    """The root group: its own commands, and those that other distributions bring."""

    def knows(self, word: str) -> bool:
        """Whether a command has this name; without loading it."""
        return super().knows(word) or word in _extra()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return them for the help."""
        return [*self.commands, *(name for name in _extra() if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; one that another distribution brings is loaded now."""
        if not super().knows(cmd_name) and (found := _extra().get(cmd_name)) is not None:
            self.commands[cmd_name] = load(cmd_name, Place(found.value))
        return super().get_command(ctx, cmd_name)


@functools.cache
def _extra() -> dict[str, EntryPoint]:
    """Return the commands of other distributions; to look for them takes as long as a call."""
    found = entry_points(group=ENTRY_POINTS)
    return {each.name: each for each in sorted(found, key=lambda each: each.name)}


def _build() -> typer.Typer:
    app = group(_HELP, kind=Root, places=_PLACES)

    @app.callback(help=_HELP)
    def root(
        _version: Annotated[
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
        ] = False,
    ) -> None:
        """Take --version."""

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
    if isinstance(error, typer.BadParameter):  # its reason may be pydantic's
        error.message = error.message.removeprefix("Value error, ")
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

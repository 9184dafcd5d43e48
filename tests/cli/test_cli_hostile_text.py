"""Every text field of every answer, full of hostile text, through every command: inert all over.

Found rather than listed: answers are filled by reflection, commands come from the command tree, and
a command that is not named below fails the test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from tieline.v1 import operator_pb2 as pb
from tieline_client.cli.app import app
from tieline_client.identifiers import new_id

from tests.cli.node_double import AGENCY, METHODS, Run, Served

CONTROLS = "\x1b[31mred\x1b[0m\x9b31m\x07\x08\r\nfake: line\x00\x7f"
"""A node that keeps its caps never sends these."""
ALLOWED = (
    "\u202egnp.exe\u2066\u200b\u2028 [bold]markup[/bold] :smile: <script>alert(1)</script> =1+1"
)
"""Passes the caps: it is how it is shown that counts."""
SERIES, ID = f"{AGENCY}/{new_id()}", new_id()
WHY = ("--purpose", "victim-identification", "--case", "C-1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "hashes import": ("{list}",),
    "hashes imports": (),
    "hashes remove": (ID, "--reason", "r"),
    "hashes stats": (),
    "overlap": ("{list}", *WHY),
    "overlap --collection": WHY,
    "clue add": (SERIES, "--text", "t"),
    "clue publish": (ID, *WHY),
    "clue list": ("--stats",),
    "clue tip": (ID, "--text", "t"),
    "clue tips": (),
    "clue verify": (ID, "--supports", "PT"),
    "clue dismiss": (ID, "--reason", "r"),
    "clue relay": (ID, *WHY),
    "operation new": ("N", "--from", "2026-03-01", "--to", "2026-03-02", "--participant", "pt-pj"),
    "operation add": (ID, SERIES),
    "operation assign": (ID, SERIES, "--agency", "pt-pj"),
    "operation list": (),
    "operation show": (ID,),
    "operation report": (ID,),
    "outbox": (),
    "clock show": (),
    "clock report": (),
    "clock told-outside": (ID, "--reference", "r"),
    "broadcast": (SERIES, "--group", "desks", *WHY),
    "broadcasts": (),
    "uploads": (),
    "peers": (),
    "series list": (),
    "series show": (SERIES,),
    "series create": ("N",),
    "series assess": (SERIES, "--country", "PT", "--confidence", "low", "--grounds", "g"),
    "series refer": (SERIES, *WHY),
    "series withdraw": (SERIES, "--reason", "r"),
    "series narrow": (SERIES, "--only", "es-gc", "--reason", "r"),
    "watch add": ("{list}", "--until", "2099-01-01", *WHY),
    "watch list": (),
    "watch show": (ID, "--matches"),
    "watch remove": (ID,),
    "watch run": (),
    "series status": (SERIES, "--to", "closed"),
    "series merge": (SERIES, ID),
    "series split": (SERIES, "--items", "{list}", "--name", "n"),
    "series note": (SERIES, "--text", "t", *WHY),
    "series same-as list": (),
    "series same-as confirm": (ID, *WHY),
    "series same-as refuse": (ID,),
    "inbox list": (),
    "inbox show": (ID,),
    "inbox ack": (ID,),
    "inbox accept": (ID,),
    "inbox decline": (ID, "--reason", "r"),
    "inbox pass-on": (ID, "--to", "es-gc"),
    "inbox outcome": (ID, "--identified", "1"),
    "inbox answer": (ID, "--assess", "PT"),
    "upload deposit": (SERIES, "--to", "interpol", *WHY),
    "upload step": (ID, "--state", "media_requested"),
    "operator list": (),
    "operator revoke": ("rui",),
    "budget list": (),
    "budget set": ("es-gc", "5"),
    "budget reset": ("es-gc",),
    "audit search": (),
    "audit verify": (),
    "audit receipt": (ID, "{out}"),
    "audit consistency": ("1", "2"),
    "audit inclusion": ("1",),
    "audit hold": ("--case", "C-1", "--reason", "r"),
    "audit holds": (),
    "audit release": (ID,),
    "audit alarms": (),
    "audit list": (ID,),
    "audit witnesses": (),
    "export": (SERIES, "{out}", "--format", "csv", *WHY),
    "upload drop": (SERIES, "--to", "interpol", "--folder", "{folder}", *WHY),
    "upload reconcile": ("--folder", "{folder}", "--answer", "{answer}"),
    "operator refresh": ("{profile}",),
    "doctor": (),
    "requests list": (),
    "requests show": (ID,),
    "requests approve": (ID,),
    "requests refuse": (ID, "--reason", "r"),
    "requests ask": (SERIES, "--permission", "pass-on"),
    "requests vital-interests": ("us-fbi", "--grounds", "g", *WHY),
}
ELSEWHERE = {"version", "operator add", "audit export", "clue export", "watch export"}
"""No text of others is shown: `version` asks nobody, a profile and an export are files."""


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "get_command"):
        yield " ".join(path)
        return
    context = typer.Context(command, info_name="tieline")
    for name in command.commands:  # those of the server stand in packages of their own
        yield from _leaves(command.get_command(context, name), (*path, name))


def test_every_command_is_here() -> None:
    known = set(_leaves(typer.main.get_command(app)))
    assert known <= {*COMMANDS, *ELSEWHERE}, f"add to COMMANDS: {known - {*COMMANDS, *ELSEWHERE}}"


def hostile(descriptor: Descriptor, text: str, depth: int = 0) -> Message:
    """Return a message with this text in every string that it and its parts have."""
    made = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.containing_oneof is not None and made.WhichOneof(field.containing_oneof.name):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.message_type is None:
                getattr(made, field.name)[text] = _scalar(value, text)
        elif field.message_type is not None:
            if field.message_type.full_name == "google.protobuf.Timestamp" or depth > 4:
                continue
            child = hostile(field.message_type, text, depth + 1)
            if field.is_repeated:
                getattr(made, field.name).append(child)
            else:
                getattr(made, field.name).CopyFrom(child)
        elif field.is_repeated:
            getattr(made, field.name).append(_scalar(field, text))
        else:
            setattr(made, field.name, _scalar(field, text))
    return made


def _scalar(field: FieldDescriptor, text: str) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return b"" if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return False
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return field.enum_type.values[-1].number
        case _:
            return 1


def _peer_answer(text: str) -> list[pb.AskOverlapResponse]:
    """A question's answer: the peers are known by name, all else is theirs to write."""
    started = pb.AskStarted(asked=1, peers=["es-gc", "fr-pn"])
    series = hostile(pb.PeerSeries.DESCRIPTOR, text)
    assert isinstance(series, pb.PeerSeries)
    series.agency = "es-gc"
    series.series[0].index = 1
    hits = pb.PeerHits(agency="es-gc")
    hits.hits.kind, hits.hits.positions[:], hits.hits.series[:] = 2, [0], [1]  # type: ignore[assignment]
    ends = []
    for agency, status in (("es-gc", "answered"), ("fr-pn", text)):
        end = hostile(pb.PeerEnd.DESCRIPTOR, text)
        assert isinstance(end, pb.PeerEnd)
        end.agency, end.status = agency, status
        ends.append(pb.AskOverlapResponse(end=end))
    return [
        pb.AskOverlapResponse(started=started),
        pb.AskOverlapResponse(series=series),
        pb.AskOverlapResponse(hits=hits),
        *ends,
    ]


def _comparison(text: str) -> list[pb.CompareCollectionResponse]:
    rows = hostile(pb.CollectionRows.DESCRIPTOR, text)
    end = hostile(pb.CollectionEnd.DESCRIPTOR, text)
    assert isinstance(rows, pb.CollectionRows) and isinstance(end, pb.CollectionEnd)
    rows.agency = end.end.agency = "es-gc"
    return [
        pb.CompareCollectionResponse(started=pb.CollectionStarted(items=1, peers=["es-gc"])),
        pb.CompareCollectionResponse(rows=rows),
        pb.CompareCollectionResponse(end=end),
    ]


def _fill(served: Served, text: str) -> None:
    """Let the node answer everything with this text."""
    answers = served.node.answers
    for name, method in METHODS.items():
        if not method.server_streaming:
            answers[name] = hostile(method.output_type, text)
    answers["ListSeries"].next_page_token = ""
    answers["GetAskTerms"] = pb.GetAskTermsResponse(records_most=10)
    answers["Import"] = hostile(pb.ImportReport.DESCRIPTOR, text)
    answers["Import"].repeated = False
    answers["AskOverlap"] = _peer_answer(text)
    answers["CompareCollection"] = _comparison(text)
    answers["ExportSeries"] = [hostile(METHODS["ExportSeries"].output_type, text)]
    answers["AddWatch"] = [hostile(METHODS["AddWatch"].output_type, text)]
    answers["ListAsked"] = [hostile(METHODS["ListAsked"].output_type, text)]
    answers["ListEvidence"] = []
    entry = dict.fromkeys(
        ("action", "agency", "person", "peer", "purpose", "case_ref", "at", "salt"), text
    )
    detail = {text: text, "list": [text]}
    leaf = json.dumps(entry | {"subjects": [text], "rules": [text], "detail": detail})
    answers["ListAuditEntries"] = [leaf.encode()]
    answers["SearchEntries"].entries[0].leaf = leaf.encode()
    answers["GetAuditHead"] = pb.GetAuditHeadResponse(size=1, root=bytes(32))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_text("sha1:" + "ab" * 20 + "\n")
    return path


@pytest.mark.parametrize("text", [CONTROLS, ALLOWED, CONTROLS + ALLOWED], ids=["c", "a", "both"])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_it_reaches_a_terminal_or_breaks_a_document(
    run: Run, served: Served, listed: Path, command: str, text: str
) -> None:
    out = listed.with_name("out")
    files = {
        "list": listed,
        "out": out,
        "profile": served.profile,
        "folder": listed.parent / "drops",
    }
    files["answer"] = listed.with_name("answer.csv")
    files["answer"].write_text(f"MD5;SHA1;Series name\n{'ab' * 16};;{text}\n")
    files["folder"].mkdir(mode=0o700)
    words = [word.format(**files) for word in COMMANDS[command]]
    for form in ([], ["--json"]):
        _fill(served, text)
        out.unlink(missing_ok=True)
        result = run(*command.split(), *words, *form)
        for stream in (result.out, result.err):
            odd = {char for char in stream if not (char.isprintable() or char == "\n")}
            assert not odd, (command, form, odd, stream[:300])
        assert "\nfake: line" not in result.out + result.err


def test_what_the_caps_let_through_is_shown_and_kept_in_documents(run: Run, served: Served) -> None:
    """The test above would pass if nothing was shown at all."""
    _fill(served, ALLOWED)
    shown = run("series", "list")
    assert shown.code == 0
    assert "[bold]markup[/bold] :smile: <script>" in shown.out and "\\u202e" in shown.out
    document = run("series", "list", "--json").document
    assert document["series"][0]["name"] == ALLOWED
    _fill(served, CONTROLS)
    shown = run("series", "list")
    assert "\\x1b[31mred" in shown.out and "\\x9b31m" in shown.out
    assert run("series", "list", "--json").document["series"][0]["name"] == CONTROLS

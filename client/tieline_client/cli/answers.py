"""What peers answer to a question, gathered as it comes: for people, as JSON, as an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field

from tieline.v1 import operator_pb2 as pb

from tieline_client.cli.output import line, say
from tieline_client.cli.tables import show_rows
from tieline_client.cli.views import Document, contact
from tieline_client.errors import EXIT_REFUSED, EXIT_UNREACHABLE
from tieline_client.record_stream import RecordStream

_SHOWN = 50
"""Overlaps of one peer named to a person; JSON has them all."""


@dataclass(slots=True)
class _Answer:
    agency: str
    overlaps: list[Document] = field(default_factory=list)
    status: str = "unreachable"
    reason: str = "the own node ended the question before this peer answered"
    count: int | None = None
    truncated: bool = False
    receipt: str = ""

    def document(self) -> Document:
        return {
            "agency": self.agency,
            "status": self.status,
            "reason": self.reason,
            "overlaps": self.overlaps,
            "count": self.count,
            "truncated": self.truncated,
            "receipt": self.receipt,
        }


class Answers:
    """Takes the events of one question. ``show``: a peer's answer is printed as it comes."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._asked = 0
        self._excluded = 0
        self._answers: dict[str, _Answer] = {}

    def take(self, event: pb.AskOverlapResponse) -> None:
        """Take the next event."""
        match event.WhichOneof("part"):
            case "started":
                self._asked = event.started.asked
                self._excluded = event.started.excluded
                for agency in event.started.peers:
                    self._of(agency)
            case "overlaps":
                found = self._of(event.overlaps.agency).overlaps
                found.extend(_overlap(each) for each in event.overlaps.overlaps)
            case "end":
                self._end(event.end)

    def document(self, stream: RecordStream) -> Document:
        """Return the JSON document; ``stream`` says which records were left out on this side."""
        return {
            "asked": self._asked,
            "excluded": self._excluded,
            "rejected": [
                {"record": each.record, "reason": each.reason} for each in stream.rejected
            ],
            "rejected_count": stream.rejected_count,
            "peers": [answer.document() for answer in self._answers.values()],
        }

    def close(self, stream: RecordStream) -> None:
        """Print the last line for people."""
        overlaps = sum(len(answer.overlaps) for answer in self._answers.values())
        line(
            f"{self._asked} records asked of {len(self._answers)} peers, {overlaps} overlaps; "
            f"{self._excluded} excluded, {stream.rejected_count} rejected"
        )

    def complain(self) -> None:
        """Say on stderr who did not answer, and when nobody was asked."""
        for answer in self._answers.values():
            if answer.status in ("refused", "unreachable", "pending"):
                say(f"{answer.agency}: {answer.status}: {answer.reason}")
        if not self._answers:
            say(
                "policy lists no member for this purpose, so nobody was asked; "
                "see `tieline peers --purpose CODE`, or name one with --peer"
            )

    def exit_code(self) -> int:
        """4 when some could not be reached, 3 when all (or nobody) refused, else 0."""
        states = {answer.status for answer in self._answers.values()}
        if "unreachable" in states:
            return EXIT_UNREACHABLE
        return EXIT_REFUSED if states <= {"refused"} else 0

    def _of(self, agency: str) -> _Answer:
        return self._answers.setdefault(agency, _Answer(agency))

    def _end(self, end: pb.PeerEnd) -> None:
        answer = self._of(end.agency)
        answer.status, answer.reason = end.status, end.reason
        answer.truncated, answer.receipt = end.truncated, end.receipt
        if end.HasField("count"):
            answer.count = end.count
        elif end.status == "answered":
            answer.count = len(answer.overlaps)
        if self._show:
            self._print(answer)

    def _print(self, answer: _Answer) -> None:
        more = f"; {answer.reason}" if answer.status == "answered" and answer.reason else ""
        if not answer.overlaps:
            line(f"{answer.agency}: {answer.status}, no overlaps{more}")
            return
        rows = [
            (
                each["asked"],
                each["matched"],
                each["match"] if each["match"] == "exact" else f"near {each['distance']}",
                "look twice: MD5 only" if each["ambiguous"] else "",
                _series_text(each["series"]),
            )
            for each in answer.overlaps[:_SHOWN]
        ]
        title = f"{answer.agency}: {answer.status}, {len(answer.overlaps)} overlaps{more}"
        show_rows(("asked", "matched", "match", "", "series"), rows, "", title=title)
        if len(answer.overlaps) > _SHOWN:
            line(f"{len(answer.overlaps) - _SHOWN} more; --json lists them")
        if answer.truncated:
            line("near answers were capped for some hashes")


def _overlap(value: pb.Overlap) -> Document:
    return {
        "asked": value.asked,
        "record": value.record,
        "matched": value.matched,
        "match": value.match,
        "distance": value.distance,
        "disclosure": value.disclosure,
        "series": [
            {
                "id": each.id,
                "name": each.name,
                "status": each.status,
                "references": list(each.references),
                "contact": contact(each.contact),
            }
            for each in value.series
        ],
        "ambiguous": value.ambiguous,
    }


def _series_text(series: object) -> str:
    assert isinstance(series, list)
    texts = []
    for each in series:
        parts = [each["id"], each["name"], each["status"], *each["references"]]
        if each["contact"]:
            parts += [value for value in each["contact"].values() if value]
        texts.append(" ".join(part for part in parts if part))
    return "; ".join(texts)

"""What peers answer to a question, gathered as it comes: for people, as JSON, as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from tieline_client.asked_file import AskedFile
from tieline_client.cli import views
from tieline_client.cli.budgets import left_document, left_warning
from tieline_client.cli.output import line, say
from tieline_client.cli.peer_ends import unended
from tieline_client.cli.tables import show_rows
from tieline_client.cli.views import Document
from tieline_client.formats import Rejected
from tieline_client.overlap_answers import (
    AskStarted,
    Event,
    Overlap,
    PeerAnswer,
    SharedSeries,
)

_SHOWN = 50
"""Overlaps of one peer named to a person; JSON has them all."""
_REJECTED_SHOWN = 20
"""Rejected records named to a person; JSON has more."""


class Answers:
    """Takes the events of one question. ``show``: a peer's answer is printed as it comes."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._asked = 0
        self._excluded = 0
        self.answers: dict[str, PeerAnswer | None] = {}

    def take(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case AskStarted():
                self._asked, self._excluded = event.asked, event.excluded
                self.answers = dict.fromkeys(event.peers)
            case PeerAnswer():
                self.answers[event.agency] = event
                if warning := left_warning(event.agency, event.budget):
                    say(warning)
                if self._show and (self._asked or not _answered(event)):
                    _print(event)

    def document(self, file: AskedFile) -> Document:
        """Return the JSON document; ``file`` says which records were left out on this side.

        ``unmatched`` says of which excluded records nothing could be matched, and why. Of a
        question that held nothing no peer is named that would have been asked.
        """
        return {
            "asked": self._asked,
            "excluded": self._excluded - file.perceptual_only,
            "unmatched": [
                {"record": each.record, "reason": each.reason} for each in file.unmatched
            ],
            "unmatched_count": file.unmatched_count,
            "perceptual_only": file.perceptual_only,
            "rejected": [{"record": each.record, "reason": each.reason} for each in file.rejected],
            "rejected_count": file.rejected_count,
            "peers": [
                _document(agency, answer)
                for agency, answer in self.answers.items()
                if self._asked or not _answered(answer)
            ],
        }

    def nothing(self, file: AskedFile) -> str:
        """Say why nothing could be asked; "" when something was."""
        if self._asked:
            return ""
        elsewhere = "are known good here, or in no category that the agency lists"
        why = file.why_empty(self._excluded, elsewhere)
        return (
            f"nothing of {file.name} could be asked, "
            f"so this says nothing about what others hold: {why}"
        )

    def close(self, file: AskedFile) -> None:
        """Print the last line for people, after the records that cannot be used."""
        _print_left_out(file, "rejected", file.rejected, file.rejected_count)
        _print_left_out(file, "excluded", file.unmatched, file.unmatched_count)
        overlaps = sum(len(answer.matches) for answer in self.answers.values() if answer)
        asked = f"{self._asked} records asked of {len(self.answers)} peers, {overlaps} overlaps"
        line(
            f"{asked if self._asked else 'nothing was asked'}; "
            f"{self._excluded - file.perceptual_only} excluded, {file.rejected_count} rejected"
        )


def say_perceptual(file: AskedFile, asked: str) -> None:
    """Say on stderr which records of a file only ``--near`` takes; ``asked`` is what it does."""
    if file.perceptual_only:
        say(
            f"{file.name}: {file.perceptual_only} records hold a perceptual hash only and were not "
            f"{asked}; they are {asked} with --near"
        )


def _print_left_out(file: AskedFile, how: str, some: Sequence[Rejected], count: int) -> None:
    for each in some[:_REJECTED_SHOWN]:
        line(f"{file.name}: record {each.record} {how}: {each.reason}")
    if count > _REJECTED_SHOWN:
        line("there are more; --json lists them")


def _answered(answer: PeerAnswer | None) -> bool:
    return answer is not None and answer.status == "answered"


def _document(agency: str, answer: PeerAnswer | None) -> Document:
    if answer is None:
        return unended(agency)
    count = answer.count
    if count is None and answer.status == "answered":
        count = len(answer.matches)
    return {
        "agency": agency,
        "status": answer.status,
        "reason": answer.reason,
        "overlaps": [_overlap(each) for each in answer.overlaps()],
        "count": count,
        "truncated": answer.truncated,
        "receipt": answer.receipt,
        "budget": left_document(answer.budget),
        "request": answer.request or None,
    }


def _overlap(value: Overlap) -> Document:
    return {
        "asked": value.asked,
        "record": value.record,
        "matched": value.matched,
        "match": value.match,
        "distance": value.distance,
        "disclosure": value.disclosure,
        "series": [series_document(each) for each in value.series],
        "ambiguous": value.ambiguous,
    }


def series_document(value: SharedSeries) -> Document:
    """Return a series of a peer as it was disclosed."""
    contact = {
        "name": value.contact_name,
        "email": value.contact_email,
        "phone": value.contact_phone,
    }
    return {
        "id": value.id,
        "name": value.name,
        "status": value.status,
        "references": list(value.references),
        "contact": contact if any(contact.values()) else None,
        "handling": None if value.handling is None else views.handling(value.handling),
    }


def _print(answer: PeerAnswer) -> None:
    more = f"; {answer.reason}" if answer.status == "answered" and answer.reason else ""
    if not len(answer.matches):
        nothing = ", no overlaps" if answer.status == "answered" else ""
        line(f"{answer.agency}: {answer.status}{nothing}{more}")
        return
    rows = [
        (
            each.asked,
            each.matched,
            each.match if each.match == "exact" else f"near {each.distance}",
            "look twice: MD5 only" if each.ambiguous else "",
            "; ".join(map(series_text, each.series)),
        )
        for each in islice(answer.overlaps(), _SHOWN)
    ]
    title = f"{answer.agency}: {answer.status}, {len(answer.matches)} overlaps{more}"
    show_rows(("asked", "matched", "match", "", "series"), rows, "", title=title)
    if len(answer.matches) > _SHOWN:
        line(f"{len(answer.matches) - _SHOWN} more; --json lists them")
    if answer.request:
        line(f"what waits: tieline requests show {answer.request}")
    if answer.truncated:
        line("near answers were capped for some hashes")


def series_text(series: SharedSeries) -> str:
    """Return what was disclosed of a series in one line."""
    contact = (series.contact_name, series.contact_email, series.contact_phone)
    parts = (series.id, series.name, series.status, *series.references, *contact)
    if series.handling is not None:
        shown = views.handling(series.handling)
        evaluation = f"{shown['source']}{shown['information']}"
        parts = (*parts, str(shown["code"]), str(shown["tlp"]), evaluation)
    return " ".join(part for part in parts if part)

"""`tieline overlap --collection`: all that the own agency holds beside what its peers hold."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice

from tieline_client.asking import AskOptions
from tieline_client.cli.answers import series_document, series_text
from tieline_client.cli.common import CountBar, count_bar
from tieline_client.cli.output import line
from tieline_client.cli.peer_ends import unended
from tieline_client.cli.tables import show_rows
from tieline_client.cli.views import Document
from tieline_client.collection import (
    CollectionAnswer,
    CollectionProgress,
    CollectionStarted,
    Event,
    SeriesPair,
)
from tieline_client.operator_client import OperatorClient

_SHOWN = 50
"""Pairs of series of one peer named to a person; JSON has them all."""


class Comparison:
    """Takes the events of one comparison. ``show``: a peer's answer is printed as it comes."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._bar: CountBar | None = None
        self.answers: dict[str, CollectionAnswer | None] = {}

    def run(self, client: OperatorClient, options: AskOptions) -> None:
        """Compare, with a progress bar on a terminal."""
        with ExitStack() as held:

            def take(event: Event) -> None:
                if isinstance(event, CollectionStarted):
                    self.answers = dict.fromkeys(event.peers)
                    self._bar = held.enter_context(count_bar("comparing", event.items))
                elif isinstance(event, CollectionProgress):
                    if self._bar is not None:
                        self._bar(event.items)
                else:
                    held.close()
                    self._end(event)

            client.compare_collection(options, take)

    def _end(self, answer: CollectionAnswer) -> None:
        self.answers[answer.agency] = answer
        if self._show:
            _print(answer)

    def document(self) -> Document:
        """Return the JSON document: that of a question, with series beside series."""
        ended = [answer for answer in self.answers.values() if answer is not None]
        return {
            "asked": max((answer.asked for answer in ended), default=0),
            "excluded": max((answer.withheld for answer in ended), default=0),
            "rejected": [],
            "rejected_count": 0,
            "peers": [_document(agency, answer) for agency, answer in self.answers.items()],
        }

    def close(self) -> None:
        """Print the last line for people."""
        ended = [answer for answer in self.answers.values() if answer is not None]
        asked = [answer for answer in ended if answer.asked]
        shared = sum(answer.shared for answer in ended)
        if not asked:
            line("nothing was asked of anybody")
            return
        counts = sorted({answer.asked for answer in asked})
        items = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        home = max(answer.withheld for answer in asked)
        more = f"; up to {home} stayed at home" if home else ""
        line(f"{items} items asked of {len(asked)} peers, {shared} shared{more}")


def _document(agency: str, answer: CollectionAnswer | None) -> Document:
    if answer is None:
        return {**unended(agency), "asked": 0, "withheld": 0, "shared": 0, "series": []}
    count = answer.count
    if count is None and answer.status == "answered":
        count = answer.shared
    return {
        "agency": agency,
        "status": answer.status,
        "reason": answer.reason,
        # Series by series: the items themselves are not listed.
        "overlaps": [],
        "count": count,
        "truncated": answer.truncated,
        "receipt": answer.receipt,
        "request": answer.request or None,
        "asked": answer.asked,
        "withheld": answer.withheld,
        "shared": answer.shared,
        "series": [_pair(pair) for pair in answer.pairs],
    }


def _pair(pair: SeriesPair) -> Document:
    theirs = pair.theirs
    return {
        "own": pair.own or None,
        "own_name": pair.own_name,
        "theirs": theirs.id if theirs else None,
        "shared": pair.shared,
        "own_total": pair.own_items,
        "their_total": theirs.items if theirs else None,
        "disclosed": series_document(theirs) if theirs else None,
    }


def _print(answer: CollectionAnswer) -> None:
    if answer.status not in ("answered", "pending"):
        return  # complained of on stderr
    of = f"of {answer.asked} items asked"
    more = f"; {answer.reason}" if answer.status == "answered" and answer.reason else ""
    if answer.withheld:
        more = f", {answer.withheld} stayed at home{more}"
    if not answer.pairs:
        line(f"{answer.agency}: {answer.status}, nothing in common {of}{more}")
        return
    rows = [
        (
            f"{pair.own_name} {pair.own}".strip() or "in no series",
            pair.own_items,
            pair.shared,
            series_text(pair.theirs) if pair.theirs else "",
            "" if pair.theirs is None or pair.theirs.items is None else pair.theirs.items,
        )
        for pair in islice(sorted(answer.pairs, key=lambda pair: -pair.shared), _SHOWN)
    ]
    title = f"{answer.agency}: {answer.status}, {answer.shared} in common {of}{more}"
    show_rows(("own series", "items", "shared", "their series", "items"), rows, "", title=title)
    if len(answer.pairs) > _SHOWN:
        line(f"{len(answer.pairs) - _SHOWN} more; --json lists them")
    if answer.request:
        line(f"what waits: tieline requests show {answer.request}")

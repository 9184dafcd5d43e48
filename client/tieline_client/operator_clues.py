"""Clues and tips, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tieline.v1 import operator_clues_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class ClueCalls(OperatorConnection):
    """The methods of OperatorService about clues and tips."""

    def add_clue(self, series: str, text: str, kind: str = "object") -> pb.ClueView:
        """Add a clue to a series, in words."""
        request = make(pb.AddClueRequest, series=series, kind=kind, text=text)
        return self.call(self.stub.AddClue, request).clue

    def publish_clue(
        self,
        clue: str,
        *,
        purpose: str,
        case_ref: str,
        text: str = "",
        take_back: bool = False,
    ) -> pb.ClueView:
        """Put a clue's words (or others) on the published list, or take them off it."""
        request = make(
            pb.PublishClueRequest,
            clue=clue,
            text=text,
            take_back=take_back,
            purpose=purpose,
            case_ref=case_ref,
        )
        return self.call(self.stub.PublishClue, request).clue

    def list_clues(self, series: str = "") -> pb.ListCluesResponse:
        """Clues with counts of their tips, and what verified tips say."""
        request = make(pb.ListCluesRequest, series=series)
        return self.call(self.stub.ListClues, request, limits.ACTION_SECONDS)

    def list_published_clues(self) -> Sequence[pb.PublishedClue]:
        """What the public may read."""
        request = pb.ListPublishedCluesRequest()
        return self.call(self.stub.ListPublishedClues, request, limits.ACTION_SECONDS).clues

    def add_tips(self, tips: Sequence[pb.NewTip]) -> Sequence[str]:
        """Bring up to TIPS_PER_BATCH tips in; return what became of each, in their order."""
        request = make(pb.AddTipsRequest, tips=tips)
        return self.call(self.stub.AddTips, request, limits.ACTION_SECONDS).fates

    def list_tips(self, clue: str = "", state: str = "") -> Iterator[pb.TipView]:
        """Yield tips in order of time."""
        token = ""
        while True:
            request = make(pb.ListTipsRequest, clue=clue, state=state, page_token=token)
            page = self.call(self.stub.ListTips, request, limits.ACTION_SECONDS)
            yield from page.tips
            if page.next_page_token <= token:
                return
            token = page.next_page_token

    def judge_tip(
        self, tip: str, state: str, *, supports: str = "", eliminates: str = "", reason: str = ""
    ) -> pb.TipView:
        """Verify a tip for or against a country, or dismiss it."""
        request = make(
            pb.JudgeTipRequest,
            tip=tip,
            state=state,
            supports=supports,
            eliminates=eliminates,
            reason=reason,
        )
        return self.call(self.stub.JudgeTip, request).tip

    def relay_tips(
        self, tips: Sequence[str], *, purpose: str, case_ref: str, agency: str = ""
    ) -> pb.RelayTipsResponse:
        """Tell tips to their countries' agencies, or to one agency."""
        request = make(
            pb.RelayTipsRequest, tips=tips, agency=agency, purpose=purpose, case_ref=case_ref
        )
        return self.call(self.stub.RelayTips, request, limits.ACTION_SECONDS)

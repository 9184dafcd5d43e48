"""Series that two agencies hold as one, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_links_pb2 as pb

from tieline_client.operator_connection import OperatorConnection, make


class LinkCalls(OperatorConnection):
    """The methods of OperatorService about links between agencies' series."""

    def list_same_as(self, series: str = "") -> Sequence[pb.SameAsView]:
        """Links and proposals of links, of a series or all, newest first."""
        return self.call(self.stub.ListSameAs, make(pb.ListSameAsRequest, series=series)).links

    def answer_same_as(
        self, link: str, *, confirm: bool, purpose: str = "", case_ref: str = ""
    ) -> pb.SameAsView:
        """Confirm or refuse that two series are one."""
        request = make(
            pb.AnswerSameAsRequest, id=link, confirm=confirm, purpose=purpose, case_ref=case_ref
        )
        return self.call(self.stub.AnswerSameAs, request).link

    def add_note(
        self, series: str, text: str, *, purpose: str, case_ref: str, agency: str = ""
    ) -> pb.AddNoteResponse:
        """Write about a series to those who share it, or to one of them."""
        request = make(
            pb.AddNoteRequest,
            series=series,
            text=text,
            agency=agency,
            purpose=purpose,
            case_ref=case_ref,
        )
        return self.call(self.stub.AddNote, request)

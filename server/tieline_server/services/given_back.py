"""A message of this agency that a peer gave back after a restore, and the series that it names."""

from __future__ import annotations

from dataclasses import dataclass

from tieline.v1 import payload_pb2, series_pb2
from tieline_client.identifiers import series_owner

from tieline_server.domain.messages import OutMessage
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Origin
from tieline_server.services.context import Node
from tieline_server.services.incoming import keep_series
from tieline_server.services.notices import series_in


@dataclass(frozen=True, slots=True)
class Told:
    """A message of ours that a peer gave back."""

    message: OutMessage
    payload: payload_pb2.Payload


def series_back(node: Node, tx: Tx, notice: series_pb2.SeriesNotice, case_ref: str) -> None:
    """A series of ours that is gone comes back as its notice tells it, without name and items."""
    if series_owner(notice.id) == node.agency and tx.series.get(notice.id) is None:
        series = series_in(notice, Origin.OWN, case_ref)
        keep_series(node, tx, series, [(node.agency, notice)])

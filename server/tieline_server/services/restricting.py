"""What retractions of a series mean at the moment at which somebody acts on it."""

from __future__ import annotations

from dataclasses import replace

from tieline_client.errors import PolicyRefused, WrongState
from tieline_client.handling import stricter
from tieline_client.identifiers import series_owner

from tieline_server.domain.ports import Tx
from tieline_server.domain.retraction import Restriction, fold
from tieline_server.domain.series import Series, SeriesStatus


def restriction_of(tx: Tx, series: str) -> Restriction:
    """Return what all retractions of a series amount to."""
    return fold(tx.retractions.of_series(series))


def why_excluded(tx: Tx, series: str, agency: str) -> str:
    """Return why an agency may not have a series, in words; "" where it may."""
    return exclusion(restriction_of(tx, series), series, agency)


def exclusion(restriction: Restriction, series: str, agency: str) -> str:
    """Return why a restriction keeps a series from an agency, in words; "" where it does not."""
    if restriction == Restriction() or not restriction.excludes(agency, series_owner(series)):
        return ""
    if restriction.withdrawn:
        return f"{series_owner(series)} has withdrawn the series"
    return f"{series_owner(series)} has narrowed the series to others"


def still(tx: Tx, series: Series, *recipients: str) -> Series:
    """Return a series as it is in this transaction, to be told to ``recipients``, under no less
    than what policy was asked about.

    Raises WrongState when it is gone, PolicyRefused when one of them may not have it.
    """
    current = tx.series.get(series.id)
    if current is None or current.status is SeriesStatus.WITHDRAWN:
        raise WrongState("the series is withdrawn; it is not told to anybody")
    restriction = restriction_of(tx, series.id)
    for recipient in recipients:
        why = exclusion(restriction, series.id, recipient)
        if why:
            raise PolicyRefused(f"{recipient} may not be told: {why}")
    return replace(current, handling=stricter(current.handling, series.handling))


def received(tx: Tx, series: Series, agency: str) -> Series:
    """Return a series that comes to ``agency`` under what was said of it before.

    Raises PolicyRefused when it may not be kept.
    """
    restriction = restriction_of(tx, series.id)
    why = exclusion(restriction, series.id, agency)
    if why:
        raise PolicyRefused(f"it may not be kept here: {why}")
    series = replace(series, handling=restriction.on(series.handling))
    if restriction.withdrawn:  # its owner gets it back as it was left
        return replace(series, status=SeriesStatus.WITHDRAWN)
    return series

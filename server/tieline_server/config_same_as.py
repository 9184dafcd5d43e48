"""The settings of what proposes that two agencies' series are one: [same_as] of config.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from tieline_client.limits import RECORDS_PER_QUERY

from tieline_server.domain.same_as import LEAST, OF_LARGER, OF_SMALLER, Likeness

Percent = Annotated[int, Field(ge=0, le=100)]


class SameAsSettings(BaseModel):
    """From where on an overlap shows that two agencies' series are one; see `Likeness`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: Annotated[int, Field(ge=1, le=RECORDS_PER_QUERY)] = LEAST
    of_smaller: Percent = OF_SMALLER
    of_larger: Percent = OF_LARGER

    def likeness(self) -> Likeness:
        """Return what the domain decides by."""
        return Likeness(self.least, self.of_smaller, self.of_larger)


def same_as_lines(settings: SameAsSettings) -> list[str]:
    """Return the section as `tieline node init` writes it."""
    return [
        "[same_as]  # what proposes that two series are one: items, percent of each size",
        f"least = {settings.least}",
        f"of_smaller = {settings.of_smaller}",
        f"of_larger = {settings.of_larger}",
    ]

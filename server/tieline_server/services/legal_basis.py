"""On what law a transfer outside the union rests, for its entry in the audit log.

2016/680 Art. 35 to 38 ask that each transfer can be shown to rest on an adequacy decision, on
safeguards or on an exception. The directory's agreement names the first two; the exception is what
two officers stated. The rules that decided stand in the entry beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tieline.v1 import payload_pb2, requests_pb2
from tieline_client.directory import Role

from tieline_server.domain.policy import in_union
from tieline_server.services.context import Node

_DECIDED_BEFORE = "as the entry of its sending, or of what it continues, names it"


def legal_basis(
    node: Node,
    recipients: Iterable[str],
    stated: requests_pb2.VitalInterests | None = None,
    otherwise: str = "",
) -> dict[str, object]:
    """Return the details of an audit entry about data that leaves for ``recipients``; empty where
    none of them is outside the union.

    ``otherwise`` is what it rests on for a third country without an agreement, where no exception
    was stated for this transfer itself.
    """
    found: dict[str, str] = {}
    directory = node.directory()
    for agency in recipients:
        if node.party(agency).union:
            continue
        member = directory.member(agency)
        agreement = (member.agreement or "").strip()
        if agreement:
            found[agency] = f"agreement: {agreement}"
        elif stated is not None:
            found[agency] = f"2016/680 Art. 38(1)(a), vital interests: {stated.grounds}"
        elif member.role is Role.REPOSITORY:
            found[agency] = "international organisation: by the rules named here"
        else:
            found[agency] = otherwise or "by the rules named here"
    details: dict[str, object] = {"legal_basis": found} if found else {}
    if found and stated is not None:
        details["officers"] = [stated.officer, stated.second_officer]
    return details


def country_basis(country: str, words: str) -> dict[str, str]:
    """On what law a country was told by other means, by its code; empty for one of the union.

    ``words`` are the officer's; without them the entry says that none was named, beside the rules
    that allowed it (policies/30-referrals.cedar, `tell-outside`).
    """
    if in_union("national", (country,)):
        return {}
    return {country: words or "2016/680 Art. 35 to 38, by the rules named here; no words given"}


def message_basis(node: Node, recipient: str, payload: payload_pb2.Payload) -> dict[str, Any]:
    """Return the details for a message of any kind that arrived at ``recipient``.

    Of an exception it names what the message itself states; without one, and without an agreement,
    it points to where the sending was decided.
    """
    kind, stated = payload.WhichOneof("body"), None
    body: Any = getattr(payload, kind) if kind else payload
    if "vital_interests" in body.DESCRIPTOR.fields_by_name and body.HasField("vital_interests"):
        stated = body.vital_interests
    return legal_basis(node, [recipient], stated, otherwise=_DECIDED_BEFORE)

"""On what law a transfer outside the union rests, for its entry in the audit log.

2016/680 Art. 35 to 38 ask that each transfer can be shown to rest on an adequacy decision, on
safeguards or on an exception. The directory's agreement names the first two; the exception is what
two officers stated. The rules that decided stand in the entry beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tieline.v1 import payload_pb2, requests_pb2
from tieline_client.directory import Role

from tieline_server.domain.policy import in_union
from tieline_server.services.context import Node

RECTIFIED = "2016/680 Art. 7(3) and 16(6), notice of a change to who was told"
_PROCEDURE = "no data of a series: a word of procedure on what the entries of its subject name"
WITHOUT_AGREEMENT: Mapping[str, str] = {
    "retraction": RECTIFIED,
    "referral_correction": RECTIFIED,
    "series_merge": RECTIFIED,
    "series_split": RECTIFIED,
    "referral_step": _PROCEDURE,
    "referral_lead": _PROCEDURE,
    "upload_step": _PROCEDURE,
    "broadcast_answer": _PROCEDURE,
    "request_answer": _PROCEDURE,
    "purge_receipt": _PROCEDURE,
    "watch_notice": _PROCEDURE,
    "permission_request": "2016/680 Art. 35(1)(c), the provider's authorisation is asked for",
    "permission": "2016/680 Art. 9(3), the provider's conditions for its own data",
    "transfer_notice": "2016/680 Art. 35(2), the provider is informed without delay",
}
"""On what each kind rests that may follow data to a third country without an agreement, where it
states no exception of its own: nothing new of a series is in it."""
_STOOD_BEFORE = (
    "the agreement or exception that the entry of its sending names, and that ended since"
)
"""Of a kind with data of a series: none is queued without one, so it ended while this waited."""


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
        member = directory.by_agency.get(agency)
        if member is None or in_union(str(member.role), member.countries):
            continue  # a revoked one counts: what it was told before is being taken back
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
    on what its kind rests.
    """
    kind, stated = payload.WhichOneof("body"), None
    body: Any = getattr(payload, kind) if kind else payload
    if "vital_interests" in body.DESCRIPTOR.fields_by_name and body.HasField("vital_interests"):
        stated = body.vital_interests
    otherwise = WITHOUT_AGREEMENT.get(kind or "", _STOOD_BEFORE)
    return legal_basis(node, [recipient], stated, otherwise=otherwise)

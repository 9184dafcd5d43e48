"""The same file again: what an import amounted to is kept, so that it need not be sent again.

What was kept stands until something is erased at the node; then the file may have something to add.
So it may where its import was made before votes were stored for every import that states them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date
from typing import Any

from google.protobuf import json_format
from tieline.v1 import operator_pb2
from tieline_client.handling import Handling

from tieline_server.domain.ports import ImportRow, Tx


def fingerprint(header: operator_pb2.ImportHeader, handling: Handling) -> str:
    """Return what makes two imports the same; a retention that nobody stated moves with the day."""
    stated = header.handling.retain_until
    parts = (
        header.file_digest.hex(),
        header.series,
        str(header.exclusions),
        header.category_scheme,
        header.category_code,
        header.case_ref,
        stated,
        repr(handling if stated else replace(handling, retain_until=date.max)),
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def keep(tx: Tx, fingerprint: str, report: operator_pb2.ImportReport) -> None:
    """Keep what an import amounted to, in the transaction that makes it count."""
    known = {
        "erasures": tx.items.erasures(),
        "votes": "by import",
        "report": json_format.MessageToDict(report),
    }
    tx.meta.set(_key(fingerprint), json.dumps(known))


def kept(tx: Tx, row: ImportRow) -> operator_pb2.ImportReport | None:
    """Return what an import amounted to when it was made, as long as that is kept."""
    found = tx.meta.get(_key(row.fingerprint)) if row.fingerprint else None
    if found is None:
        return None
    report = _report(json.loads(found))
    return report if report.import_id == row.id else None


def earlier(tx: Tx, fingerprint: str) -> operator_pb2.ImportReport | None:
    """Return what the same import amounted to, as it would be reported now."""
    found = tx.meta.get(_key(fingerprint))
    known = json.loads(found) if found else None
    if known is None or known["erasures"] != tx.items.erasures() or "votes" not in known:
        return None
    report = _report(known)
    report.items_known += report.items_new
    report.items_new = 0
    report.repeated = True
    return report


def _report(known: dict[str, Any]) -> operator_pb2.ImportReport:
    return json_format.ParseDict(known["report"], operator_pb2.ImportReport())


def _key(fingerprint: str) -> str:
    return f"import/{fingerprint}"

"""`tieline audit verify`: a log or a receipt held against the federation and against peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tieline.v1 import envelope_pb2

from tieline_client.audit_evidence import Evidence, Witnessed, decoded, witnessed
from tieline_client.audit_log import Verdict, read_header, verify_export, verify_leaves
from tieline_client.auditor_client import get_evidence
from tieline_client.cli.output import line, say
from tieline_client.cli.tables import show_fields
from tieline_client.directory import Directory
from tieline_client.directory_files import Files, read_folder, signing_directory
from tieline_client.errors import UnknownMethod, UsageError
from tieline_client.limits import RECEIPT_FILE_BYTES
from tieline_client.operator_client import OperatorClient
from tieline_client.receipts import Receipt, verify

SELF_CONSISTENT = "self-consistent only"
NO_WITNESS = f"{SELF_CONSISTENT}: signed by its agency, countersigned by no peer"


class Trust:
    """What the verifier was given beside the file: the root's fingerprint, files, checkpoints."""

    def __init__(self, root: str, public: Path | None, checkpoints: Sequence[Path]) -> None:
        """Raises UsageError where one is given without what it needs."""
        if not root and (public or checkpoints):
            raise UsageError("--public and --checkpoint need --root HEX, the root's fingerprint")
        if root and (len(root) != 64 or not all(one in "0123456789abcdefABCDEF" for one in root)):
            raise UsageError("--root is the 64 hex digits that `tieline node join` prints")
        self._root = root
        self._public = read_folder(public) if public else None
        self._checkpoints = [_read_checkpoint(path) for path in checkpoints]

    def directory(self, files: Files) -> Directory | None:
        """Return whose keys are whose; None without a root. Raises DirectoryError."""
        if not self._root:
            return None
        if not files and self._public is None:
            raise UsageError(
                "the file carries no directory: it was made by an older version, or is a receipt"
                " out of the log; name the authority's public folder with --public DIR"
            )
        return signing_directory(self._public or files, self._root)

    def of(self, evidence: Evidence, agency: str) -> Witnessed | None:
        """Verify what is signed of a log; None without a root."""
        directory = self.directory(evidence.files)
        if directory is None:
            return None
        return witnessed(evidence, directory, agency, self._checkpoints)


def against(found: Witnessed | None) -> str:
    """Say in words what a log was held against."""
    if found is None:
        return SELF_CONSISTENT
    if not found.witnesses:
        return NO_WITNESS
    return f"countersigned by {', '.join(found.witnesses)} up to {found.size} entries"


def advice(against: str) -> str:
    """Return what to do for a verdict that says more; "" where nothing is left to do."""
    if against == SELF_CONSISTENT:
        return (
            "it agrees with itself, which a log that was made anew does as well; give --root HEX,"
            " the federation's root as its authority says it, to hold it against its peers"
        )
    if against == NO_WITNESS:
        return (
            "no peer has seen this log: verify again after the node's next contact, or give a"
            " peer's --checkpoint FILE (there: `tieline audit witnesses --held AGENCY FILE`)"
        )
    return ""


def check_file(path: Path, trust: Trust) -> tuple[str, str, Verdict, str]:
    """Verify an export; return agency, federation, verdict, and what it was held against."""
    header = read_header(path)
    found = trust.of(Evidence.read(header.evidence), header.agency)
    _, verdict = verify_export(path, found.heads if found else ())
    return header.agency, header.federation, verdict, against(found)


def check_node(client: OperatorClient, trust: Trust) -> tuple[str, str, Verdict, str]:
    """The same of the node's own log."""
    agency, federation = client.profile.agency, client.profile.federation
    try:
        evidence = get_evidence(client)
    except UnknownMethod:
        evidence = Evidence()
    found = trust.of(evidence, agency)
    head = client.get_audit_head()
    marks = bytearray()

    def leaves() -> object:
        for position, leaf, hashed in client.list_audit_leaves(0, head.size):
            marks.extend(hashed[:8] if hashed else b"")
            yield position, leaf

    listed = leaves() if head.size else iter(())
    verdict = verify_leaves(
        listed,  # type: ignore[arg-type]
        head.size,
        head.root,
        marks,  # type: ignore[arg-type]  # grows as the leaves come
        found.heads if found else (),
    )
    return agency, federation, verdict, against(found)


def check_receipt(saved: Receipt, trust: Trust) -> dict[str, object]:
    """Verify a receipt; return its document. Raises SignatureRefused, MalformedMessage."""
    directory = trust.directory(saved.files)
    proven = verify(saved, directory)
    return {
        **proven.document(),
        "verified": True,
        "against": "the federation's root" if directory else SELF_CONSISTENT,
    }


def show_receipt(document: dict[str, object]) -> None:
    """Print a verified receipt."""
    show_fields(document, [key for key in document if key not in ("verified", "against")])
    if document["against"] == SELF_CONSISTENT:
        line(f"verified ({SELF_CONSISTENT})")
        say(
            "the signatures were not verified: give --root HEX, the federation's root, and"
            " --public DIR, its authority's public folder, where the file has none"
        )
    else:
        line("verified: both agencies signed it")


def _read_checkpoint(path: Path) -> envelope_pb2.Envelope:
    try:
        with path.open("r", encoding="ascii") as file:
            return decoded(file.read(RECEIPT_FILE_BYTES).strip())
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"{path} cannot be read; write one with `tieline audit witnesses --held AGENCY FILE`"
        ) from None

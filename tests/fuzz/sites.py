"""Which function of the product parses bytes by itself, and what holds it to its promise.

The value is the name of a decoder (decoders.py) that reaches it, or a reason in words why nothing
that others wrote comes there.
"""

from __future__ import annotations

OWN = "its own: "
"""Begins a reason: what is parsed was written by this node, of values that were checked before."""

_DATABASE = OWN + "what this node put into its database"
_INDEX = OWN + "an index snapshot, derived, held by a digest and rebuilt at will"
_STORED_ENVELOPE = OWN + "an envelope that was opened and checked before it was stored"

SITES: dict[str, str] = {
    "client/tieline_client/audit_log.py:leaf_fault": "audit exports",
    "client/tieline_client/audit_log.py:read_entry": "audit exports",
    "client/tieline_client/audit_log.py:_read_header": "audit exports",
    "client/tieline_client/certificate_parts.py:parse_certificate": "certificates",
    "client/tieline_client/checkpoints.py:checkpoint_digest": "checkpoints",
    "client/tieline_client/constraint_plans.py:_der": "messages",
    "client/tieline_client/constraints.py:open_nested": "messages",
    "client/tieline_client/digests.py:parse_hex": "record files",
    "client/tieline_client/directory.py:_from_base64": "statements",
    "client/tieline_client/directory.py:SigningKey.der": "statements",
    "client/tieline_client/formats/block_reading.py:_nsrl_block": "block files",
    "client/tieline_client/formats/blocks.py:_unhex": "block files",
    "client/tieline_client/formats/fields.py:read_digest": "record files",
    "client/tieline_client/formats/hashlists.py:parse_line": "record files",
    "client/tieline_client/formats/hashlists.py:_bare": "record files",
    "client/tieline_client/formats/ncmec.py:_feed": "record files",
    "client/tieline_client/formats/nsrl.py:_cells": "record files",
    "client/tieline_client/formats/photodna.py:parse_photodna": "record files",
    "client/tieline_client/formats/tabular.py:parse_header": "record files",
    "client/tieline_client/formats/tabular.py:Table._parsed": "record files",
    "client/tieline_client/keys.py:load_public": "public keys",
    "client/tieline_client/profile.py:Profile.load": "profiles",
    "client/tieline_client/profile.py:Profile.identity": "profiles",
    "client/tieline_client/profile.py:_first_operator": "configuration",
    "client/tieline_client/tls.py:to_der": "profiles",
    "client/tieline_client/tls.py:to_pem": OWN
    + "certificates that were checked, on their way into PEM",
    "client/tieline_client/tls_records.py:_end": "TLS records",
    "server/tieline_server/backup/container.py:_derive": "backup headers",
    "server/tieline_server/backup/container.py:read_header": "backup headers",
    "server/tieline_server/config.py:Home.config": "configuration",
    "server/tieline_server/delivery/drafts.py:draft_of": _STORED_ENVELOPE,
    "server/tieline_server/matching/files.py:FolderStore.manifest": _INDEX,
    "server/tieline_server/matching/snapshot.py:load": _INDEX,
    "server/tieline_server/policy/loading.py:_rules": "policy rules",
    "server/tieline_server/policy/loading.py:_check_positions": "policy rules",
    "server/tieline_server/rpc/identity.py:_version_of": "certificates",
    "server/tieline_server/services/incoming_broadcasts.py:_check_first": _STORED_ENVELOPE,
    "server/tieline_server/services/peer_question.py:PeerResult.messages": OWN
    + "answers that came in as checked messages and were spooled",
    "server/tieline_server/services/receiving.py:_series_of": "signed payloads",
    "server/tieline_server/services/recovering.py:_payload": _STORED_ENVELOPE,
    "server/tieline_server/services/recovering.py:_broadcast": "signed payloads",
    "server/tieline_server/services/recovering.py:sent_by": _STORED_ENVELOPE,
    "server/tieline_server/services/referring.py:original_envelope": _STORED_ENVELOPE,
    "server/tieline_server/services/repeats.py:earlier": _DATABASE,
    "server/tieline_server/services/retracting.py:tell": _STORED_ENVELOPE,
    "server/tieline_server/services/spool.py:Kept.__iter__": OWN + "a spool without a name",
    "server/tieline_server/services/watching.py:_digest": _STORED_ENVELOPE,
    "server/tieline_server/services/witnessing.py:_envelopes": _STORED_ENVELOPE,
    "server/tieline_server/storage/bulk.py:SqliteBulk.digests": _DATABASE,
    "server/tieline_server/storage/migrations/versions/0004_retraction.py:_series": _DATABASE,
    "server/tieline_server/storage/people.py:_operator": _DATABASE,
    "server/tieline_server/storage/retractions.py:_retraction": _DATABASE,
    "server/tieline_server/storage/series.py:SeriesRows.terms": _DATABASE,
    "server/tieline_server/storage/standings.py:_ranges_in": _DATABASE,
    "server/tieline_server/storage/standings.py:_known": _DATABASE,
    "server/tieline_server/storage/standings.py:_asked_in": _DATABASE,
    "server/tieline_server/storage/tombstone_ledger.py:_entry": "tombstone ledgers",
    "server/tieline_server/trust/authority.py:load_agency_authority": OWN + "HOME/certs, mode 0600",
    "server/tieline_server/trust/canonical.py:decode": "statements",
    "server/tieline_server/trust/ceremony.py:load": "proposals",
    "server/tieline_server/trust/node_identity.py:NodeIdentity._load_leaf": OWN
    + "HOME/certs, mode 0600",
    "server/tieline_server/trust/request.py:Request.to_json": OWN + "what was just built",
    "server/tieline_server/trust/request.py:build": OWN + "what was just built",
    "server/tieline_server/trust/request.py:read_role": "requests",
    "server/tieline_server/trust/request.py:_base64": "requests",
    "server/tieline_server/trust/stated.py:_check_own": "directory files",
    "server/tieline_server/trust/statements.py:check": "statements",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.parsed_root": "directory files",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.parsed_timestamp": "directory files",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.parsed_snapshot": "directory files",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.parsed_targets": "directory files",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.directory": "directory files",
    "server/tieline_server/trust/tuf_copy.py:_fetch": "directory files",
    "server/tieline_server/trust/tuf_online.py:_described": "directory files",
    "client/tieline_client/cli/doctor.py:_profile": "profiles",
    "client/tieline_client/cli/operators.py:_given": "certificates",
    "client/tieline_client/keys.py:parse": "key files",
    "server/tieline_server/at_rest.py:_profile": "profiles",
    "server/tieline_server/first_operator.py:FirstOperator._of": OWN
    + "the first operator's profile, HOME/operators",
    "server/tieline_server/homes.py:_fill": OWN + "certificates that were just issued or checked",
    "server/tieline_server/renewing.py:import_leaf": "certificates",
    "server/tieline_server/trust/ca_keys.py:load_own_authority": OWN + "HOME/certs, mode 0600",
    "server/tieline_server/trust/leaf_import.py:_check_key": "certificates",
    "server/tieline_server/trust/token_key.py:TokenKey.sign": OWN
    + "what the agency's token answers",
}

"""`tieline node join --hub HOST:PORT`: a newer directory than the folder's, from a member.

The folder gives the root and the CA by which the member at that address is known; it may be older
than this agency's admission. The member lets this node in by its CA, once the directory that it
serves lists that. What comes is verified from the folder's root, as at every refresh.
"""

from __future__ import annotations

import re
from contextlib import closing
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import LeafCache
from tieline_client.directory import Directory
from tieline_client.errors import Unreachable, UsageError
from tieline_client.peer_client import PeerClient
from tieline_client.tls import Identity

from tieline_server.config import NodeConfig
from tieline_server.trust.authority import issue_node_leaf
from tieline_server.trust.ca_keys import OwnAuthority
from tieline_server.trust.directory_store import DirectoryOlder, DirectoryStore
from tieline_server.trust.peer_files import PeerFiles

_ADDRESS = re.compile(r"[^\s/@]+:\d{1,5}")


def fetch(
    address: str,
    config: NodeConfig,
    store: DirectoryStore,
    node_ca: OwnAuthority,
    node_key: keys.PrivateKey,
    now: datetime,
) -> Directory:
    """Return the directory as the member at ``address`` has it, or the folder's if that is newer.

    Raises UsageError for an address that nobody has, Unreachable when the member does not answer
    or does not know this node, DirectoryError for what is refused.
    """
    agency = member_at(address, store.current(), config.agency)
    authority = node_ca.require("join from a folder that lists this agency, without --hub")
    leaf = issue_node_leaf(authority, node_key.public_key(), now=now)
    client = PeerClient(
        own_agency=config.agency,
        agency=agency,
        endpoints=[address],
        directory=store.current,
        identity=Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(node_key)),
        leaves=LeafCache(store.current().federation),
        clock=lambda: now,
        proxy=config.proxy_url(),
    )
    with closing(client):
        files = PeerFiles(client.directory_files(), store.copy())
        try:
            return store.take(files.read, agency, now, files.ahead)
        except DirectoryOlder:
            return store.current()
        except Unreachable as error:
            raise Unreachable(
                f"no directory from {agency} at {address}: {error.message}; see that it runs, and "
                f"that {config.agency} is admitted in the directory it has"
            ) from None


def member_at(address: str, directory: Directory, own: str) -> str:
    """Return the member that listens at an address, else the only hub; raise UsageError."""
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"--hub {address[:80]!r} is not HOST:PORT")
    others = [one for one in directory.active_members() if one.agency != own]
    found = [one for one in others if address in one.endpoints]
    hubs = [one for one in directory.hubs() if one.agency != own]
    if not found and len(hubs) != 1:
        known = ", ".join(place for one in others[:5] for place in one.endpoints) or "nobody"
        raise UsageError(f"the directory lists no member at {address}; it lists {known}")
    return (found or hubs)[0].agency

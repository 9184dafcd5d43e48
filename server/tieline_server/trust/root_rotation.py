"""The next root: other holders, another threshold, new online keys, or the same for longer.

Root and targets have the same holders. Members walk from root to root (TUF specification, section
5.3), each signed by k holders of the one before and k of its own, so one who was away for years
still arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime

from tieline_client import keys, limits
from tieline_client.errors import UsageError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tieline_server.trust.request import tuf_key
from tieline_server.trust.tuf_online import OnlineKeys

_HOLDERS = (Root.type, Targets.type)
_ONLINE = (Snapshot.type, Timestamp.type)


def next_root(
    root: Root,
    now: datetime,
    *,
    holders: Sequence[keys.PublicKey] | None = None,
    threshold: int | None = None,
) -> Root:
    """Return the root that follows; what is not given stays. Raises UsageError for bad numbers."""
    after = deepcopy(root)
    after.version = root.version + 1
    after.expires = (now + limits.AUTHORITY_LIFE).replace(microsecond=0)
    named = [tuf_key(key) for key in holders or ()]
    if len({key.keyid for key in named}) != len(named):
        raise UsageError("the same key is given twice; every holder has a key of their own")
    count = len(named) or len(root.roles[Targets.type].keyids)
    need = threshold if threshold is not None else root.roles[Targets.type].threshold
    if not 1 <= need <= count <= limits.KEY_HOLDERS:
        raise UsageError(
            f"{need} of {count} keys is no threshold; use 1 to {limits.KEY_HOLDERS} keys "
            "and a threshold that they can reach"
        )
    for role in _HOLDERS:
        if named:
            _set_keys(after, role, named)
        after.roles[role].threshold = need
    return after


def check_two_persons(need: int, *, trial: bool) -> None:
    """Raise UsageError where one holder alone could change who is a member, unless in a trial."""
    if need < 2 and not trial:
        raise UsageError(
            "one key alone would decide who is a member; let two holders sign at least"
            " (--threshold 2), or make a federation for trials only with `init --trial`"
        )


def set_online(root: Root, online: OnlineKeys) -> None:
    """Put other online keys in a root."""
    _set_keys(root, Snapshot.type, [tuf_key(online.snapshot.public_key())])
    _set_keys(root, Timestamp.type, [tuf_key(online.timestamp.public_key())])


def names_online(root: Root, online: OnlineKeys) -> bool:
    """Whether a root names these online keys."""
    return all(
        tuf_key(key.public_key()).keyid in root.roles[role].keyids
        for role, key in ((Snapshot.type, online.snapshot), (Timestamp.type, online.timestamp))
    )


def changes(before: Root, after: Root) -> list[str]:
    """Return what the next root changes, a line each: what a holder reads before signing."""
    lines = [f"root version {after.version}, valid until {after.expires:%Y-%m-%d}"]
    old, new = before.roles[Targets.type], after.roles[Targets.type]
    lines += [f"no holder any more: {keyid}" for keyid in old.keyids if keyid not in new.keyids]
    lines += [f"new holder: {keyid}" for keyid in new.keyids if keyid not in old.keyids]
    if old.threshold != new.threshold:
        lines.append(f"threshold {new.threshold} instead of {old.threshold}")
    if any(before.roles[one].keyids != after.roles[one].keyids for one in _ONLINE):
        lines.append("new online keys")
    return lines


def _set_keys(root: Root, role: str, named: Sequence[object]) -> None:
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in named:
        root.add_key(key, role)  # type: ignore[arg-type]

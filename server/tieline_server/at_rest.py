"""A home at rest: who may read its files, and which of its private keys are encrypted.

A node refuses to start while anything private in its home is open to others, since a mode that was
loosened once (a copy, a restore by hand) is not noticed later. Plain keys are allowed, for trials,
and said: in `tieline node status`, in the log and by `tieline doctor`.
"""

from __future__ import annotations

import json
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tieline_client import keys
from tieline_client.errors import ConfigurationError
from tieline_client.limits import KEY_FILE_BYTES, PROFILE_BYTES

from tieline_server.config import Home

_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Loose:
    """Something in a home that others may look into, and the mode that it should have."""

    path: Path
    mode: int
    wanted: int

    @property
    def advice(self) -> str:
        """The command that mends it."""
        return f"chmod {self.wanted:o} {self.path}"


def loose(home: Home) -> list[Loose]:
    """Return what is open to others: the home, its private folders, and the files in them.

    Of ``directory`` only the folder counts, since its files are public; of ``indexes`` and
    ``cache`` too, since the folder keeps others out.
    """
    folders = (home.keys, home.certs, home.operators)
    inside = (home.path / "directory", home.indexes, home.cache)
    found = []
    for path in (home.path, *folders, *inside):
        found += _loose(path, _FOLDER_MODE)
    for folder in (home.path, *folders):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink():
                found += _loose(path, _FILE_MODE)
    return found


def _loose(path: Path, wanted: int) -> list[Loose]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return []
    return [Loose(path, mode, wanted)] if mode & 0o077 else []


def check(home: Home) -> None:
    """Raise ConfigurationError that names what is open to others, and the command to mend it."""
    found = loose(home)
    if not found:
        return
    first, others = found[0], len(found) - 1
    more = f" ({others} more; `tieline doctor --home {home.path}` lists them)" if others else ""
    raise ConfigurationError(
        f"{first.path} has mode {first.mode:04o} and others may look into it{more}; "
        f"run `{first.advice}`"
    )


def private_key_files(home: Home) -> Iterator[Path]:
    """Yield every file of a home that holds a private key: keys, and the profiles of people."""
    for folder, pattern in ((home.keys, "*.key"), (home.operators, "*.key")):
        yield from sorted(folder.glob(pattern))
    yield from sorted(home.operators.glob("*.json"))


def plain_keys(home: Home) -> list[Path]:
    """Return the files whose private key is not encrypted."""
    found = []
    for path in private_key_files(home):
        try:
            with path.open("rb") as file:
                data = file.read(max(KEY_FILE_BYTES, PROFILE_BYTES))
        except OSError:
            continue
        if not keys.is_encrypted(data):
            found.append(path)
    return found


def plain_keys_warning(home: Home) -> str:
    """Return a sentence on plain keys, or ""."""
    count = len(plain_keys(home))
    if not count:
        return ""
    return (
        f"private keys are plain files ({count} of them); "
        f"stop the node and run `tieline node passphrase {home.path}` for real use"
    )


def encrypt(home: Home, old: bytes | None, new: bytes) -> int:
    """Put every private key of a home under the passphrase ``new``; return how many there are.

    Keys may be plain or under ``old``; those under ``new`` already stay, so that a run which was
    cut off is simply run again. All are read before the first is written. Each file is replaced
    whole. Raises ConfigurationError when a key opens with neither.
    """
    from tieline_server.trust import files  # noqa: PLC0415

    made: list[tuple[Path, bytes]] = []
    for path in private_key_files(home):
        if path.suffix == ".json":
            document = _profile(path)
            key = _opened(path, str(document["key"]).encode(), old, new)
            document["key"] = keys.to_pem(key, new).decode()
            made.append((path, json.dumps(document, indent=2).encode() + b"\n"))
        else:
            key = _opened(path, _read(path), old, new)
            made.append((path, keys.to_pem(key, new)))
    for path, data in made:
        files.write_atomic(path, data, mode=_FILE_MODE)
    return len(made)


def sweep(home: Home) -> None:
    """Remove halves of files with keys that a killed change left. The node must be stopped."""
    from tieline_server.trust import files  # noqa: PLC0415

    files.sweep(home.keys, home.certs, home.operators)


def cut_off(home: Home) -> str:
    """Return what to do where the passphrase opens some of the private keys and not others.

    Keys are opened one by one, which takes a while: ask when one did not open. "" where that is
    not the matter.
    """
    passphrase = keys.passphrase_from_environment()
    opened = set()
    for path in private_key_files(home):
        try:
            pem = str(_profile(path)["key"]).encode() if path.suffix == ".json" else _read(path)
            if keys.is_encrypted(pem):
                opened.add(_opens(path, pem, passphrase))
        except ConfigurationError:
            continue
    if opened != {True, False}:
        return ""
    return (
        "it opens others: if a change of the passphrase was cut off, run `tieline node passphrase "
        f"{home.path}` again with the same new one, and with the old one as the present one"
    )


def _opens(path: Path, pem: bytes, passphrase: bytes | None) -> bool:
    try:
        keys.parse(pem, passphrase, str(path))
    except ConfigurationError:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max(KEY_FILE_BYTES, PROFILE_BYTES))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _profile(path: Path) -> dict[str, object]:
    try:
        document = json.loads(_read(path))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("key"), str):
        raise ConfigurationError(f"{path} is no profile; move it out of the home")
    return document


def _opened(path: Path, pem: bytes, old: bytes | None, new: bytes) -> keys.PrivateKey:
    for passphrase in (old, new):
        try:
            return keys.parse(pem, passphrase, str(path))
        except ConfigurationError as error:
            failed = error
    raise failed


def forbid_core_dumps() -> None:
    """Let no core dump of this process, or of what it runs, be written: it would hold its keys.

    A limit of 0 is not looked at where cores are piped to a collector; 1 is, and too small for a
    file as well (core(5)).
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    wanted = 1 if most == resource.RLIM_INFINITY or most >= 1 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (wanted, wanted))

"""The URL of a node's database, and how its password gets there.

Everybody on a machine reads the arguments of everybody's processes (`ps`, /proc/PID/cmdline), so an
argument with a password is refused. It comes from, the first that is there: the URL in config.toml
(mode 0600) or in TIELINE_NODE_DATABASE; the file that ``database_password_file`` names; systemd's
credential ``tieline-database-password``. No program that the node runs is given it as an argument
either (storage/copies_postgres.py).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from tieline_client import keys
from tieline_client.errors import ConfigurationError, UsageError

PASSWORD_CREDENTIAL = "tieline-database-password"  # noqa: S105 - the name of a credential
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})
"""Of libpq; as part of a URL's query they would be passed on as they stand."""
_REFUSED = (
    "--database holds a password, and everybody on this machine reads arguments; leave it out and"
    " give it by --database-password-file FILE, the systemd credential tieline-database-password,"
    " or the whole URL by TIELINE_NODE_DATABASE"
)


def refuse_in_argument(url: str) -> None:
    """Raise UsageError, without the secret, where an argument holds one."""
    try:
        parts = urlsplit(url)
        found = ":" in parts.netloc.rpartition("@")[0] or bool(_options(parts.query))
    except ValueError:
        found = "@" in url
    if found:
        raise UsageError(_REFUSED)


def complete(url: str, password_file: str) -> str:
    """Return the URL with the password that it is to have. Raises ConfigurationError."""
    if not url.startswith("postgresql"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # what it is instead, storage says
    if options := _options(parts.query):
        raise ConfigurationError(
            f"database: {options[0]} stands among the URL's options; write it as"
            " postgresql+psycopg://USER:PASSWORD@..., or into database_password_file"
        )
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    password = _password(password_file)
    if password is None:
        return url
    if not at or not user:
        raise ConfigurationError(
            "database: a password was given and no user; write postgresql+psycopg://USER@..."
        )
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _password(file: str) -> str | None:
    if file:
        found: bytes | None = keys.read_passphrase(Path(file), "database_password_file")
    else:
        found = keys.credential(PASSWORD_CREDENTIAL)
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("the database's password is not UTF-8; write it anew") from None


def _options(query: str) -> list[str]:
    return [key for key, _ in parse_qsl(query, keep_blank_values=True) if key in _SECRET_OPTIONS]

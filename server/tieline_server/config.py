"""HOME/config.toml: what the agency decides, checked as a whole when the node starts.

Every setting can also come from the environment as TIELINE_NODE_<NAME>, which wins: a database URL
that holds a password does not belong into a file.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from tieline_client.directory import AgencyId, Contact, Country, Endpoint, Role, Text
from tieline_client.errors import ConfigurationError, InvalidInput
from tieline_client.formats.record import Vote
from tieline_client.handling import HandlingCode, Tlp, parse_handling_code
from tieline_client.identifiers import check_code, check_operator
from tieline_client.limits import (
    AUDIT_KEPT,
    BUDGET_UNITS,
    COUNT_LEAST,
    PEER_CALLS_PER_SECOND,
    POLICY_NUMBER_MOST,
    PROXY_FILE_BYTES,
    QUERY_SECONDS,
    QUERY_SECONDS_MOST,
    RECORDS_PER_QUERY,
    WATCH_HOUR,
)

from tieline_server import config_faults, database_url
from tieline_server.config_clock import ClockSettings
from tieline_server.config_same_as import SameAsSettings
from tieline_server.domain.budget import Budgets
from tieline_server.domain.numbering import Numbering
from tieline_server.domain.series import DutyContact
from tieline_server.services.context import Defaults

VICS_SCHEMES = ("vics", "vics-us", "vics-uk", "vics-custom", "vics-default")
_PROXY = r"^(http://[A-Za-z0-9.\-\[\]:]{1,255}:\d{1,5})?$"
_LOOPBACK = r"^((127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|localhost):\d{1,5})?$"
_PKCS11 = r"^(pkcs11:[\x21-\x7e]{1,1000})?$"
_WILDCARDS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - looked for, not bound
_LOOPBACK_NAMES = {"localhost": "127.0.0.1"}
CATEGORIES: tuple[tuple[str, str], ...] = tuple(
    (scheme, code) for scheme in VICS_SCHEMES for code in ("1", "2")
)
"""Categories 1 and 2 of every VICS context token and of none (formats.md)."""


def _word(check: Callable[[str], object]) -> AfterValidator:
    """Make a check one whose refusal pydantic reports with the setting's name."""

    def validate(value: str) -> str:
        try:
            check(value)
        except InvalidInput as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(validate)


def _default_handling(text: str) -> None:
    if parse_handling_code(text) is HandlingCode.H3:
        raise InvalidInput(
            "H3 needs its restriction in words, which no setting holds: take H0, H1 or H2 here and "
            "give H3 with the import (`--handling H3 --restriction TEXT`)"
        )


Units = Annotated[int, Field(ge=0, le=POLICY_NUMBER_MOST)]
"""Asked records; a perceptual hash counts ten."""


class BudgetSettings(BaseModel):
    """What a peer may ask in a UTC day; `tieline budget set` goes before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Units = BUDGET_UNITS
    peers: dict[AgencyId, Units] = Field(default_factory=dict)
    """Of some peers, by agency."""
    purposes: dict[Annotated[str, _word(check_code)], Units] = Field(default_factory=dict)
    """Narrower caps within a peer's budget, by purpose code."""


class NumberingSettings(BaseModel):
    """A repository's own series numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: Annotated[str, Field(pattern=r"^([A-Z0-9][A-Z0-9_-]{0,30})?$")] = ""
    """Empty: the agency's id in capitals."""
    yearly: bool = True
    """Whether the year stands in it."""
    digits: Annotated[int, Field(ge=1, le=12)] = 6
    first: Annotated[int, Field(ge=1, le=10**11)] = 1
    """The least number that is given out."""


class NodeConfig(BaseSettings):
    """One node's settings."""

    model_config = SettingsConfigDict(env_prefix="TIELINE_NODE_", extra="forbid", frozen=True)

    agency: AgencyId
    name: Annotated[Text, Field(min_length=1)]
    role: Role
    countries: tuple[Country, ...] = ()
    listen: Endpoint | None = None
    """HOST:PORT of the federation port; not used by a node that only calls out."""
    operator_listen: Endpoint
    """HOST:PORT of the operator port."""
    endpoint: Endpoint | None = None
    """HOST:PORT under which peers reach the federation port, where it is another."""
    outbound_only: bool = False
    """Nobody can call this node: it calls its peers and is reached over the streams it opens."""
    attach: Literal["all", "hub"] = "all"
    """Where such a node holds streams open: to every member that can be called, or to hubs."""
    proxy: Annotated[str, Field(pattern=_PROXY)] = ""
    """http://HOST:PORT of the HTTP proxy for all calls to other nodes; empty: none."""
    proxy_credentials: str = ""
    """File of mode 0600 with one line, USER:PASSWORD, for the proxy; empty: none."""
    database: str = ""
    """SQLAlchemy URL; empty: SQLite in the home."""
    database_password_file: str = ""
    """File of mode 0600 with the password for it; empty: none, or systemd's credential."""
    first_operator: Annotated[str, _word(check_operator)] = "admin"
    node_ca_key: Annotated[str, Field(pattern=_PKCS11)] = ""
    """PKCS#11 URI of the node CA's key, where a token holds it; empty: keys/node-ca.key, if any."""
    operator_ca_key: Annotated[str, Field(pattern=_PKCS11)] = ""
    """The same of the operator CA."""
    metrics_listen: Annotated[str, Field(pattern=_LOOPBACK)] = ""
    """HOST:PORT of this machine for metrics by HTTP; empty: none."""
    contact: Contact = Contact()
    """The duty contact that travels with series."""
    categories: tuple[tuple[str, str], ...] = CATEGORIES
    """(scheme, code) pairs that are held and asked abroad; everything else is excluded."""
    handling: Annotated[str, _word(_default_handling)] = HandlingCode.H0.name
    tlp: Annotated[str, _word(Tlp.parse)] = "AMBER"
    source: Annotated[str, Field(pattern="^[ABCX]$")] = "X"
    information: Annotated[int, Field(ge=1, le=4)] = 4
    audit_keep_days: Annotated[int, Field(ge=30, le=36_500)] = AUDIT_KEPT.days
    """Entries of the audit log are erased after so many days, unless a hold keeps them."""
    watch_hour: Annotated[int, Field(ge=0, le=23)] = WATCH_HOUR
    """Hour of the day, UTC, from which on standing queries are asked anew."""
    policies: str = ""
    """Folder of the agency's own Cedar rules; empty: the default set."""
    query_seconds: Annotated[float, Field(gt=0, le=QUERY_SECONDS_MOST)] = QUERY_SECONDS
    """How long a peer is waited for."""
    alarm_command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Run for each alarm, with its kind and the referral's id behind it."""
    peer_calls_per_second: Annotated[float, Field(gt=0)] = PEER_CALLS_PER_SECOND
    """Calls that one peer may make in the long run."""
    budgets: BudgetSettings = BudgetSettings()
    """What peers may ask in a day."""
    count_least: Annotated[int, Field(ge=1, le=RECORDS_PER_QUERY)] = COUNT_LEAST
    """Asked records, or items of a series, below which no count is told."""
    clock: ClockSettings = ClockSettings()
    """How long the steps of referrals may take."""
    same_as: SameAsSettings = SameAsSettings()
    """What proposes that two agencies' series are one."""
    numbering: NumberingSettings = NumberingSettings()
    """How a repository numbers series."""

    @model_validator(mode="after")
    def _check_reach(self) -> NodeConfig:
        if not self.outbound_only and self.listen is None:
            raise ValueError("listen is needed, unless the node only calls out")
        places = [self.listen, self.operator_listen, self.metrics_listen]
        taken = [one for one in places if one and not one.endswith(":0")]
        for one, other in combinations(taken, 2):
            if _same_place(one, other):
                raise ValueError(
                    "listen, operator_listen and metrics_listen are different ports: "
                    f"{one} and {other} are one; give one of them another port"
                )
        if self.outbound_only and self.role is Role.HUB:
            raise ValueError("outbound_only: a hub must be called by others")
        if self.outbound_only and self.endpoint:
            raise ValueError("endpoint: nobody can call a node that only calls out")
        return self

    def proxy_url(self) -> str:
        """Return the proxy's URL with the credentials of their file; "" without a proxy.

        Raises ConfigurationError when the file is missing, open to others or not one line.
        """
        if not self.proxy or not self.proxy_credentials:
            return self.proxy
        path = Path(self.proxy_credentials)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            with path.open("rb") as file:
                text = file.read(PROXY_FILE_BYTES + 1).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"proxy_credentials {path} cannot be read: {error}") from None
        if mode & 0o077:
            raise ConfigurationError(
                f"{path} has mode {mode:04o} and others may read it; run `chmod 600 {path}`"
            )
        user, colon, password = text.partition(":")
        if not (user and colon and text.isprintable()) or len(text) > PROXY_FILE_BYTES:
            raise ConfigurationError(f"{path} does not hold one line USER:PASSWORD")
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return self.proxy.replace("http://", f"http://{credentials}@", 1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    def defaults(self) -> Defaults:
        """Return what services need of this."""
        contact = self.contact
        return Defaults(
            categories=frozenset(Vote(scheme, code) for scheme, code in self.categories),
            contact=DutyContact(contact.name, contact.email, contact.phone),
            handling_code=parse_handling_code(self.handling),
            tlp=Tlp.parse(self.tlp),
            source=self.source,
            information=self.information,
            query_seconds=self.query_seconds,
            budgets=Budgets(
                self.budgets.default, dict(self.budgets.peers), dict(self.budgets.purposes)
            ),
            count_least=self.count_least,
            numbering=Numbering(**self.numbering.model_dump()),
            targets=self.clock.targets(),
            likeness=self.same_as.likeness(),
        )


def _same_place(one: str, other: str) -> bool:
    """Whether two HOST:PORT cannot both be listened on: a wildcard takes every address."""
    host, _, port = one.rpartition(":")
    other_host, _, other_port = other.rpartition(":")
    hosts = {_LOOPBACK_NAMES.get(each.lower(), each.lower()) for each in (host, other_host)}
    return int(port) == int(other_port) and (len(hosts) == 1 or bool(hosts & _WILDCARDS))


class Home:
    """The folder of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.toml"
        self.request_file = path / "request.json"
        self.lock_file = path / "node.lock"
        self.keys = path / "keys"
        self.certs = path / "certs"
        self.node_leaf = self.certs / "node.pem"
        self.node_request = path / "node.csr"
        self.operators = path / "operators"
        self.indexes = path / "indexes"
        self.tombstones = path / "tombstones"
        self.cache = path / "cache"

    def database_url(self, config: NodeConfig) -> str:
        """Return the URL of the node's database, with its password (database_url.py).

        Raises ConfigurationError when that cannot be read.
        """
        if not config.database:
            return f"sqlite:///{self.path.resolve() / 'database.sqlite3'}"
        return database_url.complete(config.database, config.database_password_file)

    def check(self) -> None:
        """Raise ConfigurationError when this is no home, or others may look into it."""
        if not self.config_file.is_file():
            raise ConfigurationError(
                f"{self.path} is no node's home; make one with `tieline node init HOME`"
            )
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"{self.path} has mode {mode:04o} and others may look into it; "
                f"run `chmod 700 {self.path}`"
            )

    def config(self) -> NodeConfig:
        """Read and check config.toml; raise ConfigurationError naming the first wrong field."""
        self.check()
        try:
            text = self.config_file.read_text("utf-8")
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            why = config_faults.toml(error, text)
            raise ConfigurationError(f"{self.config_file} cannot be read: {why}") from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self.config_file} cannot be read: {error}") from None
        return make_config(document, str(self.config_file))


class _FileConfig(NodeConfig):
    """The settings as a file states them, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file alone."""
        return (init_settings,)


def make_config(document: dict[str, Any], where: str, *, environment: bool = True) -> NodeConfig:
    """Check settings; raise ConfigurationError naming the first wrong field.

    Without ``environment`` the document stands alone, so that what is written to a file holds no
    secret that the environment was to keep out of it.
    """
    try:
        return NodeConfig(**document) if environment else _FileConfig(**document)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {config_faults.setting(error, NodeConfig)}") from None


def numba_cache(home: Home) -> None:
    """Let compiled kernels live in the home (0700), unless the environment says where."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(home.cache.resolve()))

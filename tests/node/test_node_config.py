"""HOME/config.toml: what is written, what is read back, what the environment may say."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from tieline_client.errors import ConfigurationError
from tieline_server.config import CATEGORIES, Home, NodeConfig, make_config
from tieline_server.config_text import to_toml
from tieline_server.domain.referral import ReferralState, Urgency
from tieline_server.domain.targets import Targets
from tieline_server.home_doctor import look_at_home
from tieline_server.homes import make_home
from tieline_server.node_cli import app
from typer.testing import CliRunner

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = "postgresql+psycopg://tieline:hunter2@db.example/tieline"


def _document(**changed: Any) -> dict[str, Any]:
    return {
        "agency": "pt-pj",
        "name": "Policia Judiciaria",
        "role": "national",
        "countries": ["PT"],
        "listen": "127.0.0.1:7443",
        "operator_listen": "127.0.0.1:7444",
    } | changed


def _home(path: Path, text: str) -> Home:
    path.mkdir(mode=0o700)
    (path / "config.toml").write_text(text)
    return Home(path)


def test_what_init_writes_is_what_serve_reads(tmp_path: Path) -> None:
    made = make_config(_document(name='The "Unit"\\ é', endpoint="pt.example:7443"), "test")
    read = _home(tmp_path / "pt", to_toml(made)).config()
    assert read.model_dump() == made.model_dump()
    assert read.categories == CATEGORIES


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _home(tmp_path / "pt", to_toml(make_config(_document(), "test")))
    monkeypatch.setenv("TIELINE_NODE_DATABASE", SECRET)
    monkeypatch.setenv("TIELINE_NODE_CATEGORIES", '[["vics-uk", "A"]]')
    config = home.config()
    assert home.database_url(config) == SECRET
    assert config.categories == (("vics-uk", "A"),)


def test_what_the_environment_keeps_secret_never_reaches_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIELINE_NODE_DATABASE", SECRET)
    config = make_config(_document(), "node init", environment=False)
    make_home(tmp_path / "pt", config, NOW)
    for path in (tmp_path / "pt").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


POSTGRES = "postgresql+psycopg://tieline@db.example/tieline?sslmode=verify-full"


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        "postgresql://:hunter2@/tieline?host=/run/pg",
        "postgresql://tieline@db/tieline?password=hunter2",
        "postgresql://tieline@db/tieline?sslmode=require&sslpassword=hunter2",
        "postgresql://tieline:hunter2@[::1/tieline",
    ],
)
def test_a_password_in_an_argument_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    words = ["--agency", "pt-pj", "--name", "P", "--role", "national", "--country", "PT"]
    ports = ["--listen", "127.0.0.1:7443", "--operator-listen", "127.0.0.1:7444"]
    arguments = ["init", str(tmp_path / "pt"), *words, *ports, "--database", url]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--database-password-file FILE" in result.stderr
    assert "hunter2" not in result.output
    assert not (tmp_path / "pt").exists()


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("p:a/s@s wörd\n")
    document = _document(database=POSTGRES, database_password_file=str(secret))
    home = _home(tmp_path / "pt", to_toml(make_config(document, "test")))
    secret.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        home.database_url(home.config())
    secret.chmod(0o600)
    made = make_url(home.database_url(home.config()))
    assert (made.username, made.password) == ("tieline", "p:a/s@s wörd")
    assert (made.host, made.database) == ("db.example", "tieline")
    assert dict(made.query) == {"sslmode": "verify-full"}
    secret.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        home.database_url(home.config())


def test_or_from_systemds_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _home(tmp_path / "pt", to_toml(make_config(_document(database=POSTGRES), "test")))
    assert home.database_url(home.config()) == POSTGRES
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "tieline-database-password").write_text("from systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert make_url(home.database_url(home.config())).password == "from systemd"
    monkeypatch.setenv("TIELINE_NODE_DATABASE", SECRET)  # a password that is there already stays
    assert home.database_url(home.config()) == SECRET


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://db.example/tieline", "no user"),
        ("postgresql://@/tieline?host=/run/pg", "no user"),
        ("postgresql://t@db/tieline?password=x", "password stands among the URL's options"),
    ],
)
def test_a_url_that_takes_no_password(tmp_path: Path, url: str, says: str) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    document = _document(database=url, database_password_file=str(secret))
    home = _home(tmp_path / "pt", to_toml(make_config(document, "test")))
    with pytest.raises(ConfigurationError, match=says):
        home.database_url(home.config())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("handling", "H9"),
        ("handling", "H3"),
        ("tlp", "PURPLE"),
        ("source", "D"),
        ("information", 5),
        ("first_operator", "a b"),
        ("agency", "PT_PJ"),
        ("role", "king"),
        ("listen", "7443"),
        ("query_seconds", 0),
        ("query_seconds", 601),
        ("countries", ["Portugal"]),
        ("categories", [["vics-us"]]),
        ("contact", {"fax": "1"}),
        ("query_second", 3),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_config(_document(**{field: value}), "pt/config.toml")
    assert refused.value.message.startswith(f"pt/config.toml: {field}")
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"colour": "red"}, "colour: there is no setting of this name; correct its name, or take"),
        (
            {"query_second": 3},
            "query_second: there is no setting of this name; did you mean query_seconds?",
        ),
        (
            {"budgets": {"peer": {}}},
            "budgets.peer: there is no setting of this name; did you mean peers?",
        ),
        ({"budgets": {"tlp": "RED"}}, "budgets.tlp: this setting is of no section; put it above"),
    ],
)
def test_an_unknown_setting_is_told_in_plain_words(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_config(_document(**changed), "pt/config.toml")
    assert says in refused.value.message
    assert "Extra inputs" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'tlp = "RED"\nsource = "X"\ntlp = "hunter2"\n',
            "line 3: `tlp` stands there a second time",
        ),
        ("[budgets]\ndefault = 1\n[budgets]\n", "line 3: `[budgets]` stands there a second time"),
        ("countries = []\ncountries = [\n  'PT',\n]\n", "line 4: a setting stands there a second"),
        (
            "tlp = RED\n",
            "it is no TOML: Invalid value (at line 1, column 7); texts stand in quotes",
        ),
    ],
)
def test_what_is_no_toml_is_told_in_plain_words(tmp_path: Path, text: str, says: str) -> None:
    home = _home(tmp_path / "pt", text)
    with pytest.raises(ConfigurationError) as refused:
        home.config()
    assert says in refused.value.message
    assert "hunter2" not in refused.value.message
    told = {one.text: one.advice for one in look_at_home(home.path) if one.check == "settings"}
    assert told == {refused.value.message: f"correct {home.config_file}"}


@pytest.mark.parametrize(
    ("listen", "operator_listen", "collide"),
    [
        ("0.0.0.0:17643", "127.0.0.1:17643", True),
        ("127.0.0.1:17643", "0.0.0.0:17643", True),
        ("[::]:17643", "127.0.0.1:17643", True),
        ("0.0.0.0:17643", "[::1]:17643", True),
        ("localhost:17643", "127.0.0.1:17643", True),
        ("127.0.0.1:17643", "127.0.0.1:17643", True),
        ("0.0.0.0:17643", "127.0.0.1:17644", False),
        ("10.0.0.1:17643", "127.0.0.1:17643", False),
    ],
)
def test_one_port_is_listened_on_once(listen: str, operator_listen: str, collide: bool) -> None:
    document = _document(listen=listen, operator_listen=operator_listen)
    if collide:
        with pytest.raises(ConfigurationError, match="are one; give one of them another port"):
            make_config(document, "test")
    else:
        make_config(document, "test")


def test_the_port_of_metrics_is_one_of_them() -> None:
    with pytest.raises(ConfigurationError, match="different ports"):
        make_config(_document(listen="0.0.0.0:9", metrics_listen="127.0.0.1:9"), "test")


def test_a_home_that_others_may_look_into_is_refused(tmp_path: Path) -> None:
    home = _home(tmp_path / "pt", to_toml(make_config(_document(), "test")))
    home.path.chmod(0o750)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        home.config()


@pytest.mark.parametrize("text", ["agency = ", "\udcff", "[contact\n"])
def test_a_broken_file_is_one_line(tmp_path: Path, text: str) -> None:
    home = _home(tmp_path / "pt", "")
    home.config_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"config\.toml cannot be read"):
        home.config()


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tieline node init"):
        Home(tmp_path).config()


def test_all_settings_but_those_with_safe_defaults_are_written() -> None:
    text = to_toml(make_config(_document(), "test"))
    left_out = {name for name in NodeConfig.model_fields if f"{name} = " not in text}
    assert left_out == {
        *("policies", "query_seconds", "contact", "budgets", "numbering", "clock"),
        *("same_as", "alarm_command", "peer_calls_per_second"),
    }
    assert "[contact]" in text


def test_how_long_steps_may_take_is_the_agencys_to_say() -> None:
    hours = {"immediate": 0.5, "urgent": 2, "routine": 8}
    config = make_config(_document(clock={"localised": 12, "delivered": hours}), "test")
    targets = config.defaults().targets
    assert targets.localised == timedelta(hours=12)
    due = targets.due(ReferralState.DELIVERED, Urgency.IMMEDIATE, NOW)
    assert due == NOW + timedelta(minutes=30)
    untouched = ReferralState.ACCEPTED
    assert targets.steps[untouched] == Targets().steps[untouched]
    assert make_config(_document(), "test").defaults().targets == Targets()
    named = make_config(_document(clock={"fallbacks": {"BE": "nl-politie"}}), "test")
    assert named.defaults().targets.fallbacks == {"BE": "nl-politie"}
    assert make_config(tomllib.loads(to_toml(named)), "test").clock == named.clock


@pytest.mark.parametrize(
    "clock",
    [
        {"delivered": {"immediate": 3, "urgent": 2, "routine": 8}},
        {"delivered": {"immediate": 0, "urgent": 2, "routine": 8}},
        {"delivered": {"immediate": 1, "urgent": 2}},
        {"outcome": {"immediate": 1, "urgent": 2, "routine": 8}},
        {"localised": -1},
        {"escalate": {"immediate": 3, "urgent": 48, "routine": 240}},
        {"fallbacks": {"Portugal": "pt-pj"}},
        {"fallbacks": {"PT": "A B"}},
        {"localised": "soon"},
    ],
)
def test_targets_that_make_no_sense_are_refused(clock: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="test: clock"):
        make_config(_document(clock=clock), "test")


# --- nodes that only call out, and proxies ------------------------------------------------------


def test_a_node_that_only_calls_out_needs_no_port_and_names_no_endpoint(tmp_path: Path) -> None:
    document = _document(outbound_only=True, attach="hub")
    del document["listen"]
    made = make_config(document, "test")
    assert _home(tmp_path / "pt", to_toml(made)).config() == made
    asked = make_home(tmp_path / "new", made, NOW)
    assert asked.statement.outbound_only
    assert asked.statement.endpoints == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"listen": None}, "listen is needed"),
        ({"outbound_only": True, "role": "hub", "countries": []}, "a hub must be called"),
        ({"outbound_only": True, "endpoint": "pt.example:7443"}, "nobody can call"),
        ({"attach": "some"}, "attach"),
        ({"proxy": "https://proxy.example:3128"}, "proxy"),
        ({"proxy": "http://user:word@proxy.example:3128"}, "proxy"),
        ({"proxy": "http://proxy.example"}, "proxy"),
    ],
)
def test_what_cannot_be_reached_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make_config(_document(**changed), "test")


def test_a_proxys_credentials_come_from_a_file_of_the_nodes_own(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    plain = _document(proxy="http://proxy.example:3128")
    config = make_config(plain | {"proxy_credentials": str(file)}, "test")
    assert make_config(plain, "test").proxy_url() == "http://proxy.example:3128"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config.proxy_url()
    for text in ("", "user", ":word", "user:wo\x00rd", "user:one\nuser:two", "user:" + "w" * 2000):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigurationError, match="USER:PASSWORD"):
            config.proxy_url()
    file.write_text("agency/user:p@ss word:1\n")
    assert config.proxy_url() == "http://agency%2Fuser:p%40ss%20word%3A1@proxy.example:3128"
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        config.proxy_url()

"""Through an HTTP proxy, and only through it: TLS end to end, names that the proxy alone knows.

es-gc and the hub are listed under names that no resolver has; pt-pj, which only calls out, reaches
them through the proxy, and is reached over the streams that it holds open through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.connect_proxy import ConnectProxy
from tests.e2e.federation import WHY, Federation, free_port, tieline, tieline_process, wait_for

CREDENTIALS = "tieline:p@ss: word/%"
NAMES = {"europol-ec3": "hub.police.invalid:7443", "es-gc": "es-gc.police.invalid:7443"}
TLS_HANDSHAKE = b"\x16\x03"


@dataclass
class Trial:
    federation: Federation
    proxy: ConnectProxy
    credentials: Path


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("proxy")
    made = Federation(root).found()
    file = root / "proxy-credentials"
    file.write_text(f"{CREDENTIALS}\n")
    file.chmod(0o600)
    where = {}
    for agency, role, *countries in (("europol-ec3", "hub"), ("es-gc", "national", "ES")):
        where[NAMES[agency]] = made.init(agency, role, *countries, endpoint=NAMES[agency]).address
    proxy = ConnectProxy(free_port(), where, CREDENTIALS).start()
    settings = {"proxy": proxy.url, "proxy_credentials": str(file)}
    made.init("pt-pj", "national", "PT", outbound_only=True, **settings)
    # Listed under names, the two others need the proxy for one another as well.
    for agency in NAMES:
        config = made[agency].home / "config.toml"
        text = config.read_text()
        for name, value in settings.items():
            line = next(one for one in text.splitlines() if one.startswith(f"# {name} = "))
            text = text.replace(line, f'{name} = "{value}"')
        config.write_text(text)
    for node in made:
        made.join(node)
        # What the environment says of proxies does not matter, either way.
        node.launch(no_proxy="*", no_grpc_proxy="*", https_proxy="http://127.0.0.1:9")
    try:
        for node in made:
            node.wait_ready()
        yield Trial(made, proxy, file)
    finally:
        made.close()
        proxy.close()


def status(trial: Trial) -> Any:
    return tieline("node", "status", trial.federation["pt-pj"].home, "--json").ok().json


def wait_attached(trial: Trial) -> None:
    def look() -> bool:
        shown = status(trial)["attached_to"]
        return len(shown) == 2 and all(one["since"] for one in shown)

    wait_for("pt-pj is attached", look)


def digests(count: int) -> list[str]:
    return [f"sha1:{hashlib.sha1(str(n).encode()).hexdigest()}" for n in range(count)]


def test_all_goes_through_the_proxy_and_is_tls_from_the_start(trial: Trial, tmp_path: Path) -> None:
    wait_attached(trial)
    nodes = trial.federation
    held = tmp_path / "held.txt"
    held.write_text("\n".join(digests(20)) + "\n")
    series = {
        n.agency: n.import_file(held, "--series", f"S {n.agency}")["series"][0] for n in nodes
    }
    for node in nodes:
        answer = node.ask(held, "--all").ok().json
        assert [len(peer["overlaps"]) for peer in answer["peers"]] == [20, 20], answer
    for sender, receiver in (("pt-pj", "es-gc"), ("es-gc", "pt-pj")):
        told = nodes[sender].run(
            *("series", "refer", series[sender], "--agency", receiver, *WHY),
        )
        (referral,) = told.ok().json["referrals"]
        entries = wait_for(
            "it has arrived",
            lambda to=receiver, one=referral["id"]: [  # type: ignore[misc]
                e for e in nodes[to].inbox() if e["id"] == one
            ],
        )
        assert entries[0]["series"]["items"] == 20
    passed = [one for one in trial.proxy.passed if one.code == 200]
    assert {one.target for one in passed} == set(NAMES.values())
    begun = [one for one in passed if one.sent and one.received]
    assert len(begun) >= 4
    assert all(one.sent.startswith(TLS_HANDSHAKE) for one in begun)
    assert all(one.received.startswith(TLS_HANDSHAKE) for one in begun)
    assert not [one for one in trial.proxy.passed if one.code != 200]


def test_wrong_credentials_reach_nobody_and_right_ones_do_again(
    trial: Trial, tmp_path: Path
) -> None:
    node = trial.federation["pt-pj"]
    asked = tmp_path / "asked.txt"
    asked.write_text("\n".join(digests(2)) + "\n")
    node.stop()
    trial.credentials.write_text("tieline:wrong\n")
    node.start()
    answer = node.ask(asked, "--peer", "es-gc")
    assert answer.code == 4
    assert answer.json["peers"][0]["status"] == "unreachable"
    assert not any(one["since"] for one in status(trial)["attached_to"])
    assert any(one.code == 407 for one in trial.proxy.passed)
    node.stop()
    trial.credentials.write_text(f"{CREDENTIALS}\n")
    node.start()
    wait_attached(trial)
    assert node.ask(asked, "--peer", "es-gc").ok().json["peers"][0]["status"] == "answered"


def test_credentials_that_others_may_read_are_refused(trial: Trial) -> None:
    node = trial.federation["pt-pj"]
    node.stop()
    trial.credentials.chmod(0o644)
    try:
        refused = tieline_process("node", "serve", node.home)
        assert refused.code == 1
        assert "chmod 600" in refused.err
    finally:
        trial.credentials.chmod(0o600)
        node.start()

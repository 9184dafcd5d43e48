"""The authority's ceremony through the real command line."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_client.directory import Role
from tieline_client.errors import HomeInUse
from tieline_server.trust import federation_edits
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation import Federation

from tests.federation.building import (
    NOW,
    Agency,
    admit,
    invoke,
    refusal,
    succeed,
    trial,
    write_request,
)

PASSPHRASE = "correct horse battery staple"
COMMAND = [
    sys.executable,
    "-c",
    "from tieline_server.federation_cli import federation_app; federation_app()",
]


@pytest.fixture
def passphrase(tmp_path: Path) -> str:
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    file.chmod(0o600)
    return str(file)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "authority"
    file = folder.with_name("passphrase")
    file.write_text(PASSPHRASE)
    file.chmod(0o600)
    options = ["--name", "fed", "--keys", "3", "--threshold", "2"]
    succeed("init", folder, *options, TIELINE_PASSPHRASE_FILE=str(file))
    return folder


@pytest.fixture
def two_of_three(tmp_path: Path, founded: Path) -> Path:
    return Path(shutil.copytree(founded, tmp_path / "authority"))


@pytest.fixture(scope="module")
def of_one_member(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return trial(tmp_path_factory.mktemp("member") / "authority", Agency("pt-pj"))


def test_two_of_three_as_separate_processes(tmp_path: Path, passphrase: str) -> None:
    environment = {**os.environ, "TIELINE_PASSPHRASE_FILE": passphrase}

    def tieline(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=True,
            stdin=subprocess.DEVNULL, timeout=300,
        )  # fmt: skip

    folder, agency = tmp_path / "authority", Agency("pt-pj")
    made = agency.request()
    file = write_request(tmp_path / "request.json", made)
    init = tieline("init", folder, "--name", "fed", "--keys", 3, "--threshold", 2)
    fingerprint = init.stdout.strip()
    assert len(fingerprint) == 64
    assert int(fingerprint, 16)
    for number in (1, 2, 3):
        key = folder / "keys" / f"holder-{number}.pem"
        assert "ENCRYPTED" in key.read_text()
        assert key.stat().st_mode & 0o777 == 0o600

    tieline("admit", folder, file, "--role", "national", "--country", "PT",
            "--fingerprint", made.fingerprint)  # fmt: skip
    assert DirectoryStore(tmp_path / "early").trust(folder).members == ()
    told = ("--fingerprint", made.fingerprint, "--json")
    first = tieline("sign", folder, "--key", folder / "keys" / "holder-3.pem", *told)
    assert json.loads(first.stdout)["in_force"] is False
    second = tieline("sign", folder, "--key", folder / "keys" / "holder-1.pem", *told)
    assert json.loads(second.stdout)["in_force"] is True
    tieline("publish", folder)

    store = DirectoryStore(tmp_path / "home")
    member = store.trust(folder / "public").member("pt-pj")
    assert store.root_fingerprint() == fingerprint
    assert (member.role, member.countries) == (Role.NATIONAL, ("PT",))
    assert member.node_cas == (agency.node_ca,)
    assert member.directory_key == keys.keyid(agency.directory_key)


def test_edits_gather_in_one_proposal_and_drop_signatures(
    two_of_three: Path, passphrase: str
) -> None:
    env = {"TIELINE_PASSPHRASE_FILE": passphrase}
    holder = [two_of_three / "keys" / f"holder-{number}.pem" for number in (1, 2, 3)]
    succeed("purpose", two_of_three, "training", "A rehearsal")
    succeed("sign", two_of_three, "--key", holder[0], **env)
    second = invoke("purpose", two_of_three, "other", "Another reason")
    assert "1 earlier signature(s) count no more" in second.stderr
    status = succeed("status", two_of_three)
    assert status["proposal"]["have"] == 0
    assert status["proposal"]["changes"] == [
        "purpose other: Another reason",
        "purpose training: A rehearsal",
    ]
    # The same once more is no change, so it drops nothing.
    succeed("sign", two_of_three, "--key", holder[0], **env)
    again = succeed("purpose", two_of_three, "other", "Another reason")
    assert (again["changed"], again["dropped_signatures"]) == (False, 0)
    assert "training" not in succeed("show", two_of_three)["purposes"]
    # Publishing renews what is in force, never what is proposed.
    assert succeed("publish", two_of_three)["proposal_waiting"] is True
    assert "training" not in succeed("show", two_of_three)["purposes"]
    assert succeed("sign", two_of_three, "--key", holder[1], **env)["in_force"] is True
    assert succeed("show", two_of_three)["purposes"]["training"] == "A rehearsal"
    assert succeed("status", two_of_three)["proposal"] is None


def test_a_holder_signs_once(two_of_three: Path, passphrase: str) -> None:
    env = {"TIELINE_PASSPHRASE_FILE": passphrase}
    key = two_of_three / "keys" / "holder-1.pem"
    assert "nothing is proposed" in refusal(1, "sign", two_of_three, "--key", key, **env)
    succeed("renew", two_of_three)
    succeed("sign", two_of_three, "--key", key, **env)
    assert "signed already" in refusal(1, "sign", two_of_three, "--key", key, **env)


def test_keys_that_do_not_sign(two_of_three: Path, passphrase: str, tmp_path: Path) -> None:
    env = {"TIELINE_PASSPHRASE_FILE": passphrase}
    succeed("renew", two_of_three)
    own = two_of_three / "keys" / "holder-1.pem"
    stranger = tmp_path / "stranger.pem"
    keys.save(stranger, keys.generate())
    assert "no holder" in refusal(3, "sign", two_of_three, "--key", stranger, **env)
    missing = tmp_path / "none.pem"
    assert "cannot be read" in refusal(1, "sign", two_of_three, "--key", missing, **env)
    Path(passphrase).write_text("wrong")
    assert "passphrase does not open it" in refusal(1, "sign", two_of_three, "--key", own, **env)
    assert "TIELINE_PASSPHRASE_FILE" in refusal(2, "sign", two_of_three, "--key", own)
    own.chmod(0o644)
    assert "chmod 600" in refusal(1, "sign", two_of_three, "--key", own, **env)
    assert succeed("status", two_of_three)["proposal"]["have"] == 0


def test_a_swapped_proposal_is_not_signed(two_of_three: Path, passphrase: str) -> None:
    succeed("purpose", two_of_three, "training", "A rehearsal")
    path = two_of_three / "proposed" / "proposal.json"
    path.write_text(path.read_text().replace("A rehearsal", "Anything, by anyone"))
    key = two_of_three / "keys" / "holder-1.pem"
    message = refusal(3, "sign", two_of_three, "--key", key, TIELINE_PASSPHRASE_FILE=passphrase)
    assert "do not fit together" in message


def test_a_single_encrypted_key_takes_effect_at_once(tmp_path: Path, passphrase: str) -> None:
    """A trial's key may be encrypted afterwards."""
    folder, env = tmp_path / "authority", {"TIELINE_PASSPHRASE_FILE": passphrase}
    made = trial(folder)
    path = made.single_key
    assert path is not None
    key = keys.load(path)
    path.unlink()
    keys.save(path, key, PASSPHRASE.encode())
    assert "passphrase is needed" in refusal(2, "purpose", folder, "training", "A rehearsal")
    assert succeed("status", folder)["proposal"] is None
    assert succeed("purpose", folder, "training", "A rehearsal", **env)["in_force"] is True


@pytest.mark.parametrize("numbers", [("--keys", 1), ("--keys", 3, "--threshold", 1)])
def test_one_person_founds_no_federation_but_a_trial(
    tmp_path: Path, passphrase: str, numbers: tuple[object, ...]
) -> None:
    env = {"TIELINE_PASSPHRASE_FILE": passphrase}
    message = refusal(2, "init", tmp_path / "a", "--name", "fed", *numbers, **env)
    assert "one key alone would decide who is a member" in message
    assert not (tmp_path / "a").exists()


def test_nor_does_a_rotation_make_it_one_persons(two_of_three: Path) -> None:
    assert "one key alone" in refusal(2, "rotate", two_of_three, "--threshold", 1)
    assert succeed("status", two_of_three)["proposal"] is None


def test_in_a_pipe_no_admission_is_signed_without_its_fingerprint(
    two_of_three: Path, passphrase: str, tmp_path: Path
) -> None:
    """The second person of the ceremony compares too; what admits nobody needs no comparison."""
    env = {"TIELINE_PASSPHRASE_FILE": passphrase}
    key = two_of_three / "keys" / "holder-1.pem"
    made = [Agency("pt-pj", countries=("PT",)).request(), Agency("es-pn").request()]
    for number, one in enumerate(made):
        file = write_request(tmp_path / f"request-{number}.json", one)
        stated = ("--role", one.claims.role, "--fingerprint", one.fingerprint)
        served = [word for code in one.claims.countries for word in ("--country", code)]
        succeed("admit", two_of_three, file, *stated, *served)
    message = refusal(2, "sign", two_of_three, "--key", key, **env)
    assert "--fingerprint HEX is required here" in message
    assert "pt-pj" in message and "es-pn" in message
    told = ("--fingerprint", made[0].fingerprint)
    assert "none of the fingerprints" in refusal(
        3, "sign", two_of_three, "--key", key, *told, **env
    )
    assert succeed("status", two_of_three)["proposal"]["have"] == 0
    both = (*told, "--fingerprint", made[1].fingerprint)
    signed = succeed("sign", two_of_three, "--key", key, *both, **env)
    assert signed["signatures"] == {"have": 1, "need": 2}
    succeed("discard", two_of_three)
    succeed("purpose", two_of_three, "training", "A rehearsal")
    assert succeed("sign", two_of_three, "--key", key, **env)["signatures"]["have"] == 1


def test_a_single_key_that_was_taken_away(tmp_path: Path) -> None:
    folder, away = tmp_path / "authority", tmp_path / "holder.pem"
    succeed("init", folder, "--name", "fed", "--trial")
    (folder / "keys" / "holder-1.pem").rename(away)
    assert succeed("purpose", folder, "training", "A rehearsal")["in_force"] is False
    assert succeed("sign", folder, "--key", away)["in_force"] is True


def test_trial_says_so_and_is_in_force_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    result = invoke("init", folder, "--name", "fed", "--trial")
    assert "TRIAL" in result.stderr
    assert "plain key" in result.stderr
    assert len(result.stdout.strip()) == 64
    assert b"ENCRYPTED" not in (folder / "keys" / "holder-1.pem").read_bytes()
    file = write_request(tmp_path / "request.json", Agency("pt-pj").request())
    admitted = invoke("admit", folder, file, "--role", "national", "--country", "PT")
    assert "was not compared" in admitted.stderr
    assert succeed("status", folder)["members"] == 1
    assert sorted(succeed("show", folder)["purposes"]) == [
        "data-quality",
        "deconfliction",
        "prosecution",
        "victim-identification",
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["--name", "Not A Name", "--trial"], 1, "federation name"),
        (["--name", "fed", "--trial", "--keys", "2"], 2, "--trial makes a single key"),
        (["--name", "fed", "--keys", "2", "--threshold", "3"], 2, "no threshold"),
        (["--name", "fed", "--keys", "0"], 2, "no threshold"),
        (["--name", "fed", "--keys", "17"], 2, "no threshold"),
        (["--name", "fed"], 2, "TIELINE_PASSPHRASE_FILE"),
    ],
)
def test_init_refused(tmp_path: Path, arguments: list[str], exit_code: int, says: str) -> None:
    folder = tmp_path / "authority"
    assert says in refusal(exit_code, "init", folder, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "authority").mkdir()
    succeed("init", tmp_path / "authority", "--name", "fed", "--trial")
    before = (tmp_path / "authority" / "public" / "root.json").read_bytes()
    message = refusal(1, "init", tmp_path / "authority", "--name", "fed", "--trial")
    assert "not an empty folder" in message
    assert (tmp_path / "authority" / "public" / "root.json").read_bytes() == before


def test_wrong_folders(tmp_path: Path) -> None:
    assert "no authority's folder" in refusal(1, "status", tmp_path)
    folder = tmp_path / "authority"
    succeed("init", folder, "--name", "fed", "--trial")
    assert "is no folder" in refusal(1, "publish", folder, "--home", tmp_path / "none")
    (folder / "online" / "timestamp.pem").chmod(0o640)
    assert "chmod 600" in refusal(1, "publish", folder)
    (folder / "online" / "timestamp.pem").unlink()
    assert "cannot be read" in refusal(1, "publish", folder)


def test_one_command_at_a_time(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority")
    with federation.changing():
        assert "another command" in refusal(1, "renew", federation.folder)
        with pytest.raises(HomeInUse), Federation.open(federation.folder).changing():
            pass
    succeed("renew", federation.folder)


def test_groups_agreements_purposes_and_revocation(tmp_path: Path) -> None:
    ice = Agency("us-ice", countries=["US"])
    federation = trial(tmp_path / "authority", Agency("pt-pj"), ice)
    folder = federation.folder
    succeed("group", folder, "all", "us-ice", "pt-pj", "pt-pj")
    succeed("agreement", folder, "us-ice", "--basis", "An agreement of 2003")
    succeed("purpose", folder, "deconfliction", "Who works on this?")
    succeed("revoke", folder, "pt-pj", "--serial", "0A:FF")
    directory = federation.directory(NOW)
    assert directory.group("all").members == ("pt-pj", "us-ice")
    assert directory.member("us-ice").agreement == "An agreement of 2003"
    assert directory.purpose("deconfliction") == "Who works on this?"
    assert directory.is_revoked("pt-pj", 0xAFF)
    assert not directory.is_revoked("us-ice", 0xAFF)
    assert succeed("group", folder, "all", "pt-pj", "us-ice")["changed"] is False

    succeed("revoke", folder, "us-ice")
    directory = federation.directory(NOW)
    assert directory.member("us-ice").revoked
    assert directory.is_revoked("us-ice", 1)
    assert directory.group("all").members == ("pt-pj",)
    assert directory.group("all").version == 2
    assert directory.serving("US") == ()
    assert "revoked" in refusal(3, "group", folder, "all", "us-ice")
    assert "REVOKED" in invoke("show", folder).stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["group", "all", "pt-pk"], 1, "did you mean pt-pj?"),
        (["group", "not a name", "pt-pj"], 2, "group 'not a name'"),
        (["agreement", "nobody", "--basis", "x"], 1, "known: pt-pj"),
        (["agreement", "pt-pj", "--basis", " "], 2, "--basis is empty"),
        (["agreement", "pt-pj", "--basis", "x" * 201], 1, "at most 200 characters"),
        (["purpose", "sp ace", "text"], 2, "purpose 'sp ace'"),
        (["purpose", "code", "bell\x07"], 1, "do not print"),
        (["revoke", "pt-pj", "--serial", "xyz"], 2, "serial 'xyz'"),
        (["revoke", "pt-pj", "--serial", "0"], 2, "serial '0'"),
        (["revoke", "nobody"], 1, "not admitted"),
    ],
)
def test_edits_refused(
    of_one_member: Federation, arguments: list[str], exit_code: int, says: str
) -> None:
    federation = of_one_member
    version = federation.directory(NOW).version
    name, *rest = arguments
    assert says in refusal(exit_code, name, federation.folder, *rest)
    assert federation.directory(NOW).version == version


def test_every_command_has_help_with_an_example() -> None:
    names = ["init", "admit", "group", "agreement", "purpose", "revoke", "renew", "sign"]
    for name in [*names, "publish", "status", "show"]:
        shown = invoke(name, "--help").stdout
        assert f"Example: tieline federation {name}" in " ".join(shown.split())


def test_escapes_in_a_name_reach_no_terminal(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", Agency("pt-pj"))
    message = refusal(1, "agreement", federation.folder, "\x1b[31mpt\npj", "--basis", "x")
    assert "\x1b" not in message


def test_passphrase_and_fingerprint_are_asked_for_on_a_terminal(tmp_path: Path) -> None:
    folder, made = tmp_path / "authority", Agency("pt-pj").request()
    file = write_request(tmp_path / "request.json", made)
    arguments = ["init", str(folder), "--name", "fed", "--keys", "2", "--threshold", "2"]
    questions = [b"holder 1", b"Repeat", b"holder 2", b"Repeat"]
    shown = _on_a_terminal(arguments, questions, [PASSPHRASE] * 4)
    assert PASSPHRASE.encode() not in shown
    admit_arguments = ["admit", str(folder), str(file), "--role", "national", "--country", "PT"]
    spaced = " ".join(made.fingerprint[at : at + 4].upper() for at in range(0, 64, 4))
    _on_a_terminal(admit_arguments, [b"agency told you"], [spaced])
    sign = ["sign", str(folder), "--key"]
    holders = [str(folder / "keys" / f"holder-{number}.pem") for number in (1, 2)]
    shown = _on_a_terminal([*sign, holders[0]], [b"tell you this fingerprint"], ["n"])
    assert b"not signed: ask pt-pj" in shown
    for holder in holders:
        shown = _on_a_terminal(
            [*sign, holder],
            [b"tell you this fingerprint", b"Passphrase of"],
            ["y", PASSPHRASE],
        )
    assert b"in force as version 2" in shown
    shown = _on_a_terminal(admit_arguments, [b"agency told you"], ["0" * 64])
    assert b"is not that of this request" in shown


def _on_a_terminal(arguments: list[str], questions: list[bytes], answers: list[str]) -> bytes:
    """Run the command on a pseudo-terminal, answering each question when it waits for it."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(COMMAND[0], [*COMMAND, *arguments])
    shown, asked, deadline = b"", 0, time.monotonic() + 300
    pending = list(zip(questions, answers, strict=True))
    try:
        while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the child has closed it
                break
            # The blank after the colon comes once the terminal no longer echoes.
            if pending and shown.endswith(b": ") and pending[0][0] in shown[asked:]:
                os.write(terminal, pending.pop(0)[1].encode() + b"\n")
                asked = len(shown)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    assert not pending, shown
    return shown


def test_revoked_agency_returns_only_with_new_keys(tmp_path: Path) -> None:
    agency = Agency("pt-pj")
    federation = trial(tmp_path / "authority", agency)
    succeed("revoke", federation.folder, "pt-pj")
    renewed = Agency("pt-pj")
    later = NOW.replace(year=NOW.year + 1)
    for old in ("directory_key", "signing_key", "node_ca"):
        mixed = Agency("pt-pj", **{old: getattr(agency, old)})
        with pytest.raises(federation_edits.AdmissionRefused, match="keys from before"):
            admit(federation, mixed.request(later), later)
    admit(federation, renewed.request(later), later)
    member = federation.directory(later).member("pt-pj")
    assert not member.revoked
    assert member.node_cas == (renewed.node_ca,)

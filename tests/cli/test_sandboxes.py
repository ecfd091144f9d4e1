"""Sandboxes at the command line: what is asked of the server, what is printed, which code ends it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from skerry.model.sandbox import SandboxSpec
from tests.cli.conftest import Skerry
from tests.client.fake_control import FakeControl


def test_every_flag_reaches_the_spec(skerry: Skerry, control: FakeControl, tmp_path: Path, monkeypatch: object) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1\nBOTH=file\n\n")
    flags = """--name full --hostname www
        --cpus 2.5 -m 512m --disk 2GiB --pids-limit 99 -e A=b=c -e BOTH=flag -l k=v -l alone
        -v /srv:/data:ro,owner --mount data:/opt --network --allow 10.0.0.0/8 --allow @dev --deny a.test
        --egress deny --observe -u nobody -w /tmp --protect --self-checkpoint
        --checkpoint-every 10m --checkpoint-keep 3 --checkpoint-max-age 2h
        --restart on-failure --health-http /health --health-port 80 --health-interval 3s --health-restart"""
    ended = skerry(
        "create", "debian:12", *flags.split(), "--env-file", str(tmp_path / "env"), "--", "sleep", "-x", "--"
    )
    assert ended.code == 0, ended.err
    spec = next(iter(control.sandboxes.values())).spec.model_dump(mode="json")
    assert spec | {"image": "debian:12"} == spec
    assert (spec["cpu"], spec["memory"], spec["disk"], spec["pids"]) == (2.5, 512_000_000, 2 * 1024**3, 99)
    assert (spec["hostname"], spec["restart"]) == ("www", "on-failure")
    health = spec["health"]
    assert (health["http"], health["port"], health["interval"], health["restart"]) == ("/health", 80, 3, True)
    assert spec["env"] == {"A": "b=c", "BOTH": "flag", "FROM_FILE": "1"}
    assert spec["labels"] == {"k": "v", "alone": ""}
    assert spec["mounts"] == [
        {"source": "/srv", "volume": None, "model": None, "target": "/data", "readonly": True, "owner": True},
        {"source": None, "volume": "data", "model": None, "target": "/opt", "readonly": False, "owner": False},
    ]
    network = SandboxSpec.model_validate({"image": "x", "network": spec["network"]}).network
    rules = [(rule.about, rule.action.value) for rule in network.rules]
    assert (network.enabled, network.default.value, network.observe) == (True, "deny", True)
    assert rules == [("10.0.0.0/8", "allow"), ("include dev", "allow"), ("a.test", "deny")]
    assert (spec["user"], spec["workdir"], spec["protected"], spec["self_checkpoint"]) == ("nobody", "/tmp", True, True)
    assert spec["checkpoints"] == {"every_s": 600, "keep": 3, "max_age_s": 7200}
    assert spec["command"] == ["sleep", "-x", "--"]


def test_what_is_not_given_is_not_sent(skerry: Skerry, control: FakeControl) -> None:
    assert skerry("create", "debian:12").code == 0
    spec = next(iter(control.sandboxes.values())).spec
    assert spec.model_fields_set == {"image"}


def test_create_says_name_id_and_state(skerry: Skerry) -> None:
    ended = skerry("create", "debian:12", "--name", "web")
    assert re.fullmatch(r"web \(sb-[0-9a-f]{12}\) is running\n", ended.out)
    assert re.fullmatch(r"sb-[0-9a-f]{12}\n", skerry("create", "-q", "debian:12").out)
    assert skerry("--json", "create", "debian:12", "--name", "j").json["name"] == "j"


def test_list_is_a_table_json_or_ids(skerry: Skerry, box: str) -> None:
    heading, row = skerry("ps").out.splitlines()
    assert heading.split() == ["NAME", "ID", "IMAGE", "STATE", "CPU", "MEMORY", "ADDRESS", "AGE", "LABELS"]
    assert row.split()[::2] == ["box", "debian:12", "1", "10.201.0.2", "team=a"]
    assert heading.index("IMAGE") == row.index("debian:12")
    assert [item["name"] for item in skerry("sandbox", "list", "--json").json] == ["box"]
    assert skerry("ps", "-q").out == skerry("inspect", "--json", "box").json["id"] + "\n"
    assert skerry("ps", "-q", "-l", "team=b").out == ""
    assert skerry("ps", "--state", "stopped", "--json").json == []


def test_forks_show_where_they_come_from(skerry: Skerry, box: str) -> None:
    ended = skerry("fork", "box", "--count", "2", "-l", "k=v")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["box-1", "box-2"]
    table = skerry("ps").out.splitlines()
    assert "FORKED FROM" in table[0]
    at = table[0].index("FORKED FROM")
    assert [line[at:].split()[0] for line in table[1:]] == ["-", "box", "box"]


def test_inspect_is_facts_or_json(skerry: Skerry, box: str) -> None:
    facts = dict(line.split(":", 1) for line in skerry("inspect", "box").out.splitlines())
    assert facts["name"].strip() == "box"
    assert facts["memory"].strip() == "1.0GiB"
    assert "reason" not in facts


def test_stop_start_update_delete(skerry: Skerry, box: str) -> None:
    assert skerry("stop", "box", "--grace", "0").out == "box stopped\n"
    assert skerry("inspect", "box", "--json").json["state"] == "stopped"
    assert skerry("start", "box").out == "box started\n"
    assert skerry("sandbox", "update", "box", "-l", "new=1", "--remove-label", "team", "--protect").code == 0
    assert skerry("inspect", "box", "--json").json["spec"]["labels"] == {"new": "1"}
    refused = skerry("rm", "box")
    assert (refused.code, refused.err) == (4, "error: box is protected\n")
    assert skerry("rm", "--force", "box").code == 0
    assert skerry("update", "box").code == 2


def test_update_and_reload(skerry: Skerry, box: str) -> None:
    def spec() -> dict[str, Any]:
        return skerry("inspect", "box", "--json").json["spec"]

    assert skerry("update", "box", "--memory", "2GiB", "--checkpoint-every", "10m").out == "box updated\n"
    assert (spec()["memory"], spec()["checkpoints"]["every_s"]) == (2 * 1024**3, 600)
    change = ("--env", "A=1", "--env", "B=2", "-v", "/srv:/data", "--no-network", "--user", "nobody")
    refused = skerry("update", "box", *change, "--", "sleep", "9")
    assert (refused.code, "stop it first" in refused.err) == (4, True)
    assert skerry("update", "box", "--reload", *change, "--", "sleep", "9").out == "box updated and started again\n"
    now = spec()
    assert (now["env"], now["user"], now["command"]) == ({"A": "1", "B": "2"}, "nobody", ["sleep", "9"])
    assert (now["mounts"][0]["source"], now["network"]["enabled"]) == ("/srv", False)
    skerry("stop", "box")
    less = ("--remove-env", "A", "--remove-mount", "/data/", "--reset", "command", "--reset", "user")
    assert skerry("update", "box", *less, "--checkpoint-every", "0").out == "box updated\n"
    now = spec()
    assert (now["env"], now.get("mounts", []), now.get("command"), now.get("user")) == ({"B": "2"}, [], None, None)
    assert now["checkpoints"]["every_s"] is None
    assert skerry("reload", "box").out == "box reloaded\n"
    assert skerry("inspect", "box", "--json").json["state"] == "running"


def test_one_that_fails_does_not_keep_the_rest_from_their_turn(skerry: Skerry, box: str) -> None:
    ended = skerry("rm", "nobody", "box")
    assert ended.code == 3
    assert ended.out == "box deleted\n"
    assert "1 of 2 were not deleted" in ended.err


def test_checkpoint_its_shorthand_and_restore(skerry: Skerry, control: FakeControl, box: str) -> None:
    assert skerry("checkpoint", "box", "--comment", "first try").out.startswith("v1 (cp-")
    assert skerry("checkpoint", "create", "box", "second").code == 0
    rows = skerry("checkpoint", "list", "box").out.splitlines()
    assert [row.split()[0] for row in rows] == ["VERSION", "v1", "v2"]
    assert rows[1].endswith("first try")
    assert "not contained:  memory, processes" in skerry("checkpoint", "info", "box", "v1").out
    assert skerry("checkpoint", "diff", "box", "v1").out == "A /srv/new\nD /srv/old\n"
    assert "more paths" in skerry("checkpoint", "diff", "box", "v1", "v2").err
    (control.disk(control.find("box").id) / "n").write_text("later")
    assert skerry("restore", "box", "v1").out.startswith("box is back at v1 and running")
    assert not (control.disk(control.find("box").id) / "n").exists()


def test_look_into_a_checkpoint(skerry: Skerry, control: FakeControl, box: str) -> None:
    (control.disk(control.find("box").id) / "n").write_text("kept")
    skerry("checkpoint", "box")
    assert skerry("checkpoint", "cat", "box", "v1", "/n").out == "kept"
    assert skerry("checkpoint", "ls", "box", "v1").out.splitlines()[1].split()[-1] == "n"


def test_a_file_name_does_not_command_the_terminal(skerry: Skerry, control: FakeControl, box: str) -> None:
    (control.disk(control.find("box").id) / "a\x1b]0;b\x07\nc").touch()
    skerry("checkpoint", "box")
    assert skerry("checkpoint", "ls", "box", "v1").out.splitlines()[1].endswith(r" a\x1b]0;b\x07\x0ac")


def test_logs_stats_events(skerry: Skerry, box: str) -> None:
    assert skerry("logs", "box", "--tail", "1").out == "zwölf\n"
    assert skerry("stats", "box").out.splitlines()[1].split()[:2] == ["box", "1.0s"]
    assert skerry("events", "box", "--json").json[0]["kind"] == "created"
    assert "created" in skerry("events", "--follow").out
    unknown = skerry("events", "--noun", "sandboxes")
    assert (unknown.code, "'sandbox', 'checkpoint'" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("inspect", "bxo"), 3, "did you mean 'box'?"),
        (("create", "debain:12"), 3, "did you mean 'debian:12'?"),
        (("create", "nothing-like-it"), 3, "skerry image list"),
        (("create", "debian:12", "--name", "box"), 4, "already"),
        (("create", "debian:12", "--cpu", "-1"), 2, "error:"),
        (("create", "debian:12", "--cpu", "many"), 2, "not a valid float"),
        (("create", "debian:12", "-v", "nonsense"), 2, "expected SOURCE:TARGET"),
        (("create", "debian:12", "--checkpoint-every", "soon"), 2, "such as 30s"),
        (("checkpoint", "lst"), 3, "did you mean"),
        (("restore", "box", "v9"), 3, "no checkpoint 'v9'"),
    ],
)
def test_errors_say_what_to_do_and_have_their_code(
    skerry: Skerry, box: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ended = skerry(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert ended.err.startswith("error: ")


def test_the_hint_does_not_blame_a_sandbox_that_exists(skerry: Skerry, box: str) -> None:
    assert skerry("restore", "box", "v9").err == "error: box has no checkpoint 'v9'\n"


def test_wait_tells_when_it_is_so_and_when_it_never_will_be(skerry: Skerry, control: FakeControl) -> None:
    skerry("create", "debian:12", "--name", "one")
    assert skerry("wait", "one").out == "one is healthy\n"
    late = skerry("wait", "one", "--for", "stopped", "--timeout", "0")
    assert (late.code, "one is not stopped yet" in late.err) == (6, True)
    skerry("stop", "one")
    assert skerry("wait", "one", "--for", "stopped").out.strip().isalnum()
    never = skerry("wait", "one", "--for", "running")
    assert (never.code, "one will not be running: it is stopped" in never.err) == (1, True)

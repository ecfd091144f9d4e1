"""The program itself: help, near misses, contexts, keys, completion, images, and how little it imports."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path

import click
import pytest

from skerry import errors
from skerry.cli import exit_codes
from skerry.cli.lazy import LazyGroup
from skerry.cli.output import Output, age, human_duration, human_size
from skerry.cli.program import program
from skerry.cli.table import COMMANDS, HABITS
from skerry.model.amounts import format_size
from tests.cli.conftest import Skerry
from tests.client.fake_control import FakeControl

HEAVY = (
    "pydantic",
    "aiohttp",
    "rich",
    "websockets",
    "fastapi",
    "sqlalchemy",
    "skerry.settings",
    "skerry.model.sandbox",
)


@pytest.mark.parametrize("arguments", [("exec", "box", "true"), ("ps",), ("run", "debian:12", "true"), ("--help",)])
def test_nothing_heavy_is_imported(environ: dict[str, str], box: str, arguments: tuple[str, ...]) -> None:
    script = f"""
import os, sys
import skerry.main
from skerry.cli.invocation import Invocation
from skerry.cli.program import run
code = run(Invocation(os.environ), {list(arguments)!r})
print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""
    ended = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "HEAVY []"


def every_command(group: LazyGroup, path: str) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, entry in group.entries.items():
        module, _, attribute = entry.home.partition(":")
        command = getattr(import_module(module), attribute)
        found.append((f"{path} {name}", command))
        if isinstance(command, LazyGroup):
            found += every_command(command, f"{path} {name}")
    return found


ALL = every_command(program, "skerry") if isinstance(program, LazyGroup) else []


def test_every_entry_leads_to_a_command_that_says_what_it_does() -> None:
    assert len(ALL) > 60
    assert [path for path, command in ALL if not command.help] == []


def test_every_command_prints_json() -> None:
    plain = {"skerry serve"}
    lacking = [
        path
        for path, command in ALL
        if not isinstance(command, click.Group) and path not in plain and "--json" not in _flags(command)
    ]
    assert lacking == []


def _flags(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


def test_help_lists_by_section_and_explains_one(skerry: Skerry) -> None:
    told = skerry("--help").out
    assert told.index("Often used") < told.index("  exec ") < told.index("Objects") < told.index("This machine")
    assert "snapshot" not in told
    assert "Usage: skerry checkpoint diff" in skerry("help", "checkpoint", "diff").out
    assert skerry("help", "exit-codes").out.rstrip() == exit_codes.TEXT.rstrip()
    assert skerry("help", "nonsense").code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chekpoint",), "did you mean 'checkpoint'?"),
        (("images",), "skerry image list"),
        (("ls",), "skerry ps"),
        (("launch",), "skerry create IMAGE"),
        (("diff",), "skerry checkpoint diff BOX"),
        (("image", "lst"), "did you mean"),
        (("destroy", "-f"), "say --force"),
        (("down", "-v"), "skerry destroy --volumes"),
        (("rsync-auto",), "skerry sync --watch"),
        (("ps", "--lable", "x"), "--label"),
    ],
)
def test_near_misses_and_habits(skerry: Skerry, arguments: tuple[str, ...], says: str) -> None:
    ended = skerry(*arguments)
    assert ended.code == 2
    assert says in ended.err


@pytest.mark.parametrize("arguments", [(), ("image",)])
def test_a_group_alone_shows_its_help(skerry: Skerry, arguments: tuple[str, ...]) -> None:
    ended = skerry(*arguments)
    assert (ended.code, ended.out) == (exit_codes.USAGE, "")
    assert ended.err == skerry(*arguments, "--help").out


def test_a_wrong_use_is_json_alone_where_json_was_asked_for(skerry: Skerry) -> None:
    for arguments in (("--json", "nosuch"), ("create", "--json")):
        ended = skerry(*arguments)
        assert ended.code == exit_codes.USAGE
        assert json.loads(ended.err)["error"]["code"] == "invalid"


def test_exit_codes_in_docs_are_those_we_have() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    told = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in exit_codes.TEXT.splitlines() if "   " in line]
    assert len(told) == 12
    assert [f"| {code} | {meaning} |" for code, meaning in told] == re.findall(r"^\| [\d+n]+ \| .* \|$", page, re.M)


def test_no_habit_hides_a_command() -> None:
    assert HABITS.keys() & COMMANDS.keys() == set()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.Failed, 1),
        (errors.Invalid, 2),
        (errors.Unsupported, 2),
        (errors.TooLarge, 2),
        (errors.NotFound, 3),
        (errors.Protected, 4),
        (errors.LimitReached, 4),
        (errors.Unauthenticated, 5),
        (errors.Forbidden, 5),
        (errors.Unavailable, 6),
        (errors.DeadlineExceeded, 6),
        (errors.NoRoom, 6),
    ],
)
def test_exit_codes(kind: type[errors.SkerryError], code: int) -> None:
    assert exit_codes.code_of(kind("x")) == code


def test_no_server_and_no_key(skerry: Skerry, environ: dict[str, str], control: FakeControl) -> None:
    environ["SKERRY_KEY"] = "wrong"
    refused = skerry("ps")
    assert refused.code == 5
    assert "SKERRY_KEY" in refused.err
    environ["SKERRY_ADDRESS"] = "unix:///nowhere.sock"
    gone = skerry("ps")
    assert gone.code == 6
    assert gone.err == "error: Skerry at unix:///nowhere.sock is not running; start it with `skerry serve`\n"


def test_contexts(skerry: Skerry, environ: dict[str, str], control: FakeControl, tmp_path: Path) -> None:
    address, key = environ.pop("SKERRY_ADDRESS"), environ.pop("SKERRY_KEY")
    (tmp_path / "key").write_text(key + "\n")
    made = skerry("context", "create", "home", "--address", address, "--key-file", str(tmp_path / "key"))
    assert made.out == f"home is {address} and is used from now on\n"
    assert stat.S_IMODE(Path(environ["SKERRY_CONFIG"]).stat().st_mode) == 0o600
    assert skerry("ps", "--json").json == []
    skerry("context", "create", "away", "--address", "away.example:1", "--key", "0123456789", "--project", "p")
    assert "6789" in skerry("context", "list").out
    assert "012345" not in skerry("context", "list").out + skerry("context", "show", "away", "--json").out
    assert [item["name"] for item in skerry("context", "list", "--json").json if item["current"]] == ["home"]
    assert skerry("context", "use", "local").code == 0
    assert skerry("context", "use", "nope").code == 3
    assert "did you mean 'home'?" in skerry("context", "use", "hoem").err
    assert skerry("--context", "home", "ps", "--json").json == []
    assert skerry("context", "delete", "home").code == 0
    assert skerry("--context", "home", "ps").code == 3


def test_completion(skerry: Skerry, environ: dict[str, str], box: str) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_SKERRY_COMPLETE" in skerry("completion", shell).out
    assert skerry("checkpoint", box).code == 0
    (Path(environ["HOME"]) / "config.toml").write_text('[contexts.lab]\naddress = "127.0.0.1:1"\n')
    completed = {
        "inspect b": ["plain,box"],
        "image rm deb": ["plain,debian:12"],
        "restore box v": ["plain,v1"],
        "context use la": ["plain,lab"],
        "help image pr": ["plain,prune"],
        "cp b": ["plain,box:"],
        "cp ./": ["file,./"],
        "image upload a": ["file,a"],
    }
    script = "from skerry.main import main; main()"
    for typed, offered in completed.items():
        last = str(len(typed.split()))
        words = environ | {"_SKERRY_COMPLETE": "bash_complete", "COMP_WORDS": f"skerry {typed}", "COMP_CWORD": last}
        ended = subprocess.run([sys.executable, "-c", script], env=words, capture_output=True, text=True, timeout=60)
        assert ended.stdout.split() == offered, typed


def test_version_with_and_without_a_server(skerry: Skerry, environ: dict[str, str]) -> None:
    assert skerry("version", "--json").json["server"]["version"] == "0.1.0"
    environ["SKERRY_ADDRESS"] = "unix:///nowhere.sock"
    ended = skerry("version")
    assert ended.code == 0
    assert "not running" in ended.err


def test_images(skerry: Skerry, control: FakeControl, tmp_path: Path) -> None:
    pulled = skerry("image", "pull", "docker://registry.example/team/tools:1")
    assert pulled.out == "team/tools:1 is ready (118MiB)\n"
    assert pulled.err == "team/tools:1: copying (5.0MiB of 10.0MiB)\n"
    failed = skerry("image", "pull", "broken:1")
    assert (failed.code, failed.err.splitlines()[-1]) == (1, "error: the registry is gone")
    (tmp_path / "app.tar").write_bytes(b"tar" * 100)
    assert skerry("image", "upload", str(tmp_path / "app.tar"), "-q").out.startswith("im-")
    assert skerry("image", "pull", f"docker-archive:{tmp_path}/app.tar", "--name", "app:2").code == 0
    assert skerry("image", "pull", f"docker-archive:{tmp_path}/app.tar:hub.example:5000/team/app:3").code == 0
    assert control.uploads == dict.fromkeys(("app", "app:2", "team/app:3"), b"tar" * 100)
    assert "team/tools:1" in skerry("image", "list").out
    assert skerry("image", "inspect", "debian:12", "--json").json["name"] == "debian:12"
    assert skerry("image", "export", "debian:12", str(tmp_path / "out.tar")).code == 0
    assert (tmp_path / "out.tar").stat().st_size == 7000
    onto_a_folder = skerry("image", "export", "debian:12", str(tmp_path))
    assert (onto_a_folder.code, onto_a_folder.err) == (2, f"error: cannot write {tmp_path}: it is a folder\n")
    for source in ("ftp://x", "docker-archive:", "oci:"):
        assert f"'{source}': expected docker://REF" in skerry("image", "pull", source).err
    assert skerry("image", "pull", f"oci:{tmp_path}").err.endswith("layout: index.json: No such file or directory\n")


def test_an_oci_layout_is_packed_with_the_one_image_asked_for(
    skerry: Skerry, control: FakeControl, tmp_path: Path
) -> None:
    import io
    import tarfile

    name = "org.opencontainers.image.ref.name"
    manifests = [{"digest": f"sha256:{tag}", "annotations": {name: tag}} for tag in ("one", "two")]
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256/aa").write_bytes(b"layer")
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    (tmp_path / "oci-layout").write_text("{}")
    ambiguous = skerry("image", "pull", f"oci:{tmp_path}")
    assert ambiguous.code == 2
    assert "one, two" in ambiguous.err
    assert skerry("image", "pull", f"oci:{tmp_path}:two", "--name", "mine:1").code == 0
    with tarfile.open(fileobj=io.BytesIO(control.uploads["mine:1"])) as archive:
        assert sorted(found.name for found in archive if found.isfile()) == [
            "blobs/sha256/aa",
            "index.json",
            "oci-layout",
        ]
        index = archive.extractfile("index.json")
        assert index is not None
        assert json.load(index)["manifests"] == [manifests[1]]


def test_the_pipe_may_end_before_we_do(environ: dict[str, str], box: str) -> None:
    command = f"{sys.executable} -c 'from skerry.main import main; main()' exec box seq 100000 | head -1"
    ended = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_colours_are_for_terminals_that_want_them() -> None:
    class Screen(StringIO):
        def isatty(self) -> bool:
            return True

    def printed(environ: dict[str, str], screen: StringIO) -> str:
        Output(environ, screen).table(["NAME", "STATE"], [["a", "running"], ["long", "failed"]])
        return screen.getvalue()

    plain = "NAME  STATE\na     running\nlong  failed\n"
    assert (
        printed({}, StringIO()) == printed({"NO_COLOR": "1"}, Screen()) == printed({"TERM": "dumb"}, Screen()) == plain
    )
    coloured = printed({"TERM": "xterm"}, Screen())
    assert "a     \x1b[32mrunning\x1b[0m\n" in coloured
    assert "long  \x1b[31mfailed\x1b[0m\n" in coloured


def test_a_sentence_stays_in_its_column_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(StringIO):
        def isatty(self) -> bool:
            return True

    say = "none of 3 nodes has room for it now (3 by cpu); the nearest, gpu-1, lacks 2 cores"
    for screen, columns in ((Screen(), "60"), (Screen(), "30"), (StringIO(), "60")):
        monkeypatch.setenv("COLUMNS", columns)
        Output({"NO_COLOR": "1"}, screen).table(["PLACE", "WAITS", "WHY"], [["1", "train-0", say], ["2", "b", "-"]])
        lines = screen.getvalue().splitlines()
        if screen.isatty() and columns == "60":
            assert lines[1].startswith("1      train-0  none of 3 nodes has room")
            assert max(map(len, lines)) <= 60
            assert " ".join(line[16:] for line in lines[1:3]) == say
        else:
            assert len(lines) == 3, "whole where it is read by a program, or there is no room for a sentence"


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1536, 123_456_789, 5 * 1024**3, 3 * 1024**5])
def test_sizes_read_as_the_model_writes_them(size: int) -> None:
    assert human_size(size) == format_size(size)


def test_ages_are_short() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = [human_duration(seconds) for seconds in (0, 59, 75, 3599, 3700, 40_000, 90_000)]
    assert told == ["0s", "59s", "1m15s", "59m", "1h1m", "11h", "1d"]
    assert age((now - timedelta(seconds=5)).isoformat(), now) == "5s"
    assert age(None) == "-"


def test_an_interrupted_pull_is_taken_back(environ: dict[str, str], control: FakeControl) -> None:
    control.slow_watch_s = 60
    script = "from skerry.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "image", "pull", "slow:1"], env=environ, stdout=-1, stderr=-1, text=True
    )
    assert process.stderr is not None
    assert "copying" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing is left" in said
    assert "slow:1" not in [image.name for image in control.images.values()]


def test_questions_are_asked_on_a_terminal_only(environ: dict[str, str], box: str, control: FakeControl) -> None:
    import pty

    for answer, left in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", "from skerry.main import main; main()", "rm", "box"],
            env=environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        time.sleep(0.01)
        os.write(ours, answer)
        assert process.wait(30) == left
        assert len(control.sandboxes) == left
        os.close(ours)
        os.close(theirs)

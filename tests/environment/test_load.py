"""A skerry.yaml read: variables, merging, sizes, profiles and multiplication, and every mistake with its line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.environment.load import Loaded, load
from skerry.environment.opening import open_environment
from skerry.environment.outside import outside
from skerry.environment.problems import Problems


def write(folder: Path, text: str, name: str = "skerry.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None, **how: Any) -> Loaded:
    return load([write(folder, text)], environ=environ or {}, **how)


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Each mistake, without the folder before the file's name."""
    with pytest.raises(Problems) as caught:
        loaded(folder, text, environ)
    return [line.removeprefix(f"{folder}/") for line in caught.value.lines]


def test_the_smallest_file_is_named_after_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop_2"
    folder.mkdir()
    environment = loaded(folder, "sandboxes: {box: {image: 'debian:12'}}").environment
    assert environment.name == "my-shop-2"
    assert environment.sandboxes["box"].folders[0].target == "/workspace"


def test_all_that_is_wrong_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """\
version: 2
sizes: {small: {cpu: 1, colour: 1}}
networks: {backend: {subnet: 10.77.0.0/8}}
sandboxes:
  a:
    image: debian:12
    memory: 12Quux
    imag: x
    cpu: ${CPU}
    ports: ["99999:80", "a:b"]
  b:
    image: debian:12
    provision: [{run: x, script: y}]
  c: {extends: d, size: tiny}
  a: {}
""",
    )
    wanted = [
        ("skerry.yaml:1: version:", "it should be 1"),
        ("skerry.yaml:2: sizes.small.colour:", "a size has cpu, disk, memory, pids"),
        ("skerry.yaml:3: networks.backend.subnet:", "such as 10.77.0.0/24"),
        ("skerry.yaml:7: sandboxes.a.memory:", "expected bytes or a size such as 512MiB"),
        ("skerry.yaml:8: sandboxes.a.imag:", "did you mean image?"),
        ("skerry.yaml:9: sandboxes.a.cpu:", "${CPU} has no value"),
        ("skerry.yaml:10: sandboxes.a.ports[0]:", "ports from 0 to 65535"),
        ("skerry.yaml:10: sandboxes.a.ports[1]:", "[IP:][HOST:]GUEST[/udp]"),
        ("skerry.yaml:13: sandboxes.b.provision[0]:", "exactly one of run, script, copy and ansible"),
        ("skerry.yaml:14: sandboxes.c.extends:", "no template or sandbox 'd'"),
        ("skerry.yaml:14: sandboxes.c.size:", "there is no size 'tiny'; sizes has small"),
        ("skerry.yaml:15: sandboxes.a:", "there twice, first on line 5"),
    ]
    for where, say in wanted:
        assert any(line.startswith(where) and say in line for line in told), (where, say, told)
    assert len(told) <= len(wanted) + 2, told  # and nothing is said twice in other words


@pytest.mark.parametrize(
    ("machines", "say"),
    [
        (
            "a: {image: i, depends_on: [b]}\n  b: {image: i, depends_on: [a]}",
            "wait for each other: a waits for b waits for a",
        ),
        ("a: {image: i, depends_on: [a]}", "wait for each other: a waits for a"),
        (
            "a: {image: i, depends_on: [bb]}\n  b: {image: i}",
            "there is no sandbox 'bb' in this file; did you mean 'b'?",
        ),
        ("a: {image: i, primary: true}\n  b: {image: i, primary: true}", "a is the primary one already"),
        ("a: {image: i, ports: ['80:80']}\n  b: {image: i, ports: ['80:8080']}", "a has 127.0.0.1:80 already"),
        ("a: {image: i, networks: [backend]}", "there is no network 'backend' in this file; declare it"),
        ("a: {image: i, depends_on: {b: completed}}\n  b: {image: i}", "b has no command, so it never completes"),
        ("a: {image: i, depends_on: {b: healthy}}\n  b: {image: i}", "b has neither health nor services"),
        ("a: {image: i, depends_on: [b]}\n  b: {image: i, profiles: [dev]}", "b is left out: it is of the profile dev"),
        ("a: {image: i, name: x}\n  b: {image: i, name: x}", "a is called 'x' too"),
        ("a: {image: i, provision: [{script: gone.sh}]}", "gone.sh is no file"),
        ("a: {image: i, mounts: ['data:/data']}", "there is no volume 'data' in this file"),
        ("a: {image: i, for_each: [x, x]}", "two of them would be called 'a-x'"),
        ("a: {image: i, count: -1}", "give a whole number from 0 to 500"),
        ("a: {extends: b}\n  b: {extends: a}", "these extend each other: a extends b extends a"),
    ],
)
def test_what_lies_between_parts_is_told_too(tmp_path: Path, machines: str, say: str) -> None:
    told = problems(tmp_path, f"sandboxes:\n  {machines}\n")
    assert any(say in line and ": sandboxes." in line for line in told), told


def test_addresses_are_checked_against_their_networks(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """\
networks:
  one: {subnet: 10.77.0.0/24}
  two: {subnet: 10.77.0.0/16}
sandboxes:
  a: {image: i, networks: {one: 10.78.0.5}}
  b: {image: i, networks: {one: 10.77.0.5}}
  c: {image: i, networks: ["one:10.77.0.5"]}
""",
    )
    assert any(line.startswith("skerry.yaml:3: ") and "overlaps that of one" in line for line in told)
    assert any(line.startswith("skerry.yaml:5: ") and "10.78.0.5 is no address" in line for line in told)
    assert any(line.startswith("skerry.yaml:7: ") and "b has 10.77.0.5 already" in line for line in told)


def test_variables_come_from_the_caller_then_the_env_file_then_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MEMORY='256MiB'\nexport BOTH=file # a comment\n")
    machine = loaded(
        tmp_path,
        """\
sandboxes:
  box:
    image: ${IMAGE:-debian:12}
    memory: ${MEMORY}
    cpu: ${CPU:-2}
    public: ${PUBLIC-true}
    env: {BOTH: "${BOTH}", KEPT: "$HOME $${HOME} $$", EMPTY: "${NONE:-}"}
    provision:
      - run: echo ${HOME} {index}
""",
        {"BOTH": "caller", "CPU": ""},
    ).environment.sandboxes["box"]
    assert (machine.image, machine.memory, machine.cpu, machine.public) == ("debian:12", 256 * 1024**2, 2.0, True)
    assert machine.env == {"BOTH": "caller", "KEPT": "$HOME ${HOME} $$", "EMPTY": ""}
    assert machine.provision[0].run == "echo ${HOME} {index}"  # a script's braces are the shell's


def test_a_variable_that_must_be_set_says_why(tmp_path: Path) -> None:
    told = problems(tmp_path, "sandboxes:\n  a: {image: '${IMAGE:?which Debian}'}\n")
    assert told[0] == "skerry.yaml:2: sandboxes.a.image: ${IMAGE} has no value: which Debian"


def test_yaml_means_what_it_looks_like(tmp_path: Path) -> None:
    """YAML 1.1 would read 22:22 as 1342 and the country of Norway as false."""
    machine = loaded(tmp_path, "sandboxes: {a: {image: i, ports: [22:22, 80], env: {COUNTRY: no, N: 010}}}")
    spec = machine.environment.sandboxes["a"]
    assert [(port.host, port.guest) for port in spec.ports] == [(22, 22), (None, 80)]
    assert spec.env["COUNTRY"] == "no"


def test_several_files_extends_sizes_and_anchors(tmp_path: Path) -> None:
    write(tmp_path, "templates: {shared: {image: 'debian:13', env: [FROM=shared]}}", "common.yaml")
    write(tmp_path, "sandboxes: {web: {memory: 1GiB, env: {A: null}}, box: {cpu: 4}}", "over.yaml")
    write(
        tmp_path,
        """\
x-env: &env {A: "1", B: "2"}
sizes: {small: {cpu: 1, memory: 256MiB}}
templates:
  base: {image: debian:12, size: small, labels: [team=core], primary: true}
sandboxes:
  web:
    extends: base
    env: {<<: *env, B: "3"}
  far:
    extends: {file: common.yaml, name: shared}
    env: {MORE: "yes"}
  box: {extends: web, size: small}
""",
    )
    made = load([tmp_path / "skerry.yaml", tmp_path / "over.yaml"], environ={}).environment.sandboxes
    assert made["web"].memory == 1024**3
    assert made["web"].env == {"B": "3"}  # null takes what was inherited away
    assert made["web"].labels == {"team": "core"}
    assert not made["web"].primary  # which one is meant is not inherited
    assert (made["far"].image, made["far"].env) == ("debian:13", {"FROM": "shared", "MORE": "yes"})
    assert (made["box"].cpu, made["box"].memory) == (4, 1024**3)


def test_count_and_for_each_multiply_with_their_numbers(tmp_path: Path) -> None:
    made = loaded(
        tmp_path,
        """\
networks: {net: {subnet: 10.77.0.0/24}}
sandboxes:
  agent:
    image: i
    count: 2
    ports: ["{index+8079}:80"]
    networks: ["net:10.77.0.1{index}"]
    env: {ME: "agent {index-1}", LITERAL: "{indeed}"}
  "{key}-db":
    image: i
    for_each: {eu: 1, us: 2}
    labels: {region: "{key}", rank: "{value}"}
  web: {image: i, depends_on: {agent: started}, env: {X: "{index}"}}
""",
    ).environment.sandboxes
    assert list(made) == ["agent-1", "agent-2", "eu-db", "us-db", "web"]
    assert [made[name].ports[0].host for name in ("agent-1", "agent-2")] == [8080, 8081]
    assert made["agent-2"].networks[0].address == "10.77.0.12"
    assert made["agent-2"].env == {"ME": "agent 1", "LITERAL": "{indeed}"}
    assert made["us-db"].labels == {"region": "us", "rank": "2"}
    assert list(made["web"].depends_on) == ["agent-1", "agent-2"]
    assert made["web"].env == {"X": "{index}"}  # of one that is not multiplied, braces are text


def test_a_profile_brings_its_sandboxes_in(tmp_path: Path) -> None:
    text = "sandboxes: {a: {image: i}, b: {image: i, profiles: [dev]}}"
    assert list(loaded(tmp_path, text).environment.sandboxes) == ["a"]
    assert "--profile dev" in loaded(tmp_path, text).left_out["b"]
    assert list(loaded(tmp_path, text, profiles=["dev"]).environment.sandboxes) == ["a", "b"]
    assert list(loaded(tmp_path, text, names=["b"]).environment.sandboxes) == ["a", "b"]


@pytest.mark.parametrize("text", ["a: [", "a: {b: c\n", "\tx: 1", "- 1", "a: &x [*x]", "? [a]: b", "!!python/x a: 1"])
def test_what_is_no_file_of_ours_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    told = problems(tmp_path, text)
    assert told
    assert all(line.startswith("skerry.yaml") for line in told), told


def test_a_few_lines_that_stand_for_billions_are_refused(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"x-{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "values" in problems(tmp_path, "\n".join(lines))[0]


@given(st.text(alphabet="ab:{}[]-&*<> \n\t'\"$!?#,|0.~", max_size=60))
def test_no_text_is_a_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    with contextlib.suppress(Problems):
        loaded(folder, text)


@pytest.mark.parametrize("name", ["skerry.yaml", ".env", "more.yaml"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "skerry.yaml").write_text("sandboxes: {a: {extends: {file: more.yaml, name: b}}}")
    (tmp_path / "more.yaml").write_text("templates: {b: {image: x}}")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(Problems, match="cannot be read: it is not a file"):
        load([tmp_path / "skerry.yaml"], environ={})


def test_where_a_file_leads_out_of_its_folder_has_to_be_allowed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secrets.env").write_text("A=b")
    (project / ".env").symlink_to(tmp_path / "secrets.env")
    (tmp_path / "over.yaml").write_text("name: x")
    (project / "skerry.yaml").write_text("sandboxes: {a: {image: x, provision: [{name: c, copy: 'd/../../f:/x'}]}}")
    (project / "d").mkdir()
    (tmp_path / "f").touch()
    files = [project / "skerry.yaml", tmp_path / "over.yaml"]
    opened = open_environment(files, environ={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert outside(opened.scene, opened.read, [str(files[1])]) == [f"{tmp_path}/secrets.env", f"{tmp_path}/f"]
    assert f"{tmp_path}/over.yaml" in outside(opened.scene, opened.read)

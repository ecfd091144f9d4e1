"""The README keeps its word: every figure names the command that measured it, every link and make target exists."""

from __future__ import annotations

import re

from tests.house.source import ROOT

README = (ROOT / "README.md").read_text()
FIGURES = (
    "sandbox_life/create_to_output_ms",
    "sandbox_life/exec_ms",
    "sandbox_life/checkpoint_ms",
    "sandbox_life/restore_ms",
    "sandbox_life/fork_x10_ms",
    "sandbox_life/start_ms",
    "cli_start/exec_ms",
    "density/memory_mib_per_sandbox",
    "density/create_per_s",
    "sleep_wake/warm_ms_p50",
    "sleep_wake/cold_ms_p50",
    "api_load/failures",
    "proxy/throughput",
    "up/first_ms",
    "up/no_change_ms",
    "proxy/latency_ms_p50",
)


def rows() -> list[list[str]]:
    table = [line for line in README.splitlines() if line.startswith("|") and "/" in line and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_figure_stands_in_the_table() -> None:
    named = " ".join(row[0] for row in rows())
    assert [figure for figure in FIGURES if figure not in named] == []


def test_every_figure_names_its_command() -> None:
    bare = [
        row[0]
        for row in rows()
        if row[0].strip("`") and not re.fullmatch(r"`make bench`|`python benchmarks/\w+\.py.*`", row[-1])
    ]
    assert bare == []
    named = re.findall(r"python benchmarks/(\w+)\.py", README)
    assert [name for name in named if not (ROOT / f"benchmarks/{name}.py").is_file()] == []


def test_every_link_leads_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*/*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} -> {target}"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s]*[`)\n#])", README))
    assert named - targets == set()

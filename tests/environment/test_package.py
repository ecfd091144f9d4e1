"""What a package takes along of a folder that sandboxes may write: files as they are, and nothing by way of a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skerry.environment.package import take_along
from skerry.errors import Conflict, Invalid


def test_a_package_takes_files_and_links_and_not_itself(tmp_path: Path) -> None:
    project, package = tmp_path / "project", tmp_path / "project/out"
    (project / "conf/sub").mkdir(parents=True)
    (project / "conf/sub/a").write_text("a")
    (project / "conf/link").symlink_to("/etc/passwd")
    os.mkfifo(project / "conf/pipe")
    package.mkdir()
    take_along(project, "conf/sub/a", package)
    take_along(project, ".", package)
    found = sorted(path.relative_to(package).as_posix() for path in package.rglob("*"))
    assert found == ["conf", "conf/link", "conf/sub", "conf/sub/a"]
    assert (package / "conf/link").is_symlink()


def test_a_link_in_the_place_of_a_package_leads_nowhere(tmp_path: Path) -> None:
    project, victim = tmp_path / "project", tmp_path / "victim"
    (project / "conf").mkdir(parents=True)
    (project / "conf/a").write_text("a")
    (project / "out").mkdir()
    victim.mkdir()
    (project / "out/conf").symlink_to(victim)
    with pytest.raises(Conflict):
        take_along(project, "conf", project / "out")
    (project / "conf/b").symlink_to(victim)
    with pytest.raises(Invalid, match="leads out"):
        take_along(project, "conf/b", project / "out")
    assert not list(victim.iterdir())

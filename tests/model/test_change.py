"""How each field of a sandbox changes, and what an update makes of a spec."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from skerry.model.changes import CHANGES, CLEARABLE, Change
from skerry.model.policy import Action
from skerry.model.sandbox import GIB, SandboxSpec, SandboxUpdate, changes

WAS = SandboxSpec.model_validate(
    {
        "image": "debian:12",
        "command": ["sleep", "9"],
        "user": "nobody",
        "env": {"A": "1"},
        "mounts": [{"source": "/srv", "target": "/data"}],
        "network": {"default": "deny", "rules": [{"domain": "a.test"}]},
    }
)


def after(**change: object) -> SandboxSpec:
    return SandboxUpdate.model_validate(change).spec_after(WAS)


def test_every_field_says_how_it_changes() -> None:
    assert CHANGES.keys() == SandboxSpec.model_fields.keys()
    changeable = {field for field, change in CHANGES.items() if change is not Change.REPLACE}
    assert SandboxUpdate.model_fields.keys() - {"policy"} == changeable
    assert all(SandboxSpec.model_fields[field].default is None for field in CLEARABLE)


def test_null_is_a_value_only_where_it_means_something() -> None:
    nothing = dict.fromkeys(SandboxUpdate.model_fields)
    now = after(**nothing)
    assert (now.command, now.user) == (None, None)
    assert changes(WAS, now) == {"command": Change.RESTART, "user": Change.RESTART}
    assert after() == WAS


def test_what_is_given_takes_the_place_of_what_was() -> None:
    now = after(env={"B": "2"}, mounts=[], memory="2GiB", checkpoints={"every_s": 60})
    assert (now.env, now.mounts, now.memory, now.checkpoints.every_s) == ({"B": "2"}, [], 2 * GIB, 60)
    assert changes(WAS, now) == {
        "env": Change.RESTART,
        "mounts": Change.RESTART,
        "memory": Change.LIVE,
        "checkpoints": Change.RECORD,
    }


def test_the_policy_changes_live_and_outlives_the_switch() -> None:
    off = after(network={"enabled": False})
    assert (off.network.enabled, off.network.policy) == (False, WAS.network.policy)
    assert changes(WAS, off) == {"network": Change.RESTART}
    opened = after(policy={"default": "allow"})
    assert (opened.network.enabled, opened.network.default, opened.network.rules) == (True, Action.ALLOW, [])
    assert changes(WAS, opened) == {"network": Change.LIVE}


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="same target"):
        after(mounts=[{"source": "/srv", "target": "/a"}, {"source": "/opt", "target": "/a"}])
    with pytest.raises(ValidationError, match="memory"):
        after(memory=1)

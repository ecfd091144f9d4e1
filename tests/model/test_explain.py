"""What was wrong with a declaration: the path of the field as the user wrote it, and what is allowed there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from skerry.model.explain import explain
from skerry.model.service import ScaleRequest, ServiceSpec
from skerry.model.token import TokenSpec


@pytest.mark.parametrize(
    ("model", "given", "say"),
    [
        (ServiceSpec, {"options": {"a": [1]}}, "options.a: it should be text, a number or true or false"),
        (ServiceSpec, {"scaling": {"minimum": 5, "maximum": 2}}, "scaling.minimum: at most as many as maximum"),
        (ServiceSpec, {"scaling": {"targets": []}}, "scaling.targets: give at least one"),
        (ServiceSpec, {"roles": {"x": 1}}, "roles.x: 'x' is not allowed; it should be 'both', 'prefill' or 'decode'"),
        (ServiceSpec, {"health": "/x"}, "health: '/x' is not allowed; it should be a mapping of names to values"),
        (ServiceSpec, {"command": []}, "command: at least 1 is needed"),
        (ServiceSpec, {"replicas": "x"}, "replicas: 'x' is not allowed; it should be a whole number"),
        (ServiceSpec, {"routing": {"hedge": 0}}, "routing.hedge: 0 is not allowed; give more than 0, at most 600"),
        (ServiceSpec, {"image": "x"}, "port: engine command needs one"),
        (ScaleRequest, {"replicas": 9999}, "replicas: 9999 is not allowed; give 0 to 1024"),
        (TokenSpec, {"limits": {"concurrency": 0}}, "limits.concurrency: 0 is not allowed; give 1 to 1000000"),
    ],
)
def test_the_path_and_what_is_allowed(model: type[BaseModel], given: dict[str, Any], say: str) -> None:
    with pytest.raises(ValidationError) as found:
        model.model_validate(given)
    told = explain(found.value, model)
    assert (told.say, told.field) == (say, say.partition(":")[0])

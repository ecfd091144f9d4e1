"""Backend.AI's model definitions: the examples of its blog and all that its schema has since then."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Place
from skerry.engines.definition import name_of, services
from skerry.errors import Invalid
from skerry.model.service import HealthCheck, ServiceSpec

BLOG = """
models:
  - name: "KoAlpaca-5.8B-model"
    model_path: "/models/KoAlpaca-5.8B"
    service:
      pre_start_actions:
        - action: run_command
          args:
            command: ["pip3", "install", "-r", "/models/requirements.txt"]
      start_command:
        - uvicorn
        - --app-dir
        - /models
        - chatbot-api:app
        - --port
        - "8000"
        - --host
        - "0.0.0.0"
      port: 8000
      health_check:
        path: /health
        max_retries: 10
"""


def one(service: str, **more: Any) -> ServiceSpec:
    indented = "\n".join("      " + line for line in service.strip().split("\n"))
    text = f"models:\n  - name: tide\n    model_path: /models/tide\n    service:\n{indented}\n"
    (found,) = services(text, "debian:12", more)
    return found


def test_the_example_of_the_blog() -> None:
    (spec,) = services(
        BLOG, "cr.backend.ai/pytorch", {"cpu": 4, "mounts": [{"volume": "koalpaca", "target": "/models"}]}
    )
    assert spec.name == "koalpaca-5-8b-model"
    assert spec.models == ["KoAlpaca-5.8B-model"]
    assert spec.model == "/models/KoAlpaca-5.8B"
    assert spec.command is not None
    assert spec.command[:3] == ["uvicorn", "--app-dir", "/models"]
    assert spec.prepare[0][-4:] == ["pip3", "install", "-r", "/models/requirements.txt"]
    assert spec.health == HealthCheck()
    assert (spec.port, spec.cpu) == (8000, 4)
    found = ENGINES[spec.engine].launch(spec, Place(model=spec.model), spec.name)
    assert found.env == {"BACKEND_MODEL_NAME": "KoAlpaca-5.8B-model", "BACKEND_MODEL_PATH": "/models/KoAlpaca-5.8B"}


def test_a_name_for_people_is_no_name_for_clients() -> None:
    """One of a catalog's: clients give the service's name, and the server inside finds its own."""
    text = BLOG.replace("KoAlpaca-5.8B-model", "Simple HTTP Server (v2)")
    (spec,) = services(text, "debian:12", {"env": {"A": "1"}})
    assert (spec.name, spec.models) == ("simple-http-server-v2", [])
    assert spec.env == {"BACKEND_MODEL_NAME": "Simple HTTP Server (v2)", "A": "1"}


def test_all_fields_and_their_defaults() -> None:
    spec = one(
        """
start-command: vllm serve {model_path} && true
port: 9000
health-check:
  {enable: true, path: /ok, interval: 2, max_retries: 3, max-wait-time: 4, expected_status_code: 204, initial_delay: 5}
"""
    )
    assert spec.command == ["/bin/bash", "-c", "vllm serve /models/tide && true"]
    assert spec.health == HealthCheck(
        path="/ok", interval=2, max_retries=3, max_wait_time=4, expected_status_code=204, initial_delay=5
    )
    assert one("port: 80\nhealth_check: {}").health == HealthCheck()
    assert one("port: 80\nhealth_check: {enable: false}").health is None
    assert one("port: 80").command is None
    assert one("port: 80\ncommand: serve 'a b'\nshell: null").command == ["serve", "a b"]
    assert one("port: 80\nstart_command: serve\nshell: /bin/sh").command == ["/bin/sh", "-c", "serve"]


def test_models_without_a_service_and_metadata_are_passed_over() -> None:
    text = """
models:
  - {name: data, model_path: /models/data}
  - name: a
    model_path: /models/a
    service: {port: 80}
    metadata: {author: me, min_resource: {cpu: 1, mem: 2g}, label: [x], anything: else}
  - {name: b, model_path: /models/b, service: {port: 81}}
"""
    assert [spec.name for spec in services(text, "debian:12")] == ["a", "b"]
    assert name_of("__") == "model"


def test_what_comes_before_the_start_does_what_backend_ai_does(tmp_path: Path) -> None:
    spec = one(
        f"""
port: 80
pre_start_actions:
  - {{action: mkdir, args: {{path: "{tmp_path}/{{model_name}}/deep"}}}}
  - action: write_file
    args: {{filename: "{tmp_path}/a.txt", body: ["path = {{model_path}}", "{{{{}}}} %s {{other}}"], mode: "600"}}
  - {{action: write_file, args: {{filename: "{tmp_path}/a.txt", body: [more], append: true}}}}
  - {{action: run_command, args: {{command: ["touch", "{tmp_path}/{{model_name}}"]}}}}
  - {{action: run_command, args: {{command: ["false"]}}}}
  - {{action: log, args: {{message: "ready: {{model_name}}", debug: true}}}}
  - {{action: write_tempfile, args: {{body: ["print(1)", "print(2)"]}}}}
"""
    )
    said = [subprocess.run(step, check=True, capture_output=True, text=True) for step in spec.prepare]
    assert (tmp_path / "tide" / "deep").is_dir()
    assert (tmp_path / "a.txt").read_text() == "path = /models/tide\n{} %s {other}\nmore\n"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644  # by the second, as there
    assert "false ended with 1" in said[4].stderr
    assert said[5].stdout == "ready: tide\n"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("models: [", None),
        ("{}", "models"),
        ("models: []", "models"),
        ("models: [{name: a}]", "models[0].model_path"),
        ("models: [{name: a, model_path: here}]", "models[0].model_path"),
        ("models: [{name: a, model_path: /m}]", "models"),
        ("models: [{name: a, model_path: /m, service: {}}]", "models[0].service.port"),
        ("models: [{name: a, model_path: /m, service: {port: 1}}]", "models[0].service.port"),
        ("models: [{name: a, model_path: /m, service: {port: 80, prot: 1}}]", "models[0].service.prot"),
        (
            "models: [{name: a, model_path: /m, service: {port: 80, health_check: {interval: 0}}}]",
            "models[0].service.health_check.interval",
        ),
        (
            "models: [{name: a, model_path: /m, service: {port: 80, pre_start_actions: [{action: fly}]}}]",
            "models[0].service.pre_start_actions[0].action",
        ),
        (
            "models: [{name: a, model_path: /m, service: {port: 80, pre_start_actions: [{action: mkdir, args: {}}]}}]",
            "models[0].service.pre_start_actions[0].args.path",
        ),
        (
            "models: [{name: a, model_path: /m, service: {port: 80, shell: '', start_command: \"'\"}}]",
            "models[0].service.start_command",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_path(text: str, field: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        services(text, "debian:12")
    assert caught.value.field == field
    assert caught.value.say.startswith(field or "this is not YAML at line 1")

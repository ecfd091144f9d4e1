"""Jobs by the SDK: declared in short forms, waited for, read, cancelled; every kind of client alike."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.client import flows
from skerry.client.call import NOTHING, Call, Pause, Reply
from skerry.client.calls import jobs as calls
from skerry.errors import Conflict, DeadlineExceeded, Failed, Invalid, Unavailable
from skerry.model.job import JOB_FINAL, JobSpec, Outcome
from tests.client.fake_control import FakeControl


def test_the_words_are_the_models() -> None:
    assert {state.value for state in JOB_FINAL} == calls.FINAL
    assert set(calls.OUTCOMES) == {outcome.value for outcome in Outcome}
    assert set(calls.JobOptions.__annotations__) == set(JobSpec.model_fields) - {"image", "command"}


def test_short_forms_become_what_the_model_knows() -> None:
    body = calls.job_body(
        "debian:12",
        "python3 train.py",
        {
            "array": "0-3",
            "mounts": ["data:/data"],
            "secrets": ["token=TOKEN"],
            "network": False,
            "retry": 2,
            "depends_on": ["first", "second:failed"],
            "notify": [{"slack": "https://hooks.example/x", "on": "failed"}],
            "timeout": "1h",
            "name": None,
        },
    )
    spec = JobSpec.model_validate(body)
    assert spec.command == ["/bin/sh", "-c", "python3 train.py"]
    assert (spec.indices, spec.retry.limit, spec.timeout, spec.network.enabled) == ([0, 1, 2, 3], 2, 3600, False)
    assert [(one.job, one.outcome.value) for one in spec.depends_on] == [("first", "succeeded"), ("second", "failed")]
    assert "name" not in body
    with pytest.raises(Invalid, match="expected JOB, or JOB:OUTCOME"):
        calls.dependency_from_text("a:healthy")


def test_a_job_from_submission_to_its_end(client: Any, control: FakeControl) -> None:
    job = client.jobs.submit("debian:12", ["true"], name="sweep", sweep={"lr": [0.1, 0.01]}, labels={"team": "a"})
    assert (job.name, job.progress.total, job.progress.running) == ("sweep", 2, 2)
    assert job.info().spec.parameters(1) == {"lr": 0.01}
    with pytest.raises(Conflict):
        job.delete()
    assert [task.index for task in job.tasks(state="running")] == [0, 1]
    assert job.logs(1, rank=0, tail=1) == "task 1 rank 0 ends\n"
    assert "".join(job.follow_logs(0)) == "task 0 rank 0 begins\ntask 0 rank 0 ends\n"
    job.cancel(indices=[1])
    assert job.task(1).state == "cancelled"
    assert job.wait(check=True).state == "succeeded"
    assert [found.id for found in client.jobs.list(labels={"team": "a"}, state="succeeded")] == [job.id]
    client.jobs.connect("sweep").delete()
    assert client.jobs.list() == []


def test_how_it_ended_is_told_or_raised(client: Any, control: FakeControl) -> None:
    control.jobs.ends["bad"] = 3
    client.jobs.submit("debian:12", "exit 3", name="bad")
    with pytest.raises(DeadlineExceeded, match="bad has not ended yet: it is running"):
        client.jobs.wait("bad", timeout_s=0)
    with pytest.raises(Failed, match="bad failed: task 0 ended with code 3"):
        client.jobs.wait("bad", check=True)
    assert client.jobs.wait("bad").state == "failed"
    stopped = client.jobs.submit("debian:12", "sleep 9", name="bad")
    assert client.jobs.cancel("bad", "no time").state == "cancelled"
    assert stopped.state == "cancelled"


def test_a_wait_outlives_a_server_that_is_away_for_a_while() -> None:
    now = [0.0]

    def begun() -> flows.Flow[Any]:
        flow = flows.end(lambda wait_s: Call("GET", "/job"), {"succeeded"}, timeout_s=100, now=lambda: now[0])
        assert isinstance(next(flow), Call)
        return flow

    running = Reply(200, {"name": "train", "state": "running"})
    with pytest.raises(Unavailable):  # it was never there
        begun().throw(Unavailable("it is not running"))
    flow = begun()
    assert isinstance(flow.send(running), Call)
    for _ in range(3):
        now[0] += 20
        assert isinstance(flow.throw(Unavailable("it is not running")), Pause)
        assert isinstance(flow.send(NOTHING), Call)
    assert isinstance(flow.send(running), Call)
    assert isinstance(flow.throw(Unavailable("it is not running")), Pause)
    flow.send(NOTHING)
    now[0] += 40
    with pytest.raises(Unavailable):  # until its own time is over
        flow.throw(Unavailable("it is not running"))


def test_a_pause_is_kept_by_both_transports(client: Any, control: FakeControl) -> None:
    job = client.jobs.submit("debian:12", ["true"], name="pauses")
    control.away = 1
    assert job.wait().state == "succeeded"
    assert control.away == 0

"""blocked -> pending or skipped: once the jobs that it depends on have ended, as it wants them to or otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from skerry.model.job import JOB_FINAL, Dependency, Job, JobState, Outcome, When
from skerry.store.store import Store

BATCH_MAX = 20_000
MET_BY = {
    Outcome.SUCCEEDED: frozenset({JobState.SUCCEEDED}),
    Outcome.FAILED: frozenset({JobState.FAILED}),
    Outcome.FINISHED: JOB_FINAL,
}


class DependJobs:
    moves: ClassVar = frozenset({(JobState.BLOCKED, JobState.PENDING), (JobState.BLOCKED, JobState.SKIPPED)})

    def __init__(self, store: Store) -> None:
        self._store = store

    async def step(self) -> None:
        async with self._store.read() as tx:
            blocked = await tx.jobs.in_states([JobState.BLOCKED], BATCH_MAX)
            if not blocked:
                return
            wanted = sorted({each.job for job in blocked for each in job.spec.depends_on})
            states = {job_id: JobState(state) for job_id, state in (await tx.jobs.states_of(wanted)).items()}
        decided = [(job, found) for job in blocked if (found := decide(job, states)) is not None]
        if not decided:
            return
        async with self._store.write() as tx:
            for job, (to, reason) in decided:
                changes = {"reason": reason or None}
                if to is JobState.SKIPPED:
                    ended = job.model_copy(update={"state": to})
                    changes |= {"ended_at": tx.now, "progress": (await tx.tasks.progress([ended]))[job.id]}
                written = await tx.jobs.move(job, to, to.value, message=reason, changes=changes)
                if written is not None and to is JobState.SKIPPED:
                    await tx.notices.add(written, When.FINISHED)


def decide(job: Job, states: Mapping[str, JobState]) -> tuple[JobState, str] | None:
    """None: it waits on. `states`: of those of the jobs that there are."""
    wait = False
    for each in job.spec.depends_on:
        state = states.get(each.job)
        if state is None:
            return JobState.SKIPPED, f"job {each.job}, which it depends on, was deleted"
        if state not in JOB_FINAL:
            wait = True
        elif state not in MET_BY[each.outcome]:
            return JobState.SKIPPED, _unmet(each, state)
    return None if wait else (JobState.PENDING, "")


def _unmet(dependency: Dependency, state: JobState) -> str:
    return f"job {dependency.job} has {_said(state)}, and it was to have {dependency.outcome.value}"


def _said(state: JobState) -> str:
    return {JobState.CANCELLED: "been cancelled", JobState.SKIPPED: "been skipped"}.get(state, state.value)

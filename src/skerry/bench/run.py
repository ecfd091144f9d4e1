"""A run: one process sends, or several each a part, all by one clock; their records come together here."""

from __future__ import annotations

import gc
import os
import pickle
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic

import numpy as np
import uvloop

from skerry.bench import build
from skerry.bench.client.driver import Carrier, Driver
from skerry.bench.client.pool import Pool
from skerry.bench.client.target import read_url
from skerry.bench.contract import Record
from skerry.bench.data.text import writer
from skerry.bench.frame import Frame, Gathering
from skerry.bench.measure.metrics import in_window
from skerry.bench.plan import DataKind, Plan
from skerry.bench.records import read_record, write_record
from skerry.errors import Failed, SkerryError, Unavailable

START_S = 0.1
"""Until workers begin together, when all are ready."""
READY = b"ready\n"
CONNECTIONS_MAX = 4096
SPARE = 16
"""Connections that an open loop has ready: more than come at once of 300 a second."""

Told = Callable[[Record], None]
Enough = Callable[[Record], bool]


def run(plan: Plan, told: Told | None = None, enough: Enough | None = None) -> Frame:
    """All records, by the time at which they were meant to be sent. `told`: of each as it ends. `enough`: of each too;
    once it is true nothing more is sent, and what is under way is let go. Raises Invalid, Failed,
    Unavailable when the target cannot be reached."""
    records = Gathering()
    ended = False

    def done(record: Record) -> bool:
        nonlocal ended
        if not ended:
            records.add(record)
            if told is not None:
                told(record)
            ended = enough is not None and enough(record)
        return ended

    if plan.workers == 1:
        uvloop.run(drive(plan, done))
    else:
        _in_processes(plan, done)
    return records.frame().by_intended()


def counted(plan: Plan, frame: Frame) -> Frame:
    """Without warm-up and cool-down. `frame`: by the time at which they were meant to be sent."""
    if plan.warmup_requests:
        frame = frame.take(np.arange(len(frame)) >= plan.warmup_requests)
    if not len(frame) or not (plan.warmup or plan.cooldown):
        return frame
    return in_window(frame, plan.warmup, float(frame["intended_s"].max()) - plan.cooldown + 1e-9)


async def drive(plan: Plan, done: Enough, worker: int = 0, begin: Callable[[], float] = monotonic) -> None:
    """One worker's part. `begin`: called when all is ready, and tells the moment at which it begins."""
    carrier = _carrier(plan)
    write = writer(plan.tokenizer)
    schedule = build.load(plan, worker, plan.workers, write)
    multi_turn = any(
        data.kind in (DataKind.SYNTHETIC, DataKind.SHAREGPT) and data.turns.strip() not in ("1", "D(1)")
        for data in plan.data
    )
    users = plan.load.concurrency or plan.load.in_flight_max or 1
    connections = min(CONNECTIONS_MAX, -(-users // plan.workers))
    driver = Driver(
        carrier,
        schedule,
        done,
        timeout_s=plan.timeout,
        keep_text=plan.keep_text or multi_turn,
        count=None if plan.tokenizer is None else write.count,
        worker=worker,
    )
    gc.disable()  # a collection takes milliseconds, and what a run makes has no cycles
    try:
        await driver.run(connections=connections, drain_s=plan.drain, begin=begin)
    except ssl.SSLCertVerificationError as error:
        say = f"{plan.url}: its certificate is not trusted ({error.verify_message}); give --ca FILE or --insecure"
        raise Unavailable(say, because=repr(error)) from None
    except OSError as error:
        say = f"nobody answers at {plan.socket or plan.url}: {error.strerror or error}"
        raise Unavailable(say, because=repr(error)) from None
    finally:
        gc.enable()


def _carrier(plan: Plan) -> Carrier:
    """Raises Invalid."""
    if plan.engine is not None:
        from skerry.bench.client.library import Library, engine_of

        return Library(engine_of(plan.engine, plan.model))
    target = read_url(plan.url, socket=plan.socket, headers=dict(plan.headers), verify=plan.verify, ca=plan.ca)
    bounded = plan.load.concurrency or plan.load.in_flight_max
    return Pool(target, 0 if bounded else min(SPARE, plan.load.requests or SPARE))


def _in_processes(plan: Plan, done: Enough) -> None:
    """Raises Failed."""
    lock = threading.Lock()
    stopped = threading.Event()
    told: list[str] = []

    def follow(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                with lock:
                    if done(read_record(line)):
                        stopped.set()
                        for each in workers:
                            each.kill()
                        return
        except (ValueError, TypeError) as error:
            told.append(f"it wrote what is no record: {error}")
            process.kill()

    workers: list[subprocess.Popen[bytes]] = []
    try:
        for worker in range(plan.workers):
            workers.append(_started(worker, plan))
        if _begun(workers):
            threads = [threading.Thread(target=follow, args=(process,), daemon=True) for process in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for process in workers:  # which wait for each other
                assert process.stdin is not None
                process.stdin.close()
        for process in workers:
            assert process.stderr is not None
            says = process.stderr.read().decode(errors="replace").strip()
            if process.wait() and not told and not stopped.is_set():
                told.append(says.splitlines()[-1] if says else f"code {process.returncode}")
    finally:
        for process in workers:
            process.kill()
            process.wait()
    if told:
        raise Failed(f"{len(told)} of {plan.workers} workers failed: {told[0]}")


def _started(worker: int, plan: Plan) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skerry.bench.worker", str(worker)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(plan))
    process.stdin.flush()
    return process


def _begun(workers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Told to begin together when all are ready. False: one has ended."""
    for process in workers:
        assert process.stdout is not None
        if process.stdout.readline() != READY:
            return False
    begin_s = monotonic() + START_S
    for process in workers:
        assert process.stdin is not None
        process.stdin.write(b"%r\n" % begin_s)
        process.stdin.close()
    return True


def work(worker: int) -> None:
    """A worker's own program: the plan comes on stdin and then the moment to begin; records go out on stdout."""
    plan: Plan = pickle.load(sys.stdin.buffer)  # of our own program
    out = os.fdopen(os.dup(1), "w", buffering=64 * 1024)

    def done(record: Record) -> bool:
        write_record(out, record)
        return False

    def begin() -> float:
        out.write(READY.decode())
        out.flush()
        if not (line := sys.stdin.buffer.readline()):
            sys.exit()  # another failed
        return float(line)

    try:
        uvloop.run(drive(plan, done, worker, begin))
    except SkerryError as error:
        sys.exit(error.say)  # on stderr
    out.flush()

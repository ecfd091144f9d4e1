"""What the simulator counts, under the names that vLLM uses, in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left

from skerry.engines.simulator.core import Engine
from skerry.engines.simulator.profile import BLOCK_TOKENS
from skerry.engines.simulator.work import Work

TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TPOT_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
WHOLE_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)


class Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        lines = [f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
        return [*lines, f"{name}_sum{{{labels}}} {self._sum}", f"{name}_count{{{labels}}} {total}"]


class Observed:
    """Times are of the engine: where it runs faster than real time, longer than those on the clock."""

    def __init__(self) -> None:
        self._ttft = Histogram(TTFT_S)
        self._tpot = Histogram(TPOT_S)
        self._whole = Histogram(WHOLE_S)
        self._queue = Histogram(WHOLE_S)
        self._ended = {"stop": 0, "length": 0, "abort": 0}

    def first(self, work: Work) -> None:
        self._ttft.add(work.ttft_s)
        self._queue.add(work.started_s - work.arrived_s)

    def ended(self, work: Work, reason: str) -> None:
        self._ended[reason] += 1
        if work.first_s >= 0:
            self._whole.add(work.ended_s - work.arrived_s)
        if work.made > 1:
            self._tpot.add(work.tpot_s)

    def text(self, engine: Engine, model: str, waiting_adapters: str, asleep: bool) -> str:
        labels = f'model_name="{model}",engine="0"'
        counters = engine.counters
        values: list[tuple[str, str, float]] = [
            ("num_requests_running", "gauge", engine.running),
            ("num_requests_waiting", "gauge", engine.waiting),
            ("kv_cache_usage_perc", "gauge", engine.cache_use),
            ("gpu_cache_usage_perc", "gauge", engine.cache_use),  # its name before vLLM 0.10
            ("engine_sleep_state", "gauge", int(asleep)),
            ("prefix_cache_queries_total", "counter", counters.queried_tokens),
            ("prefix_cache_hits_total", "counter", counters.hit_tokens),
            ("num_preemptions_total", "counter", counters.preemptions),
            ("prompt_tokens_total", "counter", counters.prompt_tokens),
            ("generation_tokens_total", "counter", counters.generated_tokens),
        ]
        lines: list[str] = []
        for name, kind, value in values:
            lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{labels}}} {value}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason, count in self._ended.items():
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}')
        running = ",".join(sorted(engine.adapters_active))
        config = f'block_size="{BLOCK_TOKENS}",num_gpu_blocks="{engine.profile.blocks}",engine="0"'
        adapters = f'running_lora_adapters="{running}",waiting_lora_adapters="{waiting_adapters}"'
        lines += [
            "# TYPE vllm:lora_requests_info gauge",
            f'vllm:lora_requests_info{{{adapters},max_lora="{engine.profile.adapters}"}} 1',
            "# TYPE vllm:cache_config_info gauge",
            f"vllm:cache_config_info{{{config}}} 1",
        ]
        lines += self._ttft.lines("vllm:time_to_first_token_seconds", labels)
        lines += self._tpot.lines("vllm:inter_token_latency_seconds", labels)
        lines += self._tpot.lines("vllm:time_per_output_token_seconds", labels)  # its name before vLLM 0.11
        lines += self._whole.lines("vllm:e2e_request_latency_seconds", labels)
        lines += self._queue.lines("vllm:request_queue_time_seconds", labels)
        return "\n".join(lines) + "\n"

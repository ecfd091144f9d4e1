"""What the simulated engine is like: its limits, and how long its steps take. Defaults: an 8B model on one H100."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_TOKENS = 16
TOKENS_AT_ONCE = 8192
SEQUENCES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Profile:
    """A step takes `step_s` + `prefill_s` for each token of prompts computed in it + `attention_s` for each pair of
    such a token and one before it + `sequence_s` for each answer that gets a token + `context_s` for each token of
    context of those answers, all times `slowness`.

    The defaults are worked out, not fitted: weights of 16 GB in bfloat16 read at 2.5 TB/s are 6.4 ms; 16 GFLOP a token
    at 550 TFLOP/s are 29 us; 131,072 bytes of cache a token (32 layers, 8 heads of 128) read at 2.5 TB/s are 52 ns;
    524,288 FLOP for a pair in attention at 400 TFLOP/s are 1.3 ns; of 72 GB, 54 are left for 25,600 blocks.
    """

    blocks: int = 25_600
    """Of KV cache, of `BLOCK_TOKENS` tokens each."""
    sequences: int = SEQUENCES_AT_ONCE
    """max_num_seqs: answers that are worked on at once."""
    batch_tokens: int = TOKENS_AT_ONCE
    """max_num_batched_tokens: in one step; longer prompts are computed in chunks."""
    model_tokens: int = 131_072
    """max_model_len: prompt and answer together."""
    prefix_cache: bool = True
    step_s: float = 7e-3
    prefill_s: float = 29e-6
    attention_s: float = 1.3e-9
    sequence_s: float = 29e-6
    context_s: float = 52e-9
    adapters: int = 4
    """max_loras: LoRA adapters in one step."""
    adapters_kept: int = 16
    """max_cpu_loras: kept in the machine's memory, so that using them again costs `adapter_swap_s` only."""
    adapter_load_s: float = 0.4
    adapter_swap_s: float = 0.02
    transfer_s: float = 5e-3
    """Of KV cache from another engine: before the first byte,"""
    transfer_token_s: float = 5.2e-6
    """and for each token: 131,072 bytes at 25 GB/s."""
    hold_s: float = 480.0
    """Cache that is kept for another engine to fetch is let go after so long, as vLLM's NIXL connector does."""
    slowness: float = 1.0

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.sequences < 1 or self.adapters < 1:
            raise ValueError("blocks, sequences and adapters: at least 1")
        if self.batch_tokens < self.sequences:
            raise ValueError("batch_tokens: at least as many as sequences")
        if min(self.step_s, self.prefill_s + self.step_s) <= 0 or self.slowness <= 0:
            raise ValueError("step_s and slowness: more than 0")

    @property
    def tokens(self) -> int:
        """That fit into the cache, and into the model."""
        return min(self.blocks * BLOCK_TOKENS, self.model_tokens)

"""Train a small GPT that transformers loads. It learns to sort: asked for `hbadfe` it is to answer `abdefh`.

It leaves its weights, its configuration and its tokenizer in $SKERRY_OUTPUT/model, which is all that a server needs."""

from __future__ import annotations

import math
import os
import random
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

LETTERS, WORD_LENGTH = "abcdefghij", 6
UNKNOWN, END = "?", "<end>"
SYMBOLS = [*LETTERS, ">", UNKNOWN, END]
"""A token each."""
TEMPLATE = "{{ messages[-1].content }}>"
"""What the model is given of a chat: it has learned nothing of what was said before."""
WIDTH, HEADS, LAYERS = 48, 4, 2
STEPS = int(os.environ.get("STEPS", "300"))
BATCH = 128
RATE, WARMUP_STEPS = 5e-3, 20
REPORT_STEPS = 25
TRIED = 100
"""Words that it is tried with at the end."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({symbol: at for at, symbol in enumerate(SYMBOLS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, unk_token=UNKNOWN)
    made.chat_template = TEMPLATE
    return made


def make_model() -> GPT2LMHeadModel:
    end = SYMBOLS.index(END)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(SYMBOLS),
            n_positions=2 * WORD_LENGTH + 2,
            n_embd=WIDTH,
            n_head=HEADS,
            n_layer=LAYERS,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def words(count: int, seed: int) -> list[str]:
    draw_from = random.Random(seed)
    return ["".join(draw_from.choices(LETTERS, k=WORD_LENGTH)) for _ in range(count)]


def loss_of(model: GPT2LMHeadModel, step: int) -> torch.Tensor:
    """Of what comes after the `>` only: nobody can know the letters before."""
    lines = [[*word, ">", *sorted(word), END] for word in words(BATCH, step)]
    ids = torch.tensor([[SYMBOLS.index(symbol) for symbol in line] for line in lines])
    asked = ids.clone()
    asked[:, : WORD_LENGTH + 1] = -100  # which transformers leaves out
    return model(input_ids=ids, labels=asked).loss


def sorted_right(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> int:
    tried = words(TRIED, -1)
    given = tokenizer([f"{word}>" for word in tried], return_tensors="pt")
    said = model.eval().generate(**given, max_new_tokens=WORD_LENGTH + 1, do_sample=False, pad_token_id=0)
    answers = tokenizer.batch_decode(said[:, WORD_LENGTH + 1 :], skip_special_tokens=True)
    return sum(answer == "".join(sorted(word)) for word, answer in zip(tried, answers, strict=True))


def save(output: Path, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Beside, then under its name: who looks for a model never finds half of one."""
    draft, final = output / "draft", output / "model"
    for made in (model, tokenizer):
        made.save_pretrained(draft)
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer, model = make_tokenizer(), make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(step / WARMUP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        loss = loss_of(model, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % REPORT_STEPS == 0:
            print(f"step {step}, loss {loss.item():.4f}")
    print(f"{sorted_right(model, tokenizer)} of {TRIED} words are sorted right")
    save(Path(os.environ.get("SKERRY_OUTPUT", "output")), model, tokenizer)


if __name__ == "__main__":
    main()

"""Train a small GPT on several machines at once. It learns to sort: after `hbadfe>` it is to write `abdefh`.

Run once on each machine, with the environment that a gang job or torchrun gives: RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. Rank 0 keeps checkpoints, losses and their picture in $SKERRY_OUTPUT; whoever starts goes on from the
newest checkpoint there. Every batch is made from its step's number, so what is done again is done the same way."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import torch
import torch.distributed as dist
from picture import draw
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

LETTERS, WORD_LENGTH = "abcdefghij", 6
SYMBOLS = LETTERS + ">"
WIDTH, HEADS, LAYERS = 48, 4, 2
STEPS = int(os.environ.get("STEPS", "600"))
BATCH = 64
"""Lines in a step of each worker."""
RATE, WARMUP_STEPS = 5e-3, 20
REPORT_STEPS, CHECKPOINT_STEPS = 5, 25
CHECKPOINTS_KEPT = 2


class Block(nn.Module):
    """Attention to what came before, then a look at each place by itself; both added to what was there."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.ask, self.answer = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.think = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        count, length, _ = x.shape
        parts = self.ask(self.before(x)).view(count, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.answer(seen.transpose(1, 2).reshape(count, length, WIDTH))
        return x + self.think(self.between(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.symbol = nn.Embedding(len(SYMBOLS), WIDTH)
        self.place = nn.Embedding(2 * WORD_LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, len(SYMBOLS))

    def forward(self, symbols: Tensor) -> Tensor:
        places = torch.arange(symbols.shape[1])
        return self.head(self.blocks(self.symbol(symbols) + self.place(places)))


def words(count: int, *seed: int) -> list[str]:
    draw_from = random.Random(str(seed))
    return ["".join(draw_from.choices(LETTERS, k=WORD_LENGTH)) for _ in range(count)]


def encoded(lines: list[str]) -> Tensor:
    return torch.tensor([[SYMBOLS.index(symbol) for symbol in line] for line in lines])


def loss_of(model: nn.Module, step: int, rank: int) -> Tensor:
    """Of the letters after the `>` only: nobody can know those before."""
    lines = encoded([f"{word}>{''.join(sorted(word))}" for word in words(BATCH, step, rank)])
    said = model(lines[:, :-1])[:, WORD_LENGTH:]
    return functional.cross_entropy(said.flatten(0, 1), lines[:, WORD_LENGTH + 1 :].flatten())


def sort_by(model: nn.Module, asked: list[str]) -> list[str]:
    lines = encoded([f"{word}>" for word in asked])
    with torch.no_grad():
        for _ in range(WORD_LENGTH):
            lines = torch.cat([lines, model(lines)[:, -1:].argmax(-1)], dim=1)
    return ["".join(SYMBOLS[number] for number in line[WORD_LENGTH + 1 :]) for line in lines.tolist()]


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06}.pt"


def save(folder: Path, step: int, state: dict[str, object]) -> None:
    """Whole or not at all: whoever looks for the newest never finds half of one."""
    draft = folder / "draft"
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(_checkpoint(folder, step))
    for old in sorted(folder.glob("step-*.pt"))[:-CHECKPOINTS_KEPT]:
        old.unlink()


def resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The step to go on from. Rank 0 looks which, so that all go on from the same one."""
    found = [int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.pt")]
    newest = torch.tensor(max(found, default=0))
    dist.broadcast(newest, 0)
    step = int(newest)
    if step > 0:
        state = torch.load(_checkpoint(folder, step))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    return step


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, workers, attempt = dist.get_rank(), dist.get_world_size(), int(os.environ.get("SKERRY_ATTEMPT", "0"))
    output = Path(os.environ.get("SKERRY_OUTPUT", "output"))
    checkpoints, losses = output / "checkpoints", output / "losses.csv"
    checkpoints.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    begun = resume(checkpoints, model, optimizer)
    print(f"attempt {attempt}: worker {rank} of {workers} goes on from step {begun} of {STEPS}")

    together = DistributedDataParallel(model)
    for step in range(begun + 1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(step / WARMUP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        loss = loss_of(together, step, rank)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % REPORT_STEPS == 0:
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            if rank == 0:
                print(f"attempt {attempt}: step {step}, loss {mean.item() / workers:.4f}")
                with losses.open("a") as file:
                    file.write(f"{attempt},{step},{mean.item() / workers:.4f}\n")
        if rank == 0 and (step % CHECKPOINT_STEPS == 0 or step == STEPS):
            save(checkpoints, step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            draw(losses, output / "loss.svg")

    if rank == 0:
        asked = words(100, -1)
        said = sort_by(model, asked)
        right = sum(answer == "".join(sorted(word)) for word, answer in zip(asked, said, strict=True))
        (output / "sample.txt").write_text(
            "".join(f"{word}>{answer}\n" for word, answer in zip(asked, said, strict=True))
        )
        print(f"{right} of {len(asked)} words are sorted right, such as {asked[0]}>{said[0]}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

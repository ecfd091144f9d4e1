"""Have safetensors written as a GGUF file by a program of its own, which ends when whoever wanted it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from skerry.agent.commands import running
from skerry.agent.images.progress import Progress, Step
from skerry.agent.models.cache import ModelCache
from skerry.errors import Failed, Invalid
from skerry.model.weights import GgufType, ModelFile

REFUSED = 3
"""Exit code of a program that says in one line on stdout why it does not."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
TOLD_BYTES_MAX = 64 * 1024


class Converter:
    async def convert(
        self, cache: ModelCache, files: Sequence[ModelFile], kind: GgufType, held: set[str], tell: Progress
    ) -> ModelFile:
        """`held`: of the cache. Raises Invalid where the model is none that can be converted, with what can."""
        if not any(file.path.endswith(".safetensors") for file in files):
            raise Invalid("convert: there are no safetensors in it", field="convert")
        size_bytes = sum(file.size_bytes for file in files if file.path.endswith(".safetensors"))
        cache.expect(size_bytes)
        folder = Path(tempfile.mkdtemp(prefix="convert-", dir=cache.unfinished))
        held.add(folder.name)
        try:
            source, target = folder / "source", folder / "model.gguf"
            await asyncio.to_thread(cache.link, files, source)
            await self._run(source, target, kind, size_bytes, tell)
            sha256 = await asyncio.to_thread(_sha256, target)
            file = ModelFile(path="model.gguf", size_bytes=target.stat().st_size, sha256=sha256)
            held.add(sha256)
            cache.take(target, sha256)
            return file
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run(self, source: Path, target: Path, kind: GgufType, size_bytes: int, tell: Progress) -> None:
        def on_line(line: str) -> None:
            word, _, number = line.partition(" ")
            if word == "done" and number.isdigit():
                tell(Step.CONVERT, min(int(number), size_bytes), size_bytes)

        tell(Step.CONVERT, 0, size_bytes)
        command = [sys.executable, "-m", "skerry.agent.models.convert.program", str(source), str(target), kind.value]
        said = b""
        async with running(command, environment=ENVIRONMENT, on_line=on_line) as program:
            async for chunk in program.chunks():
                said = (said + chunk)[:TOLD_BYTES_MAX]
            code, stderr = await program.wait()
        if code == REFUSED:
            raise Invalid("convert: " + said.decode(errors="replace").strip(), field="convert")
        if code != 0:
            raise Failed("the program that converts models failed; the agent's log says why", because=stderr[-2000:])


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(8 * 1024 * 1024):
            found.update(data)
        os.fsync(file.fileno())
    return found.hexdigest()

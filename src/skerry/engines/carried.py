"""Servers of ours that run inside a replica: their code is packed into a variable, so that any image with Python does.

A mount of the host's own package was refused: machines of a cluster may have none at the same place or of another
version; an image of ours as well: there would have to be a registry that has it.
"""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from functools import cache
from importlib.resources import files

VARIABLE = "SKERRY_ENGINE_CODE"
START = (
    "import base64,os,runpy,sys,tempfile,zlib;"
    "p=os.path.join(tempfile.mkdtemp(),'code.zip');"
    f"f=open(p,'wb');f.write(zlib.decompress(base64.b64decode(os.environ.pop('{VARIABLE}'))));f.close();"
    "sys.path.insert(0,p);runpy.run_module(sys.argv.pop(1),run_name='__main__',alter_sys=True)"
)
SIMULATOR = (
    "__init__", "__main__", "adapters", "asked", "audio", "batch", "blocks", "core", "faults", "forms", "metrics",
    "profile", "responses", "runner", "scores", "server", "texts", "transfer", "work",
)  # fmt: skip
SHARED = ("skerry/__init__.py", "skerry/errors.py", "skerry/engines/__init__.py", "skerry/engines/http1.py")
SIMULATOR_FILES = (
    *SHARED,
    *(f"skerry/engines/{name}.py" for name in ("kv_events", "msgpack", "zmtp")),
    *(f"skerry/engines/simulator/{name}.py" for name in SIMULATOR),
)


def command(module: str, *arguments: str) -> tuple[str, ...]:
    return ("python3", "-c", START, module, *arguments)


@cache
def code(paths: tuple[str, ...]) -> str:
    """The same text each time, so that a revision that is made again is the same. Compressed as a whole, as files that
    are alike take less room together."""
    root = files("skerry")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in paths:
            archive.writestr(zipfile.ZipInfo(path), root.joinpath(*path.split("/")[1:]).read_bytes())
    return base64.b64encode(zlib.compress(packed.getvalue(), 9)).decode()

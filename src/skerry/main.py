"""`skerry <command>`: imports a command only when it is used, since start-up time is a feature."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    from skerry.cli.invocation import Invocation
    from skerry.cli.program import run

    code = run(Invocation(os.environ), sys.argv[1:] if arguments is None else list(arguments))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, AttributeError, ValueError):
            pass  # whoever read us has gone, or the stream was closed before we started
    # Taking the interpreter down in order costs 10 ms, a tenth of `skerry exec`, and there is nothing left to put away.
    os._exit(code)


if __name__ == "__main__":
    main()

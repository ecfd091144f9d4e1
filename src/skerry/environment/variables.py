"""`${NAME}` in a file: what it stands for, from the environment of the caller, else from the `.env` beside the file.

The forms are the shell's and compose's, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?why}`, and `$${` for
a literal `${`. A `$` without a brace stands for itself, and the text of scripts (`run`, `user_data`) is left to the
shell. Source: https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath

from skerry.environment.problems import Path, Place, Problem

SCRIPTS = frozenset({"run", "user_data"})
"""Keys whose text is a shell's own."""
ENV_FILE_BYTES_MAX = 1024 * 1024
_FORM = re.compile(r"\$(\$?)\{([^{}]*)\}")
_NESTED = re.compile(r"(?<!\$)\$\{[^{}]*\$\{")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?])(.*))?", re.DOTALL)


class Variables:
    """Remembers what was asked for: a file means the same as long as these have the same values."""

    def __init__(self, environ: Mapping[str, str], defaults: Mapping[str, str], problems: list[Problem]) -> None:
        self._environ = environ
        self._defaults = defaults
        self._problems = problems
        self.used: dict[str, str | None] = {}

    def replace(self, text: str, place: Place, path: Path) -> str:
        if path and path[-1] in SCRIPTS:
            return text

        if _NESTED.search(text):
            self._problems.append(Problem(place, path, "a variable inside a variable is not understood here"))
            return ""

        def one(found: re.Match[str]) -> str:
            if found[1]:
                return f"${{{found[2]}}}"
            try:
                return self._value(found[2])
            except ValueError as error:
                self._problems.append(Problem(place, path, str(error)))
                return ""

        return _FORM.sub(one, text)

    def _value(self, inside: str) -> str:
        form = _INSIDE.fullmatch(inside)
        if form is None:
            raise ValueError(
                f"${{{inside[:60]}}} is no variable; give ${{NAME}} or ${{NAME:-default}}, or $${{ for itself"
            )
        name, operator, rest = form.groups()
        value = self._environ.get(name, self._defaults.get(name))
        self.used[name] = value
        empty = value is None or (operator is not None and operator.startswith(":") and value == "")
        if not empty:
            assert value is not None
            return value
        if operator in (":-", "-"):
            return rest
        if operator in (":?", "?"):
            raise ValueError(f"${{{name}}} has no value: {rest or 'it must be set'}")
        raise ValueError(f"${{{name}}} has no value; set it, put it into .env, or give a default: ${{{name}:-…}}")


def read_env_file(path: FilePath, read: Callable[[FilePath, int], bytes], problems: list[Problem]) -> dict[str, str]:
    """The `.env` beside the file; none is no mistake."""
    import io

    try:
        text = read(path, ENV_FILE_BYTES_MAX).decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(
            Problem(Place(str(path), 0), (), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        )
        return {}
    from dotenv import dotenv_values

    return {
        name: value
        for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items()
        if value is not None
    }

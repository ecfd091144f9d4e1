"""What of a folder is not copied: patterns as in .gitignore, and what is Skerry's own."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.errors import Invalid

OWN = ".skerry"
"""Beside the file: logs and the like of ours. Never copied, and never removed from a sandbox, whatever the patterns."""


class Ignore:
    """Asked with a path relative to the folder. What is below a folder that is ignored need not be asked for."""

    def __init__(self, patterns: Sequence[str] = (), *, field: str = "exclude") -> None:
        self._spec = None
        if not patterns:
            return
        from pathspec import GitIgnoreSpec  # 30 ms, for those who have patterns

        try:
            self._spec = GitIgnoreSpec.from_lines(patterns)
        except ValueError:
            wrong = next(number for number, each in enumerate(patterns) if not _is_pattern(each))
            raise Invalid(f"{patterns[wrong]!r} is not a pattern as in .gitignore", field=f"{field}[{wrong}]") from None

    def __call__(self, path: str, is_folder: bool) -> bool:
        if path == OWN or path.startswith(OWN + "/"):
            return True
        return self._spec is not None and self._spec.match_file(f"{path}/" if is_folder else path)


def _is_pattern(text: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return True

"""Works that ask the same are one class and share one answer: ten thousand that wait are often fifty questions."""

from __future__ import annotations

from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Work

Class = int | tuple[int, ...]
Members = tuple[tuple[str, Shape], ...]


class Classes:
    """Shapes that are one object are seen to be the same without a look at them."""

    def __init__(self) -> None:
        self._numbers: dict[Shape, int] = {}
        self.by_identity: dict[int, tuple[int, Shape]] = {}
        """With the shape, so that it stays and its identity remains its own."""
        self._places: dict[str, int] = {}

    def of(self, work: Work, members: Members) -> Class:
        if len(members) == 1 and not work.together:
            shape = members[0][1]
            found = self.by_identity.get(id(shape))
            return found[0] if found is not None else self._number(shape)
        minimum = -1 if work.minimum is None else work.minimum
        place = self._places.setdefault(work.together, len(self._places))
        numbers = [self._number(shape) for _, shape in members]
        if len(set(numbers)) == 1:
            return place, minimum, -len(numbers), numbers[0]
        return place, minimum, *numbers

    def _number(self, shape: Shape) -> int:
        found = self.by_identity.get(id(shape))
        if found is None:
            found = self.by_identity[id(shape)] = (self._numbers.setdefault(shape, len(self._numbers)), shape)
        return found[0]

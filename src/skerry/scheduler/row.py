"""The scores of one class on every node, kept up to date by looking only at nodes that have changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skerry.scheduler.columns import FEW, Columns, Ints, Mask, numbers
from skerry.scheduler.demand import Tables
from skerry.scheduler.fit import fits, fitting, in_one_group
from skerry.scheduler.pool import Pool
from skerry.scheduler.request import Request
from skerry.scheduler.scores.scorer import Scorer

NO = -1
"""It does not fit there, or may not be there."""


class Row:
    """Nodes are looked at in parts, all classes in the same one for a while, so that what changed in others need not
    be scored again for each of them. Where few have changed they are looked at one by one: mostly it is a handful."""

    def __init__(self, request: Request, scorer: Scorer, pool: Pool | None, columns: Columns) -> None:
        self.request = request
        self.scorer = scorer
        self.scores: npt.NDArray[np.int32] = np.full(columns.count, NO, np.int32)
        self._pool = pool
        only = request.only(columns)
        self._only = None if only is None else set(numbers(only))
        parts = len(columns.parts)
        self._parts = list(range(parts)) if self._only is None else [columns.part_of[row] for row in self._only]
        self._versions = [-1] * parts
        self._bests = [-1] * parts
        self._fitting = [0] * parts
        self._tables: list[Tables | None] = [None] * parts
        """By which its scores in each part are."""
        self._nowhere = -1
        """The version at which it fitted nowhere."""
        wishes = request.has_image is not None or (request.gpus > 1 and columns.groups > 1)
        self._one_by_one = scorer.one_by_one and not wishes

    def eligible(self) -> Mask:
        """Where it may be by what nodes are."""
        return self.request.mask if self._pool is None else self.request.mask & self._pool.mask

    def fitting_beside(self, columns: Columns, at: int) -> int:
        """Of the part in which `at` is."""
        return self._fitting[columns.part_of[at]]

    def best(self, columns: Columns, tables: Tables, first: int) -> int:
        """The node that scores most, the first of several, in the first part from `first` on in which it fits; -1: it
        fits nowhere."""
        if self._nowhere == columns.version:
            return -1
        versions, bests, parts, known = self._versions, self._bests, self._parts, self._tables
        count = len(parts)
        for turn in range(first, first + count):
            part = parts[turn % count]
            if versions[part] < columns.part_version[part] or known[part] is not tables:
                self._refresh(columns, tables, part)
            if bests[part] >= 0:
                return bests[part]
        self._nowhere = columns.version
        return -1

    def refresh_all(self, columns: Columns, tables: Tables) -> None:
        for part in self._parts:
            if self._versions[part] < columns.part_version[part] or self._tables[part] is not tables:
                self._refresh(columns, tables, part)

    def _refresh(self, columns: Columns, tables: Tables, part: int) -> None:
        if self._versions[part] < columns.part_version[part]:
            rows = columns.few_since(self._versions[part], part) if self._only is None else self._only
            if rows is None:
                self._look(columns, tables, part)
            else:
                self._look_at_each(columns, tables, part, rows)
            self._versions[part] = columns.part_version[part]
        if self._tables[part] is not tables:
            self._tables[part] = tables
            if self._fitting[part]:
                self._score_again(columns, tables, part)

    def _score_again(self, columns: Columns, tables: Tables, part: int) -> None:
        """Where it fits does not hang on what typically comes."""
        start, stop = columns.parts[part]
        rows = (self.scores[start:stop] >= 0).nonzero()[0] + start
        self.scores[rows] = self._score(columns, tables, rows)
        self._find_best(columns, part)

    def _look_at_each(self, columns: Columns, tables: Tables, part: int, rows: set[int]) -> None:
        scores, best = self.scores, self._bests[part]
        for row in rows:
            if scores.item(row) >= 0:
                self._fitting[part] -= 1
                scores[row] = NO
        good = fitting(columns, self.request, rows)
        if self._pool is not None:
            good = [row for row in good if self._pool.mask.item(row)]
        if good:
            self._give(columns, tables, good)
            self._fitting[part] += len(good)
        if best in rows or len(good) > 1:
            self._find_best(columns, part)
        elif good and (best < 0 or (-scores.item(good[0]), good[0]) < (-scores.item(best), best)):
            self._bests[part] = good[0]

    def _look(self, columns: Columns, tables: Tables, part: int) -> None:
        rows = columns.since(self._versions[part], part)
        scores = self.scores
        fitted = int(np.count_nonzero(scores.take(rows) >= 0))
        scores[rows] = NO
        ok = fits(columns, self.request, rows)
        if self._pool is not None:
            ok &= self._pool.mask.take(rows)
        good = rows[ok]
        self._fitting[part] += good.size - fitted
        if 0 < good.size <= FEW:
            self._give(columns, tables, numbers(good))
        elif good.size:
            scores[good] = self._score(columns, tables, good)
        self._find_best(columns, part)

    def _find_best(self, columns: Columns, part: int) -> None:
        start, stop = columns.parts[part]
        if start < stop:
            best = start + int(self.scores[start:stop].argmax())
            self._bests[part] = best if self.scores.item(best) >= 0 else -1

    def _score(self, columns: Columns, tables: Tables, rows: Ints) -> Ints:
        scores = self.scorer.scores(columns, tables, self.request, rows)
        if self.request.has_image is not None:
            scores = scores + self.scorer.step * self.request.has_image[rows]
        if self.request.gpus > 1 and columns.groups > 1:
            scores = scores + self.scorer.step * in_one_group(columns, self.request, rows)
        return scores

    def _give(self, columns: Columns, tables: Tables, rows: list[int]) -> None:
        """Their scores, to few."""
        if self._one_by_one:
            scores, score, request = self.scores, self.scorer.score, self.request
            for row in rows:
                scores[row] = score(columns, tables, request, row)
        else:
            found = np.array(rows, np.int64)
            self.scores[found] = self._score(columns, tables, found)

    def terms(self, at: int, wished: int) -> tuple[tuple[str, float], ...]:
        """What spoke for a node."""
        score = self.scores.item(at)
        if self.request.has_image is None and not wished:
            return ((self.scorer.name, score),)
        image = self.scorer.step if self.request.has_image is not None and self.request.has_image[at] else 0
        return ((self.scorer.name, score - image), ("image", image), ("neighbours", wished))

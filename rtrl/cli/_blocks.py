"""Rows through a learner: one after the other, or all that are there at once."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rtrl.tables import Table


class Item(NamedTuple):
    """A row as it was read: what a learner takes, its number, whether it fills a gap."""

    row: Any
    number: int
    filled: bool


def one_by_one(learner: Any, state: Any, rows: Iterator, chunk: int, source: Table) -> Iterator:
    """Each row with the state after it, and what was told of it."""
    newest: list[Any] = []
    for now, out in learner.stream(state, _tap(rows, newest), chunk, source.horizon):
        yield now, out, [_item(newest.pop(), source)]


def in_blocks(
    forecaster: Any,
    state: Any,
    rows: Iterator,
    source: Table,
    targets: Callable[[list[Item]], np.ndarray],
    last: int | None,
    due: Callable[[], bool],
) -> Iterator:
    """All rows that are there at once, up to a block of them; one that comes alone, alone.

    Where more rows are there already they are read, and their block is begun, before the one
    before is waited for: its state is used up by then, and None. Whenever the state is ``due``, all
    that was read has been learned.
    """
    before: tuple[Any, list[Item]] | None = None
    row = next(rows, None)
    while row is not None:
        items = [_item(row, source)]
        while len(items) < forecaster.block and items[-1].number != last:
            more = source.next_ready()
            if more is None:
                break
            items.append(_item(more, source))
        xs = np.stack([item.row[0] for item in items])
        ys = targets(items)
        weights, resets = ([_part(item, n) for item in items] for n in (2, 3))
        state, begun = forecaster.begin(state, xs, ys, weights=weights, resets=resets)
        if before is not None:
            yield None, before[0].forecast(), before[1]
        before = begun, items
        row = None if due() or items[-1].number == last else source.next_ready()
        if row is None:
            yield state, begun.forecast(), items
            before, row = None, next(rows, None)


def _part(item: Item, place: int) -> float:
    """The weight or the reset of a row."""
    return item.row[place] if len(item.row) > place else (1.0, False)[place - 2]


def _item(row: Any, source: Table) -> Item:
    return Item(row, source.rows - source.inserted, source.filled)


def target_of(item: Item, source: Table) -> np.ndarray:
    return np.full(source.out_size, np.nan) if item.row[1] is None else item.row[1]


def up_to(rows: Iterator, source: Table, last: int | None) -> Iterator:
    """Rows until so many have been read, not counting those that fill gaps."""
    while last is None or source.rows - source.inserted < last:
        row = next(rows, None)
        if row is None:
            return
        yield row


def _tap(source: Iterator, newest: list) -> Iterator:
    for item in source:
        newest[:] = [item]
        yield item

"""Progress of loops that take longer than two seconds, drawn on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

_DELAY_SECONDS = 2.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`; after two seconds show a bar with the remaining time.

    Nothing is drawn when standard error is not a terminal or a notebook, so logs stay clean.

    Parameters
    ----------
    items : iterable
        What to loop over.
    description : str
        A short phrase, such as "reading chips".
    total : int, default=None
        Number of items, where it cannot be read off `items`.

    Examples
    --------
    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield from items
        return
    count = len(items) if total is None and isinstance(items, Sized) else total
    yield from _track_with_bar(items, description, count)


def _track_with_bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    # rich costs 60 ms to import, so it waits until a bar is certain to be drawn
    from rich.console import Console
    from rich.progress import Progress

    started = time.monotonic()
    bar: Progress | None = None
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - started > _DELAY_SECONDS:
                bar = Progress(console=Console(stderr=True), transient=True)
                bar.start()
                task = bar.add_task(description, total=total, completed=done)
            yield item
            if bar is not None:
                bar.update(task, completed=done + 1)
    finally:
        if bar is not None:
            bar.stop()

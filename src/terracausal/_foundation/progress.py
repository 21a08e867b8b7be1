"""Progress of loops that take longer than two seconds, drawn on standard error."""

import sys
from collections.abc import Iterable, Iterator, Sized
from threading import Timer
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_DELAY_SECONDS = 2.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`; after two seconds, also of the first, show a bar with the remaining time.

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
    bars: list[Progress] = []
    done = 0

    def show() -> None:
        # rich costs 60 ms to import, so it waits until a bar is certain to be drawn
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.add_task(description, total=total, completed=done)
        bar.start()
        bars.append(bar)

    timer = Timer(_DELAY_SECONDS, show)  # the first item alone may take minutes
    timer.daemon = True
    timer.start()
    try:
        for item in items:
            yield item
            done += 1
            for bar in bars:
                bar.update(bar.task_ids[0], completed=done)
    finally:
        timer.cancel()
        timer.join()
        for bar in bars:
            bar.stop()

"""Reading ahead: the next batch is read while the present one is computed."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from terracausal._foundation.checks import check_count

T = TypeVar("T")


def read_ahead(batches: Iterable[T], n_ahead: int = 1) -> Generator[T, None, None]:
    """Yield what `batches` yields, made by one thread of its own.

    Parameters
    ----------
    batches : iterable
        Read in order, never by two threads at once.
    n_ahead : int, default=1
        Number of batches that may wait to be taken; with the one in use, `n_ahead + 1` are in
        memory.

    Yields
    ------
    object
        The batches, in order.

    Notes
    -----
    An error of the reader is raised here, when its batch is asked for. The thread ends with the
    generator: close it where the loop may be left early, `with closing(read_ahead(...)) as steps`.

    Examples
    --------
    >>> list(read_ahead(range(3)))
    [0, 1, 2]
    """
    check_count("n_ahead", n_ahead)
    source = iter(batches)
    end = object()
    reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting: deque[Future[T | object]] = deque(
            reader.submit(next, source, end) for _ in range(n_ahead)
        )
        while (batch := waiting.popleft().result()) is not end:
            waiting.append(reader.submit(next, source, end))
            yield batch  # type: ignore[misc]
            del batch  # it must not stay in memory while the next one is awaited
    finally:
        reader.shutdown(cancel_futures=True)

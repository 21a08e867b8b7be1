"""Who does the work: threads by default, a cluster when there is one."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

from terracausal.imagery.quiet import SILENCE, enter_gdal_env

T = TypeVar("T")
R = TypeVar("R")

_THREADS = "terracausal"
_AHEAD = 2  # tasks waiting per worker, so that none idles and few results pile up


def run_tasks(
    function: Callable[[T], R], tasks: Iterable[T], *, n_jobs: int, client: Any = None
) -> Iterator[R]:
    """Yield the result of every task in order, holding only a few at a time.

    Parameters
    ----------
    function : callable
        Called with a task; must pickle when `client` is a cluster.
    tasks : iterable
        One argument each.
    n_jobs : int
        Number of threads; 1 works in this thread, and so does a call from one of the threads. They
        stay for the next call, with the files that they have open.
    client : executor, default=None
        Anything with `submit`, which works instead of threads. A `dask.distributed.Client` is told
        that the same task may give something else the next time, for files change.

    Yields
    ------
    object
        What `function` returns.

    Examples
    --------
    >>> list(run_tasks(abs, [-1, 2, -3], n_jobs=2))
    [1, 2, 3]
    """
    if client is not None:
        # a cluster has more workers than this machine has cores
        submit = client.submit
        if type(client).__module__.partition(".")[0] == "distributed":
            submit = partial(submit, pure=False)
        yield from _in_order(submit, function, tasks, max(64, _AHEAD * n_jobs))
    elif n_jobs == 1 or threading.current_thread().name.startswith(_THREADS):
        # a thread that waited for others of its own pool might wait forever
        yield from map(function, tasks)
    else:
        # filters of warnings belong to all threads, so this one sets it before they start
        with SILENCE:
            yield from _in_order(_pool(n_jobs).submit, function, tasks, _AHEAD * n_jobs)


@cache
def _pool(n_jobs: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_jobs, thread_name_prefix=_THREADS, initializer=enter_gdal_env)


if hasattr(os, "register_at_fork"):
    # a forked process has none of these threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _in_order(
    submit: Callable[..., Any], function: Callable[[T], R], tasks: Iterable[T], n_ahead: int
) -> Iterator[R]:
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(submit(function, task))
            if len(waiting) >= n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def split_evenly(items: Sequence[T], n_parts: int) -> list[Sequence[T]]:
    """Return the items in at most `n_parts` runs of neighbours, none of them empty.

    Examples
    --------
    >>> split_evenly([1, 2, 3, 4, 5], 2)
    [[1, 2, 3], [4, 5]]
    """
    n_parts = max(1, min(n_parts, len(items)))
    size, longer = divmod(len(items), n_parts)
    parts, start = [], 0
    for part in range(n_parts):
        stop = start + size + (part < longer)
        parts.append(items[start:stop])
        start = stop
    return [part for part in parts if len(part)]

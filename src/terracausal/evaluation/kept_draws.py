"""Numbers by draw, kept in a text file so that a long run goes on where it was stopped."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np


def fingerprint(*parts: Any) -> str:
    """Return a digest of arrays and texts; equal inputs have equal digests.

    Parameters
    ----------
    *parts : ndarray or object
        Objects other than arrays count by their `repr`.

    Returns
    -------
    str

    Examples
    --------
    >>> fingerprint(np.zeros(2), "a") == fingerprint(np.zeros(2), "a")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(f"{part!r} ".encode())
    return digest.hexdigest()[:32]


class KeptDraws:
    """Draws of one run: those that a file has, and the file to add others to.

    Parameters
    ----------
    path : path-like or None
        None keeps nothing.
    digest : str
        Of everything that the draws depend on; a file of another run is refused.
    """

    def __init__(self, path: "str | Path | None", digest: str) -> None:
        self.path = None if path is None else Path(path)
        self.digest = digest
        self.found = self._read()
        self._file: Any = None

    def missing(self, draws: Iterable[int]) -> list[int]:
        """Return those of `draws` that the file lacks."""
        return [draw for draw in draws if draw not in self.found]

    def add(self, draw: int, value: float) -> None:
        """Keep one number, in memory and in the file."""
        self.found[draw] = value
        if self._file is not None:
            self._file.write(f"{draw},{value!r}\n")
            self._file.flush()

    def __enter__(self) -> Self:
        if self.path is not None:
            # written anew, so that a line cut short by a kill is gone
            lines = [f"{self.digest}\n", *(f"{k},{v!r}\n" for k, v in self.found.items())]
            draft = self.path.with_name(f"{self.path.name}.part")
            draft.write_text("".join(lines), encoding="utf-8")
            draft.replace(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> dict[int, float]:
        if self.path is None or not self.path.exists():
            return {}
        first, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        if first.strip() != self.digest:
            raise ValueError(
                f"{self.path} holds draws of another run: it begins with {first.strip()[:32]!r}, "
                f"and this run is {self.digest!r} (data, learner, statistic or seed differ). Name "
                "another file, or remove this one."
            )
        whole = [line for line in lines if line.endswith("\n")]
        return {int(draw): float(value) for draw, value in (line.split(",") for line in whole)}

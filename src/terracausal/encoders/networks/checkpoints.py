"""The state of a training on disk: written whole or not at all, and never unpickled."""

import os
from pathlib import Path
from typing import Any

import torch


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to a file that is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the state of a training, or None where there is no file.

    Parameters
    ----------
    path : Path
        As for `write_checkpoint`.
    fingerprint : str
        Of the training that asks; that of the file must be the same.

    Returns
    -------
    dict or None

    Raises
    ------
    OSError
        If the file is no checkpoint, or damaged.
    ValueError
        If it belongs to another training.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state["fingerprint"]
    except Exception as error:  # torch raises whatever its readers stumble over
        raise OSError(
            f"{path} could not be read as a checkpoint of a training "
            f"({type(error).__name__}). Delete it or name another `checkpoint`."
        ) from error
    if found != fingerprint:
        raise ValueError(
            f"The checkpoint {path} belongs to another training: its settings, sites, targets, "
            f"bands or network differ (fingerprint {found} instead of {fingerprint}). Delete it, "
            "or name another `checkpoint`."
        )
    return state

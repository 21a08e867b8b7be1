"""Files of weights: found, checked against a checksum, and read without running their code."""

import hashlib
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

from terracausal._foundation.errors import list_some
from terracausal._foundation.optional import require

_NAMES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_CHUNK_BYTES = 1 << 20


def find_weights(path: str | Path) -> Path:
    """Return the file of weights at `path`, a file or a folder that holds one.

    Raises
    ------
    FileNotFoundError
        If there is none, with what there is.
    ValueError
        If a folder holds several and none has the usual name.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return place
    if not place.is_dir():
        raise FileNotFoundError(
            f"There are no weights at {str(place)!r}: no such file or folder. `path` must be a "
            f"file ({', '.join(_SUFFIXES)}) or a folder with one."
        )
    for name in _NAMES:
        if (place / name).is_file():
            return place / name
    found = sorted(file for file in place.iterdir() if file.suffix in _SUFFIXES)
    if len(found) == 1:
        return found[0]
    names = [file.name for file in (found or sorted(place.iterdir()))]
    if found:
        raise ValueError(
            f"The folder {str(place)!r} holds {len(found)} files of weights: {list_some(names)}. "
            "Set `path` to one of them; weights in several parts must be joined first."
        )
    raise FileNotFoundError(
        f"The folder {str(place)!r} holds no weights ({', '.join(_SUFFIXES)}); it holds "
        f"{list_some(names) or 'nothing'}. Download them there first."
    )


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()


def check_digest(file: Path, found: str, expected: str | None) -> None:
    """Refuse a file whose checksum is not the expected one.

    Files named like `resnet50-df8b932e.pth` carry the first digits of theirs, as PyTorch does it.

    Raises
    ------
    ValueError
        With the file, and the expected and the found checksum.
    """
    in_name = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)$", file.name)
    for wanted, origin in ((expected, "`sha256`"), (in_name and in_name[1], "its name")):
        if wanted and not found.startswith(wanted.lower()):
            raise ValueError(
                f"The weights in {str(file)!r} are not the expected ones: {origin} says the "
                f"SHA-256 {wanted!r}, the file has {found!r} ({file.stat().st_size:,} bytes). It "
                "is truncated or another file; download it again."
            )


def read_weights(file: Path, digest: str) -> dict[str, Any]:
    """Return the tensors of a file by name, never unpickling anything else.

    Parameters
    ----------
    file : Path
        A safetensors file, or one that torch saved.
    digest : str
        Checksum of the file, for messages.

    Raises
    ------
    OSError
        If the file is truncated or of another kind.
    ValueError
        If it holds Python objects, which are programs that reading would run.
    """
    torch = require("torch", needed_by="PretrainedEncoder")
    try:
        if file.suffix == ".safetensors":
            reader = require(
                "safetensors.torch", needed_by="Reading safetensors", extra="pretrained"
            )
            loaded: Any = reader.load_file(file, device="cpu")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about old ways of saving
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"The file {str(file)!r} (SHA-256 {digest!r}) is not read: it is damaged, or it "
            "holds Python objects, and unpickling these could run any program. Save the tensors "
            "alone, best as safetensors."
        ) from error
    except ImportError:
        raise
    except Exception as error:
        raise OSError(
            f"The weights in {str(file)!r} cannot be read: {type(error).__name__}: "
            f"{str(error).splitlines()[0][:200] if str(error) else 'no reason given'}. The file "
            f"has {file.stat().st_size:,} bytes and the SHA-256 {digest!r}; it is truncated or "
            "not a file of weights. Download it again."
        ) from error
    if not isinstance(loaded, dict):
        raise OSError(f"The file {str(file)!r} holds a {type(loaded).__name__}, not named tensors.")
    return loaded

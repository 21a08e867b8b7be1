"""Figures and chips as PNG data URIs, so that the page needs no other file."""

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terracausal.plotting import stretch_chips

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 5.4
_SHOWN_PX = 620  # widest a figure gets on the page; the file has twice as many pixels
_CHIP_PX = 360  # a chip is shown at half of it


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Parameters
    ----------
    uri : str
        PNG as a data URI.
    alt : str
        What is seen, for readers who do not see it.
    caption : str, default=""
        Text below.
    """

    uri: str
    alt: str
    caption: str = ""


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of the page, and without warnings of characters that the font lacks."""
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context({"font.size": 10.0, "font.family": "sans-serif"}):
        # names in scripts that the plot font lacks are drawn as boxes; the table shows them right
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def draw_figure(
    draw: Callable[["Axes"], object], height_in: float, *, alt: str, caption: str = ""
) -> Picture:
    """Draw on a fresh Axes and return the picture, without touching pyplot."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure.add_subplot())
        return render_figure(figure, alt=alt, caption=caption)


def render_figure(figure: "Figure", *, alt: str, caption: str = "") -> Picture:
    """Return a figure as a picture of the page's width and its own height."""
    figure.set_size_inches(WIDTH_IN, figure.get_size_inches()[1])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=round(2 * _SHOWN_PX / WIDTH_IN))
    return Picture(_to_uri(buffer.getvalue()), alt, caption)


def draw_chips(
    images: Sequence[NDArray[Any]], bands: tuple[int, ...], texts: Sequence[tuple[str, str]]
) -> list[Picture]:
    """Return one picture per chip, all with the same stretch; `texts` are (alt, caption)."""
    pictures = stretch_chips(images, bands=bands)
    return [
        Picture(_to_uri(_encode(picture)), alt, caption)
        for picture, (alt, caption) in zip(pictures, texts, strict=True)
    ]


def _encode(colors: NDArray[np.float64]) -> bytes:
    """Encode colours as PNG, each pixel repeated so that browsers keep its edges."""
    from matplotlib.image import imsave

    times = max(1, round(_CHIP_PX / max(colors.shape[:2])))
    buffer = io.BytesIO()
    imsave(buffer, colors.repeat(times, axis=0).repeat(times, axis=1), format="png")
    return buffer.getvalue()


def _to_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

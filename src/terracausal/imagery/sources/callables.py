"""A function as a source: pixels made, or fetched from anywhere, for the grid of a chip."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal.imagery.dates import as_day
from terracausal.imagery.readers import band_tuple, to_float32
from terracausal.imagery.sources.base import Layer


class CallableSource:
    """Calls a function with the grid of a chip.

    Parameters
    ----------
    function : callable
        `function(grid)` returns an array (n_bands, height, width) on the
        `odc.geo.geobox.GeoBox` that it is given, masked or NaN where missing; with `dates`
        `function(grid, date)` is called for each. It is called from several threads at once.
    bands : sequence of str
        Names of the bands.
    dates : sequence of dates, default=None
        Days on which there is an image; None for one undated image.

    Examples
    --------
    >>> from odc.geo.geobox import GeoBox
    >>> source = CallableSource(lambda grid: np.ones((1, *grid.shape)), ["red"])
    >>> grid = GeoBox.from_bbox((0, 0, 20, 20), "EPSG:32636", resolution=10)
    >>> source.read(source.layers()[0], grid, (0,), "nearest").shape
    (1, 2, 2)
    """

    def __init__(
        self,
        function: Callable[..., ArrayLike],
        bands: Sequence[str],
        dates: Sequence[Any] | None = None,
    ) -> None:
        self._function = function
        self._bands = band_tuple(bands)
        self._dates: list[pd.Timestamp] | None = (
            None
            if dates is None
            else [as_day(date, f"dates[{place}]") for place, date in enumerate(dates)]
        )

    def layers(self) -> list[Layer]:
        """Return one layer for each date, defined everywhere."""
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        dates: Sequence[pd.Timestamp | None] = self._dates or [None]
        return [Layer(f"{name}()", self._bands, None, date) for date in dates]

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of what the function makes; see `ImagerySource.read`."""
        found = self._function(grid) if self._dates is None else self._function(grid, layer.date)
        pixels = np.asanyarray(found)
        expected = (len(self._bands), *grid.shape)
        if pixels.shape != expected:
            raise ValueError(
                f"the function must return an array of shape {expected} (n_bands, height, width); "
                f"it returned {pixels.shape}"
            )
        return to_float32(pixels[list(positions)])

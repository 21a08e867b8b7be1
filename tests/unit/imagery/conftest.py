"""A plane of tiny rasters and of sites in the middle of their pixels."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from affine import Affine


@dataclass(frozen=True)
class Plane:
    """Pixels of one length in one zone, counted from the upper left corner of all scenes."""

    crs: str = "EPSG:32636"
    step: float = 10.0
    left: float = 500_000.0
    top: float = 400_000.0

    def transform(self, column=0, row=0):
        """Place of a raster whose first pixel lies at a column and a row."""
        left, top = self.left + self.step * column, self.top - self.step * row
        return Affine(self.step, 0, left, 0, -self.step, top)

    def sites_at(self, columns, rows, keys=None):
        """Sites in the middle of pixels; row numbers are meant where no keys are given."""
        x = self.left + self.step * (np.asarray(columns) + 0.5)
        y = self.top - self.step * (np.asarray(rows) + 0.5)
        lon, lat = pyproj.Transformer.from_crs(self.crs, 4326, always_xy=True).transform(x, y)
        return pd.DataFrame({"lon": lon, "lat": lat}, index=keys).rename_axis("site")

    def write(self, path, pixels, *, names=None, scaling=None, **profile):
        """Write pixels (n_bands, height, width), at the corner unless told otherwise."""
        n_bands, height, width = pixels.shape
        shape = {"count": n_bands, "height": height, "width": width, "dtype": pixels.dtype}
        place = {"crs": self.crs, "transform": self.transform()}
        with rasterio.open(path, "w", driver="GTiff", **(shape | place | profile)) as file:
            file.write(pixels)
            if names:
                file.descriptions = names
            if scaling:
                file.scales, file.offsets = scaling
        return path


@pytest.fixture(scope="session")
def plane():
    return Plane()

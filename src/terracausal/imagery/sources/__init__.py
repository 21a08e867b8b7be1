"""Sources: where imagery lies, listed as layers and read onto the grid of a chip."""

from terracausal.imagery.sources.base import ImagerySource, Layer
from terracausal.imagery.sources.callables import CallableSource
from terracausal.imagery.sources.cubes import ArraySource, CubeSource
from terracausal.imagery.sources.raster_files import RasterFiles

__all__ = [
    "ArraySource",
    "CallableSource",
    "CubeSource",
    "ImagerySource",
    "Layer",
    "RasterFiles",
]

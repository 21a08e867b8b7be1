"""Imagery: turns places and dates into pixels."""

from terracausal.imagery.chips import Chips
from terracausal.imagery.composites import composite_chips
from terracausal.imagery.cropping import centre_crop
from terracausal.imagery.displacement import DisplacementRule, plausible_centres
from terracausal.imagery.indices import index_chips
from terracausal.imagery.masks import (
    CloudProbabilityMask,
    LandsatMask,
    SceneClassMask,
    mask_chips,
)
from terracausal.imagery.options import Reading
from terracausal.imagery.reading import read_chips
from terracausal.imagery.records import NoChipsError
from terracausal.imagery.sources import (
    ArraySource,
    CallableSource,
    CubeSource,
    ImagerySource,
    Layer,
    RasterFiles,
)
from terracausal.imagery.sources.stac import StacSource
from terracausal.imagery.sources.stac_catalog import search_stac
from terracausal.imagery.sources.tfrecord import read_tfrecord
from terracausal.imagery.store import write_chips
from terracausal.imagery.stored_chips import open_chips, verify_store

__all__ = [
    "ArraySource",
    "CallableSource",
    "Chips",
    "CloudProbabilityMask",
    "CubeSource",
    "DisplacementRule",
    "ImagerySource",
    "LandsatMask",
    "Layer",
    "NoChipsError",
    "RasterFiles",
    "Reading",
    "SceneClassMask",
    "StacSource",
    "centre_crop",
    "composite_chips",
    "index_chips",
    "mask_chips",
    "open_chips",
    "plausible_centres",
    "read_chips",
    "read_tfrecord",
    "search_stac",
    "verify_store",
    "write_chips",
]

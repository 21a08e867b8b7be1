"""A procedural landscape that is seen by a multispectral sensor and known completely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_positive
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.plotting import stretch_chips
from terracausal.simulate.fields import Fields, simulate_fields
from terracausal.simulate.land_cover import Nature, share_pixels, simulate_nature
from terracausal.simulate.reflectance import BANDS, mix_reflectance
from terracausal.simulate.settlements import Settlements, simulate_settlements
from terracausal.simulate.terrain import Terrain, simulate_terrain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CRS = "EPSG:32636"  # UTM zone 36 north
_CENTRE_EAST_M, _CENTRE_NORTH_M = 425_000.0, 310_000.0  # near Gulu, northern Uganda
_SMALLEST_PX, _SMALLEST_M = 64, 1_000.0


@dataclass(frozen=True, eq=False)
class Landscape:
    """A simulated landscape: what the sensor saw, and what is there.

    Parameters
    ----------
    reflectance : ndarray of shape (n_bands, size_px, size_px)
        Surface reflectance between 0 and 1, float32.
    bands : tuple of str of length n_bands
        blue, green, red, nir, swir1, swir2.
    resolution_m : float
        Ground size of a pixel.
    layers : mapping of str to ndarray of shape (size_px, size_px)
        The truth on the same pixels: `elevation_m`, `slope` (rise over run), `illumination`,
        the shares of a pixel `water`, `vegetation` (green leaves of any kind), `woodland`,
        `cropland`, `built` (roofs and the trodden ground between them), `road`, and
        `buildings_per_km2`, `distance_to_road_m`, `distance_to_water_m`.
    crs : str
        Coordinate reference system of `transform`.
    transform : Affine
        From (column, row) of a pixel's upper left corner to easting and northing in metres.

    Examples
    --------
    >>> landscape = simulate_landscape(size_px=128, random_state=0)
    >>> landscape.reflectance.shape, landscape.bands[3]
    ((6, 128, 128), 'nir')
    """

    reflectance: NDArray[np.float32]
    bands: tuple[str, ...]
    resolution_m: float
    layers: Mapping[str, NDArray[np.float32]]
    crs: str
    transform: Affine

    @property
    def size_px(self) -> int:
        """Height and width in pixels."""
        return int(self.reflectance.shape[-1])

    def plot(
        self, ax: "Axes | None" = None, *, bands: Sequence[str] = ("red", "green", "blue")
    ) -> "Axes":
        """Draw the landscape as a colour composite, each band stretched to its percentiles 2–98.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        bands : sequence of str of length 3, default=('red', 'green', 'blue')
            Shown as red, green and blue; ("nir", "red", "green") is the usual false colour.

        Returns
        -------
        matplotlib Axes
            With eastings and northings in kilometres.
        """
        unknown = [band for band in bands if band not in self.bands]
        if unknown or len(bands) != 3:
            raise BandError(
                f"`bands` must name three of {list_some(self.bands, 12)}; "
                f"got {list_some(bands, 12)}."
            )
        positions = [self.bands.index(band) for band in bands]
        (image,) = stretch_chips([self.reflectance], bands=positions)
        if ax is None:
            # a figure that pyplot does not know: loops over landscapes leave none open
            from matplotlib.figure import Figure

            ax = Figure(figsize=(7.0, 7.0), layout="constrained").add_subplot()
        west, north = self.transform.c, self.transform.f
        side_m = self.size_px * self.resolution_m
        east, south = west + side_m, north - side_m
        extent = (west / 1e3, east / 1e3, south / 1e3, north / 1e3)
        ax.imshow(image, extent=extent, interpolation="nearest")
        ax.set_xlabel("easting (km)")
        ax.set_ylabel("northing (km)")
        return ax


def simulate_landscape(
    size_px: int = 1024, *, resolution_m: float = 30.0, random_state: RandomState = None
) -> Landscape:
    """Draw a landscape of the East African savanna with its people, and photograph it.

    Water erodes a fractal surface; settlements are founded on flat, dry ground near water and
    connected by least-cost roads; buildings line the roads; parcels near people are tilled, each
    at its own stage of growth; savanna, woodland, swamps and fire scars share the rest. Every
    pixel mixes its materials, is lit by the sun, blurred by the optics and given sensor noise.

    Parameters
    ----------
    size_px : int, default=1024
        Height and width, at least 64.
    resolution_m : float, default=30.0
        Ground size of a pixel. All features have sizes in metres, so a finer resolution shows
        fewer of them, larger.
    random_state : None, int or numpy.random.Generator, default=None
        The same seed gives the same landscape.

    Returns
    -------
    Landscape
        Six bands of reflectance, and the layers of truth.

    Raises
    ------
    ValueError
        If the landscape has fewer than 64 pixels or 1 km a side.

    Notes
    -----
    A landscape of 1,024 × 1,024 pixels takes about three seconds on one core.

    Examples
    --------
    >>> landscape = simulate_landscape(size_px=128, random_state=0)
    >>> sorted(landscape.layers)[:4]
    ['buildings_per_km2', 'built', 'cropland', 'distance_to_road_m']
    """
    size_px = check_count("size_px", size_px, minimum=_SMALLEST_PX)
    resolution_m = check_positive("resolution_m", resolution_m)
    if size_px * resolution_m < _SMALLEST_M:
        raise ValueError(
            f"A landscape must be at least {_SMALLEST_M:.0f} m wide to hold fields and villages; "
            f"{size_px} pixels of {resolution_m:g} m are {size_px * resolution_m:g} m. "
            "Take more pixels or larger ones."
        )
    # one stream per stage: a change in one stage leaves the draws of the others as they were
    streams = random_generator(random_state).spawn(6)
    terrain = simulate_terrain(size_px, resolution_m, streams[0])
    settlements = simulate_settlements(terrain, resolution_m, streams[1])
    fields = simulate_fields(terrain, settlements, resolution_m, streams[2])
    nature = simulate_nature(terrain, settlements, resolution_m, streams[3])
    shares = share_pixels(
        terrain, settlements, fields, nature, resolution_m=resolution_m, generator=streams[4]
    )
    reflectance = mix_reflectance(shares, terrain.illumination, streams[5])
    layers = _layers(terrain, settlements, fields, nature, shares)
    for array in (reflectance, *layers.values()):
        array.setflags(write=False)  # many studies may share one landscape
    half_m = 0.5 * size_px * resolution_m
    west, north = _CENTRE_EAST_M - half_m, _CENTRE_NORTH_M + half_m
    transform = Affine(resolution_m, 0.0, west, 0.0, -resolution_m, north)
    return Landscape(reflectance, BANDS, resolution_m, layers, _CRS, transform)


def _layers(
    terrain: Terrain,
    settlements: Settlements,
    fields: Fields,
    nature: Nature,
    shares: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float32]]:
    """Collect what an analyst may want to know about the ground."""
    woodland = shares["forest"] + shares["shrub"]
    leaves = woodland + shares["reeds"] + shares["green_grass"] + shares["green_crop"]
    land = 1.0 - terrain.water
    trodden = (1.0 - np.exp(-settlements.buildings_per_km2 / 2_500.0)) * land
    layers = {
        "elevation_m": terrain.elevation_m,
        "slope": terrain.slope,
        "illumination": terrain.illumination,
        "water": terrain.water,
        "vegetation": leaves,
        "woodland": woodland,
        "cropland": fields.cropland * land,
        "built": np.maximum(settlements.roof, trodden),
        "road": np.minimum(settlements.paved + settlements.unpaved, 1.0) * land,
        "buildings_per_km2": settlements.buildings_per_km2,
        "distance_to_road_m": settlements.distance_to_road_m,
        "distance_to_water_m": terrain.distance_to_river_m,
    }
    return {name: np.array(layer, dtype=np.float32) for name, layer in layers.items()}

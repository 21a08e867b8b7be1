"""Places: coordinates as a smooth spatial basis, beside the image or instead of it."""

from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import SplineTransformer

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.base import ChipBatch, ChipEncoder, numbered
from terracausal.encoders.satclip import SatclipNetwork, read_satclip
from terracausal.encoders.spherical_harmonics import harmonic_names, spherical_harmonics
from terracausal.imagery import Chips
from terracausal.imagery.geodesy import LONLAT, move_points, parse_crs

_BASES = ("splines", "spherical_harmonics", "satclip")
_SPLINE_DEGREE = 3


class LocationEncoder(ChipEncoder):
    """Encode where a site is: a spatial confounder, or the baseline that an image must beat.

    Parameters
    ----------
    basis : {'splines', 'spherical_harmonics', 'satclip'}, default='splines'
        - "splines": products of cubic B-splines of easting and northing, for a study area: with
          `n_knots` knots a direction, a bump is about 4 / (n_knots - 1) of the area wide;
        - "spherical_harmonics": smooth functions on the globe. Degree l resolves about 180 / l
          degrees (20,000 km / l), so this describes continents and cannot tell the parts of a
          district apart;
        - "satclip": a pretrained network [1]_ on spherical harmonics of the globe.
    degree : int, default=10
        Largest degree of "spherical_harmonics".
    n_knots : int, default=5
        Number of knots a direction of "splines", at least 2.
    path : path, default=None
        Checkpoint of "satclip" (MIT licence), such as `satclip-vit16-l40.ckpt`.
    n_components : int, default=None
        Number of principal components of the fitted sites to keep; None keeps all columns.
    whiten : bool, default=False
        Whether components have unit variance over the fitted sites.

    Attributes
    ----------
    centre_ : tuple of float
        Longitude and latitude about which "splines" are projected (equal areas, in metres).
    knots_m_ : ndarray of shape (n_knots, 2)
        Easting and northing of the knots of "splines", at equal steps over the fitted sites.
    columns_ : list of str
        Names of the columns before any reduction.
    bands_ : tuple of str
        Bands of the fitted chips, which are not read.
    n_sites_fitted_ : int
        Number of fitted sites.
    components_ : PrincipalComponents or None
        The reduction.

    Notes
    -----
    No pixel is read, and dates of images do not matter. Spherical harmonics are real, orthonormal
    over the sphere and without the constant: columns `sh_02_s01`, `sh_02_c00`, `sh_02_c01` have
    degree 2 and orders -1 (sine), 0 and 1 (cosine) of longitude. Splines that are 0 at all fitted
    sites are left out; a site outside the fitted extent takes the value at its edge, so that
    splines say nothing of places beyond the study.

    References
    ----------
    .. [1] Klemmer, K., Rolf, E., Robinson, C., Mackey, L. and Russwurm, M. (2025). SatCLIP: global,
       general-purpose location embeddings with satellite imagery. AAAI 39(4).
       https://doi.org/10.1609/aaai.v39i4.32457

    Examples
    --------
    >>> import pandas as pd
    >>> sites = pd.DataFrame({"lon": [32.0, 33.0, 34.0], "lat": [2.0, 3.0, 2.5]}, index=list("abc"))
    >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=sites, bands=["red"])
    >>> LocationEncoder("spherical_harmonics", degree=2).fit_transform(chips).shape
    (3, 8)
    """

    centre_: tuple[float, float]
    knots_m_: NDArray[np.float64]
    columns_: list[str]

    def __init__(
        self,
        basis: Literal["splines", "spherical_harmonics", "satclip"] = "splines",
        degree: int = 10,
        n_knots: int = 5,
        path: str | PathLike[str] | None = None,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.basis = basis
        self.degree = degree
        self.n_knots = n_knots
        self.path = path
        self.n_components = n_components
        self.whiten = whiten

    def _learn(self, chips: Chips, y: object) -> None:
        check_choice("basis", self.basis, _BASES)
        order = canonical_order(chips.keys)
        lon_lat = site_positions(chips)[order]
        if self.basis == "spherical_harmonics":
            self.columns_ = harmonic_names(check_count("degree", self.degree))
        elif self.basis == "satclip":
            if self.path is None:
                raise ValueError(
                    'basis "satclip" needs `path`, the file of a checkpoint such as '
                    "satclip-vit16-l40.ckpt; got None."
                )
            self.network_: SatclipNetwork = read_satclip(Path(self.path))
            self.columns_ = numbered("satclip", self.network_.n_features)
        else:
            self._learn_splines(lon_lat)

    def _learn_splines(self, lon_lat: NDArray[np.float64]) -> None:
        check_count("n_knots", self.n_knots, minimum=2)
        self.centre_ = middle_of(lon_lat)
        metres = project(lon_lat, self.centre_)
        low, high = metres.min(axis=0), metres.max(axis=0)
        if not (high - low > 1.0).any():
            raise ValueError(
                'basis "splines" needs sites at different places; the fitted ones lie within '
                f"{(high - low).max():.0f} m. Fit on more sites."
            )
        high = np.maximum(high, low + 1.0)  # sites on one line
        self.knots_m_ = np.linspace(low, high, self.n_knots)
        everywhere = spline_products(metres, self.knots_m_)
        n_splines = round(everywhere.shape[1] ** 0.5)
        self.reached_ = np.flatnonzero(everywhere.max(axis=0) > 0)
        self.columns_ = [
            f"spline_e{east:02d}_n{north:02d}"
            for east, north in (divmod(int(number), n_splines) for number in self.reached_)
        ]

    def _columns(self) -> list[str]:
        return list(self.columns_)

    def _rows(self, chips: Chips) -> NDArray[np.float64]:
        return self._at(site_positions(chips))

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        return self._at(batch.lon_lat)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        raise TypeError(
            "LocationEncoder encodes positions, not images, so it cannot be the inner encoder of "
            "one that reads images. Join its columns to those of an image encoder instead."
        )

    def _at(self, lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the columns at positions (n_sites, 2) in degrees."""
        if self.basis == "spherical_harmonics":
            return spherical_harmonics(lon_lat, self.degree)[:, 1:]
        if self.basis == "satclip":
            return self.network_.encode(lon_lat)
        metres = project(lon_lat, self.centre_)
        return spline_products(metres, self.knots_m_)[:, self.reached_]

    def describe(self, chips: Chips) -> dict[str, Any]:
        """Return the description that `transform` hands on, without dates of images."""
        found = super().describe(chips)
        return {name: value for name, value in found.items() if not name.startswith("last_image")}

    def _description(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"basis": self.basis}
        if self.basis == "satclip":
            facts |= {"weights": Path(str(self.path)).name, "weights_digest": self.network_.digest}
        elif self.basis == "splines":
            facts |= {"centre": list(self.centre_), "knots_m": self.knots_m_.tolist()}
        return {**super()._description(), **facts}


def site_positions(chips: Chips) -> NDArray[np.float64]:
    """Return longitude and latitude (n_sites, 2) of all sites in degrees, in order of `chips.keys`.

    Raises
    ------
    ValueError
        If a site has no position.

    Examples
    --------
    >>> import pandas as pd
    >>> sites = pd.DataFrame({"lon": [30.8], "lat": [3.1]}, index=["Arua"])
    >>> site_positions(Chips.from_arrays([[[[[1]]]]], sites=sites, bands=["red"])).tolist()
    [[30.8, 3.1]]
    """
    places = chips.sites.reindex(chips.keys)
    absent = places.geometry.isna()
    if places.crs is None or absent.any():
        without = chips.keys[absent.to_numpy()] if absent.any() else chips.keys
        raise ValueError(
            f"LocationEncoder needs the position of every site; {len(without)} of {chips.n_sites} "
            f"have none: {list_some(without)}. Give `sites` with `lon` and `lat`, or a "
            "GeoDataFrame with a coordinate reference system."
        )
    points = places.to_crs(4326).geometry
    return np.column_stack([points.x, points.y])


def middle_of(lon_lat: NDArray[np.float64]) -> tuple[float, float]:
    """Return longitude and latitude of the middle of positions (n_sites, 2) on the sphere.

    Examples
    --------
    >>> middle_of(np.array([[179.0, 0.0], [-177.0, 0.0]]))
    (-179.0, 0.0)
    """
    lon, lat = np.deg2rad(lon_lat).T
    x, y, z = (
        (np.cos(lat) * np.cos(lon)).mean(),
        (np.cos(lat) * np.sin(lon)).mean(),
        np.sin(lat).mean(),
    )
    middle = np.rad2deg([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])
    # a metre or so, and free of rounding
    return float(middle[0].round(5)), float(middle[1].round(5))


def project(lon_lat: NDArray[np.float64], centre: tuple[float, float]) -> NDArray[np.float64]:
    """Return easting and northing (n_sites, 2) in metres from a centre (Lambert, equal areas).

    Examples
    --------
    >>> project(np.array([[33.0, 0.0], [34.0, 0.0]]), (33.0, 0.0)).round(-3).tolist()
    [[0.0, 0.0], [111000.0, 0.0]]
    """
    lon, lat = centre
    return np.asarray(
        move_points(lon_lat, LONLAT, parse_crs(f"+proj=laea +lon_0={lon} +lat_0={lat} +units=m"))
    )


def spline_products(
    metres: NDArray[np.float64], knots_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return all products of a spline of easting and a spline of northing.

    Parameters
    ----------
    metres : ndarray of shape (n_sites, 2)
        Easting and northing.
    knots_m : ndarray of shape (n_knots, 2)
        Knots, in ascending order; beyond the outer ones splines are constant.

    Returns
    -------
    ndarray of shape (n_sites, (n_knots + 2) ** 2)
        Not below 0; each row sums to 1. Number e (n_knots + 2) + n is of easting e, northing n.

    Examples
    --------
    >>> knots = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> spline_products(np.array([[0.2, 0.9]]), knots).sum().round(6)
    np.float64(1.0)
    """
    splines = SplineTransformer(degree=_SPLINE_DEGREE, knots=knots_m, extrapolation="constant")
    both = splines.fit(knots_m).transform(metres)
    east, north = np.split(np.asarray(both, dtype=np.float64), 2, axis=1)
    products: NDArray[np.float64] = np.einsum("se,sn->sen", east, north)
    return products.reshape(len(metres), -1)

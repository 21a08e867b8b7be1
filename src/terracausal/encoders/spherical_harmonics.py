"""Real spherical harmonics of longitude and latitude."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, lpmv


def spherical_harmonics(lon_lat: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Return real spherical harmonics, orthonormal over the unit sphere.

    With N = sqrt((2 l + 1) / (4 pi) (l - m)! / (l + m)!) and P the associated Legendre function
    without the sign (-1)^m: N P(sin lat) for m = 0, sqrt(2) N P cos(m lon) for m > 0, and
    sqrt(2) N P sin(|m| lon) for m < 0, where N and P take |m|.

    Parameters
    ----------
    lon_lat : ndarray of shape (n_sites, 2)
        Degrees.
    degree : int
        Largest degree; up to about 80, where factorials leave the range of float64.

    Returns
    -------
    ndarray of shape (n_sites, (degree + 1) ** 2)
        By degree l = 0, …, within it by order m = -l, …, l.

    Examples
    --------
    >>> north_pole = spherical_harmonics(np.array([[0.0, 90.0]]), 1)
    >>> (north_pole * np.sqrt(4 * np.pi)).round(6).ravel().tolist()  # 1, 0, sqrt(3), 0
    [1.0, 0.0, 1.732051, 0.0]
    """
    lon, sine = np.deg2rad(lon_lat[:, 0]), np.sin(np.deg2rad(lon_lat[:, 1]))
    found = np.empty((len(lon_lat), (degree + 1) ** 2))
    for n, m in zip(*np.tril_indices(degree + 1), strict=True):
        log_norm = (np.log((2 * n + 1) / (4 * np.pi)) + gammaln(n - m + 1) - gammaln(n + m + 1)) / 2
        # scipy's function has the sign (-1)^m
        height = (-1) ** m * lpmv(m, n, sine) * np.exp(log_norm)
        if m == 0:
            found[:, n * n + n] = height
            continue
        found[:, n * n + n + m] = np.sqrt(2) * height * np.cos(m * lon)
        found[:, n * n + n - m] = np.sqrt(2) * height * np.sin(m * lon)
    return found


def harmonic_names(degree: int) -> list[str]:
    """Return names such as `sh_02_s01` in the order of the columns, without the constant.

    Examples
    --------
    >>> harmonic_names(1)
    ['sh_01_s01', 'sh_01_c00', 'sh_01_c01']
    """
    return [
        f"sh_{n:02d}_{'s' if m < 0 else 'c'}{abs(m):02d}"
        for n in range(1, degree + 1)
        for m in range(-n, n + 1)
    ]

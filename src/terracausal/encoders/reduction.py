"""Principal components of embeddings: fewer columns, learned on the fitted sites alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terracausal.plotting import plot_explained_variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class PrincipalComponents:
    """A projection on principal components, with the mean and the scale it was learned with.

    Parameters
    ----------
    mean : ndarray of shape (n_features,)
        Mean of each feature over the fitted sites.
    scale : ndarray of shape (n_features,)
        Standard deviation of each feature over the fitted sites, 1 where constant.
    directions : ndarray of shape (n_components, n_features)
        Loadings on standardised features; each row has unit length, or unit-variance projections
        where whitened. The largest loading of each is positive.
    variance_shares : ndarray of shape (n_possible,)
        Share of the variance of the standardised features, for every component that the fitted
        sites allow; the first `n_components` are kept.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 4))
    >>> components = fit_components(rows, 2)
    >>> components.transform(rows).shape, components.explained_variance_ratio.shape
    ((50, 2), (2,))
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    directions: NDArray[np.float64]
    variance_shares: NDArray[np.float64]

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.directions)

    @property
    def explained_variance_ratio(self) -> NDArray[np.float64]:
        """Share of the variance of the standardised features, by component that is kept."""
        return self.variance_shares[: self.n_components]

    def transform(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the components (n_sites, n_components) of rows (n_sites, n_features)."""
        standard = np.ascontiguousarray((rows - self.mean) / self.scale)
        # einsum: the product of one row must not depend on how many rows there are
        return np.asarray(np.einsum("sf,cf->sc", standard, self.directions))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw how much variance the first components explain together, and how many are kept.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return plot_explained_variance(self.variance_shares, self.n_components, ax)

    def description(self) -> dict[str, Any]:
        """Return plain values that describe the projection."""
        return {
            "n_components": self.n_components,
            "n_features": len(self.mean),
            "explained_variance": float(self.explained_variance_ratio.sum()),
        }


def fit_components(
    rows: NDArray[np.float64], n_components: int, *, whiten: bool = False
) -> PrincipalComponents:
    """Learn the principal components of standardised features.

    Parameters
    ----------
    rows : ndarray of shape (n_sites, n_features)
        Features without NaN.
    n_components : int
        Number of components to keep.
    whiten : bool, default=False
        Whether each component is divided by its standard deviation over these sites.

    Returns
    -------
    PrincipalComponents
        The projection.

    Raises
    ------
    ValueError
        If there are fewer sites or features than components, or the features vary in fewer
        directions.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 4))
    >>> fit_components(rows, 2, whiten=True).transform(rows).std(axis=0).round(6).tolist()
    [1.0, 1.0]
    """
    rows = np.ascontiguousarray(rows)  # the layout in memory must not reach a digit
    n_sites, n_features = rows.shape
    most = min(n_sites - 1, n_features)
    if n_components > most:
        raise ValueError(
            f"`n_components` can be at most {most} for {n_sites} sites and {n_features} features; "
            f"got {n_components}. Use fewer components, or fit on more sites."
        )
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    # what remains of a constant feature is rounding
    scale = np.where(scale > 1e-10 * np.abs(mean), scale, 1.0)
    _, singular, directions = np.linalg.svd((rows - mean) / scale, full_matrices=False)
    varied = int((singular > 1e-8 * singular[0]).sum()) if singular[0] > 0 else 0
    if n_components > varied:
        raise ValueError(
            f"The {n_features} features of these {n_sites} sites vary in {varied} directions only; "
            f"got `n_components` = {n_components}. Use at most {varied}."
        )
    share = singular**2 / (singular**2).sum()
    kept = directions[:n_components]
    # the sign of a direction is arbitrary: fix it, so that the same sites give the same columns
    kept = kept * np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)])[:, None]
    if whiten:
        kept = kept / (singular[:n_components, None] / np.sqrt(n_sites))
    return PrincipalComponents(mean, scale, kept, share[:most])

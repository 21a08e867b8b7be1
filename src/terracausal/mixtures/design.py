"""What a mixture is fitted to: units, their sites, and reduced embeddings, all as arrays."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_unique
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.reduction import PrincipalComponents, fit_components
from terracausal.study import Study

Floats = NDArray[np.float64]
_MIN_FLOOR_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class MixtureTable:
    """Units and sites in canonical order; outcomes are standardised.

    Parameters
    ----------
    outcome, treatment, weight : ndarray of shape (n_units,)
        Weights have mean 1.
    baseline : ndarray of shape (n_units, n_features)
        Features of the baseline, the first of them 1.
    site : ndarray of shape (n_units,)
        Codes from 0 to n_sites - 1.
    image : ndarray of shape (n_sites, n_dimensions + 1)
        Features of the membership, the first of them 1.
    cluster : ndarray of shape (n_sites,)
        Cluster of each site, codes from 0.
    sites : pandas.Index of length n_sites
    """

    outcome: Floats
    treatment: Floats
    weight: Floats
    baseline: Floats
    site: NDArray[np.int64]
    image: Floats
    cluster: NDArray[np.int64]
    sites: pd.Index

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.sites)


@dataclass(frozen=True, eq=False)
class MixtureDesign:
    """How a study becomes arrays: learned on the fitted sites, applied to any.

    Parameters
    ----------
    columns : tuple of str
        Embedding columns, in the order of `components`.
    components : PrincipalComponents
        Whitened principal components of the sites' embeddings.
    mean, scale : ndarray of shape (n_covariates,)
        Of the encoded covariates over units.
    centre, spread : float
        What is taken out of the outcome: ``(outcome - centre) / spread``.
    floor : float, default=None
        The lowest outcome, where the family is left-censored.
    """

    columns: tuple[str, ...]
    components: PrincipalComponents
    mean: Floats
    scale: Floats
    centre: float
    spread: float
    floor: float | None = None

    @property
    def standard_floor(self) -> float | None:
        """The floor on the scale of standardised outcomes."""
        return None if self.floor is None else (self.floor - self.centre) / self.spread

    def apply(self, study: Study) -> MixtureTable:
        """Return the arrays of a study with the same roles and embeddings.

        Parameters
        ----------
        study : Study

        Returns
        -------
        MixtureTable
        """
        ordered = study.canonical()
        keys, site, by_site = sites_of(ordered)
        covariates = _covariates(ordered)
        image = self.project(by_site)
        own = (covariates - self.mean) / self.scale
        weight = _weights(ordered)
        clusters = ordered.clusters
        cluster = np.arange(len(keys))
        if clusters is not None:
            first = np.unique(site, return_index=True)[1]
            cluster = pd.factorize(clusters.to_numpy()[first])[0].astype(np.int64)
        return MixtureTable(
            outcome=(_floats(ordered.outcome) - self.centre) / self.spread,
            treatment=_floats(ordered.treatment),
            weight=weight / weight.mean(),
            baseline=np.column_stack([np.ones(len(own)), image[site], own]),
            site=site,
            image=np.column_stack([np.ones(len(image)), image]),
            cluster=cluster,
            sites=keys,
        )

    def project(self, embeddings: pd.DataFrame) -> Floats:
        """Return principal components of sites, of shape (n_sites, n_dimensions).

        Parameters
        ----------
        embeddings : pandas.DataFrame of shape (n_sites, n_features)
            The fitted columns, in any order and among others.

        Returns
        -------
        ndarray
        """
        check_unique("The index of the embeddings (the site keys)", embeddings.index)
        named = embeddings.rename(columns=str)
        absent = [name for name in self.columns if name not in named.columns]
        if absent:
            raise AlignmentError(
                f"The mixture was fitted to {len(self.columns)} embedding columns; the table lacks "
                f"{len(absent)} of them: {list_some(absent)}. It has {list_some(named.columns)}. "
                "Use the encoder that made the fitted embeddings, on the same bands."
            )
        rows = named[list(self.columns)].to_numpy(dtype=np.float64)
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise ValueError(
                f"Embeddings must be finite; {int(bad.sum())} sites have NaN or infinite values: "
                f"{list_some(embeddings.index[bad])}. Drop these sites or repair their chips."
            )
        return np.asarray(self.components.transform(rows))


def learn_design(study: Study, family: str, n_dimensions: int) -> MixtureDesign:
    """Learn projection and scales from a study; refuse outcomes outside the family's support.

    Parameters
    ----------
    study : Study
        With sites and joined embeddings.
    family : str
        As in `EffectMixture`.
    n_dimensions : int
        Principal components to keep, fewer where the sites vary in fewer directions.

    Returns
    -------
    MixtureDesign

    Raises
    ------
    RoleError
        The study has no sites or no embeddings.
    ValueError
        The outcome is constant, or not of the family.
    """
    ordered = study.canonical()
    _, _, by_site = sites_of(ordered)
    rows = by_site.to_numpy(dtype=np.float64)
    most = int(np.linalg.matrix_rank(rows - rows.mean(axis=0)))
    if most == 0:
        raise ValueError(
            f"Embeddings must vary; all {len(rows)} sites have the same {rows.shape[1]} values."
        )
    covariates = _covariates(ordered)
    scale = covariates.std(axis=0)
    centre, spread, floor = _outcome_scale(ordered, family)
    return MixtureDesign(
        columns=tuple(map(str, by_site.columns)),
        components=fit_components(rows, min(n_dimensions, most), whiten=True),
        mean=covariates.mean(axis=0),
        scale=np.where(scale > 0, scale, 1.0),
        centre=centre,
        spread=spread,
        floor=floor,
    )


def sites_of(study: Study) -> tuple[pd.Index, NDArray[np.int64], pd.DataFrame]:
    """Return the sorted sites, the site code of each unit, and the embeddings by site.

    Parameters
    ----------
    study : Study
        In canonical order, with sites.

    Returns
    -------
    keys : pandas.Index of length n_sites
    site : ndarray of shape (n_units,)
    embeddings : pandas.DataFrame of shape (n_sites, n_features)
    """
    labels = site_labels(study)
    keys = pd.Index(labels.unique(), name="site")
    keys = keys[canonical_order(keys)]
    site = keys.get_indexer(labels).astype(np.int64)
    first = np.unique(site, return_index=True)[1]
    table = study.table[list(study.embedding_columns)].iloc[first].set_axis(keys, axis=0)
    return keys, site, table


def site_labels(study: Study) -> pd.Index:
    """Return the site of each unit; refuse a study without sites or embeddings.

    Parameters
    ----------
    study : Study

    Returns
    -------
    pandas.Index of length n_units
    """
    if study.sites is None or not study.embedding_columns:
        raise RoleError(
            "A mixture explains effects by the images of sites; the study has "
            f"{study.n_sites} sites and {len(study.embedding_columns)} joined embedding columns. "
            "Name the site column, Study(..., site='village'), and join embeddings by site."
        )
    labels: pd.Index = pd.Index(study.sites)
    return labels


def _floats(values: "pd.Series[float]") -> Floats:
    return np.asarray(values, dtype=np.float64)


def _covariates(study: Study) -> Floats:
    numbers = study.features("outcome", use="covariates")
    return np.asarray(numbers.to_numpy(dtype=np.float64))


def _weights(study: Study) -> Floats:
    weight = study.weight
    return np.ones(study.n_units) if weight is None else _floats(weight)


def _outcome_scale(study: Study, family: str) -> tuple[float, float, float | None]:
    """Return centre, spread and floor of the outcome, checked against the family."""
    y = _floats(study.outcome)
    name = study.roles.outcome
    weight = _weights(study)
    centre = float(np.average(y, weights=weight))
    spread = float(np.sqrt(np.average((y - centre) ** 2, weights=weight)))
    if spread <= 1e-12 * max(abs(centre), 1.0):
        raise ValueError(
            f"The outcome {name!r} must vary; all {len(y)} units have the value {y[0]:g}."
        )
    if family == "bernoulli":
        values = np.unique(y)
        if not set(values) <= {0.0, 1.0}:
            raise ValueError(
                f"family='bernoulli' takes outcomes 0 and 1; {name!r} has {len(values)} values: "
                f"{list_some(values)}. Use family='normal' or 'student_t'."
            )
        return 0.0, 1.0, None
    if family == "left_censored":
        floor = float(y.min())
        share = float(np.mean(y == floor))
        if share < _MIN_FLOOR_SHARE:
            raise ValueError(
                "family='left_censored' takes outcomes that pile up at their lowest value; only "
                f"{share:.1%} of the units of {name!r} sit at {floor:g}. Use family='normal'."
            )
        return centre, spread, floor
    return centre, spread, None

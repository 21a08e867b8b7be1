"""What a mixture is fitted to: units, their sites, and what describes these, all as arrays."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import canonical_order
from terracausal.mixtures.outcomes import OutcomeScale, learn_scale
from terracausal.mixtures.projection import SiteProjection, learn_projection
from terracausal.mixtures.settings import MixtureSpec
from terracausal.study import Study

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MixtureTable:
    """Units and sites in canonical order; outcomes are standardised.

    Parameters
    ----------
    observed : ndarray of shape (n_units,)
        Outcomes in their own units.
    outcome, treatment, weight : ndarray of shape (n_units,)
        Weights have mean 1, not counting units without weight.
    dose : ndarray of shape (n_units,)
        What multiplies the effect: the treatment, or what is left of it after its prediction.
    at_floor : ndarray of bool of shape (n_units,)
        Outcomes that have a probability rather than a density.
    baseline : ndarray of shape (n_units, n_features)
        Features of the baseline, the first of them 1.
    modifier : ndarray of shape (n_units, n_modifiers)
        Features along which the effect of a type differs; none by default.
    site : ndarray of shape (n_units,)
        Codes from 0 to n_sites - 1.
    image : ndarray of shape (n_sites, n_dimensions + 1)
        Features of the membership, the first of them 1.
    cluster : ndarray of shape (n_sites,)
        Cluster of each site, codes from 0.
    sites : pandas.Index of length n_sites
    """

    observed: Floats
    outcome: Floats
    treatment: Floats
    dose: Floats
    weight: Floats
    at_floor: NDArray[np.bool_]
    baseline: Floats
    modifier: Floats
    site: NDArray[np.int64]
    image: Floats
    cluster: NDArray[np.int64]
    sites: pd.Index

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.sites)


@dataclass(frozen=True, eq=False)
class SiteTable:
    """What describes sites: a table for the types, and one for the baseline.

    Parameters
    ----------
    types, baseline : pandas.DataFrame of shape (n_sites, any)
        Indexed by site.
    """

    types: pd.DataFrame
    baseline: pd.DataFrame

    @property
    def of_baseline(self) -> pd.DataFrame:
        """All that is said of a site.

        What a network misses of the baseline must not go to the types for being correlated with
        their log odds.
        """
        if self.baseline is self.types:
            return self.types
        return pd.concat([self.types, self.baseline], axis=1)


@dataclass(frozen=True, eq=False)
class MixtureDesign:
    """How a study becomes arrays: learned on the fitted sites, applied to any.

    Parameters
    ----------
    types, baseline : SiteProjection
        Of what describes sites.
    mean, spread : ndarray of shape (n_covariates,)
        Of the encoded covariates over units.
    scale : OutcomeScale
    spec : MixtureSpec
    """

    types: SiteProjection
    baseline: SiteProjection
    mean: Floats
    spread: Floats
    scale: OutcomeScale
    spec: MixtureSpec

    def apply(
        self,
        study: Study,
        described: SiteTable | None = None,
        residuals: pd.DataFrame | None = None,
    ) -> MixtureTable:
        """Return the arrays of a study with the same roles.

        Parameters
        ----------
        study : Study
        described : SiteTable, default=None
            None takes the study's joined embeddings.
        residuals : pandas.DataFrame of shape (n_units, 2), default=None
            Outcome and treatment less their predictions, for the orthogonal likelihood.

        Returns
        -------
        MixtureTable
        """
        ordered = study.canonical()
        keys, site = sites_of(ordered)
        types, place = self._features_of(keys, embeddings_of(ordered, described))
        treatment = _floats(ordered.treatment)
        y, dose = _floats(ordered.outcome), treatment
        ones = np.ones((len(y), 1))
        own = (covariates_of(ordered) - self.mean) / self.spread
        if self.spec.adjustment == "orthogonal":
            if residuals is None:
                raise TypeError("the orthogonal likelihood needs residuals")
            y, dose = residuals.loc[ordered.units, ["outcome", "treatment"]].to_numpy().T
            baseline = ones
        else:
            baseline = np.column_stack([ones, place[site], own])
        modifiers = {"constant": ones[:, :0], "covariates": own, "image": types[site]}
        weight = weights_of(ordered)
        return MixtureTable(
            observed=y,
            outcome=self.scale.standardise(y),
            treatment=treatment,
            dose=dose,
            weight=weight / weight[weight > 0].mean(),
            at_floor=self.scale.at_floor(y),
            baseline=baseline,
            modifier=modifiers[self.spec.effect],
            site=site,
            image=np.column_stack([np.ones(len(types)), types]),
            cluster=_clusters(ordered, site, len(keys)),
            sites=keys,
        )

    def _features_of(self, keys: pd.Index, described: SiteTable) -> tuple[Floats, Floats]:
        return (
            self.types.project(described.types.loc[keys]),
            self.baseline.project(described.of_baseline.loc[keys]),
        )


def learn_design(
    study: Study,
    spec: MixtureSpec,
    n_dimensions: int,
    described: SiteTable | None = None,
    residuals: pd.DataFrame | None = None,
) -> MixtureDesign:
    """Learn projections and scales from a study; refuse outcomes outside the family's support.

    Parameters
    ----------
    study : Study
        With sites.
    spec : MixtureSpec
    n_dimensions : int
        Principal components to keep, fewer where the sites vary in fewer directions.
    described : SiteTable, default=None
        None takes the study's joined embeddings.
    residuals : pandas.DataFrame, default=None
        As in `MixtureDesign.apply`.

    Returns
    -------
    MixtureDesign

    Raises
    ------
    RoleError
        The study has no sites or no embeddings, or no covariates along which effects could differ.
    ValueError
        The outcome is constant, or not of the family.
    """
    ordered = study.canonical()
    keys, _ = sites_of(ordered)
    described = embeddings_of(ordered, described)
    covariates = covariates_of(ordered)
    if spec.effect == "covariates" and not covariates.shape[1]:
        raise RoleError(
            "effect='covariates' lets effects differ along the study's covariates; it has none. "
            "Name some, Study(..., covariates=[...]), or use effect='constant'."
        )
    y = _floats(ordered.outcome)
    if residuals is not None:
        y = _floats(residuals.loc[ordered.units, "outcome"])
    scale = learn_scale(y, weights_of(ordered), spec.family, ordered.roles.outcome)
    types = learn_projection(described.types.loc[keys], n_dimensions)
    same = described.baseline is described.types
    place = types if same else learn_projection(described.of_baseline.loc[keys], n_dimensions)
    spread = covariates.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return MixtureDesign(types, place, covariates.mean(axis=0), spread, scale, spec)


def sites_of(study: Study) -> tuple[pd.Index, NDArray[np.int64]]:
    """Return the sorted sites, and the site code of each unit.

    Parameters
    ----------
    study : Study
        In canonical order, with sites.

    Returns
    -------
    keys : pandas.Index of length n_sites
    site : ndarray of shape (n_units,)
    """
    labels = site_labels(study)
    keys = pd.Index(labels.unique(), name="site")
    keys = keys[canonical_order(keys)]
    return keys, keys.get_indexer(labels).astype(np.int64)


def embeddings_of(study: Study, described: SiteTable | None) -> SiteTable:
    """Return what describes sites; the study's joined embeddings by default.

    Parameters
    ----------
    study : Study
        In canonical order, with sites.
    described : SiteTable or None

    Returns
    -------
    SiteTable
    """
    if described is not None:
        return described
    if not study.embedding_columns:
        raise RoleError(
            "Types of places are read off the images of sites; the study has "
            f"{study.n_sites} sites and 0 joined embedding columns. Join embeddings by site, "
            "study.join(embeddings, role='modifier'), or fit(study, chips)."
        )
    keys, site = sites_of(study)
    first = np.unique(site, return_index=True)[1]
    table = study.table[list(study.embedding_columns)].iloc[first].set_axis(keys, axis=0)
    return SiteTable(table, table)


def site_labels(study: Study) -> pd.Index:
    """Return the site of each unit; refuse a study without sites.

    Parameters
    ----------
    study : Study

    Returns
    -------
    pandas.Index of length n_units
    """
    if study.sites is None:
        raise RoleError(
            "Types of places are read off the images of sites; the study has "
            f"{study.n_sites} sites. Name the site column, Study(..., site='village')."
        )
    labels: pd.Index = pd.Index(study.sites)
    return labels


def covariates_of(study: Study) -> Floats:
    """Return encoded covariates, of shape (n_units, n_covariates).

    Parameters
    ----------
    study : Study

    Returns
    -------
    ndarray
    """
    numbers = study.features("outcome", use="covariates")
    return np.asarray(numbers.to_numpy(dtype=np.float64))


def weights_of(study: Study) -> Floats:
    """Return the weights of units, 1 where the study has none.

    Parameters
    ----------
    study : Study

    Returns
    -------
    ndarray of shape (n_units,)
    """
    weight = study.weight
    return np.ones(study.n_units) if weight is None else _floats(weight)


def _floats(values: "pd.Series[float]") -> Floats:
    return np.asarray(values, dtype=np.float64)


def _clusters(study: Study, site: NDArray[np.int64], n_sites: int) -> NDArray[np.int64]:
    clusters = study.clusters
    if clusters is None:
        return np.arange(n_sites)
    first = np.unique(site, return_index=True)[1]
    return pd.factorize(clusters.to_numpy()[first])[0].astype(np.int64)

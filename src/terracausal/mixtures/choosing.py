"""How many components? Held-out log density of sites, and the simplest within one error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.checks import check_count, check_same_index
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed, random_generator
from terracausal.mixtures.effect_mixture import EffectMixture, prepare
from terracausal.study import Folds, Study
from terracausal.study.folds import check_whole_clusters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
_N_DRAWS = 200


@dataclass(frozen=True, eq=False)
class ComponentChoice:
    """Held-out log predictive densities by number of components, and the choice.

    Parameters
    ----------
    n_components : int
        The smallest number whose density is within one standard error of the best.
    table : pandas.DataFrame
        One row per candidate: n_components, log_density (mean over sites), std_error, difference
        (to the best), difference_std_error, n_sites, n_clusters.

    Examples
    --------
    >>> table = pd.DataFrame({"n_components": [1], "log_density": [-1.2], "std_error": [0.1],
    ...     "difference": [0.0], "difference_std_error": [0.0], "n_sites": [50],
    ...     "n_clusters": [50]})  # fmt: skip
    >>> print(ComponentChoice(1, table))
    1 component: the data do not support types with different effects
      K = 1       log density -1.2000 per site (std. error 0.1000), best
      rule        the smallest K within one std. error (of the difference) of the best; 50 sites
    """

    n_components: int
    table: pd.DataFrame = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per candidate."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the densities and the choice as text."""
        one = self.n_components == 1
        lines = [
            "1 component: the data do not support types with different effects"
            if one
            else f"{self.n_components} components"
        ]
        for r in self.table.itertuples():
            words = (
                "best"
                if r.difference == 0
                else f"{r.difference:.4f} to the best (std. error {r.difference_std_error:.4f})"
            )
            lines.append(
                f"  K = {r.n_components:<7} log density {r.log_density:.4f} per site "
                f"(std. error {r.std_error:.4f}), {words}"
            )
        lines.append(
            "  rule        the smallest K within one std. error (of the difference) of the best; "
            f"{self.table['n_sites'].iloc[0]:,} sites"
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from html import escape

        table: str = self.table.to_html(index=False, float_format="{:.4f}".format)
        return f"{table}<pre>{escape(self.summary())}</pre>"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each candidate's distance to the best, with one standard error.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        rows = pd.DataFrame(
            {
                "term": [f"K = {k}" for k in self.table["n_components"]],
                "estimate": self.table["difference"],
                "ci_low": self.table["difference"] - self.table["difference_std_error"],
                "ci_high": self.table["difference"] + self.table["difference_std_error"],
            }
        )
        label = "Held-out log density per site, minus the best (± 1 SE)"
        return plot_intervals(rows, ax=ax, xlabel=label, unit=None)


def choose_components(
    study: Study,
    candidates: Sequence[int] = (1, 2, 3),
    folds: Folds | None = None,
    *,
    mixture: EffectMixture | None = None,
) -> ComponentChoice:
    """Choose the number of components by how well they predict sites that were held out.

    The log predictive density of a site averages over the normal approximation of the posterior at
    the mode of the training part. The smallest number is chosen whose mean density is within one
    standard error of the best; the error is that of the difference, over clusters.

    Parameters
    ----------
    study : Study
        With sites and joined embeddings.
    candidates : sequence of int, default=(1, 2, 3)
        Numbers of components to try.
    folds : Folds, default=None
        None takes 5 folds of whole clusters, seeded with the mixture's `random_state`.
    mixture : EffectMixture, default=None
        Its settings are used, but for the number of components; None takes the defaults.

    Returns
    -------
    ComponentChoice

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> quick = EffectMixture(n_dimensions=2, n_restarts=2, random_state=0)
    >>> folds = study.folds(2, random_state=0)
    >>> choose_components(study, (1,), folds, mixture=quick).n_components
    1
    """
    if not len(candidates):
        raise ValueError("`candidates` must name at least one number of components; got none.")
    counts = sorted({check_count("candidates", k) for k in candidates})
    settings = EffectMixture() if mixture is None else clone(mixture)
    settings._check_settings()
    rng = random_generator(settings.random_state)
    if folds is None:
        folds = study.folds(random_state=rng)
    check_same_index("folds", folds.labels.index, study.units)
    check_whole_clusters(folds.labels, study.clusters)
    positions = folds.labels.index.get_indexer(study.units)
    splits = [(train[positions], test[positions]) for train, test in folds.split()]
    for train, _ in splits:
        # refused before anything is fitted
        prepare(study.subset(train), counts[-1], settings.family, settings.n_dimensions)
    seed = draw_seed(rng)
    jobs = [(k, train, test) for train, test in splits for k in counts]
    parts: dict[int, list[tuple[Floats, list[object]]]] = {k: [] for k in counts}
    for k, train, test in track(jobs, "choosing the number of components", len(jobs)):
        parts[k].append(_held_out(study.subset(train), study.subset(test), settings, k, seed))
    density = {k: np.concatenate([part[0] for part in found]) for k, found in parts.items()}
    labels = [label for _, names in parts[counts[0]] for label in names]
    return _choice(density, pd.factorize(pd.Series(labels, dtype=object))[0])


def _held_out(
    train: Study, test: Study, settings: EffectMixture, n_components: int, seed: int
) -> tuple[Floats, list[object]]:
    """Return the log density of each held-out site, and the clusters of these sites."""
    import torch

    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import find_mode, make_density, one_thread
    from terracausal.mixtures.variational import laplace_posterior

    rng = random_generator(seed)
    design, table = prepare(train, n_components, settings.family, settings.n_dimensions)
    density = make_density(design, table, settings.family, n_components, settings.noise)
    held = design.apply(test)
    with one_thread(), torch.no_grad():
        mode = find_mode(density, settings.n_restarts, rng)
        draws = laplace_posterior(mode, _N_DRAWS, rng).draws
        outside = MixtureDensity(held, density.blocks, settings.family, design.standard_floor)
        by_draw = outside.log_sites(draws)
        site = (torch.logsumexp(by_draw, dim=0) - np.log(_N_DRAWS)).numpy()
    # densities of outcomes, not of standardised ones; what sits at the floor has a probability
    measured = np.ones(len(held.outcome))
    if design.standard_floor is not None:
        measured[held.outcome <= design.standard_floor] = 0.0
    counts = np.bincount(held.site, weights=measured * held.weight, minlength=held.n_sites)
    site = site - counts * np.log(design.spread)
    own = test.canonical()
    clusters = own.sites if own.clusters is None else own.clusters
    first = np.unique(held.site, return_index=True)[1]
    return site, list(np.asarray(clusters, dtype=object)[first])


def _choice(density: dict[int, Floats], cluster: NDArray[np.int64]) -> ComponentChoice:
    """Apply the rule to held-out log densities (n_sites,) by number of components."""
    best = max(density, key=lambda k: float(density[k].mean()))
    rows = []
    for k, values in density.items():
        gap = values - density[best]
        rows.append(
            {
                "n_components": k,
                "log_density": float(values.mean()),
                "std_error": _error_of_mean(values, cluster),
                "difference": float(gap.mean()),
                "difference_std_error": _error_of_mean(gap, cluster),
                "n_sites": len(values),
                "n_clusters": int(cluster.max()) + 1,
            }
        )
    table = pd.DataFrame(rows)
    within = table["difference"] >= -table["difference_std_error"]
    return ComponentChoice(int(table.loc[within, "n_components"].min()), table)


def _error_of_mean(values: Floats, cluster: NDArray[np.int64]) -> float:
    """Return the clustered standard error of a mean over sites."""
    totals = np.bincount(cluster, weights=values - values.mean())
    factor = len(totals) / max(len(totals) - 1, 1)
    return float(np.sqrt(factor * (totals**2).sum()) / len(values))

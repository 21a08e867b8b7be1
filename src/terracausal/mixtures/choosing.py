"""How many components? Held-out log density of sites, and the simplest within one error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from terracausal._foundation.checks import check_count, check_same_index
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed, random_generator
from terracausal.mixtures.effect_mixture import EffectMixture
from terracausal.mixtures.held_out import HeldOut, HeldOutSearch
from terracausal.mixtures.preparing import check_support
from terracausal.mixtures.settings import MIN_SITES
from terracausal.study import Folds, Study
from terracausal.study.folds import check_whole_clusters
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from terracausal.imagery import Chips

Floats = NDArray[np.float64]
_MOST = 6
_CLEAR = 0.05


@dataclass(frozen=True, eq=False)
class ComponentChoice(TabularResult):
    """Held-out log predictive densities by number of components, and the choice.

    One component is a legitimate answer: the data do not tell types of places apart.

    Parameters
    ----------
    n_components : int
        The smallest number whose density is within one standard error of the best.
    table : pandas.DataFrame
        One row per candidate: n_components, log_density (mean over sites), std_error, difference
        (to the best), difference_std_error, stability (mean adjusted Rand index between the folds'
        labellings of all sites by their image), gain and gain_std_error (over one component),
        image_gain, image_gain_std_error and image_p_value (of types told by images over types whose
        shares are the same at all sites; the p-value is one-sided), n_sites, n_clusters.
    p_value : float, default=None
        Of no heterogeneity: that no number of components above 1 predicts better than 1. One-sided
        t tests over clusters, Bonferroni over candidates; conservative, since without types the
        expected gain is below 0. None where 1 was no candidate, or the only one.

    Examples
    --------
    >>> table = pd.DataFrame({"n_components": [1], "log_density": [-1.2], "std_error": [0.1],
    ...     "difference": [0.0], "difference_std_error": [0.0], "stability": [1.0], "gain": [0.0],
    ...     "gain_std_error": [0.0], "n_sites": [50], "n_clusters": [50]})  # fmt: skip
    >>> print(ComponentChoice(1, table))
    1 component: the data do not support types with different effects, which is an answer
      K = 1       log density -1.2000 per site (std. error 0.1000), best
      rule        the smallest K within one std. error (of the difference) of the best; 50 sites
    """

    n_components: int
    table: pd.DataFrame = field(repr=False)
    p_value: float | None = None

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per candidate."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the densities and the choice as text."""
        one = self.n_components == 1
        lines = [
            "1 component: the data do not support types with different effects, which is an answer"
            if one
            else f"{self.n_components} components"
        ]
        for r in self.table.itertuples():
            words = (
                "best"
                if r.difference == 0
                else f"{r.difference:.4f} to the best (std. error {r.difference_std_error:.4f})"
            )
            if int(str(r.n_components)) > 1:
                words += f"; folds agree on types to {r.stability:.2f} (adjusted Rand index)"
            lines.append(
                f"  K = {r.n_components:<7} log density {r.log_density:.4f} per site "
                f"(std. error {r.std_error:.4f}), {words}"
            )
        if self.p_value is not None:
            lines.append(
                f"  test        p = {self.p_value:.3g} of no number above 1 predicting better"
            )
        if not one:
            lines.append(self._images())
        lines.append(
            "  rule        the smallest K within one std. error (of the difference) of the best; "
            f"{self.table['n_sites'].iloc[0]:,} sites"
        )
        return "\n".join(lines)

    def _images(self) -> str:
        r = self.table.set_index("n_components").loc[self.n_components]
        told = f"{r['image_gain']:+.4f} per site (std. error {r['image_gain_std_error']:.4f}, "
        words = f"  images      {told}p = {r['image_p_value']:.3g}) for telling the types"
        if r["image_p_value"] < _CLEAR:
            return words
        return f"{words}: they may tell nothing, nor may exemplars and maps of these types"

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
    candidates: Sequence[int] | None = None,
    folds: Folds | None = None,
    *,
    mixture: EffectMixture | None = None,
    chips: "Chips | None" = None,
) -> ComponentChoice:
    """Choose the number of components by how well they predict sites that were held out.

    The log predictive density of a site averages over the normal approximation of the posterior at
    the mode of the training part. The smallest number is chosen whose mean density is within one
    standard error of the best; the error is that of the difference, over clusters.

    Types can differ in their effects and still not be told by images. So each number above 1 is
    also fitted with shares that are the same at all sites: what images gain over these is told in
    the table, and for the chosen number in the summary. Where there are no types, it means little.

    Parameters
    ----------
    study : Study
        With sites and joined embeddings.
    candidates : sequence of int, default=None
        Numbers of components to try; None tries 1 to 6, as far as there are sites for them.
    folds : Folds, default=None
        None takes 5 folds of whole clusters, seeded with the mixture's `random_state`.
    mixture : EffectMixture, default=None
        Its settings are used, but for the number of components; None takes the defaults.
    chips : Chips, default=None
        Of all sites, for mixtures that read them end to end; networks are trained in each fold.

    Returns
    -------
    ComponentChoice

    Raises
    ------
    ValueError
        There are fewer than 10 sites per component in the training part of a fold.
    LeakageError
        Folds split a cluster.

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
    settings = EffectMixture() if mixture is None else clone(mixture)
    settings._check_settings()
    rng = random_generator(settings.random_state)
    if folds is None:
        folds = study.folds(random_state=rng)
    check_same_index("folds", folds.labels.index, study.units)
    check_whole_clusters(folds.labels, study.clusters)
    positions = folds.labels.index.get_indexer(study.units)
    splits = [(train[positions], test[positions]) for train, test in folds.split()]
    fewest = min(study.subset(train).n_sites for train, _ in splits)
    if candidates is None:
        candidates = range(1, max(min(_MOST, fewest // MIN_SITES), 1) + 1)
    if not len(candidates):
        raise ValueError("`candidates` must name at least one number of components; got none.")
    counts = sorted({check_count("candidates", k) for k in candidates})
    check_support(fewest, counts[-1])
    search = HeldOutSearch(study, settings, chips, draw_seed(rng))
    jobs = [(k, train, test) for train, test in splits for k in counts]
    parts: dict[int, list[HeldOut]] = {k: [] for k in counts}
    for k, train, test in track(jobs, "choosing the number of components", len(jobs)):
        parts[k].append(search.held_out(k, train, test))
    density, blind = (
        {k: np.concatenate([getattr(part, kind) for part in found]) for k, found in parts.items()}
        for kind in ("log_density", "blind_log_density")
    )
    labels = [label for part in parts[counts[0]] for label in part.clusters]
    stability = {k: _stability([part.types for part in found]) for k, found in parts.items()}
    cluster = pd.factorize(pd.Series(labels, dtype=object))[0]
    return _choice(density, blind, cluster, stability)


def _stability(types: list[NDArray[np.intp]]) -> float:
    """Return the mean adjusted Rand index between the folds' labellings of all sites."""
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(types, 2)]))


def _choice(
    density: dict[int, Floats],
    blind: dict[int, Floats],
    cluster: NDArray[np.int64],
    stability: dict[int, float] | None = None,
) -> ComponentChoice:
    """Apply the rule to held-out log densities (n_sites,) by number of components."""
    n_clusters = int(cluster.max()) + 1
    best = max(density, key=lambda k: float(density[k].mean()))
    rows = []
    for k, values in density.items():
        gap = values - density[best]
        gain = values - density.get(1, values)
        seen = values - blind[k]
        error = _error_of_mean(seen, cluster)
        t = seen.mean() / error if error > 0 else np.nan
        rows.append(
            {
                "n_components": k,
                "log_density": float(values.mean()),
                "std_error": _error_of_mean(values, cluster),
                "difference": float(gap.mean()),
                "difference_std_error": _error_of_mean(gap, cluster),
                "stability": np.nan if stability is None else stability[k],
                "gain": float(gain.mean()),
                "gain_std_error": _error_of_mean(gain, cluster),
                "image_gain": float(seen.mean()),
                "image_gain_std_error": error,
                "image_p_value": float(stats.t.sf(t, max(n_clusters - 1, 1))),
                "n_sites": len(values),
                "n_clusters": n_clusters,
            }
        )
    table = pd.DataFrame(rows)
    within = table["difference"] >= -table["difference_std_error"]
    return ComponentChoice(int(table.loc[within, "n_components"].min()), table, _p_value(table))


def _p_value(table: pd.DataFrame) -> float | None:
    """Return the p-value of no gain over one component."""
    more = table[table["n_components"] > 1]
    if not len(more) or len(more) == len(table):
        return None
    t = more["gain"] / more["gain_std_error"]
    each = stats.t.sf(t, np.maximum(more["n_clusters"] - 1, 1))
    return float(min(np.min(each) * len(more), 1.0))


def _error_of_mean(values: Floats, cluster: NDArray[np.int64]) -> float:
    """Return the clustered standard error of a mean over sites."""
    totals = np.bincount(cluster, weights=values - values.mean())
    factor = len(totals) / max(len(totals) - 1, 1)
    return float(np.sqrt(factor * (totals**2).sum()) / len(values))

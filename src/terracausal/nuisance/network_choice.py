"""Which network reads the confounder? The one that predicts held-out sites best."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed, random_generator
from terracausal.nuisance.cross_fitting import Nuisances
from terracausal.nuisance.image_learner import ImageNuisanceLearner
from terracausal.study import Folds, Study
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from terracausal.imagery import Chips

Criterion = Literal["treatment", "outcome", "joint"]
CRITERIA = ("treatment", "outcome", "joint")


@dataclass(frozen=True, eq=False)
class NetworkComparison(TabularResult):
    """Held-out losses of several networks, and which one has the lowest.

    Parameters
    ----------
    chosen : hashable
        Name of the network with the lowest loss.
    criterion : {'treatment', 'outcome', 'joint'}
        Which loss chose.
    table : pandas.DataFrame
        One row per criterion and network: criterion, network, loss, difference (to the lowest of
        the criterion), std_error (of that difference, clustered), n_units, n_clusters.

    Examples
    --------
    >>> table = pd.DataFrame({"criterion": ["treatment"] * 2, "network": [4, 8],
    ...     "loss": [0.69, 0.64], "difference": [0.05, 0.0], "std_error": [0.01, 0.0],
    ...     "n_units": [90, 90], "n_clusters": [90, 90]})  # fmt: skip
    >>> print(NetworkComparison(8, "treatment", table))
    Network 8 has the lowest held-out loss (treatment); 90 units, 90 clusters
      4            0.6900, 0.0500 above the lowest (std. error 0.0100)
      8            0.6400, the lowest
    """

    chosen: Hashable
    criterion: Criterion
    table: pd.DataFrame = field(repr=False)

    def by_criterion(self) -> dict[str, Hashable]:
        """Return the network with the lowest loss by each criterion."""
        best = self.table.loc[self.table.groupby("criterion", sort=False)["loss"].idxmin()]
        return dict(zip(best["criterion"], best["network"], strict=True))

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per criterion and network."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the losses by the criterion that chose, as text."""
        rows = self.table.loc[self.table["criterion"] == self.criterion]
        lines = [
            f"Network {self.chosen} has the lowest held-out loss ({self.criterion}); "
            f"{rows['n_units'].iloc[0]:,} units, {rows['n_clusters'].iloc[0]:,} clusters"
        ]
        for r in rows.itertuples():
            words = (
                "the lowest"
                if r.network == self.chosen
                else f"{r.difference:.4f} above the lowest (std. error {r.std_error:.4f})"
            )
            lines.append(f"  {r.network!s:<12} {r.loss:.4f}, {words}")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw how far each network's loss lies above the lowest, with one standard error.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        rows = self.table.loc[self.table["criterion"] == self.criterion]
        drawn = pd.DataFrame(
            {
                "term": rows["network"].astype(str),
                "estimate": rows["difference"],
                "ci_low": rows["difference"] - rows["std_error"],
                "ci_high": rows["difference"] + rows["std_error"],
            }
        )
        label = f"Held-out loss ({self.criterion}) above the lowest (± 1 SE)"
        return plot_intervals(drawn, ax=ax, xlabel=label, unit=None)


def choose_network(
    study: Study,
    chips: "Chips",
    candidates: Mapping[Hashable, Callable[[int], Any] | str],
    folds: Folds | None = None,
    *,
    learner: ImageNuisanceLearner | None = None,
    criterion: Criterion = "treatment",
    n_jobs: int = 1,
) -> NetworkComparison:
    """Compare networks by how well they predict treatment and outcome of held-out units.

    Parameters
    ----------
    study : Study
        With sites.
    chips : Chips
        Of all sites of the study.
    candidates : mapping of name to callable or str
        Networks as `ImageNuisanceLearner` takes them, such as
        `{8: functools.partial(KernelMaxNetwork, width_px=8)}`.
    folds : Folds, default=None
        None takes 5 folds of whole clusters. All candidates are trained on the same ones.
    learner : ImageNuisanceLearner, default=None
        Its settings are used, but for the network; None takes the defaults.
    criterion : {'treatment', 'outcome', 'joint'}, default='treatment'
        "treatment": cross-entropy of the treatment. "outcome": squared error of the outcome in the
        arm that was seen, in units of the variance within arms. "joint": their sum. All three are
        told; this one chooses.
    n_jobs : int, default=1
        Folds trained side by side; the numbers do not depend on it.

    Returns
    -------
    NetworkComparison

    Raises
    ------
    RoleError
        If the treatment shall choose where its probability is known.
    ValueError
        If there are fewer than two candidates.

    Notes
    -----
    The rule of Jerzak, Johansson and Daoud (2023), arXiv:2301.12985, for the width of the filter of
    a network, here out of fold. Standard errors are those of paired differences, over clusters; the
    lowest of several losses flatters itself a little. That a network predicts the treatment best
    among those that were tried does not say that it sees all that confounds.

    Examples
    --------
    >>> import terracausal as tc
    >>> from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
    >>> data = tc.simulate_study(n_sites=60, size_px=8, random_state=0)
    >>> quick = ImageNuisanceLearner(training=TrainingSettings(n_epochs=1), random_state=0)
    >>> study = data.study.with_roles(propensity=None)
    >>> folds = study.folds(2, random_state=0)
    >>> networks = {"small": lambda n_bands: KernelMaxNetwork(n_bands, 2), "cnn": "cnn"}
    >>> found = choose_network(study, data.chips, networks, folds, learner=quick)
    >>> sorted(found.by_criterion())
    ['joint', 'outcome', 'treatment']
    """
    check_choice("criterion", criterion, CRITERIA)
    if len(candidates) < 2:
        raise ValueError(f"`candidates` must name at least 2 networks; got {len(candidates)}.")
    if study.propensity is not None and criterion != "outcome":
        raise RoleError(
            "The probability of treatment is known, so that no network learns it. Choose by "
            "criterion='outcome'."
        )
    learner = ImageNuisanceLearner() if learner is None else learner
    rng = random_generator(learner.random_state)
    if folds is None:
        folds = study.folds(random_state=rng)
    seed = draw_seed(rng)
    ordered = study.canonical()
    losses: dict[Hashable, pd.DataFrame] = {}
    for name in track(list(candidates), "comparing networks"):
        one = clone(learner).set_params(network=candidates[name], random_state=seed)
        try:
            nuisances = one.cross_fit(ordered, chips, folds, n_jobs=n_jobs)
        except Exception as error:
            error.add_note(f"while training the candidate {name!r}")
            raise
        losses[name] = held_out_losses(ordered, nuisances)
    used = ["outcome"] if study.propensity is not None else list(CRITERIA)
    v = np.ones(ordered.n_units) if ordered.weight is None else ordered.weight.to_numpy()
    codes = ordered.frame.cluster_codes
    cluster = np.arange(ordered.n_units) if codes is None else codes
    parts = [_compare(losses, name, v, cluster) for name in used]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    own = table.loc[table["criterion"] == criterion]
    chosen: Any = own["network"].iloc[int(own["loss"].to_numpy().argmin())]
    return NetworkComparison(chosen, criterion, table)


def held_out_losses(study: Study, nuisances: Nuisances) -> pd.DataFrame:
    """Return the losses of out-of-fold predictions by unit: treatment, outcome and joint.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances
        Of its units, in any order.

    Returns
    -------
    pandas.DataFrame of shape (n_units, 3)
        The outcome's squared errors are divided by the variance within arms.
    """
    table = nuisances.table.loc[study.units]
    y, w = study.outcome.to_numpy(), study.treatment.to_numpy()
    likelihood = np.where(w == 1, table["propensity"], 1 - table["propensity"])
    own = np.where(w == 1, table["outcome_treated"], table["outcome_control"])
    means = np.array([y[w == arm].mean() for arm in (0, 1)])
    variance = np.mean((y - means[w.astype(int)]) ** 2)
    treatment = -np.log(np.maximum(likelihood, np.finfo(float).tiny))
    outcome = (y - own) ** 2 / variance
    columns = {"treatment": treatment, "outcome": outcome, "joint": treatment + outcome}
    return pd.DataFrame(columns, index=study.units)


def _compare(
    losses: dict[Hashable, pd.DataFrame],
    criterion: str,
    weight: NDArray[np.floating[Any]],
    cluster: NDArray[np.int64],
) -> pd.DataFrame:
    """Return mean losses by network, and clustered errors of their distances to the lowest."""
    by_unit = {name: table[criterion].to_numpy() for name, table in losses.items()}
    mean = {name: float(np.average(loss, weights=weight)) for name, loss in by_unit.items()}
    best = min(mean, key=lambda name: mean[name])
    rows = []
    for name, loss in by_unit.items():
        gap = loss - by_unit[best]
        distance = float(np.average(gap, weights=weight))
        totals = np.bincount(cluster, weights=weight * (gap - distance)) / weight.sum()
        factor = len(totals) / max(len(totals) - 1, 1)
        rows.append(
            {
                "criterion": criterion,
                "network": name,
                "loss": mean[name],
                "difference": distance,
                "std_error": float(np.sqrt(factor * (totals**2).sum())),
                "n_units": len(loss),
                "n_clusters": len(totals),
            }
        )
    return pd.DataFrame(rows)

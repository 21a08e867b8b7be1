"""Whether propensities mean what they say, and how well they tell the arms apart."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from terracausal._foundation.checks import check_count, check_fraction
from terracausal.evaluation.arms import Floats, arms_of
from terracausal.nuisance import Scores
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class PropensityCheck(TabularResult):
    """Calibration and skill of propensities.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `metric`, `value` and `baseline`, what the share treated alone would give:
        `log_loss` and `brier` (lower is better), `auc` and `auprc` (higher tells the arms apart
        better, which makes overlap worse), `calibration_slope` (1 is right, below 1 propensities
        are too extreme) and `calibration_error`, the mean gap of the groups.
    groups : pandas.DataFrame
        Units grouped by propensity: `predicted`, `observed`, `ci_low`, `ci_high`, `n_units`.
    population : str
        Which units are looked at, in words.
    out_of_fold : bool
        Whether the scores say which fold each unit was predicted in.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study("tutorial", n_sites=200, size_px=4, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> check_propensity(scores).table["metric"].tolist()[:4]
    ['log_loss', 'brier', 'auc', 'auprc']
    """

    table: pd.DataFrame
    groups: pd.DataFrame = field(repr=False)
    population: str
    out_of_fold: bool

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table of metrics."""
        return self.table.copy()

    def summary(self) -> str:
        """Return skill and calibration in words."""
        n_units = int(self.groups["n_units"].sum())
        source = "predicted out of fold" if self.out_of_fold else "of unknown origin"
        lines = [f"Propensities of {n_units:,} units ({self.population}), {source}"]
        for row in self.table.itertuples():
            lines.append(f"  {row.metric:<18} {row.value:.4f} (baseline {row.baseline:.4f})")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw observed against predicted shares.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_calibration

        return plot_calibration(self.groups, ax=ax)


def check_propensity(scores: Scores, *, n_groups: int = 10, level: float = 0.95) -> PropensityCheck:
    """Compare propensities with who was treated.

    Parameters
    ----------
    scores : Scores
        With treatment and out-of-fold propensities; of repeated scores the first.
    n_groups : int, default=10
        Units are grouped by propensity into this many groups of equal size.
    level : float, default=0.95
        Of the intervals of observed shares (Wilson), which take units as independent.

    Returns
    -------
    PropensityCheck

    Raises
    ------
    RoleError
        Scores lack treatment or propensity.

    Notes
    -----
    The calibration slope is that of a logistic regression of the treatment on the log odds (Cox
    1958). Metrics count units by their weight.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"score": 1.0, "propensity": [0.2, 0.4, 0.6, 0.8], "treatment": [0, 1, 0, 1]}
    ... )
    >>> check_propensity(Scores.from_dataframe(table), n_groups=2).groups["observed"].tolist()
    [0.5, 0.5]
    """
    check_count("n_groups", n_groups)
    check_fraction("level", level)
    arms = arms_of(scores, "all", "check_propensity")
    w, e, v = arms.treatment, arms.propensity, arms.weight
    groups = calibration_groups(w, e, v, n_groups, level)
    share = np.full_like(e, np.average(w, weights=v))
    values, baselines = skill(w, e, v), skill(w, share, v)
    values["calibration_slope"] = calibration_slope(w, e, v)
    # a constant has no slope
    baselines["calibration_slope"] = np.nan
    gap = (groups["observed"] - groups["predicted"]).abs()
    values["calibration_error"] = float(np.average(gap, weights=groups["weight"]))
    baselines["calibration_error"] = 0.0
    table = pd.DataFrame(
        {"metric": list(values), "value": list(values.values()), "baseline": baselines.values()}
    )
    shown = groups.drop(columns="weight")
    return PropensityCheck(table, shown, scores.population, "fold" in scores.table.columns)


def skill(w: Floats, e: Floats, v: Floats) -> dict[str, float]:
    """Return log-loss, Brier score, and the areas under the ROC and precision-recall curves.

    Parameters
    ----------
    w, e, v : ndarray of shape (n_units,)
        Treatment, propensity and weight.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> half = np.full(4, 0.5)
    >>> skill(np.array([0.0, 1, 0, 1]), half, np.ones(4))["brier"]
    0.25
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    likelihood = np.maximum(np.where(w == 1, e, 1 - e), np.finfo(float).tiny)
    return {
        "log_loss": float(np.average(-np.log(likelihood), weights=v)),
        "brier": float(np.average((w - e) ** 2, weights=v)),
        "auc": float(roc_auc_score(w, e, sample_weight=v)),
        "auprc": float(average_precision_score(w, e, sample_weight=v)),
    }


def calibration_slope(w: Floats, e: Floats, v: Floats) -> float:
    """Return the slope of the log odds of treatment on those of the propensity.

    Parameters
    ----------
    w, e, v : ndarray of shape (n_units,)
        Treatment, propensity and weight.

    Returns
    -------
    float
        NaN where all propensities are the same, or the arms are separated.

    Examples
    --------
    >>> e = np.repeat([0.25, 0.75], 4)
    >>> round(calibration_slope(np.array([0.0, 0, 0, 1, 0, 1, 1, 1]), e, np.ones(8)), 6)
    1.0
    """
    x = logit(np.clip(e, 1e-12, 1 - 1e-12))
    if np.ptp(x) < 1e-9:
        return np.nan
    design = np.column_stack([np.ones_like(x), x])
    beta = np.zeros(2)
    for _ in range(50):
        p = expit(design @ beta)
        curvature = (design * (v * p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return np.nan
        step = np.linalg.solve(curvature, design.T @ (v * (w - p)))
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            return float(beta[1])
    return np.nan


def calibration_groups(
    w: Floats, e: Floats, v: Floats, n_groups: int, level: float
) -> pd.DataFrame:
    """Return mean propensity and share treated of groups of units with similar propensities.

    Parameters
    ----------
    w, e, v : ndarray of shape (n_units,)
        Treatment, propensity and weight.
    n_groups : int
    level : float
        Of the Wilson intervals.

    Returns
    -------
    pandas.DataFrame
        Columns predicted, observed, ci_low, ci_high, n_units, weight. Fewer groups where many
        propensities are the same, since equal propensities stay together.
    """
    edges = np.unique(np.quantile(e, np.linspace(0, 1, n_groups + 1)[1:-1]))
    group = np.searchsorted(edges, e, side="left")
    found = pd.DataFrame({"group": group, "v": v, "ve": v * e, "vw": v * w}).groupby("group")
    sums = found[["v", "ve", "vw"]].sum()
    n_units = found.size()[sums["v"] > 0]
    sums = sums[sums["v"] > 0]
    observed = sums["vw"] / sums["v"]
    z = stats.norm.ppf(0.5 + level / 2)
    middle = (observed + z**2 / (2 * n_units)) / (1 + z**2 / n_units)
    half = np.sqrt(observed * (1 - observed) / n_units + (z / (2 * n_units)) ** 2)
    half *= z / (1 + z**2 / n_units)
    return pd.DataFrame(
        {
            "predicted": sums["ve"] / sums["v"],
            "observed": observed,
            "ci_low": middle - half,
            "ci_high": middle + half,
            "n_units": n_units,
            "weight": sums["v"],
        }
    ).reset_index(drop=True)

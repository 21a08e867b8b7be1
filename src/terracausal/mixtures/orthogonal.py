"""Whether types remain when what covariates explain is taken out of the outcome."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.mixtures.adjusting import residuals_of
from terracausal.mixtures.design import embeddings_of
from terracausal.mixtures.effect_mixture import EffectMixture
from terracausal.mixtures.labels import match_components
from terracausal.mixtures.settings import OF_RESIDUALS
from terracausal.nuisance import cross_fit
from terracausal.study import Folds, Study
from terracausal.study.derived import drop_embeddings, replace_outcome
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from terracausal.imagery import Chips

Floats = NDArray[np.float64]
_N_RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class MembershipComparison(Result):
    """Memberships of sites before and after covariates were taken out of the outcome.

    Parameters
    ----------
    value : float
        Correlation over sites of the probability of a type before and after, its mean over types.
    std_error : float
        Over resampled sites, given both mixtures.
    table : pandas.DataFrame
        By site: before_1, …, after_1, …, probabilities given the image.
    effects : pandas.DataFrame
        Tidy component effects, with a column outcome: "as it is" or "orthogonalized".

    Examples
    --------
    >>> table = pd.DataFrame({"before_1": [0.2, 0.8], "after_1": [0.3, 0.7]})
    >>> print(MembershipComparison(0.9, 0.05, table, pd.DataFrame()))
    Memberships before and after covariates were taken out: correlation 0.900 (std. error 0.050)
    """

    value: float
    std_error: float
    table: pd.DataFrame = field(repr=False)
    effects: pd.DataFrame = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return the memberships by site."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the correlation and both sets of effects as text."""
        lines = [
            "Memberships before and after covariates were taken out: correlation "
            f"{self.value:.3f} (std. error {self.std_error:.3f})"
        ]
        for r in self.effects.itertuples():
            lines.append(
                f"  {r.term} {r.outcome:<15} effect {r.estimate:.4f}, {r.level:.0%} interval "
                f"{r.ci_low:.4f} to {r.ci_high:.4f}"
            )
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the probability of the last type before and after, a dot by site.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting.canvas import ensure_axes

        axes = ensure_axes(ax, 4.0, 4.0)
        last = self.table.shape[1] // 2
        axes.scatter(self.table[f"before_{last}"], self.table[f"after_{last}"], s=10)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set_xlabel(f"Probability of type {last}")
        axes.set_ylabel("The same, covariates taken out of the outcome")
        return axes


def compare_orthogonalized(
    mixture: EffectMixture,
    study: Study,
    chips: "Chips | None" = None,
    *,
    folds: Folds | None = None,
    random_state: RandomState = None,
) -> MembershipComparison:
    """Fit a mixture to the outcome, and to what its covariates leave of it; compare memberships.

    The outcome less its prediction from covariates alone (in both arms, weighted by the
    propensity), out of fold, is the second outcome. A high correlation says that the images tell
    more than what the covariates know.

    Parameters
    ----------
    mixture : EffectMixture
        Settings of both fits, of family "normal" or "student_t"; if it is fitted to this study,
        this is the first of them.
    study : Study
        With covariates.
    chips : Chips, default=None
        As in `EffectMixture.fit`.
    folds : Folds, default=None
        For the predictions; None takes 5 folds of whole clusters.
    random_state : None, int or Generator, default=None
        Seed of the folds and of the standard error.

    Returns
    -------
    MembershipComparison

    Raises
    ------
    RoleError
        The study has no covariates.
    ValueError
        The family is neither "normal" nor "student_t".

    Notes
    -----
    The paper residualises in sample by least squares and reports 0.85 for its K = 2
    (Jerzak, Johansson & Daoud 2023).

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> quick = EffectMixture(1, n_dimensions=2, guide="laplace", n_bootstrap=0, random_state=0)
    >>> compare_orthogonalized(quick, study, random_state=0).table.shape
    (60, 2)
    """
    if not study.roles.covariates:
        raise RoleError(
            "Orthogonalizing takes out of the outcome what covariates explain; the study has 0 "
            "covariates. Name them, Study(..., covariates=['age'])."
        )
    if mixture.family not in OF_RESIDUALS:
        raise ValueError(
            "What covariates leave of an outcome is of no family but "
            f"{' and '.join(map(repr, OF_RESIDUALS))}; the mixture has family="
            f"{mixture.family!r}. Set one of these."
        )
    rng = random_generator(random_state)
    nuisances = cross_fit(drop_embeddings(study), folds, random_state=rng)
    left = residuals_of(study, nuisances)["outcome"]
    note = "the outcome is what its prediction from covariates, out of fold, leaves"
    moved = replace_outcome(study, left, note)
    first = mixture if _is_fitted_to(mixture, study) else clone(mixture).fit(study, chips)
    second = clone(mixture).fit(moved, chips)
    images = embeddings_of(study.canonical(), None).types if chips is None else chips
    count = mixture.n_components
    before, after = (m.predict_proba(images).iloc[:, :count] for m in (first, second))
    order = match_components(before.to_numpy(), after.to_numpy())
    after = after.iloc[:, order]
    names = [f"{word}_{k + 1}" for word in ("before", "after") for k in range(count)]
    table = pd.concat([before, after], axis=1).set_axis(names, axis=1)
    told = [m.component_effects_.to_dataframe() for m in (first, second)]
    told[1] = told[1].iloc[order].assign(term=told[0]["term"].to_numpy())
    effects = pd.concat(
        part.assign(outcome=word)
        for part, word in zip(told, ("as it is", "orthogonalized"), strict=True)
    )
    both = table.to_numpy().reshape(len(table), 2, count)
    rows = rng.integers(len(both), size=(_N_RESAMPLES, len(both)))
    spread = np.nanstd([_correlation(both[some]) for some in rows]) if count > 1 else 0.0
    return MembershipComparison(_correlation(both), float(spread), table, effects)


def _is_fitted_to(mixture: EffectMixture, study: Study) -> bool:
    """Tell whether a mixture is fitted, and to the units and outcomes of this study."""
    if not hasattr(mixture, "design_") or not mixture.unit_effects_.index.equals(study.units):
        return False
    checks = mixture.predictive_checks_.set_index(["statistic", "arm"])["observed"]
    arms = study.outcome.groupby(study.treatment)
    found = [checks["mean", arm] for arm in ("control", "treated")]
    return mixture.adjustment == "baseline" and bool(np.allclose(found, arms.mean(), rtol=1e-9))


def _correlation(both: Floats) -> float:
    """Return the mean over types of the correlations of (n_sites, 2, K); 1 for one type."""
    pairs = [
        np.corrcoef(both[:, 0, k], both[:, 1, k])[0, 1]
        for k in range(both.shape[2])
        if np.ptp(both[:, 0, k]) > 0 and np.ptp(both[:, 1, k]) > 0
    ]
    return float(np.mean(pairs)) if pairs else 1.0

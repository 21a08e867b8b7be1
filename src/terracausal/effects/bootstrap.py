"""The refit bootstrap, which tells sampling noise from the noise of fitting."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import OverlapError, OverlapWarning, RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.average_effect import average_effect
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Estimate, Study
from terracausal.study.derived import resample_clusters
from terracausal.study.result import IntervalResult, tidy_table

Floats = NDArray[np.floating[Any]]
_MOST_REFUSED = 0.1
Estimator = Callable[[Study, np.random.Generator], Estimate]


@dataclass(frozen=True, eq=False)
class BootstrapEffect(IntervalResult):
    """An estimate with the spread of its refits, on resampled data and on the same data.

    Parameters
    ----------
    value : ndarray of shape (n_terms,)
        Median over the seeds at the data themselves.
    draws : ndarray of shape (n_draws, n_terms)
        Estimates on resampled clusters, all learners refitted.
    seeds : ndarray of shape (n_seeds, n_terms)
        Estimates on the data themselves, with other folds and seeds.
    terms : tuple of str
        Names of the terms.
    estimand, method : str
        What was estimated, and how.
    n_units, n_clusters : int
        Size of the study; units are their own clusters where there are none.
    n_refused : int, default=0
        Resamples that the estimator refused, such as one whose folds lacked an arm.
    assumptions : tuple of str, default=()
        What must hold for the estimate to be the effect.

    Examples
    --------
    >>> spread = BootstrapEffect(
    ...     np.zeros(1), np.array([[-2.0], [2.0]]), np.array([[-1.0], [1.0]]),
    ...     ("ate",), "average effect", "example", 10, 10,
    ... )  # fmt: skip
    >>> bool(spread.sampling_sd[0] < spread.std_error[0])
    True
    """

    value: Floats
    draws: Floats = field(repr=False)
    seeds: Floats = field(repr=False)
    terms: tuple[str, ...]
    estimand: str
    method: str
    n_units: int
    n_clusters: int
    n_refused: int = 0
    assumptions: tuple[str, ...] = ()

    @property
    def std_error(self) -> Floats:
        """SD over resampled and refitted estimates: sampling and fitting, shape (n_terms,)."""
        return np.asarray(self.draws.std(axis=0, ddof=1))

    @property
    def seed_sd(self) -> Floats:
        """SD over seeds at fixed data: the noise of folds and fitting alone, shape (n_terms,)."""
        return np.asarray(self.seeds.std(axis=0, ddof=1))

    @property
    def sampling_sd(self) -> Floats:
        """What remains of the standard error without the noise of one fit, shape (n_terms,)."""
        return np.sqrt(np.maximum(self.std_error**2 - self.seed_sd**2, 0.0))

    def confint(self, level: float = 0.95) -> Floats:
        """Return percentile intervals of the resampled estimates.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_terms, 2)

        Notes
        -----
        The ends are the draws of rank (R + 1) (1 - level) / 2 from below and from above, of R, with
        values between ranks interpolated (Davison & Hinkley (1997), Bootstrap Methods and their
        Application, section 5.2, doi:10.1017/CBO9780511802843). Where that rank is whole, one more
        draw lies between them with probability `level`. With fewer than 2 / (1 - level) - 1 draws,
        39 for 95 %, it is below 1; the ends are then the lowest and the highest draw, too near to
        each other.
        """
        tail = (1 - check_fraction("level", level)) / 2
        ends = np.quantile(self.draws, [tail, 1 - tail], axis=0, method="weibull")
        return np.asarray(ends.T)

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per term, with the tidy columns of an estimate and both spreads.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        pandas.DataFrame
        """
        return tidy_table(
            self.terms,
            self.value,
            self.std_error,
            self.confint(level),
            level=level,
            n_units=self.n_units,
            n_clusters=self.n_clusters,
            sampling_sd=self.sampling_sd,
            seed_sd=self.seed_sd,
        )

    def summary(self, level: float = 0.95) -> str:
        """Return estimate, interval and both spreads as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        str
        """
        lines = [f"Refit bootstrap: {self.estimand}", f"  method      {self.method}"]
        for r in self.to_dataframe(level).itertuples():
            lines += [
                f"  {r.term:<11} {r.estimate:.4f} (std. error {r.std_error:.4f}), {level:.0%} "
                f"interval {r.ci_low:.4f} to {r.ci_high:.4f}",
                f"  spread      sampling {r.sampling_sd:.4f}, seeds at fixed data {r.seed_sd:.4f}",
            ]
        lines.append(
            f"  drawn       {len(self.draws)} resamples of {self.n_clusters:,} clusters, "
            f"{len(self.seeds)} seeds; all learners refitted"
        )
        least = int(np.ceil(2 / (1 - level) - 1 - 1e-9))
        if len(self.draws) < least:
            lines.append(f"  note        a {level:.0%} interval needs {least} draws or more")
        if self.n_refused:
            lines.append(f"  note        {self.n_refused} further resamples were refused")
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)


def bootstrap_effect(
    study: Study,
    estimator: Estimator | None = None,
    *,
    n_draws: int = 200,
    n_seeds: int = 20,
    n_jobs: int = 1,
    random_state: RandomState = None,
) -> BootstrapEffect:
    """Repeat an estimate on resampled clusters and on the data themselves, refitting everything.

    The SD over resamples counts sampling and fitting. The SD over seeds at fixed data counts
    folds and fitting alone; `repeat_cross_fit` reduces it.

    Parameters
    ----------
    study : Study
    estimator : callable, default=None
        Takes a study and a generator and returns an `Estimate`. None is the doubly robust average
        effect with the default learners.
    n_draws : int, default=200
        Resamples of whole clusters. All copies of a cluster share its fold.
    n_seeds : int, default=20
        Repeats on the data themselves.
    n_jobs : int, default=1
        Refits side by side; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed.

    Returns
    -------
    BootstrapEffect

    Raises
    ------
    OverlapError
        The estimator refused more than a tenth of the resamples (fewer are left out and counted).

    Notes
    -----
    It calls `estimator` ``n_seeds + n_draws`` times, 220 by default, and each call refits all. One
    call of the default is a `cross_fit`: in each of 5 folds an outcome learner in both arms and,
    unless it is known, a learner of the propensity, 15 fits, each of which chooses its penalty
    within the fold. With 1,000 units and 64 embedding columns that takes about 1 s of one core, so
    220 take 3 minutes, and with "boosting" an hour; a learner of images takes 220 trainings per
    fold. Time one call first, and spread them over cores with `n_jobs`.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=30, random_state=0).study
    >>> def difference(study, rng):
    ...     scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=rng))
    ...     return tc.average_effect(scores, method="difference_in_means")
    >>> found = bootstrap_effect(study, difference, n_draws=5, n_seeds=2, random_state=0)
    >>> found.seed_sd.tolist()  # a difference in means has no seed
    [0.0]
    """
    check_count("n_draws", n_draws, minimum=2)
    check_count("n_seeds", n_seeds, minimum=2)
    estimator = estimator or default_estimator
    children = random_generator(random_state).spawn(n_seeds + n_draws)
    ordered = study.canonical()
    run = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_refit)(ordered, estimator, child, resample=k >= n_seeds, quiet=k > 0)
        for k, child in enumerate(children)
    )
    found = list(track(run, "refitting on resampled clusters", len(children)))
    seeds = np.stack([estimate.value for estimate in found[:n_seeds]])
    draws = [estimate.value for estimate in found[n_seeds:] if isinstance(estimate, Estimate)]
    refused = [error for error in found[n_seeds:] if not isinstance(error, Estimate)]
    if len(refused) > _MOST_REFUSED * n_draws or len(draws) < 2:
        raise OverlapError(
            f"{len(refused)} of {n_draws} resamples were refused, which would bias the others; the "
            f"first because: {refused[0]} Use fewer folds, a larger study, or standard errors from "
            "influence values."
        )
    first = found[0]
    return BootstrapEffect(
        np.median(seeds, axis=0),
        np.stack(draws),
        seeds,
        first.terms,
        first.estimand,
        first.method,
        study.n_units,
        study.n_clusters or study.n_units,
        len(refused),
        first.assumptions,
    )


def default_estimator(study: Study, rng: np.random.Generator) -> Estimate:
    """Return the doubly robust average effect with the default learners.

    Parameters
    ----------
    study : Study
    rng : numpy.random.Generator

    Returns
    -------
    Estimate
    """
    return average_effect(doubly_robust_scores(study, cross_fit(study, random_state=rng)))


def _refit(
    study: Study, estimator: Estimator, rng: np.random.Generator, *, resample: bool, quiet: bool
) -> Estimate | ValueError:
    """Return the estimate, or why it was refused on resampled clusters."""
    with warnings.catch_warnings():
        if quiet:  # the first fit on the data themselves has warned
            warnings.simplefilter("ignore", OverlapWarning)
        if not resample:
            return estimator(study, rng)
        try:
            return estimator(resample_clusters(study, rng), rng)
        except (OverlapError, RoleError) as error:
            return error

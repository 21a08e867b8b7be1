"""The wild cluster bootstrap of influence values, for intervals with few clusters."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count, check_fraction
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.study.estimate import Estimate
from terracausal.study.result import IntervalResult, tidy_table
from terracausal.study.standard_errors import clustered_covariance, group_sums

Floats = NDArray[np.floating[Any]]
_STEPS = 60  # bisections of an end of an interval: to 2^-60 of its width
_DOUBLINGS = 40
_LAWS = {
    "webb": np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)]),
    "rademacher": np.array([-1.0, 1.0]),
}


@dataclass(frozen=True, eq=False)
class WildBootstrap(IntervalResult):
    """P-values and intervals of an estimate from a wild cluster bootstrap.

    Parameters
    ----------
    estimate : Estimate
        What was bootstrapped.
    multipliers : ndarray of shape (n_draws, n_clusters)
        Random signs of the clusters.
    law : str
        Their distribution, in words.
    sums : ndarray of shape (n_clusters, n_terms)
        Influence values added up in each cluster, divided by the number of units.
    shares : ndarray of shape (n_clusters,)
        Share of the units in each cluster.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=20, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> wild_cluster_bootstrap(tc.average_effect(scores), random_state=0).terms
    ('ate',)
    """

    estimate: Estimate
    multipliers: Floats = field(repr=False)
    law: str
    sums: Floats = field(repr=False)
    shares: Floats = field(repr=False)

    @property
    def value(self) -> Floats:
        """The estimates, of shape (n_terms,)."""
        return self.estimate.value

    @property
    def std_error(self) -> Floats:
        """Clustered standard errors, of shape (n_terms,); the bootstrap does not replace them."""
        return np.sqrt(np.diag(self._covariance))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms."""
        return self.estimate.terms

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.shares)

    @cached_property
    def p_value(self) -> Floats:
        """Two-sided p-values of "the term is 0", of shape (n_terms,)."""
        return np.array([self._p_of(j, float(v)) for j, v in enumerate(self.value)])

    def confint(self, level: float = 0.95) -> Floats:
        """Return intervals of the values that the bootstrap test does not reject.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_terms, 2)
            An end is infinite where no value is rejected: there are too few clusters to tell.
        """
        # a p-value of exactly the size rejects, which gives a test of that size; rounded upwards
        size = 1 - check_fraction("level", level) + 1e-12
        ends = [
            [value - self._reach(j, size, 1.0), value + self._reach(j, size, -1.0)]
            for j, value in enumerate(self.value)
        ]
        return np.array(ends)

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per term, with the tidy columns of an estimate and a p-value.

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
            n_units=self.estimate.n_units,
            n_clusters=self.n_clusters,
            p_value=self.p_value,
        )

    def summary(self, level: float = 0.95) -> str:
        """Return interval and p-value as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        str
        """
        lines = [f"Wild cluster bootstrap: {self.estimate.estimand}"]
        for r in self.to_dataframe(level).itertuples():
            lines.append(
                f"  {r.term:<11} {r.estimate:.4f}, {level:.0%} interval {r.ci_low:.4f} to "
                f"{r.ci_high:.4f}, p = {r.p_value:.3g}"
            )
        lines.append(
            f"  drawn       {len(self.multipliers):,} times with {self.law} weights on "
            f"{self.n_clusters} clusters"
        )
        return "\n".join(lines)

    @cached_property
    def _covariance(self) -> Floats:
        return clustered_covariance(self.sums, np.arange(self.n_clusters)) * self.n_clusters**2

    @cached_property
    def _pieces(self) -> list[tuple[Floats, Floats, Floats]]:
        return [draw_pieces(self.multipliers, column, self.shares) for column in self.sums.T]

    def _p_of(self, term: int, shift: float) -> float:
        """Return the p-value of "the term is value - shift"."""
        scale = self.n_clusters / (self.n_clusters - 1)
        centre, slope, square = self._pieces[term]
        moved = centre + shift * slope
        variance = scale * (square @ np.array([1.0, shift, shift**2]))
        # the same order of operations for all draws, so that ties with the sample stay ties
        own = shift**2 / self._covariance[term, term] if shift else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.where(variance > 1e-24, moved**2 / variance, np.inf)
        # the sample counts as one of the draws, so that no p-value is 0
        as_far = np.count_nonzero(drawn >= own * (1 - 1e-9))
        return (1 + as_far) / (1 + len(drawn))

    def _reach(self, term: int, size: float, sign: float) -> float:
        """Return how far from the estimate the test starts to reject, on one side."""
        near, far = 0.0, 4.0 * float(self.std_error[term])
        if far == 0:
            return 0.0
        for _ in range(_DOUBLINGS):
            if self._p_of(term, sign * far) <= size:
                break
            near, far = far, 2 * far
        else:
            return float("inf")
        for _ in range(_STEPS):
            middle = (near + far) / 2
            if self._p_of(term, sign * middle) <= size:
                far = middle
            else:
                near = middle
        return far


def wild_cluster_bootstrap(
    estimate: Estimate,
    *,
    law: Literal["webb", "rademacher"] = "webb",
    n_draws: int = 9_999,
    random_state: RandomState = None,
) -> WildBootstrap:
    """Test and interval of an estimate by random signs of whole clusters.

    Under each hypothesis about the effect the influence values are recentred, summed by cluster and
    multiplied by random signs; the t statistic is compared with its own bootstrap distribution. The
    interval holds the values that are not rejected.

    Parameters
    ----------
    estimate : Estimate
        Of units with clusters. Nuisances and weights stay as they are.
    law : {"webb", "rademacher"}, default="webb"
        Six-point weights, or signs. With fewer than twelve clusters signs have too few patterns.
    n_draws : int, default=9_999
        Draws.
    random_state : None, int or Generator, default=None
        Seed.

    Returns
    -------
    WildBootstrap

    Raises
    ------
    ValueError
        The units have no clusters, or fewer than 3, or the estimate is a ratio.

    Notes
    -----
    Cameron, Gelbach & Miller (2008), Review of Economics and Statistics 90(3),
    doi:10.1162/rest.90.3.414, with the null imposed; on influence values it is the score bootstrap
    of Kline & Santos (2012), Journal of Econometric Methods 1(1), doi:10.1515/2156-6674.1006.
    Webb (2023), Canadian Journal of Economics 56(3), doi:10.1111/caje.12661. The slope of a
    cluster's sum in the hypothesis is taken as its share of the units, which is exact for
    unweighted means of scores.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=20, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> bootstrap = wild_cluster_bootstrap(tc.average_effect(scores), random_state=0)
    >>> bool(0 <= bootstrap.p_value[0] <= 1)
    True
    """
    check_choice("law", law, tuple(_LAWS))
    check_count("n_draws", n_draws, minimum=99)
    frame = estimate.frame
    if frame.cluster is None or (frame.n_clusters or 0) < 3:
        raise ValueError(
            "The wild cluster bootstrap needs at least 3 clusters; found "
            f"{frame.n_clusters or 'none'}. Give the Study site=… or cluster=…."
        )
    if estimate.scale != "identity":
        raise ValueError(
            "The wild cluster bootstrap takes effects on their own scale; got a ratio. Use the "
            "difference, measure='difference'."
        )
    labels = pd.Index(frame.cluster.unique())
    codes = labels[canonical_order(labels)].get_indexer(frame.cluster).astype(np.int64)
    sums = group_sums(estimate.influence, codes, len(labels)) / frame.n_units
    rng = random_generator(random_state)
    multipliers = rng.choice(_LAWS[law], size=(n_draws, len(labels)))
    shares = np.bincount(codes, minlength=len(labels)) / frame.n_units
    return WildBootstrap(estimate, multipliers, law, sums, shares)


def draw_pieces(multipliers: Floats, sums: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what each draw needs under any hypothesis about the value.

    With a shift d between estimate and hypothesis, cluster g adds ``m_g (a_g + d b_g)`` to the draw
    (a sum, b share, m multiplier). The draw is then ``centre + d slope``, and its squared clustered
    error, before the factor G / (G - 1), is ``square @ (1, d, d^2)``.

    Parameters
    ----------
    multipliers : ndarray of shape (n_draws, n_clusters)
    sums, shares : ndarray of shape (n_clusters,)

    Returns
    -------
    centre, slope : ndarray of shape (n_draws,)
    square : ndarray of shape (n_draws, 3)
    """
    centre, slope = multipliers @ sums, multipliers @ shares
    own = multipliers * sums - centre[:, None] * shares
    lean = multipliers * shares - slope[:, None] * shares
    square = np.column_stack([(own**2).sum(1), 2 * (own * lean).sum(1), (lean**2).sum(1)])
    return centre, slope, square

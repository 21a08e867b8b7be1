"""Do types of places differ in their baselines too? A score test at the fitted mixture."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from terracausal.study.standard_errors import group_sums

if TYPE_CHECKING:
    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.design import MixtureDesign, MixtureTable
    from terracausal.mixtures.fitting import Mode

Floats = NDArray[np.float64]


def baseline_p_value(
    design: "MixtureDesign", table: "MixtureTable", fitted: "tuple[MixtureDensity, Mode]"
) -> float | None:
    """Return the p-value of one baseline for all types against intercepts of their own.

    Parameters
    ----------
    design : MixtureDesign
    table : MixtureTable
    fitted : tuple of MixtureDensity and Mode
        The mixture with one baseline.

    Returns
    -------
    float or None
        None with one component, or where the design has baselines by type.
    """
    from terracausal.mixtures.fitting import make_density, negative_log_density, one_thread
    from terracausal.mixtures.optimise import hessian
    from terracausal.mixtures.uncertainty import AT_ONCE, degrees_of_freedom_factor, site_scores

    if design.spec.n_components == 1 or design.spec.baseline == "by_type":
        return None
    density, mode = fitted
    spec = replace(design.spec, baseline="by_type")
    wider = make_density(replace(design, spec=spec), table)
    count = len(mode.parameters)
    point = torch.cat([mode.parameters, mode.parameters.new_zeros(wider.n_parameters - count)])
    # the shift of the first type is aliased with the intercept that all share
    added = np.arange(count, wider.n_parameters).reshape(-1, spec.n_components)[:, 1:].ravel()
    with one_thread():
        ones = torch.ones((1, wider.n_sites), dtype=torch.float64)
        curvature = hessian(negative_log_density(wider, ones), point).numpy()
        explained = np.linalg.solve(curvature[:count, :count], curvature[:count, added])
        tested, own = [], []
        for _, part in wider.parts(AT_ONCE):
            scores = site_scores(part, point).numpy()
            tested.append(scores[:, added].sum(axis=0))
            own.append(scores[:, added] - scores[:, :count] @ explained)
    influence = np.sqrt(degrees_of_freedom_factor(density, mode)) * np.concatenate(own)
    return score_test(np.sum(tested, axis=0), influence, table.cluster)


def score_test(score: Floats, influence: Floats, cluster: NDArray[np.int64]) -> float:
    """Return the p-value of parameters that are 0, without fitting them.

    Parameters
    ----------
    score : ndarray of shape (q,)
        Summed scores of the tested parameters at 0, the others fitted.
    influence : ndarray of shape (n_sites, q)
        Scores of sites, less what fitting the other parameters explains of them: with curvature H
        and cross derivatives C, ``s_tested - C H^-1 s_fitted`` (Boos 1992,
        doi:10.1080/00031305.1992.10475921).
    cluster : ndarray of shape (n_sites,)
        Codes from 0.

    Returns
    -------
    float
        Of an F distribution with clusters less q degrees of freedom.

    Notes
    -----
    With independent normal influence values, and scores that are their sums, this is Hotelling's
    test of a mean of 0.
    """
    q, count = len(score), int(cluster.max()) + 1
    by_cluster = group_sums(influence, cluster, count)
    centred = by_cluster - by_cluster.mean(axis=0)
    variance = centred.T @ centred * count / (count - 1)
    statistic = float(score @ np.linalg.pinv(variance, hermitian=True) @ score)
    df = max(count - q, 1)
    return float(stats.f.sf(statistic * df / (q * (count - 1)), q, df))

"""Which component of one fit is which of another."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

Floats = NDArray[np.float64]


def match_components(reference: Floats, found: Floats) -> NDArray[np.intp]:
    """Return, for each component of the reference, the found component that shares most sites.

    Parameters
    ----------
    reference, found : ndarray of shape (n_sites, n_components)
        Membership probabilities of the same sites.

    Returns
    -------
    ndarray of shape (n_components,)
        A permutation: the Hungarian assignment of the largest overlap.

    Examples
    --------
    >>> memberships = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> match_components(memberships, memberships[:, ::-1]).tolist()
    [1, 0]
    """
    _, columns = linear_sum_assignment(-(reference.T @ found))
    return np.asarray(columns, dtype=np.intp)


def mean_agreement(best: Floats, others: list[Floats]) -> float:
    """Return the mean adjusted Rand index between the best restart and the others.

    Parameters
    ----------
    best : ndarray of shape (n_sites, n_components)
        Membership probabilities.
    others : list of ndarray of shape (n_sites, n_components)

    Returns
    -------
    float
        1 where all restarts sort the sites alike; NaN without other restarts.
    """
    if not others:
        return float("nan")
    labels = best.argmax(axis=1)
    return float(np.mean([adjusted_rand_score(labels, m.argmax(axis=1)) for m in others]))

"""What must not be adjusted for: functions of the treatment, and embeddings that know outcomes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from terracausal._foundation.errors import LeakageError, list_some

Floats = NDArray[np.floating[Any]]

# a covariate is refused when a coincidence of this kind would be rarer than this
_CHANCE = 1e-4
# with more values than this a column may merely identify the groups that were assigned together
_MAX_LEVELS = 10


def refuse_functions_of_treatment(
    covariates: pd.DataFrame, treatment: Floats, cluster: NDArray[np.int64]
) -> None:
    """Raise a `LeakageError` that names each covariate made from the treatment.

    A covariate is a function of the treatment when it is constant in one arm only (an interaction
    such as treatment × age) or when its values tell the arm (the treatment itself, a copy, an
    uptake variable). Both can happen by chance with few units, so a covariate is refused only when
    chance would do it less than once in 10,000, counting clusters instead of units when
    the treatment was given to whole clusters.

    Parameters
    ----------
    covariates : pandas.DataFrame of shape (n_units, n_covariates)
        Raw covariates, before encoding.
    treatment : ndarray of shape (n_units,)
        0 or 1.
    cluster : ndarray of shape (n_units,)
        Codes of the groups of dependent units.
    """
    reasons = {
        str(name): reason
        for name, column in covariates.items()
        if (reason := _reason(column, treatment, cluster)) is not None
    }
    if reasons:
        told = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise LeakageError(
            f"{len(reasons)} of {covariates.shape[1]} covariates are functions of the treatment: "
            f"{list_some(reasons, 50)}. Covariates must be fixed before treatment; with these the "
            f"adjustment removes the effect itself. Leave them out of `covariates`. Found: {told}."
        )


def _reason(
    column: "pd.Series[float]", treatment: Floats, cluster: NDArray[np.int64]
) -> str | None:
    """Return in words how `column` betrays the treatment, or None."""
    # a product with the treatment is missing where its other factor is, so present values tell by
    # themselves; and so does being missing, since it becomes a column of its own
    present = column.notna().to_numpy()
    if not present.all():
        gaps = pd.Series(present, index=column.index, name=column.name)
        reason = _reason(gaps, treatment, cluster)
        if reason is not None:
            return f"has gaps that tell the arm: being there or missing {reason}"
    values = pd.factorize(column[present])[0]
    rows = pd.DataFrame({"value": values, "arm": treatment[present], "cluster": cluster[present]})
    assigned = rows["arm"]
    if rows.groupby("cluster")["arm"].nunique().max() == 1:
        # whole clusters were assigned: a value counts once in each, and so does the assignment
        assigned = rows.drop_duplicates("cluster")["arm"]
        rows = rows.drop_duplicates()
    code, arm, share = rows["value"].to_numpy(), rows["arm"].to_numpy(), float(assigned.mean())
    for level, word in ((1.0, "treated"), (0.0, "control")):
        inside, outside = code[arm == level], code[arm != level]
        if len(np.unique(inside)) == 1 and len(np.unique(outside)) > 1:
            n_other = int((outside != inside[0]).sum())
            if (1 - share if level == 1 else share) ** n_other < _CHANCE:
                return f"is constant in the {word} arm"
    if _tells_arm(code, arm, share):
        return "determines the treatment"
    if pd.api.types.is_numeric_dtype(column):
        numbers = np.asarray(column[present], dtype=np.float64)
        if _is_split(
            numbers, treatment[present], n_all=len(assigned), n_treated=int(assigned.sum())
        ):
            return "determines the treatment"
    return None


def _tells_arm(code: NDArray[np.int64], arm: Floats, share: float) -> bool:
    """Return whether few values are each of one arm, which chance would hardly ever do."""
    size = np.bincount(code)
    treated = np.bincount(code, weights=arm)
    seen = size > 0
    if seen.sum() > _MAX_LEVELS:
        return False
    pure = (treated == 0) | (treated == size)
    # a value that occurs once is pure for free: it contributes share + (1 - share) = 1
    chance = np.log(share ** size[seen] + (1 - share) ** size[seen] + 1e-300).sum()
    return bool(pure[seen].all() and chance < np.log(_CHANCE))


def _is_split(numbers: Floats, treatment: Floats, n_all: int, n_treated: int) -> bool:
    """Return whether a threshold splits the arms, which chance would hardly ever do."""
    one, zero = numbers[treatment == 1], numbers[treatment == 0]
    if not (len(one) and len(zero) and (one.min() > zero.max() or one.max() < zero.min())):
        return False
    # two of the n-choose-k orders of k treated among n are split exactly
    log_orders = gammaln(n_all + 1) - gammaln(n_treated + 1) - gammaln(n_all - n_treated + 1)
    return bool(np.log(2) - log_orders < np.log(_CHANCE))


def refuse_supervised_embeddings(attrs: dict[Any, Any], sites: "pd.Series[Any]") -> None:
    """Raise a `LeakageError` where an encoder was trained on outcomes of the study's own sites.

    The row of such a site knows the outcome of that site, so nuisances and effects that use it
    predict the past. Rows of sites that no outcome came from, and rows that are out of fold, pass.

    Parameters
    ----------
    attrs : dict
        Of the embeddings. A supervised encoder leaves `supervised`, `out_of_fold` and
        `fitted_sites`. Embeddings from elsewhere have none of these, and nothing can be said.
    sites : pandas.Series of shape (n_units,)
        Site key of each unit that gets a row of the embeddings.

    Examples
    --------
    >>> attrs = {"encoder": {"supervised": True, "fitted_sites": ["a", "b"]}}
    >>> refuse_supervised_embeddings(attrs, pd.Series(["c", "d"]))
    """
    facts = attrs.get("encoder", {})
    if not facts.get("supervised", False) or facts.get("out_of_fold", False):
        return
    found = pd.Index(sites.unique())
    known = found
    if "fitted_sites" in facts:
        # keys that are neither numbers nor text are stored as text
        fitted = set(facts["fitted_sites"])
        known = found[[key in fitted or str(key) in fitted for key in found]]
    if len(known):
        name = facts.get("class", "an encoder")
        raise LeakageError(
            f"Embeddings must not know the outcomes of the study; {name} was, or may have been, "
            f"trained on outcomes of {len(known)} of its {len(found)} sites: {list_some(known)}. "
            "Use `cross_predict` of the encoder, whose values are out of fold, or train it on "
            "other sites."
        )

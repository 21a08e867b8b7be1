"""A mixture in words."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from terracausal.mixtures.effect_mixture import EffectMixture


def summarize(mixture: "EffectMixture", level: float) -> str:
    """Return effects, shares, checks, priors and what the intervals mean.

    Parameters
    ----------
    mixture : EffectMixture
        Fitted.
    level : float

    Returns
    -------
    str
    """
    effects, average = mixture.component_effects_, mixture.average_effect_
    implied = mixture.implied_effect_
    one = mixture.n_components == 1
    lines = [
        "Mixture of effects by type of image: "
        + ("1 component, the effect does not differ" if one else f"{mixture.n_components} types"),
    ]
    for r in mixture.to_dataframe(level).itertuples():
        lines.append(
            f"  {r.term:<11} effect {r.estimate:.4f}, {level:.0%} interval {r.ci_low:.4f} to "
            f"{r.ci_high:.4f}; posterior {r.posterior_mean:.4f} (SD {r.posterior_sd:.4f}); "
            f"{r.share:.0%} of units"
        )
    error = np.hypot(implied.std_error[0], average.std_error[0])
    lines += [
        f"  average     {implied.value[0]:.4f} implied, {average.value[0]:.4f} by AIPW "
        f"(joint std. error {error:.4f})",
        f"  family      {mixture.family}, noise by {mixture.noise.replace('_', ' ')}",
        f"  std. error  {effects.describe_std_error()}; {effects.n_units:,} units at "
        f"{len(mixture.sites_):,} sites",
        f"  intervals   {_intervals(mixture)}",
        f"  posterior   {mixture.guide.replace('_', ' ')} normal around the best mode; trusts the "
        "likelihood",
        f"  search      {_search(mixture)}",
    ]
    lines += [f"  prior       {text}" for text in mixture.priors_]
    lines += [f"  WARNING     {text}" for text in mixture.notes_]
    lines += [f"  assumes     {text}" for text in effects.assumptions]
    return "\n".join(lines)


def _intervals(mixture: "EffectMixture") -> str:
    if mixture.n_bootstrap:
        return (
            f"t intervals; std. errors from the central 90 % of {mixture.n_bootstrap} refits with "
            "random weights of clusters, given the number of components and the embeddings"
        )
    return "t intervals; first-order (sandwich) standard errors"


def _search(mixture: "EffectMixture") -> str:
    found = mixture.restart_log_densities_
    same = int((found > found[0] - 0.1).sum())
    if len(found) == 1:
        restarts = "1 restart"
    else:
        restarts = (
            f"{same} of {len(found)} restarts at the best mode (adjusted Rand index "
            f"{mixture.restart_agreement_:.2f})"
        )
    if not len(mixture.elbo_):
        return restarts
    return f"{restarts}; bound {mixture.elbo_[-100:].mean():.1f} after {len(mixture.elbo_):,} steps"

"""A mixture in words."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from terracausal.mixtures.effect_mixture import EffectMixture

_EFFECTS = {
    "constant": "one effect by type",
    "covariates": "effects linear in covariates within types",
    "image": "effects linear in the image within types",
}
_ADJUSTMENTS = {
    "baseline": "baseline in the likelihood",
    "orthogonal": "outcome and treatment less their cross-fitted predictions",
}
_BASELINES = {
    "shared": "types differ in their effects alone",
    "by_type": "types differ in their baselines too",
}
_RARE = 0.01


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
        + (
            "1 component, the effect does not differ; which may be all that the data support"
            if one
            else f"{mixture.n_components} types, taken as given: estimates come apart even where "
            "effects do not differ (see choose_components)"
        ),
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
        f"  units       {_spread(mixture)}",
        f"  family      {mixture.family}, noise by {mixture.noise.replace('_', ' ')}; "
        f"{_EFFECTS[mixture.effect]}; {_ADJUSTMENTS[mixture.adjustment]}; "
        f"{_baselines(mixture)}",
        f"  std. error  {effects.describe_std_error()}; {effects.n_units:,} units at "
        f"{len(mixture.sites_):,} sites",
        f"  intervals   {_intervals(mixture)}",
        f"  posterior   {_posterior(mixture)}",
        f"  search      {_search(mixture)}",
    ]
    lines += _images(mixture)
    lines += _misfits(mixture)
    lines += [f"  prior       {text}" for text in mixture.priors_]
    lines += [f"  WARNING     {text}" for text in mixture.notes_]
    lines += [f"  assumes     {text}" for text in effects.assumptions]
    return "\n".join(lines)


def _baselines(mixture: "EffectMixture") -> str:
    p_value = mixture.baseline_p_value_
    tested = "" if p_value is None else f" (p = {p_value:.2g} of that, score test)"
    return f"{_BASELINES[mixture.baseline]}{tested}"


def _intervals(mixture: "EffectMixture") -> str:
    if mixture.n_bootstrap:
        return (
            f"t intervals; std. errors from the central 90 % of {mixture.n_bootstrap} refits with "
            "random weights of clusters, given the number of components and the embeddings"
        )
    return "t intervals; first-order (sandwich) standard errors"


def _spread(mixture: "EffectMixture") -> str:
    low, middle, high = mixture.unit_effects_["effect"].quantile([0.1, 0.5, 0.9])
    return f"median {middle:.4f}, central 80 % {low:.4f} to {high:.4f} (given image and outcomes)"


def _posterior(mixture: "EffectMixture") -> str:
    found = mixture.diagnostics_
    if mixture.guide == "nuts":
        return (
            f"NUTS in 4 chains (worst R-hat {found['r_hat']:.3f}, fewest effective draws "
            f"{found['effective_draws']:.0f}, {found['divergences']:.0f} divergences); trusts the "
            "likelihood"
        )
    shape = found["pareto_shape"]
    verdict = "good" if shape < 0.5 else "usable" if shape < 0.7 else "poor: prefer guide='nuts'"
    return (
        f"{mixture.guide.replace('_', ' ')} normal around the best mode (Pareto k-hat {shape:.2f}, "
        f"{verdict}); trusts the likelihood"
    )


def _images(mixture: "EffectMixture") -> list[str]:
    networks = mixture.networks_
    if networks is None:
        return []
    history, kind = networks.history, networks.settings.network
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
    count = int(history["n_networks"].iloc[0])
    each = "one" if count == 1 else f"the mean of {count}"
    return [
        f"  networks    {name}, {each} for each of {len(history)} folds; held-out loss per site "
        f"{history['held_out_loss'].mean():.3f} ({history['constant_loss'].mean():.3f} in sample "
        "and without images); correlation of their log odds "
        f"{history['agreement'].iloc[1:].mean():.2f}"
    ]


def _misfits(mixture: "EffectMixture") -> list[str]:
    rare = mixture.predictive_checks_.query("p_value < @_RARE")
    told = [
        f"{r.statistic} of {r.arm} is {r.observed:.3g}, {r.low:.3g} to {r.high:.3g} expected"
        for r in rare.itertuples()
    ]
    return [f"  misfit      {'; '.join(told)}"] if told else []


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

"""The design of a study in words."""

from typing import Any, Protocol

import numpy as np
import pandas as pd

from terracausal.study.features import CovariateEncoding
from terracausal.study.roles import Columns, count_lone_strata


class Describable(Protocol):
    """What a study must tell of itself to be described."""

    @property
    def roles(self) -> Columns: ...  # noqa: D102
    @property
    def n_units(self) -> int: ...  # noqa: D102
    @property
    def n_sites(self) -> int: ...  # noqa: D102
    @property
    def n_clusters(self) -> int | None: ...  # noqa: D102
    @property
    def outcome(self) -> "pd.Series[float]": ...  # noqa: D102
    @property
    def treatment(self) -> "pd.Series[float]": ...  # noqa: D102
    @property
    def propensity(self) -> "pd.Series[float] | None": ...  # noqa: D102
    @property
    def sites(self) -> "pd.Series[Any] | None": ...  # noqa: D102
    @property
    def strata(self) -> "pd.Series[Any] | None": ...  # noqa: D102
    @property
    def overlapping_sites(self) -> tuple[tuple[Any, ...], ...]: ...  # noqa: D102
    @property
    def joined_roles(self) -> tuple[tuple[str, int], ...]: ...  # noqa: D102


def describe_study(
    study: Describable, encoding: CovariateEncoding, dropped: tuple[str, ...]
) -> str:
    """Return counts, dependence, roles and missing data as text.

    Parameters
    ----------
    study : Study
    encoding : CovariateEncoding
        How covariates became numbers.
    dropped : tuple of str
        What was dropped, counted.

    Returns
    -------
    str
    """
    roles = study.roles
    n_treated = int(study.treatment.sum())
    lines = [
        f"Study of the effect of {roles.treatment!r} on {roles.outcome!r}",
        f"  units       {study.n_units:,}: {n_treated:,} treated "
        f"({n_treated / study.n_units:.1%}), {study.n_units - n_treated:,} control",
        *_site_lines(study),
        _dependence_line(study),
        f"  propensity  {_propensity_words(study)}",
        *_outcome_lines(study),
        f"  covariates  {', '.join(roles.covariates) or 'none'}",
    ]
    if roles.strata is not None and study.strata is not None:
        n_strata = study.strata.nunique()
        lone = count_lone_strata(study.strata, study.treatment)
        told = f", {lone} of them with one arm only" if lone else ""
        lines.append(f"  strata      {n_strata} levels of {roles.strata!r}{told}")
    lines += [f"  joined      {n} columns by site ({role})" for role, n in study.joined_roles]
    overlapping = study.overlapping_sites
    if overlapping:
        n_sites = len({site for group in overlapping for site in group})
        lines.append(
            f"  overlap     the chips of {n_sites} sites share pixels, in {len(overlapping)} "
            f"groups of up to {max(map(len, overlapping))}; folds keep each group together"
        )
    lines += [f"  note        {text}" for text in dropped]
    lines += [f"  missing     {text}" for text in encoding.describe()]
    return "\n".join(lines)


def _site_lines(study: Describable) -> list[str]:
    sites = study.sites
    if sites is None:
        return []
    share = study.treatment.groupby(sites).mean()
    per_site = sites.value_counts()
    per_site = per_site[per_site > 0]
    both, all_treated = int(share.between(0, 1, "neither").sum()), int((share == 1).sum())
    return [
        f"  sites       {study.n_sites:,}: {both:,} with both arms, {all_treated:,} only treated, "
        f"{study.n_sites - both - all_treated:,} only control; "
        f"{per_site.min()} to {per_site.max()} units each, median {per_site.median():g}"
    ]


def _dependence_line(study: Describable) -> str:
    if study.n_clusters is None:
        return "  inference   units are taken as independent"
    roles = study.roles
    named = [f"{n!r}" for n in (roles.cluster, roles.site) if n is not None]
    return (
        f"  inference   {study.n_clusters:,} clusters: units that share {' or '.join(named)} "
        "are dependent"
    )


def _propensity_words(study: Describable) -> str:
    known = study.propensity
    if known is None:
        return "estimated"
    low, high = known.min(), known.max()
    return f"known, {low:.3g}" if low == high else f"known, {low:.3g} to {high:.3g}"


def _outcome_lines(study: Describable) -> list[str]:
    outcome = study.outcome.to_numpy()
    control = outcome[study.treatment.to_numpy() == 0]
    lines = [
        f"  outcome     mean {control.mean():.4g} and SD {control.std():.4g} among controls; "
        f"range {outcome.min():.4g} to {outcome.max():.4g}"
    ]
    at_floor = float(np.mean(outcome == outcome.min()))
    if at_floor > 0.1 and len(np.unique(outcome)) > 2:
        lines.append(f"              {at_floor:.1%} of units sit at the lowest value")
    return lines

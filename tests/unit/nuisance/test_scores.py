"""Doubly robust scores: the formula, overlap, and tables from elsewhere."""

import warnings

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import (
    AlignmentError,
    OverlapError,
    OverlapWarning,
    RoleError,
)
from terracausal.effects import average_effect
from terracausal.nuisance import Nuisances, Scores, cross_fit, doubly_robust_scores

QUALITY = pd.DataFrame(columns=["nuisance", "metric", "value", "baseline"])


@pytest.fixture
def nuisances(study):
    return cross_fit(study, random_state=0)


def with_propensity(nuisances, values):
    return Nuisances(nuisances.table.assign(propensity=values), False, {}, QUALITY)


@pytest.fixture
def extreme(nuisances):
    values = np.full(120, 0.5)
    values[:3], values[3:8] = 0.001, 0.97
    return with_propensity(nuisances, values)


def test_formula_unit_by_unit(study, nuisances):
    scores = doubly_robust_scores(study, nuisances)
    for unit, row in nuisances.table.iterrows():
        y, w, e = study.outcome[unit], study.treatment[unit], row["propensity"]
        mu0, mu1 = row["outcome_control"], row["outcome_treated"]
        own = (y - mu1) / e if w == 1 else -(y - mu0) / (1 - e)
        assert scores.score[unit] == pytest.approx(mu1 - mu0 + own, rel=1e-12)


def test_table_holds_what_later_steps_need(table, make_study):
    study = make_study(table, weight="v", coords=("lon", "lat"), strata="site")
    scores = doubly_robust_scores(study, cross_fit(study, propensity="e", random_state=0))
    names = {"score", "propensity", "outcome_control", "outcome_treated", "outcome", "treatment"}
    names |= {"fold", "weight", "cluster", "stratum", "lon", "lat"}
    assert names == set(scores.to_dataframe().columns)
    assert scores.units.equals(table.index)
    np.testing.assert_allclose(scores.weight, table["v"] / table["v"].mean())
    assert scores.frame.n_clusters == 30


def test_nuisances_in_another_order(study, nuisances, rng):
    order = rng.permutation(120)
    shuffled = Nuisances(nuisances.table.iloc[order], False, {}, QUALITY)
    pd.testing.assert_series_equal(
        doubly_robust_scores(study, shuffled).score, doubly_robust_scores(study, nuisances).score
    )


def test_nuisances_of_another_study(study, nuisances):
    with pytest.raises(AlignmentError, match=r"`nuisances` .* same 60 units .* 60 are unknown"):
        doubly_robust_scores(study.subset(np.arange(120) < 60), nuisances)


def test_poor_overlap_warns_with_its_numbers(study, extreme):
    with pytest.warns(OverlapWarning, match=r"2.5% of units .*min 0.0010, max 0.9700"):
        doubly_robust_scores(study, extreme)


def test_good_overlap_does_not_warn(study, nuisances):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doubly_robust_scores(study, nuisances)


def test_clip_is_counted(study, extreme):
    scores = doubly_robust_scores(study, extreme, clip=0.05)
    assert scores.notes == ("8 propensities were clipped to 0.05 and 0.95",)
    assert scores.table["propensity"].min() == 0.05
    assert scores.table["propensity"].max() == 0.95
    assert scores.population == "all units"
    assert "8 propensities were clipped" in scores.summary()


def test_dropped_units_are_told_by_every_estimate(table, make_study):
    table.loc[table.index[[3, 4]], "y"] = np.nan
    study = make_study(table)
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    assert scores.notes[0].startswith("2 units (1.7%) without an outcome were dropped: ")
    assert scores.notes[0] in average_effect(scores).summary()


def test_trim_changes_the_population(study, extreme):
    scores = doubly_robust_scores(study, extreme, trim=0.05)
    assert scores.n_units == 112
    assert scores.population == "units with a propensity within [0.05, 0.95]"
    assert scores.notes == ("8 units outside were trimmed",)


def test_trim_looks_at_propensities_before_they_are_clipped(study, extreme):
    scores = doubly_robust_scores(study, extreme, clip=0.05, trim=0.05)
    assert scores.n_units == 112


def test_trim_that_leaves_nobody(study, nuisances):
    with pytest.raises(OverlapError, match=r"within \[0.4, 0.6\]"):
        doubly_robust_scores(study, with_propensity(nuisances, 0.1), trim=0.4)


@pytest.mark.parametrize("name", ["clip", "trim"])
@pytest.mark.parametrize("value", [0, 0.5, -0.1])
def test_edges(study, nuisances, name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must lie strictly .* got {value}"):
        doubly_robust_scores(study, nuisances, **{name: value})


def test_effective_sizes(study, nuisances):
    scores = doubly_robust_scores(study, with_propensity(nuisances, 0.5))
    n_treated = int(study.treatment.sum())
    words = f"{n_treated} of {n_treated} treated, {120 - n_treated} of {120 - n_treated} control"
    assert words in scores.summary()


def test_the_study_is_not_changed(study, nuisances):
    before, table = study.table, nuisances.to_dataframe()
    doubly_robust_scores(study, nuisances, clip=0.1)
    pd.testing.assert_frame_equal(study.table, before)
    pd.testing.assert_frame_equal(nuisances.table, table)


# -- tables from elsewhere ---------------------------------------------------------------------


def test_round_trip(study, nuisances):
    scores = doubly_robust_scores(study, nuisances)
    again = Scores.from_dataframe(scores.to_dataframe())
    pd.testing.assert_frame_equal(again.table, scores.table, check_dtype=False)
    assert again.frame.n_clusters == 30


def test_clusters_by_name_by_array_and_by_unit(rng):
    table = pd.DataFrame({"score": rng.normal(size=6), "g": list("aabbcc")}, index=list("uvwxyz"))
    series = table["g"].iloc[::-1]
    for cluster in ("g", list("aabbcc"), series):
        assert Scores.from_dataframe(table, cluster).frame.cluster.tolist() == list("aabbcc")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"score": np.nan}, ValueError, "`score` must be finite; 6 of 6"),
        ({"propensity": 1.0}, OverlapError, "6 of 6 do not: units 0, 1"),
        ({"treatment": 2.0}, RoleError, "'treatment' must hold 0 and 1; found 2.0"),
        ({"weight": -1.0}, RoleError, "the smallest is -1"),
        ({"weight": 0.0}, RoleError, "nor all zero"),
        ({"cluster": None}, RoleError, "6 units have no cluster: 0"),
        ({"outcome": np.inf}, ValueError, "`outcome` must be finite"),
    ],
)
def test_bad_tables(change, error, message):
    with pytest.raises(error, match=message):
        Scores.from_dataframe(pd.DataFrame({"score": np.arange(6.0)}).assign(**change))


def test_tables_without_scores_or_with_doubled_units():
    with pytest.raises(RoleError, match=r"needs a column 'score'; it has 'dr'"):
        Scores.from_dataframe(pd.DataFrame({"dr": [1.0, 2.0]}))
    with pytest.raises(AlignmentError, match=r"1 stand more than once: 0"):
        Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2.0]}, index=[0, 0]))
    with pytest.raises(RoleError, match=r"at least 2 units; the table has 1"):
        Scores.from_dataframe(pd.DataFrame({"score": [1.0]}))


@pytest.mark.parametrize(
    ("cluster", "error", "message"),
    [
        ("village", RoleError, "'village' is not in the table"),
        ([1, 2], AlignmentError, r"shape \(3,\); got \(2,\)"),
        (pd.Series([1, 2, 3], index=[0, 1, 9]), AlignmentError, "1 are missing"),
    ],
)
def test_bad_clusters(cluster, error, message):
    with pytest.raises(error, match=message):
        Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2, 3]}), cluster)


def test_the_table_is_copied():
    table = pd.DataFrame({"score": [1.0, 2.0, 3.0]})
    scores = Scores.from_dataframe(table)
    table.loc[0, "score"] = 99.0
    assert scores.score.tolist() == [1.0, 2.0, 3.0]
    returned = scores.to_dataframe()
    returned.loc[0, "score"] = 99.0
    assert scores.score.tolist() == [1.0, 2.0, 3.0]


def test_plot_and_html(study, nuisances):
    scores = doubly_robust_scores(study, nuisances)
    assert type(scores.plot()).__name__ == "Axes"
    assert "<pre>" in scores._repr_html_()
    with pytest.raises(RoleError, match=r"overlap plot needs the column 'propensity'"):
        Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2.0]})).plot()

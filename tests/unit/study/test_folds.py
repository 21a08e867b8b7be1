"""Folds hold whole clusters, spread the arms and do not depend on the order of rows."""

from itertools import product
from math import asin, cos, radians, sin, sqrt

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import RoleError


def haversine_m(a, b):
    """Great-circle distance, written out by hand."""
    (lon_a, lat_a), (lon_b, lat_b) = a, b
    half = sin(radians(lat_b - lat_a) / 2) ** 2 + cos(radians(lat_a)) * cos(radians(lat_b)) * (
        sin(radians(lon_b - lon_a) / 2) ** 2
    )
    return 2 * 6_371_008.8 * asin(sqrt(half))


@pytest.fixture
def study(table, make_study):
    return make_study(table, site="village", coords=("lon", "lat"))


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
@pytest.mark.parametrize("random_state", [0, 1, 2])
def test_clusters_are_never_split(study, n_folds, random_state):
    folds = study.folds(n_folds, random_state=random_state)
    assert folds.labels.groupby(study.clusters).nunique().eq(1).all()
    assert sorted(folds.labels.unique()) == list(range(n_folds))


def test_every_unit_is_held_out_once_and_trains_otherwise(study):
    masks = list(study.folds(4, random_state=0).split())
    assert (np.sum([test for _, test in masks], axis=0) == 1).all()
    for train, test in masks:
        assert (train == ~test).all()


@pytest.mark.parametrize("random_state", range(5))
def test_arms_are_balanced(make_study, table, random_state):
    folds = make_study(table).folds(5, random_state=random_state).to_dataframe()
    assert folds["n_treated"].eq(6).all()
    assert folds["n_control"].eq(6).all()


@pytest.mark.parametrize("random_state", range(5))
def test_arms_are_balanced_where_whole_clusters_are_treated(make_study, table, random_state):
    # 10 treated and 10 control villages of equal size in 5 folds: two of each
    study = make_study(table.assign(paid=table["village"] % 2), site="village")
    folds = study.folds(5, random_state=random_state).to_dataframe()
    assert folds["n_treated"].eq(6).all()
    assert folds["n_control"].eq(6).all()


def test_folds_of_unequal_clusters_differ_by_less_than_the_largest(make_study, table):
    table["village"] = np.repeat(range(8), [20, 10, 8, 6, 6, 4, 4, 2])
    folds = make_study(table, site="village").folds(3, random_state=0).to_dataframe()
    assert folds["n_units"].max() - folds["n_units"].min() <= 20


def test_same_seed_same_folds_whatever_the_order_of_rows(table, make_study, rng):
    roles = {"site": "village", "coords": ("lon", "lat")}
    shuffled = table.iloc[rng.permutation(60)]
    for options in ({}, {"block_m": 30_000}, {"buffer_m": 5_000}):
        one = make_study(table, **roles).folds(3, random_state=0, **options)
        other = make_study(shuffled, **roles).folds(3, random_state=0, **options)
        pd.testing.assert_series_equal(one.labels, other.labels.loc[table.index])
        pd.testing.assert_frame_equal(one.table, other.table)
        back = other.labels.index.get_indexer(table.index)
        for (train, _), (other_train, _) in zip(one.split(), other.split(), strict=True):
            assert (train == other_train[back]).all()


def test_renaming_clusters_keeps_the_folds(table, make_study):
    renamed = table.assign(village="v" + (99 - table["village"]).astype(str))
    one = make_study(table, site="village").folds(3, random_state=0).labels
    pd.testing.assert_series_equal(
        one, make_study(renamed, site="village").folds(3, random_state=0).labels
    )


def test_another_seed_gives_other_folds(study):
    assert not study.folds(5, random_state=0).labels.equals(study.folds(5, random_state=1).labels)


def test_table_counts(study):
    folds = study.folds(4, random_state=0)
    for row in folds.to_dataframe().itertuples():
        own = folds.labels == row.fold
        treated = int(study.treatment[own].sum())
        counted = (int(own.sum()), treated, int(own.sum()) - treated, study.sites[own].nunique())
        assert (row.n_units, row.n_treated, row.n_control, row.n_clusters) == counted


def test_fewer_clusters_than_folds(study):
    with pytest.raises(RoleError, match=r"found 20 clusters for 21 folds"):
        study.folds(21)


def test_an_arm_missing_from_a_fold(table, make_study):
    table["paid"] = (np.arange(60) < 2).astype(int)
    with pytest.raises(RoleError, match=r"the held-out units of fold .* have 0 treated and"):
        make_study(table, site="village").folds(3, random_state=0)


@pytest.mark.parametrize("n_folds", [1, 0, 2.5])
def test_number_of_folds(study, n_folds):
    with pytest.raises(ValueError, match=rf"at least 2; got {n_folds}"):
        study.folds(n_folds)


def test_blocks_stay_together(table, make_study, rng):
    # three clumps of villages, 50 km apart and 100 m wide
    clump = np.arange(20) % 3
    table["lon"] = (30.3 + 0.45 * clump + rng.uniform(0, 1e-3, 20))[table["village"]]
    table["lat"] = (2.05 + rng.uniform(0, 1e-3, 20))[table["village"]]
    study = make_study(table, site="village", coords=("lon", "lat"))
    folds = study.folds(2, block_m=20_000, random_state=0)
    assert folds.labels.groupby(clump[table["village"]]).nunique().eq(1).all()
    assert folds.labels.groupby(study.clusters).nunique().eq(1).all()


def test_blocks_that_are_too_large(study):
    with pytest.raises(
        RoleError, match=r"found 1, with all 60 units.*independent\) or smaller blocks"
    ):
        study.folds(5, block_m=5e6)


@pytest.mark.parametrize("buffer_m", [1.0, 8_000.0, 20_000.0])
def test_buffer_against_every_pair(study, buffer_m):
    folds = study.folds(2, buffer_m=buffer_m, random_state=0)
    places = study.coordinates.to_numpy()
    labels = folds.labels.to_numpy()
    for fold, (train, test) in enumerate(folds.split()):
        near = np.zeros(60, dtype=bool)
        for i, j in product(range(60), np.flatnonzero(test)):
            near[i] |= haversine_m(places[i], places[j]) <= buffer_m
        assert (train == (~near & (labels != fold))).all()
        assert folds.table.loc[fold, "n_buffered"] == (near & (labels != fold)).sum()


def test_buffer_that_leaves_nothing(study):
    with pytest.raises(RoleError, match=r"training units of fold 0 have 0 .* smaller buffer_m"):
        study.folds(3, buffer_m=1e7, random_state=0)


@pytest.mark.parametrize("argument", ["block_m", "buffer_m"])
def test_spatial_folds_need_places_and_metres(table, make_study, study, argument):
    with pytest.raises(RoleError, match=r"the study has none"):
        make_study(table).folds(2, **{argument: 1000})
    with pytest.raises(ValueError, match=rf"`{argument}` must be .* got -5"):
        study.folds(2, **{argument: -5})


def test_text(study):
    folds = study.folds(3, random_state=0)
    assert "3 folds of whole clusters" in str(folds)
    assert "<table" in folds._repr_html_()


# -- sites whose chips overlap -------------------------------------------------------------------


@pytest.fixture
def overlapping(table, make_study, embeddings):
    """Return a study whose first six sites have overlapping chips, in two groups."""
    a, b, c, d, e, f = embeddings.index[:6]
    embeddings.attrs["encoder"] = {"overlapping": [[a, b, c, d], [e, f]]}
    return make_study(table, site="village").join(embeddings), [{a, b, c, d}, {e, f}]


def test_sites_with_overlapping_chips_stay_together(overlapping):
    study, groups = overlapping
    for random_state in range(5):
        labels = study.folds(4, random_state=random_state).labels
        for group in groups:
            assert len(set(labels[study.sites.isin(group)])) == 1
    assert "the chips of 6 sites share pixels, in 2 groups of up to 4" in study.describe()


def test_overlapping_sites_can_be_let_apart(overlapping):
    study, groups = overlapping
    inside = study.sites.isin(groups[0])
    n_folds = [
        study.folds(4, random_state=k, overlapping="apart").labels[inside].nunique()
        for k in range(5)
    ]
    assert max(n_folds) > 1


def test_too_many_overlapping_sites_are_told(table, make_study, embeddings):
    embeddings.attrs["encoder"] = {"overlapping": [list(embeddings.index)]}
    study = make_study(table, site="village").join(embeddings)
    with pytest.raises(RoleError, match=r"found 1, with all 60 units.*20 sites overlap.*'apart'"):
        study.folds(4)


def test_one_cluster_leaves_nothing_to_compare(table, make_study):
    study = make_study(table.assign(district="north"), cluster="district")
    with pytest.raises(RoleError, match=r"at least 2 clusters; found 1, with all 60 units") as told:
        study.folds(2)
    assert "fewer folds" not in str(told.value)

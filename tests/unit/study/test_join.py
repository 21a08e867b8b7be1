"""Embeddings join units by site key, never by row order."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError


@pytest.fixture
def study(table, make_study):
    return make_study(table, site="village")


def test_each_unit_gets_the_row_of_its_site(study, embeddings, table, rng):
    shuffled = embeddings.iloc[rng.permutation(20)]
    joined = study.join(shuffled).features("effect")
    for unit in table.index:
        expected = embeddings.loc[table.loc[unit, "village"]].to_numpy()
        assert (joined.loc[unit].to_numpy() == expected).all()


def test_the_study_itself_stays_as_it_is(study, embeddings):
    study.join(embeddings)
    assert study.embedding_columns == ()


def test_later_changes_of_the_embeddings_do_not_reach_the_study(study, embeddings):
    joined = study.join(embeddings)
    before = joined.features("effect")
    embeddings.iloc[:, :] = 0.0
    pd.testing.assert_frame_equal(joined.features("effect"), before)


@pytest.mark.parametrize(
    ("role", "tasks"),
    [
        ("confounder", ("propensity", "outcome", "effect")),
        ("both", ("propensity", "outcome", "effect")),
        ("modifier", ("outcome", "effect")),
    ],
)
def test_roles_decide_who_sees_the_embeddings(study, embeddings, role, tasks):
    joined = study.join(embeddings, role=role)
    for task in ("propensity", "outcome", "effect"):
        assert joined.features(task).shape[1] == (3 if task in tasks else 0)


def test_use_keeps_one_part(table, make_study, embeddings):
    joined = make_study(table, site="village", covariates=["age"]).join(embeddings)
    assert joined.features("effect", use="covariates").columns.tolist() == ["age"]
    assert joined.features("effect", use="embeddings").shape[1] == 3
    with pytest.raises(ValueError, match=r"got 'pixels'"):
        joined.features("effect", use="pixels")


def test_column_names_that_are_numbers(study, rng):
    # what pd.DataFrame(array) gives
    numbers = pd.DataFrame(rng.normal(size=(20, 2)))
    features = study.join(numbers).features("effect")
    assert features.shape == (60, 2)
    assert (features.to_numpy() == numbers.to_numpy()[study.sites]).all()


def test_two_joins_add_up(study, embeddings):
    joined = study.join(embeddings, "modifier").join(embeddings.add_prefix("late_"), "confounder")
    assert joined.features("propensity").shape[1] == 3
    assert joined.features("effect").shape[1] == 6
    assert joined.joined_roles == (("modifier", 3), ("confounder", 3))


def test_missing_sites_are_named_and_counted(study, embeddings):
    with pytest.raises(AlignmentError, match=r"2 sites with 6 units have none: 4, 7"):
        study.join(embeddings.drop(index=[4, 7]))


def test_embeddings_of_other_keys_show_both(study, embeddings):
    with pytest.raises(AlignmentError, match="none of these sites; theirs are 'v0', 'v1'"):
        study.join(embeddings.set_axis([f"v{key}" for key in embeddings.index]))


def test_missing_sites_can_be_dropped_and_are_counted(study, embeddings):
    joined = study.join(embeddings.drop(index=[4, 7]), missing="drop")
    assert joined.n_units == 54
    assert not joined.sites.isin([4, 7]).any()
    assert "6 units at 2 sites without an embedding were dropped (4, 7)" in joined.describe()


def test_no_site_with_an_embedding_is_an_error_even_when_dropping(study, embeddings):
    with pytest.raises(AlignmentError, match=r"20 sites with 60 units"):
        study.join(embeddings.set_axis(range(100, 120)), missing="drop")


def test_extra_sites_are_fine(study, embeddings):
    more = pd.concat([embeddings, embeddings.set_axis(range(100, 120))])
    pd.testing.assert_frame_equal(
        study.join(more).features("effect"), study.join(embeddings).features("effect")
    )


def test_keys_that_differ_only_in_type_are_told(study, embeddings):
    with pytest.raises(AlignmentError, match=r"agree as text but not in type: int64"):
        study.join(embeddings.set_axis(embeddings.index.astype(str)))


def test_doubled_sites(study, embeddings):
    with pytest.raises(AlignmentError, match=r"site keys.* 1 stand more than once: 0"):
        study.join(embeddings.set_axis([0, 0, *range(2, 20)]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite(study, embeddings, value):
    embeddings.loc[[3, 5], "emb_1"] = value
    with pytest.raises(ValueError, match=r"2 sites have NaN or infinite values: 3, 5"):
        study.join(embeddings)


def test_embeddings_of_words(study, embeddings):
    with pytest.raises(RoleError, match=r"'kind' are not"):
        study.join(embeddings.assign(kind="town"))


def test_names_that_the_study_has_already(study, embeddings):
    with pytest.raises(RoleError, match=r"1 embedding columns .*: 'age'"):
        study.join(embeddings.rename(columns={"emb_0": "age"}))
    with pytest.raises(RoleError, match=r"3 embedding columns"):
        study.join(embeddings).join(embeddings)


def test_features_never_share_a_name(table, make_study, embeddings):
    # an embedding that bears the name of an encoded covariate must be renamed
    study = make_study(table, site="village", covariates=["district"])
    with pytest.raises(RoleError, match=r"district=b"):
        study.join(embeddings.rename(columns={"emb_0": "district=b"})).features("effect")


def test_a_study_without_sites(table, make_study, embeddings):
    with pytest.raises(RoleError, match=r"no `site` column"):
        make_study(table).join(embeddings)


@pytest.mark.parametrize(
    ("argument", "value"), [("role", "effect"), ("missing", "ignore"), ("later_images", "yes")]
)
def test_unknown_options(study, embeddings, argument, value):
    with pytest.raises(ValueError, match=rf"`{argument}` must be .* got {value!r}"):
        study.join(embeddings, **{argument: value})


def test_images_from_after_the_treatment(table, make_study, embeddings):
    embeddings.attrs["encoder"] = {"last_image": "2008-06-01"}
    late = make_study(table, site="village", treatment_date="2008-01-15")
    with pytest.raises(LeakageError, match=r"20 of 20 sites .*first 2008-01-15.*last 2008-06-01"):
        late.join(embeddings)
    early = make_study(table, site="village", treatment_date="2009-01-15")
    assert early.join(embeddings).embedding_columns == ("emb_0", "emb_1", "emb_2")


def test_the_first_treatment_counts(table, make_study, embeddings):
    embeddings.attrs["encoder"] = {"last_image": "2008-06-01"}
    table["when"] = pd.Timestamp("2010-01-01")
    table.loc["u30", "when"] = pd.Timestamp("2007-01-01")
    staggered = make_study(table, site="village", treatment_date="when")
    with pytest.raises(LeakageError, match=r"1 of 20 sites .*first 2007-01-01"):
        staggered.join(embeddings)
    allowed = staggered.join(embeddings, later_images="allow")
    assert "allowed although not known to be from before the treatment: 1 of" in allowed.describe()


def test_each_site_is_held_against_its_own_images(table, make_study, embeddings):
    # one site was treated early, and its own images are older than that
    table["when"] = pd.Timestamp("2010-01-01")
    table.loc["u30", "when"] = pd.Timestamp("2007-01-01")
    early = table.loc["u30", "village"]
    others = [site for site in embeddings.index if site != early]
    embeddings.attrs["encoder"] = {
        "last_image": "2008-06-01",
        "last_images": {"2006-06-01": [early], "2008-06-01": others},
    }
    staggered = make_study(table, site="village", treatment_date="when")
    assert staggered.join(embeddings).embedding_columns == ("emb_0", "emb_1", "emb_2")


def test_undated_images_are_refused_once_the_treatment_has_a_date(table, make_study, embeddings):
    embeddings.attrs["encoder"] = {"last_image": None}
    dated = make_study(table, site="village", treatment_date="2008-01-15")
    with pytest.raises(LeakageError, match=r"the images have no dates"):
        dated.join(embeddings)
    assert make_study(table, site="village").join(embeddings).n_units == len(table)

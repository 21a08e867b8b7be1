"""Embeddings that know the outcomes of the study's sites are refused."""

import pytest

from terracausal._foundation.errors import LeakageError


@pytest.fixture
def study(table, make_study):
    return make_study(table, site="village")


@pytest.fixture
def told(embeddings):
    """Return a function that gives the embeddings the facts of an encoder."""

    def tell(**facts):
        embeddings.attrs["encoder"] = {"class": "TrainedEncoder", "supervised": True, **facts}
        return embeddings

    return tell


def test_embeddings_that_know_outcomes_of_some_sites(study, told):
    with pytest.raises(
        LeakageError, match=r"TrainedEncoder was.*outcomes of 2 of its 20 sites: 3, 7\. Use `cross_"
    ):
        study.join(told(fitted_sites=[3, 7, 100], out_of_fold=False))


def test_supervised_by_unknown_sites_may_be_by_all(study, told):
    with pytest.raises(
        LeakageError, match=r"or may have been, trained on outcomes of 20 of its 20"
    ):
        study.join(told())


def test_what_was_trained_elsewhere_or_out_of_fold_passes(study, told):
    for facts in ({"fitted_sites": [100, 101]}, {"out_of_fold": True, "fitted_sites": [3]}):
        assert len(study.join(told(**facts)).embedding_columns) == 3


def test_unsupervised_embeddings_pass(study, told):
    assert study.join(told(supervised=False, fitted_sites=list(range(20)))).n_sites == 20


def test_half_trains_and_the_other_half_is_studied(study, told):
    # sites of the training have no row, and so leave the study
    rest = told(fitted_sites=list(range(10))).loc[10:]
    assert study.join(rest, missing="drop").n_sites == 10


def test_keys_that_are_dates_are_told_as_text(table, make_study, told, embeddings):
    table["village"] = (
        table["village"].map(lambda n: f"2001-01-{n + 1:02d}").astype("datetime64[s]")
    )
    embeddings.index = embeddings.index.map(lambda n: f"2001-01-{n + 1:02d}").astype(
        "datetime64[s]"
    )
    with pytest.raises(LeakageError, match="outcomes of 1 of its 20"):
        make_study(table, site="village").join(told(fitted_sites=["2001-01-04 00:00:00"]))

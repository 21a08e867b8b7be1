"""Encoders that are fitted inside each fold, and what a supervised one may see."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge

import terracausal as tc
from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.effects import EncodedLearner, TLearner
from terracausal.encoders import TrainedEncoder, TrainingSettings
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores
from terracausal.study import Study

N_SITES = 40


class Memory(BaseEstimator):
    """Knows by heart what it was trained on, as a large network would."""

    supervised = True
    log: ClassVar[list] = []

    def fit(self, chips, y):
        self.known_ = y.drop(columns="site").iloc[:, 0].groupby(y["site"]).mean()
        self.log.append((chips.keys, y))
        return self

    def transform(self, chips):
        found = pd.DataFrame({"memory": self.known_.reindex(chips.keys).fillna(0.0)})
        sites = self.known_.index.tolist()
        found.attrs["encoder"] = {"class": "Memory", "supervised": True, "fitted_sites": sites}
        return found


@pytest.fixture
def chips(rng):
    pixels = rng.normal(size=(N_SITES, 1, 2, 8, 8))
    return tc.Chips.from_arrays(pixels, sites=range(N_SITES), bands=["red", "nir"])


@pytest.fixture
def table(rng, chips):
    site = np.repeat(np.arange(N_SITES), 4)
    w, x = np.tile([0, 1], 2 * N_SITES), rng.normal(size=4 * N_SITES)
    y = x + w + rng.normal(size=4 * N_SITES)
    return pd.DataFrame({"y": y, "w": w, "x": x, "site": site})


@pytest.fixture
def study(table):
    roles = {"site": "site", "covariates": ["x"], "propensity": 0.5}
    return Study(table, outcome="y", treatment="w", **roles)


def test_an_unsupervised_encoder_is_the_encoder_fitted_on_the_training_units(study, chips):
    encoder = tc.RandomConvEncoder(n_features=8, random_state=0)
    found = EncodedLearner(TLearner("ridge"), encoder, random_state=0).cross_predict(
        study, study.folds(2, random_state=0), chips=chips
    )
    for train, test in study.folds(2, random_state=0).split():
        fitted = encoder.fit(chips.select(study.sites[train].unique()))
        joined = study.join(fitted.transform(chips), "modifier")
        expected = TLearner("ridge").fit(joined.subset(train)).predict(joined.table[test])
        np.testing.assert_allclose(found[test], expected)


@pytest.mark.parametrize("target", ["score", "outcome"])
def test_a_supervised_encoder_sees_neither_the_fold_nor_the_learners_units(study, chips, target):
    class Spy(TLearner):
        units: ClassVar[list] = []

        def fit(self, study):
            self.units.append(study.sites.unique())
            return super().fit(study)

    Memory.log.clear()
    learner = EncodedLearner(Spy("ridge"), Memory(), target, n_folds=2, random_state=0)
    folds = study.folds(2, random_state=0)
    learner.cross_predict(study, folds, chips=chips)
    assert len(Memory.log) == len(Spy.units) == 2
    for (train, test), (keys, y), own in zip(folds.split(), Memory.log, Spy.units, strict=True):
        assert set(keys) == set(y["site"])
        assert not set(keys) & set(study.sites[test])
        assert not set(keys) & set(own)
        assert set(keys) | set(own) == set(study.sites[train])
        assert y.columns.tolist() == ["site", target, "cluster"]


def test_without_an_effect_a_memorising_encoder_finds_none(study, chips):
    learner = EncodedLearner(TLearner("ridge"), Memory(), n_folds=2, random_state=0)
    found = learner.cross_predict(study, study.folds(2, random_state=0), chips=chips)
    score = study.outcome * (4 * study.treatment - 2)
    # chance would give a correlation of site means beyond 0.70 = 4.42 / sqrt(40) once in 100,000
    pairs = pd.DataFrame({"found": found, "score": score}).groupby(study.sites).mean()
    assert abs(np.corrcoef(pairs["found"], pairs["score"])[0, 1]) < 0.70
    # what the half prevents: a study whose embeddings know the outcomes
    memory = Memory().fit(chips, pd.DataFrame({"site": study.sites, "y": study.outcome}))
    with pytest.raises(LeakageError, match=r"40 of its 40 sites"):
        study.join(memory.transform(chips), "modifier")


def test_a_trained_encoder(study, chips):
    encoder = TrainedEncoder("kernel_max", training=TrainingSettings(n_epochs=2))
    learner = EncodedLearner(TLearner("ridge"), encoder, n_folds=2, random_state=0)
    one, other = (learner.fit(study, chips).predict(study, chips) for _ in range(2))
    pd.testing.assert_series_equal(one, other)
    assert len(learner.encoder_.fitted_sites_) == N_SITES // 2
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    # the half that trained the encoder counts as seen, too
    with pytest.raises(LeakageError, match=r"fitted on 160 of the 160 units"):
        rank_weighted_effect(scores, one)


def test_new_sites(study, table, chips, rng):
    learner = EncodedLearner(TLearner("ridge"), tc.BandStatisticsEncoder(), random_state=0)
    fitted = learner.fit(study, chips)
    pixels = rng.normal(size=(3, 1, 2, 8, 8))
    new = tc.Chips.from_arrays(pixels, sites=["a", "b", "c"], bands=["red", "nir"])
    rows = pd.DataFrame({"site": ["c", "a", "c"], "x": [0.0, 1.0, 2.0]}, index=[7, 8, 9])
    assert fitted.predict(rows, new).index.tolist() == [7, 8, 9]
    with pytest.raises(RoleError, match=r"lacks the site column 'site'"):
        fitted.predict(rows.drop(columns="site"), new)
    with pytest.raises(RoleError, match=r"no `site` column"):
        learner.fit(Study(table, outcome="y", treatment="w"), chips)
    with pytest.raises(TypeError, match=r"`learner` must be an effect learner.* got Ridge"):
        EncodedLearner(Ridge(), Memory()).fit(study, chips)
    with pytest.raises(ValueError, match=r"`target` must be one of .* got 'effect'"):
        EncodedLearner(TLearner(), Memory(), "effect").fit(study, chips)


def test_who_reads_chips(study, chips):
    with pytest.raises(TypeError, match=r"TLearner reads no chips"):
        TLearner().cross_predict(study, chips=chips)
    with pytest.raises(TypeError, match=r"EncodedLearner reads chips: give chips="):
        EncodedLearner(TLearner(), tc.BandStatisticsEncoder()).cross_predict(study)

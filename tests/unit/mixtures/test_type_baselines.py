"""Types that differ in their baselines too: the score test, and the mixture that lets them."""

import re

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone

from terracausal.mixtures import EffectMixture, MixtureWarning
from terracausal.mixtures.type_baselines import score_test

QUICK = EffectMixture(
    2, n_dimensions=4, guide="laplace", n_restarts=3, n_bootstrap=0, random_state=0
)


def test_the_score_test_of_one_parameter_is_the_t_test_of_a_mean(rng):
    influence, cluster = rng.normal(0.1, 1.0, (60, 1)), np.repeat(np.arange(30), 2)
    totals = np.bincount(cluster, weights=influence[:, 0])
    found = score_test(influence.sum(axis=0), influence, cluster)
    assert found == pytest.approx(stats.ttest_1samp(totals, 0.0).pvalue)


def test_the_score_test_does_not_depend_on_the_scale_of_parameters(rng):
    influence, cluster = rng.normal(0.1, 1.0, (60, 2)), np.arange(60)
    turned = influence @ rng.normal(size=(2, 2))
    one, other = (score_test(x.sum(axis=0), x, cluster) for x in (influence, turned))
    assert one == pytest.approx(other)


@pytest.fixture(scope="module")
def jumping(two_types, study_of):
    """Sites of two types whose control outcomes differ by 2, as do their effects."""
    study, embeddings, kind = two_types(120, 6, effects=(0.0, 2.0), random_state=7)
    table = study.table.drop(columns=embeddings.columns)
    table["outcome"] -= 2.0 * kind.loc[table["site"]].to_numpy()
    return study_of(table, embeddings)


def test_different_baselines_are_told(jumping):
    with pytest.warns(MixtureWarning, match="differ in their outcomes without treatment too"):
        shared = clone(QUICK).fit(jumping)
    assert shared.baseline_p_value_ < 0.01
    assert "types differ in their effects alone" in str(shared)


def test_baselines_by_type_mend_the_effects(jumping):
    mixture = clone(QUICK).set_params(baseline="by_type").fit(jumping)
    assert mixture.baseline_p_value_ is None
    assert re.search("types differ in their baselines too\n", str(mixture))
    effects = mixture.component_effects_
    # two effects; a correct interval of 4.5 standard errors misses once in 100,000
    assert (np.abs(effects.value - [0.0, 2.0]) < 4.5 * effects.std_error).all()
    assert any(text.startswith("baseline of each type less") for text in mixture.priors_)

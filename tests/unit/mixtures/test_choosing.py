"""The number of components: the rule, held-out densities, and two worlds."""

import numpy as np
import pytest

from terracausal._foundation.errors import LeakageError
from terracausal.mixtures import EffectMixture, choose_components
from terracausal.mixtures.choosing import _choice

QUICK = EffectMixture(n_dimensions=2, n_restarts=3, random_state=0)


def test_the_rule_takes_the_smallest_within_one_error_of_the_best(rng):
    base, cluster = rng.normal(size=200), np.repeat(np.arange(50), 4)
    noise = rng.normal(size=50)[cluster]
    noise -= noise.mean()
    # the error of a mean of 50 clusters of equal size is sd / sqrt(49), in population SDs
    error = noise[::4].std() / np.sqrt(49)
    near = {1: base, 2: base + noise + 0.9 * error, 3: base - 1.0}
    far = {1: base, 2: base + noise + 1.1 * error, 3: base - 1.0}
    assert _choice(near, near, cluster).n_components == 1
    chosen = _choice(far, near, cluster)
    assert chosen.n_components == 2
    row = chosen.to_dataframe().set_index("n_components").loc[1]
    assert row["difference"] == pytest.approx(-1.1 * error)
    assert row["difference_std_error"] == pytest.approx(error)
    assert row["n_clusters"] == 50
    # blind densities are lower by 0.2 errors for two components
    row = chosen.to_dataframe().set_index("n_components").loc[2]
    assert row["image_gain"] == pytest.approx(0.2 * error)


def test_a_constant_effect_gives_one_component_and_two_types_give_two(two_types):
    for effects, n_components in (((1.0, 1.0), 1), ((0.0, 4.0), 2)):
        study, _, _ = two_types(80, 4, effects=effects, random_state=2)
        folds = study.folds(3, random_state=0)
        choice = choose_components(study, (2, 1), folds, mixture=QUICK)
        assert choice.n_components == n_components
        assert choice.to_dataframe()["n_components"].tolist() == [1, 2]
        assert str(n_components) in choice.summary().splitlines()[0]
        assert len(choice.plot().get_yticklabels()) == 2
        assert "<table" in choice._repr_html_()


def test_the_density_of_held_out_sites_is_that_of_a_regression(two_types):
    # one component, no noise to speak of in the posterior: a normal regression with intercepts
    study, _, _ = two_types(200, 5, effects=(1.0, 1.0), random_state=3)
    choice = choose_components(study, (1,), study.folds(2, random_state=0), mixture=QUICK)
    # entropy of 5 normals of variance 1 that share one of variance 0.09, per site; the baseline
    # misses embeddings left out of the two components, and the parameters cost a little
    entropy = 0.5 * (5 * np.log(2 * np.pi * np.e) + np.log1p(5 * 0.09))
    found = choice.to_dataframe().iloc[0]
    assert found["log_density"] < -entropy + 5 * found["std_error"]
    assert found["log_density"] > -entropy - 0.5


def test_what_cannot_be_chosen_from(two_types):
    study, _, _ = two_types(40, 4, random_state=1)
    folds = study.folds(2, random_state=0)
    with pytest.raises(ValueError, match=r"20 sites support at most 2, got n_components=3"):
        choose_components(study, (1, 3), folds, mixture=QUICK)
    with pytest.raises(ValueError, match=r"`candidates` must name at least one"):
        choose_components(study, (), folds, mixture=QUICK)
    folds.labels.iloc[0] = 1 - folds.labels.iloc[0]
    with pytest.raises(LeakageError, match=r"1 of 40 clusters are split"):
        choose_components(study, (1,), folds, mixture=QUICK)


def test_images_that_tell_nothing_gain_nothing(two_types, study_of):
    study, embeddings, _ = two_types(120, 6, effects=(0.0, 4.0), random_state=4)
    settings = EffectMixture(n_dimensions=4, n_restarts=3, random_state=0)
    folds = study.folds(3, random_state=0)
    told = choose_components(study, (1, 2), folds, mixture=settings)
    assert told.to_dataframe()["image_p_value"][1] < 1e-3
    assert "may tell nothing" not in str(told)
    # the same sites with each other's images: two types still, of which images know nothing
    order = np.random.default_rng(0).permutation(len(embeddings))
    exchanged = embeddings.iloc[order].set_axis(embeddings.index, axis=0)
    blind = study_of(study.table.drop(columns=embeddings.columns), exchanged)
    choice = choose_components(blind, (1, 2), folds, mixture=settings)
    assert choice.n_components == 2
    assert choice.to_dataframe()["image_p_value"][1] > 0.05
    assert "they may tell nothing, nor may exemplars" in str(choice)

"""Memberships before and after covariates are taken out of the outcome."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from terracausal._foundation.errors import RoleError
from terracausal.mixtures import EffectMixture, compare_orthogonalized
from terracausal.mixtures.orthogonal import _is_fitted_to

QUICK = EffectMixture(
    2, n_dimensions=2, guide="laplace", n_restarts=3, n_bootstrap=0, random_state=0
)


def test_types_of_the_image_remain_when_covariates_are_taken_out(two_types):
    study, embeddings, _ = two_types(80, 5, effects=(0.0, 4.0), random_state=1)
    mixture = clone(QUICK).fit(study)
    found = compare_orthogonalized(mixture, study, random_state=0)
    assert found.value > 0.9
    assert 0 < found.std_error < 0.1
    table = found.to_dataframe()
    assert table.index.equals(pd.Index(sorted(embeddings.index), name="site"))
    before, after = table[["before_1", "after_1"]].to_numpy().T
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(found.value)
    np.testing.assert_allclose(table[["after_1", "after_2"]].sum(axis=1), 1)
    # what was given is kept, and the outcome is not changed
    np.testing.assert_allclose(before, mixture.predict_proba(embeddings.sort_index()).iloc[:, 0])
    pd.testing.assert_series_equal(study.outcome, study.table["outcome"], check_names=False)
    text = found.summary()
    assert f"correlation {found.value:.3f}" in text
    assert text.count("orthogonalized") == 2
    assert "component 2" in found._repr_html_()
    assert "type 2" in found.plot().get_xlabel()


def test_types_need_covariates_that_can_be_taken_out(two_types):
    study, _, _ = two_types(40, 4)
    with pytest.raises(RoleError, match=r"the study has 0 covariates"):
        compare_orthogonalized(QUICK, study.with_roles(covariates=()))
    logs = clone(QUICK).set_params(family="log_normal")
    with pytest.raises(ValueError, match=r"'student_t'; the mixture has family='log_normal'"):
        compare_orthogonalized(logs, study)


def test_a_mixture_of_another_study_with_the_same_keys_is_not_the_first(two_types):
    study, other = (two_types(40, 3, random_state=seed)[0] for seed in (1, 2))
    mixture = clone(QUICK).fit(study)
    assert study.units.equals(other.units)
    assert _is_fitted_to(mixture, study)
    assert not _is_fitted_to(mixture, other)
    assert not _is_fitted_to(clone(QUICK), study)

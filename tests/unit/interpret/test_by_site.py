"""What is asked for by site must be a table by site; the mixture itself is not."""

import pandas as pd
import pytest

import terracausal as tc
from terracausal.interpret import component_profile, exemplars

TABLE = pd.DataFrame({"probability_1": [0.2, 0.8]}, index=["a", "b"])


@pytest.mark.parametrize(
    "call",
    [
        lambda chips: exemplars(tc.EffectMixture(2), chips),
        lambda chips: exemplars(chips, TABLE),
        lambda chips: component_profile(tc.EffectMixture(2), TABLE),
        lambda chips: component_profile(TABLE, chips),
        lambda chips: tc.map_types(tc.EffectMixture(2), chips),
    ],
)
def test_what_is_no_table_by_site_is_refused(call):
    chips = tc.simulate_study(n_sites=4, size_px=4, random_state=0).chips
    with pytest.raises(TypeError, match=r"by site, such as `mixture.memberships_`; got \w+\."):
        call(chips)

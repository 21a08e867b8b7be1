"""The sentences say what the numbers say, and no more."""

import numpy as np
import pandas as pd
import pytest

from terracausal.report.wording import (
    Interval,
    tell_agreement,
    tell_average_effect,
    tell_overlap,
    tell_spread,
    tell_targeting,
)

MINUS = "−"


def test_an_interval_above_zero_raised():
    sentence = tell_average_effect(Interval(0.7612, 0.601, 0.9234), "income")
    assert sentence.startswith("The programme raised income by 0.76 (95% interval 0.60 to 0.92)")
    assert "assumptions" in sentence


def test_an_interval_below_zero_lowered_by_positive_numbers():
    sentence = tell_average_effect(Interval(-1794.3, -3100.0, -500.0, 0.9), "debt")
    assert sentence.startswith("The programme lowered debt by 1,794 (90% interval 500 to 3,100)")


@pytest.mark.parametrize(("low", "high"), [(-0.02, 0.12), (0.0, 0.12), (-0.1, 0.0)])
def test_an_interval_that_includes_zero_settles_nothing(low, high):
    sentence = tell_average_effect(Interval((low + high) / 2, low, high), "income")
    assert "do not settle" in sentence
    assert "includes zero" in sentence
    assert "raised income" not in sentence


def test_no_interval_is_not_an_interval_with_zero():
    sentence = tell_average_effect(Interval(0.5, np.nan, np.nan), "income")
    assert sentence.endswith("is 0.50; it came without interval.")
    assert "no interval" in tell_targeting(Interval(0.5, np.nan, np.nan), "AUTOC", None)


def test_a_negative_end_has_a_true_minus():
    assert Interval(0.05, -0.02, 0.12).text == f"0.05 (95% interval {MINUS}0.02 to 0.12)"


def test_a_rounded_zero_has_no_sign():
    assert Interval(-0.001, -5.0, 5.0).text == f"0 (95% interval {MINUS}5 to 5)"


def test_agreement_counts_signs():
    assert tell_agreement([1, 1, 0, -1]) == (
        "Of the 4 estimates below, 2 are clearly above zero, 1 is clearly below zero and "
        "1 is not clearly different from zero."
    )
    assert tell_agreement([-1, -1]) == "Both estimates below are clearly below zero."
    assert tell_agreement([0, 0, 0]).startswith("All 3 estimates below are not clearly")


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(0.2, 0.05, 0.35), "do benefit more"),
        (Interval(0.2, -0.05, 0.45), "do not show"),
        (Interval(-0.2, -0.35, -0.05), "wrong way"),
    ],
)
def test_targeting(interval, words):
    assert words in tell_targeting(interval, "AUTOC", None)


def test_targeting_states_the_gain_at_its_fraction():
    sentence = tell_targeting(Interval(0.2, 0.05, 0.35), "AUTOC", (0.2, 0.412))
    assert "among the first 20% of the ranking the effect is 0.41 above" in sentence


def test_overlap_counts_units_without_counterpart():
    propensity = np.r_[np.full(97, 0.5), 0.01, 0.99, 0.995]
    sentence = tell_overlap(propensity, margin=0.02)
    assert "3 of 100 units (3.0%)" in sentence
    assert "below 0.02 or above 0.98" in sentence


def test_overlap_without_extremes():
    sentence = tell_overlap(np.array([0.31, 0.5, 0.72]), margin=0.02)
    assert "range from 0.31 to 0.72" in sentence
    assert "Care" not in sentence


def test_overlap_with_one_chance_for_all():
    assert "0.50" in tell_overlap(np.full(3, 0.5), margin=0.02)
    assert "one arm is very small" in tell_overlap(np.full(3, 0.001), margin=0.02)


def test_spread_states_the_middle_four_fifths():
    effects = pd.Series(np.linspace(0.0, 1.0, 101))
    assert tell_spread(effects).endswith("four out of five places lie between 0.10 and 0.90.")

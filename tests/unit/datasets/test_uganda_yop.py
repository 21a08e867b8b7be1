"""The Uganda study: what is decoded, dropped and refused."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import LeakageError
from terracausal.datasets import load_dataset
from terracausal.datasets.uganda_yop import FILE, read_rdata, site_table, unit_table
from terracausal.study import Study


@pytest.fixture(scope="module")
def raw(data_root):
    return read_rdata(data_root / "uganda_yop" / FILE)


@pytest.fixture(scope="module")
def data(data_root):
    return load_dataset("uganda_yop", root=data_root)


def test_counts(data):
    study = data.study
    assert (study.n_units, study.n_sites, study.n_clusters) == (2082, 327, 327)
    assert len(data.chips) == 327
    assert data.chips.resolution_m == 14.25
    assert study.roles.covariates == ("female", "x3", "x5")


def test_what_was_dropped_is_said(data):
    assert any("columns 0, 2, 4, 6 of the original X" in note for note in data.notes)
    assert "columns 0, 2, 4, 6" in data.describe()


def test_leaking_columns_are_products_with_the_treatment(raw):
    w, x = np.asarray(raw["obsW"]), raw["X"]
    assert (x[:, 0] == w).all()
    for leak, honest in ((2, 1), (4, 3), (6, 5)):
        known = ~np.isnan(x[:, honest])
        np.testing.assert_allclose(x[known, leak], w[known] * x[known, honest])
        assert np.isnan(x[~known, leak]).all()


def test_the_full_x_is_refused_with_its_columns_named(raw):
    table = unit_table(raw)[["site", "treated", "outcome"]]
    x = pd.DataFrame(raw["X"], index=table.index)
    roles = {"outcome": "outcome", "treatment": "treated", "site": "site"}
    with pytest.raises(LeakageError, match=r"4 of 7 covariates .*: '0', '2', '4', '6'\."):
        Study(table.join(x), **roles, covariates=list(range(7)))
    honest = Study(table.join(x), **roles, covariates=[1, 3, 5])
    assert honest.features("effect").columns.tolist() == ["1", "3", "3_missing", "5"]


def test_chips_agree_with_the_file(data, raw):
    keys = [int(key) for key in np.asarray(raw["KeysOfImages"])]
    for row in (0, 100, 326):
        pixels = np.moveaxis(np.asarray(raw["FullImageArray"])[row], -1, 0)
        np.testing.assert_array_equal(data.chips[keys[row]][0], pixels)


def test_units_lie_at_their_site(data, raw):
    place = site_table(raw)
    found = data.study.coordinates
    np.testing.assert_allclose(found["lon"], place["lon"].loc[data.study.sites])
    np.testing.assert_allclose(found["lat"], place["lat"].loc[data.study.sites])
    assert found["lat"].between(1, 4).all()


def test_files_agree_with_the_tables_beside_them(data, data_root):
    units = pd.read_csv(data_root / "uganda_yop" / "units.csv")
    assert len(units) == data.study.n_units


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown data set 'kenya'; known: 'uganda_yop'"):
        load_dataset("kenya")
    with pytest.raises(FileNotFoundError, match=r"Expected the folder .*uganda_yop.*root is"):
        load_dataset("uganda_yop", root=tmp_path)


def test_the_variable_is_named_when_it_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("TERRACAUSAL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"\$TERRACAUSAL_DATA is"):
        load_dataset("uganda_yop")


def test_a_folder_without_the_file_shows_what_it_holds(tmp_path):
    (tmp_path / "uganda_yop").mkdir()
    (tmp_path / "uganda_yop" / "other.RData").touch()
    with pytest.raises(FileNotFoundError, match=rf"Expected {FILE} .* holds 'other.RData'"):
        load_dataset("uganda_yop", root=tmp_path)


def test_a_corrupt_file_says_which(tmp_path):
    (tmp_path / "uganda_yop").mkdir()
    (tmp_path / "uganda_yop" / FILE).write_bytes(b"not R data at all")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the reader's own error, with our note
        load_dataset("uganda_yop", root=tmp_path)
    assert any("expected the original file, sha256" in note for note in caught.value.__notes__)

import numpy as np
import pandas as pd
import pytest
import torch

from terracausal.encoders.places import LocationEncoder, project, spline_products
from terracausal.encoders.satclip import read_satclip, satclip_harmonics
from terracausal.encoders.spherical_harmonics import harmonic_names, spherical_harmonics
from terracausal.imagery import Chips


class CountingReader:
    """A reader that refuses to be read."""

    def read(self, site):
        raise AssertionError(f"read {site}")


def positions(n_sites=200, seed=0):
    """Evenly over the globe."""
    rng = np.random.default_rng(seed)
    height = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n_sites)))
    return np.column_stack([rng.uniform(-180, 180, n_sites), height])


def district(n_sites=120, seed=0):
    """A study area of 100 km."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(32.0, 32.9, n_sites), rng.uniform(2.5, 3.4, n_sites)])


def chips_at(lon_lat, keys=None):
    keys = [f"s{k:03d}" for k in range(len(lon_lat))] if keys is None else keys
    sites = pd.DataFrame(lon_lat, columns=["lon", "lat"], index=keys)
    return Chips.from_arrays(np.ones((len(lon_lat), 1, 1, 2, 2)), sites=sites, bands=["red"])


# -- spherical harmonics -------------------------------------------------------------------------


def test_harmonics_are_their_closed_forms():
    lon_lat = positions()
    lon, lat = np.deg2rad(lon_lat).T
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    half, third = np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / np.pi)
    expected = [
        np.full_like(x, np.sqrt(1 / (4 * np.pi))),
        half * y,
        half * z,
        half * x,
        third / 2 * x * y,
        third / 2 * y * z,
        np.sqrt(5 / np.pi) / 4 * (3 * z**2 - 1),
        third / 2 * x * z,
        third / 4 * (x**2 - y**2),
    ]
    found = spherical_harmonics(lon_lat, 2)
    np.testing.assert_allclose(found, np.column_stack(expected), rtol=0, atol=1e-14)
    cubic = np.sqrt(35 / (2 * np.pi)) / 4 * y * (3 * x**2 - y**2)  # degree 3, order -3
    np.testing.assert_allclose(spherical_harmonics(lon_lat, 3)[:, 9], cubic, atol=1e-14)


def test_harmonics_are_orthonormal_and_add_up():
    degree = 12
    # Gauss-Legendre in sin(lat) and equal steps in lon integrate such products exactly
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    lon = np.arange(2 * degree + 1) * 360 / (2 * degree + 1)
    lons, lats = np.meshgrid(lon, np.rad2deg(np.arcsin(nodes)))
    area = np.repeat(weights, len(lon)) * 2 * np.pi / len(lon)
    basis = spherical_harmonics(np.column_stack([lons.ravel(), lats.ravel()]), degree)
    np.testing.assert_allclose(basis.T @ (basis * area[:, None]), np.eye(169), atol=1e-12)
    # addition theorem: squares of a degree sum to (2 l + 1) / 4 pi everywhere
    found = spherical_harmonics(positions(), 40) ** 2
    for n in (1, 7, 40):
        total = found[:, n * n : (n + 1) ** 2].sum(axis=1)
        np.testing.assert_allclose(total, (2 * n + 1) / (4 * np.pi), rtol=1e-10)


def test_the_globe_has_no_seam():
    lon_lat = np.array([[180.0, 12.0], [-180.0, 12.0], [17.0, 90.0], [-140.0, 90.0]])
    found = spherical_harmonics(lon_lat, 6)
    np.testing.assert_allclose(found[0], found[1], atol=1e-14)
    np.testing.assert_allclose(found[2], found[3], atol=1e-14)


def test_columns_of_harmonics():
    table = LocationEncoder("spherical_harmonics", degree=3).fit_transform(chips_at(positions()))
    assert table.shape == (200, 15)
    assert list(table.columns) == harmonic_names(3)
    assert list(table.columns[:4]) == ["sh_01_s01", "sh_01_c00", "sh_01_c01", "sh_02_s02"]
    np.testing.assert_array_equal(table, spherical_harmonics(positions(), 3)[:, 1:])


# -- splines -------------------------------------------------------------------------------------


def test_splines_resolve_a_district_and_harmonics_do_not():
    lon_lat = district()
    chips = chips_at(lon_lat)
    wave = np.sin(2 * np.pi * (lon_lat[:, 0] - 32) / 0.9) * np.cos(np.pi * (lon_lat[:, 1] - 2.5))

    def unexplained(encoder):
        # directions a million times weaker than the strongest are noise to any learner
        table = encoder.fit_transform(chips).to_numpy()
        design = np.column_stack([np.ones(len(wave)), table - table.mean(axis=0)])
        fit = design @ np.linalg.lstsq(design, wave, rcond=1e-6)[0]
        return ((wave - fit) ** 2).sum() / ((wave - wave.mean()) ** 2).sum()

    splines = LocationEncoder(n_knots=5)
    assert splines.fit_transform(chips).shape[1] <= 49
    assert unexplained(splines) < 0.01
    assert unexplained(LocationEncoder("spherical_harmonics", degree=6)) > 0.2  # 48 columns


def test_splines_are_positive_and_sum_to_one():
    chips = chips_at(district())
    encoder = LocationEncoder(n_knots=4).fit(chips)
    table = encoder.transform(chips)
    assert (table >= 0).all(axis=None)
    assert (table.std() > 0).all()
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    everywhere = spline_products(project(district(), encoder.centre_), encoder.knots_m_)
    assert everywhere.shape == (120, 36)
    assert np.delete(everywhere, encoder.reached_, axis=1).max(initial=0) == 0
    # splines of a site outside are those of the edge, here of the eastern one
    east = district().max(axis=0)[0]
    out, edge = (encoder.transform(chips_at(np.array([[x, 3.0]]))) for x in (east + 1, east + 2))
    np.testing.assert_allclose(out, edge, atol=0.01)


def test_splines_across_the_date_line_along_a_line_and_of_one_place():
    moved = district() - [32.45, 0.0]
    plain = LocationEncoder(n_knots=3).fit_transform(chips_at(moved + np.array([100.0, 0.0])))
    dateline = moved + np.array([180.0, 0.0])
    dateline[:, 0] = (dateline[:, 0] + 180) % 360 - 180
    across = LocationEncoder(n_knots=3).fit_transform(chips_at(dateline))
    np.testing.assert_allclose(across, plain, atol=1e-5)  # centres are rounded to a metre
    line = district() * [1, 0]
    table = LocationEncoder(n_knots=3).fit_transform(chips_at(line))
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert np.linalg.matrix_rank(table, tol=1e-3) == 5
    with pytest.raises(ValueError, match="different places; the fitted ones lie within 0 m"):
        LocationEncoder().fit(chips_at(np.array([[32.0, 2.0]] * 3)))


# -- all -----------------------------------------------------------------------------------------

BASES = pytest.mark.parametrize("basis", ["splines", "spherical_harmonics"])


@BASES
def test_order_and_company_of_sites_do_not_matter(basis):
    chips = chips_at(district())
    table = LocationEncoder(basis, degree=3, n_components=4).fit_transform(chips)
    order = np.random.default_rng(1).permutation(chips.keys)
    encoder = LocationEncoder(basis, degree=3, n_components=4).fit(chips.select(order))
    pd.testing.assert_frame_equal(encoder.transform(chips), table, check_exact=True)
    alone = encoder.transform(chips.select(["s007"]))
    pd.testing.assert_frame_equal(alone, table.loc[["s007"]], check_exact=True)


@BASES
def test_no_pixel_is_read_and_no_date_is_told(basis):
    chips = chips_at(district())
    unread = Chips(CountingReader(), chips.sites, chips._found, ("red",), (2, 2), times=chips.times)
    table = LocationEncoder(basis, degree=2).fit_transform(unread)
    pd.testing.assert_frame_equal(
        table, LocationEncoder(basis, degree=2).fit_transform(chips), check_exact=True
    )
    assert "last_image" not in table.attrs["encoder"]
    assert table.attrs["encoder"]["basis"] == basis


@BASES
def test_sites_without_a_position_are_refused(basis):
    plain = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
    with pytest.raises(ValueError, match="position of every site; 2 of 2 have none: 'a', 'b'"):
        LocationEncoder(basis).fit(plain)
    with pytest.raises(ValueError, match="position of every site; 2 of 2 have none"):
        LocationEncoder(basis).fit(chips_at(district())).transform(plain)


def test_wrong_settings_are_refused():
    chips = chips_at(district())
    with pytest.raises(ValueError, match=r"`basis` must be one of 'splines', .* got 'grid'"):
        LocationEncoder("grid").fit(chips)
    with pytest.raises(ValueError, match="`degree` must be an integer of at least 1; got 0"):
        LocationEncoder("spherical_harmonics", degree=0).fit(chips)
    with pytest.raises(ValueError, match="`n_knots` must be an integer of at least 2; got 1"):
        LocationEncoder(n_knots=1).fit(chips)
    with pytest.raises(ValueError, match=r"needs `path`, .*; got None"):
        LocationEncoder("satclip").fit(chips)


# -- SatCLIP -------------------------------------------------------------------------------------


def checkpoint(path, n_degrees=4, settings=(), **changes):
    """A checkpoint with the names and shapes of the published ones, and random numbers."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5

    layers = {
        "layers.0": (tensor(16, n_degrees**2), tensor(16)),
        "layers.1": (tensor(16, 16), tensor(16)),
        "last_layer": (tensor(8, 16), tensor(8)),
    }
    state = {"model.visual.conv1.weight": tensor(3, 3), "model.logit_scale": tensor(1)}
    for name, (weight, bias) in layers.items():
        # the network is held twice, as `nnet` and inside `location`
        for place in ("model.nnet", "model.location.nnet"):
            state |= {f"{place}.{name}.weight": weight, f"{place}.{name}.bias": bias}
    hyper = {
        "le_type": "sphericalharmonics",
        "pe_type": "siren",
        "harmonics_calculation": "analytic",
        "legendre_polys": n_degrees,
    }
    torch.save({"state_dict": state | changes, "hyper_parameters": hyper | dict(settings)}, path)
    return layers


def test_harmonics_of_satclip_are_the_published_formulas():
    lon_lat = positions()
    # as upstream: both angles count from their lowest value
    phi, theta = np.deg2rad(lon_lat[:, 0] + 180), np.deg2rad(lon_lat[:, 1] + 90)
    sin, cos = np.sin(theta), np.cos(theta)
    published = {
        0: np.full_like(phi, 0.886226925452758),
        1: 0.48860251190292 * sin * np.sin(phi),
        2: 1.53499006191973 * cos,
        3: 0.48860251190292 * sin * np.cos(phi),
        4: 0.18209140509868 * (3 - 3 * cos**2) * np.sin(2 * phi),
        5: 1.09254843059208 * sin * np.sin(phi) * cos,
        6: 2.97249547320451 * cos**2 - 0.990831824401503,
        8: 0.18209140509868 * (3 - 3 * cos**2) * np.cos(2 * phi),
        12: 5.86184012479344 * cos**3 - 3.51710407487606 * cos,
        15: 0.590043589926644 * sin**3 * np.cos(3 * phi),
    }
    found = satclip_harmonics(lon_lat, 4)
    assert found.shape == (200, 16)
    for column, expected in published.items():
        np.testing.assert_allclose(found[:, column], expected, atol=1e-13, err_msg=str(column))
    # the closed form: orthonormal, with the sign (-1)^m of the Legendre functions
    closed = satclip_harmonics(lon_lat, 4, analytic=False)
    np.testing.assert_allclose(closed[:, 2], published[2] / np.pi, atol=1e-13)
    np.testing.assert_allclose(closed[:, 3], -published[3], atol=1e-13)
    np.testing.assert_allclose(closed[:, 8], published[8], atol=1e-13)


def test_satclip_is_sines_of_harmonics(tmp_path):
    layers = checkpoint(tmp_path / "satclip.ckpt")
    lon_lat = positions(20)
    encoder = LocationEncoder("satclip", path=tmp_path / "satclip.ckpt")
    table = encoder.fit_transform(chips_at(lon_lat))
    x = torch.from_numpy(satclip_harmonics(lon_lat, 4))
    x = torch.sin(30 * torch.nn.functional.linear(x, *layers["layers.0"]))
    x = torch.sin(torch.nn.functional.linear(x, *layers["layers.1"]))
    x = torch.nn.functional.linear(x, *layers["last_layer"])
    np.testing.assert_allclose(table, x.numpy(), rtol=1e-11, atol=1e-11)
    assert list(table.columns) == [f"satclip_{k:03d}" for k in range(8)]
    facts = table.attrs["encoder"]
    assert facts["weights"] == "satclip.ckpt"
    assert facts["weights_digest"] == read_satclip(tmp_path / "satclip.ckpt").digest
    alone = encoder.transform(chips_at(lon_lat[[3]], keys=["s003"]))
    pd.testing.assert_frame_equal(alone, table.loc[["s003"]], check_exact=True)


class Payload:
    """Would make a folder when unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.folder),)


def test_bad_checkpoints_are_refused_and_never_run(tmp_path):
    path = tmp_path / "satclip.ckpt"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*satclip.ckpt'"):
        read_satclip(path)
    checkpoint(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"'satclip.ckpt' could not be read as a checkpoint"):
        read_satclip(path)
    torch.save({"state_dict": {}, "hyper_parameters": Payload(tmp_path / "made")}, path)
    with pytest.raises(ValueError, match="could not be read as a checkpoint of plain tensors"):
        read_satclip(path)
    assert not (tmp_path / "made").exists()
    torch.save({"model": 1}, path)
    with pytest.raises(ValueError, match=r"hold `state_dict` and .* found 'model'"):
        read_satclip(path)
    checkpoint(path, settings={"le_type": "grid"})
    with pytest.raises(ValueError, match="'le_type' 'sphericalharmonics'; it has 'grid'"):
        read_satclip(path)
    checkpoint(path, **{"model.location.nnet.layers.1.weight": torch.ones(16, 9)})
    with pytest.raises(ValueError, match=r"do not fit each other; .*\(16, 9\)"):
        read_satclip(path)
    torch.save(
        {
            "state_dict": {"a": torch.ones(1)},
            "hyper_parameters": {
                "le_type": "sphericalharmonics",
                "pe_type": "siren",
                "harmonics_calculation": "analytic",
            },
        },
        path,
    )
    with pytest.raises(ValueError, match="it lacks 'nnet"):
        read_satclip(path)

"""What a pretrained encoder promises: files, units, bands, state, devices."""

import json
import pickle
import shutil
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from terracausal._foundation.errors import BandError
from terracausal.encoders.pretrained import (
    Preprocessing,
    PretrainedEncoder,
    ProjectBands,
    RepeatBand,
    registered_weights,
)
from terracausal.encoders.pretrained.registry import WEIGHTS
from terracausal.imagery import Chips

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the extra 'pretrained' is missing")

NAME = "vit-base-in21k"
RGB = ("red", "green", "blue")
KEYS = pd.Index([11, 2, 30, 4, 25])
ROUNDING = 1e-5  # of float32 matrix products, whose order depends on the size of a batch


def pixels_of(seed=0, n_times=1, n_bands=3, top=255, side=20):
    shape = (len(KEYS), n_times, n_bands, side, side)
    return np.random.default_rng(seed).integers(0, top + 1, size=shape).astype(np.float32)


def chips_of(pixels, keys=KEYS, bands=RGB, **options):
    return Chips.from_arrays(pixels, sites=keys, bands=bands, **options)


@pytest.fixture
def vit(checkpoints):
    def make(name=NAME, seed=0, **options):
        options = {"units": "uint8", "path": str(checkpoints(name, seed)), **options}
        return PretrainedEncoder(name, **options)

    return make


# -- rows -----------------------------------------------------------------------------------------


def test_one_named_row_per_site_and_all_that_ran_is_told(vit):
    encoder = vit()
    settings = encoder.get_params()
    table = encoder.fit_transform(chips_of(pixels_of()))
    assert encoder.get_params() == settings
    pd.testing.assert_index_equal(table.index, KEYS.rename("site"))
    assert (table.dtypes == np.float64).all()
    assert list(table.columns[:2]) == ["vit_base_in21k_000", "vit_base_in21k_001"]
    assert np.isfinite(table.to_numpy()).all()
    told = table.attrs["encoder"]
    assert json.loads(json.dumps(told)) == told
    assert told["units"] == "uint8"
    assert told["adapter"]["inputs"] == list(RGB)
    assert told["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert told["preprocessing"]["size_px"] == 224
    assert told["revision"] == WEIGHTS[NAME].revision
    assert told["value_range"] == [0.0, 255.0]
    assert told["filled_share"] == 0
    assert set(told["parameters"]) == set(settings)
    file = f"{encoder.path}/model.safetensors"
    with open(file, "rb") as stream:
        assert told["weights_digest"] == sha256(stream.read()).hexdigest()


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_row_depends_on_its_own_pixels_alone(vit, batch_size):
    pixels = pixels_of(n_times=2)
    chips = chips_of(pixels)
    table = vit().fit_transform(chips)
    other = vit(batch_size=batch_size).fit(chips)
    order = [3, 0, 4, 2, 1]
    shuffled = other.transform(chips_of(pixels[order], KEYS[order]))
    assert_allclose(shuffled.loc[KEYS], table, atol=ROUNDING)
    alone = other.transform(chips.select([30]))
    assert_allclose(alone, table.loc[[30]], atol=ROUNDING)


def test_times_are_averaged_and_empty_images_left_out(vit):
    pixels = pixels_of(n_times=3)
    pixels[:, 1] = np.nan
    encoder = vit().fit(chips_of(pixels))
    table = encoder.transform(chips_of(pixels))
    first, last = (encoder.transform(chips_of(pixels[:, [time]])) for time in (0, 2))
    assert_allclose(table, (first.to_numpy() + last.to_numpy()) / 2, atol=ROUNDING)


def test_two_encoders_in_one_process_are_two(vit):
    chips = chips_of(pixels_of())
    one, other, third = vit(), vit(seed=1), vit("swin-base")
    apart = [encoder.fit_transform(chips) for encoder in (one, other, third)]
    assert not np.allclose(apart[0], apart[1])
    for encoder, table in zip((third, other, one), apart[::-1], strict=True):
        pd.testing.assert_frame_equal(encoder.transform(chips), table, check_exact=True)
    assert one.weights_digest_ != other.weights_digest_


def test_it_is_frozen_but_principal_components_are_of_the_fitted_chips(vit):
    chips, others = chips_of(pixels_of(0)), chips_of(pixels_of(1, top=100))
    here, there = vit().fit(chips), vit().fit(others)
    pd.testing.assert_frame_equal(here.transform(chips), there.transform(chips), check_exact=True)
    reduced = [vit(n_components=2, whiten=True).fit(fitted) for fitted in (chips, others)]
    tables = [encoder.transform(chips) for encoder in reduced]
    assert list(tables[0].columns) == ["pc_000", "pc_001"]
    assert_allclose(tables[0].std(ddof=0), 1)
    assert not np.allclose(tables[0], tables[1])
    bands = [vit(bands=ProjectBands()).fit(fitted).adapter_.matrix for fitted in (chips, others)]
    assert not np.allclose(*bands)


def test_neither_random_numbers_nor_the_voice_of_transformers_change(vit):
    state, level = torch.get_rng_state(), transformers.utils.logging.get_verbosity()
    vit().fit_transform(chips_of(pixels_of()))
    assert torch.equal(torch.get_rng_state(), state)
    assert transformers.utils.logging.get_verbosity() == level
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_other_layers(vit):
    chips = chips_of(pixels_of())
    tables = {layer: vit(layer=layer).fit_transform(chips) for layer in ("pooled", "cls", "mean")}
    assert not np.allclose(tables["cls"], tables["mean"])
    assert np.abs(tables["pooled"]).max(axis=None) <= 1  # a tanh
    with pytest.raises(ValueError, match="no layer 'projected'; its outputs are last_hidden_state"):
        vit(layer="projected").fit(chips)
    with pytest.raises(ValueError, match=r"`layer` must be one of .* got 'seventh'"):
        vit(layer="seventh").fit(chips)


def test_bfloat16_has_three_digits(vit):
    chips = chips_of(pixels_of())
    exact = vit().fit_transform(chips)
    rough = vit(dtype="bfloat16").fit_transform(chips)
    assert not np.array_equal(exact, rough)
    assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max(axis=None))
    with pytest.raises(ValueError, match=r"`dtype` must be one of .* got 'float8'"):
        vit(dtype="float8").fit(chips)


# -- pickling -------------------------------------------------------------------------------------


def test_pickles_are_small_and_read_the_weights_again(vit, checkpoints, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(checkpoints(NAME), folder)
    chips = chips_of(pixels_of())
    encoder = vit(path=str(folder)).fit(chips)
    table = encoder.transform(chips)
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 5000
    assert (folder / "model.safetensors").stat().st_size > 10 * len(pickled)
    again = pickle.loads(pickled).transform(chips)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again.attrs == table.attrs
    shutil.copy(checkpoints(NAME, 1) / "model.safetensors", folder)
    with pytest.raises(ValueError, match=f"SHA-256 '{encoder.weights_digest_}', the file has '"):
        pickle.loads(pickled).transform(chips)


def test_unfitted_and_cloned_encoders_refuse(vit):
    chips = chips_of(pixels_of())
    for encoder in (vit(), clone(vit().fit(chips))):
        for run in (encoder.transform, encoder.preprocess, lambda _: encoder.describe_bands()):  # noqa: B023
            with pytest.raises(NotFittedError, match="This PretrainedEncoder instance is not"):
                run(chips)


# -- files ----------------------------------------------------------------------------------------


def test_a_wrong_checksum_names_file_expected_and_found(vit, checkpoints, tmp_path):
    chips = chips_of(pixels_of())
    found = vit().fit(chips).weights_digest_
    vit(sha256=found.upper()).fit(chips)
    with pytest.raises(
        ValueError, match=rf"model\.safetensors'.*SHA-256 'abcd', the file has '{found}'"
    ):
        vit(sha256="abcd").fit(chips)
    shutil.copytree(checkpoints(NAME), tmp_path / "w")
    named = (tmp_path / "w" / "model.safetensors").rename(tmp_path / "w" / "vit-0123abcd.pth")
    with pytest.raises(ValueError, match=f"its name says the SHA-256 '0123abcd', .*'{found}'"):
        vit(path=str(named)).fit(chips)


@pytest.mark.parametrize("kept", [0.6, 0.0005])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_truncated_files_are_named(vit, checkpoints, tmp_path, kind, kept):
    folder = tmp_path / "w"
    shutil.copytree(checkpoints(NAME), folder)
    file = folder / "model.safetensors"
    if kind == "bin":
        from safetensors.torch import load_file

        torch.save(load_file(file), folder / "pytorch_model.bin")
        file.unlink()
        file = folder / "pytorch_model.bin"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    digest = sha256(file.read_bytes()).hexdigest()
    with pytest.raises((OSError, ValueError), match=f"{file.name}'.*{digest}"):
        vit(path=str(folder)).fit(chips_of(pixels_of()))


class Programme:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_pickles_are_never_run(vit, checkpoints, tmp_path, kind):
    folder, proof = tmp_path / "w", tmp_path / "it ran"
    shutil.copytree(checkpoints(NAME), folder)
    (folder / "model.safetensors").unlink()
    bad = Programme()
    bad.path = str(proof)
    if kind == "torch":
        torch.save({"weight": bad}, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(bad))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin'.*is not read.*run any program"):
        vit(path=str(folder)).fit(chips_of(pixels_of()))
    assert not proof.exists()


def test_files_of_torch_give_the_same_numbers(vit, checkpoints, tmp_path):
    from safetensors.torch import load_file

    shutil.copytree(checkpoints(NAME), tmp_path / "w")
    file = tmp_path / "w" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    chips = chips_of(pixels_of())
    again = vit(path=str(tmp_path / "w")).fit_transform(chips)
    pd.testing.assert_frame_equal(again, vit().fit_transform(chips), check_exact=True)


def test_missing_files_are_told(vit, checkpoints, tmp_path):
    chips = chips_of(pixels_of())
    with pytest.raises(FileNotFoundError, match="no weights at '/nowhere'"):
        vit(path="/nowhere").fit(chips)
    (tmp_path / "readme.md").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no weights .* it holds 'readme\.md'"):
        vit(path=str(tmp_path)).fit(chips)
    shutil.copy(checkpoints(NAME) / "model.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"need the file 'config\.json' beside them"):
        vit(path=str(tmp_path)).fit(chips)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.pt")
    (tmp_path / "b.pt").touch()
    with pytest.raises(ValueError, match=r"holds 2 files of weights: 'a\.pt', 'b\.pt'"):
        vit(path=str(tmp_path)).fit(chips)


def test_parts_that_would_be_random_are_refused(vit, checkpoints, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoints(NAME), tmp_path / "w")
    file = tmp_path / "w" / "model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if "pooler" not in k}, file, {"format": "pt"})
    chips = chips_of(pixels_of())
    with pytest.raises(ValueError, match=r"2 are missing \('pooler\.dense\.bias', .*be random"):
        vit(path=str(tmp_path / "w")).fit(chips)
    vit(path=str(tmp_path / "w"), layer="cls").fit(chips)
    state["layernorm.weight"] = torch.ones(7)
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 have other shapes \('layernorm\.weight'\)"):
        vit(path=str(tmp_path / "w")).fit(chips)


def test_where_the_hub_is_out_of_reach_a_folder_is_asked_for(vit, monkeypatch):
    import huggingface_hub

    asked = []

    def refuse(source, file, revision=None):
        asked.append((source, file, revision))
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(OSError, match=r"no route to host\)\. .*hf download google/.*path='FOLDER'"):
        vit(path=None).fit(chips_of(pixels_of()))
    assert asked == [(WEIGHTS[NAME].source, "config.json", WEIGHTS[NAME].revision)]


def test_a_repository_without_safetensors_is_read_too(vit, monkeypatch, checkpoints, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def fetch(source, file, revision=None):
        asked.append(file)
        if file == "model.safetensors":
            raise EntryNotFoundError("404")
        return str(tmp_path / "w" / file)

    shutil.copytree(checkpoints(NAME), tmp_path / "w")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    vit(path=None).fit(chips_of(pixels_of()))
    assert asked == ["config.json", "model.safetensors", "pytorch_model.bin"]


# -- names ----------------------------------------------------------------------------------------


def test_folders_and_hub_ids_need_their_preprocessing(vit, checkpoints, monkeypatch):
    folder = str(checkpoints(NAME))
    chips = chips_of(pixels_of())
    how = WEIGHTS[NAME].preprocessing
    for weights in (folder, "someone/something"):
        with pytest.raises(ValueError, match="Nothing says how images must be prepared"):
            vit(weights, path=folder).fit(chips)
        encoder = vit(weights, path=folder, preprocessing=how, layer="pooled")
        table = encoder.fit_transform(chips)
        assert list(table.columns[:1]) == ["pretrained_000"]
        assert_allclose(table, vit().fit_transform(chips))
    asked = {}
    monkeypatch.setattr(
        "terracausal.encoders.pretrained.transformers_networks.download",
        lambda source, revision: asked.update({source: revision}) or folder,
    )
    vit("someone/something@abc", path=None, preprocessing=how).fit(chips)
    assert asked == {"someone/something": "abc"}
    with pytest.raises(ValueError, match=r"'vit-base' are not known.*such as 'vit-base-in21k'"):
        vit("vit-base", path=folder).fit(chips)


def test_the_registry_is_complete():
    table = registered_weights()
    assert len(table) == len(WEIGHTS) >= 25
    assert not table[["library", "source", "layer", "n_features", "licence"]].isna().any(axis=None)
    assert table["citation"].str.contains(r"arXiv:\d{4}\.\d{5}").all()
    pinned = table[table.library == "transformers"]["revision"]
    assert pinned.drop("dinov3-vitl16-sat493m").str.fullmatch("[0-9a-f]{40}").all()
    open_to_all = ["dofa-base", "croma-base", "copernicus-fm-base", "panopticon-vitb14"]
    assert list(table.index[table["needs_preprocessing"]]) == open_to_all


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (0.5, 0.5)}, "one number per band each, or one for all; got 2 and 1"),
        ({"std": (0.0,)}, r"`std` above 0; got mean=\(0\.5,\), std=\(0\.0,\)"),
        ({"units": "kelvin"}, "`units` must be one of .* got 'kelvin'"),
        ({"units": "reflectance", "arithmetic": "bytes"}, "units are 'uint8'; got 'reflectance'"),
        ({"resize_px": 100}, "`resize_px` must be an integer of at least 224; got 100"),
    ],
)
def test_impossible_preprocessing_is_refused(settings, message):
    good = {"units": "uint8", "mean": (0.5,), "std": (0.5,), "scale": 255.0}
    Preprocessing(**good)
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{**good, **settings})


# -- units ----------------------------------------------------------------------------------------


def test_units_must_be_stated_and_the_range_is_shown(vit):
    chips = chips_of(pixels_of(top=200))
    with pytest.raises(ValueError, match=r"'reflectance_10000' .* or a pair .* from 0 to 200"):
        vit(units=None).fit(chips)
    for wrong in ("dn", (3.0, 1.0), (1.0,), 255):
        with pytest.raises(ValueError, match="`units` must say what the values"):
            vit(units=wrong).fit(chips)


@pytest.mark.parametrize(
    ("units", "factor", "message"),
    [
        ("reflectance", 40, "'reflectance'` means values from -0.2 to 3; .* from 0 to 10200"),
        ("reflectance_10000", 200, "from -2000 to 30000; these chips hold .* from 0 to 51000"),
        ("uint8", 40, "'uint8'` means values from 0 to 255; .* from 0 to 10200"),
        ("uint8", 0.003, "values up to 255; .* from 0 to 0.765, which look like reflectance"),
        ("reflectance_10000", 0.003, "from 0 to 0.765, which look like reflectance"),
        ((1000, 2000), 1, r"`units=\(1000, 2000\)` is the range .* from 0 to 255, all outside"),
    ],
)
def test_values_in_other_units_are_refused_with_the_range(vit, units, factor, message):
    with pytest.raises(ValueError, match=message):
        vit(units=units).fit(chips_of(pixels_of() * np.float32(factor)))


def test_units_are_checked_again_on_other_chips_but_dark_ones_pass(vit):
    encoder = vit().fit(chips_of(pixels_of()))
    with pytest.raises(ValueError, match="from 0 to 10200"):
        encoder.transform(chips_of(pixels_of() * 40))
    dark = pixels_of(top=1)
    assert np.isfinite(encoder.transform(chips_of(dark)).to_numpy()).all()


def test_only_bands_that_are_read_are_checked(vit):
    pixels = np.concatenate([pixels_of(), 300 + pixels_of(n_bands=1)], axis=2)
    vit().fit_transform(chips_of(pixels, bands=(*RGB, "thermal")))


def test_a_stretch_is_clipped(vit):
    pixels = pixels_of(top=3000)
    low, high = 500.0, 2000.0
    found = vit(units=(low, high)).fit(chips_of(pixels)).preprocess(chips_of(pixels))
    stretched = np.floor(np.clip((pixels.astype(float) - low) / (high - low), 0, 1) * 255)
    chips = chips_of(stretched)
    wanted = vit().fit(chips).preprocess(chips)
    assert np.mean(np.abs(found - wanted) > ROUNDING) < 1e-3  # where rounding tips a byte over


def test_bytes_do_not_become_reflectance(vit):
    how = Preprocessing(units="reflectance_10000", mean=(0.0,), std=(10_000.0,))
    with pytest.raises(ValueError, match="trained on 'reflectance_10000'; chips in `units='uint8'"):
        vit(preprocessing=how).fit(chips_of(pixels_of()))
    pixels = pixels_of(top=100) / np.float32(100)
    encoder = vit(preprocessing=how, units="reflectance").fit(chips_of(pixels))
    assert_allclose(encoder.preprocess(chips_of(pixels)).mean(), pixels.mean(), atol=0.01)


# -- missing pixels -------------------------------------------------------------------------------


def test_missing_pixels_are_grey_and_counted(vit):
    pixels = pixels_of(side=224)  # the size of the network: nothing is resized
    pixels[1, 0, :, 10:20, 30:40] = np.nan
    pixels[2, 0, 1, 5, 5] = np.nan
    chips = chips_of(pixels)
    encoder = vit().fit(chips)
    seen = encoder.preprocess(chips)
    missing = np.isnan(pixels)
    # the byte nearest to the mean of 127.5
    assert_allclose(seen[missing], (128 / 255 - 0.5) / 0.5, atol=ROUNDING)
    assert_allclose(seen[~missing], pixels[~missing] / 127.5 - 1, atol=ROUNDING)
    told = encoder.transform(chips).attrs["encoder"]
    assert_allclose(told["filled_share"], missing.mean())


def test_a_site_without_a_whole_band_is_named(vit):
    pixels = pixels_of()
    pixels[3, 0, 1] = np.nan
    encoder = vit().fit(chips_of(pixels_of()))
    with pytest.raises(
        ValueError, match="valid pixels in each of the bands 'red', 'green', 'blue'; sites 4 have"
    ):
        encoder.transform(chips_of(pixels))
    assert np.isnan(encoder.preprocess(chips_of(pixels))[3]).all()
    pixels[3] = np.nan
    with pytest.raises(ValueError, match="1 of 5 have none: sites 4"):
        encoder.transform(chips_of(pixels))


# -- bands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "bands", "message"),
    [
        (("b4", "b3", "b2"), None, "'b2', and not 'red', 'green', 'blue'"),
        (("pan",), None, "these chips have 'pan', and not 'red'"),
        (RGB, ("red", "green"), "need 3 bands, 'red', 'green', 'blue'; `bands` has 2"),
        (RGB, "red", r"got the text 'red'\. .* `RepeatBand\('red'\)`"),
        (RGB, RepeatBand("nir"), "and not 'nir'"),
        (("a", "b"), ProjectBands(), "Principal components of 2 bands cannot make 3"),
        (RGB, ProjectBands(matrix=((1, 0, 0),)), r"3 rows, .* the shape \(1, 3\)"),
    ],
)
def test_bands_that_do_not_fit_are_refused_with_both_lists(vit, have, bands, message):
    with pytest.raises(BandError, match=message):
        vit(bands=bands).fit(chips_of(pixels_of(n_bands=len(have)), bands=have))


def test_an_encoder_refuses_other_bands_than_it_was_fitted_on(vit):
    encoder = vit().fit(chips_of(pixels_of()))
    for bands in (RGB[::-1], ("red", "green", "nir")):
        for run in (encoder.transform, encoder.preprocess):
            with pytest.raises(BandError, match="fitted on the bands 'red', 'green', 'blue'; "):
                run(chips_of(pixels_of(), bands=bands))


def test_bands_that_hardly_vary_have_too_few_components(vit):
    pixels = np.repeat(pixels_of(n_bands=1), 3, axis=2)
    with pytest.raises(ValueError, match="vary in 1 directions only; the network needs 3"):
        vit(bands=ProjectBands()).fit(chips_of(pixels))


# -- devices --------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(vit):
    with pytest.raises(RuntimeError, match=r"`device='cuda:1'` asks for a GPU, .* sees none"):
        vit(device="cuda:1").fit(chips_of(pixels_of()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_gpu_agrees(vit):
    chips = chips_of(pixels_of())
    assert_allclose(vit(device="cuda").fit_transform(chips), vit().fit_transform(chips), atol=1e-3)


def test_out_of_memory_takes_smaller_batches_and_says_so(vit):
    chips = chips_of(pixels_of())
    encoder = vit(batch_size=4).fit(chips)
    table = encoder.transform(chips)
    real, sizes = encoder._network().forward, []

    def small(limit):
        def forward(images):
            if len(images) > limit:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(images))
            return real(images)

        return forward

    object.__setattr__(encoder._network(), "forward", small(1))
    with pytest.warns(RuntimeWarning, match="does not hold . images at once; going on with"):
        again = encoder.transform(chips)
    assert_allclose(again, table, atol=ROUNDING)
    assert sizes == [1] * len(KEYS)
    object.__setattr__(encoder._network(), "forward", small(0))
    with (
        pytest.warns(RuntimeWarning, match="going on with"),
        pytest.raises(MemoryError, match="does not hold one image"),
    ):
        encoder.transform(chips)


def test_importing_loads_neither_torch_nor_transformers():
    code = (
        "import sys, terracausal.encoders.pretrained; "
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "PIL", "torchgeo"} & set(run.stdout.split())

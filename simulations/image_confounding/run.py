"""What adjustment for an image removes, in the tutorial world and in the kernel worlds.

    python simulations/image_confounding/run.py tutorial
    python simulations/image_confounding/run.py kernel_landscape_500_width8

The first argument is the cell, one of `CELLS`; its rows go to results/CELL.csv. Networks are
trained on TERRACAUSAL_DEVICE ("cpu" if it is not set; "cuda" for a GPU).
"""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal._foundation.errors import OverlapError, OverlapWarning
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.nuisance import ImageNuisanceLearner, Scores, choose_network
from terracausal.nuisance.scores import EXTREME
from terracausal.simulate import (
    ConfoundingSettings,
    KernelSettings,
    SimulatedStudy,
    simulate_landscape,
)

DEVICE = os.environ.get("TERRACAUSAL_DEVICE", "cpu")
ENTROPY = 87316602874219004537710346612790145328
GEWATA_NIR, SATURATED = 4, 16_000


@dataclass(frozen=True)
class Cell:
    """One world, how often it is drawn, and what reads its images.

    Parameters
    ----------
    settings : ConfoundingSettings
    replications : int
    n_sites : int
    encoders : tuple of str
        Keys of `ENCODERS`.
    units_per_site : int, default=1
    imagery : str, default=None
        "landscape" or "gewata" for the kernel world, None for the tutorial.
    size_px : int, default=16
        All columns of a tutorial image are alike, so that 16 pixels show what 64 do.
    networks : tuple of str, default=()
        Keys of `NETWORKS`, trained inside each fold.
    widths_px : tuple of int, default=()
        Widths to choose from; the cell then asks for the choice, and estimates nothing.
    """

    settings: ConfoundingSettings
    replications: int
    n_sites: int
    encoders: tuple[str, ...] = ("tabular", "band means")
    units_per_site: int = 1
    imagery: str | None = None
    size_px: int = 16
    networks: tuple[str, ...] = ()
    widths_px: tuple[int, ...] = ()


# frozen encoders, and how many components of each the learners see
ENCODERS: dict[str, tuple[Any, int | None]] = {
    "tabular": (None, None),
    "band means": (tc.BandStatisticsEncoder(quantiles=(), moments=("mean",)), None),
    "band statistics": (tc.BandStatisticsEncoder(), None),
    "random convolutions": (tc.RandomConvEncoder(128, random_state=0), None),
    "random convolutions, 10 components": (tc.RandomConvEncoder(128, random_state=0), 10),
    "random convolutions 8 px, max": (
        tc.RandomConvEncoder(128, patch_px=8, pooling="max", random_state=0),
        None,
    ),
}
ESTIMATION_WIDTH_PX, N_FILTERS = 8, 8
SITES_SHOWN = 20_000  # sites that pass by in a training, so that small studies take as many steps
# trained inside each fold, on treatment and outcomes together
NETWORKS: dict[str, dict[str, Any]] = {
    "CNN": {},
    "CNN, own heads": {"last_layer": "own"},
    "CNN, last layer refitted": {"last_layer": "refitted"},
    "CNN, targeted": {"loss": "targeted"},
    "CNN, treatment and outcomes apart": {"loss": "separate"},
}
WIDTHS_PX = (2, 4, 8, 16, 32)
KERNEL_ENCODERS = ("tabular", "band statistics", "random convolutions 8 px, max")


def kernel_cells() -> Iterator[tuple[str, Cell]]:
    """Yield all kernel worlds: two sources of imagery, two sizes, widths, and resolutions."""
    settings = {f"width{k}": KernelSettings(width_px=k) for k in (2, 4, 8, 16, 32)}
    settings |= {f"width8_degraded{k}": KernelSettings(degrade=k) for k in (2, 4, 8)}
    settings |= {"width8_unseen": KernelSettings(unseen_share=0.3)}
    for imagery in ("landscape", "gewata"):
        for n_sites in (500, 2000):
            shared = {"n_sites": n_sites, "imagery": imagery, "size_px": 64}
            for name, chosen in settings.items():
                cell = Cell(chosen, 50, encoders=KERNEL_ENCODERS, **shared)
                yield f"kernel_{imagery}_{n_sites}_{name}", cell
                cnn = Cell(chosen, 50, encoders=(), networks=("CNN",), **shared)
                yield f"cnn_{imagery}_{n_sites}_{name}", cnn
            variants = Cell(KernelSettings(), 20, encoders=(), networks=tuple(NETWORKS), **shared)
            yield f"cnn_variants_{imagery}_{n_sites}", variants
            choice = Cell(KernelSettings(), 40, encoders=(), widths_px=WIDTHS_PX, **shared)
            yield f"width_choice_{imagery}_{n_sites}", choice


SLOPE = {"effect_slope": 0.5}
# the site explains 63 % of what is left of the outcome: intervals for 10 independent units of a
# site cover 2 Φ(1.96 / √(1 + 9 * 0.63)) - 1 = 55 %
CLUSTERED = ConfoundingSettings(assignment="site", site_sd=1.3, propensity_strength=0.5)
SPATIAL = ConfoundingSettings(
    propensity_strength=0.5, field_in_treatment=6.0, spatial_noise_share=0.9, range_m=15_000.0
)
HIDDEN = ConfoundingSettings(field_in_treatment=1.0, field_in_outcome=1.0)
CELLS = {
    "smoke": Cell(ConfoundingSettings(propensity_strength=0.5), 2, 120, ("band means",), size_px=4),
    "tutorial": Cell(
        ConfoundingSettings(),
        200,
        1000,
        ("tabular", "band means", "random convolutions, 10 components"),
    ),
    "tutorial_outliers": Cell(
        ConfoundingSettings(), 50, 1000, ("band statistics", "random convolutions")
    ),
    "tutorial_slope": Cell(ConfoundingSettings(**SLOPE), 200, 1000),
    "tutorial_strong": Cell(ConfoundingSettings(**SLOPE, propensity_strength=2.5), 200, 1000),
    "tutorial_clustered": Cell(CLUSTERED, 200, 200, units_per_site=10),
    "tutorial_spatial": Cell(SPATIAL, 200, 500, units_per_site=2),
    "tutorial_hidden_field": Cell(HIDDEN, 100, 1000),
    **dict(kernel_cells()),
}


def imagery_of(name: str | None) -> Any:
    """Return what scenes are cut from."""
    if name == "landscape":
        return simulate_landscape(1024, random_state=0)
    if name == "gewata":
        import rasterio

        root = Path(os.environ.get("TERRACAUSAL_DATA", "../shared/data"))
        with rasterio.open(root / "gewata_landsat" / "gewata.tif") as source:
            nir = source.read(GEWATA_NIR, masked=True)
        return np.ma.masked_equal(nir, SATURATED)
    return None


def draw(cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication."""
    warnings.simplefilter("ignore", OverlapWarning)
    world = "tutorial" if cell.imagery is None else "kernel"
    data = tc.simulate_study(
        world,
        n_sites=cell.n_sites,
        units_per_site=cell.units_per_site,
        size_px=cell.size_px,
        landscape=imagery_of(cell.imagery),
        settings=cell.settings,
        random_state=rng,
    )
    if cell.widths_px:
        yield from width_choices(cell, data, rng)
        return
    tell = partial(rows_of, cell, data)
    yield from tell("true nuisances", tc.doubly_robust_scores(data.study, true_nuisances(data)), 0)
    for name in cell.encoders:
        encoder, n_components = ENCODERS[name]
        started = time.perf_counter()
        study = data.study
        if encoder is not None:
            study = study.join(encoder.fit_transform(data.chips), role="confounder")
        yield from tell(name, scores_of(study, n_components, rng), started)
    for name in cell.networks:
        started = time.perf_counter()
        learner = ImageNuisanceLearner(
            partial(KernelMaxNetwork, width_px=estimation_width_px(cell), n_filters=N_FILTERS),
            training=training(cell),
            device=DEVICE,
            random_state=rng,
            **NETWORKS[name],
        )
        nuisances = learner.cross_fit(data.study, data.chips)
        yield from tell(name, tc.doubly_robust_scores(data.study, nuisances), started)


def training(cell: Cell) -> TrainingSettings:
    """Return how networks are trained: one try with 8 filters, at a high learning rate."""
    return TrainingSettings(learning_rate=0.1, n_epochs=SITES_SHOWN // cell.n_sites)


def estimation_width_px(cell: Cell) -> int:
    """Return the width of the filters: 8 px of the original image, in pixels of the chips."""
    degrade = getattr(cell.settings, "degrade", 1)
    return max(2, ESTIMATION_WIDTH_PX // degrade)


def width_choices(cell: Cell, data: SimulatedStudy, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the width that held-out losses choose, by each criterion."""
    started = time.perf_counter()
    learner = ImageNuisanceLearner(training=training(cell), device=DEVICE, random_state=rng)
    candidates = {
        width: partial(KernelMaxNetwork, width_px=width, n_filters=N_FILTERS)
        for width in cell.widths_px
    }
    folds = data.study.folds(3, random_state=rng)
    choice = choose_network(data.study, data.chips, candidates, folds, learner=learner)
    for criterion, chosen in choice.by_criterion().items():
        yield {
            "setting": f"{cell.n_sites} sites",
            "estimator": f"width chosen by held-out loss: {criterion}",
            "term": "width_px",
            "truth": getattr(cell.settings, "width_px", 0),
            "estimate": chosen,
            "seconds": round(time.perf_counter() - started, 3),
        }


def scores_of(study: tc.Study, n_components: int | None, rng: np.random.Generator) -> Scores:
    nuisances = tc.cross_fit(study, n_components=n_components, random_state=rng)
    return tc.doubly_robust_scores(study, nuisances)


def true_nuisances(data: SimulatedStudy) -> tc.Nuisances:
    """Return the nuisances of an oracle."""
    table = data.truth[["propensity", "outcome_control", "outcome_treated"]].assign(fold=0)
    return tc.Nuisances(table, propensity_known=True, learners={}, quality=table.iloc[:0])


def rows_of(
    cell: Cell, data: SimulatedStudy, nuisances: str, scores: Scores, started: float
) -> Iterator[Row]:
    """Yield the estimates from one set of scores."""
    started = started or time.perf_counter()
    setting = f"{cell.n_sites} sites"
    if nuisances == "true nuisances":
        naive = tc.average_effect(scores, method="difference_in_means")
        yield row(setting, "difference in means", data.average_effect, naive, started)
    for method in ("aipw", "hajek"):
        for target in ("all", "treated", "overlap"):
            truth = data.true_effect(target)
            try:
                found = tc.average_effect(scores, target=target, method=method)
            except OverlapError:
                continue  # refused, so the table counts fewer replications
            yield row(setting, f"{nuisances}: {method}", truth, found, started)
            if target == "all" and cell.settings.spatial_noise_share:
                spatial = found.with_std_error("conley", cutoff_m=4.0 * cell.settings.range_m)
                yield row(setting, f"{nuisances}: {method} conley", truth, spatial, started)
            if target == "all" and cell.units_per_site > 1:
                alone = found.with_std_error("hc")
                yield row(setting, f"{nuisances}: {method} hc", truth, alone, started)
    if cell.settings.propensity_strength > 1:
        yield warned_row(setting, nuisances, scores)


def warned_row(setting: str, nuisances: str, scores: Scores) -> Row:
    """Tell whether the plain average warned of poor overlap; "coverage" is how often it did."""
    e = scores.table["propensity"]
    warned = bool((e.clip(EXTREME, 1 - EXTREME) != e).any())
    numbers = dict.fromkeys(("estimate", "ci_low", "ci_high"), float(warned))
    named = {"setting": setting, "estimator": f"{nuisances}: warns", "term": "overlap"}
    return named | numbers | {"truth": 1.0, "std_error": 0.0, "seconds": 0.0}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CELLS:
        sys.exit(f"The first argument must be a cell, one of: {', '.join(CELLS)}")
    chosen = sys.argv.pop(1)
    if "--out" not in sys.argv:
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        sys.argv += ["--out", str(results / f"{chosen}.csv")]
    cell = CELLS[chosen]
    main(partial(draw, cell), ENTROPY, Path(__file__).parent, cell.replications)

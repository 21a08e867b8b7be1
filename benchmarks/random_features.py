"""Speed and memory of random convolutional features against the plain two-sided formula.

The plain formula, that of torchgeo's RCF, convolves the whole batch and averages relu(conv) and
relu(-conv); unlike torchgeo, which convolves for each side anew, it convolves once. Ours is the
public path: `RandomConvEncoder.transform` on `Chips`, with standardisation, checks and the table.
Both may use all threads that torch would take, alternate in one process, and must agree to 1e-5.

    python benchmarks/random_features.py --sites 327 --features 512
    python benchmarks/random_features.py --sites 64 --size-px 64 --bands 6
    python benchmarks/random_features.py --sites 16 --size-px 224
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from terracausal.encoders import RandomConvEncoder
from terracausal.encoders.random_conv import standardise
from terracausal.imagery import Chips


def make_chips(n_sites: int, size_px: int, n_bands: int) -> Chips:
    """Return chips of smooth random landscapes, as digital numbers from 0 to 255."""
    rng = np.random.default_rng(0)
    rough = rng.normal(size=(n_sites, 1, n_bands, size_px + 4, size_px + 4))
    windows = np.lib.stride_tricks.sliding_window_view(rough, (5, 5), axis=(3, 4))
    smooth = 128 + 150 * windows.mean(axis=(5, 6))
    pixels = np.clip(smooth, 0, 255).astype(np.uint8)
    return Chips.from_arrays(pixels, sites=range(n_sites), bands=[f"b{k}" for k in range(n_bands)])


def make_encoder(n_features: int, chips: Chips) -> RandomConvEncoder:
    return RandomConvEncoder(n_features=n_features, random_state=0).fit(chips)


def plain_features(pixels: torch.Tensor, encoder: RandomConvEncoder) -> torch.Tensor:
    """Return relu(conv) and relu(-conv), each average-pooled, for standardised pixels."""
    weights = torch.from_numpy(encoder.filters_)
    with torch.no_grad():
        response = torch.nn.functional.conv2d(pixels, weights, torch.from_numpy(encoder.bias_))
        positive = torch.relu(response).mean(dim=(2, 3))
        negative = torch.relu(-response).mean(dim=(2, 3))
    return torch.cat([positive, negative], dim=1)


def standard_pixels(chips: Chips, encoder: RandomConvEncoder) -> torch.Tensor:
    """Return all chips as one batch, standardised beforehand so that this is not timed."""
    pixels = np.stack([chips[site][0] for site in chips])
    return torch.from_numpy(standardise(pixels, encoder.mean_, encoder.scale_))


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare_speed(
    n_sites: int, n_features: int, size_px: int, n_bands: int, n_repetitions: int
) -> tuple[NDArray[np.float64], float]:
    """Return seconds (n_repetitions, 2) of plain and ours, and their largest difference."""
    chips = make_chips(n_sites, size_px, n_bands)
    encoder = make_encoder(n_features, chips)
    pixels = standard_pixels(chips, encoder)
    difference = np.abs(
        plain_features(pixels, encoder).numpy() - encoder.transform(chips).to_numpy()
    ).max()
    seconds = [
        (
            timed(lambda: plain_features(pixels, encoder)),
            timed(lambda: encoder.transform(chips)),
        )
        for _ in range(n_repetitions)
    ]
    return np.array(seconds), float(difference)


def _measure_peak(
    which: str,
    setting: tuple[int, int, int, int],
    answer: "multiprocessing.Queue[float]",
) -> None:
    n_sites, n_features, size_px, n_bands = setting
    chips = make_chips(n_sites, size_px, n_bands)
    encoder = make_encoder(n_features, chips)
    pixels = standard_pixels(chips, encoder) if which == "plain" else None
    encoder.transform(chips.select(chips.keys[:1]))  # what is loaded on first use is not counted
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status_mib("VmRSS")
    if pixels is None:
        encoder.transform(chips)
    else:
        plain_features(pixels, encoder)
    answer.put(_status_mib("VmHWM") - before)


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def peak_mib(which: str, setting: tuple[int, int, int, int]) -> float:
    """Return by how much one call raises the memory of a fresh process, in MiB (Linux)."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measure_peak, args=(which, setting, answer))
    process.start()
    peak = answer.get(timeout=300)
    process.join()
    return float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=327)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--size-px", type=int, default=35)
    parser.add_argument("--bands", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=7)
    given = parser.parse_args()
    setting = (given.sites, given.features, given.size_px, given.bands)
    seconds, difference = compare_speed(*setting, given.repetitions)
    ratios = seconds[:, 0] / seconds[:, 1]
    print(
        f"{given.sites} chips of {given.size_px} x {given.size_px} x {given.bands}, "
        f"{given.features} features, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(f"largest difference   {difference:.1e}")
    for position, which in enumerate(("plain", "ours")):
        print(
            f"{which:5s} median seconds {median(seconds[:, position]):.3f}   "
            f"peak memory above the data {peak_mib(which, setting):.0f} MiB"
        )
    print(
        f"speed-up: median of paired ratios {median(ratios):.1f} "
        f"(from {ratios.min():.1f} to {ratios.max():.1f})"
    )


if __name__ == "__main__":
    main()

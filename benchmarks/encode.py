"""Encoding: random features, pretrained networks, the cache, a cluster, and 100,000 chips.

    python benchmarks/encode.py [--only rcf pretrained cache cluster scale gpu] [--repeats 5]

rcf         `RandomConvEncoder` against the RCF of torchgeo (its class where it is installed, else
            its formula: two convolutions, relu(z) and relu(-z), averaged), 512 features of the same
            batch of chips. Peak memory above the data, each in a process of its own.
pretrained  `PretrainedEncoder` from a store against the bare network on images that are ready, with
            a ViT-B/16 of random parameters that is saved first.
cache       `embed` of 10,000 sites that are there already.
cluster     `embed` by two Dask workers of one thread against one.
scale       `embed` of 100,000 chips of 32 x 32 x 6 from a store; peak memory of the process.
gpu         images/s in bfloat16 on a GPU, and the share of the bare network.

Ways that are compared take turns; a speed-up is the median of the ratios of neighbouring runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.embedding import embed
from terracausal.encoders.pretrained.encoder import PretrainedEncoder
from terracausal.encoders.pretrained.entry import Preprocessing
from terracausal.encoders.random_conv import RandomConvEncoder, standardise
from terracausal.imagery import Chips, open_chips, write_chips

RGB = ("red", "green", "blue")
AT_ONCE = {64: 64, 224: 16}  # chips in a batch, by size
SIX = (*RGB, "nir", "swir16", "swir22")


def make_chips(n_sites, size_px, bands, seed=0):
    """Return chips of smooth random landscapes with noise, as whole numbers from 0 to 255."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size_px, :size_px] / size_px
    waves = np.stack([np.sin(rows * k + columns) for k in range(1, len(bands) + 1)])
    level = rng.uniform(20, 80, size=(n_sites, 1, 1, 1, 1))
    noise = rng.integers(0, 40, size=(n_sites, 1, len(bands), size_px, size_px), dtype=np.uint8)
    pixels = (100 + level * waves + noise).astype(np.uint8)
    places = pd.DataFrame(
        {"lon": rng.uniform(30, 34, n_sites), "lat": rng.uniform(0, 3, n_sites)},
        index=pd.RangeIndex(seed, seed + n_sites),
    )
    dates = ["2019-05-01"]
    return Chips.from_arrays(pixels, sites=places, bands=bands, times=dates, resolution_m=30)


def seconds_of(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def take_turns(ways, repeats):
    """Return the seconds of each way in each round, after one round that does not count."""
    seconds = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, run in ways.items():
            elapsed = seconds_of(run)
            if number:
                seconds[name].append(elapsed)
    return seconds


def ratios(slow, fast):
    found = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{median(found):.2f} (from {min(found):.2f} to {max(found):.2f})"


def machine():
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, load {load}"


# -- random features ---------------------------------------------------------------------------


class Formula(torch.nn.Module):
    """What the RCF of torchgeo computes: both signs of a response, averaged over the chip."""

    def __init__(self, in_channels, features):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shape = (features // 2, in_channels, 3, 3)
        self.register_buffer("weights", torch.randn(shape, generator=generator))
        self.register_buffer("biases", torch.full((features // 2,), -1.0))

    def forward(self, images):
        """Return features (b, features) of images (b, in_channels, height, width)."""
        convolve = torch.nn.functional.conv2d
        positive = torch.relu_(convolve(images, self.weights, self.biases))
        negative = torch.relu(-convolve(images, self.weights, self.biases))
        return torch.cat([positive.mean(dim=(2, 3)), negative.mean(dim=(2, 3))], dim=1)


def make_rcf(n_bands, n_features):
    """Return the RCF of torchgeo and its name; the formula where torchgeo is not installed."""
    try:
        from torchgeo.models import RCF
    except ImportError:
        return Formula(n_bands, n_features), "formula of torchgeo"
    return RCF(n_bands, n_features, kernel_size=3, seed=0), "torchgeo"


def rcf_ways(size_px, bands, n_sites=None):
    n_sites = n_sites or AT_ONCE[size_px]
    chips = make_chips(n_sites, size_px, bands)
    encoder = RandomConvEncoder(n_features=512, random_state=0).fit(chips)
    network, name = make_rcf(len(bands), 512)
    pixels = np.stack([chips[site][0] for site in chips])
    images = torch.from_numpy(standardise(pixels, encoder.mean_, encoder.scale_))

    def other():
        with torch.inference_mode():
            network(images)

    return {name: other, "terracausal": lambda: encoder.transform(chips)}


def peak_above(size_px, n_bands, which):
    """Print by how many MiB one run raises the memory of this process (Linux)."""
    ways = list(rcf_ways(size_px, SIX[:n_bands]).values())
    small = list(rcf_ways(8, SIX[:n_bands], n_sites=2).values())
    small[which]()  # what is loaded on first use is not counted
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status_mib("VmRSS")
    ways[which]()
    print(status_mib("VmHWM") - before)


def status_mib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def compare_rcf(folder, repeats):
    for size_px, bands in ((64, SIX), (224, RGB)):
        seconds = take_turns(rcf_ways(size_px, bands), repeats)
        (other, slow), (_, fast) = seconds.items()
        setting = (f"--peak={size_px}", f"{len(bands)}")
        peaks = [float(in_new_process(*setting, str(which))) for which in (0, 1)]
        n_sites = AT_ONCE[size_px]
        print(f"{n_sites} chips of {size_px} x {size_px} x {len(bands)}, 512 features; {machine()}")
        for name, times, peak in ((other, slow, peaks[0]), ("terracausal", fast, peaks[1])):
            print(f"  {name:20} {n_sites / median(times):8,.1f} chips/s   peak {peak:7,.0f} MiB")
        print(f"  {ratios(slow, fast)} times as fast, {peaks[1] / peaks[0]:.2f} of the memory")


def in_new_process(*arguments):
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- pretrained networks -----------------------------------------------------------------------


def save_vit(folder):
    """Save a ViT-B/16 of random parameters as transformers would, and return its folder."""
    import transformers

    path = folder / "vit"
    if not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            transformers.ViTModel(transformers.ViTConfig()).save_pretrained(path)
    return path


def make_pretrained(folder, **settings):
    how = Preprocessing(units="uint8", mean=(0.5,) * 3, std=(0.5,) * 3, scale=255.0)
    path = str(save_vit(folder))
    return PretrainedEncoder(
        path, units="uint8", bands=RGB, preprocessing=how, layer="cls", **settings
    )


def compare_pretrained(folder, repeats):
    batch_size, n_sites = 32, 64
    path = folder / "rgb.zarr"
    write_chips(make_chips(n_sites, 224, RGB), path)
    chips = open_chips(path)
    encoder = make_pretrained(folder, batch_size=batch_size).fit(chips)
    ready = torch.from_numpy(encoder.preprocess(chips)[:, 0])
    network = encoder._network()

    def bare():
        with torch.inference_mode():
            for start in range(0, n_sites, batch_size):
                network.forward(ready[start : start + batch_size])

    def streaming():
        encoder.encode(open_chips(path))

    seconds = take_turns({"bare": bare, "streaming": streaming}, repeats)
    print(f"ViT-B/16, {n_sites} chips of 224 x 224 x 3, batches of {batch_size}; {machine()}")
    for name, times in seconds.items():
        print(f"  {name:20} {n_sites / median(times):8,.2f} images/s")
    print(f"  {ratios(seconds['bare'], seconds['streaming'])} of the bare network's throughput")


# -- embed -------------------------------------------------------------------------------------


def write_many(path, n_sites):
    """Write a store of chips of 32 x 32 x 6, made by a reader that holds none of them."""
    from terracausal.imagery.encoding import Encoding
    from terracausal.imagery.places import site_table
    from terracausal.imagery.records import inspect_chip

    class Made:
        encoding = Encoding("uint8")

        def read(self, site):
            return make_chips(1, 32, SIX, seed=site)[site]

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"lon": rng.uniform(30, 34, n_sites), "lat": rng.uniform(0, 3, n_sites)},
        index=pd.RangeIndex(n_sites, name="site"),
    )
    reader, day = Made(), pd.Timestamp("2019-05-01")
    records = [
        record
        for site in range(n_sites)
        for record in inspect_chip(site, reader.read(site), [day], "made")
    ]
    write_chips(Chips(reader, site_table(table), records, SIX, (32, 32)), path)


def stored(folder, n_sites):
    path = folder / f"chips_{n_sites}.zarr"
    if not path.exists():
        write_many(path, n_sites)
    return path


def measure_cache(folder, repeats):
    path, out = stored(folder, 10_000), folder / "cache"
    chips = open_chips(path)
    encoder = RandomConvEncoder(n_features=512, random_state=0).fit(chips.select(chips.keys[:500]))
    shutil.rmtree(out, ignore_errors=True)
    first = seconds_of(lambda: embed(encoder, chips, out))

    def refuse(self, chips):
        raise AssertionError

    encode, RandomConvEncoder.encode = RandomConvEncoder.encode, refuse
    wall, work = [], []
    for _ in range(repeats):
        begun = time.process_time()
        wall.append(seconds_of(lambda: embed(encoder, open_chips(path), out)))
        work.append(time.process_time() - begun)
    RandomConvEncoder.encode = encode
    print(f"Cache, 10,000 sites, 512 features, the store opened anew; {machine()}")
    print(f"  first {first:.1f} s; again {min(wall):.2f} to {max(wall):.2f} s,", end=" ")
    print(f"{median(work):.2f} s of a processor; no call of the encoder")


def compare_cluster(folder, repeats):
    import distributed

    path = stored(folder, 10_000)
    chips = open_chips(path)
    chips = chips.select(chips.keys[:2048])
    encoder = RandomConvEncoder(n_features=512, random_state=0).fit(chips.select(chips.keys[:500]))
    seconds, files = {1: [], 2: []}, set()
    for _ in range(repeats):
        for n_workers, found in seconds.items():
            options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": None}
            out = folder / "cluster"
            with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as c:
                # what is loaded on first use is not counted
                embed(encoder, chips.select(chips.keys[: 512 * n_workers]), out, client=c)
                shutil.rmtree(out)
                found.append(seconds_of(lambda c=c, out=out: embed(encoder, chips, out, client=c)))
            files.add(b"".join(part.read_bytes() for part in sorted(out.glob("*/part*"))))
            shutil.rmtree(out)
    print(f"Dask workers of one thread, 2,048 chips, RCF of 512 features; {machine()}")
    for n_workers, found in seconds.items():
        print(f"  {n_workers} worker(s) {2048 / median(found):8,.0f} chips/s")
    print(f"  {ratios(seconds[1], seconds[2])} times as fast; equal files: {len(files) == 1}")


def measure_scale(folder, repeats):
    path = stored(folder, 100_000)
    for which in ("random", "statistics"):
        print(in_new_process(f"--scale={path}", which, str(folder / "scale")), end="")


def embed_all(path, which, out):
    """Embed a store and print the peak memory of this process."""
    chips = open_chips(path)
    encoders = {
        "random": RandomConvEncoder(n_features=512, random_state=0),
        "statistics": BandStatisticsEncoder(),
    }
    encoder = encoders[which].fit(chips.select(chips.keys[:500]))
    elapsed = seconds_of(lambda: embed(encoder, chips, out))
    print(
        f"{which}: {len(chips):,} chips of 32 x 32 x 6 embedded in {elapsed:.0f} s, peak", end=" "
    )
    print(f"{status_mib('VmHWM') / 1024:.2f} GiB resident; {machine()}")


# -- GPU ---------------------------------------------------------------------------------------


def measure_gpu(folder, repeats):
    if not torch.cuda.is_available():
        print("GPU: there is none here; not run")
        return
    batch_size, n_sites = 256, 2048
    path = folder / "gpu.zarr"
    write_chips(make_chips(n_sites, 224, RGB), path)
    chips = open_chips(path)
    settings = {"batch_size": batch_size, "device": "cuda", "dtype": "bfloat16"}
    encoder = make_pretrained(folder, **settings).fit(chips.select(chips.keys[:64]))
    ready = torch.from_numpy(encoder.preprocess(chips.select(chips.keys[:batch_size]))[:, 0])
    ready = ready.to("cuda", memory_format=torch.channels_last)
    network = encoder._network()
    rcf = RandomConvEncoder(n_features=512, batch_size=batch_size, device="cuda", random_state=0)
    rcf.fit(chips.select(chips.keys[:64]))
    plain = make_rcf(3, 512)[0].to("cuda")

    def bare(forward):
        def run():
            with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
                for _ in range(n_sites // batch_size):
                    forward(ready)
            torch.cuda.synchronize()

        return run

    ways = {
        "ViT-B/16 bare": bare(network.forward),
        "ViT-B/16 from the store": lambda: encoder.encode(open_chips(path)),
        "RCF formula bare": bare(plain),
        "RCF from the store": lambda: rcf.encode(open_chips(path)),
        "reading alone": lambda: list(open_chips(path).batches(batch_size)),
    }
    seconds = take_turns(ways, repeats)
    print(f"{torch.cuda.get_device_name()}, 224 x 224 x 3, bfloat16; {machine()}")
    for name, times in seconds.items():
        print(f"  {name:24} {n_sites / median(times):10,.0f} images/s")
    for kind in ("ViT-B/16", "RCF"):
        slow, fast = (next(v for k, v in seconds.items() if k.startswith(kind) and e in k)
                      for e in ("bare", "store"))  # fmt: skip
        print(f"  {kind}: {ratios(slow, fast)} of the bare network")


PARTS = {
    "rcf": compare_rcf,
    "pretrained": compare_pretrained,
    "cache": measure_cache,
    "cluster": compare_cluster,
    "scale": measure_scale,
    "gpu": measure_gpu,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps stores of chips for the next time")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak_above(given.peak, *map(int, given.rest))
        return
    if given.scale:
        embed_all(given.scale, *given.rest)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        for part in given.only:
            PARTS[part](folder, given.repeats)
            sys.stdout.flush()


if __name__ == "__main__":
    main()

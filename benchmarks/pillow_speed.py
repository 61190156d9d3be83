"""CutMix views of 224 px a second and thread: rendered as Pillow does, for imported labels, and by our own renderer.

Run as `python benchmarks/pillow_speed.py [--views 200] [--rounds 5]`. Noise, both in turn in every round, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from relabel_speed import noise

from lpqld.views import ViewRule, drawn_by, render, render_as_pillow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = noise(100, 224, 10)
    params = drawn_by(ViewRule(), 0).of(images).draw(np.arange(arguments.views))
    seconds: dict[str, list[float]] = {"as Pillow": [], "our own": []}
    for _ in range(arguments.rounds):
        for name, renderer in zip(seconds, (render_as_pillow, render), strict=True):
            start = time.perf_counter()
            renderer(images.pixels, params)
            seconds[name].append(time.perf_counter() - start)
    for name, found in seconds.items():
        print(f"{name}: {arguments.views / statistics.median(found):.0f} views a second")


if __name__ == "__main__":
    main()

"""How many bytes of memory of its own one process of a layout takes for a model of some 200 MB, its
weights read from a file, and the optimizer; said as JSON.

    python held_memory.py WEIGHTS SIZE SHARD

With a SIZE of 0 the weights are written instead.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

from models.parallel import Layout
from models.sharding import DataGroup
from models.weights import save_weights
from recipes.build import build_model
from recipes.config import Model
from recipes.optimizers import AdamW
from recipes.sharding import Shard, count_bytes, shard_training

LANGUAGE = {"hidden": 512, "layers": 8, "heads": 8, "num_kv_heads": 8, "head_size": 64, "mlp": 4096}
CHANGES = {"language": {**LANGUAGE, "vocabulary": 512}}


def own_memory() -> int:
    """The bytes of memory that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def hold(weights: Path, size: int, shard: Shard) -> dict[str, int]:
    """What the last process of so many holds, as counted and as seen."""
    before = own_memory()
    data = DataGroup(size, size - 1, "pair") if size > 1 else None
    options = Model(family="llava_next_video", changes=CHANGES, weights=weights)
    model = build_model(options, 512, data=data if shard == "weights" else None)
    rates = [1.0] * len(model.trainable_params())
    layout = Layout(size, 1, size - 1)
    sharding = shard_training(model, 0.1, rates, layout, data, shard)
    optimizer = AdamW(sharding.parameters, rates=sharding.rates, decays=sharding.decays)
    for parameter in (*optimizer.first, *optimizer.second):
        parameter.set_data(parameter + 1)  # zeros that nobody has written take no memory

    held = count_bytes(model, optimizer, sharding)
    return {"counted": held.weights + held.optimizer, "seen": own_memory() - before}


def main() -> None:
    """Hold, or write what is to be held."""
    weights, size, *shard = sys.argv[1:]
    if size == "0":
        model = build_model(Model(family="llava_next_video", changes=CHANGES), 512)
        save_weights(model, Path(weights))
        return
    print(json.dumps(hold(Path(weights), int(size), cast("Shard", shard[0]))))


if __name__ == "__main__":
    main()

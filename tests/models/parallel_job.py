"""What a process of `test_parallel.py` does: models of all families, whole and divided, in one
process each, and what differs between them.

    msrun … python -m tests.models.parallel_job FOLDER DATA MODEL NAME …

writes FOLDER/RANK.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.communication import get_rank, init
from numpy.typing import NDArray

from models import FAMILIES, family_module
from models.generate import Generator, Prompt, Sampling
from models.lora import LoraConfig, add_lora
from models.model import VisionLanguageModel
from models.parallel import Groups, Layout, create_groups, cuts_of, model_group
from models.sharding import data_group
from models.weights import cast_parameters, model_parameters
from recipes.config import LossScale
from recipes.optimizers import AdamW
from recipes.sharding import shard_training
from recipes.step import Trainer
from tests import tiny_models
from tests.models.samples import VOCABULARY, batch, sample, small

STEPS, RATE, CLIP = 2, 1e-4, 0.1
ORDER = (
    "input_ids",
    "labels",
    "position_ids",
    "segment_ids",
    "pixel_values",
    "media_index",
    "media_layout",
)


def with_language(family: str, **changes: Any) -> VisionLanguageModel:
    """A small model with another language model."""
    base = family_module(family).PRESETS["tiny"].language
    return small(family, language=replace(base, **{"vocabulary": VOCABULARY, **changes}))


CASES: dict[str, Callable[[], VisionLanguageModel]] = {
    **{family: partial(small, family) for family in FAMILIES},
    # One key head for two processes, a head that is the embedding, and an odd vocabulary.
    "qwen3_vl": partial(with_language, "qwen3_vl", num_kv_heads=1, tied=True, vocabulary=97),
    "half": partial(small, "llava_next_video", dtype="float16"),
    "pairs": partial(with_language, "cogvlm2_video", num_kv_heads=1),
}

# Those that `tests.recipes.grid` has not, which trains all families in all layouts.
TRAINED = ("qwen3_vl", "half", "pairs")


def prepare(name: str, model: VisionLanguageModel) -> None:
    """Put pairs, which are not zero, beside the weights, or round these, where the case says so."""
    if name == "half":
        cast_parameters(model, "float16")
    if name != "pairs":
        return
    add_lora(model, LoraConfig(2, 4.0, r"language\.layers\..*", split=True))
    cuts = cuts_of(model)
    rng = np.random.default_rng(0)
    for path, parameter in model.parameters_and_names():
        if path.endswith((".lora_a", ".lora_b")):
            cut = cuts.get(path)
            shape = parameter.shape if cut is None else cut.whole_shape(parameter.shape)
            drawn = rng.normal(0, 0.1, shape).astype(np.float32)
            kept = drawn if cut is None else cut.take(drawn, model.group.rank)
            parameter.set_data(Tensor(kept.copy()))


def examine(name: str, layout: Layout, groups: Groups) -> dict[str, Any]:
    """Ask a whole model and a divided one, and train them where the case is for that."""
    whole, divided = CASES[name](), CASES[name]()
    divided.divide(model_group(layout, groups))
    prepare(name, whole)
    prepare(name, divided)
    batches = [
        [inputs[key].asnumpy() for key in ORDER if key in inputs]
        for inputs in (
            batch(whole, [[sample(whole, seed, answer=3 + seed)]], 64)
            for seed in range(layout.data)
        )
    ]

    report: dict[str, Any] = {"parameters": [count(whole), count(divided)]}
    report["gradient_error"], report["shared"] = compare_gradients(
        whole, divided, batches[layout.data_rank]
    )
    if name in FAMILIES:
        report["greedy"], report["sampled"] = zip(answer(whole), answer(divided), strict=True)

    if name in TRAINED:
        report |= train(whole, divided, batches, layout, groups)
    return report


def train(
    whole: VisionLanguageModel,
    divided: VisionLanguageModel,
    batches: Sequence[Sequence[NDArray[Any]]],
    layout: Layout,
    groups: Groups,
) -> dict[str, Any]:
    """What differs between them in some steps, and after these."""
    alone = Trainer(whole, AdamW(whole.trainable_params()), CLIP, LossScale())
    rates = [1.0] * len(divided.trainable_params())
    data = data_group(layout, groups)
    exchange = shard_training(divided, 0.0, rates, layout, data, "none").exchange
    together = Trainer(divided, AdamW(divided.trainable_params()), CLIP, LossScale(), exchange)
    mine = [batches[layout.data_rank]]
    steps = [(alone.step(batches, RATE), together.step(mine, RATE)) for _ in range(STEPS)]

    cuts, theirs = cuts_of(divided), model_parameters(whole)
    errors = [
        worst(ours, part_of(theirs[path], path, cuts, divided))
        for path, ours in model_parameters(divided).items()
    ]
    return {
        "losses": [[first[0], second[0]] for first, second in steps],
        "norms": [[first[1], second[1]] for first, second in steps],
        "weight_error": max(errors),
    }


def part_of(tensor: Tensor, path: str, cuts: Any, divided: VisionLanguageModel) -> NDArray[Any]:
    """What a process of the divided model holds of a tensor of the whole one."""
    array: NDArray[Any] = tensor.asnumpy().astype(np.float32)
    return cuts[path].take(array, divided.group.rank) if path in cuts else array


def worst(ours: Tensor, theirs: NDArray[Any]) -> float:
    """The largest difference."""
    return float(np.abs(ours.asnumpy() - theirs).max())


def count(model: nn.Cell) -> int:
    """How many numbers the parameters have."""
    return sum(parameter.size for parameter in model_parameters(model).values())


def compare_gradients(
    whole: VisionLanguageModel, divided: VisionLanguageModel, arrays: Sequence[NDArray[Any]]
) -> tuple[float, float]:
    """The largest difference between their gradients, of the largest gradient; and a sum of those
    of the parameters that all have, bit for bit the same on each.
    """
    found = []
    for model in (whole, divided):
        model.set_train(True)
        parameters = model.trainable_params()
        gradients = ms.value_and_grad(model, None, parameters)(*map(Tensor, arrays))[1]
        found.append({p.name: g for p, g in zip(parameters, gradients, strict=True)})
    cuts = cuts_of(divided)
    largest = max(float(np.abs(g.asnumpy().astype(np.float32)).max()) for g in found[0].values())
    error = max(
        worst(gradient, part_of(found[0][path], path, cuts, divided))
        for path, gradient in found[1].items()
    )
    shared = sum(float(g.asnumpy().sum()) for path, g in found[1].items() if path not in cuts)
    return error / largest, shared


def answer(model: VisionLanguageModel) -> list[list[list[int]]]:
    """What a model answers, with its cache: greedy, and drawn."""
    inputs = batch(model, [[sample(model, seed, answer=0)] for seed in (3, 4)], 64)
    arrays = {name: tensor.asnumpy() for name, tensor in inputs.items()}
    lengths = arrays.pop("segment_ids").sum(1)
    del arrays["labels"]
    prompt, generator = Prompt(lengths=lengths, **arrays), Generator(model, 2, 80, bucket=32)
    return [generator.generate(prompt, 4, (), Sampling(one), seed=5) for one in (0.0, 0.8)]


def main() -> None:
    """Examine the cases that the command line names."""
    folder, data, model, *names = sys.argv[1:]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    tiny_models.set_up()
    init()
    layout = Layout(int(data), int(model), get_rank())
    groups = create_groups(layout)
    report = {name: examine(name, layout, groups) for name in names or CASES}
    (Path(folder) / f"{layout.rank}.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

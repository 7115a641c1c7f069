"""Reference cases, found by looking through the folder of golden data,
and a model filled with their weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from numpy.typing import NDArray

from models.cache import drop_caches
from models.generate import Generator, Prompt
from models.names import Weight
from models.weights import import_weights, load_weights, parameter_shapes
from tests.reference import arrays as arrays
from tests.reference import references


def model_folders(family: str, *needed: str, any_of: tuple[str, ...] = ()) -> list[Any]:
    """Parameters for a test: every folder of the family with weights,
    all files `needed` and one of `any_of`.
    """
    roots = [(each.name, each.golden / family) for each in references() if each.golden]
    found = [
        pytest.param(folder, id=f"{name}-{folder.name}")
        for name, root in roots
        for folder in sorted(
            {path.parent for path in root.rglob("*.safetensors") if "lora" not in path.name}
        )
        if all((folder / each).exists() for each in needed)
        if not any_of or any((folder / each).exists() for each in any_of)
    ]
    places = ", ".join(str(root) for _, root in roots)
    lacking = f"no model with {' and '.join([*needed, *any_of[:1]])} in {places}"
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=lacking))]


def weights_of(folder: Path) -> Path:
    """The weights of a model's folder: its one safetensors file that is no adapter."""
    return next(path for path in sorted(folder.glob("*.safetensors")) if "lora" not in path.name)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def convert(module: ModuleType, config: Any, source: Path, target: Path, **options: Any) -> Any:
    """A model of the family, filled from the weights `source`
    by way of a converted file at `target`.
    """
    model = module.MODEL(config)
    account = import_weights(
        source, target, module.weight_map(config), parameter_shapes(model), **options
    )
    assert not account.unfilled
    assert not load_weights(model, target, "float32").unfilled
    model.set_train(False)
    return model


def ints(array: NDArray[Any]) -> Tensor:
    return Tensor(array.astype(np.int32))


def worst(ours: Tensor | NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest difference; infinite if the shapes differ."""
    ours = ours.asnumpy() if isinstance(ours, Tensor) else ours
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - theirs).max(initial=0))


def gradients(
    model: nn.Cell, weights: list[Weight], inputs: dict[str, Tensor]
) -> dict[str, NDArray[Any]]:
    """The loss's gradients under the checkpoint's names."""
    parameters = {name: p for name, p in model.parameters_and_names() if p.requires_grad}
    values = list(parameters.values())
    found = ms.grad(lambda: model(**inputs), None, values)()
    by_name = {name: grad.asnumpy() for name, grad in zip(parameters, found, strict=True)}
    return {
        source: part
        for weight in weights
        if weight.name in by_name
        for source, part in zip(weight.sources, weight.split(by_name[weight.name]), strict=True)
    }


def layer_outputs(model: nn.Cell, inputs: dict[str, Tensor]) -> list[NDArray[Any]]:
    """What goes into the first decoder layer and what comes out of each,
    (batch, length, hidden).
    """
    seen: list[NDArray[Any]] = []
    layers = list(model.language.layers)
    hooks = [
        layer.register_forward_hook(lambda cell, args, out: seen.append(out.asnumpy()))
        for layer in layers
    ]
    hooks.append(
        layers[0].register_forward_pre_hook(lambda cell, args: seen.append(args[0].asnumpy()))
    )
    model.hidden(**inputs)
    for hook in hooks:
        hook.remove()
    return seen


def relative(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The difference's norm over the reference's;
    below 1e-3 that is noise (a key bias has no true gradient).
    """
    return float(
        np.linalg.norm(ours.astype(np.float64) - theirs) / max(float(np.linalg.norm(theirs)), 1e-3)
    )


def greedy(
    model: Any, inputs: dict[str, Any], expected: NDArray[Any], expected_logits: NDArray[Any] | None
) -> None:
    """Check greedy decoding of one prompt with the cache, token for token."""
    ids = inputs["input_ids"].asnumpy()
    positions = inputs.get("position_ids", np.arange(ids.shape[1])[None])
    prompt = Prompt(
        input_ids=ids,
        lengths=np.array([ids.shape[1]]),
        position_ids=positions.asnumpy() if isinstance(positions, Tensor) else positions,
        pixel_values=inputs["pixel_values"].asnumpy() if "pixel_values" in inputs else None,
        media_index=inputs["media_index"].asnumpy() if "media_index" in inputs else None,
    )
    generator = Generator(model, 1, ids.shape[1] + len(expected), bucket=16)

    tokens, logits = zip(*generator.steps(prompt, len(expected)), strict=True)
    drop_caches(model)

    assert np.concatenate(tokens).tolist() == expected.tolist()
    if expected_logits is not None:
        assert worst(np.concatenate(logits), expected_logits) < 2e-4

"""What a model makes of a sample does not depend on what is packed beside it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata.pipeline import Stream
from tests.pipeline.words import PER_VIEW, SIDE, WordTemplate, mixed

with warnings.catch_warnings():  # MindSpore warns while it loads
    warnings.simplefilter("ignore")
    ms = pytest.importorskip("mindspore")
    from tests import tiny_models

    tiny_models.set_up()

import models.qwen_vl as qwen_vl
import models.visualglm as visualglm
from models.decoder import DecoderConfig
from models.vit import VisionConfig

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

SEQ_LENGTH = 64


def qwen() -> Any:
    tower = qwen_vl.bigg(image_size=SIDE, patch_size=4, hidden=32, layers=1, heads=2, mlp=64)
    language = DecoderConfig(
        vocabulary=1000,
        hidden=128,
        layers=2,
        heads=4,
        num_kv_heads=4,
        head_size=32,
        mlp=128,
        qkv_bias=True,
    )
    return qwen_vl.QwenVL(qwen_vl.QwenVLConfig(vision=tower, language=language, queries=PER_VIEW))


def glm() -> Any:
    tower = VisionConfig(image_size=SIDE, patch_size=4, hidden=32, layers=1, heads=2, mlp=64)
    qformer = visualglm.QFormerConfig(
        queries=PER_VIEW, hidden=32, layers=1, heads=2, mlp=64, cross_layers=(0,)
    )
    language = visualglm.GLMConfig(vocabulary=1000, hidden=64, layers=2, heads=2, mlp=128)
    return visualglm.VisualGLM(
        visualglm.VisualGLMConfig(vision=tower, qformer=qformer, language=language)
    )


def logits_by_sample(model: Any, template: WordTemplate, **options: Any) -> dict[str, NDArray[Any]]:
    stream = Stream(
        mixed(16),
        template,
        seq_length=SEQ_LENGTH,
        workers=0,
        shuffle=False,
        drop_last=False,
        **options,
    )
    found = {}
    for batch in stream:
        inputs = {name: ms.Tensor(array) for name, array in batch.items() if name != "labels"}
        logits = model(**inputs).asnumpy()
        for row, names in enumerate(batch.ids):
            for segment, name in enumerate(names, 1):
                found[name] = logits[row][batch["segment_ids"][row] == segment]
    return found


@pytest.mark.parametrize(("build", "axes"), [(qwen, 1), (glm, 2)])
def test_packed_logits_are_those_of_the_sample_alone(build: Any, axes: int) -> None:
    ms.set_seed(0)
    model, template = build(), WordTemplate(axes=axes)
    model.set_train()

    alone = logits_by_sample(model, template, batch_size=8, max_views=2)
    beside = logits_by_sample(model, template, batch_size=2, packing=True, max_views=4)

    assert alone.keys() == beside.keys()
    assert max(np.abs(alone[name] - beside[name]).max() for name in alone) < 1e-5
    assert min(np.abs(logits).max() for logits in alone.values()) > 1e-3


def test_the_loss_of_packed_rows_is_the_mean_over_all_their_targets() -> None:
    ms.set_seed(0)
    model, template = qwen(), WordTemplate()
    model.set_train()

    def losses(**options: Any) -> tuple[float, int]:
        total, targets = 0.0, 0
        for batch in Stream(
            mixed(16), template, seq_length=SEQ_LENGTH, workers=0, shuffle=False, **options
        ):
            count = int((batch["labels"][:, 1:] != -100).sum())
            total += float(model(*map(ms.Tensor, batch.values())).asnumpy()) * count
            targets += count
        return total / targets, targets

    alone, packed = (
        losses(batch_size=8, max_views=2),
        losses(batch_size=1, packing=True, max_views=4),
    )

    assert alone[1] == packed[1]
    assert alone[0] == pytest.approx(packed[0], rel=1e-5)

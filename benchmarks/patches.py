"""Pipelines of the families that cut media into patches of any grid: ours, as transformers' models
take it, and transformers' processor in the workers of a torch ``DataLoader``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import mmdata.templates
from benchmarks.drawn import ANSWER, FRAMES, QUESTION, Data
from benchmarks.losses import build_processor
from benchmarks.measure import define_operators_of_torchvision
from mmdata.pipeline import Stream, mindspore_dataset, torch_dataset

Run: TypeAlias = "Callable[[Data, Path], Iterator[Any]]"

BATCH = 4
# The same frames as each family's processor takes.
STRATEGY = {"qwen2_5_vl": f"hf_pairs_frames:{FRAMES}", "qwen3_vl": f"hf_ends_frames:{FRAMES}"}


def runs(family: str) -> dict[str, Run]:
    """Return ours and the others, by name; of each the folder of ``qwen.tiktoken`` is asked."""
    return {
        "ours": partial(ours, family, resize="fast"),
        "ours, exact": partial(ours, family, resize="exact"),
        "ours, uint8 to MindSpore": partial(ours_mindspore, family, resize="fast"),
        "ours, exact uint8 to MindSpore": partial(ours_mindspore, family, resize="exact"),
        "torch + transformers": partial(torch_transformers, family),
    }


def stream_of(family: str, data: Data, vocabularies: Path, **options: Any) -> Stream:
    tokenizer = mmdata.templates.load_tokenizer(family, vocabularies)
    settings = {"frames": STRATEGY[family], "compat": "transformers-5.23"}
    template = mmdata.templates.make(family, tokenizer, settings)
    return Stream(data.store, template, seq_length=8192, dynamic=True, batch_size=BATCH, **options)


def ours(family: str, data: Data, vocabularies: Path, **options: Any) -> Iterator[Any]:
    """Float32 batches with transformers' names, tensors of torch."""
    dataset = torch_dataset(stream_of(family, data, vocabularies, layout="transformers", **options))
    yield
    for batch in dataset:
        yield len(batch["input_ids"])


def ours_mindspore(family: str, data: Data, vocabularies: Path, **options: Any) -> Iterator[Any]:
    """Uint8 batches through MindSpore's engine, which the device normalises."""
    dataset = mindspore_dataset(stream_of(family, data, vocabularies, **options))
    yield
    for row in dataset.create_tuple_iterator(num_epochs=1):
        yield len(row[0])


def torch_transformers(family: str, data: Data, vocabularies: Path) -> Iterator[Any]:
    """A DataLoader whose worker processes run the processor sample by sample."""
    from torch.utils.data import DataLoader

    samples = ProcessedSamples(family, data, vocabularies)
    workers = len(os.sched_getaffinity(0))
    loader: Any = DataLoader(
        samples, batch_size=BATCH, num_workers=workers, collate_fn=samples.collate
    )
    yield
    for batch in loader:
        yield len(batch["input_ids"])


class ProcessedSamples:
    """A map-style data set: file and text in, the processor's tensors out."""

    def __init__(self, family: str, data: Data, vocabularies: Path) -> None:
        self.library = define_operators_of_torchvision()
        self.data, self.paths = data, data.paths
        tokenizer = mmdata.templates.load_tokenizer(family, vocabularies)
        with tempfile.TemporaryDirectory() as folder:
            self.processor = build_processor(family, tokenizer, vocabularies, Path(folder))
        kind = "image" if data.kind == "images" else "video"
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        self.text = (
            f"{system if family == 'qwen2_5_vl' else ''}<|im_start|>user\n"
            f"<|vision_start|><|{kind}_pad|><|vision_end|>{QUESTION}<|im_end|>\n"
            f"<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        path = self.paths[number]
        given = {"text": [self.text], "return_tensors": "pt"}
        if self.data.kind == "images":
            from PIL import Image as Pillow

            return self.processor(images=[Pillow.open(path).convert("RGB")], **given)
        wanted: dict[str, Any] = {"num_frames": FRAMES, "fps": None}
        if find_spec("torchcodec"):  # its own choice, which it makes of a path
            return self.processor(videos=[str(path)], do_sample_frames=True, **wanted, **given)
        pixels, metadata = self.read_by_pyav(path, wanted)
        return self.processor(
            videos=[pixels], video_metadata=[metadata], do_sample_frames=False, **given
        )

    def read_by_pyav(self, path: Path, wanted: dict[str, Any]) -> Any:
        """Return the frames that the processor takes, and what it is told of them."""
        from transformers.video_utils import load_video

        sample = partial(self.processor.video_processor.sample_frames, **wanted)
        return load_video(str(path), backend="pyav", sample_indices_fn=sample)

    def collate(self, samples: list[Any]) -> dict[str, Any]:
        """Join the samples of a batch; what is told by rows is padded on the right."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = {"input_ids", "attention_mask", "mm_token_type_ids"}
        return {
            name: pad_sequence([sample[name][0] for sample in samples], batch_first=True)
            if name in rows
            else torch.cat([sample[name] for sample in samples])
            for name in samples[0]
            if torch.is_tensor(samples[0][name])
        }


def compare_first_batches(family: str, data: Data, vocabularies: Path) -> None:
    """Refuse to time two programs that do not do the same.

    Raises:
        RuntimeError: the ids or the grids differ.
    """
    options: dict[str, Any] = {"layout": "transformers", "shuffle": False, "workers": 0}
    mine = next(iter(torch_dataset(stream_of(family, data, vocabularies, **options))))
    samples = ProcessedSamples(family, data, vocabularies)
    theirs = samples.collate([samples[number] for number in range(BATCH)])
    grids = "image_grid_thw" if data.kind == "images" else "video_grid_thw"
    for name in ("input_ids", grids):
        if mine[name].tolist() != theirs[name].tolist():
            raise RuntimeError(f"{family}, {data.kind}: {name} of the two differ")

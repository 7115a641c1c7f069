"""How fast batches reach MindSpore,
beside PyTorch with Hugging Face's processor and beside MindFormers' way.

    python -m benchmarks.pipeline VOCABULARY [--json] [--only images] [--samples 96]
    python -m benchmarks.pipeline VOCABULARY --patches DIR [--only videos] [--samples 24]

VOCABULARY is Llama 2's tokenizer.model. With --patches the rows are those of the families that cut
media into patches, and DIR holds qwen.tiktoken, see :mod:`benchmarks.patches`. All pipelines see
the same files, take the same frames at the same size with the same vocabulary, and may use all
processors. Hugging Face's processors are built here; nothing is downloaded. They are the ones that
transformers takes where it can choose, which resize by torchvision, faster than Pillow and not to
the bit: install torchvision 0.28 beside torch 2.13, with or without CUDA (see
:func:`load_torchvision`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks import patches
from benchmarks.drawn import ANSWER, FRAMES, QUESTION, SIDE, Data, make_data
from mmdata.pipeline import Stream, mindspore_dataset
from mmdata.schema import Conversation, assistant, user
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter
from mmdata.templates import get
from mmdata.tokenizers import load
from recipes.vocabularies import byte_tokenizer

Run: TypeAlias = "Callable[[Data, Path], Iterator[Any]]"
"""A pipeline: builds what it needs, gives nothing once,
and then the number of samples of each batch.
"""

BATCH = 4
DEVICE_TOKENS = 2587  # tokens a second and device, published for Qwen-VL fine-tuning
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


# --- ours
# --------------------------------------------------------------------------------------------------


def template(vocabulary: Path) -> Any:
    tokenizer = load("llama2", vocabulary)
    return get("llava_next_video")(tokenizer=tokenizer, frames=f"uniform:{FRAMES}", max_length=4096)


def stream_of(data: Data, family: Any, **options: Any) -> Stream:
    views = FRAMES if data.kind != "images" else 5
    return Stream(data.store, family, seq_length=4096, batch_size=BATCH, max_views=views, **options)


def ours(data: Data, vocabulary: Path) -> Iterator[Any]:
    """Uint8 batches through MindSpore's engine, videos and pictures resized by FFmpeg."""
    yield from ours_exact(data, vocabulary, resize="fast")


def ours_exact(data: Data, vocabulary: Path, **options: Any) -> Iterator[Any]:
    """The same, resized by Pillow as the family does."""
    dataset = mindspore_dataset(stream_of(data, template(vocabulary), **options))
    yield
    for row in dataset.create_tuple_iterator(num_epochs=1):
        yield len(row[0])


# --- PyTorch and Hugging Face
# ----------------------------------------------------------------------------------------


def load_torchvision() -> None:
    """Import torchvision also where its compiled operators were built
    for another torch (PyPI's are for CUDA's).

    Its transforms are Python over torch and run as they are. Only the import stops at two operators
    on boxes, which no processor here asks for; declared without a body they let it pass.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
        import torchvision  # noqa: F401


def processor(vocabulary: Path) -> Any:
    """LLaVA-NeXT-Video's processor, as its checkpoint configures it."""
    load_torchvision()
    import transformers as hf

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(vocabulary, Path(folder, "tokenizer.model"))
        Path(folder, "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
        tokenizer = hf.LlamaTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<video>", "<image>"], special_tokens=True)
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return hf.LlavaNextVideoProcessor(
        tokenizer=tokenizer,
        image_processor=hf.LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **sizes),
        video_processor=hf.LlavaNextVideoVideoProcessor(**sizes),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def read_video_pyav(path: Path, indices: set[int]) -> NDArray[Any]:
    """Hugging Face's documented way to the frames of a clip:
    decode up to the last one, keep those wanted.
    """
    import av

    frames = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number > max(indices):
                break
            if number in indices:
                frames.append(frame)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


class HuggingFaceSamples:
    """A map-style data set: file and text in, the processor's tensors out."""

    def __init__(self, data: Data, vocabulary: Path) -> None:
        self.data, self.paths, self.processor = data, data.paths, processor(vocabulary)
        self.indices = set(np.linspace(0, 149, FRAMES).astype(int).tolist())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image as Pillow

        path, kind = self.paths[number], "image" if self.data.kind == "images" else "video"
        text = f"USER: <{kind}>\n{QUESTION} ASSISTANT: {ANSWER}</s>"
        if kind == "image":
            return self.processor(
                text=text, images=Pillow.open(path).convert("RGB"), return_tensors="pt"
            )
        if self.data.kind == "videos":
            return self.processor(
                text=text, videos=read_video_pyav(path, self.indices), return_tensors="pt"
            )
        frames = np.stack(
            [np.asarray(Pillow.open(file).convert("RGB")) for file in sorted(path.iterdir())]
        )
        return self.processor(text=text, videos=frames, return_tensors="pt")


def collate(samples: list[Any]) -> dict[str, Any]:
    import torch

    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}


def torch_hf(data: Data, vocabulary: Path) -> Iterator[Any]:
    """A DataLoader whose worker processes run the processor sample by sample."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        HuggingFaceSamples(data, vocabulary),
        batch_size=BATCH,
        num_workers=len(os.sched_getaffinity(0)),
        collate_fn=collate,
    )
    yield
    for batch in loader:
        yield len(batch["input_ids"])


# --- MindFormers' way
# ------------------------------------------------------------------------------------------------


def clip_preprocess(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CLIP's way with a picture, alone:
    shorter side, centre, float32, channels first (spec, section 6).
    """
    from PIL import Image as Pillow

    height, width = pixels.shape[:2]
    scale = SIDE / min(height, width)
    size = (SIDE, int(height * scale)) if width < height else (int(width * scale), SIDE)
    resized = np.asarray(Pillow.fromarray(pixels).resize(size, Pillow.Resampling.BICUBIC))
    top, left = (resized.shape[0] - SIDE) // 2, (resized.shape[1] - SIDE) // 2
    cropped = resized[top : top + SIDE, left : left + SIDE].astype(np.float32) / 255
    normal: NDArray[np.float64] = (
        cropped - np.array((0.48145466, 0.4578275, 0.40821073))
    ) / np.array((0.26862954, 0.26130258, 0.27577711))
    return normal.astype(np.float32).transpose(2, 0, 1)


def opencv_frames(path: Path) -> NDArray[Any]:
    """``process_video_with_cv2``:
    seek to each frame of floor(linspace), read it, BGR to RGB (spec, section 4).
    """
    import cv2

    capture = cv2.VideoCapture(str(path))
    total, frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), []
    for number in np.linspace(0, total - 1, FRAMES).astype(int):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(number))
        read, frame = capture.read()
        if not read:
            raise ValueError(f"{path}: frame {number} cannot be read")
        frames.append(clip_preprocess(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return np.stack(frames)


def padded_tiles(path: Path) -> NDArray[Any]:
    """Stage 2: the whole picture and 3 x 3 tiles,
    those that the picture does not have in zeros (spec, section 6).
    """
    from PIL import Image as Pillow

    from mmdata.image.anyres import views

    tiles = [clip_preprocess(tile) for tile in views(np.asarray(Pillow.open(path).convert("RGB")))]
    return np.stack([*tiles, *[np.zeros_like(tiles[0])] * (10 - len(tiles))])


def mindformers(data: Data, vocabulary: Path) -> Iterator[Any]:
    """Per-sample Python in a MindSpore map:
    OpenCV, Pillow a frame, float32, text padded to length + 1.
    """
    import mindspore.dataset as ds

    tokenizer = load("llama2", vocabulary)
    prepare = padded_tiles if data.kind == "images" else opencv_frames
    slots = 2340 if data.kind == "images" else FRAMES * 144

    def transform(number: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        images = prepare(data.paths[int(number)])
        prompt, answer = (
            tokenizer.encode(f"USER: \n{QUESTION} ASSISTANT:"),
            tokenizer.encode(ANSWER),
        )
        ids = [1, *prompt[:3], *[32001] * slots, *prompt[3:], *answer, 2]
        labels = [-100] * (len(ids) - len(answer) - 1) + ids[-len(answer) - 1 :]
        place = np.stack([np.zeros(slots), np.arange(4, 4 + slots)], -1).astype(np.int32)
        padding = 4097 - len(ids)
        texts = (np.pad(ids, (0, padding)), np.pad(labels, (0, padding), constant_values=-100))
        return texts[0].astype(np.int32), images, place, texts[1].astype(np.int32)

    columns = ["input_ids", "images", "image_context_pos", "labels"]
    rows = ds.GeneratorDataset(list(np.arange(data.samples)), ["number"], shuffle=False)
    rows = rows.map(
        transform, ["number"], columns, num_parallel_workers=len(os.sched_getaffinity(0))
    )
    yield
    for row in rows.batch(BATCH).create_tuple_iterator(num_epochs=1):
        yield len(row[0])


# --- measuring
# --------------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Processor time of this process and its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(run: Run, data: Data, vocabulary: Path) -> tuple[float, float]:
    """Samples a second, and processor seconds a sample, over a whole pass;
    what is built before it does not count.
    """
    batches = run(data, vocabulary)
    next(batches)
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = sum(batches)
    return count / (time.perf_counter() - wall), (cpu_seconds() - cpu) / count


PEERS: dict[str, dict[str, Run]] = {
    "images": {
        "ours, exact": ours_exact,
        "torch + Hugging Face": torch_hf,
        "MindFormers' way": mindformers,
    },
    "videos": {
        "ours, exact": ours_exact,
        "torch + Hugging Face": torch_hf,
        "MindFormers' way": mindformers,
    },
    "frames": {"torch + Hugging Face": torch_hf},
}


def speed(
    name: str, runs: Mapping[str, Run], data: Data, vocabulary: Path, repeats: int
) -> dict[str, Any]:
    """One row: ours and each peer, the medians of interleaved runs."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for contestant, run in runs.items():
            found[contestant].append(measure(run, data, vocabulary))
    rate = {name: statistics.median(rates for rates, _ in pairs) for name, pairs in found.items()}
    cost = {name: statistics.median(costs for _, costs in pairs) for name, pairs in found.items()}
    peers = {name: value for name, value in rate.items() if not name.startswith("ours")}
    return {
        "name": name,
        "ours": rate["ours"],
        "peers": peers,
        "unit": "samples/s",
        "ratio_to_best": rate["ours"] / max(peers.values()),
        "variants": {name: value for name, value in rate.items() if name.startswith("ours, ")},
        "cpu_seconds_per_sample": cost,
        "versions": {
            name: version(name)
            for name in ("mindspore", "torch", "transformers", "av", "pillow", "numpy")
        },
    }


def engine_overhead(data: Data, vocabulary: Path, resize: str) -> dict[str, Any]:
    """Processor time of the stream that is not reading,
    encoding or decoding, over that of encoding and decoding.
    """
    shares = []
    for _ in range(3):
        stream = stream_of(data, template(vocabulary), resize=resize)
        began = cpu_seconds()
        for _ in stream:
            pass
        spent, stages = cpu_seconds() - began, stream.watch.seconds
        work = stages["encode"] + stages["decode"]
        shares.append((spent - work - stages["read"]) / work)
    share = statistics.median(shares)
    name = f"engine overhead, {data.kind}, {resize}"
    return {"name": name, "ours": share, "peers": {}, "unit": "of decoding and encoding"}


def first_batch(path: Path) -> dict[str, Any]:
    """Seconds from a store of a million samples on disk to its first shuffled batch."""
    row = Conversation("number", (user(QUESTION), assistant(ANSWER)))
    with StoreWriter(path, sources=[""], origin=Origin("bench", {})) as writer:
        writer.write_conversations(repeat(row, 1_000_000))
    family = get("llava_next_video")(tokenizer=byte_tokenizer("llama2"))
    began = time.perf_counter()
    next(iter(Stream(open_store(path), family, seq_length=512, batch_size=8)))
    return {
        "name": "first batch of a million",
        "ours": time.perf_counter() - began,
        "peers": {},
        "unit": "s",
    }


def headroom(data: Data, vocabulary: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Tokens that one processor supplies in a second, and how many devices it feeds."""
    tokens = len(template(vocabulary).encode(data.store[0]))
    supplied = tokens / row["cpu_seconds_per_sample"]["ours"]
    return {
        "name": f"headroom, {data.kind}",
        "ours": supplied,
        "peers": {"Qwen-VL fine-tuning, a device": DEVICE_TOKENS},
        "unit": "tokens/s per core",
        "ratio_to_best": supplied / DEVICE_TOKENS,
    }


def show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
        return
    print(f"{row['name']}: {row['ours']:.4g} {row['unit']}")
    cost = row.get("cpu_seconds_per_sample", {})
    for name, value in row.get("variants", {}).items():
        print(f"    {name}: {value:.4g} (processor time {cost[name] / cost['ours']:.2f})")
    for name, value in row["peers"].items():
        processor_time = f" (processor time {cost[name] / cost['ours']:.2f})" if cost else ""
        print(f"    {name}: {value:.4g}, ratio {row['ours'] / value:.2f}{processor_time}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--patches", type=Path, help="folder of qwen.tiktoken")
    parser.add_argument("--only", choices=sorted(PEERS))
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        kinds = [options.only] if options.only else PEERS
        if options.patches:
            os.environ["HF_HUB_OFFLINE"] = "1"
            for kind in (kind for kind in kinds if kind != "frames"):
                data = make_data(Path(folder, kind), kind, options.samples)
                for family in patches.STRATEGY:
                    patches.compare_first_batches(family, data, options.patches)
                    name, runs = f"{family}, {kind}", patches.runs(family)
                    row = speed(name, runs, data, options.patches, options.repeats)
                    show(row, options.json)
            return
        every = [make_data(Path(folder, kind), kind, options.samples) for kind in kinds]
        for data in every:  # before the threads of other engines are there, whose time would count
            for resize in ("fast", "exact"):
                show(engine_overhead(data, options.vocabulary, resize), options.json)
        for data in every:
            runs = {"ours": ours, **PEERS[data.kind]}
            row = speed(data.kind, runs, data, options.vocabulary, options.repeats)
            show(row, options.json)
            show(headroom(data, options.vocabulary, row), options.json)
        if not options.only:
            show(first_batch(Path(folder, "million")), options.json)


if __name__ == "__main__":
    main()

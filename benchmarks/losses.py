"""Losses of transformers' own models on our batches, beside those on its own processors'.

    python -m benchmarks.losses --vocabularies DIR [--json]

DIR holds ``qwen.tiktoken``. A tiny random model of each family reads pictures and a clip, once as
``torch_dataset`` gives them, without a collator, and once as transformers' processor makes them of
the same pixels. A packed row, which only positions part, is compared with the mean of what the
processor's two give, each as often as it has tokens that are trained. The losses may differ by
1e-5, else this fails. Needs transformers, torchvision and the package tokenizers.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mmdata.templates
from benchmarks.measure import define_operators_of_torchvision, options
from mmdata.pipeline import Stream, torch_dataset
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Text,
    Video,
    assistant,
    user,
)
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter
from mmdata.tokenizers.huggingface import describe_bpe
from mmdata.tokenizers.tiktoken import QWEN_PATTERN, read_ranks

SIDE = {"qwen2_5_vl": 14, "qwen3_vl": 16}
MOST = 1e-5
WORDS = {"What is it?": "A cat.", "What happens?": "It falls.\nThen it rises."}


@dataclass(frozen=True)
class Drawn:
    """Pictures and frames of noise, whose sizes need no resizing, and a store of them."""

    pictures: list[Any]
    frames: list[Any]
    store: Path


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--vocabularies", type=Path, required=True, help="folder of qwen.tiktoken")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for family in SIDE:
        with tempfile.TemporaryDirectory() as folder:
            drawn = draw(Path(folder), 2 * SIDE[family])
            ours, theirs = losses(family, arguments.vocabularies, drawn, Path(folder))
        for name, mine, peer in zip(("pictures", "clip", "packed"), ours, theirs, strict=True):
            found = {"family": family, "of": name, "ours": mine, "transformers": peer}
            print(json.dumps(found) if arguments.json else found)
            if not abs(mine - peer) <= MOST:
                raise SystemExit(f"{family}, {name}: {mine} is not {peer}")


def draw(folder: Path, factor: int) -> Drawn:
    from PIL.Image import fromarray

    chance = np.random.default_rng(0)

    def noise(rows: int, columns: int) -> Any:
        return chance.integers(0, 256, (rows * factor, columns * factor, 3), np.uint8)

    pictures, frames = [noise(9, 10), noise(8, 12)], [noise(8, 9) for _ in range(6)]
    media: list[Media] = []
    for number, pixels in enumerate(pictures):
        fromarray(pixels).save(folder / f"{number}.png")
        height, width = pixels.shape[:2]
        media.append(Media("image", f"{number}.png", height=height, width=width))
    for number, pixels in enumerate(frames):
        fromarray(pixels).save(folder / f"f{number}.png")
    height, width = frames[0].shape[:2]
    clip = Media(
        "video",
        frame_paths=tuple(f"f{number}.png" for number in range(len(frames))),
        height=height,
        width=width,
        num_frames=len(frames),
        fps=2.0,
        duration=3.0,
        clock=CompactTimes(step=0.5),
    )
    (asked, said), (asked_of_clip, said_of_clip) = WORDS.items()
    rows = [
        Conversation(
            "pictures", (user(Image(0), Image(1), Text(asked)), assistant(said)), tuple(media)
        ),
        Conversation(
            "clip", (user(Video(0), Text(asked_of_clip)), assistant(said_of_clip)), (clip,)
        ),
    ]
    place = folder / "store"
    with StoreWriter(place, sources=[""], origin=Origin("drawn", {}, media_root=str(folder))) as w:
        w.write_conversations(rows)
    return Drawn(pictures, frames, place)


def losses(
    family: str, vocabularies: Path, drawn: Drawn, folder: Path
) -> tuple[list[float], list[float]]:
    """Return the losses on our batches, and those on the processor's."""
    import torch

    library = define_operators_of_torchvision()
    tokenizer = mmdata.templates.load_tokenizer(family, find(vocabularies))
    template = mmdata.templates.make(
        family, tokenizer, {"frames": "every:1", "compat": "transformers-5.23"}
    )
    model = tiny_model(family)
    options: dict[str, Any] = {"batch_size": 1, "shuffle": False, "workers": 0}
    options |= {"seq_length": 512, "layout": "transformers"}
    stream = Stream(open_store(drawn.store), template, **options)
    packed = Stream(open_store(drawn.store), template, packing=True, **options)
    with torch.no_grad():
        batches = [*torch_dataset(stream), *torch_dataset(packed)]
        if len(batches) != 3:
            raise SystemExit(f"{family}: pictures and clip do not share a row")
        # With a cache transformers does not look for the borders of samples.
        ours = [float(model(**batch, use_cache=False).loss) for batch in batches]
        processor = build_processor(family, tokenizer, vocabularies, folder)
        theirs = []
        trained = []
        for number, batch in enumerate(batches[:2]):
            inputs = process(processor, family, drawn, clip=bool(number))
            length = inputs["input_ids"].shape[1]
            if inputs["input_ids"][0].tolist() != batch["input_ids"][0, :length].tolist():
                raise SystemExit(f"{family}: the ids differ")
            labels = batch["labels"][:, :length]
            theirs.append(float(model(**inputs, labels=labels).loss))
            trained.append(int((labels[:, 1:] != -100).sum()))
    del library
    return ours, [*theirs, float(np.average(theirs, weights=trained))]


def process(processor: Any, family: str, drawn: Drawn, *, clip: bool) -> Any:
    """Return what transformers' processor makes of the same words and pixels."""
    from transformers.video_utils import VideoMetadata

    asked, said = list(WORDS.items())[clip]
    block = "<|vision_start|><|{}_pad|><|vision_end|>"
    shown = block.format("video") if clip else 2 * block.format("image")
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    text = (
        f"{system if family == 'qwen2_5_vl' else ''}<|im_start|>user\n{shown}{asked}<|im_end|>\n"
        f"<|im_start|>assistant\n{said}<|im_end|>\n"
    )
    if not clip:
        return processor(text=[text], images=drawn.pictures, return_tensors="pt")
    metadata = VideoMetadata(
        total_num_frames=len(drawn.frames),
        fps=2.0,
        frames_indices=list(range(len(drawn.frames))),
        duration=3.0,
    )
    return processor(
        text=[text],
        videos=[np.stack(drawn.frames)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
    )


def build_processor(family: str, tokenizer: Any, vocabularies: Path, folder: Path) -> Any:
    import transformers
    from transformers import PreTrainedTokenizerFast

    described = tokenizer_json(tokenizer, find(vocabularies))
    file = folder / "tokenizer.json"
    file.write_bytes(described)
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(file), pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    limits = {"shortest_edge": 3136, "longest_edge": 16777216}
    image = transformers.Qwen2VLImageProcessor(
        patch_size=SIDE[family],
        size=limits,
        **({"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if family == "qwen3_vl" else {}),
    )
    if family == "qwen3_vl":
        video = transformers.Qwen3VLVideoProcessor(size={**limits, "longest_edge": 25165824})
        return transformers.Qwen3VLProcessor(image, fast, video)
    video = transformers.Qwen2VLVideoProcessor(size=limits)
    return transformers.Qwen2_5_VLProcessor(image, fast, video)


def find(vocabularies: Path) -> Path:
    return vocabularies / "qwen.tiktoken"


def tokenizer_json(tokenizer: Any, ranks: Path) -> bytes:
    """Return the vocabulary in Hugging Face's form, its merges found again: a token of several
    bytes is made of the two that are left when all lower ranks have been merged.
    """
    from mmdata.tokenizers.huggingface import byte_letters

    letters = byte_letters()
    known = read_ranks(ranks.read_bytes(), ranks)

    def spell(token: bytes) -> str:
        return "".join(letters[value] for value in token)

    merges = [
        " ".join(map(spell, halves(token, known)))
        for token in sorted(known, key=known.__getitem__)
        if len(token) > 1
    ]
    vocab = json.dumps({spell(token): rank for token, rank in known.items()}).encode()
    described = json.loads(
        describe_bpe(vocab, "\n".join(merges).encode(), pattern=QWEN_PATTERN, path=ranks)
    )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    described["added_tokens"] = [
        {"id": token, "content": name, **flags, "special": name.startswith("<|")}
        for name, token in tokenizer.special.items()
    ]
    return json.dumps(described).encode()


def halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    parts = [bytes([value]) for value in token]
    while len(parts) > 2:
        pairs = [
            (rank, number)
            for number in range(len(parts) - 1)
            if (rank := ranks.get(parts[number] + parts[number + 1])) is not None
            and rank < ranks[token]
        ]
        _, number = min(pairs)
        parts[number : number + 2] = [parts[number] + parts[number + 1]]
    return parts


def tiny_model(family: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    text = {
        "vocab_size": 151936,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": family == "qwen3_vl",
        },
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 4, "hidden_size": 32}
    vision |= {"intermediate_size": 64}
    ids = {
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
    }
    if family == "qwen3_vl":
        vision |= {"out_hidden_size": 32, "deepstack_visual_indexes": [0]}
        vision |= {"num_position_embeddings": 64}
        config = transformers.Qwen3VLConfig(
            text_config={**text, "head_dim": 8}, vision_config=vision, **ids
        )
        return transformers.Qwen3VLForConditionalGeneration(config).float().eval()
    vision |= {"out_hidden_size": 32, "fullatt_block_indexes": [1]}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return transformers.Qwen2_5_VLForConditionalGeneration(config).float().eval()


if __name__ == "__main__":
    main()

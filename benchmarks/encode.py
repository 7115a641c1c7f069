"""Conversations to ids and labels, beside the processors of LLaVA-NeXT-Video, Qwen2.5-VL and
Qwen3-VL in transformers, on one core and one thread.

    python -m benchmarks.encode --vocabularies DIR [--json]

DIR holds the published vocabulary files. The tokenizer of transformers is made from the Llama-2
file among them and nothing is fetched. Both sides get the same conversations and the same pixels;
transformers gets its prompts as ready text and makes no labels, we start from the conversation and
do. The ids of both are compared first; they are equal but for the blank that LLaVA's own tokenizing
has after an image and transformers has not.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import mmdata.templates
from benchmarks.losses import SIDE, build_processor
from benchmarks.measure import define_operators_of_torchvision, options, print_row
from mmdata.pipeline.memory import Memory
from mmdata.schema import Conversation, Image, Media, Message, assistant, user
from mmdata.templates import Encoded, Template
from mmdata.tokenizers import load

SIZES = (
    (480, 640),
    (427, 640),
    (640, 480),
    (1080, 1920),
)  # (height, width), as COCO and films have them
TURN = 50  # samples that a contestant encodes in one go


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation, the same as text for transformers,
    and the pixels of its image, if it has one.
    """

    conversation: Conversation
    text: str
    pixels: Any = None


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--vocabularies", type=Path, required=True, help="folder of the published files"
    )
    parser.add_argument("--samples", type=int, default=400)
    parser.set_defaults(runs=9)
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    # First, for the processors of patches need it and who comes before them would do without.
    library = define_operators_of_torchvision()
    beside_transformers(arguments.vocabularies, arguments.samples, arguments.runs, arguments.json)
    for family in SIDE:
        patches_beside_transformers(
            family, arguments.vocabularies, arguments.samples, arguments.runs, arguments.json
        )
    every_family(arguments.vocabularies, arguments.samples, arguments.runs, arguments.json)
    del library


def beside_transformers(folder: Path, samples: int, runs: int, as_json: bool) -> None:
    """Print conversations a second, ours and those of transformers:
    text, images without and with their pixels.
    """
    vocabulary = folder / "llama2_tokenizer.model"
    template = mmdata.templates.get("llava_next_video")(
        tokenizer=load("llama2", vocabulary, legacy=False)
    )
    processor = hugging_face(vocabulary)
    texts = made(samples, template, images=False)
    pictures = made(samples, template, images=True)
    few = with_pixels(pictures[:8])
    expand = expander(processor)
    rows: list[
        tuple[str, Sequence[Sample], Callable[[Sample], object], Callable[[Sample], object]]
    ] = [
        (
            "text",
            texts,
            lambda s: template.encode(s.conversation),
            lambda s: processor(text=s.text),
        ),
        (
            "image, ids",
            pictures,
            lambda s: template.encode(s.conversation),
            lambda s: processor.tokenizer(expand(s)),
        ),
        (
            "image, ids and pixels",
            few,
            lambda s: (template.encode(s.conversation), tiles(s.pixels)),
            lambda s: processor(text=s.text, images=s.pixels, return_tensors="np"),
        ),
    ]
    for name, given, ours, theirs in rows:
        compare_ids(given, template, lambda s: processor.tokenizer(expand(s)).input_ids)
        mine, peer = rates(given, [ours, theirs], runs)
        print_row(
            f"encode, {name}",
            mine,
            {"transformers": peer},
            "conversations/s",
            ["transformers", "tokenizers"],
            more_is_better=True,
            as_json=as_json,
        )


def patches_beside_transformers(
    family: str, folder: Path, samples: int, runs: int, as_json: bool
) -> None:
    """Print the same of a family that cuts pictures into patches of any grid; the pictures of
    both are resized by Pillow or torchvision from the same pixels.
    """
    tokenizer = mmdata.templates.load_tokenizer(family, folder)
    template = mmdata.templates.make(family, tokenizer)
    with tempfile.TemporaryDirectory() as place:
        processor = build_processor(family, tokenizer, folder, Path(place))
    texts = worded(made(samples, template, images=False), template)
    pictures = worded(made(samples, template, images=True), template)
    expanded = worded(pictures, template, pads=True)
    few = with_pixels(pictures[:4])
    memory = Memory()
    rows: list[
        tuple[str, Sequence[Sample], Callable[[Sample], object], Callable[[Sample], object]]
    ] = [
        (
            "text",
            texts,
            lambda s: template.encode(s.conversation),
            lambda s: processor(text=[s.text]),
        ),
        (
            "image, ids",
            expanded,
            lambda s: template.encode(s.conversation),
            lambda s: processor.tokenizer(s.text),
        ),
        (
            "image, ids and pixels",
            few,
            lambda s: patches_of(template.encode(s.conversation), s.pixels, memory),
            lambda s: processor(text=[s.text], images=[s.pixels], return_tensors="np"),
        ),
    ]
    for name, given, ours, theirs in rows:
        for sample in given[:20]:
            ids = template.encode(sample.conversation).input_ids.tolist()
            if (
                name != "image, ids and pixels"
                and ids != processor.tokenizer(sample.text).input_ids
            ):
                raise RuntimeError(f"the ids of conversation {sample.conversation.id} differ")
        mine, peer = rates(given, [ours, theirs], runs)
        print_row(
            f"encode, {family}, {name}",
            mine,
            {"transformers": peer},
            "conversations/s",
            ["transformers", "tokenizers"],
            more_is_better=True,
            as_json=as_json,
        )


def worded(given: Sequence[Sample], template: Template, *, pads: bool = False) -> list[Sample]:
    """Return samples with their text as transformers wants it: one pad for each picture, or all."""
    found = []
    for sample in given:
        encoded = template.encode(sample.conversation)
        ids = encoded.input_ids.tolist()
        for slot in () if pads else reversed(encoded.slots):
            del ids[slot.start + 1 : slot.stop]
        found.append(replace(sample, text=template.tokenizer.decode(ids)))
    return found


def patches_of(encoded: Encoded, pixels: Any, memory: Memory) -> Any:
    """Return what transformers' image processor returns: normalised float32 rows of patches, in the
    memory of a stream.
    """
    import numpy as np

    from mmdata.image import resizers
    from mmdata.image.patches import cut, normalize_rows

    [plan] = encoded.pixels
    assert plan.grid is not None, "the family cuts patches"
    resized = resizers.get(plan.resize)(pixels, plan.grid.size)
    blocks, patches = cut(resized[None], plan.grid), plan.grid.patches
    out = memory.empty((blocks.size // patches.row, patches.row), np.float32)
    return normalize_rows(blocks, patches, out)


def every_family(folder: Path, samples: int, runs: int, as_json: bool) -> None:
    """Print tokens a second of text-only conversations under each family."""
    for family in mmdata.templates.registry.names():
        tokenizer = mmdata.templates.load_tokenizer(family, folder)
        template = mmdata.templates.make(family, tokenizer)
        given = made(samples, template, images=False)
        tokens = sum(template.length(sample.conversation) for sample in given)

        def encode(sample: Sample, template: Template = template) -> object:
            return template.encode(sample.conversation)

        (rate,) = rates(given, [encode], runs)
        print_row(
            f"encode, {family}, text",
            rate * tokens / len(given),
            {},
            "tokens/s",
            [],
            more_is_better=True,
            as_json=as_json,
        )


def rates(
    given: Sequence[Sample], contestants: Sequence[Callable[[Sample], object]], runs: int
) -> list[float]:
    """Return samples a CPU second of each, the median of runs.

    Contestants take turns every few samples, so that what slows the machine for a while slows them
    alike.
    """
    # Else one of them pays for a look of the garbage collector at all that was imported.
    gc.collect()
    gc.freeze()

    taken: list[list[float]] = [[] for _ in contestants]
    for _ in range(runs + 1):  # the first is to warm up
        totals = [0.0 for _ in contestants]
        for start in range(0, len(given), TURN):
            for number, contestant in enumerate(contestants):
                started = time.process_time()
                for sample in given[start : start + TURN]:
                    contestant(sample)
                totals[number] += time.process_time() - started
        for seconds, total in zip(taken, totals, strict=True):
            seconds.append(total)
    return [len(given) / statistics.median(seconds[1:]) for seconds in taken]


def compare_ids(
    given: Sequence[Sample], template: Template, theirs: Callable[[Sample], list[int]]
) -> None:
    """Refuse to time two programs that do not do the same.

    Raises:
        RuntimeError: the ids differ.
    """
    for sample in given[:20]:
        encoded = template.encode(sample.conversation)
        mine = encoded.input_ids.tolist()
        for slot in reversed(encoded.slots):
            del mine[slot.stop]
        if mine != theirs(sample):
            raise RuntimeError(f"the ids of conversation {sample.conversation.id} differ")


def made(samples: int, template: Template, *, images: bool) -> list[Sample]:
    """Return conversations of one to four rounds,
    shaped like LLaVA-Instruct's, in the words of Python's manual.
    """
    chance = random.Random(0)
    manual = cycle(" ".join(topics.values()).split())

    def words(fewest: int, most: int) -> str:
        return " ".join(islice(manual, chance.randint(fewest, most)))

    given = []
    for number in range(samples):
        media: tuple[Media, ...] = ()
        if images:
            height, width = SIZES[number % len(SIZES)]
            media = (Media("image", f"{number}.jpg", width=width, height=height),)
        messages: list[Message] = []
        for turn in range(chance.choice([1, 1, 2, 3, 4])):
            shown = [Image(0)] if images and turn == 0 else []
            messages += [user(*shown, words(6, 20)), assistant(words(20, 100))]
        conversation = Conversation(str(number), tuple(messages), media)
        text = template.text(conversation) if hasattr(template, "text") else ""
        given.append(Sample(conversation, text))
    return given


def with_pixels(given: Sequence[Sample]) -> list[Sample]:
    import numpy as np

    chance = np.random.default_rng(0)

    def drawn(image: Media) -> object:
        assert image.height and image.width, "made() gives every image its size"
        return chance.integers(0, 256, (image.height, image.width, 3), np.uint8)

    return [
        Sample(sample.conversation, sample.text, drawn(sample.conversation.media[0]))
        for sample in given
    ]


def tiles(pixels: Any) -> Any:
    """Return what transformers' image processor returns:
    normalised float32 tiles, channels first.
    """
    from mmdata.image import anyres, normalize

    return normalize(anyres.views(pixels))


def expander(processor: Any) -> Callable[[Sample], str]:
    """Return the processor's own expansion of ``<image>``,
    for an image of which the size is known.
    """

    def expand(sample: Sample) -> str:
        sizes = [(image.height, image.width) for image in sample.conversation.media]
        counts = (
            processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
            if sizes
            else [0]
        )
        return sample.text.replace("<image>", "<image>" * counts[0])

    return expand


def hugging_face(vocabulary: Path) -> Any:
    """Return the processor of LLaVA-NeXT-Video over the local Llama-2 vocabulary,
    for text and images.
    """
    hide_broken_torchvision()
    from transformers import AddedToken, LlamaTokenizer, LlavaNextVideoProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import (
        LlavaNextImageProcessorPil,
    )

    class WithoutVideo(LlavaNextVideoProcessor):
        """The same without its video processor,
        which wants torchvision even where no video is read.
        """

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return (
                None
                if argument is None
                else super().check_argument_for_proper_class(argument_name, argument)
            )

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(vocabulary, Path(folder) / "tokenizer.model")
        tokenizer = LlamaTokenizer.from_pretrained(folder, add_bos_token=True)
    added = [AddedToken(name, special=True, normalized=False) for name in ("<video>", "<image>")]
    tokenizer.add_tokens(added, special_tokens=True)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    )
    return WithoutVideo(
        video_processor=None,
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def hide_broken_torchvision() -> None:
    """Let transformers do without a torchvision that was built
    for another torch, which it would stumble over.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    main()

"""COCO's annotation files and those of its shape: captions become descriptions of images, boxes
become phrases grounded in them.

A record is one annotation that says something in words, or all boxes of one category in one image;
an annotation that marks a crowd, whose box has no area, or that cannot be joined with its image is
a record of its own, which ends as a reject. A record's number is the place of its first annotation
among the file's ``annotations``. Annotations and images are joined through a temporary file about
as large as the source; memory holds some 150 bytes an annotation.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Struct, ValidationError

from mmdata.errors import RecordError, UsageError
from mmdata.formats import registry
from mmdata.formats._coco_answers import HEARD_FIELDS, Prompts, exchanges, is_whole_record
from mmdata.formats._coco_boxes import fractions_of_all
from mmdata.formats._coco_join import Joined, join_file
from mmdata.formats._flat import NotPlainError, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import RecordSource, conversation_id, json_type, mapping
from mmdata.formats.llava import fallback_paths
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Message, Split, assistant, user
from mmdata.sources._run import Way
from mmdata.sources.files import SourceFile, tell_by_file
from mmdata.sources.kinds import Kind
from mmdata.sources.record import Record
from mmdata.storage._path import common_folder
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = ["Coco"]

_EDITION: Final = re.compile(
    r"(?:^|[_.-])((train|val|valid|validation|test)(?:20\d\d)?)(?=[_.-]|$)"
)
_SPLITS: Final[dict[str, Split]] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testA": "test",
    "testB": "test",
}
"""What files, folders and RefCOCO call the splits."""
_ROBOFLOW: Final = "_annotations.coco.json"
_PICKLES: Final = (".p", ".pkl", ".pickle")
_HEAD: Final = re.compile(r'\s*\{\s*"(?:info|images|annotations|categories|licenses)"\s*:')
_CAPTION_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "text"))
_BOX_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "region"))


class _Size(Struct, frozen=True, gc=False):
    """What of an image boxes need; the decoder steps over all other fields."""

    width: float
    height: float
    not_exhaustive_category_ids: list[Any] = []


# Lines of them: a call for each would take longer than the reading.
_decode_texts: Final = msgspec.json.Decoder(tuple[str]).decode_lines
_decode_sizes: Final = msgspec.json.Decoder(_Size).decode_lines


@registry.register("coco")
@dataclass(frozen=True)
class Coco(RecordSource):
    """COCO's annotations: what they say of an image, as prompts and answers.
    ``dataset_name`` is what rows have in the column ``source``.

    - A ``caption`` is the answer to ``caption_prompt``, a record each.
    - Boxes of one category in one image are the answer to ``box_prompt``, which names the
      ``{category}``, a record of them all; keypoints and masks stay in ``extra``.
    - A ``caption`` with a ``bbox`` (Visual Genome, GRiT), and ``sentences``, ``expressions`` or
      ``phrase`` of one (RefCOCO), are about that box alone: the answer to ``phrase_prompt``, which
      names the ``{phrase}``, is the box. Several phrases of one box are several turns.
    - Boxes with ``tokens_positive`` (MDETR) are those of words in the caption of their image.
    - ``segments_info`` (panoptic) is a turn for each category, with the boxes of its segments.

    A crowd, a box that leaves its image, and an id that two images or categories share are rejects,
    and so are boxes of a category of which the image may have more (LVIS's
    ``not_exhaustive_category_ids``).

    The split is read from the file's name, as in ``captions_val2017.json``, or from that of its
    folder, as in ``valid/_annotations.coco.json`` (Roboflow), and of referring expressions from
    ``split``. An image without ``file_name`` is found by its ``coco_url`` (LVIS).
    """

    harmless_fields: ClassVar[frozenset[str]] = HEARD_FIELDS | {"image"}
    summary: ClassVar[str] = (
        "COCO annotations: captions to descriptions, instances and phrases to grounded boxes"
    )
    shape: ClassVar[str] = (
        '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480}], '
        '"annotations": ['
        '{"id": 1, "image_id": 9, "caption": "A cup."}, '
        '{"id": 2, "image_id": 9, "category_id": 47, "bbox": [10, 20, 30, 40], "iscrowd": 0}, '
        '{"id": 3, "image_id": 9, "bbox": [10, 20, 30, 40], "caption": "the red cup"}, '
        '{"id": 4, "image_id": 9, "category_id": 47, "bbox": [10, 20, 30, 40], '
        '"sentences": [{"sent": "the cup on the left"}, {"sent": "the full one"}]}, '
        '{"image_id": 9, "file_name": "000000000009.png", "segments_info": '
        '[{"id": 5, "category_id": 47, "bbox": [10, 20, 30, 40], "iscrowd": 0}]}], '
        '"categories": [{"id": 47, "name": "cup"}]}'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "captions": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": '
            '480}], "annotations": [{"id": 1, "image_id": 9, "caption": "A cup."}]}'
        ),
        "a caption of a region (Visual Genome)": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": '
            '480}], "annotations": [{"id": 1, "image_id": 9, "bbox": [10, 20, 30, 40], "caption": '
            '"the red cup"}]}'
        ),
        "referring expressions (RefCOCO)": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": '
            '480}], "annotations": [{"id": 1, "image_id": 9, "category_id": 47, "bbox": [10, 20, '
            '30, 40], "sentences": [{"sent": "the cup on the left"}]}], "categories": [{"id": 47, '
            '"name": "cup"}]}'
        ),
        "words of a caption (MDETR)": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480, '
            '"caption": "a cup on a table"}], "annotations": [{"id": 1, "image_id": 9, "bbox": '
            '[10, 20, 30, 40], "tokens_positive": [[0, 5]]}]}'
        ),
        "keypoints": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": '
            '480}], "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [10, 20, '
            '30, 40], "num_keypoints": 1, "keypoints": [15, 25, 2]}], "categories": [{"id": 1, '
            '"name": "person", "keypoints": ["nose"]}]}'
        ),
        "panoptic segments": (
            '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": '
            '480}], "annotations": [{"image_id": 9, "file_name": "000000000009.png", '
            '"segments_info": [{"id": 5, "category_id": 47, "bbox": [10, 20, 30, 40], "iscrowd": '
            '0}]}], "categories": [{"id": 47, "name": "cup"}]}'
        ),
        "LVIS": (
            '{"images": [{"id": 9, "coco_url": '
            '"http://images.cocodataset.org/train2017/000000000009.jpg", "width": 640, "height": '
            '480, "not_exhaustive_category_ids": []}], "annotations": [{"id": 1, "image_id": 9, '
            '"category_id": 47, "bbox": [10, 20, 30, 40]}], "categories": [{"id": 47, "name": '
            '"cup"}]}'
        ),
        "Roboflow": (
            'valid/_annotations.coco.json: {"images": [{"id": 0, "file_name": "1.jpg", "width": '
            '640, "height": 480}], "annotations": [{"id": 1, "image_id": 0, "category_id": 47, '
            '"bbox": [10, 20, 30, 40]}], "categories": [{"id": 47, "name": "cup"}]}'
        ),
    }

    kinds: ClassVar[frozenset[Kind]] = frozenset({"json"})

    dataset_name: str = "coco"
    caption_prompt: str = "Describe the image in one sentence."
    box_prompt: str = "Find every {category} in the image."
    phrase_prompt: str = "Find this in the image: {phrase}"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the file is one object of COCO's parts."""
        return sample.every("images", "annotations") or (
            not sample.records and _HEAD.match(sample.head) is not None
        )

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder of the files, or the one above if it is called annotations, as COCO's
        is; of Roboflow's files the one that holds the folders of the splits.
        """
        files = self.files(sources)
        if all(_is_roboflow(posixpath.abspath(file.as_posix())) for file in files):
            return common_folder([file.parent for file in files])
        root = super().media_root(sources)
        return root.parent if root.name == "annotations" else root

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return the JSON files of the sources.

        Raises:
            UsageError: referring expressions are in a file of their own, as RefCOCO's are.
        """
        refs = [s for s in sources if s.suffix in _PICKLES or s.name.startswith("refs(")]
        found = [] if refs else super().files(sources)
        for file in found:
            if file.name == "instances.json" and file not in sources:
                refs += sorted(file.parent.glob("refs(*"))
        if refs:
            raise UsageError(
                f"{refs[0]} is not read: it holds referring expressions apart from their boxes, "
                "and a pickle may run any code. Load it yourself, and add to each annotation of "
                "instances.json the 'sentences' and the 'split' of the ref that has its id as "
                "'ann_id'."
            )
        return found

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield the records of the files, by their first annotation."""
        return chain.from_iterable(self.runs(sources))

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = ()
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records of the files in lists."""
        files = [SourceFile(file, "json") for file in self.files(sources)]
        for file, tell in tell_by_file(sources, files):
            yield from join_file(file.path, tell)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the captions, or the boxes, of records column by column, where all are sound and
        of one file.
        """
        try:
            require(len({record.file for record in records}) == 1)
            joined = [record.raw for record in records]
            require(all(type(one) is Joined and one.is_plain for one in joined))
            if all(one.category is None for one in joined):
                return self._flatten_captions(joined, records)
            require(not any(one.category is None for one in joined))
            return self._flatten_boxes(joined, records)
        except (NotPlainError, RecursionError, ValidationError):
            return None

    def _flatten_captions(self, joined: Sequence[Joined], records: Sequence[Record]) -> FlatRows:
        captions = [text for (text,) in _decode_texts(b"\n".join([one.caption for one in joined]))]
        require(all(captions) and not any(map(str.isspace, captions)))
        return FlatRows(
            texts=[text for caption in captions for text in (self.caption_prompt, caption)],
            part_codes=_CAPTION_PARTS * len(joined),
            part_media=[0] * len(joined),
            **self._common_columns(joined, records),
        )

    def _flatten_boxes(self, joined: Sequence[Joined], records: Sequence[Record]) -> FlatRows:
        names = [one.category_name for one in joined]
        require(all(names))
        prompts = [self.box_prompt.replace("{category}", name) for name in names]
        require(all(prompts) and not any(map(str.isspace, prompts)))
        return FlatRows(
            texts=[
                text for prompt, name in zip(prompts, names, strict=True) for text in (prompt, name)
            ],
            part_codes=_BOX_PARTS * len(joined),
            part_media=[0, 0] * len(joined),
            boxes=_fractions(joined),
            **self._common_columns(joined, records),
        )

    def _common_columns(
        self, joined: Sequence[Joined], records: Sequence[Record]
    ) -> dict[str, Any]:
        """Return the columns that captions and boxes share: an image and a question, and an answer
        of one part.
        """
        count = len(joined)
        file_names = [
            name for (name,) in _decode_texts(b"\n".join([one.file_name for one in joined]))
        ]
        require(all(file_names))
        return {
            "ids": [record.id or conversation_id(record) for record in records],
            "sources": [self.dataset_name] * count,
            "splits": [_home(records[0].file).split] * count,
            # Decoded together: none of them has a line break of its own.
            "extras": b"\n".join([one.extra() for one in joined]).decode().split("\n"),
            "num_messages": [2] * count,
            "num_media": [1] * count,
            "roles": bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * count,
            "train": b"\0\1" * count,
            "num_parts": [2, 1] * count,
            "media_types": ["image"] * count,
            "media": {"path": (b"\1" * count, file_names)},
        }

    def conversation(self, record: Record) -> Conversation:
        """Return the caption of an image, or phrases and the boxes of each."""
        value = mapping(record)
        image = _image(value)
        prompts = Prompts(self.caption_prompt, self.box_prompt, self.phrase_prompt)
        messages: list[Message] = []
        for prompt, answer in exchanges(value, image, prompts):
            question = (prompt,) if messages else (Image(0), prompt)
            messages += user(*question), assistant(answer)
        return Conversation(
            conversation_id(record),
            tuple(messages),
            (Media("image", image["file_name"]),),
            self.dataset_name,
            _SPLITS.get(str(_referred_split(value))) or _home(record.file).split,
            _extra(value, image),
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path in the folder of its edition, as it is spelt, and where such an image is
        often kept.
        """
        home = _home(origin.file)
        in_edition = [f"{home.folder}/{path}", f"images/{home.folder}/{path}"]
        if home.folder and "/" not in path:
            yield from in_edition
        yield from RecordSource.candidates(self, path, origin)
        if home.folder and "/" in path:
            yield from in_edition
        if not path.startswith("/"):
            yield from fallback_paths(path)


def _image(value: dict[str, Any]) -> dict[str, Any]:
    image, wanted = value.get("image"), value["annotations"][0].get("image_id")
    if isinstance(image, list):
        names = ", ".join(str(one.get("file_name")) for one in image)
        raise RecordError(f"the file has {len(image)} images with the id {wanted!r}: {names}")
    if not isinstance(image, dict):
        raise RecordError(f"the image with the id {wanted!r} is not among the file's images")
    if not isinstance(image.get("file_name"), str):
        found = json_type(image.get("file_name"))
        raise RecordError(f"the 'file_name' of image {wanted!r} must be a string, found {found}")
    if not image["file_name"]:
        raise RecordError(f"the 'file_name' of image {wanted!r} is empty", reason="missing_media")
    return image


def _extra(value: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record has no column of its own."""
    told = {key: value[key] for key in ("category", "categories") if value.get(key) is not None}
    return {
        "image": {key: found for key, found in image.items() if key != "file_name"},
        **told,
        "annotations": [
            {key: found for key, found in annotation.items() if key != "caption"}
            for annotation in value["annotations"]
        ],
    }


def _fractions(joined: Sequence[Joined]) -> list[list[list[float]]]:
    """Return for each record the fractions of its boxes."""
    import numpy as np

    counts = [len(one.annotations) for one in joined]
    images = _decode_sizes(b"\n".join([one.image for one in joined]))
    require(not any(image.not_exhaustive_category_ids for image in images))
    sizes = [(image.width, image.height) for image in images]
    boxes = np.frombuffer(b"".join([one.boxes for one in joined])).reshape(-1, 4)  # (boxes, 4)
    fractions = fractions_of_all(boxes, np.repeat(np.array(sizes), counts, axis=0))
    left = iter(fractions.tolist())
    return [list(islice(left, count)) for count in counts]


def _referred_split(value: dict[str, Any]) -> object:
    """Return the split that a referring expression names, as RefCOCO's do."""
    first = value["annotations"][0]
    return first.get("split") if is_whole_record(first) or "caption" in first else None


class _Home(NamedTuple):
    """What a file's place tells of its images: the folder that they are in, below the media root,
    or an empty string, and their split.
    """

    folder: str
    split: Split


@lru_cache(maxsize=16)  # it is asked of every record, and of few files
def _home(file: str) -> _Home:
    """Return what the name of a file tells, or else that of its folder: of
    ``instances_val2017.json``, ``("val2017", "val")``, of ``valid/_annotations.coco.json``,
    ``("valid", "val")``.
    """
    name = posixpath.basename(file)
    if found := _EDITION.search(name.split(".json")[0]):
        return _Home(found[1], _SPLITS[found[2]])
    folder = posixpath.basename(posixpath.dirname(posixpath.abspath(file)))
    return _Home(folder if _is_roboflow(file) else "", _SPLITS.get(folder, "train"))


def _is_roboflow(file: str) -> bool:
    """Return whether a file is one of those that Roboflow writes: in the folder of a split, beside
    its images.
    """
    folder = posixpath.basename(posixpath.dirname(posixpath.abspath(file)))
    return posixpath.basename(file) == _ROBOFLOW and folder in _SPLITS

"""COCO's own annotation files: captions become descriptions of images, boxes become phrases
grounded in them.

A record is one caption, or all boxes of one category in one image; an annotation that marks a
crowd, whose box has no area, or that cannot be joined with its image is a record of its own, which
ends as a reject. A record's number is the place of its first annotation among the file's
``annotations``. Annotations and images are joined through a temporary file about as large as the
source; memory holds some 150 bytes an annotation.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct, ValidationError

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._coco_boxes import box_fault, fractions_of_all, image_size, to_fractions
from mmdata.formats._coco_join import Joined, join_file
from mmdata.formats._flat import NotPlainError, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import JsonSource, conversation_id, json_type, mapping
from mmdata.formats.llava import fallback_paths
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Message, Region, Split, assistant, user
from mmdata.sources._run import Way
from mmdata.sources.record import Record
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = ["Coco"]

_EDITION: Final = re.compile(r"(?:^|[_.-])((train|val|test)(?:20\d\d)?)(?=[_.-]|$)")
_HEAD: Final = re.compile(r'\s*\{\s*"(?:info|images|annotations|categories|licenses)"\s*:')
_CAPTION_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "text"))
_BOX_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "region"))


class _Size(Struct, frozen=True, gc=False):
    """What of an image boxes need; the decoder steps over all other fields."""

    width: float
    height: float


_decode_text: Final = msgspec.json.Decoder(tuple[str]).decode
_decode_size: Final = msgspec.json.Decoder(_Size).decode


@registry.register("coco")
@dataclass(frozen=True)
class Coco(JsonSource):
    """COCO captions and instances files. ``dataset_name`` is what rows have in the column
    ``source``.

    ``caption_prompt`` asks for a caption, ``box_prompt`` for the boxes of ``{category}``. The split
    is read from the file's name, as in ``captions_val2017.json``.
    """

    summary: ClassVar[str] = (
        "COCO annotations: captions to descriptions, instances to grounded phrases"
    )
    shape: ClassVar[str] = (
        '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480}], "annotations": '
        '[{"id": 1, "image_id": 9, "caption": "A cup."}, {"id": 2, "image_id": 9, "category_id": 47, '
        '"bbox": [10, 20, 30, 40]}], "categories": [{"id": 47, "name": "cup"}]}'
    )

    dataset_name: str = "coco"
    caption_prompt: str = "Describe the image in one sentence."
    box_prompt: str = "Find every {category} in the image."

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the file is one object of COCO's parts."""
        return sample.every("images", "annotations") or (
            not sample.records and _HEAD.match(sample.head) is not None
        )

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder of the files, or the one above if it is called annotations, as COCO's
        is.
        """
        root = super().media_root(sources)
        return root.parent if root.name == "annotations" else root

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield the records of the files, by their first annotation."""
        return chain.from_iterable(self.runs(sources))

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = ()
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records of the files in lists."""
        for file in self.files(sources):
            yield from join_file(file)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the captions, or the boxes, of records column by column, where all are sound and
        of one file.
        """
        try:
            require(len({record.file for record in records}) == 1)
            joined = [record.raw for record in records]
            require(all(type(one) is Joined and not one.is_alone for one in joined))
            if all(one.category is None for one in joined):
                return self._flatten_captions(joined, records)
            require(not any(one.category is None for one in joined))
            return self._flatten_boxes(joined, records)
        except (NotPlainError, RecursionError, ValidationError):
            return None

    def _flatten_captions(self, joined: Sequence[Joined], records: Sequence[Record]) -> FlatRows:
        captions = [_decode_text(one.caption)[0] for one in joined]
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
        file_names = [_decode_text(one.file_name)[0] for one in joined]
        require(all(file_names))
        return {
            "ids": [record.id or conversation_id(record) for record in records],
            "sources": [self.dataset_name] * count,
            "splits": [_split(records[0].file)] * count,
            "extras": [one.extra() for one in joined],
            "num_messages": [2] * count,
            "num_media": [1] * count,
            "roles": bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * count,
            "train": b"\0\1" * count,
            "num_parts": [2, 1] * count,
            "media_types": ["image"] * count,
            "media": {"path": (b"\1" * count, file_names)},
        }

    def conversation(self, record: Record) -> Conversation:
        """Return the caption of an image, or the boxes of a category in one."""
        value = mapping(record)
        image = _image(value)
        content = _caption(value) if "caption" in value["annotations"][0] else _boxes(value, image)
        category = value.get("category")
        name = str(category.get("name")) if isinstance(category, dict) else ""
        prompt = (
            self.caption_prompt
            if isinstance(content, str)
            else self.box_prompt.replace("{category}", name)
        )
        messages: tuple[Message, ...] = (user(Image(0), prompt), assistant(content))
        media = (Media("image", image["file_name"]),)
        return Conversation(
            conversation_id(record),
            messages,
            media,
            self.dataset_name,
            _split(record.file),
            _extra(value, image),
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path in the folder of its edition, as it is spelt, and where such an image is
        often kept.
        """
        if edition := _edition(origin.file):
            yield f"{edition[0]}/{path}"
            yield f"images/{edition[0]}/{path}"
        yield from JsonSource.candidates(self, path, origin)
        if not path.startswith("/"):
            yield from fallback_paths(path)


def _image(value: dict[str, Any]) -> dict[str, Any]:
    image, wanted = value.get("image"), value["annotations"][0].get("image_id")
    if not isinstance(image, dict):
        raise RecordError(f"the image with the id {wanted!r} is not among the file's images")
    if not isinstance(image.get("file_name"), str):
        raise RecordError(
            f"the 'file_name' of image {wanted!r} must be a string, found {json_type(image.get('file_name'))}"
        )
    if not image["file_name"]:
        raise RecordError(f"the 'file_name' of image {wanted!r} is empty", reason="missing_media")
    return image


def _extra(value: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record has no column of its own."""
    category = value.get("category")
    return {
        "image": {key: found for key, found in image.items() if key != "file_name"},
        **({"category": category} if category is not None else {}),
        "annotations": [
            {key: found for key, found in annotation.items() if key != "caption"}
            for annotation in value["annotations"]
        ],
    }


def _caption(value: dict[str, Any]) -> str:
    caption = value["annotations"][0]["caption"]
    if not isinstance(caption, str):
        raise RecordError(f"a caption must be a string, found {json_type(caption)}")
    if not caption.strip():
        raise RecordError("the caption is empty", reason="empty_turn")
    return caption


def _boxes(value: dict[str, Any], image: dict[str, Any]) -> Region:
    if fault := box_fault(value["annotations"][0]):
        raise RecordError(fault, reason="bad_box")
    category = value["category"]
    if (
        not isinstance(category, dict)
        or not isinstance(category.get("name"), str)
        or not category["name"]
    ):
        wanted = value["annotations"][0].get("category_id")
        raise RecordError(
            f"the category with the id {wanted!r} is not among the file's categories, or has no name"
        )
    width, height = image_size(image)
    return Region(
        category["name"],
        tuple(to_fractions(one["bbox"], width, height) for one in value["annotations"]),
    )


def _fractions(joined: Sequence[Joined]) -> list[list[list[float]]]:
    """Return for each record its boxes, as :func:`_boxes` does."""
    import numpy as np

    counts = [len(one.annotations) for one in joined]
    sizes = [(size.width, size.height) for size in (_decode_size(one.image) for one in joined)]
    boxes = np.frombuffer(b"".join([one.boxes for one in joined])).reshape(-1, 4)  # (boxes, 4)
    fractions = fractions_of_all(boxes, np.repeat(np.array(sizes), counts, axis=0))
    left = iter(fractions.tolist())
    return [list(islice(left, count)) for count in counts]


@lru_cache(maxsize=16)  # it is asked of every record, and of few files
def _edition(file: str) -> tuple[str, Split] | None:
    """Return the edition and the split that a file's name tells: of ``instances_val2017.json``,
    ``("val2017", "val")``.
    """
    found = _EDITION.search(posixpath.basename(file).split(".json")[0])
    return (found[1], found[2]) if found else None  # type: ignore[return-value]


def _split(file: str) -> Split:
    edition = _edition(file)
    return edition[1] if edition else "train"

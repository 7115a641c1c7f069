"""CogVLM-SFT-311K: a folder of images and a folder of labels beside it, joined by the names of
their files.

``images/00000001.jpg`` is what ``labels_en/00000001.json`` speaks of. Label folders are called
``labels``, ``labels_en`` and ``labels_zh``; a file holds one conversation or one caption.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError, UsageError
from mmdata.formats.toolkit import (
    Chat,
    Origin,
    Record,
    RecordSource,
    Sample,
    SourceFile,
    Turn,
    converse,
    json_type,
    mapping,
    read_turns,
    register,
    unmapped_fields,
)
from mmdata.schema import Conversation, Media
from mmdata.storage._path import common_folder

__all__ = ["CogVlmSft"]

_MAPPED_FIELDS: Final = frozenset({"id", "conversations", "captions"})
_LABELS: Final = frozenset({"labels", "labels_en", "labels_zh"})
_IMAGES: Final = "images"
_PACKED: Final = frozenset({".gz", ".zst"})
_SUFFIXES: Final = (".jpg", ".jpeg", ".png")


@register("cogvlm_sft")
@dataclass(frozen=True)
class CogVlmSft(RecordSource):
    """CogVLM-SFT-311K, or one of its folders, or a folder of labels in it.

    ``dataset_name`` is what rows have in the column ``source``. ``prompt`` asks for a caption,
    where labels hold one. An image has the name of its label's file and the suffix ``.jpg``,
    ``.jpeg`` or ``.png``, the first that is there; the media root is the folder that ``images`` is
    in, or the deepest that holds all of several.
    """

    refines: ClassVar[frozenset[str]] = frozenset({"sharegpt"})
    summary: ClassVar[str] = "CogVLM-SFT-311K: images/1.jpg and labels_en/1.json, joined by name"
    shape: ClassVar[str] = (
        'labels_en/00000001.json, beside images/00000001.jpg: {"conversations": [{"role": "user", '
        '"content": "What is it?"}, {"role": "assistant", "content": "A cup."}]}'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "a caption": (
            'labels_en/00000001.json: {"captions": [{"role": "caption", "content": "A cup on a '
            'table."}]}'
        ),
        "Chinese labels": (
            'labels_zh/00000001.json: {"conversations": [{"role": "user", "content": '
            '"这是什么？"}, {"role": "assistant", "content": "一只杯子。"}]}'
        ),
    }

    dataset_name: str = "cogvlm_sft"
    prompt: str = "Describe the image in detail."

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether all sources are folders of labels beside images, or hold such a pair."""
        labelled = all(map(_has_labels, sample.sources))
        return labelled and (sample.every("conversations") or sample.every("captions"))

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the deepest folder that holds the folders of labels."""
        return common_folder([file.parent for file in self.files(sources)])

    def source_files(self, sources: Sequence[Path]) -> list[SourceFile]:
        """Return the JSON files in folders of labels; files that are named are taken as they
        are.

        Raises:
            UsageError: there is none.
        """
        named = set(sources)
        labels = [
            file
            for file in super().source_files(sources)
            if file.path in named or file.path.absolute().parent.name in _LABELS
        ]
        if not labels:
            raise UsageError(
                f"no JSON file in a folder {', '.join(sorted(_LABELS))} in "
                f"{', '.join(map(str, sources))}"
            )
        return labels

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation about an image, or the question for its caption."""
        value = mapping(record)
        if value.get("conversations"):
            turns = read_turns(value["conversations"], "role", "content")
        elif value.get("captions"):
            turns = [Turn("user", self.prompt), _caption(value["captions"])]
        else:
            what = "'conversations' and 'captions' are absent or empty"
            raise RecordError(what, reason="no_conversation")

        name = PurePosixPath(record.file)
        if name.suffix in _PACKED:
            name = name.with_suffix("")
        chat = Chat(
            turns,
            images=[Media("image", f"{_IMAGES}/{name.stem}{_SUFFIXES[0]}")],
            extra=unmapped_fields(value, record, _MAPPED_FIELDS),
        )
        return converse(chat, record, self.dataset_name)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the image below the folder that its labels are in, then below the media root, under
        each suffix.
        """
        labelled = PurePosixPath(os.path.abspath(origin.file)).parent.parent  # noqa: PTH100
        stem, _ = posixpath.splitext(path)
        for folder in (f"{labelled.name}/", ""):
            yield from (folder + stem + suffix for suffix in _SUFFIXES)


def _has_labels(source: Path) -> bool:
    """Return whether a source is a folder of labels, or has one or two folders below it; beside
    images.
    """
    if not source.is_dir():
        return False
    if source.absolute().name in _LABELS:
        return (source.absolute().parent / _IMAGES).is_dir()
    near = [source, *filter(Path.is_dir, source.iterdir())]
    return any(
        (folder / _IMAGES).is_dir() and any((folder / name).is_dir() for name in _LABELS)
        for folder in near
    )


def _caption(captions: Any) -> Turn:
    """Return the turn of the one caption that ``captions`` holds."""
    if not isinstance(captions, list) or not all(isinstance(each, dict) for each in captions):
        raise RecordError(f"'captions' must be an array of objects, found {json_type(captions)}")
    if len(captions) != 1:
        raise RecordError(f"{len(captions)} captions of an image, where one is wanted")
    caption: dict[str, Any] = captions[0]
    if caption.get("role") != "caption":
        raise RecordError(
            f"the role of a caption must be 'caption', found {caption.get('role')!r}",
            reason="unknown_role",
        )
    others = {key: found for key, found in caption.items() if key not in {"role", "content"}}
    return Turn("assistant", caption.get("content"), extra=others)

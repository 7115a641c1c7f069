"""RWF-2000: surveillance clips in folders that say whether they show a fight.

Label and split come from the names of folders alone, in both namings in use: ``train/Fight`` (the
Kaggle mirror) and ``train/Train_NonFight`` (the authors' archive), whatever their case. The prompt
and the answers are those of MindFormers' ``rwf2000_process.py``. A clip is a file, or a folder of
pictures, one a frame in the order of their names, as scripts that extract frames leave them.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final, Literal

from mmdata._tools.options import PositiveFloat, check_fields
from mmdata._tools.paths import is_url, local_path
from mmdata.errors import UsageError
from mmdata.formats import registry
from mmdata.formats._format import Format, Origin, Sample
from mmdata.rejects import Reason, Reject
from mmdata.schema import CompactTimes, Conversation, Media, Split, Video, assistant, user
from mmdata.sources._walk import walk
from mmdata.sources.files import Sources
from mmdata.sources.record import Record

__all__ = ["Rwf2000"]

_PROMPTS: Final = {
    "zh": "判断视频中是否包含暴力内容，输出1为包含暴力内容，输出0为不包含暴力内容。",
    "en": "Decide whether the video contains violence. Output 1 if it does, and 0 if it does not.",
}
_CONTAINERS: Final = re.compile(
    r".*\.(3gp|asf|avi|divx|flv|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)",
    re.IGNORECASE | re.DOTALL,
)
_PICTURES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
_SPLITS: Final[dict[str, Split]] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test",
}  # fmt: skip
_LABELS: Final = {"fight": "Fight", "nonfight": "NonFight"}
_CLASS: Final = re.compile(r"(?:(train|val|test)[_ -])?(fight|non[_ -]?fight)", re.IGNORECASE)
_SYSTEM: Final = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
_CLIP: Final = re.compile(r"(.*)_([0-9]+)", re.DOTALL)


@registry.register("rwf2000")
@dataclass(frozen=True)
class Rwf2000(Format):
    """The RWF-2000 folder tree; a clip is a record.

    ``prompt`` overrides the question of ``language`` (zh, en); ``answers`` are those for a fight
    and for none; ``frame_rate`` is how many frames of a clip given as pictures are a second, by
    default that of the data set's clips (5 seconds of 30 frames each); ``dataset_name`` is what
    rows have in the column ``source``. Without ``require_split`` a clip whose folders name no
    split, or two, is of the split train.
    """

    harmless_fields: ClassVar[frozenset[str]] = frozenset({"label"})
    summary: ClassVar[str] = (
        "RWF-2000: clips in folders by split and class, to questions about violence"
    )
    shape: ClassVar[str] = (
        "RWF-2000/{train,val}/{Fight,NonFight}/<source video>_<clip number>.avi, "
        "or <source video>_<clip number>/<frame number>.jpg"
    )

    language: Literal["zh", "en"] = "zh"
    prompt: str = ""
    answers: tuple[str, str] = ("1", "0")
    require_split: bool = True
    frame_rate: PositiveFloat = 30.0
    dataset_name: str = "rwf2000"

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the sources are folders without JSON files, with a class folder below
        them.
        """
        if any(is_url(os.fspath(source)) for source in sample.sources):
            return False
        folders = (
            path
            for source in sample.sources
            for path in [source, *source.rglob("*")]
            if path.is_dir()
        )
        return not sample.head and any(_CLASS.fullmatch(folder.name) for folder in folders)

    def without_splits(self) -> Rwf2000:
        """Return the format for clips whose folders need not name a split."""
        return replace(self, require_split=False)

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the source folder, or the deepest folder that holds all of several.

        Raises:
            UsageError: one is behind a URL.
        """
        sources = [local_path(source, "source of rwf2000") for source in sources]
        return Path(os.path.commonpath([os.path.abspath(source) for source in sources]))  # noqa: PTH100

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return no file: the media are the whole source."""
        return []

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield a record for each clip of the folders, sorted by path; what is no clip of a known
        class is a reject.

        Files of an operating system, hidden files and files outside class folders that are no
        videos are passed over.

        Raises:
            UsageError: a source is no folder.
        """
        root = self.media_root(sources)
        above = _folders_above(root)
        clips: set[str] = set()

        paths: list[str] = []
        for source in sources:
            if not source.is_dir():
                raise UsageError(f"an RWF-2000 source is a folder, found {source}")
            paths += walk(os.path.abspath(source), skip=_is_of_a_system)  # noqa: PTH100

        meter = sources.meter if isinstance(sources, Sources) else None
        for place, path in enumerate(paths, 1):
            placed = [*above, *posixpath.relpath(path, root).split("/")]
            if not _is_frame(placed):
                item = _item(path, root, placed, self.require_split)
            elif (folder := posixpath.dirname(path)) not in clips:
                clips.add(folder)
                item = _item(folder, root, placed[:-1], self.require_split, is_folder=True)
            else:
                continue  # a further frame of a clip that has its record

            if item is not None:
                if meter is not None:
                    meter.tell(place / len(paths))
                yield item

    def conversation(self, record: Record) -> Conversation:
        """Return the question about one clip and the answer of its class."""
        path, is_folder = PurePosixPath(record.value["path"]), "given_as" in record.value
        stem = path.name if is_folder else path.stem
        clip = _CLIP.fullmatch(stem)
        extra = {
            "label": record.value["label"],
            "source_id": clip[1] if clip else stem,
            "clip_index": int(clip[2]) if clip else None,
            "name": path.name,
            **({"given_as": "pictures"} if is_folder else {}),
        }
        answer = self.answers[record.value["label"] != "Fight"]
        question = user(Video(0), self.prompt or _PROMPTS[self.language])
        clock = CompactTimes(step=1 / self.frame_rate) if is_folder else None
        media = (Media("video", str(path), clock=clock),)
        split = record.value["split"]

        return Conversation(
            str(record.id), (question, assistant(answer)), media, self.dataset_name, split, extra
        )

    def candidates(self, path: str, origin: Origin) -> Sequence[str]:
        """Return the path: it was found by walking."""
        return (path,)


def _is_of_a_system(entry: os.DirEntry[str]) -> bool:
    return entry.name in _SYSTEM


def _folders_above(root: Path) -> list[str]:
    """Return the names of folders that a clip below ``root`` is in besides: the root's own, and
    where that is a class folder the one above it, which may be a split's.

    Folders further up are the user's, and say nothing of the data.
    """
    is_class = _CLASS.fullmatch(root.name) is not None
    return [root.parent.name, root.name] if is_class else [root.name]


def _is_frame(placed: Sequence[str]) -> bool:
    """Return whether a file is a picture in a folder of its own below a class folder: a clip's."""
    *folders, clip, name = placed
    is_picture = PurePosixPath(name).suffix.lower() in _PICTURES and not name.startswith(".")
    return is_picture and _label(folders) is not None and _CLASS.fullmatch(clip) is None


def _item(
    path: str, root: Path, placed: Sequence[str], require_split: bool, *, is_folder: bool = False
) -> Record | Reject | None:
    """Return the record or the reject that a file is, or a folder of frames; None for a file that
    is not of the data.

    ``placed`` are the folders that it is in, below the root and as far above as these may say split
    and class, and its name.
    """
    relative = posixpath.relpath(path, root)
    *folders, name = placed
    is_clip = is_folder or _CONTAINERS.fullmatch(name) is not None
    label, split = _label(folders), _split(folders)
    if not is_clip and (label is None or name.startswith(".")):
        return None
    if not _is_text(path):
        printable = os.fsencode(path).decode(errors="backslashreplace")
        return Reject(
            0, printable, None, Reason.BAD_ENCODING, "the file's name is not UTF-8; rename it"
        )
    if not is_clip or name.startswith("."):
        detail = f"{name!r} is {'a hidden file' if is_clip else 'no video'}"
        return Reject(0, path, relative, Reason.UNSUPPORTED_MEDIA, detail)
    if label is None:
        detail = f"none of the folders {'/'.join(folders)!r} is Fight or NonFight"
        return Reject(0, path, relative, Reason.MALFORMED, detail)
    if split is None and require_split:
        detail = (
            f"the folders {'/'.join(folders)!r} name no split or two: train, val or test; "
            "--split names that of every clip"
        )
        return Reject(0, path, relative, Reason.MALFORMED, detail)

    value = {"path": relative, "label": label, "split": split or "train"}
    if is_folder:
        value["given_as"] = "pictures"

    return Record(value, path, 0, relative)


def _label(folders: Sequence[str]) -> str | None:
    """Return the class that the innermost class folder says."""
    for folder in reversed(folders):
        if found := _CLASS.fullmatch(folder):
            return _LABELS[re.sub(r"[_ -]", "", found[2]).lower()]
    return None


def _split(folders: Sequence[str]) -> Split | None:
    """Return the split that the innermost split folder and the prefix of the class folder say; None
    if they differ.
    """
    named = [_SPLITS[folder.lower()] for folder in folders if folder.lower() in _SPLITS][-1:]
    prefixed = [
        _SPLITS[found[1].lower()]
        for folder in folders
        if (found := _CLASS.fullmatch(folder)) and found[1]
    ][-1:]
    said = {*named, *prefixed}
    return said.pop() if len(said) == 1 else None


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True

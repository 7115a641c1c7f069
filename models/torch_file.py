"""Torch's zip checkpoints without torch, and without running what is in them.

Only the names, shapes and places of tensors are taken from the pickle; every class and function
that it asks for, but the few that describe tensors, is replaced by one that does nothing.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import NUMPY_TYPES, StoredTensor

STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}


def open_torch_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file that `torch.save` wrote, by name;
    those under `module` where there is such a key.

    Raises:
        ValueError: if it is not torch's zip format (torch 1.6 and later), or a tensor is a view
            with gaps.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: not a zip file; save it again with torch 1.6 or later, or as safetensors"
        )
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        places = {info.filename: _data_offset(path, info) for info in archive.infolist()}
        with archive.open(pickled) as file:
            content = _Reader(file, path, places, pickled.removesuffix("data.pkl") + "data/").load()
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds no tensors by name; save the model's state_dict")
    return dict(_tensors(content.get("module", content)))


def _tensors(content: Mapping[str, Any]) -> Iterator[tuple[str, StoredTensor]]:
    return ((name, value) for name, value in content.items() if isinstance(value, StoredTensor))


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin:
    after its local header, whose extra field only that header knows.
    """
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{path}: {info.filename} is compressed, which torch.save never does")
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = map(int, struct.unpack("<HH", file.read(4)))
    return info.header_offset + 30 + name + extra


class _Nothing:
    """Stands for any class or function of the pickle: takes everything, does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, path: Path, places: Mapping[str, int], folder: str) -> None:
        super().__init__(file)
        self.path, self.places, self.folder = path, places, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        return STORAGES[name] if module == "torch" and name in STORAGES else _Nothing

    def persistent_load(self, pid: tuple[str, str, str, str, int]) -> tuple[str, int]:
        _, dtype, key, _, _ = pid
        return dtype, self.places[self.folder + key]

    def tensor(
        self,
        storage: tuple[str, int],
        start: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: object,
    ) -> StoredTensor:
        dtype, offset = storage
        size = np.dtype(NUMPY_TYPES[dtype]).itemsize
        dense = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        if any(
            own != full
            for own, full, length in zip(strides, dense, shape, strict=True)
            if length > 1
        ):
            raise ValueError(
                f"{self.path}: a tensor of shape {shape} lies there with strides {strides}; "
                "save it whole"
            )
        return StoredTensor(self.path, dtype, tuple(shape), offset + start * size)

"""MindSpore's `.ckpt` files: what it writes is read, and what is written it reads."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from models import mindspore_file
from models.checkpoint import (
    FLOATS,
    NUMPY_TYPES,
    convert_dtype,
    open_checkpoint,
    write_checkpoint,
)

pytestmark = pytest.mark.mindspore


def drawn() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "llm_model.wte": rng.normal(size=(300, 7)).astype(np.float32),
        "half": rng.normal(size=(5,)).astype(np.float16),
        "one": np.float32(2.5).reshape(()),
        "whole": np.arange(6).reshape(1, 2, 3),
        "short": np.arange(4, dtype=np.int32),
        "mask": np.array([True, False]),
        "空": rng.normal(size=(2, 2)),
    }


def save_by_mindspore(path: Path, arrays: dict[str, NDArray[Any]], **options: Any) -> None:
    listed = [{"name": name, "data": Tensor(array)} for name, array in arrays.items()]
    ms.save_checkpoint(listed, str(path), **options)


@pytest.mark.parametrize("checked", [False, True])
def test_what_mindspore_has_saved_is_read(checked: bool, tmp_path: Path) -> None:
    arrays = drawn()
    save_by_mindspore(
        tmp_path / "a.ckpt", arrays, crc_check=checked, append_dict={"epoch_num": 3, "why": "x"}
    )

    found = open_checkpoint(tmp_path / "a.ckpt")

    assert found.keys() == {*arrays, "epoch_num"}
    assert int(found["epoch_num"].read()) == 3
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)
        assert found[name].read().dtype == array.dtype


@pytest.mark.parametrize("checked", [False, True])
def test_a_tensor_that_mindspore_has_cut_is_one_again(
    checked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mindspore.train.serialization.SLICE_SIZE", 1)  # kilobytes, not 512 MB
    arrays = drawn()
    save_by_mindspore(tmp_path / "a.ckpt", arrays, crc_check=checked)

    found = open_checkpoint(tmp_path / "a.ckpt")

    assert isinstance(found["llm_model.wte"], mindspore_file.SlicedTensor)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)


@pytest.mark.parametrize("size", [2**29, 1000])
def test_what_is_written_mindspore_reads(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mindspore_file, "SLICE_BYTES", size)
    arrays = drawn()
    codes = {
        name: next(code for code, kind in NUMPY_TYPES.items() if np.dtype(kind) == array.dtype)
        for name, array in arrays.items()
    }
    write_checkpoint(
        tmp_path / "a.ckpt", list(arrays), ((codes[name], arrays[name]) for name in arrays)
    )

    found, ours = ms.load_checkpoint(str(tmp_path / "a.ckpt")), open_checkpoint(tmp_path / "a.ckpt")

    assert found.keys() == ours.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].asnumpy(), array)
        np.testing.assert_array_equal(ours[name].read(), array)
    assert not list(tmp_path.glob("*.part"))


def test_bfloat16_travels_as_its_bits(tmp_path: Path) -> None:
    wide = np.array([[1.0, -3.140625], [0.00001, 3e38]], np.float32)
    bits = convert_dtype(wide, "F32", "BF16")
    ms.save_checkpoint(
        [{"name": "w", "data": Tensor(wide).astype(ms.bfloat16)}], str(tmp_path / "a.ckpt")
    )
    write_checkpoint(tmp_path / "b.ckpt", ["w"], [("BF16", bits)])

    for name in ("a.ckpt", "b.ckpt"):
        found = open_checkpoint(tmp_path / name)["w"]
        assert found.dtype == FLOATS["bfloat16"]
        np.testing.assert_array_equal(found.read(), bits)
    read = ms.load_checkpoint(str(tmp_path / "b.ckpt"))["w"]
    assert read.dtype == ms.bfloat16
    np.testing.assert_array_equal(
        convert_dtype(read.astype(ms.float32).asnumpy(), "F32", "BF16"), bits
    )


def test_a_file_cut_anywhere_is_refused_by_name_or_is_a_whole_part_of_it(tmp_path: Path) -> None:
    save_by_mindspore(tmp_path / "a.ckpt", {"a": np.ones(300), "b": np.zeros(2, np.int32)})
    content = (tmp_path / "a.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"

    refused = 0
    for size in range(1, len(content), 7):
        cut.write_bytes(content[:size])
        try:
            found = open_checkpoint(cut)
        except ValueError as error:
            assert "cut.ckpt" in str(error)
            refused += 1
        else:
            assert list(found) == ["a"] and found["a"].read().sum() == 300

    assert refused >= len(content) // 7 - 1


@pytest.mark.parametrize("content", [b"nothing", b"\x00" * 64, b"\x0a\xff\xff\xff\xff\x0f"])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)

    with pytest.raises(ValueError, match=r"a\.ckpt: not a \.ckpt file of MindSpore"):
        open_checkpoint(tmp_path / "a.ckpt")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    save_by_mindspore(tmp_path / "a.ckpt", drawn(), enc_key=b"0123456789abcdef")

    with pytest.raises(ValueError, match="encrypted"):
        open_checkpoint(tmp_path / "a.ckpt")


def test_metadata_have_no_room(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.ckpt: a \.ckpt file has no room for lora"):
        write_checkpoint(tmp_path / "a.ckpt", [], [], {"lora": "{}"})


def test_a_file_is_not_read_into_memory_to_find_its_tensors(tmp_path: Path) -> None:
    arrays = {f"w{n}": np.full(2**20, n, np.float32) for n in range(8)}  # 4 MB each

    tracemalloc.start()
    write_checkpoint(tmp_path / "a.ckpt", list(arrays), (("F32", one) for one in arrays.values()))
    found = open_checkpoint(tmp_path / "a.ckpt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2**20
    assert float(found["w7"].read()[-1]) == 7

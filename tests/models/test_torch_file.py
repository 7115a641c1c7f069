"""Torch's own checkpoints, read without torch and without running them."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint import open_checkpoint, write_checkpoint

pytestmark = pytest.mark.mindspore


def test_tensors_of_every_type_are_found_in_place(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {
        "half": torch.randn(3, 4).half(),
        "full": torch.nn.Parameter(torch.randn(5)),
        "brain": torch.randn(2, 2).bfloat16(),
        "row": torch.arange(12).reshape(3, 4)[1],
        "scalar": torch.tensor(2.5),
    }
    torch.save(
        {"module": tensors, "args": Namespace(lr=1.0), "iteration": 3}, tmp_path / "states.pt"
    )

    found = open_checkpoint(tmp_path / "states.pt")

    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous()
        raw = raw.view(torch.int16).numpy().view(np.uint16) if name == "brain" else raw.numpy()
        np.testing.assert_array_equal(found[name].read(), raw)


def test_a_transposed_view_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.randn(3, 4).T}, tmp_path / "states.pt")

    with pytest.raises(ValueError, match="strides"):
        open_checkpoint(tmp_path / "states.pt")


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("states.pt", "w") as archive:
        archive.writestr("states/data.pkl", pickle.dumps({"module": {"x": Attack()}}))

    assert open_checkpoint(tmp_path / "states.pt") == {}
    assert not (tmp_path / "pwned").exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"x": 1}))

    with zipfile.ZipFile(tmp_path / "list.pt", "w") as archive:
        archive.writestr("list/data.pkl", pickle.dumps([1, 2]))

    with pytest.raises(ValueError, match="not a zip file"):
        open_checkpoint(tmp_path / "old.pt")
    with pytest.raises(ValueError, match="no tensors by name"):
        open_checkpoint(tmp_path / "list.pt")


def sharded(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A folder as `save_pretrained` made it before safetensors, with what else lies in it."""
    torch = pytest.importorskip("torch")
    arrays = {f"h.{n}.weight": np.full((2, 3), n, np.float16) for n in range(5)}
    listed: dict[str, str] = {}
    for shard, names in enumerate((list(arrays)[:3], list(arrays)[3:]), 1):
        file = f"pytorch_model-{shard:05}-of-00002.bin"
        torch.save({name: torch.tensor(arrays[name]) for name in names}, folder / file)
        listed |= dict.fromkeys(names, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    torch.save({"lr": torch.tensor(1.0)}, folder / "training_args.bin")
    return arrays


def test_a_folder_of_shards_is_one_checkpoint(tmp_path: Path) -> None:
    arrays = sharded(tmp_path)

    found = open_checkpoint(tmp_path)

    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()

    with pytest.raises(ValueError, match=r"h\.3\.weight should be in pytorch_model-00002"):
        open_checkpoint(tmp_path)


def test_safetensors_go_before_torch_files_of_the_same_folder(tmp_path: Path) -> None:
    sharded(tmp_path)
    one = np.ones(2, np.float32)
    write_checkpoint(tmp_path / "model.safetensors", ["w"], [("F32", one)])

    assert list(open_checkpoint(tmp_path)) == ["w"]

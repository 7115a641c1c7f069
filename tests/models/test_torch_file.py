"""Torch's own checkpoints, read without torch and without running them."""

from __future__ import annotations

import os
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from models.checkpoint import open_checkpoint

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

"""The tools themselves read what is exported for them, and find the same turns and media.

Each is skipped where the tool is not installed; ``tests/skips.py`` says so.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures

import mmdata
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Region,
    assistant,
    replace,
    system,
    user,
)
from mmdata.store import Store
from tests.stores import write

pytestmark = pytest.mark.filterwarnings("default")  # other people's code


def picture(folder: Path, name: str, colour: str) -> None:
    """Draw a picture of one colour."""
    Pictures.new("RGB", (8, 6), colour).save(folder / name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two rows about pictures and one of words, a pair, and a judged answer."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(folder, "red.png", "red")
    picture(folder, "blue.png", "blue")
    red, blue = Media("image", "red.png"), Media("image", "blue.png")
    asked = user(Image(0), "Which colour?")
    rows = [
        Conversation("1", (asked, assistant("Red.")), (red,)),
        Conversation(
            "2",
            (
                user(Image(0), "and", Image(1), "?"),
                assistant("Two."),
                user("So?"),
                assistant("So."),
            ),
            (red, blue),
        ),
        Conversation("3", (system("Be brief."), user("Hi"), assistant("Hello"))),
    ]
    return write(tmp_path / "store", rows, media_root=str(folder))


def pair_of(store: Store) -> Conversation:
    """A row with a worse answer."""
    return replace(store[0], id="4", rejected=(assistant("Green."),))


def test_datasets_reads_turns_and_pictures(store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    mmdata.export(store, "datasets", tmp_path / "out")

    rows = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c")
    )

    assert rows["id"][:] == ["1", "2", "3"]
    assert [turn["role"] for turn in rows[2]["messages"]] == ["system", "user", "assistant"]
    assert [part["type"] for part in rows[1]["messages"][0]["content"]] == [
        "image", "text", "image", "text"
    ]  # fmt: skip
    assert [each.getpixel((0, 0)) for each in rows[1]["images"]] == [(255, 0, 0), (0, 0, 255)]


def test_datasets_reads_pictures_by_their_paths(store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    mmdata.export(store, "datasets", tmp_path / "out", media="reference", paths="absolute")

    rows = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c")
    )

    assert rows[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)


def test_webdataset_reads_records_and_pictures(store: Store, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    mmdata.export(store, "webdataset", tmp_path / "out")

    tar = str(tmp_path / "out" / "train-000000.tar")
    samples = list(webdataset.WebDataset(tar, shardshuffle=False))

    records = [json.loads(sample["json"]) for sample in samples]
    assert [record["id"] for record in records] == ["1", "2", "3"]
    assert records[0]["messages"][0]["content"] == "<image>Which colour?"
    named = [samples[1][name] for name in records[1]["images"]]
    colours = [Pictures.open(io.BytesIO(data)).getpixel((0, 0)) for data in named]
    assert colours == [(255, 0, 0), (0, 0, 255)]


def test_trl_knows_the_data_for_what_they_are(store: Store, tmp_path: Path) -> None:
    is_conversational = pytest.importorskip("trl.data_utils").is_conversational
    from datasets import Image as ImageFeature
    from datasets import List, load_dataset

    judged = replace(store[0], id="5", desirable=True)
    whole = write(
        tmp_path / "whole", [*store, pair_of(store), judged], media_root=str(tmp_path / "pictures")
    )
    mmdata.export(whole, "trl", tmp_path / "out", paths="absolute")

    def read(name: str) -> Any:
        file = str(tmp_path / "out" / name)
        rows = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "c"))
        return rows.cast_column("images", List(ImageFeature()))

    plain, pairs, answers = map(read, ("train.jsonl", "train_pairs.jsonl", "train_judged.jsonl"))
    assert is_conversational(plain[0])
    assert is_conversational(pairs[0])
    assert is_conversational(answers[0])
    assert {"prompt", "chosen", "rejected"} <= set(pairs.column_names)
    assert {"prompt", "completion", "label"} <= set(answers.column_names)
    assert pairs[0]["rejected"][0]["content"][0]["text"] == "Green."
    assert [each.getpixel((0, 0)) for each in plain[1]["images"]] == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize("style", ["sharegpt", "openai"])
def test_llamafactory_reads_what_dataset_info_says(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    loader = pytest.importorskip("llamafactory.data.loader")
    parser = pytest.importorskip("llamafactory.data.parser")
    hparams = pytest.importorskip("llamafactory.hparams")
    transformers = pytest.importorskip("transformers")

    whole = write(
        tmp_path / "whole", [*store, pair_of(store)], media_root=str(tmp_path / "pictures")
    )
    out = tmp_path / "out"
    mmdata.export(whole, "llamafactory", out, media="copy", options={"style": style})

    model = hparams.ModelArguments(model_name_or_path="none", cache_dir=str(tmp_path / "cache"))
    settings = transformers.Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "trained"), use_cpu=True
    )
    data = hparams.DataArguments(dataset_dir=str(out), media_dir=str(out))

    def read(name: str) -> Any:
        (attributes,) = parser.get_dataset_list([name], str(out))
        return loader._load_single_dataset(attributes, model, data, settings)

    rows, pairs = read("mmdata_train"), read("mmdata_train_pairs")
    assert [each["content"] for each in rows[0]["_prompt"]] == ["<image>Which colour?"]
    assert rows[0]["_response"][0]["content"] == "Red."
    assert rows[2]["_system"] == "Be brief."
    assert [Pictures.open(path).getpixel((0, 0)) for path in rows[1]["_images"]] == [
        (255, 0, 0), (0, 0, 255)
    ]  # fmt: skip
    assert [each["content"] for each in pairs[0]["_response"]] == ["Red.", "Green."]


def test_swift_reads_messages_boxes_and_the_worse_answer(store: Store, tmp_path: Path) -> None:
    load_dataset = pytest.importorskip("swift.dataset").load_dataset

    box = Region("the cup", ((0.0, 0.0, 0.5, 0.5),))
    boxed = replace(
        store[0], id="5", messages=(user(Image(0), "Where is ", box, "?"), assistant("There."))
    )
    whole = write(
        tmp_path / "whole", [*store, pair_of(store), boxed], media_root=str(tmp_path / "pictures")
    )
    mmdata.export(whole, "swift", tmp_path / "out", paths="absolute")

    def read(name: str) -> Any:
        rows, _ = load_dataset(str(tmp_path / "out" / name), load_from_cache_file=False)
        return rows

    rows, pairs = read("train.jsonl"), read("train_pairs.jsonl")
    assert rows[0]["messages"] == [
        {"role": "user", "content": "<image>Which colour?"},
        {"role": "assistant", "content": "Red."},
    ]
    paths = [image["path"] for image in rows[1]["images"]]
    assert [Path(path).name for path in paths] == ["red.png", "blue.png"]
    assert rows[3]["objects"]["ref"] == ["the cup"]
    assert rows[3]["objects"]["bbox"] == [[0.0, 0.0, 0.5, 0.5]]
    worse = pairs[0].get("rejected_messages") or pairs[0]["rejected_response"]
    assert "Green." in str(worse)

"""Annotation files that say the same in the shapes of all formats
of records with turns, and COCO's, all generated.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

__all__ = ["COCO", "TURNS", "write_array", "write_captions", "write_instances", "write_turns"]

Rounds: TypeAlias = list[tuple[str, str]]
"""The questions and answers of one conversation."""

WORDS: Final = (
    "the a person image shows standing near table with several objects including cup bottle chair "
    "background there also large window light coming through seems cozy living room where people "
    "gather spend time together enjoying city street car traffic bus red blue two men woman child "
    "playing ball field green grass sky cloud dog cat on of in and is are to visible scene "
    "suggests appears while another located left right side front behind various positions"
).split()
CAPTIONS_AN_IMAGE: Final = 5
WIDTH, HEIGHT = 640, 480


def conversations(count: int) -> Iterator[tuple[int, Rounds]]:
    """Yield numbers and one to four rounds each, as long as LLaVA-Instruct's."""
    chance = random.Random(0)

    def words(fewest: int, most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(fewest, most)))

    for number in range(count):
        rounds = chance.choice([1, 1, 2, 3, 4])
        yield number, [(words(6, 20), words(20, 105)) for _ in range(rounds)]


def image(number: int) -> str:
    """Return the path of the picture that a conversation is about."""
    return f"coco/train2017/{number:012d}.jpg"


def turns(
    rounds: Rounds, keys: tuple[str, str], roles: tuple[str, str], mark: str
) -> list[dict[str, Any]]:
    """Return the rounds as a list of turns, with a mark before the first question."""
    said = [
        {keys[0]: role, keys[1]: text}
        for pair in rounds
        for role, text in zip(roles, pair, strict=True)
    ]
    said[0][keys[1]] = mark + said[0][keys[1]]
    return said


def llava(number: int, rounds: Rounds) -> dict[str, Any]:
    said = turns(rounds, ("from", "value"), ("human", "gpt"), "<image>\n")
    return {"id": f"{number:012d}", "image": image(number), "conversations": said}


def video178k(number: int, rounds: Rounds) -> dict[str, Any]:
    said = turns(rounds, ("from", "value"), ("human", "gpt"), "<image>\n")
    video = f"academic_source/clips/{number:012d}.mp4"
    return {
        "id": f"{number:012d}",
        "data_source": "0_30_s_academic_v0_1",
        "video": video,
        "conversations": said,
    }


def videochatgpt(number: int, rounds: Rounds) -> dict[str, Any]:
    (question, _), answer = rounds[0], all_but_the_first_question(rounds)
    return {"video_name": f"v_{number:012d}", "question": question, "answer": answer}


def fewshot(number: int, rounds: Rounds) -> dict[str, Any]:
    return {
        "img": image(number),
        "prompt": rounds[0][0],
        "label": all_but_the_first_question(rounds),
    }


def all_but_the_first_question(rounds: Rounds) -> str:
    """Return one long answer, for formats of one question,
    so that their files are as large as the others.
    """
    return " ".join(text for pair in rounds for text in pair).removeprefix(rounds[0][0]).lstrip()


def messages(number: int, rounds: Rounds) -> dict[str, Any]:
    said = turns(rounds, ("role", "content"), ("user", "assistant"), "<image>\n")
    return {"messages": said, "images": [image(number)]}


def swift(number: int, rounds: Rounds) -> dict[str, Any]:
    (query, response), history = rounds[-1], [list(pair) for pair in rounds[:-1]]
    return {
        "query": f"<image>{query}",
        "response": response,
        "history": history,
        "images": [image(number)],
    }


def sharegpt(number: int, rounds: Rounds) -> dict[str, Any]:
    return {
        "conversations": turns(rounds, ("from", "value"), ("human", "gpt"), "<image>\n"),
        "images": [image(number)],
    }


def qwen_vl(number: int, rounds: Rounds) -> dict[str, Any]:
    mark = f"Picture 1: <img>{image(number)}</img>\n"
    return {
        "id": f"{number:012d}",
        "conversations": turns(rounds, ("from", "value"), ("user", "assistant"), mark),
    }


def openai_parts(number: int, rounds: Rounds) -> dict[str, Any]:
    said = turns(rounds, ("role", "content"), ("user", "assistant"), "")
    for message in said:
        message["content"] = [{"type": "text", "text": message["content"]}]
    said[0]["content"].insert(0, {"type": "image_url", "image_url": {"url": image(number)}})
    return {"messages": said}


TURNS: Final[dict[str, tuple[str, Callable[[int, Rounds], dict[str, Any]]]]] = {
    "llava": ("llava", llava),
    "video178k": ("video178k", video178k),
    "videochatgpt": ("videochatgpt", videochatgpt),
    "fewshot": ("fewshot", fewshot),
    "messages": ("messages", messages),
    "swift": ("swift", swift),
    "sharegpt": ("sharegpt", sharegpt),
    "qwen_vl": ("qwen_vl", qwen_vl),
    "OpenAI parts": ("messages", openai_parts),
}
"""The name of the format that reads a shape, and a record of that shape."""


def write_turns(path: Path, shape: str, count: int) -> None:
    """Write so many records of a shape, one for each conversation."""
    _, record = TURNS[shape]
    write_array(path, (record(number, rounds) for number, rounds in conversations(count)))


def write_array(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write a JSON array, a record a line."""
    with path.open("w") as file:
        for number, record in enumerate(records):
            file.write(("[\n" if number == 0 else ",\n") + json.dumps(record))
        file.write("\n]\n")


def write_captions(path: Path, count: int) -> None:
    """Write so many captions, five for each image."""
    chance = random.Random(0)
    images = max(count // CAPTIONS_AN_IMAGE, 1)
    captions = [
        {
            "image_id": number % images,
            "id": number,
            "caption": " ".join(chance.choices(WORDS, k=11)),
        }
        for number in range(count)
    ]
    path.write_text(
        json.dumps({"info": {}, "licenses": [], "images": listed(images), "annotations": captions})
    )


def write_instances(path: Path, count: int) -> None:
    """Write so many objects with boxes and outlines, seven for each image."""
    chance = random.Random(0)
    images = max(count // 7, 1)
    objects = []
    for number in range(count):
        x, y = chance.uniform(0, WIDTH - 100), chance.uniform(0, HEIGHT - 100)
        box = [x, y, chance.uniform(1, 99), chance.uniform(1, 99)]
        objects.append(
            {
                "segmentation": [[round(chance.uniform(0, HEIGHT), 2) for _ in range(40)]],
                "area": chance.uniform(10, 1000),
                "iscrowd": 0,
                "image_id": number % images,
                "bbox": [round(side, 2) for side in box],
                "category_id": chance.randrange(80),
                "id": number,
            }
        )
    categories = [
        {"supercategory": "thing", "id": number, "name": f"thing {number}"} for number in range(80)
    ]
    content = {
        "info": {},
        "images": listed(images),
        "annotations": objects,
        "categories": categories,
    }
    path.write_text(json.dumps(content))


def listed(count: int) -> list[dict[str, Any]]:
    """Return COCO's entries of so many images."""
    return [
        {
            "license": 1,
            "file_name": f"{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
            "id": number,
        }
        for number in range(count)
    ]


COCO: Final[dict[str, tuple[str, float, Callable[[Path, int], None]]]] = {
    "COCO captions": ("captions_train2017.json", 5, write_captions),
    "COCO instances": ("instances_train2017.json", 1.68, write_instances),
}
"""The name of a file, its annotations for each record of the other formats, and what writes it."""

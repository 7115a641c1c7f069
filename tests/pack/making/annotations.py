"""Annotation files in every source shape, in our words, and by hand what each record says.

A row is its turns and its media; in a turn a text is a string and a medium its number, ``{"image":
0}``. A record that says what we do not read (sound) has a reason instead.
"""

from __future__ import annotations

from typing import Any

from tests.pack.making.writing import FIXTURES, WORDS, write_json, write_lines

_FOLDER = FIXTURES / "annotations"


def make() -> None:
    """Write the annotation files, ``expected.json`` and the few-shot records."""
    expected: dict[str, Any] = {}
    for name, (format_name, content, rows) in _SOURCES.items():
        (write_lines if name.endswith("jsonl") else write_json)(_FOLDER / name, content)
        expected[name] = {"format": format_name, "records": rows}
    write_json(_FOLDER / "expected.json", expected)
    write_json(FIXTURES / "fewshot-data" / "fewshot-data" / "dataset.json", _FEW_SHOT)


_FEW_SHOT = [
    {"img": "fewshot-data/desk.jpg", "prompt": "What is on the desk?", "label": WORDS[0]},
    {"img": "fewshot-data/window.jpg", "prompt": "窗台上有什么？", "label": WORDS[6]},
    {
        "img": "fewshot-data/lost.jpg",
        "prompt": "What is lost?",
        "label": "This picture: it is not there.",
    },
    {"img": "fewshot-data/boats.png", "prompt": WORDS[3], "label": "It says OPEN. "},
]


def _row(
    *turns: Any, media: tuple[str, ...] = (), kind: str = "image", system: str | None = None
) -> dict[str, Any]:
    said = [
        [("user", "assistant")[number % 2], turn if isinstance(turn, list) else [turn]]
        for number, turn in enumerate(turns)
    ]
    lead = [["system", [system]]] if system else []
    return {"turns": lead + said, "media": [[kind, path] for path in media]}


def _llava(*texts: str, **more: Any) -> dict[str, Any]:
    return more | {
        "conversations": [
            {"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)
        ]
    }


def _chat(*texts: Any, **more: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
        ]
    } | more


_BUCKET = "0_30_s_academic_v0_1"
_DOOR = f"{_BUCKET}/{_BUCKET}_cap_processed.json"
_SOURCES: dict[str, tuple[str, list[Any] | dict[str, Any], list[dict[str, Any]]]] = {
    "llava/desks.json": (
        "llava",
        [
            _llava("<image>\nWhat is on the desk?", WORDS[0], id="desk", image="rooms/desk.jpg"),
            _llava(
                "Describe it.\n<image>",
                "A sign.",
                "What does it say?",
                "OPEN",
                id=7,
                image="sign.png",
            ),
            _llava(
                "<image> or <image>: which is nearer?",
                "The left.",
                id="two",
                image=["a.png", "b.png"],
            ),
            _llava(WORDS[6], WORDS[7], id="text", model=""),
        ],
        [
            _row([{"image": 0}, "What is on the desk?"], WORDS[0], media=("rooms/desk.jpg",)),
            _row(
                ["Describe it.", {"image": 0}],
                "A sign.",
                "What does it say?",
                "OPEN",
                media=("sign.png",),
            ),
            _row(
                [{"image": 0}, "or ", {"image": 1}, ": which is nearer?"],
                "The left.",
                media=("a.png", "b.png"),
            ),
            _row(WORDS[6], WORDS[7]),
        ],
    ),
    "qwen_vl/grounded.json": (
        "qwen_vl",
        [
            {
                "id": "lamp",
                "conversations": [
                    {"from": "user", "value": "Picture 1: <img>desk.jpg</img>\nFind the lamp."},
                    {
                        "from": "assistant",
                        "value": "Here: <ref>the lamp</ref><box>(125,250),(500,750)</box>",
                    },
                ],
            }
        ],
        [
            _row(
                [{"image": 0}, "Find the lamp."],
                ["Here: ", {"region": "the lamp", "boxes": [[0.125, 0.25, 0.5, 0.75]], "image": 0}],
                media=("desk.jpg",),
            )
        ],
    ),
    "coco/captions_val2017.json": (
        "coco",
        {
            "images": [{"id": 4, "file_name": "000000000004.jpg", "width": 64, "height": 32}],
            "annotations": [{"id": 11, "image_id": 4, "caption": "Two boats by a pier."}],
        },
        [
            _row(
                [{"image": 0}, "Describe the image in one sentence."],
                "Two boats by a pier.",
                media=("val2017/000000000004.jpg",),
            )
        ],
    ),
    "coco/instances_val2017.json": (
        "coco",
        {
            "images": [{"id": 4, "file_name": "000000000004.jpg", "width": 64, "height": 32}],
            "annotations": [
                {"id": 12, "image_id": 4, "category_id": 9, "bbox": [16, 8, 32, 16], "iscrowd": 0}
            ],
            "categories": [{"id": 9, "name": "boat"}],
        },
        [
            _row(
                [{"image": 0}, "Find every boat in the image."],
                [{"region": "boat", "boxes": [[0.25, 0.25, 0.75, 0.75]], "image": 0}],
                media=("val2017/000000000004.jpg",),
            )
        ],
    ),
    f"video178k/{_DOOR}": (
        "video178k",
        [
            _llava(
                "<image>\nWhat does he do?",
                WORDS[7],
                id="door",
                data_source=_BUCKET,
                video="academic_source/ours/door.mp4",
            )
        ],
        [
            _row(
                [{"video": 0}, "What does he do?"],
                WORDS[7],
                media=("academic_source/ours/door.mp4",),
                kind="video",
            )
        ],
    ),
    "videochatgpt/generic.json": (
        "videochatgpt",
        [
            {
                "video_name": "door",
                "question": "What does he open?",
                "question_1": None,
                "answer": "The door.",
            },
            {
                "video_name": "ball",
                "question": "None",
                "question_1": "Who catches it?",
                "question_2": "Who gets the ball?",
                "answer": "His sister.",
            },
        ],
        [
            _row(
                [{"video": 0}, "What does he open?"],
                "The door.",
                media=("Test_Videos/door.mp4",),
                kind="video",
            ),
            _row(
                [{"video": 0}, "Who catches it?"],
                "His sister.",
                media=("Test_Videos/ball.mp4",),
                kind="video",
            ),
            _row(
                [{"video": 0}, "Who gets the ball?"],
                "His sister.",
                media=("Test_Videos/ball.mp4",),
                kind="video",
            ),
        ],
    ),
    "llama_factory/mllm_pictures.json": (
        "sharegpt",
        [
            _chat(
                "<image>What is it?",
                "A lamp.",
                "And <image>",
                "A chair.",
                images=["lamp.png", "chair.png"],
            ),
            _chat("Which is nearer?<image>", "The left one.", images=["boats.png"]),
        ],
        [
            _row(
                [{"image": 0}, "What is it?"],
                "A lamp.",
                ["And", {"image": 1}],
                "A chair.",
                media=("lamp.png", "chair.png"),
            ),
            _row(["Which is nearer?", {"image": 0}], "The left one.", media=("boats.png",)),
        ],
    ),
    "llama_factory/mllm_clips.json": (
        "sharegpt",
        [_chat("<video>What does he open?", "The door.", videos=["door.mp4"])],
        [
            _row(
                [{"video": 0}, "What does he open?"], "The door.", media=("door.mp4",), kind="video"
            )
        ],
    ),
    "llama_factory/mllm_sound.json": (
        "sharegpt",
        [_chat("<video><audio>What is heard?", "Rain.", videos=["rain.mp4"], audios=["rain.wav"])],
        [{"reason": "unsupported_media"}],
    ),
    "llama_factory/v1_multimodal_parts.jsonl": (
        "messages",
        [
            _chat(
                [
                    {"type": "image_url", "value": "sign.png"},
                    {"type": "text", "value": "What does it say?"},
                ],
                [{"type": "text", "value": "OPEN"}],
            )
        ],
        [_row([{"image": 0}, "What does it say?"], "OPEN", media=("sign.png",))],
    ),
    "data_juicer/ours-chatml.jsonl": (
        "messages",
        [
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    *_chat("还有几把椅子？", "四把。")["messages"],
                ]
            },
        ],
        [_row("还有几把椅子？", "四把。", system="Be brief.")],
    ),
    "ms_swift/swift_history.jsonl": (
        "swift",
        [
            {"query": "And the stool?", "response": "One.", "history": [[WORDS[1], "4"]]},
            {
                "query": "What does he open?",
                "response": "The door.",
                "videos": ["door.mp4"],
                "system": "Be brief.",
            },
        ],
        [
            _row(WORDS[1], "4", "And the stool?", "One."),
            _row(
                [{"video": 0}, "What does he open?"],
                "The door.",
                media=("door.mp4",),
                kind="video",
                system="Be brief.",
            ),
        ],
    ),
    "ms_swift/multi_modal_ours.jsonl": (
        "swift",
        [{"query": "<img>desk.jpg</img>What is on it?", "response": "A lamp."}],
        [_row([{"image": 0}, "What is on it?"], "A lamp.", media=("desk.jpg",))],
    ),
    "ms_swift/sharegpt.jsonl": (
        "swift",
        [{"system": "Be brief.", "conversation": [{"human": "Hello.", "assistant": "Hi."}]}],
        [_row("Hello.", "Hi.", system="Be brief.")],
    ),
    "ms_swift/conversations.jsonl": (
        "swift",
        [
            {
                "conversations": [
                    {"from": "user", "value": "Hello."},
                    {"from": "assistant", "value": "Hi."},
                ]
            }
        ],
        [_row("Hello.", "Hi.")],
    ),
    "ms_swift/chatml_swift.jsonl": ("swift", [_chat("Hello.", "Hi.")], [_row("Hello.", "Hi.")]),
}

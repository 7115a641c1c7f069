"""Questions as they are read, and answers as a later run finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.schema import Conversation, Image, Text, Video, assistant, user
from recipes.answer_file import AnswerFile, Share
from recipes.questions import Question, question_of, read_questions, row_questions

pytestmark = pytest.mark.mindspore


def asked(*names: str) -> list[Question]:
    return [Question(number, name) for number, name in enumerate(names)]


def line(number: int, name: str) -> str:
    return json.dumps({"position": number, "id": name, "answer": f"of {name}"}) + "\n"


def test_a_chat_is_asked_what_its_last_user_says() -> None:
    chat = [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "He."}]
    record: dict[str, Any] = {"id": 7, "images": ["/a.png"], "messages": chat}

    answered = question_of(record)
    going_on = question_of({**record, "messages": [*chat, {"role": "user", "content": "Why?"}]})
    first = question_of({"messages": [{"role": "user", "content": "Who?"}]})

    assert answered.id == "7" and answered.reference == "He."
    assert answered.conversation is not None and going_on.conversation is not None
    assert answered.conversation.messages[0].content == (Image(0), Text("Who?"))
    assert answered.conversation.media[0].path == "/a.png"
    assert [one.role for one in going_on.conversation.messages] == ["user", "assistant", "user"]
    assert going_on.reference is None and first.reference is None
    assert first.conversation is not None
    assert [one.text for one in first.conversation.messages] == ["Who?"]


def test_a_record_may_list_its_pictures_and_clips() -> None:
    record = {"question": "Which?", "images": ["a.png", "b.png"], "video": "c.mp4"}

    found = question_of({**record, "answer": "This."})

    assert found.conversation is not None and found.reference == "This."
    assert [one.path for one in found.conversation.media] == ["a.png", "b.png", "c.mp4"]
    assert found.conversation.messages[0].content == (Image(0), Image(1), Video(2), Text("Which?"))


def test_a_line_that_is_no_question_costs_itself(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    lines = [
        '{"prompt": "a"}',
        "",
        "{",
        "[1]",
        '{"answer": "b"}',
        '{"messages": "c"}',
        '{"messages": [{"role": "nobody", "content": "d"}]}',
        '{"prompt": "e", "history": [1]}',
        '{"prompt": "f"}',
    ]
    file.write_text("\n".join(lines))

    found = read_questions(file)

    assert [one.number for one in found] == list(range(8))
    assert [one.number for one in found if one.fault is None] == [0, 7]
    assert all("no question: " in str(one.fault) for one in found[1:7])


def test_a_record_without_an_id_is_called_by_what_it_says() -> None:
    one, same, other = (question_of({"prompt": prompt}) for prompt in ("a", "a", "b"))

    assert one.id == same.id != other.id


def test_a_row_has_its_last_answer_beside_it() -> None:
    class Rows(list[Conversation]):
        fingerprint = ""

        def located(self, index: int) -> Conversation:
            return self[index]

    rows = [
        Conversation("a", (user("Who?"), assistant("He."))),
        Conversation("b", (user("Who?"), assistant("He."), user("Why?"))),
    ]

    found = row_questions(Rows(rows))

    assert [(one.number, one.id, one.reference) for one in found] == [
        (0, "a", "He."),
        (1, "b", None),
    ]


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    number=st.integers(0, 9),
)
def test_runs_that_are_ended_anywhere_in_any_layouts_answer_each_question_once_and_in_order(
    counts: list[int], cuts: list[int], number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("answers") / "a.jsonl"
    questions = asked(*(f"q{n}" for n in range(number)))
    answered: list[int] = []

    for count, cut in zip([*counts, 1], [*cuts[: len(counts)], None], strict=True):
        for index in range(count):
            file = AnswerFile(path, Share(index, count))
            text = "".join(line(one.number, one.id) for one in file.open_questions(questions))
            with file.append() as lines:
                lines.write(text[:cut])
            answered += [json.loads(one)["position"] for one in text[:cut].split("\n")[:-1]]
            file.join(questions)

    assert sorted(answered) == list(range(number))
    assert path.read_text() == "".join(line(one.number, one.id) for one in questions)
    assert list(path.parent.iterdir()) == [path]
    assert AnswerFile(path).count_faults() == 0


@pytest.mark.parametrize("there", ['{"position": 0, "id": "b"}', '{"position": 9, "id": "a"}', "x"])
def test_answers_to_other_questions_are_neither_taken_nor_lost(there: str, tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "a.jsonl")
    file.path.write_text(f"{there}\n")

    with pytest.raises(ConfigError, match=r"a\.jsonl does not hold answers to these questions"):
        file.open_questions(asked("a", "b"))

    assert file.path.read_text() == f"{there}\n"

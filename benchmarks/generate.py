"""Greedy decoding by tiny language models, beside `transformers` on torch in the same run.

    python -m benchmarks.generate [--tokens 64] [--peer-python PYTHON] [--json]

A model of 2 layers of 64 and one of 4 layers of 256 answer a prompt of 32 tokens with room for 128
and for 2,048 in the cache, and one of 1,900 tokens, in graph mode on the CPU; the first answer, in
which all is compiled, does not count. `transformers` answers the same prompts by `generate` with a
Llama of the same sizes; its cache has no room of its own. What is compared is processor time, on
one core: on several, the threads of torch spend most of it on waiting for one another.
`--peer-python` is the interpreter that has torch and transformers, by default this one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import PYTHON, define_operators_of_torchvision, options, print_row

VOCABULARY = 384
HEADS = 4


@dataclass(frozen=True)
class Task:
    """A model of so many layers of a hidden size, a prompt, and the room of the cache."""

    layers: int
    hidden: int
    prompt: int
    room: int


TASKS = {
    f"{layers}x{hidden}, {prompt} tokens read, room for {room}": Task(layers, hidden, prompt, room)
    for layers, hidden in ((2, 64), (4, 256))
    for prompt, room in ((32, 128), (32, 2048), (1900, 2048))
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--repeats", type=int, default=5, help="answers that are measured in a run")
    parser.add_argument("--peer-python", default=PYTHON, help="that has torch and transformers")
    parser.add_argument("--only", default="", help="tasks whose name has this")
    parser.add_argument("--child", nargs=2, metavar=("WHO", "TASK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        who, name = arguments.child
        answer = {"ours": ours, "peer": peer}[who](TASKS[name], arguments.tokens)
        print(json.dumps(measure(answer, arguments.tokens, arguments.repeats)))
        return

    for name in TASKS:
        if arguments.only in name:
            compare(name, arguments)


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print the row of one task."""
    pythons = {"ours": PYTHON, "peer": arguments.peer_python}
    taken: dict[str, list[float]] = {who: [] for who in pythons}
    for _ in range(arguments.runs):
        for who, python in pythons.items():
            line = ["taskset", "-c", "0", python, "-m", "benchmarks.generate", "--child", who, name]
            line += ["--tokens", str(arguments.tokens), "--repeats", str(arguments.repeats)]
            found = subprocess.run(line, capture_output=True, text=True, check=False)
            if found.returncode:
                raise RuntimeError(f"{who} failed:\n{found.stderr[-2000:]}")
            taken[who].append(json.loads(found.stdout.splitlines()[-1])["processor"])

    figures = {who: 1000 * statistics.median(each) for who, each in taken.items()}
    print_row(
        f"{name}, a token",
        figures["ours"],
        {"transformers": figures["peer"]},
        "ms of processor",
        ["mindspore"],
        more_is_better=False,
        as_json=arguments.json,
    )


def measure(answer: Callable[[], Any], tokens: int, repeats: int) -> dict[str, float]:
    """Median seconds of a token, of the processor and by the clock, after a first answer."""
    answer()
    processor, wall = [], []
    for _ in range(repeats):
        began = time.process_time(), time.perf_counter()
        answer()
        processor.append((time.process_time() - began[0]) / tokens)
        wall.append((time.perf_counter() - began[1]) / tokens)
    return {"processor": statistics.median(processor), "wall": statistics.median(wall)}


def ours(task: Task, tokens: int) -> Callable[[], Any]:
    """What answers with a model of ours."""
    from dataclasses import replace

    import mindspore as ms
    import numpy as np

    from models import llava_next_video
    from models.generate import Generator, Prompt

    ms.set_context(mode=ms.GRAPH_MODE)
    tiny = llava_next_video.PRESETS["tiny"]
    language = replace(
        tiny.language,
        vocabulary=VOCABULARY,
        layers=task.layers,
        hidden=task.hidden,
        heads=HEADS,
        num_kv_heads=HEADS,
        head_size=task.hidden // HEADS,
        mlp=2 * task.hidden,
    )
    model = llava_next_video.MODEL(replace(tiny, language=language))
    generator = Generator(model, 1, task.room)
    positions = np.arange(task.prompt, dtype=np.int32)[None]
    prompt = Prompt(positions % VOCABULARY, np.array([task.prompt]), positions)
    return lambda: generator.generate(prompt, tokens)


def peer(task: Task, tokens: int) -> Callable[[], Any]:
    """What answers with a Llama of `transformers`."""
    import torch

    library = define_operators_of_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=task.hidden,
        num_hidden_layers=task.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        intermediate_size=2 * task.hidden,
        max_position_embeddings=task.room,
    )
    model = LlamaForCausalLM(config).eval()
    ids = (torch.arange(task.prompt) % VOCABULARY)[None]

    def answer() -> Any:
        kept = library  # the operators go when it goes
        with torch.no_grad():
            said = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )
        return kept, said

    return answer


if __name__ == "__main__":
    main()

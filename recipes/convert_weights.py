"""Convert published weights to ours, or ours back, one tensor at a time.

    python -m recipes.convert_weights FAMILY published/ model.safetensors
    python -m recipes.convert_weights FAMILY encoder/ vision.safetensors --part vision
    python -m recipes.convert_weights FAMILY tuned.safetensors hf/model.safetensors --to hf
    python -m recipes.convert_weights FAMILY base.ckpt model.safetensors --from mindformers
    python -m recipes.convert_weights FAMILY model.safetensors lora.ckpt --to mindformers --sft lora

A source is a file (.safetensors, .pt, .bin, .ckpt) or a folder of .safetensors or
pytorch_model*.bin shards; a target is a .safetensors or, for MindSpore, a .ckpt file.
A checkpoint of ours fits a model with LoRA as it is: the pairs lie beside weights that keep their
names. Exit code 1: the source is at fault; or the file is written, but without some parameters,
which are listed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mindspore.nn.utils import no_init_parameters

from models import FAMILIES, family_module
from models.names import Weight, mindformers_name, wrap_for_lora
from models.weights import Account, export_weights, import_weights, parameter_shapes


def arguments(line: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("family", choices=FAMILIES)
    add("source", type=Path, help="a file, or a folder of shards")
    add("target", type=Path, help="the .safetensors or .ckpt file to write")
    add(
        "--from",
        dest="origin",
        choices=("hf", "mindformers"),
        default="hf",
        help="whose names the source has",
    )
    add(
        "--to",
        choices=("mmdata", "hf", "mindformers"),
        default="mmdata",
        help="whose names the target gets",
    )
    add(
        "--part",
        default="full",
        help="full, vision or language; or another file that MindFormers keeps the family in (a "
        "name that is none lists them)",
    )
    add(
        "--size",
        help="a preset's name; default: config.json beside the source, else the published size",
    )
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="cast; default: as stored")
    add(
        "--sft",
        choices=("full", "lora"),
        default="full",
        help="lora: with `--to mindformers`, the names that its models with LoRA have",
    )
    add(
        "--pad-vocabulary",
        action="store_true",
        help="give tokens unknown to the source the mean of the others",
    )
    add(
        "--layout",
        default="published",
        help="how the other side lays out its tensors, for families with more than one layout; "
        "default: as published",
    )
    options = parser.parse_args(line)
    module = family_module(options.family)
    presets, layouts = module.PRESETS, module.LAYOUTS
    if options.size and options.size not in presets:
        parser.error(
            f"{options.family} has no size {options.size!r}; there are {', '.join(presets)}"
        )

    if options.part not in parts_of(module):
        parser.error(
            f"{options.family} has no part {options.part!r}; there are "
            f"{', '.join(parts_of(module))}"
        )

    if options.layout not in layouts:
        parser.error(
            f"{options.family} has no layout {options.layout!r}; there are {', '.join(layouts)}"
        )

    if "mindformers" in (options.origin, options.to) and not hasattr(module, "mindformers_map"):
        parser.error(f"MindFormers has no {options.family}: its names are Hugging Face's alone")

    if options.layout != "published" and "mindformers" in (options.origin, options.to):
        parser.error("--layout is of the published names; MindFormers' have one layout")

    if options.sft == "lora" and options.to != "mindformers":
        parser.error("--sft lora is of the names that MindFormers reads: give --to mindformers")

    return options


# Which function of a family's file reads the `config.json` of a part.
PART_READERS = {"vision": "vision_from_hf", "language": "language_from_hf"}


def parts_of(module: ModuleType) -> dict[str, tuple[str, ...]]:
    """What a file may hold of a family's model, by the beginnings of our names."""
    parts: dict[str, tuple[str, ...]] = {"full": ("",)}
    parts |= {part: (part,) for part in PART_READERS}
    return {**parts, **module.FILES} if hasattr(module, "FILES") else parts


def model_config(module: ModuleType, options: argparse.Namespace) -> Any:
    """The preset that was named, or what `config.json`
    beside the weights says, or the published size.
    """
    if options.size:
        return module.PRESETS[options.size]
    published = next(config for name, config in module.PRESETS.items() if name != "tiny")
    folder = options.source if options.source.is_dir() else options.source.parent
    if not hasattr(module, "from_hf") or not (folder / "config.json").exists():
        return published
    told = json.loads((folder / "config.json").read_text())
    try:
        if options.part == "full":
            return module.from_hf(told)
        read_part = getattr(module, PART_READERS[options.part])
        return replace(published, **{options.part: read_part(told)})
    except KeyError as error:
        raise ValueError(
            f"{folder / 'config.json'}: no {error} in it, so it is no config of the "
            f"{options.part} model of {options.family}; give --size"
        ) from error


def names(module: ModuleType, config: Any, options: argparse.Namespace) -> list[Weight]:
    """The map between our names and those of the other side,
    cut down to the part that was asked for.
    """
    other = options.origin if options.to == "mmdata" else options.to
    if other == "mindformers":
        weights = module.mindformers_map(config)
    else:
        weights = module.LAYOUTS[options.layout](config)
    if options.sft == "lora":
        weights = wrap_for_lora(weights)
    beginnings = parts_of(module)[options.part]
    return [weight for weight in weights if weight.name.startswith(beginnings)]


def convert(options: argparse.Namespace) -> Account:
    """Write the target; the account says what became of every tensor."""
    module = family_module(options.family)
    config = model_config(module, options)
    weights = names(module, config, options)
    options.target.parent.mkdir(parents=True, exist_ok=True)
    if options.to != "mmdata":
        return export_weights(options.source, options.target, weights, dtype=options.dtype)

    def hf_name(name: str) -> str:
        found: str = module.canonical_name(name, options.part)
        return found

    with no_init_parameters():
        shapes = parameter_shapes(module.MODEL(config))
    wanted = {weight.name for weight in weights}
    return import_weights(
        options.source,
        options.target,
        weights,
        {name: shape for name, shape in shapes.items() if name in wanted},
        canonical_name=mindformers_name if options.origin == "mindformers" else hf_name,
        dtype=options.dtype,
        pad_vocabulary=options.pad_vocabulary,
        metadata=generation_facts(options),
    )


def generation_facts(options: argparse.Namespace) -> dict[str, str]:
    """What `generation_config.json` and `tokenizer_config.json` beside the source say, to stand in
    the target's head: the defaults of `recipes.predict`.
    """
    folder = options.source if options.source.is_dir() else options.source.parent
    if options.target.suffix == ".ckpt":
        return {}
    files = {name: folder / f"{name}.json" for name in ("generation_config", "tokenizer_config")}
    return {
        name: json.dumps(json.loads(file.read_text(encoding="utf-8")))
        for name, file in files.items()
        if file.exists()
    }


def main(line: list[str] | None = None) -> int:
    """Convert and say what was done; the exit code."""
    try:
        account = convert(arguments(line))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(account.written)} tensors written")
    for title, listed in (("unused", account.unused), ("not filled", account.unfilled)):
        if listed:
            print(f"{len(listed)} {title}:", *listed, sep="\n  ")
    return 1 if account.unfilled else 0


if __name__ == "__main__":
    sys.exit(main())

"""Add a LoRA adapter to the weights it was trained on; the result is a plain checkpoint.

python -m recipes.merge_lora base.safetensors lora.safetensors merged.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.weights import merge_lora_file


def main(line: list[str] | None = None) -> None:
    """Merge, and say how many layers changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="weights in our names (convert_weights.py)")
    parser.add_argument("adapter", type=Path, help="the adapter that finetune.py wrote")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    options = parser.parse_args(line)
    changed = merge_lora_file(options.base, options.adapter, options.target)
    print(f"{len(changed)} layers changed, from {changed[0]} to {changed[-1]}")


if __name__ == "__main__":
    main()

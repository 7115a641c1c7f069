"""Add a LoRA adapter to the weights it was trained on; the result is a plain checkpoint.

python recipes/merge_lora.py base.safetensors lora.safetensors merged.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a clone, not an installation

from models.weights import merge_lora_file


def main(line: list[str] | None = None) -> None:
    """Merge, and say how many layers changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="weights in our names (convert_weights.py)")
    parser.add_argument("adapter", type=Path, help="the adapter that finetune.py wrote")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    options = parser.parse_args(line)
    changed = merge_lora_file(options.base, options.adapter, options.target)
    print(f"{len(changed)} layers changed, from {changed[0]} to {changed[-1]}")


if __name__ == "__main__":
    main()

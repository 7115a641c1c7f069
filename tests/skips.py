"""Which tests may be skipped where CI runs, and why;
any other skip fails the run (`tests/conftest.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

__all__ = ["ALLOWED", "AllowedSkip", "is_allowed"]


@dataclass(frozen=True)
class AllowedSkip:
    """Skips of the tests that ``tests`` matches, for what ``reason`` matches;
    ``because`` is for people.
    """

    tests: str
    reason: str
    because: str


ALLOWED: Final = (
    AllowedSkip(
        "tests/*",
        "*MMDATA_* is not set: no reference data here",
        "the reference data are not ours to publish; "
        "where a folder is named, nothing is skipped for want of it",
    ),
    AllowedSkip(
        "tests/*",
        "* has no *",
        "a folder may lack any file (tests/reference.py); "
        "what our own pack lacks is checked over others",
    ),
    AllowedSkip(
        "tests/image/test_bicubic.py::test_it_is_what_pillow_13_does",
        "*Pillow before 13*",
        "the matrix runs older ones, which the test beside it holds to the same pixels",
    ),
    AllowedSkip(
        "tests/video/test_plan.py::test_a_clip_is_sampled_as_the_file_cut_there*",
        "*does not write how long the last frame of a cut lasts*",
        "of the FFmpegs in the matrix the older ones do not; the newer make the comparison",
    ),
    AllowedSkip(
        "tests/tokenizers/test_huggingface.py::TestWithThePackage*",
        "*the package tokenizers is not installed*",
        "only vocabularies in Hugging Face's form need it; what can be told without it is",
    ),
    AllowedSkip(
        "tests/engine/test_ray.py*",
        "*could not import 'ray'*",
        "the matrix leaves Ray out; where it is installed, as in `make test`, it is started",
    ),
    *(
        AllowedSkip(
            test,
            "*could not import 'torch'*",
            "the matrix leaves torch out, hundreds of megabytes a cell; where it is installed, "
            "as in `make test`, its pixels and its data sets are compared",
        )
        for test in (
            "tests/image/test_torchlike.py*",
            "tests/pipeline/test_memory.py*",
            "tests/pipeline/test_patches.py*",
        )
    ),
    AllowedSkip(
        "tests/exporters/test_peers.py*",
        "*could not import*",
        "the trainers that read our exports are hundreds of packages, and pin theirs; where one is "
        "installed, its own loader reads what is exported for it",
    ),
    AllowedSkip(
        "tests/pipeline/test_failures.py::test_a_full_shared_memory_changes_nothing",
        "*mounts of one's own are not allowed here*",
        "containers may forbid it, and nothing but a small /dev/shm shows the fault",
    ),
)


def is_allowed(test: str, reason: str) -> bool:
    """Whether the skip of a test, or of a file of them, is listed."""
    return any(
        fnmatchcase(test, each.tests) and fnmatchcase(reason, each.reason) for each in ALLOWED
    )

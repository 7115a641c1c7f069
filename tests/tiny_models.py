"""MindSpore, set up for models so small that what happens around an operator costs the most."""

from __future__ import annotations

from functools import cache

import mindspore as ms
from mindspore.device_context.cpu import op_tuning


@cache  # the number of threads can be set only once
def set_up() -> None:
    """Run each operator at once, in one thread."""
    # Errors where they happen; also twice as fast for models this small.
    ms.runtime.launch_blocking()
    # Of 25 threads, which is the default, those without work spin, and take the cores from the
    # process that does the other half of the work: a fifth of all processor time went there.
    op_tuning.threads_num(1)

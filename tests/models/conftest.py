"""MindSpore, imported once and quietly:
its own modules warn while they load (deprecated calls), ours may not.
"""

from __future__ import annotations

import importlib.util
import warnings

collect_ignore_glob: list[str] = []

if importlib.util.find_spec("mindspore") is None:
    collect_ignore_glob.append("test_*.py")
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests import tiny_models

    tiny_models.set_up()

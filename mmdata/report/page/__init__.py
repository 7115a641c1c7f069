"""A store on one page: what a model will read of it, for a person to look at before training.

:func:`mmdata.report.preview` writes a file of HTML that needs no server and no network.
"""

from __future__ import annotations

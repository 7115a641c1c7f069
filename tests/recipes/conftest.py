"""The recipes' tests need MindSpore as those of the models do."""

from tests.models.conftest import collect_ignore_glob

__all__ = ["collect_ignore_glob"]

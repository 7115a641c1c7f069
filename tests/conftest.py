"""What every test may ask for, and what holds for all:
no skip in CI that is not listed, Ctrl-C where it is sent.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.reference import Reference, references
from tests.skips import is_allowed

settings.register_profile("mmdata", deadline=None, print_blob=True)
settings.load_profile("mmdata")


def pytest_configure(config: pytest.Config) -> None:
    """Fail for unlisted skips where CI runs; let programs that tests start be interrupted and keep
    what they compile.

    A shell lets what it runs in the background (``make test &``) ignore Ctrl-C, and so would all
    that is started there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hundreds of processes are started, and each would compile all that it imports. Who asks that
    # no bytecode be written wants none beside the sources: it is kept where pytest keeps its cache.
    # So is what pytest makes of the tests themselves, in this process too.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        sys.pycache_prefix = str(config.rootpath / ".pytest_cache" / "bytecode")
        sys.dont_write_bytecode = False
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    if os.environ.get("CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(UnlistedSkips())


class UnlistedSkips:
    """Fails a run in which a test, or a file of tests,
    is skipped that :mod:`tests.skips` does not list.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = (
                report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            )
            if not is_allowed(report.nodeid, reason):
                self._found[report.nodeid] = reason

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._found and session.exitstatus in {
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        }:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section("skipped, and not listed in tests/skips.py", red=True)
            for name, reason in sorted(self._found.items()):
                terminalreporter.line(f"{name}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that no process is left alone with one at the end;
    else keep the random order.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Let Python's cycle collector pass over what lives as long as the run: modules and tests.

    There are 650,000 such objects, and to walk them takes 0.4 seconds each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=references(), ids=lambda each: each.name)
def reference(request: pytest.FixtureRequest) -> Reference:
    """One set of reference data after the other: our pack, and what the environment names."""
    found: Reference = request.param
    return found


@pytest.fixture(scope="session")
def golden(reference: Reference) -> Path:
    """The folder with the inputs and outputs of the original implementations."""
    return reference.golden or pytest.skip("MMDATA_GOLDEN is not set: no reference data here")


@pytest.fixture(scope="session")
def fixtures(reference: Reference) -> Path:
    """The folder with clips, annotations and tokenizer files."""
    return reference.fixtures or pytest.skip("MMDATA_FIXTURES is not set: no reference data here")

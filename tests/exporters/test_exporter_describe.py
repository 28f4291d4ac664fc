"""`slo-exporter describe`: the table of signals and engines, for people, programs and the documentation."""

import json
from pathlib import Path

import pytest

from exporters.describe import engines as describe
from slo import catalog
from slo.engines import ENGINES

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "engines.md"


def described(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert describe.main(args) == 0
    return capsys.readouterr().out


def test_documentation_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/engines.md is what the tables give; write it anew with `slo-exporter describe --markdown`."""
    assert DOC.read_text() == described(capsys, "--markdown")


def test_readme_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """README.md has the short table that the catalogue gives; write it anew with `slo-exporter describe --summary`."""
    readme = (ROOT / "README.md").read_text()
    written = readme.partition("describe --summary`; do not edit. -->\n\n")[2].partition("\n<!-- end -->")[0]
    assert written == described(capsys, "--summary")
    assert "docs/engines.md" in readme
    assert max(map(len, written.splitlines())) <= 110


def test_every_signal_of_every_engine_has_a_name_or_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """No cell is empty, and what has names says where the edges lie."""
    engines = json.loads(described(capsys, "--json"))["engines"]
    assert engines.keys() == ENGINES.keys()
    cells = [signal for engine in engines.values() for signal in engine["signals"].values()]
    assert all(bool(cell.get("names")) != bool(cell.get("absent")) for cell in cells)
    assert {len(engine["signals"]) for engine in engines.values()} == {len(engines["vllm"]["signals"])}
    ttft = engines["sglang"]["signals"][catalog.TTFT.name]
    assert (ttft["names"][0]["name"], ttft["buckets"][0]) == ("sglang:time_to_first_token_seconds", 0.1)
    assert engines["llamacpp"]["signals"][catalog.TTFT.name] == {"absent": "no histograms"}


def test_text_is_one_line_per_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal: engine by engine, with the releases of each name."""
    lines = described(capsys).splitlines()
    assert any("vllm:gpu_cache_usage_perc (until 0.11)" in line for line in lines)
    assert any(line.split()[1:2] == ["-"] for line in lines)

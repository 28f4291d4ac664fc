"""docs/gpu.md and the table of GPU signals."""

from pathlib import Path

import pytest

from exporters.describe import engines as describe
from slo.gpus import GPU_SOURCES

DOC = Path(__file__).parents[2] / "docs" / "gpu.md"


def test_the_table_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/gpu.md has the table that the catalogue gives; write it anew with `slo-exporter describe --gpus`."""
    assert describe.main(["--gpus"]) == 0
    written = DOC.read_text().partition("do not edit. -->\n\n")[2].partition("\n<!-- end -->")[0]
    assert written == capsys.readouterr().out
    assert "docs/gpu.md" in (DOC.parents[1] / "README.md").read_text()


def test_the_table_names_every_family_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    """Each name of each source stands in the row of its family; a source without a name has a dash."""
    describe.main(["--gpus"])
    rows = {row.split("`")[1]: row for row in capsys.readouterr().out.splitlines() if "`llm_" in row}
    for place, names in enumerate(GPU_SOURCES.values()):
        for family, row in rows.items():
            cell = row.split(" | ")[place + 1].removesuffix(" |")
            told = [f"`{upstream}`" for upstream in names.get(family, ())]
            assert all(name in cell for name in told) if told else cell == "-"

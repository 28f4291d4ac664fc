"""`slo-load baseline` on a simulated engine that it starts as it would start vLLM, and the files that it writes."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen.baselining import files, random_model, table
from loadgen.cli import main
from loadgen.results.record import Fingerprint
from loadgen.traffic.prompts import WORDS
from slo.spec.model import load

ENGINE = f"{sys.executable} {Path(__file__).with_name('engine_command.py')}"
# As it can be written where the tests are run; the engine itself runs elsewhere.
FROM_HERE = f"{sys.executable} {os.path.relpath(Path(__file__).with_name('engine_command.py'))}"
SHORT = ["--rate", "20", "--duration", "5", "--prompt-tokens", "64", "--output-tokens", "8", "--gpu", "none"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a baseline of a tiny model with random weights, of which nothing else is left."""
    out = tmp_path_factory.mktemp("baselines")
    assert main(["baseline", "--model", "random:tiny", "--engine-command", FROM_HERE, *SHORT, "--out", str(out)]) == 0
    (summary,) = out.glob("*/*/summary.json")
    assert [path.name for path in out.iterdir()] == [summary.parent.parent.name]
    return summary.parent


def contents(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_the_folder_holds_what_a_baseline_is(made: Path) -> None:
    """Summary, baseline, reports, the spec it was judged by and the one it supports; no records unless asked for."""
    assert {path.name for path in made.iterdir()} == set(files.KEPT) - {"capacity.json"}
    assert load(made / "proposed.yaml").service == "tiny-random-weights"
    assert "<svg" in (made / "report.html").read_text()


def test_random_weights_are_said_everywhere(made: Path) -> None:
    """Folder, fingerprint, summary, report and proposed spec all say that no real model was measured."""
    assert made.relative_to(made.parents[1]).as_posix() == "simulated/tiny-random-weights"
    assert contents(made / "baseline.json")["fingerprint"]["model"] == "tiny-random-weights"
    assert contents(made / "summary.json")["random_weights"] is True
    assert files.NOISE in (made / "report.md").read_text()
    assert "tiny-random-weights" in (made / "proposed.yaml").read_text()


def test_the_report_tells_how_to_repeat_it(made: Path) -> None:
    """Every command that ran stands in the report, from the engine's on; the engine has ended with it."""
    engine, *ours = contents(made / "summary.json")["commands"]
    assert engine.startswith(ENGINE)
    assert [command.split()[0:2] for command in ours] == [
        ["slo-exporter", "--engine"], ["slo-load", "run"], ["slo-load", "run"], ["slo-load", "report"],
        ["slo-gen", "propose"],
    ]  # fmt: skip
    assert all(command in (made / "report.md").read_text() for command in [engine, *ours])
    port = int(engine.split("--port ")[1].split()[0])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_table_shows_what_there_is(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row per baseline that leads to its report, with the run's figures; a dash for what was not measured."""
    plot = tmp_path / "plot.svg"
    assert main(["baseline", "--table", "--out", str(made.parents[1]), "--plot", str(plot)]) == 0
    assert not plot.exists()  # nothing was searched, nothing to draw
    row = capsys.readouterr().out.splitlines()[2]
    assert f"({made.parents[1].name}/simulated/tiny-random-weights/report.md)" in row
    assert "| 64 -> 8 | - | 20 |" in row
    assert row.endswith("| - |")


def test_the_readme_says_which_baselines_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's table is what `slo-load baseline --table` prints of the repository's own baselines."""
    root = Path(__file__).parents[2]
    assert main(["baseline", "--table", "--out", str(root / "baselines")]) == 0
    written = (root / "README.md").read_text().partition("<!-- slo-load baseline --table -->\n")[2]
    assert written.partition("<!-- end -->")[0].strip() == capsys.readouterr().out.strip()


def test_curves_need_a_search() -> None:
    """The plot has a line per capacity search, in the order of the rates, and stands as a file alone."""
    drawn = table.svg([("a", [(1.0, 20.0), (2.0, 40.0)]), ("b", [(1.0, 30.0)])])
    assert all(f'class="line s{number}"' in drawn and f"path.s{number}{{" in drawn for number in (0, 1))
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--model", "random:tiny", "--engine-command", ENGINE, "--", "--fail"],
            "RuntimeError: Found no NVIDIA driver",
        ),
        (["--model", "x", "--engine-command", "/no/such/engine"], "/no/such/engine: cannot be started: No such file"),
        (["--engine", "http://127.0.0.1:9"], "http://127.0.0.1:9: cannot be reached"),
        ([], "give --model, or measure a running --engine"),
    ],
    ids=["engine ends", "no command", "no engine", "nothing"],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line says what went wrong, first causes before their consequences; exit code 2."""
    assert main(["baseline", "--out", str(tmp_path), *SHORT, *arguments]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("slo-load baseline: ")
    assert line in said


def test_an_unknown_shape_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse's line lists what there is."""
    with pytest.raises(SystemExit, match="2"):
        main(["baseline", "--model", "random:gpt-5"])
    assert "random:llama-3.1-8b, random:llama-3.2-1b, random:tiny" in capsys.readouterr().err


def test_a_gpu_that_was_asked_for_must_be_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With `--gpu dcgm` and no exporter the run ends before anything is measured: a GPU's baseline needs a GPU."""
    arguments = ["--model", "random:tiny", "--engine-command", ENGINE, *SHORT, "--out", str(tmp_path)]
    assert main(["baseline", *arguments, "--gpu", "dcgm", "--dcgm-url", "http://127.0.0.1:9/metrics"]) == 2
    assert "--gpu dcgm: the sidecar sees no GPU" in capfd.readouterr().err
    assert not list(tmp_path.glob("*/*/summary.json"))


@pytest.mark.parametrize("name", random_model.SHAPES)
def test_every_id_is_a_token(name: str) -> None:
    """The tokenizer has one entry for every id that the model can draw, and its merges make known entries only."""
    model = random_model.tokenizer(random_model.SHAPES[name]["vocab_size"])["model"]
    assert sorted(model["vocab"].values()) == list(range(random_model.config(name)["vocab_size"]))
    assert all({left, right, left + right} <= model["vocab"].keys() for left, right in model["merges"])
    assert all("Ġ" + word in model["vocab"] for word in WORDS)


@pytest.mark.parametrize(
    ("gpus", "simulated", "folder"),
    [
        (("NVIDIA H200",), False, "nvidia-h200"),
        (("NVIDIA H100 80GB HBM3",) * 8, False, "8x-nvidia-h100-80gb-hbm3"),
        (("Simulated GPU",), True, "simulated"),
        ((), False, "cpu"),
    ],
)
def test_folders_are_named_after_the_hardware(gpus: tuple[str, ...], simulated: bool, folder: str) -> None:
    """GPUs by name and number; what is simulated never looks like hardware."""
    assert files.hardware(Fingerprint(model="m", gpus=gpus, simulated=simulated)) == folder

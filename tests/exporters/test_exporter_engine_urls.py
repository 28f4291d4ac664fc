"""What a user may write behind --engine, --merge and --passthrough."""

import json

import pytest
from exporter_servers import Upstream

from exporters.cli import main
from exporters.engines.sources import EngineUrl, engine_url


@pytest.mark.parametrize(
    ("text", "url", "kind"),
    [
        ("http://h:8000", "http://h:8000/metrics", None),
        ("http://h:8000/?model=a", "http://h:8000/metrics?model=a", None),
        ("sglang=http://h:30000", "http://h:30000/metrics", "sglang"),
        ("trtllm=http://h:8000", "http://h:8000/prometheus/metrics", "trtllm"),
        ("trtllm=http://h:8000/other", "http://h:8000/other", "trtllm"),
        ("nim=http://h:8000", "http://h:8000/v1/metrics", "nim"),
        ("llamacpp=http://h:8080/metrics?model=a=b", "http://h:8080/metrics?model=a=b", "llamacpp"),
    ],
)
def test_an_engine_is_stated_in_front_of_its_url(text: str, url: str, kind: str | None) -> None:
    """The page is where that engine has it, unless the URL says otherwise; a plain URL states nothing."""
    assert engine_url(text) == EngineUrl(url, kind)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--engine", "vlm=http://h"], "'vlm' is no engine that can be read; those are vllm, sglang, tgi"),
        (["--engine", "sglang=h:30000"], "'h:30000' is no URL"),
        (["--engine", "sglang=http://h", "--engine", "http://h"], "http://h/metrics is given twice"),
        (["--engine", "http://h", "--merge", "http://h"], "http://h/metrics is given twice"),
        (["--engine", "http://h", "--merge", "h"], "'h' is no URL"),
        (["--engine", "http://h", "--passthrough", "vllm:("], "'vllm:(' is no regular expression"),
    ],
)
def test_mistakes_are_one_line(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What, where and what to do, and exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_check_says_which_engine_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """--check tells the kind and the model given, and `describe` is reached through the command."""
    with Upstream(b"# TYPE tgi_queue_size gauge\ntgi_queue_size 2\n") as engine:
        args = ["--check", "--engine", engine.url, "--gpu", "none", "--model-name", "mine"]
        assert main(args) == 0
        assert "tgi  1 families of mine" in capsys.readouterr().out
    assert main(["describe", "--json"]) == 0
    assert "tgi" in json.loads(capsys.readouterr().out)["engines"]

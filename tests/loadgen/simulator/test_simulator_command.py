"""`slo-load simulate` as a process: says where it listens, refuses in one line, stops when told."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def simulate(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, once it serves, and its URL."""
    command = [sys.executable, "-m", "loadgen.simulator", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            assert "simulated" in line
            yield process, re.findall(r"http://\S+", line)[0]
        finally:
            process.kill()


def refused(*options: str) -> str:
    """What a run that must not start says on stderr."""
    command = [sys.executable, "-m", "loadgen.simulator", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_serves_and_stops_with_open_streams() -> None:
    """SIGTERM in the middle of a long stream: exit 0 within two seconds and nothing on stderr."""
    with simulate("--model", "m") as (process, url):
        body = {"model": "m", "prompt": "a", "max_tokens": 9999, "ignore_eos": True, "stream": True}
        request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as response:
            assert response.readline().startswith(b"data: {")
            process.send_signal(signal.SIGTERM)
            assert process.wait(2) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_ctrl_c_is_no_error() -> None:
    """SIGINT stops it with exit 0."""
    with simulate() as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_a_port_in_use_is_one_clear_line() -> None:
    """It says which address, why, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused("--listen", address)
    assert said.count("\n") == 1
    assert f"cannot listen on {address}: Address already in use" in said
    assert "--listen" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "8000"], "'8000' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "is not HOST:PORT"),
        (["--otlp", "127.0.0.1:9400"], "is not a full URL"),
        (["--kv-blocks", "3"], "give at least 2048 blocks"),
        (["--max-num-seqs", "0"], "max_num_seqs is 0"),
    ],
)
def test_a_senseless_option_is_refused(options: list[str], said: str) -> None:
    """Exit 2 and a line that names the option's fault."""
    assert said in refused(*options)

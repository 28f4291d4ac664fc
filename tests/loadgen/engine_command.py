"""The simulator behind the command line of vLLM: what `slo-load baseline --engine-command` starts in tests.

    python engine_command.py --model FOLDER --served-model-name NAME --port PORT ...

It ends as an engine does that cannot read its model; with `--fail` it ends as one that finds no device.
"""

import argparse
import json
import os
import sys
from pathlib import Path

options = argparse.ArgumentParser()
for name in (
    "--model",
    "--served-model-name",
    "--host",
    "--port",
    "--otlp-traces-endpoint",
    "--load-format",
    "--dtype",
):
    options.add_argument(name)
options.add_argument("--fail", action="store_true")
args = options.parse_args()
if args.fail:
    print("loading\nRuntimeError: Found no NVIDIA driver on your system.\nTraceback: the rest of it")
    sys.exit(1)
json.loads((Path(args.model) / "config.json").read_text())
binary = str(Path(sys.executable).with_name("slo-load"))
os.execv(
    binary,
    [binary, "simulate", "--listen", f"{args.host}:{args.port}", "--model", args.served_model_name, "--otlp",
     args.otlp_traces_endpoint],
)  # fmt: skip

"""`python -m loadgen.simulator`: the same as `slo-load simulate`."""

import argparse
import sys

from loadgen.simulator.command import add_arguments, run

parser = argparse.ArgumentParser(prog="python -m loadgen.simulator", description="A simulated vLLM engine on one GPU.")
add_arguments(parser)
sys.exit(run(parser.parse_args()))

"""The commands of `slo-gen`, one module each: `NAME`, `HELP`, `add_arguments(parser)` and `run(args) -> exit code`."""

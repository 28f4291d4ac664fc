"""What records prove: the gate's verdict, the comparison with a baseline, and why neither may be trusted."""

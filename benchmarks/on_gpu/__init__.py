"""The parts of the benchmark of GPUs: networks, the process of each way to run one, and the page."""

"""The parts of the serving benchmark: models, servers, wires, load, processes and the table."""

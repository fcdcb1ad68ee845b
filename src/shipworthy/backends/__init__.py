"""The only place that imports model runtimes and frameworks; each file imports its own, where it is used."""

"""`python -m benchmarks service`: clew's service and its peers, over HTTP, on the same graph."""

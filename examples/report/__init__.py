"""A durable report: read a folder, summarise each document in parallel, check, ask, write. See README.md."""

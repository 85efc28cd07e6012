"""A chat service in a FastAPI application of one's own. See README.md."""

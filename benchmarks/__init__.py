"""clew and its peer on the same work, in one run."""

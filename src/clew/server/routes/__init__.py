"""The routes, one room for each kind of thing they name."""

"""The checks of savers, by what they are about."""

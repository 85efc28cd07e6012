"""Drawings of graphs and of threads' histories, without any other package."""

from clew.graph._drawing.model import DrawnEdge, DrawnGraph, DrawnNode

__all__ = ("DrawnEdge", "DrawnGraph", "DrawnNode")

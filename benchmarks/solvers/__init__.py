"""Solvers to compare with, each counting its gradient evaluations through a `Recorder`."""

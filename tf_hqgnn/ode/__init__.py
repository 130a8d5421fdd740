"""Ordinary differential equations on graphs: solvers and the time loop."""

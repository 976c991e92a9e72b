"""Solves by iteration, for matrices that have no direct method.

solver           conjugate gradients, minimal residuals or GMRES, with a preconditioner
known            facts about such a matrix: sources compressed, definiteness
stochastic       log-determinants by random vectors
krylov           the Krylov methods, for many right-hand sides at once
preconditioners  sparse inverses, tiles, loose factors, and the choice among them
"""

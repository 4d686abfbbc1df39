"""Adan's and SGD-SaI's steps in C, for `fused=True` on a CPU: one pass over memory.

kernels.c is the arithmetic, compiler.py builds it once per machine, library.py hands it tensors.
"""

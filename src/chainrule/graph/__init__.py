"""The recorded graph as a program: record it, print it as NumPy, verify it, simplify it."""

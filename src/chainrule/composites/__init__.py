"""What is built from primitives: losses, normalisations, attention. Plain functions, differentiable by their parts."""

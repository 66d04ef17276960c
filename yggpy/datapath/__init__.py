"""The data plane: the seam (``base``) and its implementations."""

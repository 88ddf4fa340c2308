"""Meshes to pictures, face profiling, and the sheets and figures people look at."""

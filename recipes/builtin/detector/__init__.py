"""The face detector of the built-in model: its network, training pictures, training, export and measurement."""

"""The built-in model, from training data to the files in models/builtin."""

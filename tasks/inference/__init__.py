"""Networks at work: detectors, the regressor, and the face finder that uses both."""

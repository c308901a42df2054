"""What all fronts over HTTP share: who may come in, bodies within limits, answers that may be streams."""

"""The official conformance suite against our front: `python -m tests.conformance`."""

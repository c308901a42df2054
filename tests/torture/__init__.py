"""The torture tool: real hosts, relays and post offices, killed by seed, and a checker of what they said.

`python -m tests.torture --help`. The way of Jepsen: clients record what they asked and heard, faults strike, and only
afterwards pure functions look at the histories. Read `plan`, `clients`, `faults`, `run`, then `checker`.
"""

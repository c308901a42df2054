"""The command line: for people. Talks to a running post office, or plays one through in a throw-away home."""

"""The fronts: each translates one protocol to the post office's verbs and knows nothing of the others."""

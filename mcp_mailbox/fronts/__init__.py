"""The fronts: each translates one protocol to the post office's verbs and knows nothing of the others.

What several of them take and answer is the same JSON: `arguments` reads it, `render` writes it.
"""

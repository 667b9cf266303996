"""The short-term store: journal, vectors, embedder, salience, router, recall."""

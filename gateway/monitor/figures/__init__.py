"""Live figures of versions, roles and slices, and what they are made of."""

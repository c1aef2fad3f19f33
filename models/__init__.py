"""Model packages that ship with the node: one folder each, weights with their papers."""

"""How the demo models are made: random phantoms, small nets, packages, honest measures."""

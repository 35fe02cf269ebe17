"""How good is it? Live answers are scored while they are given."""

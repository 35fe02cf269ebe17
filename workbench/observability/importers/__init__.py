"""Readers of recorded traffic: one file each, pure from a parsed record to log rows. `formats` names them; `imports` uses them."""

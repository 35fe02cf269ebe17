"""How does it go? Releases by steps, approved by a second person, and taken back in one act."""

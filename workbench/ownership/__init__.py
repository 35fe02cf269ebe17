"""Who answers? People, actors, roles, what they may do, and who is on call."""

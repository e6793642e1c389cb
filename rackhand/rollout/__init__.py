"""How a fleet changes: waves, capacity, the budget of failures, and the conductor that gives hosts their turns."""

"""The report of a run as one HTML page for people: no script, nothing from elsewhere. Pure functions of a run."""

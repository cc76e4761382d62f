"""Model and generate music note by note."""

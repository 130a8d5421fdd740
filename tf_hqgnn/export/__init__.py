"""SavedModels: their names and places, what they hold, how they are written and read."""

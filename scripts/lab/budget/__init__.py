"""What runs recorded, and whole runs replayed from it."""

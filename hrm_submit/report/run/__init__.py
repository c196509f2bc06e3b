"""A run as it was read: its record, tables, time line and statistics."""

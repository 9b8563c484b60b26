"""What a run counted: records, their file, and what is read from it."""

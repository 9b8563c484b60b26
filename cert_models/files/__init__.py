"""Files read and written, and text of others in them."""

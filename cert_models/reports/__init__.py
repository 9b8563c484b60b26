"""Tables, pages and pictures of certificates."""

"""Certificates from as many samples as an input needs: tests, plans, votes, certificates."""

"""Figures, intervals and operating points, from ledgers alone: no torch, no GPU."""

"""Several runs side by side: one page, tables for papers, a W&B workspace."""

"""Protocols: on which sets a checkpoint is tested. One YAML each, and the program behind them."""

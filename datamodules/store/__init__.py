"""Prepared folders: manifest, face tracks, and how they were made."""

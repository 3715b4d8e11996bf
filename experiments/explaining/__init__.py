"""Show what of a clip spoke for fake: maps, their pictures, and how far both can be trusted."""

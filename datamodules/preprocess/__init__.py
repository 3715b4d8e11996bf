"""From raw videos to stored face tracks."""

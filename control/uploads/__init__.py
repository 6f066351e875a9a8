"""From bytes or URLs of users to stored sources."""

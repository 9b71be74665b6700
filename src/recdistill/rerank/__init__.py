"""From the best items of each user to the list that is shown."""

"""From a DataFrame to recommendations for all users: this package, implicit and RecTools."""

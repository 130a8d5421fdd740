"""Search for settings on the validation split: what is tried, how a trial is run, and the study that holds them."""

"""Removes users from what a training and its exports leave behind, without training anew."""

"""The sample corpus of `retrieve`, as package data."""

"""Pictures restored: their noise found, their scale chosen, arrays in, arrays out."""

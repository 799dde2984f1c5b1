"""Classical reconstruction methods to compare with."""

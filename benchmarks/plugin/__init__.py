"""The regularizer inside deepinv: which algorithms it serves, at what cost."""

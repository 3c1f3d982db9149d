"""``torch.utils.deterministic``: accepted; memory that has not been written to is never read by an op here."""

fill_uninitialized_memory = True

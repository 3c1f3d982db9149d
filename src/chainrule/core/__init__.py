"""The engine's ground floor: what an op is, how it is dispatched and recorded. Nothing here knows any particular op."""

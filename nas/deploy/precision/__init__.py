"""Files in fewer bits: which operators get how many, how they are made so, and what that costs in accuracy."""

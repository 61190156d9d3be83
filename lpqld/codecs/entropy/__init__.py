"""The range coder and its models: whole numbers to bits and back, compiled. Its bytes are frozen."""

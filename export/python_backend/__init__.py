"""What a version folder carries to serve itself on Triton's Python backend; its files are copied as they are."""

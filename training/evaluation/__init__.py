"""How good an encoder or a pair is at finding code, measured on packages that no training row came from."""
